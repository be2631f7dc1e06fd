//! Chapter: training. `moe info`.

use crate::defaults::{PRESET, presets, threads};
use crate::optimizers::Choice;
use crate::output::show;
use moe_by_hand::config::Config;
use moe_by_hand::error::{Error, Result};
use moe_by_hand::half::{Bf16, F16};
use moe_by_hand::memory::{self, human};
use moe_by_hand::model::Model;
use moe_by_hand::train::account::Account;
use moe_by_hand::train::data::Text;
use moe_by_hand::train::gradient::shards;
use moe_by_hand::train::options::Options;
use moe_by_hand::train::precision::Precision;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  moe info
  moe info --preset moe_6_9b
  moe info --model runs/1 --batch 4 --seq 256
  moe info --config config.json --json")]
pub(crate) struct Args {
    #[arg(long, value_name = "NAME", group = "which")]
    #[arg(help = format!("A model of known sizes: {}", presets()))]
    preset: Option<String>,
    /// The directory of a model
    #[arg(long, value_name = "DIR", group = "which")]
    model: Option<PathBuf>,
    /// A config.json of Hugging Face's Mixtral
    #[arg(long, value_name = "FILE", group = "which")]
    config: Option<PathBuf>,
    /// Sequences in a batch, for the memory of training
    #[arg(long, value_name = "B")]
    #[arg(default_value_t = Options::default().batch)]
    batch: usize,
    #[arg(long, value_name = "T")]
    #[arg(help = format!(
        "Tokens in a sequence, for memory and work [default: {}, or the \
         model's context if that is less]",
        Options::default().seq
    ))]
    seq: Option<usize>,
    /// Batches in a step, for the memory of training
    #[arg(long, default_value_t = 1, value_name = "N")]
    accumulate: usize,
    /// Memory of training that keeps one block's activations
    #[arg(long)]
    recompute: bool,
    /// What a run stores its numbers in, for the memory of training: f32, bf16
    /// or f16
    #[arg(long, value_name = "NAME", default_value_t)]
    precision: Precision,
    /// adamw or muon, for the memory of training
    #[arg(long, value_name = "NAME", default_value = "adamw")]
    optimizer: Choice,
    /// Threads, for the memory of validation and Muon [default: one per core]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// What is trained on, for the memory of training [default: as for
    /// `train`, the project's own words, or a text of 1 MB]
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> Result<ExitCode> {
    let c = match (&args.model, &args.config) {
        (Some(dir), _) => Config::read(&dir.join("config.json"))?,
        (_, Some(file)) => Config::read(file)?,
        _ => Config::preset(args.preset.as_deref().unwrap_or(PRESET))?,
    };
    c.validate()?;
    if args.batch == 0 || args.batch > 1 << 31 {
        let (rule, cure) = ("it is 1 to 2147483648", "choose another");
        return Err(Error::input("--batch", args.batch, rule, cure));
    }
    let time = args.seq.unwrap_or(c.context.min(Options::default().seq));
    if !(1..=c.context).contains(&time) {
        let rule = format!("it is 1 to {}, the model's context", c.context);
        return Err(Error::input("--seq", time, rule, "choose another"));
    }
    let o = Options {
        batch: args.batch,
        seq: time,
        accumulate: args.accumulate,
        recompute: args.recompute,
        ..Options::default()
    };
    if o.accumulate == 0 || o.accumulate >= 1 << 31 {
        let (rule, cure) = ("it is 1 to 2147483647", "choose another");
        return Err(Error::input("--accumulate", o.accumulate, rule, cure));
    }
    let threads = threads(args.threads)?;
    let text = text_bytes(args.text.as_deref())?;
    // The rotary table of a long context takes as long as its use would.
    let short = Config { context: time, ..c.clone() };
    memory::check("the table of parameters", memory::table(&short))?;
    let model = Model::new(short)?;
    let (optimizer, precision) = (args.optimizer, args.precision);
    let (m, n) = (&model, threads);
    let mut training = match precision {
        Precision::F32 => {
            Account::new(m, &o, text, n, optimizer.maker::<f32>(&o, n))
        }
        Precision::Bf16 => {
            let maker = optimizer.maker::<Bf16>(&o, n);
            Account::stored::<Bf16, _, _>(m, &o, text, n, maker)
        }
        Precision::F16 => {
            let maker = optimizer.maker::<F16>(&o, n);
            Account::stored::<F16, _, _>(m, &o, text, n, maker)
        }
    };
    let more = memory::rotary(&c).saturating_sub(memory::rotary(&model.config));
    training.activations = training.activations.saturating_add(more);
    let info = Info { c, o, optimizer, precision, threads, text, training };
    show(&if args.json { info.json() } else { info.table() })?;
    Ok(ExitCode::SUCCESS)
}

/// What is told of a model and of a run that trains it.
struct Info {
    c: Config,
    o: Options,
    optimizer: Choice,
    precision: Precision,
    threads: usize,
    /// Bytes of the text.
    text: usize,
    training: Account,
}
impl Info {
    /// Operations for a token: forward, and in training.
    fn work(&self) -> [u64; 2] {
        [
            memory::flops_forward(&self.c, self.o.seq),
            memory::flops_training(&self.c, self.o.seq),
        ]
    }
    fn json(&self) -> String {
        let Self { c, o, precision, threads, text, training, .. } = self;
        let [forward, both] = self.work();
        let config: Value =
            serde_json::from_str(&c.to_json()).unwrap_or_default();
        let info = json!({
            "parameters": { "total": c.total(), "active": c.active() },
            "batch": o.batch,
            "seq": o.seq,
            "accumulate": o.accumulate,
            "recompute": o.recompute,
            "precision": precision,
            "threads": threads,
            "text_bytes": text,
            "memory_bytes": {
                "weights": training.weights,
                "working": training.working,
                "gradients": training.gradients,
                "moments": training.moments,
                "activations": training.activations,
                "validation": training.validation,
                "data": training.data,
                "pages": training.pages,
                "training": training.total(),
                "kv_cache": memory::cache(c),
                "available": memory::available(),
            },
            "flops_per_token": { "forward": forward, "training": both },
            "config": config,
        });
        format!("{info:#}\n")
    }
    fn table(&self) -> String {
        let Self { c, o, optimizer, precision, threads, text, training } = self;
        let [forward, both] = self.work();
        let share = 100.0 * c.active() as f64 / c.total() as f64;
        let share = format!("{share:.1} % for each token");
        let sequences = format!("{} × {} tokens", o.batch, o.seq);
        let context = format!("{} tokens", spaced(c.context as u64));
        let threads = format!("{threads} threads");
        let read = format!("{} bytes of text", spaced(*text as u64));
        let cores = match shards(o.shape()) {
            1 => "one".to_string(),
            n => format!("{n}, one for each shard"),
        };
        let (stored, cores) = match precision {
            Precision::F32 => (String::new(), cores),
            other => (other.to_string(), format!("{other}; {cores}")),
        };
        let copy = format!("{stored}, which the passes read");
        let copy = ("  their copy", human(training.working), &*copy);
        let rows = [
            ("parameters", spaced(c.total()), ""),
            ("  active", spaced(c.active()), &share),
            ("memory to train", human(training.total()), &sequences),
            ("  weights", human(training.weights), "f32"),
            ("  gradients", human(training.gradients), &cores),
            ("  moments", human(training.moments), optimizer.states()),
            ("  activations", human(training.activations), &stored),
            ("  validation", human(training.validation), &threads),
            ("  text, tokens", human(training.data), &read),
            ("  alignment", human(training.pages), "a page for a long buffer"),
            ("key/value cache", human(memory::cache(c)), &context),
            ("work for a token", flops(forward), "forward"),
            ("", flops(both), "training"),
        ];
        let line = |(name, value, note): (&str, String, &str)| {
            let line = format!("{name:18}{value:>15}  {note}");
            format!("{}\n", line.trim_end())
        };
        let tied = match c.tied {
            true => {
                "the config ties the head to the embedding: here they are two \
                 matrices\n"
            }
            false => "",
        };
        let (before, after) = rows.split_at(4);
        let copy = (training.working > 0).then_some(copy);
        let rows = before.iter().cloned().chain(copy);
        let rows = rows.chain(after.iter().cloned());
        rows.map(line).collect::<String>() + tied
    }
}
/// How long the text is that `train` would read.
fn text_bytes(file: Option<&Path>) -> Result<usize> {
    if let Some(path) = file {
        return Ok(Text::read(path)?.id.bytes);
    }
    let here = std::env::current_dir().ok();
    let own = here.and_then(|here| Text::of_project(&here).ok());
    Ok(own.map_or(1_000_000, |text| text.id.bytes))
}
/// Digits in groups of three.
fn spaced(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}
/// Operations for people, in powers of 1000.
fn flops(n: u64) -> String {
    let x = n as f64;
    match x {
        ..1e6 => format!("{:.1} kFLOP", x / 1e3),
        ..1e9 => format!("{:.1} MFLOP", x / 1e6),
        _ => format!("{:.1} GFLOP", x / 1e9),
    }
}
