//! Chapter: simd. One tile of the matrix product, in registers from its first
//! term to its last.

use super::vector::Simd;
use crate::kernel::view::{Mat, MatMut, Op};

/// Vectors of columns that a tile has at most.
///
/// A tile of m rows of n vectors keeps m·n sums, one row of B and one number
/// of A in registers: m·n + n + 1 of them. With 6 rows, an eighth of the
/// registers is as wide as fits.
pub(crate) const fn wide<S: Simd>() -> usize {
    S::REGISTERS / 8
}
/// Vectors of sums that a tile has at most: 6 rows of full width, or more rows
/// of fewer vectors.
pub(crate) const fn sums<S: Simd>() -> usize {
    6 * wide::<S>()
}

/// One tile of the matrix product: M rows of N vectors, in registers while k
/// runs.  c: [M, n], a: [M, k], b: [k, n]; `FULL` if n = N·W, else n may end
/// inside the last vector. With `KEEP` it copies B to `keep` on the way.
///
/// It stands here and not beside its caller because it looks at the bounds
/// once, and then no more: a look at each number costs AVX-512 a tenth of the
/// speed, AVX2 a quarter.
///
/// # Panics
/// If the shapes do not fit, or if a matrix ends outside of its slice, or if
/// `keep` is too short.
#[inline(always)]
pub(crate) fn tile<
    S: Simd,
    const M: usize,
    const N: usize,
    const FULL: bool,
    const KEEP: bool,
>(
    s: S, c: MatMut<f32>, op: Op, a: Mat<f32>, b: Mat<f32>, keep: &mut [f32],
) {
    let (deep, wide) = (b.rows, if FULL { N * S::W } else { b.cols });
    let fits = c.rows == M && a.rows == M && a.cols == deep && c.cols == wide;
    let full = wide > (N - 1) * S::W && wide <= N * S::W && b.cols == wide;
    assert!(fits && full && b.cs == 1 && deep > 0, "tile: shapes");
    // The largest index into each; it cannot overflow unnoticed.
    let last = |rs: usize, rows: usize, rest: usize| {
        rs.saturating_mul(rows - 1).saturating_add(rest)
    };
    assert!(last(c.rs, M, wide - 1) < c.data.len(), "tile: C");
    assert!(last(a.rs, M, last(a.cs, deep, 0)) < a.data.len(), "tile: A");
    assert!(last(b.rs, deep, wide - 1) < b.data.len(), "tile: B");
    let room = keep.len() / (N * S::W);
    assert!(!KEEP || FULL && deep <= room, "tile: room to keep B");
    // the lanes of vector j of a row
    let lanes = |row: usize, j: usize| {
        let end = if FULL || j + 1 < N { (j + 1) * S::W } else { wide };
        row + j * S::W..row + end
    };
    let load = |x: &[f32], row: usize, j: usize| {
        // SAFETY: it ends before `last` + 1; checked again in a debug build.
        let x = unsafe { x.get_unchecked(lanes(row, j)) };
        if FULL || j + 1 < N { s.load(x) } else { s.load_part(x) }
    };

    let mut sum = [[s.splat(0.0); N]; M];
    if op == Op::Add {
        for i in 0..M {
            for j in 0..N {
                sum[i][j] = load(c.data, i * c.rs, j);
            }
        }
    }
    for k in 0..deep {
        let mut bk = [s.splat(0.0); N];
        for j in 0..N {
            bk[j] = load(b.data, k * b.rs, j);
            if KEEP {
                let at = (k * N + j) * S::W;
                // SAFETY: k < deep and j < N; checked again in a debug build.
                s.store(
                    unsafe { keep.get_unchecked_mut(at..at + S::W) },
                    bk[j],
                );
            }
        }
        for i in 0..M {
            // SAFETY: `last` or before; checked again in a debug build.
            let a = *unsafe { a.data.get_unchecked(i * a.rs + k * a.cs) };
            for j in 0..N {
                sum[i][j] = s.fma(s.splat(a), bk[j], sum[i][j]); // eq: matmul
            }
        }
    }
    for i in 0..M {
        for j in 0..N {
            // SAFETY: as for a load.
            let c = unsafe { c.data.get_unchecked_mut(lanes(i * c.rs, j)) };
            if FULL || j + 1 < N {
                s.store(c, sum[i][j]);
            } else {
                s.store_part(c, sum[i][j]);
            }
        }
    }
}
