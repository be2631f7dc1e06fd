//! Chapter: training. Sweeps: one setting is changed, everything else is kept,
//! and each run is made from three seeds.
#![allow(clippy::unwrap_used, reason = "an example may panic")]

#[path = "../ladder/counts.rs"]
#[allow(dead_code, reason = "the ladder writes text, too")]
mod counts;
#[path = "../figures/csv.rs"]
mod csv;
mod momentum;
mod runs;
mod plots;
#[cfg(test)]
#[path = "../printed/mod.rs"]
mod printed;
#[cfg(test)]
mod tests;

use clap::Parser;
use csv::Csv;
use moe_by_hand::error::{Error, Result};
use moe_by_hand::train::data::Text;
use runs::Lab;
use std::path::PathBuf;
use std::process::ExitCode;

/// Train a small model many times, changing one setting, and write the data of
/// the book's figures into book/figures.
///
/// All of it takes half an hour of one core. `cargo book figures` draws it.
#[derive(Parser)]
struct Args {
    /// Which [default: all but loss]
    names: Vec<String>,
    /// What to train on, UTF-8
    #[arg(long, value_name = "FILE")]
    text: PathBuf,
    /// Runs at a time [default: one per core]; changes no number
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

type Make = fn(&mut Lab) -> Result<Csv>;
/// In the order of the book.
const SWEEPS: &[(&str, Make)] = &[
    ("balance-load", plots::balance_load),
    ("sweep-balance", plots::balance),
    ("sweep-rate", plots::rate),
    ("sweep-momentum", plots::momentum),
    ("sweep-schedule", plots::schedule),
    ("sweep-batch", plots::batch),
    ("sweep-experts", plots::experts),
    ("paired-windows", plots::paired),
    ("loss", plots::loss),
];

fn run(args: &Args) -> Result<()> {
    for name in &args.names {
        if !SWEEPS.iter().any(|s| s.0 == name) {
            let all: Vec<_> = SWEEPS.iter().map(|s| s.0).collect();
            let rule = "there is no sweep of this name";
            let cure = format!("choose from {}", all.join(", "));
            return Err(Error::input("NAME", name, rule, cure));
        }
    }
    let text = Text::read(&args.text)?;
    let file = args.text.file_name().unwrap_or_default().display();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut lab = Lab::new(&text, args.threads.unwrap_or(cores));
    for (name, make) in SWEEPS {
        let wanted = match args.names.is_empty() {
            true => *name != "loss",
            false => args.names.iter().any(|n| n == name),
        };
        if !wanted {
            continue;
        }
        let csv = make(&mut lab)?.of(&text);
        let command = format!("cargo example sweeps -- {name} --text {file}");
        let path = csv.path();
        let cure = "make the folder, or correct its permissions";
        csv.write(&command).map_err(|e| Error::io(&path, e, cure))?;
        println!("{}", path.display());
    }
    Ok(())
}
fn main() -> ExitCode {
    registry::end_with_the_reader();
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("sweeps: {e}");
            ExitCode::from(e.exit_code())
        }
    }
}

#[test]
fn texts_ask_for_sweeps_that_there_are() {
    for args in printed::understood::<Args>("sweeps") {
        for name in args.names {
            assert!(SWEEPS.iter().any(|s| s.0 == name), "no sweep {name}");
        }
    }
}
