//! Chapter: training. All that a run needs to go on as if it had never stopped,
//! in one file.
//!
//! `training.safetensors` holds θ and what the optimizer keeps, each under its
//! name, and in its metadata, as one JSON string, a [`State`]. The batches need no generator's state: they follow
//! from the seed and the step (see [`draw`](crate::train::data::draw)).

use crate::config::Config;
use crate::error::{Error, Result, rule};
use crate::tensors::{Tensors, write_floats, write_header};
use crate::train::data::TextId;
use crate::train::options::Options;
use safetensors::Dtype;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

/// Its name in a run's directory.
pub const FILE: &str = "training.safetensors";

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
}
fn adamw() -> String {
    "adamw".into()
}
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
    write_header(to, &named, &[("training", &text)])?;
    tensors.iter().try_for_each(|(_, x)| write_floats(to, x))
}

impl Checkpoint {
    /// Reads a checkpoint, and looks at all that it says.
    ///
    /// # Errors
    /// If it cannot be read, is cut short, is no checkpoint, contradicts
    /// itself, or holds a number that is not finite.
    pub fn read(path: &Path) -> Result<Self> {
        let damaged = |why: String| {
            // The reasons of other crates may be of several lines.
            let why: Vec<_> = why.split_whitespace().collect();
            Error::input(
                path.display(),
                format!("damaged ({})", why.join(" ")),
                "a checkpoint has to be whole",
                "restore it from a copy, or begin anew in another --out",
            )
        };
        let file = Tensors::open(path).map_err(|e| match e {
            Error::Input { .. } => damaged(reason(e)),
            other => other,
        })?;
        Self::parse(&file).map_err(damaged)
    }
    fn parse(file: &Tensors) -> std::result::Result<Self, String> {
        let state = file.meta("training");
        let state = state.ok_or("no `training` in its metadata")?;
        let state: State = serde_json::from_str(state).map_err(text)?;
        let config = &state.config.to_string();
        let config = Config::from_json(config).map_err(text)?;
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
        let (step, steps) = (state.step, state.options.steps);
        if step > steps {
            return Err(format!("it is at step {step} of {steps}"));
        }
        let batch = state.options.batch;
        if !(1..=batch).contains(&state.shards) {
            return Err(format!("{batch} sequences, {} shards", state.shards));
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
fn text(e: impl std::fmt::Display) -> String {
    e.to_string()
}
/// What is wrong, without what to do about it.
fn reason(e: Error) -> String {
    match e {
        Error::Input { value, rule, .. } => format!("{value}, but {rule}"),
        other => text(other),
    }
}
