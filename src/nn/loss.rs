//! Chapter: cross-entropy. Losses of the logits.

use crate::kernel::fast::twin;
use crate::kernel::softmax::lse_forward;
use crate::real::Real;

/// Sets lse; returns the cross-entropy in nats, summed over the rows. It is Σₜ
/// (ℓₜ − zₜ,ᵧ).  z: [n, v]  lse, target: [n]
///
/// L = −Σₜ ln softmax(zₜ)ᵧ with ℓ the log-sum-exp; the mean is left to the
/// caller, who knows how many rows the whole batch has.
///
/// # Panics
/// If a target is not below v, or the lengths do not fit.
///
/// ```
/// use moe_by_hand::nn::loss::cross_entropy_forward;
/// let mut lse = [f64::NAN];
/// let loss = cross_entropy_forward(&mut lse, &[2.0, 1.0, 0.0], &[0]);
/// approx::assert_abs_diff_eq!(loss, 0.407606, epsilon = 5e-7);
/// ```
#[track_caller]
pub fn cross_entropy_forward<T: Real>(
    lse: &mut [T], z: &[T], target: &[usize],
) -> T {
    let v = classes(lse, z, target);
    twin!(return fast::CrossEntropyForward { lse, z, target, v } as T);
    let mut sum = T::ZERO;
    for ((lse, z), &t) in lse.iter_mut().zip(z.chunks_exact(v)).zip(target) {
        *lse = lse_forward(z);
        sum += *lse - z[t]; // eq: cross-entropy
    }
    sum
}
/// Sets dz, given the gradient of the sum.  dz, z: [n, v]  lse, target: [n]
///
/// z̄ₜ = (softmax(zₜ) − eᵧ)·dsum; for a mean over N rows dsum is 1/N.
///
/// # Panics
/// If a target is not below v, or the lengths do not fit.
///
/// ```
/// use moe_by_hand::nn::loss::{cross_entropy_backward, cross_entropy_forward};
/// let (z, mut lse, mut dz) = ([2.0, 1.0, 0.0], [f64::NAN], [f64::NAN; 3]);
/// cross_entropy_forward(&mut lse, &z, &[0]);
/// cross_entropy_backward(&mut dz, &z, &lse, &[0], 1.0);
/// for (dz, want) in dz.iter().zip([-0.334759, 0.244728, 0.090031]) {
///     approx::assert_abs_diff_eq!(*dz, want, epsilon = 1e-6);
/// }
/// ```
#[track_caller]
pub fn cross_entropy_backward<T: Real>(
    dz: &mut [T], z: &[T], lse: &[T], target: &[usize], dsum: T,
) {
    let v = classes(lse, z, target);
    assert_eq!(dz.len(), z.len(), "cross_entropy_backward: dz against z");
    twin!(return fast::CrossEntropyBackward { dz, z, lse, target, dsum });
    let rows = dz.chunks_exact_mut(v).zip(z.chunks_exact(v));
    for (((dz, z), &lse), &t) in rows.zip(lse).zip(target) {
        // sum += lse(z) − z[t]
        for (dz, &z) in dz.iter_mut().zip(z) {
            *dz = (z - lse).exp() * dsum;
        }
        dz[t] += -dsum; // eq: cross-entropy-grad
    }
}
#[track_caller]
fn classes<T>(lse: &[T], z: &[T], target: &[usize]) -> usize {
    let n = target.len();
    assert_eq!(lse.len(), n, "cross-entropy: lse against target");
    let v = z.len() / n.max(1);
    assert_eq!(v * n, z.len(), "cross-entropy: z in {n} rows");
    v.max(1)
}

/// A loss of the logits, summed over the rows.
///
/// A model's pass takes it as a parameter. What it needs again in backward is
/// one number for each row.
pub trait Loss: Send + Sync {
    /// Sets `kept`; returns the loss, summed over the rows.
    /// z: [n, v]  kept, target: [n]
    fn forward<T: Real>(&self, kept: &mut [T], z: &[T], target: &[usize]) -> T;
    /// Sets dz, given the gradient of the sum.
    /// dz, z: [n, v]  kept, target: [n]
    fn backward<T: Real>(
        &self, dz: &mut [T], z: &[T], kept: &[T], target: &[usize], dsum: T,
    );
}
/// [`cross_entropy_forward`] and its backward; keeps the log-sum-exp.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CrossEntropy;
impl Loss for CrossEntropy {
    #[track_caller]
    fn forward<T: Real>(&self, lse: &mut [T], z: &[T], target: &[usize]) -> T {
        cross_entropy_forward(lse, z, target)
    }
    #[track_caller]
    fn backward<T: Real>(
        &self, dz: &mut [T], z: &[T], lse: &[T], target: &[usize], dsum: T,
    ) {
        cross_entropy_backward(dz, z, lse, target, dsum);
    }
}

/// The perplexity: a model with cross-entropy L nats is as unsure as a fair
/// choice among that many tokens. It is e^L.
///
/// ```
/// use moe_by_hand::nn::loss::perplexity;
/// approx::assert_abs_diff_eq!(
///     perplexity(1000f64.ln()), 1000.0, epsilon = 1e-11);
/// ```
pub fn perplexity(nats: f64) -> f64 {
    libm::exp(nats) // eq: perplexity
}
