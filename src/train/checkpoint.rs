//! Chapter: training. All that a run needs to go on as if it had never stopped,
//! in one file.
//!
//! `training.safetensors` holds θ and what the optimizer keeps, each under its
//! name, and in its metadata, as one JSON string, a [`State`]. The batches need no generator's state: they follow
//! from the seed and the step (see [`draw`](crate::train::data::draw)).

use crate::config::Config;
use crate::error::{Error, Result, rule};
use crate::file;
use crate::kernel::simd::Isa;
use crate::tensors::{self, Tensors, sha256, write_floats};
use crate::train::data::TextId;
use crate::train::metrics::Logged;
use crate::train::options::Options;
use crate::train::precision::{LossScale, Precision, Scaler};
use safetensors::Dtype;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;

/// Its name in a run's directory.
pub const FILE: &str = "training.safetensors";
/// The file that says what a run is, from before its first step on.
pub const RUN: &str = "run.json";
/// The version of the arithmetic. It rises with every change of the last bits
/// that the same settings lead to; `tests/arithmetic.rs` notices one.
pub const ARITHMETIC: u32 = 3;

/// What a run is, and how far it has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Steps done.
    pub step: usize,
    /// How many shards each gradient is summed from: it decides the last
    /// bits, so it belongs to the run.
    pub shards: usize,
    /// The settings.
    pub options: Options,
    /// The sizes, as in `config.json`.
    pub config: Value,
    /// Which text.
    pub text: TextId,
    /// Which optimizer; the first edition had this one only.
    #[serde(default = "adamw")]
    pub optimizer: String,
    /// The names and shapes of all parameters, as one hash; the first edition
    /// did not save it.
    #[serde(default)]
    pub layout: Option<String>,
    /// The instruction set; the first edition did not save it.
    #[serde(default)]
    pub isa: Option<String>,
    /// The [`ARITHMETIC`] of the program.
    #[serde(default = "first")]
    pub arithmetic: u32,
    /// What weights, activations and gradients are stored in; θ here is f32.
    #[serde(default = "f32")]
    pub precision: String,
    /// The state of a loss scale that the run finds by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaler: Option<Scaler>,
    /// What `metrics.jsonl` holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<Logged>,
    /// When the run began, in milliseconds since 1970; in `run.json` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun: Option<u64>,
}
// What the first edition did not save.
fn adamw() -> String {
    "adamw".into()
}
fn first() -> u32 {
    1
}
fn f32() -> String {
    "f32".into()
}
impl State {
    /// Reads a `run.json`.
    ///
    /// # Errors
    /// If it cannot be read, or is not as it was written.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = file::read(path, file::SMALL)?;
        Self::parse(&bytes).map_err(|why| damaged(path, &why))
    }
    fn parse(bytes: &[u8]) -> std::result::Result<Self, String> {
        let all = str::from_utf8(bytes).map_err(text)?;
        let mut json: Value = serde_json::from_str(all).map_err(text)?;
        let fields = json.as_object_mut().ok_or("no JSON object")?;
        let hash = fields.remove("sha256");
        let hash = hash.as_ref().and_then(Value::as_str);
        let hash = hash.ok_or("no `sha256`")?;
        let signed = all.replacen(hash, UNSIGNED, 1);
        if sha256(signed.as_bytes()) != hash {
            return Err("its SHA-256 is not the one it names".into());
        }
        let state: Self = serde_json::from_value(json).map_err(text)?;
        state.check()?;
        Ok(state)
    }
    /// As a `run.json`: with a hash of its own text.
    pub fn to_json(&self) -> String {
        let mut json = serde_json::json!(self);
        json["sha256"] = UNSIGNED.into();
        let text = format!("{json:#}\n");
        text.replacen(UNSIGNED, &sha256(text.as_bytes()), 1)
    }
    /// The sizes, read and validated.
    ///
    /// # Errors
    /// If they break a rule.
    pub fn config(&self) -> Result<Config> {
        Config::from_json(&self.config.to_string())
    }
    /// Whether it contradicts itself.
    fn check(&self) -> std::result::Result<(), String> {
        self.config().map_err(text)?;
        let (step, steps) = (self.step, self.options.steps);
        if step > steps {
            return Err(format!("it is at step {step} of {steps}"));
        }
        let batch = self.options.batch;
        if !(1..=batch).contains(&self.shards) {
            return Err(format!("{batch} sequences, {} shards", self.shards));
        }
        let dynamic = self.options.loss_scale == LossScale::Dynamic;
        if self.scaler.is_some() != dynamic {
            let scale = self.options.loss_scale;
            return Err(format!(
                "the loss scale is {scale}, {:?}",
                self.scaler
            ));
        }
        self.scaler.map_or(Ok(()), |scaler| scaler.check())?;
        Ok(())
    }
    /// Whether two files of a directory are of one run.
    ///
    /// # Errors
    /// If not; `of` is the directory.
    pub fn check_run(&self, begun: &Self, of: &Path) -> Result<()> {
        let run = |s: &Self| {
            let (options, config) = (s.options.clone(), s.config.clone());
            let (text, optimizer) =
                (s.text.sha256.clone(), s.optimizer.clone());
            (options, config, text, optimizer, s.shards)
        };
        let of = format!("what {} holds", of.display());
        let value = format!("{RUN} of one run and {FILE} of another");
        let same = run(self) == run(begun);
        let cure = "restore the one that was replaced";
        rule(same, of, value, "a directory holds one run", cure)
    }
    /// Whether this program, with the instruction set it runs with, computes
    /// the bits that the run would have had.
    ///
    /// # Errors
    /// If not; the message names the flag to go on all the same.
    pub fn check_arithmetic(&self) -> Result<()> {
        let begun =
            |with: &dyn Display| format!("the run was begun with {with}");
        let other = "or give --other-arithmetic, which goes on with other bits";
        let here = Isa::current().to_string();
        let isa = self.isa.as_ref().unwrap_or(&here);
        let what = "the instruction set";
        let cure = format!(
            "use a CPU that has that one, with MOE_SIMD={isa}, {other}"
        );
        rule(*isa == here, what, &here, begun(isa), cure)?;
        let same = self.arithmetic == ARITHMETIC;
        let what = "the version of the arithmetic";
        let cure = format!("use a program of that version, {other}");
        rule(same, what, ARITHMETIC, begun(&self.arithmetic), cure)?;
        self.precision().map(drop)
    }
    /// What weights, activations and gradients are stored in.
    ///
    /// # Errors
    /// If this program does not have it.
    pub fn precision(&self) -> Result<Precision> {
        self.precision.parse().map_err(|has: String| {
            let (what, cure) = ("the precision", "use a program that has it");
            Error::input(what, &self.precision, format!("here {has}"), cure)
        })
    }
}
/// What stands in a `run.json` where its hash will be.
const UNSIGNED: &str =
    "0000000000000000000000000000000000000000000000000000000000000000";
/// The name of θ; all other tensors are the optimizer's.
pub const THETA: &str = "theta";

/// A [`State`] with its numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// What the run is.
    pub state: State,
    /// The sizes, read and validated.
    pub config: Config,
    /// θ, under the name [`THETA`], and what the optimizer keeps.
    pub tensors: BTreeMap<String, Vec<f32>>,
}

/// Writes a checkpoint: a [`State`] and named tensors.
///
/// # Errors
/// If the writer fails.
pub fn write(
    to: &mut dyn Write, state: &State, tensors: &[(&str, &[f32])],
) -> io::Result<()> {
    let text = serde_json::to_string(state)?;
    let shape = |&(name, x): &(&str, &[f32])| (name.into(), vec![x.len()]);
    let named: Vec<_> = tensors.iter().map(shape).collect();
    let (meta, dtype) = ([("training", text.as_str())], Dtype::F32);
    tensors::write(to, dtype, &named, &meta, |i, w| {
        write_floats(w, dtype, tensors[i].1)
    })
}

impl Checkpoint {
    /// Reads a checkpoint, and looks at all that it says.
    ///
    /// # Errors
    /// If it cannot be read, is cut short, is no checkpoint, contradicts
    /// itself, or holds a number that is not finite.
    pub fn read(path: &Path) -> Result<Self> {
        let file = Tensors::open(path).map_err(|e| match e {
            Error::Input { .. } => damaged(path, &reason(e)),
            other => other,
        })?;
        Self::parse(&file).map_err(|why| damaged(path, &why))
    }
    fn parse(file: &Tensors) -> std::result::Result<Self, String> {
        let state = file.meta("training");
        let state = state.ok_or("no `training` in its metadata")?;
        let state: State = serde_json::from_str(state).map_err(text)?;
        state.check()?;
        let config = state.config().map_err(text)?;
        let mut tensors = BTreeMap::new();
        for name in file.names() {
            let &[n] = file.shape(&name) else {
                let shape = file.shape(&name);
                return Err(format!("{name} is of shape {shape:?}"));
            };
            let all = file.numbers(&name, &[n], &[Dtype::F32]);
            let all = all.map_err(|e| format!("{name} is {}", reason(e)));
            let (_, all): (_, Vec<f32>) = all?;
            if let Some(at) = all.iter().position(|x| !x.is_finite()) {
                return Err(format!("{name}[{at}] is {}", all[at]));
            }
            tensors.insert(name, all);
        }
        if !tensors.contains_key(THETA) {
            return Err(format!("there is no tensor `{THETA}`"));
        }
        Ok(Self { state, config, tensors })
    }
}
/// An error that names the first field of `saved` that `given` does not share,
/// with `prefix` before its name.
///
/// # Errors
/// If there is one.
pub(crate) fn check_same(
    prefix: &str, given: &Value, saved: &Value, cure: &str,
) -> Result<()> {
    for (name, saved) in saved.as_object().into_iter().flatten() {
        let same = given[name] == *saved;
        let of_run = format!("the checkpoint has {saved}");
        rule(same, format!("{prefix}{name}"), &given[name], of_run, cure)?;
    }
    Ok(())
}
fn damaged(path: &Path, why: &str) -> Error {
    // The reasons of other crates may be of several lines.
    let why: Vec<_> = why.split_whitespace().collect();
    Error::input(
        path.display(),
        format!("damaged ({})", why.join(" ")),
        "a run goes on from what it wrote",
        "restore it from a copy, or begin anew in another --out",
    )
}
fn text(e: impl Display) -> String {
    e.to_string()
}
/// What is wrong, without what to do about it.
fn reason(e: Error) -> String {
    match e {
        Error::Input { value, rule, .. } => format!("{value}, but {rule}"),
        other => text(other),
    }
}
