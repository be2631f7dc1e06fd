//! Chapter: simd. The mixture's backward in f32; plain: `nn/moe.rs`.

use super::lanes::{dot, set};
use crate::kernel::simd::{Kernel, Simd};

/// The twin of `combine_backward`.
#[derive(Debug)]
pub struct CombineBackward<'a> {
    pub d_o: &'a mut [f32],
    pub dw: &'a mut [f32],
    pub dy: &'a [f32],
    pub o: &'a [f32],
    pub w: &'a [f32],
    pub slot: &'a [usize],
}
impl Kernel for CombineBackward<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { d_o, dw, dy, o, w, slot } = self;
        let d = o.len() / slot.len();
        let k = o.len() / dy.len();
        for (i, &at) in slot.iter().enumerate() {
            let (dy, row) = (&dy[i / k * d..][..d], at * d..(at + 1) * d);
            dw[i] = dot(s, dy, &o[row.clone()]); // eq: moe-backward-weight
            let c = s.splat(w[i]);
            // eq: moe-backward-expert
            set!(s, &mut d_o[row], |dy| s.mul(c, dy));
        }
    }
}
