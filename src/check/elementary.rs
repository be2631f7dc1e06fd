//! Chapter: elementary. Proofs of the elementary functions: each against f64,
//! in ulps.
//!
//! The reference is the f64 function of Rust's standard library, which is
//! within an ulp of f64: 2⁻²⁹ ulp of f32.

use super::parity::U;
use super::tools::{Check, check, fact, invariant, worst};
use crate::elementary::{
    EXP, SIN_COS_LIMIT, exp, ln, quarters, reduce, rsqrt, rsqrt_steps, sin_cos,
    sin_cos_series, sqrt,
};
use crate::gradcheck::{Measure, Report, Rung, nan_max};
use std::f32::consts::FRAC_PI_4;
use std::f64::consts::LN_2;

pub(super) const CHECKS: &[Check] = &[
    check("exp-range-reduction", exponential),
    check("log-atanh-series", logarithm),
    check("rsqrt-newton", newton),
    check("sqrt-fast-inverse", root),
    check("sin-cos-reduction", reduction),
    check("sin-cos-series", series),
];

/// The spacing of f32 at |v|: that of its power of two, and 2⁻¹⁴⁹ below 2⁻¹²⁶.
pub fn ulp(v: f64) -> f64 {
    let exponent = (v.abs().to_bits() >> 52) as i64 - 1023;
    2f64.powi(exponent.max(-126) as i32 - 23)
}
/// How far `got` is from the true value, in ulps of that; ∞ for NaN.
pub fn ulps(got: f32, want: f64) -> f64 {
    let off = (f64::from(got) - want).abs() / ulp(want);
    match off.is_nan() {
        _ if f64::from(got) == want => 0.0,
        true => f64::INFINITY,
        false => off,
    }
}

/// A function, where it is measured, and how far off it is at most.
#[derive(Clone, Copy, Debug)]
pub struct Function {
    /// As in the chapter's table.
    pub name: &'static str,
    /// The function.
    pub f: fn(f32) -> f32,
    /// What it should be.
    pub exact: fn(f64) -> f64,
    /// The first and the last argument.
    pub domain: [f32; 2],
    /// The largest error over every f32 from the first to the last, in ulps,
    /// as `cargo example ulps` finds it, …
    pub most: f64,
    /// … and where that is.
    pub at: f32,
}
impl Function {
    /// The error at x, in ulps.
    pub fn error(&self, x: f32) -> f64 {
        ulps((self.f)(x), (self.exact)(x.into()))
    }
    /// Whether x is one of its arguments.
    pub fn takes(&self, x: f32) -> bool {
        self.domain[0] <= x && x <= self.domain[1]
    }
    /// Each `step`-th f32 of its arguments, in the order of the bits.
    pub fn sample(&self, step: usize) -> impl Iterator<Item = f32> {
        let all = (0..=u32::MAX).step_by(step).map(f32::from_bits);
        all.filter(|&x| self.takes(x))
    }
    /// T5: the largest error of a sample and of the worst argument.
    pub fn measure(&self, step: usize) -> Measure {
        let worse = |a: (f64, f32), x| {
            let error = self.error(x);
            if error > a.0 { (error, x) } else { a }
        };
        let from = (self.error(self.at), self.at);
        let (error, x) = self.sample(step).fold(from, worse);
        let (got, want) = ((self.f)(x), (self.exact)(x.into()));
        let detail = format!(
            "{error:.4} ulp, at most {:.4}; worst at {x:e}: {got:e} for \
             {want:e}",
            self.most
        );
        // `most` is rounded to four digits
        let bound = self.most + 1e-4;
        let [error, bound] = [error, bound].map(|e| e * 2.0 * U);
        let what = self.name.into();
        Measure { rung: Rung::T5, what, error, bound, detail }
    }
}
const POSITIVE: [f32; 2] = [f32::from_bits(1), f32::MAX];
/// The functions of `src/elementary.rs`.
pub const FUNCTIONS: [Function; 6] = [
    Function {
        name: "eˣ",
        f: exp,
        exact: f64::exp,
        domain: [-86.98, 88.72],
        most: 2.3107,
        at: 5.247_654_4,
    },
    Function {
        name: "ln x",
        f: ln,
        exact: f64::ln,
        domain: POSITIVE,
        most: 0.858,
        at: 0.699_910_34,
    },
    Function {
        name: "1/√x, three steps",
        f: rsqrt,
        exact: |x| 1.0 / x.sqrt(),
        domain: POSITIVE,
        most: 2.194,
        at: 1.176_188_7e-38,
    },
    Function {
        name: "√x, three steps",
        f: sqrt,
        exact: f64::sqrt,
        domain: POSITIVE,
        most: 1.9085,
        at: 1.102_199_4e-38,
    },
    Function {
        name: "sin x",
        f: |x| sin_cos(x).0,
        exact: f64::sin,
        domain: [-SIN_COS_LIMIT, SIN_COS_LIMIT],
        most: 1.4936,
        at: 625.051_9,
    },
    Function {
        name: "cos x",
        f: |x| sin_cos(x).1,
        exact: f64::cos,
        domain: [-SIN_COS_LIMIT, SIN_COS_LIMIT],
        most: 1.4919,
        at: 2_289.151_9,
    },
];
/// A prime that a moment is enough for: some 70,000 numbers of all sizes.
const STEP: usize = 60_013;
fn against_f64(functions: &[Function]) -> Report {
    let measures = functions.iter().map(|f| f.measure(STEP)).collect();
    Report { measures, ..Report::default() }
}
/// So many numbers from `from` to `to`.
fn grid(n: usize, from: f64, to: f64) -> impl Iterator<Item = f64> {
    (0..=n).map(move |i| from + (to - from) * i as f64 / n as f64)
}

/// The relative error of the polynomial of [`exp`] at r, but for rounding.
pub fn polynomial_error(r: f64) -> f64 {
    let p = EXP.iter().fold(0.0, |p, &c| p * r + f64::from(c)) * r + 2.0;
    p / 2.0 * (-r).exp() - 1.0
}
/// The largest |error| of [`polynomial_error`] in each stretch of r between two
/// changes of the sign of error·r.
pub fn peaks() -> Vec<f64> {
    let (mut peaks, mut sign) = (vec![], 0.0);
    for r in grid(20_000, -LN_2 / 2.0, LN_2 / 2.0).filter(|r| *r != 0.0) {
        let error = polynomial_error(r);
        if (error * r).signum() != sign {
            sign = (error * r).signum();
            peaks.push(0.0);
        }
        let last = peaks.last_mut().expect("one is there");
        *last = error.abs().max(*last);
    }
    peaks
}
fn exponential() -> Report {
    // No polynomial of degree 5 that is 1 at 0 has a smaller largest error than
    // the smallest of six such peaks has (de la Vallée Poussin's theorem, for
    // error/r). So the largest says how good this one is, and the smallest
    // how good one can be: a coefficient that is off by 10⁻⁶ moves them apart.
    let peaks = peaks();
    let [low, high] = [f64::min, f64::max]
        .map(|f| peaks.iter().copied().reduce(f).unwrap_or(f64::NAN));
    against_f64(&FUNCTIONS[..1])
        .with("the polynomial", high, 1.6 * U)
        .with("and the best one is as far off", 1.0 - low / high, 0.09)
        .and(fact("six peaks", peaks.len() == 6))
        .and(fact("e⁰ = 1", exp(0.0) == 1.0 && exp(-0.0) == 1.0))
        .and(fact(
            "below: 0",
            [-87.0, -1e9, f32::NEG_INFINITY].map(exp) == [0.0; 3],
        ))
        .and(fact(
            "above: ∞",
            [88.73, 1e9, f32::INFINITY].map(exp) == [f32::INFINITY; 3],
        ))
        .and(fact("of NaN", exp(f32::NAN).is_nan()))
}
fn logarithm() -> Report {
    let tiny = f32::from_bits(1);
    let edges = [0.0, -0.0, f32::INFINITY].map(ln);
    let infinite = f32::INFINITY;
    against_f64(&FUNCTIONS[1..2])
        .and(fact("ln 1 = 0", ln(1.0) == 0.0))
        .and(fact("of 0 and ∞", edges == [-infinite, -infinite, infinite]))
        .and(fact(
            "below 0, of NaN",
            [-tiny, -1.0, -infinite, f32::NAN].iter().all(|&x| ln(x).is_nan()),
        ))
}
/// The relative error of y as 1/√x.
fn off(y: f32, x: f32) -> f64 {
    f64::from(y) * f64::from(x).sqrt() - 1.0
}
fn newton() -> Report {
    // e becomes −(3/2)e² − ½e³ in a step. Rounded are half·y and half·y·y,
    // by u/2 each, and the sum, by u; the rest by a twentieth of that. With
    // the first error, up to 3.5 %, a bit more: 2.5 u.
    let steps = (0..3).flat_map(|steps| {
        FUNCTIONS[2].sample(STEP).filter(|x| x.is_normal()).map(move |x| {
            let [e, next] =
                [0, 1].map(|more| off(rsqrt_steps(x, steps + more), x));
            next + e * e * (1.5 + 0.5 * e)
        })
    });
    let first = FUNCTIONS[2].sample(STEP).filter(|x| x.is_normal());
    let first = worst(first.map(|x| off(rsqrt_steps(x, 0), x)));
    let [none, all] = [0.0, f32::INFINITY].map(rsqrt);
    against_f64(&FUNCTIONS[2..3])
        .with("the guess", first, 0.0345)
        .with("a step", worst(steps), 2.5 * U)
        .and(fact("of 0 and ∞", none == f32::INFINITY && all == 0.0))
        .and(fact("below 0", rsqrt(-1.0).is_nan() && rsqrt(f32::NAN).is_nan()))
}
fn root() -> Report {
    let edges = [0.0, f32::INFINITY];
    against_f64(&FUNCTIONS[3..4])
        .and(fact("of 0 and ∞", edges.map(sqrt) == edges))
        .and(fact("below 0", sqrt(-1.0).is_nan() && sqrt(f32::NAN).is_nan()))
}
/// x − n·π/2 in whole multiples of 2⁻¹⁰⁰, for |x| from ½ to 2¹⁷: exact but for
/// the last place of π/2, n times.
fn remainder(x: f32) -> (f64, u32) {
    const QUARTER: i128 = 1_991_220_906_497_848_681_844_175_556_976;
    let whole = (f64::from(x) * 2f64.powi(30)) as i128 * (1 << 70);
    let n = (2 * whole + QUARTER).div_euclid(2 * QUARTER);
    ((whole - n * QUARTER) as f64 * 2f64.powi(-100), n as u32 & 3)
}
fn reduction() -> Report {
    // r is rounded once, to f32; what f64 rounds before is 2⁻²⁵ ulp of it or
    // less. The arguments nearest to a multiple of π/2 are the hardest.
    let of = |x: f32| {
        let ((r, n), (want, quarter)) = (reduce(x), remainder(x));
        if n & 3 == quarter { ulps(r, want) } else { f64::INFINITY }
    };
    let sample = FUNCTIONS[4].sample(STEP).filter(|x| x.abs() >= 0.5);
    let sample = worst(sample.chain(NEAR_QUARTERS).map(of));
    let beyond = [SIN_COS_LIMIT.next_up(), f32::INFINITY, f32::NAN];
    let none = |x| sin_cos(x).0.is_nan() && sin_cos(x).1.is_nan();
    Report::default()
        .with("r, in ulps", sample, 0.500_001)
        .and(fact("beyond 2¹⁷, of NaN", beyond.into_iter().all(none)))
}
/// Arguments up to 2¹⁷ that are nearest to a multiple of π/2.
pub const NEAR_QUARTERS: [f32; 2] = [252.898_21, 52_516.434];
fn series() -> Report {
    let angles = || grid(9999, -1.0, 1.0).map(|t| FRAC_PI_4 * t as f32);
    let off = |n: u32| {
        let both = angles().map(move |r| {
            let (sin, cos) = quarters(sin_cos_series(r), n);
            let x = f64::from(r);
            let want = match n {
                0 => [x.sin(), x.cos()],
                1 => [x.cos(), -x.sin()],
                2 => [-x.sin(), -x.cos()],
                _ => [-x.cos(), x.sin()],
            };
            nan_max(ulps(sin, want[0]), ulps(cos, want[1]))
        });
        worst(both)
    };
    let squares = angles().map(|r| {
        let (sin, cos) = sin_cos_series(r);
        f64::from(sin).hypot(cos.into()) - 1.0
    });
    against_f64(&FUNCTIONS[4..])
        .with("n quarters and r, in ulps", worst((0..4).map(off)), 1.0)
        .and(invariant("sin² + cos² = 1", worst(squares), 1.5 * U))
}
