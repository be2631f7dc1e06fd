//! What every reader here shares: an error, a file read, a folder walked, and
//! a guess at what a misspelt name meant; an end without a reader.

use std::fmt;
use std::path::{Path, PathBuf};
use strsim::levenshtein;

/// What could not be read: one line that names the thing, its value, the rule
/// and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(pub(crate) String);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        // One line, whatever the file holds.
        self.0.chars().try_for_each(|c| match c {
            c if c.is_control() => write!(f, "{}", c.escape_default()),
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' => {
                write!(f, "{}", c.escape_unicode())
            }
            '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{61c}' => {
                write!(f, "{}", c.escape_unicode())
            }
            c => write!(f, "{c}"),
        })
    }
}

impl std::error::Error for Error {}

/// The text of `file`, which is relative to `root`. Its lines end in `\n`, also
/// where the checkout has `\r\n`.
pub fn read(root: &Path, file: &str) -> Result<String, Error> {
    let text = std::fs::read_to_string(root.join(file))
        .map_err(|e| Error(format!("{file}: cannot be read: {e}")))?;
    Ok(text.replace("\r\n", "\n"))
}

/// All files under `root/folder` that end in `.ext`, relative to `root`, with
/// `/` between their parts, sorted; none if there is no such folder. An empty
/// `ext` takes every file.
pub fn files(
    root: &Path, folder: &str, ext: &str,
) -> Result<Vec<String>, Error> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_string()];
    while let Some(folder) = folders.pop() {
        let path = root.join(&folder);
        if !path.is_dir() {
            continue;
        }
        let fail = |e| Error(format!("{folder}: cannot be listed: {e}"));
        for entry in std::fs::read_dir(&path).map_err(fail)? {
            let path: PathBuf = entry.map_err(fail)?.path();
            let Some(name) = path.file_name().and_then(|n| n.to_str()) else {
                continue;
            };
            let name = match &*folder {
                "" => name.to_string(),
                folder => format!("{folder}/{name}"),
            };
            if path.is_dir() {
                folders.push(name);
            } else if ext.is_empty()
                || path.extension().is_some_and(|e| e == ext)
            {
                found.push(name);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The name most like `word`, if at most a third of its letters differ.
pub(crate) fn nearest<'a>(
    word: &str, names: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let names = names.into_iter().map(|name| (levenshtein(word, name), name));
    let (distance, name) = names.min()?;
    (3 * distance <= word.chars().count()).then_some(name)
}

/// "nearest is `name`", or what to do where nothing is near.
pub fn hint<'a>(
    word: &str, names: impl IntoIterator<Item = &'a str>, otherwise: &str,
) -> String {
    match nearest(word, names) {
        Some(name) => format!("nearest is `{name}`"),
        None => otherwise.to_string(),
    }
}

/// From here on a program ends without a word where nobody reads its output any
/// more, as in `… | head`. `println!` panics there, which looks like a fault.
pub fn end_with_the_reader() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let said = panic.payload().downcast_ref::<String>();
        let pipe = "failed printing to stdout: Broken pipe";
        if said.is_some_and(|s| s.starts_with(pipe)) {
            std::process::exit(0);
        }
        before(panic);
    }));
}
