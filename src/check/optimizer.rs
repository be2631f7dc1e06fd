//! Chapter: optimizer. Proofs of the optimizer.

use super::parity::{ETA, Pair, gamma, wide};
use super::tools::{Check, check, composed, formula};
use crate::gradcheck::Report;
use crate::kernel::fast;
use crate::kernel::simd::Isa;
use crate::kernel::vector::dot;
use crate::params::{Layout, Role};
use crate::train::optimizer::{
    self, AdamW, Decay, Norm, Optimizer, Rates, Step,
};

pub(super) const CHECKS: &[Check] = &[
    composed("grad-clip-global", clip, &["adamw"]),
    check("adam-bias-correction", bias_correction),
    check("adamw", adamw),
];

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
/// Gradients so small that ε matters, and others.
const G: [f64; 4] = [0.5, -0.1, 3e-8, 0.3];
fn adamw() -> Report {
    let (decayed, kept) = (literal(&G, 0.2, 0.1), literal(&G, 0.0, 0.1));
    let (weights, _) = stepped(&G, Decay::Weights, 1e9);
    let (all, _) = stepped(&G, Decay::All, 1e9);
    formula("a weight decays, a gain does not", &weights, &[decayed, kept])
        .and(formula("or both do", &all, &[decayed; 2]))
        .and(formula(
            "both means are of the scaled gradient",
            &means(),
            &[0.1 * 0.75, 0.05 * 0.75 * 0.75],
        ))
}
/// m and v after a first step, whose gradient 3 is scaled by ¼.
fn means() -> [f64; 2] {
    let (mut p, mut m, mut v) = ([1.0], [0.0], [0.0]);
    let rates = Rates { lr: 0.1, decay: 0.0, scale: 0.25, t: 1 };
    optimizer::adamw(&mut p, &mut m, &mut v, &[3.0], rates);
    [m[0], v[0]]
}
fn bias_correction() -> Report {
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
fn clip() -> Report {
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

/// T5 of ⟨x, x⟩.
pub fn parity(isa: Isa, x: &[f32]) -> Pair {
    let (got, x) = (isa.run(fast::SumOfSquares { x }), wide(x));
    let (want, n) = (dot(&x, &x), x.len());
    let bound = gamma(n + 1) * want + n as f64 * ETA;
    Pair::new(isa, "sum of squares", vec![got], vec![want], |_| bound)
}
