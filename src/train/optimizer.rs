//! Chapter: optimizer. AdamW, its decay groups, and clipping: one pass over θ.

use crate::kernel::vector::{CHUNK, sum_of_squares};
use crate::params::{Layout, Params, Role};
use crate::real::Real;
use rayon::prelude::*;

/// g·[`clip`] has a norm of at most `max`: c = min(1, max/(‖g‖ + 10⁻⁶)), of
/// the whole gradient at once, so that its direction stays.
/// Source: Pascanu et al. 2013, alg. 1; the 10⁻⁶ is PyTorch's.
///
/// ```
/// use moe_by_hand::train::optimizer::clip;
/// // (3, 4) becomes (0.6, 0.8).
/// approx::assert_abs_diff_eq!(clip(5.0, 1.0), 0.2, epsilon = 1e-7);
/// assert_eq!(clip(0.5, 1.0), 1.0);
/// ```
pub fn clip(norm: f64, max: f64) -> f64 {
    (max / (norm + 1e-6)).min(1.0) // eq: grad-clip-global
}

/// The numbers of one [`adamw`] step that all elements share.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// η, the learning rate.
    pub lr: f64,
    /// λ, the decay.
    pub decay: f64,
    /// What the gradient is multiplied by, from [`clip`].
    pub scale: f64,
    /// t, the number of the step, counted from 1.
    pub t: usize,
}
/// β₁, the memory of the mean gradient.
pub const BETA1: f64 = 0.9;
/// β₂, the memory of the mean square.
pub const BETA2: f64 = 0.95;
/// ε, outside the root.
pub const EPS: f64 = 1e-8;

/// Sets θ, m and v: one step of AdamW.  all: [n]
///
/// m ← β₁m + (1 − β₁)g, v ← β₂v + (1 − β₂)g²,
/// θ ← θ − ηλθ − η·m̂/(√v̂ + ε), m̂ = m/(1 − β₁ᵗ), v̂ = v/(1 − β₂ᵗ).
/// Source: Loshchilov & Hutter 2019, alg. 2.
///
/// # Panics
/// If the lengths differ.
///
/// ```
/// use moe_by_hand::train::optimizer::{Rates, adamw};
/// let (mut p, mut m, mut v) = ([1.0], [0.0], [0.0]);
/// let rates = Rates { lr: 0.1, decay: 0.01, scale: 1.0, t: 1 };
/// adamw(&mut p, &mut m, &mut v, &[0.5], rates);
/// // The first step is η·sign(g), whatever the size of g: Adam hides a
/// // gradient of the wrong scale. And the decay: 0.1·0.01.
/// approx::assert_abs_diff_eq!(p[0], 1.0 - 0.1 - 0.001, epsilon = 1e-8);
/// ```
#[track_caller]
pub fn adamw<T: Real>(
    p: &mut [T], m: &mut [T], v: &mut [T], g: &[T], r: Rates,
) {
    let n = p.len();
    assert_eq!([m.len(), v.len(), g.len()], [n; 3], "adamw: m, v, g against p");
    let t = r.t as i32;
    // eq: adam-bias-correction
    let [c1, c2] = [BETA1, BETA2].map(|b| T::of(1.0 / (1.0 - b.powi(t))));
    let [n1, n2] = [BETA1, BETA2].map(|b| T::of(1.0 - b));
    let [b1, b2, eps] = [BETA1, BETA2, EPS].map(T::of);
    let (keep, lr) = (T::of(1.0 - r.lr * r.decay), T::of(r.lr));
    let scale = T::of(r.scale);
    for i in 0..n {
        let g = scale * g[i];
        m[i] = b1 * m[i] + n1 * g;
        v[i] = b2 * v[i] + n2 * g * g;
        let update = m[i] * c1 / ((v[i] * c2).sqrt() + eps);
        p[i] = keep * p[i] - lr * update; // eq: adamw
    }
}

/// Which parameters decay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Decay {
    /// Linear maps only: not gains, not biases, not the embedding.
    Weights,
    /// Every parameter, as the PyTorch reference does.
    All,
}

/// AdamW over all of θ, with the whole gradient clipped.
#[derive(Clone, Debug)]
pub struct AdamW<T> {
    /// Mean gradient.
    pub m: Params<T>,
    /// Mean square of it.
    pub v: Params<T>,
    /// Steps done.
    pub t: usize,
    /// λ
    pub decay: f64,
    /// Where each run of parameters of one group ends, and whether it decays.
    groups: Vec<(usize, bool)>,
    /// ‖g‖² of each chunk of θ.
    squares: Vec<T>,
}
impl<T: Real> AdamW<T> {
    /// Before the first step.
    pub fn new(layout: &Layout, decay: f64, which: Decay) -> Self {
        let mut groups: Vec<(usize, bool)> = vec![];
        for e in &layout.entries {
            let decays = match e.role {
                Role::Weight | Role::Residual => true,
                Role::Gain | Role::Bias | Role::Embedding => {
                    which == Decay::All
                }
            };
            match groups.last_mut() {
                Some(g) if g.1 == decays => g.0 = e.param.range().end,
                _ => groups.push((e.param.range().end, decays)),
            }
        }
        Self {
            m: layout.zeros(),
            v: layout.zeros(),
            t: 0,
            decay,
            groups,
            squares: vec![T::ZERO; layout.len.div_ceil(CHUNK)],
        }
    }
    /// Sets θ by one step down the gradient, clipped to the norm `max`;
    /// returns its norm before. Same bits on any number of threads.
    ///
    /// A gradient that is not finite changes nothing: the parameters it would
    /// have spoiled can still be saved.
    pub fn step(
        &mut self, p: &mut Params<T>, dp: &Params<T>, lr: f64, max: f64,
    ) -> f64 {
        let chunks = self.squares.par_iter_mut();
        chunks.zip(dp.data.par_chunks(CHUNK)).for_each(|(s, g)| {
            *s = sum_of_squares(g);
        });
        let norm = self.squares.iter().sum::<T>().f64().sqrt();
        if !norm.is_finite() {
            return norm;
        }
        self.t += 1;
        let (t, scale, groups) = (self.t, clip(norm, max), &self.groups);
        let decay = |decays| if decays { self.decay } else { 0.0 };
        (p.data.par_chunks_mut(CHUNK))
            .zip(self.m.data.par_chunks_mut(CHUNK))
            .zip(self.v.data.par_chunks_mut(CHUNK))
            .zip(dp.data.par_chunks(CHUNK))
            .enumerate()
            .for_each(|(i, (((p, m), v), g))| {
                let (first, mut at) = (i * CHUNK, 0);
                let from = groups.partition_point(|g| g.0 <= first);
                for &(end, decays) in &groups[from..] {
                    let to = (end - first).min(p.len());
                    let decay = decay(decays);
                    let (p, m) = (&mut p[at..to], &mut m[at..to]);
                    let rates = Rates { lr, decay, scale, t };
                    adamw(p, m, &mut v[at..to], &g[at..to], rates);
                    at = to;
                    if at == g.len() {
                        break;
                    }
                }
            });
        norm
    }
}
