//! Twelve milestones: each runs something on what is written so far.
//!
//!     cargo run --bin milestone -- 3
//!     cargo run --bin milestone -- 12 my-text.txt

#[path = "../../../tests/ladder/alone.rs"]
mod alone;

use alone::Alone;
use moe_by_hand::block::{Block, heads};
use moe_by_hand::config::Config;
use moe_by_hand::elementary;
use moe_by_hand::generate::{Decoder, Sampler, generate};
use moe_by_hand::half::{Bf16, F16};
use moe_by_hand::kernel::activation::silu_forward;
use moe_by_hand::kernel::matrix::{Set, mat, mat_mut, matmul};
use moe_by_hand::kernel::softmax::{
    lse_backward, lse_forward, softmax_forward,
};
use moe_by_hand::layer::{Layer, Shape};
use moe_by_hand::model::Model;
use moe_by_hand::nn::attention::{
    Attention, AttentionGrads, attention_backward, attention_forward,
};
use moe_by_hand::nn::embedding::{embedding_backward, embedding_forward};
use moe_by_hand::nn::linear::{linear_backward, linear_forward};
use moe_by_hand::nn::loss::{cross_entropy_backward, cross_entropy_forward};
use moe_by_hand::nn::rope::Rope;
use moe_by_hand::nn::router::{Router, renormalize_backward};
use moe_by_hand::nn::swiglu::SwiGlu;
use moe_by_hand::params::{Builder, Init, Layout, Param, Params, Role};
use moe_by_hand::real::Dual;
use moe_by_hand::rng::Rng;
use moe_by_hand::tokens::{Characters, encode, harmless};
use moe_by_hand::train::checkpoint::Checkpoint;
use moe_by_hand::train::data::Text;
use moe_by_hand::train::options::Options;
use moe_by_hand::train::trainer::Trainer;
use std::panic;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

/// What was expected, and did not come.
type Outcome = Result<(), String>;

fn expect(holds: bool, what: &str) -> Outcome {
    if holds { Ok(()) } else { Err(format!("expected: {what}")) }
}
fn words(e: impl std::fmt::Display) -> String {
    e.to_string()
}

/// 1: a slope that a number carries along, and a line through points.
fn line() -> Outcome {
    let x = Dual { v: 2.0, d: 1.0 };
    let y = x * x * x;
    println!("x³ at 2 is {}, and its slope {}", y.v, y.d);
    expect(y.v == 8.0 && y.d == 12.0, "8 and 12")?;
    let a: Vec<f64> =
        (0..24).map(|i| (i * 7 % 11) as f64 / 10.0 - 0.5).collect();
    let true_w = [2.0, -1.0, 0.5];
    let mut b = [0.0; 8];
    matmul(mat_mut(&mut b, 1), Set, mat(&a, 3), mat(&true_w, 1));
    let (mut w, mut loss) = ([0.0; 3], 0.0);
    for step in 0..=400 {
        let mut r = [0.0; 8];
        matmul(mat_mut(&mut r, 1), Set, mat(&a, 3), mat(&w, 1));
        r.iter_mut().zip(b).for_each(|(r, b)| *r -= b);
        loss = r.iter().map(|r| r * r).sum::<f64>() / 2.0;
        if step % 100 == 0 {
            println!("step {step}: loss {loss:.1e}, w {w:.4?}");
        }
        let mut dw = [0.0; 3]; // the gradient: Aᵀ·r
        matmul(mat_mut(&mut dw, 1), Set, mat(&a, 3).t(), mat(&r, 1));
        w.iter_mut().zip(dw).for_each(|(w, dw)| *w -= 0.5 * dw);
    }
    expect(loss < 1e-9, "a loss below 1e-9")
}

/// 2: a table of functions, scores as shares, and a curve.
fn table() -> Outcome {
    println!("{:>6} {:>12} {:>12} {:>12} {:>12}", "x", "eˣ", "ln", "√", "sin");
    let mut worst: f32 = 0.0;
    for x in [0.1f32, 0.5, 1.0, 2.0, 3.0, 10.0] {
        let ours = [
            elementary::exp(x),
            elementary::ln(x),
            elementary::sqrt(x),
            elementary::sin_cos(x).0,
        ];
        let theirs = [x.exp(), x.ln(), x.sqrt(), x.sin()];
        let [e, l, r, s] = ours;
        println!("{x:>6} {e:>12.6} {l:>12.6} {r:>12.6} {s:>12.6}");
        for (a, b) in ours.iter().zip(theirs) {
            worst = worst.max((a - b).abs() / b.abs().max(1e-3));
        }
    }
    println!("from the standard library's at most {worst:.1e} of the value");
    expect(worst < 1e-6, "at most 1e-6")?;
    for temperature in [0.5, 1.0, 2.0] {
        let mut p = [1.0f64, 2.0, 3.0].map(|z| z / temperature);
        softmax_forward(&mut p);
        println!("scores 1 2 3 at temperature {temperature}: {p:.3?}");
    }
    let lse = lse_forward(&[1000.0f64, 1000.0]);
    println!("the log-sum-exp of two scores of 1000: {lse:.4}");
    expect((lse - 1000.0 - 2f64.ln()).abs() < 1e-12, "1000 + ln 2")?;
    for i in -8..=4 {
        let y = silu_forward(f64::from(i) / 2.0);
        let at = ((y + 0.3) * 20.0).round() as usize;
        println!("silu {:>4} {:>at$}", f64::from(i) / 2.0, '*', at = at + 1);
    }
    Ok(())
}

/// A small network that needs neither the library's model nor its optimizer:
/// embedding, a layer, head.
struct Net<L> {
    layout: Layout,
    embed: Param,
    layer: L,
    head: Param,
}
const TIME: usize = 16;
const BATCH: usize = 8;
fn config() -> Config {
    Config {
        vocab: 256,
        hidden: 32,
        layers: 1,
        heads: 4,
        kv_heads: 2,
        head: 8,
        experts: 4,
        top_k: 2,
        intermediate: 32,
        context: 512, // as far as it may write
        rms_eps: 1e-5,
        rope_theta: 10_000.0,
        aux: 0.01,
        init: 0.02,
        tied: false,
        attention_bias: false,
    }
}
impl<L: Layer> Net<L> {
    fn new(build: impl FnOnce(Builder, &Config) -> L) -> Self {
        let (c, mut layout) = (config(), Layout::default());
        let mut b = layout.builder();
        let embed = b.param("embed", [256, c.hidden], Role::Embedding);
        let layer = build(b.at("layer"), &c);
        let head = b.param("head", [c.hidden, 256], Role::Weight);
        Self { layout, embed, layer, head }
    }
    fn logits(
        &self, p: &Params<f32>, tokens: &[usize], a: &mut L::Acts<f32>,
        x: &mut [f32], z: &mut [f32],
    ) {
        embedding_forward(x, &p[self.embed], tokens);
        self.layer.forward(p, x, a);
        linear_forward(z, L::y::<f32>(a), self.head, p);
    }
    /// Trains, and gives the mean loss of the last twentieth of the steps.
    fn train(&self, text: &[u8], steps: usize) -> (Params<f32>, f32) {
        let (n, d) = (BATCH * TIME, config().hidden);
        let shape = Shape { batch: BATCH, time: TIME };
        let mut p = self.layout.init(0, Init::Normal(0.05), 1);
        let (mut a, mut g) =
            (self.layer.acts::<f32>(shape), self.layer.acts::<f32>(shape));
        let mut dp = self.layout.grads();
        let mut mean = vec![0.0; self.layout.len];
        let [mut x, mut dx] = [(); 2].map(|()| vec![0.0; n * d]);
        let [mut z, mut dz] = [(); 2].map(|()| vec![0.0; n * 256]);
        let mut rng = Rng::named(0, "batches");
        let (mut last, mut seen) = (0.0, 0);
        for step in 0..steps {
            let starts = [(); BATCH].map(|()| rng.below(text.len() - TIME - 1));
            let bytes = |shift: usize| -> Vec<usize> {
                let part = |s: &usize| &text[s + shift..s + shift + TIME];
                starts.iter().flat_map(part).map(|&b| b.into()).collect()
            };
            let (tokens, targets) = (bytes(0), bytes(1));
            self.logits(&p, &tokens, &mut a, &mut x, &mut z);
            let mut loss = 0.0;
            dz.fill(0.0);
            for (i, &t) in targets.iter().enumerate() {
                let row = i * 256..(i + 1) * 256;
                let lse = lse_forward(&z[row.clone()]);
                loss += (lse - z[row.start + t]) / n as f32;
                let dz = &mut dz[row.clone()];
                lse_backward(dz, 1.0 / n as f32, &z[row], lse);
                dz[t] -= 1.0 / n as f32;
            }
            if step >= steps - steps / 20 {
                (last, seen) = (last + loss, seen + 1);
            }
            if step % (steps / 4) == 0 {
                println!("step {step}: {loss:.3} nats");
            }
            dp.begin();
            if let Some(totals) = L::totals::<f32>(&mut g) {
                totals.clear(); // no loss of the router
            }
            let y = L::y::<f32>(&mut a);
            let dy = L::y::<f32>(&mut g);
            linear_backward(dy, Set, &mut dp, &dz, y, self.head, &p);
            self.layer.backward(&p, &x, &a, &mut g, &mut dx, &mut dp);
            embedding_backward(dp.write(self.embed), &dx, &tokens);
            dp.finish(&self.layout);
            // A step of one size for each number, by the sign of a running
            // mean; the steps become smaller to the end.
            let rate = 4e-3 * (1.0 - step as f32 / steps as f32);
            for ((p, m), &g) in
                p.data.iter_mut().zip(&mut mean).zip(dp.data.iter())
            {
                *m = 0.9 * *m + g;
                *p -= rate * *m / (m.abs() + 1e-12);
            }
        }
        (p, last / seen as f32)
    }
    /// Bytes after a line's end; each drawn by the largest of score and noise.
    fn write(&self, p: &Params<f32>, n: usize) -> String {
        let mut rng = Rng::named(1, "noise");
        let mut tokens = vec![usize::from(b'\n')];
        for _ in 0..n {
            let seen = &tokens[tokens.len().saturating_sub(TIME)..];
            let time = seen.len();
            let mut a = self.layer.acts::<f32>(Shape { batch: 1, time });
            let mut x = vec![0.0; time * config().hidden];
            let mut z = vec![0.0; time * 256];
            self.logits(p, seen, &mut a, &mut x, &mut z);
            let noisy = z[(time - 1) * 256..]
                .iter()
                .map(|&z| f64::from(z) - (-(rng.uniform() + 1e-12).ln()).ln());
            let best =
                noisy.enumerate().fold((0, f64::NEG_INFINITY), |m, b| {
                    if b.1 > m.1 { b } else { m }
                });
            tokens.push(best.0);
        }
        shown(&tokens[1..])
    }
    fn run(&self, text: &[u8], steps: usize, bound: f32) -> Outcome {
        let (p, loss) = self.train(text, steps);
        println!("in the end: {loss:.3} nats per byte. It writes:");
        println!("{}", self.write(&p, 200));
        expect(loss < bound, &format!("less than {bound} nats"))
    }
}
fn shown(tokens: &[usize]) -> String {
    let mut characters = Characters::default();
    let mut text = String::new();
    tokens.iter().for_each(|&t| text += characters.push(t));
    harmless(&(text + characters.finish()))
}

/// 3: the bigram of the book's ladder.
fn bigram(text: &[u8]) -> Outcome {
    Net::new(|b, c| Alone::new(b, c, false)).run(text, 400, 3.1)
}
/// 4: with an expert.
fn expert(text: &[u8]) -> Outcome {
    Net::new(|b, c| Alone::new(b, c, true)).run(text, 400, 3.1)
}
/// 5: attention by itself. Eight letters learn to look at the one before.
fn attention() -> Outcome {
    const N: usize = 8;
    let mut rng = Rng::named(0, "letters");
    let [mut q, mut k] = [(); 2].map(|()| {
        let mut x = [0.0; N * N];
        rng.fill_normal(&mut x, 1.0);
        x
    });
    // each value has a column of its own: the mixture is the shares
    let mut v = [0.0; N * N];
    (0..N).for_each(|i| v[i * N + i] = 1.0);
    let (mut mix, mut loss) = ([0.0f64; N * N], 0.0);
    for step in 0..=400 {
        let mut prob = [0.0; N * N];
        let [qs, ks, vs] = [&q, &k, &v].map(|x| mat(x, N));
        attention_forward(mat_mut(&mut mix, N), &mut prob, qs, ks, vs, 1);
        let mut dmix = mix;
        (0..N).for_each(|t| dmix[t * N + t.saturating_sub(1)] -= 1.0);
        loss = dmix.iter().map(|d| d * d).sum::<f64>() / 2.0;
        if step % 100 == 0 {
            println!("step {step}: loss {loss:.4}");
        }
        if step % 400 == 0 {
            println!("who looks at whom, in percent");
            for (t, row) in mix.chunks(N).enumerate() {
                let row =
                    row[..=t].iter().map(|p| format!("{:4.0}", 100.0 * p));
                let letter = char::from(b'a' + t as u8);
                println!("  {letter}{}", row.collect::<String>());
            }
        }
        let [mut dq, mut dk, mut dv, mut ds] = [[0.0; N * N]; 4];
        let to = AttentionGrads {
            dq: mat_mut(&mut dq, N),
            dk: mat_mut(&mut dk, N),
            dv: mat_mut(&mut dv, N),
            ds: &mut ds,
        };
        attention_backward(to, mat(&dmix, N), &prob, qs, ks, vs, 1);
        q.iter_mut().zip(dq).for_each(|(q, d)| *q -= d);
        k.iter_mut().zip(dk).for_each(|(k, d)| *k -= d);
    }
    let later = (0..N * N).filter(|i| i % N > i / N);
    let sees = later.map(|i| mix[i]).any(|p| p != 0.0);
    expect(!sees, "no letter looks at a later one")?;
    expect(loss < 0.01, "a loss below 0.01")
}
/// 6: a block with heads, which knows no positions, and then does.
fn heads_and_positions(text: &[u8]) -> Outcome {
    let dense = |rope: Rope| {
        let rope = Arc::new(rope);
        Net::new(|b, c| {
            let (d, f) = (c.hidden, c.intermediate);
            let attention =
                |b: Builder| Attention::new(b, d, heads(c), rope.clone());
            Block::with(b, c, attention, |b: Builder| SwiGlu::new(b, d, f))
        })
    };
    let c = config();
    println!("without positions");
    dense(Rope::still(c.head, c.context)).run(text, 400, 3.1)?;
    println!("with positions");
    let turning = Rope::new(c.head, c.context, c.rope_theta);
    dense(turning).run(text, 400, 3.1)
}
/// 7: which expert would get which letter.
fn router() -> Outcome {
    let (d, e, k) = (16, 8, 2);
    let mut layout = Layout::default();
    let router = Router::new(layout.builder(), d, e, k);
    let p: Params<f64> = layout.init(0, Init::Normal(0.5), 1);
    let (n, mut x) = (26, vec![0.0; 26 * d]);
    Rng::named(0, "letters").fill_normal(&mut x, 1.0);
    let mut a = router.acts::<f64>(Shape { batch: 1, time: n });
    router.forward(&p, &x, &mut a);
    for expert in 0..e {
        let mine = |t: &usize| a.choice[t * k..(t + 1) * k].contains(&expert);
        let letters = (0..n).filter(mine);
        let letters: String =
            letters.map(|t| char::from(b'a' + t as u8)).collect();
        println!("expert {expert}: {letters}");
    }
    let sums = a.weight.chunks_exact(k).map(|w| w.iter().sum::<f64>());
    let off = sums.fold(0.0, |m: f64, s| m.max((s - 1.0).abs()));
    println!("weights of a letter sum to 1 but for {off:.0e}");
    // a sum that is always 1 has the gradient 0
    let mut dprob = vec![0.0; n * e];
    let rows = dprob.chunks_mut(e).zip(a.prob.chunks(e));
    let chosen = a.weight.chunks(k).zip(a.choice.chunks(k));
    for ((dprob, prob), (weight, choice)) in rows.zip(chosen) {
        renormalize_backward(dprob, &vec![1.0; k], weight, prob, choice);
    }
    let most = dprob.iter().fold(0.0, |m: f64, d| m.max(d.abs()));
    println!("and that sum has a gradient of {most:.0e}");
    expect(off < 1e-12 && most < 1e-12, "both below 1e-12")
}
/// 8: the mixture.
fn mixture(text: &[u8]) -> Outcome {
    let net = Net::new(|b, c| {
        Block::new(b, c, Arc::new(Rope::new(c.head, c.context, c.rope_theta)))
    });
    net.run(text, 400, 3.1)
}
/// 9: the whole network and its gradient learn one batch by heart.
fn model(text: &[u8]) -> Outcome {
    let m = Model::new(config()).map_err(words)?;
    let bytes: Vec<usize> = text[..65].iter().map(|&b| b.into()).collect();
    let (tokens, targets) = (&bytes[..64], &bytes[1..]);
    let shape = Shape { batch: 4, time: 16 };
    let mut p: Params<f32> = m.init(0);
    let (mut a, mut g) = (m.acts::<f32>(shape, false), m.grads::<f32>(shape));
    let mut dp = m.layout.grads::<f32>();
    let (mut first, mut last) = (0.0, 0.0);
    for step in 0..=60 {
        m.forward(&p, tokens, &mut a);
        let sum = cross_entropy_forward(&mut a.lse, &a.head.y, targets);
        last = sum / 64.0;
        if step == 0 {
            first = last;
        }
        if step % 20 == 0 {
            println!("step {step}: {last:.3} nats");
        }
        let (z, lse) = (&a.head.y, &a.lse);
        cross_entropy_backward(&mut g.head.y, z, lse, targets, 1.0 / 64.0);
        g.totals.iter_mut().for_each(|t| t.clear());
        dp.begin();
        m.backward(&p, tokens, &mut a, &mut g, &mut dp);
        dp.finish(&m.layout);
        for (p, g) in p.data.iter_mut().zip(dp.data.iter()) {
            *p -= 0.5 * g;
        }
    }
    println!("a blind guess among 256 bytes costs ln 256 = 5.545 nats");
    expect((first - 5.545).abs() < 0.1, "5.5 nats in the beginning")?;
    expect(last < 0.7 * first, "a third less in the end")
}
fn options(steps: usize) -> Options {
    Options { steps, batch: 8, seq: 32, lr: 1e-2, ..Options::default() }
}
fn trained(text: &[u8], steps: usize) -> Result<Trainer, String> {
    let model = Model::new(config()).map_err(words)?;
    let text = Text::new(text.to_vec());
    let mut t = Trainer::new(model, text, options(steps)).map_err(words)?;
    while !t.done() {
        let m = t.step().map_err(words)?;
        if m.step % (steps / 4) == 0 {
            println!("step {}: {:.3} nats", m.step, m.ce);
        }
    }
    Ok(t)
}
/// 10: the trainer.
fn trainer(text: &[u8]) -> Outcome {
    let loss = trained(text, 200)?.validate();
    println!("on text that it has not seen: {loss:.3} nats per byte");
    expect(loss < 3.1, "less than 3.1 nats")
}
/// 11: half the bits, and drawing.
fn drawing(text: &[u8]) -> Outcome {
    for x in [1.0f32 / 3.0, 65504.0, 1e-7] {
        let (f16, bf16) = (F16::from_f32(x).f32(), Bf16::from_f32(x).f32());
        println!("{x:e} in f16 is {f16:e}, in bf16 {bf16:e}");
    }
    let t = trained(text, 200)?;
    let mut written = vec![];
    for temperature in [0.5, 1.0] {
        let mut sampler = Sampler::new(temperature, 40, 0.95).map_err(words)?;
        let mut rng = Rng::named(0, "sample");
        let mut tokens = encode("\nThe ");
        for _ in 0..120 {
            let seen = &tokens[tokens.len().saturating_sub(32)..];
            let shape = Shape { batch: 1, time: seen.len() };
            let mut a = t.model.acts::<f32>(shape, false);
            t.model.forward(&t.params, seen, &mut a);
            let z = &a.head.y[(seen.len() - 1) * 256..];
            tokens.push(sampler.sample(z, &mut rng).map_err(words)?);
        }
        println!("at temperature {temperature}: {}", shown(&tokens));
        let mut kinds = tokens.clone();
        kinds.sort_unstable();
        kinds.dedup();
        written.push(kinds.len());
    }
    expect(written.iter().all(|&w| w > 5), "more than five different bytes")
}
/// 12: trains on a text, saves, reads, and writes through the cache.
fn whole(text: &[u8]) -> Outcome {
    let mut t = trained(text, 400)?;
    let loss = t.validate();
    println!("on text that it has not seen: {loss:.3} nats per byte");
    let file = Path::new("my-model.safetensors");
    t.save(file).map_err(words)?;
    let saved = Checkpoint::read(file).map_err(words)?;
    let model = Model::new(saved.config.clone()).map_err(words)?;
    let read = Text::new(text.to_vec());
    let again = Trainer::resume(model, read, options(400), saved);
    let mut again = again.map_err(words)?;
    expect(again.validate() == loss, "the same loss after reading the file")?;
    println!("{} says the same. It writes:", file.display());
    let mut decoder = Decoder::with_window(&again.model, 32);
    let mut sampler = Sampler::new(0.8, 0, 1.0).map_err(words)?;
    let (mut rng, mut all) = (Rng::named(0, "sample"), encode("\nThe "));
    let prompt = all.clone();
    let (s, r) = (&mut sampler, &mut rng);
    generate(&mut decoder, &again.params, &prompt, 300, s, r, |token| {
        all.push(token);
        true
    })
    .map_err(words)?;
    println!("{}", shown(&all));
    expect(loss < 3.0, "less than 3 nats")
}

fn run(n: &str, text: &[u8]) -> Outcome {
    match n {
        "1" => line(),
        "2" => table(),
        "3" => bigram(text),
        "4" => expert(text),
        "5" => attention(),
        "6" => heads_and_positions(text),
        "7" => router(),
        "8" => mixture(text),
        "9" => model(text),
        "10" => trainer(text),
        "11" => drawing(text),
        "12" => whole(text),
        _ => Err("say which: a number from 1 to 12".into()),
    }
}
/// What a panic says.
fn words_of<'a>(info: &'a panic::PanicHookInfo) -> &'a str {
    let words = info.payload();
    let text = words.downcast_ref::<String>().map(|s| &s[..]);
    text.or(words.downcast_ref::<&str>().copied()).unwrap_or("it panicked")
}

fn main() -> ExitCode {
    panic::set_hook(Box::new(|info| {
        let place = info.location().map(|l| format!(" ({l})"));
        let words = words_of(info);
        if words.starts_with("failed printing to stdout: Broken pipe") {
            std::process::exit(0); // nobody reads it any more
        }
        eprintln!("error: {words}{}", place.unwrap_or_default());
    }));
    let mut arguments = std::env::args().skip(1);
    let n = arguments.next().unwrap_or_default();
    let file = arguments.next().unwrap_or("text.txt".into());
    let text = match std::fs::read(&file) {
        Ok(text) if text.len() > 2000 => text,
        Ok(_) => {
            eprintln!("error: {file}: shorter than 2000 bytes");
            return ExitCode::from(2);
        }
        Err(e) => {
            eprintln!("error: {file}: {e}");
            return ExitCode::from(2);
        }
    };
    match run(&n, &text) {
        Ok(()) => {
            println!("milestone {n}: done");
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("error: milestone {n}: {e}");
            ExitCode::FAILURE
        }
    }
}
