//! Chapter: training. How far a run is: a bar on a terminal, else lines.

use crate::output::{note, show};
use indicatif::{ProgressBar, ProgressStyle};
use moe_by_hand::train::metrics::Metrics;
use std::io::{self, IsTerminal, Write};
use std::time::Instant;

/// Prints a line. That it cannot be printed is no reason to stop training.
pub(crate) fn say(line: impl AsRef<str>) {
    let _ = show(&format!("{}\n", line.as_ref()));
}

/// Shows step, loss, validation loss, tokens per second, time left.
pub(crate) struct Progress {
    /// On a terminal.
    bar: Option<ProgressBar>,
    steps: usize,
    /// Steps at the beginning, and when that was.
    from: (usize, Instant),
    /// Mean of the last steps' losses and speeds.
    loss: f64,
    speed: f64,
    val: String,
}
impl Progress {
    /// For a run that has done `done` of its steps.
    pub(crate) fn new(done: usize, steps: usize) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(steps as u64).with_position(done as u64);
            let style = "{bar:20} {pos}/{len} {msg}, {eta} left";
            let style = ProgressStyle::with_template(style);
            bar.reset_eta();
            bar.with_style(
                style.unwrap_or_else(|_| ProgressStyle::default_bar()),
            )
        });
        let from = (done, Instant::now());
        let (loss, speed) = (f64::NAN, f64::NAN);
        Self { bar, steps, from, loss, speed, val: String::new() }
    }
    /// After a step.
    pub(crate) fn step(&mut self, m: &Metrics, val: Option<f64>) {
        let smooth = |mean: &mut f64, x| {
            *mean = if mean.is_nan() { x } else { 0.95 * *mean + 0.05 * x }
        };
        smooth(&mut self.loss, m.ce);
        smooth(&mut self.speed, m.tokens_per_second);
        let is_new = val.is_some();
        if let Some(val) = val {
            self.val = format!(", validation {val:.4}");
        }
        let (loss, speed, val) = (self.loss, self.speed, &self.val);
        let said = format!("loss {loss:.4}{val}, {speed:.0} tokens/s");
        if let Some(bar) = &self.bar {
            bar.set_message(said);
            bar.set_position(m.step as u64);
        } else if is_new || m.step.is_multiple_of((self.steps / 20).max(1)) {
            let (done, begin) = self.from;
            let each = begin.elapsed().div_f64((m.step - done) as f64);
            let left = each.mul_f64((self.steps - m.step) as f64).as_secs();
            let (step, steps) = (m.step, self.steps);
            note(&format!("step {step}/{steps}: {said}, {left} s left"));
        }
    }
    /// Leaves the last state where it is.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.abandon();
            let _ = writeln!(io::stderr()); // what follows has its own line
        }
    }
}
