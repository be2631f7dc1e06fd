//! Chapter: training. `moe oracle`.

use crate::output::show;
use moe_by_hand::error::Result;
use moe_by_hand::oracle::compare;
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
#[command(after_help = "\
Exit status: 0 if every bound is kept, 1 if one is broken or a directory has
no logits, losses or gradients, 2 if it cannot be read.

Examples:
  moe oracle tests/oracle/tiny tests/oracle/gqa-ntk
  moe oracle --json tests/oracle/tiny

How such a directory is made, also from a model of your own, is said in
tests/oracle/README.md.")]
pub(crate) struct Args {
    /// Each with config.json, model.safetensors and reference.safetensors
    #[arg(required = true, value_name = "DIR")]
    directories: Vec<PathBuf>,
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> Result<ExitCode> {
    let mut reports = vec![];
    for dir in &args.directories {
        let report = compare(dir, 1)?;
        if !args.json {
            show(&format!("{report}\n"))?;
        }
        reports.push(report);
    }
    let ok = reports.iter().all(|r| r.ok);
    if args.json {
        let all = json!({ "ok": ok, "directories": reports });
        show(&format!("{all:#}\n"))?;
    }
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
