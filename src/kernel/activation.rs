//! Chapter: silu. Sigmoid, SiLU, and the gated product of a SwiGLU expert.

use crate::kernel::fast::twin;
use crate::kernel::wide::{in_wide, rows, set};
use crate::real::Real;

/// σ(z) = 1 / (1 + e^{−z}).
///
/// ```
/// use moe_by_hand::kernel::activation::sigmoid;
/// assert_eq!(sigmoid(0.0), 0.5);
/// approx::assert_abs_diff_eq!(sigmoid(1.0), 0.731059, epsilon = 5e-7);
/// assert_eq!(sigmoid(-1000.0), 0.0);
/// ```
pub fn sigmoid<T: Real>(z: T) -> T {
    // e^{−z} = ∞ for a very negative z is no harm: 1/∞ = 0.
    T::ONE / (T::ONE + (-z).exp())
}

/// silu(z) = z·σ(z) = z / (1 + e^{−z}).
///
/// Source: Elfwing, Uchibe & Doya 2017.
///
/// ```
/// use moe_by_hand::kernel::activation::silu_forward;
/// approx::assert_abs_diff_eq!(silu_forward(1.0), 0.731059, epsilon = 5e-7);
/// // its minimum
/// let low = silu_forward(-1.2784645);
/// approx::assert_abs_diff_eq!(low, -0.2784645, epsilon = 1e-7);
/// ```
pub fn silu_forward<T: Real>(z: T) -> T {
    z * sigmoid(z) // eq: silu-forward
}
/// The gradient of z where y = silu(z), given that of y.
///
/// z̄ = ȳ·σ(z)·(1 + z·(1 − σ(z))).
///
/// ```
/// use moe_by_hand::kernel::activation::silu_backward;
/// approx::assert_abs_diff_eq!(
///     silu_backward(1.0, 1.0), 0.927671, epsilon = 5e-7);
/// // its maximum: SiLU can amplify a gradient
/// approx::assert_abs_diff_eq!(
///     silu_backward(1.0, 2.3993573), 1.0998393, epsilon = 5e-8);
/// ```
pub fn silu_backward<T: Real>(dy: T, z: T) -> T {
    // y = z·σ(z), and σ' = σ·(1 − σ)
    let s = sigmoid(z);
    dy * s * (T::ONE + z * (T::ONE - s)) // eq: silu-backward
}

/// Sets h = silu(gate) ⊙ up.  h, gate, up: [n, f]
///
/// Source: Shazeer 2020, eq. 5.
///
/// # Panics
/// If the lengths differ.
///
/// ```
/// use moe_by_hand::kernel::activation::glu_forward;
/// let mut h = [f64::NAN];
/// glu_forward(&mut h, &[1.0], &[2.0]);
/// approx::assert_abs_diff_eq!(h[0], 1.462117, epsilon = 5e-7);
/// ```
#[track_caller]
pub fn glu_forward<T: Real>(h: &mut [T], gate: &[T], up: &[T]) {
    let n = h.len();
    assert_eq!([gate.len(), up.len()], [n; 2], "glu: gate, up against h");
    if T::STORED {
        let ins = [rows(gate, 1), rows(up, 1)];
        return in_wide(n, [set(h, 1)], ins, |_, [h], [gate, up]| {
            glu_forward(h, gate, up);
        });
    }
    twin!(return fast::GluForward { h, gate, up });
    for ((h, &z), &u) in h.iter_mut().zip(gate).zip(up) {
        *h = silu_forward(z) * u; // eq: glu-forward
    }
}
/// Sets dgate and dup where h = silu(gate) ⊙ up.  all: [n, f]
///
/// ḡate = h̄ ⊙ up ⊙ silu′(gate), ūp = h̄ ⊙ silu(gate).
///
/// # Panics
/// If the lengths differ.
///
/// ```
/// use moe_by_hand::kernel::activation::glu_backward;
/// let (mut dgate, mut dup) = ([f64::NAN], [f64::NAN]);
/// glu_backward(&mut dgate, &mut dup, &[1.0], &[1.0], &[2.0]);
/// approx::assert_abs_diff_eq!(dgate[0], 1.855341, epsilon = 1e-6);
/// approx::assert_abs_diff_eq!(dup[0], 0.731059, epsilon = 5e-7);
/// ```
#[track_caller]
pub fn glu_backward<T: Real>(
    dgate: &mut [T], dup: &mut [T], dh: &[T], gate: &[T], up: &[T],
) {
    let n = dh.len();
    let lens = [dgate.len(), dup.len(), gate.len(), up.len()];
    assert_eq!(lens, [n; 4], "glu_backward: dgate, dup, gate, up against dh");
    if T::STORED {
        let outs = [set(dgate, 1), set(dup, 1)];
        let ins = [rows(dh, 1), rows(gate, 1), rows(up, 1)];
        return in_wide(n, outs, ins, |_, [dgate, dup], [dh, gate, up]| {
            glu_backward(dgate, dup, dh, gate, up);
        });
    }
    twin!(return fast::GluBackward { dgate, dup, dh, gate, up });
    for i in 0..n {
        // h = silu(z)·u
        let (z, u) = (gate[i], up[i]);
        dgate[i] = silu_backward(dh[i] * u, z); // eq: glu-backward
        dup[i] = dh[i] * silu_forward(z);
    }
}
