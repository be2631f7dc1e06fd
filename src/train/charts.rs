//! Chapter: training. What a run did, as two figures.

use crate::error::Result;
use crate::figure::{Figure, Guide, Line, Panel, thin};
use crate::file::write_atomic;
use crate::train::metrics::{self, Line as Step, read};
use std::path::Path;

/// Points of a line: a longer run is drawn by means over some steps.
const POINTS: usize = 240;

/// Draws the `metrics.jsonl` in a run's directory as `loss.svg` and
/// `experts.svg` beside it.
///
/// # Errors
/// If a file cannot be read or written.
pub fn draw(dir: &Path) -> Result<()> {
    let steps = read(&dir.join(metrics::FILE))?;
    let figures =
        [("loss.svg", loss(&steps)), ("experts.svg", experts(&steps))];
    for (name, figure) in figures {
        let svg = figure.svg();
        write_atomic(&dir.join(name), |w| w.write_all(svg.as_bytes()))?;
    }
    Ok(())
}
/// A line of what `of` finds in each step.
fn line(name: &str, steps: &[Step], of: impl Fn(&Step) -> Option<f64>) -> Line {
    let point = |s: &Step| Some((s.metrics.step as f64, of(s)?));
    let points: Vec<_> = steps.iter().filter_map(point).collect();
    Line { name: name.into(), points: thin(&points, POINTS) }
}

/// The cross-entropy on batches, and on the validation text.
pub fn loss(steps: &[Step]) -> Figure {
    let training = line("training", steps, |s| Some(s.metrics.ce));
    let validation = line("validation", steps, |s| s.val);
    let shown = |p: Option<&(f64, f64)>| {
        p.map_or("nothing yet".into(), |p| format!("{:.2}", p.1))
    };
    let about = format!(
        "The cross-entropy of the batches goes from {} to {} nats per \
         byte; on the validation text it ends at {}.",
        shown(training.points.first()),
        shown(training.points.last()),
        shown(validation.points.last())
    );
    let lines = vec![training, validation];
    Figure {
        title: "Loss".into(),
        about,
        x: "step".into(),
        y: "nats per byte".into(),
        panels: vec![Panel { lines, ..Panel::default() }],
    }
}
/// The share of each expert in the choices of each layer.
pub fn experts(steps: &[Step]) -> Figure {
    let last = steps.last().map_or(&[][..], |s| &s.load);
    let experts = last.first().map_or(0, Vec::len);
    let uniform = 1.0 / experts as f64;
    let panel = |layer: usize| {
        let of = |e: usize| {
            let name = e.to_string();
            line(&name, steps, |s| s.load.get(layer)?.get(e).copied())
        };
        Panel {
            title: format!("layer {layer}"),
            lines: (0..experts).map(of).collect(),
            guides: vec![Guide::level(uniform, "uniform")],
            ..Panel::default()
        }
    };
    let shares = || last.iter().flatten();
    let most = shares().fold(0.0, |m: f64, &s| m.max(s));
    let least = shares().fold(1.0, |m: f64, &s| m.min(s));
    let about = format!(
        "The share of each of {experts} experts in the choices of each layer, \
         step by step. In the last step the shares lie between {least:.3} and \
         {most:.3}; {uniform:.3} would be uniform."
    );
    Figure {
        title: "Load of the experts".into(),
        about,
        x: "step".into(),
        y: "share of the choices, by expert".into(),
        panels: (0..last.len()).map(panel).collect(),
    }
}
