//! Chapter: optimizer. Muon once more, by plain loops, with a place for each
//! mistake.

use moe_by_hand::kernel::vector::dot;
use moe_by_hand::params::{Layout, Params, Role};
use moe_by_hand::rng::Rng;
use moe_by_hand::train::muon::{EPS, MOMENTUM, Muon, QUINTIC, STEPS, hidden};
use moe_by_hand::train::optimizer::{
    BETA1, BETA2, EPS as ADAM_EPS, Optimizer, Step,
};

/// What is wrong in a step of Muon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    NoLookAhead,
    MeanMomentum,
    FourSteps,
    Swapped,
    RootTurned,
    NoRoot,
    RateOfAdamW,
    DecayCoupled,
    ClipLost,
    HeadToo,
}
use Fault::*;

impl Fault {
    pub(crate) const ALL: [(Self, &'static str); 10] = [
        (NoLookAhead, "Muon: m for g + μm"),
        (MeanMomentum, "Muon: (1 − μ)g added to the momentum"),
        (FourSteps, "Muon: four Newton-Schulz steps"),
        (Swapped, "Muon: b and c exchanged"),
        (RootTurned, "Muon: rows/cols under the root"),
        (NoRoot, "Muon: the root missing"),
        (RateOfAdamW, "Muon: hidden matrices at AdamW's rate"),
        (DecayCoupled, "Muon: decay in the gradient (L2)"),
        (ClipLost, "Muon: the factor of clipping lost"),
        (HeadToo, "Muon: moves the head as well"),
    ];
}

const DECAY: f64 = 0.2;
/// Of the hidden matrices' rate to that of the head.
const RATIO: f64 = 4.0;
/// The rates of the steps, and what clipping multiplies their gradients by.
const RATES: [(f64, f64); 3] = [(0.05, 1.0), (0.1, 0.3), (0.02, 1.0)];
/// Names and sizes: a map to more numbers, to fewer, to as many; and the head.
const MATRICES: [(&str, [usize; 2]); 4] =
    [("wide", [3, 8]), ("tall", [7, 4]), ("square", [5, 5]), ("head", [4, 6])];

fn theta() -> (Layout, Params<f64>) {
    let mut layout = Layout::default();
    for (name, shape) in MATRICES {
        layout.builder().param(name, shape, Role::Weight);
    }
    let mut p = layout.zeros();
    Rng::named(1, "θ").fill_normal(&mut p.data, 1.0);
    (layout, p)
}
/// The gradient of all matrices in a step, from 0.
fn gradient(step: usize, len: usize) -> Vec<f64> {
    let mut g = vec![0.0; len];
    Rng::named(step as u64, "gradient").fill_normal(&mut g, 0.5);
    g
}
/// θ after each step, by the library.
pub(crate) fn library() -> Vec<f64> {
    let (layout, mut p) = theta();
    let mut muon = Muon::with(&layout, DECAY, RATIO, 2, hidden);
    let mut dp = layout.grads();
    let steps = (0..).zip(RATES).map(|(i, (lr, scale))| {
        dp.data.copy_from_slice(&gradient(i, layout.len));
        muon.step(&mut p, &dp, Step { t: i + 1, lr, scale });
        p.data.to_vec()
    });
    steps.collect::<Vec<_>>().concat()
}
/// θ after each step, as its authors write it.
pub(crate) fn literal() -> Vec<f64> {
    stepped(None)
}
/// The same with a fault.
pub(crate) fn stepped(fault: Option<Fault>) -> Vec<f64> {
    let is = |f| fault == Some(f);
    let (layout, p) = theta();
    let (mut p, mut all) = (p.data.to_vec(), vec![]);
    let (mut m, mut v) = (vec![0.0; p.len()], vec![0.0; p.len()]);
    for (i, (lr, clip)) in (0..).zip(RATES) {
        let g = gradient(i, p.len());
        let mut at = 0;
        for (name, [rows, cols]) in MATRICES {
            let run = at..at + rows * cols;
            at = run.end;
            let (p, m) = (&mut p[run.clone()], &mut m[run.clone()]);
            let (g, v) = (&g[run.clone()], &mut v[run]);
            if name == "head" && !is(HeadToo) {
                adamw(p, m, v, g, (lr, clip), i + 1);
                continue;
            }
            let mut u = vec![0.0; g.len()];
            for j in 0..g.len() {
                let mut g = g[j] * if is(ClipLost) { 1.0 } else { clip };
                if is(DecayCoupled) {
                    g += DECAY * p[j];
                }
                let new = if is(MeanMomentum) { 1.0 - MOMENTUM } else { 1.0 };
                m[j] = MOMENTUM * m[j] + new * g;
                let ahead = g + MOMENTUM * m[j];
                u[j] = if is(NoLookAhead) { m[j] } else { ahead };
            }
            let o = orthogonal(&u, rows, cols, fault);
            let longer = match () {
                () if is(NoRoot) => 1.0,
                () if is(RootTurned) => rows as f64 / cols as f64,
                () => cols as f64 / rows as f64,
            };
            let lr = lr * if is(RateOfAdamW) { 1.0 } else { RATIO };
            let decay = if is(DecayCoupled) { 0.0 } else { DECAY };
            for j in 0..p.len() {
                p[j] -= lr * (longer.max(1.0).sqrt() * o[j] + decay * p[j]);
            }
        }
        all.extend_from_slice(&p);
    }
    assert_eq!(layout.len, p.len(), "all of θ");
    all
}
/// Five times X ← aX + bXXᵀX + cXXᵀXXᵀX, from X of norm 1: here XXᵀ stands on
/// the left, whichever side of X is the longer one.
fn orthogonal(
    u: &[f64], rows: usize, cols: usize, fault: Option<Fault>,
) -> Vec<f64> {
    let [a, mut b, mut c] = QUINTIC;
    if fault == Some(Swapped) {
        (b, c) = (c, b);
    }
    let norm = dot(u, u).sqrt() + EPS;
    let mut x: Vec<f64> = u.iter().map(|u| u / norm).collect();
    let steps = if fault == Some(FourSteps) { STEPS - 1 } else { STEPS };
    for _ in 0..steps {
        // [rows, rows]
        let mut gram = vec![0.0; rows * rows];
        for i in 0..rows {
            for j in 0..rows {
                let row = |i: usize| &x[i * cols..(i + 1) * cols];
                gram[i * rows + j] = dot(row(i), row(j));
            }
        }
        let times = |y: &[f64]| {
            let mut out = vec![0.0; y.len()];
            for i in 0..rows {
                for k in 0..rows {
                    for j in 0..cols {
                        out[i * cols + j] +=
                            gram[i * rows + k] * y[k * cols + j];
                    }
                }
            }
            out
        };
        let third = times(&x);
        let fifth = times(&third);
        for j in 0..x.len() {
            x[j] = a * x[j] + b * third[j] + c * fifth[j];
        }
    }
    x
}
fn adamw(
    p: &mut [f64], m: &mut [f64], v: &mut [f64], g: &[f64],
    (lr, clip): (f64, f64), t: usize,
) {
    let correct = |beta: f64| 1.0 - beta.powi(t as i32);
    for j in 0..p.len() {
        let g = g[j] * clip;
        m[j] = BETA1 * m[j] + (1.0 - BETA1) * g;
        v[j] = BETA2 * v[j] + (1.0 - BETA2) * g * g;
        let (m, v) = (m[j] / correct(BETA1), v[j] / correct(BETA2));
        p[j] -= lr * (m / (v.sqrt() + ADAM_EPS) + DECAY * p[j]);
    }
}
