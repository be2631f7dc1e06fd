//! Text that becomes HTML, and the names of pages.

use anyhow::{Result, bail};
use regex::Regex;
use registry::{Place, Target};
use std::collections::HashMap;
use std::sync::Mutex;

pub(crate) use crate::chart::escape;

/// The page of a chapter's file.
pub(crate) fn html(file: &str) -> String {
    format!("{}.html", file.trim_end_matches(".md"))
}

/// A line of a source page; all chapters lie beside the folder `source`.
pub(crate) fn page_of(file: &str, line: usize) -> String {
    format!("source/{file}.html#L{line}")
}

/// The item, linked to its line.
pub(crate) fn link(target: &Target, place: &Place) -> String {
    let item = escape(&target.item);
    link_words(&format!("<code>{item}</code>"), place)
}

/// Some words, linked to a line.
pub(crate) fn link_words(words: &str, place: &Place) -> String {
    let page = page_of(&place.file, place.line);
    format!("<a href=\"{page}\" title=\"{place}\">{words}</a>")
}

/// A pattern, compiled once: that takes longer than to look through a page.
pub(crate) fn pattern(pattern: &str) -> Result<Regex> {
    static COMPILED: Mutex<Option<HashMap<String, Regex>>> = Mutex::new(None);
    let mut compiled = COMPILED.lock().unwrap_or_else(|e| e.into_inner());
    let compiled = compiled.get_or_insert_default();
    if let Some(regex) = compiled.get(pattern) {
        return Ok(regex.clone());
    }
    let regex = Regex::new(pattern)?;
    compiled.insert(pattern.to_string(), regex.clone());
    Ok(regex)
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// An error that says all of them, if there are any.
pub(crate) fn all_well(problems: &[String]) -> Result<()> {
    match problems {
        [] => Ok(()),
        [one] => bail!("{one}"),
        many => bail!("{} faults\n  {}", many.len(), many.join("\n  ")),
    }
}
