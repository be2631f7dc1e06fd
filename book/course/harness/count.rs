//! A number that counts what is done to it. A submission computes with no
//! other, so it cannot tell when it is counted: forward mode or differences in
//! place of a derivation show.

use crate::rest::rest;
use kit::Real;
use std::cell::Cell;
use std::cmp::Ordering;
use std::ops::{Add, Div, Mul, Neg, Sub};

thread_local! {
    static OPERATIONS: Cell<u64> = const { Cell::new(0) };
}
/// How many operations there were so far, comparisons included.
pub fn operations() -> u64 {
    OPERATIONS.get()
}

#[derive(Clone, Copy, Default)]
pub struct Count(pub f64);
/// What a comparison counts: so much that to find a number by comparing it, a
/// bit at a time, takes more than any derivation.
const COMPARED: u64 = 4;
fn compare() {
    OPERATIONS.set(OPERATIONS.get() + COMPARED);
}
fn count(x: f64) -> Count {
    OPERATIONS.set(OPERATIONS.get() + 1);
    Count(x)
}
impl Add for Count {
    type Output = Self;
    fn add(self, o: Self) -> Self {
        count(self.0 + o.0)
    }
}
impl Sub for Count {
    type Output = Self;
    fn sub(self, o: Self) -> Self {
        count(self.0 - o.0)
    }
}
impl Mul for Count {
    type Output = Self;
    fn mul(self, o: Self) -> Self {
        count(self.0 * o.0)
    }
}
impl Div for Count {
    type Output = Self;
    fn div(self, o: Self) -> Self {
        count(self.0 / o.0)
    }
}
impl Neg for Count {
    type Output = Self;
    fn neg(self) -> Self {
        count(-self.0)
    }
}
impl PartialEq for Count {
    fn eq(&self, o: &Self) -> bool {
        compare();
        self.0 == o.0
    }
}
impl PartialOrd for Count {
    fn partial_cmp(&self, o: &Self) -> Option<Ordering> {
        compare();
        self.0.partial_cmp(&o.0)
    }
}
rest!(Count);
impl Real for Count {
    const ZERO: Self = Self(0.0);
    const ONE: Self = Self(1.0);
    fn of(x: f64) -> Self {
        count(x)
    }
    fn sqrt(self) -> Self {
        count(self.0.sqrt())
    }
    fn exp(self) -> Self {
        count(self.0.exp())
    }
    fn ln(self) -> Self {
        count(self.0.ln())
    }
}
