//! Chapter: training. Wrong words, wrong names and wrong files, in every
//! subcommand: one plain line with the thing, its value, the rule and the cure.

use crate::edit::Dir;
use crate::start::{End, end, fails, moe, project, words};
use std::fs;
use std::path::Path;
use std::process::Command;

/// README, CONTRIBUTING and the chapters print commands that it understands.
#[test]
fn texts_print_what_it_understands() {
    let moe = Path::new(env!("CARGO_BIN_EXE_moe"));
    let (seen, faults) =
        registry::refused(&project(""), "moe", |given, whole| {
            registry::ask_for_help(moe, given, whole)
        })
        .unwrap();
    assert!(seen > 40, "only {seen} commands: are texts still read?");
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// `option is value, but rule; cure`.
#[test]
fn an_option_its_value_the_rule_and_what_to_do() {
    let whole = "but it has to be a whole number from 0 on; give such a value";
    for (line, parts) in [
        ("train --steps -1", &["--steps is -1", whole, "moe train --help"][..]),
        ("train --steps 1.5", &["--steps is 1.5", whole]),
        ("train --steps 99999999999999999999", &["--steps", "less than 2⁶⁴"]),
        ("info --batch -5", &["--batch is -5", whole, "moe info --help"]),
        ("converge --steps -1", &["--steps is -1", whole]),
        (
            "generate --model x --prompt a --max-tokens -1",
            &["--max-tokens is -1", whole],
        ),
        (
            "generate --model x --prompt a --window -1",
            &["--window is -1", whole],
        ),
        ("train --lr hot", &["--lr is hot", "but it has to be a number"]),
        ("train --lr -inf", &["--lr is -inf", "positive"]),
        ("train --lr -nan", &["--lr is NaN", "positive"]),
        ("train --lr -1e-3", &["--lr is -0.001", "positive"]),
        ("train --lr", &["--lr is without a value", "it needs one"]),
        ("train --stpes 5", &["`--stpes` is unknown", "did you mean --steps?"]),
        ("train x", &["`x` is unknown", "`moe train` has no such"]),
        ("trian", &["`trian` is unknown", "did you mean train?"]),
        ("generate --model x", &["--prompt <TEXT> is missing", "needs it"]),
        ("oracle", &["DIR", "missing"]),
        ("train --steps 1 --steps 2", &["--steps is given twice"]),
        ("train --resume=yes", &["--resume is \"yes\"", "takes no value"]),
        ("info --preset tiny --config x", &["--preset", "--config", "exclude"]),
        ("train --aux 1e39", &["--aux is 1", "in f32", "0 switches it off"]),
        ("train --z-loss 1e39", &["--z-loss is 1", "in f32"]),
        ("train --lr 1 --decay 2", &["--decay is 2", "at most 1"]),
    ] {
        let mut moe = moe(words(line));
        fails(moe.current_dir(project("")), parts);
    }
}
#[test]
fn words_that_steer_a_terminal_are_shown_as_escapes() {
    let evil = "a\nb\r\x1b[2J\u{202e}";
    let cases: [&[&str]; 9] = [
        &[evil],
        &["train", evil],
        &["train", "--preset", evil],
        &["train", "--steps", evil],
        &["train", "--text", evil],
        &["info", "--config", evil],
        &["check", evil],
        &["oracle", evil],
        &["bench-report", evil],
    ];
    for args in cases {
        let End { code, out, err } = end(&mut moe(args));
        assert_eq!((code, out.as_str()), (Some(2), ""), "{args:?}: {err}");
        assert_eq!(err.matches('\n').count(), 1, "{args:?}: {err:?}");
        let steers = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
        assert!(!err.contains(steers), "{args:?}: {err:?}");
        assert!(err.contains("a\\nb"), "{args:?}: {err}");
    }
    let mut simd = moe(["info"]);
    fails(simd.env("MOE_SIMD", evil), &["MOE_SIMD", "a\\nb"]);
}
/// What is no file is refused at once, wherever one is asked for.
#[cfg(target_os = "linux")]
#[test]
fn only_ordinary_files_are_read() {
    let dir = Dir::new();
    let pipe = dir.0.join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let pipe = pipe.to_str().unwrap();
    for path in ["/dev/zero", "/dev/tty", "/proc/kmsg", "/dev", pipe] {
        let model = dir.0.join("model");
        fs::create_dir_all(&model).unwrap();
        let config = model.join("config.json");
        let _ = fs::remove_file(&config);
        std::os::unix::fs::symlink(path, &config).unwrap();
        let model = model.to_str().unwrap();
        let cases: [&[&str]; 7] = [
            &["train", "--out", "new", "--text", path],
            &["train", "--out", "new", "--config", path],
            &["info", "--config", path],
            &["info", "--text", path],
            &["info", "--model", model],
            &["generate", "--prompt", "a", "--model", model],
            &["bench-report", path],
        ];
        for args in cases {
            let mut moe = moe(args);
            moe.current_dir(&dir.0).stdin(std::process::Stdio::null());
            fails(&mut moe, &[]);
        }
        assert!(!dir.0.join("new").exists(), "{path}");
    }
}
#[test]
fn a_name_twice_in_measurements_is_an_error() {
    let dir = Dir::new();
    let path = dir.0.join("twice.json");
    fs::write(
        &path,
        r#"{"metadata":{"label":"a","label":"b"},"scenarios":[]}"#,
    )
    .unwrap();
    fails(moe(["bench-report"]).arg(&path), &["\"label\" stands twice"]);
}
/// Some hundred spoiled files of measurements: one line, or a report.
#[test]
fn spoiled_measurements_are_one_line() {
    let dir = Dir::new();
    let path = dir.0.join("spoiled.json");
    let whole = project("benches/peers");
    let whole = fs::read_dir(whole).unwrap().map(|f| f.unwrap().path());
    let json =
        |p: &std::path::PathBuf| p.extension().is_some_and(|e| e == "json");
    let whole = fs::read(whole.filter(json).min().unwrap()).unwrap();
    let mut rng = moe_by_hand::rng::Rng::named(0, "spoiled");
    for _ in 0..150 {
        let mut bytes = whole.clone();
        for _ in 0..1 + rng.below(3) {
            let at = rng.below(bytes.len());
            match rng.below(3) {
                0 => bytes[at] ^= 1 << rng.below(8),
                1 => bytes.truncate(at + 1),
                _ => drop(bytes.splice(at..at, *b"1e400")),
            }
        }
        fs::write(&path, &bytes).unwrap();
        let End { code, err, .. } = end(moe(["bench-report"]).arg(&path));
        match code {
            Some(0) => assert_eq!(err, ""),
            code => {
                assert_eq!(code, Some(2), "{err}");
                assert_eq!(err.lines().count(), 1, "{err}");
            }
        }
    }
}
