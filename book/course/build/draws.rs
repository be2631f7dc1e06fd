//! The judge's own random numbers, so that it rests on nothing that you write:
//! the formulas of `check/rng.rs`, in whole numbers of 128 bits.

use crate::real::Real;
use crate::rng::permute;

/// Random numbers that a seed and a name determine.
#[derive(Clone, Debug)]
pub struct Rng {
    s: u128,
    c: u128,
}
impl Rng {
    /// The generator of a seed, and a stream of it.
    pub fn new(seed: u64, stream: u64) -> Self {
        let c = (stream as u128 * 2 + 1) % (1 << 64);
        let mut rng = Self { s: 0, c };
        rng.next();
        rng.s = (rng.s + seed as u128) % (1 << 64);
        rng.next();
        rng
    }
    /// The stream that belongs to a name.
    pub fn named(seed: u64, name: &str) -> Self {
        let hash = |h: u64, b: u8| (h ^ b as u64).wrapping_mul(0x100_0000_01b3);
        Self::new(seed, name.bytes().fold(0xcbf2_9ce4_8422_2325, hash))
    }
    fn next(&mut self) -> u32 {
        let now = self.s as u64;
        self.s = (self.s * 6_364_136_223_846_793_005 + self.c) % (1 << 64);
        permute(now)
    }
    /// 64 random bits.
    pub fn bits64(&mut self) -> u64 {
        let high = self.next();
        u64::from(high) << 32 | u64::from(self.next())
    }
    /// Uniform in 0..n.
    pub fn below(&mut self, n: usize) -> usize {
        ((self.bits64() as u128 * n as u128) >> 64) as usize
    }
    /// Sets x to normal numbers of this scale.
    pub fn fill_normal<T: Real>(&mut self, x: &mut [T], sigma: f64) {
        for pair in x.chunks_mut(2) {
            let share =
                |bits: u32, more: f64| (f64::from(bits) + more) / 2f64.powi(32);
            let (u, v) = (share(self.next(), 1.0), share(self.next(), 0.0));
            let radius = (2.0 * u.ln().abs()).sqrt();
            let angle = std::f64::consts::TAU * v;
            let both = [radius * angle.cos(), radius * angle.sin()];
            for (x, z) in pair.iter_mut().zip(both) {
                *x = T::of(sigma * z);
            }
        }
    }
}
