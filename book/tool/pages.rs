//! The generated pages: the equation map, the notation, and two indexes.

use crate::facts::{Facts, Shown};
use crate::formula::formula;
use crate::text::{escape, html, link, page_of};
use anyhow::{Context, Result};
use registry::Equation;
use std::collections::BTreeMap;

/// Every equation with its code, its tests, and the errors last measured.
pub fn equation_map(facts: &Facts) -> String {
    let mut out = String::new();
    if facts.measured.rungs.is_empty() {
        out += "\n<p class=\"problem\">Nothing is measured yet: run \
                <code>cargo book build</code>.</p>\n";
    } else if !facts.measured.current {
        out += "\n<p class=\"stale\">The sources have changed since these \
                errors were measured.</p>\n";
    }
    let mut rows: Vec<(&Shown, &Equation)> = facts
        .registry
        .equations
        .iter()
        .filter_map(|e| Some((facts.shown.get(&e.id)?, e)))
        .collect();
    rows.sort_by_key(|(shown, _)| shown.number);
    let mut chapter = 0;
    for (shown, equation) in rows {
        if chapter != shown.number.0 {
            chapter = shown.number.0;
            let (page, name) = (&shown.file, escape(&shown.chapter));
            let slug = page.trim_end_matches(".md");
            out +=
                &format!("\n## {chapter}. [{name}]({page}) {{#of-{slug}}}\n");
        }
        out += &row(facts, shown, equation);
    }
    out
}

fn row(facts: &Facts, shown: &Shown, e: &Equation) -> String {
    let mut facts_of: Vec<(&str, String)> = Vec::new();
    if let Some(places) = facts.places.get(&e.id) {
        let one =
            |t: &Option<_>, p: &Option<_>| Some(link(t.as_ref()?, p.as_ref()?));
        facts_of.extend(one(&e.code, &places.code).map(|c| ("code", c)));
        facts_of.extend(one(&e.fast, &places.fast).map(|c| ("fast", c)));
        let tests = e.tests.iter().zip(&places.tests);
        let tests: Vec<_> = tests.map(|(t, p)| link(t, p)).collect();
        if !tests.is_empty() {
            facts_of.push(("tests", tests.join(", ")));
        }
    }
    if let Some(rungs) = facts.measured.rungs.get(&e.id) {
        let rungs = rungs.iter().map(|r| {
            let class = if r.holds { "holds" } else { "fails" };
            format!("<span class=\"{class}\">{}</span>", escape(&r.words()))
        });
        let stale =
            if facts.measured.current { "" } else { " class=\"stale\"" };
        let rungs: Vec<_> = rungs.collect();
        facts_of.push((
            "error",
            format!("<span{stale}>{}</span>", rungs.join(" · ")),
        ));
    }
    let unmeasured = facts.measured.unmeasured.get(&e.id);
    for line in unmeasured.into_iter().flatten() {
        let line = line.strip_prefix("T10: ").unwrap_or(line);
        facts_of.push(("T10", escape(line)));
    }
    if let Some(reason) = &e.no_backward {
        facts_of.push(("backward", format!("none: {}", escape(reason))));
    }
    if let Some(id) = &e.backward
        && let Ok(backward) = facts.reference(id)
    {
        facts_of.push(("backward", backward));
    }
    if let Some(source) = &e.source {
        facts_of.push(("source", escape(source)));
    }
    let facts_of: String = facts_of
        .into_iter()
        .map(|(k, v)| format!("<dt>{k}</dt><dd>{v}</dd>\n"))
        .collect();
    let (id, kind, name) = (&e.id, e.kind, escape(&e.name));
    let (page, number) = (html(&shown.file), shown.number());
    let place = format!("equations.toml: [{id}]");
    let tex = formula(&place, &e.tex, true);
    format!(
        "\n<div class=\"proof\" id=\"proof-{id}\">\n\
         <p><a href=\"{page}#eq-{id}\">({number})</a> <b>{name}</b> \
         <span class=\"kind\">{kind}</span></p>\n\
         <div class=\"formula\" tabindex=\"0\">{tex}</div>\n\
         <dl>\n{facts_of}</dl>\n</div>\n"
    )
}

/// The letters, as the library's first page declares them.
pub fn notation(facts: &Facts) -> Result<String> {
    let mut files = facts.sources.files.iter();
    let library = files.find(|s| s.file == "src/lib.rs");
    let library = library.context("there is no src/lib.rs")?;
    let lines = library.text.lines().filter_map(|l| l.strip_prefix("//! |"));
    let table: String = lines.map(|l| format!("|{l}\n")).collect();
    anyhow::ensure!(
        !table.is_empty(),
        "src/lib.rs has no table of letters; write it there"
    );
    Ok(format!("\n{table}\n"))
}

/// Every symbol of every equation, with the equations that use it.
pub fn symbol_index(facts: &Facts) -> String {
    let mut uses: BTreeMap<(String, String), Vec<&str>> = BTreeMap::new();
    for equation in &facts.registry.equations {
        if facts.shown.contains_key(&equation.id) {
            for symbol in symbols(&equation.tex) {
                let letter = symbol.rsplit('{').next().unwrap_or_default();
                let letter = letter.trim_end_matches('}').to_lowercase();
                let key = (letter, symbol.clone());
                let ids = uses.entry(key).or_default();
                if !ids.contains(&equation.id.as_str()) {
                    ids.push(&equation.id);
                }
            }
        }
    }
    let mut out = "\n| symbol | equations |\n|---|---|\n".to_string();
    for ((_, symbol), mut ids) in uses {
        ids.sort_by_key(|id| facts.shown.get(*id).map(|s| s.number));
        let tex = formula("the symbol index", &symbol, false);
        let links = ids.iter().filter_map(|id| facts.reference(id).ok());
        let links: Vec<_> = links.collect();
        out += &format!("| {tex} | {} |\n", links.join(" "));
    }
    out
}

/// Commands that put something over the letter that follows.
const ACCENTS: &[&str] =
    &["bar", "hat", "dot", "tilde", "mathcal", "mathbb", "mathbf"];
/// Commands whose argument is words.
const WORDS: &[&str] =
    &["text", "operatorname", "mathrm", "texttt", "begin", "end", "textbf"];
/// Greek letters and what else is a symbol.
const LETTERS: &[&str] = &[
    "alpha",
    "beta",
    "gamma",
    "delta",
    "epsilon",
    "varepsilon",
    "zeta",
    "eta",
    "theta",
    "iota",
    "kappa",
    "lambda",
    "mu",
    "nu",
    "xi",
    "pi",
    "rho",
    "sigma",
    "tau",
    "phi",
    "varphi",
    "chi",
    "psi",
    "omega",
    "Gamma",
    "Delta",
    "Theta",
    "Lambda",
    "Sigma",
    "Phi",
    "Psi",
    "Omega",
    "ell",
    "nabla",
];

/// The letters of a formula, with their accents, without subscripts.
pub(crate) fn symbols(tex: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut accent = String::new();
    let mut rest = tex;
    while let Some(c) = rest.chars().next() {
        let token = if c == '\\' {
            let name = &rest[1..];
            let end = name.find(|c: char| !c.is_ascii_alphabetic());
            let name = &name[..end.unwrap_or(name.len())];
            rest = &rest[1 + name.len()..];
            if name.is_empty() {
                let skip = rest.chars().next().map_or(0, char::len_utf8);
                rest = &rest[skip..]; // `\,`
                continue;
            }
            if WORDS.contains(&name) {
                rest = after_group(rest);
                continue;
            }
            if ACCENTS.contains(&name) {
                accent += &format!("\\{name}{{");
                rest = rest.trim_start_matches([' ', '{']);
                continue;
            }
            match LETTERS.contains(&name) {
                true => format!("\\{name}"),
                false => continue,
            }
        } else {
            rest = &rest[c.len_utf8()..];
            if c == '_' {
                rest = after_group(rest);
                continue;
            }
            if c.is_whitespace() {
                continue;
            }
            match c.is_ascii_alphabetic() {
                true => c.to_string(),
                false => {
                    accent.clear();
                    continue;
                }
            }
        };
        let close = "}".repeat(accent.matches('{').count());
        let symbol = format!("{accent}{token}{close}");
        accent.clear();
        if !found.contains(&symbol) {
            found.push(symbol);
        }
    }
    found
}

/// What follows a group `{…}`, a command, or a single character.
fn after_group(text: &str) -> &str {
    let text = text.trim_start();
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            '\\' if depth == 0 => {
                let name = &text[at + 1..];
                return name
                    .trim_start_matches(|c: char| c.is_ascii_alphabetic());
            }
            _ => {}
        }
        if depth == 0 {
            return &text[at + c.len_utf8()..];
        }
    }
    ""
}

/// Every item that an equation names or a chapter quotes.
pub fn code_index(facts: &Facts) -> String {
    #[derive(Default)]
    struct Entry {
        equations: Vec<String>,
        pages: Vec<String>,
    }
    let mut items: BTreeMap<String, Entry> = BTreeMap::new();
    for e in &facts.registry.equations {
        let Ok(reference) = facts.reference(&e.id) else { continue };
        for target in e.code.iter().chain(&e.fast) {
            let entry = items.entry(target.to_string()).or_default();
            entry.equations.push(reference.clone());
        }
    }
    for (target, pages) in &facts.quoted {
        let entry = items.entry(target.clone()).or_default();
        let link = |file: &String| {
            let name = facts.number(file);
            let name = name.map_or(file.clone(), |n| n.to_string());
            format!("<a href=\"{}\">{name}</a>", html(file))
        };
        entry.pages = pages.iter().map(link).collect();
    }
    let mut out =
        "\n| code | equations | quoted in |\n|---|---|---|\n".to_string();
    for (target, entry) in items {
        let parsed = target.parse().ok();
        let found = parsed.as_ref().and_then(|t| facts.sources.find(t).ok());
        let Some((source, item)) = found else { continue };
        let page = page_of(&source.file, item.line);
        out += &format!(
            "| <a href=\"{page}\"><code>{}</code></a> | {} | {} |\n",
            escape(&target),
            entry.equations.join(" "),
            entry.pages.join(" "),
        );
    }
    out
}
