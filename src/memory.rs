//! Chapter 18. How much memory a model takes, asked before it is taken.

use crate::config::Config;
use crate::error::{Error, Result};
use std::fmt::Display;
use std::fs;

/// Bytes of θ in numbers of type `T`.
pub fn weights<T>(c: &Config) -> u64 {
    c.total().saturating_mul(size_of::<T>() as u64)
}
/// Bytes that reading a model takes: θ, one tensor of it twice on its way
/// (the largest is the embedding or an expert's), and the rotary table.
pub fn loading<T>(c: &Config) -> u64 {
    let of = |n: usize| n as u64;
    let largest = of(c.hidden) * of(c.vocab.max(c.intermediate));
    let rope = of(c.context) * of(c.head) * 8;
    (weights::<T>(c))
        .saturating_add(largest.saturating_mul(8 + size_of::<T>() as u64))
        .saturating_add(rope)
}

/// Bytes that a program can still have, if the system says: what Linux
/// calls available, or a container's limit if that is lower.
pub fn available() -> Option<u64> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/meminfo");
    let line = info.lines().find_map(|l| l.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|l| l.trim().split(' ').next()?.parse().ok());
    let free = kib.map(|k: u64| k.saturating_mul(1024));
    // cgroup 2 as seen from inside, its own directory, then cgroup 1
    let groups = read("/proc/self/cgroup");
    let own = groups.lines().find_map(|l| l.strip_prefix("0::"));
    let limits = [
        "/sys/fs/cgroup/memory.max".to_string(),
        format!("/sys/fs/cgroup{}/memory.max", own.unwrap_or_default()),
        "/sys/fs/cgroup/memory/memory.limit_in_bytes".to_string(),
    ];
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
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let (mut x, mut unit) = (bytes as f64, "B");
    for larger in units {
        if x < 1024.0 {
            break;
        }
        (x, unit) = (x / 1024.0, larger);
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{x:.1} {unit}") }
}
