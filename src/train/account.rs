//! Chapter: measuring. How much memory a training run takes, asked before any
//! of it is taken.

use crate::kernel::simd::bytes;
use crate::layer::{Layer, Shape};
use crate::memory;
use crate::model::Model;
use crate::nn::rope::Rope;
use crate::params::Layout;
use crate::train::gradient::{Coefficients, Gradient, shards};
use crate::train::optimizer::{Norm, Optimizer};
use crate::train::options::Options;
use crate::train::validation::Validation;
use serde::Serialize;

/// The bytes that a run takes, part by part.
///
/// No formula is needed: each part is made by the code that makes it in a
/// [`Trainer`](crate::train::trainer::Trainer), with buffers that only add up
/// their sizes (see [`bytes`]). So a layer of one's own is counted as well.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Account {
    /// θ.
    pub weights: u64,
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
}
impl Account {
    /// A run of this model with these settings, on a text of so many bytes
    /// and so many threads.
    pub fn new<B: Layer, O: Optimizer<f32>>(
        m: &Model<B>, o: &Options, text: usize, threads: usize,
        optimizer: impl FnOnce(&Layout) -> O,
    ) -> Self {
        let shape = o.shape();
        if too_large(m, shape, o.accumulate) {
            let weights = memory::weights::<f32>(&m.config);
            let (activations, none) = (u64::MAX, 0);
            let [gradients, moments, validation, data] = [none; 4];
            return Self {
                weights,
                gradients,
                moments,
                activations,
                validation,
                data,
            };
        }
        let c = &m.config;
        let coef = Coefficients { ce: 1.0, aux: o.aux, z: o.z_loss };
        let shards = shards(shape);
        let weights = bytes(|| m.layout.zeros::<f32>()).0;
        let one = bytes(|| m.layout.grads::<f32>()).0;
        let norm = bytes(|| Norm::<f32>::new(&m.layout)).0;
        let all = bytes(|| {
            Gradient::<f32, B>::new(m, shape, shards, coef, o.recompute)
        });
        let rope = bytes(|| Rope::new(c.head, c.context, c.rope_theta)).0;
        let moments = bytes(|| optimizer(&m.layout)).0;
        let held_out = text.div_ceil(10);
        let validation =
            bytes(|| Validation::for_threads(m, held_out, shape.time, threads));
        let tokens = 2 * shape.rows() * o.accumulate * size_of::<usize>();
        Self {
            weights,
            gradients: shards as u64 * one + norm,
            moments,
            activations: all.0 - shards as u64 * one + rope,
            validation: validation.0,
            data: (tokens + text) as u64,
        }
    }
    /// All of it.
    pub fn total(&self) -> u64 {
        let Self { weights, gradients, moments, .. } = *self;
        let Self { activations, validation, data, .. } = *self;
        let rest = [gradients, moments, activations, validation, data];
        rest.into_iter().fold(weights, u64::saturating_add)
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
