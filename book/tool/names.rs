//! Names in code that chapters mention: each is a name of the project still.

use crate::chapters::Chapter;
use crate::markdown::{Lines, options};
use crate::text::pattern;
use anyhow::Result;
use pulldown_cmark::{Event, Parser};
use std::collections::HashSet;
use std::path::Path;

/// What chapters mention of other projects and programs.
const OTHERS: &[&str] = &[
    "fmla",
    "gate_proj",
    "modeling_llama4",
    "modular_deepseek_v3",
    "modular_gpt_oss",
    "patch",
    "qkv_proj",
    "results.json",
    "up_proj",
];

/// Names that no file has outside its comments; one line each. The parts of a
/// path, as `Decoder::reset` or `norm.y`, have to be in one file together, and
/// the file's own name and its folders count as well.
pub(crate) fn faults(root: &Path, chapters: &[Chapter]) -> Result<Vec<String>> {
    let files = words(root)?;
    let path = pattern(r"^[A-Za-z]\w*(?:(?:::|\.)[A-Za-z_]\w*)*(?:\(\))?$")?;
    let mut faults = vec![];
    for chapter in chapters {
        let lines = Lines::of(&chapter.text);
        let parser = Parser::new_ext(&chapter.text, options());
        for (event, range) in parser.into_offset_iter() {
            let Event::Code(code) = event else { continue };
            if !path.is_match(&code) {
                continue;
            }
            let parts: Vec<&str> = words_of(&code).collect();
            let all = |file: &HashSet<String>| {
                parts.iter().all(|part| file.contains(*part))
            };
            let other = |name: &&str| OTHERS.contains(name);
            let theirs = other(&&*code) || parts.iter().any(other);
            if !theirs && !files.iter().any(all) {
                faults.push(format!(
                    "book/src/{}:{}: `{code}`: no file has that name outside \
                     its comments; correct it, or add it to OTHERS of \
                     book/tool/names.rs if it is of another project",
                    chapter.file,
                    lines.at(range.start),
                ));
            }
        }
    }
    Ok(faults)
}

/// The words of each file of the project.
fn words(root: &Path) -> Result<Vec<HashSet<String>>> {
    let comment = pattern(r"//[^\n]*")?;
    let mut names = vec!["Cargo.toml".into(), "equations.toml".into()];
    for folder in ["src", "tests", "benches", "book"] {
        for ext in ["rs", "toml", "py"] {
            names.extend(registry::files(root, folder, ext)?);
        }
    }
    let mut files = vec![];
    for name in names {
        // What cannot be read, others say.
        let mut text = registry::read(root, &name).unwrap_or_default();
        if name.ends_with(".rs") {
            text = comment.replace_all(&text, "").into();
        }
        let all = words_of(&text).chain(words_of(&name));
        files.push(all.map(String::from).collect());
    }
    Ok(files)
}

fn words_of(text: &str) -> impl Iterator<Item = &str> {
    let parts = text.split(|c: char| !c.is_alphanumeric() && c != '_');
    parts.filter(|word| !word.is_empty())
}
