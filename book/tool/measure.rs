//! The errors that `moe check` last measured, and of which sources.

use crate::text::hex;
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What was measured of each equation, by id.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// Whether the sources are still those that were measured.
    pub current: bool,
    /// The rungs of each equation.
    pub rungs: BTreeMap<String, Vec<Rung>>,
    /// What is not measured of each equation, with the reason.
    pub unmeasured: BTreeMap<String, Vec<String>>,
}

/// The largest error of one equation on one rung, against its bound.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rung {
    /// T1 to T5, T7, T10.
    pub rung: String,
    /// The error; `None` if it is not a number.
    pub error: Option<f64>,
    /// What it must not exceed.
    pub bound: f64,
    /// Whether it does not.
    pub holds: bool,
    /// What the measure says of itself.
    #[serde(default)]
    pub detail: String,
}

/// What is kept under `target/`.
#[derive(Serialize, Deserialize)]
struct Kept {
    key: String,
    equations: Vec<Entry>,
}
#[derive(Serialize, Deserialize)]
struct Entry {
    id: String,
    holds: bool,
    rungs: Vec<Rung>,
    #[serde(default)]
    unmeasured: Vec<String>,
}

fn file(root: &Path) -> PathBuf {
    root.join("target/book/measured.json")
}

/// The hash of all that the errors depend on, but for the processor: T5 is of
/// the instruction set that is used.
pub fn key(root: &Path) -> Result<String> {
    let mut files = vec!["equations.toml".to_string()];
    files.extend(["Cargo.toml", "Cargo.lock"].map(String::from));
    files.extend(registry::files(root, "src", "rs")?);
    let mut hash = Sha256::new();
    hash.update(std::env::var("MOE_SIMD").unwrap_or_default());
    for file in &files {
        // A fixture has no Cargo.lock. A checkout has its own line ends, which
        // change no error.
        let text = registry::read(root, file).unwrap_or_default();
        hash.update(file.as_bytes());
        hash.update(text.len().to_le_bytes());
        hash.update(text);
    }
    Ok(hex(&hash.finalize()))
}

/// The errors last measured; empty if there are none.
pub fn last(root: &Path) -> Measured {
    let text = fs::read_to_string(file(root)).unwrap_or_default();
    let Ok(kept) = serde_json::from_str::<Kept>(&text) else {
        return Measured::default();
    };
    let mut measured = Measured {
        current: key(root).is_ok_and(|key| key == kept.key),
        ..Measured::default()
    };
    for e in kept.equations {
        measured.unmeasured.insert(e.id.clone(), e.unmeasured);
        measured.rungs.insert(e.id, e.rungs);
    }
    measured
}

/// Runs `moe check`, which has to be compiled first, and keeps what it says.
pub fn measure(root: &Path) -> Result<()> {
    let key = key(root)?;
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let run = ["run", "--quiet", "--bin", "moe", "--"];
    let output = Command::new(cargo)
        .args(run)
        .args(["check", "--json"])
        .current_dir(root)
        .output()
        .context("cargo run --bin moe -- check --json")?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(
        !text.trim().is_empty(),
        "moe check measured nothing; mend the library, then build again\n{}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    ensure!(
        key == self::key(root)?,
        "the sources changed while they were measured; build again"
    );
    keep(root, &key, &text)
}

/// Keeps the output of `moe check --json` as that of the sources of this key.
pub fn keep(root: &Path, key: &str, json: &str) -> Result<()> {
    let equations: Vec<Entry> = serde_json::from_str(json)
        .context("moe check --json: is not what the book expects")?;
    let broken = equations.iter().filter(|e| !e.holds);
    let broken: Vec<_> = broken.map(|e| e.id.as_str()).collect();
    if !broken.is_empty() {
        bail!(
            "moe check: {} exceeds its bound; `cargo run --release -- check` \
             says where: mend the code",
            broken.join(", ")
        );
    }
    complete(root, &equations)?;
    let kept = Kept { key: key.to_string(), equations };
    let file = file(root);
    fs::create_dir_all(root.join("target/book"))?;
    let new = file.with_extension("new");
    fs::write(&new, serde_json::to_string_pretty(&kept)?)?;
    Ok(fs::rename(new, file)?)
}

/// Every equation but a definition was measured, and nothing else.
fn complete(root: &Path, measured: &[Entry]) -> Result<()> {
    let mut equations = registry::Registry::load(root)?.equations;
    equations.retain(|e| e.kind != registry::Kind::Definition);
    for e in &equations {
        ensure!(
            measured.iter().any(|m| m.id == e.id),
            "equations.toml: [{}] was not measured; add its check to \
             src/check",
            e.id
        );
    }
    for m in measured {
        ensure!(
            equations.iter().any(|e| e.id == m.id),
            "src/check: equations.toml has no [{}] to prove; add it, or \
             take the check out",
            m.id
        );
    }
    Ok(())
}

impl Rung {
    /// `T1 3e-11 ≤ 1e-7`; of T10 `exact`, and what it rests on.
    pub fn words(&self) -> String {
        let rung = &self.rung;
        match (rung.as_str(), self.holds) {
            ("T10", true) => format!("{rung} exact: {}", self.detail),
            ("T10", false) => format!("{rung} not equal"),
            _ => format!("{rung} {} ≤ {}", self.error(), self.bound()),
        }
    }

    /// `3e-11`, with one significant digit; 0 is exact.
    pub fn error(&self) -> String {
        match self.error {
            Some(0.0) => "0".into(),
            Some(error) => format!("{error:.0e}"),
            None => "NaN".into(),
        }
    }

    /// `1e-7`; 0 is exact.
    pub fn bound(&self) -> String {
        match self.bound {
            0.0 => "0".into(),
            bound => format!("{bound:.0e}"),
        }
    }
}
