//! Chapter: simd. Cross-entropy in f32; plain: `nn/loss.rs`.

use super::exp::exp;
use super::lanes::set;
use super::softmax::lse;
use crate::kernel::simd::{Kernel, Simd};

/// The twin of `cross_entropy_forward`.
#[derive(Debug)]
pub struct CrossEntropyForward<'a> {
    pub lse: &'a mut [f32],
    pub z: &'a [f32],
    pub target: &'a [usize],
    pub v: usize,
}
impl Kernel for CrossEntropyForward<'_> {
    type Out = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let Self { lse: to, z, target, v } = self;
        let mut sum = 0.0;
        for ((l, z), &t) in to.iter_mut().zip(z.chunks_exact(v)).zip(target) {
            *l = lse(s, z);
            sum += *l - z[t]; // eq: cross-entropy
        }
        sum
    }
}

/// The twin of `cross_entropy_backward`.
#[derive(Debug)]
pub struct CrossEntropyBackward<'a> {
    pub dz: &'a mut [f32],
    pub z: &'a [f32],
    pub lse: &'a [f32],
    pub target: &'a [usize],
    pub dsum: f32,
}
impl Kernel for CrossEntropyBackward<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { dz, z, lse, target, dsum } = self;
        let v = dz.len() / target.len();
        let rows = dz.chunks_exact_mut(v).zip(z.chunks_exact(v));
        for (((dz, z), &lse), &t) in rows.zip(lse).zip(target) {
            let (lse, c) = (s.splat(lse), s.splat(dsum));
            set!(s, dz, |z| s.mul(exp(s, s.sub(z, lse)), c));
            dz[t] -= dsum; // eq: cross-entropy-grad
        }
    }
}
