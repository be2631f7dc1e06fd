//! Chapter: gradcheck. Any hand-written backward against central differences
//! (T1) and against dual numbers (T2).
//!
//! Both use a random cotangent ȳ: with ones, the sum of a softmax is constant
//! and a wrong backward of it passes. Both run in f64, on every tensor by
//! itself, because a small tensor hides in the norm of a large one.

use crate::kernel::vector::dot;
use crate::layer::{Layer, Shape};
use crate::params::{Builder, Layout, ParamGrads, Params, Role};
use crate::real::{Dual, Real};
use crate::rng::Rng;
use std::fmt;

/// h, the step of central differences: near u^{1/3}, where the sum of
/// truncation and rounding is smallest.
pub const STEP: f64 = 1e-5;

/// The rungs of the ladder of proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rung {
    /// Central differences of each element, in f64.
    T1,
    /// The adjoint identity ⟨ȳ, J·u⟩ = ⟨Jᵀȳ, u⟩ by dual numbers.
    T2,
    /// Central differences through the whole model.
    T3,
    /// The error of a difference falls a hundredfold with a tenfold smaller
    /// step.
    T4,
    /// A fast f32 kernel against its plain twin in f64.
    T5,
    /// Formulas evaluated literally, and invariants.
    T7,
}
impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// One measured error beside its bound.
#[derive(Clone, Debug)]
pub struct Measure {
    /// Which rung.
    pub rung: Rung,
    /// Of what: a tensor, an invariant.
    pub what: String,
    /// Measured; NaN where something was read before it was set.
    pub error: f64,
    /// What it has to stay below.
    pub bound: f64,
    /// The worst element in words, with what its ratio usually means.
    pub detail: String,
}
impl Measure {
    /// An error of T7: a formula or an invariant.
    pub fn invariant(what: impl fmt::Display, error: f64, bound: f64) -> Self {
        let (what, detail) = (what.to_string(), String::new());
        Self { rung: Rung::T7, what, error, bound, detail }
    }
    /// Whether the error is a number and within the bound.
    pub fn holds(&self) -> bool {
        self.error <= self.bound
    }
    /// How much of its bound the error takes up: above 1 where it is broken.
    fn share(&self) -> f64 {
        if self.error == 0.0 { 0.0 } else { self.error / self.bound }
    }
}
impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { rung, what, error, bound, detail } = self;
        write!(f, "{rung} {what}: error {error:.1e}, bound {bound:.0e}")?;
        if detail.is_empty() { Ok(()) } else { write!(f, "; {detail}") }
    }
}

/// All that was measured of one equation or layer.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// In the order they were made.
    pub measures: Vec<Measure>,
    /// The discrete choices that the forward pass made.
    pub choices: Vec<usize>,
}
impl Report {
    /// The measure nearest to its bound, or farthest beyond it, of one rung.
    pub fn worst(&self, rung: Rung) -> Option<&Measure> {
        let of_rung = self.measures.iter().filter(|m| m.rung == rung);
        of_rung.reduce(|w, m| {
            if m.share() <= w.share() || w.error.is_nan() { w } else { m }
        })
    }
    /// Whether every bound holds, and something was measured at all.
    pub fn holds(&self) -> bool {
        !self.measures.is_empty() && self.measures.iter().all(Measure::holds)
    }
    /// Both reports as one.
    pub fn and(mut self, other: Report) -> Self {
        self.measures.extend(other.measures);
        self.choices.extend(other.choices);
        self
    }
    /// With the error of a formula or an invariant.
    pub fn with(mut self, what: &str, error: f64, bound: f64) -> Self {
        self.measures.push(Measure::invariant(what, error, bound));
        self
    }
    /// With `what: ` before each name.
    pub fn of(mut self, what: &str) -> Self {
        for m in &mut self.measures {
            m.what = format!("{what}: {}", m.what);
        }
        self
    }
    /// Only what was measured of one tensor.
    pub fn only(mut self, tensor: &str) -> Self {
        let each = |m: &Measure| m.what.strip_suffix(EACH) == Some(tensor);
        self.measures.retain(|m| m.what == tensor || each(m));
        self
    }
    /// What is broken: of the first two tensors every rung, with the worst
    /// element and a hint; the names of the others; and the other cases. A
    /// wrong gradient spoils all that it flows on to, so the first lines say
    /// what is wrong, and where the names end, where.
    pub fn broken(&self) -> String {
        let mut lines = String::new();
        let (mut said, mut tensors, mut cases) = (vec![], vec![], vec![]);
        let broken = || self.measures.iter().filter(|m| !m.holds());
        // Against a plain kernel that is wrong itself, T5 says nothing.
        let plain = broken().any(|m| m.rung != Rung::T5);
        for m in broken().filter(|m| !plain || m.rung != Rung::T5) {
            let what = m.what.strip_suffix(EACH).unwrap_or(&m.what);
            let (case, tensor) = what.rsplit_once(": ").unwrap_or(("", what));
            for (name, names) in [(case, &mut cases), (tensor, &mut tensors)] {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
            let first = tensors.iter().take(2).any(|t| *t == tensor);
            if first && !said.contains(&(m.rung, tensor)) {
                said.push((m.rung, tensor));
                lines += &format!("\n  {m}");
            }
        }
        for (word, names) in
            [("and", tensors.get(2..)), ("also in", cases.get(1..))]
        {
            if let Some(names @ [_, ..]) = names {
                lines += &format!("\n  {word} {}", names.join(", "));
            }
        }
        lines
    }
    /// # Panics
    /// If a bound is broken: says which, with worst element and hint.
    #[track_caller]
    pub fn assert(&self, name: &str) {
        assert!(!self.measures.is_empty(), "{name}: nothing was measured");
        assert!(self.holds(), "{name} does not hold:{}", self.broken());
    }
}

/// After the name of a tensor: the rule of its elements.
const EACH: &str = ", each element";

/// Something with inputs, outputs and a hand-written backward.
pub trait Function {
    /// All outputs, one after the other, and the discrete choices made.
    fn forward<T: Real>(&self, x: &[Vec<T>]) -> (Vec<T>, Vec<usize>);
    /// The gradient of each input, given those of the outputs.
    fn backward(&self, x: &[Vec<f64>], dy: &[f64]) -> Vec<Vec<f64>>;
}

/// How a [`Function`] is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Of cotangent and directions.
    pub seed: u64,
    /// The rung that the differences count as, T1 or T3.
    pub rung: Rung,
    /// How many coordinates of each tensor to difference; all if it has no
    /// more.
    pub coordinates: usize,
    /// Bound of a tensor's relative error.
    pub bound: f64,
}
impl Plan {
    /// T1: every element, 10⁻⁷.
    pub const LAYER: Self =
        Self { seed: 1, rung: Rung::T1, coordinates: usize::MAX, bound: 1e-7 };
    /// T3: 24 coordinates of every tensor, 10⁻⁶.
    pub const MODEL: Self =
        Self { seed: 1, rung: Rung::T3, coordinates: 24, bound: 1e-6 };
}

/// Normal numbers with mean 0 and standard deviation `scale`.
pub fn normals(n: usize, scale: f64, rng: &mut Rng) -> Vec<f64> {
    let mut x = vec![0.0; n];
    rng.fill_normal(&mut x, scale);
    x
}
/// As `f64::max`, except that NaN wins.
pub fn nan_max(m: f64, v: f64) -> f64 {
    if v > m || v.is_nan() { v } else { m }
}
/// The largest |aᵢ − bᵢ|; NaN if there is one.
///
/// # Panics
/// If the lengths differ.
#[track_caller]
pub fn gap(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len(), "gap: lengths");
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, nan_max)
}

/// Measures a backward on the inputs `x`, each with its name.
///
/// Differences: n = (f(x + h) − f(x − h))/2h with f = ⟨ȳ, y⟩, and then, for
/// each tensor, ‖a − n‖ ≤ 10⁻⁷·(‖a‖ + ‖n‖) + 10⁻¹⁰·√len·max(1, |f|); on T1 each
/// element besides within 10⁻⁸ + 10⁻⁵·max(|a|, |n|). Dual numbers, for each
/// tensor with a random direction u: |⟨ȳ, J·u⟩ − ⟨x̄, u⟩| ≤ 10⁻¹²·‖x̄‖·‖u‖.
///
/// # Panics
/// If a step crosses a discrete choice: another seed has to be chosen.
#[track_caller]
pub fn measure<F: Function>(
    f: &F, names: &[String], mut x: Vec<Vec<f64>>, plan: Plan,
) -> Report {
    let mut rng = Rng::named(plan.seed, "gradcheck");
    let (y, choices) = f.forward(&x);
    let dy = normals(y.len(), 1.0, &mut rng);
    let (value, dx) = (dot(&y, &dy), f.backward(&x, &dy));
    let mut report = Report { measures: vec![], choices: choices.clone() };
    for (i, name) in names.iter().enumerate() {
        let at = coordinates(x[i].len(), plan.coordinates, &mut rng);
        let a: Vec<f64> = at.iter().map(|&j| dx[i][j]).collect();
        let mut n = vec![];
        for &j in &at {
            let keep = x[i][j];
            let mut shifted = |h: f64| {
                x[i][j] = keep + h;
                let (y, now) = f.forward(&x);
                assert_eq!(
                    now, choices,
                    "{name}[{j}]: margin too small, choose another seed"
                );
                dot(&y, &dy)
            };
            n.push((shifted(STEP) - shifted(-STEP)) / (2.0 * STEP));
            x[i][j] = keep;
        }
        let mut t1 = differences(name, &at, &a, &n, value, plan);
        let t2 = adjoint(f, i, name, &x, &dx[i], &dy, &mut rng);
        for m in t1.iter_mut().filter(|m| !m.holds() && t2.holds()) {
            m.detail += INEXACT;
        }
        report.measures.extend(t1);
        report.measures.push(t2);
    }
    report
}
/// What a broken T1 means where T2, which has no step, holds.
const INEXACT: &str = "; but dual numbers agree with the analytic one: here \
                       the difference is inexact, choose another seed";
/// Which of n coordinates to look at: all, or so many at random.
fn coordinates(n: usize, most: usize, rng: &mut Rng) -> Vec<usize> {
    if n <= most {
        return (0..n).collect();
    }
    (0..most).map(|_| rng.below(n)).collect()
}
/// The two rules of T1, the one of T3.
fn differences(
    name: &str, at: &[usize], a: &[f64], n: &[f64], value: f64, plan: Plan,
) -> Vec<Measure> {
    let norm = |v: &[f64]| dot(v, v).sqrt();
    let difference: Vec<f64> = a.iter().zip(n).map(|(a, n)| a - n).collect();
    // The rule of the tensor, divided by its bound's own scale.
    let floor = 1e-3 * (a.len() as f64).sqrt() * value.abs().max(1.0);
    let floor = floor * 1e-7 / plan.bound;
    let error = norm(&difference) / (norm(a) + norm(n) + floor);
    // The rule of the element likewise: 10⁻⁸ + 10⁻⁵·max = 10⁻⁵·(10⁻³ + max).
    let share =
        |i: usize| difference[i].abs() / (1e-3 + a[i].abs().max(n[i].abs()));
    let worse = |m: usize, i| if share(i) <= share(m) { m } else { i };
    let worst = (0..a.len()).reduce(worse);
    let one = |what: String, error: f64, bound: f64| {
        let mut detail = String::new();
        if let Some(i) = worst {
            detail = format!(
                "worst at [{}]: analytic {:.6e}, numeric {:.6e}",
                at[i], a[i], n[i]
            );
            if error.is_nan() || error > bound {
                let ratio = a[i] / n[i] + 0.0; // and no −0
                detail += &format!(", ratio {ratio:.4} ({})", hint(ratio));
            }
        }
        Measure { rung: plan.rung, what, error, bound, detail }
    };
    let tensor = one(name.to_string(), error, plan.bound);
    let element = worst
        .filter(|_| plan.rung == Rung::T1)
        .map(|i| one(format!("{name}{EACH}"), share(i), 1e-5));
    [tensor].into_iter().chain(element).collect()
}
/// T2 for the input i.
fn adjoint<F: Function>(
    f: &F, i: usize, name: &str, x: &[Vec<f64>], dx: &[f64], dy: &[f64],
    rng: &mut Rng,
) -> Measure {
    let u = normals(dx.len(), 1.0, rng);
    let dual = |(j, x): (usize, &Vec<f64>)| -> Vec<Dual> {
        let along = |k: usize| if j == i { u[k] } else { 0.0 };
        (0..x.len()).map(|k| Dual { v: x[k], d: along(k) }).collect()
    };
    let xd: Vec<Vec<Dual>> = x.iter().enumerate().map(dual).collect();
    let (y, _) = f.forward(&xd);
    let forward: f64 = y.iter().zip(dy).map(|(y, dy)| y.d * dy).sum();
    let reverse = dot(dx, &u);
    let scale = (dot(dx, dx) * dot(&u, &u)).sqrt();
    let gap = (forward - reverse).abs();
    // Both exactly 0 where nothing flows: 0/0 would hide that they agree.
    let error = if gap == 0.0 { 0.0 } else { gap / scale };
    let detail = format!("⟨ȳ, J·u⟩ = {forward:.6e}, ⟨x̄, u⟩ = {reverse:.6e}");
    Measure { rung: Rung::T2, what: name.into(), error, bound: 1e-12, detail }
}
/// Measures T4 of a function with a single output, at the inputs `x`: along a
/// random direction of length 1, the error of a difference falls with h²,
/// whatever the function; where the gradient is wrong it does not fall at all.
///
/// # Panics
/// If a step crosses a discrete choice: another seed has to be chosen.
#[track_caller]
pub fn slope<F: Function>(f: &F, x: &[Vec<f64>], seed: u64) -> Report {
    let flat = x.concat();
    let mut u = normals(flat.len(), 1.0, &mut Rng::named(seed, "slope"));
    let norm = dot(&u, &u).sqrt();
    u.iter_mut().for_each(|u| *u /= norm);
    let exact = dot(&f.backward(x, &[1.0]).concat(), &u);
    let (_, choices) = f.forward(x);
    let at = |h: f64| {
        let mut moved = flat.iter().zip(&u).map(|(x, u)| x + h * u);
        let part = |x: &Vec<f64>| moved.by_ref().take(x.len()).collect();
        let (y, now) = f.forward(&x.iter().map(part).collect::<Vec<_>>());
        assert_eq!(now, choices, "margin too small, choose another seed");
        y[0]
    };
    let error = |h: f64| ((at(h) - at(-h)) / (2.0 * h) - exact).abs();
    let (large, small) = (error(1e-2), error(1e-3));
    let measure = Measure {
        rung: Rung::T4,
        what: "error ratio for h = 10⁻² and 10⁻³, less 100".into(),
        error: (large / small - 100.0).abs(),
        bound: 10.0,
        detail: format!("errors {large:.2e} and {small:.2e}"),
    };
    Report { measures: vec![measure], choices: vec![] }
}
/// What the ratio of an analytic to a numeric gradient usually means.
///
/// ```
/// use moe_by_hand::gradcheck::hint;
/// assert_eq!(hint(-1.0), "−1: a sign");
/// assert_eq!(hint(8.0), "n or 1/n: a sum for a mean, or a mean for a sum");
/// assert_eq!(hint(5f64.sqrt()).split(':').next(), Some("√n or 1/√n"));
/// assert_eq!(hint(-23.764), "no simple factor: a wrong or missing term");
/// ```
pub fn hint(ratio: f64) -> &'static str {
    let near = |r: f64| (ratio - r).abs() < 0.02 * r.abs().max(0.05);
    // Of a large x, 2 % would reach the next whole number.
    let close = |x: f64| (x - x.round()).abs() < (0.02 * x).min(0.1);
    let whole = |x: f64| ratio > 0.0 && x >= 1.5 && close(x);
    let (n, root) = (ratio.max(1.0 / ratio), ratio * ratio);
    match () {
        () if ratio.is_nan() => "NaN: read before it was set",
        () if near(1.0) => "1: a small term is wrong or missing",
        () if near(-1.0) => "−1: a sign",
        () if near(0.0) => "0: a path is missing",
        () if near(2.0) => "2: counted twice",
        () if near(0.5) => "1/2: one of two uses is missing",
        () if whole(n) => "n or 1/n: a sum for a mean, or a mean for a sum",
        () if whole(root) || whole(1.0 / root) => {
            "√n or 1/√n: a scale is missing or there twice"
        }
        () => "no simple factor: a wrong or missing term",
    }
}

/// A [`Layer`] as a [`Function`] of x and of each of its parameters.
struct Whole<L> {
    layer: L,
    layout: Layout,
    shape: Shape,
}
impl<L: Layer> Whole<L> {
    fn params<T: Real>(&self, x: &[Vec<T>]) -> Params<T> {
        self.layout.zeros::<T>().like(x[1..].concat())
    }
    /// Gradients of the outputs into `g`.
    fn seed(g: &mut L::Acts<f64>, dy: &[f64]) {
        let n = L::y(g).len();
        L::y(g).copy_from_slice(&dy[..n]);
        if let Some(totals) = L::totals(g) {
            let (load, squares) = dy[n..].split_at(totals.load.len());
            totals.load.copy_from_slice(load);
            totals.squares = squares[0];
        }
    }
    /// What only a layer can get wrong: buffers that are used again. A second
    /// backward sets dx and doubles dp; after `begin` it sets dp, stale or
    /// NaN as it may be.
    fn again(&self, x: &[Vec<f64>], dy: &[f64]) -> Measure {
        let (l, p) = (&self.layer, self.params(x));
        let (mut a, mut g) = (l.acts(self.shape), l.acts(self.shape));
        let (mut dp, mut fresh) = (self.layout.grads(), self.layout.grads());
        fresh.data.fill(f64::NAN);
        fresh.begin();
        l.forward(&p, &x[0], &mut a);
        let mut dx = [vec![f64::NAN; x[0].len()], vec![0.0; x[0].len()]];
        let mut one = |dx: &mut [f64], dp: &mut ParamGrads<f64>| {
            Self::seed(&mut g, dy);
            l.backward(&p, &x[0], &a, &mut g, dx, dp);
        };
        one(&mut dx[0], &mut fresh);
        fresh.finish(&self.layout);
        one(&mut dx[0], &mut dp);
        one(&mut dx[1], &mut dp);
        let twice: Vec<f64> = fresh.data.iter().map(|v| 2.0 * v).collect();
        let size = fresh.data.iter().fold(1.0, |m: f64, v| m.max(v.abs()));
        let error = nan_max(gap(&dx[0], &dx[1]), gap(&dp.data, &twice) / size);
        Measure {
            rung: Rung::T1,
            what: "backward again on used buffers".into(),
            error,
            bound: 1e-12,
            detail: "dx must be set, dp added to".into(),
        }
    }
}
impl<L: Layer> Function for Whole<L> {
    fn forward<T: Real>(&self, x: &[Vec<T>]) -> (Vec<T>, Vec<usize>) {
        let mut a = self.layer.acts(self.shape);
        self.layer.forward(&self.params(x), &x[0], &mut a);
        let mut y = L::y(&mut a).to_vec();
        if let Some(totals) = L::totals(&mut a) {
            y.extend_from_slice(&totals.load);
            y.push(totals.squares);
        }
        (y, L::choices(&a).to_vec())
    }
    fn backward(&self, x: &[Vec<f64>], dy: &[f64]) -> Vec<Vec<f64>> {
        let (l, p) = (&self.layer, self.params(x));
        let (mut a, mut g) = (l.acts(self.shape), l.acts(self.shape));
        let mut dx = vec![f64::NAN; x[0].len()];
        let mut dp = self.layout.grads();
        l.forward(&p, &x[0], &mut a);
        Self::seed(&mut g, dy);
        l.backward(&p, &x[0], &a, &mut g, &mut dx, &mut dp);
        let of = |e: &crate::params::Entry| dp[e.param].to_vec();
        [dx].into_iter().chain(self.layout.entries.iter().map(of)).collect()
    }
}

/// Measures a layer on random rows x: [n, d] of scale 1.5, gains 1 + 0.3·N,
/// other parameters 0.7·N.
///
/// # Panics
/// If a step crosses a discrete choice: another seed has to be chosen.
#[track_caller]
pub fn layer<L: Layer>(
    build: impl FnOnce(Builder) -> L, shape: Shape, d: usize, seed: u64,
) -> Report {
    let mut layout = Layout::default();
    let layer = build(layout.builder());
    let mut rng = Rng::named(seed, "layer");
    let mut x = vec![normals(shape.rows() * d, 1.5, &mut rng)];
    let mut names = vec!["x".to_string()];
    for e in &layout.entries {
        let mut p = normals(e.param.range().len(), 0.7, &mut rng);
        if e.role == Role::Gain {
            p.iter_mut().for_each(|p| *p = 1.0 + 0.3 / 0.7 * *p);
        }
        x.push(p);
        names.push(e.name.clone());
    }
    let whole = Whole { layer, layout, shape };
    let outputs = whole.forward(&x).0.len();
    let dy = normals(outputs, 1.0, &mut rng);
    let again = whole.again(&x, &dy);
    let mut report = measure(&whole, &names, x, Plan { seed, ..Plan::LAYER });
    report.measures.push(again);
    report
}

/// Proves a layer's backward: the one line that a new layer needs.
///
/// ```
/// use moe_by_hand::gradcheck;
/// use moe_by_hand::layer::Shape;
/// use moe_by_hand::nn::rmsnorm::RmsNorm;
/// let shape = Shape { batch: 2, time: 3 };
/// gradcheck::assert_layer(|b| RmsNorm::new(b, 6, 1e-5), shape, 6);
/// ```
///
/// # Panics
/// If a bound is broken: with tensor, index, both numbers, their ratio, and
/// what it usually means.
#[track_caller]
pub fn assert_layer<L: Layer>(
    build: impl FnOnce(Builder) -> L, shape: Shape, d: usize,
) {
    layer(build, shape, d, 1).assert(std::any::type_name::<L>());
}
