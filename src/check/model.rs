//! Chapter: model. Proofs of the whole model: each loss alone and all together.

use super::tools::{self, Check, check, config, fact, formula, invariant};
use crate::block::{Block, BlockActs};
use crate::field::Field;
use crate::gradcheck::{
    Function, Measure, Plan, Report, exact, measure, slope,
};
use crate::kernel::vector::dot;
use crate::layer::{Layer, Shape};
use crate::model::{Batch, Model};
use crate::nn::router::Route;
use crate::params::{ParamGrads, Params, Role};
use crate::real::Real;
use crate::rng::Rng;
use crate::train::gradient::{Coefficients, Gradient, Losses};

pub(super) const CHECKS: &[Check] = &[
    check("model-forward", forward),
    tools::composed(
        "model-backward",
        backward,
        &[
            "embedding-backward",
            "residual-backward",
            "cross-entropy-grad",
            "aux-backward",
        ],
    ),
    check("loss-total", loss_total),
];

const SHAPE: Shape = Shape { batch: 2, time: 4 };
/// With tokens that repeat, and some that never come.
const TOKENS: [usize; 8] = [3, 1, 3, 7, 0, 3, 3, 9];
const TARGETS: [usize; 8] = [1, 3, 7, 2, 3, 3, 9, 9];
const BATCH: Batch = Batch { tokens: &TOKENS, targets: &TARGETS };
const ALL: Coefficients = Coefficients { ce: 1.0, aux: 0.7, z: 0.3 };

/// A whole model as a function of its parameters.
struct Whole {
    model: Model,
    coef: Coefficients,
    shape: Shape,
}
impl Whole {
    fn new(coef: Coefficients) -> Self {
        let model = Model::new(config()).unwrap_or_else(|e| panic!("{e}"));
        Self { model, coef, shape: SHAPE }
    }
    /// Parameters of a size at which every path matters.
    fn params(&self) -> Params<f64> {
        let mut p = self.model.layout.zeros();
        for e in &self.model.layout.entries {
            let mut rng = Rng::named(SEED, &e.name);
            rng.fill_normal(&mut p[e.param], 0.5);
            if e.role == Role::Gain {
                p[e.param].iter_mut().for_each(|g| *g = 1.0 + 0.6 * *g);
            }
        }
        p
    }
    /// Random parameters over the field.
    fn drawn(&self, seed: u64) -> Params<Field> {
        let (mut p, mut rng) =
            (self.model.layout.zeros(), Rng::named(seed, "field"));
        p.data.iter_mut().for_each(|p| *p = Field::new(rng.bits64()));
        p
    }
    fn names(&self) -> Vec<String> {
        self.model.layout.entries.iter().map(|e| e.name.clone()).collect()
    }
    /// θ, or its gradient, parameter by parameter.
    fn split<T: Real>(&self, p: &[T]) -> Vec<Vec<T>> {
        let entries = self.model.layout.entries.iter();
        entries.map(|e| p[e.param.range()].to_vec()).collect()
    }
    fn gradient<T: Real>(&self, shards: usize, recompute: bool) -> Gradient<T> {
        Gradient::new(&self.model, self.shape, shards, self.coef, recompute)
    }
    fn compute<T: Real>(
        &self, p: &Params<T>, shards: usize, recompute: bool,
    ) -> (Losses<T::Wide>, ParamGrads<T>) {
        let mut gradient = self.gradient(shards, recompute);
        let (losses, dp) = gradient.compute(&self.model, p, BATCH);
        (losses, dp.clone())
    }
}
/// A seed with which an expert is idle in the first block.
const SEED: u64 = 2;
impl Function for Whole {
    fn forward<T: Real>(&self, x: &[Vec<T>]) -> (Vec<T>, Vec<usize>) {
        let p = self.model.layout.zeros::<T>().like(x.concat());
        let mut gradient = self.gradient(1, false);
        let losses = gradient.losses(&self.model, &p, BATCH);
        let chosen = |a| <Block>::choices(a).to_vec();
        let choices = gradient.acts().flat_map(|a| a.blocks.iter().map(chosen));
        (vec![T::nearest(losses.total)], choices.collect::<Vec<_>>().concat())
    }
    fn backward<T: Real>(&self, x: &[Vec<T>], dy: &[T]) -> Vec<Vec<T>> {
        let p = self.model.layout.zeros::<T>().like(x.concat());
        let (_, dp) = self.compute(&p, 1, false);
        let scaled = dp.data.iter().map(|&g| dy[0] * g);
        self.split(&scaled.collect::<Vec<_>>())
    }
    fn branches<T: Real>(&self, x: &[Vec<T>]) -> Vec<(&'static str, bool)> {
        let p = self.model.layout.zeros::<T>().like(x.concat());
        let mut gradient = self.gradient(1, false);
        gradient.losses(&self.model, &p, BATCH);
        let blocks = gradient.acts().flat_map(|a| &a.blocks);
        let each = blocks.map(<Block>::branches);
        // taken where any of the blocks takes it
        let either = |mut all: Vec<_>, one: Vec<(&'static str, bool)>| {
            let both = all.iter_mut().zip(one);
            both.for_each(|(all, one): (&mut (_, bool), _)| all.1 |= one.1);
            all
        };
        each.reduce(either).unwrap_or_default()
    }
}

pub(super) fn forward() -> Report {
    let w = Whole::new(ALL);
    let (m, p) = (&w.model, w.params());
    let logits = |tokens: &[usize], shape: Shape| {
        let mut a = m.acts(shape, false);
        m.forward(&p, tokens, &mut a);
        a.head.y.to_vec()
    };
    let y = logits(&TOKENS, SHAPE);
    let one = Shape { batch: 1, ..SHAPE };
    let alone = [logits(&TOKENS[..4], one), logits(&TOKENS[4..], one)].concat();
    let mut other = TOKENS;
    other[7] = 10;
    let before = 7 * m.config.vocab;
    let same = logits(&other, SHAPE)[..before] == y[..before];
    formula("each sequence alone", &alone, &y)
        .and(fact("a token changes nothing before it", same))
        .and(formula("block after block, norm, head", &y, &composed(&w)))
}
/// The logits, put together from the parts.
fn composed(w: &Whole) -> Vec<f64> {
    let (m, p) = (&w.model, w.params());
    let d = m.config.hidden;
    let find = |name: &str| {
        &p[m.layout.find(name).expect("a parameter of that name").param]
    };
    let row = |&t: &usize| find("embed")[t * d..(t + 1) * d].to_vec();
    let mut x: Vec<f64> = TOKENS.iter().flat_map(row).collect();
    for block in &m.blocks {
        let mut a = block.acts(SHAPE);
        block.forward(&p, &x, &mut a);
        x = a.y.to_vec();
    }
    let (gain, head) = (find("norm.gain"), find("head.w"));
    let v = m.config.vocab;
    let logits = |x: &[f64]| -> Vec<f64> {
        let mean = dot(x, x) / d as f64;
        let r = 1.0 / (mean + m.config.rms_eps).sqrt();
        let at = |i: usize, j: usize| gain[i] * x[i] * r * head[i * v + j];
        (0..v).map(|j| (0..d).map(|i| at(i, j)).sum()).collect()
    };
    x.chunks(d).flat_map(logits).collect()
}
pub(super) fn backward() -> Report {
    let only = |ce, aux, z| Coefficients { ce, aux, z };
    let proof = |name: &str, coef| {
        let w = Whole::new(coef);
        let x = w.split(&w.params().data);
        measure(&w, &w.names(), x, Plan::MODEL).of(name)
    };
    let all = proof("all losses", ALL);
    let w = Whole::new(ALL);
    let c = &w.model.config;
    let (seen, each) = (all.choices.len(), c.top_k * TOKENS.len());
    let idle = (0..c.experts).any(|e| !all.choices[..seen / 2].contains(&e));
    all.and(fact("an expert is idle", idle))
        .and(fact("2 choices a row and layer", seen == c.layers * each))
        .and(proof("cross-entropy", only(1.0, 0.0, 0.0)))
        .and(proof("balance loss", only(0.0, 1.0, 0.0)))
        .and(proof("z-loss", only(0.0, 0.0, 1.0)))
        .and(micro_batches())
        .and(slope(&w, &w.split(&w.params().data), SEED))
}
pub(super) fn z_loss() -> Report {
    let w = Whole::new(ALL);
    let p = w.params();
    let mut gradient = w.gradient::<f64>(1, false);
    let losses = gradient.losses(&w.model, &p, BATCH);
    // From the scores themselves: norm₂(h)·W, row by row.
    let (e, n) = (w.model.config.experts, SHAPE.rows());
    let mut want = 0.0;
    for (l, block) in w.model.blocks.iter().enumerate() {
        let u = gradient.acts().flat_map(|a| a.blocks[l].norm2.y.to_vec());
        let (u, d) = (u.collect::<Vec<_>>(), w.model.config.hidden);
        let name = format!("layers.{l}.moe.router.w");
        let entry = w.model.layout.find(&name);
        let scores = &p[entry.expect("the router's weight").param];
        for u in u.chunks(d) {
            let z = |j| (0..d).map(|i| u[i] * scores[i * e + j]).sum::<f64>();
            let sum: f64 = (0..e).map(|j| z(j).exp()).sum();
            want += sum.ln().powi(2) / n as f64;
        }
        assert_eq!(block.moe.router.experts(), e, "experts of each block");
    }
    formula("Σ over layers of mean ℓ²", &[losses.z], &[want])
}
pub(super) fn loss_total() -> Report {
    let w = Whole::new(ALL);
    let (m, p) = (&w.model, w.params());
    let (l, _) = w.compute(&p, 1, false);
    let mut gradient = w.gradient::<f64>(1, false);
    gradient.losses(m, &p, BATCH);
    let a = gradient.acts().next().expect("one shard");
    // Mean over the tokens of −ln softmax(z)[target].
    let (n, v) = (SHAPE.rows(), m.config.vocab);
    let nats = |t: usize| {
        let z = &a.head.y[t * v..(t + 1) * v];
        z.iter().map(|z| z.exp()).sum::<f64>().ln() - z[TARGETS[t]]
    };
    let ce = (0..n).map(nats).sum::<f64>() / n as f64;
    // Sum over the blocks of E·Σ f·P.
    let (e, k) = (m.config.experts, m.config.top_k);
    let balance = |a: &BlockActs<f64>| {
        let r = &a.moe.router;
        let f = |e| r.choice.iter().filter(|&&c| c == e).count() as f64;
        let p = |j| (0..n).map(|t| r.prob[t * e + j]).sum::<f64>();
        let each = |j| f(j) / (n * k) as f64 * p(j) / n as f64;
        e as f64 * (0..e).map(each).sum::<f64>()
    };
    let aux = a.blocks.iter().map(balance).sum::<f64>();
    let total = ce + ALL.aux * aux + ALL.z * l.z;
    formula("mean cross-entropy", &[l.ce], &[ce])
        .and(formula("balance loss of all blocks", &[l.aux], &[aux]))
        .and(formula("ce + α·aux + β·z", &[l.total], &[total]))
}
pub(super) fn recompute() -> Report {
    let w = Whole::new(ALL);
    let p = w.params();
    let same = w.compute(&p, 1, false) == w.compute(&p, 1, true);
    let q = w.drawn(1);
    let equal = w.compute(&q, 1, false) == w.compute(&q, 1, true);
    let mut report = fact("the same bits", same);
    report.measures.push(Measure::equality("gradient", equal, "one draw"));
    report
}
pub(super) fn shard_sum() -> Report {
    let w = Whole::new(ALL);
    let p = w.params();
    let ((l1, g1), (l2, g2)) =
        (w.compute(&p, 1, false), w.compute(&p, 2, false));
    let size = dot(&g1.data, &g1.data).sqrt();
    let gap = crate::gradcheck::gap(&g1.data, &g2.data) / size;
    let mut report = invariant("gradient of two shards", gap, 1e-13).with(
        "loss of two shards",
        (l1.total - l2.total).abs() / l1.total,
        1e-13,
    );
    // The same batch as four sequences, in 2, 3 and 4 shards.
    let w = Whole { shape: Shape { batch: 4, time: 2 }, ..w };
    for draw in 1..=3 {
        let p = w.drawn(draw);
        let whole = w.compute(&p, 1, false);
        for shards in 2..=4 {
            let equal = w.compute(&p, shards, false) == whole;
            let what = format!("{shards} shards and 1");
            let detail = format!("draw {draw}");
            report.measures.push(Measure::equality(what, equal, &detail));
        }
    }
    report
}

/// Three batches as the micro-batches of one step, as a function of θ.
struct Micros(Whole);
impl Micros {
    const TOKENS: [usize; 24] = [
        3, 1, 3, 7, 0, 3, 3, 9, 9, 2, 0, 4, 10, 5, 6, 3, 1, 1, 8, 2, 7, 7, 0, 5,
    ];
    const TARGETS: [usize; 24] = [
        1, 3, 7, 2, 3, 3, 9, 9, 2, 0, 4, 8, 5, 6, 3, 0, 1, 8, 2, 6, 7, 0, 5, 4,
    ];
    fn batches() -> impl Iterator<Item = Batch<'static>> {
        let both = Self::TOKENS.chunks(8).zip(Self::TARGETS.chunks(8));
        both.map(|(tokens, targets)| Batch { tokens, targets })
    }
}
impl Function for Micros {
    fn forward<T: Real>(&self, x: &[Vec<T>]) -> (Vec<T>, Vec<usize>) {
        let model = &self.0.model;
        let p = model.layout.zeros::<T>().like(x.concat());
        let mut gradient = self.0.gradient(1, false);
        let total = |batch| gradient.losses(model, &p, batch).total;
        let sum: T::Wide = Self::batches().map(total).sum();
        (vec![T::nearest(sum) / T::of(3.0)], vec![])
    }
    fn backward<T: Real>(&self, x: &[Vec<T>], dy: &[T]) -> Vec<Vec<T>> {
        let model = &self.0.model;
        let p = model.layout.zeros::<T>().like(x.concat());
        let (tokens, targets) = (&Self::TOKENS, &Self::TARGETS);
        let mut gradient = self.0.gradient(1, false);
        let (_, dp) = gradient.compute(model, &p, Batch { tokens, targets });
        let scaled = dp.data.iter().map(|&g| dy[0] * g);
        self.0.split(&scaled.collect::<Vec<_>>())
    }
}
fn micro_batches() -> Report {
    let w = Whole::new(ALL);
    let lens: Vec<_> = w.split(&w.params().data).iter().map(Vec::len).collect();
    exact(&Micros(w), &Whole::new(ALL).names(), &lens, SEED)
        .of("3 micro-batches")
}
