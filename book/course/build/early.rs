//! What can be told at once of an equation whose proof waits for layers that
//! are written later: the same equation on what is there.

use moe_by_hand::block::Block;
use moe_by_hand::check::{Check, config};
use moe_by_hand::draws::Rng;
use moe_by_hand::gradcheck::{Report, gap, layer, normals};
use moe_by_hand::kernel::matrix::{mat, mat_mut};
use moe_by_hand::layer::{Layer, Shape};
use moe_by_hand::nn::attention::attention_forward;
use moe_by_hand::nn::linear::Linear;
use moe_by_hand::params::{Builder, Layout, Params};

pub const EARLY: [Check; 3] = [
    early("attention-forward", attention, &[]),
    early("block-forward", block, &["rmsnorm-forward", "linear-forward"]),
    early(
        "residual-backward",
        || {
            layer(simple, SHAPE, config().hidden, 1)
                .of("a block of linear maps")
        },
        &["block-forward", "rmsnorm-layer-backward", "linear-backward"],
    ),
];
const fn early(
    id: &'static str, run: fn() -> Report, of: &'static [&'static str],
) -> Check {
    Check { id, run, of, inexact: "" }
}
const SHAPE: Shape = Shape { batch: 2, time: 3 };

/// A block with linear maps for attention and for the mixture.
fn simple(b: Builder) -> Block<Linear, Linear> {
    let c = config();
    let linear = |b: Builder| Linear::new(b, c.hidden, c.hidden);
    Block::with(b, &c, linear, linear)
}
fn block() -> Report {
    let mut layout = Layout::default();
    let b = simple(layout.builder());
    let mut p = layout.zeros();
    let mut rng = Rng::named(5, "early");
    rng.fill_normal(&mut p.data, 0.7);
    let x = normals(SHAPE.rows() * config().hidden, 1.0, &mut rng);
    let mut a = b.acts(SHAPE);
    b.forward(&p, &x, &mut a);
    let u = alone(&b.norm1, &p, &x);
    let h = plus(&x, &alone(&b.attention, &p, &u));
    let u = alone(&b.norm2, &p, &h);
    let y = plus(&h, &alone(&b.moe, &p, &u));
    let [h, y] = [gap(&a.h, &h), gap(&a.y, &y)];
    let report = Report::default();
    let report = report.with("h = x + linear(norm(x))", h, 1e-12);
    report.with("y = h + linear(norm(h))", y, 1e-12)
}
fn alone<L: Layer>(layer: &L, p: &Params<f64>, x: &[f64]) -> Vec<f64> {
    let mut a = layer.acts(SHAPE);
    layer.forward(p, x, &mut a);
    L::y(&mut a).to_vec()
}
fn plus(x: &[f64], y: &[f64]) -> Vec<f64> {
    x.iter().zip(y).map(|(x, y)| x + y).collect()
}

/// Three queries for each of two heads, five keys, of width four.
fn attention() -> Report {
    let (t, s, g, d) = (3, 5, 2, 4);
    let mut rng = Rng::named(5, "early");
    let mut random = |n| normals(n, 1.5, &mut rng);
    let [q, k, v] = [random(t * g * d), random(s * d), random(s * d)];
    let (mut got, mut prob) = (vec![0.0; t * g * d], vec![0.0; t * g * s]);
    let [qs, ks, vs] = [&q, &k, &v].map(|x| mat(x, d));
    attention_forward(mat_mut(&mut got, d), &mut prob, qs, ks, vs, g);
    let mut want = vec![0.0; got.len()];
    for (i, want) in want.chunks_mut(d).enumerate() {
        let mut all = 0.0;
        for j in 0..=i / g + s - t {
            let pairs = q[i * d..][..d].iter().zip(&k[j * d..][..d]);
            let score: f64 = pairs.map(|(q, k)| q * k).sum();
            let e = (score / (d as f64).sqrt()).exp();
            all += e;
            let v = &v[j * d..][..d];
            want.iter_mut().zip(v).for_each(|(w, v)| *w += e * v);
        }
        want.iter_mut().for_each(|w| *w /= all);
    }
    let what = "softmax(Q·Kᵀ/√d + M)·V";
    Report::default().with(what, gap(&got, &want), 1e-12)
}
