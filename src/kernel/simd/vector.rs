//! Chapter: simd. What a vector can do on any instruction set, and a
//! computation that is written once for all of them.

/// A computation that is compiled once for each instruction set.
pub trait Kernel {
    /// What it returns.
    type Out;
    /// Computes; mark it and all it calls `#[inline(always)]`.
    fn run<S: Simd>(self, s: S) -> Self::Out;
}

/// An instruction set that the CPU is known to have: vectors `V` of `W`
/// numbers, and what can be done with them, lane by lane.
pub trait Simd: Copy {
    /// A vector.
    type V: Copy;
    /// Lanes of a vector, a power of two.
    const W: usize;
    /// How many vectors its registers hold.
    const REGISTERS: usize;

    /// x in every lane.
    fn splat(self, x: f32) -> Self::V;
    /// The first `W` of `x`.
    ///
    /// # Panics
    /// If there are fewer.
    fn load(self, x: &[f32]) -> Self::V;
    /// All of `x`, or its first `W`; 0 in the lanes that are left.
    fn load_part(self, x: &[f32]) -> Self::V;
    /// [`Simd::load_part`] with `or` in the lanes that are left.
    fn load_or(self, x: &[f32], or: f32) -> Self::V;
    /// Sets the first `W` of `y` to v.
    ///
    /// # Panics
    /// If there are fewer.
    fn store(self, y: &mut [f32], v: Self::V);
    /// Sets all of `y`, or its first `W`, to the first lanes of v.
    fn store_part(self, y: &mut [f32], v: Self::V);
    /// a·b + c, rounded once; on the portable set, twice.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// a + b.
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// a − b.
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// a·b.
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// a / b.
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// a where a > b, else b: b also where one is NaN.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// a where a < b, else b: b also where one is NaN.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// √a.
    fn sqrt(self, a: Self::V) -> Self::V;
    /// 2ⁿ of t = n + 127 + 1.5·2²³, for whole n from −126 to 127; 0 at −127,
    /// ∞ at 128. So large a t has n + 127 as its last bits, and 2ⁿ has it as
    /// its exponent and is otherwise 0: a shift makes the one of the other.
    fn pow2(self, t: Self::V) -> Self::V;
    /// The first four numbers of each of the first W/4 of x.
    ///
    /// # Panics
    /// If one has fewer.
    fn fours(self, x: [&[f32]; 4]) -> Self::V;
    /// The lanes of a and b in turn, in each four by itself: a₀ b₀ a₁ b₁ of
    /// the first, of the second, …; and a₂ b₂ a₃ b₃ of each.
    fn zip(self, a: Self::V, b: Self::V) -> (Self::V, Self::V);
    /// Asks for the cache line of x[at], which may lie outside of x, for it
    /// will be needed soon: into the second cache, so that what is at work
    /// stays in the first. No value depends on it; a set may do nothing.
    #[inline(always)]
    fn prefetch(self, _x: &[f32], _at: usize) {}
    /// The sum of the lanes, in an order that depends on the set alone.
    fn reduce_sum(self, a: Self::V) -> f32;
    /// The largest lane, if none is NaN.
    fn reduce_max(self, a: Self::V) -> f32;
}

/// Writes methods of one expression each, in which intrinsics are called.
///
/// Only for a token that is made after the CPU was asked.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! methods {
    ($($f:ident($($x:ident),+: $t:ty) -> $out:ty = $e:expr;)+) => {$(
        #[inline(always)]
        fn $f(self, $($x: $t),+) -> $out {
            // SAFETY: `self` was made after the CPU was asked.
            unsafe { $e }
        }
    )+};
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(super) use methods;
