//! Chapter: simd. Any CPU: vectors of 8 numbers as arrays, in safe code.

use super::vector::Simd;

/// Vectors as arrays, for the compiler to make the best of.
#[derive(Clone, Copy)]
pub(super) struct Portable;

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
    const W: usize = 8;
    const REGISTERS: usize = 8; // 16 of SSE2, of half a vector each

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
    fn fours(self, [low, high, ..]: [&[f32]; 4]) -> [f32; 8] {
        let mut v = [0.0; 8];
        v[..4].copy_from_slice(&low[..4]);
        v[4..].copy_from_slice(&high[..4]);
        v
    }
    #[inline(always)]
    fn zip(self, a: [f32; 8], b: [f32; 8]) -> ([f32; 8], [f32; 8]) {
        let [a0, a1, a2, a3, a4, a5, a6, a7] = a;
        let [b0, b1, b2, b3, b4, b5, b6, b7] = b;
        ([a0, b0, a1, b1, a4, b4, a5, b5], [a2, b2, a3, b3, a6, b6, a7, b7])
    }
    #[inline(always)]
    fn reduce_sum(self, a: [f32; 8]) -> f32 {
        a.iter().sum()
    }
    #[inline(always)]
    fn reduce_max(self, a: [f32; 8]) -> f32 {
        // `f32::max` may return either of two zeros
        a.into_iter().fold(f32::NEG_INFINITY, |m, a| if a > m { a } else { m })
    }
}
