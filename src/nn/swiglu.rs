//! Chapter: swiglu. The SwiGLU expert, on any range of rows.

use crate::kernel::activation::{glu_backward, glu_forward};
use crate::kernel::matrix::{Add, Set};
use crate::kernel::simd::Buffer;
use crate::layer::{Layer, Shape, buffer};
use crate::nn::linear::{linear_backward, linear_forward};
use crate::params::{Builder, Param, ParamGrads, Params, Role};
use crate::real::Real;
use std::ops::Range;

/// A feed-forward layer whose hidden values are gated. y = (silu(x·W₁) ⊙
/// x·W₃)·W₂. Source: Shazeer 2020, eq. 6; names as in LLaMA.
///
/// ```
/// use moe_by_hand::layer::{Layer, Shape};
/// use moe_by_hand::nn::swiglu::SwiGlu;
/// use moe_by_hand::params::Layout;
/// let mut layout = Layout::default();
/// let expert = SwiGlu::new(layout.builder(), 1, 1);
/// let mut p = layout.zeros();
/// p.data.copy_from_slice(&[1.0, 2.0, 1.0]); // w1, w3, w2
/// let one = Shape { batch: 1, time: 1 };
/// let (mut a, mut g) = (expert.acts(one), expert.acts(one));
/// expert.forward(&p, &[1.0], &mut a);
/// approx::assert_abs_diff_eq!(a.y[0], 1.462117, epsilon = 5e-7);
/// g.y[0] = 1.0;
/// let (mut dx, mut dp) = ([f64::NAN], layout.grads());
/// expert.backward(&p, &[1.0], &a, &mut g, &mut dx, &mut dp);
/// approx::assert_abs_diff_eq!(dx[0], 3.317458, epsilon = 2e-6);
/// ```
#[derive(Clone, Debug)]
pub struct SwiGlu {
    /// Gate: [d, f]
    pub w1: Param,
    /// Up: [d, f]
    pub w3: Param,
    /// Down: [f, d]
    pub w2: Param,
}
/// What [`SwiGlu`] keeps.
#[derive(Clone, Debug)]
pub struct SwiGluActs<T> {
    /// [n, d]
    pub y: Buffer<T>,
    /// What w1 makes of x: [n, f]
    pub gate: Buffer<T>,
    /// What w3 makes of x: [n, f]
    pub up: Buffer<T>,
    /// The gated product: [n, f]
    pub hidden: Buffer<T>,
}

impl SwiGlu {
    /// From d columns through f to d.
    pub fn new(mut b: Builder, d: usize, f: usize) -> Self {
        Self {
            w1: b.param("w1", [d, f], Role::Weight),
            w3: b.param("w3", [d, f], Role::Weight),
            w2: b.param("w2", [f, d], Role::Residual),
        }
    }
    /// Where the rows `n` lie in a buffer of width d, and in one of width f.
    fn ranges(&self, n: &Range<usize>) -> [Range<usize>; 2] {
        [self.w1.rows(), self.w1.cols].map(|w| n.start * w..n.end * w)
    }
    /// Sets the rows `n` of `a` from the rows `n` of x.  x: [≥ n, d]
    pub fn forward_rows<T: Real>(
        &self, p: &Params<T>, x: &[T], a: &mut SwiGluActs<T>, n: Range<usize>,
    ) {
        let [d, f] = self.ranges(&n);
        let (gate, up) = (&mut a.gate[f.clone()], &mut a.up[f.clone()]);
        let hidden = &mut a.hidden[f];
        linear_forward(gate, &x[d.clone()], self.w1, p); // eq: swiglu-forward
        linear_forward(up, &x[d.clone()], self.w3, p);
        glu_forward(hidden, gate, up); // eq: swiglu-forward
        linear_forward(&mut a.y[d], hidden, self.w2, p); // eq: swiglu-forward
    }
    /// Sets the rows `n` of dx and of `g`; adds to dp.
    #[expect(clippy::too_many_arguments, reason = "Layer::backward and rows")]
    pub fn backward_rows<T: Real>(
        &self, p: &Params<T>, x: &[T], a: &SwiGluActs<T>,
        g: &mut SwiGluActs<T>, dx: &mut [T], dp: &mut ParamGrads<T>,
        n: Range<usize>,
    ) {
        let [d, f] = self.ranges(&n);
        let (x, dx, dy) = (&x[d.clone()], &mut dx[d.clone()], &g.y[d]);
        // y = hidden·w2
        // eq: swiglu-backward
        let (h, dh) = (&a.hidden[f.clone()], &mut g.hidden[f.clone()]);
        linear_backward(dh, Set, dp, dy, h, self.w2, p);
        // hidden = silu(gate) ⊙ up
        // eq: swiglu-backward
        let (dgate, dup) = (&mut g.gate[f.clone()], &mut g.up[f.clone()]);
        glu_backward(dgate, dup, dh, &a.gate[f.clone()], &a.up[f]);
        // gate = x·w1, up = x·w3: x was used twice, so its gradients add
        linear_backward(dx, Set, dp, dgate, x, self.w1, p);
        linear_backward(dx, Add, dp, dup, x, self.w3, p); // eq: swiglu-backward
    }
}
impl Layer for SwiGlu {
    type Acts<T: Real> = SwiGluActs<T>;

    fn acts<T: Real>(&self, s: Shape) -> SwiGluActs<T> {
        let [d, f] = self.ranges(&(0..s.rows())).map(|r| r.end);
        let (gate, up, hidden) = (buffer(f), buffer(f), buffer(f));
        SwiGluActs { y: buffer(d), gate, up, hidden }
    }
    fn y<T: Real>(a: &mut SwiGluActs<T>) -> &mut [T] {
        &mut a.y
    }
    fn forward<T: Real>(&self, p: &Params<T>, x: &[T], a: &mut SwiGluActs<T>) {
        self.forward_rows(p, x, a, 0..x.len() / self.w1.rows());
    }
    fn backward<T: Real>(
        &self, p: &Params<T>, x: &[T], a: &SwiGluActs<T>,
        g: &mut SwiGluActs<T>, dx: &mut [T], dp: &mut ParamGrads<T>,
    ) {
        // eq: swiglu-layer-backward
        let n = 0..x.len() / self.w1.rows();
        self.backward_rows(p, x, a, g, dx, dp, n);
    }
}
