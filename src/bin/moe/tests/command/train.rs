//! Chapter: training. `moe train` as a user runs it: killed and resumed,
//! stopped politely, and told nonsense.

use crate::edit::Dir;
use crate::start;
use moe_by_hand::config::Config;
use moe_by_hand::rng::Rng;
use moe_by_hand::train::metrics;
use moe_by_hand::train::options::Options;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

/// A directory with a small config and a text, gone at the end.
fn dir() -> Dir {
    let dir = Dir::new();
    let config = Config {
        hidden: 16,
        layers: 2,
        kv_heads: 2,
        head: 4,
        experts: 4,
        intermediate: 8,
        context: 32,
        ..Config::preset("bytes").unwrap()
    };
    let write = |name, text: &str| fs::write(dir.0.join(name), text).unwrap();
    write("small.json", &config.to_json());
    write("top1.json", &Config { top_k: 1, ..config }.to_json());
    write("text", &"the gate chose an expert. ".repeat(40));
    dir
}
const SMALL: &str = "--config small.json --text text --batch 4 --seq 16 \
                     --eval-every 20 --save-every 7";

fn moe(dir: &Path, args: &str) -> Command {
    let mut moe = start::moe(start::words(args));
    moe.current_dir(dir);
    moe.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    moe
}
#[track_caller]
fn succeeds(dir: &Path, args: &str) -> String {
    start::succeeds(&mut moe(dir, args))
}
/// All files below, with their content.
fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = vec![];
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
            all.push((path, vec![]));
        } else {
            all.push((path.clone(), fs::read(path).unwrap()));
        }
    }
    all.sort();
    all
}
fn weights(run: &Path) -> Vec<u8> {
    fs::read(run.join("model.safetensors")).unwrap()
}
/// The metrics of a run, without what the clock says.
fn logged(run: &Path) -> Vec<metrics::Line> {
    let mut lines = metrics::read(&run.join(metrics::FILE)).unwrap();
    lines.iter_mut().for_each(|l| l.metrics.tokens_per_second = 0.0);
    lines
}
fn signal(child: &Child, name: &str) {
    let id = child.id().to_string();
    let kill = Command::new("kill").args([name, &id]).status().unwrap();
    assert!(kill.success(), "kill {name} {id}");
}

#[test]
fn killed_at_any_moment_and_resumed_it_is_the_same_run() {
    let home = dir();
    let dir = home.0.as_path();
    let args = format!("train {SMALL} --steps 400 --accumulate 2");
    succeeds(dir, &format!("{args} --threads 1 --out whole"));
    let mut rng = Rng::named(1, "moments");
    let mut kills = 0;
    for run in 0..2 {
        let out = format!("run{run}");
        for n in 0.. {
            // A run that begins may be killed before there is a checkpoint.
            let threads = 1 + (run + n) % 3;
            let resume = if n == 0 { "" } else { "--resume" };
            let args =
                format!("{args} --threads {threads} --out {out} {resume}");
            let mut child =
                moe(dir, &args).stderr(Stdio::null()).spawn().unwrap();
            if n < 6 {
                // Further on each time, and there at any moment of a step.
                let log = dir.join(&out).join(metrics::FILE);
                let lines = || {
                    fs::read_to_string(&log).map_or(0, |l| l.lines().count())
                };
                let ended = |c: &mut Child| c.try_wait().unwrap().is_some();
                while lines() < 60 * n + 20 && !ended(&mut child) {
                    sleep(Duration::from_millis(1));
                }
                sleep(Duration::from_micros(rng.below(9000) as u64));
                if !ended(&mut child) {
                    signal(&child, "-KILL");
                }
            }
            let status = child.wait().unwrap();
            if status.success() {
                break;
            }
            assert_eq!(status.signal(), Some(9), "moe {args}: {status}");
            kills += 1;
        }
        let [run, whole] = [&out, "whole"].map(|d| dir.join(d));
        assert!(weights(&run) == weights(&whole), "other weights in {out}");
        assert_eq!(logged(&run), logged(&whole), "other metrics in {out}");
    }
    assert!(kills > 0, "no run was killed");
}

#[test]
fn a_polite_stop_saves_and_moves() {
    let home = dir();
    let dir = home.0.as_path();
    let args = format!("train {SMALL} --steps 3000");
    let child = moe(dir, &format!("{args} --out run")).spawn().unwrap();
    // From the first checkpoint on it surely knows what to do with a signal.
    while !dir.join("run/model.safetensors").exists() {
        sleep(Duration::from_millis(5));
    }
    signal(&child, "-INT");
    let Output { status, stdout, .. } = child.wait_with_output().unwrap();
    let said = String::from_utf8(stdout).unwrap();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(said.contains("moe train --resume --out run"), "{said}");
    let steps = |run: &str| {
        let saved = dir.join(run).join("training.safetensors");
        let saved = moe_by_hand::train::checkpoint::Checkpoint::read(&saved);
        saved.unwrap().state.step
    };
    let (done, lines) = (steps("run"), logged(&dir.join("run")));
    assert!(done < 3000, "it was stopped, at {done}");
    assert!(lines.iter().all(|l| l.metrics.step <= done), "no line is ahead");
    // The run may lie elsewhere, and goes on there.
    fs::rename(dir.join("run"), dir.join("moved")).unwrap();
    let again = "train --resume --out moved";
    let child = moe(dir, again).stdout(Stdio::null()).spawn().unwrap();
    sleep(Duration::from_millis(300));
    signal(&child, "-TERM");
    let status = child.wait_with_output().unwrap().status;
    assert!(
        status.code() == Some(0) || status.signal() == Some(15),
        "{status}"
    );
    assert!(steps("moved") >= done, "no step is lost");
}

#[test]
fn a_run_from_beginning_to_end() {
    let home = dir();
    let dir = home.0.as_path();
    fs::create_dir_all(dir.join("src/bin")).unwrap();
    fs::create_dir_all(dir.join("below")).unwrap();
    fs::write(dir.join("equations.toml"), "").unwrap();
    fs::write(dir.join("README.md"), "# Read me\n".repeat(10)).unwrap();
    fs::write(dir.join("src/bin/a.rs"), "fn a() {}\n".repeat(10)).unwrap();
    fs::write(dir.join("src/not.txt"), "not this").unwrap();
    fs::write(dir.join("below/not.md"), "nor this").unwrap();
    let args = "train --config ../top1.json --steps 3 --batch 2 --seq 8";
    let said = succeeds(&dir.join("below"), args);
    for words in [
        "the project's own words: 200 bytes",
        "runs/top1-001",
        "balance loss only",
        "a sample",
        "moe generate --model runs/top1-001",
    ] {
        assert!(said.contains(words), "`{words}` in:\n{said}");
    }
    let run = dir.join("below/runs/top1-001");
    let names: Vec<_> = files(&run).into_iter().map(|f| f.0).collect();
    let wanted = [
        "config.json",
        "experts.svg",
        "loss.svg",
        "metrics.jsonl",
        "model.safetensors",
        "training.safetensors",
    ];
    assert_eq!(names, wanted.map(|n| run.join(n)), "what a run leaves");
    let lines = logged(&run);
    assert_eq!(lines.len(), 3, "a line for each step");
    assert!(lines[2].val.is_some(), "validated after the last step");
    for line in &lines {
        let m = line.metrics;
        let total = m.ce + 0.01 * m.aux;
        assert!((m.total - total).abs() < 1e-5, "the parts sum: {m:?}");
        assert_eq!((line.load.len(), line.load[0].len()), (2, 4), "loads");
    }
    for name in ["loss.svg", "experts.svg"] {
        let svg = fs::read_to_string(run.join(name)).unwrap();
        for part in ["viewBox", "role=\"img\"", "<title>", "<desc>"] {
            assert!(svg.contains(part), "{part} in {name}");
        }
    }
    // The next name, and the last run goes on (and is already at its end).
    succeeds(&dir.join("below"), args);
    let before = weights(&run);
    let again = "train --config ../top1.json --resume --threads 2";
    let said = succeeds(&dir.join("below"), again);
    assert!(said.contains("resumes after step 3"), "{said}");
    assert!(said.contains("runs/top1-002"), "{said}");
    assert!(weights(&run) == before, "another run is not touched");
    let said =
        succeeds(dir, &format!("train {SMALL} --resume --out new --steps 1"));
    assert!(said.contains("starts at step 0"), "{said}");
}

#[test]
fn nonsense_is_told_in_one_line_and_writes_nothing() {
    let home = dir();
    let dir = home.0.as_path();
    succeeds(dir, &format!("train {SMALL} --steps 2 --out run"));
    fs::write(dir.join("short"), "too short").unwrap();
    fs::write(dir.join("binary"), [b'a', 0xff, 0xfe].repeat(400)).unwrap();
    fs::write(dir.join("other"), "another text ".repeat(40)).unwrap();
    fs::write(dir.join("bad.json"), "{").unwrap();
    fs::create_dir(dir.join("cut")).unwrap();
    let saved = fs::read(dir.join("run/training.safetensors")).unwrap();
    let cut = &saved[..saved.len() / 2];
    fs::write(dir.join("cut/training.safetensors"), cut).unwrap();
    let before = files(dir);
    for (args, words) in [
        ("--steps 0", "--steps is 0, but "),
        ("--steps -1", "--steps"),
        ("--steps 1e3", "--steps"),
        ("--batch 0", "--batch is 0, but "),
        ("--batch 2000000000", "memory"),
        ("--batch 99999999999", "--batch is 99999999999, but "),
        ("--seq 0", "--seq is 0, but "),
        ("--seq 33", "--seq is 33, but the model's context is 32"),
        ("--lr 0", "--lr is 0, but "),
        ("--lr -1", "--lr is -1, but "),
        ("--lr NaN", "--lr is NaN, but "),
        ("--lr inf", "--lr is inf, but "),
        ("--lr fast", "--lr"),
        ("--aux -0.1", "--aux is -0.1, but "),
        ("--aux NaN", "--aux is NaN, but "),
        ("--z-loss inf", "--z-loss is inf, but "),
        ("--seed -1", "--seed"),
        ("--threads 0", "--threads is 0, but "),
        ("--threads 99999", "--threads is 99999, but "),
        ("--accumulate 0", "--accumulate is 0, but "),
        ("--eval-every 0", "--eval-every is 0, but "),
        ("--save-every 0", "--save-every is 0, but "),
        (
            "--text short",
            "9 bytes long, but with --seq 16 it needs at least 161",
        ),
        ("--text absent", "absent: "),
        ("--text binary", "not UTF-8 at byte 1"),
        ("--text .", ".: "),
        ("--config bad.json", "no JSON"),
        ("--config absent", "absent: "),
        ("--preset huge", "`huge`"),
        ("--preset moe_6_9b", "are available"),
        ("--preset tiny --config small.json", "cannot be used with"),
        ("--out run", "--out is run, but that exists"),
        ("--out text", "--out is text, but that exists"),
        ("--out text --resume", "--out is text, but that is no directory"),
        ("--out text/below", "text/below: "),
        ("--out /proc/none", "/proc/none: "),
        ("--resume --out run --lr 1", "--lr is 1.0, but the checkpoint has"),
        ("--resume --out run --steps 3", "--steps is 3, but the checkpoint"),
        ("--resume --out run --seed 1", "--seed is 1, but the checkpoint has"),
        ("--resume --out run --recompute", "--recompute is true, but "),
        ("--resume --out run --text other", "the run was trained on"),
        ("--resume --out run --preset bytes", "but the checkpoint has"),
        ("--resume --out cut", "training.safetensors is damaged"),
        ("--nonsense", "--nonsense"),
        ("nonsense", "nonsense"),
    ] {
        // The last one counts where an option is given twice; these are not.
        let given = |option: &str| args.contains(option);
        let mut all = format!("train {args}");
        let defaults = [
            ("--config", "--config small.json"),
            ("--text", "--text text"),
            ("--seq", "--seq 16"),
        ];
        for (option, default) in defaults {
            let sizes = option == "--config" && given("--preset");
            if !given(option) && !sizes && !given("--resume") {
                all += &format!(" {default}");
            }
        }
        start::fails(&mut moe(dir, &all), &[words]);
        assert!(files(dir) == before, "moe {all}: something was written");
    }
    // Where no directory above is the project, as this one is.
    let mut train = moe(&std::env::temp_dir(), "train");
    start::fails(&mut train, &["--text is missing"]);
}

#[test]
fn a_loss_that_runs_away_keeps_the_last_checkpoint() {
    let home = dir();
    let dir = home.0.as_path();
    let args = format!("train {SMALL} --steps 30 --lr 1e30 --out run");
    let start::End { code, err, .. } = start::end(&mut moe(dir, &args));
    assert_eq!(code, Some(1), "{err}");
    let last = err.lines().last().unwrap();
    assert!(last.contains("lower --lr"), "it says what to try: {err}");
    moe_by_hand::hf::load::<f32>(&dir.join("run")).unwrap();
    let saved = dir.join("run/training.safetensors");
    moe_by_hand::train::checkpoint::Checkpoint::read(&saved).unwrap();
}

#[test]
fn help_shows_the_defaults_that_hold() {
    let said = succeeds(&std::env::temp_dir(), "train --help");
    let o = Options::default();
    for (option, value) in [
        ("steps", o.steps.to_string()),
        ("batch", o.batch.to_string()),
        ("seq", o.seq.to_string()),
        ("lr", o.lr.to_string()),
        ("seed", o.seed.to_string()),
        ("z-loss", o.z_loss.to_string()),
        ("accumulate", o.accumulate.to_string()),
        ("eval-every", o.eval_every.to_string()),
        ("save-every", o.save_every.to_string()),
    ] {
        let at = said.find(&format!("--{option} <")).unwrap();
        let rest = &said[at + 2..];
        let this = &rest[..rest.find("--").unwrap_or(rest.len())];
        let default = format!("[default: {value}]");
        assert!(this.contains(&default), "no {default} in {this}");
    }
}
