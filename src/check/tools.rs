//! Chapter: gradcheck. What the proofs have in common: what a check is, the
//! kinds of measures, random inputs, small sizes.

use crate::config::Config;
use crate::gradcheck::{
    Function, Measure, Plan, Report, gap, layer, measure, nan_max, normals,
};
use crate::layer::{Layer, Shape};
use crate::params::{Builder, Layout, Param, Params};
use crate::real::Real;
use crate::rng::Rng;

/// The proof of one equation.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// The equation's id, as in `equations.toml`.
    pub id: &'static str,
    /// Measures the equation.
    pub run: fn() -> Report,
    /// The equations that it is composed of. Where one of them is wrong, this
    /// one is too, and the fault is to be sought there.
    pub of: &'static [&'static str],
    /// Why it cannot be proven over a finite field; empty where it is, or where
    /// there is no backward to prove.
    pub inexact: &'static str,
}
impl Check {
    /// The same check with the reason why it has no T10.
    pub(super) const fn inexact(self, why: &'static str) -> Self {
        Self { inexact: why, ..self }
    }
}
/// The check of an equation that stands by itself.
pub(super) const fn check(id: &'static str, run: fn() -> Report) -> Check {
    composed(id, run, &[])
}
/// The check of an equation that is composed of others.
pub(super) const fn composed(
    id: &'static str, run: fn() -> Report, of: &'static [&'static str],
) -> Check {
    Check { id, run, of, inexact: "" }
}

// Measures ------------------------------------------------------------------

/// T1, T2 and T10 of a function on its named inputs.
pub(super) fn proof<F: Function>(f: &F, inputs: &[(&str, Vec<f64>)]) -> Report {
    let names: Vec<String> = inputs.iter().map(|i| i.0.to_string()).collect();
    let x = inputs.iter().map(|i| i.1.clone()).collect();
    measure(f, &names, x, Plan::LAYER)
}
/// The proof of a layer with rows of width [`D`]: T1, T2 and T10 at `shape` and at
/// one token a sequence.
pub(super) fn layer_proof<L: Layer>(
    build: impl Fn(Builder) -> L, shape: Shape,
) -> Report {
    layer(&build, shape, D, 1).and(layer(&build, SINGLE, D, 2).of("T = 1"))
}
/// T7: a formula evaluated literally, within 10⁻¹² of the size of the result.
pub(super) fn formula(what: &str, got: &[f64], want: &[f64]) -> Report {
    let size = want.iter().fold(1.0, |m: f64, w| m.max(w.abs()));
    invariant(what, gap(got, want) / size, 1e-12)
}
/// T7: an error that is 0 but for rounding.
pub(super) fn invariant(what: &str, error: f64, bound: f64) -> Report {
    let measures = vec![Measure::invariant(what, error, bound)];
    Report { measures, ..Report::default() }
}
/// T7: something that holds or does not.
pub(super) fn fact(what: &str, holds: bool) -> Report {
    invariant(what, if holds { 0.0 } else { 1.0 }, 0.0)
}

// Numbers -------------------------------------------------------------------

/// The sum of the numbers.
pub(super) fn sum(x: impl IntoIterator<Item = f64>) -> f64 {
    x.into_iter().sum()
}
/// What `f` adds to n numbers that are not 0 before.
pub(super) fn added<T: Real>(n: usize, f: impl FnOnce(&mut [T])) -> Vec<T> {
    let mut x = vec![T::ONE; n];
    f(&mut x);
    x.iter().map(|&x| x - T::ONE).collect()
}
/// The largest |x|; NaN if there is one.
pub(super) fn worst(x: impl IntoIterator<Item = f64>) -> f64 {
    x.into_iter().map(f64::abs).fold(0.0, nan_max)
}
/// n random numbers of scale 1.5, the same for the same name.
pub(super) fn random(name: &str, n: usize) -> Vec<f64> {
    normals(n, 1.5, &mut Rng::named(3, name))
}
/// The length of a row of scores.
pub(super) const N: usize = 5;
/// Three rows of N scores.
pub(super) fn scores() -> Vec<f64> {
    random("scores", 3 * N)
}
/// What `f` makes of each row of N numbers.
pub(super) fn rows(x: &[f64], f: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
    x.chunks(N).flat_map(f).collect()
}
/// x·w for rows x of width d.
pub(super) fn product(x: &[f64], w: &[f64], d: usize) -> Vec<f64> {
    let f = w.len() / d;
    let at = |x: &[f64], j| (0..d).map(|i| x[i] * w[i * f + j]).sum();
    x.chunks(d).flat_map(|x| (0..f).map(move |j| at(x, j))).collect()
}

/// Adds a bias to each row of y.
pub(super) fn add_bias(y: &mut [f64], b: &[f64]) {
    y.iter_mut().enumerate().for_each(|(i, y)| *y += b[i % b.len()]);
}

// Layers and models ---------------------------------------------------------

/// The width of a layer's rows.
pub(super) const D: usize = 6;
/// Two short sequences.
pub(super) const SHORT: Shape = Shape { batch: 2, time: 3 };
/// Two sequences that are longer.
pub(super) const LONG: Shape = Shape { batch: 2, time: 5 };
/// One token a sequence: nothing to attend to but itself.
pub(super) const SINGLE: Shape = Shape { batch: 3, time: 1 };

/// A layer with random parameters.
pub(super) struct Built<L> {
    /// The layer.
    pub(super) layer: L,
    /// Its parameters.
    pub(super) p: Params<f64>,
    layout: Layout,
}
/// Builds a layer and draws its parameters.
pub(super) fn built<L>(build: impl FnOnce(Builder) -> L) -> Built<L> {
    let mut layout = Layout::default();
    let layer = build(layout.builder());
    let mut p = layout.zeros();
    Rng::named(5, "built").fill_normal(&mut p.data, 0.7);
    Built { layer, p, layout }
}
impl<L: Layer> Built<L> {
    /// Where the parameter `name` lies.
    pub(super) fn param(&self, name: &str) -> Param {
        self.layout.find(name).expect("a parameter of that name").param
    }
    /// The parameter `name`.
    pub(super) fn get(&self, name: &str) -> &[f64] {
        &self.p[self.param(name)]
    }
    /// The layer's output for the rows x.
    pub(super) fn forward(&self, x: &[f64], shape: Shape) -> Vec<f64> {
        forward(&self.layer, &self.p, x, shape)
    }
}
/// A layer's output for the rows x.
pub(super) fn forward<L: Layer>(
    layer: &L, p: &Params<f64>, x: &[f64], shape: Shape,
) -> Vec<f64> {
    let mut a = layer.acts(shape);
    layer.forward(p, x, &mut a);
    L::y(&mut a).to_vec()
}

/// The sizes of the whole model that is proven: small, so that each of its
/// parameters counts.
pub fn config() -> Config {
    Config {
        vocab: 11,
        hidden: 12,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head: 4,
        experts: 5,
        top_k: 2,
        intermediate: 7,
        context: 8,
        rms_eps: 0.01,
        rope_theta: 100.0,
        aux: 0.01,
        init: 0.02,
        tied: false,
        attention_bias: false,
    }
}
