//! Chapter: training. Writing to a terminal, a file, or a pipe that may end.

use moe_by_hand::error::{Error, Result};
use std::io::{self, ErrorKind, Write};

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
    let _ = writeln!(io::stderr(), "moe: {line}");
}
