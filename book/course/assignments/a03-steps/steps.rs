//! Two optimizers' steps: Lion, and an AdamW that lacks something.
//!
//! Variant `first`: AdamW's first moment is not corrected, its second one is.

use kit::Real;

/// The numbers of a step: learning rate, decay and the two rates of averaging.
pub struct Rates<T> {
    /// η.
    pub lr: T,
    /// λ.
    pub decay: T,
    /// β₁.
    pub beta1: T,
    /// β₂.
    pub beta2: T,
    /// ϵ, of AdamW alone.
    pub eps: T,
}

/// A step of Lion: with c = β₁m + (1 − β₁)g,
/// θ ← θ − η·(sign(c) + λθ), and then m ← β₂m + (1 − β₂)g.
///
/// sign(0) = 0. `theta`, `m`, `g`: [n].
pub fn lion<T: Real>(theta: &mut [T], m: &mut [T], g: &[T], r: &Rates<T>) {
    // hole 1: Lion
    for i in 0..theta.len() {
        let c = r.beta1 * m[i] + (T::ONE - r.beta1) * g[i];
        let sign = if c > T::ZERO {
            T::ONE
        } else if c < T::ZERO {
            -T::ONE
        } else {
            T::ZERO
        };
        let step = sign + r.decay * theta[i];
        theta[i] = theta[i] - r.lr * step;
        m[i] = r.beta2 * m[i] + (T::ONE - r.beta2) * g[i];
    }
    // end
}

/// Step t ≥ 1 of AdamW without the correction of the first moment:
/// m ← β₁m + (1 − β₁)g, v ← β₂v + (1 − β₂)g², v̂ = v/(1 − β₂ᵗ),
/// θ ← θ − η·(m/(√v̂ + ϵ) + λθ).
///
/// `theta`, `m`, `v`, `g`: [n].
pub fn adamw<T: Real>(
    theta: &mut [T], m: &mut [T], v: &mut [T], g: &[T], t: usize, r: &Rates<T>,
) {
    // hole 3: AdamW
    let mut power = T::ONE;
    for _ in 0..t {
        power *= r.beta2;
    }
    for i in 0..theta.len() {
        m[i] = r.beta1 * m[i] + (T::ONE - r.beta1) * g[i];
        v[i] = r.beta2 * v[i] + (T::ONE - r.beta2) * g[i] * g[i];
        let step = m[i] / ((v[i] / (T::ONE - power)).sqrt() + r.eps);
        theta[i] = theta[i] - r.lr * (step + r.decay * theta[i]);
    }
    // end
}

/// How many times as long as AdamW's own is the step t of `adamw`, if the
/// gradient was the same in all steps, m and v began at 0, and ϵ = λ = 0.
pub fn growth<T: Real>(beta1: T, beta2: T, t: usize) -> T {
    // hole 5: growth
    let _ = beta2;
    let mut power = T::ONE;
    for _ in 0..t {
        power *= beta1;
    }
    T::ONE - power
    // end
}
