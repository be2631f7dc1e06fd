//! Chapter: scaling-out. Spoils files for as long as one likes, and reads them.

#[path = "../edit/mod.rs"]
mod edit;
mod readers;

use clap::Parser;
use readers::readers;
use std::time::{Duration, Instant};

/// Spoil files, and read them with every reader.
///
/// It ends with a panic where a reader panics, takes too long, or says more than
/// one plain line; the seed and the try are named, and make the same file again.
#[derive(Parser)]
struct Args {
    /// How long
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
    /// Decides which changes are made
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
}

fn main() {
    registry::end_with_the_reader();
    let Args { seconds, seed } = Args::parse();
    let (begun, all) = (Instant::now(), readers());
    let mut counts = vec![(0, 0); all.len()];
    while begun.elapsed() < Duration::from_secs(seconds) {
        for (reader, (tries, read)) in all.iter().zip(&mut counts) {
            for _ in 0..(400 / reader.cost).max(1) {
                *read += usize::from(reader.try_once(seed, *tries));
                *tries += 1;
            }
        }
    }
    for (reader, (tries, read)) in all.iter().zip(&counts) {
        let name = reader.name();
        println!(
            "{name:24} {tries:9} files, {read:8} of them read all the same"
        );
    }
    let tries: usize = counts.iter().map(|c| c.0).sum();
    println!("{tries} files, no panic");
}
