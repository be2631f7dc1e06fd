//! Chapter: tensors. Matrices as views of slices: shape, strides, and nothing
//! copied.

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
    /// Distance from one row to the next.
    pub(crate) rs: usize,
    /// Distance from one column to the next.
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
    /// Distance from one row to the next.
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
    pub(crate) fn f32s(self) -> Option<Mat<'a, f32>> {
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
    /// The same matrix, only to be read.
    pub(crate) fn read(&self) -> Mat<'_, T> {
        let &Self { ref data, rows, cols, rs } = self;
        Mat { data, rows, cols, rs, cs: 1 }
    }
}

impl<T: Real> MatMut<'_, T> {
    /// The same matrix, where T is f32.
    pub(crate) fn f32s(&mut self) -> Option<MatMut<'_, f32>> {
        let Self { ref mut data, rows, cols, rs } = *self;
        Some(MatMut { data: T::f32s_mut(data)?, rows, cols, rs })
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
