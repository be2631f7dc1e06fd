//! Chapter: model. Arrows point up the page only: each file uses those before
//! it in the order of the `mod` lines, says which chapter it belongs to, and
//! `unsafe` stands in one folder.
//!
//! That order is the reading order, of every crate of the workspace: the files
//! of a folder in the order of its `mod` lines, then their parent's own code.
#![allow(missing_docs, reason = "a test is documented by its name")]

mod tree;

mod arrows;

use proc_macro2::{TokenStream, TokenTree};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::{env, fs};
use tree::Crate;

/// Where the library may have `unsafe`.
const UNSAFE: &str = "src/kernel/simd/";

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
fn text_of(file: &str) -> String {
    fs::read_to_string(top().join(file)).expect(file)
}
/// The crates of the workspace, read once.
fn crates() -> &'static [Crate] {
    static CRATES: OnceLock<Vec<Crate>> = OnceLock::new();
    CRATES.get_or_init(read_crates)
}
/// The crates of the workspace, as cargo names their root files.
fn read_crates() -> Vec<Crate> {
    let asked = ["metadata", "--no-deps", "--offline", "--format-version=1"];
    let mut cargo = Command::new(env!("CARGO"));
    let said = cargo.args(asked).current_dir(top()).output().expect("cargo");
    let said: serde_json::Value =
        serde_json::from_slice(&said.stdout).expect("what cargo says");
    let list = |v: &serde_json::Value| v.as_array().expect("a list").clone();
    let targets = list(&said["packages"])
        .into_iter()
        .flat_map(|package| list(&package["targets"]));
    let path = |t: serde_json::Value| {
        let path = t["src_path"].as_str().map(Path::new)?;
        let name = path.strip_prefix(top()).ok()?.to_str()?;
        Some(name.replace('\\', "/"))
    };
    let roots: Vec<String> = targets.filter_map(path).collect();
    let read = |file: &str| fs::read_to_string(top().join(file)).ok();
    roots.iter().map(|root| Crate::read(root, &read)).collect()
}
/// The library and the command, in this order.
fn product(crates: &[Crate]) -> impl Iterator<Item = &Crate> {
    let root = |c: &&Crate| {
        let root = &c.files[0].name;
        root.starts_with("src/") && !root.contains("/tests/")
    };
    crates.iter().filter(root)
}
/// Every Rust file below a folder.
fn files_below(folder: &str) -> Vec<String> {
    let mut found = vec![];
    for entry in fs::read_dir(top().join(folder)).expect(folder) {
        let path = entry.expect(folder).path();
        let name = path.file_name().and_then(|n| n.to_str());
        let name = format!("{folder}/{}", name.expect("a name in UTF-8"));
        if path.is_dir() {
            found.extend(files_below(&name));
        } else if name.ends_with(".rs") {
            found.push(name);
        }
    }
    found.sort();
    found
}
#[track_caller]
fn assert_none(faults: Vec<String>) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

// Order ---------------------------------------------------------------------

#[test]
fn each_file_uses_those_before_it() {
    let (crates, mut seen) = (crates(), 0);
    for c in crates {
        seen += c.arrows().len();
    }
    assert!(seen > 200, "only {seen} arrows: are paths still read?");
    assert_none(crates.iter().flat_map(Crate::faults).collect());
}

/// The files of the library and of the command in reading order, without those
/// that are lists of modules.
fn reading_order(crates: &[Crate]) -> Vec<&str> {
    let files =
        product(crates).flat_map(|c| c.order.iter().map(|&f| &c.files[f]));
    files.filter(|f| !f.is_list).map(|f| f.name.as_str()).collect()
}
/// The files that the first column of a table names: `` `folder/` `` and what
/// is in it, row by row. A folder that stands alone stands for all its own
/// files among `all`, in their order.
fn listed(table: &str, all: &[&str]) -> Vec<String> {
    let (mut found, mut folder) = (vec![], String::new());
    for row in table.lines().filter(|row| row.starts_with("| `")) {
        let first = row.split('|').nth(1).unwrap_or_default();
        for name in first.split('`').skip(1).step_by(2) {
            match name.rsplit_once('/') {
                Some((start, file)) => {
                    folder = format!("{start}/");
                    found.extend((!file.is_empty()).then(|| name.to_string()));
                    if file.is_empty() && first.matches('`').count() == 2 {
                        let inside = |f: &&&str| parent(f) == start;
                        let inside = all.iter().filter(inside);
                        found.extend(inside.map(|f| f.to_string()));
                    }
                }
                None => found.push(folder.clone() + name),
            }
        }
    }
    found
}
/// The folder that a file is in.
fn parent(file: &str) -> &str {
    file.rsplit_once('/').unwrap_or_default().0
}
/// Files as the table lists them, a row for each folder in its turn.
fn table(files: &[&str]) -> String {
    let (mut table, mut folder) = (String::new(), "");
    for file in files {
        let (start, name) = file.rsplit_once('/').unwrap_or_default();
        if start != folder {
            folder = start;
            table += &format!("\n| `{folder}/`");
        }
        table += &format!(" `{name}`");
    }
    table
}

/// README's table has the files in reading order, each once. It shows, with
/// `--nocapture`, what each file uses.
#[test]
fn readme_lists_the_files_in_reading_order() {
    let crates = crates();
    for c in product(crates) {
        let arrows = c.arrows();
        for &file in c.order.iter().filter(|&&f| !c.files[f].is_list) {
            let used = |&&f: &&usize| {
                arrows.iter().any(|a| a.from == file && a.to == f)
            };
            let used = c.order.iter().filter(used);
            let used: Vec<&str> =
                used.map(|&f| c.files[f].name.as_str()).collect();
            println!("{}: {}", c.files[file].name, used.join(" "));
        }
    }
    let (readme, files) = (text_of("README.md"), reading_order(crates));
    let part = readme.split("\n## ").find(|p| p.starts_with("The source"));
    let part = part.expect("README.md has a part `## The source`");
    assert_eq!(
        listed(part, &files),
        files,
        "README.md's table of the source is not the reading order; its first \
         column has to name, in as many rows as you like, or for all files of \
         one folder the folder alone:\n{}\n",
        table(&files)
    );
}

#[test]
fn every_file_of_the_library_is_in_a_crate() {
    let crates = crates();
    let known: BTreeSet<&str> =
        crates.iter().flat_map(|c| &c.files).map(|f| &*f.name).collect();
    let lost = files_below("src").into_iter();
    let lost = lost.filter(|f| !known.contains(&**f));
    let say = |f| format!("{f}: no `mod` line leads to it; add one");
    assert_none(lost.map(say).collect());
}

// Chapters ------------------------------------------------------------------

/// What chapters are called: `attention` for `(12-attention.md)`.
fn slugs(summary: &str) -> Vec<&str> {
    let files = summary.split("](").skip(1).filter_map(|s| s.split(')').next());
    let number = |c: char| c.is_ascii_digit() || c == '-';
    let slug = |f: &'_ str| f.strip_suffix(".md").map(|f| f.len());
    files
        .filter_map(|f| slug(f).map(|end| f[..end].trim_start_matches(number)))
        .collect()
}
/// What is wrong with the first line of a file, which has to be
/// `//! Chapter: attention, heads. What the file is.`
fn homeless(text: &str, slugs: &[&str]) -> Option<String> {
    let first = text.lines().next().unwrap_or_default();
    let rest = first.strip_prefix("//! Chapter: ");
    let Some((homes, what)) = rest.and_then(|r| r.split_once('.')) else {
        return Some("does not name its chapter".into());
    };
    if !what.starts_with(' ') || what.trim().is_empty() {
        return Some("does not say what it is".into());
    }
    let lost = homes.split(", ").find(|home| !slugs.contains(home))?;
    Some(format!("names the chapter `{lost}`, which SUMMARY.md does not list"))
}

#[test]
fn every_file_names_its_chapter() {
    let summary = text_of("book/src/SUMMARY.md");
    let (crates, slugs) = (crates(), slugs(&summary));
    assert!(slugs.len() > 20, "only {slugs:?}: are chapters still found?");
    let files = product(crates).flat_map(|c| &c.files).filter(|f| !f.is_list);
    let fault = |f: &tree::File| {
        let fault = homeless(&f.text, &slugs)?;
        Some(format!(
            "{}:1: {fault}; begin it with `//! Chapter: attention, heads. What \
             the file is.`",
            f.name
        ))
    };
    assert_none(files.filter_map(fault).collect());
}

// Unsafe --------------------------------------------------------------------

/// The lines that have the word `unsafe`, in a macro, too.
fn unsafe_lines(tokens: TokenStream) -> Vec<usize> {
    let lines = |token| match token {
        TokenTree::Group(g) => unsafe_lines(g.stream()),
        TokenTree::Ident(i) if i == "unsafe" => vec![i.span().start().line],
        _ => vec![],
    };
    tokens.into_iter().flat_map(lines).collect()
}
/// `unsafe` where it does not belong. That each has its `// SAFETY:` is what
/// clippy's `undocumented_unsafe_blocks` looks after.
fn unsafe_elsewhere(file: &str, text: &str) -> Vec<String> {
    if file.starts_with(UNSAFE) {
        return vec![];
    }
    let say = |line| {
        format!(
            "{file}:{line}: `unsafe` stands in {UNSAFE} only; move it there, \
             or do without"
        )
    };
    unsafe_lines(text.parse().expect(file)).into_iter().map(say).collect()
}

#[test]
fn unsafe_stands_in_one_folder() {
    let files = product(crates()).flat_map(|c| &c.files);
    let faults = files.flat_map(|f| unsafe_elsewhere(&f.name, &f.text));
    assert_none(faults.collect());
}

// Output --------------------------------------------------------------------

/// How a program begins that may print to somebody who stops reading, as in
/// `… | head`; `println!` would panic.
const BEGINS: &str = "    registry::end_with_the_reader();";

/// A program that prints, and whose `main` does not begin so.
fn prints_unguarded(c: &Crate) -> Option<String> {
    let root = &c.files[0];
    let main = root.text.lines().skip_while(|l| !l.starts_with("fn main()"));
    let first = main.skip_while(|l| !l.ends_with('{')).nth(1)?;
    // Cargo reads what a build script prints.
    if first == BEGINS || root.name.ends_with("/build.rs") {
        return None;
    }
    let comment = |l: &str| l.trim_start().starts_with("//");
    let prints = |f: &&tree::File| {
        let mut lines = f.text.lines().filter(|l| !comment(l));
        lines.any(|l| {
            let print = l.find("print");
            print.is_some_and(|at| {
                let (before, rest) = l.split_at(at);
                let rest = rest.trim_start_matches("println");
                let rest = rest.trim_start_matches("print");
                rest.starts_with('!') && !before.ends_with('e')
            })
        })
    };
    let file = c.files.iter().find(prints)?;
    Some(format!(
        "{}: `main` does not begin with `{}`, and {} prints; begin with it, or \
         write by `writeln!`",
        root.name,
        BEGINS.trim(),
        file.name
    ))
}

#[test]
fn a_program_ends_with_its_reader() {
    let programs = crates().iter().filter(|c| {
        c.files[0].text.lines().any(|l| l.starts_with("fn main()"))
    });
    assert!(programs.clone().count() > 14, "are programs still read?");
    assert_none(programs.filter_map(prints_unguarded).collect());
}

// The tests are tested ------------------------------------------------------

/// A small library in which all is well, but for the files given here.
fn planted(changed: &[(&str, &str)]) -> Crate {
    let all = [
        ("src/lib.rs", "mod error; mod kernel; mod nn; mod model;"),
        ("src/error.rs", "pub enum Error { Io } pub type Result = u8;"),
        ("src/kernel/mod.rs", "pub mod vector; pub use vector::dot;"),
        ("src/kernel/vector.rs", "pub fn dot() {} use crate::error::Error;"),
        ("src/nn/mod.rs", "pub mod router; pub mod moe; pub fn all() {}"),
        ("src/nn/router.rs", "pub struct Router; use crate::kernel::vector;"),
        ("src/nn/moe.rs", "use super::router::Router; pub struct Moe;"),
        ("src/model.rs", "use crate::nn::{self, moe::Moe}; pub fn model() {}"),
    ];
    let read = |file: &str| {
        let mut both = changed.iter().chain(&all);
        both.find(|(f, _)| *f == file).map(|(_, text)| text.to_string())
    };
    Crate::read("src/lib.rs", &read)
}
fn order(c: &Crate) -> Vec<&str> {
    c.order.iter().map(|&f| c.files[f].name.as_str()).collect()
}

#[test]
fn the_order_is_that_of_the_mod_lines() {
    assert_eq!(
        order(&planted(&[])),
        [
            "src/error.rs",
            "src/kernel/vector.rs",
            "src/kernel/mod.rs",
            "src/nn/router.rs",
            "src/nn/moe.rs",
            "src/nn/mod.rs",
            "src/model.rs",
            "src/lib.rs"
        ]
    );
    assert_eq!(planted(&[]).faults(), [""; 0]);
    // x.rs with a folder x/, inline modules, other paths
    let lib = "mod a; mod b { mod c; }\n#[path = \"../d/e.rs\"] mod f;";
    let files = [
        ("src/lib.rs", lib),
        ("src/a.rs", "mod inner;"),
        ("src/a/inner.rs", ""),
        ("src/b/c.rs", ""),
        ("d/e.rs", "mod g;"),
        ("d/g.rs", ""),
    ];
    let want = "src/a/inner.rs src/a.rs src/b/c.rs d/g.rs d/e.rs src/lib.rs";
    assert_eq!(order(&planted(&files)).join(" "), want);
}

#[test]
fn a_program_that_would_panic_is_found() {
    let unguarded = |main: &str, other: &str| {
        let files = [("src/lib.rs", main), ("src/a.rs", other)];
        prints_unguarded(&planted(&files)).is_some()
    };
    let says = "fn f() {\n    println!();\n}";
    let main = "mod a;\nfn main() {\n    a::f();\n}";
    assert!(unguarded(main, says), "in another file");
    let one = "mod a;\nfn main() -> u8 {\n    print!(\"1\");\n    1\n}";
    assert!(unguarded(one, ""), "in its own");
    let begins = main.replace("    a::f", &format!("{BEGINS}\n    a::f"));
    assert!(!unguarded(&begins, says), "it begins so");
    let late = main.replace("f();", &format!("f();\n{BEGINS}"));
    assert!(unguarded(&late, says), "too late");
    assert!(!unguarded(main, &says.replace("print", "eprint")), "stderr");
    assert!(!unguarded(main, "/// println!()\nfn f() {}"), "a comment");
}

/// Every way to name something of a file that comes later.
#[test]
fn an_arrow_up_is_found() {
    for text in [
        "use crate::model::model;",
        "use crate::{error, model};",
        "use crate::model::*;",
        "use crate::{error::{Error, Result}, model::{model as m}};",
        "use super::super::model::model;",
        "pub use crate::model::model;",
        "fn f() { crate::model::model() }",
        "fn f(x: crate::model::Model) {}",
        "fn f<T: crate::model::Trait>() {}",
        "impl crate::model::Trait for u8 {}",
        "fn f() -> Vec<crate::model::Model> { vec![] }",
        "fn f(x: u8) { match x { crate::model::ONE => {} _ => {} } }",
        "const N: [u8; crate::model::N] = [];",
        "fn f() { println!(\"{}\", crate::model::model()) }",
        "macro_rules! m { () => { $crate::model::model() } }",
        "m! { use crate::{error, model::{model}}; }",
        "fn f() { crate::model::m!() }",
        "#[derive(crate::model::D)] struct S;",
        "mod tests { fn f() { super::super::super::model::model() } }",
        "mod tests { use super::*; fn f() { crate::model::model() } }",
        "use crate as top; fn f() { top::model::model() }",
        "fn f() { use crate::model; model::model() }",
        "type T = <u8 as crate::model::Trait>::T;",
        "fn f() { let _ = crate::model::Model { x: 1 }; }",
    ] {
        let moe = format!("\n{text}");
        let model = ("src/model.rs", "pub fn model() {}");
        assert_eq!(
            planted(&[("src/nn/moe.rs", &moe), model]).faults(),
            ["src/nn/moe.rs:2: uses src/model.rs, which comes later; put \
              `mod model` above `mod nn` in src/lib.rs"],
            "{text}"
        );
    }
}

#[test]
fn an_arrow_down_is_none_up() {
    for text in [
        "/// See [`crate::model`].\nfn f() {}",
        "//! use crate::model::model;",
        "pub(in crate::nn) fn f() {}",
        "use crate::kernel::vector::{self, dot};",
        "use super::router::{self, Router as R};",
        "use super::super::error::Error; fn f() { Error::Io; }",
        "use std::fs; fn model() {} fn f(model: u8) { g(model, fs::read) }",
        "fn f(x: X) { x.model; println!(\"{}\", x.model) }",
        "fn f() { ::model::model(); serde::model() }",
        "mod model { pub fn model() {} } use model::model;",
    ] {
        let tree = planted(&[("src/nn/moe.rs", text)]);
        assert_eq!(tree.faults(), [""; 0], "{text}");
    }
}

#[test]
fn an_arrow_to_the_parent_is_found() {
    let fault = "src/nn/moe.rs:1: uses src/nn/mod.rs, its parent, whose own \
                 code comes later; move what it needs into a file before it";
    for text in [
        "use super::all;",
        "use super::*; fn f() { all() }",
        "use crate::nn; fn f() { nn::all() }",
        "fn f() { super::all() }",
        "fn f() { println!(\"{}\", super::all()) }",
        "mod tests { fn f() { super::super::all() } }",
    ] {
        let tree = planted(&[("src/nn/moe.rs", text)]);
        assert_eq!(tree.faults(), [fault], "{text}");
    }
    // What the parent merely shows is that of its child.
    for shown in ["pub use router::Router;", "pub use router::*;"] {
        let parent = format!("pub mod router; pub mod moe; {shown}");
        for text in ["use super::Router;", "use super::*; type T = Router;"] {
            let tree =
                planted(&[("src/nn/mod.rs", &parent), ("src/nn/moe.rs", text)]);
            assert_eq!(tree.faults(), [""; 0], "{shown} {text}");
            assert!(
                tree.arrows().iter().any(|a| {
                    let name = |f: usize| tree.files[f].name.as_str();
                    name(a.from) == "src/nn/moe.rs"
                        && name(a.to) == "src/nn/router.rs"
                }),
                "{shown} {text}"
            );
        }
    }
    // A macro of the parent needs no path.
    let tree = planted(&[
        ("src/nn/mod.rs", "macro_rules! m { () => {} }\nmod moe;"),
        ("src/nn/moe.rs", "m!();"),
        ("src/model.rs", ""),
    ]);
    assert_eq!(tree.faults(), [fault]);
}

#[test]
fn a_re_export_is_followed() {
    let kernel = "pub mod vector; pub use crate::model::model as late;";
    let tree = planted(&[
        ("src/kernel/mod.rs", kernel),
        ("src/nn/moe.rs", "use crate::kernel::late;"),
        ("src/model.rs", "pub fn model() {}"),
    ]);
    let late = |file, folder| {
        format!(
            "{file}:1: uses src/model.rs, which comes later; put `mod model` \
             above `mod {folder}` in src/lib.rs"
        )
    };
    assert_eq!(
        tree.faults(),
        [late("src/kernel/mod.rs", "kernel"), late("src/nn/moe.rs", "nn")]
    );
}

#[test]
fn a_circle_is_found() {
    let circle = |files: &[(&str, &str)], fault: &str| {
        assert_eq!(planted(files).faults(), [fault], "{files:?}");
    };
    circle(
        &[("src/nn/router.rs", "\nuse super::moe::Moe;")],
        "src/nn/router.rs:2: uses src/nn/moe.rs, which comes later, in a \
         circle with src/nn/moe.rs:1; move what both need into a file before \
         both",
    );
    // through a third file, and between folders
    circle(
        &[
            ("src/error.rs", "use crate::nn::moe::Moe;"),
            ("src/nn/moe.rs", "use crate::kernel::dot; pub struct Moe;"),
        ],
        "src/error.rs:1: uses src/nn/moe.rs, which comes later, in a circle \
         with src/kernel/vector.rs:1; move what both need into a file before \
         both",
    );
}

#[test]
fn a_table_is_compared() {
    let c = [planted(&[])];
    let c = reading_order(&c);
    let rows = "| | |\n|---|---|\n| `src/error.rs` | errors |\n\
                | `src/kernel/` `vector.rs` `mod.rs` | `sums` |\n\
                | `src/nn/` `router.rs` | |\n| `moe.rs` `mod.rs` | |\n\
                | `src/` `model.rs` | |\n";
    // a list of modules is no file to read, one with a function is
    let read = rows.replacen(" `mod.rs`", "", 1);
    assert_eq!(listed(&read, &c), c);
    assert_ne!(listed(rows, &c), c);
    assert_eq!(listed(&table(&c), &c), c);
    // a folder for all that is in it, and not for what is below
    let folder = "`src/nn/` `router.rs` | |\n| `moe.rs` `mod.rs`";
    assert_eq!(listed(&read.replace(folder, "`src/nn/`"), &c), c);
    let folder = "`src/` `model.rs`";
    assert_ne!(listed(&read.replace(folder, "`src/`"), &c), c);
}

#[test]
fn a_file_without_a_chapter_is_found() {
    let summary = "[How](how.md)\n- [A](12-attention.md)\n- [B](heads.md)";
    let slugs = slugs(summary);
    assert_eq!(slugs, ["how", "attention", "heads"]);
    for (text, fault) in [
        ("//! Chapter: attention, heads. Heads.", None),
        ("//! Chapter: how. What it is, and\n//! more.", None),
        ("//! Chapter: router. Scores.", Some("`router`")),
        ("//! Chapter: heads router. Scores.", Some("`heads router`")),
        ("//! Chapter: heads.", Some("does not say")),
        ("//! Chapter: 12. Heads.", Some("`12`")),
        ("//! Chapter 12. Heads.", Some("does not name")),
        ("//! Heads.", Some("does not name")),
        ("\n//! Chapter: heads. Heads.", Some("does not name")),
        ("", Some("does not name")),
    ] {
        let found = homeless(text, &slugs);
        let is_right = match fault {
            None => found.is_none(),
            Some(fault) => found.as_ref().is_some_and(|f| f.contains(fault)),
        };
        assert!(is_right, "{text:?}: {found:?}");
    }
}

#[test]
fn unsafe_elsewhere_is_found() {
    for text in [
        "// safe\nfn f() { unsafe { g() } }",
        "\nunsafe fn f() {}",
        "\nmacro_rules! m { () => { unsafe { g() } } }",
    ] {
        assert_eq!(
            unsafe_elsewhere("src/nn/moe.rs", text),
            ["src/nn/moe.rs:2: `unsafe` stands in src/kernel/simd/ only; \
              move it there, or do without"],
            "{text}"
        );
        let home = format!("{UNSAFE}avx2.rs");
        assert_eq!(unsafe_elsewhere(&home, text), [""; 0]);
    }
    let harmless = "// unsafe\n#![deny(unsafe_op_in_unsafe_fn)]\n\
                    const S: &str = \"unsafe\";";
    assert_eq!(unsafe_elsewhere("src/nn/moe.rs", harmless), [""; 0]);
}
