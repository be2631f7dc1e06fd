//! Chapter: gradcheck. Proofs of the layers, each by itself, on every shape
//! that has hidden an error before.

use super::kernels::{fact, formula, random};
use crate::block::Block;
use crate::config::Config;
use crate::gradcheck::{Report, layer};
use crate::hf;
use crate::kernel::vector::dot;
use crate::layer::{Decode, Layer, Shape};
use crate::nn::attention::{Attention, Heads};
use crate::nn::linear::Linear;
use crate::nn::moe::{Experts, Moe};
use crate::nn::rmsnorm::RmsNorm;
use crate::nn::rope::{Rope, rope_forward};
use crate::nn::router::Router;
use crate::nn::swiglu::SwiGlu;
use crate::params::{Builder, Layout, Param, Params, Role};
use crate::rng::Rng;
use std::sync::Arc;

/// Width of every row here.
const D: usize = 6;
const SHORT: Shape = Shape { batch: 2, time: 3 };
const LONG: Shape = Shape { batch: 2, time: 5 };
/// One token a sequence: nothing to attend to but itself.
const SINGLE: Shape = Shape { batch: 3, time: 1 };

/// A layer with random parameters.
struct Built<L> {
    layer: L,
    layout: Layout,
    p: Params<f64>,
}
fn built<L>(build: impl FnOnce(Builder) -> L) -> Built<L> {
    let mut layout = Layout::default();
    let layer = build(layout.builder());
    let mut p = layout.zeros();
    Rng::named(5, "built").fill_normal(&mut p.data, 0.7);
    Built { layer, layout, p }
}
impl<L> Built<L> {
    fn param(&self, name: &str) -> Param {
        self.layout.find(name).expect("a parameter of that name").param
    }
    fn get(&self, name: &str) -> &[f64] {
        &self.p[self.param(name)]
    }
}
/// x·w for rows of width d.
fn product(x: &[f64], w: &[f64], d: usize) -> Vec<f64> {
    let f = w.len() / d;
    let at = |x: &[f64], j| (0..d).map(|i| x[i] * w[i * f + j]).sum();
    x.chunks(d).flat_map(|x| (0..f).map(move |j| at(x, j))).collect()
}

// Chapter: linear -----------------------------------------------------------

fn linear(b: Builder) -> Linear {
    Linear::new(b, D, 5)
}
pub(super) fn linear_forward() -> Report {
    let (l, x) = (built(linear), random("x", 6 * D));
    let mut a = l.layer.acts(SHORT);
    l.layer.forward(&l.p, &x, &mut a);
    formula("Y = X·W", &a.y, &product(&x, l.get("w"), D))
}
pub(super) fn linear_backward() -> Report {
    layer(linear, SHORT, D, 1).and(layer(linear, SINGLE, D, 2).of("T = 1"))
}
pub(super) fn linear_backward_input() -> Report {
    layer(linear, SHORT, D, 1).only("x")
}
pub(super) fn linear_backward_weight() -> Report {
    layer(linear, SHORT, D, 1).only("w")
}

// Chapter: rmsnorm, swiglu --------------------------------------------------

pub(super) fn rmsnorm_backward() -> Report {
    let norm = |eps| move |b: Builder| RmsNorm::new(b, D, eps);
    layer(norm(1e-5), SHORT, D, 1)
        .and(layer(norm(0.3), LONG, D, 2).of("ε = 0.3"))
}
fn swiglu(b: Builder) -> SwiGlu {
    SwiGlu::new(b, D, 5)
}
pub(super) fn swiglu_forward() -> Report {
    let (l, x) = (built(swiglu), random("x", 6 * D));
    let mut a = l.layer.acts(SHORT);
    l.layer.forward(&l.p, &x, &mut a);
    let [gate, up] = ["w1", "w3"].map(|w| product(&x, l.get(w), D));
    let silu = |z: f64| z / (1.0 + (-z).exp());
    let hidden: Vec<f64> =
        gate.iter().zip(&up).map(|(&z, u)| silu(z) * u).collect();
    let want = product(&hidden, l.get("w2"), 5);
    formula("(silu(x·W₁)·x·W₃)·W₂", &a.y, &want)
}
pub(super) fn swiglu_backward() -> Report {
    layer(swiglu, SHORT, D, 1).and(layer(swiglu, SINGLE, D, 2).of("T = 1"))
}

// Chapter: attention, heads, kv-cache ---------------------------------------

/// Groups of two; all queries on one key head; a key head for each.
const HEADS: [(&str, Heads); 3] = [
    ("grouped", Heads { heads: 4, kv_heads: 2, head: 4 }),
    ("one key head", Heads { heads: 4, kv_heads: 1, head: 2 }),
    ("as many", Heads { heads: 2, kv_heads: 2, head: 6 }),
];
fn attention(h: Heads) -> impl Fn(Builder) -> Attention {
    let rope = Arc::new(Rope::new(h.head, 5, 100.0));
    move |b| Attention::new(b, D, h, rope.clone())
}
/// Attention of one sequence head by head, as the formula says it.
fn attention_literal(l: &Built<Attention>, h: Heads, x: &[f64]) -> Vec<f64> {
    let (t, d) = (x.len() / D, h.head);
    let rope = Rope::new(d, t, 100.0);
    let [mut q, mut k, v] = ["wq", "wk", "wv"].map(|w| product(x, l.get(w), D));
    rope_forward(&mut q, h.heads * d, t, 0, &rope);
    rope_forward(&mut k, h.kv_heads * d, t, 0, &rope);
    let mut mix = vec![0.0; t * h.heads * d];
    for i in 0..t {
        for head in 0..h.heads {
            let kv = head / (h.heads / h.kv_heads);
            let of = |m: usize, h: usize, heads: usize| {
                (m * heads + h) * d..(m * heads + h + 1) * d
            };
            let q = &q[of(i, head, h.heads)];
            let score = |j| {
                let k = &k[of(j, kv, h.kv_heads)];
                (dot(q, k) / (d as f64).sqrt()).exp()
            };
            let all: f64 = (0..=i).map(score).sum();
            for j in 0..=i {
                let v = &v[of(j, kv, h.kv_heads)];
                let to = &mut mix[of(i, head, h.heads)];
                (0..d).for_each(|c| to[c] += score(j) / all * v[c]);
            }
        }
    }
    product(&mix, l.get("wo"), h.heads * d)
}
pub(super) fn attention_forward() -> Report {
    let of = |(name, h): (&str, Heads)| {
        let (l, x) = (built(attention(h)), random("x", 10 * D));
        let mut a = l.layer.acts(LONG);
        l.layer.forward(&l.p, &x, &mut a);
        let each = x.chunks(5 * D).map(|x| attention_literal(&l, h, x));
        formula(name, &a.y, &each.collect::<Vec<_>>().concat())
    };
    HEADS.map(of).into_iter().reduce(Report::and).unwrap_or_default()
}
pub(super) fn attention_backward() -> Report {
    let of = |(name, h): (&str, Heads)| {
        layer(attention(h), LONG, D, 1)
            .and(layer(attention(h), SINGLE, D, 2).of("T = 1"))
            .of(name)
    };
    HEADS.map(of).into_iter().reduce(Report::and).unwrap_or_default()
}
pub(super) fn kv_cache() -> Report {
    let of = |(name, h): (&str, Heads)| {
        let (l, x) = (built(attention(h)), random("x", 5 * D));
        let whole = Shape { batch: 1, time: 5 };
        let mut a = l.layer.acts(whole);
        l.layer.forward(&l.p, &x, &mut a);
        // Two rows at once, then one by one.
        let (mut cache, mut y) = (l.layer.cache(usize::MAX), vec![]);
        for (start, t) in [(0, 2), (2, 1), (3, 1), (4, 1)] {
            let mut a = l.layer.acts_cached(t);
            let x = &x[start * D..(start + t) * D];
            l.layer.extend(&l.p, x, &mut a, &mut cache, start);
            y.extend_from_slice(&a.y);
        }
        formula(name, &y, &a.y)
    };
    HEADS.map(of).into_iter().reduce(Report::and).unwrap_or_default()
}

// Chapter: rope -------------------------------------------------------------

/// The columns of two heads as files have them: first halves, second halves.
pub(super) fn rope_layout() -> Report {
    let mut layout = Layout::default();
    layout.builder().at("attention").param("wq", [1, 8], Role::Weight);
    let (wq, rope) = (&layout.entries[0], Rope::new(4, 4, 100.0));
    let x = random("x", 8);
    let mut ours = x.clone();
    rope_forward(&mut ours, 8, 1, 3, &rope);
    let mut theirs = hf::to_hf(&x, wq, 4);
    for head in theirs.chunks_exact_mut(4) {
        for i in 0..2 {
            let (sin, cos) = (3.0 * 100f64.powf(-(i as f64) / 2.0)).sin_cos();
            let (u, v) = (head[i], head[i + 2]);
            (head[i], head[i + 2]) = (u * cos - v * sin, v * cos + u * sin);
        }
    }
    let mut back = vec![f64::NAN; 8];
    hf::from_hf(&mut back, &hf::to_hf(&x, wq, 4), wq, 4);
    let turned = hf::to_hf(&ours, wq, 4);
    formula("halves turned = neighbors turned", &theirs, &turned)
        .and(fact("there and back", back == x))
}

// Chapter: router, experts --------------------------------------------------

const E: usize = 5;
/// Of k = 2 on `SHORT`, with a seed that leaves an expert idle.
fn idle(r: Report) -> Report {
    let idle = (0..E).any(|e| !r.choices.contains(&e));
    let all = r.choices.len() == 2 * SHORT.rows();
    r.and(fact("an expert is idle", idle)).and(fact("2 choices a row", all))
}
fn router(k: usize) -> impl Fn(Builder) -> Router {
    move |b| Router::new(b, D, E, k)
}
pub(super) fn router_backward() -> Report {
    idle(layer(router(2), SHORT, D, 2))
        .and(layer(router(1), LONG, D, 2).of("k = 1"))
        .and(layer(router(E), LONG, D, 3).of("k = E"))
        .and(layer(router(2), SINGLE, D, 4).of("T = 1"))
}
fn moe(k: usize) -> impl Fn(Builder) -> Moe {
    let sizes = Experts { experts: E, top_k: k, intermediate: 7 };
    move |b| Moe::new(b, D, sizes)
}
pub(super) fn moe_backward() -> Report {
    idle(layer(moe(2), SHORT, D, 2))
        .and(layer(moe(1), SHORT, D, 2).of("k = 1"))
        .and(layer(moe(E), SHORT, D, 3).of("k = E"))
        .and(layer(moe(2), SINGLE, D, 4).of("T = 1"))
}
/// Experts and tokens may be renamed.
pub(super) fn moe_permutation() -> Report {
    let (l, x) = (built(moe(2)), random("x", 6 * D));
    let run = |p: &Params<f64>, x: &[f64]| {
        let mut a = l.layer.acts(SHORT);
        l.layer.forward(p, x, &mut a);
        a.y
    };
    let y = run(&l.p, &x);
    // Expert e becomes e + 2 mod E, and so does its column of scores.
    let mut p = l.p.clone();
    for e in 0..E {
        let to = (e + 2) % E;
        for w in ["w1", "w2", "w3"] {
            let from = l.get(&format!("experts.{e}.{w}"));
            p[l.param(&format!("experts.{to}.{w}"))].copy_from_slice(from);
        }
        let from = l.get("router.w");
        let w = &mut p[l.param("router.w")];
        (0..D).for_each(|i| w[i * E + to] = from[i * E + e]);
    }
    let back = |x: &[f64]| -> Vec<f64> {
        x.chunks(D).rev().flatten().copied().collect()
    };
    formula("experts renamed", &run(&p, &x), &y).and(formula(
        "tokens reversed",
        &back(&run(&l.p, &back(&x))),
        &y,
    ))
}

// Chapter: block ------------------------------------------------------------

fn block(b: Builder) -> Block {
    let c = Config {
        hidden: D,
        heads: 4,
        kv_heads: 2,
        head: 4,
        experts: E,
        intermediate: 7,
        rms_eps: 0.01,
        ..Config::preset("tiny").unwrap_or_else(|e| panic!("{e}"))
    };
    Block::new(b, &c, Arc::new(Rope::new(4, 5, 100.0)))
}
pub(super) fn block_forward() -> Report {
    let (l, x) = (built(block), random("x", 10 * D));
    let (b, p) = (&l.layer, &l.p);
    let mut a = b.acts(LONG);
    b.forward(p, &x, &mut a);
    fn run<L: Layer>(l: &L, p: &Params<f64>, x: &[f64]) -> Vec<f64> {
        let mut a = l.acts(LONG);
        l.forward(p, x, &mut a);
        L::y(&mut a).to_vec()
    }
    let plus = |x: &[f64], y: Vec<f64>| -> Vec<f64> {
        x.iter().zip(y).map(|(x, y)| x + y).collect()
    };
    let h = plus(&x, run(&b.attention, p, &run(&b.norm1, p, &x)));
    let y = plus(&h, run(&b.moe, p, &run(&b.norm2, p, &h)));
    formula("h = x + attention(norm(x))", &a.h, &h).and(formula(
        "y = h + moe(norm(h))",
        &a.y,
        &y,
    ))
}
pub(super) fn residual_backward() -> Report {
    layer(block, LONG, D, 1).and(layer(block, SINGLE, D, 2).of("T = 1"))
}
