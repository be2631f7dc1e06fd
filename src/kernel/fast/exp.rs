//! Chapter: simd. The exponential, many numbers at a time.

use crate::kernel::simd::Simd;
use std::f32::consts::LOG2_E;

/// eˣ, lane by lane, with a relative error below 2⁻²² from −87 to 88; NaN of
/// NaN. Below, it has an error below 2⁻¹²⁶, and from −88 on, −∞ included, it
/// is 0; above, it is as near or ∞, and ∞ from 89 on.
/// Test: `exp_over_its_whole_domain` (`tests/precision.rs`).
///
/// With n = round(x·log₂e) and r = x − n·ln 2: eˣ = 2ⁿ·eʳ, |r| ≤ ln 2/2, and
/// eʳ is a polynomial of degree 7. ln 2 is taken off in two parts, of which
/// the first has so few bits that n times it is exact. The smallest n, −127,
/// gives 0 and no subnormal number: to make one takes the CPU as long as all
/// the rest, and of masked scores there are many.
/// Source: Moshier 1989 (Cephes, expf).
#[inline(always)]
pub(super) fn exp<S: Simd>(s: S, x: S::V) -> S::V {
    const LN2_HIGH: f32 = 0.693_359_4; // 355/512
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // 1.5·2²³ + 127: adding it rounds to a whole, as `pow2` wants it.
    const MAGIC: f32 = 12_583_039.0;
    const C: [f32; 6] = [
        1.987_569_2e-4,
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_6e-1,
        0.5,
    ];
    let k = |x| s.splat(x);
    // In this order a NaN comes through.
    let x = s.min(k(89.0), s.max(k(-88.0), x));
    let t = s.fma(x, k(LOG2_E), k(MAGIC));
    let n = s.sub(t, k(MAGIC));
    let r = s.fma(n, k(-LN2_HIGH), x);
    let r = s.fma(n, k(-LN2_LOW), r);
    let mut p = k(C[0]);
    for c in &C[1..] {
        p = s.fma(p, r, k(*c));
    }
    let p = s.fma(p, s.mul(r, r), s.add(r, k(1.0)));
    s.mul(p, s.pow2(t))
}
