//! Chapter: elementary. eˣ, ln x, 1/√x, √x, sin x and cos x in f32, from
//! additions, multiplications, divisions and the bits of a number alone.
//!
//! No product is fused with a sum, and no library is called: so each result
//! has the same bits on every machine. How far each is from the true value is
//! measured over all arguments by `cargo example ulps`; the
//! doc of each function says the largest distance. An *ulp* is the spacing of
//! f32 where the true value lies, so that a correctly rounded result is off by
//! ½ ulp at most.
//!
//! Vectors have [`exp`] once more, in `kernel/fast/exp.rs`, from the constants
//! of this file.

use std::f32::consts::{FRAC_1_SQRT_2, LOG2_E};

/// ln 2 = `LN2_HIGH` + `LN2_LOW`, to 2⁻³⁶ and better. The first is 355/512:
/// nine bits, so that its product with a whole number of up to fifteen bits is
/// exact. Source: Cody & Waite 1980.
pub(crate) const LN2_HIGH: f32 = 0.693_359_4;
pub(crate) const LN2_LOW: f32 = -2.121_944_4e-4;

/// At and below this, [`exp`] is 0.
pub(crate) const EXP_LOW: f32 = -87.0;
/// From ln 2¹²⁸ = 88.72 on, eˣ is above all numbers of f32; from here on
/// nothing needs computing.
pub(crate) const EXP_HIGH: f32 = 89.0;
/// 1.5·2²³ + 126. Adding it to a number rounds that to a whole n, and leaves
/// n − 1 + 127 as the last bits: the exponent field of 2ⁿ⁻¹.
pub(crate) const EXP_MAGIC: f32 = 12_583_038.0;
/// 2·eʳ for |r| ≤ ln 2/2: coefficients of r⁵, r⁴, …, r. That of r⁰ is 2.
///
/// Among the polynomials of this degree with e⁰ = 1 it has the smallest
/// relative error, 1.53 u, to be found at six places; rounding the
/// coefficients makes it 1.60 u.
pub(crate) const EXP: [f32; 5] = [
    2.0 * 8.290_315e-3,
    2.0 * 4.189_793e-2,
    2.0 * 0.166_676_36,
    2.0 * 0.499_991_5,
    2.0 * 0.999_999_7,
];

/// eˣ, within 2.32 ulp from −86.98 to 88.72. At −87 and below it is 0, above
/// 88.73 it is ∞; of NaN it is NaN. It is never subnormal.
///
/// With n = round(x·log₂e) and r = x − n·ln 2: eˣ = 2ⁿ·eʳ, |r| ≤ ln 2/2.
/// 2ⁿ is 2ⁿ⁻¹·2, and the 2 stands in the polynomial's coefficients, so that
/// 2ⁿ⁻¹ is an f32 up to n = 128, as far as eˣ itself is. At n = −126 it is 0.
///
/// ```
/// use moe_by_hand::elementary::exp;
/// assert_eq!(exp(0.0), 1.0);
/// assert!((exp(1.0) - std::f32::consts::E).abs() < 5e-7);
/// assert_eq!([exp(-90.0), exp(90.0)], [0.0, f32::INFINITY]);
/// ```
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // A NaN is neither below nor above, and comes through.
    let x = if x < EXP_LOW { EXP_LOW } else { x };
    let x = if x > EXP_HIGH { EXP_HIGH } else { x };
    // eq: exp-range-reduction
    let t = x * LOG2_E + EXP_MAGIC;
    let n = t - EXP_MAGIC;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    let mut p = EXP[0];
    for c in &EXP[1..] {
        p = p * r + c;
    }
    (p * r + 2.0) * f32::from_bits(t.to_bits() << 23)
}

/// ln x, within 0.86 ulp for every x > 0, subnormal numbers too. ln 0 = −∞,
/// ln ∞ = ∞; of x < 0 and of NaN it is NaN.
///
/// ```
/// use moe_by_hand::elementary::ln;
/// assert_eq!(ln(1.0), 0.0);
/// assert_eq!(ln(8.0), 3.0 * std::f32::consts::LN_2);
/// assert_eq!(ln(0.0), f32::NEG_INFINITY);
/// assert!(ln(-1.0).is_nan());
/// ```
#[inline(always)]
pub fn ln(x: f32) -> f32 {
    // A subnormal number has no leading one: 2²³ times it has.
    let subnormal = x < f32::MIN_POSITIVE;
    let y = if subnormal { x * 8_388_608.0 } else { x };
    let (e, m) = split(y);
    let ln = ln_of(if subnormal { e - 23.0 } else { e }, m - 1.0);
    match x {
        0.0 => f32::NEG_INFINITY,
        f32::INFINITY => x,
        0.0.. => ln,
        _ => f32::NAN,
    }
}
/// e and m of a normal x > 0. x = 2ᵉ·m with √½ ≤ m < √2.
#[inline(always)]
pub(crate) fn split(x: f32) -> (f32, f32) {
    // how many whole exponents x's bits are above those of √½
    let e = x.to_bits().wrapping_sub(FRAC_1_SQRT_2.to_bits()) as i32 >> 23;
    let m = x.to_bits().wrapping_sub((e as u32) << 23);
    (e as f32, f32::from_bits(m))
}
/// e·ln 2 + ln(1 + f) for a whole e and 1 + f between √½ and √2.
///
/// ln(1 + f) = 2 artanh s with s = f/(2 + f), |s| < 0.1716: the terms after
/// s⁹ are below 2⁻²⁸ of the sum. 2s is f − s·f, and s·f is f²/2 − s·f²/2: in
/// this form s, which is rounded twice, multiplies f² only, and f is exact.
#[inline(always)]
pub(crate) fn ln_of(e: f32, f: f32) -> f32 {
    let s = f / (2.0 + f);
    let z = s * s;
    let half = 0.5 * f * f;
    // eq: log-atanh-series
    let rest =
        z * (2.0 / 3.0 + z * (2.0 / 5.0 + z * (2.0 / 7.0 + z * (2.0 / 9.0))));
    let low = s * (half + rest) + e * LN2_LOW;
    e * LN2_HIGH + (f - (half - low))
}

/// Halves and negates the exponent: what is to be taken from it and the fraction
/// together, so that the largest error after one step is smallest.
/// Source: Lomont 2003.
const RSQRT_MAGIC: u32 = 0x5f37_5a86;

/// The reciprocal root of a normal x > 0: the guess that its bits give, and so
/// many steps of Newton's method.
///
/// ```
/// use moe_by_hand::elementary::rsqrt_steps;
/// let error = |steps| (rsqrt_steps(4.0, steps) - 0.5).abs() / 0.5;
/// assert!(error(0) < 0.035 && error(1) < 0.0018 && error(2) < 5e-6);
/// ```
#[inline(always)]
pub fn rsqrt_steps(x: f32, steps: usize) -> f32 {
    let mut y = f32::from_bits(RSQRT_MAGIC.wrapping_sub(x.to_bits() >> 1));
    let half = 0.5 * x;
    for _ in 0..steps {
        y += y * (0.5 - half * y * y); // eq: rsqrt-newton
    }
    y
}
/// The reciprocal root y, of a subnormal x too, and a scale that it is to be
/// multiplied by. 1/√x = y·scale.
#[inline(always)]
fn rsqrt_of(x: f32) -> (f32, f32) {
    match x < f32::MIN_POSITIVE {
        true => (rsqrt_steps(x * 16_777_216.0, 3), 4096.0),
        false => (rsqrt_steps(x, 3), 1.0),
    }
}
/// The reciprocal root, within 2.2 ulp for every x > 0. 1/√0 = ∞, 1/√∞ = 0; of
/// x < 0 and of NaN it is NaN.
///
/// A kernel takes `1.0 / x.sqrt()`, which the processor rounds correctly twice:
/// see the chapter.
///
/// ```
/// use moe_by_hand::elementary::rsqrt;
/// assert!((rsqrt(4.0) - 0.5).abs() < 1e-7);
/// assert_eq!(rsqrt(0.0), f32::INFINITY);
/// ```
#[inline(always)]
pub fn rsqrt(x: f32) -> f32 {
    let (y, scale) = rsqrt_of(x);
    match x {
        0.0 => f32::INFINITY,
        f32::INFINITY => 0.0,
        0.0.. => y * scale,
        _ => f32::NAN,
    }
}
/// The root, within 1.91 ulp for every x ≥ 0. √x = x·(1/√x); √∞ = ∞; of x < 0
/// and of NaN it is NaN.
///
/// ```
/// use moe_by_hand::elementary::sqrt;
/// assert!((sqrt(2.0) - std::f32::consts::SQRT_2).abs() < 3e-7);
/// assert_eq!(sqrt(0.0), 0.0);
/// ```
#[inline(always)]
pub fn sqrt(x: f32) -> f32 {
    let (y, scale) = rsqrt_of(x);
    match x {
        0.0 | f32::INFINITY => x,
        0.0.. => x * y * scale, // eq: sqrt-fast-inverse
        _ => f32::NAN,
    }
}

/// Beyond this, the two parts of π/2 have too few bits: sin and cos are NaN.
pub const SIN_COS_LIMIT: f32 = 131_072.0; // 2¹⁷
/// π/2 = `QUARTER_HIGH` + `QUARTER_LOW`, to 2⁻⁹². The first has 36 bits, and n,
/// at most 2¹⁷·2/π, has 17: their product is exact in the 53 of f64.
const QUARTER_HIGH: f64 = 1.570_796_326_792_333_3;
const QUARTER_LOW: f64 = 2.563_344_151_594_519e-12;

/// The rest r, and the last bits of n, the number of quarter turns that were
/// taken off. x = n·π/2 + r with the whole n nearest to x·2/π.
#[inline(always)]
pub fn reduce(x: f32) -> (f32, u32) {
    const MAGIC: f64 = 6_755_399_441_055_744.0; // 1.5·2⁵²: rounds, as in `exp`
    let x = f64::from(x);
    // eq: sin-cos-reduction
    let t = x * std::f64::consts::FRAC_2_PI + MAGIC;
    let n = t - MAGIC;
    let r = x - n * QUARTER_HIGH - n * QUARTER_LOW;
    (r as f32, t.to_bits() as u32)
}
/// sin r and cos r for |r| ≤ π/4, by their series. They end at r⁹ and r¹⁰: what
/// is left out is below 2⁻²⁸ of the sum.
#[inline(always)]
pub fn sin_cos_series(r: f32) -> (f32, f32) {
    const SIN: [f32; 4] =
        [1.0 / 362_880.0, -1.0 / 5040.0, 1.0 / 120.0, -1.0 / 6.0];
    const COS: [f32; 4] =
        [-1.0 / 3_628_800.0, 1.0 / 40_320.0, -1.0 / 720.0, 1.0 / 24.0];
    let z = r * r;
    let series = |c: [f32; 4]| ((c[0] * z + c[1]) * z + c[2]) * z + c[3];
    // eq: sin-cos-series
    (r + r * z * series(SIN), 1.0 - (0.5 * z - z * z * series(COS)))
}
/// The sine and the cosine after n quarter turns, from those before: each turn
/// replaces (sin, cos) by (cos, −sin).
#[inline(always)]
pub fn quarters((sin, cos): (f32, f32), n: u32) -> (f32, f32) {
    let (sin, cos) = if n & 1 == 0 { (sin, cos) } else { (cos, sin) };
    let flip = |x: f32, n: u32| f32::from_bits(x.to_bits() ^ (n & 2) << 30);
    (flip(sin, n), flip(cos, n.wrapping_add(1)))
}
/// sin x and cos x, within 1.5 ulp for |x| ≤ 2¹⁷; NaN beyond, and of NaN.
///
/// ```
/// use moe_by_hand::elementary::sin_cos;
/// let (sin, cos) = sin_cos(std::f32::consts::FRAC_PI_3);
/// assert!((sin - 0.8660254).abs() < 1e-7 && (cos - 0.5).abs() < 1e-7);
/// assert!(sin_cos(1e6).0.is_nan());
/// ```
#[inline(always)]
pub fn sin_cos(x: f32) -> (f32, f32) {
    let (r, n) = reduce(x);
    match x.abs() <= SIN_COS_LIMIT {
        true => quarters(sin_cos_series(r), n),
        false => (f32::NAN, f32::NAN),
    }
}
