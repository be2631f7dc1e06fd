//! Chapter: random. Random numbers that a seed and a name determine.

use crate::real::Real;

/// The factor of the generator's step.
pub(crate) const MULTIPLIER: u64 = 6_364_136_223_846_793_005;

/// The output that belongs to a state. A state's low bits are poor: fold it,
/// and rotate it by the number in its five highest bits.
#[inline(always)]
pub(crate) fn permute(s: u64) -> u32 {
    (((s >> 18 ^ s) >> 27) as u32).rotate_right((s >> 59) as u32)
}

/// PCG32: a linear congruential generator whose output is permuted.
///
/// Each stream has an odd increment c. s ← 6364136223846793005·s + c mod 2⁶⁴.
/// Any seed is as good as any other, 0 included.
/// Source: O'Neill 2014, PCG-XSH-RR 64/32.
///
/// ```
/// use moe_by_hand::rng::Rng;
/// // The first outputs that O'Neill's own demo prints for seed 42, stream 54.
/// let mut r = Rng::new(42, 54);
/// assert_eq!([r.bits(), r.bits()], [0xa15c02b7, 0x7b47f409]);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Rng {
    state: u64,
    increment: u64,
}

impl Rng {
    /// The generator of `seed`; each `stream` is a sequence of its own.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut rng = Self { state: 0, increment: stream << 1 | 1 };
        rng.bits();
        rng.state = rng.state.wrapping_add(seed);
        rng.bits();
        rng
    }
    /// The stream that belongs to `name` (FNV-1a): what is drawn for one
    /// parameter does not depend on which others there are.
    pub fn named(seed: u64, name: &str) -> Self {
        let hash = |h: u64, b: u8| (h ^ b as u64).wrapping_mul(0x100_0000_01b3);
        Self::new(seed, name.bytes().fold(0xcbf2_9ce4_8422_2325, hash))
    }
    /// 32 random bits.
    pub fn bits(&mut self) -> u32 {
        let s = self.state;
        // eq: prng-lcg
        self.state = s.wrapping_mul(MULTIPLIER).wrapping_add(self.increment);
        permute(s)
    }
    /// 64 random bits.
    pub fn bits64(&mut self) -> u64 {
        (self.bits() as u64) << 32 | self.bits() as u64
    }
    /// The state, and the increment.
    pub(crate) fn state(&self) -> (u64, u64) {
        (self.state, self.increment)
    }
    /// Uniform in [0, 1), with all 53 bits of an `f64`.
    pub fn uniform(&mut self) -> f64 {
        (self.bits64() >> 11) as f64 / (1u64 << 53) as f64
    }
    /// Uniform in 0..n.
    ///
    /// # Panics
    /// If n is 0.
    pub fn below(&mut self, n: usize) -> usize {
        assert!(n > 0, "below(0): there is no number below 0");
        ((self.bits64() as u128 * n as u128) >> 64) as usize
    }
    /// Two independent standard normal numbers.
    ///
    /// z = √(−2 ln u₁)·(cos 2πu₂, sin 2πu₂), u₁ in (0, 1].
    /// Source: Box & Muller 1958.
    pub fn normals(&mut self) -> [f64; 2] {
        let unit = 1.0 / (1u64 << 32) as f64;
        let u1 = (self.bits() as f64 + 1.0) * unit; // never 0: ln 0 = −∞
        let u2 = self.bits() as f64 * unit;
        // eq: gaussian-box-muller
        let r = (-2.0 * libm::log(u1)).sqrt();
        let (sin, cos) = libm::sincos(std::f64::consts::TAU * u2);
        [r * cos, r * sin]
    }
    /// Sets x to independent normal numbers of mean 0 and standard
    /// deviation `sigma`.
    pub fn fill_normal<T: Real>(&mut self, x: &mut [T], sigma: f64) {
        for pair in x.chunks_mut(2) {
            for (x, z) in pair.iter_mut().zip(self.normals()) {
                *x = T::of(sigma * z);
            }
        }
    }
}
