//! Chapter: softmax. Proofs of log-sum-exp and softmax. Causal softmax is
//! proven with attention.

use super::parity::{ETA, EXP, FLUSH, Pair, U, gamma, numbers, report, wide};
use super::tools::{
    Check, N, added, check, composed, fact, formula, proof, random, rows,
    scores, sum, worst,
};
use crate::gradcheck::{Function, Report};
use crate::kernel::fast;
use crate::kernel::simd::Isa;
use crate::kernel::softmax as soft;
use crate::real::Real;

pub(super) const CHECKS: &[Check] = &[
    check("lse-forward", lse_forward),
    check("lse-backward", lse_backward),
    check("softmax-forward", forward),
    composed("softmax-backward", backward, &["softmax-forward"]),
];

struct Lse;
impl Function for Lse {
    fn forward<T: Real>(&self, x: &[Vec<T>]) -> (Vec<T>, Vec<usize>) {
        (x[0].chunks(N).map(soft::lse_forward).collect(), vec![])
    }
    fn backward<T: Real>(&self, x: &[Vec<T>], dy: &[T]) -> Vec<Vec<T>> {
        vec![added(x[0].len(), |dz| {
            for (i, z) in x[0].chunks(N).enumerate() {
                let to = &mut dz[i * N..(i + 1) * N];
                soft::lse_backward(to, dy[i], z, soft::lse_forward(z));
            }
        })]
    }
}
fn lse_forward() -> Report {
    let want = |z: &[f64]| vec![sum(z.iter().map(|z| z.exp())).ln()];
    let (got, _) = Lse.forward(&[scores()]);
    let infinite = f64::NEG_INFINITY;
    formula("ln Σ exp z", &got, &rows(&scores(), want))
        .and(formula(
            "large scores",
            &[soft::lse_forward(&[1e4, 1e4]), soft::lse_forward(&[-1e4, -1e5])],
            &[1e4 + 2f64.ln(), -1e4],
        ))
        .and(fact("of −∞ alone", soft::lse_forward(&[infinite; 2]) == infinite))
}
fn lse_backward() -> Report {
    proof(&Lse, &[("z", scores())])
}
struct Softmax;
impl Function for Softmax {
    fn forward<T: Real>(&self, x: &[Vec<T>]) -> (Vec<T>, Vec<usize>) {
        let mut p = x[0].clone();
        for p in p.chunks_mut(N) {
            soft::softmax_forward(p);
        }
        (p, vec![])
    }
    fn backward<T: Real>(&self, x: &[Vec<T>], dy: &[T]) -> Vec<Vec<T>> {
        let (p, mut d) = (self.forward(x).0, dy.to_vec());
        for (d, p) in d.chunks_mut(N).zip(p.chunks(N)) {
            soft::softmax_backward(d, p);
        }
        vec![d]
    }
}
fn forward() -> Report {
    let literal = |z: &[f64]| {
        let s = sum(z.iter().map(|z| z.exp()));
        z.iter().map(|z| z.exp() / s).collect()
    };
    let shifted = scores().iter().map(|z| z + 800.0).collect();
    let softmax = |z: Vec<f64>| Softmax.forward(&[z]).0;
    let p = softmax(scores());
    let mut edge = [f64::NEG_INFINITY, 0.0, 1e5];
    let lse = soft::softmax_forward(&mut edge);
    let mut none = [f64::NEG_INFINITY; 3];
    soft::softmax_forward(&mut none);
    formula("exp z / Σ exp z", &p, &rows(&scores(), literal))
        .and(formula("softmax(z + c) = softmax(z)", &softmax(shifted), &p))
        .and(formula("scores of −∞ and 10⁵", &edge, &[0.0, 0.0, 1.0]))
        .and(formula("returns the log-sum-exp", &[lse], &[1e5]))
        .and(fact("of −∞ alone: 0", none == [0.0; 3]))
        .and(report(parity(Isa::current(), &numbers(1))))
}
fn backward() -> Report {
    let dy = random("dp", 3 * N);
    let d = &Softmax.backward(&[scores()], &dy)[0];
    let sums = d.chunks(N).map(|d| sum(d.iter().copied()));
    proof(&Softmax, &[("z", scores())]).with("Σ z̄ = 0", worst(sums), 1e-12)
}

/// e^{x̂} by `fast::exp` with |x̂ − x| ≤ slip: a bound of its distance from eˣ.
///
/// e^{x̂} is off by a factor e^{slip}, the kernel's result by 1 + 2⁻²²; where
/// little is left of it, the result is 0, and eˣ below 2⁻¹²⁵.
pub(super) fn exp_bound(x: f64, slip: f64) -> f64 {
    if x < -90.0 && x + slip < -87.0 {
        return FLUSH;
    }
    x.exp() * ((1.0 + EXP) * slip.exp() - 1.0) + FLUSH
}

/// The bounds of softmax of one row of scores c·z; its log-sum-exp, and the
/// bound of that.
pub(super) struct Row {
    pub(super) p: Vec<f64>,
    pub(super) lse: [f64; 2],
}
pub(super) fn softmax_bounds(z: &[f32], c: f32) -> Row {
    let c = c as f64;
    let m = z.iter().fold(f32::NEG_INFINITY, |m, &z| m.max(z)) as f64;
    if m == f64::NEG_INFINITY {
        return Row { p: vec![0.0; z.len()], lse: [m, 0.0] };
    }
    // z − m and c times it are rounded: x̂ = x·(1 + δ)(1 + δ′).
    let x = |z: f32| c * (z as f64 - m);
    let slip = |x: f64| if x.is_finite() { gamma(2) * -x } else { 0.0 };
    let e: Vec<[f64; 2]> =
        z.iter().map(|&z| [x(z).exp(), exp_bound(x(z), slip(x(z)))]).collect();
    // The sum: each term's own error, and n roundings of what is summed.
    let n = z.len();
    let sum: f64 = e.iter().map(|e| e[0]).sum();
    let each: f64 = e.iter().map(|e| e[1]).sum();
    let off = each + gamma(n) * (sum + each);
    let (low, high) = (sum - off, sum + off);
    // p̂ = fl(ê·fl(1/ŝ)): two roundings, and the smallest number if it is
    // below what a number can be.
    let p = e.iter().map(|&[e, off]| {
        let p = e / sum;
        let most = (e + off) / low * (1.0 + gamma(2)) - p;
        let least = p - (e - off) / high * (1.0 - gamma(2));
        most.max(least) + ETA
    });
    // ℓ = fl(fl(c·m) + ln ŝ): the sum's error, relative; ln within one unit in
    // the last place, 2u; the product and the sum.
    let (relative, ln) = (-(1.0 - off / sum).ln(), sum.ln());
    let parts = U * (c * m).abs() + relative + 2.0 * U * (ln + relative);
    let lse = c * m + ln;
    let off = parts + U * (lse.abs() + parts);
    Row { p: p.collect(), lse: [lse, off] }
}

/// T5 of softmax of one row and its log-sum-exp.
pub fn parity(isa: Isa, z: &[f32]) -> [Pair; 2] {
    let (row, mut p) = (softmax_bounds(z, 1.0), z.to_vec());
    let mut want = wide(z);
    let want_lse = soft::softmax_forward(&mut want);
    let lse = isa.run(fast::SoftmaxForward { z: &mut p });
    [
        Pair::new(isa, "softmax", p, want, |i| row.p[i]),
        Pair::new(isa, "lse", vec![lse], vec![want_lse], |_| row.lse[1]),
    ]
}
