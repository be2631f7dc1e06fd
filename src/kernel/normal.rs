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

use crate::elementary::{ln_of, quarters, sin_cos_series, split};
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
/// −ln u for u = (bits + 1)/2³², with a relative error below 2⁻²¹ = 8 u: u is
/// rounded twice, which moves a logarithm of ½ ln 2 or more by 5.8 u of itself,
/// and the logarithm adds 2 u.
///
/// u = 2ᵉ·(1 + f) with 1 + f in [√½, √2). Near u = 1, where the logarithm goes
/// through 0, f = u − 1 comes from the bits that u's own rounding would lose.
#[inline(always)]
fn minus_ln(bits: u32) -> f32 {
    const UNIT: f32 = 1.0 / 4_294_967_296.0;
    let u = (bits as f32 + 1.0) * UNIT;
    let (e, m) = split(u);
    let near = -(!bits as f32) * UNIT;
    let (e, f) = if e >= 0.0 { (0.0, near) } else { (e, m - 1.0) };
    -ln_of(e, f)
}
/// sin and cos of 2π·bits/2³², with an error below 2⁻²² = 4 u: the angle, at
/// most π/4, is rounded three times, and sin and cos to 1.3 u.
///
/// The two highest bits, rounded, are a quarter of the circle; the rest, an
/// angle between −π/4 and π/4.
#[inline(always)]
fn turn(bits: u32) -> (f32, f32) {
    const ANGLE: f32 = std::f32::consts::TAU / 4_294_967_296.0;
    let quarter = bits.wrapping_add(1 << 29) >> 30;
    let rest = bits.wrapping_sub(quarter << 30) as i32;
    quarters(sin_cos_series(rest as f32 * ANGLE), quarter)
}
