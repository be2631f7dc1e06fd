//! Chapter: sampling. `moe generate`, as a user meets it.

use crate::edit::Dir;
use crate::start::{End, end, fails, moe, succeeds};
use moe_by_hand::config::Config;
use moe_by_hand::generate::{Decoder, Sampler, generate};
use moe_by_hand::hf;
use moe_by_hand::model::Model;
use moe_by_hand::rng::Rng;
use moe_by_hand::tokens::harmless;
use std::path::Path;
use std::process::{Command, Stdio};

const CONTEXT: usize = 40;

/// A directory with a random model, gone at the end.
fn random(vocab: usize) -> Dir {
    let dir = Dir::new();
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
    hf::save(&dir.0, &model, &model.init::<f32>(1)).unwrap();
    dir
}
fn command(model: &Path, args: &[&str]) -> Command {
    let mut command = moe(["generate", "--model"]);
    command.arg(model).args(args);
    command
}
fn shown(model: &Path, args: &[&str]) -> String {
    succeeds(&mut command(model, args))
}

#[test]
fn prints_the_prompt_and_what_the_library_makes() {
    let dir = random(256);
    let (model, p) = hf::load::<f32>(&dir.0).unwrap();
    let prompt = "Grün: ";
    let made = |seed, t, k, mass, max| {
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
        harmless(&(String::from_utf8_lossy(&all).into_owned() + "\n"))
    };
    let base = ["--prompt", prompt, "--max-tokens", "20"];
    let on = |more: &[&str]| shown(&dir.0, &[&base, more].concat());
    assert_eq!(on(&[]), made(0, 0.8, 0, 1.0, 20));
    assert_eq!(on(&["--seed", "0"]), on(&[]));
    assert_eq!(on(&["--seed", "7"]), made(7, 0.8, 0, 1.0, 20));
    assert_ne!(on(&["--seed", "7"]), on(&[]));
    assert_eq!(on(&["--greedy"]), made(0, 0.0, 0, 1.0, 20));
    assert_eq!(on(&["--greedy", "--seed", "7"]), on(&["--temperature", "0"]));
    let all = ["--temperature", "1.5", "--top-k", "9", "--top-p", "0.9"];
    assert_eq!(on(&all), made(0, 1.5, 9, 0.9, 20));
    // 200 tokens are more than the context has room for.
    assert_eq!(shown(&dir.0, &["--prompt", prompt]), made(0, 0.8, 0, 1.0, 200));
    let none = ["--prompt", "-x", "--max-tokens", "0"];
    assert_eq!(shown(&dir.0, &none), "-x\n");
}
#[test]
fn says_on_stderr_how_fast_it_was_and_when_the_context_is_full() {
    let dir = random(256);
    let stderr = |args: &[&str]| -> Vec<String> {
        let End { code, err, .. } = end(&mut command(&dir.0, args));
        assert_eq!(code, Some(0), "{err}");
        err.lines().map(String::from).collect()
    };
    let lines = stderr(&["--prompt", "ab", "--max-tokens", "5"]);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("moe: 5 tokens in "), "{lines:?}");
    assert!(lines[0].ends_with(" tokens/s"), "{lines:?}");
    let lines = stderr(&["--prompt", "ab"]);
    let full = "moe: the context of 40 is full: stopped after 39 tokens";
    assert_eq!((lines.len(), lines[0].as_str()), (2, full), "{lines:?}");
}
#[test]
fn tokens_that_are_no_bytes_are_shown_as_numbers() {
    let dir = random(300);
    let text = shown(&dir.0, &["--prompt", "ab", "--temperature", "1e300"]);
    let number = |part: &str| part.split('>').next()?.parse::<usize>().ok();
    let numbers: Vec<usize> = text.split('<').filter_map(number).collect();
    let wide = numbers.iter().filter(|n| (256..300).contains(*n)).count();
    // 39 tokens with 44/300 each on average: none has probability 0.2 %.
    assert!(wide > 0, "{text}");
}
#[test]
fn each_error_is_one_line_and_exit_code_2() {
    let (dir, narrow) = (random(256), random(100));
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
        (&["--prompt", "a", "--top-k", "-1"], &["--top-k is -1", "from 0 on"]),
        (&["--prompt", "a", "--seed", "-1"], &["--seed is -1", "from 0 on"]),
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
    let whole = cases.iter().map(|c| (&*dir.0, c.0, c.1));
    for (model, args, parts) in whole.chain(other) {
        fails(&mut command(model, args), parts);
    }
}
#[test]
fn a_reader_that_leaves_ends_it_quietly() {
    let dir = random(256);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = command(&dir.0, &["--prompt", "ab"]);
    let o = command.stdout(writer).stderr(Stdio::piped());
    let o = o.output().unwrap();
    assert_eq!((o.status.code(), &*o.stderr), (Some(0), &b""[..]));
}
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error() {
    let dir = random(256);
    let disk = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = command(&dir.0, &["--prompt", "ab"]);
    fails(command.stdout(disk), &["standard output"]);
}
#[test]
fn help_has_examples() {
    let said = shown(Path::new("x"), &["--help"]);
    assert!(said.contains("Examples:"), "{said}");
}

/// What a model writes may steer a terminal; the prompt may, too.
#[test]
fn nothing_that_is_shown_steers_a_terminal() {
    let dir = random(256);
    for seed in ["1", "2", "3", "4"] {
        let hot = ["--prompt", "\x1b[2J\x07\ta", "--temperature", "9"];
        let text = shown(&dir.0, &[&hot[..], &["--seed", seed]].concat());
        let steers = |c: char| c.is_control() && !"\n\t".contains(c);
        assert!(!text.contains(steers), "{text:?}");
        assert!(text.contains('\u{fffd}') && text.contains('\t'), "{text:?}");
    }
}
/// A model with a vocabulary of its own was given the prompt's bytes as tokens.
#[test]
fn a_model_with_a_tokenizer_takes_numbers_of_tokens() {
    let dir = random(300);
    let ask = ["--prompt", "ab", "--max-tokens", "3"];
    shown(&dir.0, &ask); // ours: its tokens are bytes
    std::fs::write(dir.0.join("tokenizer.json"), "{}").unwrap();
    let parts = ["--prompt", "tokenizer.json", "--tokens"];
    fails(&mut command(&dir.0, &ask), &parts);
    std::fs::remove_file(dir.0.join("tokenizer.json")).unwrap();
    // someone else's: special tokens begin and end a text
    let path = dir.0.join("config.json");
    let config = std::fs::read_to_string(&path).unwrap();
    let theirs =
        config.replace("\"eos_token_id\": null", "\"eos_token_id\": 2");
    std::fs::write(&path, theirs).unwrap();
    fails(&mut command(&dir.0, &ask), &["300 tokens", "--tokens"]);
    let numbers = ["--tokens", "1,299", "--max-tokens", "3"];
    let text = shown(&dir.0, &numbers);
    let all: Vec<usize> =
        text.split_whitespace().map(|n| n.parse().unwrap()).collect();
    assert_eq!((all.len(), &all[..2]), (5, &[1, 299][..]), "{text}");
    let wrong = ["--tokens", "1,300"];
    fails(&mut command(&dir.0, &wrong), &["300"]);
    fails(&mut command(&dir.0, &["--tokens", "1,-2"]), &["--tokens is -2"]);
}
