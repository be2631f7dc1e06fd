//! Chapter: gradcheck. The proof of dual numbers.

use super::tools::{Check, check, formula};
use crate::gradcheck::Report;
use crate::real::{Dual, Real};

pub(super) const CHECKS: &[Check] = &[check("dual-number", dual_number)];

fn dual_number() -> Report {
    let x = Dual { v: 1.7, d: 1.0 };
    let one = Dual::ONE;
    // f = √(e^{1/x} + x·ln x) / (x − 3), its derivative by hand
    let f = ((one / x).exp() + x * x.ln()).sqrt() / (x - Dual::of(3.0));
    let v = 1.7f64;
    let (s, t) = ((1.0 / v).exp() + v * v.ln(), v - 3.0);
    let ds = -(1.0 / v).exp() / (v * v) + v.ln() + 1.0;
    let want = ds / (2.0 * s.sqrt() * t) - s.sqrt() / (t * t);
    formula("(f/g)′, √, exp, ln", &[f.v, f.d], &[s.sqrt() / t, want])
}
