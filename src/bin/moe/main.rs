//! Chapter: training. The command `moe`.

mod defaults;
mod output;
mod usage;
mod shipped;
mod progress;
mod watch;
mod optimizers;
mod bench_report;
mod check;
mod converge;
mod eval;
mod generate;
mod info;
mod oracle;
mod train;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use moe_by_hand::error::{Error, Result};
use moe_by_hand::kernel::simd::Isa;
use output::note;
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
    Train(Box<train::Args>),
    /// Continue a prompt
    Generate(generate::Args),
    /// Prove every gradient, and print the proof as a table
    Check(check::Args),
    /// The loss of a saved model on a text
    Eval(eval::Args),
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
    let cli = match usage::parse(Cli::command()) {
        Ok(matches) => Cli::from_arg_matches(&matches),
        Err(e) => Err(e),
    };
    let cli = match cli {
        Ok(cli) => cli,
        Err(e) if usage::is_wrong(&e) => {
            return fail(&usage::explain(&e, &Cli::command()));
        }
        Err(e) => e.exit(),
    };
    if let Err(e) = Isa::asked() {
        note(&e.to_string());
        return ExitCode::from(2);
    }
    let result: Result<ExitCode> = match cli.command {
        Command::Train(a) => train::run(*a),
        Command::Generate(a) => generate::run(a),
        Command::Check(a) => check::run(a),
        Command::Eval(a) => eval::run(a),
        Command::Oracle(a) => oracle::run(a),
        Command::Converge(a) => converge::run(a),
        Command::Info(a) => info::run(a),
        Command::BenchReport(a) => bench_report::run(a),
    };
    result.unwrap_or_else(|e| fail(&e))
}
fn fail(e: &Error) -> ExitCode {
    note(&e.to_string());
    ExitCode::from(e.exit_code())
}
