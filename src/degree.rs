//! Chapter: gradcheck. Numbers that count degrees: how improbable it is that a
//! wrong backward meets an equation at a random point.

use crate::field::P;
use crate::real::{Real, as_stored, rest};
use std::cell::{Cell, RefCell};
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, DivAssign, Mul, MulAssign, Neg, Sub};

/// What a computation with unknowns comes to: a fraction of two polynomials, of
/// which only the degrees are kept; they are bounds from above.
///
/// A polynomial of degree n that is not 0 everywhere is 0 at a random point of
/// F_p with a probability of at most n/p. (Schwartz 1980, Zippel 1979.)
///
/// ```
/// use moe_by_hand::degree::Degree;
/// use moe_by_hand::real::Real;
/// let [x, y, z] = [(); 3].map(|()| Degree::unknown());
/// assert_eq!((x * y + z).degree(), Some(2.0));
/// assert_eq!((x / y + z / y).degree(), Some(1.0)); // (x + z)/y
/// assert_eq!((x / y + y / z).degree(), Some(2.0)); // (xz + y²)/(yz)
/// assert_eq!((x * y).sqrt().degree(), Some(1.0));
/// assert_eq!(x.exp().degree(), None);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Degree(Form);
#[derive(Clone, Copy, Debug)]
enum Form {
    Zero,
    Fraction {
        over: Poly,
        under: Poly,
    },
    /// Made by exp or ln, or by a value that was not set.
    Other,
    Low,
}
use Form::{Fraction, Low, Other, Zero};

/// A polynomial: its degree, and a name that the same computation gives again.
/// The name of a product is the sum of the names.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Poly {
    degree: f64,
    name: u64,
}
impl Poly {
    const ONE: Self = Self { degree: 0.0, name: 0 };
    fn times(self, o: Self) -> Self {
        let name = self.name.wrapping_add(o.name);
        Self { degree: self.degree + o.degree, name }
    }
    fn plus(self, o: Self) -> Self {
        let name = mix(mix(self.name).wrapping_add(mix(o.name)));
        Self { degree: self.degree.max(o.degree), name }
    }
    fn root(self) -> Self {
        let name = if self == Self::ONE { 0 } else { mix(self.name ^ 1) };
        Self { degree: self.degree / 2.0, name }
    }
}
fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (x ^ (x >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

/// The name of the factor −1.
const MINUS: u64 = 0x94d0_49bb_1331_11eb;

thread_local! {
    /// How many unknowns there are.
    static UNKNOWNS: Cell<u64> = const { Cell::new(0) };
    /// The names of what roots were taken of.
    static ROOTS: RefCell<BTreeSet<u64>> = const { RefCell::new(BTreeSet::new()) };
}

impl Degree {
    /// Another unknown, of degree 1.
    pub fn unknown() -> Self {
        let i = UNKNOWNS.get() + 1;
        UNKNOWNS.set(i);
        let over = Poly { degree: 1.0, name: mix(i) };
        Self(Fraction { over, under: Poly::ONE })
    }
    /// The degree of the numerator; none if exp or ln were used.
    pub fn degree(self) -> Option<f64> {
        match self.0 {
            Zero => Some(0.0),
            Fraction { over, .. } => Some(over.degree),
            Other | Low => None,
        }
    }
    /// What `f` computes, and how many different roots it took, on this thread.
    pub fn counting<R>(f: impl FnOnce() -> R) -> (R, usize) {
        ROOTS.take();
        (f(), ROOTS.take().len())
    }
}
/// A bound of the probability that a wrong fraction of this degree, in which so
/// many roots occur, is 0 at a random point.
///
/// A root s = √a counts half of a's degree. The product of what stands there for
/// s and for −s has no s in it, and twice the degree: so each root doubles the
/// bound.
pub fn chance(degree: f64, roots: usize) -> f64 {
    degree * libm::exp2(roots as f64) / P as f64
}

impl Default for Degree {
    fn default() -> Self {
        Self::ZERO
    }
}
// Every choice is taken as if all were equal: the degree is that of one branch.
impl PartialEq for Degree {
    fn eq(&self, o: &Self) -> bool {
        matches!(self.0, Low) == matches!(o.0, Low)
    }
}
impl PartialOrd for Degree {
    fn partial_cmp(&self, o: &Self) -> Option<Ordering> {
        let above = |x: &Self| !matches!(x.0, Low);
        Some(above(self).cmp(&above(o)))
    }
}
impl Add for Degree {
    type Output = Self;
    fn add(self, o: Self) -> Self {
        Self(match (self.0, o.0) {
            (Zero, x) | (x, Zero) => x,
            (
                Fraction { over, under },
                Fraction { over: o_over, under: o_under },
            ) if under == o_under => {
                Fraction { over: over.plus(o_over), under }
            }
            (
                Fraction { over, under },
                Fraction { over: o_over, under: o_under },
            ) => Fraction {
                over: over.times(o_under).plus(o_over.times(under)),
                under: under.times(o_under),
            },
            (Low, _) | (_, Low) => Low,
            (Other, _) | (_, Other) => Other,
        })
    }
}
impl Neg for Degree {
    type Output = Self;
    fn neg(self) -> Self {
        match self.0 {
            Fraction { over, under } => {
                let name = over.name.wrapping_add(MINUS);
                Self(Fraction { over: Poly { name, ..over }, under })
            }
            _ => self,
        }
    }
}
impl Sub for Degree {
    type Output = Self;
    fn sub(self, o: Self) -> Self {
        self + -o
    }
}
impl Mul for Degree {
    type Output = Self;
    fn mul(self, o: Self) -> Self {
        Self(match (self.0, o.0) {
            (Zero, _) | (_, Zero) => Zero,
            (
                Fraction { over, under },
                Fraction { over: o_over, under: o_under },
            ) => Fraction {
                over: over.times(o_over),
                under: under.times(o_under),
            },
            _ => Other,
        })
    }
}
impl Div for Degree {
    type Output = Self;
    fn div(self, o: Self) -> Self {
        match o.0 {
            // a constant changes no denominator
            Fraction { over, under }
                if over.degree == 0.0 && under == Poly::ONE =>
            {
                self * o
            }
            Fraction { over, under } => {
                self * Self(Fraction { over: under, under: over })
            }
            _ => Self(Other),
        }
    }
}
rest!(Degree);

impl Real for Degree {
    as_stored!();
    const ZERO: Self = Self(Zero);
    const ONE: Self = Self(Fraction { over: Poly::ONE, under: Poly::ONE });
    fn of(x: f64) -> Self {
        match x {
            0.0 => Self::ZERO,
            f64::NEG_INFINITY => Self(Low),
            1.0 => Self::ONE,
            x if x.is_nan() => Self(Other),
            x => {
                let over = Poly { degree: 0.0, name: mix(x.to_bits()) };
                Self(Fraction { over, under: Poly::ONE })
            }
        }
    }
    /// A choice that a computation makes by the value is no matter of degrees.
    fn f64(self) -> f64 {
        1.0
    }
    fn sqrt(self) -> Self {
        let Fraction { over, under } = self.0 else { return self };
        let name = mix(over.name).wrapping_sub(mix(under.name));
        ROOTS.with_borrow_mut(|roots| roots.insert(name));
        Self(Fraction { over: over.root(), under: under.root() })
    }
    fn exp(self) -> Self {
        Self(Other)
    }
    fn ln(self) -> Self {
        Self(Other)
    }
}
