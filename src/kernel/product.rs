//! Chapter: simd. The matrix product of f32: tile by tile, each in registers.
//!
//! The plain form loads two numbers for each multiplication. A tile of C, 6
//! rows of 4 vectors say, stays in registers while k runs: 6 numbers of A
//! and 4 vectors of B are loaded for 24 products of vectors. So arithmetic
//! is the limit, no longer the memory. A tile reads A and B where they are,
//! whatever the strides of A; only where the rows of B are not contiguous, as
//! in A·Bᵀ, is a part of B laid out anew first.
//!
//! Each element is one chain of sums in the order of k, wherever the tiles
//! end: C cut into any rows, columns, or terms (`Set`, then `Add`) has the
//! same bits as C at once. Test: `cuts_change_no_bit` (`tests/simd.rs`).

use crate::kernel::simd::tile::{sums, tile, wide};
use crate::kernel::simd::{Isa, Kernel, Simd};
use crate::kernel::view::{Add, Mat, MatMut, Op, Set};
use std::cell::RefCell;

/// Rows of B that are worked on at a time: of 64 columns, as many as fit
/// into two thirds of a first-level cache.
const DEEP: usize = 128;

thread_local! {
    /// Where a part of B is laid out anew. Each thread has its own, for good:
    /// nothing is allocated, nor zeroed, by a product.
    static PANEL: RefCell<[f32; DEEP * 64]> =
        const { RefCell::new([0.0; DEEP * 64]) };
}

/// [`matmul`](crate::kernel::matrix::matmul) of f32 by a given instruction
/// set.
///
/// Source: the tiles, Goto & van de Geijn 2008; without their copies.
///
/// # Panics
/// If the shapes do not fit, or if the CPU does not have the set.
///
/// ```
/// use moe_by_hand::kernel::matrix::{Set, mat, mat_mut};
/// use moe_by_hand::kernel::{product::matmul_with, simd::Isa};
/// let (a, b) = ([1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]);
/// let mut c = [f32::NAN; 4];
/// matmul_with(Isa::best(), mat_mut(&mut c, 2), Set, mat(&a, 2), mat(&b, 2));
/// assert_eq!(c, [19.0, 22.0, 43.0, 50.0]);
/// ```
#[track_caller]
pub fn matmul_with(isa: Isa, c: MatMut<f32>, op: Op, a: Mat<f32>, b: Mat<f32>) {
    let (need, have) = ((a.rows, a.cols, b.cols), (c.rows, b.rows, c.cols));
    assert_eq!(need, have, "(rows, inner, cols) of A, B against C, B, C");
    PANEL.with_borrow_mut(|panel| isa.run(Product { c, op, a, b, panel }));
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
        let [m, depth, n] = [c.rows, a.cols, c.cols];
        if depth == 0 && op == Set {
            for i in 0..m {
                c.data[i * c.rs..][..n].fill(0.0); // a sum of nothing
            }
        }
        for k in (0..depth).step_by(DEEP) {
            let k = k..depth.min(k + DEEP);
            let a = a.block(0..m, k.clone());
            let mut j = 0;
            while j < n {
                // One row alone needs more vectors to keep the CPU busy.
                let one = m == 1 && b.cs == 1 && n - j >= 8 * S::W;
                let wide = if one { 8 } else { wide::<S>() } * S::W;
                let js = j..n.min(j + wide);
                let c = c.reborrow().block(0..m, js.clone());
                let b = b.block(k.clone(), js);
                let copy = b.cs != 1;
                let b = if copy { pack(s, panel, b) } else { b };
                if one {
                    tile::<S, 1, 8, true>(s, c, op, a, b);
                } else {
                    columns(s, c, op, a, b);
                }
                j += wide;
            }
            op = Add; // the next terms of the same sums
        }
    }
}

// The size of a tile must be known when it is compiled. So each number of
// vectors has a line in `columns`, and each number of rows one in `tiles`. A
// set with too few registers for a size does not compile it.

/// All rows of at most [`wide`] vectors of columns.
#[inline(always)]
fn columns<S: Simd>(s: S, c: MatMut<f32>, op: Op, a: Mat<f32>, b: Mat<f32>) {
    match b.cols.div_ceil(S::W) {
        1 => rows::<S, 1>(s, c, op, a, b),
        2 if const { wide::<S>() >= 2 } => rows::<S, 2>(s, c, op, a, b),
        3 if const { wide::<S>() >= 3 } => rows::<S, 3>(s, c, op, a, b),
        4 if const { wide::<S>() >= 4 } => rows::<S, 4>(s, c, op, a, b),
        _ => unreachable!("wider than a tile"),
    }
}
/// All rows of N vectors of columns, of which the last may not be full.
#[inline(always)]
fn rows<S: Simd, const N: usize>(
    s: S, c: MatMut<f32>, op: Op, a: Mat<f32>, b: Mat<f32>,
) {
    if b.cols == N * S::W {
        tiles::<S, N, true>(s, c, op, a, b);
    } else {
        tiles::<S, N, false>(s, c, op, a, b);
    }
}
/// Tiles one below the other, each as high as there are rows and registers.
#[inline(always)]
fn tiles<S: Simd, const N: usize, const FULL: bool>(
    s: S, mut c: MatMut<f32>, op: Op, a: Mat<f32>, b: Mat<f32>,
) {
    let (mut i, rows) = (0, c.rows);
    while i < rows {
        let c = c.reborrow();
        i += match rows - i {
            12.. if const { 12 * N <= sums::<S>() } => {
                tile_at::<S, 12, N, FULL>(i, s, c, op, a, b)
            }
            8.. if const { 8 * N <= sums::<S>() } => {
                tile_at::<S, 8, N, FULL>(i, s, c, op, a, b)
            }
            6.. => tile_at::<S, 6, N, FULL>(i, s, c, op, a, b),
            4.. => tile_at::<S, 4, N, FULL>(i, s, c, op, a, b),
            2.. => tile_at::<S, 2, N, FULL>(i, s, c, op, a, b),
            _ => tile_at::<S, 1, N, FULL>(i, s, c, op, a, b),
        };
    }
}
/// The tile of the M rows from row i on; returns M.
#[inline(always)]
fn tile_at<S: Simd, const M: usize, const N: usize, const FULL: bool>(
    i: usize, s: S, c: MatMut<f32>, op: Op, a: Mat<f32>, b: Mat<f32>,
) -> usize {
    let (n, depth, i) = (c.cols, a.cols, i..i + M);
    let (c, a) = (c.block(i.clone(), 0..n), a.block(i, 0..depth));
    tile::<S, M, N, FULL>(s, c, op, a, b);
    M
}

/// Lays a part of B out with its rows contiguous and close together.
#[inline(always)]
fn pack<'a, S: Simd>(s: S, panel: &'a mut [f32], b: Mat<f32>) -> Mat<'a, f32> {
    let wide = wide::<S>() * S::W;
    if b.rs != 1 {
        for k in 0..b.rows {
            for j in 0..b.cols {
                panel[k * wide + j] = b.data[k * b.rs + j * b.cs];
            }
        }
        return Mat { data: panel, rs: wide, cs: 1, ..b };
    }
    // The columns are contiguous: W of them at a time are W vectors, and
    // these, as a square, are transposed.
    for k in (0..b.rows).step_by(S::W) {
        for j in (0..b.cols).step_by(S::W) {
            let (to, x) = (&mut panel[k * wide + j..], &b.data[k + j * b.cs..]);
            let (rows, cols) = (S::W.min(b.rows - k), S::W.min(b.cols - j));
            let mut v = [s.splat(0.0); 16];
            if rows == S::W && cols == S::W {
                for i in 0..S::W {
                    v[i] = s.load(&x[i * b.cs..]);
                }
                v = transpose(s, v);
                for i in 0..S::W {
                    s.store(&mut to[i * wide..], v[i]);
                }
            } else {
                // Another array: one that is indexed by what is not known
                // when it is compiled stays in memory, and `v` shall not.
                let mut part = v;
                for i in 0..cols {
                    part[i] = s.load_part(&x[i * b.cs..][..rows]);
                }
                part = transpose(s, part);
                for i in 0..rows {
                    s.store(&mut to[i * wide..], part[i]);
                }
            }
        }
    }
    Mat { data: panel, rs: wide, cs: 1, ..b }
}

/// The square of the first W vectors, rows and columns exchanged.
///
/// Write the place of a number in binary, row before lane. To zip row i with
/// row i + W/2 moves the first digit to the end; log₂ W such rounds exchange
/// row and lane.
#[inline(always)]
fn transpose<S: Simd>(s: S, mut v: [S::V; 16]) -> [S::V; 16] {
    for _ in 0..S::W.ilog2() {
        let from = v;
        for i in 0..S::W / 2 {
            (v[2 * i], v[2 * i + 1]) = s.zip(from[i], from[i + S::W / 2]);
        }
    }
    v
}
