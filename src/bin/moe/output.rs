//! Chapter: training. Writing to a terminal, a file, or a pipe that may end.

use moe_by_hand::error::{Error, Result, plain, steers};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

/// Writes to stdout, at once; false if the reader has left, as `head` does
/// when it has seen enough. `print!` would panic.
pub(crate) fn show(text: &str) -> Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(e) => {
            let cure = "make room, or write elsewhere";
            Err(Error::io("standard output", e, cure))
        }
    }
}
/// A line on stderr. That nobody reads it is no error.
pub(crate) fn note(line: &str) {
    let _ = writeln!(io::stderr(), "moe: {}", plain(line));
}
/// A path as a shell takes it back, on one line: for commands to be pasted.
pub(crate) fn quote(path: &Path) -> String {
    let text = path.to_string_lossy();
    if text.contains(|c| steers(c) || c == char::REPLACEMENT_CHARACTER) {
        return by_printf(path);
    }
    // What begins with a minus sign would be an option.
    let text = match text.starts_with('-') {
        true => format!("./{text}"),
        false => text.into_owned(),
    };
    let safe = |c: char| c.is_alphanumeric() || "/._-+".contains(c);
    match !text.is_empty() && text.chars().all(safe) {
        true => text,
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}
/// The path as what `printf` makes of escapes: for bytes that are not to be
/// shown. `$(…)` takes newlines off the end, so what ends in one gets a `/.`.
fn by_printf(path: &Path) -> String {
    let bytes = path.as_os_str().as_encoded_bytes();
    let first = if bytes.starts_with(b"-") { "./" } else { "" };
    let byte = |&b: &u8| match b {
        b if b.is_ascii_alphanumeric() || b"/._-+ ".contains(&b) => {
            char::from(b).to_string()
        }
        b => format!("\\{b:03o}"),
    };
    let text: String = bytes.iter().map(byte).collect();
    let last = if bytes.ends_with(b"\n") { "/." } else { "" };
    format!("\"$(printf '{first}{text}{last}')\"")
}
