//! Chapter: training. `moe train` as a user runs it: killed and resumed,
//! stopped politely, and told nonsense.

use crate::edit::Dir;
use crate::start::{self, End};
use moe_by_hand::config::Config;
use moe_by_hand::kernel::simd::Isa;
use moe_by_hand::rng::Rng;
use moe_by_hand::tensors::Tensors;
use moe_by_hand::train::checkpoint::State;
use moe_by_hand::train::metrics;
use moe_by_hand::train::options::Options;
use serde_json::Value;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A directory with a small config and a text, gone at the end.
fn dir() -> Dir {
    let dir = Dir::new();
    let config = small();
    let write = |name, text: &str| fs::write(dir.0.join(name), text).unwrap();
    write("small.json", &config.to_json());
    write("top1.json", &Config { top_k: 1, ..config }.to_json());
    write("text", &"the gate chose an expert. ".repeat(40));
    dir
}
fn small() -> Config {
    Config {
        hidden: 16,
        layers: 2,
        kv_heads: 2,
        head: 4,
        experts: 4,
        intermediate: 8,
        context: 32,
        ..Config::preset("bytes").unwrap()
    }
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
    let args = format!("train {SMALL} --steps 300000"); // more than it has time for
    let child = moe(dir, &format!("{args} --out run")).spawn().unwrap();
    // From the first checkpoint on it surely knows what to do with a signal.
    while !dir.join("run/model.safetensors").exists() {
        sleep(Duration::from_millis(5));
    }
    // Not INT: where this test runs in the background of a script, the shell
    // has it ignored, and so has the command.
    signal(&child, "-TERM");
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
    assert!(done < 300_000, "it was stopped, at {done}");
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
        "run.json",
        "run.lock",
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
}

/// Exit code 2 and one line, and nothing below is other than before.
#[track_caller]
fn refused(dir: &Path, args: &str, parts: &[&str]) {
    let before = files(dir);
    start::fails(&mut moe(dir, args), parts);
    assert!(files(dir) == before, "moe {args}: something was written");
}
fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap()
}

/// What a run killed before its first checkpoint leaves: its settings.
#[test]
fn a_run_without_a_checkpoint_begins_with_its_own_settings() {
    let home = dir();
    let dir = home.0.as_path();
    let args = format!("train {SMALL} --steps 9 --lr 3e-3 --seed 5");
    succeeds(dir, &format!("{args} --out whole"));
    for left in [&["run.json"][..], &["run.json", "run.lock"]] {
        let early = dir.join("early");
        let _ = fs::remove_dir_all(&early);
        fs::create_dir(&early).unwrap();
        for name in left {
            fs::copy(dir.join("whole").join(name), early.join(name)).unwrap();
        }
        fs::write(early.join(metrics::FILE), "").unwrap();
        let part = early.join("training.safetensors.0123456789abcdef.part");
        fs::write(&part, "half").unwrap();
        refused(dir, "train --resume --out early --lr 1", &["--lr is 1.0"]);
        let said = succeeds(dir, "train --resume --out early");
        assert!(said.contains("starts at step 0"), "{said}");
        assert!(weights(&early) == weights(&dir.join("whole")), "other bits");
        assert!(!part.exists(), "what a killed run left is removed");
    }
}

/// Muon and the other schedule, stopped in the cooldown; and what `info` says
/// of the memory, to the byte.
#[test]
fn a_run_with_muon_goes_on_and_is_counted() {
    let home = dir();
    let dir = home.0.as_path();
    let run = format!("train {SMALL} --schedule wsd --cooldown 0.4 --steps 20");
    let args = format!("{run} --optimizer muon --muon-lr 0.03 --threads 2");
    let said = succeeds(dir, &format!("{args} --out whole"));
    let rates = "lr 0.001, muon 0.03, wsd with a cooldown of 0.4";
    assert!(said.contains(rates), "{said}");
    let json = fs::read_to_string(dir.join("whole/run.json")).unwrap();
    for part in ["\"optimizer\": \"muon\"", "\"schedule\": \"wsd\""] {
        assert!(json.contains(part), "no {part} in {json}");
    }
    // Killed after its first checkpoint.
    let killed = dir.join("killed");
    let mut child = moe(dir, &format!("{args} --out killed")).spawn().unwrap();
    while !killed.join("training.safetensors").exists() {
        sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    refused(
        dir,
        "train --resume --out killed --optimizer adamw",
        &["the optimizer is adamw, but the run was begun with muon"],
    );
    let again = "train --resume --out killed";
    refused(dir, &format!("{again} --muon-lr 0.02"), &["--muon-lr is 0.02"]);
    refused(dir, &format!("{again} --cooldown 0.2"), &["--cooldown is 0.2"]);
    succeeds(dir, &format!("{again} --threads 1"));
    assert!(weights(&killed) == weights(&dir.join("whole")), "other bits");

    let of_adam = format!("{run} --threads 2 --out adam");
    let info = "info --config small.json --text text --batch 4 --seq 16";
    for (optimizer, said) in
        [("muon", said), ("adamw", succeeds(dir, &of_adam))]
    {
        let args = format!("{info} --threads 2 --json --optimizer {optimizer}");
        let json: Value = serde_json::from_str(&succeeds(dir, &args)).unwrap();
        let bytes = format!("({} bytes)", json["memory_bytes"]["training"]);
        assert!(said.contains(&bytes), "no {bytes} in {said}");
    }
}

#[test]
fn bare_resume_takes_the_newest_run_of_any_name() {
    let home = dir();
    let dir = home.0.as_path();
    refused(dir, "train --resume", &["there is no run under runs/"]);
    let begin = |config: &str| {
        let args = format!("train {SMALL} --steps 2 --config {config}");
        succeeds(dir, &args.replacen("--config small.json ", "", 1));
    };
    begin("top1.json");
    begin("small.json");
    // Not of a run, and newer.
    fs::create_dir(dir.join("runs/tiny-009")).unwrap();
    fs::write(dir.join("runs/tiny-009/model.safetensors"), "mine").unwrap();
    let takes = |name: &str| {
        let said = succeeds(dir, "train --resume");
        assert!(said.contains(&format!("out       runs/{name}")), "{said}");
    };
    takes("small-001");
    begin("top1.json");
    takes("top1-002");
    // The name says nothing; when it began, everything.
    fs::rename(dir.join("runs/top1-002"), dir.join("runs/a")).unwrap();
    takes("a");
    refused(dir, "train --resume --config small.json", &["checkpoint has"]);
}

/// The first edition began a run there, over the files of others.
#[test]
fn what_is_no_run_is_never_overwritten() {
    let home = dir();
    let dir = home.0.as_path();
    succeeds(dir, &format!("train {SMALL} --steps 2 --out run"));
    let copy = |to: &str, names: &[&str]| {
        fs::create_dir_all(dir.join(to)).unwrap();
        for name in names {
            let from = dir.join("run").join(name);
            fs::copy(from, dir.join(to).join(name)).unwrap();
        }
    };
    let model = ["config.json", "model.safetensors"];
    copy("theirs", &model);
    copy(".", &model);
    copy("lost", &model);
    copy("lost", &["run.json", "metrics.jsonl"]);
    copy("cleared", &["run.json", "metrics.jsonl"]);
    fs::create_dir(dir.join("empty")).unwrap();
    for (out, words) in [
        ("theirs", "that is no run"),
        (".", "that is no run"),
        ("empty", "that is no run"),
        ("absent", "there is no such run"),
        ("absent/../theirs", "there is no such run"),
        ("lost", "there without a training.safetensors"),
        ("cleared", "there without a training.safetensors"),
    ] {
        for settings in ["", SMALL] {
            let args = format!("train --resume --out {out} {settings}");
            refused(dir, &args, &[words]);
        }
    }
    for out in ["absent/../theirs", "theirs/.", "theirs/", "run", "."] {
        let args = format!("train {SMALL} --steps 2 --out {out}");
        refused(dir, &args, &["that exists"]);
    }
    // A run's directory in which someone put another model, or another run.
    let other = Config { hidden: 32, ..small() };
    succeeds(dir, &format!("train {SMALL} --steps 2 --seed 1 --out seed"));
    fs::write(dir.join("wide.json"), other.to_json()).unwrap();
    let args = SMALL.replacen("small.json", "wide.json", 1);
    succeeds(dir, &format!("train {args} --steps 2 --out wide"));
    for (name, from, words) in [
        ("config.json", "wide", "config.json is not of this run"),
        ("model.safetensors", "wide", "model.safetensors is not of this run"),
        ("training.safetensors", "seed", "a directory holds one run"),
    ] {
        let at = dir.join("run").join(name);
        let own = fs::read(&at).unwrap();
        fs::copy(dir.join(from).join(name), &at).unwrap();
        refused(dir, "train --resume --out run", &[words]);
        fs::write(&at, own).unwrap();
    }
    succeeds(dir, "train --resume --out run");
}

#[test]
fn two_starts_never_share_a_directory() {
    let home = dir();
    let dir = home.0.as_path();
    let args = format!("train {SMALL} --steps 3");
    let race = |args: &str| {
        let begin = |_| moe(dir, args).spawn().unwrap();
        let all: Vec<Child> = (0..3).map(begin).collect();
        let end = |c: Child| c.wait_with_output().unwrap();
        all.into_iter().map(end).collect::<Vec<_>>()
    };
    for n in 0..3 {
        for end in race(&args) {
            let said = text(&end.stderr);
            assert_eq!(end.status.code(), Some(0), "{said}");
        }
        let runs = fs::read_dir(dir.join("runs")).unwrap().count();
        assert_eq!(runs, 3 * (n + 1), "a directory for each");
        let codes: Vec<_> = race(&format!("{args} --out same{n}"))
            .iter()
            .map(|end| end.status.code())
            .collect();
        let count = |code| codes.iter().filter(|c| **c == Some(code)).count();
        assert_eq!((count(0), count(2)), (1, 2), "{codes:?}");
        assert_eq!(logged(&dir.join(format!("same{n}"))).len(), 3);
    }
}

#[test]
fn a_run_that_is_active_is_left_alone() {
    let home = dir();
    let dir = home.0.as_path();
    let args = format!("train {SMALL} --steps 100000 --out run");
    let mut child = moe(dir, &args).spawn().unwrap();
    let log = dir.join("run").join(metrics::FILE);
    while !fs::metadata(&log).is_ok_and(|m| m.len() > 0) {
        sleep(Duration::from_millis(1));
    }
    let id = child.id();
    let by = format!("run is in use by process {id}, but ");
    for _ in 0..3 {
        start::fails(&mut moe(dir, "train --resume --out run"), &[&by]);
    }
    // The lock goes with its owner, however that ends.
    signal(&child, "-KILL");
    child.wait().unwrap();
    let child = moe(dir, "train --resume --out run").spawn().unwrap();
    sleep(Duration::from_millis(300));
    signal(&child, "-TERM");
    let end = child.wait_with_output().unwrap();
    let said = text(&end.stderr);
    assert_eq!(end.status.code(), Some(0), "{said}");
}

#[test]
fn a_stop_does_not_wait_for_a_validation() {
    let home = dir();
    let dir = home.0.as_path();
    let long = "the gate chose an expert. ".repeat(160_000);
    fs::write(dir.join("text"), long).unwrap();
    let args = format!("train {SMALL} --steps 1 --out run");
    let child = moe(dir, &args).spawn().unwrap();
    while !dir.join("run/model.safetensors").exists() {
        sleep(Duration::from_millis(1));
    }
    let start = Instant::now();
    signal(&child, "-TERM");
    let end = child.wait_with_output().unwrap();
    let seconds = start.elapsed().as_secs_f64();
    let (out, err) = (text(&end.stdout), text(&end.stderr));
    assert_eq!(end.status.code(), Some(0), "{err}");
    assert!(seconds < 5.0, "it took {seconds:.1} s");
    // What is obeyed at once needs no answer before.
    let told = err.contains("stopping after this step");
    assert!(told || seconds < 1.0, "{seconds:.1} s: {err}");
    assert!(out.contains("validates 25999 windows of 16 bytes"), "{out}");
    assert!(out.contains("each as long as about"), "{out}");
    assert!(out.contains("stopped after step "), "{out}");
    assert_eq!(logged(&dir.join("run")).len(), 0, "not measured yet");
    succeeds(dir, "train --resume --out run");
    let lines = logged(&dir.join("run"));
    assert!(lines.len() == 1 && lines[0].val.is_some(), "{lines:?}");
}

/// Ctrl-C and the like while it still reads: a pipe whose writer is silent.
#[test]
fn a_stop_does_not_wait_for_the_text() {
    let home = dir();
    let dir = home.0.as_path();
    let made = Command::new("mkfifo").arg(dir.join("pipe")).status().unwrap();
    assert!(made.success(), "mkfifo");
    let args = SMALL.replacen("--text text", "--text pipe", 1);
    let mut both = fs::File::options();
    let _silent = both.read(true).write(true).open(dir.join("pipe")).unwrap();
    let names = || fs::read_dir(dir).unwrap().count();
    let before = names();
    let child = moe(dir, &format!("train {args} --out run")).spawn().unwrap();
    sleep(Duration::from_millis(2500));
    let start = Instant::now();
    signal(&child, "-TERM");
    let end = child.wait_with_output().unwrap();
    assert!(start.elapsed().as_secs() < 2, "{:?}", start.elapsed());
    let err = text(&end.stderr);
    assert_eq!(end.status.code(), Some(0), "{err}");
    assert!(err.contains("moe: reading pipe: 2 s so far\n"), "{err}");
    assert!(err.contains("nothing was written"), "{err}");
    assert_eq!(names(), before, "nothing was written");
}

/// A pipe that nobody writes to is refused at once; one that is written to, and
/// standard input, are read.
#[test]
fn a_text_comes_through_a_pipe() {
    let home = dir();
    let dir = home.0.as_path();
    let made = Command::new("mkfifo").arg(dir.join("pipe")).status().unwrap();
    assert!(made.success(), "mkfifo");
    let args = SMALL.replacen("--text text", "--text pipe", 1);
    let mut none = moe(dir, &format!("train {args} --out none"));
    start::fails(&mut none, &["pipe is a pipe that nobody writes to"]);
    assert!(!dir.join("none").exists());
    succeeds(dir, &format!("train {SMALL} --steps 3 --out file"));
    let args = SMALL.replacen("--text text", "--text -", 1);
    let mut piped = moe(dir, &format!("train {args} --steps 3 --out piped"));
    let mut child = piped.stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let text = fs::read(dir.join("text")).unwrap();
    sleep(Duration::from_millis(300)); // it waits
    std::io::Write::write_all(&mut input, &text).unwrap();
    drop(input);
    let end = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&end.stderr);
    assert_eq!(end.status.code(), Some(0), "{said}");
    let model =
        |run| fs::read(dir.join(run).join("model.safetensors")).unwrap();
    assert!(model("file") == model("piped"), "the same text, the same bits");
}

/// The command that is suggested is one line, and a shell takes it as it is.
#[test]
fn what_is_suggested_can_be_pasted() {
    let home = dir();
    let dir = home.0.as_path();
    let path = env!("CARGO_BIN_EXE_moe");
    let path = Path::new(path).parent().unwrap().to_str().unwrap();
    let path = format!("{path}:{}", std::env::var("PATH").unwrap());
    let strange = std::ffi::OsString::from("-\n'$(id)%d\x1b[31m");
    let names = ["it's", "-x", "a b", "$HOME", "*", "~", "Grün", "a\nb", "a\n"];
    for name in names.map(Into::into).into_iter().chain([strange]) {
        let mut train = moe(dir, &format!("train {SMALL} --steps 1 --out"));
        let End { code, out, err } = start::end(train.arg(&name));
        assert_eq!(code, Some(0), "{name:?}: {err}");
        let next = out.lines().find_map(|l| l.strip_prefix("next: "));
        let next = next.unwrap_or_else(|| panic!("{name:?}: {out}"));
        assert!(!next.contains('\x1b'), "{next:?}");
        let mut sh = Command::new("sh");
        sh.args(["-c", next]).current_dir(dir).env("PATH", &path);
        let said = start::succeeds(&mut sh);
        assert!(said.starts_with("The "), "{name:?}: {said}");
    }
}

/// `nohup moe train`, and the terminal is closed.
#[test]
fn a_signal_that_was_ignored_stays_ignored() {
    let home = dir();
    let dir = home.0.as_path();
    let script = r#"trap '' HUP; exec "$0" "$@""#;
    let args = format!("train {SMALL} --steps 100000 --out run");
    let begin = || {
        let mut sh = Command::new("sh");
        sh.args(["-c", script]).arg(env!("CARGO_BIN_EXE_moe"));
        sh.args(start::words(&args)).current_dir(dir);
        sh.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut child = begin();
    let log = dir.join("run").join(metrics::FILE);
    let len = || fs::metadata(&log).map_or(0, |m| m.len());
    while len() == 0 {
        sleep(Duration::from_millis(1));
    }
    signal(&child, "-HUP");
    let then = len();
    while len() < then + 10_000 {
        sleep(Duration::from_millis(10));
        assert!(child.try_wait().unwrap().is_none(), "it was stopped");
    }
    signal(&child, "-TERM");
    let end = child.wait_with_output().unwrap();
    assert_eq!(end.status.code(), Some(0), "{}", text(&end.stderr));
}

/// The first waits for the step under way, which takes long here.
#[test]
fn a_second_signal_ends_at_once() {
    let home = dir();
    let dir = home.0.as_path();
    let args = "train --preset bytes --text text --accumulate 2000 --steps 2 \
                --out run";
    let mut child = moe(dir, args).spawn().unwrap();
    while !dir.join("run/model.safetensors").exists() {
        sleep(Duration::from_millis(1));
    }
    sleep(Duration::from_millis(200));
    signal(&child, "-TERM");
    sleep(Duration::from_millis(500));
    assert!(child.try_wait().unwrap().is_none(), "in the middle of a step");
    signal(&child, "-TERM");
    let start = Instant::now();
    let end = child.wait_with_output().unwrap();
    assert!(start.elapsed().as_secs() < 2, "{:?}", start.elapsed());
    let err = text(&end.stderr);
    assert_eq!(end.status.code(), Some(130), "{err}");
    assert!(err.contains("stopping after this step; a second"), "{err}");
}

#[test]
fn a_text_from_a_pipe_is_asked_for_again() {
    let home = dir();
    let dir = home.0.as_path();
    let args = format!("train {SMALL} --steps 5 --out run --text /dev/stdin");
    let args = args.replacen("--text text ", "", 1);
    let script = r#"cat text | "$0" "$@""#;
    let mut sh = Command::new("sh");
    sh.args(["-c", script]).arg(env!("CARGO_BIN_EXE_moe"));
    sh.args(start::words(&args)).current_dir(dir);
    start::succeeds(&mut sh);
    let words = ["the run's text is /dev/stdin", "a pipe", "--text"];
    refused(dir, "train --resume --out run", &words);
    succeeds(dir, "train --resume --out run --text text");
}

#[test]
fn what_fails_at_first_can_be_given_again() {
    use std::os::unix::ffi::OsStrExt;
    let home = dir();
    let dir = home.0.as_path();
    let args = format!("train {SMALL} --steps 2 --out above/run");
    let script = |blocks: usize| {
        let script =
            format!(r#"trap '' XFSZ; ulimit -f {blocks}; exec "$0" "$@""#);
        let mut sh = Command::new("sh");
        sh.args(["-c", &script]).arg(env!("CARGO_BIN_EXE_moe"));
        sh.args(start::words(&args)).current_dir(dir);
        start::end(&mut sh)
    };
    // As on a full disk, at the settings, the checkpoint and the model.
    let before = files(dir);
    for blocks in [0, 1, 20, 60] {
        let end = script(blocks);
        assert_eq!(end.code, Some(2), "{blocks}: {}", end.err);
        assert_eq!(end.err.lines().count(), 1, "{}", end.err);
        assert!(files(dir) == before, "{blocks}: something is left");
    }
    succeeds(dir, &args);

    let name = std::ffi::OsStr::from_bytes(b"t\xff");
    fs::copy(dir.join("text"), dir.join(name)).unwrap();
    let args = format!("train {SMALL} --steps 2 --out other");
    let mut train = moe(dir, &args.replacen("--text text ", "", 1));
    let before = files(dir);
    start::fails(train.arg("--text").arg(name), &["the name of the text"]);
    assert!(files(dir) == before, "something was written");
}

#[test]
fn damaged_metrics_are_told_and_kept_aside() {
    let home = dir();
    let dir = home.0.as_path();
    let args = format!("train {SMALL} --steps 40");
    succeeds(dir, &format!("{args} --out whole"));
    let run = dir.join("run");
    // Killed in the middle, with lines after its last checkpoint.
    let args = format!("{args} --out run");
    let mut child = moe(dir, &args).stderr(Stdio::null()).spawn().unwrap();
    let log = run.join(metrics::FILE);
    while fs::read_to_string(&log).map_or(0, |l| l.lines().count()) < 12 {
        sleep(Duration::from_micros(100));
    }
    signal(&child, "-KILL");
    child.wait().unwrap();
    let saved = run.join("training.safetensors");
    let saved = moe_by_hand::train::checkpoint::Checkpoint::read(&saved);
    let step = saved.unwrap().state.step;
    let mut lines = fs::read(&log).unwrap();
    let third = lines.split(|&b| b == b'\n').take(2).map(<[u8]>::len);
    let third = third.sum::<usize>() + 2;
    lines[third] = b'x';
    fs::write(&log, lines).unwrap();
    let end = moe(dir, "train --resume --out run").output().unwrap();
    let (out, err) = (text(&end.stdout), text(&end.stderr));
    assert_eq!(end.status.code(), Some(0), "{err}");
    assert!(out.contains(&format!("resumes after step {step}\n")), "{out}");
    assert!(err.contains("run/metrics.jsonl is damaged"), "{err}");
    let aside = fs::read_to_string(run.join(metrics::ASIDE)).unwrap();
    assert!(aside.starts_with("x\"step\":3,"), "{aside}");
    let mut whole = logged(&dir.join("whole"));
    whole.remove(2);
    assert_eq!(logged(&run), whole, "all lines but the damaged one");
    assert!(weights(&run) == weights(&dir.join("whole")), "other weights");
}

#[test]
fn metrics_that_are_removed_while_training_are_written_again() {
    let home = dir();
    let dir = home.0.as_path();
    let args = format!("train {SMALL} --steps 100000 --out run");
    let child = moe(dir, &args).spawn().unwrap();
    let log = dir.join("run").join(metrics::FILE);
    while !fs::metadata(&log).is_ok_and(|m| m.len() > 0) {
        sleep(Duration::from_millis(1));
    }
    fs::remove_file(&log).unwrap();
    sleep(Duration::from_millis(50));
    signal(&child, "-TERM");
    let end = child.wait_with_output().unwrap();
    let err = text(&end.stderr);
    assert_eq!(end.status.code(), Some(0), "{err}");
    assert!(err.contains("changed or removed by someone"), "{err}");
    let steps: Vec<_> =
        logged(&dir.join("run")).iter().map(|l| l.metrics.step).collect();
    assert_eq!(steps[0], 20, "all of them: {steps:?}");
}

#[test]
fn a_run_goes_on_with_its_own_instruction_set() {
    let home = dir();
    let dir = home.0.as_path();
    let with = |isa: &str, args: &str| {
        let mut moe = moe(dir, args);
        moe.env("MOE_SIMD", isa);
        moe
    };
    let args = format!("train {SMALL} --steps 30");
    start::succeeds(&mut with("portable", &format!("{args} --out whole")));
    let copy = |to: &str| {
        let _ = fs::remove_dir_all(dir.join(to));
        fs::create_dir(dir.join(to)).unwrap();
        let from = dir.join("whole/run.json");
        fs::copy(from, dir.join(to).join("run.json")).unwrap();
    };
    // Without a word it takes the one it began with.
    copy("run");
    let said = start::succeeds(&mut with("", "train --resume --out run"));
    assert!(said.contains("numbers   portable"), "{said}");
    assert!(weights(&dir.join("run")) == weights(&dir.join("whole")), "bits");
    // A CPU may have no other.
    let best = Isa::best();
    if best != Isa::Portable {
        let best = best.to_string();
        copy("run");
        let again = "train --resume --out run";
        let parts = ["begun with portable", "--other-arithmetic"];
        start::fails(&mut with(&best, again), &parts);
        let flag = format!("{again} --other-arithmetic");
        let said = start::succeeds(&mut with(&best, &flag));
        assert!(said.contains(&format!("numbers   {best}")), "{said}");
        start::succeeds(&mut with("", again));
        let other = weights(&dir.join("run")) != weights(&dir.join("whole"));
        assert!(other, "the same bits: then why refuse it?");
    }
    start::fails(&mut with("", &format!("{args} --other-arithmetic")), &[]);
}

#[test]
fn nonsense_is_told_in_one_line_and_writes_nothing() {
    let home = dir();
    let dir = home.0.as_path();
    succeeds(dir, &format!("train {SMALL} --steps 2 --out run"));
    let half = "--precision f16 --out half";
    succeeds(dir, &format!("train {SMALL} --steps 2 {half}"));
    // the settings of a program that knows other numbers
    fs::create_dir(dir.join("fp8")).unwrap();
    let mut state = State::read(&dir.join("run/run.json")).unwrap();
    state.precision = "fp8".into();
    fs::write(dir.join("fp8/run.json"), state.to_json()).unwrap();
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
        ("--optimizer sgd", "--optimizer is sgd, but it is adamw or muon"),
        ("--muon-lr 0.1", "--muon-lr is 0.1, but AdamW moves all by --lr"),
        ("--optimizer muon --muon-lr 0", "--muon-lr is 0, but "),
        ("--optimizer muon --muon-lr NaN", "--muon-lr is NaN, but "),
        ("--optimizer muon --muon-lr 20", "--decay is 0.1, but "),
        ("--schedule linear", "--schedule is linear, but it is cosine or wsd"),
        ("--cooldown 0.5", "--cooldown is 0.5, but a cosine has none"),
        ("--schedule wsd --cooldown 0", "--cooldown is 0, but "),
        ("--schedule wsd --cooldown NaN", "--cooldown is NaN, but "),
        ("--schedule wsd --cooldown 1", "the cooldown is 2000 steps, but "),
        ("--schedule wsd --cooldown 1.1", "--cooldown is 1.1, but "),
        ("--precision fp8", "--precision is fp8, but it is f32, bf16 or f16"),
        ("--precision f16 --loss-scale 0", "--loss-scale is 0, but a scale"),
        ("--precision f16 --loss-scale -2", "--loss-scale is -2, but a scale"),
        ("--precision bf16 --loss-scale NaN", "--loss-scale is NaN, but "),
        ("--precision bf16 --loss-scale inf", "--loss-scale is inf, but "),
        ("--precision f16 --loss-scale 1e39", "a positive number, in f32"),
        ("--precision f16 --loss-scale fast", "--loss-scale is fast, but it"),
        ("--loss-scale 8", "--loss-scale is 8, but no gradient is too small"),
        ("--loss-scale dynamic", "--loss-scale is dynamic, but "),
        ("--save-precision f16", "--save-precision is f16, but "),
        ("--save-precision f8", "--save-precision is f8, but "),
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
        ("--text .", ". is a directory"),
        ("--config bad.json", "EOF while parsing"),
        ("--config absent", "absent: "),
        ("--preset huge", "`huge`"),
        ("--preset moe_6_9b", "are available"),
        ("--preset tiny --config small.json", "exclude each other"),
        ("--out run", "--out is run, but that exists"),
        ("--out text", "--out is text, but that exists"),
        ("--out text --resume", "--out is text, but that is no directory"),
        ("--out text/below", "text/below: "),
        ("--out /proc/none", "/proc/none: "),
        ("--resume --out run --lr 1", "--lr is 1.0, but the checkpoint has"),
        ("--resume --out run --steps 3", "--steps is 3, but the checkpoint"),
        (
            "--resume --out run --optimizer muon",
            "the optimizer is muon, but the run was begun with adamw",
        ),
        (
            "--resume --out run --schedule wsd",
            "--schedule is \"wsd\", but the checkpoint has \"cosine\"",
        ),
        ("--resume --out run --seed 1", "--seed is 1, but the checkpoint has"),
        ("--resume --out run --recompute", "--recompute is true, but "),
        ("--resume --out run --text other", "the run was trained on"),
        (
            "--resume --out run --precision bf16",
            "--precision is bf16, but the run was begun with f32; ",
        ),
        (
            "--resume --out half --precision f32",
            "--precision is f32, but the run was begun with f16; ",
        ),
        (
            "--resume --out half --loss-scale 2",
            "--loss-scale is 2.0, but the checkpoint has \"dynamic\"; ",
        ),
        (
            "--resume --out run --save-precision bf16",
            "--save-precision is \"bf16\", but the checkpoint has \"f32\"",
        ),
        ("--resume --out fp8", "the precision is fp8, but here it is f32, "),
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
        ("muon-lr", o.muon_lr.to_string()),
        ("cooldown", o.cooldown.to_string()),
    ] {
        let at = said.find(&format!("--{option} <")).unwrap();
        let rest = &said[at + 2..];
        let this = &rest[..rest.find("--").unwrap_or(rest.len())];
        // wherever the line is broken
        let this = this.split_whitespace().collect::<Vec<_>>().join(" ");
        let default = format!("[default: {value}]");
        assert!(this.contains(&default), "no {default} in {this}");
    }
}

/// In 16 bits: from its settings alone it has the same bits; the metrics say the
/// scale; `moe info` says what it takes; the weights are saved in bf16, and
/// read.
#[test]
fn a_run_in_16_bits() {
    let home = dir();
    let dir = home.0.as_path();
    for precision in ["bf16", "f16"] {
        let out = |name: &str| format!("{precision}-{name}");
        let args = format!(
            "train {SMALL} --steps 14 --precision {precision} \
             --save-precision bf16"
        );
        let whole = out("whole");
        let said = succeeds(dir, &format!("{args} --out {whole}"));
        assert!(said.contains(&format!("stored in {precision}, ")), "{said}");
        // What it takes is what `moe info` says.
        let info = format!(
            "info --config small.json --text text --batch 4 --seq 16 \
             --precision {precision} --json"
        );
        let info: serde_json::Value =
            serde_json::from_str(&succeeds(dir, &info)).unwrap();
        let bytes = &info["memory_bytes"];
        let need = format!("({} bytes)", bytes["training"]);
        assert!(said.contains(&need), "{need} in {said}");
        let [theta, working] =
            ["weights", "working"].map(|part| bytes[part].as_u64().unwrap());
        assert_eq!(theta, 2 * working);
        let lines = logged(&dir.join(&whole));
        let scale = if precision == "f16" { 65_536.0 } else { 1.0 };
        for line in &lines {
            let m = &line.metrics;
            assert_eq!((m.scale, m.skipped), (Some(scale), Some(0)));
        }
        // Begun anew from its settings alone.
        let part = dir.join(out("part"));
        fs::create_dir(&part).unwrap();
        fs::copy(dir.join(&whole).join("run.json"), part.join("run.json"))
            .unwrap();
        let resume = format!("train --resume --out {}", out("part"));
        succeeds(dir, &format!("{resume} --threads 1"));
        assert!(weights(&part) == weights(&dir.join(&whole)), "{precision}");
        assert_eq!(logged(&part), lines);
        // Two bytes for each weight.
        let path = dir.join(&whole).join("model.safetensors");
        let file = Tensors::open(&path).unwrap();
        for name in file.names() {
            let dtype = file.dtype(&name).unwrap().to_string();
            assert_eq!(dtype, "BF16", "{name}");
        }
        let config = fs::read_to_string(dir.join(&whole).join("config.json"));
        assert!(config.unwrap().contains("\"dtype\": \"bfloat16\""));
        let generate = "--prompt t --greedy --max-tokens 3";
        succeeds(dir, &format!("generate --model {whole} {generate}"));
        // A NaN in it is refused, as one of f32 is.
        let mut all = fs::read(&path).unwrap();
        let end = all.len();
        all[end - 2..].copy_from_slice(&0x7fc0u16.to_le_bytes());
        let header = u64::from_le_bytes(all[..8].try_into().unwrap()) as usize;
        let text = str::from_utf8(&all[8..8 + header]).unwrap();
        let other = text.replacen("\"sha256\"", "\"sha255\"", 1);
        all.splice(8..8 + header, other.into_bytes());
        fs::write(&path, all).unwrap();
        let mut generate =
            moe(dir, &format!("generate --model {whole} {generate}"));
        start::fails(&mut generate, &["is NaN, but a weight has to be"]);
    }
}
