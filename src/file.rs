//! Chapter: training. Files that are whole or not there.

use crate::error::{Error, Result};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Writes a file under a temporary name beside `path` and renames it into
/// place: who reads sees the old content or the new one, never half of it,
/// whatever stops the program.
///
/// # Errors
/// If anything fails; what stood at `path` before is then untouched, and the
/// temporary file is gone.
pub fn write_atomic(
    path: &Path, content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".part");
    let part = path.with_file_name(name);
    let write = || {
        let mut file = File::create(&part)?;
        content(&mut file)?;
        file.sync_all()?;
        fs::rename(&part, path)
    };
    write().map_err(|e| {
        // What was written so far is of no use; that it may not be removable
        // either changes nothing about the error to report.
        let _ = fs::remove_file(&part);
        let cure = "make room or choose another directory; nothing was lost";
        Error::io(path, e, cure)
    })
}

/// Reads a file.
///
/// # Errors
/// If it cannot be read.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let cure = "check the path and its permissions";
    fs::read(path).map_err(|e| Error::io(path, e, cure))
}
