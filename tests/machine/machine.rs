//! Chapter: measuring, memory, parallel. What this machine can do, and what a
//! layout, a pass and a thread cost on it: the tables of three chapters.
#![allow(clippy::unwrap_used, reason = "an example may panic")]

#[path = "../figures/csv.rs"]
mod csv;
mod clock;
mod peak;
mod runs;
mod layout;
mod passes;
mod places;
mod again;
mod threads;

use clap::{Parser, ValueEnum};
use csv::Csv;
use std::process::ExitCode;

/// Measure this machine, as the chapters on performance do.
///
/// Nothing else should run meanwhile. All but `threads` are for one thread;
/// to keep it on one core, begin with `taskset -c 1`.
#[derive(Parser)]
struct Args {
    /// What to measure
    #[arg(value_enum, required = true)]
    what: Vec<What>,
    /// Write the data of the chapters' figures into book/figures
    #[arg(long)]
    csv: bool,
}
#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// The peak, the bandwidth, and how near computations come to them
    Roofline,
    /// The same work many times
    Runs,
    /// Rows, columns and strides
    Layout,
    /// Separate passes, blocks, and one loop
    Passes,
    /// Where arrays begin in their pages, and what AdamW's loop waits for
    Places,
    /// Activations that are kept or computed again
    Recompute,
    /// Threads, sums and cache lines
    Threads,
}
impl What {
    fn print(self) -> Option<Csv> {
        match self {
            What::Roofline => return Some(peak::print()),
            What::Runs => return Some(runs::print()),
            What::Layout => return Some(layout::print()),
            What::Passes => passes::print(),
            What::Places => places::print(),
            What::Recompute => again::print(),
            What::Threads => threads::print(),
        }
        None
    }
}
fn main() -> ExitCode {
    registry::end_with_the_reader();
    let args = Args::parse();
    for what in args.what {
        let csv = match what {
            What::Threads => what.print(),
            _ => {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(1);
                pool.build().unwrap().install(|| what.print())
            }
        };
        let name = what.to_possible_value().unwrap();
        let command =
            format!("cargo example machine -- {} --csv", name.get_name());
        if let Some(csv) = csv.filter(|_| args.csv)
            && let Err(e) = csv.write(&command)
        {
            eprintln!("machine: {}: {e}", csv.path().display());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
