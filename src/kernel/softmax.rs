//! Chapter: softmax. Softmax and log-sum-exp of one row.

use crate::kernel::fast::twin;
use crate::kernel::vector::dot;
use crate::kernel::wide::{change, in_wide, rows};
use crate::real::Real;

/// The largest of z; −∞ where there is none; NaN where there is one.
fn max<T: Real>(z: &[T]) -> T {
    let larger = |m: T, &z: &T| if z > m || is_nan(z) { z } else { m };
    z.iter().fold(T::of(f64::NEG_INFINITY), larger)
}
/// Whether z is the one value that is not equal to itself.
#[expect(clippy::eq_op, reason = "what NaN is, without asking for an f64")]
fn is_nan<T: Real>(z: T) -> bool {
    z != z
}

/// The log-sum-exp of z: [n]. ℓ = ln Σⱼ e^{zⱼ}.
///
/// Computed as m + ln Σⱼ e^{zⱼ−m} with m = maxⱼ zⱼ, so that nothing
/// overflows. With no numbers, or with −∞ alone, it is −∞.
/// Source: Blanchard, Higham & Higham 2021, eq. 1.3.
///
/// ```
/// use moe_by_hand::kernel::softmax::lse_forward;
/// approx::assert_abs_diff_eq!(
///     lse_forward(&[1.0, 2.0, 3.0]), 3.4076060, epsilon = 5e-8);
/// assert_eq!(lse_forward(&[1000.0, 1000.0]), 1000.0 + 2f64.ln());
/// ```
pub fn lse_forward<T: Real>(z: &[T]) -> T {
    let m = max(z);
    if m == T::of(f64::NEG_INFINITY) {
        return m; // −∞ − (−∞) would be NaN
    }
    // eq: lse-forward
    m + z.iter().map(|&z| (z - m).exp()).sum::<T>().ln()
}
/// Adds to dz: [n] the gradient of ℓ = [`lse_forward`] (z).
///
/// z̄ = ℓ̄·softmax(z).
///
/// # Panics
/// If the lengths differ.
///
/// ```
/// use moe_by_hand::kernel::softmax::{lse_backward, lse_forward};
/// let (z, mut dz) = ([1.0, 2.0, 3.0], [0.0; 3]);
/// lse_backward(&mut dz, 2.0, &z, lse_forward(&z));
/// approx::assert_abs_diff_eq!(dz[2], 2.0 * 0.6652410, epsilon = 1e-7);
/// ```
#[track_caller]
pub fn lse_backward<T: Real>(dz: &mut [T], dlse: T, z: &[T], lse: T) {
    assert_eq!(dz.len(), z.len(), "lse_backward: dz against z");
    for (dz, &z) in dz.iter_mut().zip(z) {
        // l = ln Σ exp(z)
        *dz += dlse * (z - lse).exp(); // eq: lse-backward
    }
}

/// Replaces scores z: [n] by p = softmax(z); returns ℓ = ln Σ e^{z}.
///
/// pᵢ = e^{zᵢ−m} / Σⱼ e^{zⱼ−m}, m = maxⱼ zⱼ. A score of −∞ has p = 0; where
/// all are −∞ there is nothing to choose from, and p is 0 everywhere.
/// Source: Bridle 1990.
///
/// ```
/// use moe_by_hand::kernel::softmax::softmax_forward;
/// let mut z = [1.0, 2.0, 3.0];
/// let lse = softmax_forward(&mut z);
/// approx::assert_abs_diff_eq!(lse, 3.4076060, epsilon = 5e-8);
/// for (p, want) in z.iter().zip([0.0900306, 0.2447285, 0.6652410]) {
///     approx::assert_abs_diff_eq!(*p, want, epsilon = 5e-8);
/// }
/// ```
pub fn softmax_forward<T: Real>(z: &mut [T]) -> T {
    twin!(return fast::SoftmaxForward { z } as T);
    let m = max(z);
    if m == T::of(f64::NEG_INFINITY) {
        z.fill(T::ZERO);
        return m;
    }
    let mut sum = T::ZERO;
    for z in z.iter_mut() {
        *z = (*z - m).exp();
        sum += *z;
    }
    for p in z.iter_mut() {
        *p /= sum; // eq: softmax-forward
    }
    m + sum.ln()
}
/// Replaces the gradient of p = softmax(z) by that of the scores z: [n].
///
/// z̄ = p ⊙ (p̄ − ⟨p̄, p⟩·1). The Jacobian diag(p) − ppᵀ is never built.
///
/// # Panics
/// If the lengths differ.
///
/// ```
/// use moe_by_hand::kernel::softmax::softmax_backward;
/// let mut d = [1.0, 0.0, -1.0];
/// softmax_backward(&mut d, &[0.0900306, 0.2447285, 0.6652410]);
/// for (d, want) in d.iter().zip([0.141817, 0.140770, -0.282587]) {
///     approx::assert_abs_diff_eq!(*d, want, epsilon = 1e-6);
/// }
/// ```
#[track_caller]
pub fn softmax_backward<T: Real>(d: &mut [T], p: &[T]) {
    let s = dot(d, p);
    for (d, &p) in d.iter_mut().zip(p) {
        // p = exp(z) / Σ exp(z): each score also moves the sum
        *d = p * (*d - s); // eq: softmax-backward
    }
}

/// Replaces scores z: [t·g, s] by P: row by row the softmax of `scale` times
/// the scores, over the keys that are not later than the query, and 0 for the
/// others.
///
/// The g = `group` heads of one query are neighboring rows, s = `keys`, and
/// the first query is at position `first`: it sees the keys 0 to `first`.
///
/// # Panics
/// If z is not made of whole rows of whole groups, or a query is at a position
/// where there is no key.
///
/// ```
/// use moe_by_hand::kernel::softmax::causal_softmax_forward;
/// let mut z = [0.0, 9.0, 2f64.ln(), 0.0];
/// causal_softmax_forward(&mut z, 2, 0, 1, 2.0);
/// assert_eq!(z[..2], [1.0, 0.0]);
/// approx::assert_abs_diff_eq!(z[2], 0.8, epsilon = 1e-15);
/// ```
#[track_caller]
pub fn causal_softmax_forward<T: Real>(
    z: &mut [T], keys: usize, first: usize, group: usize, scale: f64,
) {
    let queries = z.len() / keys / group;
    let whole = queries * keys * group;
    assert_eq!(whole, z.len(), "causal_softmax: rows of {keys}, of {group}");
    let fits = queries <= keys && first <= keys - queries;
    assert!(
        fits,
        "causal_softmax: {queries} queries from {first}, {keys} keys"
    );
    if T::STORED {
        for (row, z) in z.chunks_exact_mut(keys).enumerate() {
            // alone, a row is the last query of the keys that it sees
            let n = first + row / group + 1;
            let (past, future) = z.split_at_mut(n);
            in_wide(1, [change(past, n)], [], |_, [z], []| {
                causal_softmax_forward(z, n, n - 1, 1, scale);
            });
            future.fill(T::ZERO);
        }
        return;
    }
    twin!(return fast::CausalSoftmaxForward { z, keys, first, group, scale });
    for (row, z) in z.chunks_exact_mut(keys).enumerate() {
        let seen = first + row / group + 1;
        let (past, future) = z.split_at_mut(seen);
        past.iter_mut().for_each(|z| *z *= T::of(scale));
        softmax_forward(past);
        future.fill(T::ZERO); // eq: causal-mask
    }
}
/// Replaces the gradient d of P = [`causal_softmax_forward`] (z) by that of z.
/// d, p: [t·g, s]
///
/// z̄ = c·p ⊙ (p̄ − ⟨p̄, p⟩·1), row by row, c = `scale`. Where the mask is,
/// p = 0, hence z̄ = 0 with no special case.
///
/// # Panics
/// If the lengths differ.
///
/// ```
/// use moe_by_hand::kernel::softmax::causal_softmax_backward;
/// let mut d = [3.0, 9.0, 1.0, 0.0];
/// causal_softmax_backward(&mut d, &[1.0, 0.0, 0.75, 0.25], 2, 2.0);
/// assert_eq!(d, [0.0, 0.0, 0.375, -0.375]);
/// ```
#[track_caller]
pub fn causal_softmax_backward<T: Real>(
    d: &mut [T], p: &[T], keys: usize, scale: f64,
) {
    assert_eq!(d.len(), p.len(), "causal_softmax_backward: d against p");
    if T::STORED {
        let (n, outs) = (d.len() / keys, [change(d, keys)]);
        return in_wide(n, outs, [rows(p, keys)], |_, [d], [p]| {
            causal_softmax_backward(d, p, keys, scale);
        });
    }
    twin!(return fast::CausalSoftmaxBackward { d, p, keys, scale });
    for (d, p) in d.chunks_exact_mut(keys).zip(p.chunks_exact(keys)) {
        // p = softmax(c·z), on the keys that are not later
        softmax_backward(d, p);
        // eq: causal-softmax-backward
        d.iter_mut().for_each(|d| *d *= T::of(scale));
    }
}
