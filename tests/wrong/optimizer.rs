//! Chapter: optimizer. AdamW once more, with a place for each mistake.

use moe_by_hand::kernel::vector::dot;
use moe_by_hand::params::{Layout, Params, Role};
use moe_by_hand::train::optimizer::{
    AdamW, BETA1, BETA2, Decay, EPS, Norm, Optimizer, Step, clip,
};
use moe_by_hand::train::schedule::Schedule;

/// What is wrong in a step of the optimizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    ClipPerTensor,
    EpsInside,
    BiasLate,
    BiasHalf,
    DecayCoupled,
    DecaysGains,
    RateLate,
}
use Fault::*;

impl Fault {
    pub(crate) const ALL: [(Self, &'static str); 7] = [
        (ClipPerTensor, "clipping per tensor"), // wrong: grad-clip-global
        (EpsInside, "AdamW: ε inside the root"), // wrong: adamw
        (BiasLate, "AdamW: bias correction off by one"), // wrong: adam-bias-correction
        (BiasHalf, "AdamW: bias of v not corrected"), // wrong: adam-bias-correction
        (DecayCoupled, "AdamW: decay in the gradient (L2)"), // wrong: adamw
        (DecaysGains, "AdamW: gains decay"),          // wrong: adamw
        (RateLate, "learning rate one step late"),    // wrong: lr-warmup
    ];
}

const DECAY: f64 = 0.2;
const MAX: f64 = 0.4;
/// Two numbers of a weight and one of a gain, step by step; of sizes at which
/// ε matters and at which it does not, clipped and not.
const G: [[f64; 3]; 4] =
    [[0.5, -0.1, 0.3], [2e-8, -4e-8, 1e-8], [0.1, 0.2, -0.1], [-3.0, 0.1, 0.2]];

fn schedule() -> Schedule {
    Schedule::new(0.1, 2, 8).unwrap()
}
fn theta() -> (Layout, Params<f64>) {
    let mut layout = Layout::default();
    layout.builder().param("w", [1, 2], Role::Weight);
    layout.builder().param("gain", [1], Role::Gain);
    let mut p = layout.zeros();
    p.data.fill(1.0);
    (layout, p)
}
/// θ after each step, by the library.
pub(crate) fn library() -> Vec<f64> {
    let (layout, mut p) = theta();
    let mut adam = AdamW::new(&layout, DECAY, Decay::Weights);
    let (mut norm, mut dp) = (Norm::new(&layout), layout.grads());
    let steps = (1..).zip(&G).map(|(t, g)| {
        dp.data.copy_from_slice(g);
        let scale = clip(norm.norm(&dp), MAX);
        adam.step(&mut p, &dp, Step { t, lr: schedule().rate(t), scale });
        p.data.to_vec()
    });
    steps.collect::<Vec<_>>().concat()
}
/// θ after each step, as the paper writes it.
pub(crate) fn literal() -> Vec<f64> {
    stepped(&[])
}
/// The same with a fault.
pub(crate) fn stepped(faults: &[Fault]) -> Vec<f64> {
    let is = |f| faults.contains(&f);
    let (_, p) = theta();
    let (mut p, mut all) = (p.data.to_vec(), vec![]);
    let (mut m, mut v) = ([0.0; 3], [0.0; 3]);
    for (i, g) in G.iter().enumerate() {
        let t = i as i32 + 1;
        let rate = schedule().rate(if is(RateLate) { i } else { i + 1 });
        for j in 0..3 {
            let tensor = if j < 2 { &g[..2] } else { &g[2..] };
            let of = if is(ClipPerTensor) { tensor } else { &g[..] };
            let mut g = g[j] * clip(dot(of, of).sqrt(), MAX);
            let decays = j < 2 || is(DecaysGains);
            let decay = if decays { DECAY } else { 0.0 };
            if is(DecayCoupled) {
                g += decay * p[j];
            }
            m[j] = BETA1 * m[j] + (1.0 - BETA1) * g;
            v[j] = BETA2 * v[j] + (1.0 - BETA2) * g * g;
            let t = if is(BiasLate) { t + 1 } else { t };
            let mean = m[j] / (1.0 - BETA1.powi(t));
            let square = v[j] / (1.0 - BETA2.powi(t));
            let square = if is(BiasHalf) { v[j] } else { square };
            let root = match is(EpsInside) {
                true => (square + EPS).sqrt(),
                false => square.sqrt() + EPS,
            };
            let apart = if is(DecayCoupled) { 0.0 } else { decay };
            p[j] -= rate * (mean / root + apart * p[j]);
        }
        all.extend_from_slice(&p);
    }
    all
}
