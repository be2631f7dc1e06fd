//! Chapter: training. All that a run needs to go on as if it had never stopped,
//! in one file.
//!
//! `training.safetensors` holds θ and what the optimizer keeps, each under its
//! name, and in its metadata, as one JSON string, a [`State`]. The batches need no generator's state: they follow
//! from the seed and the step (see [`draw`](crate::train::data::draw)).

use crate::config::Config;
use crate::error::{Error, Result};
use crate::file;
use crate::hf::write_header;
use crate::train::data::TextId;
use crate::train::options::Options;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
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

/// Writes a checkpoint: a [`State`] and named tensors. The numbers go out as
/// they lie in memory, in a small buffer's worth at a time: saving needs no
/// second copy of them.
///
/// # Errors
/// If the writer fails.
pub fn write(
    to: &mut dyn Write, state: &State, tensors: &[(&str, &[f32])],
) -> io::Result<()> {
    let text = serde_json::to_string(state)?;
    let mut to = BufWriter::new(to);
    let shape = |&(name, x): &(&str, &[f32])| (name.into(), vec![x.len()]);
    let named: Vec<_> = tensors.iter().map(shape).collect();
    write_header(&mut to, &named, &[("training", &text)])?;
    for x in tensors.iter().flat_map(|(_, x)| *x) {
        to.write_all(&x.to_le_bytes())?;
    }
    to.flush()
}

impl Checkpoint {
    /// Reads a checkpoint, and looks at all that it says.
    ///
    /// # Errors
    /// If it cannot be read, is cut short, is no checkpoint, contradicts
    /// itself, or holds a number that is not finite.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = file::read(path)?;
        Self::parse(&bytes).map_err(|why| {
            // The reasons of other crates may be of several lines.
            let why: Vec<_> = why.split_whitespace().collect();
            Error::input(
                path.display(),
                format!("damaged ({})", why.join(" ")),
                "a checkpoint has to be whole",
                "restore it from a copy, or begin anew in another --out",
            )
        })
    }
    fn parse(bytes: &[u8]) -> std::result::Result<Self, String> {
        let file = SafeTensors::deserialize(bytes).map_err(text)?;
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(text)?;
        let metadata = header.metadata().as_ref();
        let state = metadata.and_then(|m| m.get("training"));
        let state = state.ok_or("no `training` in its metadata")?;
        let state: State = serde_json::from_str(state).map_err(text)?;
        let config = &state.config.to_string();
        let config = Config::from_json(config).map_err(text)?;
        let mut tensors = BTreeMap::new();
        for (name, t) in file.iter() {
            if t.dtype() != Dtype::F32 || t.shape().len() != 1 {
                let (kind, shape) = (t.dtype(), t.shape());
                return Err(format!("{name} is {kind:?} {shape:?}"));
            }
            let (all, _) = t.data().as_chunks();
            let all = all.iter().map(|&b| f32::from_le_bytes(b));
            let all: Vec<f32> = all.collect();
            if let Some(at) = all.iter().position(|x| !x.is_finite()) {
                return Err(format!("{name}[{at}] is {}", all[at]));
            }
            tensors.insert(name.to_string(), all);
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
fn text(e: impl std::fmt::Display) -> String {
    e.to_string()
}
