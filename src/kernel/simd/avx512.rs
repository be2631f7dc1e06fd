//! Chapter: simd. x86-64 with AVX-512F: vectors of 16 numbers, and masks.

use super::vector::{Kernel, Simd, methods};
use std::arch::x86_64::*;

/// Proof that the CPU has AVX-512F.
#[derive(Clone, Copy)]
pub(super) struct Avx512(());

/// Runs the kernel, compiled for this set.
#[target_feature(enable = "avx512f")]
pub(super) fn enter<K: Kernel>(kernel: K) -> K::Out {
    kernel.run(Avx512(()))
}

/// As many ones as there are lanes to touch: 16 at the most.
#[inline(always)]
fn mask16(len: usize) -> __mmask16 {
    ((1u32 << len.min(16)) - 1) as __mmask16
}

impl Simd for Avx512 {
    type V = __m512;
    const W: usize = 16;
    const REGISTERS: usize = 32;

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
        zip(a, b: __m512) -> (__m512, __m512) =
            (_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
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
    fn fours(self, [a, b, c, d]: [&[f32]; 4]) -> __m512 {
        let (a, b, c, d) = (&a[..4], &b[..4], &c[..4], &d[..4]);
        // SAFETY: 4 numbers are in each.
        unsafe {
            let (a, b) = (_mm_loadu_ps(a.as_ptr()), _mm_loadu_ps(b.as_ptr()));
            let (c, d) = (_mm_loadu_ps(c.as_ptr()), _mm_loadu_ps(d.as_ptr()));
            let v = _mm512_castps128_ps512(a);
            let v = _mm512_mask_broadcast_f32x4(v, 0xf0, b);
            let v = _mm512_mask_broadcast_f32x4(v, 0xf00, c);
            _mm512_mask_broadcast_f32x4(v, 0xf000, d)
        }
    }
    #[inline(always)]
    fn prefetch(self, x: &[f32], at: usize) {
        let at = x.as_ptr().wrapping_add(at).cast();
        // SAFETY: whatever the address, nothing is read or written.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at) }
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
