//! Chapter: random. Proofs of the parameters' first values.

use super::tools::{Check, check, invariant};
use crate::gradcheck::Report;
use crate::params::{Init, Layout, Role};

pub(super) const CHECKS: &[Check] =
    &[check("init-he", he), check("init-residual", residual)];

/// The standard deviation of a matrix [50, 200].
fn spread(role: Role, init: Init) -> f64 {
    let mut layout = Layout::default();
    let w = layout.builder().param("w", [50, 200], role);
    let p = layout.init::<f64>(0, init, 8);
    (p[w].iter().map(|w| w * w).sum::<f64>() / 10_000.0).sqrt()
}
fn he() -> Report {
    // The deviation of 10⁴ numbers is known to 1/√(2·10⁴) = 0.7 %.
    let off = |role, n: f64| spread(role, Init::He) / (2.0 / n).sqrt() - 1.0;
    let weight = off(Role::Weight, 50.0);
    let table = off(Role::Embedding, 200.0);
    invariant("σ = √(2/inputs)", weight.abs(), 0.035).with(
        "of an embedding, √(2/width)",
        table.abs(),
        0.035,
    )
}
fn residual() -> Report {
    let init = Init::Normal(0.02);
    let ratio = spread(Role::Residual, init) / 0.02 * 16f64.sqrt();
    invariant("σ/√(2L)", (ratio - 1.0).abs(), 0.035)
}
