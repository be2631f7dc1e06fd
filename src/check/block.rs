//! Chapter: block. Proofs of the block.

use super::tools::{
    Check, D, LONG, built, check, composed, formula, forward, layer_proof,
    random,
};
use crate::block::Block;
use crate::config::Config;
use crate::gradcheck::Report;
use crate::layer::Layer;
use crate::nn::rope::Rope;
use crate::params::Builder;
use std::sync::Arc;

pub(super) const CHECKS: &[Check] = &[
    check("block-forward", block_forward),
    composed(
        "residual-backward",
        residual_backward,
        &["rmsnorm-layer-backward", "attention-layer-backward", "moe-backward"],
    ),
];

fn block(b: Builder) -> Block {
    let c = Config {
        hidden: D,
        heads: 4,
        kv_heads: 2,
        head: 4,
        experts: 5,
        intermediate: 7,
        rms_eps: 0.01,
        ..Config::preset("tiny").unwrap_or_else(|e| panic!("{e}"))
    };
    Block::new(b, &c, Arc::new(Rope::new(4, 5, 100.0)))
}
fn block_forward() -> Report {
    let (l, x) = (built(block), random("x", 10 * D));
    let (b, p) = (&l.layer, &l.p);
    let mut a = b.acts(LONG);
    b.forward(p, &x, &mut a);
    let plus = |x: &[f64], y: Vec<f64>| -> Vec<f64> {
        x.iter().zip(y).map(|(x, y)| x + y).collect()
    };
    let u = forward(&b.norm1, p, &x, LONG);
    let h = plus(&x, forward(&b.attention, p, &u, LONG));
    let u = forward(&b.norm2, p, &h, LONG);
    let y = plus(&h, forward(&b.moe, p, &u, LONG));
    formula("h = x + attention(norm(x))", &a.h, &h).and(formula(
        "y = h + moe(norm(h))",
        &a.y,
        &y,
    ))
}
fn residual_backward() -> Report {
    layer_proof(block, LONG)
}
