//! Chapter: training. What must hold of training as a whole, through the
//! library.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use moe_by_hand::config::Config;
use moe_by_hand::error::Error;
use moe_by_hand::file::write_atomic;
use moe_by_hand::kernel::vector::CHUNK;
use moe_by_hand::layer::Shape;
use moe_by_hand::model::{Batch, Model};
use moe_by_hand::nn::loss::{CrossEntropy, Loss};
use moe_by_hand::params::{Layout, ParamGrads, Role};
use moe_by_hand::rng::Rng;
use moe_by_hand::train::checkpoint::{self, Checkpoint};
use moe_by_hand::train::data::Text;
use moe_by_hand::train::gradient::{Coefficients, Gradient};
use moe_by_hand::train::metrics::Metrics;
use moe_by_hand::train::optimizer::{AdamW, Decay, Optimizer, Step};
use moe_by_hand::train::options::Options;
use moe_by_hand::train::trainer::Trainer;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

fn config() -> Config {
    Config {
        vocab: 256,
        hidden: 16,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head: 4,
        experts: 4,
        top_k: 2,
        intermediate: 8,
        context: 32,
        ..Config::preset("tiny").unwrap()
    }
}
fn model() -> Model {
    Model::new(config()).unwrap()
}
/// Words in an order that a small model can learn something of.
fn text() -> Text {
    let mut rng = Rng::named(7, "words");
    let words = ["the ", "gate ", "chose ", "an ", "expert, ", "not ", "all. "];
    let pick = |_| words[rng.below(words.len())];
    Text::new((0..400).map(pick).collect::<String>().into_bytes())
}
fn options() -> Options {
    let (steps, batch, seq, lr) = (12, 4, 16, 1e-2);
    Options { steps, batch, seq, lr, z_loss: 1e-3, ..Options::default() }
}
fn trainer(o: Options) -> Trainer {
    Trainer::new(model(), text(), o).unwrap()
}
/// θ and the losses of all steps, and the validation loss, as bits.
fn run(mut t: Trainer) -> (Vec<u32>, Vec<u64>) {
    let mut losses = vec![];
    while !t.done() {
        let m: Metrics = t.step().unwrap();
        losses.extend([m.ce, m.aux, m.z, m.total, m.grad_norm]);
    }
    losses.push(t.validate());
    let theta = t.params.data.iter().map(|p| p.to_bits()).collect();
    (theta, losses.iter().map(|l| l.to_bits()).collect())
}
fn on_threads<R: Send>(n: usize, f: impl FnOnce() -> R + Send) -> R {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build();
    pool.unwrap().install(f)
}
/// A directory of this test's own, empty.
fn dir(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    dir
}
fn fails(r: moe_by_hand::error::Result<impl Sized>, words: &str) {
    let error = r.err().expect("an error").to_string();
    assert!(error.contains(words), "`{words}` in: {error}");
    assert_eq!(error.lines().count(), 1, "one line: {error}");
}

#[test]
fn learns() {
    let mut t = trainer(Options { steps: 120, ..options() });
    let before = t.validate();
    assert!((before - 256f64.ln()).abs() < 0.1, "knows nothing: {before}");
    while !t.done() {
        t.step().unwrap();
        for load in t.load() {
            let sum: f64 = load.iter().sum();
            assert!((sum - 1.0).abs() < 1e-12, "shares: {load:?}");
        }
    }
    let after = t.validate();
    assert!(after < before / 2.0, "from {before} to {after}");
}

/// Every window counts once, however many chunks a thread takes.
#[test]
fn validation_is_the_mean_of_its_windows() {
    let long: Vec<u8> = (0..20_000u32).map(|i| (i * i % 251) as u8).collect();
    let text = Text::new(long);
    let mut t = Trainer::new(model(), text.clone(), options()).unwrap();
    let (m, time) = (model(), options().seq);
    let one = Shape { batch: 1, time };
    let (mut a, mut sum, mut count) = (m.acts(one, false), 0.0, 0);
    for w in text.validation().windows(time + 1).step_by(time) {
        let w: Vec<usize> = w.iter().map(|&b| b.into()).collect();
        m.forward(&t.params, &w[..time], &mut a);
        let z = &a.head.y;
        sum += f64::from(CrossEntropy.forward(&mut a.lse, z, &w[1..]));
        count += time;
    }
    assert!(count > 3 * 512, "several chunks: {count} rows");
    let off = on_threads(1, || t.validate()) - sum / count as f64;
    assert!(off.abs() < 1e-5, "{off:e}");
}

/// Where decay begins and ends inside a chunk of θ that is not the first.
#[test]
fn decay_ends_where_its_parameter_ends() {
    let mut layout = Layout::default();
    let mut b = layout.builder();
    b.param("w", [1, CHUNK + 10], Role::Weight);
    b.param("gain", [20], Role::Gain);
    b.param("v", [1, 30], Role::Weight);
    let (mut p, dp) = (layout.zeros::<f64>(), layout.grads());
    p.data.fill(1.0);
    let first = Step { t: 1, lr: 0.1, scale: 1.0 };
    AdamW::new(&layout, 0.5, Decay::Weights).step(&mut p, &dp, first);
    for (i, &p) in p.data.iter().enumerate() {
        let gain = (CHUNK + 10..CHUNK + 30).contains(&i);
        let want = if gain { 1.0 } else { 0.95 };
        assert!((p - want).abs() < 1e-15, "θ[{i}] = {p}");
    }
}

/// The experts write even where they are idle; a layer that does not must
/// not leave the last step's gradient behind.
#[test]
fn what_nobody_wrote_is_zeroed() {
    let mut layout = Layout::default();
    let mut b = layout.builder();
    let written = b.param("written", [2], Role::Bias);
    let idle = b.param("idle", [3], Role::Bias);
    let mut dp = layout.grads::<f64>();
    dp.data.fill(f64::NAN);
    dp.begin();
    dp.write(written)[0] += 1.0;
    dp.finish(&layout);
    assert_eq!(dp[written], [1.0, 0.0], "set, then added to");
    assert_eq!(dp[idle], [0.0; 3], "zeroed");
}

#[test]
fn threads_do_not_matter() {
    let of = |n| on_threads(n, || run(trainer(wide())));
    let one = of(1);
    for n in 2..=4 {
        assert!(of(n) == one, "{n} threads: other bits than one");
    }
}
/// Enough rows for several shards.
fn wide() -> Options {
    Options { batch: 40, steps: 3, accumulate: 2, ..options() }
}

#[test]
fn recompute_does_not_matter() {
    let kept = run(trainer(options()));
    let again = run(trainer(Options { recompute: true, ..options() }));
    assert!(again == kept, "other bits with --recompute");
}

/// The gradient of some sequences in f64, cut into micro-batches and shards.
fn gradient(batch: usize, shards: usize, aux: f64) -> ParamGrads<f64> {
    let (m, t) = (model(), 8);
    let p = m.init(3);
    let mut rng = Rng::named(0, "tokens");
    let mut tokens = || (0..6 * t).map(|_| rng.below(256)).collect::<Vec<_>>();
    let (tokens, targets) = (tokens(), tokens());
    let coef = Coefficients { ce: 1.0, aux, z: aux };
    let shape = Shape { batch, time: t };
    let mut gradient = Gradient::new(&m, shape, shards, coef, false);
    let b = Batch { tokens: &tokens, targets: &targets };
    gradient.compute(&m, &p, b).1.clone()
}
fn assert_close(a: &ParamGrads<f64>, b: &ParamGrads<f64>, most: f64) {
    let diff = a.data.iter().zip(&b.data).map(|(a, b)| (a - b).abs());
    let (diff, size) = (diff.fold(0.0, f64::max), largest(b));
    assert!(diff <= most * size.max(1.0), "{diff:e} of {size:e}");
    assert!(size > 1e-3, "there is a gradient: {size:e}");
}
fn largest(p: &ParamGrads<f64>) -> f64 {
    p.data.iter().fold(0.0, |m, p| p.abs().max(m))
}

#[test]
fn accumulation_is_the_large_batch() {
    for micro in [1, 2, 3] {
        assert_close(&gradient(micro, 1, 0.0), &gradient(6, 1, 0.0), 1e-12);
    }
}

#[test]
fn shards_are_one_batch() {
    // The balance loss too: its shares are those of the whole batch.
    for shards in [2, 3, 4, 6] {
        assert_close(&gradient(6, shards, 0.1), &gradient(6, 1, 0.1), 1e-13);
    }
}

#[test]
fn resumes_with_the_same_bits() {
    let file = dir("resume").join(checkpoint::FILE);
    let whole = run(trainer(wide()));
    let mut t = trainer(wide());
    for step in 0..3 {
        t.save(&file).unwrap();
        let saved = Checkpoint::read(&file).unwrap();
        assert_eq!(saved.state.step, step, "the step that was saved");
        let resumed = Trainer::resume(model(), text(), wide(), saved);
        let (theta, _) = on_threads(step + 1, || run(resumed.unwrap()));
        assert!(theta == whole.0, "other bits when resumed at step {step}");
        t.step().unwrap();
    }
}

#[test]
fn resume_wants_the_same_run() {
    let file = dir("same").join(checkpoint::FILE);
    trainer(options()).save(&file).unwrap();
    let saved = || Checkpoint::read(&file).unwrap();
    let with = |o| Trainer::resume(model(), text(), o, saved());
    fails(
        with(Options { lr: 2e-2, ..options() }),
        "--lr is 0.02, but the checkpoint has 0.01; ",
    );
    let o = options();
    fails(with(Options { steps: 13, ..o.clone() }), "--steps is 13");
    fails(with(Options { z_loss: 0.0, ..o.clone() }), "--z-loss is 0.0");
    fails(with(Options { recompute: true, ..o.clone() }), "--recompute is");
    let other = Config { head: 8, ..config() };
    let other = Model::new(other).unwrap();
    let r = Trainer::resume(other, text(), o.clone(), saved());
    fails(r, "head_dim is 8, but the checkpoint has 4; ");
    let other = Text::new(vec![b'a'; 400]);
    let r = Trainer::resume(model(), other, o, saved());
    fails(r, "the text is 400 bytes, SHA-256 ");
}

/// Not moved, not decayed, not in the norm; with its own initial value, and
/// resumed as it was.
#[test]
fn what_is_frozen_stays() {
    let frozen = |names: &[&str]| {
        let mut m = model();
        for name in names {
            assert!(m.layout.freeze(name) > 0, "{name}");
        }
        Trainer::new(m, text(), options()).unwrap()
    };
    let mut t = frozen(&["embed", "layers.0", "layers.1.moe.router.w"]);
    let first = model().init::<f32>(options().seed);
    let file = dir("frozen").join(checkpoint::FILE);
    for step in 0..3 {
        t.step().unwrap();
        if step == 1 {
            t.save(&file).unwrap();
        }
    }
    for e in &t.model.layout.entries {
        let same = t.params[e.param] == first[e.param];
        assert_eq!(same, e.frozen, "{}", e.name);
    }
    assert_eq!(t.model.layout.freeze("layers.0.norm"), 0, "no such name");
    let mut again = frozen(&["embed", "layers.0", "layers.1.moe.router.w"]);
    again.restore(Checkpoint::read(&file).unwrap()).unwrap();
    again.step().unwrap();
    assert!(again.params == t.params, "resumed to the bit");
    // The norm of one parameter alone is that of its part of the gradient.
    let rest = ["embed", "layers", "norm"];
    let (mut head, mut all) = (frozen(&rest), frozen(&[]));
    let norm = head.step().unwrap().grad_norm;
    all.after_step(move |s| {
        let of_head = &s.grads()[s.model.head.w];
        let want: f32 = of_head.iter().map(|g| g * g).sum();
        let off = norm / f64::from(want.sqrt()) - 1.0;
        assert!(off.abs() < 1e-5, "{norm} for {want}");
    });
    assert!(all.step().unwrap().grad_norm > 1.1 * norm, "there is more");
}

#[test]
fn there_is_no_step_past_the_last() {
    let file = dir("past").join(checkpoint::FILE);
    let mut t = trainer(Options { steps: 2, ..options() });
    t.step().unwrap();
    t.step().unwrap();
    let theta = t.params.clone();
    fails(t.step(), "the step is 3, but the run has 2; ");
    assert!(t.params == theta && t.steps_done() == 2, "nothing moved");
    t.save(&file).unwrap();
    Checkpoint::read(&file).unwrap();
}

#[test]
fn a_damaged_checkpoint_is_one_line() {
    let file = dir("damaged").join(checkpoint::FILE);
    trainer(options()).save(&file).unwrap();
    let good = fs::read(&file).unwrap();
    let read = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        Checkpoint::read(&file)
    };
    for n in [0, 7, 8, 100, good.len() / 2, good.len() - 1] {
        fails(read(&good[..n]), "damaged (");
    }
    fails(read(&[&good[..], b"x"].concat()), "damaged (");
    fails(read(b"not a checkpoint, but long enough"), "damaged (");
    let mut bad = good.clone();
    bad[..8].fill(0xff); // the header's length
    fails(read(&bad), "damaged (");
    let mut bad = good.clone();
    let end = bad.len();
    bad[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    fails(read(&bad), "is NaN");
    bad[end - 4..].copy_from_slice(&(-1f32).to_le_bytes());
    let resume = |saved: Checkpoint| {
        let model = Model::new(saved.config.clone()).unwrap();
        Trainer::resume(model, text(), options(), saved)
    };
    fails(resume(read(&bad).unwrap()), "a mean square, is negative");
    // A header that says something else, of the same length.
    let say = |from: &str, to: &str| {
        assert_eq!(from.len(), to.len(), "the header's length stays");
        let at = good.windows(from.len()).position(|w| w == from.as_bytes());
        let mut bad = good.clone();
        let at = at.unwrap_or_else(|| panic!("no {from}"));
        bad[at..at + from.len()].copy_from_slice(to.as_bytes());
        read(&bad)
    };
    let n = model().layout.len.to_string();
    let other = (model().layout.len - 1).to_string();
    fails(say(&format!("[{n}]"), &format!("[{other}]")), "damaged (");
    fails(say("F32", "I32"), "I32");
    fails(say(r#"\"step\":0"#, r#"\"step\":x"#), "damaged (");
    fails(say(r#"\"shards\":1"#, r#"\"shards\":9"#), "9 shards");
    fails(say(r#"\"step\":0"#, r#"\"stop\":0"#), "damaged (");
    let other = say(r#"hidden_size\":16"#, r#"hidden_size\":18"#);
    fails(resume(other.unwrap()), "parameters");
    resume(read(&good).unwrap()).unwrap();
}

#[test]
fn divergence_spoils_nothing() {
    let file = dir("diverged").join(checkpoint::FILE);
    let mut t = trainer(Options { lr: 1e30, ..options() });
    t.save(&file).unwrap();
    let error = loop {
        match t.step().and_then(|_| t.save(&file)) {
            Ok(()) => assert!(!t.done(), "a loss of 1e30 steps is finite"),
            Err(e) => break e,
        }
    };
    assert!(matches!(error, Error::Diverged { .. }), "{error}");
    assert_eq!(error.exit_code(), 1, "a run that failed");
    Checkpoint::read(&file).unwrap();
}

/// A disk that is full after so many bytes.
struct Full<'a>(&'a mut dyn Write, usize);
impl Write for Full<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.1 == 0 {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        let n = bytes.len().min(self.1);
        self.1 -= n;
        self.0.write(&bytes[..n])
    }
    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
#[test]
fn a_full_disk_loses_nothing() {
    let dir = dir("full");
    let file = dir.join(checkpoint::FILE);
    trainer(options()).save(&file).unwrap();
    let good = fs::read(&file).unwrap();
    let Checkpoint { state, tensors, .. } = Checkpoint::read(&file).unwrap();
    let tensors = tensors.iter().map(|(n, x)| (n.as_str(), x.as_slice()));
    let tensors: Vec<_> = tensors.collect();
    for n in (0..good.len()).step_by(good.len() / 40) {
        let failed = write_atomic(&file, |w| {
            checkpoint::write(&mut Full(w, n), &state, &tensors)
        });
        fails(failed, "nothing was lost");
        assert!(fs::read(&file).unwrap() == good, "the old file, after {n}");
        let files = fs::read_dir(&dir).unwrap().count();
        assert_eq!(files, 1, "no half file is left behind, after {n}");
    }
}

#[test]
fn settings_that_break_a_rule() {
    let new = |o| Trainer::new(model(), text(), o);
    let o = options;
    fails(new(Options { steps: 0, ..o() }), "--steps is 0, but ");
    fails(new(Options { batch: 0, ..o() }), "--batch is 0, but ");
    fails(new(Options { seq: 33, ..o() }), "--seq is 33, but the model's");
    fails(new(Options { lr: f64::NAN, ..o() }), "--lr is NaN, but ");
    fails(new(Options { aux: -1.0, ..o() }), "--aux is -1, but ");
    fails(new(Options { z_loss: f64::INFINITY, ..o() }), "--z-loss is inf");
    fails(new(Options { accumulate: 0, ..o() }), "--accumulate is 0, but ");
    let short = |n| Trainer::new(model(), Text::new(vec![b'a'; n]), o());
    fails(
        short(160),
        "160 bytes long, but with --seq 16 it needs at least 161",
    );
    assert_eq!(short(161).unwrap().text().validation().len(), 17, "one window");
}
