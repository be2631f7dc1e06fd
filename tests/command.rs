//! The command `moe` as a user meets it, a module for each subcommand.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod bench_report;
#[path = "command_converge.rs"]
mod converge;
#[path = "command_generate.rs"]
mod generate;
mod info;
#[path = "command_oracle.rs"]
mod oracle;
#[path = "command_train.rs"]
mod train;

// What several of them need.
mod edit;
