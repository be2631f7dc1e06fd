//! Chapter: training. `moe eval`: the loss of a saved model.

use crate::defaults::threads;
use crate::output::show;
use moe_by_hand::error::{Error, Result, rule};
use moe_by_hand::hf;
use moe_by_hand::kernel::simd::bytes;
use moe_by_hand::memory;
use moe_by_hand::train::data::Text;
use moe_by_hand::train::options::Options;
use moe_by_hand::train::validation::{Validation, windows};
use std::path::PathBuf;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  moe eval --model runs/bytes-001 --text shakespeare.txt
  moe eval --model runs/bytes-001 --text shakespeare.txt --window 64 --window 256

Each window begins at position 0 and sees nothing of the one before it: so longer
windows have a lower loss, up to the length that a model was trained with.";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Directory with config.json and model.safetensors
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// A text, UTF-8, of which the last tenth is measured: `moe train` does not
    /// train on that
    #[arg(long, value_name = "FILE")]
    text: PathBuf,
    /// Bytes in a window; may be given several times
    #[arg(long, value_name = "T", default_values_t = [Options::default().seq])]
    window: Vec<usize>,
    /// Changes the speed, and no bit of the result [default: one per core]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

pub(crate) fn run(args: Args) -> Result<ExitCode> {
    let threads = threads(args.threads)?;
    let (model, p) = hf::load::<f32>(&args.model)?;
    hf::check_bytes(&args.model, model.config.vocab)?;
    let text = Text::read(&args.text)?;
    let part = text.validation();
    let context = model.config.context;
    let most = format!("the model's context is {context}");
    for &time in &args.window {
        rule(time > 0, "--window", time, "a window has a byte", "take 64")?;
        let cure = "take a shorter one";
        rule(time <= context, "--window", time, &most, cure)?;
        let has = format!("the text's last tenth has {} bytes", part.len());
        let one = windows(part.len(), time) > 0;
        rule(one, "--window", time, has, "take a shorter one")?;
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.map_err(|e| {
        Error::input("--threads", threads, e, "give a smaller number")
    })?;
    for &time in &args.window {
        let n = part.len();
        let new = || Validation::for_threads(&model, n, time, threads);
        memory::check("measuring this model", bytes(new).0)?;
        let measured = pool.install(|| new().loss(&model, &p, part, |_| true));
        let Some(loss) = measured else { continue };
        let said = format!(
            "{loss:.4} nats per byte, in {} windows of {time}\n",
            windows(n, time)
        );
        if !show(&said)? {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}
