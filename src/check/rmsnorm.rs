//! Chapter: rmsnorm. Proofs of RMSNorm.

use super::parity::{
    ETA, LENGTH, Pair, U, gamma, normals, numbers, report, wide,
};
use super::tools::{
    Check, D, LONG, N, SHORT, added, check, composed, formula, proof, random,
    rows, scores, sum,
};
use crate::gradcheck::{Function, Report, layer};
use crate::kernel::fast;
use crate::kernel::simd::Isa;
use crate::kernel::vector::dot;
use crate::nn::rmsnorm::{RmsNorm, rmsnorm_backward, rmsnorm_forward};
use crate::params::Builder;
use crate::real::Real;

pub(super) const CHECKS: &[Check] = &[
    check("rmsnorm-forward", forward),
    check("rmsnorm-backward", backward),
    check("rmsnorm-backward-gamma", backward_gamma),
    composed(
        "rmsnorm-layer-backward",
        layer_backward,
        &["rmsnorm-backward", "rmsnorm-backward-gamma"],
    ),
    composed("rmsnorm-orthogonal", orthogonal, &["rmsnorm-backward"])
        .inexact("it rests on (√a)² = a, and in the field (√a)² is a or −a"),
];

/// RMSNorm of rows of width N, with this ε.
struct Norm(f64);
impl Norm {
    fn r<T: Real>(&self, x: &[Vec<T>]) -> (Vec<T>, Vec<T>) {
        let (mut y, mut r) = (x[0].clone(), vec![T::ZERO; x[0].len() / N]);
        rmsnorm_forward(&mut y, &mut r, &x[0], &x[1], self.0);
        (y, r)
    }
}
impl Function for Norm {
    fn forward<T: Real>(&self, x: &[Vec<T>]) -> (Vec<T>, Vec<usize>) {
        (self.r(x).0, vec![])
    }
    fn backward<T: Real>(&self, x: &[Vec<T>], dy: &[T]) -> Vec<Vec<T>> {
        let (mut dx, r) = (x[0].clone(), self.r(x).1);
        let dgain = added(N, |d| {
            rmsnorm_backward(&mut dx, d, dy, &x[0], &x[1], &r);
        });
        vec![dx, dgain]
    }
}
/// A large ε, so that a forgotten one shows.
const EPS: f64 = 0.3;
fn x_and_gain() -> [(&'static str, Vec<f64>); 2] {
    let gain = random("gain", N).iter().map(|g| 1.0 + 0.2 * g).collect();
    [("x", scores()), ("gain", gain)]
}
fn forward() -> Report {
    let [(_, x), (_, gain)] = x_and_gain();
    let literal = |x: &[f64]| {
        let mean = sum(x.iter().map(|x| x * x)) / N as f64;
        let normed = |(x, g): (&f64, &f64)| g * x / (mean + EPS).sqrt();
        x.iter().zip(&gain).map(normed).collect()
    };
    let want = rows(&x, literal);
    let got = Norm(EPS).forward(&[x, gain.clone()]).0;
    let fast = report(parity(Isa::current(), &numbers(1), &fast_gain()));
    formula("γ·x / √(mean x² + ε)", &got, &want).and(fast)
}
fn backward() -> Report {
    let [fast, _] = fast_gradient();
    proof(&Norm(EPS), &x_and_gain()).only("x").and(fast)
}
fn backward_gamma() -> Report {
    let [_, fast] = fast_gradient();
    proof(&Norm(EPS), &x_and_gain()).only("gain").and(fast)
}
fn layer_backward() -> Report {
    let norm = |eps| move |b: Builder| RmsNorm::new(b, D, eps);
    layer(norm(1e-5), SHORT, D, 1)
        .and(layer(norm(0.3), LONG, D, 2).of("ε = 0.3"))
}
fn orthogonal() -> Report {
    let [x, gain] = x_and_gain().map(|i| i.1);
    let (dy, inputs) = (random("dy", 3 * N), [x.clone(), gain.clone()]);
    let (r, dx) = (Norm(EPS).r(&inputs).1, Norm(EPS).backward(&inputs, &dy));
    let row = |i: usize| i * N..(i + 1) * N;
    let got: Vec<f64> =
        (0..3).map(|i| dot(&x[row(i)], &dx[0][row(i)])).collect();
    let want = (0..3).map(|i| {
        let u = row(i).map(|j| gain[j % N] * dy[j] * x[j]);
        EPS * r[i].powi(3) * sum(u)
    });
    formula("⟨x, x̄⟩ = ε·r³·⟨u, x⟩", &got, &want.collect::<Vec<_>>())
}

/// What the model adds to the mean square. So r ≤ 1/√ε < 317, and what is lost
/// below 2⁻¹²⁶ comes to 400·2⁻¹⁴⁹ at most.
const FAST_EPS: f32 = 1e-5;
const LOST: f64 = 400.0 * ETA;

/// T5 of r of each row x: [n, d], and of y = γ·x·r.
pub fn parity(isa: Isa, x: &[f32], gain: &[f32]) -> [Pair; 2] {
    let (d, eps) = (gain.len(), FAST_EPS);
    let (mut y, mut r) = (vec![f32::NAN; x.len()], vec![0.0; x.len() / d]);
    let (mut want, mut r64) = (vec![0.0; x.len()], vec![0.0; r.len()]);
    let (to, too) = (&mut y, &mut r);
    isa.run(fast::RmsnormForward { y: to, r: too, x, gain, eps });
    let eps = f64::from(eps);
    rmsnorm_forward(&mut want, &mut r64, &wide(x), &wide(gain), eps);
    // ⟨x, x⟩: d + 1 roundings, none negative; then by d, plus ε: d + 3. The
    // root halves it; root and 1/root are rounded.
    let rho = 1.0 / (1.0 - gamma(d + 3)).sqrt();
    let rho = rho / ((1.0 - U) * (1.0 - U)) - 1.0;
    // x² below 2⁻¹⁴⁹ is lost beside ε
    let by_r: Vec<f64> = r64.iter().map(|r| r * (rho + ETA / eps)).collect();
    // γ·x and its product with r̂
    let rel = (1.0 + rho) * (1.0 + gamma(2)) - 1.0;
    let by_y: Vec<f64> = want.iter().map(|y| y.abs() * rel + LOST).collect();
    [
        Pair::new(isa, "rmsnorm, r", r, r64, |i| by_r[i]),
        Pair::new(isa, "rmsnorm", y, want, |i| by_y[i]),
    ]
}

/// T5 of RMSNorm, backward, from the r of each row in f32: by x, and by the
/// gain, where it is added to `dgain`.
pub fn parity_gradient(
    isa: Isa, dy: &[f32], x: &[f32], gain: &[f32], r: &[f32], dgain: &[f32],
) -> [Pair; 2] {
    let (n, d) = (r.len(), gain.len());
    let (mut dx, mut dg) = (vec![f32::NAN; n * d], dgain.to_vec());
    let (to, too) = (&mut dx, &mut dg);
    isa.run(fast::RmsnormBackward { dx: to, dgain: too, dy, x, gain, r });
    let (mut want, mut want_dg) = (vec![0.0; n * d], wide(dgain));
    let [dy, x, gain, r, dgain] = [dy, x, gain, r, dgain].map(wide);
    rmsnorm_backward(&mut want, &mut want_dg, &dy, &x, &gain, &r);
    let by_x = |at: usize| {
        let (i, j) = (at / d, at % d);
        let term = |k: usize| dy[i * d + k] * gain[k];
        let c = r[i] * r[i] / d as f64;
        let uxs = (0..d).map(|k| term(k) * x[i * d + k] * c);
        let (mean, size) =
            uxs.fold((0.0, 0.0), |(m, s), t| (m + t, s + t.abs()));
        // u = dy·γ is rounded and summed with x, d + 2; then by r, r and d:
        // d + 5. u and x·mean reach dx by three more.
        let off = gamma(d + 5) * size;
        let parts = x[at].abs() * mean.abs() + term(j).abs();
        let lost = x[at].abs() * off * (1.0 + gamma(3));
        r[i] * (gamma(3) * parts + lost) + LOST
    };
    let by_gain = |j: usize| {
        // dy·x·r: two roundings and n sums
        let terms = (0..n).map(|i| (dy[i * d + j] * x[i * d + j] * r[i]).abs());
        let size = terms.sum::<f64>() + dgain[j].abs();
        gamma(n + 2) * size + n as f64 * LOST
    };
    [
        Pair::new(isa, "rmsnorm, backward", dx, want, by_x),
        Pair::new(isa, "rmsnorm, backward, gain", dg, want_dg, by_gain),
    ]
}
fn fast_gain() -> Vec<f32> {
    normals(LENGTH, 0.3, 9).iter().map(|g| 1.0 + g).collect()
}
/// By x and by the gain.
fn fast_gradient() -> [Report; 2] {
    let (isa, x, gain) = (Isa::current(), numbers(1), fast_gain());
    let [r, _] = parity(isa, &x, &gain);
    let dgain = normals(LENGTH, 0.1, 4);
    parity_gradient(isa, &numbers(2), &x, &gain, &r.got, &dgain)
        .map(|pair| report([pair]))
}
