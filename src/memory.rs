//! Chapter: model. How much memory and work a model takes, asked before any of
//! it is taken.

use crate::config::Config;
use crate::error::{Error, Result};
use crate::layer::Shape;
use serde::Serialize;
use std::fmt::Display;
use std::fs;

/// Bytes of θ in numbers of type `T`.
pub fn weights<T>(c: &Config) -> u64 {
    c.total().saturating_mul(size_of::<T>() as u64)
}
/// Bytes that [`load`] takes: θ, the rotary table, and the largest tensor on
/// its way, as bytes (of up to f64) and as numbers.
///
/// [`load`]: crate::hf::load
pub fn loading<T>(c: &Config) -> u64 {
    let [d, v, f] = [c.hidden, c.vocab, c.intermediate].map(|n| n as u128);
    let largest = d * v.max(f) * (8 + size_of::<T>() as u128);
    let all = u128::from(weights::<T>(c)) + largest + rotary(c);
    all.try_into().unwrap_or(u64::MAX)
}
/// cos and sin of half a head's columns at each position, in f64.
fn rotary(c: &Config) -> u128 {
    8 * c.context as u128 * c.head as u128
}
/// Bytes of the keys and values of a whole context, in f32.
///
/// 2·L·T·K·d numbers: what one key head instead of H saves.
pub fn cache(c: &Config) -> u64 {
    let [l, t, k, d] =
        [c.layers, c.context, c.kv_heads, c.head].map(|n| n as u128);
    (8 * l * t * k * d).try_into().unwrap_or(u64::MAX)
}

/// Bytes that training takes, in f32.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Training {
    /// θ.
    pub weights: u64,
    /// One gradient for each shard.
    pub gradients: u64,
    /// m and v of `AdamW`.
    pub moments: u64,
    /// What the shards' forward passes keep, the gradients of that, and the
    /// rotary table.
    pub activations: u64,
}
impl Training {
    /// For batches of this shape, in so many shards.
    pub fn new(c: &Config, s: Shape, shards: usize, recompute: bool) -> Self {
        let saturate = |n: u128| n.try_into().unwrap_or(u64::MAX);
        let theta = weights::<f32>(c);
        // The activations of all shards together have the batch's rows.
        let rows = activations(c, s, recompute);
        let fixed = shards as u128 * per_shard(c, recompute) + rotary(c);
        Self {
            weights: theta,
            gradients: theta.saturating_mul(shards as u64),
            moments: theta.saturating_mul(2),
            activations: saturate(rows + fixed),
        }
    }
    /// All of it.
    pub fn total(&self) -> u64 {
        let parts = [self.gradients, self.moments, self.activations];
        parts.into_iter().fold(self.weights, u64::saturating_add)
    }
}
/// Bytes that grow with the rows of the batch: the fields of [`ModelActs`]
/// and [`ModelGrads`], and of what they hold.
///
/// [`ModelActs`]: crate::model::ModelActs
/// [`ModelGrads`]: crate::model::ModelGrads
fn activations(c: &Config, s: Shape, recompute: bool) -> u128 {
    let of = |n: usize| n as u128;
    let (d, l, v, t) = (of(c.hidden), of(c.layers), of(c.vocab), of(s.time));
    let (e, k, f) = (of(c.experts), of(c.top_k), of(c.intermediate));
    let (q, kv) = (of(c.heads) * of(c.head), of(c.kv_heads) * of(c.head));
    // y of two norms, attention, mixture and block, and h; 1/rms twice
    let stream = 6 * d + 2;
    let attention = 2 * q + 2 * kv + of(c.heads) * t; // q, mix; k, v; prob
    let router = k + e + 1; // weight, prob, lse
    let experts = k * (2 * d + 3 * f); // sorted, y; gate, up, hidden
    let indices = 2 * k * size_of::<usize>() as u128; // choice, slot
    let block = 4 * (stream + attention + router + experts) + indices;
    let kept = if recompute { 1 } else { l };
    // norm.y and 1/rms, logits: once kept and once as gradients
    let ends = 4 * 2 * (d + 1 + v);
    let rest = 4 * ((l + 1) * d + 1 + d); // stream, lse; dx
    let n = of(s.batch) * t;
    n * ((kept + 1) * block + ends + rest) // one more block: its gradients
}
/// Bytes for each shard, whatever its rows: sums and counts by expert.
fn per_shard(c: &Config, recompute: bool) -> u128 {
    let (l, e) = (c.layers as u128, c.experts as u128);
    let kept = if recompute { 1 } else { l };
    let stats = 4 * (2 * e + 1);
    let indices = (2 * e + 1) * size_of::<usize>() as u128; // count, start
    2 * l * stats + (kept + 1) * (stats + indices)
}

/// Floating-point operations for one token, forward, in sequences of this
/// length: 2·(active parameters of linear maps) + 4·L·H·d·T.
///
/// A product with a weight is one multiplication and one addition. Scores and
/// mixing multiply the whole T × T square, as the kernel does, of which the
/// causal mask needs half. Source: Kaplan et al. 2020, table 1.
///
/// ```
/// use moe_by_hand::{config::Config, memory::flops_forward};
/// let tiny = Config::preset("tiny").unwrap();
/// // In each of 2 blocks: 4·16 query columns, 2·16 of keys and values, the
/// // output, the router, 3 maps in each of 2 experts; then the head.
/// let block = 64 * 64 + 2 * 64 * 16 + 64 * 64 + 64 * 4 + 2 * 3 * 64 * 128;
/// let linear = 2 * (2 * block + 64 * 1000);
/// assert_eq!(flops_forward(&tiny, 10), linear + 4 * 2 * 64 * 10);
/// ```
pub fn flops_forward(c: &Config, time: usize) -> u64 {
    let of = |n: usize| n as u128;
    let gains = of(c.hidden) * (2 * of(c.layers) + 1);
    let embedding = of(c.vocab) * of(c.hidden); // read, not multiplied
    let linear = u128::from(c.active()).saturating_sub(embedding + gains);
    let heads = of(c.layers) * of(c.heads) * of(c.head);
    let all = 2 * linear + 4 * heads * of(time);
    all.try_into().unwrap_or(u64::MAX)
}
/// The same for training: backward multiplies twice where forward does once,
/// for x̄ and for W̄.
pub fn flops_training(c: &Config, time: usize) -> u64 {
    flops_forward(c, time).saturating_mul(3)
}

/// Bytes that a program can still have, if the system says: what Linux
/// calls available, or a container's limit if that is lower.
pub fn available() -> Option<u64> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/meminfo");
    let line = info.lines().find_map(|l| l.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|l| l.split_whitespace().next()?.parse().ok());
    let free = kib.map(|k: u64| k.saturating_mul(1024));
    // version 2: the own group, or what a container sees as the root; then 1
    let groups = read("/proc/self/cgroup");
    let own = groups.lines().find_map(|l| l.strip_prefix("0::"));
    let limits = [
        format!("/sys/fs/cgroup{}/memory.max", own.unwrap_or_default()),
        "/sys/fs/cgroup/memory.max".to_string(),
        "/sys/fs/cgroup/memory/memory.limit_in_bytes".to_string(),
    ];
    // a group without a limit says "max", which is no number
    let limits = limits.iter().filter_map(|l| read(l).trim().parse().ok());
    limits.chain(free).min()
}
/// Refuses what does not fit.
///
/// # Errors
/// If more is needed than available, with both numbers.
pub fn check(what: impl Display, need: u64) -> Result<()> {
    match available() {
        Some(limit) if need > limit => Err(Error::input(
            format!("the memory for {what}"),
            human(need),
            format!("{} are available", human(limit)),
            "choose a smaller model or batch, or a machine with more memory",
        )),
        _ => Ok(()),
    }
}
/// Bytes for people, in powers of 1024.
///
/// ```
/// assert_eq!(moe_by_hand::memory::human(1536), "1.5 KiB");
/// assert_eq!(moe_by_hand::memory::human(12), "12 B");
/// ```
pub fn human(bytes: u64) -> String {
    let (mut x, mut unit) = (bytes as f64, "B");
    for larger in ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"] {
        if x < 1024.0 {
            break;
        }
        (x, unit) = (x / 1024.0, larger);
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{x:.1} {unit}") }
}
