//! Chapter: router. Proofs of the router.

use super::tools::{
    Check, D, LONG, N, SHORT, SINGLE, added, check, composed, fact, formula,
    proof, random,
};
use crate::gradcheck::{Function, Report, layer};
use crate::kernel::softmax as soft;
use crate::nn::router::{self, Router};
use crate::params::Builder;
use crate::real::Real;

pub(super) const CHECKS: &[Check] = &[
    check("router-topk", topk),
    check("topk-renorm-backward", renorm_backward),
    composed(
        "router-short-form",
        short_form,
        &["softmax-backward", "topk-renorm-backward"],
    )
    .inexact(
        "it rests on e^(a + b) = e^a·e^b, and the field has only one law \
              of exp, e^(a + ln b) = e^a·b",
    ),
    composed(
        "router-backward",
        layer_backward,
        &[
            "linear-backward",
            "softmax-backward",
            "topk-renorm-backward",
            "z-loss-backward",
        ],
    ),
];

/// The two most probable of N, from their scores.
struct Chosen;
impl Function for Chosen {
    fn forward<T: Real>(&self, x: &[Vec<T>]) -> (Vec<T>, Vec<usize>) {
        let (mut w, mut choice) = ([T::ZERO; 2], [0; 2]);
        router::top_k(&mut choice, &x[0]);
        router::renormalize_forward(&mut w, &x[0], &choice);
        (w.to_vec(), choice.to_vec())
    }
    fn backward<T: Real>(&self, x: &[Vec<T>], dw: &[T]) -> Vec<Vec<T>> {
        let (w, choice) = self.forward(x);
        vec![added(N, |dp| {
            router::renormalize_backward(dp, dw, &w, &x[0], &choice);
        })]
    }
    fn branches<T: Real>(&self, x: &[Vec<T>]) -> Vec<(&'static str, bool)> {
        vec![("an expert not chosen", self.forward(x).1.len() < N)]
    }
}
fn probabilities() -> Vec<f64> {
    let mut p = random("router", N);
    soft::softmax_forward(&mut p);
    p
}
fn topk() -> Report {
    let p = probabilities();
    let (w, choice) = Chosen.forward(std::slice::from_ref(&p));
    let mut order: Vec<usize> = (0..N).collect();
    order.sort_by(|&a, &b| p[b].total_cmp(&p[a]));
    let two = p[order[0]] + p[order[1]];
    let want = [p[order[0]] / two, p[order[1]] / two];
    let mut ties = [9; 3];
    router::top_k(&mut ties, &[0.1, 0.3, 0.3, 0.3]);
    formula("w = p / Σ p over the chosen", &w, &want)
        .and(fact("the k largest, largest first", choice == order[..2]))
        .and(fact("ties go to the lowest index", ties == [1, 2, 3]))
}
fn renorm_backward() -> Report {
    proof(&Chosen, &[("p", probabilities())])
}
fn short_form() -> Report {
    let (z, dw) = (random("router", N), random("dw", 2));
    let p = probabilities();
    let (w, choice) = Chosen.forward(std::slice::from_ref(&p));
    // the long way: through all N probabilities
    let mut long = Chosen.backward(std::slice::from_ref(&p), &dw).remove(0);
    soft::softmax_backward(&mut long, &p);
    // the short way: w is the softmax of the chosen scores alone
    let (mut few, mut d) = ([z[choice[0]], z[choice[1]]], dw.clone());
    soft::softmax_forward(&mut few);
    soft::softmax_backward(&mut d, &few);
    let mut short = vec![0.0; N];
    (short[choice[0]], short[choice[1]]) = (d[0], d[1]);
    formula("softmax(z)/Σ = softmax of the chosen z", &w, &few).and(formula(
        "z̄, the long and the short way",
        &long,
        &short,
    ))
}

/// How many experts there are.
pub(super) const E: usize = 5;
/// The report of k = 2 on `SHORT`, with a seed that leaves an expert idle.
pub(super) fn idle(r: Report) -> Report {
    let idle = (0..E).any(|e| !r.choices.contains(&e));
    let all = r.choices.len() == 2 * SHORT.rows();
    r.and(fact("an expert is idle", idle)).and(fact("2 choices a row", all))
}
fn router(k: usize) -> impl Fn(Builder) -> Router {
    move |b| Router::new(b, D, E, k)
}
fn layer_backward() -> Report {
    idle(layer(router(2), SHORT, D, 2))
        .and(layer(router(1), LONG, D, 2).of("k = 1"))
        .and(layer(router(E), LONG, D, 3).of("k = E"))
        .and(layer(router(2), SINGLE, D, 4).of("T = 1"))
}
