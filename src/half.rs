//! Chapter: half. Numbers of 16 bits, bf16 and f16: what their bits mean, and
//! how an f32 is rounded to one.
//!
//! One bit is the sign, some are the exponent e, the rest is the fraction f. A
//! number is ±2^(e − bias)·(1 + f/2^F), with F bits of fraction; where e is 0
//! it is subnormal, ±2^(1 − bias)·f/2^F; where e is all ones, it is ∞ if f is
//! 0 and else NaN. Source: IEEE 754-2019, §3.4.

use std::cmp::Ordering;

/// The bits of the format's number that is nearest to x: of two that are
/// equally near, the one whose last bit is 0.
fn round(x: f32, exponent: u32, fraction: u32) -> u16 {
    let (sign, u) = (x.to_bits() >> 31 << 15, x.to_bits() & 0x7fff_ffff);
    let infinite = ((1 << exponent) - 1) << fraction;
    if x.is_nan() {
        // as much of what the NaN says as fits; its first bit makes it quiet
        let (quiet, rest) = (1 << (fraction - 1), u << 9 >> (32 - fraction));
        return (sign | infinite | quiet | rest) as u16;
    }
    // x = ±m·2^(e − bias − 23), a subnormal f32 with e as of the smallest
    let bias = (1 << (exponent - 1)) - 1;
    let e = (u >> 23).max(1) as i32 - 127 + bias;
    let m = if u >> 23 == 0 { u } else { u & 0x7f_ffff | 1 << 23 };
    // A subnormal number has fewer bits; below half of the smallest, none.
    let drop = (23 - fraction + (1 - e).max(0) as u32).min(25);
    let (kept, rest) = (m >> drop, m & ((1 << drop) - 1));
    let middle = 1 << (drop - 1);
    let up = rest > middle || rest == middle && kept & 1 == 1;
    // eq: round-to-nearest-even
    let kept = kept + u32::from(up);
    // The first bit of m, if it is kept, and a carry add to the exponent.
    let bits = kept + ((e.max(1) as u32 - 1) << fraction);
    (sign | bits.min(infinite)) as u16
}
/// The f32 of the same value; `smallest` is the format's smallest number.
fn widen(bits: u16, exponent: u32, fraction: u32, smallest: f32) -> f32 {
    let bits = u32::from(bits);
    let (sign, f) = (bits >> 15 << 31, bits & ((1 << fraction) - 1));
    let (most, e) = ((1 << exponent) - 1, (bits & 0x7fff) >> fraction);
    if e == 0 {
        let size = f as f32 * smallest;
        return f32::from_bits(sign | size.to_bits());
    }
    let bias = (1 << (exponent - 1)) - 1;
    let e = if e == most { 255 } else { e + 127 - bias };
    f32::from_bits(sign | e << 23 | f << (23 - fraction))
}
/// An f32 near x from which both formats round as from x itself: where x lies
/// between two f32s, the one whose last bit is 1, so that x never becomes a
/// middle which it is not. Source: Boldo & Melquiond 2008.
fn odd(x: f64) -> f32 {
    let near = x as f32;
    if f64::from(near) == x || x.is_nan() {
        return near;
    }
    let beyond = f64::from(near).abs() > x.abs();
    f32::from_bits((near.to_bits() - u32::from(beyond)) | 1)
}

macro_rules! half {
    ($(#[$doc:meta])* $t:ident: $exponent:literal, $fraction:literal,
     smallest $smallest:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default)]
        pub struct $t(u16);
        impl $t {
            /// The smallest number above 0, a subnormal one.
            pub const SMALLEST: Self = Self(1);
            /// The smallest normal number.
            pub const LEAST_NORMAL: Self = Self(1 << $fraction);
            /// The largest finite number.
            pub const LARGEST: Self = Self((0x7fff >> $fraction << $fraction) - 1);
            /// Half the distance from 1 to the next number: the largest
            /// relative error of rounding to a normal number.
            pub const UNIT: f64 = 0.5 / (1 << $fraction) as f64;

            /// The number that has these bits.
            pub const fn from_bits(bits: u16) -> Self {
                Self(bits)
            }
            /// Its bits.
            pub const fn to_bits(self) -> u16 {
                self.0
            }
            /// The nearest number to x; of two that are equally near, the one
            /// whose last bit is 0; ±∞ from half a step above the largest on.
            pub fn from_f32(x: f32) -> Self {
                Self(round(x, $exponent, $fraction))
            }
            /// [`Self::from_f32`] for an f64, which is rounded once.
            pub fn from_f64(x: f64) -> Self {
                Self::from_f32(odd(x))
            }
            /// The same number as an f32, which has all of them.
            pub fn f32(self) -> f32 {
                let smallest = f32::from_bits($smallest);
                widen(self.0, $exponent, $fraction, smallest)
            }
        }
        impl PartialEq for $t {
            fn eq(&self, o: &Self) -> bool {
                self.f32() == o.f32()
            }
        }
        impl PartialOrd for $t {
            fn partial_cmp(&self, o: &Self) -> Option<Ordering> {
                self.f32().partial_cmp(&o.f32())
            }
        }
        impl std::fmt::Debug for $t {
            fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                self.f32().fmt(f)
            }
        }
    };
}
half! {
    /// The upper half of an f32: 8 bits of exponent, as f32 has, and 7 of
    /// fraction.
    ///
    /// ```
    /// use moe_by_hand::half::Bf16;
    /// let third = Bf16::from_f32(1.0 / 3.0); // 1.0101011·2⁻²
    /// assert_eq!((third.to_bits(), third.f32()), (0x3eab, 0.333_984_375));
    /// // 1 + 2⁻⁸ lies in the middle of 1 and 1 + 2⁻⁷, 1 + 3·2⁻⁸ in that of
    /// // 1 + 2⁻⁷ and 1 + 2⁻⁶: both go to the number that is even.
    /// assert_eq!(Bf16::from_f32(1.0 + 1.0 / 256.0).f32(), 1.0);
    /// assert_eq!(Bf16::from_f32(1.0 + 3.0 / 256.0).f32(), 1.0 + 1.0 / 64.0);
    /// ```
    Bf16: 8, 7, smallest 0x0001_0000
}
half! {
    /// IEEE's binary16: 5 bits of exponent, 10 of fraction.
    ///
    /// ```
    /// use moe_by_hand::half::F16;
    /// assert_eq!(F16::from_f32(1.0 / 3.0).f32(), 0.333_251_953_125);
    /// // From 65504 to 65520 there is nothing, and from there on ∞.
    /// assert_eq!(F16::from_f32(65_519.0), F16::LARGEST);
    /// assert_eq!(F16::from_f32(65_520.0).f32(), f32::INFINITY);
    /// // Half of the smallest number, 2⁻²⁴, is 0, and so is a gradient of 10⁻⁸.
    /// assert_eq!(F16::SMALLEST.f32(), 2f32.powi(-24));
    /// assert_eq!(F16::from_f32(1e-8).f32(), 0.0);
    /// ```
    F16: 5, 10, smallest 0x3380_0000
}
