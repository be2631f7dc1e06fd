//! Chapter: optimizer. What an optimizer is; clipping; AdamW and its decay groups.

use crate::half::{Bf16, F16};
use crate::kernel::simd::{Buffer, Isa, Kernel, Simd};
use crate::kernel::vector::{CHUNK, sum_of_squares};
use crate::kernel::wide::{in_wide, rows};
use crate::params::{Entry, Layout, ParamGrads, Params, Role};
use crate::real::Real;
use rayon::prelude::*;
use std::ops::Range;

/// The factor that makes the norm of a gradient at most `max`: one for the
/// whole gradient, so that its direction stays. c = min(1, max/(‖g‖ + 10⁻⁶)).
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

/// The norm of a gradient, chunk by chunk: same bits on any number of threads.
#[derive(Clone, Debug)]
pub struct Norm<T: Real> {
    /// ‖g‖² of each chunk of θ.
    squares: Buffer<T::Wide>,
}
impl<T: Real> Norm<T> {
    /// Memory for gradients of this layout.
    pub fn new(layout: &Layout) -> Self {
        let chunks = layout.len.div_ceil(CHUNK);
        Self { squares: Buffer::new(chunks, T::Wide::ZERO) }
    }
    /// ‖g‖ = √Σ gᵢ², over all parameters that are not frozen.
    pub fn norm(&mut self, dp: &ParamGrads<T>) -> f64 {
        let chunks = self.squares.par_iter_mut();
        chunks.zip(dp.data.par_chunks(CHUNK)).for_each(|(s, g)| {
            *s = T::Wide::ZERO;
            in_wide(g.len(), [], [rows(g, 1)], |_, [], [g]| {
                *s += sum_of_squares(g);
            });
        });
        self.squares.iter().sum::<T::Wide>().f64().sqrt()
    }
}

/// One step of an optimizer, as the trainer asks for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// t, how many steps have moved θ, this one included: the number of the
    /// training step, less those that were skipped.
    pub t: usize,
    /// η, the learning rate.
    pub lr: f64,
    /// What the gradient is multiplied by, from [`clip`], and to undo a loss
    /// scale.
    pub scale: f64,
}
/// A rule that moves θ against a gradient.
///
/// The trainer saves what it keeps, by name, and gives it back when a run is
/// resumed: with the number of the step, that has to be all that decides the
/// next step. A step must not allocate, must leave what is frozen as it is,
/// and must give the same bits on any number of threads.
///
/// ```
/// use moe_by_hand::params::{Layout, ParamGrads, Params};
/// use moe_by_hand::train::optimizer::{Optimizer, Step};
/// /// θ ← θ − η·g, in plain words.
/// struct Sgd(Layout);
/// impl Optimizer<f32> for Sgd {
///     fn name(&self) -> &'static str {
///         "sgd"
///     }
///     fn step(&mut self, p: &mut Params<f32>, dp: &ParamGrads<f32>, s: Step) {
///         for e in self.0.entries.iter().filter(|e| !e.frozen) {
///             let rate = (s.lr * s.scale) as f32;
///             for (p, g) in p[e.param].iter_mut().zip(&dp[e.param]) {
///                 *p -= rate * g;
///             }
///         }
///     }
/// }
/// ```
pub trait Optimizer<T: Real>: Send {
    /// What a checkpoint calls it, such as `adamw`: a run is resumed by the
    /// optimizer it was begun with.
    fn name(&self) -> &'static str;
    /// Moves θ by one step.
    fn step(&mut self, p: &mut Params<T>, dp: &ParamGrads<T>, s: Step);
    /// What it keeps from step to step, each with a name of its own; always
    /// the same names and lengths.
    fn states(&mut self) -> Vec<(&'static str, &mut [T])> {
        vec![]
    }
    /// Looks at what was read from a checkpoint into [`Optimizer::states`].
    ///
    /// # Errors
    /// Says what cannot be.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}
/// An optimizer of f32 that reads gradients which are stored as `G`: each does
/// of f32. One that shall train in 16 bits says how it reads those.
pub trait StepFrom<G: Real<Wide = f32>>: Optimizer<f32> {
    /// [`Optimizer::step`] by such a gradient.
    fn step_from(&mut self, p: &mut Params<f32>, dp: &ParamGrads<G>, s: Step);
}
impl<O: Optimizer<f32>> StepFrom<f32> for O {
    fn step_from(
        &mut self, p: &mut Params<f32>, dp: &ParamGrads<f32>, s: Step,
    ) {
        self.step(p, dp, s);
    }
}
/// Which optimizer it is may be decided while the program runs.
impl<G: Real<Wide = f32>> Optimizer<f32> for Box<dyn StepFrom<G>> {
    fn name(&self) -> &'static str {
        (**self).name()
    }
    fn step(&mut self, p: &mut Params<f32>, dp: &ParamGrads<f32>, s: Step) {
        (**self).step(p, dp, s);
    }
    fn states(&mut self) -> Vec<(&'static str, &mut [f32])> {
        (**self).states()
    }
    fn check(&self) -> Result<(), String> {
        (**self).check()
    }
}
impl StepFrom<Bf16> for Box<dyn StepFrom<Bf16>> {
    fn step_from(
        &mut self, p: &mut Params<f32>, dp: &ParamGrads<Bf16>, s: Step,
    ) {
        (**self).step_from(p, dp, s);
    }
}
impl StepFrom<F16> for Box<dyn StepFrom<F16>> {
    fn step_from(
        &mut self, p: &mut Params<f32>, dp: &ParamGrads<F16>, s: Step,
    ) {
        (**self).step_from(p, dp, s);
    }
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
/// Numbers of θ that go through [`adamw`] at a time: so many that the two powers
/// which they share do not count.
const PASS: usize = 4 * CHUNK;
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
#[inline(always)] // into the instruction set of `adamw_with`
#[track_caller]
pub fn adamw<T: Real>(
    p: &mut [T], m: &mut [T], v: &mut [T], g: &[T], r: Rates,
) {
    let n = p.len();
    assert_eq!([m.len(), v.len(), g.len()], [n; 3], "adamw: m, v, g against p");
    let past = |b| T::of(1.0 / (1.0 - libm::pow(b, r.t as f64)));
    let [c1, c2] = [BETA1, BETA2].map(past); // eq: adam-bias-correction
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

/// [`adamw`], compiled for a given instruction set: the same bits, since no
/// product is fused with a sum, and several numbers at a time.
///
/// # Panics
/// As [`adamw`], or if the CPU does not have the set.
#[track_caller]
pub fn adamw_with<T: Real>(
    isa: Isa, p: &mut [T], m: &mut [T], v: &mut [T], g: &[T], r: Rates,
) {
    isa.run(Adamw { p, m, v, g, r });
}
struct Adamw<'a, T> {
    p: &'a mut [T],
    m: &'a mut [T],
    v: &'a mut [T],
    g: &'a [T],
    r: Rates,
}
impl<T: Real> Kernel for Adamw<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        adamw(self.p, self.m, self.v, self.g, self.r);
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
impl Decay {
    /// How a parameter is treated.
    pub fn group(self, e: &Entry) -> Group {
        match e.role {
            _ if e.frozen => Group::Frozen,
            Role::Weight | Role::Residual => Group::Decays,
            _ if self == Decay::All => Group::Decays,
            Role::Gain | Role::Bias | Role::Embedding => Group::Keeps,
        }
    }
}

/// Runs of parameters that an optimizer treats alike, in the order of θ, so
/// that it can go through θ in chunks: one pass, shared by all threads.
#[derive(Clone, Debug)]
pub struct Groups {
    /// Where each run ends in θ, and what it is.
    ends: Vec<(usize, Group)>,
}
/// How one run of parameters is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Moved and decayed.
    Decays,
    /// Moved, not decayed.
    Keeps,
    /// Left as it is.
    Frozen,
}
impl Groups {
    /// The runs of this layout.
    pub fn new(layout: &Layout, which: Decay) -> Self {
        let mut ends: Vec<(usize, Group)> = vec![];
        for e in &layout.entries {
            let group = which.group(e);
            match ends.last_mut() {
                Some(last) if last.1 == group => last.0 = e.param.range().end,
                _ => ends.push((e.param.range().end, group)),
            }
        }
        Self { ends }
    }
    /// The runs inside a chunk of `len` values from `first` on: where each
    /// lies in the chunk, and what it is. What is frozen is left out.
    pub fn within(
        &self, first: usize, len: usize,
    ) -> impl Iterator<Item = (Range<usize>, Group)> {
        let from = self.ends.partition_point(|g| g.0 <= first);
        let mut at = 0;
        let cut = move |&(end, group): &(usize, Group)| {
            let run = at..(end - first).min(len);
            at = run.end;
            (!run.is_empty()).then_some((run, group))
        };
        let runs = self.ends[from..].iter().map_while(cut);
        runs.filter(|(_, group)| *group != Group::Frozen)
    }
}

/// AdamW over all of θ.
#[derive(Clone, Debug)]
pub struct AdamW<T> {
    /// Mean gradient: [θ]
    pub m: Buffer<T>,
    /// Mean square of it: [θ]
    pub v: Buffer<T>,
    /// λ
    pub decay: f64,
    groups: Groups,
}
impl<T: Real> AdamW<T> {
    /// Before the first step.
    pub fn new(layout: &Layout, decay: f64, which: Decay) -> Self {
        Self {
            m: Buffer::new(layout.len, T::ZERO),
            v: Buffer::new(layout.len, T::ZERO),
            decay,
            groups: Groups::new(layout, which),
        }
    }
}
impl<T: Real> Optimizer<T> for AdamW<T> {
    fn name(&self) -> &'static str {
        "adamw"
    }
    fn step(&mut self, p: &mut Params<T>, dp: &ParamGrads<T>, s: Step) {
        self.step_by(p, dp, s, |g, f| f(0..g.len(), g));
    }
    fn states(&mut self) -> Vec<(&'static str, &mut [T])> {
        vec![("m", &mut self.m), ("v", &mut self.v)]
    }
    fn check(&self) -> Result<(), String> {
        negative(&self.v)
    }
}
impl<T: Real> AdamW<T> {
    /// A step by a gradient of which `read` hands on some numbers at a time.
    fn step_by<G: Real>(
        &mut self, p: &mut Params<T>, dp: &ParamGrads<G>, s: Step,
        read: impl Fn(&[G], &mut dyn FnMut(Range<usize>, &[T])) + Sync,
    ) {
        let Self { m, v, decay, groups } = self;
        let isa = Isa::current();
        (p.data.par_chunks_mut(PASS))
            .zip(m.par_chunks_mut(PASS))
            .zip(v.par_chunks_mut(PASS))
            .zip(dp.data.par_chunks(PASS))
            .enumerate()
            .for_each(|(i, (((p, m), v), g))| {
                for (run, group) in groups.within(i * PASS, p.len()) {
                    let (p, m) = (&mut p[run.clone()], &mut m[run.clone()]);
                    let (v, g) = (&mut v[run.clone()], &g[run]);
                    let decays = group == Group::Decays;
                    let decay = if decays { *decay } else { 0.0 };
                    let Step { t, lr, scale } = s;
                    let rates = Rates { lr, decay, scale, t };
                    read(g, &mut |now, g| {
                        let (p, m) = (&mut p[now.clone()], &mut m[now.clone()]);
                        adamw_with(isa, p, m, &mut v[now], g, rates);
                    });
                }
            });
    }
}
/// What cannot be of a mean square that was read from a file.
pub(crate) fn negative<T: Real>(v: &[T]) -> Result<(), String> {
    match v.iter().position(|&v| v < T::ZERO) {
        Some(at) => Err(format!("v[{at}], a mean square, is negative")),
        None => Ok(()),
    }
}
/// Hands on numbers that are stored.
pub(crate) fn widened<G: Real<Wide = f32>>(
    g: &[G], f: &mut dyn FnMut(Range<usize>, &[f32]),
) {
    in_wide(g.len(), [], [rows(g, 1)], |now, [], [g]| f(now, g));
}
impl StepFrom<Bf16> for AdamW<f32> {
    fn step_from(
        &mut self, p: &mut Params<f32>, dp: &ParamGrads<Bf16>, s: Step,
    ) {
        self.step_by(p, dp, s, widened);
    }
}
impl StepFrom<F16> for AdamW<f32> {
    fn step_from(
        &mut self, p: &mut Params<f32>, dp: &ParamGrads<F16>, s: Step,
    ) {
        self.step_by(p, dp, s, widened);
    }
}
