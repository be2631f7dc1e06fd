//! Chapter: simd. The exponential, many numbers at a time.

use crate::elementary::{EXP, EXP_HIGH, EXP_LOW, EXP_MAGIC};
use crate::elementary::{LN2_HIGH, LN2_LOW};
use crate::kernel::simd::Simd;
use std::f32::consts::LOG2_E;

/// eˣ, lane by lane: the twin of [`elementary::exp`](crate::elementary::exp),
/// and on the portable set the same bits. Where products and sums are fused it
/// rounds less often, and is within 2.1 ulp.
///
/// The relative error is below 2⁻²² from −86.98 to 88.72; at −87 and
/// below, −∞ included, the result is 0; above 88.73 it is ∞; of NaN it is NaN.
/// Test: `exp_over_its_whole_domain` (`tests/precision.rs`).
///
/// No result is subnormal: to make such a number takes the CPU as long as all
/// the rest, and of masked scores there are many.
#[inline(always)]
pub(super) fn exp<S: Simd>(s: S, x: S::V) -> S::V {
    let k = |x| s.splat(x);
    // In this order a NaN comes through.
    let x = s.min(k(EXP_HIGH), s.max(k(EXP_LOW), x));
    // eq: exp-range-reduction
    let t = s.fma(x, k(LOG2_E), k(EXP_MAGIC));
    let n = s.sub(t, k(EXP_MAGIC));
    let r = s.fma(n, k(-LN2_HIGH), x);
    let r = s.fma(n, k(-LN2_LOW), r);
    let mut p = k(EXP[0]);
    for c in &EXP[1..] {
        p = s.fma(p, r, k(*c));
    }
    s.mul(s.fma(p, r, k(2.0)), s.pow2(t))
}
