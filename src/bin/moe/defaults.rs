//! Chapter: training. What several subcommands take where nothing is given.

use moe_by_hand::config::Config;
use moe_by_hand::error::{Error, Result};

/// The preset that is taken where none is named.
pub(crate) const PRESET: &str = "bytes";
/// For the help of an option that names a preset.
pub(crate) fn presets() -> String {
    format!("{} [default: {PRESET}]", Config::PRESETS.join(", "))
}
/// How many threads: as many as there are cores, or as asked for.
pub(crate) fn threads(given: Option<usize>) -> Result<usize> {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    match given {
        Some(n @ (0 | 1025..)) => Err(Error::input(
            "--threads",
            n,
            "it has to be from 1 to 1024",
            "leave it out for one per core",
        )),
        given => Ok(given.unwrap_or_else(cores)),
    }
}
