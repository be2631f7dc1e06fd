//! Chapter: linear. A linear map of rows: three products.

use crate::kernel::matrix::{Op, Set, mat, mat_mut, matmul};
use crate::kernel::simd::Buffer;
use crate::kernel::vector::add_to;
use crate::kernel::wide::{change, in_wide, rows, sum, whole};
use crate::layer::{Layer, Shape, buffer};
use crate::params::{Builder, Param, ParamGrads, Params, Role};
use crate::real::Real;

/// Sets y.  x: [n, d]  w: [d, f]  y: [n, f]
///
/// Y = X·W. Weights are stored [in, out].
///
/// # Panics
/// If the shapes do not fit.
///
/// ```
/// use moe_by_hand::nn::linear::linear_forward;
/// use moe_by_hand::params::{Layout, Role};
/// let mut layout = Layout::default();
/// let w = layout.builder().param("w", [2, 3], Role::Weight);
/// let mut p = layout.zeros();
/// p[w].copy_from_slice(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
/// let mut y = [f64::NAN; 3];
/// linear_forward(&mut y, &[1.0, 10.0], w, &p);
/// assert_eq!(y, [41.0, 52.0, 63.0]);
/// ```
#[track_caller]
pub fn linear_forward<T: Real>(y: &mut [T], x: &[T], w: Param, p: &Params<T>) {
    // eq: linear-forward
    matmul(mat_mut(y, w.cols), Set, mat(x, w.rows()), p.mat(w));
}
/// Sets dx or adds to it; adds to dp.  dx, x: [n, d]  w: [d, f]  dy: [n, f]
///
/// X̄ = Ȳ·Wᵀ, W̄ = Xᵀ·Ȳ: the shapes leave no other choice.
///
/// # Panics
/// If the shapes do not fit.
///
/// ```
/// use moe_by_hand::kernel::matrix::Set;
/// use moe_by_hand::nn::linear::linear_backward;
/// use moe_by_hand::params::{Layout, Role};
/// let mut layout = Layout::default();
/// let w = layout.builder().param("w", [2, 3], Role::Weight);
/// let (mut p, mut dp) = (layout.zeros(), layout.grads());
/// p[w].copy_from_slice(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
/// let (x, dy, mut dx) = ([1.0, 10.0], [1.0, 0.0, 2.0], [f64::NAN; 2]);
/// linear_backward(&mut dx, Set, &mut dp, &dy, &x, w, &p);
/// assert_eq!(dx, [7.0, 16.0]);
/// assert_eq!(dp[w], [1.0, 0.0, 2.0, 10.0, 0.0, 20.0]);
/// ```
#[track_caller]
pub fn linear_backward<T: Real>(
    dx: &mut [T], op: Op, dp: &mut ParamGrads<T>, dy: &[T], x: &[T], w: Param,
    p: &Params<T>,
) {
    // y = x·w
    let (x, dy) = (mat(x, w.rows()), mat(dy, w.cols));
    // eq: linear-backward-input
    matmul(mat_mut(dx, w.rows()), op, dy, p.mat(w).t());
    let (dw, op) = dp.accum(w);
    matmul(dw, op, x.t(), dy); // eq: linear-backward-weight
}

/// Adds the bias b to every row of y.  y: [n, f]  b: [f]
///
/// Y = X·W + 1·bᵀ, after [`linear_forward`].
///
/// # Panics
/// If y has no whole number of rows.
///
/// ```
/// use moe_by_hand::nn::linear::linear_bias_forward;
/// let mut y = [41.0, 52.0, 63.0, 2.0, 4.0, 6.0];
/// linear_bias_forward(&mut y, &[0.5, 0.0, -1.0]);
/// assert_eq!(y, [41.5, 52.0, 62.0, 2.5, 4.0, 5.0]);
/// ```
#[track_caller]
pub fn linear_bias_forward<T: Real>(y: &mut [T], b: &[T]) {
    assert!(y.len().is_multiple_of(b.len()), "linear_bias: rows of y");
    if T::STORED {
        let (f, n) = (b.len(), y.len() / b.len());
        return in_wide(n, [change(y, f)], [whole(b)], |_, [y], [b]| {
            linear_bias_forward(y, b);
        });
    }
    for y in y.chunks_exact_mut(b.len()) {
        add_to(y, b); // eq: linear-forward-bias
    }
}
/// Adds to db.  db: [f]  dy: [n, f]
///
/// b̄ = Σₙ ȳₙ: every row used the bias once. X̄ and W̄ are as without it.
///
/// # Panics
/// If dy has no whole number of rows.
///
/// ```
/// use moe_by_hand::nn::linear::linear_bias_backward;
/// let mut db = [0.0; 3];
/// linear_bias_backward(&mut db, &[1.0, 0.0, 2.0, 0.0, 1.0, 0.0]);
/// assert_eq!(db, [1.0, 1.0, 2.0]);
/// ```
#[track_caller]
pub fn linear_bias_backward<T: Real>(db: &mut [T], dy: &[T]) {
    assert!(dy.len().is_multiple_of(db.len()), "linear_bias: rows of dy");
    if T::STORED {
        let (f, n) = (db.len(), dy.len() / db.len());
        return in_wide(n, [sum(db)], [rows(dy, f)], |_, [db], [dy]| {
            linear_bias_backward(db, dy);
        });
    }
    for dy in dy.chunks_exact(db.len()) {
        add_to(db, dy); // eq: linear-backward-bias
    }
}

/// Y = X·W, or with a bias Y = X·W + 1·bᵀ.
///
/// ```
/// use moe_by_hand::layer::{Layer, Shape};
/// use moe_by_hand::nn::linear::Linear;
/// use moe_by_hand::params::Layout;
/// let mut layout = Layout::default();
/// let linear = Linear::new(layout.builder(), 2, 1);
/// let mut p = layout.zeros();
/// p[linear.w].copy_from_slice(&[3.0, 4.0]);
/// let mut a = linear.acts(Shape { batch: 1, time: 2 });
/// linear.forward(&p, &[1.0, 0.0, 1.0, 10.0], &mut a);
/// assert_eq!(a.y, [3.0, 43.0]);
/// ```
#[derive(Clone, Debug)]
pub struct Linear {
    /// [d, f]
    pub w: Param,
    /// [f], if the map has a bias.
    pub b: Option<Param>,
}
/// What [`Linear`] keeps: its output.
#[derive(Clone, Debug)]
pub struct LinearActs<T> {
    /// [n, f]
    pub y: Buffer<T>,
}

impl Linear {
    /// From d to f columns, without a bias.
    pub fn new(mut b: Builder, d: usize, f: usize) -> Self {
        Self { w: b.param("w", [d, f], Role::Weight), b: None }
    }
    /// From d to f columns, with a bias that starts at 0.
    pub fn with_bias(mut b: Builder, d: usize, f: usize) -> Self {
        let w = b.param("w", [d, f], Role::Weight);
        Self { w, b: Some(b.param("b", [f], Role::Bias)) }
    }
}
impl Layer for Linear {
    type Acts<T: Real> = LinearActs<T>;

    fn acts<T: Real>(&self, s: Shape) -> LinearActs<T> {
        LinearActs { y: buffer(s.rows() * self.w.cols) }
    }
    fn y<T: Real>(a: &mut LinearActs<T>) -> &mut [T] {
        &mut a.y
    }
    fn forward<T: Real>(&self, p: &Params<T>, x: &[T], a: &mut LinearActs<T>) {
        linear_forward(&mut a.y, x, self.w, p);
        if let Some(b) = self.b {
            linear_bias_forward(&mut a.y, &p[b]);
        }
    }
    fn backward<T: Real>(
        &self, p: &Params<T>, x: &[T], _: &LinearActs<T>,
        g: &mut LinearActs<T>, dx: &mut [T], dp: &mut ParamGrads<T>,
    ) {
        // y = x·w + b
        if let Some(b) = self.b {
            linear_bias_backward(dp.write(b), &g.y);
        }
        // eq: linear-backward
        linear_backward(dx, Set, dp, &g.y, x, self.w, p);
    }
}
