//! SwiGLU with clamped inputs.
//!
//! Gate and up stand side by side, xᵢ,₂ⱼ and xᵢ,₂ⱼ₊₁, and both are cut off at a
//! limit ℓ before they are used.
//!
//! Variant `above`: the gate is cut off above only, the up on both sides.

use kit::Real;

/// Sets y = a·σ(αa)·(b + 1), where a = min(gate, ℓ) and b = min(max(up, −ℓ), ℓ).
///
/// `y`: [n, f]; `x`: [n, 2f], gate and up in turn.
pub fn clamped_forward<T: Real>(y: &mut [T], x: &[T], limit: T, alpha: T) {
    // hole 1: forward
    for (y, x) in y.iter_mut().zip(x.chunks(2)) {
        let a = if x[0] > limit { limit } else { x[0] };
        let b = if x[1] > limit { limit } else { x[1] };
        let b = if b < -limit { -limit } else { b };
        let s = T::ONE / (T::ONE + (-(alpha * a)).exp());
        *y = a * s * (b + T::ONE);
    }
    // end
}

/// Sets x̄, given ȳ. Beyond the limit nothing flows; at the limit itself, what
/// flows inside.
///
/// `dx`, `x`: [n, 2f]; `dy`: [n, f].
pub fn clamped_backward<T: Real>(
    dx: &mut [T], dy: &[T], x: &[T], limit: T, alpha: T,
) {
    // hole 2: backward
    let rows = dx.chunks_mut(2).zip(dy).zip(x.chunks(2));
    for ((dx, &dy), x) in rows {
        let (gate, up) = (x[0], x[1]);
        let a = if gate > limit { limit } else { gate };
        let high = if up > limit { limit } else { up };
        let b = if high < -limit { -limit } else { high };
        let s = T::ONE / (T::ONE + (-(alpha * a)).exp());
        let slope = s * (T::ONE + alpha * a * (T::ONE - s));
        let flows = gate <= limit;
        dx[0] = if flows { dy * (b + T::ONE) * slope } else { T::ZERO };
        let inside = up <= limit && up >= -limit;
        dx[1] = if inside { dy * a * s } else { T::ZERO };
    }
    // end
}
