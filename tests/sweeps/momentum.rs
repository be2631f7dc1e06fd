//! Chapter: optimizer. An optimizer of one's own: plain descent with momentum.

use moe_by_hand::kernel::simd::Buffer;
use moe_by_hand::params::{Layout, ParamGrads, Params};
use moe_by_hand::train::optimizer::{Decay, Group, Groups, Optimizer, Step};

/// m ← μm + g, θ ← θ − ηλθ − ηm.
pub(crate) struct Momentum {
    m: Buffer<f32>,
    mu: f32,
    decay: f64,
    groups: Groups,
}
impl Momentum {
    pub(crate) fn new(layout: &Layout, mu: f32, decay: f64) -> Self {
        let groups = Groups::new(layout, Decay::Weights);
        Self { m: Buffer::new(layout.len, 0.0), mu, decay, groups }
    }
}
impl Optimizer<f32> for Momentum {
    fn name(&self) -> &'static str {
        "momentum"
    }
    fn step(&mut self, p: &mut Params<f32>, dp: &ParamGrads<f32>, s: Step) {
        let (lr, scale) = (s.lr as f32, s.scale as f32);
        for (run, group) in self.groups.within(0, p.data.len()) {
            let decays = group == Group::Decays;
            let decay = if decays { self.decay } else { 0.0 };
            let keep = (1.0 - s.lr * decay) as f32;
            for i in run {
                self.m[i] = self.mu * self.m[i] + scale * dp.data[i];
                p.data[i] = keep * p.data[i] - lr * self.m[i];
            }
        }
    }
    fn states(&mut self) -> Vec<(&'static str, &mut [f32])> {
        vec![("m", &mut self.m)]
    }
}
