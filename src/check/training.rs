//! Chapter: optimizer. Proofs of what surrounds the gradient: random numbers,
//! optimizer, schedule.

use super::kernels::{formula, invariant};
use crate::gradcheck::Report;
use crate::nn::loss;
use crate::params::{Init, Layout, Role};
use crate::rng::Rng;
use crate::train::optimizer::{
    self, AdamW, Decay, Norm, Optimizer, Rates, Step,
};
use crate::train::schedule::Schedule;

// Chapter: random -----------------------------------------------------------

pub(super) fn prng_lcg() -> Report {
    // In whole numbers of arbitrary size, then mod 2⁶⁴; the output permuted
    // as O'Neill writes it.
    let (a, c) = (6_364_136_223_846_793_005u128, 54 * 2 + 1);
    let next = |s: u128| (s * a + c) % (1 << 64);
    let mut s = next(next(0) + 42);
    let mut rng = Rng::new(42, 54);
    let (mut got, mut want) = (vec![], vec![]);
    for _ in 0..100 {
        let x = ((s >> 18 ^ s) >> 27) as u32;
        let turn = (s >> 59) as u32;
        want.push((x >> turn | x << (turn.wrapping_neg() & 31)) as f64);
        got.push(rng.bits() as f64);
        s = next(s);
    }
    formula("s ← a·s + c mod 2⁶⁴, permuted", &got, &want)
}
pub(super) fn box_muller() -> Report {
    let (mut rng, mut raw) = (Rng::new(7, 1), Rng::new(7, 1));
    let unit = 2f64.powi(-32);
    let u1 = (raw.bits() as f64 + 1.0) * unit;
    let angle = std::f64::consts::TAU * (raw.bits() as f64 * unit);
    let r = (-2.0 * u1.ln()).sqrt();
    let want = [r * angle.cos(), r * angle.sin()];
    // Mean and variance of n numbers are within five of their own standard
    // deviations: √(1/n) and √(2/n).
    let n = 100_000;
    let mut z = vec![0.0; n];
    rng.clone().fill_normal(&mut z, 1.0);
    let mean = z.iter().sum::<f64>() / n as f64;
    let var = z.iter().map(|z| z * z).sum::<f64>() / n as f64;
    let n = n as f64;
    formula("√(−2 ln u₁)·(cos, sin)(2πu₂)", &rng.normals(), &want)
        .with("mean 0", mean.abs(), 5.0 / n.sqrt())
        .with("variance 1", (var - 1.0).abs(), 5.0 * (2.0 / n).sqrt())
        .and(super::parity::of_normals())
}
fn spread(role: Role, init: Init) -> f64 {
    let mut layout = Layout::default();
    let w = layout.builder().param("w", [50, 200], role);
    let p = layout.init::<f64>(0, init, 8);
    (p[w].iter().map(|w| w * w).sum::<f64>() / 10_000.0).sqrt()
}
pub(super) fn init_he() -> Report {
    // The deviation of 10⁴ numbers is known to 1/√(2·10⁴) = 0.7 %.
    let of = |role, n: f64| spread(role, Init::He) / (2.0 / n).sqrt() - 1.0;
    let (weight, table) = (of(Role::Weight, 50.0), of(Role::Embedding, 200.0));
    invariant("σ = √(2/inputs)", weight.abs(), 0.035).with(
        "of an embedding, √(2/width)",
        table.abs(),
        0.035,
    )
}
pub(super) fn init_residual() -> Report {
    let init = Init::Normal(0.02);
    let ratio = spread(Role::Residual, init) / 0.02 * 16f64.sqrt();
    invariant("σ/√(2L)", (ratio - 1.0).abs(), 0.035)
}

// Chapter: cross-entropy, optimizer -----------------------------------------

pub(super) fn perplexity() -> Report {
    let p: [f64; 3] = [0.5, 0.25, 0.125];
    let nats = -p.iter().map(|p| p.ln()).sum::<f64>() / 3.0;
    let want = (p.iter().product::<f64>()).powf(-1.0 / 3.0);
    formula("inverse geometric mean", &[loss::perplexity(nats)], &[want])
}
/// Steps of AdamW on one number, as the paper writes them.
fn literal(g: &[f64], decay: f64, lr: f64) -> f64 {
    let (mut p, mut m, mut v) = (1.0, 0.0, 0.0);
    for (t, g) in g.iter().enumerate() {
        let t = t as i32 + 1;
        m = 0.9 * m + 0.1 * g;
        v = 0.95 * v + 0.05 * g * g;
        let (m, v) = (m / (1.0 - 0.9f64.powi(t)), v / (1.0 - 0.95f64.powi(t)));
        p -= lr * (m / (v.sqrt() + 1e-8) + decay * p);
    }
    p
}
/// One decaying weight and one gain, from 1, through the optimizer.
fn stepped(g: &[f64], which: Decay, max: f64) -> (Vec<f64>, f64) {
    let mut layout = Layout::default();
    let gain = layout.builder().param("gain", [1], Role::Gain);
    let w = layout.builder().param("w", [1, 1], Role::Weight);
    let mut p = layout.zeros();
    p.data.fill(1.0);
    let (mut dp, mut norm) = (layout.grads(), 0.0);
    let mut adam = AdamW::new(&layout, 0.2, which);
    for (t, &g) in (1..).zip(g) {
        dp.data.fill(g);
        norm = Norm::new(&layout).norm(&dp);
        let scale = optimizer::clip(norm, max);
        adam.step(&mut p, &dp, Step { t, lr: 0.1, scale });
    }
    (vec![p[w][0], p[gain][0]], norm)
}
/// Of sizes at which ε matters and at which it does not.
const G: [f64; 4] = [0.5, -0.1, 3e-8, 0.3];
pub(super) fn adamw() -> Report {
    let (decayed, kept) = (literal(&G, 0.2, 0.1), literal(&G, 0.0, 0.1));
    let (weights, _) = stepped(&G, Decay::Weights, 1e9);
    let (all, _) = stepped(&G, Decay::All, 1e9);
    formula("a weight decays, a gain does not", &weights, &[decayed, kept])
        .and(formula("or both do", &all, &[decayed; 2]))
}
pub(super) fn bias_correction() -> Report {
    // A constant gradient has m̂ = g and v̂ = g² from the first step on.
    let step = |t: usize, g: f64| {
        let decay = |b: f64| 1.0 - b.powi(t as i32 - 1);
        let (mut p, mut m, mut v) =
            ([0.0], [decay(0.9) * g], [decay(0.95) * g * g]);
        let rates = Rates { lr: 1.0, decay: 0.0, scale: 1.0, t };
        optimizer::adamw(&mut p, &mut m, &mut v, &[g], rates);
        p[0]
    };
    let got = [step(1, 0.3), step(2, 0.3), step(50, -0.3), step(1, 1e-8)];
    let one = -0.3 / (0.3 + 1e-8);
    formula("Δθ = −g/(|g| + ε)", &got, &[one, one, -one, -0.5])
}
pub(super) fn clip() -> Report {
    let norm = 2f64.sqrt() * 3.0;
    let got = [optimizer::clip(norm, 1.0), optimizer::clip(0.9, 1.0)];
    // Through the optimizer: ε makes a first step feel the scale.
    let (p, before) = stepped(&[3e-8], Decay::Weights, 1e-8);
    let scale = 1e-8 / (3e-8 * 2f64.sqrt() + 1e-6);
    let (one, all) = (literal(&[3e-8 * scale], 0.2, 0.1), 3e-8 * 2f64.sqrt());
    formula("min(1, c/(‖g‖ + 10⁻⁶))", &got, &[1.0 / (norm + 1e-6), 1.0])
        .and(formula("of the whole gradient", &[p[0]], &[one]))
        .and(formula("the norm before", &[before / all], &[1.0]))
}
pub(super) fn warmup() -> Report {
    let s = schedule(0.3, 10, 100);
    let got: Vec<f64> = (1..=10).map(|n| s.rate(n)).collect();
    let want: Vec<f64> = (1..=10).map(|n| 0.03 * n as f64).collect();
    formula("η·n/W", &got, &want)
}
pub(super) fn cosine() -> Report {
    let s = schedule(0.3, 10, 100);
    let literal = |n: usize| {
        let t = (n - 10) as f64 / 90.0 * std::f64::consts::PI;
        0.03 + 0.5 * 0.27 * (1.0 + t.cos())
    };
    let got: Vec<f64> = (10..=100).map(|n| s.rate(n)).collect();
    let want: Vec<f64> = (10..=100).map(literal).collect();
    formula("cosine from η to η/10", &got, &want).and(formula(
        "its ends",
        &[s.rate(100), s.rate(1000)],
        &[0.03; 2],
    ))
}
fn schedule(max: f64, warmup: usize, steps: usize) -> Schedule {
    Schedule::new(max, warmup, steps).unwrap_or_else(|e| panic!("{e}"))
}
