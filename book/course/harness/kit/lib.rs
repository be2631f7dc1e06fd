//! All that a submission may use besides `core`: the numbers it computes with,
//! and vectors. Nothing here computes what an assignment asks for.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
pub use alloc::{vec, vec::Vec};
use core::iter::Sum;
use core::ops::{Add, AddAssign, Div, DivAssign, Mul, MulAssign, Neg, Sub};

/// A real number, as in the library (`src/real.rs`): what you write over
/// `T: Real` compiles there as well, after `use moe_by_hand::real::Real`.
///
/// The way back to `f64` is missing. The grader counts what is done to these
/// numbers, and arithmetic outside of them would not be counted.
pub trait Real:
    Copy
    + Default
    + PartialOrd
    + Sum
    + for<'a> Sum<&'a Self>
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + MulAssign
    + DivAssign
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// The nearest number to `x`.
    fn of(x: f64) -> Self;
    /// √x.
    fn sqrt(self) -> Self;
    /// eˣ.
    fn exp(self) -> Self;
    /// ln x.
    fn ln(self) -> Self;
}
