//! What a command says where nobody reads its output any more.
#![allow(missing_docs, reason = "a test is documented by its name")]

use std::io;
use std::process::{Command, Stdio};

#[test]
fn without_a_reader_nothing_panics() -> io::Result<()> {
    let (reader, writer) = io::pipe()?;
    drop(reader);
    let mut course = Command::new(env!("CARGO_BIN_EXE_course"));
    let done = course.arg("list").stdout(writer).stderr(Stdio::piped());
    let done = done.output()?;
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && said.is_empty(), "{said}");
    Ok(())
}
