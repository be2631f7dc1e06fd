//! Three hints for each hole: what to look at, by hand; the shape of the step,
//! from the library's own body; the formula, from its doc and the registry.

use crate::cut::{
    formula, function, kept, parse, range, sentences, tokens, wrapped,
};
use crate::holes::{Hole, OURS, Track};
use crate::typed::typed;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use syn::{Block, Expr, Stmt};

/// The first hints, by the first equation of each hole.
pub(crate) fn looks() -> Result<BTreeMap<String, String>> {
    let file = Path::new(OURS).join("hints.toml");
    let text = fs::read_to_string(file).context("hints.toml")?;
    toml::from_str(&text).context("hints.toml")
}

/// A hint for an equation, of level 1, 2 or 3.
pub(crate) fn hint(track: &Track, id: &str, level: u8) -> Result<String> {
    let (hole, equation) = track.named(id)?;
    match level {
        1 => {
            let looks = looks()?;
            let look = looks.get(hole.id());
            let look = look.with_context(|| format!("hints.toml: no {id}"))?;
            Ok(wrapped(look, 78).join("\n"))
        }
        2 => shape(track, hole),
        _ => {
            let said = said(track, hole)?;
            let said = sentences(&said).into_iter().filter(|s| formula(s));
            let mut text: String =
                said.map(|s| wrapped(s, 78).join("\n") + "\n").collect();
            for other in &hole.ids {
                let of = track.registry.get(other).unwrap_or(equation);
                text += &format!("\n{other}, {}:\n", of.name);
                text += &format!("{}\n", typed(&of.tex));
            }
            Ok(text.trim().to_string())
        }
    }
}

/// The library's doc comment of a function, up to its examples.
fn said(track: &Track, hole: &Hole) -> Result<String> {
    let source = track.sources.files.iter().find(|s| s.file == hole.file);
    let source = source.context("a source")?;
    let item = source.items.iter().find(|i| i.line == hole.line);
    let lines = source.text_of(item.context("an item")?);
    let docs = lines.lines().map_while(|l| l.strip_prefix("///"));
    let docs = docs.take_while(|l| !l.starts_with(" ```") && *l != " # Panics");
    let docs: Vec<&str> = docs.map(str::trim).collect();
    Ok(docs.join(" ").trim().to_string())
}

/// Its shapes, and the body with every right side left out.
fn shape(track: &Track, hole: &Hole) -> Result<String> {
    let source = track.sources.files.iter().find(|s| s.file == hole.file);
    let text = &source.context("a source")?.text;
    let file = parse(text)?;
    let (_, block) = function(&file, hole.line).context("a body")?;
    let said = said(track, hole)?;
    let mut out = String::new();
    for sentence in sentences(&said) {
        if !formula(sentence) && sentence.contains(": [") {
            out += &wrapped(sentence, 78).join("\n");
            out.push('\n');
        }
    }
    out += "The library's body, with a … for each right side:\n\n";
    let rest = &block.stmts[kept(text, hole, block)..];
    statements(text, rest, 1, &mut out);
    Ok(out.trim_end().to_string())
}
fn statements(text: &str, all: &[Stmt], depth: usize, out: &mut String) {
    let line = |out: &mut String, line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        *out += &format!("{}{}\n", "    ".repeat(depth), words.join(" "));
    };
    let code = |r: std::ops::Range<usize>| &text[r];
    for stmt in all {
        match stmt {
            Stmt::Local(l) => {
                let pattern = code(range(&l.pat));
                line(out, &format!("let {pattern} = …;"));
            }
            Stmt::Macro(_) => {}
            Stmt::Item(_) => line(out, "const …;"),
            Stmt::Expr(e, _) => match e {
                Expr::ForLoop(f) => {
                    let (pattern, over) =
                        (code(range(&*f.pat)), code(range(&*f.expr)));
                    line(out, &format!("for {pattern} in {over} {{"));
                    body(text, &f.body, depth, out);
                    line(out, "}");
                }
                Expr::If(i) => {
                    let condition = code(range(&*i.cond));
                    line(out, &format!("if {condition} {{"));
                    body(text, &i.then_branch, depth, out);
                    line(out, "}");
                }
                Expr::Assign(a) => {
                    line(out, &format!("{} = …;", code(range(&*a.left))));
                }
                Expr::Binary(b) if code(range(&b.op)).ends_with('=') => {
                    let (left, op) = (code(range(&*b.left)), range(&b.op));
                    line(out, &format!("{left} {} …;", code(op)));
                }
                Expr::Call(c) => {
                    line(out, &format!("{}(…);", code(range(&*c.func))));
                }
                Expr::MethodCall(m) => {
                    let receiver = code(range(&*m.receiver));
                    let short = receiver.split(['(', '[']).next();
                    let short = short.unwrap_or_default();
                    let method = &m.method;
                    line(out, &format!("{short}… .{method}(…);"));
                }
                Expr::Return(_) => line(out, "return …;"),
                Expr::Break(_) => line(out, "break;"),
                Expr::Continue(_) => line(out, "continue;"),
                Expr::Struct(s) => {
                    let fields =
                        s.fields.iter().map(|f| code(range(&f.member)));
                    let fields: Vec<&str> = fields.collect();
                    let fields = fields.join(": …, ");
                    let name = code(range(&s.path));
                    line(out, &format!("{name} {{ {fields}: … }}"));
                }
                _ => {
                    let called = called(code(range(e)));
                    let with = if called.is_empty() { "" } else { " with " };
                    line(out, &format!("…{with}{}", called.join(", ")));
                }
            },
        }
    }
}
/// What an expression calls.
fn called(code: &str) -> Vec<String> {
    let tokens = tokens(code);
    let calls = tokens.windows(2).filter(|w| w[1] == "(");
    let name = |w: &str| w.starts_with(|c: char| c.is_ascii_lowercase());
    let names = calls.map(|w| w[0].clone()).filter(|w| name(w));
    let mut names: Vec<String> = names.collect();
    names.dedup();
    names
}
fn body(text: &str, block: &Block, depth: usize, out: &mut String) {
    statements(text, &block.stmts, depth + 1, out);
}

/// What is wrong with the hints: of each hole there are three, which differ.
pub(crate) fn faults(track: &Track) -> Result<Vec<String>> {
    let mut faults = vec![];
    for hole in &track.holes {
        let id = hole.id();
        let all = [1, 2, 3].map(|level| {
            let hint = hint(track, id, level);
            hint.unwrap_or_else(|e| {
                faults.push(format!("{id}: {e}"));
                format!("none {level}")
            })
        });
        for (i, text) in all.iter().enumerate() {
            if text.trim().is_empty() {
                faults.push(format!("{id}: hint {} is empty", i + 1));
            }
            if i == 2 && text.contains('\\') {
                faults.push(format!("{id}: hint 3 is no plain text"));
            }
            if all[..i].contains(text) {
                faults.push(format!("{id}: hint {} is another's", i + 1));
            }
        }
    }
    for id in looks()?.keys() {
        if !track.holes.iter().any(|h| h.id() == id) {
            faults
                .push(format!("hints.toml: {id} is no hole's first equation"));
        }
    }
    Ok(faults)
}
