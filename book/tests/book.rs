//! The builder, on a small project: what it makes, and that a break of any
//! link of the chain is found, with a sentence that says what to do.
#![allow(missing_docs, reason = "a test is documented by its name")]

mod tree;

use anyhow::Result;
use tree::Tree;

#[test]
fn builds() -> Result<()> {
    let tree = Tree::new()?;
    tree.measured()?;
    tree.build()?;
    let page = tree.page("02-scale.html")?;
    let has = |text: &str| assert!(page.contains(text), "no {text}");
    has("id=\"eq-scale-backward\"");
    has("(2.2)");
    has("source/src/nn/scale.rs.html#L22");
    has("source/tests/gradients.rs.html#L6");
    has("equation-map.html#proof-scale-backward");
    has("01-why.html#eq-rms");
    has("<math");
    let map = tree.page("equation-map.html")?;
    assert!(map.contains("T1 3e-11 ≤ 1e-7"), "the map shows errors");
    assert!(!map.contains("stale"), "they are current");
    Ok(())
}
