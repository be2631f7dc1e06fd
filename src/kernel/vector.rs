//! Chapter: tensors. Sums and products of vectors.

use crate::kernel::fast::twin;
use crate::kernel::wide::{change, in_wide, rows, set};
use crate::real::Real;

/// How many elements of θ are summed together before their sum is added to
/// the others: few enough to lie in a first-level cache. One running f32 sum
/// of squares would be off by more than one percent at ten million normal
/// numbers.
pub const CHUNK: usize = 4096;

/// ⟨a, b⟩ = Σ aᵢbᵢ.
///
/// # Panics
/// If the lengths differ.
///
/// ```
/// use moe_by_hand::kernel::vector::dot;
/// assert_eq!(dot(&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0]), 32.0);
/// ```
#[track_caller]
pub fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    assert_eq!(a.len(), b.len(), "dot: lengths of a and b");
    a.iter().zip(b).map(|(&a, &b)| a * b).sum()
}

/// Sets y = a + b.
///
/// Its backward needs no code: ā = b̄ = ȳ, a sum copies its gradient.
///
/// # Panics
/// If the lengths differ.
///
/// ```
/// use moe_by_hand::kernel::vector::add;
/// let mut y = [0.0; 2];
/// add(&mut y, &[1.0, 2.0], &[10.0, 20.0]);
/// assert_eq!(y, [11.0, 22.0]);
/// ```
#[track_caller]
pub fn add<T: Real>(y: &mut [T], a: &[T], b: &[T]) {
    assert_eq!([a.len(), b.len()], [y.len(); 2], "add: a, b against y");
    if T::STORED {
        let (n, all) = (y.len(), [rows(a, 1), rows(b, 1)]);
        return in_wide(n, [set(y, 1)], all, |_, [y], [a, b]| add(y, a, b));
    }
    for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
        *y = a + b;
    }
}

/// Adds c·x to y.
///
/// # Panics
/// If the lengths differ.
///
/// ```
/// use moe_by_hand::kernel::vector::axpy;
/// let mut y = [1.0, 1.0];
/// axpy(&mut y, 2.0, &[3.0, 4.0]);
/// assert_eq!(y, [7.0, 9.0]);
/// ```
#[track_caller]
pub fn axpy<T: Real>(y: &mut [T], c: T, x: &[T]) {
    assert_eq!(x.len(), y.len(), "axpy: x against y");
    if T::STORED {
        let (n, c, x) = (y.len(), c.wide(), [rows(x, 1)]);
        return in_wide(n, [change(y, 1)], x, |_, [y], [x]| axpy(y, c, x));
    }
    for (y, &x) in y.iter_mut().zip(x) {
        *y += c * x;
    }
}

/// Adds x to y: the gradient of a value that was used twice.
///
/// # Panics
/// If the lengths differ.
///
/// ```
/// use moe_by_hand::kernel::vector::add_to;
/// let mut y = [1.0, 1.0];
/// add_to(&mut y, &[3.0, 4.0]);
/// assert_eq!(y, [4.0, 5.0]);
/// ```
#[track_caller]
pub fn add_to<T: Real>(y: &mut [T], x: &[T]) {
    assert_eq!(x.len(), y.len(), "add_to: x against y");
    if T::STORED {
        let (n, x) = (y.len(), [rows(x, 1)]);
        return in_wide(n, [change(y, 1)], x, |_, [y], [x]| add_to(y, x));
    }
    for (y, &x) in y.iter_mut().zip(x) {
        *y += x;
    }
}

/// Σ xᵢ², summed chunk by chunk.
///
/// ```
/// use moe_by_hand::kernel::vector::sum_of_squares;
/// assert_eq!(sum_of_squares(&[3.0, 4.0]), 25.0);
/// // A million times 0.1² in f32: one running sum would end at 9865.2.
/// let sum = sum_of_squares(&vec![0.1f32; 1_000_000]);
/// assert!((sum - 1e4).abs() < 0.5, "{sum}");
/// ```
pub fn sum_of_squares<T: Real>(x: &[T]) -> T {
    x.chunks(CHUNK).map(squares).sum()
}
/// Σ xᵢ² of one chunk.
fn squares<T: Real>(x: &[T]) -> T {
    twin!(return fast::SumOfSquares { x } as T);
    dot(x, x)
}
