//! Chapter: training. The ladder's numbers and texts, as the chapters take
//! them.

use moe_by_hand::error::Result;
use moe_by_hand::file::write_atomic;
use moe_by_hand::tensors::sha256;
use moe_by_hand::train::checkpoint::ARITHMETIC;
use moe_by_hand::train::data::Text;
use moe_by_hand::train::options::Options;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A model of the ladder.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rung {
    pub(crate) name: String,
    /// To the rung below.
    pub(crate) added: String,
    pub(crate) parameters: usize,
    /// What a byte uses of them.
    pub(crate) active: usize,
    /// Validation, in nats per byte.
    pub(crate) loss: f64,
    pub(crate) sample: String,
}
/// What the last rung was after so many steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Moment {
    pub(crate) step: usize,
    pub(crate) loss: f64,
    pub(crate) sample: String,
}
/// What it writes in the end, at this temperature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Heat {
    pub(crate) temperature: f64,
    pub(crate) sample: String,
}
/// What came of one rung.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Climb {
    pub(crate) rung: Rung,
    pub(crate) moments: Vec<Moment>,
    pub(crate) heats: Vec<Heat>,
}

/// `book/ladder.json`
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Data {
    pub(crate) command: String,
    /// The hash of the JSON of `rungs`, `steps` and `temperatures`.
    pub(crate) sha256: String,
    /// What was learned: its length and SHA-256.
    pub(crate) text_bytes: usize,
    pub(crate) text_sha256: String,
    pub(crate) arithmetic: u32,
    pub(crate) options: Options,
    pub(crate) rungs: Vec<Rung>,
    pub(crate) steps: Vec<Moment>,
    pub(crate) temperatures: Vec<Heat>,
}
impl Data {
    pub(crate) fn new(
        file: &str, text: &Text, options: &Options, climbs: Vec<Climb>,
    ) -> Self {
        let of = "cargo example ladder -- --data --text";
        let steps = climbs.iter().flat_map(|c| c.moments.clone()).collect();
        let heats = climbs.iter().flat_map(|c| c.heats.clone()).collect();
        let mut data = Self {
            command: format!("{of} {file}"),
            sha256: String::new(),
            text_bytes: text.id.bytes,
            text_sha256: text.id.sha256.clone(),
            arithmetic: ARITHMETIC,
            options: options.clone(),
            rungs: climbs.into_iter().map(|c| c.rung).collect(),
            steps,
            temperatures: heats,
        };
        data.sha256 = data.hash();
        data
    }
    /// What `sha256` has to be.
    pub(crate) fn hash(&self) -> String {
        let all = (&self.rungs, &self.steps, &self.temperatures);
        sha256(serde_json::to_string(&all).unwrap().as_bytes())
    }
    pub(crate) fn path() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("book/ladder.json")
    }
    pub(crate) fn write(&self) -> Result<PathBuf> {
        let json = serde_json::to_string_pretty(self).unwrap() + "\n";
        let path = Self::path();
        write_atomic(&path, |w| w.write_all(json.as_bytes()))?;
        Ok(path)
    }
    #[cfg(test)]
    pub(crate) fn read() -> Self {
        let text = std::fs::read_to_string(Self::path()).unwrap();
        serde_json::from_str(&text).unwrap()
    }
}
