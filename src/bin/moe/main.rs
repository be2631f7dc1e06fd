//! Chapter: training. The command `moe`.

mod defaults;
mod output;
mod progress;
mod watch;
mod bench_report;
mod check;
mod converge;
mod generate;
mod info;
mod oracle;
mod train;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use moe_by_hand::error::Result;
use moe_by_hand::kernel::simd::Isa;
use std::process::ExitCode;

/// A Mixture-of-Experts Transformer by hand: trains on text, generates, and
/// proves its own gradients.
#[derive(Parser)]
#[command(name = "moe", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}
#[derive(Subcommand)]
enum Command {
    /// Train a model on text
    Train(train::Args),
    /// Continue a prompt
    Generate(generate::Args),
    /// Prove every gradient, and print the proof as a table
    Check(check::Args),
    /// Compare with numbers that PyTorch computed
    Oracle(oracle::Args),
    /// Memorize one fixed batch, as the prior art does
    Converge(converge::Args),
    /// Parameters, memory and work of a model
    Info(info::Args),
    /// Compare what `cargo bench` measured, here and elsewhere
    BenchReport(bench_report::Args),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) if e.use_stderr() && !asks_for_help(e.kind()) => {
            eprintln!("moe: {}", one_line(&e.to_string()));
            return ExitCode::from(2);
        }
        Err(e) => e.exit(),
    };
    if let Err(e) = Isa::asked() {
        eprintln!("moe: {e}");
        return ExitCode::from(2);
    }
    let result: Result<ExitCode> = match cli.command {
        Command::Train(a) => train::run(a),
        Command::Generate(a) => generate::run(a),
        Command::Check(a) => check::run(a),
        Command::Oracle(a) => oracle::run(a),
        Command::Converge(a) => converge::run(a),
        Command::Info(a) => info::run(a),
        Command::BenchReport(a) => bench_report::run(a),
    };
    result.unwrap_or_else(|e| {
        eprintln!("moe: {e}");
        ExitCode::from(e.exit_code())
    })
}
fn asks_for_help(kind: ErrorKind) -> bool {
    kind == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
}
/// What clap says on several lines, before it repeats the usage.
fn one_line(text: &str) -> String {
    let more = ["\n\nUsage", "\n\nFor more"];
    let end = more.iter().filter_map(|m| text.find(m)).min();
    let said = &text[..end.unwrap_or(text.len())];
    let said = said.trim_start_matches("error: ");
    let words: Vec<&str> = said.split_whitespace().collect();
    format!("{}; see --help", words.join(" "))
}
