//! Commands that texts print.

use crate::tree::Tree;
use registry::{Printed, commands, refused};

const CONFIG: &str = r#"[alias]
example = "run --release --package examples --example"
book = "run --package book --"
"#;

fn printed(readme: &str) -> Vec<Printed> {
    let tree = Tree::clean();
    tree.write(".cargo/config.toml", CONFIG);
    tree.write("README.md", readme);
    commands(&tree.root).expect("a clean tree")
}

#[test]
fn blocks_and_sentences() {
    let found = printed(
        "# A\n\n```console\ncargo test   # all\nX=1 moe train --text 'a b' \\\n    \
         --lr 1e-3 | head\n```\n\n```console\n$ cargo book check\ncargo says\n```\n\n\
         Or `cargo example\nfuzz -- --seconds 9`, `moe`, and `moe oracle DIR...`\n\
         or `moe check [NAME]`.\n\n```text\ncargo none\n```\n",
    );
    let brief: Vec<_> =
        found.iter().map(|p| (p.line, p.words.join(" "), p.whole)).collect();
    let want: [(usize, &str, bool); 6] = [
        (4, "cargo test", true),
        (5, "moe train --text a b --lr 1e-3", true),
        (10, "cargo run --package book -- check", true),
        (
            14,
            "cargo run --release --package examples --example fuzz -- \
             --seconds 9",
            false,
        ),
        (15, "moe oracle DIR", false),
        (16, "moe check", false),
    ];
    let want =
        want.map(|(line, words, whole)| (line, words.to_string(), whole));
    assert_eq!(brief, want);
    assert_eq!(found[3].text, "cargo example fuzz -- --seconds 9");
    let runs = |i: usize| found[i].runs().map(|(p, given)| (p, given.len()));
    assert_eq!(runs(0), None, "no program of the project");
    assert_eq!(runs(1), Some(("moe", 5)));
    assert_eq!(runs(2), Some(("book", 1)));
    assert_eq!(runs(3), Some(("fuzz", 2)));
}

#[test]
fn what_a_program_refuses_is_told() {
    let tree = Tree::clean();
    tree.write(".cargo/config.toml", CONFIG);
    let text = "```console\ncargo run -- train --text x\ncargo run --bin moe \
                -- trian\n```\n`moe eval`\n";
    tree.write("README.md", text);
    let ask = |given: &[String], whole: bool| {
        assert_eq!(whole, given[0] != "eval");
        (given[0] == "trian").then(|| "\nno such thing\nmore".to_string())
    };
    let said = refused(&tree.root, "moe", ask).expect("a clean tree");
    let fault = "README.md:3: `cargo run --bin moe -- trian`: no such thing; \
                 correct the line";
    assert_eq!(said, (3, vec![fault.to_string()]));
}
