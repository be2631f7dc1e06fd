//! Chapter: training. What a step reports, and the file that keeps it.

use crate::error::{Error, Result};
use crate::file::{self, write_atomic};
use crate::tensors::sha256;
use serde::{Deserialize, Deserializer, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Its name in a run's directory.
pub const FILE: &str = "metrics.jsonl";
/// Where lines are put that cannot be read.
pub const ASIDE: &str = "metrics.bad";

/// What one step reports.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Which, counted from 1.
    pub step: usize,
    /// Mean cross-entropy of the batch, in nats per token.
    pub ce: f64,
    /// Balance loss, summed over the layers, without its coefficient.
    pub aux: f64,
    /// Router's z-loss, summed over the layers, without its coefficient.
    pub z: f64,
    /// What the gradient is of: ce + α·aux + β·z.
    pub total: f64,
    /// Learning rate.
    pub lr: f64,
    /// Norm of the whole gradient, before it is clipped; NaN, and `null` in
    /// the file, where it is not finite and the step was skipped.
    #[serde(deserialize_with = "or_nan")]
    pub grad_norm: f64,
    /// Tokens trained in a second, by the clock; 0 where there is none.
    pub tokens_per_second: f64,
    /// What the loss was multiplied by for backward, in a run of 16 bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<f64>,
    /// Steps skipped so far, in a run of 16 bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<usize>,
}
/// A number, or NaN for `null`: JSON has no other way to say it.
fn or_nan<'de, D: Deserializer<'de>>(
    from: D,
) -> std::result::Result<f64, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or(f64::NAN))
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

/// What a checkpoint knows of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Logged {
    /// SHA-256 of the lines written so far.
    pub sha256: String,
    /// The line of the last step, if a stop came before it was validated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Line>,
}

/// What a resumed run finds in the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// The lines that stay, as they stand there.
    pub kept: String,
    /// How many whole lines are dropped, because they are of later steps: the
    /// run writes them again.
    pub cut: usize,
    /// Lines that cannot be read, or stand where they cannot belong.
    pub bad: Vec<Vec<u8>>,
    /// Whether `kept` is what the run wrote, as far as that is known.
    pub as_written: bool,
}
impl History {
    /// Reads the file of a run that is resumed after `step`. A file that is
    /// not there has no lines.
    ///
    /// # Errors
    /// If it is there and cannot be read.
    pub fn read(
        path: &Path, step: usize, logged: Option<&Logged>,
    ) -> Result<Self> {
        let bytes =
            if path.exists() { file::read(path, file::ANY)? } else { vec![] };
        let due = logged.is_some_and(|l| l.due.is_some());
        let last = if due { step.saturating_sub(1) } else { step };
        let lines: Vec<&[u8]> =
            bytes.split_inclusive(|&b| b == b'\n').collect();
        let read = |line: &&[u8]| parse(str::from_utf8(line).ok()?);
        let steps: Vec<Option<usize>> = lines.iter().map(read).collect();
        let mut this = Self::default();
        let mut later: Vec<&[u8]> = vec![];
        for ((line, step), stays) in
            lines.iter().zip(&steps).zip(rising(&steps, last))
        {
            match step {
                Some(_) if stays => {
                    let text = String::from_utf8_lossy(line);
                    this.kept += text.trim_end_matches('\n');
                    this.kept.push('\n');
                    // What stands before a line that stays is of no later step.
                    this.bad.extend(later.drain(..).map(<[u8]>::to_vec));
                }
                Some(l) if *l > last => later.push(line),
                // Half a line, where a killed run ended.
                None if !line.ends_with(b"\n") => later.push(line),
                _ => this.bad.push(line.to_vec()),
            }
        }
        this.as_written =
            logged.is_none_or(|l| l.sha256 == sha256(this.kept.as_bytes()));
        this.cut = later.iter().filter(|l| l.ends_with(b"\n")).count();
        if !this.as_written {
            // One of these may have been a line that stays.
            this.bad.extend(later.iter().map(|l| l.to_vec()));
        }
        Ok(this)
    }
}

/// Appends lines to a file.
#[derive(Debug)]
pub struct Log {
    file: File,
    path: PathBuf,
    /// All that was written: a run keeps some thousand lines.
    text: String,
}
impl Log {
    /// Goes on after these lines: the file is made, or cut back to them. What
    /// is bad goes to the end of [`ASIDE`].
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub fn open(path: &Path, history: History) -> Result<Self> {
        if !history.bad.is_empty() {
            let aside = path.with_file_name(ASIDE);
            let mut all = if aside.exists() {
                file::read(&aside, file::ANY)?
            } else {
                vec![]
            };
            for line in &history.bad {
                all.extend(line.strip_suffix(b"\n").unwrap_or(line));
                all.push(b'\n');
            }
            write_atomic(&aside, |w| w.write_all(&all))?;
        }
        let text = history.kept;
        let file = write_anew(path, &text)?;
        Ok(Self { file, path: path.to_path_buf(), text })
    }
    /// Appends a line, at once.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn push(&mut self, line: &Line) -> Result<()> {
        let line = json(line);
        self.text += &line;
        let written = self.file.write_all(line.as_bytes());
        written.map_err(|e| failed(&self.path, e))
    }
    /// Waits until all lines are on the disk: before each checkpoint, so that
    /// no checkpoint is ahead of them. If the file is not what was written, it
    /// is written again, and the answer is false.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn sync(&mut self) -> Result<bool> {
        let whole =
            fs::read(&self.path).is_ok_and(|f| f == self.text.as_bytes());
        if whole {
            self.file.sync_all().map_err(|e| failed(&self.path, e))?;
        } else {
            self.file = write_anew(&self.path, &self.text)?;
        }
        Ok(whole)
    }
    /// What a checkpoint keeps of it.
    pub fn logged(&self, due: Option<Line>) -> Logged {
        Logged { sha256: sha256(self.text.as_bytes()), due }
    }
}
/// Writes the file whole, and opens it to append.
fn write_anew(path: &Path, text: &str) -> Result<File> {
    write_atomic(path, |w| w.write_all(text.as_bytes()))?;
    let file = OpenOptions::new().append(true).open(path);
    file.map_err(|e| failed(path, e))
}
fn failed(path: &Path, e: std::io::Error) -> Error {
    let cure = "make room, then continue the run with --resume";
    Error::io(path, e, cure)
}
fn json(line: &Line) -> String {
    let json = serde_json::to_string(line).expect("numbers are JSON");
    json + "\n"
}
/// Which lines stay: as many as can, of steps that rise and do not pass `last`.
/// So a line that says a step too high costs no line after it.
fn rising(steps: &[Option<usize>], last: usize) -> Vec<bool> {
    // The line that ends a row of each length, with the lowest step that can.
    let mut ends: Vec<usize> = vec![];
    let mut before = vec![None; steps.len()];
    for (i, step) in steps.iter().enumerate() {
        if !step.is_some_and(|l| (1..=last).contains(&l)) {
            continue;
        }
        let at = ends.partition_point(|&end| steps[end] < *step);
        before[i] = at.checked_sub(1).map(|at| ends[at]);
        match ends.get_mut(at) {
            Some(end) if steps[*end] == *step => {} // the first of two
            Some(end) => *end = i,
            None => ends.push(i),
        }
    }
    let mut stays = vec![false; steps.len()];
    let mut line = ends.last().copied();
    while let Some(i) = line {
        stays[i] = true;
        line = before[i];
    }
    stays
}
/// The step of a line that is whole.
fn parse(line: &str) -> Option<usize> {
    Some(serde_json::from_str::<Line>(line).ok()?.metrics.step)
}

/// The lines of a file that can be read: a killed run may have left half of
/// one, and a disk may have damaged others. A file that is not there has none.
///
/// # Errors
/// If the file is there and cannot be read.
pub fn read(path: &Path) -> Result<Vec<Line>> {
    if !path.exists() {
        return Ok(vec![]);
    }
    let bytes = file::read(path, file::ANY)?;
    let lines = bytes.split(|&b| b == b'\n');
    Ok(lines.filter_map(|l| serde_json::from_slice(l).ok()).collect())
}
