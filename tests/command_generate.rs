//! Chapter: sampling. `moe generate`, as a user meets it.
#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use moe_by_hand::config::Config;
use moe_by_hand::generate::{Decoder, Sampler, generate};
use moe_by_hand::hf;
use moe_by_hand::model::Model;
use moe_by_hand::rng::Rng;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const CONTEXT: usize = 40;

/// A directory with a random model, gone at the end.
struct Dir(PathBuf);
impl Dir {
    fn new(name: &str, vocab: usize) -> Self {
        let name = format!("moe-generate-{name}-{}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        let model = Model::new(Config {
            vocab,
            hidden: 16,
            heads: 2,
            head: 8,
            intermediate: 16,
            context: CONTEXT,
            init: 0.4,
            ..Config::preset("tiny").unwrap()
        });
        let model = model.unwrap();
        hf::save(&dir, &model, &model.init::<f32>(1)).unwrap();
        Self(dir)
    }
}
impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0); // the system cleans up otherwise
    }
}
fn command(model: &Path, args: &[&str]) -> Command {
    let mut moe = Command::new(env!("CARGO_BIN_EXE_moe"));
    moe.arg("generate").arg("--model").arg(model).args(args);
    moe
}
fn run(model: &Path, args: &[&str]) -> Output {
    command(model, args).output().unwrap()
}
fn stdout(o: &Output) -> &str {
    std::str::from_utf8(&o.stdout).expect("output is UTF-8")
}
fn stderr(o: &Output) -> &str {
    std::str::from_utf8(&o.stderr).expect("messages are UTF-8")
}
fn shown(model: &Path, args: &[&str]) -> String {
    let o = run(model, args);
    assert_eq!(o.status.code(), Some(0), "{}", stderr(&o));
    stdout(&o).to_string()
}

#[test]
fn prints_the_prompt_and_what_the_library_makes() {
    let dir = Dir::new("text", 256);
    let (model, p) = hf::load::<f32>(&dir.0).unwrap();
    let prompt = "Grün: ";
    let of = |seed, t, k, mass, max| {
        let mut all: Vec<u8> = prompt.into();
        let tokens: Vec<usize> = prompt.bytes().map(usize::from).collect();
        let mut sampler = Sampler::new(t, k, mass).unwrap();
        let (s, mut rng) = (&mut sampler, Rng::named(seed, "sample"));
        generate(
            &mut Decoder::new(&model),
            &p,
            &tokens,
            max,
            s,
            &mut rng,
            |t| {
                all.push(t as u8);
                true
            },
        )
        .unwrap();
        String::from_utf8_lossy(&all).into_owned() + "\n"
    };
    let base = ["--prompt", prompt, "--max-tokens", "20"];
    let on = |more: &[&str]| shown(&dir.0, &[&base, more].concat());
    assert_eq!(on(&[]), of(0, 0.8, 0, 1.0, 20));
    assert_eq!(on(&["--seed", "0"]), on(&[]));
    assert_eq!(on(&["--seed", "7"]), of(7, 0.8, 0, 1.0, 20));
    assert_ne!(on(&["--seed", "7"]), on(&[]));
    assert_eq!(on(&["--greedy"]), of(0, 0.0, 0, 1.0, 20));
    assert_eq!(on(&["--greedy", "--seed", "7"]), on(&["--temperature", "0"]));
    let all = ["--temperature", "1.5", "--top-k", "9", "--top-p", "0.9"];
    assert_eq!(on(&all), of(0, 1.5, 9, 0.9, 20));
    // 200 tokens are more than the context has room for.
    assert_eq!(shown(&dir.0, &["--prompt", prompt]), of(0, 0.8, 0, 1.0, 200));
    let none = ["--prompt", "-x", "--max-tokens", "0"];
    assert_eq!(shown(&dir.0, &none), "-x\n");
}
#[test]
fn says_on_stderr_how_fast_it_was_and_when_the_context_is_full() {
    let dir = Dir::new("full", 256);
    let o = run(&dir.0, &["--prompt", "ab", "--max-tokens", "5"]);
    let lines: Vec<&str> = stderr(&o).lines().collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("moe: 5 tokens in "), "{lines:?}");
    assert!(lines[0].ends_with(" tokens/s"), "{lines:?}");
    let o = run(&dir.0, &["--prompt", "ab"]);
    let lines: Vec<&str> = stderr(&o).lines().collect();
    let full = "moe: the context of 40 is full: stopped after 39 tokens";
    assert_eq!((lines.len(), lines[0]), (2, full), "{lines:?}");
    assert_eq!(o.status.code(), Some(0));
}
#[test]
fn tokens_that_are_no_bytes_are_shown_as_numbers() {
    let dir = Dir::new("wide", 300);
    let text = shown(&dir.0, &["--prompt", "ab", "--temperature", "1e300"]);
    let number = |part: &str| part.split('>').next()?.parse::<usize>().ok();
    let numbers: Vec<usize> = text.split('<').filter_map(number).collect();
    let wide = numbers.iter().filter(|n| (256..300).contains(*n)).count();
    // Of 39 tokens 44/300 each on average; none has probability 0.2 %.
    assert!(wide > 0, "{text}");
}
#[test]
fn each_error_is_one_line_and_exit_code_2() {
    let (dir, narrow) = (Dir::new("errors", 256), Dir::new("narrow", 100));
    let long = "x".repeat(CONTEXT + 1);
    let cases: [(&[&str], &[&str]); 18] = [
        (&[], &["--prompt"]),
        (&["--prompt", ""], &["prompt is empty"]),
        (&["--prompt", &long], &["41", "context holds 40"]),
        (&["--prompt", "a", "--max-tokens", "many"], &["--max-tokens", "many"]),
        (&["--prompt", "a", "--temperature", "-1"], &["temperature is -1"]),
        (&["--prompt", "a", "--temperature", "nan"], &["temperature is NaN"]),
        (&["--prompt", "a", "--temperature", "inf"], &["temperature is inf"]),
        (&["--prompt", "a", "--temperature", "hot"], &["--temperature", "hot"]),
        (&["--prompt", "a", "--top-p", "0"], &["top-p is 0"]),
        (&["--prompt", "a", "--top-p", "-0.1"], &["top-p is -0.1"]),
        (&["--prompt", "a", "--top-p", "1.5"], &["top-p is 1.5"]),
        (&["--prompt", "a", "--top-p", "nan"], &["top-p is NaN"]),
        (&["--prompt", "a", "--top-k", "-1"], &["-1"]),
        (&["--prompt", "a", "--seed", "-1"], &["-1"]),
        (&["--prompt", "a", "--greedy", "--temperature", "1"], &["--greedy"]),
        (&["--prompt", "a", "--greedy", "--top-k", "5"], &["--greedy"]),
        (&["--prompt", "a", "--greedy", "--top-p", "0.5"], &["--greedy"]),
        (&["--prompt", "a", "--fast"], &["--fast"]),
    ];
    let missing = dir.0.join("no-such");
    let other: [(&Path, &[&str], &[&str]); 2] = [
        (&missing, &["--prompt", "a"], &["no-such"]),
        (&narrow.0, &["--prompt", "aé"], &["position 1", "195", "100 tokens"]),
    ];
    let of_dir = cases.iter().map(|c| (&*dir.0, c.0, c.1));
    for (model, args, parts) in of_dir.chain(other) {
        let o = run(model, args);
        assert_eq!(o.status.code(), Some(2), "{args:?}: {}", stderr(&o));
        assert_eq!(stdout(&o), "", "{args:?}");
        let said = stderr(&o);
        let whole = said.starts_with("moe: ") && said.ends_with('\n');
        assert!(whole && said.lines().count() == 1, "{args:?}: {said}");
        for part in parts {
            assert!(said.contains(part), "`{part}` is not in: {said}");
        }
    }
    let o = Command::new(env!("CARGO_BIN_EXE_moe"))
        .args(["generate", "--prompt", "a"])
        .output()
        .unwrap();
    assert_eq!((o.status.code(), stderr(&o).lines().count()), (Some(2), 1));
}
#[test]
fn a_reader_that_leaves_ends_it_quietly() {
    let dir = Dir::new("pipe", 256);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let o = command(&dir.0, &["--prompt", "ab"])
        .stdout(writer)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!((o.status.code(), stderr(&o)), (Some(0), ""));
}
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error() {
    let dir = Dir::new("disk", 256);
    let disk = fs::File::options().write(true).open("/dev/full").unwrap();
    let o = command(&dir.0, &["--prompt", "ab"])
        .stdout(disk)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(o.status.code(), Some(2));
    assert_eq!(stderr(&o).lines().count(), 1, "{}", stderr(&o));
    assert!(stderr(&o).contains("standard output"), "{}", stderr(&o));
}
#[test]
fn help_has_examples() {
    let o = run(Path::new("x"), &["--help"]);
    assert_eq!(o.status.code(), Some(0));
    assert!(stdout(&o).contains("Examples:"), "{}", stdout(&o));
}
