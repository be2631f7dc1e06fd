//! The kit repeats the library's numbers, since a submission may reach nothing
//! of the library. Here both compute the same.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "the harness's files are parts of programs here"
)]

// the harness's files name a crate `kit` and their own root
extern crate self as kit;
#[path = "../harness/rest.rs"]
mod rest;

#[path = "../harness/count.rs"]
mod count;
#[path = "../harness/dual.rs"]
mod dual;
#[path = "../harness/kit/lib.rs"]
#[expect(
    unused_attributes,
    unused_imports,
    reason = "there it is a crate of its own"
)]
mod file;
pub use file::Real;

use count::Count;
use dual::{Dual, Rng};
use moe_by_hand::real;
use std::cmp::Ordering;

/// exp and ln are the standard library's here and `libm`'s there. Each is less
/// than one unit in the last place from the right number, so they are less than
/// two from each other, which are at most two steps. Everything else is the same.
const STEPS: u64 = 2;

/// All that a `Real` offers, by name, for either trait of that name. The last
/// two of them are not the same to the last bit.
macro_rules! all {
    ($name:ident, $real:path) => {
        fn $name<T: $real>(x: T, y: T) -> Vec<(&'static str, T)> {
            let [mut plus, mut times, mut over] = [x; 3];
            plus += y;
            times *= y;
            over /= y;
            vec![
                ("0", T::ZERO),
                ("1", T::ONE),
                ("default", T::default()),
                ("of", T::of(0.1)),
                ("x + y", x + y),
                ("x − y", x - y),
                ("x·y", x * y),
                ("x / y", x / y),
                ("−x", -x),
                ("x += y", plus),
                ("x ·= y", times),
                ("x /= y", over),
                ("√x", x.sqrt()),
                ("sum", [x, y, x * y].into_iter().sum()),
                ("sum of references", [y, x, y / x].iter().sum()),
                ("sum of nothing", [x; 0].into_iter().sum()),
                ("eˣ", x.exp()),
                ("ln x", x.ln()),
            ]
        }
    };
}
all!(ours, Real);
all!(theirs, real::Real);

/// How many numbers lie between two of one sign.
fn steps(a: f64, b: f64) -> u64 {
    a.to_bits().abs_diff(b.to_bits())
}
/// The same bits, but for the sign of a 0, which a sum of zeros may differ in.
fn same(a: f64, b: f64) -> bool {
    a == b || a.is_nan() && b.is_nan()
}

/// Of every size and sign, with those that are special.
fn numbers(rng: &mut Rng) -> Vec<f64> {
    let mut all = vec![0.0, -0.0, 1.0, -1.0, 710.0, -745.0, 5e-324];
    all.extend([f64::INFINITY, f64::NEG_INFINITY, f64::NAN, f64::MAX]);
    all.extend(rng.normals(60, 1.0));
    for _ in 0..60 {
        let size = 300.0 * (2.0 * rng.uniform() - 1.0);
        all.extend(rng.normals(1, 10f64.powf(size)));
    }
    all
}

#[test]
fn counted_numbers_are_those_of_the_library() {
    let mut rng = Rng(11);
    let all = numbers(&mut rng);
    for &x in &all {
        for &y in &all {
            let pairs = ours(Count(x), Count(y)).into_iter();
            for ((name, a), (_, b)) in pairs.zip(theirs(x, y)) {
                let a = a.0;
                let near = matches!(name, "eˣ" | "ln x")
                    && a.signum() == b.signum()
                    && steps(a, b) <= STEPS;
                assert!(
                    same(a, b) || near,
                    "{name} of {x:e} and {y:e}: {a:e}, in the library {b:e}"
                );
            }
            let order = |o: Option<Ordering>, e: bool| (o, e);
            let (a, b) = (Count(x), Count(y));
            assert_eq!(
                order(a.partial_cmp(&b), a == b),
                order(x.partial_cmp(&y), x == y),
                "the order of {x:e} and {y:e}"
            );
        }
    }
}

#[test]
fn dual_numbers_are_those_of_the_library() {
    let mut rng = Rng(12);
    // eˣ enters its derivative as a factor: a step of it is at most two of the
    // product, which is rounded once more
    let near = |a: f64, b: f64| {
        a.signum() == b.signum() && steps(a, b) <= 2 * STEPS + 1
    };
    for _ in 0..20_000 {
        let [v, d, w, e] = [(); 4].map(|()| rng.normals(1, 3.0)[0]);
        let pairs = ours(Dual { v, d }, Dual { v: w, d: e }).into_iter();
        let library = theirs(real::Dual { v, d }, real::Dual { v: w, d: e });
        for ((name, a), (_, b)) in pairs.zip(library) {
            let good = |a, b| {
                same(a, b) || matches!(name, "eˣ" | "ln x") && near(a, b)
            };
            assert!(
                good(a.v, b.v) && good(a.d, b.d),
                "{name} of {v:e} + {d:e}ε and {w:e} + {e:e}ε: \
                 {:e} + {:e}ε, in the library {:e} + {:e}ε",
                a.v,
                a.d,
                b.v,
                b.d
            );
        }
        let (a, b) = (Dual { v, d }, Dual { v: w, d: e });
        assert_eq!(a.partial_cmp(&b), v.partial_cmp(&w), "{v:e}, {w:e}");
        assert_eq!(a == b, v == w, "{v:e}, {w:e}");
    }
}

#[test]
fn a_comparison_counts_as_four_and_all_else_as_one() {
    let (x, y) = (Count(2.0), Count(3.0));
    fn cost<R>(f: impl Fn() -> R) -> u64 {
        let before = count::operations();
        f();
        count::operations() - before
    }
    assert_eq!(cost(|| x < y), 4, "an order");
    assert_eq!(cost(|| x == y), 4, "equality");
    assert_eq!(cost(|| x * y), 1, "a product");
    assert_eq!(cost(|| x.exp()), 1, "an exponential");
    assert_eq!(cost(|| [x, y].iter().sum::<Count>()), 2, "a sum");
}
