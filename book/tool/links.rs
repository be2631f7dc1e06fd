//! Links of the built book that lead nowhere, within it, and files that its
//! pages would fetch from the network.

use crate::text::pattern;
use anyhow::Result;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Pages that repeat others, or only lead to them.
const REPEATED: [&str; 4] = ["404.html", "print.html", "toc.html", "toc.js"];

/// A page: its anchors, and its links.
struct Page {
    ids: BTreeSet<String>,
    links: Vec<String>,
}

/// What is dead or foreign in the folder of the built pages; one line each.
pub fn faults(html: &Path) -> Result<Vec<String>> {
    let files = registry::files(html, "", "")?;
    let attribute = pattern(r#"\s(id|href|src)="([^"]*)""#)?;
    let (mut pages, mut faults) = (BTreeMap::new(), BTreeSet::new());
    for file in &files {
        let is = |ext: &str| file.ends_with(ext);
        if !is(".html") && !is(".css") && !is(".svg") {
            continue;
        }
        let text = fs::read_to_string(html.join(file))?;
        for foreign in foreign(&text)? {
            faults.insert(format!(
                "{file}: loads {foreign} from the network; keep a copy in the \
                 book"
            ));
        }
        if !is(".html") || REPEATED.contains(&file.as_str()) {
            continue;
        }
        let mut page = Page { ids: BTreeSet::new(), links: Vec::new() };
        for c in attribute.captures_iter(&text) {
            if &c[1] != "id" {
                page.links.push(c[2].to_string());
            } else if !page.ids.insert(c[2].to_string()) {
                faults.insert(format!(
                    "{file}: the anchor #{} stands twice; give one heading \
                     another id: `## … {{#id}}`",
                    &c[2]
                ));
            }
        }
        pages.insert(file.clone(), page);
    }
    let files: BTreeSet<String> = files.into_iter().collect();
    for (file, page) in &pages {
        let dead =
            page.links.iter().filter(|l| !leads(l, file, &files, &pages));
        for link in dead {
            faults.insert(format!(
                "{file}: the link {link} leads nowhere; correct it"
            ));
        }
    }
    Ok(faults.into_iter().collect())
}

/// What a page or a style sheet would load from elsewhere.
fn foreign(text: &str) -> Result<Vec<String>> {
    let tag = pattern(
        r#"<(?:link|script|img|iframe|source|video|audio|embed|object|use|image)(?-u:\b)[^>]*?\s(?:href|src|srcset|data|xlink:href)\s*=\s*["']?((?:[a-z]+:)?//[^"'\s>]*)"#,
    )?;
    let style = pattern(
        r#"(?:url\(\s*["']?|@import\s+["'])((?:[a-z]+:)?//[^"')\s]*)"#,
    )?;
    let both = tag.captures_iter(text).chain(style.captures_iter(text));
    Ok(both.map(|c| c[1].to_string()).collect())
}

/// Whether a link on the page `file` leads out of the book or to something.
fn leads(
    link: &str, file: &str, files: &BTreeSet<String>,
    pages: &BTreeMap<String, Page>,
) -> bool {
    let outside = ["//", "http:", "https:", "mailto:", "data:", "javascript:"];
    if link.is_empty() || outside.iter().any(|o| link.starts_with(o)) {
        return true;
    }
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let path = path.split('?').next().unwrap_or_default();
    let target = match path {
        "" => file.to_string(),
        path => joined(file, path),
    };
    let anchored = |page: &Page| anchor.is_empty() || page.ids.contains(anchor);
    REPEATED.contains(&target.as_str())
        || files.contains(&target) && pages.get(&target).is_none_or(anchored)
}

/// `path` as seen from the page `file`.
fn joined(file: &str, path: &str) -> String {
    let mut parts: Vec<&str> = file.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}
