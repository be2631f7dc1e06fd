//! Chapter 18. Arrows point down only: each module of the library uses those
//! below it, each file says where it belongs, and `unsafe` stands in one file.
#![allow(missing_docs, reason = "a test is documented by its name")]

use std::fs;
use std::path::Path;

/// The modules from the bottom up, as in `lib.rs`; those of one level may use
/// each other, but not in a circle.
const LEVELS: &[&[&str]] = &[
    &["error", "file", "real", "rng", "tensors"],
    &["kernel"],
    &["params", "layer", "gradcheck"],
    &["nn"],
    &["config", "memory", "block"],
    &["model"],
    &["figure", "generate", "hf"],
    &["train"],
    &["check", "oracle", "book"],
];
/// The one file that may contain `unsafe`.
const UNSAFE: &str = "src/kernel/simd.rs";

/// A file: its name relative to the top, and its text.
type File = (String, String);

/// Every Rust file under `src/`, sorted by name.
fn sources() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut found, mut folders) = (vec![], vec!["src".to_string()]);
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(root.join(&folder)).expect(&folder);
        for entry in entries {
            let path = entry.expect(&folder).path();
            let name = path.file_name().and_then(|n| n.to_str());
            let name = format!("{folder}/{}", name.expect("a name in UTF-8"));
            if path.is_dir() {
                folders.push(name);
            } else if name.ends_with(".rs") {
                let text = fs::read_to_string(path).expect(&name);
                found.push((name, text));
            }
        }
    }
    found.sort();
    found
}
#[track_caller]
fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// The text without comments, doc tests among them; lines stay where they
/// are.
fn code(text: &str) -> String {
    let bare = |line: &str| line.split("//").next().map(str::to_string);
    text.lines().filter_map(bare).collect::<Vec<_>>().join("\n")
}
fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}
/// Where `word` begins, not inside a longer one.
fn find_word(text: &str, word: &str) -> Vec<usize> {
    let alone = |&(at, _): &(usize, &str)| {
        !text[..at].ends_with(is_word)
            && !text[at + word.len()..].starts_with(is_word)
    };
    text.match_indices(word).filter(alone).map(|(at, _)| at).collect()
}

// Arrows --------------------------------------------------------------------

/// `src/nn/moe.rs` is `[nn, moe]`, `src/nn/mod.rs` is `[nn]`.
fn module(file: &str) -> Vec<String> {
    let inside = file.trim_start_matches("src/").trim_end_matches(".rs");
    let inside = inside.trim_end_matches("/mod");
    inside.split('/').map(str::to_string).collect()
}
/// The level of a module, 0 at the bottom; `None` if it has none.
fn level(module: &[String]) -> Option<usize> {
    LEVELS.iter().position(|names| names.contains(&module[0].as_str()))
}
/// All paths that a use tree names, begun by `prefix`; `text` is behind the
/// `::`.
fn tree(text: &str, prefix: &[String], paths: &mut Vec<Vec<String>>) -> usize {
    let start = text.len() - text.trim_start().len();
    let mut at = start;
    if text[at..].starts_with('{') {
        at += 1;
        loop {
            at += text[at..].len() - text[at..].trim_start().len();
            match text[at..].chars().next() {
                Some('}') => return at + 1,
                Some(',') => at += 1,
                Some(c) if is_word(c) || c == '*' || c == '{' => {
                    at += tree(&text[at..], prefix, paths);
                }
                _ => return at, // no use tree after all
            }
        }
    }
    at += text[at..].find(|c| !is_word(c)).unwrap_or(text.len() - at);
    let mut path = prefix.to_vec();
    path.push(text[start..at].to_string());
    if text[at..].starts_with("::") {
        return at + 2 + tree(&text[at + 2..], &path, paths);
    }
    paths.push(path);
    // `as name`, and the `*` of a glob
    let end = text[at..].find([',', '}', ';', '\n', '(', ')']);
    at + end.unwrap_or(text.len() - at)
}
/// Paths in the library that a file names, from its root, each with its line.
fn uses(file: &str, text: &str) -> Vec<(Vec<String>, usize)> {
    let (text, me) = (code(text), module(file));
    let mut found = vec![];
    let mut add = |at: usize, prefix: &[String], rest: &str| {
        let mut paths = vec![];
        tree(rest, prefix, &mut paths);
        let line = text[..at].matches('\n').count() + 1;
        found.extend(paths.into_iter().map(|p| (p, line)));
    };
    for at in find_word(&text, "crate") {
        if let Some(rest) = text[at..].strip_prefix("crate::") {
            add(at, &[], rest);
        }
    }
    for at in find_word(&text, "super") {
        let mut rest = &text[at..];
        let mut up = me.as_slice();
        while let Some(more) = rest.strip_prefix("super::") {
            up = up.split_last().map_or(&[], |(_, above)| above);
            rest = more;
        }
        let again = text[..at].ends_with("super::");
        if rest.len() < text[at..].len() && !again {
            add(at, up, rest);
        }
    }
    found
}
/// The file that a path leads to: the longest beginning that is a module.
fn target(path: &[String], files: &[File]) -> Option<usize> {
    let of = |n: usize| files.iter().position(|f| module(&f.0) == path[..n]);
    (1..=path.len()).rev().find_map(of)
}
/// Every arrow from a file to a file, with the line it starts at. The command
/// is above the library and lies in a crate of its own.
fn arrows(files: &[File]) -> Vec<(usize, usize, usize)> {
    let library = |f: &str| f != "src/lib.rs" && !f.starts_with("src/bin/");
    let mut arrows = vec![];
    for (from, (file, text)) in files.iter().enumerate() {
        for (path, line) in uses(file, text) {
            let to = target(&path, files).filter(|_| library(file));
            let to = to.filter(|&to| to != from);
            arrows.extend(to.map(|to| (from, to, line)));
        }
    }
    arrows.dedup(); // several names in one `use`
    arrows
}

/// Arrows that point up, and modules that have no level.
fn upward(files: &[File]) -> Vec<String> {
    let mut faults = vec![];
    for (file, _) in files {
        let known = level(&module(file)).is_some();
        if !known && file != "src/lib.rs" && !file.starts_with("src/bin/") {
            faults.push(format!(
                "{file}: has no level; add its module to LEVELS of \
                 tests/layering.rs"
            ));
        }
    }
    for (from, to, line) in arrows(files) {
        let (from, to) = (&files[from].0, &files[to].0);
        if level(&module(from)) < level(&module(to)) {
            faults.push(format!(
                "{from}:{line}: uses {to}, which is above it; move what it \
                 needs down, or itself up"
            ));
        }
    }
    faults
}
/// The arrows of circles, if there are any: each file that is left here uses
/// one that is left, and is used by one.
fn circles(files: &[File]) -> Vec<String> {
    let mut left = arrows(files);
    loop {
        let before = left.len();
        let now = left.clone();
        let is_between = |&(from, to, _): &(usize, usize, usize)| {
            let used = now.iter().any(|a| a.1 == from);
            used && now.iter().any(|a| a.0 == to)
        };
        left.retain(is_between);
        if left.len() == before {
            break;
        }
    }
    let say = |(from, to, line): (usize, usize, usize)| {
        format!(
            "{}:{line}: uses {} in a circle; move what both need below both",
            files[from].0, files[to].0
        )
    };
    left.into_iter().map(say).collect()
}

#[test]
fn arrows_point_down() {
    assert_none(&upward(&sources()));
}

#[test]
fn no_file_uses_itself_through_others() {
    assert_none(&circles(&sources()));
}

#[test]
fn the_arrows_are_seen() {
    let seen = arrows(&sources()).len();
    assert!(seen > 100, "only {seen} arrows: are paths still read?");
}

// Chapters and unsafe -------------------------------------------------------

/// Files that do not begin with their home chapter.
fn homeless(files: &[File]) -> Vec<String> {
    let is_list = |f: &str| f == "src/lib.rs" || f.ends_with("/mod.rs");
    let mut faults = vec![];
    for (file, text) in files.iter().filter(|f| !is_list(&f.0)) {
        let number = text.strip_prefix("//! Chapter ");
        if !number.is_some_and(|n| n.starts_with(|c: char| c.is_numeric())) {
            faults.push(format!(
                "{file}:1: does not say where it belongs; begin it with \
                 `//! Chapter N.`"
            ));
        }
    }
    faults
}
/// `unsafe` where it does not belong.
fn unsafe_elsewhere(files: &[File]) -> Vec<String> {
    let mut faults = vec![];
    for (file, text) in files.iter().filter(|f| f.0 != UNSAFE) {
        let text = code(text);
        for at in find_word(&text, "unsafe") {
            let line = text[..at].matches('\n').count() + 1;
            faults.push(format!(
                "{file}:{line}: `unsafe` stands in {UNSAFE} only; move it \
                 there, or do without"
            ));
        }
    }
    faults
}

#[test]
fn every_file_names_its_chapter() {
    assert_none(&homeless(&sources()));
}

#[test]
fn unsafe_stands_in_one_file() {
    assert_none(&unsafe_elsewhere(&sources()));
}

// The tests are tested ------------------------------------------------------

fn files(of: &[(&str, &str)]) -> Vec<File> {
    of.iter().map(|(f, t)| (f.to_string(), t.to_string())).collect()
}
/// A small library in which all is well, but for `text` as `src/nn/moe.rs`.
fn planted(text: &str) -> Vec<File> {
    files(&[
        ("src/bin/moe/main.rs", "use crate::nn;\nuse moe_by_hand::train;"),
        ("src/error.rs", ""),
        ("src/kernel/mod.rs", "pub mod vector;"),
        ("src/kernel/vector.rs", "use crate::error::Error;"),
        ("src/lib.rs", "pub mod nn;\nuse crate::train;"),
        ("src/model.rs", "use crate::nn::moe::Moe;"),
        ("src/nn/mod.rs", "pub mod moe;\npub mod router;"),
        ("src/nn/moe.rs", text),
        ("src/nn/router.rs", "use crate::kernel::vector::dot;"),
        ("src/train/mod.rs", ""),
    ])
}

#[test]
fn paths_are_read() {
    let paths = |text: &str| -> Vec<String> {
        let uses = uses("src/nn/moe.rs", text).into_iter();
        uses.map(|(p, line)| format!("{line} {}", p.join("::"))).collect()
    };
    let text = "use crate::kernel::{matrix::{Set, mat}, vector::*,\n dot as d};
        // use crate::model;
        fn f(x: crate::model::Model) { super::router::f(super::super::nn::g) }
        macro_rules! m { () => { $crate::rng::f() } }
        mycrate::a; crate_b::c; pub(crate) fn g(); pub(super) fn h();";
    assert_eq!(
        paths(text),
        [
            "1 kernel::matrix::Set",
            "1 kernel::matrix::mat",
            "1 kernel::vector::",
            "1 kernel::dot",
            "4 model::Model",
            "5 rng::f",
            "4 nn::router::f",
            "4 nn::g",
        ]
    );
}

#[test]
fn an_arrow_up_is_found() {
    for (text, to) in [
        ("use crate::model::Model;", "model.rs"),
        ("\nfn f() { crate::train::g() }", "train/mod.rs"),
        ("use crate::{error, model};", "model.rs"),
        ("use super::super::model;", "model.rs"),
    ] {
        let line = 1 + usize::from(text.starts_with('\n'));
        let fault = format!(
            "src/nn/moe.rs:{line}: uses src/{to}, which is above it; move \
             what it needs down, or itself up"
        );
        assert_eq!(upward(&planted(text)), [fault], "{text}");
    }
    for fine in [
        "use crate::nn::router::Router;",
        "use super::router::{self, Router};",
        "/// use crate::model::Model;",
        "use crate::kernel::vector::{dot, add};",
    ] {
        assert_eq!(upward(&planted(fine)), [""; 0], "{fine}");
        assert_eq!(circles(&planted(fine)), [""; 0], "{fine}");
    }
}

#[test]
fn generation_knows_nothing_of_training() {
    let text = "use crate::train::step::Step;";
    let mut library = planted("");
    library.extend(files(&[("src/generate.rs", text)]));
    assert_eq!(upward(&library).len(), 1, "{:?}", upward(&library));
}

#[test]
fn a_module_without_a_level_is_found() {
    let mut library = planted("");
    library.extend(files(&[("src/extra/a.rs", "")]));
    assert_eq!(
        upward(&library),
        ["src/extra/a.rs: has no level; add its module to LEVELS of \
          tests/layering.rs"]
    );
}

#[test]
fn a_circle_is_found() {
    let mut library = planted("use super::router::Router;");
    library.retain(|f| f.0 != "src/nn/router.rs");
    library
        .extend(files(&[("src/nn/router.rs", "\nuse crate::nn::moe::Moe;")]));
    assert_eq!(upward(&library), [""; 0]);
    assert_eq!(
        circles(&library),
        [
            "src/nn/moe.rs:1: uses src/nn/router.rs in a circle; move what \
             both need below both",
            "src/nn/router.rs:2: uses src/nn/moe.rs in a circle; move what \
             both need below both"
        ]
    );
}

#[test]
fn a_file_without_a_chapter_is_found() {
    for (text, faults) in [
        ("//! Chapter 12 and 13. Heads.", 0),
        ("//! Heads.", 1),
        ("//! Chapter twelve", 1),
        ("\n//! Chapter 12", 1),
        ("", 1),
    ] {
        let library = files(&[
            ("src/lib.rs", ""),
            ("src/nn/mod.rs", ""),
            ("src/nn/moe.rs", text),
        ]);
        assert_eq!(homeless(&library).len(), faults, "{text:?}");
    }
}

#[test]
fn unsafe_elsewhere_is_found() {
    let faults = |file, text| unsafe_elsewhere(&files(&[(file, text)]));
    let text = "// safe\nfn f() { unsafe { g() } }";
    assert_eq!(
        faults("src/nn/moe.rs", text),
        ["src/nn/moe.rs:2: `unsafe` stands in src/kernel/simd.rs only; move \
          it there, or do without"]
    );
    assert_eq!(faults("src/kernel/simd.rs", text), [""; 0]);
    let harmless = "// unsafe\n#![deny(unsafe_op_in_unsafe_fn)]";
    assert_eq!(faults("src/nn/moe.rs", harmless), [""; 0]);
}
