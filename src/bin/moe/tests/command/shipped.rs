//! Chapter: sampling. The model that is part of the command: it is what its
//! README says, and `moe generate` writes with it.

use crate::start::{End, end, fails, moe, project, succeeds};
use moe_by_hand::hf;
use moe_by_hand::tensors::sha256;
use moe_by_hand::train::validation::Validation;
use std::fs;
use std::process::Command;

const FOLDER: &str = "src/bin/moe/model";
const NOTE: &str = "moe: without --model, ";

fn record() -> String {
    fs::read_to_string(project(FOLDER).join("README.md")).unwrap()
}
fn portable(args: &[&str]) -> Command {
    let mut command = moe([&["generate"], args].concat());
    command.env("MOE_SIMD", "portable");
    command
}

#[test]
fn it_is_small_and_the_one_that_its_readme_tells_of() {
    for name in ["config.json", "model.safetensors"] {
        let bytes = fs::read(project(FOLDER).join(name)).unwrap();
        let n = bytes.len();
        assert!(n <= 1_000_000, "{name}: {n} bytes are more than a megabyte");
        let row = format!("| `{name}` | {n} | `{}` |", sha256(&bytes));
        assert!(record().contains(&row), "README lacks: {row}");
    }
}

/// The loss on a poem that is not in the text that it was trained on, in the
/// two windows of its context.
#[test]
fn its_loss_is_the_recorded_one() {
    let (model, p) = hf::load::<f32>(&project(FOLDER)).unwrap();
    let context = model.config.context;
    let mut validation = Validation::new(&model, SONNET.len(), context);
    let loss = validation.loss(&model, &p, SONNET.as_bytes(), |_| true);
    let loss = loss.unwrap();
    let said = record();
    let said = said.split("its loss is\n**").nth(1).unwrap();
    let said = said.split("**").next().unwrap();
    let said: f64 = said.parse().unwrap();
    // The last digit that is recorded, and f32 under any instruction set.
    assert!((loss - said).abs() < 1e-4, "{loss}, and README says {said}");
}
/// Shakespeare's 18th.
const SONNET: &str = "\
Shall I compare thee to a summer's day?
Thou art more lovely and more temperate:
Rough winds do shake the darling buds of May,
And summer's lease hath all too short a date;
Sometime too hot the eye of heaven shines,
And often is his gold complexion dimm'd;
And every fair from fair sometime declines,
By chance or nature's changing course untrimm'd;
But thy eternal summer shall not fade,
Nor lose possession of that fair thou ow'st;
Nor shall death brag thou wander'st in his shade,
When in eternal lines to time thou grow'st:
So long as men can breathe or eyes can see,
So long lives this, and this gives life to thee.
";

#[test]
fn it_writes_what_its_readme_shows() {
    let said = record();
    let shown = said.split("```text\n").nth(1).unwrap();
    let shown = shown.split("```").next().unwrap();
    let End { code, out, err } = end(&mut portable(&["--prompt", "ROMEO:"]));
    assert_eq!((code, out.as_str()), (Some(0), shown), "{err}");
    // The project's README shows the beginning.
    let readme = fs::read_to_string(project("README.md")).unwrap();
    let begins: Vec<&str> = shown.lines().take(8).collect();
    let begins = begins.join("\n");
    assert!(readme.contains(&begins), "README lacks:\n{begins}");
    // It says which model that was, once.
    assert_eq!(err.matches(NOTE).count(), 1, "{err}");
    assert!(err.starts_with(NOTE) && err.lines().count() == 2, "{err}");
    // The same as that of the folder, of which nothing need be said.
    let folder = project(FOLDER);
    let named = ["--prompt", "ROMEO:", "--model", folder.to_str().unwrap()];
    let named = end(&mut portable(&named));
    assert_eq!((named.code, named.out), (Some(0), out));
    assert!(!named.err.contains(NOTE), "{}", named.err);
}

/// It needs no file, and takes what any model takes.
#[test]
fn it_is_part_of_the_command() {
    let mut command = portable(&["--prompt", "a", "--max-tokens", "3"]);
    let away = std::env::temp_dir();
    assert_eq!(succeeds(command.current_dir(away)).len(), 5);
    let tokens = ["--tokens", "65,66", "--max-tokens", "1"];
    assert!(succeeds(&mut portable(&tokens)).starts_with("65 66 "));
    fails(&mut portable(&["--tokens", "256"]), &["256 tokens"]);
    let long = "x".repeat(257);
    fails(&mut portable(&["--prompt", &long]), &["257", "256"]);
    fails(&mut portable(&["--prompt", "a", "--window", "0"]), &["--window"]);
    fails(&mut portable(&[]), &["--prompt"]);
}
