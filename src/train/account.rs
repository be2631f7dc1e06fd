//! Chapter: memory. How much memory a training run takes, asked before any
//! of it is taken.

use crate::kernel::simd::asked;
use crate::layer::{Layer, Shape};
use crate::memory;
use crate::model::Model;
use crate::nn::rope::Rope;
use crate::params::Layout;
use crate::train::gradient::{Coefficients, Gradient, shards};
use crate::train::optimizer::{Norm, Optimizer};
use crate::train::options::Options;
use crate::train::precision::{Stored, working};
use crate::train::validation::Validation;
use serde::Serialize;

/// The bytes that a run takes, part by part.
///
/// No formula is needed: each part is made by the code that makes it in a
/// [`Trainer`](crate::train::trainer::Trainer), with buffers that only add up
/// their sizes (see [`bytes`](crate::kernel::simd::bytes)). So a layer of one's own is counted as well.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Account {
    /// θ.
    pub weights: u64,
    /// The copy of θ that the passes of a run in 16 bits read.
    pub working: u64,
    /// One gradient for each shard, and what their norm needs.
    pub gradients: u64,
    /// What the optimizer keeps and works in: m and v of AdamW.
    pub moments: u64,
    /// What the shards' forward passes keep, the gradients of that, and the
    /// rotary table.
    pub activations: u64,
    /// What validation takes: the activations of one block at a time for each
    /// thread.
    pub validation: u64,
    /// The text, and the tokens of a step.
    pub data: u64,
    /// A page for each long buffer, which begins somewhere in it.
    pub pages: u64,
}
impl Account {
    /// A run of this model with these settings, on a text of so many bytes
    /// and so many threads.
    pub fn new<B: Layer, O: Optimizer<f32>>(
        m: &Model<B>, o: &Options, text: usize, threads: usize,
        optimizer: impl FnOnce(&Layout) -> O,
    ) -> Self {
        Self::stored::<f32, B, O>(m, o, text, threads, optimizer)
    }
    /// [`Account::new`] for a run that is stored in numbers of type `T`.
    pub fn stored<T: Stored, B: Layer, O: Optimizer<f32>>(
        m: &Model<B>, o: &Options, text: usize, threads: usize,
        optimizer: impl FnOnce(&Layout) -> O,
    ) -> Self {
        let shape = o.shape();
        if too_large(m, shape, o.accumulate) {
            let weights = memory::weights::<f32>(&m.config);
            let (activations, none) = (u64::MAX, 0);
            let [working, gradients, moments] = [none; 3];
            let [validation, data, pages] = [none; 3];
            return Self {
                weights,
                working,
                gradients,
                moments,
                activations,
                validation,
                data,
                pages,
            };
        }
        let c = &m.config;
        let coef = Coefficients { ce: 1.0, aux: o.aux, z: o.z_loss };
        let shards = shards(shape);
        let weights = asked(|| m.layout.zeros::<f32>()).0;
        let working = asked(|| working::<T>(&m.layout)).0;
        let one = asked(|| m.layout.grads::<T>()).0;
        let norm = asked(|| Norm::<T>::new(&m.layout)).0;
        let all = asked(|| {
            Gradient::<T, B>::new(m, shape, shards, coef, o.recompute)
        });
        let all = all.0; // with a gradient for each shard
        let rope = asked(|| Rope::new(c.head, c.context, c.rope_theta)).0;
        let moments = asked(|| optimizer(&m.layout)).0;
        let held_out = text.div_ceil(10);
        let validation = asked(|| {
            let (n, time) = (held_out, shape.time);
            Validation::<B, T>::for_threads(m, n, time, threads)
        });
        let validation = validation.0;
        let tokens = 2 * shape.rows() * o.accumulate * size_of::<usize>();
        let parts = [weights, working, norm, all, rope, moments, validation];
        let gradients = shards as u64 * one[0];
        Self {
            weights: weights[0],
            working: working[0],
            gradients: gradients + norm[0],
            moments: moments[0],
            activations: all[0] - gradients + rope[0],
            validation: validation[0],
            data: (tokens + text) as u64,
            pages: parts.iter().map(|[_, pages]| pages).sum(),
        }
    }
    /// All of it.
    pub fn total(&self) -> u64 {
        let Self { weights, working, gradients, moments, .. } = *self;
        let Self { activations, validation, data, pages, .. } = *self;
        let all = [weights, working, gradients, moments, activations];
        let rest = [validation, data, pages];
        all.into_iter().chain(rest).fold(0, u64::saturating_add)
    }
}
/// Whether a size might not even be a number of bytes.
pub(crate) fn too_large<B: Layer>(
    m: &Model<B>, s: Shape, accumulate: usize,
) -> bool {
    let c = &m.config;
    let [v, d, l, t] =
        [c.vocab, c.hidden, m.blocks.len(), s.time].map(|n| n as u128);
    let [heads, head, k, f] =
        [c.heads, c.head, c.top_k, c.intermediate].map(|n| n as u128);
    let widest = [v, l * d, heads * head, heads * t, k * d, k * f];
    let widest = widest.into_iter().fold(c.experts as u128, u128::max);
    let rows = s.batch as u128 * t * accumulate as u128;
    rows.saturating_mul(widest) > 1 << 56
}
