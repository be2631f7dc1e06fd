//! Chapter: proof. `moe converge`: the prior art's demonstration, and what it
//! hides.

use crate::output::show;
use moe_by_hand::config::Config;
use moe_by_hand::error::{Error, Result, plain, rule};
use moe_by_hand::figure::{Figure, Line, Panel};
use moe_by_hand::file::{NewDir, write_atomic};
use moe_by_hand::layer::Shape;
use moe_by_hand::model::{Batch, Model};
use moe_by_hand::train::gradient::{Coefficients, Gradient};
use moe_by_hand::train::optimizer::{
    AdamW, Decay, Norm, Optimizer, Step, clip,
};
use moe_by_hand::train::schedule::Schedule;
use std::path::PathBuf;
use std::process::ExitCode;

const ABOUT: &str = "\
Memorize one fixed batch, as the prior art does

Two sequences of eight tokens, 0 to 15, each followed by the next number. The
loss is written with its two parts apart, the cross-entropy and the balance
term, into converge.json and converge.svg.";

#[derive(clap::Args)]
#[command(long_about = ABOUT)]
pub(crate) struct Args {
    /// Steps, all on the same batch
    #[arg(long, value_name = "N", default_value_t = 1000)]
    steps: usize,
    /// Decides the initial weights
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// A new directory for converge.json and converge.svg
    #[arg(long, value_name = "DIR", default_value = "runs/converge")]
    out: PathBuf,
    /// Print the JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// α, the coefficient of the balance loss.
const ALPHA: f64 = 0.01;
/// The steps that the table shows, and the last.
const SHOWN: [usize; 7] = [1, 10, 50, 100, 200, 500, 1000];

/// The loss before a step, and its parts: loss = ce + aux.
struct Point {
    step: usize,
    loss: f64,
    ce: f64,
    aux: f64,
}

pub(crate) fn run(args: Args) -> Result<ExitCode> {
    let out = &args.out;
    let free = out.symlink_metadata().is_err();
    let there = "it is there already";
    let cure = "choose another, or remove it";
    rule(free, "--out", out.display(), there, cure)?;
    let some = "it is at least 1";
    rule(args.steps > 0, "--steps", args.steps, some, "take 1000")?;
    // It appears with both files in it, or not at all.
    let mut dir = NewDir::beside(out)?;
    if !args.json {
        show("  step      loss        CE       aux\n")?;
    }
    let config = Config { aux: ALPHA, ..Config::preset("tiny")? };
    let balanced = ALPHA * config.layers as f64;
    let points = memorize(config, args.seed, args.steps, |p| {
        if args.json || !(SHOWN.contains(&p.step) || p.step == args.steps) {
            return Ok(());
        }
        let Point { step, loss, ce, aux } = p;
        show(&format!("{step:>6}{loss:>10.6}{ce:>10.6}{aux:>10.6}\n"))?;
        Ok(())
    })?;
    let json = json(&points);
    let svg = figure(&points).svg();
    for (name, text) in [("converge.json", &json), ("converge.svg", &svg)] {
        write_atomic(&dir.path().join(name), |w| w.write_all(text.as_bytes()))?;
    }
    dir.publish(out)?;
    dir.keep();
    if args.json {
        show(&json)?;
        return Ok(ExitCode::SUCCESS);
    }
    show(&format!(
        "\nA falling loss proves nothing: 16 tokens can be learned by heart \
         with wrong\ngradients too, and the floor near {balanced} is the \
         balance term, not the\ncross-entropy; `moe check` is what a proof \
         looks like.\n\nconverge.json and converge.svg are in {}\n",
        plain(&out.to_string_lossy())
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// Trains on the one batch; tells `each` of every step.
fn memorize(
    config: Config, seed: u64, steps: usize,
    each: impl Fn(&Point) -> Result<()>,
) -> Result<Vec<Point>> {
    let model = Model::new(config)?;
    let mut p = model.init::<f32>(seed);
    let (tokens, targets): (Vec<usize>, Vec<usize>) =
        (0..16).map(|i| (i, i + 1)).unzip();
    let batch = Batch { tokens: &tokens, targets: &targets };
    let coef = Coefficients { ce: 1.0, aux: ALPHA, z: 0.0 };
    let shape = Shape { batch: 2, time: 8 };
    let mut gradient = Gradient::new(&model, shape, 1, coef, false);
    let mut norm = Norm::new(&model.layout);
    let mut adam = AdamW::new(&model.layout, 0.1, Decay::Weights);
    let schedule = Schedule::new(1e-3, 10, 1200)?;
    let mut points = vec![];
    for n in 1..=steps {
        let (losses, dp) = gradient.compute(&model, &p, batch);
        let loss = losses.total as f64;
        if !loss.is_finite() {
            return Err(Error::Diverged { step: n, loss });
        }
        let (ce, aux) = (losses.ce as f64, ALPHA * losses.aux as f64);
        points.push(Point { step: n, loss, ce, aux });
        each(&points[n - 1])?;
        let (lr, scale) = (schedule.rate(n), clip(norm.norm(dp), 1.0));
        adam.step(&mut p, dp, Step { t: n, lr, scale });
    }
    Ok(points)
}

fn json(points: &[Point]) -> String {
    let list = |text: fn(&Point) -> String| {
        points.iter().map(text).collect::<Vec<_>>().join(",")
    };
    let steps = list(|p| p.step.to_string());
    let losses = list(|p| format!("{:.6}", p.loss));
    let ce = list(|p| format!("{:.6}", p.ce));
    let aux = list(|p| format!("{:.6}", p.aux));
    format!(
        "{{\"language\":\"rust\",\"steps\":[{steps}],\"losses\":[{losses}],\
         \"ce\":[{ce}],\"aux\":[{aux}]}}\n"
    )
}
/// All steps, and the end again on a scale that shows the floor.
fn figure(points: &[Point]) -> Figure {
    let panel = |title: &str, points: &[Point]| {
        let line = |name: &str, y: fn(&Point) -> f64| Line {
            name: name.into(),
            points: points.iter().map(|p| (p.step as f64, y(p))).collect(),
        };
        let lines = vec![
            line("loss", |p| p.loss),
            line("cross-entropy", |p| p.ce),
            line("balance term", |p| p.aux),
        ];
        Panel { title: title.into(), lines, ..Panel::default() }
    };
    let mut panels = vec![panel("all steps", points)];
    if let Some(end) = points.get(99..).filter(|end| end.len() > 1) {
        panels.push(panel("from step 100 on", end));
    }
    Figure {
        title: "A falling loss proves nothing".into(),
        about: "Training on one fixed batch: the cross-entropy falls to \
                nearly 0, and the loss stays on the balance term."
            .into(),
        x: "step".into(),
        y: "nats per token".into(),
        panels,
    }
}
