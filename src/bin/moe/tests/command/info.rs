//! Chapter: model. `moe info`: what a model takes, from its sizes alone.

use crate::edit::Dir;
use crate::start::{fails, moe, succeeds};
use moe_by_hand::config::Config;
use serde_json::Value;
use std::time::{Duration, Instant};

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
/// A config of 0.7 kB that took 3 GB and a minute, and was reported as 53 MiB.
#[test]
fn a_config_is_counted_before_anything_is_built() {
    let dir = Dir::new();
    let path = dir.0.join("config.json");
    let tiny = Config::preset("tiny").unwrap();
    let (many, long) = (1_000_000, 100_000_000);
    for (config, refused) in [
        (Config { layers: many, ..tiny.clone() }, true),
        (Config { experts: many, ..tiny.clone() }, true),
        // the rotary table of a long context is counted, not made
        (Config { context: long, head: 128, ..tiny.clone() }, false),
    ] {
        std::fs::write(&path, config.to_json()).unwrap();
        let begun = Instant::now();
        let mut info = moe(["info", "--json", "--config"]);
        info.arg(&path);
        if refused {
            fails(&mut info, &["num_hidden_layers", "matrices"]);
        } else {
            let said: Value =
                serde_json::from_str(&succeeds(&mut info)).unwrap();
            let table = 8 * long as u64 * 128;
            let activations = said["memory_bytes"]["activations"].as_u64();
            let near = table..table + (1 << 30);
            assert!(near.contains(&activations.unwrap()), "{said}");
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{config:?}");
    }
}
#[test]
fn a_tied_head_is_told() {
    let dir = Dir::new();
    let path = dir.0.join("config.json");
    let json = Config::preset("tiny").unwrap().to_json();
    let tied = json.replace("embeddings\": false", "embeddings\": true");
    std::fs::write(&path, tied).unwrap();
    let said = info(&["--config", path.to_str().unwrap()]);
    assert!(said.contains("ties the head"), "{said}");
}
