//! Chapter: experts. Proofs of the experts.

use super::parity::{
    ETA, LENGTH, Pair, ROWS, U, gamma, normals, numbers, report, wide,
};
use super::router::{E, idle};
use super::tools::{
    Check, D, SHORT, SINGLE, added, built, check, composed, fact, formula,
    forward, proof, random, sum,
};
use crate::gradcheck::{Function, Report, layer};
use crate::kernel::fast;
use crate::kernel::simd::Isa;
use crate::kernel::vector::dot;
use crate::nn::moe::{self, Experts, Moe};
use crate::params::Builder;
use crate::real::Real;

pub(super) const CHECKS: &[Check] = &[
    check("moe-dispatch", dispatch),
    check("moe-gather", gather),
    check("moe-gather-backward", gather_backward),
    check("moe-combine", combine),
    check("moe-backward-expert", backward_expert),
    check("moe-backward-weight", backward_weight),
    composed(
        "moe-backward",
        layer_backward,
        &[
            "router-backward",
            "swiglu-backward",
            "moe-gather-backward",
            "moe-backward-expert",
            "moe-backward-weight",
        ],
    ),
    check("moe-permutation", permutation),
];

/// Three rows of width 2, two choices each, of four experts, one idle.
const CHOICE: [usize; 6] = [3, 0, 0, 1, 3, 1];
const COUNT: [usize; 4] = [2, 2, 0, 2];
fn slots() -> [usize; 6] {
    let (mut slot, mut start) = ([9; 6], [9; 5]);
    moe::dispatch(&mut slot, &mut start, &CHOICE, &COUNT);
    slot
}
struct Gather;
impl Function for Gather {
    fn forward<T: Real>(&self, x: &[Vec<T>]) -> (Vec<T>, Vec<usize>) {
        let mut sorted = vec![T::ZERO; 12];
        moe::gather_forward(&mut sorted, &x[0], &slots(), 2);
        (sorted, vec![])
    }
    fn backward<T: Real>(&self, _: &[Vec<T>], dy: &[T]) -> Vec<Vec<T>> {
        vec![added(6, |dx| moe::gather_backward(dx, dy, &slots(), 2))]
    }
    fn branches<T: Real>(&self, _: &[Vec<T>]) -> Vec<(&'static str, bool)> {
        vec![("an idle expert", COUNT.contains(&0))]
    }
}
struct Combine;
impl Function for Combine {
    fn forward<T: Real>(&self, x: &[Vec<T>]) -> (Vec<T>, Vec<usize>) {
        let mut y = vec![T::ZERO; 6];
        moe::combine_forward(&mut y, &x[0], &x[1], &slots());
        (y, vec![])
    }
    fn backward<T: Real>(&self, x: &[Vec<T>], dy: &[T]) -> Vec<Vec<T>> {
        let (mut d_o, mut dw) = (x[0].clone(), x[1].clone());
        moe::combine_backward(&mut d_o, &mut dw, dy, &x[0], &x[1], &slots());
        vec![d_o, dw]
    }
    fn branches<T: Real>(&self, _: &[Vec<T>]) -> Vec<(&'static str, bool)> {
        vec![("an idle expert", COUNT.contains(&0))]
    }
}
fn outputs_and_weights() -> [(&'static str, Vec<f64>); 2] {
    [("o", random("o", 12)), ("w", random("w", 6))]
}
fn dispatch() -> Report {
    let (mut slot, mut start) = ([9; 6], [9; 5]);
    moe::dispatch(&mut slot, &mut start, &CHOICE, &COUNT);
    let mut sorted: Vec<usize> = (0..6).collect();
    sorted.sort_by_key(|&i| CHOICE[i]); // stable
    let place = |i| sorted.iter().position(|&s| s == i);
    let placed = (0..6).all(|i| place(i) == Some(slot[i]));
    fact("a stable sort by expert", placed)
        .and(fact("each expert's rows", start == [0, 2, 4, 4, 6]))
}
fn gather() -> Report {
    let x = random("x", 6);
    let got = Gather.forward(std::slice::from_ref(&x)).0;
    let mut want = vec![f64::NAN; 12];
    for (i, s) in slots().into_iter().enumerate() {
        (0..2).for_each(|j| want[s * 2 + j] = x[i / 2 * 2 + j]);
    }
    formula("sorted[slot(t, j)] = xₜ", &got, &want)
}
fn gather_backward() -> Report {
    proof(&Gather, &[("x", random("x", 6))])
}
fn combine() -> Report {
    let [(_, o), (_, w)] = outputs_and_weights();
    let at = |t: usize, j: usize| {
        sum((0..2).map(|c| w[t * 2 + c] * o[slots()[t * 2 + c] * 2 + j]))
    };
    let want: Vec<f64> = (0..6).map(|i| at(i / 2, i % 2)).collect();
    formula("yₜ = Σ w·o", &Combine.forward(&[o, w]).0, &want)
}
fn backward_expert() -> Report {
    let [fast, _] = fast_gradient();
    proof(&Combine, &outputs_and_weights()).only("o").and(fast)
}
fn backward_weight() -> Report {
    let [_, fast] = fast_gradient();
    proof(&Combine, &outputs_and_weights()).only("w").and(fast)
}

fn layer_of(k: usize) -> impl Fn(Builder) -> Moe {
    let sizes = Experts { experts: E, top_k: k, intermediate: 7 };
    move |b| Moe::new(b, D, sizes)
}
fn layer_backward() -> Report {
    idle(layer(layer_of(2), SHORT, D, 2))
        .and(layer(layer_of(1), SHORT, D, 2).of("k = 1"))
        .and(layer(layer_of(E), SHORT, D, 3).of("k = E"))
        .and(layer(layer_of(2), SINGLE, D, 4).of("T = 1"))
}
/// Experts and tokens may be renamed.
fn permutation() -> Report {
    let (l, x) = (built(layer_of(2)), random("x", 6 * D));
    let y = l.forward(&x, SHORT);
    // Expert e becomes e + 2 mod E, and so does its column of scores.
    let mut p = l.p.clone();
    for e in 0..E {
        let to = (e + 2) % E;
        for w in ["w1", "w2", "w3"] {
            let from = l.get(&format!("experts.{e}.{w}"));
            p[l.param(&format!("experts.{to}.{w}"))].copy_from_slice(from);
        }
        let from = l.get("router.w");
        let w = &mut p[l.param("router.w")];
        (0..D).for_each(|i| w[i * E + to] = from[i * E + e]);
    }
    let back = |x: &[f64]| -> Vec<f64> {
        x.chunks(D).rev().flatten().copied().collect()
    };
    let renamed = forward(&l.layer, &p, &x, SHORT);
    formula("experts renamed", &renamed, &y).and(formula(
        "tokens reversed",
        &back(&l.forward(&back(&x), SHORT)),
        &y,
    ))
}

/// T5 of the experts' weighted sum, backward: by their outputs o, by the
/// weights.
pub fn parity_gradient(
    isa: Isa, dy: &[f32], o: &[f32], w: &[f32], slot: &[usize],
) -> [Pair; 2] {
    let (m, d) = (w.len(), o.len() / w.len());
    let k = o.len() / dy.len();
    let (mut d_o, mut dw) = (vec![f32::NAN; m * d], vec![f32::NAN; m]);
    let (to, too) = (&mut d_o, &mut dw);
    isa.run(fast::CombineBackward { d_o: to, dw: too, dy, o, w, slot });
    let (mut want_o, mut want_w) = (vec![0.0; m * d], vec![0.0; m]);
    let [dy, o, w] = [dy, o, w].map(wide);
    moe::combine_backward(&mut want_o, &mut want_w, &dy, &o, &w, slot);
    let size = want_o.clone();
    let by_w = |i: usize| {
        let [dy, o] = [&dy[i / k * d..][..d], &o[slot[i] * d..][..d]]
            .map(|x| x.iter().map(|x| x.abs()).collect::<Vec<_>>());
        gamma(d + 1) * dot(&dy, &o) + d as f64 * ETA
    };
    [
        Pair::new(isa, "combine, backward, o", d_o, want_o, |at| {
            U * size[at].abs() + ETA
        }),
        Pair::new(isa, "combine, backward, w", dw, want_w, by_w),
    ]
}
/// By the experts' outputs and by their weights.
fn fast_gradient() -> [Report; 2] {
    let slot: Vec<usize> = (0..2 * ROWS).rev().collect();
    let (o, w) =
        (normals(2 * ROWS * LENGTH, 1.0, 3), normals(2 * ROWS, 0.4, 4));
    parity_gradient(Isa::current(), &numbers(2), &o, &w, &slot)
        .map(|pair| report([pair]))
}
