//! Chapter: simd. Normal random numbers in f32, many at a time: the same stream
//! as [`Rng::normals`], in lanes.
//!
//! A model's first weights are its largest computation before the first
//! step: 345 920 numbers of logarithms, roots, sines and cosines for the
//! preset `tiny`. Also in lanes they are half of building a model and running
//! it once (scenario `dispatch_cold`).
//!
//! This is plain code, without fused products, which the compiler vectorizes
//! for each set: so each set has the same bits.

use crate::kernel::simd::{Isa, Kernel, Simd};
use crate::rng::{MULTIPLIER, Rng, permute};

/// Pairs that are drawn at a time.
const PAIRS: usize = 256;
/// Generators that take turns.
const LANES: usize = 16;

/// Sets x to what [`Rng::fill_normal`] does, up to the rounding of f32: each
/// number is within 2⁻¹⁷·σ of it.
///
/// z = r·cos φ, r = √(−2 ln u) ≤ √(64 ln 2) < 6.67. The logarithm is off by
/// 2⁻²¹ of itself at most, its root by half of that, cos φ by 2⁻²², and σ, the
/// root and two products are rounded: r·(2⁻²² + 2⁻²² + 4·2⁻²⁴) < 80·2⁻²⁴.
///
/// Leaves `rng` as it was.
///
/// # Panics
/// If the CPU does not have the set.
///
/// ```
/// use moe_by_hand::kernel::{normal::fill_normal_with, simd::Isa};
/// use moe_by_hand::rng::Rng;
/// let (rng, mut x, mut want) = (Rng::new(42, 54), [0.0; 5], [0f64; 5]);
/// fill_normal_with(Isa::best(), &mut x, &rng, 0.02);
/// rng.clone().fill_normal(&mut want, 0.02);
/// for (x, want) in x.iter().zip(want) {
///     approx::assert_abs_diff_eq!(f64::from(*x), want, epsilon = 8e-8);
/// }
/// ```
pub fn fill_normal_with(isa: Isa, x: &mut [f32], rng: &Rng, sigma: f64) {
    isa.run(Normals { x, rng, sigma: sigma as f32 });
}

struct Normals<'a> {
    x: &'a mut [f32],
    rng: &'a Rng,
    sigma: f32,
}
impl Kernel for Normals<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { x, rng, sigma } = self;
        let (mut s, c) = rng.state();
        // Lane i begins at the state of pair i.
        let mut lanes = [0; LANES];
        for lane in &mut lanes {
            *lane = s;
            s = advance(advance(s, MULTIPLIER, c), MULTIPLIER, c);
        }
        // 2·LANES steps are one step with another multiplier and increment:
        // of two steps, a·(a·s + c) + c = a²·s + (a + 1)·c.
        let (mut a, mut add) = (MULTIPLIER, c);
        for _ in 0..(2 * LANES).ilog2() {
            (a, add) = (a.wrapping_mul(a), advance(add, a, add));
        }
        let (mut first, mut second) = ([0; PAIRS], [0; PAIRS]);
        for x in x.chunks_mut(2 * PAIRS) {
            let pairs = x.len().div_ceil(2);
            for at in (0..pairs).step_by(LANES) {
                let (u1, u2) = (&mut first[at..], &mut second[at..]);
                let (u1, u2) = (&mut u1[..LANES], &mut u2[..LANES]);
                for i in 0..LANES {
                    let s = lanes[i];
                    u1[i] = permute(s);
                    u2[i] = permute(advance(s, MULTIPLIER, c));
                    lanes[i] = advance(s, a, add);
                }
            }
            let (full, last) = x.as_chunks_mut::<2>();
            for i in 0..full.len() {
                full[i] = normals(first[i], second[i], sigma);
            }
            if let [last] = last {
                *last = normals(first[pairs - 1], second[pairs - 1], sigma)[0];
            }
        }
    }
}
/// One step of the generator, or many.
#[inline(always)]
fn advance(s: u64, a: u64, c: u64) -> u64 {
    s.wrapping_mul(a).wrapping_add(c)
}

/// [`Rng::normals`] of these random bits, times σ.
#[inline(always)]
fn normals(bits1: u32, bits2: u32, sigma: f32) -> [f32; 2] {
    // eq: gaussian-box-muller
    let r = (2.0 * minus_ln(bits1)).sqrt() * sigma;
    let (sin, cos) = turn(bits2);
    [r * cos, r * sin]
}
/// −ln u for u = (bits + 1)/2³², with a relative error below 2⁻²¹.
///
/// u = 2ᵉ·(1 + x) with 1 + x in [√½, √2): −ln u = −e·ln 2 − ln(1 + x). Near
/// u = 1, where the logarithm goes through 0, x = u − 1 comes from the bits
/// that u's own rounding would lose. Source: Moshier 1989 (Cephes, logf).
#[inline(always)]
fn minus_ln(bits: u32) -> f32 {
    const ROOT: u32 = 0x3f35_04f3; // the bits of √½
    const C: [f32; 9] = [
        7.037_683_6e-2,
        -1.151_461e-1,
        1.167_699_9e-1,
        -1.242_014_1e-1,
        1.424_932_3e-1,
        -1.666_805_8e-1,
        2.000_071_5e-1,
        -2.499_999_4e-1,
        3.333_333e-1,
    ];
    const UNIT: f32 = 1.0 / 4_294_967_296.0;
    let u = (bits as f32 + 1.0) * UNIT;
    // e: how many whole exponents u's bits are above those of √½
    let steps = (u.to_bits().wrapping_sub(ROOT) as i32) >> 23;
    let m = f32::from_bits(u.to_bits().wrapping_sub((steps as u32) << 23));
    let near = -(!bits as f32) * UNIT;
    let x = if steps >= 0 { near } else { m - 1.0 };
    let e = if steps >= 0 { 0.0 } else { steps as f32 };
    let mut p = C[0];
    for c in &C[1..] {
        p = p * x + c;
    }
    let square = x * x;
    let ln = x - (0.5 * square - p * x * square);
    -(e * std::f32::consts::LN_2) - ln
}
/// sin and cos of 2π·bits/2³², with an error below 2⁻²².
///
/// The two highest bits, rounded, are a quarter of the circle; the rest, an
/// angle between −π/4 and π/4. Source: Moshier 1989 (Cephes, sinf, cosf).
#[inline(always)]
fn turn(bits: u32) -> (f32, f32) {
    const SIN: [f32; 3] = [-1.951_529_6e-4, 8.332_161e-3, -1.666_665_5e-1];
    const COS: [f32; 3] = [2.443_315_7e-5, -1.388_731_6e-3, 4.166_664_6e-2];
    const ANGLE: f32 = std::f32::consts::TAU / 4_294_967_296.0;
    let quarter = bits.wrapping_add(1 << 29) >> 30;
    let rest = bits.wrapping_sub(quarter << 30) as i32;
    let x = rest as f32 * ANGLE;
    let z = x * x;
    let s = ((SIN[0] * z + SIN[1]) * z + SIN[2]) * z * x + x;
    let c = ((COS[0] * z + COS[1]) * z + COS[2]) * z * z - 0.5 * z + 1.0;
    let (sin, cos) = if quarter & 1 == 0 { (s, c) } else { (c, s) };
    // signs: sin is below 0 in quarters 2 and 3, cos in 1 and 2
    let flip = |x: f32, q: u32| f32::from_bits(x.to_bits() ^ (q >> 1) << 31);
    (flip(sin, quarter & 2), flip(cos, (quarter + 1) & 2))
}
