//! Chapter 25. The matrix product of f32, a tile of registers at a time.

use crate::kernel::matrix::{Add, Mat, MatMut, Op, Set};
use crate::kernel::simd::{Isa, Kernel, Simd, tile};
use std::cell::RefCell;

/// Rows of B that are worked on at a time.
const DEEP: usize = 256;
/// Columns of B that are: as many as the widest tile has.
const WIDE: usize = 64;

thread_local! {
    /// Where a part of B is laid out anew, if it must be. Not on the stack,
    /// where it would have to be zeroed for each product.
    static PANEL: RefCell<[f32; DEEP * WIDE]> =
        const { RefCell::new([0.0; DEEP * WIDE]) };
}

/// x
pub fn matmul_f32(
    isa: Isa, c: MatMut<f32>, op: Op, a: Mat<f32>, b: Mat<f32>,
) {
    if b.cs == 1 {
        return isa.run(Product { c, op, a, b, panel: &mut [] });
    }
    PANEL.with_borrow_mut(|panel| isa.run(Product { c, op, a, b, panel }))
}

struct Product<'a> {
    c: MatMut<'a, f32>,
    op: Op,
    a: Mat<'a, f32>,
    b: Mat<'a, f32>,
    panel: &'a mut [f32],
}

impl Kernel for Product<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { mut c, mut op, a, b, panel } = self;
        if a.cols == 0 && op == Set {
            for i in 0..c.rows {
                c.data[i * c.rs..][..c.cols].fill(0.0);
            }
        }
        for k in (0..a.cols).step_by(DEEP) {
            let depth = DEEP.min(a.cols - k);
            let a = a.block(0..a.rows, k..k + depth);
            for j in (0..c.cols).step_by(S::WIDE * S::W) {
                let width = (S::WIDE * S::W).min(c.cols - j);
                let mut b = b.block(k..k + depth, j..j + width);
                if b.cs != 1 {
                    b = pack(s, panel, b);
                }
                let c = c.reborrow().block(0..a.rows, j..j + width);
                match width.div_ceil(S::W) {
                    4 if width == 4 * S::W => rows::<S, 4, true>(s, c, op, a, b),
                    4 => rows::<S, 4, false>(s, c, op, a, b),
                    3 => rows::<S, 3, false>(s, c, op, a, b),
                    2 if S::WIDE == 2 && width == 2 * S::W => {
                        rows::<S, 2, true>(s, c, op, a, b)
                    }
                    2 => rows::<S, 2, false>(s, c, op, a, b),
                    _ => rows::<S, 1, false>(s, c, op, a, b),
                }
            }
            op = Add;
        }
    }
}

#[inline(always)]
fn rows<S: Simd, const NV: usize, const FULL: bool>(
    s: S, mut c: MatMut<f32>, op: Op, a: Mat<f32>, b: Mat<f32>,
) {
    let mut i = 0;
    while i < a.rows {
        let (ci, ai) = (
            c.reborrow().block(i..a.rows, 0..b.cols),
            a.block(i..a.rows, 0..a.cols),
        );
        i += match a.rows - i {
            12.. if 12 * NV <= S::SUMS => tile::<S, 12, NV, FULL>(s, ci, op, ai, b),
            8.. if 8 * NV <= S::SUMS => tile::<S, 8, NV, FULL>(s, ci, op, ai, b),
            6.. => tile::<S, 6, NV, FULL>(s, ci, op, ai, b),
            4.. => tile::<S, 4, NV, FULL>(s, ci, op, ai, b),
            2.. => tile::<S, 2, NV, FULL>(s, ci, op, ai, b),
            _ => tile::<S, 1, NV, FULL>(s, ci, op, ai, b),
        }
    }
}

/// Lays B out row by row in the panel.
#[inline(always)]
fn pack<'a, S: Simd>(
    s: S, panel: &'a mut [f32], b: Mat<f32>,
) -> Mat<'a, f32> {
    let rs = S::WIDE * S::W;
    if b.rs != 1 {
        for k in 0..b.rows {
            for j in 0..b.cols {
                panel[k * rs + j] = b.data[k * b.rs + j * b.cs];
            }
        }
        return Mat { data: panel, rows: b.rows, cols: b.cols, rs, cs: 1 };
    }
    for k in (0..b.rows).step_by(S::W) {
        let depth = S::W.min(b.rows - k);
        for j in (0..b.cols).step_by(S::W) {
            let mut v = [s.splat(0.0); 16];
            for i in 0..S::W {
                if i < b.cols - j {
                    let x = &b.data[k + (i + j) * b.cs..][..depth];
                    v[i] = if depth == S::W { s.load(x) } else { s.load_part(x) };
                }
            }
            // log₂ W times
            let mut n = 1;
            while n < S::W {
                let mut next = v;
                for i in 0..S::W / 2 {
                    (next[2 * i], next[2 * i + 1]) =
                        s.zip(v[i], v[i + S::W / 2]);
                }
                v = next;
                n *= 2;
            }
            for i in 0..depth {
                s.store(&mut panel[(k + i) * rs + j..], v[i]);
            }
        }
    }
    Mat { data: panel, rows: b.rows, cols: b.cols, rs, cs: 1 }
}
