//! Lists the chapters as `SUMMARY.md` lists them: a module for each, whose
//! documentation is the chapter.

use std::path::Path;

fn main() -> std::io::Result<()> {
    let summary = "../src/SUMMARY.md";
    println!("cargo::rerun-if-changed={summary}");
    let mut modules = String::new();
    for line in std::fs::read_to_string(summary)?.lines() {
        let link =
            line.split_once("](").and_then(|(_, l)| l.split_once(".md)"));
        if let Some((slug, _)) = link {
            let name = slug.replace(['-', '/'], "_");
            modules += &format!(
                "#[doc = include_str!(concat!(env!(\"CARGO_MANIFEST_DIR\"), \
                 \"/../src/{slug}.md\"))]\nmod {name} {{}}\n"
            );
        }
    }
    let folder = std::env::var("OUT_DIR").expect("cargo sets it");
    std::fs::write(Path::new(&folder).join("chapters.rs"), modules)
}
