//! Chapter: gradcheck. Any hand-written backward against central differences
//! (T1), against dual numbers (T2), and against dual numbers over a finite
//! field, where nothing is rounded and nothing tolerated (T10).
//!
//! All use a random cotangent ȳ: with ones, the sum of a softmax is constant
//! and a wrong backward of it passes. All look at every tensor by itself,
//! because a small tensor hides in the norm of a large one.

use crate::degree::{Degree, chance};
use crate::field::{Field, NoValue};
use crate::kernel::vector::dot;
use crate::layer::{Layer, Shape};
use crate::params::{Builder, Layout, ParamGrads, Params, Role};
use crate::ratio::hint;
use crate::real::{Dual, Real};
use crate::rng::Rng;
use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

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
    /// The adjoint identity over a finite field: equal, or not.
    T10,
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
    /// What it measures: a tensor, an invariant.
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
    /// T10: whether two things are equal over the field, and how that was seen.
    pub fn equality(
        what: impl fmt::Display, equal: bool, detail: &str,
    ) -> Self {
        let error = if equal { 0.0 } else { 1.0 };
        let (what, detail) = (what.to_string(), detail.to_string());
        Self { rung: Rung::T10, what, error, bound: 0.0, detail }
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
        if *rung == Rung::T10 {
            let verdict = if self.holds() { "exact" } else { "not equal" };
            return write!(f, "{rung} {what}: {verdict}; {detail}");
        }
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
    /// What could not be measured, with the reason; a line for each.
    pub unmeasured: Vec<String>,
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
        for line in other.unmeasured {
            if !self.unmeasured.contains(&line) {
                self.unmeasured.push(line);
            }
        }
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
            let mut names = names.unwrap_or_default().to_vec();
            names.retain(|name| !name.is_empty());
            if !names.is_empty() {
                lines += &format!("\n  {word} {}", names.join(", "));
            }
        }
        lines
    }
    /// Says on standard error what could not be measured.
    ///
    /// # Panics
    /// If a bound is broken: says which, with worst element and hint.
    #[track_caller]
    pub fn assert(&self, name: &str) {
        for line in &self.unmeasured {
            eprintln!("{name}: {line}");
        }
        assert!(!self.measures.is_empty(), "{name}: nothing was measured");
        assert!(self.holds(), "{name} does not hold:{}", self.broken());
    }
}

/// After the name of a tensor: the rule of its elements.
const EACH: &str = ", each element";
/// What a layer's buffers are measured by.
const AGAIN: &str = "backward again on used buffers";

/// Something with inputs, outputs and a hand-written backward.
pub trait Function {
    /// All outputs, one after the other, and the discrete choices made.
    fn forward<T: Real>(&self, x: &[Vec<T>]) -> (Vec<T>, Vec<usize>);
    /// The gradient of each input, given those of the outputs.
    fn backward<T: Real>(&self, x: &[Vec<T>], dy: &[T]) -> Vec<Vec<T>>;
    /// The cases that forward distinguishes, each with whether it occurs at
    /// `x`. T10 draws inputs until it has seen all of them.
    fn branches<T: Real>(&self, _: &[Vec<T>]) -> Vec<(&'static str, bool)> {
        vec![]
    }
    /// The law that backward rests on and a finite field does not have; see
    /// [`Layer::law`].
    fn law(&self) -> Option<&'static str> {
        None
    }
}

/// A [`Function`] over one kind of numbers.
trait Over<T> {
    fn forward_over(&self, x: &[Vec<T>]) -> (Vec<T>, Vec<usize>);
    fn backward_over(&self, x: &[Vec<T>], dy: &[T]) -> Vec<Vec<T>>;
}
impl<F: Function, T: Real> Over<T> for F {
    fn forward_over(&self, x: &[Vec<T>]) -> (Vec<T>, Vec<usize>) {
        self.forward(x)
    }
    fn backward_over(&self, x: &[Vec<T>], dy: &[T]) -> Vec<Vec<T>> {
        self.backward(x, dy)
    }
}
/// A [`Function`] over all numbers that proofs run on. What measures one takes
/// this, so that it is compiled once, and not for each function.
trait Proven:
    Over<f64>
    + Over<Dual>
    + Over<Field>
    + Over<Dual<Field>>
    + Over<Degree>
    + Over<Dual<Degree>>
{
    fn branches_over(&self, x: &[Vec<Field>]) -> Vec<(&'static str, bool)>;
    fn rests_on(&self) -> Option<&'static str>;
}
impl<F: Function> Proven for F {
    fn branches_over(&self, x: &[Vec<Field>]) -> Vec<(&'static str, bool)> {
        self.branches(x)
    }
    fn rests_on(&self) -> Option<&'static str> {
        self.law()
    }
}

/// How a [`Function`] is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The seed of cotangent and directions.
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
/// Then the same over a finite field, at other inputs, with `==`: see [`exact`].
///
/// # Panics
/// If a step crosses a discrete choice: another seed has to be chosen.
#[track_caller]
pub fn measure<F: Function>(
    f: &F, names: &[String], x: Vec<Vec<f64>>, plan: Plan,
) -> Report {
    let lens: Vec<usize> = x.iter().map(Vec::len).collect();
    in_numbers(f, names, x, plan).and(exact(f, names, &lens, plan.seed))
}
/// Measures by differences, as T1 or as T3, and by dual numbers, T2.
#[track_caller]
fn in_numbers(
    f: &dyn Proven, names: &[String], mut x: Vec<Vec<f64>>, plan: Plan,
) -> Report {
    let mut rng = Rng::named(plan.seed, "gradcheck");
    let (y, choices) = f.forward_over(&x);
    let dy = normals(y.len(), 1.0, &mut rng);
    let (value, dx) = (dot(&y, &dy), f.backward_over(&x, &dy));
    let mut report = Report { choices: choices.clone(), ..Report::default() };
    for (i, name) in names.iter().enumerate() {
        let at = coordinates(x[i].len(), plan.coordinates, &mut rng);
        let a: Vec<f64> = at.iter().map(|&j| dx[i][j]).collect();
        let mut n = vec![];
        for &j in &at {
            let keep = x[i][j];
            let mut shifted = |h: f64| {
                x[i][j] = keep + h;
                let (y, now) = f.forward_over(&x);
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
/// Measures T2 for the input i: both sides of the adjoint's definition.
fn adjoint(
    f: &dyn Proven, i: usize, name: &str, x: &[Vec<f64>], dx: &[f64],
    dy: &[f64], rng: &mut Rng,
) -> Measure {
    let u = normals(dx.len(), 1.0, rng);
    let (y, _) = f.forward_over(&moved(x, &alone(x, i, &u)));
    let forward: f64 = y.iter().zip(dy).map(|(y, dy)| y.d * dy).sum();
    let reverse = dot(dx, &u);
    let scale = (dot(dx, dx) * dot(&u, &u)).sqrt();
    let gap = (forward - reverse).abs();
    // Both exactly 0 where nothing flows: 0/0 would hide that they agree.
    let error = if gap == 0.0 { 0.0 } else { gap / scale };
    let detail = format!("⟨ȳ, J·u⟩ = {forward:.6e}, ⟨x̄, u⟩ = {reverse:.6e}");
    Measure { rung: Rung::T2, what: name.into(), error, bound: 1e-12, detail }
}
// T10 ------------------------------------------------------------------------

/// How often T10 draws inputs until every branch was taken.
pub const DRAWS: usize = 1000;
/// How many of them it measures at least. One is enough but for a backward that
/// takes (√a)² for a, which may be right at a point by chance.
const MEASURED: usize = 2;
/// What a wrong backward would have to meet where exp or ln occur.
const HASHED: &str = "exp and ln occur: assumed is that their values at \
                      different arguments are independent";

/// T10: ⟨ȳ, J·u⟩ = ⟨x̄, u⟩ over the field of 2⁶¹ − 1 elements, for each tensor
/// with a direction of its own; inputs, cotangent and directions are uniform.
///
/// `names` and `lens` are those of the inputs. Draws again until every branch
/// that [`Function::branches`] names was taken, and measures each draw that
/// takes a new one.
///
/// All tensors move at once, which hides none of them: what is wrong of one is
/// linear in its direction, and no other tensor has that direction, so nothing
/// can cancel but by chance. If the sides differ, each tensor by itself says
/// whether it is at fault.
///
/// A right backward never fails. A wrong one passes with a probability that is
/// in the measure's words: of at most degree/p, see [`chance`].
///
/// A function that calls [`Real::f64`] has no such proof, and none that names a
/// [`Function::law`]; the report then says so.
pub fn exact<F: Function>(
    f: &F, names: &[String], lens: &[usize], seed: u64,
) -> Report {
    exact_and(f, names, lens, seed, &|_, _| vec![])
}
/// What else is not equal, at a draw's inputs and cotangent.
type More<'a> = &'a dyn Fn(&[Vec<Field>], &[Field]) -> Vec<Fault>;
/// [`exact`], and what `more` says at each draw that is measured.
fn exact_and(
    f: &dyn Proven, names: &[String], lens: &[usize], seed: u64, more: More,
) -> Report {
    let mut report = Report::default();
    if let Some(law) = f.rests_on() {
        report.unmeasured = vec![format!(
            "T10: not measured: backward rests on {law}, which does not hold \
             in a finite field"
        )];
        return report;
    }
    let run = || in_field(f, names, lens, seed, more);
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(measures) => report.measures = measures,
        Err(cause) => match cause.downcast::<NoValue>() {
            Ok(at) => {
                report.unmeasured = vec![format!(
                    "T10: not measured: `f64()` was called on a value, at {}; an \
                 element of a finite field has none",
                    at.0
                )]
            }
            Err(other) => resume_unwind(other),
        },
    }
    report
}
fn in_field(
    f: &dyn Proven, names: &[String], lens: &[usize], seed: u64, more: More,
) -> Vec<Measure> {
    let mut rng = Rng::named(seed, "field");
    let mut uniform = |n| -> Vec<Field> {
        (0..n).map(|_| Field::new(rng.bits64())).collect()
    };
    let mut faults: Vec<Fault> = vec![];
    let mut missing: Option<Vec<&str>> = None;
    let mut measured = 0;
    for draw in 1..=DRAWS {
        let x: Vec<Vec<Field>> = lens.iter().map(|&n| uniform(n)).collect();
        let branches = f.branches_over(&x);
        let all = || branches.iter().map(|b| b.0).collect();
        let missing = missing.get_or_insert_with(all);
        let before = missing.len();
        missing.retain(|&b| !branches.contains(&(b, true)));
        if measured >= MEASURED && missing.len() == before {
            continue;
        }
        measured += 1;
        let dy = uniform(f.forward_over(&x).0.len());
        let dx = f.backward_over(&x, &dy);
        let u: Vec<Vec<Field>> = lens.iter().map(|&n| uniform(n)).collect();
        let pulled: Field = dx.iter().zip(&u).map(|(dx, u)| dot(dx, u)).sum();
        let equal = pushed(f, &x, &dy, &u) == pulled;
        let mut found = vec![];
        for (i, name) in names.iter().enumerate().filter(|_| !equal) {
            if faults.iter().all(|fault| fault.what != *name) {
                let first = faults.len() + found.len() < 2;
                let why = unequal(f, &x, i, [&dx[i], &dy, &u[i]], first);
                let what = || name.clone();
                found.extend(why.map(|why| Fault { what: what(), why }));
            }
        }
        found.extend(more(&x, &dy));
        let taken = branches.iter().filter(|b| b.1).map(|b| b.0);
        let taken = taken.collect::<Vec<_>>().join(", ");
        for fault in &mut found {
            fault.why += &format!("; seed {seed}, draw {draw}");
            if !taken.is_empty() {
                fault.why += &format!(", with {taken}");
            }
        }
        faults.extend(found);
        if missing.is_empty() && measured >= MEASURED {
            break;
        }
    }
    if let Some(missing) = missing.filter(|missing| !missing.is_empty()) {
        let missing = missing.join(", ");
        faults.push(Fault {
            what: "branches".into(),
            why: format!(
                "none of {DRAWS} draws of seed {seed} had {missing}: choose \
                 smaller sizes"
            ),
        });
    }
    let passes = what_passes(f, lens);
    let right = names.iter().filter(|&n| faults.iter().all(|f| f.what != *n));
    let right = right.map(|n| Measure::equality(n, true, &passes));
    let wrong =
        faults.iter().map(|f| Measure::equality(&f.what, false, &f.why));
    wrong.chain(right).collect()
}
/// Something that is not equal.
struct Fault {
    /// A tensor, or another name.
    what: String,
    why: String,
}
/// How improbable it is that a wrong backward passes, in words.
fn what_passes(f: &dyn Proven, lens: &[usize]) -> String {
    match degree(f, lens) {
        None => HASHED.into(),
        Some((degree, roots)) => format!(
            "degree {degree}{}: a wrong one passes with a chance of at most \
             {:.0e}",
            match roots {
                0 => String::new(),
                roots => format!(", roots {roots}"),
            },
            chance(degree, roots)
        ),
    }
}
/// x + u·ε.
fn moved<T: Real>(x: &[Vec<T>], u: &[Vec<T>]) -> Vec<Vec<Dual<T>>> {
    let dual = |(&v, &d): (&T, &T)| Dual { v, d };
    let input =
        |(x, u): (&Vec<T>, &Vec<T>)| x.iter().zip(u).map(dual).collect();
    x.iter().zip(u).map(input).collect()
}
/// The direction in which the input i alone moves, by `u`.
fn alone<T: Real>(x: &[Vec<T>], i: usize, u: &[T]) -> Vec<Vec<T>> {
    let mut all: Vec<_> = x.iter().map(|x| vec![T::ZERO; x.len()]).collect();
    all[i].copy_from_slice(u);
    all
}
/// ⟨ȳ, J·u⟩; unset if an output is.
fn pushed(
    f: &dyn Proven, x: &[Vec<Field>], dy: &[Field], u: &[Vec<Field>],
) -> Field {
    let (y, _) = f.forward_over(&moved(x, u));
    // An output that was not set has a derivative of 0 all the same.
    let seen = |y: &Dual<Field>| if y.v.is_unset() { y.v } else { y.d };
    dy.iter().zip(&y).map(|(&dy, y)| seen(y) * dy).sum()
}
/// What is not equal, if anything is, for the input i: both sides, and if
/// `where_` is asked for, the first element that is wrong.
fn unequal(
    f: &dyn Proven, x: &[Vec<Field>], i: usize, [dx, dy, u]: [&[Field]; 3],
    where_: bool,
) -> Option<String> {
    let sides = |u: &[Field]| [pushed(f, x, dy, &alone(x, i, u)), dot(dx, u)];
    let [forward, reverse] = sides(u);
    if forward == reverse {
        return None;
    }
    let both = format!("⟨ȳ, J·u⟩ = {forward}, ⟨x̄, u⟩ = {reverse} mod 2⁶¹ − 1");
    if let Some(at) = dx.iter().position(|dx| dx.is_unset()) {
        return Some(format!("{both}; [{at}] was never set"));
    }
    if !where_ {
        return Some(both);
    }
    // One half of the elements is wrong by itself, then one half of that, …
    let mut wrong = 0..u.len();
    let among = |range: Range<usize>| -> Vec<Field> {
        let u = u.iter().enumerate();
        let part = |(k, &u)| if range.contains(&k) { u } else { Field::ZERO };
        u.map(part).collect()
    };
    while wrong.len() > 1 {
        let middle = wrong.start + wrong.len() / 2;
        let [forward, reverse] = sides(&among(wrong.start..middle));
        wrong = match forward == reverse {
            true => middle..wrong.end,
            false => wrong.start..middle,
        };
    }
    let at = wrong.start;
    let [right, _] = sides(&among(at..at + 1)).map(|side| side / u[at]);
    let ratio = match right == Field::ZERO {
        true => "right 0".into(),
        false => format!("ratio {}", ratio(dx[at] / right)),
    };
    Some(format!("{both}; first wrong at [{at}]: {ratio}"))
}
/// A ratio as a small fraction, if it is one, with what that usually means.
fn ratio(r: Field) -> String {
    let whole = |m: i32| Field::of(m.into());
    for n in 1..=64 {
        let found = (-64..=64).find(|&m| whole(m) == r * whole(n));
        if let Some(m) = found {
            let over = if n == 1 { String::new() } else { format!("/{n}") };
            let hint = hint(f64::from(m) / f64::from(n));
            return format!("{m}{over} ({hint})");
        }
    }
    "no small fraction: a wrong or missing term, or a rounded constant".into()
}
/// The degree of ⟨ȳ, J·u⟩ − ⟨x̄, u⟩ in all that is drawn, and how many roots
/// occur; none if exp or ln do.
fn degree(f: &dyn Proven, lens: &[usize]) -> Option<(f64, usize)> {
    let unknown = |n| (0..n).map(|_| Degree::unknown()).collect::<Vec<_>>();
    let unknowns = || lens.iter().map(|&n| unknown(n)).collect::<Vec<_>>();
    let (x, u) = (unknowns(), unknowns());
    let (y, _) = f.forward_over(&x);
    y.iter().copied().sum::<Degree>().degree()?;
    let dy = unknown(y.len());
    let (gap, roots) = Degree::counting(|| {
        let (y, _) = f.forward_over(&moved(&x, &u));
        let forward: Degree = y.iter().zip(&dy).map(|(y, &dy)| y.d * dy).sum();
        let dx = f.backward_over(&x, &dy);
        let reverse = dx.iter().zip(&u).map(|(dx, u)| dot(dx, u));
        forward - reverse.sum::<Degree>()
    });
    Some((gap.degree()?, roots))
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
    Report { measures: vec![measure], ..Report::default() }
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
    fn seed<T: Real>(g: &mut L::Acts<T>, dy: &[T]) {
        let n = L::y(g).len();
        L::y(g).copy_from_slice(&dy[..n]);
        if let Some(totals) = L::totals(g) {
            let (load, squares) = dy[n..].split_at(totals.load.len());
            T::widen(&mut totals.load, load);
            totals.squares = squares[0].wide();
        }
    }
    /// What only a layer can get wrong: buffers that are used again. A second
    /// backward sets dx and doubles dp; after `begin` it sets dp, stale or
    /// NaN as it may be. Returns dx twice, and then twice dp as well, both
    /// ways.
    fn again<T: Real>(&self, x: &[Vec<T>], dy: &[T]) -> [Vec<T>; 4] {
        let (l, p) = (&self.layer, self.params(x));
        let (mut a, mut g) = (l.acts(self.shape), l.acts(self.shape));
        let (mut dp, mut fresh) = (self.layout.grads(), self.layout.grads());
        fresh.data.fill(T::of(f64::NAN));
        fresh.begin();
        l.forward(&p, &x[0], &mut a);
        let mut dx = vec![T::of(f64::NAN); x[0].len()];
        let mut last = vec![T::ZERO; x[0].len()];
        let mut one = |dx: &mut [T], dp: &mut ParamGrads<T>| {
            Self::seed(&mut g, dy);
            l.backward(&p, &x[0], &a, &mut g, dx, dp);
        };
        one(&mut dx, &mut fresh);
        fresh.finish(&self.layout);
        one(&mut dx, &mut dp);
        one(&mut last, &mut dp);
        let twice = fresh.data.iter().map(|&v| v + v).collect();
        [dx, last, dp.data.to_vec(), twice]
    }
    /// [`Whole::again`] in f64.
    fn again_in_numbers(&self, x: &[Vec<f64>], dy: &[f64]) -> Measure {
        let [dx, last, dp, twice] = self.again(x, dy);
        let size = twice.iter().fold(1.0, |m: f64, v| m.max(v.abs() / 2.0));
        let error = nan_max(gap(&dx, &last), gap(&dp, &twice) / size);
        Measure {
            rung: Rung::T1,
            what: AGAIN.into(),
            error,
            bound: 1e-12,
            detail: "dx must be set, dp added to".into(),
        }
    }
    /// [`Whole::again`] over the field: each tensor that is not equal.
    fn again_in_field(&self, x: &[Vec<Field>], dy: &[Field]) -> Vec<Fault> {
        let [dx, last, dp, twice] = self.again(x, dy);
        let mut whys = vec![];
        if dx != last {
            whys.push("x: dx must be set".to_string());
        }
        for e in &self.layout.entries {
            let range = e.param.range();
            if dp[range.clone()] != twice[range] {
                whys.push(format!("{}: dp must be added to", e.name));
            }
        }
        let fault = |why| Fault { what: AGAIN.into(), why };
        whys.into_iter().map(fault).collect()
    }
}
impl<L: Layer> Function for Whole<L> {
    fn forward<T: Real>(&self, x: &[Vec<T>]) -> (Vec<T>, Vec<usize>) {
        let mut a = self.layer.acts(self.shape);
        self.layer.forward(&self.params(x), &x[0], &mut a);
        let mut y = L::y(&mut a).to_vec();
        if let Some(totals) = L::totals(&mut a) {
            y.extend(totals.load.iter().map(|&l| T::nearest(l)));
            y.push(T::nearest(totals.squares));
        }
        (y, L::choices(&a).to_vec())
    }
    fn backward<T: Real>(&self, x: &[Vec<T>], dy: &[T]) -> Vec<Vec<T>> {
        let (l, p) = (&self.layer, self.params(x));
        let (mut a, mut g) = (l.acts(self.shape), l.acts(self.shape));
        let mut dx = vec![T::of(f64::NAN); x[0].len()];
        let mut dp = self.layout.grads();
        l.forward(&p, &x[0], &mut a);
        Self::seed(&mut g, dy);
        l.backward(&p, &x[0], &a, &mut g, &mut dx, &mut dp);
        let of = |e: &crate::params::Entry| dp[e.param].to_vec();
        [dx].into_iter().chain(self.layout.entries.iter().map(of)).collect()
    }
    fn branches<T: Real>(&self, x: &[Vec<T>]) -> Vec<(&'static str, bool)> {
        let mut a = self.layer.acts(self.shape);
        self.layer.forward(&self.params(x), &x[0], &mut a);
        L::branches(&a)
    }
    fn law(&self) -> Option<&'static str> {
        self.layer.law()
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
    let (names, x) = drawn(&layout, shape.rows() * d, &mut rng);
    let whole = Whole { layer, layout, shape };
    let outputs = whole.forward(&x).0.len();
    let dy = normals(outputs, 1.0, &mut rng);
    let again = whole.again_in_numbers(&x, &dy);
    let lens: Vec<usize> = x.iter().map(Vec::len).collect();
    let plan = Plan { seed, ..Plan::LAYER };
    let mut report = in_numbers(&whole, &names, x, plan);
    report.measures.push(again);
    let again = |x: &[Vec<Field>], dy: &[Field]| whole.again_in_field(x, dy);
    report.and(exact_and(&whole, &names, &lens, seed, &again))
}
/// Names and values of n inputs and of the parameters.
fn drawn(l: &Layout, n: usize, rng: &mut Rng) -> (Vec<String>, Vec<Vec<f64>>) {
    let mut x = vec![normals(n, 1.5, rng)];
    let mut names = vec!["x".to_string()];
    for e in &l.entries {
        let mut p = normals(e.param.range().len(), 0.7, rng);
        if e.role == Role::Gain {
            p.iter_mut().for_each(|p| *p = 1.0 + 0.3 / 0.7 * *p);
        }
        x.push(p);
        names.push(e.name.clone());
    }
    (names, x)
}
/// T10 of a layer alone.
pub fn exact_layer<L: Layer>(
    build: impl FnOnce(Builder) -> L, shape: Shape, d: usize, seed: u64,
) -> Report {
    let mut layout = Layout::default();
    let layer = build(layout.builder());
    let (mut names, mut lens) = (vec!["x".into()], vec![shape.rows() * d]);
    for e in &layout.entries {
        names.push(e.name.clone());
        lens.push(e.param.range().len());
    }
    let whole = Whole { layer, layout, shape };
    let again = |x: &[Vec<Field>], dy: &[Field]| whole.again_in_field(x, dy);
    exact_and(&whole, &names, &lens, seed, &again)
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
