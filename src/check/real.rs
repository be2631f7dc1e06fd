//! Chapter: adjoint. The proof of dual numbers.

use super::tools::{Check, check, formula};
use crate::field::Field;
use crate::gradcheck::{Measure, Report};
use crate::real::{Dual, Real};

pub(super) const CHECKS: &[Check] = &[check("dual-number", dual_number)];

/// f = √(e^{1/x} + x·ln x) / (x − 3) at v: f and f′ by dual numbers, and both by
/// hand.
fn both_ways<T: Real>(v: T) -> [[T; 2]; 2] {
    let (x, one) = (Dual { v, d: T::ONE }, Dual::ONE);
    let f = ((one / x).exp() + x * x.ln()).sqrt() / (x - Dual::of(3.0));
    let e = (T::ONE / v).exp();
    let (s, t) = ((e + v * v.ln()).sqrt(), v - T::of(3.0));
    let ds = -e / (v * v) + v.ln() + T::ONE;
    let want = ds / (T::of(2.0) * s * t) - s / (t * t);
    [[f.v, f.d], [s / t, want]]
}
fn dual_number() -> Report {
    let what = "(f/g)′, √, exp, ln";
    let [got, want] = both_ways(1.7f64);
    let mut report = formula(what, &got, &want);
    let [got, want] = both_ways(Field::new(17));
    report.measures.push(Measure::equality(what, got == want, "at x = 17"));
    report
}
