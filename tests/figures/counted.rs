//! Chapter: kv-cache. A number that counts its products.

use moe_by_hand::real::Real;
use std::cell::Cell;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, DivAssign, Mul, MulAssign, Neg, Sub};

thread_local! {
    static PRODUCTS: Cell<u64> = const { Cell::new(0) };
}
/// A number that counts how often numbers are multiplied.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub(crate) struct Counted(f64);

impl Mul for Counted {
    type Output = Self;
    fn mul(self, o: Self) -> Self {
        PRODUCTS.set(PRODUCTS.get() + 1);
        Self(self.0 * o.0)
    }
}
macro_rules! uncounted {
    ($($trait:ident $method:ident),*) => { $(
        impl $trait for Counted {
            type Output = Self;
            fn $method(self, o: Self) -> Self {
                Self(self.0.$method(o.0))
            }
        }
    )* };
}
uncounted!(Add add, Sub sub, Div div);
macro_rules! assigning {
    ($($trait:ident $method:ident $op:ident),*) => { $(
        impl $trait for Counted {
            fn $method(&mut self, o: Self) {
                *self = self.$op(o);
            }
        }
    )* };
}
assigning!(AddAssign add_assign add, MulAssign mul_assign mul);
assigning!(DivAssign div_assign div);
impl Neg for Counted {
    type Output = Self;
    fn neg(self) -> Self {
        Self(-self.0)
    }
}
impl Sum for Counted {
    fn sum<I: Iterator<Item = Self>>(i: I) -> Self {
        i.fold(Self::ZERO, Add::add)
    }
}
impl<'a> Sum<&'a Counted> for Counted {
    fn sum<I: Iterator<Item = &'a Counted>>(i: I) -> Self {
        i.copied().sum()
    }
}
impl Real for Counted {
    const ZERO: Self = Self(0.0);
    const ONE: Self = Self(1.0);
    fn of(x: f64) -> Self {
        Self(x)
    }
    fn f64(self) -> f64 {
        self.0
    }
    fn sqrt(self) -> Self {
        Self(self.0.sqrt())
    }
    fn exp(self) -> Self {
        Self(self.0.exp())
    }
    fn ln(self) -> Self {
        Self(self.0.ln())
    }
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
}
/// How many products this work takes.
pub(crate) fn products(work: impl FnOnce()) -> i64 {
    let before = PRODUCTS.get();
    work();
    (PRODUCTS.get() - before) as i64
}
