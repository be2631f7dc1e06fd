//! Chapter 21. `moe train`.

use moe_by_hand::error::Result;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_: Args) -> Result<ExitCode> {
    Ok(ExitCode::SUCCESS)
}
