//! The generated pages: the equation map, the notation, and two indexes.

use crate::facts::{Facts, Shown};
use crate::formula::formula;
use crate::symbols::{self, Meaning};
use crate::text::{escape, html, link, link_words, page_of};
use anyhow::{Context, Result};
use registry::{Equation, Places};
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
            // mdBook's list of sections leaves out what is a link.
            out += &format!(
                "\n## {chapter}. {name} {{#of-{slug}}}\n\n\
                 [Chapter {chapter}]({page})\n"
            );
        }
        out += &row(facts, shown, equation);
    }
    out
}

fn row(facts: &Facts, shown: &Shown, e: &Equation) -> String {
    let mut facts_of: Vec<(&str, String)> = Vec::new();
    if let Some(places) = facts.places.get(&e.id) {
        facts_of.extend(code_of(e, places).map(|c| ("code", c)));
        let fast = e.fast.iter().zip(&places.fast).next();
        facts_of.extend(fast.map(|(t, p)| ("fast", link(t, p))));
        facts_of.extend(proof_of(places).map(|p| ("proof", p)));
        let tests = tests_of(e, places);
        if !tests.is_empty() {
            facts_of.push(("tests", tests.join(", ")));
        }
        let planted = planted_in(places);
        if !planted.is_empty() {
            facts_of.push(("catches", planted.join("; ")));
        }
    }
    if let Some(why) = &e.no_code {
        facts_of.push(("code", format!("none: {}", escape(why))));
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

/// The item that computes an equation, and a link to each further line of it.
pub(crate) fn code_of(e: &Equation, places: &Places) -> Option<String> {
    let (target, place) = e.code.iter().zip(&places.code).next()?;
    let others = places.lines.iter();
    let others = others.map(|p| link_words(&p.line.to_string(), p));
    let others: Vec<_> = others.collect();
    let code = link(target, place);
    Some(match others[..] {
        [] => code,
        _ => format!("{code} ({}, {})", place.line, others.join(", ")),
    })
}

/// The function that measures an equation.
pub(crate) fn proof_of(places: &Places) -> Option<String> {
    let (name, place) = places.proof.as_ref()?;
    Some(link_words(&format!("<code>{}</code>", escape(name)), place))
}

/// The tests of an equation.
pub(crate) fn tests_of(e: &Equation, places: &Places) -> Vec<String> {
    let tests = e.tests.iter().zip(&places.tests);
    tests.map(|(t, p)| link(t, p)).collect()
}

/// The mistakes that are planted in an equation.
pub(crate) fn planted_in(places: &Places) -> Vec<String> {
    let planted = places.planted.iter();
    planted.map(|(words, p)| link_words(&escape(words), p)).collect()
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

/// Every symbol of every equation: what it means, its shape, where it is first
/// used, and where else. A gradient stands beside what it is the gradient of.
pub fn symbol_index(facts: &Facts) -> Result<String> {
    let meanings = symbols::meanings(&facts.root)?;
    // By letter, then by the place of its first use.
    type Row<'a> = (Vec<(u32, u32)>, Vec<&'a str>, bool);
    let mut rows: BTreeMap<(String, String, usize), Row> = BTreeMap::new();
    for e in &facts.registry.equations {
        let Some(shown) = facts.shown.get(&e.id) else { continue };
        let chapter = shown.file.trim_end_matches(".md");
        for symbol in symbols::symbols(&e.tex) {
            let (letter, bar) = symbols::base(&symbol);
            let of = meanings.get(letter).into_iter().flatten();
            let found = of.clone().position(|m| m.fits(chapter, &e.id));
            let Some(nth) = found else { continue };
            let key = (symbols::order(letter), letter.to_string(), nth);
            let row = rows.entry(key).or_default();
            if !row.1.contains(&e.id.as_str()) {
                row.0.push(shown.number);
                row.1.push(&e.id);
            }
            row.2 |= bar;
        }
    }
    let mut out = "\n| symbol | meaning | shape | first | also in |\n\
                   |---|---|---|---|---|\n"
        .to_string();
    let mut rows: Vec<_> = rows.into_iter().collect();
    for (_, (numbers, ids, _)) in &mut rows {
        ids.sort_by_key(|id| facts.shown.get(*id).map(|s| s.number));
        numbers.sort_unstable();
    }
    rows.sort_by(|(a, x), (b, y)| (&a.0, &a.1, &x.0).cmp(&(&b.0, &b.1, &y.0)));
    for ((_, letter, nth), (_, ids, bar)) in rows {
        let Meaning { is, shape, .. } = &meanings[&letter][nth];
        let tex = |tex: &str| formula("book/symbols.toml", tex, false);
        let mut symbol = tex(&letter);
        if bar {
            symbol += &format!(", {}", tex(&format!("\\bar{{{letter}}}")));
        }
        let links = ids.iter().filter_map(|id| facts.reference(id).ok());
        let links: Vec<_> = links.collect();
        let (first, others) = links.split_first().context("it is used")?;
        let words = |text: &str| {
            let parts = text.split('$').enumerate();
            let parts = parts.map(|(i, part)| match i % 2 {
                0 => escape(part),
                _ => tex(part),
            });
            parts.collect::<String>()
        };
        out += &format!(
            "| {symbol} | {} | {} | {first} | {} |\n",
            words(is),
            words(&shape.replace("d_h", "$d_h$")),
            others.join(" ")
        );
    }
    Ok(out)
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
