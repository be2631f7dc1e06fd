//! Chapter: gradcheck. `moe oracle`: what it says, and how it ends.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use crate::edit::Dir;
use std::path::{Path, PathBuf};

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle").join(name)
}
/// What the command says and how it ends.
fn moe(args: &[&Path]) -> (i32, String, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_moe"));
    let done = command.arg("oracle").args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (done.status.code().unwrap(), text(done.stdout), text(done.stderr))
}
#[test]
fn the_command_ends_with_0_1_or_2() {
    let (good, bad) = (directory("tiny"), Dir::copy_of(&directory("tiny")));
    bad.edit("reference.safetensors", |t| {
        t.get_mut("grad.model.norm.weight").unwrap().add(3, 1e-3);
    });
    let (code, said, error) = moe(&[&good]);
    assert_eq!((code, error.as_str()), (0, ""), "{said}");
    assert!(said.contains("logits") && !said.contains("FAIL"), "{said}");
    let (code, said, _) = moe(&[&good, &bad.0]);
    assert_eq!(code, 1);
    assert!(said.contains("grad.model.norm.weight[3]"), "{said}");
    let (code, said, _) = moe(&[Path::new("--json"), &good, &bad.0]);
    assert_eq!(code, 1);
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["ok"], false);
    assert_eq!(said["directories"][0]["ok"], true);
    assert_eq!(said["directories"][1]["ok"], false);
    let (code, said, error) = moe(&[Path::new("no/such/directory")]);
    assert_eq!((code, said.as_str()), (2, ""));
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(error.contains("no/such/directory"), "{error}");
}
