//! Chapter: model. `moe info`: what a model takes, from its sizes alone.

use crate::start::{fails, moe, succeeds};
use serde_json::Value;

fn info(args: &[&str]) -> String {
    succeeds(moe(["info"]).args(args))
}
fn json(args: &[&str]) -> Value {
    let said = info(&[args, &["--json"]].concat());
    serde_json::from_str(&said).unwrap()
}

#[test]
fn parameters_are_counted() {
    for (name, total, active) in [
        ("tiny", 345_920, 247_616),
        ("moe_6_9b", 6_882_678_528u64, 1_786_599_168u64),
    ] {
        let said = json(&["--preset", name]);
        assert_eq!(said["parameters"]["total"], total);
        assert_eq!(said["parameters"]["active"], active);
        assert_eq!(said["memory_bytes"]["weights"], 4 * total);
        assert_eq!(said["memory_bytes"]["moments"], 8 * total);
    }
    let said = info(&["--preset", "moe_6_9b"]);
    assert!(said.contains("6 882 678 528"), "{said}");
    assert!(said.contains("1 786 599 168"), "{said}");
}
#[test]
fn work_and_memory_grow_with_the_batch() {
    let number =
        |v: &Value, part: &str, key: &str| v[part][key].as_u64().unwrap();
    let [small, large] =
        [["--batch", "2", "--seq", "8"], ["--batch", "4", "--seq", "8"]]
            .map(|args| number(&json(&args), "memory_bytes", "activations"));
    assert!(small < large && large < 2 * small, "{small} {large}");
    let work =
        |seq| number(&json(&["--seq", seq]), "flops_per_token", "forward");
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
        fails(moe(["info"]).args(args), &[]);
    }
}
