//! Chapter: model. `moe info`: what a model takes, from its sizes alone.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use serde_json::Value;
use std::process::Command;

fn info(args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_moe"));
    let done = command.arg("info").args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (done.status.code().unwrap(), text(done.stdout), text(done.stderr))
}
#[test]
fn parameters_are_counted() {
    for (name, total, active) in [
        ("tiny", 345_920, 247_616),
        ("moe_6_9b", 6_882_678_528u64, 1_786_599_168u64),
    ] {
        let (code, said, error) = info(&["--preset", name, "--json"]);
        assert_eq!((code, error.as_str()), (0, ""));
        let said: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(said["parameters"]["total"], total);
        assert_eq!(said["parameters"]["active"], active);
        assert_eq!(said["memory_bytes"]["weights"], 4 * total);
        assert_eq!(said["memory_bytes"]["moments"], 8 * total);
    }
    let (_, said, _) = info(&["--preset", "moe_6_9b"]);
    assert!(said.contains("6 882 678 528"), "{said}");
    assert!(said.contains("1 786 599 168"), "{said}");
}
#[test]
fn work_and_memory_grow_with_the_batch() {
    let of = |args: &[&str]| -> Value {
        let (_, said, _) = info(&[args, &["--json"]].concat());
        serde_json::from_str(&said).unwrap()
    };
    let number =
        |v: &Value, part: &str, key: &str| v[part][key].as_u64().unwrap();
    let [small, large] =
        [["--batch", "2", "--seq", "8"], ["--batch", "4", "--seq", "8"]]
            .map(|args| number(&of(&args), "memory_bytes", "activations"));
    assert!(small < large && large < 2 * small, "{small} {large}");
    let work = |seq| number(&of(&["--seq", seq]), "flops_per_token", "forward");
    // bytes: 4 blocks, 4 heads of 32; each position more costs 4·4·4·32
    assert_eq!(work("11") - work("10"), 4 * 4 * 4 * 32);
}
#[test]
fn wrong_usage_is_one_line() {
    for args in [
        &["--preset", "huge"][..],
        &["--batch", "0"],
        &["--seq", "257"],
        &["--model", "no/such/directory"],
        &["--preset", "tiny", "--config", "config.json"],
    ] {
        let (code, said, error) = info(args);
        assert_eq!((code, said.as_str()), (2, ""), "{args:?}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}
