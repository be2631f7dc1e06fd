//! Chapter: training. Files that are whole or not there.

use crate::error::{Error, Result};
use crate::system;
use std::fs::{self, File};
use std::io::{self, Read, Write};
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

/// Opens a file that is to be read, and says how long it is: the one way in.
///
/// Only an ordinary file is opened. A directory, a device, a socket or a named
/// pipe is refused at once: some of them never end, and some never begin. What
/// was looked at is what was opened, also when somebody exchanges the file
/// meanwhile, and opening waits for nobody.
///
/// # Errors
/// If it cannot be opened, is no ordinary file, or is longer than `limit`.
pub fn open(path: &Path, limit: u64) -> Result<(File, u64)> {
    let io = |e| Error::io(path, e, CHECK);
    let wrong = |value: &str, rule: &str, cure: &str| {
        Err(Error::input(path.display(), value, rule, cure))
    };
    let ordinary = "it has to be an ordinary file";
    // Opening a device may already do something, so it is looked at first.
    let kind = |m: &fs::Metadata| match m.file_type() {
        t if t.is_dir() => Some("a directory"),
        t if t.is_file() => None,
        _ => Some("a device or a pipe"),
    };
    if let Some(other) = kind(&fs::metadata(path).map_err(io)?) {
        return wrong(other, ordinary, "name a file, or copy it into one");
    }
    let mut options = File::options();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    }
    let mut file = options.open(path).map_err(io)?;
    let meta = file.metadata().map_err(io)?;
    if let Some(other) = kind(&meta) {
        return wrong(other, ordinary, "name a file, or copy it into one");
    }
    // The system's own files have no length, and some of them no end.
    if meta.len() == 0 && !matches!(file.read(&mut [0]), Ok(0)) {
        let value = "without a length, but not empty";
        return wrong(value, ordinary, "copy what you need of it into a file");
    }
    if meta.len() > limit {
        let value = format!("{} bytes long", meta.len());
        let rule = format!("at most {limit} bytes are read of such a file");
        return wrong(&value, &rule, "check that it is the right file");
    }
    Ok((file, meta.len()))
}
const CHECK: &str = "check the path and its permissions";

/// Reads a file of at most `limit` bytes, through [`open`].
///
/// # Errors
/// If it cannot be opened or read, or memory is too small for it.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let (file, len) = open(path, limit)?;
    system::check(path.display(), len)?;
    let mut bytes = Vec::with_capacity(len as usize);
    // Not beyond its length: it may grow for ever.
    let read = file.take(len).read_to_end(&mut bytes);
    read.map_err(|e| Error::io(path, e, CHECK))?;
    Ok(bytes)
}
/// Bytes of a file whose only limit is memory.
pub const ANY: u64 = u64::MAX;
/// Bytes that a config, or another small file of settings, may have.
pub const SMALL: u64 = 1 << 20;

/// Reads standard input to its end, as far as memory goes.
///
/// # Errors
/// If it cannot be read, or memory is too small for it.
pub fn read_stdin() -> Result<Vec<u8>> {
    const PART: u64 = 16 << 20;
    let (mut bytes, mut input) = (vec![], io::stdin().lock());
    loop {
        // A vector that grows may have to be copied.
        system::check("the text", 2 * (bytes.len() as u64 + PART))?;
        let part = input.by_ref().take(PART).read_to_end(&mut bytes);
        let cure = "give a file, or pipe something into it";
        match part.map_err(|e| Error::io("standard input", e, cure))? {
            0 => return Ok(bytes),
            _ => continue,
        }
    }
}
