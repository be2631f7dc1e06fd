//! Chapter 21. All that a run needs to go on as if it had never stopped, in
//! one file.
//!
//! `training.safetensors` holds θ, m and v, and in its metadata, as one JSON
//! string, a [`State`]. The batches need no generator's state: they follow
//! from the seed and the step (see [`draw`](crate::train::data::draw)).

use crate::config::Config;
use crate::error::{Error, Result, rule};
use crate::tensors::{Tensors, write_floats, write_header};
use crate::train::data::TextId;
use crate::train::options::Options;
use safetensors::Dtype;
use serde::{Deserialize, Serialize};
use serde_json::Value;
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
}
/// θ, m and v.
pub const TENSORS: [&str; 3] = ["theta", "m", "v"];

/// A [`State`] with its numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// What the run is.
    pub state: State,
    /// The sizes, read and validated.
    pub config: Config,
    /// θ, m and v, of one length.
    pub tensors: [Vec<f32>; 3],
}

/// Writes a checkpoint.
///
/// # Errors
/// If the writer fails.
///
/// # Panics
/// If the tensors are not of one length.
pub fn write(
    to: &mut dyn Write, state: &State, tensors: [&[f32]; 3],
) -> io::Result<()> {
    let n = tensors[0].len();
    assert_eq!(tensors.map(<[f32]>::len), [n; 3], "θ, m, v: one length");
    let text = serde_json::to_string(state)?;
    let named = TENSORS.map(|name| (name.to_string(), vec![n]));
    write_header(to, &named, &[("training", &text)])?;
    tensors.into_iter().try_for_each(|x| write_floats(to, x))
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
        let shape = [config.total() as usize];
        let read = |name: &str| {
            let all = file.numbers(name, &shape, &[Dtype::F32]);
            let all = all.map_err(|e| format!("{name} is {}", reason(e)));
            let (_, all): (_, Vec<f32>) = all?;
            match all.iter().position(|x| !x.is_finite()) {
                Some(at) => Err(format!("{name}[{at}] is {}", all[at])),
                None => Ok(all),
            }
        };
        let tensors = [read("theta")?, read("m")?, read("v")?];
        if let Some(at) = tensors[2].iter().position(|&v| v < 0.0) {
            return Err(format!("v[{at}], a mean square, is negative"));
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
