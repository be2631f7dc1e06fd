//! Chapter: router. The default run of `moe train`, with the router's gradient
//! cut from both losses: the experts are frozen in their roles, and the loss
//! hardly tells.
#![allow(clippy::unwrap_used, reason = "an example may panic")]

mod twin;

use clap::Parser;
use moe_by_hand::config::Config;
use moe_by_hand::error::Result;
use moe_by_hand::model::Model;
use moe_by_hand::train::data::Text;
use moe_by_hand::train::options::Options;
use moe_by_hand::train::trainer::Trainer;
use std::path::PathBuf;
use std::process::ExitCode;
use twin::{Mistake, Twin};

/// Train as `moe train` does by default, but with a router that never learns.
///
/// Prints the validation loss at the same steps as `moe train`. On
/// tinyshakespeare PyTorch ends at 1.668 with the right gradient and at 1.698
/// with this one.
#[derive(Parser)]
struct Args {
    /// What to train on, UTF-8 [default: the project's own words]
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// Steps in all
    #[arg(long, value_name = "N", default_value_t = 2000)]
    steps: usize,
    /// The seed of the first weights and of the batches
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Changes the speed, and no bit of the result [default: one per core]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Leave the router its gradient, to compare
    #[arg(long)]
    right: bool,
}

fn run(args: Args) -> Result<()> {
    let text = match &args.text {
        Some(path) => Text::read(path)?,
        None => Text::of_project(&std::env::current_dir().unwrap())?,
    };
    let Args { steps, seed, .. } = args;
    let options = Options { steps, seed, ..Options::default() };
    let config = Config::preset("bytes")?;
    let wrong = if args.right { &[][..] } else { &[Mistake::RouterCut] };
    let model = Model::with_blocks(config, |b, c| Twin::new(b, c, wrong))?;
    let mut t = Trainer::new(model, text, options)?;
    println!("{:>6}{:>10}{:>12}  load max/mean", "step", "batch", "validation");
    while !t.done() {
        let m = t.step()?;
        if m.step % t.options().eval_every == 0 || t.done() {
            let val = t.validate();
            let most = |s: &[f64]| s.iter().fold(0.0, |m: f64, &s| m.max(s));
            let load = t.load().map(|s| most(s) * s.len() as f64);
            let load: String = load.map(|l| format!("{l:>6.2}")).collect();
            println!("{:>6}{:>10.4}{val:>12.4}{load}", m.step, m.ce);
        } else if m.step % 50 == 0 {
            eprintln!("{:>6}{:>10.4}", m.step, m.ce);
        }
    }
    Ok(())
}
fn main() -> ExitCode {
    registry::end_with_the_reader();
    let args = Args::parse();
    // 0 is rayon's own word for one per core.
    let threads = args.threads.unwrap_or(0);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    match pool.unwrap().install(|| run(args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("no_router: {e}");
            ExitCode::from(e.exit_code())
        }
    }
}
