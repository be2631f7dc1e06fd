//! Chapter: proof. `moe converge`: the prior art's demonstration, taken apart.
#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

/// A path of its own, gone at the end.
struct Dir(PathBuf);
impl Dir {
    fn new(name: &str) -> Self {
        let name = format!("moe-converge-{name}-{}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }
    fn run(&self, args: &[&str]) -> Output {
        let mut moe = Command::new(env!("CARGO_BIN_EXE_moe"));
        moe.arg("converge").args(args).arg("--out").arg(&self.0);
        moe.output().unwrap()
    }
}
impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0); // the system cleans up otherwise
    }
}
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}
fn numbers(json: &Value, field: &str) -> Vec<f64> {
    let list = json[field].as_array().unwrap();
    list.iter().map(|x| x.as_f64().unwrap()).collect()
}

#[test]
fn the_floor_is_the_balance_term() {
    let dir = Dir::new("json");
    let o = dir.run(&["--json", "--steps", "250"]);
    assert_eq!(o.status.code(), Some(0), "{}", text(&o.stderr));
    let file = fs::read_to_string(dir.0.join("converge.json")).unwrap();
    assert_eq!(text(&o.stdout), file);

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
    let svg = fs::read_to_string(dir.0.join("converge.svg")).unwrap();
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
}
#[test]
fn a_seed_decides_and_a_table_shows() {
    let dirs = ["a", "b", "c"].map(Dir::new);
    let [a, same, b] = [0, 1, 2].map(|i| {
        let (dir, seed) = (&dirs[i], ["0", "0", "1"][i]);
        let o = dir.run(&["--steps", "12", "--seed", seed]);
        assert_eq!(o.status.code(), Some(0), "{}", text(&o.stderr));
        o
    });
    let table = text(&a.stdout);
    let rows = table.lines().skip(1).map_while(|l| l.split_whitespace().next());
    assert_eq!(rows.collect::<Vec<_>>(), ["1", "10", "12"], "{table}");
    assert!(table.contains("A falling loss proves nothing"), "{table}");
    let of = |o| text(o).lines().take(4).map(String::from).collect::<Vec<_>>();
    assert_eq!(of(&a.stdout), of(&same.stdout), "the same seed");
    assert_ne!(of(&a.stdout), of(&b.stdout), "another seed");
}
#[test]
fn each_error_is_one_line_and_exit_code_2() {
    let (there, fresh) = (Dir::new("there"), Dir::new("fresh"));
    fs::create_dir(&there.0).unwrap();
    let none = ["--steps", "0"];
    for o in [there.run(&[]), fresh.run(&none), fresh.run(&["--seed", "x"])] {
        let said = text(&o.stderr);
        assert_eq!(o.status.code(), Some(2), "{said}");
        assert_eq!((text(&o.stdout), said.lines().count()), ("", 1), "{said}");
    }
    assert!(!fresh.0.exists(), "an error leaves nothing behind");
}
