//! Chapter: model. How much memory and work a model takes, asked before any of
//! it is taken.

use crate::config::Config;
use crate::error::{Error, Result};
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
/// 2·L·T·K·dₕ numbers: query heads that share a key head share its cache.
///
/// ```
/// use moe_by_hand::{config::Config, memory::cache};
/// let mut c = Config::preset("tiny").unwrap(); // a context of 512
/// assert_eq!(cache(&c), 2 * 2 * 512 * 1 * 16 * 4);
/// c.kv_heads = c.heads; // no sharing: H/K times as much
/// assert_eq!(cache(&c), 524_288);
/// ```
pub fn cache(c: &Config) -> u64 {
    let [l, t, k, d] =
        [c.layers, c.context, c.kv_heads, c.head].map(|n| n as u128);
    (8 * l * t * k * d).try_into().unwrap_or(u64::MAX)
}

/// Bytes of the table of θ, which a model has before it has any parameter: an
/// entry, a name and a place in a set for each matrix, gain and bias.
pub fn table(c: &Config) -> u64 {
    const ENTRY: u128 = 300; // measured: 240 for the deepest names
    let [l, e] = [c.layers, c.experts].map(|n| n as u128);
    let biases = if c.attention_bias { 4 } else { 0 };
    let all = ENTRY * (3 + l * (7 + biases + 3 * e)) + rotary(c);
    all.try_into().unwrap_or(u64::MAX)
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
    let linear =
        u128::from(c.active()).saturating_sub(embedding + gains + c.biases());
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
