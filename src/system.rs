//! Chapter: model. How much memory there still is, asked before any is taken.

use crate::error::{Error, Result};
use std::fmt::Display;
use std::fs;

/// Bytes that a program can still have, if the system says: what Linux calls
/// available, or what is left of a container's limit or of the process's own
/// (`ulimit -v`), whichever is least.
pub fn available() -> Option<u64> {
    let free = field("/proc/meminfo", "MemAvailable:", 1).map(kib);
    // version 2: the own group, or what a container sees as the root; then 1
    let groups = text("/proc/self/cgroup");
    let own = groups.lines().find_map(|l| l.strip_prefix("0::"));
    let own = format!("/sys/fs/cgroup{}", own.unwrap_or_default());
    let left = |dir: &str, limit: &str, used: &str| {
        // a group without a limit says "max", which is no number
        let number = |name: &str| text(&format!("{dir}/{name}")).trim().parse();
        let (limit, used): (u64, u64) =
            (number(limit).ok()?, number(used).unwrap_or(0));
        // what was read from files is given back when it is needed
        let file = field(&format!("{dir}/memory.stat"), "inactive_file", 1);
        Some(limit.saturating_sub(used.saturating_sub(file.unwrap_or(0))))
    };
    let root = "/sys/fs/cgroup";
    let groups = [
        left(&own, "memory.max", "memory.current"),
        left(root, "memory.max", "memory.current"),
        left(
            &format!("{root}/memory"),
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
        ),
    ];
    let space = field("/proc/self/limits", "Max address space", 3);
    let taken = field("/proc/self/status", "VmSize:", 1).map(kib);
    let space = space.map(|s| s.saturating_sub(taken.unwrap_or(0)));
    groups.into_iter().chain([free, space]).flatten().min()
}
fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
/// The number that stands at a place, counted from 0, of the line that begins
/// so.
fn field(path: &str, line: &str, place: usize) -> Option<u64> {
    let text = text(path);
    let line = text.lines().find(|l| l.starts_with(line))?;
    line.split_whitespace().nth(place)?.parse().ok()
}
fn kib(n: u64) -> u64 {
    n.saturating_mul(1024)
}
/// Refuses what does not fit.
///
/// # Errors
/// If more is needed than available, with both numbers.
pub fn check(what: impl Display, need: u64) -> Result<()> {
    // Asking takes longer than a few megabytes are worth.
    if need <= 4 << 20 {
        return Ok(());
    }
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
/// assert_eq!(moe_by_hand::system::human(1536), "1.5 KiB");
/// assert_eq!(moe_by_hand::system::human(12), "12 B");
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
