//! Chapter: proof. `moe converge`: the prior art's demonstration, taken apart.

use crate::edit::Dir;
use crate::start::{fails, moe, succeeds, words};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;

fn converge(out: &Path, args: &str) -> Command {
    let mut command = moe(["converge", "--out"]);
    command.arg(out).args(words(args));
    command
}
fn numbers(json: &Value, field: &str) -> Vec<f64> {
    let list = json[field].as_array().unwrap();
    list.iter().map(|x| x.as_f64().unwrap()).collect()
}

#[test]
fn the_floor_is_the_balance_term() {
    let dir = Dir::new();
    let out = dir.0.join("out");
    let said = succeeds(&mut converge(&out, "--json --steps 250"));
    let file = fs::read_to_string(out.join("converge.json")).unwrap();
    assert_eq!(said, file);

    let json: Value = serde_json::from_str(&file).unwrap();
    assert_eq!(json["language"], "rust");
    let [steps, losses, ce, aux] =
        ["steps", "losses", "ce", "aux"].map(|f| numbers(&json, f));
    assert_eq!(steps, (1..=250).map(f64::from).collect::<Vec<_>>());
    for (i, loss) in losses.iter().enumerate() {
        // Three numbers rounded to 6 decimals, one of them an f32 near 7.
        let rest = loss - ce[i] - aux[i];
        assert!(rest.abs() < 3e-6, "step {}: {rest}", i + 1);
        assert!((0.015..0.03).contains(&aux[i]), "aux {}", aux[i]);
    }
    // It begins as unsure as a fair choice among 1000, and ends on aux.
    assert!((ce[0] - 1000f64.ln()).abs() < 0.2, "{}", ce[0]);
    assert!(ce[249] < 0.2 * aux[249], "{} {}", ce[249], aux[249]);
    let svg = fs::read_to_string(out.join("converge.svg")).unwrap();
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
}
#[test]
fn a_seed_decides_and_a_table_shows() {
    let dir = Dir::new();
    let [a, same, b] = [("a", 0), ("b", 0), ("c", 1)].map(|(name, seed)| {
        let args = format!("--steps 12 --seed {seed}");
        succeeds(&mut converge(&dir.0.join(name), &args))
    });
    let rows = a.lines().skip(1).map_while(|l| l.split_whitespace().next());
    assert_eq!(rows.collect::<Vec<_>>(), ["1", "10", "12"], "{a}");
    assert!(a.contains("A falling loss proves nothing"), "{a}");
    let table = |said: &str| -> Vec<String> {
        said.lines().take(4).map(String::from).collect()
    };
    assert_eq!(table(&a), table(&same), "the same seed");
    assert_ne!(table(&a), table(&b), "another seed");
}
#[test]
fn each_error_is_one_line_and_exit_code_2() {
    let there = Dir::new();
    let fresh = there.0.join("fresh");
    fails(&mut converge(&there.0, ""), &["it is there already"]);
    fails(&mut converge(&fresh, "--steps 0"), &["--steps is 0"]);
    fails(&mut converge(&fresh, "--seed x"), &["--seed"]);
    assert!(!fresh.exists(), "an error leaves nothing behind");
    // Before all steps are done, not after.
    fs::write(there.0.join("plain"), "").unwrap();
    let below = there.0.join("plain/x");
    fails(&mut converge(&below, "--steps 100000000"), &["plain/x: "]);
}
/// Killed, it leaves nothing that blocks the same command; of two, one wins.
#[test]
fn a_directory_with_both_files_or_none() {
    let home = Dir::new();
    let out = home.0.join("out");
    let mut child = converge(&out, "--steps 100000000 --json").spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!out.exists(), "not yet");
    let out = &out;
    let begin = move |_| converge(out, "--steps 20 --json").output();
    let codes = std::thread::scope(|s| {
        let all: Vec<_> = (0..2).map(|n| s.spawn(move || begin(n))).collect();
        let code = |t: std::thread::ScopedJoinHandle<_>| {
            let end: std::io::Result<std::process::Output> = t.join().unwrap();
            end.unwrap().status.code()
        };
        all.into_iter().map(code).collect::<Vec<_>>()
    });
    assert!(codes.contains(&Some(0)), "{codes:?}");
    assert!(codes.contains(&Some(2)), "{codes:?}");
    let json = fs::read_to_string(out.join("converge.json")).unwrap();
    serde_json::from_str::<Value>(&json).unwrap();
}
