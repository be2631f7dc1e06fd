//! Chapter: router. A row divided by the sum of its absolute values.

use crate::kernel::vector::dot;
use crate::real::Real;

/// 1, −1, or 0 at 0: |x| has no slope there, and 0 lies between both.
fn sign<T: Real>(x: T) -> T {
    if x > T::ZERO {
        T::ONE
    } else if x < T::ZERO {
        -T::ONE
    } else {
        T::ZERO
    }
}
/// Σ |xᵢ|.
fn size<T: Real>(x: &[T]) -> T {
    x.iter().map(|&x| sign(x) * x).sum()
}

/// Sets y = x / Σ |xᵢ|, for one row; a row of zeros stays one.  x, y: [d]
///
/// # Panics
/// If the lengths differ.
///
/// ```
/// use moe_by_hand::kernel::l1::l1_normalize_forward;
/// let mut y = [f64::NAN; 3];
/// l1_normalize_forward(&mut y, &[1.0, -2.0, 1.0]);
/// assert_eq!(y, [0.25, -0.5, 0.25]);
/// l1_normalize_forward(&mut y, &[0.0; 3]);
/// assert_eq!(y, [0.0; 3]);
/// ```
#[track_caller]
pub fn l1_normalize_forward<T: Real>(y: &mut [T], x: &[T]) {
    assert_eq!(x.len(), y.len(), "l1_normalize: x against y");
    let s = size(x);
    if s == T::ZERO {
        y.fill(T::ZERO);
        return;
    }
    for (y, &x) in y.iter_mut().zip(x) {
        *y = x / s; // eq: l1-normalize
    }
}
/// Sets dx, for one row.  dx, dy, x, y: [d]
///
/// x̄ᵢ = (ȳᵢ − sign(xᵢ)·⟨y, ȳ⟩) / S, S = Σ |xⱼ|. The sign of 0 is 0. At a row
/// of zeros y has no derivative, and x̄ is 0.
///
/// # Panics
/// If the lengths differ.
///
/// ```
/// use moe_by_hand::kernel::l1::l1_normalize_backward;
/// let (x, y) = ([1.0, -2.0, 1.0], [0.25, -0.5, 0.25]);
/// let mut dx = [f64::NAN; 3];
/// l1_normalize_backward(&mut dx, &[1.0, 0.0, 0.0], &x, &y);
/// assert_eq!(dx, [0.1875, 0.0625, -0.0625]); // ⟨x, x̄⟩ = 0
/// ```
#[track_caller]
pub fn l1_normalize_backward<T: Real>(
    dx: &mut [T], dy: &[T], x: &[T], y: &[T],
) {
    let n = dx.len();
    assert_eq!([dy.len(), x.len(), y.len()], [n; 3], "l1_normalize_backward");
    // y = x / s, s = Σ |x|: each x also moves the sum
    let (s, along) = (size(x), dot(y, dy));
    if s == T::ZERO {
        dx.fill(T::ZERO);
        return;
    }
    for ((dx, &dy), &x) in dx.iter_mut().zip(dy).zip(x) {
        *dx = (dy - sign(x) * along) / s; // eq: l1-normalize-backward
    }
}
