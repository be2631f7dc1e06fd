//! Chapter: simd. `moe bench-report`: what it shows, and what it refuses.

use crate::edit::Dir;
use crate::start::{End, end, fails, moe, project};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;

/// What it says of these files; there is nothing to complain about.
#[track_caller]
fn report(files: &[PathBuf]) -> String {
    let End { code, out, err } = end(moe(["bench-report"]).args(files));
    assert_eq!((code, err.as_str()), (Some(0), ""), "{files:?}");
    out
}
/// A file of this text.
fn file(dir: &Dir, name: &str, text: &str) -> PathBuf {
    let path = dir.0.join(name);
    fs::write(&path, text).unwrap();
    path
}
fn scenario(id: &str, axis: &str, median_ns: f64) -> Value {
    json!({ "id": id, "axis": axis, "median_ns": median_ns })
}
/// A file with two forwards, one twice as slow with two threads.
fn example(label: &str, median: f64) -> String {
    let mut matmul = scenario("kernel_matmul", "compiler", 2000.0);
    matmul["derived"] = json!({ "gflops": 262.144 });
    let mut train = scenario("mem_train_step", "memory", 2e6);
    train["memory"] = json!({ "peak_rss_bytes": 8_500_000, "alloc_bytes": 0 });
    let mut decode = scenario("decode", "extra", 5e6);
    decode["throughput_tokens_per_sec"] = json!(25600.0);
    json!({
        "metadata": { "label": label, "machine": "a machine" },
        "scenarios": [
            scenario("dispatch_warm", "type_system", median),
            scenario("dispatch_cold", "type_system", 4.0 * median),
            scenario("parallel_T1", "parallel", median),
            scenario("parallel_T2", "parallel", 1.25 * median),
            matmul, train, decode,
        ],
    })
    .to_string()
}
/// The values of the row that begins so.
#[track_caller]
fn row<'a>(report: &'a str, name: &str) -> Vec<&'a str> {
    let find = |l: &'a str| l.trim_start().strip_prefix(name);
    let rest = report.lines().find_map(find);
    rest.unwrap_or_else(|| panic!("no {name} in\n{report}"))
        .split_whitespace()
        .collect()
}

#[test]
fn files_become_columns() {
    let dir = Dir::new();
    let one = file(&dir, "one.json", &example("ours", 1e6));
    let two = file(&dir, "two.json", &example("theirs", 3e6));
    let said = report(&[one, two]);
    assert!(said.contains("[1] ours: a machine\n[2] theirs: a machine"));
    assert_eq!(row(&said, "forward, ms"), ["1.000", "3.000"]);
    assert_eq!(row(&said, "product, GFLOP/s"), ["262.1", "262.1"]);
    assert_eq!(row(&said, "cold/warm"), ["4.000", "4.000"]);
    assert_eq!(row(&said, "T2/T1"), ["1.600", "1.600"], "2/1.25");
    assert_eq!(row(&said, "peak of the training step"), ["8.500", "8.500"]);
    assert_eq!(row(&said, "allocated by a training step"), ["0", "0"]);
    assert_eq!(row(&said, "forward, width 64"), ["3.000"], "spread");
    let extra = &said[said.find("Extra, tokens/s").unwrap()..];
    assert_eq!(row(extra, "decode"), ["25600", "25600"]);
    assert!(!said.contains("Scale"), "a table of nothing\n{said}");
}
#[test]
fn outputs_that_are_no_numbers_are_named() {
    let mut all: Value = serde_json::from_str(&example("x", 1e6)).unwrap();
    all["scenarios"][0]["numerical"] = json!({ "nan_count": 1 });
    let dir = Dir::new();
    let said = report(&[file(&dir, "nan.json", &all.to_string())]);
    assert!(said.contains("dispatch_warm: some outputs are no numbers"));
}
#[test]
fn the_figures_of_peers_can_be_read() {
    let files = fs::read_dir(project("benches/peers"))
        .unwrap()
        .map(|f| f.unwrap().path());
    let mut files: Vec<PathBuf> =
        files.filter(|f| f.extension().is_some_and(|e| e == "json")).collect();
    files.sort();
    assert!(files.len() > 5, "{files:?}");
    for f in &files {
        let said = report(std::slice::from_ref(f));
        let first = said.lines().next().unwrap();
        let prior = said.contains("prior art");
        let known = first.contains("M1") || first.contains("Zen 5");
        assert!(known, "{f:?} does not name its machine: {first}");
        let named = said.contains("intermediate 256")
            || said.contains("intermediate 128");
        assert!(!prior || named, "{f:?} does not say how wide: {said}");
    }
    let said = report(&files);
    assert_eq!(row(&said, "forward, ms").len(), files.len());
}
#[test]
fn bad_input_is_one_line() {
    let twice = r#"{"metadata":{},"scenarios":[
        {"id":"a","axis":"x","median_ns":1},{"id":"a","axis":"x","median_ns":1}
    ]}"#;
    let zero = r#"{"metadata":{},"scenarios":[
        {"id":"a","axis":"x","median_ns":0}]}"#;
    let dir = Dir::new();
    for (name, text, part) in [
        ("text.json", "no JSON", "not understood"),
        ("other.json", r#"{"a": 1}"#, "not understood"),
        ("none.json", r#"{"metadata":{},"scenarios":[]}"#, "scenarios"),
        ("twice.json", twice, "a twice"),
        ("zero.json", zero, "a: 0 ns"),
    ] {
        let file = file(&dir, name, text);
        fails(moe(["bench-report"]).arg(file), &[name, part]);
    }
    fails(&mut moe(["bench-report", "no/such.json"]), &["no/such.json"]);
    fails(&mut moe(["bench-report"]), &["FILE"]);
}
