//! Chapter: simd. Sums of squares in f32; plain: `kernel/vector.rs`.

use super::lanes::dot;
use crate::kernel::simd::{Kernel, Simd};

/// The twin of `sum_of_squares`, for one chunk.
#[derive(Debug)]
pub struct SumOfSquares<'a> {
    pub x: &'a [f32],
}
impl Kernel for SumOfSquares<'_> {
    type Out = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let Self { x } = self;
        dot(s, x, x)
    }
}
