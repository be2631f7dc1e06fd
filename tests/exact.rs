//! Chapter: gradcheck. Rung T10, the proof over a finite field: what it sees
//! that no tolerance can, and that a right backward never fails it.
//!
//! `MOE_SEEDS=1000 cargo test --test proofs exact::a_right` draws as many seeds.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use crate::wrong::net::Net;
use moe_by_hand::block::Block;
use moe_by_hand::check;
use moe_by_hand::config::Config;
use moe_by_hand::field::{Field, P};
use moe_by_hand::gradcheck::{
    Function, Plan, Report, Rung, exact, exact_layer, layer, measure,
};
use moe_by_hand::layer::{Context, Layer, Shape, Totals, buffer};
use moe_by_hand::nn::attention::{Attention, Heads};
use moe_by_hand::nn::linear::Linear;
use moe_by_hand::nn::moe::{Experts, Moe};
use moe_by_hand::nn::rmsnorm::RmsNorm;
use moe_by_hand::nn::rope::Rope;
use moe_by_hand::nn::router::Router;
use moe_by_hand::nn::swiglu::SwiGlu;
use moe_by_hand::params::{Builder, Layout, Param, ParamGrads, Params};
use moe_by_hand::real::{Dual, Real};
use moe_by_hand::train::gradient::Coefficients;
use std::env;
use std::sync::Arc;

const D: usize = 6;
const SHAPE: Shape = Shape { batch: 2, time: 3 };

fn linear(b: Builder) -> Linear {
    Linear::new(b, D, 5)
}
fn norm(b: Builder) -> RmsNorm {
    RmsNorm::new(b, D, 1e-5)
}
fn swiglu(b: Builder) -> SwiGlu {
    SwiGlu::new(b, D, 5)
}
fn attention(b: Builder) -> Attention {
    let heads = Heads { heads: 4, kv_heads: 2, head: 4 };
    Attention::new(b, D, heads, Arc::new(Rope::new(4, 3, 100.0)))
}
fn router(b: Builder) -> Router {
    Router::new(b, D, 5, 2)
}
fn moe(b: Builder) -> Moe {
    Moe::new(b, D, Experts { experts: 5, top_k: 2, intermediate: 4 })
}
fn block(b: Builder) -> Block {
    let c = Config { hidden: D, intermediate: 4, ..check::config() };
    Block::new(b, &c, Arc::new(Rope::new(4, 3, 100.0)))
}

// The numbers ------------------------------------------------------------------

#[test]
fn the_field_is_one() {
    let of = Field::of;
    for x in [3.0, -0.75, 1e300, -5e-324, f64::EPSILON, 0.1] {
        assert_eq!(of(x) + of(-x), Field::ZERO, "{x}");
        assert_eq!(of(x) / of(x), Field::ONE, "{x}");
        assert_eq!(of(x) * of(2.0), of(x) + of(x), "{x}");
        let square = of(x).sqrt() * of(x).sqrt();
        assert!([of(x), of(-x)].contains(&square), "(√{x})² is {square}");
    }
    assert_ne!(of(0.1) * of(10.0), Field::ONE, "0.1 is rounded");
    assert_eq!(Field::new(P), Field::ZERO);
    // The order, with 0 in its middle.
    let half = Field::new(P / 2);
    let order = [of(f64::NEG_INFINITY), half + Field::ONE, of(-1.0)];
    let order = [&order[..], &[Field::ZERO, Field::ONE, half]].concat();
    assert!(order.is_sorted_by(|a, b| a < b), "{order:?}");
}

#[test]
fn unset_is_never_equal_and_stays() {
    let (unset, one) = (Field::of(f64::NAN), Field::ONE);
    let from = [unset + one, one - unset, unset * Field::ZERO, -unset];
    let more = [unset.exp(), unset.ln(), unset.sqrt(), one / Field::ZERO];
    for x in [&from[..], &more].concat() {
        assert!(
            x.is_unset() && [x, one].iter().all(|y| x.partial_cmp(y).is_none()),
            "{x}"
        );
    }
}

#[test]
fn exp_and_ln_have_one_law_and_their_derivatives() {
    let [a, b, c] = [5, 77, 1234].map(Field::new);
    assert_eq!((a + b.ln() - c.ln()).exp(), a.exp() * b / c);
    assert_ne!((a + b).exp(), a.exp() * b.exp());
    assert_ne!((b * c).ln(), b.ln() + c.ln() + Field::ONE);
    assert_eq!((b * c).ln() - c.ln(), b.ln(), "within a sum, b/c·c = b");
    assert_ne!(a.exp().ln(), a);
    assert_eq!(Field::ONE.ln(), Field::ZERO);
    let x = Dual { v: a, d: c };
    assert_eq!(x.exp().d, c * a.exp());
    assert_eq!((x * x.ln()).d, c * (a.ln() + Field::ONE));
    assert_eq!(x.sqrt().d, c / (Field::of(2.0) * a.sqrt()));
    assert_eq!(Field::of(f64::NEG_INFINITY).exp(), Field::ZERO);
}

// Right ones -------------------------------------------------------------------

/// How many seeds: few here, more by the environment.
fn seeds() -> std::ops::Range<u64> {
    let asked = env::var("MOE_SEEDS").ok().and_then(|s| s.parse().ok());
    1..1 + asked.unwrap_or(5)
}
#[track_caller]
fn never_fails<L: Layer>(build: impl Fn(Builder) -> L + Copy) {
    for seed in seeds() {
        let report = exact_layer(build, SHAPE, D, seed);
        report.assert(std::any::type_name::<L>());
    }
}
#[test]
fn a_right_backward_never_fails() {
    never_fails(linear);
    never_fails(norm);
    never_fails(swiglu);
    never_fails(attention);
    never_fails(router);
    never_fails(moe);
    never_fails(block);
    let net = Net::new(Coefficients { ce: 1.0, aux: 0.7, z: 0.3 }, &[], &[]);
    let lens: Vec<_> =
        net.split(&net.params().data).iter().map(Vec::len).collect();
    for seed in seeds() {
        exact(&net, &net.names(), &lens, seed).assert("the whole model");
    }
}

// Wrong by one part in ten million millions ---------------------------------------

/// A layer whose backward has a factor 1 + 10⁻¹³ in the last element of one
/// tensor's gradient.
struct Nudged<L> {
    layer: L,
    /// None: of x.
    tensor: Option<Param>,
}
impl<L: Layer> Layer for Nudged<L> {
    type Acts<T: Real> = L::Acts<T>;
    fn acts<T: Real>(&self, s: Shape) -> L::Acts<T> {
        self.layer.acts(s)
    }
    fn y<T: Real>(a: &mut L::Acts<T>) -> &mut [T] {
        L::y(a)
    }
    fn totals<T: Real>(a: &mut L::Acts<T>) -> Option<&mut Totals<T>> {
        L::totals(a)
    }
    fn choices<T: Real>(a: &L::Acts<T>) -> &[usize] {
        L::choices(a)
    }
    fn branches<T: Real>(a: &L::Acts<T>) -> Vec<(&'static str, bool)> {
        L::branches(a)
    }
    fn law(&self) -> Option<&'static str> {
        self.layer.law()
    }
    fn context<T: Real>(a: &mut L::Acts<T>, c: Context) {
        L::context(a, c);
    }
    fn forward<T: Real>(&self, p: &Params<T>, x: &[T], a: &mut L::Acts<T>) {
        self.layer.forward(p, x, a);
    }
    fn backward<T: Real>(
        &self, p: &Params<T>, x: &[T], a: &L::Acts<T>, g: &mut L::Acts<T>,
        dx: &mut [T], dp: &mut ParamGrads<T>,
    ) {
        let nudge = T::of(1e-13);
        let Some(param) = self.tensor else {
            self.layer.backward(p, x, a, g, dx, dp);
            let last = dx.last_mut().unwrap();
            return *last += *last * nudge;
        };
        let before = *dp.write(param).last().unwrap();
        self.layer.backward(p, x, a, g, dx, dp);
        let last = dp.write(param).last_mut().unwrap();
        *last += (*last - before) * nudge;
    }
}
/// What does not hold: rung and tensor.
fn broken(report: &Report) -> Vec<(Rung, &str)> {
    let broken = report.measures.iter().filter(|m| !m.holds());
    broken.map(|m| (m.rung, m.what.as_str())).collect()
}
/// Each tensor of a layer in turn: T1 and T2 hold, T10 does not, of that tensor.
#[track_caller]
fn is_seen_exactly_there<L: Layer>(build: impl Fn(Builder) -> L + Copy) {
    let mut layout = Layout::default();
    build(layout.builder());
    let params =
        layout.entries.iter().map(|e| (e.name.as_str(), Some(e.param)));
    for (name, tensor) in [("x", None)].into_iter().chain(params) {
        let wrong = |b: Builder| Nudged { layer: build(b), tensor };
        let report = layer(wrong, SHAPE, D, 2);
        assert_eq!(broken(&report), [(Rung::T10, name)], "{}", report.broken());
    }
}
#[test]
fn one_part_in_ten_million_millions_is_seen_and_where() {
    is_seen_exactly_there(linear);
    is_seen_exactly_there(norm);
    is_seen_exactly_there(swiglu);
    is_seen_exactly_there(attention);
    is_seen_exactly_there(router);
    is_seen_exactly_there(moe);
    is_seen_exactly_there(block);
}

#[test]
fn a_failure_says_where_and_how_much() {
    struct Cube(f64);
    impl Function for Cube {
        fn forward<T: Real>(&self, x: &[Vec<T>]) -> (Vec<T>, Vec<usize>) {
            (x[0].iter().map(|&x| x * x * x).collect(), vec![])
        }
        fn backward<T: Real>(&self, x: &[Vec<T>], dy: &[T]) -> Vec<Vec<T>> {
            let each = x[0].iter().zip(dy);
            let mut dx: Vec<T> =
                each.map(|(&x, &dy)| T::of(3.0) * x * x * dy).collect();
            dx[4] *= T::of(self.0);
            vec![dx]
        }
        fn branches<T: Real>(&self, x: &[Vec<T>]) -> Vec<(&'static str, bool)> {
            vec![("a negative x", x[0].iter().any(|&x| x < T::ZERO))]
        }
    }
    let of = |factor| exact(&Cube(factor), &["x".into()], &[7], 3);
    assert_eq!(broken(&of(1.0)), []);
    for (factor, words) in [
        (2.0, "first wrong at [4]: ratio 2 (2: counted twice); seed 3, draw 1"),
        (-0.5, "ratio -1/2"),
        (1.0 + 1e-13, "ratio no small fraction"),
    ] {
        let report = of(factor);
        let said = report.broken();
        assert!(said.contains(words), "{said}");
        assert!(said.contains("with a negative x"), "{said}");
        assert!(said.contains("T10 x: not equal; ⟨ȳ, J·u⟩ = "), "{said}");
    }
    // Degree 4 in x, u and ȳ of n elements: at most 4/p.
    let [m] = &of(1.0).measures[..] else { panic!("one tensor") };
    assert!(m.detail.starts_with("degree 4: a wrong one passes"), "{m}");
}

// What cannot be proven so --------------------------------------------------------

/// Positive numbers as they are, others 0; `ask` looks at the value as an f64.
struct Relu {
    ask: bool,
    /// A branch that is never taken.
    never: bool,
}
impl Function for Relu {
    fn forward<T: Real>(&self, x: &[Vec<T>]) -> (Vec<T>, Vec<usize>) {
        let positive = |x: T| match self.ask {
            true => x.f64() > 0.0,
            false => x > T::ZERO,
        };
        let y = x[0].iter().map(|&x| if positive(x) { x } else { T::ZERO });
        (y.collect(), vec![])
    }
    fn backward<T: Real>(&self, x: &[Vec<T>], dy: &[T]) -> Vec<Vec<T>> {
        let dx = x[0].iter().zip(dy);
        let dx = dx.map(|(&x, &dy)| if x > T::ZERO { dy } else { T::ZERO });
        vec![dx.collect()]
    }
    fn branches<T: Real>(&self, x: &[Vec<T>]) -> Vec<(&'static str, bool)> {
        let [mut less, mut more] = [false; 2];
        x[0].iter().for_each(|&x| (less |= x < T::ZERO, more |= x > T::ZERO).0);
        let never =
            if self.never { vec![("a blue moon", false)] } else { vec![] };
        [vec![("x < 0", less), ("x > 0", more)], never].concat()
    }
}
fn proven(f: &Relu) -> Report {
    let x = vec![vec![1.5, -0.5, 2.0]];
    measure(f, &["x".into()], x, Plan::LAYER)
}

#[test]
fn a_choice_by_comparison_is_in_the_field() {
    let report = proven(&Relu { ask: false, never: false });
    report.assert("ReLU");
    assert!(report.worst(Rung::T10).is_some(), "T10 is measured");
}

#[test]
fn who_asks_for_the_value_is_told_so_and_has_t1_and_t2() {
    let report = proven(&Relu { ask: true, never: false });
    report.assert("ReLU");
    let [line] = &report.unmeasured[..] else { panic!("{report:?}") };
    let (words, file) =
        ("T10: not measured: `f64()` was called", "tests/exact.rs");
    assert!(line.starts_with(words) && line.contains(file), "{line}");
    assert!(!line.contains('\n'), "one line: {line}");
    let measured = |rung| report.worst(rung).is_some();
    let rungs = [Rung::T1, Rung::T2, Rung::T10].map(measured);
    assert_eq!(rungs, [true, true, false]);
}

/// ln(1 + e^z), whose derivative is σ(z) because e^z·e^{−z} = 1.
struct Softplus {
    says: bool,
}
impl Function for Softplus {
    fn forward<T: Real>(&self, x: &[Vec<T>]) -> (Vec<T>, Vec<usize>) {
        let y = x[0].iter().map(|&z| (T::ONE + z.exp()).ln());
        (y.collect(), vec![])
    }
    fn backward<T: Real>(&self, x: &[Vec<T>], dy: &[T]) -> Vec<Vec<T>> {
        let sigma = |z: T| T::ONE / (T::ONE + (-z).exp());
        vec![x[0].iter().zip(dy).map(|(&z, &dy)| dy * sigma(z)).collect()]
    }
    fn law(&self) -> Option<&'static str> {
        self.says.then_some("e^z·e^(−z) = 1")
    }
}
#[test]
fn who_needs_another_law_says_so() {
    let proven = |says| {
        let x = vec![vec![1.5, -0.5, 2.0]];
        measure(&Softplus { says }, &["x".into()], x, Plan::LAYER)
    };
    assert_eq!(broken(&proven(false)), [(Rung::T10, "x")]);
    let report = proven(true);
    report.assert("softplus");
    let said = report.unmeasured.concat();
    assert!(said.contains("rests on e^z·e^(−z) = 1"), "{said}");
    assert!(report.worst(Rung::T2).is_some(), "T2 is measured");
}

#[test]
fn a_branch_that_is_never_taken_is_named() {
    let report = proven(&Relu { ask: false, never: true });
    assert_eq!(broken(&report), [(Rung::T10, "branches")]);
    let said = report.broken();
    assert!(said.contains("had a blue moon"), "{said}");
}

/// What a layer forgets to write is unset, in either direction.
#[test]
fn a_forgotten_write_is_seen() {
    struct Forgets;
    impl Function for Forgets {
        fn forward<T: Real>(&self, x: &[Vec<T>]) -> (Vec<T>, Vec<usize>) {
            (vec![x[0][0], T::of(f64::NAN)], vec![])
        }
        fn backward<T: Real>(&self, _: &[Vec<T>], dy: &[T]) -> Vec<Vec<T>> {
            vec![vec![dy[0]]]
        }
    }
    let report = exact(&Forgets, &["x".into()], &[1], 1);
    assert_eq!(broken(&report), [(Rung::T10, "x")], "an output");
    let said = report.broken();
    assert!(said.contains("= unset"), "{said}");
}

// The rules of the judge itself -------------------------------------------------

/// The larger of two numbers, and which it is.
struct Larger;
impl Function for Larger {
    fn forward<T: Real>(&self, x: &[Vec<T>]) -> (Vec<T>, Vec<usize>) {
        let larger = usize::from(x[0][1] > x[0][0]);
        (vec![x[0][larger]], vec![larger])
    }
    fn backward<T: Real>(&self, x: &[Vec<T>], dy: &[T]) -> Vec<Vec<T>> {
        let mut dx = vec![T::ZERO; 2];
        dx[self.forward(x).1[0]] = dy[0];
        vec![dx]
    }
}
/// A difference across a choice measures a jump: it is refused, not skipped.
#[test]
#[should_panic(expected = "margin too small, choose another seed")]
fn a_step_across_a_choice_is_refused() {
    let x = vec![vec![1.0, 1.0 + 1e-6]];
    let _ = measure(&Larger, &["x".into()], x, Plan::LAYER);
}

/// 10⁻⁴·x with a backward that is off by one part in ten thousand: the floor
/// that excuses rounding does not excuse this.
#[test]
fn a_small_gradient_is_measured_as_well() {
    struct Small;
    impl Function for Small {
        fn forward<T: Real>(&self, x: &[Vec<T>]) -> (Vec<T>, Vec<usize>) {
            (vec![T::of(1e-4) * x[0][0]], vec![])
        }
        fn backward<T: Real>(&self, _: &[Vec<T>], dy: &[T]) -> Vec<Vec<T>> {
            vec![vec![T::of(1.0001e-4) * dy[0]]]
        }
    }
    let x = vec![vec![0.5]];
    let report = measure(&Small, &["x".into()], x, Plan::LAYER);
    let t1 = report.measures.iter().find(|m| m.rung == Rung::T1).unwrap();
    assert!(!t1.holds(), "{t1}");
}

#[test]
fn what_measures_nothing_does_not_hold() {
    assert!(!Report::default().holds(), "nothing was measured");
    assert!(Report::default().with("zero", 0.0, 0.0).holds());
}

/// In debug builds: so what is read before it is written shows.
#[test]
fn a_buffer_is_born_unset() {
    let born = buffer::<f64>(3);
    assert!(born.iter().all(|x| x.is_nan() == cfg!(debug_assertions)));
}
