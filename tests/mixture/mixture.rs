//! Chapter: balance. Does a mixture pay? The same seconds of training steps for a
//! mixture of experts and for two dense models: one with as many parameters as
//! a byte uses in the mixture, and one with as many as it has.
#![allow(clippy::unwrap_used, reason = "an example may panic")]

#[path = "../figures/csv.rs"]
mod csv;

use clap::Parser;
use csv::{Csv, short};
use moe_by_hand::block::{Block, heads};
use moe_by_hand::config::Config;
use moe_by_hand::error::{Error, Result, rule};
use moe_by_hand::kernel::simd::Isa;
use moe_by_hand::layer::Layer;
use moe_by_hand::model::Model;
use moe_by_hand::nn::attention::Attention;
use moe_by_hand::nn::rope::Rope;
use moe_by_hand::nn::swiglu::SwiGlu;
use moe_by_hand::params::Builder;
use moe_by_hand::train::data::Text;
use moe_by_hand::train::options::Options;
use moe_by_hand::train::trainer::Trainer;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

const EXAMPLES: &str = "\
Examples:
  cargo example mixture -- --text shakespeare.txt
  cargo example mixture -- --time
  cargo example mixture -- --text t.txt --ms 12.1,9.3,17.2

Seconds are steps times the time of a step, which is the median of many steps of
all three, one after the other by turns, on one thread: so they do not depend on
what else the machine does while the models train. --time measures only that,
and --ms takes what was measured.";

/// Train a mixture and two dense models for the same seconds, with several
/// seeds and rates, and compare their losses.
#[derive(Parser)]
#[command(after_help = EXAMPLES)]
struct Args {
    /// What to train on, UTF-8 [default: the project's own words]
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// Seconds of training steps
    #[arg(long, value_name = "S", default_value_t = 8.0)]
    seconds: f64,
    /// Runs of each model at its best rate
    #[arg(long, value_name = "N", default_value_t = 5)]
    seeds: u64,
    /// Learning rates: each model takes the one that is best for it with a seed
    /// of its own
    #[arg(long, value_name = "X,…", value_delimiter = ',')]
    #[arg(default_values_t = [2e-3, 4e-3, 8e-3])]
    rates: Vec<f64>,
    /// Milliseconds of a step of each of the three [default: measured now]
    #[arg(long, value_name = "A,B,C", value_delimiter = ',')]
    ms: Option<Vec<f64>>,
    /// Measure the times of the steps, and train nothing
    #[arg(long)]
    time: bool,
    /// Write book/figures/mixture-pays.csv
    #[arg(long, requires = "text")]
    csv: bool,
}

/// What competes.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Mixture,
    Active,
    Total,
}
use Kind::{Active, Mixture, Total};
impl Kind {
    const ALL: [Self; 3] = [Mixture, Active, Total];

    fn name(self) -> &'static str {
        match self {
            Mixture => "mixture, 2 of 8 experts",
            Active => "dense, equal active size",
            Total => "dense, equal total size",
        }
    }
    fn config(self) -> Config {
        let mixture = Config {
            vocab: 256,
            hidden: 96,
            layers: 2,
            heads: 4,
            kv_heads: 2,
            head: 24,
            experts: 8,
            top_k: 2,
            intermediate: 96,
            context: 256,
            ..Config::preset("tiny").unwrap()
        };
        let (e, k, f) = (mixture.experts, mixture.top_k, mixture.intermediate);
        let dense = |f| Config {
            experts: 1,
            top_k: 1,
            intermediate: f,
            ..mixture.clone()
        };
        match self {
            Mixture => mixture,
            Active => dense(k * f),
            Total => dense(e * f),
        }
    }
    /// Parameters in all, and those that a byte uses.
    fn size(self) -> Result<[usize; 2]> {
        let c = self.config();
        Ok(match self {
            Mixture => [c.total() as usize, c.active() as usize],
            _ => [dense(c)?.layout.len; 2],
        })
    }
}
/// An expert in the place of the mixture, without a router.
fn dense(c: Config) -> Result<Model<Block<Attention, SwiGlu>>> {
    let rope = Arc::new(Rope::new(c.head, c.context, c.rope_theta));
    Model::with_blocks(c, |b, c| {
        let (d, f) = (c.hidden, c.intermediate);
        let attention =
            |b: Builder| Attention::new(b, d, heads(c), rope.clone());
        Block::with(b, c, attention, |b: Builder| SwiGlu::new(b, d, f))
    })
}

/// The validation loss after some steps.
type Curve = Vec<(usize, f64)>;
/// When a run is validated, in parts of it.
const MOMENTS: [f64; 5] = [0.1, 0.25, 0.5, 0.75, 1.0];

fn train(
    kind: Kind, text: &Text, o: Options, moments: &[f64],
) -> Result<Curve> {
    fn run<B: Layer>(
        m: Model<B>, text: &Text, o: Options, moments: &[f64],
    ) -> Result<Curve> {
        let steps = o.steps as f64;
        let at: Vec<usize> =
            moments.iter().map(|m| (m * steps).round() as usize).collect();
        let (mut t, mut curve) = (Trainer::new(m, text.clone(), o)?, vec![]);
        while !t.done() {
            let m = t.step()?;
            if at.contains(&m.step) {
                curve.push((m.step, t.validate()));
            }
        }
        Ok(curve)
    }
    match kind {
        Mixture => run(Model::new(kind.config())?, text, o, moments),
        _ => run(dense(kind.config())?, text, o, moments),
    }
}
/// The median milliseconds of a step of each, by turns.
fn times(text: &Text) -> Result<[f64; 3]> {
    const STEPS: usize = 150;
    let o = || Options { steps: STEPS, ..Options::default() };
    let mixture = Model::new(Mixture.config())?;
    let mut mixture = Trainer::new(mixture, text.clone(), o())?;
    let [active, total] = [Active, Total].map(|kind| -> Result<_> {
        Trainer::new(dense(kind.config())?, text.clone(), o())
    });
    let (mut active, mut total) = (active?, total?);
    let tokens = o().shape().rows() as f64;
    let mut all = [(); 3].map(|()| vec![]);
    for _ in 0..STEPS {
        let now = [mixture.step()?, active.step()?, total.step()?];
        for (all, m) in all.iter_mut().zip(now) {
            all.push(1e3 * tokens / m.tokens_per_second);
        }
    }
    Ok(all.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[STEPS / 2]
    }))
}

/// Mean, standard error, least and most.
fn statistics(x: &[f64]) -> [f64; 4] {
    let n = x.len() as f64;
    let mean = x.iter().sum::<f64>() / n;
    let squares: f64 = x.iter().map(|x| (x - mean).powi(2)).sum();
    let error = (squares / (n - 1.0).max(1.0) / n).sqrt();
    let least = x.iter().copied().fold(f64::INFINITY, f64::min);
    let most = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    [mean, error, least, most]
}

/// The runs of one kind.
struct Runs {
    ms: f64,
    steps: usize,
    curves: Vec<Curve>,
}
impl Runs {
    fn last(&self) -> Vec<f64> {
        self.curves.iter().map(|c| c.last().unwrap().1).collect()
    }
}
fn compare(args: &Args, text: &Text, ms: [f64; 3]) -> Result<Vec<Runs>> {
    let mut all = vec![];
    for (kind, ms) in Kind::ALL.into_iter().zip(ms) {
        let steps = (args.seconds * 1e3 / ms).round() as usize;
        let options =
            |lr, seed| Options { steps, lr, seed, ..Options::default() };
        options(args.rates[0], 0).validate(&kind.config())?;
        // With a seed that is not among those that are compared.
        let mut best = (f64::INFINITY, 0.0);
        for &lr in &args.rates {
            let curve = train(kind, text, options(lr, args.seeds), &[1.0])?;
            let loss = curve.last().unwrap().1;
            println!("{}: rate {lr}, {steps} steps: {loss:.4}", kind.name());
            if loss < best.0 {
                best = (loss, lr);
            }
        }
        let mut curves = vec![];
        for seed in 0..args.seeds {
            let curve = train(kind, text, options(best.1, seed), &MOMENTS)?;
            let loss = curve.last().unwrap().1;
            println!("{}: seed {seed}: {loss:.4}", kind.name());
            curves.push(curve);
        }
        all.push(Runs { ms, steps, curves });
    }
    Ok(all)
}
fn print(all: &[Runs], seconds: f64) -> Result<()> {
    println!("\nafter {seconds} s of training steps:");
    for (kind, runs) in Kind::ALL.into_iter().zip(all) {
        let [total, active] = kind.size()?;
        let [mean, error, least, most] = statistics(&runs.last());
        println!(
            "{:26}{total:>8} parameters, {active:>7} active, {:6.2} ms, \
             {:5} steps: {mean:.4} ± {error:.4}, {least:.4} to {most:.4}",
            kind.name(),
            runs.ms,
            runs.steps,
        );
    }
    let [mixture, active, _] = all else { return Ok(()) };
    println!(
        "tax: {:.2} times the step of equal active size",
        mixture.ms / active.ms
    );
    for (kind, runs) in Kind::ALL.into_iter().zip(all).skip(1) {
        let pairs = runs.last().into_iter().zip(mixture.last());
        let differences: Vec<f64> = pairs.map(|(a, b)| a - b).collect();
        let [mean, error, ..] = statistics(&differences);
        println!("{}: {mean:+.4} ± {error:.4} above the mixture", kind.name());
    }
    Ok(())
}
fn csv(all: &[Runs], seconds: f64) -> Csv {
    let of = |i: usize| statistics(&all[i].last())[0];
    let best = (0..all.len()).map(of).fold(f64::INFINITY, f64::min);
    let mut csv = Csv::chart(
        "mixture-pays",
        "The same seconds for a mixture and for two dense models. Lines are means \
         of the seeds, bars reach from the best seed to the worst; 0 is the \
         best mean at the end",
        &format!(
            "Validation loss against seconds of training steps, with the range \
             of the seeds as bars. After {seconds} seconds the mixture of 8 \
             experts has {:.3} nats per byte, the dense model of equal \
             active size {:.3}, and that of equal total size {:.3}.",
            of(0),
            of(1),
            of(2)
        ),
        ["seconds of training steps", "nats above the best at the end"],
    );
    csv.row("seconds,mixture,equal active,equal total");
    let mut bars = vec![];
    for (i, runs) in all.iter().enumerate() {
        for at in 0..MOMENTS.len() {
            let each: Vec<f64> = runs.curves.iter().map(|c| c[at].1).collect();
            let x = runs.curves[0][at].0 as f64 * runs.ms / 1e3;
            let [mean, _, least, most] = statistics(&each);
            let mut cells = ["", "", ""].map(String::from);
            cells[i] = format!("{:.4}", mean - best);
            csv.row(format!("{},{}", short(x), cells.join(",")));
            let [least, most] = [least, most].map(|l| l - best);
            let (x, least, most) = (short(x), short(least), short(most));
            bars.push(format!("guide,{x},{least},{x},{most},,"));
        }
    }
    bars.into_iter().for_each(|bar| csv.row(bar));
    csv
}

fn run(args: &Args) -> Result<()> {
    let text = match &args.text {
        Some(path) => Text::read(path)?,
        None => Text::of_project(&std::env::current_dir().unwrap())?,
    };
    let positive = args.seconds > 0.0 && args.seconds.is_finite();
    let some = "it is a positive number";
    rule(positive, "--seconds", args.seconds, some, "take 8")?;
    rule(args.seeds > 0, "--seeds", args.seeds, "one at least", "take 5")?;
    let ms: [f64; 3] = match &args.ms {
        None => times(&text)?,
        Some(ms) => ms.as_slice().try_into().map_err(|_| {
            let (is, cure) = ("one for each of three models", "give 3");
            Error::input("--ms", format!("{} numbers", ms.len()), is, cure)
        })?,
    };
    println!("{}", Isa::current());
    for (kind, ms) in Kind::ALL.into_iter().zip(ms) {
        let valid = ms > 0.0 && ms.is_finite();
        rule(valid, "--ms", ms, "a time is a positive number", "measure it")?;
        println!("{:26}{ms:.2} ms per step", kind.name());
    }
    println!("tax: {:.2}", ms[0] / ms[1]);
    if args.time {
        return Ok(());
    }
    let all = compare(args, &text, ms)?;
    print(&all, args.seconds)?;
    if let (true, Some(path)) = (args.csv, &args.text) {
        let file = path.file_name().unwrap_or_default().display();
        let command = "cargo example mixture --";
        let csv = csv(&all, args.seconds).of(&text);
        let path = csv.path();
        let cure = "make the folder, or correct its permissions";
        csv.write(&format!("{command} --text {file} --csv"))
            .map_err(|e| Error::io(&path, e, cure))?;
        println!("{}", path.display());
    }
    Ok(())
}
fn main() -> ExitCode {
    registry::end_with_the_reader();
    let args = Args::parse();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    match pool.unwrap().install(|| run(&args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("mixture: {e}");
            ExitCode::from(e.exit_code())
        }
    }
}
