//! Chapter: linear. Proofs of the linear layer.

use super::tools::{
    Check, D, SHORT, built, check, composed, formula, layer_proof, product,
    random,
};
use crate::gradcheck::{Report, layer};
use crate::nn::linear::Linear;
use crate::params::Builder;

pub(super) const CHECKS: &[Check] = &[
    check("linear-forward", forward),
    composed("linear-backward-input", backward_input, &["matmul-backward"]),
    composed("linear-backward-weight", backward_weight, &["matmul-backward"]),
    composed("linear-backward", backward, &["matmul-backward"]),
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
