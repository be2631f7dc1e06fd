//! Chapter: rope. Rotary positions: neighbors turn by an angle that grows with
//! the position.

use crate::kernel::simd::Buffer;
use crate::kernel::wide::{change, in_wide};
use crate::real::Real;

/// The base at which the slowest of d/2 pairs turns α times slower, and the
/// fastest as before. b′ = b·α^{d/(d−2)}.
///
/// `d` is the head size. Source: NTK-aware scaling, 2023.
///
/// ```
/// use moe_by_hand::nn::rope::ntk_base;
/// approx::assert_relative_eq!(ntk_base(1e4, 8.0, 4), 640_000.0);
/// approx::assert_abs_diff_eq!(
///     ntk_base(1e4, 8.0, 16), 107_672.015, epsilon = 1e-3);
/// ```
pub fn ntk_base(b: f64, alpha: f64, d: usize) -> f64 {
    let d = d as f64;
    b * libm::pow(alpha, d / (d - 2.0)) // eq: rope-ntk-base
}

/// cos and sin of every position and pair; in f64, rounded where it is used.
#[derive(Clone, Debug)]
pub struct Rope {
    /// [time, head/2]
    cos: Buffer<f64>,
    /// [time, head/2]
    sin: Buffer<f64>,
    /// Columns of one head.
    pub head: usize,
}
impl Rope {
    /// The angles of the positions below `time`. They are m·ωᵢ with ωᵢ =
    /// b^{−2i/d}.
    ///
    /// The angles of position 16q + r are those of 16q turned by those of r, so
    /// that few positions need a sine: sines took a seventh of the benchmark
    /// `dispatch_cold`. Source: Su et al. 2021, eq. 15.
    pub fn new(head: usize, time: usize, base: f64) -> Self {
        let omega = |i: usize| {
            libm::pow(base, -2.0 * i as f64 / head as f64) // eq: rope-frequencies
        };
        let omega: Vec<f64> = (0..head / 2).map(omega).collect();
        let turn = |m: usize| -> Vec<_> {
            omega.iter().map(|w| libm::sincos(m as f64 * w)).collect()
        };
        let small: Vec<_> = (0..16).map(turn).collect();
        let [mut cos, mut sin] = [(); 2].map(|()| vec![]);
        for start in (0..time).step_by(16) {
            let large = turn(start);
            for small in &small[..(time - start).min(16)] {
                for ((sin_q, cos_q), (sin_r, cos_r)) in large.iter().zip(small)
                {
                    cos.push(cos_q * cos_r - sin_q * sin_r);
                    sin.push(sin_q * cos_r + cos_q * sin_r);
                }
            }
        }
        Self { cos: cos.into(), sin: sin.into(), head }
    }
    /// The angle 0 everywhere: attention with it knows no positions.
    ///
    /// ```
    /// use moe_by_hand::nn::rope::{Rope, rope_forward};
    /// let mut x = [1.0, 2.0, 3.0, 4.0];
    /// rope_forward(&mut x, 4, 1, 2, &Rope::still(4, 3));
    /// assert_eq!(x, [1.0, 2.0, 3.0, 4.0]);
    /// ```
    pub fn still(head: usize, time: usize) -> Self {
        let all = |x| Buffer::new(time * (head / 2), x);
        Self { cos: all(1.0), sin: all(0.0), head }
    }
    /// How many positions there are.
    pub fn time(&self) -> usize {
        self.cos.len() / (self.head / 2)
    }
}

/// Rotates every head of x in place.  x: [batch·time, width]
///
/// (x₂ᵢ, x₂ᵢ₊₁) ← (x₂ᵢ·cos θ − x₂ᵢ₊₁·sin θ, x₂ᵢ·sin θ + x₂ᵢ₊₁·cos θ) with θ =
/// m·ωᵢ; positions m run from `start` in each sequence. This pairs neighbors;
/// the other layout in use, i with i + d/2, is the same map after a permutation
/// of columns. Source: Su et al. 2021, eq. 34.
///
/// # Panics
/// If x is not made of whole sequences of whole heads, or runs past the
/// table.
///
/// ```
/// use moe_by_hand::nn::rope::{Rope, rope_forward};
/// let rope = Rope::new(4, 3, 1e4);
/// let mut x = [1.0, 0.0, 1.0, 0.0];
/// rope_forward(&mut x, 4, 1, 2, &rope); // position 2
/// let want = [-0.416147, 0.909297, 0.999800, 0.019999];
/// for (x, want) in x.iter().zip(want) {
///     approx::assert_abs_diff_eq!(*x, want, epsilon = 5e-7);
/// }
/// ```
#[track_caller]
pub fn rope_forward<T: Real>(
    x: &mut [T], width: usize, time: usize, start: usize, rope: &Rope,
) {
    turn(x, width, time, start, rope, 1.0);
}
/// Rotates the gradient dx in place, back by the same angles.
///
/// x̄ = Rᵀȳ = R⁻¹ȳ: the transpose of a rotation is its inverse. No parameters,
/// and a backward all the same.
///
/// # Panics
/// As [`rope_forward`].
///
/// ```
/// use moe_by_hand::nn::rope::{Rope, rope_backward, rope_forward};
/// let (rope, mut x) = (Rope::new(4, 3, 1e4), [1.0, 2.0, 3.0, 4.0]);
/// rope_forward(&mut x, 4, 1, 2, &rope);
/// rope_backward(&mut x, 4, 1, 2, &rope);
/// for (x, want) in x.iter().zip([1.0, 2.0, 3.0, 4.0]) {
///     approx::assert_abs_diff_eq!(*x, want, epsilon = 1e-15);
/// }
/// ```
#[track_caller]
pub fn rope_backward<T: Real>(
    dx: &mut [T], width: usize, time: usize, start: usize, rope: &Rope,
) {
    // y = R(θ)·x
    turn(dx, width, time, start, rope, -1.0); // eq: rope-backward
}
#[track_caller]
fn turn<T: Real>(
    x: &mut [T], width: usize, time: usize, start: usize, rope: &Rope,
    sign: f64,
) {
    assert_eq!(width % rope.head, 0, "rope: {width} in heads of {}", rope.head);
    assert_eq!(x.len() % (width * time), 0, "rope: x in sequences of {time}");
    let end = start + time;
    assert!(end <= rope.time(), "rope: {end} of {} positions", rope.time());
    let (n, x) = (x.len() / width, [change(x, width)]);
    in_wide(n, x, [], |rows, [x], []| {
        rotate(x, width, |n| start + (rows.start + n) % time, rope, sign);
    });
}
/// Rotates rows; the n-th is at `position(n)`.
fn rotate<T: Real>(
    x: &mut [T], width: usize, position: impl Fn(usize) -> usize, rope: &Rope,
    sign: f64,
) {
    let half = rope.head / 2;
    for (n, row) in x.chunks_exact_mut(width).enumerate() {
        let m = position(n);
        let at = m * half..(m + 1) * half;
        let (cos, sin) = (&rope.cos[at.clone()], &rope.sin[at]);
        for head in row.chunks_exact_mut(rope.head) {
            let angles = cos.iter().zip(sin);
            for (pair, (&c, &s)) in head.chunks_exact_mut(2).zip(angles) {
                let (c, s) = (T::of(c), T::of(sign * s));
                let (u, v) = (pair[0], pair[1]);
                pair[0] = u * c - v * s; // eq: rope-rotation
                pair[1] = u * s + v * c;
            }
        }
    }
}
