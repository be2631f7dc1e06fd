//! Chapter: rope. Proofs of the rotary embedding.

use super::tools::{Check, check, fact, formula, proof, random};
use crate::gradcheck::{Function, Report};
use crate::hf;
use crate::kernel::vector::dot;
use crate::nn::rope::{self, Rope, rope_forward};
use crate::params::{Layout, Role};
use crate::real::Real;

pub(super) const CHECKS: &[Check] = &[
    check("rope-frequencies", frequencies),
    check("rope-ntk-base", ntk_base),
    check("rope-rotation", rotation),
    check("rope-relative", relative),
    check("rope-backward", backward),
    check("rope-layout", layout),
];

/// Two sequences of three positions from the second on, two heads of four.
struct Turn;
impl Turn {
    fn table() -> Rope {
        Rope::new(4, 5, 100.0)
    }
}
impl Function for Turn {
    fn forward<T: Real>(&self, x: &[Vec<T>]) -> (Vec<T>, Vec<usize>) {
        let mut y = x[0].clone();
        rope_forward(&mut y, 8, 3, 2, &Self::table());
        (y, vec![])
    }
    fn backward<T: Real>(&self, _: &[Vec<T>], dy: &[T]) -> Vec<Vec<T>> {
        let mut dx = dy.to_vec();
        rope::rope_backward(&mut dx, 8, 3, 2, &Self::table());
        vec![dx]
    }
}
fn turned(x: &[f64], m: usize) -> Vec<f64> {
    let (table, mut y) = (Rope::new(4, 40, 1e4), x.to_vec());
    rope_forward(&mut y, 4, 1, m, &table);
    y
}
fn frequencies() -> Report {
    // The angle by which (1, 0) is turned at position 1 is ω itself.
    let (table, mut x) = (Rope::new(6, 2, 500.0), [1.0f64, 0.0].repeat(3));
    rope_forward(&mut x, 6, 1, 1, &table);
    let angle = |p: &[f64]| p[1].atan2(p[0]);
    let got: Vec<f64> = x.chunks(2).map(angle).collect();
    let want = [0, 1, 2].map(|i| 500f64.powf(-2.0 * i as f64 / 6.0));
    formula("ω = b^(−2i/d)", &got, &want)
}
fn ntk_base() -> Report {
    let (b, alpha, d) = (1e4, 8.0, 16);
    let omega = |b: f64, i: usize| b.powf(-2.0 * i as f64 / d as f64);
    let scaled = rope::ntk_base(b, alpha, d);
    let ratio = [0, d / 2 - 1].map(|i| omega(scaled, i) / omega(b, i));
    let want = [1.0, 1.0 / alpha];
    formula("fastest as before, slowest α times slower", &ratio, &want)
}
fn rotation() -> Report {
    let x = random("x", 48);
    let want = (0..48).map(|i| {
        let (m, pair) = ((2 + i / 8 % 3) as f64, i % 4 / 2);
        let (sin, cos) = (m * 100f64.powf(-(pair as f64) / 2.0)).sin_cos();
        match i % 2 {
            0 => x[i] * cos - x[i + 1] * sin,
            _ => x[i - 1] * sin + x[i] * cos,
        }
    });
    let want: Vec<f64> = want.collect();
    let y = Turn.forward(std::slice::from_ref(&x)).0;
    // The table is made of turns by 16q and by r: here q goes up to 2.
    let all = |m| turned(&[1.0, 0.0, 1.0, 0.0], m);
    let angles = (0..40).flat_map(|m| [1.0, 0.01].map(|w| m as f64 * w));
    let turns: Vec<f64> = angles.flat_map(|a| [a.cos(), a.sin()]).collect();
    formula("R(mω)·x", &y, &want)
        .and(formula(
            "cos mω, sin mω at 40 positions",
            &(0..40).flat_map(all).collect::<Vec<_>>(),
            &turns,
        ))
        .and(formula("‖R·x‖ = ‖x‖", &[dot(&y, &y)], &[dot(&x, &x)]))
        .and(formula("R(0) = I", &turned(&x[..4], 0), &x[..4]))
}
fn relative() -> Report {
    let (q, k) = (random("q", 4), random("k", 4));
    let at = |m, n| dot(&turned(&q, m), &turned(&k, n));
    let (want, got) = (dot(&turned(&q, 2), &k), [at(5, 3), at(12, 10)]);
    formula("⟨R₅q, R₃k⟩ = ⟨R₁₂q, R₁₀k⟩ = ⟨R₂q, k⟩", &got, &[want; 2])
}
fn backward() -> Report {
    let x = random("x", 48);
    let y = Turn.forward(std::slice::from_ref(&x)).0;
    let back = &Turn.backward(&[], &y)[0];
    proof(&Turn, &[("x", x.clone())]).and(formula("R⁻¹·R·x = x", back, &x))
}
/// The columns of two heads as files have them: first halves, second halves.
fn layout() -> Report {
    let mut layout = Layout::default();
    layout.builder().at("attention").param("wq", [1, 8], Role::Weight);
    let (wq, rope) = (&layout.entries[0], Rope::new(4, 4, 100.0));
    let x = random("x", 8);
    let mut ours = x.clone();
    rope_forward(&mut ours, 8, 1, 3, &rope);
    let mut theirs = hf::to_hf(&x, wq, 4);
    for head in theirs.chunks_exact_mut(4) {
        for i in 0..2 {
            let (sin, cos) = (3.0 * 100f64.powf(-(i as f64) / 2.0)).sin_cos();
            let (u, v) = (head[i], head[i + 2]);
            (head[i], head[i + 2]) = (u * cos - v * sin, v * cos + u * sin);
        }
    }
    let mut back = vec![f64::NAN; 8];
    hf::from_hf(&mut back, &hf::to_hf(&x, wq, 4), wq, 4);
    let turned = hf::to_hf(&ours, wq, 4);
    formula("halves turned = neighbors turned", &theirs, &turned)
        .and(fact("there and back", back == x))
}
