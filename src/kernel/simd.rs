//! Chapter: simd. Vectors of numbers: one trait, four instruction sets, and the
//! only `unsafe` of the library.
//!
//! A fast kernel is written once, in safe code, as a [`Kernel`] over any
//! [`Simd`]; [`Isa::run`] compiles it for each instruction set and enters the
//! one asked for. What the `unsafe` here relies on:
//!
//! - *The CPU has the instruction.* A token ([`Avx2`], …) is made in
//!   [`Isa::run`] alone, after it asked the CPU; every method takes a token.
//!   Test: `each_set_runs_where_the_cpu_has_it` (`tests/simd.rs`).
//! - *A load or store stays inside its slice.* Full ones look at the length
//!   first, parts touch as many lanes as there are numbers, by a mask. Test:
//!   `methods_of_a_vector`; and every tail by `tests/precision.rs`.
//! - *A tile stays inside its matrices.* `tile` looks at their largest
//!   indices first. Tests: `all_sizes`, `shapes_of_the_model`, amid NaN and
//!   guards; and a debug build looks at every index again.
//!
//! With AVX2 and on the portable path, Miri looks at every access for itself
//! in `tests/simd.rs`; README has the command.
//!
//! `#[inline(always)]` is no matter of taste here: a method that is not
//! inlined into the entry of its set is compiled without that set.
#![expect(unsafe_code, reason = "std::arch, and entering a set of the CPU")]

use crate::kernel::view::{Mat, MatMut, Op};
use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

#[cfg(target_arch = "aarch64")]
use std::arch::{aarch64::*, is_aarch64_feature_detected as has};
#[cfg(target_arch = "x86_64")]
use std::arch::{is_x86_feature_detected as has, x86_64::*};

/// An instruction set that the kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// Whatever the compiler may assume of any CPU: SSE2 on x86-64.
    Portable,
    /// x86-64 with AVX2 and FMA: 8 lanes, 16 registers.
    Avx2,
    /// x86-64 with AVX-512F: 16 lanes, 32 registers.
    Avx512,
    /// ARM of 64 bits: 4 lanes, 32 registers.
    Neon,
}

/// `MOE_SIMD` names what this CPU does not have, or nothing at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "MOE_SIMD is {asked}, but this CPU has {}; unset it or choose one of these",
    Isa::here().map(|isa| isa.to_string()).collect::<Vec<_>>().join(" and ")
)]
pub struct IsaError {
    /// The word.
    pub asked: String,
}

impl Isa {
    /// All of them, the fastest first.
    pub const ALL: [Isa; 4] =
        [Isa::Avx512, Isa::Avx2, Isa::Neon, Isa::Portable];

    /// Whether this CPU has it.
    pub fn available(self) -> bool {
        match self {
            Isa::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => has!("avx2") && has!("fma"),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => has!("avx512f"),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => has!("neon"),
            _ => false,
        }
    }
    /// Those that this CPU has, the fastest first.
    pub fn here() -> impl Iterator<Item = Isa> {
        Self::ALL.into_iter().filter(|isa| isa.available())
    }
    /// The fastest that this CPU has.
    pub fn best() -> Isa {
        Self::here().next().unwrap_or(Isa::Portable)
    }
    /// What the environment variable `MOE_SIMD` says, or else [`Isa::best`].
    ///
    /// Read once; an empty one counts as unset.
    ///
    /// # Errors
    /// If it is none that this CPU has.
    pub fn chosen() -> Result<Isa, IsaError> {
        static CHOSEN: OnceLock<Result<Isa, IsaError>> = OnceLock::new();
        let read = || match std::env::var_os("MOE_SIMD") {
            Some(word) if !word.is_empty() => word.to_string_lossy().parse(),
            _ => Ok(Isa::best()),
        };
        CHOSEN.get_or_init(read).clone()
    }
    /// [`Isa::chosen`], for kernels.
    ///
    /// # Panics
    /// If `MOE_SIMD` names none that this CPU has.
    #[track_caller]
    pub fn current() -> Isa {
        Self::chosen().unwrap_or_else(|e| panic!("{e}"))
    }
    /// Runs plain code, compiled for this set: enough where the compiler
    /// vectorizes it by itself. All that `f` calls must be
    /// `#[inline(always)]`.
    pub fn wide(self, f: impl FnOnce()) {
        self.run(Wide(f));
    }
    /// Runs the kernel, compiled for this set.
    ///
    /// # Panics
    /// If the CPU does not have it.
    #[inline]
    #[track_caller]
    pub fn run<K: Kernel>(self, kernel: K) -> K::Out {
        assert!(self.available(), "this CPU does not have {self}");
        match self {
            // SAFETY: the CPU has the set, as asserted above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { enter_avx2(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => unsafe { enter_avx512(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => unsafe { enter_neon(kernel) },
            _ => kernel.run(Portable(())),
        }
    }
}
impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Isa::Portable => "portable",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Neon => "neon",
        })
    }
}
impl FromStr for Isa {
    type Err = IsaError;
    /// Only what this CPU has can be named.
    fn from_str(word: &str) -> Result<Isa, IsaError> {
        let mut here = Self::here();
        here.find(|isa| isa.to_string() == word)
            .ok_or_else(|| IsaError { asked: word.into() })
    }
}

struct Wide<F>(F);
impl<F: FnOnce()> Kernel for Wide<F> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        (self.0)();
    }
}

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
    /// The set.
    const ISA: Isa;
    /// Lanes of a vector, a power of two.
    const W: usize;
    /// Vectors of sums that the product keeps in registers at a time, …
    const SUMS: usize;
    /// … and how many of them side by side.
    const WIDE: usize;

    /// x in every lane.
    fn splat(self, x: f32) -> Self::V;
    /// The first `W` of `x`.  Panics if there are fewer.
    fn load(self, x: &[f32]) -> Self::V;
    /// All of `x`, or its first `W`; 0 in the lanes that are left.
    fn load_part(self, x: &[f32]) -> Self::V;
    /// The same with `or` in the lanes that are left.
    fn load_or(self, x: &[f32], or: f32) -> Self::V;
    /// Sets the first `W` of `y` to v.  Panics if there are fewer.
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
    /// The lanes of a and b in turn: a₀ b₀ a₁ b₁ …, in two halves.
    fn zip(self, a: Self::V, b: Self::V) -> (Self::V, Self::V);
    /// The sum of the lanes, in an order that depends on the set alone.
    fn reduce_sum(self, a: Self::V) -> f32;
    /// The largest lane, if none is NaN.
    fn reduce_max(self, a: Self::V) -> f32;
}

/// Writes methods of one expression each, in which intrinsics are called.
macro_rules! methods {
    ($($f:ident($($x:ident),+: $t:ty) -> $out:ty = $e:expr;)+) => {$(
        #[inline(always)]
        fn $f(self, $($x: $t),+) -> $out {
            // SAFETY: `self` was made after the CPU was asked (see above).
            unsafe { $e }
        }
    )+};
}

/// Proof that the CPU has AVX-512F.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub struct Avx512(());

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn enter_avx512<K: Kernel>(kernel: K) -> K::Out {
    kernel.run(Avx512(()))
}

/// As many ones as there are lanes to touch: 16 at the most.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn mask16(len: usize) -> __mmask16 {
    ((1u32 << len.min(16)) - 1) as __mmask16
}

#[cfg(target_arch = "x86_64")]
impl Simd for Avx512 {
    type V = __m512;
    const ISA: Isa = Isa::Avx512;
    const W: usize = 16;
    const SUMS: usize = 24; // of 32 registers; 4 of B, 1 of A
    const WIDE: usize = 4;

    methods! {
        splat(x: f32) -> __m512 = _mm512_set1_ps(x);
        fma(a, b, c: __m512) -> __m512 = _mm512_fmadd_ps(a, b, c);
        add(a, b: __m512) -> __m512 = _mm512_add_ps(a, b);
        sub(a, b: __m512) -> __m512 = _mm512_sub_ps(a, b);
        mul(a, b: __m512) -> __m512 = _mm512_mul_ps(a, b);
        div(a, b: __m512) -> __m512 = _mm512_div_ps(a, b);
        max(a, b: __m512) -> __m512 = _mm512_max_ps(a, b);
        min(a, b: __m512) -> __m512 = _mm512_min_ps(a, b);
        sqrt(a: __m512) -> __m512 = _mm512_sqrt_ps(a);
        pow2(t: __m512) -> __m512 = _mm512_castsi512_ps(
            _mm512_slli_epi32::<23>(_mm512_castps_si512(t)));
        zip(a, b: __m512) -> (__m512, __m512) = {
            // lane numbers of a, and of b from 16 on
            let first = _mm512_setr_epi32(
                0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            let second = _mm512_add_epi32(first, _mm512_set1_epi32(8));
            (_mm512_permutex2var_ps(a, first, b),
             _mm512_permutex2var_ps(a, second, b))
        };
        reduce_sum(a: __m512) -> f32 = _mm512_reduce_add_ps(a);
        reduce_max(a: __m512) -> f32 = _mm512_reduce_max_ps(a);
    }
    #[inline(always)]
    fn load(self, x: &[f32]) -> __m512 {
        let x = &x[..16];
        // SAFETY: 16 numbers are there.
        unsafe { _mm512_loadu_ps(x.as_ptr()) }
    }
    #[inline(always)]
    fn load_part(self, x: &[f32]) -> __m512 {
        // SAFETY: the mask leaves out what is not there.
        unsafe { _mm512_maskz_loadu_ps(mask16(x.len()), x.as_ptr()) }
    }
    #[inline(always)]
    fn load_or(self, x: &[f32], or: f32) -> __m512 {
        let (or, mask) = (self.splat(or), mask16(x.len()));
        // SAFETY: the mask leaves out what is not there.
        unsafe { _mm512_mask_loadu_ps(or, mask, x.as_ptr()) }
    }
    #[inline(always)]
    fn store(self, y: &mut [f32], v: __m512) {
        let y = &mut y[..16];
        // SAFETY: 16 numbers are there.
        unsafe { _mm512_storeu_ps(y.as_mut_ptr(), v) }
    }
    #[inline(always)]
    fn store_part(self, y: &mut [f32], v: __m512) {
        // SAFETY: the mask leaves out what is not there.
        unsafe { _mm512_mask_storeu_ps(y.as_mut_ptr(), mask16(y.len()), v) }
    }
}

/// Proof that the CPU has AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub struct Avx2(());

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn enter_avx2<K: Kernel>(kernel: K) -> K::Out {
    kernel.run(Avx2(()))
}

#[cfg(target_arch = "x86_64")]
impl Avx2 {
    /// −1 in as many lanes as there are to touch: 8 at the most.
    #[inline(always)]
    fn mask(self, len: usize) -> __m256i {
        // SAFETY: `self` was made after the CPU was asked.
        unsafe {
            let lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            _mm256_cmpgt_epi32(_mm256_set1_epi32(len.min(8) as i32), lane)
        }
    }
}

#[cfg(target_arch = "x86_64")]
impl Simd for Avx2 {
    type V = __m256;
    const ISA: Isa = Isa::Avx2;
    const W: usize = 8;
    const SUMS: usize = 12; // of 16 registers; 2 of B, 1 of A
    const WIDE: usize = 2;

    methods! {
        splat(x: f32) -> __m256 = _mm256_set1_ps(x);
        fma(a, b, c: __m256) -> __m256 = _mm256_fmadd_ps(a, b, c);
        add(a, b: __m256) -> __m256 = _mm256_add_ps(a, b);
        sub(a, b: __m256) -> __m256 = _mm256_sub_ps(a, b);
        mul(a, b: __m256) -> __m256 = _mm256_mul_ps(a, b);
        div(a, b: __m256) -> __m256 = _mm256_div_ps(a, b);
        max(a, b: __m256) -> __m256 = _mm256_max_ps(a, b);
        min(a, b: __m256) -> __m256 = _mm256_min_ps(a, b);
        sqrt(a: __m256) -> __m256 = _mm256_sqrt_ps(a);
        pow2(t: __m256) -> __m256 = _mm256_castsi256_ps(
            _mm256_slli_epi32::<23>(_mm256_castps_si256(t)));
        zip(a, b: __m256) -> (__m256, __m256) = {
            // `unpack` works in each half by itself
            let (even, odd) =
                (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
            (_mm256_permute2f128_ps::<0x20>(even, odd),
             _mm256_permute2f128_ps::<0x31>(even, odd))
        };
        reduce_sum(a: __m256) -> f32 = {
            let high = _mm256_extractf128_ps::<1>(a);
            let a = _mm_add_ps(_mm256_castps256_ps128(a), high);
            let a = _mm_add_ps(a, _mm_movehl_ps(a, a));
            _mm_cvtss_f32(_mm_add_ss(a, _mm_movehdup_ps(a)))
        };
        reduce_max(a: __m256) -> f32 = {
            let high = _mm256_extractf128_ps::<1>(a);
            let a = _mm_max_ps(_mm256_castps256_ps128(a), high);
            let a = _mm_max_ps(a, _mm_movehl_ps(a, a));
            _mm_cvtss_f32(_mm_max_ss(a, _mm_movehdup_ps(a)))
        };
    }
    #[inline(always)]
    fn load(self, x: &[f32]) -> __m256 {
        let x = &x[..8];
        // SAFETY: 8 numbers are there.
        unsafe { _mm256_loadu_ps(x.as_ptr()) }
    }
    #[inline(always)]
    fn load_part(self, x: &[f32]) -> __m256 {
        // SAFETY: the mask leaves out what is not there.
        unsafe { _mm256_maskload_ps(x.as_ptr(), self.mask(x.len())) }
    }
    #[inline(always)]
    fn load_or(self, x: &[f32], or: f32) -> __m256 {
        let mask = self.mask(x.len());
        let (or, there) = (self.splat(or), self.load_part(x));
        // SAFETY: `self` was made after the CPU was asked.
        unsafe { _mm256_blendv_ps(or, there, _mm256_castsi256_ps(mask)) }
    }
    #[inline(always)]
    fn store(self, y: &mut [f32], v: __m256) {
        let y = &mut y[..8];
        // SAFETY: 8 numbers are there.
        unsafe { _mm256_storeu_ps(y.as_mut_ptr(), v) }
    }
    #[inline(always)]
    fn store_part(self, y: &mut [f32], v: __m256) {
        // SAFETY: the mask leaves out what is not there.
        unsafe { _mm256_maskstore_ps(y.as_mut_ptr(), self.mask(y.len()), v) }
    }
}

/// Proof that the CPU has NEON.
#[cfg(target_arch = "aarch64")]
#[derive(Clone, Copy)]
pub struct Neon(());

#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
fn enter_neon<K: Kernel>(kernel: K) -> K::Out {
    kernel.run(Neon(()))
}

#[cfg(target_arch = "aarch64")]
impl Simd for Neon {
    type V = float32x4_t;
    const ISA: Isa = Isa::Neon;
    const W: usize = 4;
    const SUMS: usize = 24; // of 32 registers; 4 of B, 1 of A
    const WIDE: usize = 4;

    methods! {
        splat(x: f32) -> float32x4_t = vdupq_n_f32(x);
        fma(a, b, c: float32x4_t) -> float32x4_t = vfmaq_f32(c, a, b);
        add(a, b: float32x4_t) -> float32x4_t = vaddq_f32(a, b);
        sub(a, b: float32x4_t) -> float32x4_t = vsubq_f32(a, b);
        mul(a, b: float32x4_t) -> float32x4_t = vmulq_f32(a, b);
        div(a, b: float32x4_t) -> float32x4_t = vdivq_f32(a, b);
        // its own maximum is NaN where one is
        max(a, b: float32x4_t) -> float32x4_t =
            vbslq_f32(vcgtq_f32(a, b), a, b);
        min(a, b: float32x4_t) -> float32x4_t =
            vbslq_f32(vcltq_f32(a, b), a, b);
        sqrt(a: float32x4_t) -> float32x4_t = vsqrtq_f32(a);
        pow2(t: float32x4_t) -> float32x4_t = vreinterpretq_f32_u32(
            vshlq_n_u32::<23>(vreinterpretq_u32_f32(t)));
        zip(a, b: float32x4_t) -> (float32x4_t, float32x4_t) =
            (vzip1q_f32(a, b), vzip2q_f32(a, b));
        reduce_sum(a: float32x4_t) -> f32 = vaddvq_f32(a);
        reduce_max(a: float32x4_t) -> f32 = vmaxvq_f32(a);
    }
    #[inline(always)]
    fn load(self, x: &[f32]) -> float32x4_t {
        let x = &x[..4];
        // SAFETY: 4 numbers are there.
        unsafe { vld1q_f32(x.as_ptr()) }
    }
    #[inline(always)]
    fn load_part(self, x: &[f32]) -> float32x4_t {
        // no masks here: by way of one that is full
        self.load(&Portable(()).load_part(x))
    }
    #[inline(always)]
    fn load_or(self, x: &[f32], or: f32) -> float32x4_t {
        self.load(&Portable(()).load_or(&x[..x.len().min(4)], or))
    }
    #[inline(always)]
    fn store(self, y: &mut [f32], v: float32x4_t) {
        let y = &mut y[..4];
        // SAFETY: 4 numbers are there.
        unsafe { vst1q_f32(y.as_mut_ptr(), v) }
    }
    #[inline(always)]
    fn store_part(self, y: &mut [f32], v: float32x4_t) {
        let mut full = [0.0; 8];
        self.store(&mut full, v);
        let n = y.len().min(4);
        Portable(()).store_part(&mut y[..n], full);
    }
}

/// Vectors as arrays, for the compiler to make the best of.
#[derive(Clone, Copy)]
pub struct Portable(());

/// Writes methods of one expression for each lane.
macro_rules! lanes {
    ($($f:ident($($x:ident),+) = $e:expr;)+) => {$(
        #[inline(always)]
        fn $f(self, $($x: [f32; 8]),+) -> [f32; 8] {
            let mut out = [0.0; 8];
            for i in 0..8 {
                $(let $x = $x[i];)+
                out[i] = $e;
            }
            out
        }
    )+};
}

impl Simd for Portable {
    type V = [f32; 8];
    const ISA: Isa = Isa::Portable;
    const W: usize = 8;
    const SUMS: usize = 6; // twice 4 lanes each: 12 of 16 registers
    const WIDE: usize = 1;

    lanes! {
        // `mul_add` would be a call where there is no instruction for it
        fma(a, b, c) = a * b + c;
        add(a, b) = a + b;
        sub(a, b) = a - b;
        mul(a, b) = a * b;
        div(a, b) = a / b;
        max(a, b) = if a > b { a } else { b };
        min(a, b) = if a < b { a } else { b };
        sqrt(a) = a.sqrt();
        pow2(t) = f32::from_bits(t.to_bits() << 23);
    }
    #[inline(always)]
    fn splat(self, x: f32) -> [f32; 8] {
        [x; 8]
    }
    #[inline(always)]
    fn load(self, x: &[f32]) -> [f32; 8] {
        let mut v = [0.0; 8];
        v.copy_from_slice(&x[..8]);
        v
    }
    #[inline(always)]
    fn load_part(self, x: &[f32]) -> [f32; 8] {
        let (mut v, n) = ([0.0; 8], x.len().min(8));
        v[..n].copy_from_slice(&x[..n]);
        v
    }
    #[inline(always)]
    fn load_or(self, x: &[f32], or: f32) -> [f32; 8] {
        let (mut v, n) = ([or; 8], x.len().min(8));
        v[..n].copy_from_slice(&x[..n]);
        v
    }
    #[inline(always)]
    fn store(self, y: &mut [f32], v: [f32; 8]) {
        y[..8].copy_from_slice(&v);
    }
    #[inline(always)]
    fn store_part(self, y: &mut [f32], v: [f32; 8]) {
        let n = y.len().min(8);
        y[..n].copy_from_slice(&v[..n]);
    }
    #[inline(always)]
    fn zip(self, a: [f32; 8], b: [f32; 8]) -> ([f32; 8], [f32; 8]) {
        let mut both = ([0.0; 8], [0.0; 8]);
        for i in 0..4 {
            (both.0[2 * i], both.0[2 * i + 1]) = (a[i], b[i]);
            (both.1[2 * i], both.1[2 * i + 1]) = (a[i + 4], b[i + 4]);
        }
        both
    }
    #[inline(always)]
    fn reduce_sum(self, a: [f32; 8]) -> f32 {
        a.iter().sum()
    }
    #[inline(always)]
    fn reduce_max(self, a: [f32; 8]) -> f32 {
        a.into_iter().fold(f32::NEG_INFINITY, f32::max)
    }
}

/// One tile of the matrix product: M rows of N vectors, in registers while k
/// runs.  c: [M, n], a: [M, k], b: [k, n]; `FULL` if n = N·W, else n may end
/// inside the last vector.
///
/// Here and not beside its caller, because it looks at the bounds once: a
/// look at each number costs AVX-512 a tenth of the speed, AVX2 a quarter.
#[inline(always)]
pub(crate) fn tile<
    S: Simd,
    const M: usize,
    const N: usize,
    const FULL: bool,
>(
    s: S, c: MatMut<f32>, op: Op, a: Mat<f32>, b: Mat<f32>,
) {
    let (deep, wide) = (b.rows, if FULL { N * S::W } else { b.cols });
    let fits = c.rows == M && a.rows == M && a.cols == deep && c.cols == wide;
    let full = wide > (N - 1) * S::W && wide <= N * S::W && b.cols == wide;
    assert!(fits && full && b.cs == 1 && deep > 0, "tile: shapes");
    // The largest index into each; it cannot overflow unnoticed.
    let last = |rs: usize, rows: usize, rest: usize| {
        rs.saturating_mul(rows - 1).saturating_add(rest)
    };
    assert!(last(c.rs, M, wide - 1) < c.data.len(), "tile: C");
    assert!(last(a.rs, M, last(a.cs, deep, 0)) < a.data.len(), "tile: A");
    assert!(last(b.rs, deep, wide - 1) < b.data.len(), "tile: B");
    // the lanes of vector j of a row
    let lanes = |row: usize, j: usize| {
        let end = if FULL || j + 1 < N { (j + 1) * S::W } else { wide };
        row + j * S::W..row + end
    };
    let load = |x: &[f32], row: usize, j: usize| {
        // SAFETY: it ends before `last` + 1; checked again in a debug build.
        let x = unsafe { x.get_unchecked(lanes(row, j)) };
        if FULL || j + 1 < N { s.load(x) } else { s.load_part(x) }
    };

    let mut sum = [[s.splat(0.0); N]; M];
    if op == Op::Add {
        for i in 0..M {
            for j in 0..N {
                sum[i][j] = load(c.data, i * c.rs, j);
            }
        }
    }
    for k in 0..deep {
        let mut bk = [s.splat(0.0); N];
        for j in 0..N {
            bk[j] = load(b.data, k * b.rs, j);
        }
        for i in 0..M {
            // SAFETY: `last` or before; checked again in a debug build.
            let a = *unsafe { a.data.get_unchecked(i * a.rs + k * a.cs) };
            for j in 0..N {
                sum[i][j] = s.fma(s.splat(a), bk[j], sum[i][j]); // eq: matmul
            }
        }
    }
    for i in 0..M {
        for j in 0..N {
            // SAFETY: as for a load.
            let c = unsafe { c.data.get_unchecked_mut(lanes(i * c.rs, j)) };
            if FULL || j + 1 < N {
                s.store(c, sum[i][j]);
            } else {
                s.store_part(c, sum[i][j]);
            }
        }
    }
}
