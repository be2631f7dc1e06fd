//! Chapter: router. What turns the scores of the experts into the numbers by
//! which they are chosen and weighed.

use crate::kernel::softmax::{softmax_backward, softmax_forward};
use crate::nn::balance::z_loss_backward;
use crate::real::Real;

/// A map of the scores z of one row to the numbers p by which a
/// [`Router`](crate::nn::router::Router) chooses and weighs its experts.
pub trait Score: Send + Sync {
    /// Replaces the scores z by p; returns the number ℓ whose square the
    /// z-loss sums, or 0 if there is none.  z: [e]
    fn forward<T: Real>(&self, z: &mut [T]) -> T;
    /// Replaces the gradient d of p by that of z; `dsquares` is the gradient
    /// of the sum of all ℓ².  d, p: [e]
    fn backward<T: Real>(&self, d: &mut [T], p: &[T], l: T, dsquares: T);
}

/// p = softmax(z), ℓ = ln Σ e^z: Mixtral's.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Softmax;
impl Score for Softmax {
    fn forward<T: Real>(&self, z: &mut [T]) -> T {
        softmax_forward(z)
    }
    fn backward<T: Real>(&self, d: &mut [T], p: &[T], l: T, dsquares: T) {
        // p = softmax(z)
        softmax_backward(d, p);
        // squares = Σ_t lse(z)²
        z_loss_backward(d, dsquares, l, p);
    }
}
