//! Chapter: silu. Proofs of SiLU and of the gated unit.

use super::parity::{ETA, EXP, Pair, TINY, U, gamma, numbers, report, wide};
use super::tools::{Check, check, composed, formula, proof, random, scores};
use crate::gradcheck::{Function, Report};
use crate::kernel::activation as act;
use crate::kernel::fast;
use crate::kernel::simd::Isa;
use crate::real::Real;

pub(super) const CHECKS: &[Check] = &[
    check("silu-forward", silu_forward),
    check("silu-backward", silu_backward),
    check("glu-forward", glu_forward),
    composed("glu-backward", glu_backward, &["silu-backward"]),
];

struct Silu;
impl Function for Silu {
    fn forward<T: Real>(&self, x: &[Vec<T>]) -> (Vec<T>, Vec<usize>) {
        (x[0].iter().map(|&z| act::silu_forward(z)).collect(), vec![])
    }
    fn backward<T: Real>(&self, x: &[Vec<T>], dy: &[T]) -> Vec<Vec<T>> {
        vec![
            dy.iter()
                .zip(&x[0])
                .map(|(&dy, &z)| act::silu_backward(dy, z))
                .collect(),
        ]
    }
}
fn silu_forward() -> Report {
    let want: Vec<f64> =
        scores().iter().map(|z| z / (1.0 + (-z).exp())).collect();
    let (low, high) = (act::silu_forward(-1e4), act::silu_forward(1e4));
    formula("z / (1 + exp(−z))", &Silu.forward(&[scores()]).0, &want)
        .and(formula("far out", &[low, high], &[0.0, 1e4]))
}
fn silu_backward() -> Report {
    proof(&Silu, &[("z", scores())])
}
struct Glu;
impl Function for Glu {
    fn forward<T: Real>(&self, x: &[Vec<T>]) -> (Vec<T>, Vec<usize>) {
        let mut h = vec![T::ZERO; x[0].len()];
        act::glu_forward(&mut h, &x[0], &x[1]);
        (h, vec![])
    }
    fn backward<T: Real>(&self, x: &[Vec<T>], dh: &[T]) -> Vec<Vec<T>> {
        let (mut dgate, mut dup) = (x[0].clone(), x[1].clone());
        act::glu_backward(&mut dgate, &mut dup, dh, &x[0], &x[1]);
        vec![dgate, dup]
    }
}
fn gate_and_up() -> [(&'static str, Vec<f64>); 2] {
    [("gate", random("gate", 15)), ("up", random("up", 15))]
}
fn glu_forward() -> Report {
    let [(_, gate), (_, up)] = gate_and_up();
    let literal = |(z, u): (&f64, &f64)| z / (1.0 + (-z).exp()) * u;
    let want: Vec<f64> = gate.iter().zip(&up).map(literal).collect();
    formula("silu(gate)·up", &Glu.forward(&[gate, up]).0, &want)
        .and(report([parity(Isa::current(), &numbers(1), &numbers(2))]))
}
fn glu_backward() -> Report {
    let [gate, up, dh] = [1, 2, 3].map(numbers);
    let fast = parity_gradient(Isa::current(), &dh, &gate, &up);
    proof(&Glu, &gate_and_up()).and(report(fast))
}

/// σ(z) and its bound: 1 + e and 1/(1 + e) are rounded; e has a relative error
/// of 2⁻²², and the quotient e/(1 + e) < 1 times as much. e^88.73 is ∞ and
/// its quotient 0, which is below 2⁻¹²⁶.
fn sigmoid_bound(z: f64) -> [f64; 2] {
    let sigma = 1.0 / (1.0 + (-z).exp());
    let relative = 1.0 / ((1.0 - EXP) * (1.0 - gamma(2))) - 1.0;
    [sigma, relative * sigma + TINY]
}
/// |z·σ(z)| and a bound of the error of its product with one number more,
/// for a factor 1 of that.
fn silu_bound(z: f64) -> [f64; 2] {
    let [sigma, off] = sigmoid_bound(z);
    let s = z.abs() * sigma;
    [s, z.abs() * (sigma + off) * (1.0 + gamma(2)) - s + ETA]
}

/// T5 of silu(gate)·up.
pub fn parity(isa: Isa, gate: &[f32], up: &[f32]) -> Pair {
    let (mut h, mut want) = (vec![f32::NAN; up.len()], vec![0.0; up.len()]);
    isa.run(fast::GluForward { h: &mut h, gate, up });
    let (gate, up) = (wide(gate), wide(up));
    act::glu_forward(&mut want, &gate, &up);
    Pair::new(isa, "glu", h, want, |i| {
        up[i].abs() * silu_bound(gate[i])[1] + ETA
    })
}

/// T5 of silu(gate)·up, backward: by gate, by up.
pub fn parity_gradient(
    isa: Isa, dh: &[f32], gate: &[f32], up: &[f32],
) -> [Pair; 2] {
    let (mut dgate, mut dup) = (vec![f32::NAN; up.len()], vec![0.0; up.len()]);
    let (to, too) = (&mut dgate, &mut dup);
    isa.run(fast::GluBackward { dgate: to, dup: too, dh, gate, up });
    let [gate, up, dh] = [gate, up, dh].map(wide);
    let mut want = vec![0.0; up.len()];
    let mut want_up = want.clone();
    act::glu_backward(&mut want, &mut want_up, &dh, &gate, &up);
    let by_gate = |i: usize| {
        let du = (dh[i] * up[i]).abs();
        let [sigma, off] = sigmoid_bound(gate[i]);
        let s = gate[i].abs() * sigma;
        let ds = gate[i].abs() * (sigma + off) * (1.0 + U) - s + ETA;
        // slope = s·a + σ, a = fl(1 − σ̂), the product and the sum rounded;
        // then dh·u and the product with it.
        let (a, z) = (1.0 - sigma, gate[i]);
        let slope = (sigma + z * sigma * a).abs();
        let da = off + U * (a + off);
        let off = (s + ds) * (a + da) * (1.0 + gamma(2)) - s * a
            + (sigma + off) * (1.0 + U)
            - sigma;
        let rel = (slope + off) * (1.0 + gamma(2)) - slope;
        du * rel + ETA * (2.0 + slope + off)
    };
    let by_up = |i: usize| dh[i].abs() * silu_bound(gate[i])[1] + ETA;
    [
        Pair::new(isa, "glu, backward, gate", dgate, want, by_gate),
        Pair::new(isa, "glu, backward, up", dup, want_up, by_up),
    ]
}
