//! Chapter: parallel. The gradient of one batch, on fixed shards that any
//! number of threads may share.

use crate::block::Block;
use crate::kernel::vector::{CHUNK, add_to};
use crate::layer::{Layer, Shape};
use crate::model::{Acts, Batch, Grads, Model};
use crate::nn::loss::{balance_backward, balance_forward};
use crate::params::Params;
use crate::real::Real;
use rayon::prelude::*;
use std::ops::Range;

/// Coefficients of the losses beside the cross-entropy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Coefficients {
    /// Of the cross-entropy: 1, but where a loss is looked at alone.
    pub ce: f64,
    /// α, of the balance loss.
    pub aux: f64,
    /// β, of the router's z-loss.
    pub z: f64,
}
/// The parts of the loss, each by itself, before their coefficients.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Losses<T> {
    /// Mean cross-entropy, in nats for each token.
    pub ce: T,
    /// Σ over layers of E·Σ f·P: L where all is balanced.
    pub aux: T,
    /// Σ over layers of the mean ℓ².
    pub z: T,
    /// Their sum, each times its coefficient.
    pub total: T,
}

/// Some sequences of the batch, with all the memory one thread needs.
struct Shard<T: Real, B: Layer> {
    /// Which rows of the batch.
    rows: Range<usize>,
    a: Acts<T, B>,
    g: Grads<T, B>,
    dp: Params<T>,
}
/// Everything that a gradient needs.
///
/// The number of shards decides the order of sums, and so the last bits. It
/// follows from the batch, never from the machine.
pub struct Step<T: Real, B: Layer = Block> {
    shape: Shape,
    coef: Coefficients,
    shards: Vec<Shard<T, B>>,
    /// Over the whole batch: [layers, 2e + 1]
    pub stats: Vec<T>,
    dstats: Vec<T>,
    /// The share of each expert in the choices of the last
    /// [`Step::accumulate`]: [layers, e]
    pub share: Vec<f64>,
}

/// How many shards a batch is cut into: each costs one more |θ| to write and
/// to add, which only a long batch repays.
pub fn shards(s: Shape) -> usize {
    let worth = match s.rows() {
        ..512 => 1,
        512..4096 => 2,
        _ => 4,
    };
    s.batch.min(worth).max(1)
}

impl<T: Real, B: Layer> Step<T, B> {
    /// For batches of this shape, in so many shards.
    ///
    /// # Panics
    /// If there are more shards than sequences, or none.
    #[track_caller]
    pub fn new(
        m: &Model<B>, shape: Shape, shards: usize, coef: Coefficients,
        recompute: bool,
    ) -> Self {
        let n = shape.batch;
        assert!((1..=n).contains(&shards), "{n} sequences in {shards} shards");
        let shard = |i| {
            let (from, to) = (i * n / shards, (i + 1) * n / shards);
            let part = Shape { batch: to - from, ..shape };
            Shard {
                rows: from * shape.time..to * shape.time,
                a: m.acts(part, recompute),
                g: m.grads(part),
                dp: m.layout.zeros(),
            }
        };
        let len = m.blocks.len() * m.stats();
        Self {
            shape,
            coef,
            shards: (0..shards).map(shard).collect(),
            stats: vec![T::ZERO; len],
            dstats: vec![T::ZERO; len],
            share: vec![0.0; m.blocks.len() * m.config.experts],
        }
    }
    /// The activations of each shard, in the order of the batch.
    pub fn acts(&self) -> impl Iterator<Item = &Acts<T, B>> {
        self.shards.iter().map(|s| &s.a)
    }
    /// From now on a new gradient.
    pub fn begin(&mut self) {
        self.shards.iter_mut().for_each(|s| s.dp.begin());
    }
    /// Forward on all shards, and what must be known of the whole batch
    /// before any backward: each expert's share.
    #[track_caller]
    pub fn forward(
        &mut self, m: &Model<B>, p: &Params<T>, b: Batch,
    ) -> Losses<T> {
        let ce: T = {
            self.shards.par_iter_mut().for_each(|s| {
                m.forward(p, &b.tokens[s.rows.clone()], &mut s.a);
                // Kept until all shards are done, to be summed in order.
                s.g.ce = m.loss(&b.targets[s.rows.clone()], &mut s.a);
            });
            self.shards.iter().map(|s| s.g.ce).sum()
        };
        self.stats.fill(T::ZERO);
        self.shards.iter().for_each(|s| add_to(&mut self.stats, &s.a.stats));
        let (e, k, n) = (m.config.experts, m.config.top_k, self.shape.rows());
        let (mut aux, mut z) = (T::ZERO, T::ZERO);
        for s in self.stats.chunks_exact(m.stats()) {
            aux += balance_forward(&s[e..2 * e], &s[..e], n, k);
            z += s[2 * e] / T::of(n as f64); // eq: z-loss
        }
        let ce = ce / T::of(n as f64);
        let Coefficients { ce: one, aux: alpha, z: beta } = self.coef;
        let [one, alpha, beta] = [one, alpha, beta].map(T::of);
        let total = one * ce + alpha * aux + beta * z; // eq: loss-total
        Losses { ce, aux, z, total }
    }
    /// Backward on all shards, after [`Step::forward`] of the same batch;
    /// adds `scale` times the gradient of the total loss.
    #[track_caller]
    pub fn backward(
        &mut self, m: &Model<B>, p: &Params<T>, b: Batch, scale: f64,
    ) {
        let (e, k, n) = (m.config.experts, m.config.top_k, self.shape.rows());
        let [dce, dz] =
            [self.coef.ce, self.coef.z].map(|c| T::of(scale * c / n as f64));
        let both = self.dstats.chunks_exact_mut(m.stats());
        for (d, s) in both.zip(self.stats.chunks_exact(m.stats())) {
            // total = ce/n + α·balance(count, load) + β·squares/n
            let (dload, rest) = d.split_at_mut(e);
            let daux = T::of(scale * self.coef.aux);
            balance_backward(dload, &s[e..2 * e], n, k, daux);
            rest.fill(T::ZERO); // counts have no gradient
            rest[e] = dz;
        }
        let dstats = &self.dstats;
        self.shards.par_iter_mut().for_each(|s| {
            s.g.ce = dce;
            s.g.stats.copy_from_slice(dstats);
            let b = Batch {
                tokens: &b.tokens[s.rows.clone()],
                targets: &b.targets[s.rows.clone()],
            };
            m.backward(p, b, &mut s.a, &mut s.g, &mut s.dp);
        });
    }
    /// All of a gradient but its [`Step::finish`]: that of the mean loss over
    /// the micro-batches, of this step's shape, that `b` consists of. Returns
    /// the mean losses.
    ///
    /// The cross-entropy's gradient is that of one large batch; the balance
    /// loss is each micro-batch's own, since its shares are.
    ///
    /// # Panics
    /// If `b` is no multiple of the shape.
    #[track_caller]
    pub fn accumulate(
        &mut self, m: &Model<B>, p: &Params<T>, b: Batch,
    ) -> Losses<T> {
        let rows = self.shape.rows();
        let (len, micros) = (b.tokens.len(), b.tokens.len() / rows);
        assert!(micros > 0 && micros * rows == len, "{len} in {rows}s");
        let scale = 1.0 / micros as f64;
        let mut sum = [T::ZERO; 4];
        self.share.fill(0.0);
        self.begin();
        let both = b.tokens.chunks(rows).zip(b.targets.chunks(rows));
        for (tokens, targets) in both {
            let b = Batch { tokens, targets };
            let l = self.forward(m, p, b);
            add_to(&mut sum, &[l.ce, l.aux, l.z, l.total]);
            self.backward(m, p, b, scale);
            let (e, k) = (m.config.experts, m.config.top_k);
            let each = scale / (rows * k) as f64;
            let shares = self.share.chunks_exact_mut(e);
            for (share, s) in shares.zip(self.stats.chunks_exact(m.stats())) {
                for (share, &count) in share.iter_mut().zip(&s[e..2 * e]) {
                    *share += each * count.f64();
                }
            }
        }
        let [ce, aux, z, total] = sum.map(|l| l * T::of(scale));
        Losses { ce, aux, z, total }
    }
    /// The sum of what was added since [`Step::begin`], over all shards.
    ///
    /// Onto the first, in the order of the shards and chunk by chunk: the
    /// same bits on any number of threads.
    pub fn finish(&mut self, m: &Model<B>) -> &mut Params<T> {
        self.shards.par_iter_mut().for_each(|s| s.dp.finish(&m.layout));
        let (sum, rest) = self.shards.split_at_mut(1);
        let chunks = sum[0].dp.data.par_chunks_mut(CHUNK).enumerate();
        chunks.for_each(|(i, sum)| {
            let at = i * CHUNK..i * CHUNK + sum.len();
            for s in &*rest {
                add_to(sum, &s.dp.data[at.clone()]); // eq: shard-sum
            }
        });
        &mut sum[0].dp
    }
}
