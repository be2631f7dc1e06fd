//! What the search finds: each formula once. Then the pages, which have been
//! read for it, are made ready to be looked at.
//!
//! mdBook indexes all words of a page. A formula's stand there twice, in its
//! MathML and in its picture, and so would be shown twice in every result.

use crate::ends;
use crate::text::PICTURE;
use anyhow::{Context, Result};
use elasticlunr::IndexBuilder;
use serde_json::Value;
use std::fs;
use std::panic::resume_unwind;
use std::path::Path;
use std::thread;

/// The script that mdBook writes: the index as JSON between these.
const BEFORE: &str =
    "window.search = Object.assign(window.search, JSON.parse('";
const AFTER: &str = "'));";
/// The parts of an entry, in mdBook's order.
const FIELDS: [&str; 3] = ["title", "body", "breadcrumbs"];

/// Takes the pictures' words out of the index of a built book, and their marks
/// out of its pages; in these, lets lines end within names in tables.
pub(crate) fn finish(html: &Path) -> Result<()> {
    let (mut pages, mut indexes) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(html)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
        if name.ends_with(".html") {
            pages.push(path);
        } else if name.starts_with("searchindex") && name.ends_with(".js") {
            indexes.push(path);
        }
    }
    // The index is as much work as all pages.
    let (written, marked) = thread::scope(|scope| {
        let written = scope.spawn(|| {
            indexes.iter().try_for_each(|path| {
                change(path, again).with_context(|| {
                    format!("{} is not what it was", path.display())
                })
            })
        });
        let mark = |page: &str| ends::mark(&page.replace(PICTURE, ""));
        let marked = pages.iter().try_for_each(|path| change(path, mark));
        (written.join(), marked)
    });
    written.unwrap_or_else(|panic| resume_unwind(panic))?;
    marked
}

fn change(file: &Path, to: impl Fn(&str) -> Result<String>) -> Result<()> {
    Ok(fs::write(file, to(&fs::read_to_string(file)?)?)?)
}

/// The script with an index of the same entries, without the pictures' words.
fn again(script: &str) -> Result<String> {
    let json = script.strip_prefix(BEFORE).context("its beginning")?;
    let json = json.trim_end().strip_suffix(AFTER).context("its end")?;
    let json = json.replace("\\'", "'").replace("\\\\", "\\");
    let mut all: Value = serde_json::from_str(&json)?;
    let docs = all["index"]["documentStore"]["docs"].as_object();
    let docs = docs.context("it has no documents")?;
    let mut index = FIELDS
        .into_iter()
        .fold(IndexBuilder::new(), |index, field| {
            index.add_field_with_tokenizer(field, Box::new(&words))
        })
        .build();
    let mut numbers: Vec<usize> =
        docs.keys().map(|n| n.parse()).collect::<Result<_, _>>()?;
    numbers.sort_unstable();
    for n in numbers {
        let doc = &docs[&n.to_string()];
        let parts = FIELDS.map(|f| cut(doc[f].as_str().unwrap_or_default()));
        index.add_doc(&n.to_string(), parts);
    }
    // As a value first: that puts the keys in order.
    all["index"] = serde_json::to_value(&index)?;
    let json = serde_json::to_string(&all)?;
    let json = json.replace('\\', "\\\\").replace('\'', "\\'");
    Ok(format!("{BEFORE}{json}{AFTER}"))
}
/// A text without what stands between marks.
fn cut(text: &str) -> String {
    let parts = text.split(PICTURE).step_by(2).map(str::trim);
    let parts: Vec<&str> = parts.filter(|p| !p.is_empty()).collect();
    parts.join(" ")
}
/// The words of a text, as mdBook's own index has them.
fn words(text: &str) -> Vec<String> {
    const LONGEST: usize = 80;
    text.split(|c: char| c.is_whitespace() || c == '-')
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .filter(|word| word.len() <= LONGEST)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{AFTER, BEFORE, again};
    use anyhow::Result;
    use serde_json::json;

    #[test]
    fn an_index_is_written_again_without_the_pictures() -> Result<()> {
        let doc = |body| {
            json!({ "title": "It's", "body": body, "id": "0",
            "breadcrumbs": "A » B" })
        };
        let body = "so \u{2064}twice x\u{2064} x = \\1 \u{2064}x\u{2064} is";
        let index = json!({
            "doc_urls": ["a.html"],
            "index": { "documentStore": { "docs": { "0": doc(body) } } },
        });
        let json = index.to_string().replace('\\', "\\\\").replace('\'', "\\'");
        let new = again(&format!("{BEFORE}{json}{AFTER}"))?;
        assert!(!new.contains("twice") && !new.contains('\u{2064}'), "{new}");
        assert!(new.contains(r#""body":"so x = \\\\1 is""#), "{new}");
        assert!(new.contains(r#""title":"It\'s""#), "{new}");
        assert!(new.contains(r#""doc_urls":["a.html"]"#), "{new}");
        // a second time it is the same
        assert_eq!(again(&new)?, new);
        assert!(again("window.other = 1").is_err());
        Ok(())
    }
}
