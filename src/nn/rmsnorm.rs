//! Chapter: rmsnorm. RMSNorm: each row divided by its root mean square.

use crate::kernel::fast::twin;
use crate::kernel::simd::Buffer;
use crate::kernel::vector::dot;
use crate::kernel::wide::{in_wide, rows, set, sum, whole};
use crate::layer::{Layer, Shape, buffer};
use crate::params::{Builder, Param, ParamGrads, Params, Role};
use crate::real::Real;

/// Sets y and r.  x, y: [n, d]  r: [n]  gain: [d]
///
/// r = 1/√(⟨x, x⟩/D + ε), y = γ ⊙ x·r, one r for each row.
/// Source: Zhang & Sennrich 2019, eq. 4, with ε inside the root.
///
/// # Panics
/// If the lengths do not fit.
///
/// ```
/// use moe_by_hand::nn::rmsnorm::rmsnorm_forward;
/// let (mut y, mut r) = ([f64::NAN; 2], [f64::NAN]);
/// rmsnorm_forward(&mut y, &mut r, &[3.0, 4.0], &[1.0, 1.0], 0.0);
/// approx::assert_abs_diff_eq!(r[0], 0.282843, epsilon = 5e-7);
/// approx::assert_abs_diff_eq!(y[0], 0.848528, epsilon = 5e-7);
/// approx::assert_abs_diff_eq!(y[1], 1.131371, epsilon = 5e-7);
/// ```
#[track_caller]
pub fn rmsnorm_forward<T: Real>(
    y: &mut [T], r: &mut [T], x: &[T], gain: &[T], eps: f64,
) {
    let d = gain.len();
    assert_eq!([x.len(), r.len() * d], [y.len(); 2], "rmsnorm: x, r against y");
    if T::STORED {
        let (n, outs) = (r.len(), [set(y, d), set(r, 1)]);
        let ins = [rows(x, d), whole(gain)];
        return in_wide(n, outs, ins, |_, [y, r], [x, gain]| {
            rmsnorm_forward(y, r, x, gain, eps);
        });
    }
    twin!(return fast::RmsnormForward { y, r, x, gain, eps });
    let rows = y.chunks_exact_mut(d).zip(r).zip(x.chunks_exact(d));
    for ((y, r), x) in rows {
        let mean = dot(x, x) / T::of(d as f64);
        *r = T::ONE / (mean + T::of(eps)).sqrt();
        for j in 0..d {
            y[j] = gain[j] * x[j] * *r; // eq: rmsnorm-forward
        }
    }
}
/// Sets dx; adds to dgain.  dx, dy, x: [n, d]  dgain, gain: [d]  r: [n]
///
/// With x̂ = x·r and u = γ ⊙ ȳ: x̄ = r·(u − x̂·⟨u, x̂⟩/D), γ̄ = Σₙ ȳ ⊙ x̂.
/// Where ε = 0, x̄ is orthogonal to x: a longer x has the same output.
///
/// # Panics
/// If the lengths do not fit.
///
/// ```
/// use moe_by_hand::nn::rmsnorm::rmsnorm_backward;
/// let (x, gain, r) = ([3.0, 4.0], [1.0, 1.0], [0.08f64.sqrt()]);
/// let (mut dx, mut dgain) = ([f64::NAN; 2], [0.0; 2]);
/// rmsnorm_backward(&mut dx, &mut dgain, &[1.0, 0.0], &x, &gain, &r);
/// approx::assert_abs_diff_eq!(dx[0], 0.181019, epsilon = 5e-7);
/// approx::assert_abs_diff_eq!(dx[1], -0.135765, epsilon = 5e-7);
/// approx::assert_abs_diff_eq!(dgain[0], 0.848528, epsilon = 5e-7);
/// ```
#[track_caller]
pub fn rmsnorm_backward<T: Real>(
    dx: &mut [T], dgain: &mut [T], dy: &[T], x: &[T], gain: &[T], r: &[T],
) {
    let d = gain.len();
    let lens = [dx.len(), dy.len(), r.len() * d];
    assert_eq!(lens, [x.len(); 3], "rmsnorm_backward: dx, dy, r against x");
    assert_eq!(dgain.len(), d, "rmsnorm_backward: dgain against gain");
    if T::STORED {
        let (n, outs) = (r.len(), [set(dx, d), sum(dgain)]);
        let ins = [rows(dy, d), rows(x, d), whole(gain), rows(r, 1)];
        return in_wide(n, outs, ins, |_, [dx, dgain], [dy, x, gain, r]| {
            rmsnorm_backward(dx, dgain, dy, x, gain, r);
        });
    }
    twin!(return fast::RmsnormBackward { dx, dgain, dy, x, gain, r });
    for (i, &r) in r.iter().enumerate() {
        let row = i * d..(i + 1) * d;
        let (dx, dy, x) = (&mut dx[row.clone()], &dy[row.clone()], &x[row]);
        // y[j] = gain[j]·x[j]·r, and r moves with every x: ∂r/∂x = −r³·x/d
        let mut s = T::ZERO;
        for j in 0..d {
            s += dy[j] * gain[j] * x[j];
            dgain[j] += dy[j] * x[j] * r; // eq: rmsnorm-backward-gamma
        }
        let c = s * r * r / T::of(d as f64);
        for j in 0..d {
            dx[j] = r * (dy[j] * gain[j] - x[j] * c); // eq: rmsnorm-backward
        }
    }
}

/// RMSNorm with a learned gain γ for each column. y = γ ⊙ x/rms(x).
///
/// ```
/// use moe_by_hand::layer::{Layer, Shape};
/// use moe_by_hand::nn::rmsnorm::RmsNorm;
/// use moe_by_hand::params::Layout;
/// let mut layout = Layout::default();
/// let norm = RmsNorm::new(layout.builder(), 2, 0.0);
/// let mut p = layout.zeros();
/// p[norm.gain].copy_from_slice(&[1.0, 2.0]);
/// let mut a = norm.acts(Shape { batch: 1, time: 1 });
/// norm.forward(&p, &[3.0, 4.0], &mut a);
/// approx::assert_abs_diff_eq!(a.y[0], 0.848528, epsilon = 5e-7);
/// approx::assert_abs_diff_eq!(a.y[1], 2.0 * 1.131371, epsilon = 1e-6);
/// ```
#[derive(Clone, Debug)]
pub struct RmsNorm {
    /// γ: [d]
    pub gain: Param,
    /// Keeps a row of zeros finite.
    pub eps: f64,
}
/// What [`RmsNorm`] keeps.
#[derive(Clone, Debug)]
pub struct RmsNormActs<T> {
    /// [n, d]
    pub y: Buffer<T>,
    /// 1/rms of each row: [n]
    pub r: Buffer<T>,
}

impl RmsNorm {
    /// A norm of rows of width d.
    pub fn new(mut b: Builder, d: usize, eps: f64) -> Self {
        Self { gain: b.param("gain", [d], Role::Gain), eps }
    }
}
impl Layer for RmsNorm {
    type Acts<T: Real> = RmsNormActs<T>;

    fn acts<T: Real>(&self, s: Shape) -> RmsNormActs<T> {
        let n = s.rows();
        RmsNormActs { y: buffer(n * self.gain.cols), r: buffer(n) }
    }
    fn y<T: Real>(a: &mut RmsNormActs<T>) -> &mut [T] {
        &mut a.y
    }
    fn forward<T: Real>(&self, p: &Params<T>, x: &[T], a: &mut RmsNormActs<T>) {
        rmsnorm_forward(&mut a.y, &mut a.r, x, &p[self.gain], self.eps);
    }
    fn backward<T: Real>(
        &self, p: &Params<T>, x: &[T], a: &RmsNormActs<T>,
        g: &mut RmsNormActs<T>, dx: &mut [T], dp: &mut ParamGrads<T>,
    ) {
        // eq: rmsnorm-layer-backward
        let (gain, dgain) = (&p[self.gain], dp.write(self.gain));
        rmsnorm_backward(dx, dgain, &g.y, x, gain, &a.r);
    }
}
