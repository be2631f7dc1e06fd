//! Chapter: simd. ARM of 64 bits with NEON: vectors of 4 numbers.

use super::portable::Portable;
use super::vector::{Kernel, Simd, methods};
use std::arch::aarch64::*;

/// Proof that the CPU has NEON.
#[derive(Clone, Copy)]
pub(super) struct Neon(());

/// Runs the kernel, compiled for this set.
#[target_feature(enable = "neon")]
pub(super) fn enter<K: Kernel>(kernel: K) -> K::Out {
    kernel.run(Neon(()))
}

impl Simd for Neon {
    type V = float32x4_t;
    const W: usize = 4;
    const REGISTERS: usize = 32;

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
        self.load(&Portable.load_part(x))
    }
    #[inline(always)]
    fn load_or(self, x: &[f32], or: f32) -> float32x4_t {
        self.load(&Portable.load_or(&x[..x.len().min(4)], or))
    }
    #[inline(always)]
    fn fours(self, x: [&[f32]; 4]) -> float32x4_t {
        self.load(x[0])
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
        Portable.store_part(&mut y[..n], full);
    }
}
