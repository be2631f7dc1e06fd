//! Chapter: swiglu. Proofs of SwiGLU.

use super::tools::{
    Check, D, SHORT, built, check, composed, formula, layer_proof, product,
    random,
};
use crate::gradcheck::Report;
use crate::nn::swiglu::SwiGlu;
use crate::params::Builder;

pub(super) const CHECKS: &[Check] = &[
    check("swiglu-forward", forward),
    composed("swiglu-backward", backward, &["linear-backward", "glu-backward"]),
    composed("swiglu-layer-backward", backward, &["swiglu-backward"]),
];

fn swiglu(b: Builder) -> SwiGlu {
    SwiGlu::new(b, D, 5)
}
fn forward() -> Report {
    let (l, x) = (built(swiglu), random("x", 6 * D));
    let [gate, up] = ["w1", "w3"].map(|w| product(&x, l.get(w), D));
    let silu = |z: f64| z / (1.0 + (-z).exp());
    let hidden: Vec<f64> =
        gate.iter().zip(&up).map(|(&z, u)| silu(z) * u).collect();
    let want = product(&hidden, l.get("w2"), 5);
    formula("(silu(x·W₁)·x·W₃)·W₂", &l.forward(&x, SHORT), &want)
}
fn backward() -> Report {
    layer_proof(swiglu, SHORT)
}
