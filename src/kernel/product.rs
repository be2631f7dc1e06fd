//! Chapter: simd. The matrix product of f32: tile by tile, each in registers.
//!
//! The plain form loads two numbers for each multiplication. A tile of C, 6
//! rows of 4 vectors say, stays in registers while k runs: 6 numbers of A
//! and 4 vectors of B are loaded for 24 products of vectors. So arithmetic
//! is the limit, no longer the memory. A tile reads A and B where they are.
//! Only where that costs more than a copy is a part of one laid out anew:
//! where a row of B is no row in memory, as in A·Bᵀ, and C has more than a few
//! rows; where C has few columns, which would leave lanes idle; and where the
//! rows of B, or the columns of a transposed A, are far apart and are read many
//! times.
//!
//! Each element is one chain of sums in the order of k, wherever the tiles
//! end: C cut into any rows, columns, or terms (`Set`, then `Add`) has the
//! same bits as C at once. Test: `cuts_change_no_bit` (`tests/simd.rs`).

use crate::kernel::simd::tile::{
    Ahead, NEAR, sums, tile, turn, turned_tiles, wide,
};
use crate::kernel::simd::{Isa, Kernel, Simd};
use crate::kernel::view::{Add, Mat, MatMut, Op, Set, mat_mut};
use std::cell::RefCell;
use std::ops::Range;

/// Terms of a sum that are worked on at a time, at most.
const DEEP: usize = 256;
/// Numbers of a part of B that is laid out anew: 256 rows of 16 columns take
/// half of a first-level cache of 32 KiB, 128 rows of 64 columns all of it.
const PANEL: usize = 1 << 13;
/// Numbers of a part of A or C that is laid out anew.
const PART: usize = 1 << 14;

/// Where parts of matrices are laid out anew. Each thread has its own, for
/// good: nothing is allocated, nor zeroed, by a product.
#[repr(align(64))]
struct Room {
    panel: [f32; PANEL],
    a: [f32; PART],
    c: [f32; PART],
}
thread_local! {
    static ROOM: RefCell<Room> = const {
        let (panel, a, c) = ([0.0; PANEL], [0.0; PART], [0.0; PART]);
        RefCell::new(Room { panel, a, c })
    };
}

/// [`matmul`](crate::kernel::matrix::matmul) of f32 by a given instruction
/// set.
///
/// Source: Goto & van de Geijn 2008: the tiles, and of the copies what pays.
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
    let [m, depth, n] = [c.rows, a.cols, c.cols];
    let isa = match isa {
        // So few rows of A·Bᵀ are too few sums for 16 lanes; the bits are the
        // same with 8.
        Isa::Avx512 if b.rs == 1 && m <= 3 && Isa::Avx2.available() => {
            Isa::Avx2
        }
        isa => isa,
    };
    // Where a row of B is no row in memory, B has to be transposed, or A and
    // C: whichever is less work. If A and C, rows become lanes, and none should
    // be idle.
    let lanes = if isa == Isa::Avx512 { 16 } else { 8 };
    let filled = m.is_multiple_of(lanes) && (1..=64).contains(&m);
    let ours = m.saturating_mul(depth.saturating_add(n));
    let theirs = depth.saturating_mul(n);
    // What a tile reads of a transposed A may lie on many pages of 4 KiB, and
    // tiles of 16 columns read it often.
    let spread = a.cs.saturating_mul(depth.min(DEEP)) >= 16 * 1024;
    let often = isa != Isa::Avx512 && m >= 12 && n >= 128;
    ROOM.with_borrow_mut(|room| {
        if b.rs == 1 && filled && ours < theirs / 4 * 3 {
            return turned(isa, c, op, a, b, room);
        }
        // Few columns, as of a router's scores, leave lanes idle; rows do not.
        if (4..=8).contains(&n) && n < lanes && m >= 16 {
            return laid_down(isa, c, op, a, b, room);
        }
        if a.rs == 1 && spread && often {
            return straightened(isa, c, op, a, b, room);
        }
        let (panel, rows) = (&mut room.panel, false);
        isa.run(Product { c, op, a, b, panel, rows });
    });
}
/// Cᵀ = Bᵀ·Aᵀ, for a C of few rows.
fn turned(
    isa: Isa, mut c: MatMut<f32>, mut op: Op, a: Mat<f32>, b: Mat<f32>,
    room: &mut Room,
) {
    let [m, depth, n] = [c.rows, a.cols, c.cols];
    let Room { panel, a: of_a, c: of_c } = room;
    for ks in parts(depth, PART / m) {
        let mut at = mat_mut(&mut of_a[..ks.len() * m], m);
        let x = a.block(0..m, ks.clone()).t();
        isa.run(Copy { to: at.reborrow(), x });
        for js in parts(n, PART / m) {
            let mut c = c.reborrow().block(0..m, js.clone());
            let mut ct = mat_mut(&mut of_c[..js.len() * m], m);
            if op == Add {
                isa.run(Copy { to: ct.reborrow(), x: c.read().t() });
            }
            let (a, b) = (b.block(ks.clone(), js).t(), at.read());
            let (c_t, rows) = (ct.reborrow(), true);
            isa.run(Product { c: c_t, op, a, b, panel, rows });
            isa.run(Copy { to: c.reborrow(), x: ct.read().t() });
        }
        op = Add; // the next terms of the same sums
    }
}
/// Cᵀ = Bᵀ·Aᵀ, for a C of few columns: its rows become lanes.
fn laid_down(
    isa: Isa, mut c: MatMut<f32>, op: Op, a: Mat<f32>, b: Mat<f32>,
    room: &mut Room,
) {
    let [m, depth, n] = [c.rows, a.cols, c.cols];
    let Room { panel, c: of_c, .. } = room;
    for is in parts(m, PART / n) {
        let mut ct = mat_mut(&mut of_c[..is.len() * n], is.len());
        let mut c = c.reborrow().block(is.clone(), 0..n);
        if op == Add {
            isa.run(Copy { to: ct.reborrow(), x: c.read().t() });
        }
        let (a, b) = (b.t(), a.block(is, 0..depth).t());
        let (c_t, rows) = (ct.reborrow(), false);
        isa.run(Product { c: c_t, op, a, b, panel, rows });
        isa.run(Copy { to: c.reborrow(), x: ct.read().t() });
    }
}
/// C = A·B for an A that is stored transposed: its rows are laid out anew.
fn straightened(
    isa: Isa, mut c: MatMut<f32>, mut op: Op, a: Mat<f32>, b: Mat<f32>,
    room: &mut Room,
) {
    let [m, depth, n] = [c.rows, a.cols, c.cols];
    let Room { panel, a: of_a, .. } = room;
    for ks in parts(depth, PART / 128) {
        for is in parts(m, 128) {
            let to = &mut of_a[..is.len() * ks.len()];
            let mut to = mat_mut(to, ks.len());
            let x = a.block(is.clone(), ks.clone());
            isa.run(Copy { to: to.reborrow(), x });
            let c = c.reborrow().block(is, 0..n);
            let (a, b) = (to.read(), b.block(ks.clone(), 0..n));
            isa.run(Product { c, op, a, b, panel, rows: false });
        }
        op = Add; // the next terms of the same sums
    }
}
/// 0..n in parts of so many; the last may be shorter.
fn parts(n: usize, of: usize) -> impl Iterator<Item = Range<usize>> {
    (0..n).step_by(of).map(move |i| i..n.min(i + of))
}

struct Product<'a> {
    c: MatMut<'a, f32>,
    op: Op,
    a: Mat<'a, f32>,
    b: Mat<'a, f32>,
    panel: &'a mut [f32; PANEL],
    /// Whether tiles ask for rows of A ahead of time, and not for columns of B.
    rows: bool,
}
impl Kernel for Product<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { mut c, mut op, a, b, panel, rows } = self;
        let [m, depth, n] = [c.rows, a.cols, c.cols];
        if depth == 0 && op == Set {
            for i in 0..m {
                c.data[i * c.rs..][..n].fill(0.0); // a sum of nothing
            }
        }
        let done = if b.rs == 1 { few_rows(s, &mut c, op, a, b) } else { 0 };
        let wide = const { wide::<S>() * S::W };
        // One row alone needs more vectors to keep the CPU busy.
        let most = if m == 1 { 8 * S::W } else { wide };
        let deep = DEEP.min(PANEL / most);
        // Rows of B that are far apart share few places of a small cache: the
        // first tile keeps what it has read for those below it. Not for tiles
        // whose rows are four cache lines long; nor, for few rows, where B is
        // large and comes from far: tiles that read the same again give the
        // processor time to fetch what lies beside it.
        let near = depth.saturating_mul(n) <= NEAR;
        let many = m >= 96 || m >= 24 && near;
        let keep = many && wide < 64 && b.cs == 1 && b.rs != wide;
        let mut k = 0;
        while k < depth {
            let ks = k..depth.min(k + deep);
            let a = a.block(0..m, ks.clone());
            let mut j = done;
            while j < n {
                let one = m == 1 && n - j >= most;
                let wide = if one { most } else { wide };
                let (js, mut first) = (j..n.min(j + wide), 0);
                let mut c = c.reborrow().block(0..m, js.clone());
                // What is read next: the columns beside these, or behind the
                // last ones the first of the next terms.
                let deep = ks.len().saturating_mul(b.rs);
                let (x, rs) = (b.data, b.cs); // b's transpose
                let ahead = match (b.rs, b.cs) {
                    _ if rows => Ahead::Rows,
                    (_, 1) if js.end < n => Ahead::Columns(wide),
                    (_, 1) if ks.end < depth => {
                        Ahead::Columns(deep.saturating_sub(j))
                    }
                    (1, _) if js.end < n => {
                        let at = js.end.wrapping_mul(rs).wrapping_add(ks.start);
                        Ahead::Turned { x, rs, at }
                    }
                    (1, _) if ks.end < depth => {
                        Ahead::Turned { x, rs, at: ks.end }
                    }
                    _ => Ahead::Nothing,
                };
                let mut b = b.block(ks.clone(), js);
                if b.cs != 1 {
                    let to = mat_mut(&mut panel[..b.rows * wide], wide);
                    copy(s, to, b);
                    b = Mat { data: &*panel, rs: wide, cs: 1, ..b };
                } else if keep && b.cols == wide {
                    let (c, a) = (c.reborrow(), a.block(0..6, 0..a.cols));
                    let c = c.block(0..6, 0..wide);
                    keep_tile(s, c, op, a, b, panel, ahead);
                    b = Mat { data: &*panel, rs: wide, ..b };
                    first = 6;
                }
                if one {
                    let (keep, ahead) = (&mut [], Ahead::Nothing);
                    tile::<S, 1, 8, true, false>(s, c, op, a, b, keep, ahead);
                } else {
                    columns(s, c, op, a, b, first, ahead);
                }
                j += wide;
            }
            (k, op) = (ks.end, Add); // the next terms of the same sums
        }
    }
}

// The size of a tile must be known when it is compiled. So each number of
// vectors has a line in `columns`, and each number of rows one in `tiles`. A
// set with too few registers for a size does not compile it.

/// Few rows, of as many columns as it returns: B is transposed on its way to
/// the sums. At most four rows, of enough columns to keep the CPU busy; but
/// where their numbers are a multiple of 2 KiB apart, a small cache has not the
/// room for the lines of so many. With AVX-512 one vector of columns has sums
/// enough, of four rows to eight.
#[inline(always)]
fn few_rows<S: Simd>(
    s: S, c: &mut MatMut<f32>, op: Op, a: Mat<f32>, b: Mat<f32>,
) -> usize {
    let (m, depth, n) = (c.rows, a.cols, c.cols);
    let (rows, wide) = match m {
        _ if S::W == 16 => (4..=8, S::W),
        1 if !b.cs.is_multiple_of(512) => (1..=4, 4 * S::W),
        _ => (1..=4, 2 * S::W),
    };
    let n = n - n % wide;
    let whole = depth > 0 && depth.is_multiple_of(4) && n > 0;
    if !rows.contains(&m) || !whole {
        return 0;
    }
    let (c, b) = (c.reborrow().block(0..m, 0..n), b.block(0..depth, 0..n));
    match m {
        4 if const { S::W == 16 } => turned_tiles::<S, 4, 1>(s, c, op, a, b),
        5 if const { S::W == 16 } => turned_tiles::<S, 5, 1>(s, c, op, a, b),
        6 if const { S::W == 16 } => turned_tiles::<S, 6, 1>(s, c, op, a, b),
        7 if const { S::W == 16 } => turned_tiles::<S, 7, 1>(s, c, op, a, b),
        8 if const { S::W == 16 } => turned_tiles::<S, 8, 1>(s, c, op, a, b),
        _ if const { S::W == 16 } => unreachable!("another number of rows"),
        1 if wide == 4 * S::W => turned_tiles::<S, 1, 4>(s, c, op, a, b),
        1 => turned_tiles::<S, 1, 2>(s, c, op, a, b),
        2 => turned_tiles::<S, 2, 2>(s, c, op, a, b),
        3 => turned_tiles::<S, 3, 2>(s, c, op, a, b),
        _ => turned_tiles::<S, 4, 2>(s, c, op, a, b),
    }
    n
}
/// Six rows of full width; keeps the rows of B that it reads.
#[inline(always)]
fn keep_tile<S: Simd>(
    s: S, c: MatMut<f32>, op: Op, a: Mat<f32>, b: Mat<f32>, keep: &mut [f32],
    ahead: Ahead,
) {
    let at = if let Ahead::Columns(at) = ahead { at } else { 0 };
    let ahead = Ahead::Columns(at); // 0: what is here already
    match const { wide::<S>() } {
        1 => tile::<S, 6, 1, true, true>(s, c, op, a, b, keep, ahead),
        2 if const { wide::<S>() >= 2 } => {
            tile::<S, 6, 2, true, true>(s, c, op, a, b, keep, ahead);
        }
        4 if const { wide::<S>() >= 4 } => {
            tile::<S, 6, 4, true, true>(s, c, op, a, b, keep, ahead);
        }
        _ => unreachable!("another width of a tile"),
    }
}
/// The rows from `first` on, of at most [`wide`] vectors of columns.
#[inline(always)]
fn columns<S: Simd>(
    s: S, c: MatMut<f32>, op: Op, a: Mat<f32>, b: Mat<f32>, first: usize,
    ahead: Ahead,
) {
    match b.cols.div_ceil(S::W) {
        1 => rows::<S, 1>(s, c, op, a, b, first, ahead),
        2 if const { wide::<S>() >= 2 } => {
            rows::<S, 2>(s, c, op, a, b, first, ahead)
        }
        3 if const { wide::<S>() >= 3 } => {
            rows::<S, 3>(s, c, op, a, b, first, ahead)
        }
        4 if const { wide::<S>() >= 4 } => {
            rows::<S, 4>(s, c, op, a, b, first, ahead)
        }
        _ => unreachable!("wider than a tile"),
    }
}
/// These rows of N vectors of columns, of which the last may not be full.
#[inline(always)]
fn rows<S: Simd, const N: usize>(
    s: S, c: MatMut<f32>, op: Op, a: Mat<f32>, b: Mat<f32>, first: usize,
    ahead: Ahead,
) {
    if b.cols == N * S::W {
        tiles::<S, N, true>(s, c, op, a, b, first, ahead);
    } else {
        tiles::<S, N, false>(s, c, op, a, b, first, ahead);
    }
}
/// Tiles one below the other. The last two are of about the same height: one
/// row or two by themselves would have too few sums to keep the CPU busy.
#[inline(always)]
fn tiles<S: Simd, const N: usize, const FULL: bool>(
    s: S, mut c: MatMut<f32>, op: Op, a: Mat<f32>, b: Mat<f32>, first: usize,
    ahead: Ahead,
) {
    let (mut i, rows) = (first, c.rows);
    while i < rows {
        let c = c.reborrow();
        i += match rows - i {
            12 | 17.. if const { 12 * N <= sums::<S>() } => {
                tile_at::<S, 12, N, FULL>(i, s, c, op, a, b, ahead)
            }
            8 | 13..=16 if const { 8 * N <= sums::<S>() } => {
                tile_at::<S, 8, N, FULL>(i, s, c, op, a, b, ahead)
            }
            6 | 10.. => tile_at::<S, 6, N, FULL>(i, s, c, op, a, b, ahead),
            5 | 9 => tile_at::<S, 5, N, FULL>(i, s, c, op, a, b, ahead),
            4 | 7 | 8 => tile_at::<S, 4, N, FULL>(i, s, c, op, a, b, ahead),
            3 => tile_at::<S, 3, N, FULL>(i, s, c, op, a, b, ahead),
            2 => tile_at::<S, 2, N, FULL>(i, s, c, op, a, b, ahead),
            _ => tile_at::<S, 1, N, FULL>(i, s, c, op, a, b, ahead),
        };
    }
}
/// The tile of the M rows from row i on; returns M. The first of a column of
/// tiles asks for what the next column of tiles needs. With [`Ahead::Rows`]
/// every tile asks.
#[inline(always)]
fn tile_at<S: Simd, const M: usize, const N: usize, const FULL: bool>(
    i: usize, s: S, c: MatMut<f32>, op: Op, a: Mat<f32>, b: Mat<f32>,
    ahead: Ahead,
) -> usize {
    let (n, depth, first) = (c.cols, a.cols, i == 0);
    let (c, a) = (c.block(i..i + M, 0..n), a.block(i..i + M, 0..depth));
    let (wide, keep) = (FULL && N == const { wide::<S>() }, &mut []);
    // Each is written out, so that the loop is compiled for it.
    match ahead {
        Ahead::Columns(at) if wide && first => {
            let ahead = Ahead::Columns(at);
            tile::<S, M, N, FULL, false>(s, c, op, a, b, keep, ahead);
        }
        // fewer rows than 4 are for `few_rows`
        Ahead::Turned { x, rs, at } if wide && first && M >= 4 => {
            let ahead = Ahead::Turned { x, rs, at };
            tile::<S, M, N, FULL, false>(s, c, op, a, b, keep, ahead);
        }
        Ahead::Rows if FULL && M >= 6 => {
            let ahead = Ahead::Rows;
            tile::<S, M, N, FULL, false>(s, c, op, a, b, keep, ahead);
        }
        _ => {
            let ahead = Ahead::Nothing;
            tile::<S, M, N, FULL, false>(s, c, op, a, b, keep, ahead);
        }
    }
    M
}

/// Sets the columns of `to` that x has to the first rows of x.
struct Copy<'a> {
    to: MatMut<'a, f32>,
    x: Mat<'a, f32>,
}
impl Kernel for Copy<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        copy(s, self.to, self.x);
    }
}
#[inline(always)]
fn copy<S: Simd>(s: S, to: MatMut<f32>, x: Mat<f32>) {
    let MatMut { data: to, rs, rows: high, cols: wide } = to;
    let [x_rows, cols, xs] = [x.rows, x.cols, x.cs];
    assert!(high <= x_rows && cols <= wide, "copy: {x_rows}x{cols}");
    if x.rs != 1 {
        for i in 0..high {
            let to = &mut to[i * rs..][..wide];
            for j in 0..cols {
                to[j] = x.data[i * x.rs + j * xs];
            }
        }
        return;
    }
    // The columns are contiguous: W of them at a time, and rows by fours. What
    // is left over goes number by number.
    for j in (0..cols).step_by(S::W) {
        let (x, to) = (x.block(0..high, j..cols.min(j + S::W)), &mut to[j..]);
        let fours = if x.cols == S::W { high - high % 4 } else { 0 };
        if fours > 0 {
            let to = MatMut { data: &mut *to, rows: fours, cols: S::W, rs };
            turn(s, to, x.block(0..fours, 0..S::W));
        }
        for i in fours..high {
            for l in 0..x.cols {
                to[i * rs + l] = x.data[i + l * xs];
            }
        }
    }
}
