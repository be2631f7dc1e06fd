//! Chapter: adjoint. The numbers that everything runs on: f32 to train, f64
//! to check, and dual numbers, which carry an exact derivative along.

use crate::elementary;
use std::fmt::Debug;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, DivAssign, Mul, MulAssign, Neg, Sub};

/// A real number: what a kernel may assume of its elements.
///
/// Kernels are written once, over `T: Real`. Constants enter by [`Real::of`],
/// and sums accumulate in `T` itself, never in a fixed `f32`: otherwise a
/// check in `f64` would see `f32` rounding.
pub trait Real:
    Copy
    + Debug
    + Default
    + PartialOrd
    + Send
    + Sync
    + 'static
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
    /// The value as an `f64`; of a dual number, its real part. An element of a
    /// finite field has none, so a layer that asks for it has no proof there
    /// (see [`Field`](crate::field::Field)).
    fn f64(self) -> f64;
    /// √x.
    fn sqrt(self) -> Self;
    /// eˣ.
    fn exp(self) -> Self;
    /// ln x.
    fn ln(self) -> Self;
    /// What kernels compute in: `Self`; for a number of 16 bits, which is for
    /// storage, f32.
    type Wide: Real<Wide = Self::Wide>;
    /// Whether `Wide` is another type, so that a kernel has to widen first.
    const STORED: bool;
    /// The same number, to compute with.
    fn wide(self) -> Self::Wide;
    /// The number that is stored for x: x rounded once.
    fn nearest(x: Self::Wide) -> Self;
    /// The same slice, where `Wide` is `Self`; none, where numbers are `STORED`.
    fn wides(x: &[Self]) -> Option<&[Self::Wide]>;
    /// [`Real::wides`] for a slice that is written to.
    fn wides_mut(x: &mut [Self]) -> Option<&mut [Self::Wide]>;
    /// Sets `to` to the numbers x.
    ///
    /// # Panics
    /// If the lengths differ.
    #[track_caller]
    fn widen(to: &mut [Self::Wide], x: &[Self]) {
        assert_eq!(to.len(), x.len(), "widen: x against to");
        to.iter_mut().zip(x).for_each(|(to, x)| *to = x.wide());
    }
    /// Stores x, each number rounded once.
    ///
    /// # Panics
    /// If the lengths differ.
    #[track_caller]
    fn narrow(to: &mut [Self], x: &[Self::Wide]) {
        assert_eq!(to.len(), x.len(), "narrow: x against to");
        to.iter_mut().zip(x).for_each(|(to, &x)| *to = Self::nearest(x));
    }
    /// The same slice as `f32`, where `Self` is `f32`: the door through which
    /// a kernel finds its faster twin.
    fn f32s(_: &[Self]) -> Option<&[f32]> {
        None
    }
    /// [`Real::f32s`] for a slice that is written to.
    fn f32s_mut(_: &mut [Self]) -> Option<&mut [f32]> {
        None
    }
    /// The door back: f32s as `Self`, where that is `f32`.
    fn of_f32s(_: &mut [f32]) -> Option<&mut [Self]> {
        None
    }
}

/// For a number that is computed with as it is stored.
macro_rules! as_stored {
    () => {
        type Wide = Self;
        const STORED: bool = false;
        fn wide(self) -> Self {
            self
        }
        fn nearest(x: Self) -> Self {
            x
        }
        fn wides(x: &[Self]) -> Option<&[Self]> {
            Some(x)
        }
        fn wides_mut(x: &mut [Self]) -> Option<&mut [Self]> {
            Some(x)
        }
    };
}
pub(crate) use as_stored;

macro_rules! real {
    ($t:ty { $($own:tt)* }) => {
        impl Real for $t {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            fn of(x: f64) -> Self {
                x as $t
            }
            fn f64(self) -> f64 {
                self as f64
            }
            fn sqrt(self) -> Self {
                self.sqrt()
            }
            as_stored!();
            $($own)*
        }
    };
}
real!(f64 {
    fn exp(self) -> f64 {
        libm::exp(self)
    }
    fn ln(self) -> f64 {
        libm::log(self)
    }
});
real!(f32 {
    fn exp(self) -> f32 {
        elementary::exp(self)
    }
    fn ln(self) -> f32 {
        elementary::ln(self)
    }
    fn f32s(x: &[f32]) -> Option<&[f32]> {
        Some(x)
    }
    fn f32s_mut(x: &mut [f32]) -> Option<&mut [f32]> {
        Some(x)
    }
    fn of_f32s(x: &mut [f32]) -> Option<&mut [f32]> {
        Some(x)
    }
});

/// A dual number v + d·ε with ε² = 0: a function of it carries its exact
/// directional derivative in `d`, with no step size to choose.
///
/// φ(v + d·ε) = φ(v) + φ′(v)·d·ε, over any numbers `T`. Source: Clifford 1873.
///
/// ```
/// use moe_by_hand::real::{Dual, Real};
/// // (x²)′ = 2x at x = 3, and (√x)′ = 1/(2√x) at x = 4.
/// let x = Dual { v: 3.0, d: 1.0 };
/// assert_eq!((x * x).d, 6.0);
/// assert_eq!(Dual { v: 4.0, d: 1.0 }.sqrt().d, 0.25);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Dual<T = f64> {
    /// The value.
    pub v: T,
    /// The derivative along the direction that was put in.
    pub d: T,
}

// A comparison looks at the value only: a kink belongs to one of its sides.
impl<T: Real> PartialEq for Dual<T> {
    fn eq(&self, o: &Self) -> bool {
        self.v == o.v
    }
}
impl<T: Real> PartialOrd for Dual<T> {
    fn partial_cmp(&self, o: &Self) -> Option<std::cmp::Ordering> {
        self.v.partial_cmp(&o.v)
    }
}
impl<T: Real> Add for Dual<T> {
    type Output = Self;
    fn add(self, o: Self) -> Self {
        Self { v: self.v + o.v, d: self.d + o.d }
    }
}
impl<T: Real> Sub for Dual<T> {
    type Output = Self;
    fn sub(self, o: Self) -> Self {
        Self { v: self.v - o.v, d: self.d - o.d }
    }
}
impl<T: Real> Mul for Dual<T> {
    type Output = Self;
    fn mul(self, o: Self) -> Self {
        // eq: dual-number
        Self { v: self.v * o.v, d: self.d * o.v + self.v * o.d }
    }
}
impl<T: Real> Div for Dual<T> {
    type Output = Self;
    fn div(self, o: Self) -> Self {
        let v = self.v / o.v;
        Self { v, d: (self.d - v * o.d) / o.v }
    }
}
impl<T: Real> Neg for Dual<T> {
    type Output = Self;
    fn neg(self) -> Self {
        Self { v: -self.v, d: -self.d }
    }
}
/// What follows from the four operations: `+=` and the like, and sums.
macro_rules! rest {
    ($t:ty $(, $bound:ident)?) => {
        impl$(<T: $bound>)? AddAssign for $t {
            fn add_assign(&mut self, o: Self) {
                *self = *self + o;
            }
        }
        impl$(<T: $bound>)? MulAssign for $t {
            fn mul_assign(&mut self, o: Self) {
                *self = *self * o;
            }
        }
        impl$(<T: $bound>)? DivAssign for $t {
            fn div_assign(&mut self, o: Self) {
                *self = *self / o;
            }
        }
        impl$(<T: $bound>)? Sum for $t {
            fn sum<I: Iterator<Item = Self>>(i: I) -> Self {
                i.fold(Self::ZERO, Add::add)
            }
        }
        impl<'a $(, T: $bound)?> Sum<&'a $t> for $t {
            fn sum<I: Iterator<Item = &'a $t>>(i: I) -> Self {
                i.copied().sum()
            }
        }
    };
}
rest!(Dual<T>, Real);
pub(crate) use rest;
impl<T: Real> Real for Dual<T> {
    const ZERO: Self = Self { v: T::ZERO, d: T::ZERO };
    const ONE: Self = Self { v: T::ONE, d: T::ZERO };
    fn of(v: f64) -> Self {
        Self { v: T::of(v), d: T::ZERO }
    }
    #[track_caller]
    fn f64(self) -> f64 {
        self.v.f64()
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
    as_stored!();
}
