//! Chapter: gradcheck. Numbers without rounding: the finite field of 2⁶¹ − 1
//! elements, in which two sides of an equation are equal or they are not.
//!
//! A derivative is made of sums, products and quotients, and these follow the
//! same laws in every field. So ⟨ȳ, J·u⟩ = ⟨Jᵀȳ, u⟩, once it holds as an
//! identity, holds there as well, and it is tested with `==` (rung T10).
//!
//! The functions eˣ and ln x have no meaning there. What a backward may know of
//! them is one law, e^{a + ln b} = e^a·b, and their derivatives. A number is
//! therefore kept as a + ln b. Everything else about them is replaced by a hash,
//! which has no structure that a wrong formula could agree with.

use crate::real::{Real, as_stored, rest};
use std::cmp::Ordering;
use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, DivAssign, Mul, MulAssign, Neg, Sub};
use std::panic::{Location, resume_unwind};

/// p = 2⁶¹ − 1, a prime; p ≡ 3 (mod 4), so that a root is a power.
pub const P: u64 = (1 << 61) - 1;

/// A number a + ln b with a and b in F_p, b ≠ 0; or *unset*, which stands for
/// NaN; or −∞.
///
/// - Sums add the a and multiply the b; e^{a + ln b} = h(a)·b, where h is a
///   hash into the elements that are not 0; ln x = 0 + ln x.
/// - Products, quotients, roots and ln first *fold* a + ln b into the element
///   a + k(b), where k is another hash, k(1) = 0. Comparisons fold as well.
/// - √a is a^((p+1)/4), whose square is a or −a.
/// - A constant of type f64 is a whole number times a power of 2, and so an
///   element of the field, with nothing rounded.
/// - Unset is never equal to anything, itself included, and whatever is
///   computed from it is unset.
/// - −∞ is below all; then come −(p−1)/2, …, 0, …, (p−1)/2.
///
/// The hashes are the same for the whole program, so that all threads agree.
///
/// ```
/// use moe_by_hand::field::Field;
/// use moe_by_hand::real::Real;
/// let [x, y] = [Field::new(12), Field::new(34)];
/// assert_eq!(x / y * y, x); // exactly
/// assert_eq!(Field::of(0.1) * Field::of(2.0), Field::of(0.2));
/// assert_ne!(Field::of(0.1) * Field::of(3.0), Field::of(0.3)); // nor in f64
/// // The law of exp and ln that softmax needs, and no other:
/// assert_eq!((x + y.ln()).exp(), x.exp() * y);
/// assert_ne!((x + y).exp(), x.exp() * y.exp());
/// ```
#[derive(Clone, Copy)]
pub struct Field(Form);
#[derive(Clone, Copy)]
enum Form {
    /// a + ln b
    Number(u64, u64),
    Unset,
    Low,
}
use Form::{Low, Number, Unset};

fn add(a: u64, b: u64) -> u64 {
    let sum = a + b;
    if sum < P { sum } else { sum - P }
}
fn neg(a: u64) -> u64 {
    if a == 0 { 0 } else { P - a }
}
fn mul(a: u64, b: u64) -> u64 {
    // 2⁶¹ = 1: the high digits count as much as the low ones
    let product = a as u128 * b as u128;
    add(product as u64 & P, (product >> 61) as u64)
}
fn pow(mut a: u64, mut n: u64) -> u64 {
    let mut power = 1;
    while n > 0 {
        if n & 1 == 1 {
            power = mul(power, a);
        }
        a = mul(a, a);
        n >>= 1;
    }
    power
}
/// 1/a = a^(p−2), for a ≠ 0.
fn inverse(a: u64) -> u64 {
    if a == 1 { 1 } else { pow(a, P - 2) }
}
/// An element that is not 0, without any structure: `key` chooses the hash.
/// Source: Steele, Lea & Flood 2014 (SplitMix64), twice.
fn hash(key: u64, a: u64) -> u64 {
    let mut x = a ^ key;
    for _ in 0..2 {
        x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^= x >> 31;
    }
    1 + x % (P - 1)
}
/// h, what e^a is replaced by.
fn h(a: u64) -> u64 {
    hash(0x243f_6a88_85a3_08d3, a)
}
/// k, what ln b is replaced by; ln 1 = 0.
fn k(b: u64) -> u64 {
    if b == 1 { 0 } else { hash(0x1319_8a2e_0370_7344, b) }
}

impl Field {
    /// The element that is `a` modulo p. A random `a` gives a random element.
    pub fn new(a: u64) -> Self {
        Self(Number(a % P, 1))
    }
    /// The folded element; none of what is unset, or −∞.
    fn fold(self) -> Option<u64> {
        match self.0 {
            Number(a, b) => Some(add(a, k(b))),
            Unset | Low => None,
        }
    }
    /// The element from −(p−1)/2 to (p−1)/2, by which numbers are ordered.
    fn centered(self) -> Option<i64> {
        let a = self.fold()? as i64;
        Some(if a > P as i64 / 2 { a - P as i64 } else { a })
    }
    /// What `f` makes of both folded elements.
    fn both(self, o: Self, f: impl Fn(u64, u64) -> Option<u64>) -> Self {
        let folded = self.fold().zip(o.fold());
        Self(folded.and_then(|(a, b)| f(a, b)).map_or(Unset, |a| Number(a, 1)))
    }
    /// Whether it has never been set, or was computed from what has not.
    pub fn is_unset(self) -> bool {
        matches!(self.0, Unset)
    }
}
impl Default for Field {
    fn default() -> Self {
        Self::ZERO
    }
}
impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match (self.centered(), self.0) {
            (Some(a), _) => a.fmt(f),
            (None, Low) => f.write_str("−∞"),
            (None, _) => f.write_str("unset"),
        }
    }
}
impl fmt::Debug for Field {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl PartialEq for Field {
    fn eq(&self, o: &Self) -> bool {
        self.partial_cmp(o) == Some(Ordering::Equal)
    }
}
impl PartialOrd for Field {
    fn partial_cmp(&self, o: &Self) -> Option<Ordering> {
        match (self.0, o.0) {
            (Unset, _) | (_, Unset) => None,
            // None, of −∞, is below all.
            _ => self.centered().partial_cmp(&o.centered()),
        }
    }
}
impl Add for Field {
    type Output = Self;
    fn add(self, o: Self) -> Self {
        Self(match (self.0, o.0) {
            (Number(a, 1), Number(c, d)) => Number(add(a, c), d),
            (Number(a, b), Number(c, 1)) => Number(add(a, c), b),
            (Number(a, b), Number(c, d)) => Number(add(a, c), mul(b, d)),
            (Unset, _) | (_, Unset) => Unset,
            _ => Low,
        })
    }
}
impl Neg for Field {
    type Output = Self;
    fn neg(self) -> Self {
        Self(match self.0 {
            Number(a, b) => Number(neg(a), inverse(b)),
            Unset | Low => Unset,
        })
    }
}
impl Sub for Field {
    type Output = Self;
    fn sub(self, o: Self) -> Self {
        self + -o
    }
}
impl Mul for Field {
    type Output = Self;
    fn mul(self, o: Self) -> Self {
        self.both(o, |a, b| Some(mul(a, b)))
    }
}
impl Div for Field {
    type Output = Self;
    /// Unset, if it is divided by 0.
    fn div(self, o: Self) -> Self {
        self.both(o, |a, b| (b != 0).then(|| mul(a, inverse(b))))
    }
}
rest!(Field);

/// What unwinds from [`Real::f64`] of a [`Field`]: the code that asked for the
/// value as an `f64`, of which there is none. Where panics abort, so does this.
#[derive(Debug)]
pub struct NoValue(pub &'static Location<'static>);

impl Real for Field {
    as_stored!();
    const ZERO: Self = Self(Number(0, 1));
    const ONE: Self = Self(Number(1, 1));
    /// Exactly `x`, a whole number times a power of 2; unset for NaN and for
    /// +∞, which no element stands for.
    fn of(x: f64) -> Self {
        if !x.is_finite() {
            return Self(if x == f64::NEG_INFINITY { Low } else { Unset });
        }
        // ±(1.f)·2^(e − 1023), or ±(0.f)·2^(−1022) where e = 0
        let (bits, fraction) = (x.to_bits(), (1 << 52) - 1);
        let (e, f) = ((bits >> 52 & 0x7ff) as i64, bits & fraction);
        let (digits, e) = if e == 0 { (f, 1) } else { (f | 1 << 52, e) };
        // 2⁶¹ = 1, so that exponents count modulo 61
        let a = mul(digits, 1 << (e - 1075).rem_euclid(61));
        Self(Number(if x < 0.0 { neg(a) } else { a }, 1))
    }
    /// # Panics
    /// Always, with [`NoValue`] and without a message: an element of the field
    /// is near no number.
    #[track_caller]
    fn f64(self) -> f64 {
        resume_unwind(Box::new(NoValue(Location::caller())))
    }
    fn sqrt(self) -> Self {
        let root = |a| Number(pow(a, P.div_ceil(4)), 1);
        Self(self.fold().map_or(Unset, root))
    }
    fn exp(self) -> Self {
        match self.0 {
            Number(a, b) => Self(Number(mul(h(a), b), 1)),
            Low => Self::ZERO,
            Unset => self,
        }
    }
    fn ln(self) -> Self {
        let ln = self.fold().filter(|&a| a != 0).map(|a| Number(0, a));
        Self(ln.unwrap_or(Unset))
    }
}
