//! What follows from the four operations: `+=` and the like, and sums.

macro_rules! rest {
    ($t:ty) => {
        impl std::ops::AddAssign for $t {
            fn add_assign(&mut self, o: Self) {
                *self = *self + o;
            }
        }
        impl std::ops::MulAssign for $t {
            fn mul_assign(&mut self, o: Self) {
                *self = *self * o;
            }
        }
        impl std::ops::DivAssign for $t {
            fn div_assign(&mut self, o: Self) {
                *self = *self / o;
            }
        }
        impl std::iter::Sum for $t {
            fn sum<I: Iterator<Item = Self>>(i: I) -> Self {
                i.fold(<$t as kit::Real>::ZERO, std::ops::Add::add)
            }
        }
        impl<'a> std::iter::Sum<&'a $t> for $t {
            fn sum<I: Iterator<Item = &'a $t>>(i: I) -> Self {
                i.copied().sum()
            }
        }
    };
}
pub(crate) use rest;
