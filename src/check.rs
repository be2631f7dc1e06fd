//! Chapter: gradcheck. The list of proofs: for each equation, what is measured
//! of it.
//!
//! `tests/` runs this list, `moe check` prints it, and the book's map shows
//! its errors. What it measures are the rungs T1 to T5 and T7.

mod kernels;
mod layers;
mod model;
pub mod parity;
mod sampling;
mod training;

use crate::config::Config;
use crate::gradcheck::Report;
use std::panic;

/// The proof of one equation.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// Of the equation, as in `equations.toml`.
    pub id: &'static str,
    /// Measures it.
    pub run: fn() -> Report,
    /// The equations that it is composed of. Where one of them is wrong, this
    /// one is too, and the fault is to be sought there.
    pub of: &'static [&'static str],
}

/// Every proof, in the order of the chapters.
pub static CHECKS: &[Check] = &[
    // Chapter: matmul
    check("matmul", kernels::matmul),
    check("matmul-transposed-b", kernels::matmul_transposed_b),
    check("matmul-backward", kernels::matmul_backward),
    // Chapter: gradcheck
    check("dual-number", kernels::dual_number),
    // Chapter: random
    check("prng-lcg", training::prng_lcg),
    check("gaussian-box-muller", training::box_muller),
    check("init-he", training::init_he),
    check("init-residual", training::init_residual),
    // Chapter: softmax
    check("lse-forward", kernels::lse_forward),
    check("lse-backward", kernels::lse_backward),
    check("softmax-forward", kernels::softmax_forward),
    composed(
        "softmax-backward",
        kernels::softmax_backward,
        &["softmax-forward"],
    ),
    // Chapter: silu
    check("silu-forward", kernels::silu_forward),
    check("silu-backward", kernels::silu_backward),
    check("glu-forward", kernels::glu_forward),
    composed("glu-backward", kernels::glu_backward, &["silu-backward"]),
    // Chapter: linear
    check("linear-forward", layers::linear_forward),
    composed(
        "linear-backward-input",
        layers::linear_backward_input,
        &["matmul-backward"],
    ),
    composed(
        "linear-backward-weight",
        layers::linear_backward_weight,
        &["matmul-backward"],
    ),
    composed("linear-backward", layers::linear_backward, &["matmul-backward"]),
    check("embedding-forward", kernels::embedding_forward),
    check("embedding-backward", kernels::embedding_backward),
    // Chapter: rmsnorm
    check("rmsnorm-forward", kernels::rmsnorm_forward),
    check("rmsnorm-backward", kernels::rmsnorm_backward),
    check("rmsnorm-backward-gamma", kernels::rmsnorm_backward_gamma),
    composed(
        "rmsnorm-layer-backward",
        layers::rmsnorm_backward,
        &["rmsnorm-backward", "rmsnorm-backward-gamma"],
    ),
    composed(
        "rmsnorm-orthogonal",
        kernels::rmsnorm_orthogonal,
        &["rmsnorm-backward"],
    ),
    // Chapter: swiglu
    check("swiglu-forward", layers::swiglu_forward),
    composed(
        "swiglu-backward",
        layers::swiglu_backward,
        &["linear-backward", "glu-backward"],
    ),
    composed(
        "swiglu-layer-backward",
        layers::swiglu_backward,
        &["swiglu-backward"],
    ),
    // Chapter: block
    check("block-forward", layers::block_forward),
    composed(
        "residual-backward",
        layers::residual_backward,
        &["rmsnorm-layer-backward", "attention-layer-backward", "moe-backward"],
    ),
    // Chapter: attention
    check("causal-mask", kernels::causal_mask),
    composed(
        "causal-softmax-backward",
        kernels::causal_softmax_backward,
        &["softmax-backward"],
    ),
    check("attention-forward", layers::attention_forward),
    composed(
        "attention-backward",
        kernels::attention_backward,
        &["matmul-backward", "causal-softmax-backward"],
    ),
    check("attention-delta", kernels::attention_delta),
    // Chapter: heads
    composed("gqa-reduce", kernels::gqa_reduce, &["attention-backward"]),
    composed(
        "attention-layer-backward",
        layers::attention_backward,
        &["linear-backward", "rope-backward", "attention-backward"],
    ),
    // Chapter: rope
    check("rope-frequencies", kernels::rope_frequencies),
    check("rope-ntk-base", kernels::rope_ntk_base),
    check("rope-rotation", kernels::rope_rotation),
    check("rope-relative", kernels::rope_relative),
    check("rope-backward", kernels::rope_backward),
    check("rope-layout", layers::rope_layout),
    // Chapter: router
    check("router-topk", kernels::router_topk),
    check("topk-renorm-backward", kernels::topk_renorm_backward),
    composed(
        "router-short-form",
        kernels::router_short_form,
        &["softmax-backward", "topk-renorm-backward"],
    ),
    composed(
        "router-backward",
        layers::router_backward,
        &[
            "linear-backward",
            "softmax-backward",
            "topk-renorm-backward",
            "z-loss-backward",
        ],
    ),
    // Chapter: experts
    check("moe-dispatch", kernels::moe_dispatch),
    check("moe-gather", kernels::moe_gather),
    check("moe-gather-backward", kernels::moe_gather_backward),
    check("moe-combine", kernels::moe_combine),
    check("moe-backward-expert", kernels::moe_backward_expert),
    check("moe-backward-weight", kernels::moe_backward_weight),
    composed(
        "moe-backward",
        layers::moe_backward,
        &[
            "router-backward",
            "swiglu-backward",
            "moe-gather-backward",
            "moe-backward-expert",
            "moe-backward-weight",
        ],
    ),
    check("moe-permutation", layers::moe_permutation),
    // Chapter: balance
    check("aux-load-balance", kernels::balance_forward),
    check("aux-backward", kernels::balance_backward),
    composed(
        "aux-scores-backward",
        kernels::balance_scores,
        &["aux-backward", "softmax-backward"],
    ),
    check("z-loss", model::z_loss),
    composed("z-loss-backward", kernels::z_loss_backward, &["softmax-forward"]),
    // Chapter: model
    check("model-forward", model::forward),
    composed(
        "model-backward",
        model::backward,
        &[
            "embedding-backward",
            "residual-backward",
            "cross-entropy-grad",
            "aux-backward",
        ],
    ),
    check("loss-total", model::loss_total),
    // Chapter: cross-entropy
    check("cross-entropy", kernels::cross_entropy),
    check("cross-entropy-grad", kernels::cross_entropy_grad),
    check("perplexity", training::perplexity),
    // Chapter: optimizer
    check("grad-clip-global", training::clip),
    check("adam-bias-correction", training::bias_correction),
    check("adamw", training::adamw),
    check("lr-warmup", training::warmup),
    check("lr-cosine", training::cosine),
    // Chapter: sampling
    check("sample-temperature", sampling::temperature),
    check("sample-top-k", sampling::top_k),
    check("sample-top-p", sampling::top_p),
    check("sample-inverse-cdf", sampling::inverse_cdf),
    // Chapter: kv-cache
    check("kv-cache", layers::kv_cache),
    // Chapter: measuring
    composed("recompute", model::recompute, &["model-backward"]),
    // Chapter: parallel
    composed("shard-sum", model::shard_sum, &["model-backward"]),
];
const fn check(id: &'static str, run: fn() -> Report) -> Check {
    composed(id, run, &[])
}
const fn composed(
    id: &'static str, run: fn() -> Report, of: &'static [&'static str],
) -> Check {
    Check { id, run, of }
}

/// The sizes of the whole model that is proven: small, so that each of its
/// parameters counts.
pub fn config() -> Config {
    Config {
        vocab: 11,
        hidden: 12,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head: 4,
        experts: 5,
        top_k: 2,
        intermediate: 7,
        context: 8,
        rms_eps: 0.01,
        rope_theta: 100.0,
        aux: 0.01,
        init: 0.02,
    }
}

/// The proof of the equation `id`, if there is one.
pub fn find(id: &str) -> Option<&'static Check> {
    CHECKS.iter().find(|c| c.id == id)
}

impl Check {
    /// What is measured, or the words of the panic that ended it.
    ///
    /// # Errors
    /// If the check panics: a wrong shape, a step across a discrete choice.
    pub fn measure(&self) -> Result<Report, String> {
        panic::catch_unwind(self.run).map_err(|cause| {
            let text = cause.downcast_ref::<String>().cloned();
            let text =
                text.or(cause.downcast_ref::<&str>().map(|s| s.to_string()));
            text.unwrap_or_else(|| "it panicked".into())
        })
    }
    /// Whether something is measured, and every bound holds.
    pub fn holds(&self) -> bool {
        self.measure().is_ok_and(|report| report.holds())
    }
    /// The innermost equation that this one is composed of and that does not
    /// hold: where to look for the fault.
    pub fn root(&self) -> Option<&'static str> {
        let parts = self.of.iter().filter_map(|id| find(id));
        for part in parts {
            if let Some(root) = part.root() {
                return Some(root);
            }
            if !part.holds() {
                return Some(part.id);
            }
        }
        None
    }
}

/// Proves the equation `id`.
///
/// # Panics
/// If it has no check, or one of its bounds is broken: with tensor, index,
/// both numbers, their ratio, and what that usually means; or, where the
/// fault lies in an equation that this one is composed of, with its name.
#[track_caller]
pub fn assert(id: &str) {
    let Some(check) = find(id) else {
        panic!("there is no check of `{id}`; add one to src/check.rs");
    };
    let outcome = check.measure();
    if outcome.as_ref().is_ok_and(Report::holds) {
        return;
    }
    if let Some(root) = check.root() {
        panic!("{id} rests on {root}, which does not hold: mend that first");
    }
    match outcome {
        Ok(report) => report.assert(id),
        Err(panic) => panic!("{id} could not be measured: {panic}"),
    }
}
