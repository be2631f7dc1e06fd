//! Chapter: swiglu. A block without attention: each byte is alone.

use moe_by_hand::config::Config;
use moe_by_hand::kernel::simd::Buffer;
use moe_by_hand::kernel::vector::{add, add_to};
use moe_by_hand::layer::{Decode, Layer, Shape, buffer};
use moe_by_hand::nn::rmsnorm::{RmsNorm, RmsNormActs};
use moe_by_hand::nn::swiglu::{SwiGlu, SwiGluActs};
use moe_by_hand::params::{Builder, ParamGrads, Params};
use moe_by_hand::real::Real;

/// y = x + expert(norm(x)), or y = x without an expert.
pub(crate) struct Alone {
    expert: Option<(RmsNorm, SwiGlu)>,
    d: usize,
}
pub(crate) struct AloneActs<T: Real> {
    y: Buffer<T>,
    expert: Option<(RmsNormActs<T>, SwiGluActs<T>)>,
}
impl Alone {
    pub(crate) fn new(mut b: Builder, c: &Config, expert: bool) -> Self {
        let (d, f) = (c.hidden, c.intermediate);
        let expert = expert.then(|| {
            let norm = RmsNorm::new(b.at("norm"), d, c.rms_eps);
            (norm, SwiGlu::new(b.at("expert"), d, f))
        });
        Self { expert, d }
    }
}
impl Layer for Alone {
    type Acts<T: Real> = AloneActs<T>;

    fn acts<T: Real>(&self, s: Shape) -> AloneActs<T> {
        let expert = self.expert.as_ref();
        let expert = expert.map(|(norm, f)| (norm.acts(s), f.acts(s)));
        AloneActs { y: buffer(s.rows() * self.d), expert }
    }
    fn y<T: Real>(a: &mut AloneActs<T>) -> &mut [T] {
        &mut a.y
    }
    fn forward<T: Real>(&self, p: &Params<T>, x: &[T], a: &mut AloneActs<T>) {
        match (&self.expert, &mut a.expert) {
            (Some((norm, expert)), Some((u, f))) => {
                norm.forward(p, x, u);
                expert.forward(p, &u.y, f);
                add(&mut a.y, x, &f.y);
            }
            _ => a.y.copy_from_slice(x),
        }
    }
    fn backward<T: Real>(
        &self, p: &Params<T>, x: &[T], a: &AloneActs<T>, g: &mut AloneActs<T>,
        dx: &mut [T], dp: &mut ParamGrads<T>,
    ) {
        match (&self.expert, &a.expert, &mut g.expert) {
            (Some((norm, expert)), Some((u, f)), Some((du, df))) => {
                // y = x + expert(norm(x))
                df.y.copy_from_slice(&g.y);
                expert.backward(p, &u.y, f, df, &mut du.y, dp);
                norm.backward(p, x, u, du, dx, dp);
                add_to(dx, &g.y);
            }
            // y = x
            _ => dx.copy_from_slice(&g.y),
        }
    }
}
/// No byte sees another, so there is nothing to keep.
impl Decode for Alone {
    type Cache<T: Real> = ();

    fn cache<T: Real>(&self, _: usize) {}
    fn acts_cached<T: Real>(&self, time: usize) -> AloneActs<T> {
        self.acts(Shape { batch: 1, time })
    }
    fn extend<T: Real>(
        &self, p: &Params<T>, x: &[T], a: &mut AloneActs<T>, _: &mut (),
        _: usize,
    ) {
        self.forward(p, x, a);
    }
}
