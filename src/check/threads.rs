//! Chapter: memory, parallel. Proofs that recomputation and shards change
//! nothing.

use super::model::{recompute, shard_sum};
use super::tools::{Check, composed};

pub(super) const CHECKS: &[Check] = &[
    composed("recompute", recompute, &["model-backward"]),
    composed("shard-sum", shard_sum, &["model-backward"]),
];
