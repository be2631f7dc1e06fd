//! Chapter: scaling-out. Hugging Face's names of the parameters, and its order
//! of their values.
//!
//! In its files a linear map is [out, in], and the rotary positions pair
//! column i of a head with column i + d/2; here it is [in, out], and neighbors
//! are paired. So a weight is transposed on its way, and the heads of the
//! queries and keys are reordered: the same map of the same numbers.

use crate::params::{Entry, Role};
use crate::real::Real;

/// Our names and Hugging Face's. Those after the third stand behind
/// `layers.3.` here, behind `model.layers.3.` there; a star is a number.
const NAMES: [(&str, &str); 17] = [
    ("embed", "model.embed_tokens.weight"),
    ("norm.gain", "model.norm.weight"),
    ("head.w", "lm_head.weight"),
    ("norm1.gain", "input_layernorm.weight"),
    ("attention.wq", "self_attn.q_proj.weight"),
    ("attention.wk", "self_attn.k_proj.weight"),
    ("attention.wv", "self_attn.v_proj.weight"),
    ("attention.wo", "self_attn.o_proj.weight"),
    ("attention.bq", "self_attn.q_proj.bias"),
    ("attention.bk", "self_attn.k_proj.bias"),
    ("attention.bv", "self_attn.v_proj.bias"),
    ("attention.bo", "self_attn.o_proj.bias"),
    ("norm2.gain", "post_attention_layernorm.weight"),
    ("moe.router.w", "block_sparse_moe.gate.weight"),
    ("moe.experts.*.w1", "block_sparse_moe.experts.*.w1.weight"),
    ("moe.experts.*.w2", "block_sparse_moe.experts.*.w2.weight"),
    ("moe.experts.*.w3", "block_sparse_moe.experts.*.w3.weight"),
];

/// Hugging Face's name of one of our parameters; a name that Mixtral does not
/// know stays as it is.
///
/// ```
/// assert_eq!(
///     moe_by_hand::hf::hf_name("layers.3.moe.experts.1.w2"),
///     "model.layers.3.block_sparse_moe.experts.1.w2.weight"
/// );
/// ```
pub fn hf_name(name: &str) -> String {
    let block = name.strip_prefix("layers.").and_then(|n| n.split_once('.'));
    let rest = block.map_or(name, |(_, rest)| rest);
    let expert = rest.split('.').find(|part| part.parse::<usize>().is_ok());
    let expert = expert.unwrap_or_default();
    let star = rest.replace(&format!(".{expert}."), ".*.");
    let Some((_, theirs)) = NAMES.iter().find(|n| n.0 == star) else {
        return name.to_string();
    };
    let theirs = theirs.replace('*', expert);
    match block {
        Some((layer, _)) => format!("model.layers.{layer}.{theirs}"),
        None => theirs,
    }
}
/// Where transformers 5 may keep one of our parameters instead: the name of its
/// file's tensor, that tensor's shape, and where the values begin.
///
/// It calls the mixture `mlp`, and joins the experts of a block: `gate_up_proj`
/// is [E, 2F, D], of each expert first w1 and then w3, and `down_proj` is
/// [E, D, F]. The values of each part have the order of [`hf_shape`].
pub(crate) fn joined(
    e: &Entry, experts: usize,
) -> Option<(String, Vec<usize>, usize)> {
    let (layer, rest) = e.name.strip_prefix("layers.")?.split_once(".moe.")?;
    let shape = hf_shape(e);
    if rest == "router.w" {
        return Some((
            format!("model.layers.{layer}.mlp.gate.weight"),
            shape,
            0,
        ));
    }
    let (x, w) = rest.strip_prefix("experts.")?.split_once('.')?;
    let &[out, input] = &shape[..] else { return None };
    let (of, half, name) = match w {
        "w1" => (2, 0, "gate_up_proj"),
        "w3" => (2, 1, "gate_up_proj"),
        "w2" => (1, 0, "down_proj"),
        _ => return None,
    };
    let at = (of * x.parse::<usize>().ok()? + half) * out * input;
    let name = format!("model.layers.{layer}.mlp.experts.{name}");
    Some((name, vec![experts, of * out, input], at))
}
/// The shape that Hugging Face gives a parameter: a linear map is [out, in].
pub fn hf_shape(e: &Entry) -> Vec<usize> {
    match e.role {
        Role::Weight | Role::Residual => {
            e.shape.iter().rev().copied().collect()
        }
        Role::Gain | Role::Bias | Role::Embedding => e.shape.clone(),
    }
}
/// Which row of Hugging Face's queries or keys is our column `j`, heads of
/// size `head`: our neighbors 2i and 2i + 1 are their rows i and i + d/2.
///
/// ```
/// use moe_by_hand::hf::rotary_row;
/// // two heads of size 4
/// let rows: Vec<usize> = (0..8).map(|j| rotary_row(j, 4)).collect();
/// assert_eq!(rows, [0, 2, 1, 3, 4, 6, 5, 7]);
/// ```
pub fn rotary_row(j: usize, head: usize) -> usize {
    let i = j % head;
    j - i + i / 2 + i % 2 * (head / 2) // eq: rope-layout
}
/// For each of our values, where it stands in Hugging Face's order.
fn places(e: &Entry, head: usize) -> impl Iterator<Item = usize> {
    let (rows, cols) = (e.param.rows(), e.param.cols);
    let linear = matches!(e.role, Role::Weight | Role::Residual);
    let turned = [".wq", ".wk", ".bq", ".bk"];
    let turned = turned.iter().any(|end| e.name.ends_with(end));
    let row = move |j| if turned { rotary_row(j, head) } else { j };
    (0..rows * cols).map(move |at| match (at / cols, at % cols) {
        (r, j) if linear => row(j) * rows + r,
        _ => row(at), // a bias is one row
    })
}
/// Our values of a parameter, in Hugging Face's order; also of its gradient
/// or of anything shaped like it.
pub fn to_hf<T: Real>(ours: &[T], e: &Entry, head: usize) -> Vec<T> {
    let mut theirs = vec![T::ZERO; ours.len()];
    for (&v, to) in ours.iter().zip(places(e, head)) {
        theirs[to] = v;
    }
    theirs
}
/// The way back from [`to_hf`]. Sets `ours`.
///
/// # Panics
/// If the lengths differ.
#[track_caller]
pub fn from_hf<T: Real>(ours: &mut [T], theirs: &[T], e: &Entry, head: usize) {
    assert_eq!(ours.len(), theirs.len(), "from_hf: {}", e.name);
    for (v, from) in ours.iter_mut().zip(places(e, head)) {
        *v = theirs[from];
    }
}
