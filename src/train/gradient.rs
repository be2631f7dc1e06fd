//! Chapter: parallel. The gradient of one batch, on fixed shards that any
//! number of threads may share.

use crate::block::Block;
use crate::kernel::simd::Buffer;
use crate::kernel::vector::{CHUNK, add_to};
use crate::kernel::wide::{add_wide, in_wide, rows, set, sum};
use crate::layer::{Context, Layer, Shape, Totals};
use crate::model::{Acts, Batch, Grads, Model};
use crate::nn::balance::{balance_backward, router_losses};
use crate::nn::loss::{CrossEntropy, Loss};
use crate::params::{ParamGrads, Params};
use crate::real::Real;
use rayon::prelude::*;
use std::ops::Range;

/// The coefficients of the parts of the loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Coefficients {
    /// The coefficient of the cross-entropy, or of the loss that stands in for
    /// it: 1, except where another part is looked at alone.
    pub ce: f64,
    /// α, the coefficient of the balance loss.
    pub aux: f64,
    /// β, the coefficient of the router's z-loss.
    pub z: f64,
}
/// The parts of the loss, each by itself, before their coefficients.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Losses<T> {
    /// Mean cross-entropy, in nats per token.
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
    /// The loss summed over these rows.
    sum: T::Wide,
    g: Grads<T, B>,
    dp: ParamGrads<T>,
}
/// Computes the gradient of a batch; holds everything that this needs.
///
/// The number of shards decides the order of sums, and so the last bits. It
/// follows from the batch, never from the machine.
///
/// ```
/// use moe_by_hand::config::Config;
/// use moe_by_hand::layer::Shape;
/// use moe_by_hand::model::{Batch, Model};
/// use moe_by_hand::train::gradient::{Coefficients, Gradient};
/// let m = Model::new(Config::preset("tiny").unwrap()).unwrap();
/// let (p, shape) = (m.init::<f64>(0), Shape { batch: 1, time: 3 });
/// let coef = Coefficients { ce: 1.0, aux: 0.01, z: 0.0 };
/// let mut gradient = Gradient::new(&m, shape, 1, coef, false);
/// let batch = Batch { tokens: &[7, 3, 7], targets: &[3, 7, 9] };
/// let (losses, dp) = gradient.compute(&m, &p, batch);
/// assert!((losses.ce - 1000f64.ln()).abs() < 0.1); // knows nothing yet
/// assert!(dp[m.embed].iter().any(|&g| g != 0.0));
/// ```
pub struct Gradient<T: Real, B: Layer = Block, L: Loss = CrossEntropy> {
    shape: Shape,
    coef: Coefficients,
    loss: L,
    shards: Vec<Shard<T, B>>,
    /// The totals of each block over the last micro-batch.
    pub totals: Vec<Totals<T>>,
    dtotals: Vec<Totals<T>>,
    /// The share of each expert in the choices of the last
    /// [`Gradient::compute`], layer by layer: [layers][e]
    pub share: Vec<Buffer<f64>>,
    /// What the next pass is for.
    pub context: Context,
    /// What the losses are multiplied by before backward, and with them each
    /// gradient: 1, or a scale by which those that are stored in 16 bits keep
    /// their bits (see [`LossScale`](crate::train::precision::LossScale)).
    pub scale: f64,
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

impl<T: Real, B: Layer> Gradient<T, B> {
    /// For batches of this shape, in so many shards; the loss is the
    /// cross-entropy.
    ///
    /// # Panics
    /// If there are more shards than sequences, or none.
    #[track_caller]
    pub fn new(
        m: &Model<B>, shape: Shape, shards: usize, coef: Coefficients,
        recompute: bool,
    ) -> Self {
        Self::with_loss(m, shape, shards, coef, recompute, CrossEntropy)
    }
}
impl<T: Real, B: Layer, L: Loss> Gradient<T, B, L> {
    /// [`Gradient::new`] with another loss in the place of the cross-entropy.
    ///
    /// # Panics
    /// If there are more shards than sequences, or none.
    #[track_caller]
    pub fn with_loss(
        m: &Model<B>, shape: Shape, shards: usize, coef: Coefficients,
        recompute: bool, loss: L,
    ) -> Self {
        let shards = cut(m, shape, shards, recompute);
        let totals = shards[0].a.totals.clone();
        let share = |t: &Totals<T>| Buffer::new(t.count.len(), 0.0);
        Self {
            shape,
            coef,
            loss,
            share: totals.iter().map(share).collect(),
            dtotals: totals.clone(),
            totals,
            shards,
            context: Context::default(),
            scale: 1.0,
        }
    }
    /// Cuts batches into another number of shards.
    ///
    /// # Panics
    /// If there are more shards than sequences, or none.
    #[track_caller]
    pub(crate) fn cut(&mut self, m: &Model<B>, shards: usize, recompute: bool) {
        self.shards = vec![]; // not both at a time
        self.shards = cut(m, self.shape, shards, recompute);
    }
    /// The activations of each shard, in the order of the batch.
    pub fn acts(&self) -> impl Iterator<Item = &Acts<T, B>> {
        self.shards.iter().map(|s| &s.a)
    }
    /// The gradient that the last [`Gradient::compute`] returned.
    pub fn grads(&self) -> &ParamGrads<T> {
        &self.shards[0].dp
    }
    /// The losses of one batch. Runs forward on all shards, and adds up what
    /// any backward needs to know of the whole batch: each expert's share.
    #[track_caller]
    pub fn losses(
        &mut self, m: &Model<B>, p: &Params<T>, b: Batch,
    ) -> Losses<T::Wide> {
        let (loss, context) = (&self.loss, self.context);
        let v = m.config.vocab;
        self.shards.par_iter_mut().enumerate().for_each(|(shard, s)| {
            s.a.context = Context { shard, ..context };
            m.forward(p, &b.tokens[s.rows.clone()], &mut s.a);
            let (targets, a) = (&b.targets[s.rows.clone()], &mut s.a);
            let (lse, z) = (&mut a.lse, [rows(&a.head.y, v)]);
            s.sum = T::Wide::ZERO;
            in_wide(targets.len(), [], z, |now, [], [z]| {
                let (lse, targets) = (&mut lse[now.clone()], &targets[now]);
                s.sum += loss.forward(lse, z, targets);
            });
        });
        // In the order of the shards, whichever was done first.
        let sum: T::Wide = self.shards.iter().map(|s| s.sum).sum();
        let (mut aux, mut z) = (T::Wide::ZERO, T::Wide::ZERO);
        for (l, totals) in self.totals.iter_mut().enumerate() {
            totals.clear();
            self.shards.iter().for_each(|s| totals.add(&s.a.totals[l]));
            let [balance, squares] = router_losses(totals);
            aux += balance;
            z += squares;
        }
        let ce = sum / T::Wide::of(self.shape.rows() as f64);
        let Coefficients { ce: one, aux: alpha, z: beta } = self.coef;
        let [one, alpha, beta] = [one, alpha, beta].map(T::Wide::of);
        let total = one * ce + alpha * aux + beta * z; // eq: loss-total
        Losses { ce, aux, z, total }
    }
    /// Backward on all shards, after [`Gradient::losses`] of the same batch;
    /// adds the gradient of the total loss, divided by `micros`.
    #[track_caller]
    fn backward(
        &mut self, m: &Model<B>, p: &Params<T>, b: Batch, micros: usize,
    ) {
        let (loss, n, v) = (&self.loss, self.shape.rows(), m.config.vocab);
        let of = T::Wide::of;
        let share = |c: f64, n: usize| of(c) / of(n as f64) * of(self.scale);
        // total = ce/n + α·balance(count, load) + β·squares/n
        let [dce, dz] =
            [self.coef.ce, self.coef.z].map(|c| share(c, n * micros));
        let daux = share(self.coef.aux, micros);
        for (d, t) in self.dtotals.iter_mut().zip(&self.totals) {
            balance_backward(&mut d.load, &t.count, t.rows, t.top_k, daux);
            d.squares = dz;
        }
        let dtotals = &self.dtotals;
        self.shards.par_iter_mut().for_each(|s| {
            for (d, all) in s.g.totals.iter_mut().zip(dtotals) {
                d.set_sums(all);
            }
            let targets = &b.targets[s.rows.clone()];
            let (dz, z) = (&mut s.g.head.y, &s.a.head.y);
            let (outs, ins) = ([set(dz, v)], [rows(z, v)]);
            in_wide(targets.len(), outs, ins, |now, [dz], [z]| {
                let (lse, targets) = (&s.a.lse[now.clone()], &targets[now]);
                loss.backward(dz, z, lse, targets, dce);
            });
            let tokens = &b.tokens[s.rows.clone()];
            m.backward(p, tokens, &mut s.a, &mut s.g, &mut s.dp);
        });
    }
    /// The losses of a batch and their gradient, both as means over its
    /// micro-batches. `b` is one or several of them, each of the shape that
    /// this was made for.
    ///
    /// The gradient of the cross-entropy is that of one large batch. Each
    /// micro-batch has a balance loss of its own, since it has shares of its
    /// own.
    ///
    /// # Panics
    /// If `b` is no multiple of the shape.
    #[track_caller]
    pub fn compute(
        &mut self, m: &Model<B>, p: &Params<T>, b: Batch,
    ) -> (Losses<T::Wide>, &ParamGrads<T>) {
        let rows = self.shape.rows();
        let (len, micros) = (b.tokens.len(), b.tokens.len() / rows);
        assert!(micros > 0 && micros * rows == len, "{len} in {rows}s");
        let mut sum = [T::Wide::ZERO; 4];
        self.share.iter_mut().for_each(|s| s.fill(0.0));
        self.shards.iter_mut().for_each(|s| s.dp.begin());
        let both = b.tokens.chunks(rows).zip(b.targets.chunks(rows));
        for (micro, (tokens, targets)) in both.enumerate() {
            self.context.micro = micro;
            let b = Batch { tokens, targets };
            let l = self.losses(m, p, b);
            add_to(&mut sum, &[l.ce, l.aux, l.z, l.total]);
            self.backward(m, p, b, micros);
            for (share, t) in self.share.iter_mut().zip(&self.totals) {
                let each = 1.0 / (micros * rows * t.top_k) as f64;
                for (share, &count) in share.iter_mut().zip(&t.count) {
                    *share += each * count as f64;
                }
            }
        }
        self.finish(m);
        let [ce, aux, z, total] = sum.map(|l| l / T::Wide::of(micros as f64));
        (Losses { ce, aux, z, total }, self.grads())
    }
    /// Sums what the shards hold, onto the first, in the order of the shards
    /// and chunk by chunk: the same bits on any number of threads.
    fn finish(&mut self, m: &Model<B>) {
        self.shards.par_iter_mut().for_each(|s| s.dp.finish(&m.layout));
        let (first, rest) = self.shards.split_at_mut(1);
        if rest.is_empty() {
            return;
        }
        let chunks = first[0].dp.data.par_chunks_mut(CHUNK).enumerate();
        chunks.for_each(|(i, first)| {
            let at = i * CHUNK..i * CHUNK + first.len();
            in_wide(1, [sum(first)], [], |_, [sum], []| {
                for s in &*rest {
                    add_wide(sum, &s.dp.data[at.clone()]); // eq: shard-sum
                }
            });
        });
    }
}
/// The shards of a batch of this shape.
#[track_caller]
fn cut<T: Real, B: Layer>(
    m: &Model<B>, shape: Shape, shards: usize, recompute: bool,
) -> Vec<Shard<T, B>> {
    let n = shape.batch;
    assert!((1..=n).contains(&shards), "{n} sequences in {shards} shards");
    let shard = |i| {
        let (from, to) = (i * n / shards, (i + 1) * n / shards);
        let part = Shape { batch: to - from, ..shape };
        Shard {
            rows: from * shape.time..to * shape.time,
            a: m.acts(part, recompute),
            sum: T::Wide::of(f64::NAN),
            g: m.grads(part),
            dp: m.layout.grads(),
        }
    };
    (0..shards).map(shard).collect()
}
