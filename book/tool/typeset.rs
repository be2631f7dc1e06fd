//! Formulas that were typeset before: a book has thousands, and most of them
//! are as they were at the last build.

use crate::text::hex;
use anyhow::Result;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

/// HTML by key.
pub(crate) type Typeset = BTreeMap<String, String>;

static KNOWN: Mutex<Typeset> = Mutex::new(Typeset::new());

fn known() -> MutexGuard<'static, Typeset> {
    KNOWN.lock().unwrap_or_else(|e| e.into_inner())
}

/// The key of a formula: it depends on all that its HTML depends on.
pub(crate) fn key(tex: &str, display: bool) -> String {
    let version = katex::KATEX_VERSION.trim();
    let tool = env!("CARGO_PKG_VERSION");
    let hash =
        Sha256::digest(format!("{version} {tool} {display} {}", tex.trim()));
    hex(&hash[..16])
}

/// Its HTML, if it was typeset before.
pub(crate) fn find(key: &str) -> Option<String> {
    known().get(key).cloned()
}

/// Reads what the last build kept; a folder without it has none.
pub(crate) fn load(root: &Path) {
    let kept = fs::read_to_string(root.join("target/book/formulas.json"));
    let kept: Option<Typeset> =
        kept.ok().and_then(|t| serde_json::from_str(&t).ok());
    known().extend(kept.unwrap_or_default());
}

/// Keeps what this build used.
pub(crate) fn keep(root: &Path, used: Typeset) -> Result<()> {
    fs::create_dir_all(root.join("target/book"))?;
    let file = root.join("target/book/formulas.json");
    let new = file.with_extension("new");
    fs::write(&new, serde_json::to_string(&used)?)?;
    fs::rename(new, file)?;
    known().extend(used);
    Ok(())
}
