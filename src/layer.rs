//! Chapter: gradcheck. What a layer is.

use crate::params::Params;
use crate::real::Real;

/// How many sequences, and how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// B, the number of sequences.
    pub batch: usize,
    /// T, the length of each.
    pub time: usize,
}
impl Shape {
    /// N = B·T, one row for each token.
    pub fn rows(self) -> usize {
        self.batch * self.time
    }
}

/// A differentiable map of rows. It holds handles and sizes, never data.
///
/// If y = f(x), then backward computes x̄ = Jᵀȳ, which is to say
/// ⟨ȳ, J·u⟩ = ⟨x̄, u⟩ for every direction u.
pub trait Layer: Send + Sync {
    /// The output `y`, and what backward needs again. A second value of this
    /// type holds the gradients of all of it. It belongs to one [`Shape`].
    type Acts<T: Real>: Send + Sync;

    /// Memory for one forward pass: the only place that allocates.
    fn acts<T: Real>(&self, shape: Shape) -> Self::Acts<T>;

    /// The output inside `a`; its gradient inside `g`.
    fn y<T: Real>(a: &mut Self::Acts<T>) -> &mut [T];

    /// A second output, if there is one (a router's load), or its gradient.
    fn aux<T: Real>(_: &mut Self::Acts<T>) -> &mut [T] {
        &mut []
    }

    /// The discrete choices that forward made, such as a router's experts. A
    /// derivative holds them fixed, so a check must not step across one.
    fn choices<T: Real>(_: &Self::Acts<T>) -> &[usize] {
        &[]
    }

    /// Sets all of `a`.
    fn forward<T: Real>(&self, p: &Params<T>, x: &[T], a: &mut Self::Acts<T>);

    /// Sets `dx` and the rest of `g`; adds to `dp`. On entry `g` holds the
    /// gradients of the outputs.
    fn backward<T: Real>(
        &self, p: &Params<T>, x: &[T], a: &Self::Acts<T>,
        g: &mut Self::Acts<T>, dx: &mut [T], dp: &mut Params<T>,
    );
}

/// A buffer to be set before it is read: in debug builds it is born NaN, so
/// that a forgotten write or a wrong order shows.
pub fn buffer<T: Real>(n: usize) -> Vec<T> {
    vec![if cfg!(debug_assertions) { T::of(f64::NAN) } else { T::ZERO }; n]
}
