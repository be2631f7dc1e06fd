//! Chapter: training. Whether runs survive what happens to files and
//! processes: killed at random moments, out of room, with flipped bits.
//!
//! ```console
//! cargo build --release -p moe
//! cargo example stress -- kill
//! cargo example stress -- fill
//! cargo example stress -- flip --tries 1000
//! ```
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod home;

mod fill;
mod flip;
mod kill;

use clap::{Parser, ValueEnum};
use home::Home;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// Spoils runs of `moe train`, and counts what is lost, unequal or unnoticed.
#[derive(Parser)]
struct Args {
    what: What,
    /// How often
    #[arg(long)]
    tries: Option<usize>,
    /// Decides the moments, sizes and bits
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The command, to try another build [default: the one beside this]
    #[arg(long)]
    moe: Option<PathBuf>,
}
#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// Signals at random moments: KILL, TERM, INT, HUP, some of them twice
    Kill,
    /// A disk that is full after some bytes of a file
    Fill,
    /// A flipped bit in each file of a run
    Flip,
}

fn main() -> ExitCode {
    registry::end_with_the_reader();
    let Args { what, tries, seed, moe } = Args::parse();
    // target/release/examples/stress and target/release/moe
    let here = std::env::current_exe().unwrap();
    let beside = here.parent().and_then(|d| d.parent()).unwrap().join("moe");
    let moe = moe.unwrap_or(beside).canonicalize();
    let moe = moe.expect("the command: cargo build --release -p moe");
    let (home, start) = (Home::new(moe), Instant::now());
    let faults = match what {
        What::Kill => kill::run(&home, tries.unwrap_or(100), seed),
        What::Fill => fill::run(&home, tries.unwrap_or(100), seed),
        What::Flip => flip::run(&home, tries.unwrap_or(300), seed),
    };
    println!("{faults} faults, {:.0} s", start.elapsed().as_secs_f64());
    ExitCode::from(u8::from(faults > 0))
}
