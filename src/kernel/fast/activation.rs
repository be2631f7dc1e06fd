//! Chapter: simd. The gated product in f32; plain: `kernel/activation.rs`.

use super::exp::exp;
use super::lanes::set;
use crate::kernel::simd::{Kernel, Simd};

/// σ(z) and z·σ(z).
#[inline(always)]
fn sigmoid<S: Simd>(s: S, z: S::V) -> (S::V, S::V) {
    let e = exp(s, s.sub(s.splat(0.0), z));
    let sigma = s.div(s.splat(1.0), s.add(s.splat(1.0), e));
    (sigma, s.mul(z, sigma))
}

/// The twin of `glu_forward`.
#[derive(Debug)]
pub struct GluForward<'a> {
    pub h: &'a mut [f32],
    pub gate: &'a [f32],
    pub up: &'a [f32],
}
impl Kernel for GluForward<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { h, gate, up } = self;
        // eq: glu-forward
        set!(s, h, |gate, up| s.mul(sigmoid(s, gate).1, up));
    }
}

/// The twin of `glu_backward`.
#[derive(Debug)]
pub struct GluBackward<'a> {
    pub dgate: &'a mut [f32],
    pub dup: &'a mut [f32],
    pub dh: &'a [f32],
    pub gate: &'a [f32],
    pub up: &'a [f32],
}
impl Kernel for GluBackward<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { dgate, dup, dh, gate, up } = self;
        let one = s.splat(1.0);
        // eq: glu-backward
        set!(s, dup and dgate, |dh, gate, up| {
            let (sigma, silu) = sigmoid(s, gate);
            let slope = s.fma(silu, s.sub(one, sigma), sigma);
            (s.mul(dh, silu), s.mul(s.mul(dh, up), slope))
        });
    }
}
