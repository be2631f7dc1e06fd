//! Chapter: training. A model that grows with the book, from counted bytes to
//! a mixture of experts in four blocks; and what it writes on the way.
#![allow(clippy::unwrap_used, reason = "an example may panic")]

mod counts;
mod alone;
mod data;
mod rungs;
#[cfg(test)]
#[path = "../printed/mod.rs"]
mod printed;
#[cfg(test)]
mod tests;

use clap::Parser;
use data::{Climb, Data, Heat, Moment};
use moe_by_hand::error::{Error, Result};
use moe_by_hand::kernel::simd::Isa;
use moe_by_hand::train::data::Text;
use rungs::{RUNGS, STEPS, Task, climb, config, options};
use std::path::PathBuf;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  cargo example ladder -- --text shakespeare.txt
  cargo example ladder -- --steps 200     a first look
  cargo example ladder -- bytes pairs     two rungs only";

/// Climb from counted bytes to the whole model, rung by rung.
///
/// Each rung is trained on the text with the same settings; what it adds, its
/// loss on text that it has not seen, its size, and some of what it writes are
/// shown. It takes a few minutes on two cores.
#[derive(Parser)]
#[command(after_help = EXAMPLES)]
struct Args {
    /// Which rungs: bytes, pairs, bigram, expert, attention, heads, rotations,
    /// mixture, blocks [default: all]
    rungs: Vec<String>,
    /// What to learn, UTF-8 [default: the project's own words]
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// Steps of each run
    #[arg(long, value_name = "N", default_value_t = STEPS)]
    steps: usize,
    /// Runs at a time [default: one per core]; changes no number
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Write book/ladder.json, which the chapters show: all rungs, by the
    /// portable form, whose bits are the same on every CPU
    #[arg(long, requires = "text", conflicts_with_all = ["rungs", "steps"])]
    data: bool,
}

fn print(climbs: &[Climb]) {
    println!(
        "{:>10} {:>9} {:>7} {:>7}  model",
        "parameters", "at a time", "nats", "bits"
    );
    for Climb { rung, .. } in climbs {
        println!(
            "{:>10} {:>9} {:>7.3} {:>7.3}  {}",
            rung.parameters,
            rung.active,
            rung.loss,
            rung.loss / std::f64::consts::LN_2,
            rung.added
        );
    }
    for Climb { rung, .. } in climbs {
        println!("\n== {} ==\n{}", rung.added, rung.sample);
    }
    for Moment { step, loss, sample } in climbs.iter().flat_map(|c| &c.moments)
    {
        println!("\n== after step {step}: {loss:.3} nats ==\n{sample}");
    }
    for Heat { temperature, sample } in climbs.iter().flat_map(|c| &c.heats) {
        println!("\n== at temperature {temperature} ==\n{sample}");
    }
}

fn run(args: &Args) -> Result<()> {
    let all = RUNGS.map(|r| r.0);
    for name in &args.rungs {
        if !all.contains(&name.as_str()) {
            let rule = "there is no rung of this name";
            let cure = format!("choose from {}", all.join(", "));
            return Err(Error::input("RUNG", name, rule, cure));
        }
    }
    let wanted =
        |n: &&str| args.rungs.is_empty() || args.rungs.iter().any(|r| r == n);
    let names: Vec<&str> = all.into_iter().filter(wanted).collect();
    let text = match &args.text {
        Some(path) => Text::read(path)?,
        None => {
            let here = std::env::current_dir();
            let cure = "name a file with --text";
            Text::of_project(&here.map_err(|e| Error::io(".", e, cure))?)?
        }
    };
    if args.data {
        Isa::Portable.choose();
    }
    Isa::asked().map_err(|e| {
        Error::input(
            "MOE_SIMD",
            e.asked,
            "this CPU does not have it",
            "unset it",
        )
    })?;
    let options = options(args.steps);
    options.validate(&config("blocks"))?;
    text.check(options.seq)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let say = |line| eprintln!("{line}");
    let task = Task { text: &text, options, say: &say };
    let climbs = climb(&task, &names, args.threads.unwrap_or(cores))?;
    print(&climbs);
    if args.data {
        let path = args.text.as_ref().and_then(|p| p.file_name());
        let file = path.unwrap_or_default().display();
        let data = Data::new(&file.to_string(), &text, &task.options, climbs);
        println!("\n{}", data.write()?.display());
    }
    Ok(())
}
fn main() -> ExitCode {
    registry::end_with_the_reader();
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("ladder: {e}");
            ExitCode::from(e.exit_code())
        }
    }
}

#[test]
fn texts_ask_for_rungs_that_there_are() {
    for args in printed::understood::<Args>("ladder") {
        for name in args.rungs {
            assert!(RUNGS.iter().any(|r| r.0 == name), "no rung {name}");
        }
    }
}
