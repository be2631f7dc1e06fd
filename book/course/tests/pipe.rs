//! What a command says into a pipe, and where nobody reads any more.
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
#[test]
fn hints_are_plain_and_narrow() -> io::Result<()> {
    for level in ["1", "2", "3"] {
        let mut course = Command::new(env!("CARGO_BIN_EXE_course"));
        let done = course.args(["hint", "matmul-backward", level]).output()?;
        let said = String::from_utf8_lossy(&done.stdout);
        assert!(done.status.success() && !said.is_empty(), "{level}");
        let plain = |l: &str| !l.contains(['\x1b', '\\', '`']);
        let narrow = |l: &str| l.chars().count() <= 80;
        let good = |l: &str| (level == "1" || plain(l)) && narrow(l);
        assert!(said.lines().all(good), "{level}: {said}");
    }
    Ok(())
}
