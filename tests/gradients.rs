//! Chapter: gradcheck. Every equation of `equations.toml` by its proof in
//! `src/check`: one test each, with the literal id.
#![allow(missing_docs, reason = "a test is documented by its name")]

use moe_by_hand::check;

#[test]
fn matmul() {
    check::assert("matmul");
}

#[test]
fn matmul_transposed_b() {
    check::assert("matmul-transposed-b");
}

#[test]
fn matmul_backward() {
    check::assert("matmul-backward");
}

#[test]
fn dual_number() {
    check::assert("dual-number");
}

#[test]
fn prng_lcg() {
    check::assert("prng-lcg");
}

#[test]
fn gaussian_box_muller() {
    check::assert("gaussian-box-muller");
}

#[test]
fn init_he() {
    check::assert("init-he");
}

#[test]
fn init_residual() {
    check::assert("init-residual");
}

#[test]
fn lse_forward() {
    check::assert("lse-forward");
}

#[test]
fn lse_backward() {
    check::assert("lse-backward");
}

#[test]
fn softmax_forward() {
    check::assert("softmax-forward");
}

#[test]
fn softmax_backward() {
    check::assert("softmax-backward");
}

#[test]
fn silu_forward() {
    check::assert("silu-forward");
}

#[test]
fn silu_backward() {
    check::assert("silu-backward");
}

#[test]
fn glu_forward() {
    check::assert("glu-forward");
}

#[test]
fn glu_backward() {
    check::assert("glu-backward");
}

#[test]
fn linear_forward() {
    check::assert("linear-forward");
}

#[test]
fn linear_backward_input() {
    check::assert("linear-backward-input");
}

#[test]
fn linear_backward_weight() {
    check::assert("linear-backward-weight");
}

#[test]
fn linear_backward() {
    check::assert("linear-backward");
}

#[test]
fn linear_forward_bias() {
    check::assert("linear-forward-bias");
}

#[test]
fn linear_backward_bias() {
    check::assert("linear-backward-bias");
}

#[test]
fn embedding_forward() {
    check::assert("embedding-forward");
}

#[test]
fn embedding_backward() {
    check::assert("embedding-backward");
}

#[test]
fn rmsnorm_forward() {
    check::assert("rmsnorm-forward");
}

#[test]
fn rmsnorm_backward() {
    check::assert("rmsnorm-backward");
}

#[test]
fn rmsnorm_backward_gamma() {
    check::assert("rmsnorm-backward-gamma");
}

#[test]
fn rmsnorm_layer_backward() {
    check::assert("rmsnorm-layer-backward");
}

#[test]
fn rmsnorm_orthogonal() {
    check::assert("rmsnorm-orthogonal");
}

#[test]
fn swiglu_forward() {
    check::assert("swiglu-forward");
}

#[test]
fn swiglu_backward() {
    check::assert("swiglu-backward");
}

#[test]
fn swiglu_layer_backward() {
    check::assert("swiglu-layer-backward");
}

#[test]
fn block_forward() {
    check::assert("block-forward");
}

#[test]
fn residual_backward() {
    check::assert("residual-backward");
}

#[test]
fn causal_mask() {
    check::assert("causal-mask");
}

#[test]
fn causal_softmax_backward() {
    check::assert("causal-softmax-backward");
}

#[test]
fn attention_forward() {
    check::assert("attention-forward");
}

#[test]
fn attention_backward() {
    check::assert("attention-backward");
}

#[test]
fn attention_delta() {
    check::assert("attention-delta");
}

#[test]
fn gqa_reduce() {
    check::assert("gqa-reduce");
}

#[test]
fn attention_layer_backward() {
    check::assert("attention-layer-backward");
}

#[test]
fn rope_frequencies() {
    check::assert("rope-frequencies");
}

#[test]
fn rope_ntk_base() {
    check::assert("rope-ntk-base");
}

#[test]
fn rope_rotation() {
    check::assert("rope-rotation");
}

#[test]
fn rope_relative() {
    check::assert("rope-relative");
}

#[test]
fn rope_backward() {
    check::assert("rope-backward");
}

#[test]
fn rope_layout() {
    check::assert("rope-layout");
}

#[test]
fn router_topk() {
    check::assert("router-topk");
}

#[test]
fn topk_renorm_backward() {
    check::assert("topk-renorm-backward");
}

#[test]
fn router_short_form() {
    check::assert("router-short-form");
}

#[test]
fn router_backward() {
    check::assert("router-backward");
}

#[test]
fn l1_normalize() {
    check::assert("l1-normalize");
}

#[test]
fn l1_normalize_backward() {
    check::assert("l1-normalize-backward");
}

#[test]
fn moe_dispatch() {
    check::assert("moe-dispatch");
}

#[test]
fn moe_gather() {
    check::assert("moe-gather");
}

#[test]
fn moe_gather_backward() {
    check::assert("moe-gather-backward");
}

#[test]
fn moe_combine() {
    check::assert("moe-combine");
}

#[test]
fn moe_backward_expert() {
    check::assert("moe-backward-expert");
}

#[test]
fn moe_backward_weight() {
    check::assert("moe-backward-weight");
}

#[test]
fn moe_backward() {
    check::assert("moe-backward");
}

#[test]
fn moe_permutation() {
    check::assert("moe-permutation");
}

#[test]
fn aux_load_balance() {
    check::assert("aux-load-balance");
}

#[test]
fn aux_backward() {
    check::assert("aux-backward");
}

#[test]
fn aux_scores_backward() {
    check::assert("aux-scores-backward");
}

#[test]
fn z_loss() {
    check::assert("z-loss");
}

#[test]
fn z_loss_backward() {
    check::assert("z-loss-backward");
}

#[test]
fn model_forward() {
    check::assert("model-forward");
}

#[test]
fn model_backward() {
    check::assert("model-backward");
}

#[test]
fn loss_total() {
    check::assert("loss-total");
}

#[test]
fn cross_entropy() {
    check::assert("cross-entropy");
}

#[test]
fn cross_entropy_grad() {
    check::assert("cross-entropy-grad");
}

#[test]
fn perplexity() {
    check::assert("perplexity");
}

#[test]
fn grad_clip_global() {
    check::assert("grad-clip-global");
}

#[test]
fn adam_bias_correction() {
    check::assert("adam-bias-correction");
}

#[test]
fn adamw() {
    check::assert("adamw");
}

#[test]
fn lr_warmup() {
    check::assert("lr-warmup");
}

#[test]
fn lr_cosine() {
    check::assert("lr-cosine");
}

#[test]
fn round_to_nearest_even() {
    check::assert("round-to-nearest-even");
}

#[test]
fn loss_scale_update() {
    check::assert("loss-scale-update");
}

#[test]
fn sample_temperature() {
    check::assert("sample-temperature");
}

#[test]
fn sample_top_k() {
    check::assert("sample-top-k");
}

#[test]
fn sample_top_p() {
    check::assert("sample-top-p");
}

#[test]
fn sample_inverse_cdf() {
    check::assert("sample-inverse-cdf");
}

#[test]
fn kv_cache() {
    check::assert("kv-cache");
}

#[test]
fn recompute() {
    check::assert("recompute");
}

#[test]
fn shard_sum() {
    check::assert("shard-sum");
}
