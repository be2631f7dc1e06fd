//! Chapter: simd. T5: an f32 kernel against its plain twin in f64, on one
//! instruction set, every element within a bound of its own. The pairs of each
//! subject stand in its file of proofs, as `parity` and `parity_gradient`.
//!
//! Each bound is derived where it is computed, from the number of roundings
//! and from the data. Every operation of f32 is exact but for a factor 1 + δ,
//! |δ| ≤ u = 2⁻²⁴, and r factors in a row differ from 1 by γᵣ = r·u/(1 − r·u)
//! at most (Higham 2002, lemma 3.1). A sum of n products in any order puts n
//! roundings on each term with FMA, n + 1 without: |error| ≤ γₙ₊₁·Σ|terms|. A
//! result below 2⁻¹²⁶ is rounded to a multiple of 2⁻¹⁴⁹ besides.
//!
//! `tests/precision.rs` and `tests/simd.rs` call them on every set, at many
//! sizes and scales; `moe check` on the set that is used, at one. Products
//! have sharper bounds, and guards, in `tests/simd.rs`.

use crate::gradcheck::{Measure, Report, Rung, nan_max};
use crate::kernel::simd::Isa;
use crate::rng::Rng;
use std::cmp::Ordering;

/// The unit roundoff of f32.
pub const U: f64 = 1.0 / (1u64 << 24) as f64;
/// What `fast::exp` promises: a relative error of 2⁻²² = 4 u from −86.98 to
/// 88.72.
///
/// At most 3.6 u come together, where r is near −½ ln 2: 1.6 u of the
/// polynomial; 0.28 u of r, which is rounded to a multiple of u/2 at the worst
/// and whose n·`LN2_LOW`, with a factor that is itself rounded, is off by u/32
/// more; 0.71 u of the last sum, which is between √2 and 2 and rounded by u;
/// and of each product and each sum before it, u times what it adds to eʳ, as
/// a share of eʳ: 0.41 for both of r⁰ to r¹, 0.08 for r¹ to r², 0.01 and
/// less for the rest. The scaling by 2ⁿ⁻¹ is exact.
pub const EXP: f64 = 1.0 / (1u64 << 22) as f64;
/// Below −86.98 the result is as near or 0, where eˣ is up to 2⁻¹²⁵·⁵: half as
/// much again as the smallest normal number, rounded up.
pub const FLUSH: f64 = 1.5 * TINY;
/// 2⁻¹²⁶, the smallest normal number.
pub const TINY: f64 = f32::MIN_POSITIVE as f64;
/// The smallest number of all, 2⁻¹⁴⁹.
pub const ETA: f64 = TINY * f32::EPSILON as f64;

/// γᵣ: how far r factors 1 + δ in a row are from 1.
pub fn gamma(r: usize) -> f64 {
    let r = r as f64 * U;
    r / (1.0 - r)
}
/// The same numbers as f64.
pub fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| x.into()).collect()
}
/// Normal numbers in f32 with standard deviation `scale`.
pub fn normals(n: usize, scale: f64, seed: usize) -> Vec<f32> {
    let mut x = vec![0.0; n];
    Rng::new(seed as u64, 5).fill_normal(&mut x, scale);
    x
}

/// What a kernel computed in f32, its twin in f64, and how far apart they may
/// be, element by element.
#[derive(Clone, Debug)]
pub struct Pair {
    /// Which output, on which set.
    pub what: String,
    /// In f32.
    pub got: Vec<f32>,
    /// In f64, from the same numbers.
    pub want: Vec<f64>,
    /// The bound of |got − want|. The reference has rounding errors as well,
    /// 2⁻²⁹ times as large: a thousandth is allowed for them.
    pub bound: Vec<f64>,
}
impl Pair {
    /// A kernel's result and its twin's, with a bound for each element.
    ///
    /// # Panics
    /// If the lengths differ.
    pub(super) fn new(
        isa: Isa, what: &str, got: Vec<f32>, want: Vec<f64>,
        bound: impl FnMut(usize) -> f64,
    ) -> Self {
        assert_eq!(got.len(), want.len(), "{what}: f32 against f64");
        let each = (0..got.len()).map(bound);
        let bound = each.map(|bound| 1.001 * bound).collect();
        Self { what: format!("{what} on {isa}"), got, want, bound }
    }
    /// |got − want|, element by element; 0 where both are the same infinity.
    fn errors(&self) -> impl Iterator<Item = f64> {
        self.got.iter().zip(&self.want).map(|(&got, &want)| {
            let got = f64::from(got);
            if got == want { 0.0 } else { (got - want).abs() }
        })
    }
    /// The largest share of its bound that an error takes up.
    pub fn share(&self) -> f64 {
        let shares = self.errors().zip(&self.bound);
        let shares = shares.filter(|(e, _)| *e != 0.0).map(|(e, b)| e / b);
        shares.fold(0.0, nan_max)
    }
    /// The largest error and its bound, both relative to the largest of the
    /// results; where a bound is broken, of those errors alone that do.
    pub fn measure(&self) -> Measure {
        // An error or a bound that is NaN is broken, too.
        let broken = |i: usize, e: f64| {
            e.partial_cmp(&self.bound[i]).is_none_or(Ordering::is_gt)
        };
        let any = self.errors().enumerate().any(|(i, e)| broken(i, e));
        let errors = self.errors().enumerate();
        let errors = errors.filter(|&(i, e)| !any || broken(i, e));
        let (at, error) = errors
            .reduce(|m, e| if e.1 > m.1 || e.1.is_nan() { e } else { m })
            .expect("a kernel has a result");
        let sizes = self.want.iter().map(|w| w.abs());
        let size = sizes.filter(|w| w.is_finite()).fold(0.0, f64::max);
        let size = if size > 0.0 { size } else { 1.0 };
        let (got, want) = (self.got[at], self.want[at]);
        let detail = format!("worst at [{at}]: f32 {got:e}, f64 {want:e}");
        let (error, bound) = (error / size, self.bound[at] / size);
        Measure {
            rung: Rung::T5,
            what: self.what.clone(),
            error,
            bound,
            detail,
        }
    }
}

// What `moe check` measures ------------------------------------------------

/// How many rows.
pub(super) const ROWS: usize = 3;
/// Their length: several times four vectors of the widest set, some vectors
/// more, and a part of one.
pub(super) const LENGTH: usize = 165;

/// The pairs as a report.
pub(super) fn report(pairs: impl IntoIterator<Item = Pair>) -> Report {
    let measures = pairs.into_iter().map(|p| p.measure()).collect();
    Report { measures, ..Report::default() }
}
/// The elements of the rows.
pub(super) fn numbers(seed: usize) -> Vec<f32> {
    normals(ROWS * LENGTH, 1.5, seed)
}
