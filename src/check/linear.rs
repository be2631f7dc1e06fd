//! Chapter: linear. Proofs of the linear layer.

use super::tools::{
    Check, D, SHORT, add_bias, added, built, check, composed, formula,
    layer_proof, product, random, sum,
};
use crate::gradcheck::{Report, layer};
use crate::nn::linear::{Linear, linear_bias_backward};
use crate::params::Builder;

pub(super) const CHECKS: &[Check] = &[
    check("linear-forward", forward),
    composed("linear-backward-input", backward_input, &["matmul-backward"]),
    composed("linear-backward-weight", backward_weight, &["matmul-backward"]),
    composed("linear-backward", backward, &["matmul-backward"]),
    check("linear-forward-bias", forward_bias),
    check("linear-backward-bias", backward_bias),
];

fn linear(b: Builder) -> Linear {
    Linear::new(b, D, 5)
}
fn forward() -> Report {
    let (l, x) = (built(linear), random("x", 6 * D));
    formula("Y = X·W", &l.forward(&x, SHORT), &product(&x, l.get("w"), D))
}
fn backward() -> Report {
    layer_proof(linear, SHORT)
}
fn backward_input() -> Report {
    layer(linear, SHORT, D, 1).only("x")
}
fn backward_weight() -> Report {
    layer(linear, SHORT, D, 1).only("w")
}

fn biased(b: Builder) -> Linear {
    Linear::with_bias(b, D, 5)
}
fn forward_bias() -> Report {
    let (l, x) = (built(biased), random("x", 6 * D));
    let mut want = product(&x, l.get("w"), D);
    add_bias(&mut want, l.get("b"));
    formula("Y = X·W + 1·bᵀ", &l.forward(&x, SHORT), &want)
}
fn backward_bias() -> Report {
    // A bias is the weight of one more input, which is always 1.
    let dy = random("dy", 6 * 5);
    let got = added(5, |db| linear_bias_backward(db, &dy));
    let column = |j: usize| sum((0..6).map(|i| dy[i * 5 + j]));
    let want: Vec<f64> = (0..5).map(column).collect();
    layer_proof(biased, SHORT).and(formula("b̄ = Ȳᵀ·1", &got, &want))
}
