//! Chapter: simd. Softmax and log-sum-exp in f32; plain: `kernel/softmax.rs`.

use super::exp::exp;
use super::lanes::{dot, fold, in_turn, max, total, update};
use crate::elementary::ln;
use crate::kernel::simd::{Kernel, Simd};

/// Replaces z by exp(c·(z − m)), c > 0, and returns the sum.
#[inline(always)]
fn exp_sum<S: Simd>(s: S, z: &mut [f32], m: f32, c: f32) -> f32 {
    let (m, c, mut acc) = (s.splat(m), s.splat(c), [s.splat(0.0); 4]);
    in_turn!(
        acc,
        z.len(),
        |i, sum| {
            let v = exp(s, s.mul(s.sub(s.load(&z[i..]), m), c));
            s.store(&mut z[i..], v);
            *sum = s.add(*sum, v);
        },
        {
            // The missing lanes are e^−∞ = 0.
            let v = s.sub(s.load_or(&z[i..], f32::NEG_INFINITY), m);
            let v = exp(s, s.mul(v, c));
            s.store_part(&mut z[i..], v);
            *sum = s.add(*sum, v);
        }
    );
    total(s, acc)
}
/// Whether all of z is −∞, given its [`max`], which overlooks a NaN.
#[inline(always)]
fn nothing(z: &[f32], m: f32) -> bool {
    m == f32::NEG_INFINITY && !z.iter().any(|z| z.is_nan())
}
/// Replaces z by softmax(c·z), c > 0; returns its log-sum-exp.
#[inline(always)]
fn softmax<S: Simd>(s: S, z: &mut [f32], c: f32) -> f32 {
    let m = max(s, z);
    if nothing(z, m) {
        z.fill(0.0);
        return m;
    }
    let sum = exp_sum(s, z, m, c);
    let r = s.splat(1.0 / sum);
    update!(s, z, |z| s.mul(z, r));
    c * m + ln(sum)
}
/// ℓ of one row, which stays as it is.
#[inline(always)]
pub(super) fn lse<S: Simd>(s: S, z: &[f32]) -> f32 {
    let (m, low) = (max(s, z), f32::NEG_INFINITY);
    if nothing(z, m) {
        return m;
    }
    let top = s.splat(m);
    let sums = fold!(s, or low, from 0.0, |a, z| {
        s.add(a, exp(s, s.sub(z, top)))
    });
    m + ln(total(s, sums))
}

/// The twin of `softmax_forward`, for one row.
#[derive(Debug)]
pub struct SoftmaxForward<'a> {
    pub z: &'a mut [f32],
}
impl Kernel for SoftmaxForward<'_> {
    type Out = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let Self { z } = self;
        softmax(s, z, 1.0) // eq: softmax-forward
    }
}

/// The twin of `causal_softmax_forward`.
#[derive(Debug)]
pub struct CausalSoftmaxForward<'a> {
    pub z: &'a mut [f32],
    pub keys: usize,
    pub first: usize,
    pub group: usize,
    pub scale: f32,
}
impl Kernel for CausalSoftmaxForward<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { z, keys, first, group, scale } = self;
        for (row, z) in z.chunks_exact_mut(keys).enumerate() {
            let (past, future) = z.split_at_mut(first + row / group + 1);
            softmax(s, past, scale);
            future.fill(0.0); // eq: causal-mask
        }
    }
}

/// The twin of `causal_softmax_backward`.
#[derive(Debug)]
pub struct CausalSoftmaxBackward<'a> {
    pub d: &'a mut [f32],
    pub p: &'a [f32],
    pub keys: usize,
    pub scale: f32,
}
impl Kernel for CausalSoftmaxBackward<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { d, p, keys, scale } = self;
        for (d, p) in d.chunks_exact_mut(keys).zip(p.chunks_exact(keys)) {
            let (mean, c) = (s.splat(dot(s, d, p)), s.splat(scale));
            // eq: causal-softmax-backward
            update!(s, d, |d, p| s.mul(s.mul(p, c), s.sub(d, mean)));
        }
    }
}
