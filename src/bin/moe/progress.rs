//! Chapter: training. How far a run is: a bar on a terminal, else lines.

use crate::output::{note, show};
use indicatif::{ProgressBar, ProgressStyle};
use moe_by_hand::train::metrics::Metrics;
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// The bar that is on the terminal, if one is.
static BAR: Mutex<Option<ProgressBar>> = Mutex::new(None);
fn bar() -> MutexGuard<'static, Option<ProgressBar>> {
    BAR.lock().unwrap_or_else(|e| e.into_inner())
}
/// A line on stderr, above the bar.
pub(crate) fn tell(line: &str) {
    match &*bar() {
        Some(bar) => bar.suspend(|| note(line)),
        None => note(line),
    }
}

/// Prints a line. That it cannot be printed is no reason to stop training.
pub(crate) fn say(line: impl AsRef<str>) {
    let _ = show(&format!("{}\n", line.as_ref()));
}

/// Shows step, loss, validation loss, tokens per second, time left.
pub(crate) struct Progress {
    steps: usize,
    /// When a line was shown last.
    shown: Instant,
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
        *bar() = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(steps as u64).with_position(done as u64);
            let style = "{bar:20} {pos}/{len} {msg}, {eta} left";
            let style = ProgressStyle::with_template(style);
            bar.reset_eta();
            bar.with_style(
                style.unwrap_or_else(|_| ProgressStyle::default_bar()),
            )
        });
        let now = Instant::now();
        let (loss, speed, val) = (f64::NAN, f64::NAN, String::new());
        Self { steps, shown: now, from: (done, now), loss, speed, val }
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
        let scale = match (m.scale, m.skipped) {
            (Some(scale), Some(n)) => format!(", scale {scale}, {n} skipped"),
            _ => String::new(),
        };
        let said = format!("loss {loss:.4}{val}{scale}, {speed:.0} tokens/s");
        let quiet = self.shown.elapsed() > Duration::from_secs(30);
        if let Some(bar) = &*bar() {
            bar.set_message(said);
            bar.set_position(m.step as u64);
        } else if is_new
            || quiet
            || m.step.is_multiple_of((self.steps / 20).max(1))
        {
            self.shown = Instant::now();
            let (done, begin) = self.from;
            let steps = m.step.saturating_sub(done).max(1);
            let each = begin.elapsed().div_f64(steps as f64);
            let left = each.mul_f64((self.steps - m.step) as f64).as_secs();
            let (step, steps) = (m.step, self.steps);
            note(&format!("step {step}/{steps}: {said}, {left} s left"));
        }
    }
    /// Leaves the last state where it is.
    pub(crate) fn finish(&self) {
        if let Some(bar) = bar().take() {
            bar.abandon();
            let _ = writeln!(io::stderr()); // what follows has its own line
        }
    }
}
