//! Chapter: block. What a crate that only depends on this one can put in: an
//! attention, a router, an optimizer, a loss of its own; all of it trained,
//! saved, resumed to the bit, and read again by the project's own code.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use crate::edit::Dir;
use moe_by_hand::block::{Block, experts};
use moe_by_hand::config::Config;
use moe_by_hand::generate::{Decoder, Sampler, generate};
use moe_by_hand::gradcheck::{assert_layer, gap};
use moe_by_hand::hf;
use moe_by_hand::kernel::simd::Buffer;
use moe_by_hand::layer::{
    Context, Decode, Layer, Shape, Totals, buffer, indices,
};
use moe_by_hand::model::Model;
use moe_by_hand::nn::loss::{Loss, cross_entropy_forward};
use moe_by_hand::nn::moe::Moe;
use moe_by_hand::nn::router::Route;
use moe_by_hand::params::{Builder, Param, ParamGrads, Params, Role};
use moe_by_hand::real::Real;
use moe_by_hand::rng::Rng;
use moe_by_hand::tensors::Tensors;
use moe_by_hand::train::checkpoint::{self, Checkpoint};
use moe_by_hand::train::data::Text;
use moe_by_hand::train::optimizer::{Optimizer, Step};
use moe_by_hand::train::options::Options;
use moe_by_hand::train::trainer::Trainer;
use std::sync::mpsc;

const D: usize = 16;

// An attention: the row before, times a learned number --------------------------

/// yₜ = c·xₜ₋₁, and 0 for the first row.
struct Previous {
    c: Param,
}
struct PreviousActs<T> {
    time: usize,
    y: Buffer<T>,
    seen: Context,
}
impl Previous {
    fn new(mut b: Builder) -> Self {
        Self { c: b.param("c", [1], Role::Gain) }
    }
}
impl Layer for Previous {
    type Acts<T: Real> = PreviousActs<T>;
    fn acts<T: Real>(&self, s: Shape) -> PreviousActs<T> {
        let seen = Context::default();
        PreviousActs { time: s.time, y: buffer(s.rows() * D), seen }
    }
    fn y<T: Real>(a: &mut PreviousActs<T>) -> &mut [T] {
        &mut a.y
    }
    fn context<T: Real>(a: &mut PreviousActs<T>, c: Context) {
        a.seen = c;
    }
    fn forward<T: Real>(
        &self, p: &Params<T>, x: &[T], a: &mut PreviousActs<T>,
    ) {
        for (t, y) in a.y.chunks_exact_mut(D).enumerate() {
            for (j, y) in y.iter_mut().enumerate() {
                let first = t % a.time == 0;
                let before = if first { T::ZERO } else { x[(t - 1) * D + j] };
                *y = p[self.c][0] * before;
            }
        }
    }
    fn backward<T: Real>(
        &self, p: &Params<T>, x: &[T], a: &PreviousActs<T>,
        g: &mut PreviousActs<T>, dx: &mut [T], dp: &mut ParamGrads<T>,
    ) {
        dx.fill(T::ZERO);
        let dc = &mut dp.write(self.c)[0];
        for (i, &dy) in g.y.iter().enumerate() {
            if !(i / D).is_multiple_of(a.time) {
                // y[t] = c·x[t − 1]
                dx[i - D] = p[self.c][0] * dy;
                *dc += x[i - D] * dy;
            }
        }
    }
}
impl Decode for Previous {
    /// Every row so far.
    type Cache<T: Real> = Buffer<T>;
    fn cache<T: Real>(&self, _: usize) -> Buffer<T> {
        buffer(32 * D)
    }
    fn acts_cached<T: Real>(&self, time: usize) -> PreviousActs<T> {
        self.acts(Shape { batch: 1, time })
    }
    fn extend<T: Real>(
        &self, p: &Params<T>, x: &[T], a: &mut PreviousActs<T>,
        rows: &mut Buffer<T>, start: usize,
    ) {
        rows[start * D..][..x.len()].copy_from_slice(x);
        for (i, y) in a.y.iter_mut().enumerate() {
            let at = start * D + i;
            let before = if at < D { T::ZERO } else { rows[at - D] };
            *y = p[self.c][0] * before;
        }
    }
}

// A router: the experts take turns, by what each has done so far ----------------

/// Every row goes to the k experts that have had least so far, each with the
/// weight σ(x·w).
struct Turns {
    w: Param,
    /// Σ of the shares of all steps, which no gradient moves.
    had: Param,
    k: usize,
}
struct TurnsActs<T: Real> {
    weight: Buffer<T>,
    choice: Buffer<usize>,
    totals: Totals<T>,
}
impl Turns {
    fn new(mut b: Builder, e: usize, k: usize) -> Self {
        let w = b.param("w", [D], Role::Bias);
        Self { w, had: b.param("had", [e], Role::Bias), k }
    }
}
impl Route for Turns {
    fn experts(&self) -> usize {
        self.had.cols
    }
    fn top_k(&self) -> usize {
        self.k
    }
    fn weight<T: Real>(a: &TurnsActs<T>) -> &[T] {
        &a.weight
    }
    fn count<T: Real>(a: &TurnsActs<T>) -> &[usize] {
        &a.totals.count
    }
}
impl Layer for Turns {
    type Acts<T: Real> = TurnsActs<T>;
    fn acts<T: Real>(&self, s: Shape) -> TurnsActs<T> {
        let n = s.rows() * self.k;
        let mut totals = Totals::new(self.had.cols, self.k);
        totals.other = vec![("rows of one step", T::Wide::ZERO)];
        TurnsActs { weight: buffer(n), choice: indices(n), totals }
    }
    fn y<T: Real>(a: &mut TurnsActs<T>) -> &mut [T] {
        &mut a.weight
    }
    fn totals<T: Real>(a: &mut TurnsActs<T>) -> Option<&mut Totals<T>> {
        Some(&mut a.totals)
    }
    fn choices<T: Real>(a: &TurnsActs<T>) -> &[usize] {
        &a.choice
    }
    fn forward<T: Real>(&self, p: &Params<T>, x: &[T], a: &mut TurnsActs<T>) {
        let had = &p[self.had];
        let mut order: Vec<usize> = (0..had.len()).collect();
        order.sort_by(|&i, &j| had[i].f64().total_cmp(&had[j].f64()));
        a.totals.clear();
        a.totals.rows = x.len() / D;
        for (t, x) in x.chunks_exact(D).enumerate() {
            let z: T = x.iter().zip(&p[self.w]).map(|(&x, &w)| x * w).sum();
            for (j, &e) in order[..self.k].iter().enumerate() {
                a.weight[t * self.k + j] = T::ONE / (T::ONE + (-z).exp());
                a.choice[t * self.k + j] = e;
                a.totals.count[e] += 1;
            }
            a.totals.other[0].1 += T::Wide::ONE;
        }
    }
    fn backward<T: Real>(
        &self, p: &Params<T>, x: &[T], a: &TurnsActs<T>, g: &mut TurnsActs<T>,
        dx: &mut [T], dp: &mut ParamGrads<T>,
    ) {
        dp.write(self.had); // no gradient: 0
        let dw = dp.write(self.w);
        let rows = x.chunks_exact(D).zip(dx.chunks_exact_mut(D));
        for (t, (x, dx)) in rows.enumerate() {
            let each = t * self.k..(t + 1) * self.k;
            // weight = σ(z), σ' = σ·(1 − σ), for each of the k
            let both = a.weight[each.clone()].iter().zip(&g.weight[each]);
            let dz: T = both.map(|(&s, &d)| d * s * (T::ONE - s)).sum();
            for j in 0..D {
                dx[j] = dz * p[self.w][j];
                dw[j] += dz * x[j];
            }
        }
    }
}

// An optimizer and a loss -----------------------------------------------------

/// u ← μ·u + g, θ ← θ − η·u.
struct HeavyBall {
    u: Buffer<f32>,
    frozen: Vec<std::ops::Range<usize>>,
}
impl HeavyBall {
    fn new(m: &Model<Own>) -> Self {
        let frozen = m.layout.entries.iter().filter(|e| e.frozen);
        let frozen = frozen.map(|e| e.param.range()).collect();
        Self { u: Buffer::new(m.layout.len, 0.0), frozen }
    }
}
impl Optimizer<f32> for HeavyBall {
    fn name(&self) -> &'static str {
        "heavy-ball"
    }
    fn step(&mut self, p: &mut Params<f32>, dp: &ParamGrads<f32>, s: Step) {
        let all = p.data.iter_mut().zip(&mut self.u).zip(&dp.data);
        for (i, ((p, u), g)) in all.enumerate() {
            *u = 0.9 * *u + s.scale as f32 * g;
            if !self.frozen.iter().any(|r| r.contains(&i)) {
                *p -= s.lr as f32 * *u;
            }
        }
    }
    fn states(&mut self) -> Vec<(&'static str, &mut [f32])> {
        vec![("velocity", &mut self.u)]
    }
}
/// Half of the cross-entropy.
struct Half;
impl Loss for Half {
    fn forward<T: Real>(&self, lse: &mut [T], z: &[T], y: &[usize]) -> T {
        cross_entropy_forward(lse, z, y) * T::of(0.5)
    }
    fn backward<T: Real>(
        &self, dz: &mut [T], z: &[T], lse: &[T], y: &[usize], dsum: T,
    ) {
        use moe_by_hand::nn::loss::cross_entropy_backward;
        cross_entropy_backward(dz, z, lse, y, dsum * T::of(0.5));
    }
}

// All of it together -----------------------------------------------------------

type Own = Block<Previous, Moe<Turns>>;

fn model() -> Model<Own> {
    let config = Config {
        hidden: D,
        layers: 2,
        heads: 2,
        kv_heads: 1,
        head: 8,
        experts: 5,
        intermediate: 8,
        context: 32,
        ..Config::preset("bytes").unwrap()
    };
    let build = |b: Builder, c: &Config| {
        let sizes = experts(c);
        let turns = |b: Builder| Turns::new(b, c.experts, c.top_k);
        Block::with(b, c, Previous::new, |b| Moe::with(b, D, sizes, turns))
    };
    let mut m = Model::with_blocks(config, build).unwrap();
    for l in 0..2 {
        let name = format!("layers.{l}.moe.router.had");
        assert_eq!(m.layout.freeze(&name), 1, "{name}");
    }
    m
}
type OwnTrainer = Trainer<Own, HeavyBall, Half>;
fn trainer() -> OwnTrainer {
    let text = Text::new(b"to be or not to be, that is ".repeat(40));
    let options = Options {
        steps: 30,
        batch: 4,
        seq: 16,
        lr: 0.3,
        recompute: true,
        ..Options::default()
    };
    let m = model();
    let ball = HeavyBall::new(&m);
    let mut t = Trainer::with(m, text, options, ball, Half).unwrap();
    t.after_step(|s| {
        let shares: Vec<Vec<f64>> = s.load().map(<[f64]>::to_vec).collect();
        for (block, shares) in s.model.blocks.iter().zip(shares) {
            let had = &mut s.params[block.moe.router.had];
            for (had, share) in had.iter_mut().zip(shares) {
                *had += share as f32;
            }
        }
        for totals in s.totals() {
            let rows = ("rows of one step", 64.0);
            assert_eq!(totals.other, [rows], "over all shards");
        }
        // Recomputed, the first block runs last.
        let told = |c: Context| c.training && c.step == s.step && c.layer == 0;
        let all = s.acts().all(|a| told(a.blocks[0].attention.seen));
        assert!(all, "each pass is told what it is for");
    });
    t
}

#[test]
fn the_parts_are_proven_in_one_line_each() {
    let s = Shape { batch: 2, time: 3 };
    assert_layer(Previous::new, s, D);
    assert_layer(|b| Turns::new(b, 5, 2), s, D);
}

#[test]
fn trains_saves_resumes_and_generates() {
    let dir = Dir::new();
    let file = dir.0.join(checkpoint::FILE);
    let mut whole = trainer();
    let (before, first) = (whole.validate(), whole.params.data.clone());
    let mut halfway = trainer();
    while !whole.done() {
        whole.step().unwrap();
        if whole.steps_done() == 11 {
            whole.save(&file).unwrap();
            halfway.restore(Checkpoint::read(&file).unwrap()).unwrap();
        }
    }
    while !halfway.done() {
        halfway.step().unwrap();
    }
    assert!(whole.params == halfway.params, "resumed to the bit");
    let after = whole.validate();
    assert!(after < 0.8 * before, "it learns: {before} to {after}");
    // The hook counted, and the optimizer left it alone.
    for block in &whole.model.blocks {
        let had = &whole.params[block.moe.router.had];
        let sum: f32 = had.iter().sum();
        assert!((sum - 30.0).abs() < 1e-3, "30 steps of shares: {had:?}");
        let most = had.iter().fold(0f32, |m, &h| m.max(h));
        assert!(most < 6.6, "the experts take turns: {had:?}");
    }
    assert!(first != whole.params.data, "θ moved");
    // What others read has the parameters that Mixtral does not know, too.
    hf::save(&dir.0, &whole.model, &whole.params).unwrap();
    let saved = Tensors::open(&dir.0.join("model.safetensors")).unwrap();
    let name = "layers.0.moe.router.had";
    let had: Vec<f32> = saved.floats(name, &[5]).unwrap();
    assert_eq!(had, whole.params[whole.model.blocks[0].moe.router.had]);
    // It writes.
    let mut d = Decoder::new(&whole.model);
    let mut sampler = Sampler::greedy();
    let (mut rng, mut said) = (Rng::new(0, 0), vec![]);
    let p = &whole.params;
    let take = |token| {
        said.push(token as u8);
        true
    };
    let prompt = [b't'.into()];
    generate(&mut d, p, &prompt, 8, &mut sampler, &mut rng, take).unwrap();
    assert_eq!(said.len(), 8, "{:?}", String::from_utf8_lossy(&said));
}

#[test]
fn another_optimizer_model_or_file_is_refused() {
    let dir = Dir::new();
    let file = dir.0.join(checkpoint::FILE);
    let mut t = trainer();
    t.save(&file).unwrap();
    let saved = || Checkpoint::read(&file).unwrap();
    let says = |r: moe_by_hand::error::Result<()>, words: &str| {
        let said = r.unwrap_err().to_string();
        assert!(said.contains(words) && !said.contains('\n'), "{said}");
    };
    let adam = Trainer::new(model(), t.text().clone(), t.options().clone());
    let words = "the optimizer is adamw, but the run was begun with heavy-ball";
    says(adam.unwrap().restore(saved()), words);
    // The same number of parameters under other names.
    let mut other = trainer();
    other.model.layout.entries[0].name = "emb".into();
    says(other.restore(saved()), "table of the checkpoint's parameters");
    let mut bad = saved();
    bad.tensors.remove("velocity");
    says(trainer().restore(bad), "`velocity` in the checkpoint is 0");
    let mut bad = saved();
    bad.tensors.insert("m".into(), vec![]);
    says(trainer().restore(bad), "\"m\"");
    trainer().restore(saved()).unwrap();
}

#[test]
fn a_decoder_rolls_back_and_shows_every_position() {
    let m = model();
    let mut p = m.init::<f64>(3);
    Rng::new(1, 1).fill_normal(&mut p.data, 0.3);
    let tokens = [3, 1, 4, 1, 5, 9, 2, 6];
    let mut a = m.acts(Shape { batch: 1, time: 8 }, false);
    m.forward(&p, &tokens, &mut a);
    let v = m.config.vocab;
    let mut d = Decoder::new(&m);
    let all = d.extend_all(&p, &tokens).unwrap();
    assert!(gap(all, &a.head.y) < 1e-12, "logits of every position");
    d.truncate(3);
    d.extend(&p, &[200, 201, 202]).unwrap(); // to be forgotten
    d.truncate(3);
    assert_eq!((d.len(), d.room()), (3, 29));
    let rest = d.extend_all(&p, &tokens[3..]).unwrap();
    assert!(gap(rest, &a.head.y[3 * v..]) < 1e-12, "after a roll-back");
    assert!(d.extend_all(&p, &[]).is_err(), "no token");
}

/// The hook may own what it reports to.
#[test]
fn the_hook_runs_after_each_step() {
    let (to, from) = mpsc::channel();
    let mut t = trainer();
    t.after_step(move |s| {
        let moved = s.params.data.iter().all(|p| p.is_finite());
        let flows = s.grads().data.iter().any(|&g| g != 0.0);
        to.send((s.step, moved && flows)).unwrap();
    });
    t.step().unwrap();
    t.step().unwrap();
    drop(t);
    assert_eq!(from.iter().collect::<Vec<_>>(), [(1, true), (2, true)]);
}
