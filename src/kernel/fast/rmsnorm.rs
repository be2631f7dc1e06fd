//! Chapter: simd. RMSNorm in f32; plain: `nn/rmsnorm.rs`.

use super::lanes::{dot, set, update};
use crate::kernel::simd::{Kernel, Simd};

/// The twin of `rmsnorm_forward`.
#[derive(Debug)]
pub struct RmsnormForward<'a> {
    pub y: &'a mut [f32],
    pub r: &'a mut [f32],
    pub x: &'a [f32],
    pub gain: &'a [f32],
    pub eps: f32,
}
impl Kernel for RmsnormForward<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { y, r, x, gain, eps } = self;
        let d = gain.len();
        let rows = y.chunks_exact_mut(d).zip(r).zip(x.chunks_exact(d));
        for ((y, r), x) in rows {
            *r = 1.0 / (dot(s, x, x) / d as f32 + eps).sqrt();
            let c = s.splat(*r);
            // eq: rmsnorm-forward
            set!(s, y, |x, gain| s.mul(s.mul(gain, x), c));
        }
    }
}

/// The twin of `rmsnorm_backward`.
#[derive(Debug)]
pub struct RmsnormBackward<'a> {
    pub dx: &'a mut [f32],
    pub dgain: &'a mut [f32],
    pub dy: &'a [f32],
    pub x: &'a [f32],
    pub gain: &'a [f32],
    pub r: &'a [f32],
}
impl Kernel for RmsnormBackward<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { dx, dgain, dy, x, gain, r } = self;
        let d = gain.len();
        for (i, &r) in r.iter().enumerate() {
            let row = i * d..(i + 1) * d;
            let (dx, dy, x) = (&mut dx[row.clone()], &dy[row.clone()], &x[row]);
            let c = s.splat(r);
            // dx = u for now, with u = gain ⊙ dy
            set!(s, dx, |dy, gain| s.mul(dy, gain));
            let mean = dot(s, dx, x) * r * r / d as f32;
            let m = s.splat(-mean);
            // eq: rmsnorm-backward
            update!(s, dx, |u, x| s.mul(c, s.fma(x, m, u)));
            // eq: rmsnorm-backward-gamma
            update!(s, dgain, |d, dy, x| s.fma(s.mul(dy, x), c, d));
        }
    }
}
