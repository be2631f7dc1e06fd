//! Chapter 3. Matrices as views of slices, and the one door to their product.

use crate::kernel::product::matmul_with;
use crate::kernel::simd::Isa;
use crate::real::Real;
use std::ops::Range;

/// A matrix inside a slice that is only read: element (i, j) is
/// `data[i·rs + j·cs]`.
#[derive(Clone, Copy, Debug)]
pub struct Mat<'a, T> {
    /// From element (0, 0) on.
    pub(crate) data: &'a [T],
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// Distance of two rows.
    pub(crate) rs: usize,
    /// Distance of two columns.
    pub(crate) cs: usize,
}

/// A matrix inside a slice that is written to; its rows are contiguous.
#[derive(Debug)]
pub struct MatMut<'a, T> {
    /// From element (0, 0) on.
    pub(crate) data: &'a mut [T],
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// Distance of two rows.
    pub(crate) rs: usize,
}

/// All of `data` as rows of width `cols`.
///
/// # Panics
/// If the length is no multiple of `cols`.
#[track_caller]
pub fn mat<T>(data: &[T], cols: usize) -> Mat<'_, T> {
    assert_eq!(data.len() % cols, 0, "{} in rows of {cols}", data.len());
    Mat { rows: data.len() / cols, cols, rs: cols, cs: 1, data }
}
/// [`mat`] for a slice that is written to.
///
/// # Panics
/// If the length is no multiple of `cols`.
#[track_caller]
pub fn mat_mut<T>(data: &mut [T], cols: usize) -> MatMut<'_, T> {
    assert_eq!(data.len() % cols, 0, "{} in rows of {cols}", data.len());
    MatMut { rows: data.len() / cols, cols, rs: cols, data }
}

impl<T> Mat<'_, T> {
    /// The transpose: the same data, strides exchanged.
    pub fn t(self) -> Self {
        let Self { data, rows, cols, rs, cs } = self;
        Self { data, rows: cols, cols: rows, rs: cs, cs: rs }
    }
    /// The part in the rows `r` and the columns `c`.
    ///
    /// # Panics
    /// If it does not lie inside.
    #[track_caller]
    pub fn block(self, r: Range<usize>, c: Range<usize>) -> Self {
        assert!(r.end <= self.rows && c.end <= self.cols, "{r:?} {c:?}");
        let at = (r.start * self.rs + c.start * self.cs).min(self.data.len());
        let data = &self.data[at..];
        Self { data, rows: r.len(), cols: c.len(), ..self }
    }
}
impl<'a, T: Real> Mat<'a, T> {
    /// The same matrix, where T is f32.
    fn f32s(self) -> Option<Mat<'a, f32>> {
        let Self { data, rows, cols, rs, cs } = self;
        Some(Mat { data: T::f32s(data)?, rows, cols, rs, cs })
    }
}
impl<'a, T> MatMut<'a, T> {
    /// The part in the rows `r` and the columns `c`.
    ///
    /// # Panics
    /// If it does not lie inside.
    #[track_caller]
    pub fn block(self, r: Range<usize>, c: Range<usize>) -> Self {
        assert!(r.end <= self.rows && c.end <= self.cols, "{r:?} {c:?}");
        let at = (r.start * self.rs + c.start).min(self.data.len());
        let data = &mut self.data[at..];
        Self { data, rows: r.len(), cols: c.len(), rs: self.rs }
    }
    /// The same matrix again, for one of several calls.
    pub fn reborrow(&mut self) -> MatMut<'_, T> {
        MatMut { data: self.data, ..*self }
    }
}

/// What a product does with the values that are there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Op {
    /// Overwrites them; they may be anything, NaN included.
    Set,
    /// Adds to them.
    Add,
}
pub use Op::{Add, Set};

/// Sets C = A·B, or adds A·B to C: the one door to the matrix product.
///
/// Of f32 by [`matmul_with`] and the instruction set of [`Isa::chosen`], of
/// any other number by [`matmul_plain`].
///
/// cᵢⱼ = Σₖ aᵢₖbₖⱼ. With C̄ the gradient of C: Ā = C̄·Bᵀ and B̄ = Aᵀ·C̄, which
/// are products again, so there is no other backward. A transpose costs
/// nothing: `a.t()` exchanges strides. Each element is summed in the order
/// of k, from 0 or from what is there: a sum cut into several calls, or rows
/// shared among any number of threads, change no bit.
///
/// # Panics
/// If the shapes do not fit: A [m, k], B [k, n], C [m, n]. If `MOE_SIMD`
/// names an instruction set that this CPU does not have.
///
/// ```
/// use moe_by_hand::kernel::matrix::{Set, mat, mat_mut, matmul};
/// let (a, b) = ([1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]);
/// let mut c = [f64::NAN; 4];
/// matmul(mat_mut(&mut c, 2), Set, mat(&a, 2), mat(&b, 2));
/// assert_eq!(c, [19.0, 22.0, 43.0, 50.0]);
/// // With C̄ = I: Ā = Bᵀ and B̄ = Aᵀ.
/// let dc = [1.0, 0.0, 0.0, 1.0];
/// let (mut da, mut db) = ([0.0; 4], [0.0; 4]);
/// matmul(mat_mut(&mut da, 2), Set, mat(&dc, 2), mat(&b, 2).t());
/// matmul(mat_mut(&mut db, 2), Set, mat(&a, 2).t(), mat(&dc, 2));
/// assert_eq!((da, db), ([5.0, 7.0, 6.0, 8.0], [1.0, 3.0, 2.0, 4.0]));
/// ```
#[track_caller]
pub fn matmul<T: Real>(c: MatMut<T>, op: Op, a: Mat<T>, b: Mat<T>) {
    let (need, have) = ((a.rows, a.cols, b.cols), (c.rows, b.rows, c.cols));
    assert_eq!(need, have, "(rows, inner, cols) of A, B against C, B, C");
    let MatMut { data, rows, cols, rs } = c;
    if let (Some(a), Some(b)) = (a.f32s(), b.f32s())
        && let Some(data) = T::f32s_mut(data)
    {
        let isa = Isa::current();
        return matmul_with(isa, MatMut { data, rows, cols, rs }, op, a, b);
    }
    matmul_plain(MatMut { data, rows, cols, rs }, op, a, b);
}

/// [`matmul`] as the formula says it, for any number type and any CPU.
#[track_caller]
pub fn matmul_plain<T: Real>(c: MatMut<T>, op: Op, a: Mat<T>, b: Mat<T>) {
    for i in 0..c.rows {
        for j in 0..c.cols {
            let c = &mut c.data[i * c.rs + j];
            let mut s = if op == Add { *c } else { T::ZERO };
            for k in 0..a.cols {
                // eq: matmul, matmul-transposed-b
                s += a.data[i * a.rs + k * a.cs] * b.data[k * b.rs + j * b.cs];
            }
            *c = s;
        }
    }
}
