//! Chapter: cross-entropy. Proofs of the cross-entropy.

use super::parity::{ETA, Pair, ROWS, U, gamma, numbers, report, wide};
use super::softmax::{exp_bound, softmax_bounds};
use super::tools::{Check, N, check, formula, proof, rows, scores, sum, worst};
use crate::gradcheck::{Function, Report};
use crate::kernel::fast;
use crate::kernel::simd::Isa;
use crate::kernel::softmax::softmax_forward;
use crate::nn::loss;
use crate::real::Real;

pub(super) const CHECKS: &[Check] = &[
    check("cross-entropy", forward),
    check("cross-entropy-grad", backward),
    check("perplexity", perplexity),
];

struct CrossEntropy;
const TARGETS: [usize; 3] = [4, 0, 4];
impl Function for CrossEntropy {
    fn forward<T: Real>(&self, x: &[Vec<T>]) -> (Vec<T>, Vec<usize>) {
        let mut lse = [T::ZERO; 3];
        let sum = loss::cross_entropy_forward(&mut lse, &x[0], &TARGETS);
        (vec![sum], vec![])
    }
    fn backward<T: Real>(&self, x: &[Vec<T>], dy: &[T]) -> Vec<Vec<T>> {
        let (z, mut dz) = (&x[0], x[0].clone());
        let mut lse = [T::ZERO; 3];
        loss::cross_entropy_forward(&mut lse, z, &TARGETS);
        loss::cross_entropy_backward(&mut dz, z, &lse, &TARGETS, dy[0]);
        vec![dz]
    }
}
fn forward() -> Report {
    let p = rows(&scores(), |z| {
        let mut p = z.to_vec();
        softmax_forward(&mut p);
        p
    });
    let want = -sum((0..3).map(|t| p[t * N + TARGETS[t]].ln()));
    let got = CrossEntropy.forward(&[scores()]).0;
    let fast = parity(Isa::current(), &numbers(1), &FAST_TARGETS);
    formula("−Σ ln softmax(z)[y]", &got, &[want]).and(report(fast))
}
fn backward() -> Report {
    let dz = &CrossEntropy.backward(&[scores()], &[0.7])[0];
    let sums = dz.chunks(N).map(|d| sum(d.iter().copied()));
    let (isa, z) = (Isa::current(), numbers(1));
    let [lse, _] = parity(isa, &z, &FAST_TARGETS);
    let fast = parity_gradient(isa, &z, &lse.got, &FAST_TARGETS, 0.7);
    proof(&CrossEntropy, &[("z", scores())])
        .with("Σ z̄ = 0", worst(sums), 1e-12)
        .and(report([fast]))
}
fn perplexity() -> Report {
    let p: [f64; 3] = [0.5, 0.25, 0.125];
    let nats = -p.iter().map(|p| p.ln()).sum::<f64>() / 3.0;
    let want = (p.iter().product::<f64>()).powf(-1.0 / 3.0);
    formula("inverse geometric mean", &[loss::perplexity(nats)], &[want])
}

const FAST_TARGETS: [usize; ROWS] = [0, 77, 164];

/// T5 of the log-sum-exp of each row z: [n, v], and of the cross-entropy
/// summed.
pub fn parity(isa: Isa, z: &[f32], target: &[usize]) -> [Pair; 2] {
    let n = target.len();
    let v = z.len() / n;
    let (mut lse, mut lse64) = (vec![0.0; n], vec![0.0; n]);
    let kernel = fast::CrossEntropyForward { lse: &mut lse, z, target, v };
    let (ce, z64) = (isa.run(kernel), wide(z));
    let want = loss::cross_entropy_forward(&mut lse64, &z64, target);
    // Each ℓ by its own bound; ℓ − z is rounded, and so are the n sums.
    let (mut off, mut size, mut bounds) = (0.0, 0.0, vec![]);
    for (i, z) in z.chunks(v).enumerate() {
        let [lse, bound] = softmax_bounds(z, 1.0).lse;
        bounds.push(bound);
        let term = (lse - f64::from(z[target[i]])).abs();
        let each = bound + U * (term + bound);
        (off, size) = (off + each, size + term + each);
    }
    [
        Pair::new(isa, "lse", lse, lse64, |i| bounds[i]),
        Pair::new(isa, "cross-entropy", vec![ce], vec![want], |_| {
            off + gamma(n) * size
        }),
    ]
}

/// T5 of cross-entropy, backward, from the log-sum-exp of each row in f32.
pub fn parity_gradient(
    isa: Isa, z: &[f32], lse: &[f32], target: &[usize], dsum: f32,
) -> Pair {
    let v = z.len() / target.len();
    let (mut got, mut want) = (vec![f32::NAN; z.len()], vec![0.0; z.len()]);
    let dz = &mut got;
    isa.run(fast::CrossEntropyBackward { dz, z, lse, target, dsum });
    let (z, lse, c) = (wide(z), wide(lse), f64::from(dsum));
    loss::cross_entropy_backward(&mut want, &z, &lse, target, c);
    let size = want.clone();
    Pair::new(isa, "cross-entropy, backward", got, want, |at| {
        let x = z[at] - lse[at / v];
        let slip = if x.is_finite() { U * x.abs() } else { 0.0 };
        let (p, off) = (x.exp(), exp_bound(x, slip));
        // times dsum, and at the target less dsum: one rounding each
        let bound = c * (off + U * (p + off)) + ETA;
        let target = at % v == target[at / v];
        bound + if target { U * (size[at].abs() + bound) } else { 0.0 }
    })
}
