//! A test that starts its own program again: `MOE_SIMD` is read once, so each
//! of its values needs a process of its own.

use std::env;
use std::process::Command;

/// Runs one test of this very program with `MOE_SIMD` set to `word`, and
/// returns the rest of the line it printed that begins with `start`.
///
/// On a foreign CPU the program starts as cargo started this one: by the
/// runner in the environment.
#[track_caller]
pub(crate) fn again(test: &str, word: &str, start: &str) -> String {
    let me = env::current_exe().expect("a path to this program");
    let arch = env::consts::ARCH.to_uppercase();
    let runner = format!("CARGO_TARGET_{arch}_UNKNOWN_LINUX_GNU_RUNNER");
    let runner = env::var(runner).unwrap_or_default();
    let mut words = runner.split_whitespace();
    let mut command = match words.next() {
        None => Command::new(me),
        Some(first) => {
            let mut command = Command::new(first);
            command.args(words).arg(me);
            command
        }
    };
    command.args(["--exact", test, "--nocapture"]).env("MOE_SIMD", word);
    let out = command.output().expect("it starts");
    let text = String::from_utf8_lossy(&out.stdout);
    let why = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{test} with {word}: {text}{why}");
    let said = text.lines().find_map(|line| line.strip_prefix(start));
    said.unwrap_or_else(|| panic!("{test} with {word}: {text}")).to_string()
}
