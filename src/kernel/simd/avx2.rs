//! Chapter: simd. x86-64 with AVX2 and FMA: vectors of 8 numbers.

use super::vector::{Kernel, Simd, methods};
use std::arch::x86_64::*;

/// Proof that the CPU has AVX2 and FMA.
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

/// Runs the kernel, compiled for this set.
#[target_feature(enable = "avx2,fma")]
pub(super) fn enter<K: Kernel>(kernel: K) -> K::Out {
    kernel.run(Avx2(()))
}

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

impl Simd for Avx2 {
    type V = __m256;
    const W: usize = 8;
    const REGISTERS: usize = 16;

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
        zip(a, b: __m256) -> (__m256, __m256) =
            (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
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
    fn fours(self, [low, high, ..]: [&[f32]; 4]) -> __m256 {
        let (low, high) = (&low[..4], &high[..4]);
        // SAFETY: 4 numbers are in each.
        unsafe {
            let low = _mm256_castps128_ps256(_mm_loadu_ps(low.as_ptr()));
            _mm256_insertf128_ps::<1>(low, _mm_loadu_ps(high.as_ptr()))
        }
    }
    #[inline(always)]
    fn prefetch(self, x: &[f32], at: usize) {
        let at = x.as_ptr().wrapping_add(at).cast();
        // SAFETY: whatever the address, nothing is read or written.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at) }
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
