//! Chapter: half. Numbers of 16 bits as numbers that layers run on: stored in
//! 16 bits, computed with in f32, and converted many at a time.
//!
//! The conversions here give the bits of those in `half.rs`, without a branch:
//! plain code that the compiler vectorizes for each instruction set, so that
//! all have the same bits. Tests: `conversions` in `tests/half.rs`, and over
//! all f32s `cargo example half_bits`.

use crate::half::{Bf16, F16};
use crate::kernel::simd::{Isa, Kernel, Simd};
use crate::real::Real;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, DivAssign, Mul, MulAssign, Neg, Sub};

/// [`Bf16::f32`].
#[inline(always)]
fn widen_bf16(x: u16) -> f32 {
    f32::from_bits(u32::from(x) << 16)
}
/// [`Bf16::from_f32`]: half of the last bit that stays, less 1 if that bit is
/// 0, carries into it exactly where x is to be rounded up.
#[inline(always)]
fn narrow_bf16(x: f32) -> u16 {
    let u = x.to_bits();
    let near = u.wrapping_add(0x7fff + (u >> 16 & 1)) >> 16;
    let nan = u & 0x7fff_ffff > 0x7f80_0000;
    (if nan { u >> 16 | 0x40 } else { near }) as u16
}
/// [`F16::f32`]. A subnormal number is f·2⁻²⁴; with the exponent of 2⁻¹⁴
/// before it, f is the fraction of 2⁻¹⁴ + f·2⁻²⁴.
#[inline(always)]
fn widen_f16(x: u16) -> f32 {
    const LEAST: u32 = 113 << 23; // 2⁻¹⁴
    let (sign, m) = (u32::from(x >> 15) << 31, u32::from(x & 0x7fff) << 13);
    let tiny = f32::from_bits(m + LEAST) - f32::from_bits(LEAST);
    let size = match m >> 23 {
        0 => tiny.to_bits(),
        31 => m + (224 << 23),
        _ => m + (112 << 23),
    };
    f32::from_bits(sign | size)
}
/// [`F16::from_f32`]. The last bit of ½ is worth 2⁻²⁴, as is the last bit
/// of a subnormal number, so the sum ½ + x is rounded where x has to be.
#[inline(always)]
fn narrow_f16(x: f32) -> u16 {
    let (sign, u) = (x.to_bits() >> 31 << 15, x.to_bits() & 0x7fff_ffff);
    let carry = 0xfff + (u >> 13 & 1);
    let near =
        (u.wrapping_sub(112 << 23).wrapping_add(carry) >> 13).min(0x7c00);
    let tiny = (0.5 + f32::from_bits(u)).to_bits() - 0.5f32.to_bits();
    let nan = 0x7e00 | u >> 13 & 0x3ff;
    let size = if u < 113 << 23 { tiny } else { near };
    (sign | if u > 0x7f80_0000 { nan } else { size }) as u16
}

macro_rules! half {
    ($t:ident, $widen:ident, $narrow:ident, $wide:ident, $narrowing:ident) => {
        struct $wide<'a>(&'a mut [f32], &'a [$t]);
        impl Kernel for $wide<'_> {
            type Out = ();
            #[inline(always)]
            fn run<S: Simd>(self, _: S) {
                for (to, x) in self.0.iter_mut().zip(self.1) {
                    *to = $widen(x.to_bits());
                }
            }
        }
        struct $narrowing<'a>(&'a mut [$t], &'a [f32]);
        impl Kernel for $narrowing<'_> {
            type Out = ();
            #[inline(always)]
            fn run<S: Simd>(self, _: S) {
                for (to, &x) in self.0.iter_mut().zip(self.1) {
                    *to = $t::from_bits($narrow(x));
                }
            }
        }
        impl $t {
            /// Sets `to` to the numbers x, by the given instruction set.
            ///
            /// # Panics
            /// If the lengths differ, or the CPU does not have the set.
            #[track_caller]
            pub fn widen_with(isa: Isa, to: &mut [f32], x: &[Self]) {
                assert_eq!(to.len(), x.len(), "widen: x against to");
                isa.run($wide(to, x));
            }
            /// Sets `to` to x, rounded, by the given instruction set.
            ///
            /// # Panics
            /// If the lengths differ, or the CPU does not have the set.
            #[track_caller]
            pub fn narrow_with(isa: Isa, to: &mut [Self], x: &[f32]) {
                assert_eq!(to.len(), x.len(), "narrow: x against to");
                isa.run($narrowing(to, x));
            }
        }
        half!(@ $t, Add add, Sub sub, Mul mul, Div div);
        impl Neg for $t {
            type Output = Self;
            fn neg(self) -> Self {
                Self::from_bits(self.to_bits() ^ 0x8000)
            }
        }
        impl AddAssign for $t {
            fn add_assign(&mut self, o: Self) {
                *self = *self + o;
            }
        }
        impl MulAssign for $t {
            fn mul_assign(&mut self, o: Self) {
                *self = *self * o;
            }
        }
        impl DivAssign for $t {
            fn div_assign(&mut self, o: Self) {
                *self = *self / o;
            }
        }
        // A sum runs in f32 and is rounded once.
        impl Sum for $t {
            fn sum<I: Iterator<Item = Self>>(i: I) -> Self {
                Self::from_f32(i.map(Self::f32).sum())
            }
        }
        impl<'a> Sum<&'a $t> for $t {
            fn sum<I: Iterator<Item = &'a $t>>(i: I) -> Self {
                i.copied().sum()
            }
        }
        impl Real for $t {
            const ZERO: Self = Self::from_bits(0);
            const ONE: Self = Self::from_bits(half!(@ one $t));
            fn of(x: f64) -> Self {
                Self::from_f64(x)
            }
            fn f64(self) -> f64 {
                self.f32().into()
            }
            fn sqrt(self) -> Self {
                Self::from_f32(Real::sqrt(self.f32()))
            }
            fn exp(self) -> Self {
                Self::from_f32(Real::exp(self.f32()))
            }
            fn ln(self) -> Self {
                Self::from_f32(Real::ln(self.f32()))
            }
            type Wide = f32;
            const STORED: bool = true;
            fn wide(self) -> f32 {
                self.f32()
            }
            fn nearest(x: f32) -> Self {
                Self::from_f32(x)
            }
            fn wides(_: &[Self]) -> Option<&[f32]> {
                None
            }
            fn wides_mut(_: &mut [Self]) -> Option<&mut [f32]> {
                None
            }
            fn widen(to: &mut [f32], x: &[Self]) {
                Self::widen_with(Isa::current(), to, x);
            }
            fn narrow(to: &mut [Self], x: &[f32]) {
                Self::narrow_with(Isa::current(), to, x);
            }
        }
    };
    (@ one Bf16) => { 0x3f80 };
    (@ one F16) => { 0x3c00 };
    (@ $t:ident, $($trait:ident $f:ident),+) => { $(
        impl $trait for $t {
            type Output = Self;
            /// As of f32s, rounded.
            fn $f(self, o: Self) -> Self {
                Self::from_f32($trait::$f(self.f32(), o.f32()))
            }
        }
    )+ };
}
half!(Bf16, widen_bf16, narrow_bf16, WidenBf16, NarrowBf16);
half!(F16, widen_f16, narrow_f16, WidenF16, NarrowF16);
