//! Chapter: training. What must hold of training as a whole, through the
//! library.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use crate::half::config;
use moe_by_hand::config::Config;
use moe_by_hand::error::Error;
use moe_by_hand::file::write_atomic;
use moe_by_hand::hf;
use moe_by_hand::kernel::vector::CHUNK;
use moe_by_hand::layer::Shape;
use moe_by_hand::model::{Batch, Model};
use moe_by_hand::nn::loss::{CrossEntropy, Loss};
use moe_by_hand::params::{Layout, ParamGrads, Role};
use moe_by_hand::rng::Rng;
use moe_by_hand::tensors::sha256;
use moe_by_hand::train::checkpoint::{self, Checkpoint, State};
use moe_by_hand::train::data::{Text, draw};
use moe_by_hand::train::gradient::{Coefficients, Gradient};
use moe_by_hand::train::metrics::{self, History, Line, Log, Logged, Metrics};
use moe_by_hand::train::optimizer::{AdamW, Decay, Optimizer, Step};
use moe_by_hand::train::options::Options;
use moe_by_hand::train::precision::{LossScale, Precision};
use moe_by_hand::train::schedule::Kind;
use moe_by_hand::train::trainer::Trainer;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

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
    // A thread takes four chunks at a time: within, across and at their end.
    for n in [CHUNK + 10, 4 * CHUNK - 10, 4 * CHUNK, 8 * CHUNK - 20] {
        let mut layout = Layout::default();
        let mut b = layout.builder();
        b.param("w", [1, n], Role::Weight);
        b.param("gain", [20], Role::Gain);
        b.param("v", [1, 30], Role::Weight);
        let (mut p, dp) = (layout.zeros::<f64>(), layout.grads());
        p.data.fill(1.0);
        let first = Step { t: 1, lr: 0.1, scale: 1.0 };
        AdamW::new(&layout, 0.5, Decay::Weights).step(&mut p, &dp, first);
        for (i, &p) in p.data.iter().enumerate() {
            let gain = (n..n + 20).contains(&i);
            let want = if gain { 1.0 } else { 0.95 };
            assert!((p - want).abs() < 1e-15, "of {n}: θ[{i}] = {p}");
        }
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
    // The shares of the experts are those of all micro-batches.
    let mut t = trainer(Options { accumulate: 3, ..options() });
    t.step().unwrap();
    for load in t.load() {
        let sum: f64 = load.iter().sum();
        assert!((sum - 1.0).abs() < 1e-12, "shares: {load:?}");
    }
}

/// A window begins anywhere that leaves it T + 1 bytes, and elsewhere in each
/// micro-batch.
#[test]
fn every_window_may_be_drawn_and_none_beyond() {
    let shape = Shape { batch: 1, time: 3 };
    let first = |text: &[u8], step, micro| {
        let (mut x, mut y) = ([0; 3], [0; 3]);
        draw(&mut x, &mut y, text, shape, 0, step, micro);
        assert!((0..3).all(|t| y[t] == x[t] + 1), "{x:?} before {y:?}");
        x[0]
    };
    assert_eq!(first(b"abcd", 1, 0), usize::from(b'a'), "the only window");
    let drawn = (1..100).map(|step| first(b"abcdef", step, 0));
    assert_eq!(drawn.collect::<BTreeSet<_>>(), BTreeSet::from([97, 98, 99]));
    let drawn = (0..100).map(|micro| first(b"abcdef", 1, micro));
    assert_eq!(drawn.collect::<BTreeSet<_>>(), BTreeSet::from([97, 98, 99]));
}

#[test]
fn shards_are_one_batch() {
    // The balance loss too: its shares are those of the whole batch.
    for shards in [2, 3, 4, 6] {
        assert_close(&gradient(6, shards, 0.1), &gradient(6, 1, 0.1), 1e-13);
    }
}

/// The shards' gradients are added in their order, whichever was done first.
#[test]
fn shards_are_added_in_their_order() {
    let (m, t, n) = (model(), 8, 4);
    let (p, mut rng) = (m.init::<f32>(3), Rng::named(0, "tokens"));
    let mut all = || (0..n * t).map(|_| rng.below(256)).collect::<Vec<_>>();
    let (tokens, targets) = (all(), all());
    // A power of two, so that a quarter of the loss is a shard's, to the bit.
    let of = |rows: Range<usize>, shards, ce| {
        let shape = Shape { batch: rows.len() / t, time: t };
        let coef = Coefficients { ce, aux: 0.0, z: 0.0 };
        let (tokens, targets) = (&tokens[rows.clone()], &targets[rows]);
        let mut g = Gradient::<f32>::new(&m, shape, shards, coef, false);
        g.compute(&m, &p, Batch { tokens, targets }).1.data.to_vec()
    };
    let each: Vec<Vec<f32>> =
        (0..n).map(|i| of(i * t..(i + 1) * t, 1, 0.25)).collect();
    let add = |mut sum: Vec<f32>, i: usize| {
        sum.iter_mut().zip(&each[i]).for_each(|(sum, g)| *sum += g);
        sum
    };
    let sum = (1..n).fold(each[0].clone(), add);
    let other = [3, 2, 1].into_iter().fold(each[0].clone(), add);
    assert!(sum != other, "the order decides the last bits");
    assert!(of(0..n * t, n, 1.0) == sum, "another order");
}

#[test]
fn resumes_with_the_same_bits() {
    let file = dir("resume").join(checkpoint::FILE);
    let whole = run(trainer(wide()));
    let mut t = trainer(wide());
    t.log = Some(Logged { sha256: sha256(b"a line"), due: None });
    for step in 0..3 {
        t.save(&file).unwrap();
        let saved = Checkpoint::read(&file).unwrap();
        assert_eq!(saved.state.step, step, "the step that was saved");
        let resumed = Trainer::resume(model(), text(), wide(), saved).unwrap();
        assert_eq!(resumed.log, t.log, "what metrics.jsonl holds");
        let (theta, _) = on_threads(step + 1, || run(resumed));
        assert!(theta == whole.0, "other bits when resumed at step {step}");
        t.step().unwrap();
    }
    // With the shards that it began with, whatever would be chosen here.
    let mut saved = Checkpoint::read(&file).unwrap();
    assert!(saved.state.shards > 1, "{} shards", saved.state.shards);
    saved.state.shards = 1;
    let one = Trainer::resume(model(), text(), wide(), saved).unwrap();
    assert_eq!((one.shards(), one.state().shards), (1, 1));
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
    // What another program might write, hashes and all.
    let Checkpoint { state, tensors, .. } = read(&good).unwrap();
    let write = |state: &State, tensors: &BTreeMap<String, Vec<f32>>| {
        let all = tensors.iter().map(|(n, x)| (n.as_str(), x.as_slice()));
        let all: Vec<_> = all.collect();
        let mut bytes = vec![];
        checkpoint::write(&mut bytes, state, &all).unwrap();
        read(&bytes)
    };
    let with = |name: &str, change: &dyn Fn(&mut Vec<f32>)| {
        let mut tensors = tensors.clone();
        change(tensors.entry(name.into()).or_default());
        write(&state, &tensors)
    };
    let resume = |saved: Checkpoint| {
        let model = Model::new(saved.config.clone()).unwrap();
        Trainer::resume(model, text(), options(), saved)
    };
    fails(with("v", &|v| v[3] = f32::NAN), "v[3] is NaN");
    let negative = with("v", &|v| v[3] = -1.0).unwrap();
    fails(resume(negative), "a mean square, is negative");
    let short = with(checkpoint::THETA, &|v| v.truncate(7)).unwrap();
    fails(resume(short), "the length of `theta`");
    fails(resume(with("other", &|_| ()).unwrap()), "tensor is \"other\"");
    let say = |change: &dyn Fn(&mut State)| {
        let mut state = state.clone();
        change(&mut state);
        write(&state, &tensors)
    };
    fails(say(&|s| s.shards = 9), "9 shards");
    fails(say(&|s| s.step = 13), "step 13 of 12");
    let wide = |s: &mut State| s.config["hidden_size"] = 18.into();
    fails(resume(say(&wide).unwrap()), "parameters");
    resume(read(&good).unwrap()).unwrap();
}

/// Not one of its bits can be another without a word, or it does no harm.
#[test]
fn a_flipped_bit_is_noticed() {
    let dir = dir("flipped");
    let file = dir.join(checkpoint::FILE);
    let t = &mut trainer(options());
    t.save(&file).unwrap();
    hf::save(&dir, &t.model, &t.params).unwrap();
    let weights = dir.join("model.safetensors");
    let run = dir.join(checkpoint::RUN);
    fs::write(&run, t.state().to_json()).unwrap();
    let mut rng = Rng::named(0, "bits");
    let mut flip = |file: &Path, same: &dyn Fn() -> Option<bool>| {
        assert_eq!(same(), Some(true), "{}: whole", file.display());
        let good = fs::read(file).unwrap();
        let mut harmless = 0;
        for _ in 0..150 {
            let (at, bit) = (rng.below(good.len()), rng.below(8));
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            fs::write(file, &bad).unwrap();
            let same = same();
            let what = format!("{}: byte {at}, bit {bit}", file.display());
            assert_ne!(same, Some(false), "{what}: taken");
            harmless += usize::from(same.is_some());
        }
        fs::write(file, good).unwrap();
        // In names of hashes, or in space.
        assert!(harmless < 30, "{}: {harmless} of 150", file.display());
    };
    let saved = Checkpoint::read(&file).unwrap();
    flip(&file, &|| Some(Checkpoint::read(&file).ok()? == saved));
    let theta: Vec<f32> = t.params.data.to_vec();
    flip(&weights, &|| Some(*hf::load::<f32>(&dir).ok()?.1.data == *theta));
    let state = t.state();
    flip(&run, &|| Some(State::read(&run).ok()? == state));
    // Most bits are those of numbers; this is a digit of a setting.
    let (mut bytes, lr) = (fs::read(&file).unwrap(), br#"\"lr\":0.01"#);
    let at = bytes.windows(lr.len()).position(|w| w == lr).unwrap();
    bytes[at + lr.len() - 1] = b'2';
    fs::write(&file, bytes).unwrap();
    fails(Checkpoint::read(&file), "it was written with ");
}

/// Files of others have no hashes, and are read.
#[test]
fn files_without_hashes_are_read() {
    let dir = dir("plain");
    let file = dir.join(checkpoint::FILE);
    let mut t = trainer(options());
    t.step().unwrap();
    t.save(&file).unwrap();
    hf::save(&dir, &t.model, &t.params).unwrap();
    let saved = Checkpoint::read(&file).unwrap();
    for name in [checkpoint::FILE, "model.safetensors"] {
        let path = dir.join(name);
        let bytes = fs::read(&path).unwrap();
        let n = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header: Value = serde_json::from_slice(&bytes[8..8 + n]).unwrap();
        let mut plain = header.clone();
        let meta = plain["__metadata__"].as_object_mut().unwrap();
        meta.remove("sha256").unwrap();
        let plain = plain.to_string().into_bytes();
        let len = (plain.len() as u64).to_le_bytes();
        let all = [&len[..], &plain, &bytes[8 + n..]].concat();
        fs::write(&path, all).unwrap();
    }
    assert!(Checkpoint::read(&file).unwrap() == saved);
    hf::load::<f32>(&dir).unwrap();
}

/// The first edition's checkpoint says less, and goes on where other bits are
/// asked for.
#[test]
fn a_checkpoint_of_the_first_edition_goes_on() {
    let file = dir("first").join(checkpoint::FILE);
    let mut t = trainer(options());
    t.step().unwrap();
    t.save(&file).unwrap();
    let mut saved = Checkpoint::read(&file).unwrap();
    let mut json = serde_json::json!(saved.state);
    let fields = json.as_object_mut().unwrap();
    for new in ["layout", "isa", "arithmetic", "precision"] {
        fields.remove(new).unwrap();
    }
    saved.state = serde_json::from_value(json).unwrap();
    fails(saved.state.check_arithmetic(), "begun with 1");
    saved.state.arithmetic = checkpoint::ARITHMETIC; // --other-arithmetic
    let resumed = Trainer::resume(model(), text(), options(), saved).unwrap();
    assert!(run(resumed).0 == run(trainer(options())).0, "other bits");
}

#[test]
fn another_arithmetic_is_refused() {
    let file = dir("arithmetic").join(checkpoint::FILE);
    trainer(options()).save(&file).unwrap();
    let resume = |change: &dyn Fn(&mut State)| {
        let mut saved = Checkpoint::read(&file).unwrap();
        change(&mut saved.state);
        Trainer::resume(model(), text(), options(), saved)
    };
    let isa = |s: &mut State| s.isa = Some("sse9".into());
    fails(resume(&isa), "but the run was begun with sse9; ");
    fails(resume(&isa), "--other-arithmetic");
    for version in 0..checkpoint::ARITHMETIC {
        let begun = format!("begun with {version}");
        fails(resume(&|s| s.arithmetic = version), &begun);
    }
    fails(resume(&|s| s.arithmetic = 0), "version of the arithmetic is 3");
    fails(resume(&|s| s.precision = "bf16".into()), "begun with bf16");
    resume(&|_| ()).unwrap();
}

fn line(step: usize) -> Line {
    let [ce, aux, z, total, lr, grad_norm] = [1.0 / step as f64; 6];
    let tokens_per_second = 7.0;
    let (scale, skipped) = (Some(65_536.0), Some(step));
    let metrics = Metrics {
        step,
        ce,
        aux,
        z,
        total,
        lr,
        grad_norm,
        tokens_per_second,
        scale,
        skipped,
    };
    Line { metrics, val: None, load: vec![vec![0.5, 0.5]] }
}
/// A line, spoiled.
type Other<'a> = &'a dyn Fn(&str) -> Vec<u8>;
/// Resuming cuts the lines of later steps, and nothing else, whatever became
/// of the file.
#[test]
fn metrics_lose_the_later_lines_only() {
    let dir = dir("metrics");
    let file = dir.join(metrics::FILE);
    let mut log = Log::open(&file, History::default()).unwrap();
    (1..=6).for_each(|n| log.push(&line(n)).unwrap());
    let logged = log.logged(None);
    (7..=9).for_each(|n| log.push(&line(n)).unwrap());
    let whole = fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = whole.split_inclusive('\n').collect();
    let read = |text: &[u8]| {
        fs::write(&file, text).unwrap();
        History::read(&file, 6, Some(&logged)).unwrap()
    };
    let good = read(whole.as_bytes());
    assert_eq!(good.kept, lines[..6].concat());
    assert_eq!((good.cut, good.bad.len(), good.as_written), (3, 0, true));
    // Where it was killed.
    let half = read(&whole.as_bytes()[..whole.len() - 9]);
    assert_eq!((half.cut, half.bad.len(), half.as_written), (2, 0, true));
    assert_eq!(half.kept, good.kept);

    for at in 0..6 {
        // No JSON, no UTF-8, another step, no end: what follows stays.
        let others: [Other; 4] = [
            &|l| l.replace('{', "[").into(),
            &|l| [b"\xff", l.as_bytes()].concat(),
            &|l| l.replacen(&format!(":{}", at + 1), ":99", 1).into(),
            &|l| l.replace('\n', " ").into(),
        ];
        for (kind, other) in others.iter().enumerate() {
            let mut parts: Vec<Vec<u8>> =
                lines.iter().map(|l| l.as_bytes().to_vec()).collect();
            parts[at] = other(lines[at]);
            let bad = read(&parts.concat());
            let what = format!("line {at}, kind {kind}");
            assert!(!bad.as_written, "{what}: not noticed");
            assert!(!bad.bad.is_empty(), "{what}: not kept aside");
            let lost = if kind == 3 { 2 } else { 1 };
            let kept = bad.kept.lines().count();
            assert!(kept >= 6 - lost, "{what}: {kept} lines are left");
        }
    }
    // A step twice: the first of the two stays.
    let again = lines[2].replacen("0.5", "0.4", 1);
    assert_ne!(again, lines[2], "another line of the same step");
    let parts = [&lines[..3], &[&*again], &lines[3..]].concat();
    let twice = read(parts.concat().as_bytes());
    assert_eq!((&twice.kept, twice.bad.len()), (&good.kept, 1));
    // A digit: the line can be read, and it is said.
    let digit = read(whole.replacen("0.5", "0.4", 1).as_bytes());
    assert_eq!((digit.kept.lines().count(), digit.as_written), (6, false));
    // Gone.
    fs::remove_file(&file).unwrap();
    let gone = History::read(&file, 6, Some(&logged)).unwrap();
    assert_eq!((gone.kept.len(), gone.as_written), (0, false));

    // Bad lines are put aside, after those that are there.
    let mut parts = lines.clone();
    parts[2] = "third\n";
    fs::write(dir.join(metrics::ASIDE), "before\n").unwrap();
    let mut log = Log::open(&file, read(parts.concat().as_bytes())).unwrap();
    let aside = fs::read_to_string(dir.join(metrics::ASIDE)).unwrap();
    assert!(aside.starts_with("before\nthird\n"), "{aside}");
    assert_eq!(metrics::read(&file).unwrap().len(), 5);

    // Removed or cut while training: noticed, and written again.
    assert!(log.sync().unwrap(), "as it was written");
    for spoil in [fs::remove_file, |f: &PathBuf| fs::write(f, "x")] {
        spoil(&file).unwrap();
        log.push(&line(7)).unwrap();
        assert!(!log.sync().unwrap(), "noticed");
        assert!(log.sync().unwrap(), "healed");
    }
    assert_eq!(metrics::read(&file).unwrap().len(), 7);
}

/// A flipped bit in a step's number costs its own line, and no line after it.
#[test]
fn a_flipped_step_costs_one_line() {
    let file = dir("flipped-step").join(metrics::FILE);
    let lines: Vec<String> = (1..=40).map(|n| json(&line(n))).collect();
    let whole = lines.concat().into_bytes();
    let logged = Logged { sha256: sha256(&whole), due: None };
    let mut start = 0;
    for (at, one) in lines.iter().enumerate() {
        let step = one.find(':').unwrap() + 1;
        for (byte, bit) in (0..2).flat_map(|b| (0..8).map(move |n| (b, n))) {
            let mut bad = whole.clone();
            bad[start + step + byte] ^= 1 << bit;
            fs::write(&file, bad).unwrap();
            let found = History::read(&file, 40, Some(&logged)).unwrap();
            let kept = found.kept.lines().count();
            let what = format!("line {at}, byte {byte}, bit {bit}");
            assert!(kept >= 39, "{what}: {kept} lines are left");
            assert!(!found.as_written, "{what}: not noticed");
            let all = kept + found.bad.len();
            assert!(all >= 40, "{what}: {all} lines are somewhere");
        }
        start += one.len();
    }
}

/// A stop in the middle of a validation: the line is written after it.
#[test]
fn an_interrupted_validation_has_no_result() {
    let mut t = trainer(options());
    assert_eq!(t.validate_while(|_| false), None);
    let all = t.validate();
    assert_eq!(t.validate_while(|_| true), Some(all));
    let due = Some(line(6));
    let logged = Logged { sha256: sha256(b""), due };
    let file = dir("due").join(metrics::FILE);
    let text: String = (1..=6).map(|n| json(&line(n))).collect();
    fs::write(&file, text).unwrap();
    let history = History::read(&file, 6, Some(&logged)).unwrap();
    assert_eq!((history.kept.lines().count(), history.cut), (5, 1));
}
fn json(line: &Line) -> String {
    serde_json::to_string(line).unwrap() + "\n"
}

/// A text is read in parts, whose number is told.
#[test]
fn a_text_is_read_in_parts() {
    let dir = dir("text");
    let file = dir.join("text");
    let long: Vec<u8> = (0..3_000_000).map(|n| b'a' + (n % 26) as u8).collect();
    fs::write(&file, &long).unwrap();
    let mut last = (0, 0);
    let text = Text::read_while(&file, |n, of| last = (n, of)).unwrap();
    assert_eq!(last, (3_000_000, 3_000_000));
    let again = Text::new(long);
    assert_eq!(text.id.sha256, again.id.sha256);
    assert_eq!((text.id.bytes, text.id.stream), (3_000_000, false));
    assert!(text.train() == again.train());
    fails(Text::read(&dir), "directory");
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
    // Whatever made a weight no number, it is not written.
    let good = fs::read(&file).unwrap();
    let mut t = trainer(options());
    t.params.data[3] = f32::NAN;
    assert!(matches!(t.save(&file), Err(Error::Diverged { .. })));
    assert_eq!(fs::read(&file).unwrap(), good, "the last checkpoint");
}

/// What a step reports is the length that was clipped, and not the limit.
#[test]
fn the_norm_is_that_before_clipping() {
    let norm = |clip| {
        let step = trainer(Options { clip, ..options() }).step();
        step.unwrap().grad_norm
    };
    assert!(norm(1e9) > 1e-3, "{}", norm(1e9));
    assert_eq!(norm(1e-3), norm(1e9));
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
    fails(new(Options { eval_every: 0, ..o() }), "--eval-every is 0, but ");
    fails(new(Options { save_every: 0, ..o() }), "--save-every is 0, but ");
    fails(new(Options { clip: 0.0, ..o() }), "--clip is 0, but ");
    fails(new(Options { decay: -0.1, ..o() }), "--decay is -0.1, but ");
    fails(new(Options { decay: 2.0, lr: 1.0, ..o() }), "--decay is 2, but ");
    fails(new(Options { muon_lr: 0.0, ..o() }), "--muon-lr is 0, but ");
    fails(new(Options { cooldown: 0.0, ..o() }), "--cooldown is 0, but ");
    fails(new(Options { cooldown: 1.1, ..o() }), "--cooldown is 1.1, but ");
    let (schedule, steps) = (Kind::Wsd, 100); // of which 10 are warm-up
    let wsd = |cooldown| Options { schedule, steps, cooldown, ..o() };
    fails(new(wsd(0.91)), "the cooldown is 91 steps, but it is 1 to the 90");
    assert!(new(wsd(0.9)).is_ok());
    let loss_scale = LossScale::Fixed(0.0);
    fails(new(Options { loss_scale, ..o() }), "--loss-scale is 0, but ");
    let save_precision = Precision::F16;
    fails(new(Options { save_precision, ..o() }), "--save-precision is f16");
    let short = |n| Trainer::new(model(), Text::new(vec![b'a'; n]), o());
    fails(
        short(160),
        "160 bytes long, but with --seq 16 it needs at least 161",
    );
    assert_eq!(short(161).unwrap().text().validation().len(), 17, "one window");
}

/// A tenth of all steps, and at most 100.
#[test]
fn the_warm_up_is_as_long_as_the_chapter_says() {
    for (steps, warm) in [(9, 0), (10, 1), (120, 12), (1000, 100), (5000, 100)]
    {
        let o = Options { steps, ..Options::default() };
        let s = o.schedule().unwrap();
        let highest = |n| s.rate(n) == o.lr;
        assert!(warm == 0 || highest(warm), "{steps}: η at step {warm}");
        assert!(!highest(warm + 1), "{steps}: less at step {}", warm + 1);
        let before = (1..warm).all(|n| s.rate(n) < o.lr);
        assert!(before, "{steps}: less before step {warm}");
    }
}
