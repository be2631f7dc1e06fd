//! Chapter: training. What a step reports, and the file that keeps it.

use crate::error::{Error, Result};
use crate::file::{self, write_atomic};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Its name in a run's directory.
pub const FILE: &str = "metrics.jsonl";

/// What one step reports.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Which, counted from 1.
    pub step: usize,
    /// Mean cross-entropy of the batch, in nats for each token.
    pub ce: f64,
    /// Balance loss, summed over the layers, without its coefficient.
    pub aux: f64,
    /// Router's z-loss, summed over the layers, without its coefficient.
    pub z: f64,
    /// What the gradient is of: ce + α·aux + β·z.
    pub total: f64,
    /// Learning rate.
    pub lr: f64,
    /// Norm of the whole gradient, before it is clipped.
    pub grad_norm: f64,
    /// Trained in the step, by the clock.
    pub tokens_per_second: f64,
}

/// One line of `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// The step's own numbers.
    #[serde(flatten)]
    pub metrics: Metrics,
    /// Mean cross-entropy on the validation text, when it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val: Option<f64>,
    /// The share of each expert in the choices of each layer.
    pub load: Vec<Vec<f64>>,
}

/// Appends lines to a file.
#[derive(Debug)]
pub struct Log {
    file: File,
    path: PathBuf,
}
impl Log {
    /// Opens the file, made or cut back to the lines of the steps up to
    /// `step`: what a run that was killed wrote after its last checkpoint is
    /// written again.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub fn open(path: &Path, step: usize) -> Result<Self> {
        let mut kept = String::new();
        for line in read(path)? {
            if line.metrics.step <= step {
                kept += &json(&line);
            }
        }
        write_atomic(path, |w| w.write_all(kept.as_bytes()))?;
        let file = OpenOptions::new().append(true).open(path);
        let file = file.map_err(|e| failed(path, e))?;
        Ok(Self { file, path: path.to_path_buf() })
    }
    /// Appends a line, at once.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn push(&mut self, line: &Line) -> Result<()> {
        let written = self.file.write_all(json(line).as_bytes());
        written.map_err(|e| failed(&self.path, e))
    }
    /// Waits until all lines are on the disk: before each checkpoint, so that
    /// no checkpoint is ahead of them.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(|e| failed(&self.path, e))
    }
}
fn failed(path: &Path, e: std::io::Error) -> Error {
    let cure = "make room, then continue the run with --resume";
    Error::io(path, e, cure)
}
fn json(line: &Line) -> String {
    let json = serde_json::to_string(line).expect("numbers are JSON");
    json + "\n"
}

/// The lines of a file, up to the first that is not whole: a killed run may
/// have left half of one. A file that is not there has none.
///
/// # Errors
/// If the file is there and cannot be read.
pub fn read(path: &Path) -> Result<Vec<Line>> {
    if !path.exists() {
        return Ok(vec![]);
    }
    let bytes = file::read(path, file::ANY)?;
    let text = String::from_utf8_lossy(&bytes);
    let whole = text.split_inclusive('\n').filter(|l| l.ends_with('\n'));
    Ok(whole.map_while(|l| serde_json::from_str(l).ok()).collect())
}
