//! Chapter: training. Starts `moe`, and looks at how it ended.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// `moe` with these arguments, to be started.
pub(crate) fn moe(
    args: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Command {
    let mut moe = Command::new(env!("CARGO_BIN_EXE_moe"));
    moe.args(args);
    moe
}
/// The words of a line, as arguments.
pub(crate) fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split_whitespace()
}
/// How a command ended, and what it said.
pub(crate) struct End {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}
pub(crate) fn end(command: &mut Command) -> End {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let [out, err] = [stdout, stderr]
        .map(|said| String::from_utf8(said).expect("what is said is UTF-8"));
    End { code: status.code(), out, err }
}
/// What it says on stdout; it has to succeed.
#[track_caller]
pub(crate) fn succeeds(command: &mut Command) -> String {
    let End { code, out, err } = end(command);
    assert_eq!(code, Some(0), "{command:?}: {err}");
    out
}
/// Exit code 2, nothing on stdout, and one line on stderr with these parts.
#[track_caller]
pub(crate) fn fails(command: &mut Command, parts: &[&str]) {
    let End { code, out, err } = end(command);
    assert_eq!((code, out.as_str()), (Some(2), ""), "{command:?}: {err}");
    let whole = err.starts_with("moe: ") && err.ends_with('\n');
    assert!(whole && err.lines().count() == 1, "{command:?}: {err}");
    for part in parts {
        assert!(err.contains(part), "{command:?}: no `{part}` in {err}");
    }
}
/// A file of the project.
pub(crate) fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..").join(path)
}
