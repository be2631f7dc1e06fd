//! Chapter: training. The command `moe` as a user meets it, a module for each
//! subcommand.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../../../../../tests/edit/mod.rs"]
mod edit;
mod start;
mod bench_report;
mod converge;
mod eval;
mod generate;
mod shipped;
mod info;
mod oracle;
mod usage;
#[cfg(unix)]
mod train;

// What they share; a directory to spoil, with the library's tests too.
