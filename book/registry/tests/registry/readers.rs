//! What is read: entries, items, marks, directives, places.

use crate::tree::Tree;
use registry::{
    Directive, Kind, Registry, Source, Sources, Verb, directives, places,
};

fn fault(text: &str) -> String {
    Registry::parse(text).expect_err("a fault").to_string()
}

#[test]
fn entries_in_the_order_of_the_file() {
    let tree = Tree::clean();
    let registry = Registry::load(&tree.root).expect("a clean tree");
    let ids: Vec<_> = registry.equations.iter().map(|e| &e.id[..]).collect();
    assert_eq!(
        ids,
        [
            "width",
            "rmsnorm-forward",
            "rmsnorm-backward",
            "moe-forward",
            "moe-backward",
            "choice",
            "shift",
        ]
    );
    let e = registry.get("rmsnorm-forward").expect("an entry");
    assert_eq!(e.name, "RMSNorm");
    assert_eq!(e.kind, Kind::Forward);
    assert_eq!(e.tex, r"y = u \hat x");
    let code = e.code.as_ref().expect("code");
    assert_eq!(code.file, "src/nn/rmsnorm.rs");
    assert_eq!(code.item, "rmsnorm_forward");
    assert_eq!(code.to_string(), "src/nn/rmsnorm.rs::rmsnorm_forward");
    assert_eq!(e.tests[1].item, "deep::again");
    assert_eq!(e.backward.as_deref(), Some("rmsnorm-backward"));
    assert_eq!(e.source.as_deref(), Some("Zhang & Sennrich 2019, eq. 4"));
    assert!(registry.get("nothing").is_none());
}

const ENTRY: &str = "[a]\nname = 'A'\nkind = 'identity'\ntex = 'a'\n";

#[test]
fn unknown_key() {
    assert_eq!(
        fault(&ENTRY.replace("tex =", "text =")),
        "equations.toml:4: [a] text = 'a': unknown field `text`, expected \
         one of `name`, `kind`, `tex`, `code`, `no_code`, `fast`, `tests`, `backward`, \
         `no_backward`, `source`; correct or remove the key"
    );
}

#[test]
fn unknown_kind() {
    assert_eq!(
        fault(&ENTRY.replace("identity", "law")),
        "equations.toml:3: [a] kind = 'law': unknown variant `law`, expected \
         one of `forward`, `backward`, `identity`, `definition`; correct it"
    );
}

#[test]
fn duplicates() {
    assert_eq!(
        fault(&format!("{ENTRY}\n[b]\nname = 'B'\n\n{ENTRY}")),
        "equations.toml:9: [a]: duplicate key; each id, and each key of an \
         id, stands once: rename or remove it"
    );
    assert_eq!(
        fault(&format!("{ENTRY}name = 'B'")),
        "equations.toml:5: [a] name = 'B': duplicate key; each id, and each \
         key of an id, stands once: rename or remove it"
    );
}

#[test]
fn missing_key_wrong_type_wrong_target_wrong_syntax() {
    assert_eq!(
        fault(&format!("{ENTRY}[b]\nname = 'B'\nkind = 'identity'")),
        "equations.toml:5: [b]: missing field `tex`; add the key"
    );
    assert_eq!(
        fault(&ENTRY.replace("'A'", "3")),
        "equations.toml:2: [a] name = 3: invalid type: integer `3`, expected \
         a string; correct it"
    );
    assert_eq!(
        fault(&format!("{ENTRY}tests = [\n  'tests/a.rs',\n]")),
        "equations.toml:5: [a] tests = [: `tests/a.rs` is not \
         `file.rs::item`, as in `src/nn/moe.rs::Moe::backward`; correct it"
    );
    assert_eq!(
        fault(&format!("{ENTRY}code =")),
        "equations.toml:5: [a] code =: string values must be quoted, \
         expected literal string; correct it"
    );
    assert_eq!(
        fault("x = 1"),
        "equations.toml:1: x = 1: invalid type: integer `1`, expected a \
         table `[id]`; correct it"
    );
}

const SOURCE: &str = r#"use crate::b;

/// Doc of A.
#[derive(Clone)]
pub struct A<T>(T);

impl<T: Copy> A<T> {
    /// Doc of new.
    pub fn new(t: T) -> Self {
        A(t)
    }
}

// eq: one, two
// and more
impl Display for crate::A<u8> {
    fn fmt(&self) {
        let url = "http://x"; // eq: é
        fn inner() {} // eq: three
        /* eq: no */ // not // eq: no
    }
}

pub mod deep {
    pub(crate) const C: usize = 1;
    pub enum E { A }
    pub trait T { fn t(&self); fn d(&self) {} }
    type L = u8;
    static S: u8 = 0;
}

// eq: alone

macro_rules! m { () => { fn made() {} } }
"#;

#[test]
fn items() {
    let source = Source::parse("src/a.rs", SOURCE).expect("Rust");
    let lines = |i: &registry::Item| (i.first, i.line, i.last);
    let items: Vec<_> =
        source.items.iter().map(|i| (&i.path[..], lines(i))).collect();
    assert_eq!(
        items,
        [
            ("A", (3, 5, 5)),
            ("impl A", (7, 7, 12)),
            ("A::new", (8, 9, 11)),
            ("impl Display for A", (16, 16, 22)),
            ("A::fmt", (17, 17, 21)),
            ("A::fmt::inner", (19, 19, 19)),
            ("deep", (24, 24, 30)),
            ("deep::C", (25, 25, 25)),
            ("deep::E", (26, 26, 26)),
            ("deep::T", (27, 27, 27)),
            ("deep::T::t", (27, 27, 27)),
            ("deep::T::d", (27, 27, 27)),
            ("deep::L", (28, 28, 28)),
            ("deep::S", (29, 29, 29)),
        ]
    );
    let new = source.named("A::new").next().expect("A::new");
    assert_eq!(
        source.text_of(new),
        "/// Doc of new.\npub fn new(t: T) -> Self {\n    A(t)\n}"
    );
}

#[test]
fn marks() {
    let bytes = format!("\u{feff}{}", SOURCE.replace('\n', "\r\n"));
    for text in [SOURCE, &bytes] {
        let source = Source::parse("src/a.rs", text).expect("Rust");
        let marks = source.marks.iter();
        let marks: Vec<_> =
            marks.map(|m| (&m.id[..], m.line, m.item.as_deref())).collect();
        assert_eq!(
            marks,
            [
                ("one", 14, Some("impl Display for A")),
                ("two", 14, Some("impl Display for A")),
                ("é", 18, Some("A::fmt")),
                ("three", 19, Some("A::fmt::inner")),
                ("alone", 32, None),
            ]
        );
        let mark = source.mark("é", "A::fmt").expect("a mark");
        assert_eq!(mark.line, 18);
        assert!(source.mark("é", "A::new").is_none());
    }
}

#[test]
fn targets() {
    let tree = Tree::clean();
    let sources = Sources::load(&tree.root).expect("a clean tree");
    let find = |target: &str| {
        let target = target.parse().expect("a target");
        let found = sources.find(&target);
        found.map(|(source, item)| format!("{}:{}", source.file, item.line))
    };
    let at = |target| find(target).expect(target);
    assert_eq!(at("src/nn/moe.rs::Moe"), "src/nn/moe.rs:3");
    assert_eq!(at("src/nn/moe.rs::Moe::backward"), "src/nn/moe.rs:15");
    assert_eq!(at("src/nn/moe.rs::impl Layer for Moe"), "src/nn/moe.rs:8");
    assert_eq!(at("tests/gradients.rs::deep::again"), "tests/gradients.rs:13");
    let fault = find("src/nn/moe.rs::Moe::backwards").expect_err("no item");
    assert_eq!(
        fault.to_string(),
        "src/nn/moe.rs has no item `Moe::backwards`; nearest is \
         `Moe::backward`"
    );
}

#[test]
fn book() {
    let tree = Tree::clean();
    let found = directives(&tree.root).expect("a book").expect("a summary");
    let brief = |d: &Directive| (d.verb, d.id.clone(), d.line);
    let moe = found.iter().filter(|d| d.file == "book/src/nn/moe.md");
    assert_eq!(
        moe.map(brief).collect::<Vec<_>>(),
        [
            (Verb::Eq, "moe-forward".into(), 3),
            (Verb::Eq, "moe-backward".into(), 3),
            (Verb::Ref, "rmsnorm-backward".into(), 3),
            (Verb::Eq, "choice".into(), 12),
            (Verb::Eq, "shift".into(), 13),
            (Verb::Ref, "width".into(), 13),
        ]
    );
    tree.remove("book/src/SUMMARY.md");
    assert_eq!(directives(&tree.root), Ok(None));
}

#[test]
fn places_of_code_and_tests() {
    let tree = Tree::clean();
    let places = places(&tree.root).expect("a clean tree");
    let lines: Vec<String> = places
        .iter()
        .map(|p| {
            let items = p.code.iter().chain(&p.fast).chain(&p.tests);
            let items = items.map(|place| format!(" {place}"));
            p.id.clone() + &items.collect::<String>()
        })
        .collect();
    assert_eq!(
        lines,
        [
            "width",
            "rmsnorm-forward src/nn/rmsnorm.rs:9 src/nn/rmsnorm.rs:19 \
             tests/gradients.rs:4 tests/gradients.rs:13",
            "rmsnorm-backward src/nn/rmsnorm.rs:13 tests/gradients.rs:4",
            "moe-forward src/nn/moe.rs:11 tests/gradients.rs:19",
            "moe-backward src/nn/moe.rs:16 tests/gradients.rs:19",
            "choice src/nn/moe.rs:4 tests/gradients.rs:19",
            "shift tests/gradients.rs:26",
        ]
    );
    tree.remove("src/nn/moe.rs");
    let fault = registry::places(&tree.root).expect_err("no file");
    assert_eq!(
        fault.to_string(),
        "equations.toml: [moe-forward] there is no file src/nn/moe.rs; name \
         a file of src/ or tests/"
    );
}
