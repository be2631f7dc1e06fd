//! Numbers for the cases: dual ones, which carry an exact derivative along,
//! and random ones.

use crate::rest::rest;
use kit::Real;
use std::cmp::Ordering;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// v + d·ε with ε² = 0.
#[derive(Clone, Copy, Default)]
pub struct Dual {
    pub v: f64,
    pub d: f64,
}
impl PartialEq for Dual {
    fn eq(&self, o: &Self) -> bool {
        self.v == o.v
    }
}
impl PartialOrd for Dual {
    fn partial_cmp(&self, o: &Self) -> Option<Ordering> {
        self.v.partial_cmp(&o.v)
    }
}
impl Add for Dual {
    type Output = Self;
    fn add(self, o: Self) -> Self {
        Self { v: self.v + o.v, d: self.d + o.d }
    }
}
impl Sub for Dual {
    type Output = Self;
    fn sub(self, o: Self) -> Self {
        Self { v: self.v - o.v, d: self.d - o.d }
    }
}
impl Mul for Dual {
    type Output = Self;
    fn mul(self, o: Self) -> Self {
        Self { v: self.v * o.v, d: self.d * o.v + self.v * o.d }
    }
}
impl Div for Dual {
    type Output = Self;
    fn div(self, o: Self) -> Self {
        let v = self.v / o.v;
        Self { v, d: (self.d - v * o.d) / o.v }
    }
}
impl Neg for Dual {
    type Output = Self;
    fn neg(self) -> Self {
        Self { v: -self.v, d: -self.d }
    }
}
rest!(Dual);
impl Real for Dual {
    const ZERO: Self = Self { v: 0.0, d: 0.0 };
    const ONE: Self = Self { v: 1.0, d: 0.0 };
    fn of(v: f64) -> Self {
        Self { v, d: 0.0 }
    }
    fn sqrt(self) -> Self {
        let v = self.v.sqrt();
        Self { v, d: self.d / (v + v) }
    }
    fn exp(self) -> Self {
        let v = self.v.exp();
        Self { v, d: self.d * v }
    }
    fn ln(self) -> Self {
        Self { v: self.v.ln(), d: self.d / self.v }
    }
}

/// The numbers without a derivative.
pub fn constant(x: &[f64]) -> Vec<Dual> {
    x.iter().map(|&v| Dual { v, d: 0.0 }).collect()
}
/// The numbers, their derivatives left out.
pub fn values(x: &[Dual]) -> Vec<f64> {
    x.iter().map(|x| x.v).collect()
}
/// The gradient of ⟨ȳ, f(x)⟩, exactly: one forward pass for each element.
pub fn gradient(
    x: &[f64], dy: &[f64], f: impl Fn(&[Dual]) -> Vec<Dual>,
) -> Vec<f64> {
    let mut moved = constant(x);
    let one = |i: usize| {
        moved[i].d = 1.0;
        let y = f(&moved);
        moved[i].d = 0.0;
        assert_eq!(y.len(), dy.len(), "gradient: y against dy");
        y.iter().zip(dy).map(|(y, dy)| y.d * dy).sum()
    };
    (0..x.len()).map(one).collect()
}

/// Random numbers: SplitMix64 (Steele, Lea and Flood 2014).
pub struct Rng(pub u64);
impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }
    /// Uniform in (0, 1).
    pub fn uniform(&mut self) -> f64 {
        ((self.next() >> 12) as f64 + 0.5) / (1u64 << 52) as f64
    }
    /// A whole number from `low` to `high`, both included.
    pub fn between(&mut self, low: usize, high: usize) -> usize {
        low + (self.next() % (high - low + 1) as u64) as usize
    }
    /// n normal numbers of this standard deviation.
    pub fn normals(&mut self, n: usize, scale: f64) -> Vec<f64> {
        let mut one = || {
            let (u, v) = (self.uniform(), self.uniform());
            scale * (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
        };
        (0..n).map(|_| one()).collect()
    }
}
