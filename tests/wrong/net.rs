//! Chapter: mutants. The whole model's backward once more, around twins, with
//! a place for mistakes of its own.

use super::twin::{Mistake, Twin, TwinActs};
use moe_by_hand::check;
use moe_by_hand::config::Config;
use moe_by_hand::gradcheck::Function;
use moe_by_hand::layer::{Layer, Shape};
use moe_by_hand::model::{Batch, Model};
use moe_by_hand::nn::balance::balance_backward;
use moe_by_hand::nn::embedding::embedding_backward;
use moe_by_hand::nn::loss::{CrossEntropy, Loss, cross_entropy_backward};
use moe_by_hand::params::{ParamGrads, Params, Role};
use moe_by_hand::real::Real;
use moe_by_hand::rng::Rng;
use moe_by_hand::train::gradient::{Coefficients, Gradient};

/// What is wrong in the backward of a model, around its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slip {
    EmbeddingSet,
    EmbeddingShift,
    MeanLost,
    TargetShift,
    HeadStale,
    NormSkipped,
    BlocksUpwards,
    AuxOverN,
}
use Slip::*;

impl Slip {
    pub(crate) const ALL: [(Self, &'static str); 8] = [
        (EmbeddingSet, "embedding: = for +="), // wrong: embedding-backward
        (EmbeddingShift, "embedding: rows off by one token"), // wrong: embedding-backward
        (MeanLost, "cross-entropy: 1/N missing"), // wrong: cross-entropy-grad
        (TargetShift, "cross-entropy: targets off by one"), // wrong: cross-entropy-grad
        (HeadStale, "head: stale activation in W̄"), // wrong: linear-backward-weight
        (NormSkipped, "last norm's backward left out"), // wrong: model-backward
        (BlocksUpwards, "blocks' backward from the first on"), // wrong: model-backward
        (AuxOverN, "aux: 1/N missing"), // wrong: aux-backward
    ];
}

pub(crate) const SHAPE: Shape = Shape { batch: 2, time: 4 };
/// With tokens that repeat, and some that never come.
pub(crate) const TOKENS: [usize; 8] = [3, 1, 3, 7, 0, 3, 3, 9];
pub(crate) const TARGETS: [usize; 8] = [1, 3, 7, 2, 3, 3, 9, 9];
pub(crate) const BATCH: Batch = Batch { tokens: &TOKENS, targets: &TARGETS };

/// The sizes of the checks, but with square weights in attention: there no
/// shape tells a matrix from its transpose.
pub(crate) fn config() -> Config {
    Config { hidden: 16, ..check::config() }
}

/// A model of twins as a function of its parameters.
pub(crate) struct Net {
    pub(crate) model: Model<Twin>,
    pub(crate) coef: Coefficients,
    slips: Vec<Slip>,
}
impl Net {
    pub(crate) fn new(
        coef: Coefficients, wrong: &[Mistake], slips: &[Slip],
    ) -> Self {
        let build = |b: moe_by_hand::params::Builder, c: &Config| {
            Twin::new(b, c, wrong)
        };
        let model = Model::with_blocks(config(), build).unwrap();
        Self { model, coef, slips: slips.to_vec() }
    }
    /// A model of a size at which every path matters.
    pub(crate) fn params(&self) -> Params<f64> {
        let mut p = self.model.layout.zeros();
        for e in &self.model.layout.entries {
            let mut rng = Rng::named(2, &e.name);
            rng.fill_normal(&mut p[e.param], 0.5);
            if e.role == Role::Gain {
                p[e.param].iter_mut().for_each(|g| *g = 1.0 + 0.6 * *g);
            }
        }
        p
    }
    pub(crate) fn names(&self) -> Vec<String> {
        self.model.layout.entries.iter().map(|e| e.name.clone()).collect()
    }
    pub(crate) fn split<T: Real>(&self, p: &[T]) -> Vec<Vec<T>> {
        let entries = self.model.layout.entries.iter();
        entries.map(|e| p[e.param.range()].to_vec()).collect()
    }
    pub(crate) fn loss<T: Real>(&self, p: &Params<T>) -> (T, Vec<usize>) {
        let mut gradient =
            Gradient::new(&self.model, SHAPE, 1, self.coef, false);
        let losses = gradient.losses(&self.model, p, BATCH);
        let chosen = |a: &TwinActs<T>| a.choice.to_vec();
        let choices = gradient.acts().flat_map(|a| a.blocks.iter().map(chosen));
        (T::nearest(losses.total), choices.collect::<Vec<_>>().concat())
    }
    /// The model's backward, line by line as in the library.
    pub(crate) fn gradient<T: Real>(
        &self, p: &Params<T>, scale: T,
    ) -> ParamGrads<T> {
        let is = |s| self.slips.contains(&s);
        let (m, n, d) = (&self.model, SHAPE.rows(), self.model.config.hidden);
        let mut a = m.acts(SHAPE, false);
        m.forward(p, &TOKENS, &mut a);
        let mut lse = vec![T::ZERO; n];
        CrossEntropy.forward(&mut lse, &a.head.y, &TARGETS);
        let mut dp = m.layout.grads();
        let (mut dz, mut du) = (m.head.acts(SHAPE), m.norm.acts(SHAPE));
        let mut dx = vec![T::of(f64::NAN); n * d];
        let rows = T::of(n as f64);
        let mean = if is(MeanLost) { T::ONE } else { T::ONE / rows };
        let mut targets = TARGETS;
        if is(TargetShift) {
            targets.rotate_left(1);
        }
        let dce = scale * T::of(self.coef.ce) * mean;
        cross_entropy_backward(&mut dz.y, &a.head.y, &lse, &targets, dce);
        let nd = n * d;
        let last = &a.stream[m.blocks.len() * nd..];
        let u = if is(HeadStale) { last } else { &a.norm.y };
        m.head.backward(p, u, &a.head, &mut dz, &mut du.y, &mut dp);
        if is(NormSkipped) {
            dx.copy_from_slice(&du.y);
        } else {
            m.norm.backward(p, last, &a.norm, &mut du, &mut dx, &mut dp);
        }
        let mut order: Vec<usize> = (0..m.blocks.len()).rev().collect();
        if is(BlocksUpwards) {
            order.reverse();
        }
        let k = m.config.top_k;
        for l in order {
            let x = &a.stream[l * nd..(l + 1) * nd];
            let mut g = m.blocks[l].acts(SHAPE);
            Twin::y(&mut g).copy_from_slice(&dx);
            let to = Twin::totals(&mut g).unwrap();
            let (count, aux) =
                (&a.totals[l].count, (scale * T::of(self.coef.aux)).wide());
            balance_backward(&mut to.load, count, n, k, aux);
            if is(AuxOverN) {
                to.load.iter_mut().for_each(|d| *d *= rows.wide());
            }
            to.squares = (scale * T::of(self.coef.z) / rows).wide();
            let block = &m.blocks[l];
            block.backward(p, x, &a.blocks[l], &mut g, &mut dx, &mut dp);
        }
        let mut tokens = TOKENS;
        if is(EmbeddingShift) {
            tokens.rotate_left(1);
        }
        if is(EmbeddingSet) {
            for (dx, &i) in dx.chunks(d).zip(&tokens) {
                dp.write(m.embed)[i * d..][..d].copy_from_slice(dx);
            }
        } else {
            embedding_backward(dp.write(m.embed), &dx, &tokens);
        }
        dp
    }
}
impl Function for Net {
    fn forward<T: Real>(&self, x: &[Vec<T>]) -> (Vec<T>, Vec<usize>) {
        let p = self.model.layout.zeros::<T>().like(x.concat());
        let (loss, choices) = self.loss(&p);
        (vec![loss], choices)
    }
    fn backward<T: Real>(&self, x: &[Vec<T>], dy: &[T]) -> Vec<Vec<T>> {
        let p = self.model.layout.zeros::<T>().like(x.concat());
        self.split(&self.gradient(&p, dy[0]).data)
    }
    fn branches<T: Real>(&self, x: &[Vec<T>]) -> Vec<(&'static str, bool)> {
        let p = self.model.layout.zeros::<T>().like(x.concat());
        let (_, choices) = self.loss(&p);
        let per_block = choices.chunks(choices.len() / self.model.blocks.len());
        let idle = |c: &[usize]| (0..config().experts).any(|e| !c.contains(&e));
        vec![("an idle expert", per_block.into_iter().any(idle))]
    }
}
