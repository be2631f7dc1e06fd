//! Chapter: simd. One tile of the matrix product, in registers from its first
//! term to its last.

use super::buffer::ALIGN;
use super::vector::Simd;
use crate::kernel::view::{Mat, MatMut, Op};

/// Numbers of a cache line.
const LINE: usize = ALIGN / size_of::<f32>();

/// Numbers of a B that stays in a second-level cache beside other things.
pub(crate) const NEAR: usize = 1 << 16;

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

/// What a tile asks for while it computes, so that it is near when it is read.
#[derive(Clone, Copy)]
pub(crate) enum Ahead<'a> {
    /// Nothing: all of it is near.
    Nothing,
    /// With each row of B the numbers that lie so far behind it.
    Columns(usize),
    /// Where B is copied: what its next part is copied from. It begins at
    /// x[at]; its rows, the columns of B, are `rs` apart.
    Turned { x: &'a [f32], rs: usize, at: usize },
    /// The rows of A below its own, as many as it has.
    Rows,
}

/// The largest index into a matrix of rows that are so far apart, of which the
/// last goes on for `rest` more; it cannot overflow unnoticed.
#[inline(always)]
fn last(apart: usize, rows: usize, rest: usize) -> usize {
    apart.saturating_mul(rows - 1).saturating_add(rest)
}

/// One tile of the matrix product: M rows of N vectors, in registers while k
/// runs.  c: [M, n], a: [M, k], b: [k, n]; `FULL` if n = N·W, else n may end
/// inside the last vector. With `KEEP` it copies B to `keep` on the way. The
/// loop is compiled for the `ahead` that the caller writes out.
///
/// It stands here and not beside its caller because it checks the bounds once,
/// before the loop: a check for each number costs AVX-512 a tenth of the speed,
/// and AVX2 a quarter.
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
    ahead: Ahead,
) {
    let (deep, wide) = (b.rows, if FULL { N * S::W } else { b.cols });
    let fits = c.rows == M && a.rows == M && a.cols == deep && c.cols == wide;
    let full = wide > (N - 1) * S::W && wide <= N * S::W && b.cols == wide;
    assert!(fits && full && b.cs == 1 && deep > 0, "tile: shapes");
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
    } else if M > 1 && N * S::W >= 4 * LINE {
        // The lines of C that the tile below will store to: so many at once
        // that its stores would wait for them.
        for i in M..2 * M {
            for j in (0..N).step_by(LINE / S::W) {
                let at = i.wrapping_mul(c.rs).wrapping_add(j * S::W);
                s.prefetch(c.data, at);
            }
        }
    }
    let (rows, mut from) = (matches!(ahead, Ahead::Rows), 0);
    while from < deep {
        let to = if rows { deep.min(from + LINE) } else { deep };
        if rows {
            for i in M..2 * M {
                s.prefetch(a.data, i * a.rs + from);
            }
        }
        for k in from..to {
            if let Ahead::Columns(at) = ahead {
                for j in (0..N).step_by(LINE / S::W) {
                    // its last number: the first may lie in a line that is here
                    let end = (j * S::W + LINE).min(N * S::W);
                    let end = k * b.rs + end - 1;
                    s.prefetch(b.data, end.wrapping_add(at));
                }
            }
            if let Ahead::Turned { x, rs, at } = ahead {
                // while k runs over the terms of one line, one line of each row
                for j in 0..N * S::W / LINE {
                    let row = (j * LINE + k % LINE).wrapping_mul(rs);
                    let at = at.wrapping_add(k - k % LINE);
                    s.prefetch(x, row.wrapping_add(at));
                }
            }
            let mut bk = [s.splat(0.0); N];
            for j in 0..N {
                bk[j] = load(b.data, k * b.rs, j);
                if KEEP {
                    let at = (k * N + j) * S::W;
                    // SAFETY: k < deep, j < N; checked again in a debug build.
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
                    // eq: matmul
                    sum[i][j] = s.fma(s.splat(a), bk[j], sum[i][j]);
                }
            }
        }
        from = to;
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

/// Tiles of M rows of N vectors side by side, where the columns of B are
/// contiguous and not its rows. c: [M, n], a: [M, k], b: [k, n]; n is a multiple
/// of N·W and k of 4. Each element is the same chain of sums as in [`tile`].
/// If B is far away, a tile asks for the columns of the next tile. One row
/// alone does not.
///
/// # Panics
/// If the shapes do not fit, or if a matrix ends outside of its slice.
#[inline(always)]
pub(crate) fn turned_tiles<S: Simd, const M: usize, const N: usize>(
    s: S, c: MatMut<f32>, op: Op, a: Mat<f32>, b: Mat<f32>,
) {
    let (deep, wide) = (b.rows, b.cols);
    let fits = c.rows == M && a.rows == M && a.cols == deep && c.cols == wide;
    let whole = deep.is_multiple_of(4) && wide.is_multiple_of(N * S::W);
    let some = deep > 0 && wide > 0;
    assert!(fits && whole && some && b.rs == 1, "tiles: shapes");
    assert!(last(c.rs, M, wide - 1) < c.data.len(), "tiles: C");
    assert!(last(a.rs, M, last(a.cs, deep, 0)) < a.data.len(), "tiles: A");
    assert!(last(b.cs, wide, deep - 1) < b.data.len(), "tiles: B");
    let ahead = M > 1 && deep.saturating_mul(wide) > NEAR;
    for left in (0..wide).step_by(N * S::W) {
        // the lanes of vector j of a row
        let lanes = |i: usize, j: usize| {
            let at = i * c.rs + left + j * S::W;
            at..at + S::W
        };
        let mut sum = [[s.splat(0.0); N]; M];
        if op == Op::Add {
            for i in 0..M {
                for j in 0..N {
                    // SAFETY: it ends before `last` + 1.
                    let c = unsafe { c.data.get_unchecked(lanes(i, j)) };
                    sum[i][j] = s.load(c);
                }
            }
        }
        for k in (0..deep).step_by(4) {
            if ahead {
                // the columns beside these: one line of each in four steps
                for i in 0..N * S::W / 4 {
                    let i = i + k % LINE / 4 * (N * S::W / 4);
                    let at = (left + N * S::W + i).wrapping_mul(b.cs);
                    s.prefetch(b.data, at.wrapping_add(k - k % LINE));
                }
            }
            for j in 0..N {
                let at = (left + j * S::W) * b.cs + k;
                // SAFETY: k + 3 < deep, and there are W columns from here on.
                let bk = unsafe { square(s, b.data, at, b.cs) };
                for i in 0..M {
                    for l in 0..4 {
                        let at = i * a.rs + (k + l) * a.cs;
                        // SAFETY: `last` or before.
                        let a = *unsafe { a.data.get_unchecked(at) };
                        sum[i][j] = s.fma(s.splat(a), bk[l], sum[i][j]);
                    }
                }
            }
        }
        for i in 0..M {
            for j in 0..N {
                // SAFETY: as for a load.
                let c = unsafe { c.data.get_unchecked_mut(lanes(i, j)) };
                s.store(c, sum[i][j]);
            }
        }
    }
}

/// Sets `to` to x, of W columns that are contiguous, and of rows a multiple of
/// 4.
///
/// # Panics
/// If the shapes do not fit, or if a matrix ends outside of its slice.
#[inline(always)]
pub(crate) fn turn<S: Simd>(s: S, to: MatMut<f32>, x: Mat<f32>) {
    let rows = x.rows;
    let whole = x.rs == 1 && x.cols == S::W && rows.is_multiple_of(4);
    let fits = to.rows == rows && to.cols == S::W;
    assert!(fits && whole && rows > 0, "turn: shapes");
    assert!(last(to.rs, rows, S::W - 1) < to.data.len(), "turn: to");
    assert!(last(x.cs, S::W, rows - 1) < x.data.len(), "turn: x");
    for i in (0..rows).step_by(4) {
        // SAFETY: i + 3 < rows, and there are W columns.
        let v = unsafe { square(s, x.data, i, x.cs) };
        for l in 0..4 {
            let at = (i + l) * to.rs;
            // SAFETY: it ends before `last` + 1.
            let to = unsafe { to.data.get_unchecked_mut(at..at + S::W) };
            s.store(to, v[l]);
        }
    }
}

/// Four numbers in each of W rows that are `rs` apart, the first from `at` on,
/// rows and columns exchanged: four vectors.
///
/// Row i stands beside the rows i + 4, i + 8, …, each in a four of its own. In
/// a four, write the place of a number in binary, row before lane. To zip row
/// i with row i + 2 moves the first digit to the end; two such rounds exchange
/// row and lane.
///
/// # Safety
/// All these numbers are in x.
#[inline(always)]
unsafe fn square<S: Simd>(s: S, x: &[f32], at: usize, rs: usize) -> [S::V; 4] {
    let four = |row: usize| {
        let at = at + row % S::W * rs; // a set of fewer lanes looks at fewer
        // SAFETY: as the caller promises; checked again in a debug build.
        unsafe { x.get_unchecked(at..at + 4) }
    };
    let mut v = [s.splat(0.0); 4];
    for i in 0..4 {
        v[i] = s.fours([four(i), four(i + 4), four(i + 8), four(i + 12)]);
    }
    for _ in 0..2 {
        let ((a, b), (c, d)) = (s.zip(v[0], v[2]), s.zip(v[1], v[3]));
        v = [a, b, c, d];
    }
    v
}
