//! Chapter: sampling. The model that is part of the command; README.md in its
//! folder says how it was trained.

use moe_by_hand::error::Result;
use moe_by_hand::hf;
use moe_by_hand::model::Model;
use moe_by_hand::params::Params;

/// What `generate` says when it takes this model.
pub(crate) const NOTE: &str = "without --model, the small model that is part of this command writes; \
     it was trained on Shakespeare's plays";
const CONFIG: &str = include_str!("model/config.json");
const WEIGHTS: &[u8] = include_bytes!("model/model.safetensors");

/// The model, and its weights.
pub(crate) fn load() -> Result<(Model, Params<f32>)> {
    hf::load_bytes("the model that is part of this command", CONFIG, WEIGHTS)
}
