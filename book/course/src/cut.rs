//! Cuts bodies out of a source, and what would give them away: the doors to
//! fast twins, and formulas in doc comments.

use crate::holes::Hole;
use anyhow::{Context, Result, anyhow};
use proc_macro2::{TokenStream, TokenTree};
use registry::STORED;
use std::collections::BTreeSet;
use std::ops::Range;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Block, Expr, Item, Pat, Signature, Stmt};

/// What becomes of a body.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It goes.
    Cut,
    /// It stays behind a switch: to show what a hole stops.
    Switch,
}

/// What is a fast twin, or the door to one.
const FAST: [&str; 3] = ["twin", "matmul_with", "fill_normal_with"];

/// A source without the bodies of these holes.
pub(crate) fn cut(text: &str, holes: &[&Hole], mode: Mode) -> Result<String> {
    let text = text.trim_start_matches('\u{feff}');
    let file = parse(text)?;
    let mut edits = Edits { text, edits: vec![] };
    let checks = text.contains("//! Chapter") && text.contains("CHECKS");
    let mut without = Without { edits: &mut edits, checks };
    without.file(&file);
    for hole in holes {
        let (_, block) = function(&file, hole.line)
            .with_context(|| format!("{}: no {}", hole.file, hole.item))?;
        let rest = &block.stmts[kept(text, hole, block)..];
        let first = rest.first().context("an empty body")?;
        let begin = edits.line_start(range(first).start);
        let begin = edits.comments_above(begin);
        let indent = edits.indent(range(first).start);
        let (names, chapter) = (hole.names(), &hole.chapter);
        let marked = format!("{indent}// eq: {names}\n");
        let hole = format!("hole!({names:?}, {chapter:?})");
        match mode {
            Mode::Cut => {
                let end = block.brace_token.span.close().byte_range().start;
                let end = edits.line_start(end);
                let new = format!("{marked}{indent}{hole}\n");
                edits.put(begin..end, new);
            }
            Mode::Switch => {
                let new = format!(
                    "{indent}if open!({names:?}) {{\n{indent}    {hole};\n\
                     {indent}}}\n"
                );
                edits.put(begin..begin, new);
            }
        }
    }
    let text = edits.done();
    if mode == Mode::Switch {
        return Ok(text);
    }
    let comment = |l: &&str| l.trim_start().starts_with("// ") && formula(l);
    let text = match holes.is_empty() {
        true => text,
        false => text
            .lines()
            .filter(|l| !comment(l))
            .map(|l| format!("{l}\n"))
            .collect(),
    };
    Ok(without_formulas(&text))
}

/// The function whose name stands on this line.
pub(crate) fn function(
    file: &syn::File, line: usize,
) -> Option<(&Signature, &Block)> {
    struct Find<'a> {
        line: usize,
        found: Option<(&'a Signature, &'a Block)>,
    }
    impl<'a> Find<'a> {
        fn see(&mut self, signature: &'a Signature, block: &'a Block) {
            if signature.ident.span().start().line == self.line {
                self.found = Some((signature, block));
            }
        }
    }
    impl<'a> Visit<'a> for Find<'a> {
        fn visit_item_fn(&mut self, f: &'a syn::ItemFn) {
            self.see(&f.sig, &f.block);
            visit::visit_item_fn(self, f);
        }
        fn visit_impl_item_fn(&mut self, f: &'a syn::ImplItemFn) {
            self.see(&f.sig, &f.block);
            visit::visit_impl_item_fn(self, f);
        }
    }
    let mut find = Find { line, found: None };
    find.visit_file(file);
    find.found
}
pub(crate) fn parse(text: &str) -> Result<syn::File> {
    syn::parse_file(text)
        .map_err(|e| anyhow!("{}: is not Rust: {e}", e.span().start().line))
}
pub(crate) fn range(x: &impl Spanned) -> Range<usize> {
    x.span().byte_range()
}

/// How many statements at the beginning stay: what the lengths have to be, and
/// how numbers of 16 bits are widened, with the names that these need.
pub(crate) fn kept(text: &str, hole: &Hole, block: &Block) -> usize {
    let own = hole.item.rsplit("::").next().unwrap_or(&hole.item);
    let mut kept = 0;
    for (i, stmt) in block.stmts.iter().enumerate() {
        let words = words(&text[range(stmt)]);
        let has = |w: &str| words.iter().any(|word| word == w);
        match stmt {
            Stmt::Local(_) => {}
            Stmt::Macro(m) if starts(&m.mac.path, "assert") => kept = i + 1,
            Stmt::Expr(Expr::If(f), _)
                if text[range(&*f.cond)] == *STORED
                    && has(own)
                    && only_calls(f) =>
            {
                kept = i + 1;
            }
            _ => break,
        }
    }
    kept
}
/// Whether a block does no more than name things, and return what a call gives.
fn only_calls(f: &syn::ExprIf) -> bool {
    f.then_branch.stmts.iter().all(|stmt| match stmt {
        Stmt::Local(_) => true,
        Stmt::Expr(Expr::Return(r), _) => {
            matches!(r.expr.as_deref(), Some(Expr::Call(_)))
        }
        _ => false,
    })
}
fn starts(path: &syn::Path, with: &str) -> bool {
    let last = path.segments.last();
    last.is_some_and(|s| s.ident.to_string().starts_with(with))
}

/// All words of a piece of code; `fast::` is one that leads to a twin.
pub(crate) fn words(code: &str) -> Vec<String> {
    let mut words: Vec<String> = tokens(code);
    for i in 0..words.len().saturating_sub(2) {
        if words[i] == "fast" && words[i + 1] == ":" {
            words[i] = FAST[0].to_string();
        }
    }
    words
}
/// All tokens of a piece of code, comments left out.
pub(crate) fn tokens(code: &str) -> Vec<String> {
    fn flat(stream: TokenStream, to: &mut Vec<String>) {
        for token in stream {
            if let TokenTree::Group(group) = token {
                let span = group.delim_span();
                let mark = |s: proc_macro2::Span| s.source_text();
                to.extend(mark(span.open()));
                flat(group.stream(), to);
                to.extend(mark(span.close()));
            } else {
                to.push(token.to_string());
            }
        }
    }
    let mut all = vec![];
    flat(code.parse().unwrap_or_default(), &mut all);
    all
}

/// Changes of a text, by ranges of bytes.
struct Edits<'a> {
    text: &'a str,
    edits: Vec<(Range<usize>, String)>,
}
impl Edits<'_> {
    fn put(&mut self, range: Range<usize>, new: String) {
        self.edits.push((range, new));
    }
    /// Removes whole lines.
    fn remove(&mut self, range: Range<usize>) {
        let start = self.line_start(range.start);
        let after = &self.text[range.end..];
        let end =
            after.find('\n').map_or(self.text.len(), |n| range.end + n + 1);
        self.put(start..end, String::new());
    }
    fn line_start(&self, at: usize) -> usize {
        self.text[..at].rfind('\n').map_or(0, |n| n + 1)
    }
    /// Where the comments begin that stand directly above a line.
    fn comments_above(&self, mut at: usize) -> usize {
        while at > 0 {
            let above = self.line_start(at - 1);
            if !self.text[above..at].trim_start().starts_with("//") {
                break;
            }
            at = above;
        }
        at
    }
    fn indent(&self, at: usize) -> String {
        let line = &self.text[self.line_start(at)..at];
        line.chars().take_while(|c| *c == ' ').collect()
    }
    /// The changed text; what lies inside of another change is none.
    fn done(mut self) -> String {
        // what is put before a line, then the longest
        self.edits
            .sort_by_key(|(r, _)| (r.start, !r.is_empty(), usize::MAX - r.end));
        let (mut out, mut at) = (String::new(), 0);
        for (range, new) in &self.edits {
            if range.start < at {
                continue;
            }
            out += &self.text[at..range.start];
            out += new;
            at = range.end;
        }
        out + &self.text[at..]
    }
}

/// Takes fast twins out of a file: their doors, and in the proofs whatever
/// comes from them.
struct Without<'e, 't> {
    edits: &'e mut Edits<'t>,
    /// Whether it is a file of proofs.
    checks: bool,
}
impl Without<'_, '_> {
    fn file(&mut self, file: &syn::File) {
        let doors: BTreeSet<String> = FAST.map(String::from).into();
        let mut fast = doors.clone();
        if self.checks {
            // what returns a pair compares a twin with its plain kernel
            let pair = |f: &&syn::ItemFn| {
                let out = &self.edits.text[range(&f.sig.output)];
                words(out).iter().any(|w| w == "Pair")
            };
            let functions = functions(file).filter(pair);
            fast.extend(functions.map(|f| f.sig.ident.to_string()));
        }
        loop {
            let before = self.edits.edits.len();
            let mut gone = vec![];
            for f in functions(file) {
                let name = f.sig.ident.to_string();
                let whole = fast.contains(&name);
                if whole || self.block(&f.block, &mut fast.clone()) {
                    gone.push((name, range(f)));
                }
            }
            let known = fast.len();
            for (name, range) in &gone {
                fast.insert(name.clone());
                self.edits.remove(range.clone());
            }
            if fast.len() == known {
                break;
            }
            self.edits.edits.truncate(before);
        }
        struct Methods<'w, 'e, 't>(&'w mut Without<'e, 't>, BTreeSet<String>);
        impl<'a> Visit<'a> for Methods<'_, '_, '_> {
            fn visit_impl_item_fn(&mut self, f: &'a syn::ImplItemFn) {
                self.0.block(&f.block, &mut self.1.clone());
            }
        }
        let mut methods = Methods(self, fast.clone());
        methods.visit_file(file);
        for item in &file.items {
            if let Item::Use(_) = item
                && self.mentions(range(item), &doors, &["fast"])
            {
                self.edits.remove(range(item));
            }
        }
    }
    fn mentions(
        &self, range: Range<usize>, fast: &BTreeSet<String>, more: &[&str],
    ) -> bool {
        let text = &self.edits.text[range];
        let mut known = fast.iter().map(|f| &f[..]).chain(["fast"]);
        if !known.any(|name| text.contains(name)) {
            return false; // which is quick to see
        }
        let all = words(text);
        all.iter().any(|w| fast.contains(w) || more.contains(&&w[..]))
    }
    /// Takes them out of a body; whether something of them is left.
    fn block(&mut self, block: &Block, fast: &mut BTreeSet<String>) -> bool {
        block.stmts.iter().any(|stmt| self.statement(stmt, fast))
    }
    fn statement(&mut self, stmt: &Stmt, fast: &mut BTreeSet<String>) -> bool {
        if !self.mentions(range(stmt), fast, &[]) {
            return false;
        }
        match stmt {
            Stmt::Local(local) => {
                self.edits.remove(range(stmt));
                names(&local.pat, fast);
                false
            }
            Stmt::Macro(_) | Stmt::Expr(Expr::If(_), _) => {
                self.edits.remove(range(stmt));
                false
            }
            Stmt::Expr(Expr::ForLoop(f), _) => self.block(&f.body, fast),
            Stmt::Expr(Expr::Match(m), _) => {
                if let Some(plain) = self.plain_way(m, fast) {
                    self.edits.put(range(stmt), plain.to_string());
                    return false;
                }
                m.arms.iter().any(|a| match &*a.body {
                    Expr::Block(b) => self.block(&b.block, fast),
                    _ => self.mentions(range(a), fast, &[]),
                })
            }
            Stmt::Expr(_, Some(_)) => {
                self.edits.remove(range(stmt));
                false
            }
            Stmt::Expr(e, None) => self.tail(e, fast),
            Stmt::Item(_) => true,
        }
    }
    /// `b` of `match a { Some(x) => twin(x), None => b }`.
    fn plain_way(
        &self, m: &syn::ExprMatch, fast: &BTreeSet<String>,
    ) -> Option<&str> {
        let [door, plain] = &m.arms[..] else { return None };
        let leads = |a: &syn::Arm| self.mentions(range(a), fast, &[]);
        let text = |x: Range<usize>| &self.edits.text[x];
        let only = leads(door) && !leads(plain);
        (only && text(range(&plain.pat)) == "None")
            .then(|| text(range(&*plain.body)))
    }
    /// `a.and(twin)` becomes `a`.
    fn tail(&mut self, e: &Expr, fast: &BTreeSet<String>) -> bool {
        if let Expr::MethodCall(call) = e {
            let last = range(&call.receiver).end..range(e).end;
            if call.method == "and" && self.mentions(last.clone(), fast, &[]) {
                self.edits.put(last, String::new());
                return self.tail(&call.receiver, fast);
            }
            if !self.mentions(last, fast, &[]) {
                return self.tail(&call.receiver, fast);
            }
        }
        self.mentions(range(e), fast, &[])
    }
}
fn functions(file: &syn::File) -> impl Iterator<Item = &syn::ItemFn> {
    file.items.iter().filter_map(|item| match item {
        Item::Fn(f) => Some(f),
        _ => None,
    })
}
/// The names that a pattern binds.
fn names(pattern: &Pat, to: &mut BTreeSet<String>) {
    struct Names<'a>(&'a mut BTreeSet<String>);
    impl Visit<'_> for Names<'_> {
        fn visit_pat_ident(&mut self, p: &syn::PatIdent) {
            self.0.insert(p.ident.to_string());
        }
    }
    Names(to).visit_pat(pattern);
}

// Doc comments ----------------------------------------------------------------

/// The text without the sentences of its doc comments that have a formula.
pub(crate) fn without_formulas(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let Some((begin, first)) = doc(line) else {
            out += line;
            out.push('\n');
            continue;
        };
        let mut run = vec![first];
        while let Some((same, more)) = lines.peek().copied().and_then(doc)
            && same == begin
        {
            run.push(more);
            lines.next();
        }
        // what a constant is gives nothing away
        let item = lines.peek().map_or("", |l| l.trim_start());
        let constant = item.contains("const ") && !item.contains("fn ");
        let run = if constant {
            run.iter().map(|line| line.to_string()).collect()
        } else {
            plain(&run, 79 - begin.chars().count())
        };
        for line in run {
            out += format!("{begin} {line}").trim_end();
            out.push('\n');
        }
    }
    out
}
/// A doc comment's indentation and slashes, and what it says.
fn doc(line: &str) -> Option<(&str, &str)> {
    let bare = line.trim_start();
    let slashes = ["///", "//!"].into_iter().find(|s| bare.starts_with(s))?;
    let at = line.len() - bare.len() + slashes.len();
    Some((&line[..at], line[at..].strip_prefix(' ').unwrap_or(&line[at..])))
}
fn plain(run: &[&str], width: usize) -> Vec<String> {
    let mut out: Vec<String> = vec![];
    let mut code = false;
    let mut open = String::new();
    let close = |open: &mut String, out: &mut Vec<String>| {
        let said = sentences(open).into_iter().map(without_formula);
        let said = said.collect::<Vec<_>>().join(" ");
        out.extend(wrapped(&said, width));
        open.clear();
    };
    for line in run {
        let fence = line.starts_with("```");
        if fence || code {
            close(&mut open, &mut out);
            code ^= fence;
            if fence || !(line.contains("//") && formula(line)) {
                out.push(line.to_string());
            }
        } else if line.is_empty() {
            close(&mut open, &mut out);
            if out.last().is_some_and(|l| !l.is_empty()) {
                out.push(String::new());
            }
        } else if line.starts_with(['#', '|', '-']) {
            close(&mut open, &mut out);
            if !formula(line) {
                out.push(line.to_string());
            }
        } else {
            open += line;
            open.push(' ');
        }
    }
    close(&mut open, &mut out);
    while out.last().is_some_and(String::is_empty) {
        out.pop();
    }
    out
}
/// Words in lines of this width.
pub(crate) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![];
    let mut line = String::new();
    for word in text.split_whitespace() {
        if line.chars().count() + word.chars().count() >= width {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line += word;
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}
/// What a sentence with a formula says besides: the parts between its semicolons
/// that have none, and what is set, `Sets y` of `Sets y = x·w, row by row`. Less
/// than such a part does not stay: half of it puzzles more than it tells.
fn without_formula(sentence: &str) -> String {
    if !formula(sentence) {
        return sentence.to_string();
    }
    let bare = sentence.trim().trim_end_matches('.');
    let parts = bare.split("; ").map(without_sides);
    let parts: Vec<&str> = parts.filter(|p| !p.is_empty()).collect();
    let said = parts.join("; ");
    let letters = said.chars().take_while(|c| c.is_alphabetic()).count();
    let mut rest = said.chars();
    match rest.next() {
        // a word, and no name
        Some(c) if letters > 1 => {
            format!("{}{}.", c.to_uppercase(), rest.as_str())
        }
        Some(_) => format!("{said}."),
        None => said,
    }
}
/// A part of a sentence if it has no formula, or what it says to be set.
fn without_sides(part: &str) -> &str {
    const VERBS: [&str; 4] = ["sets ", "adds ", "replaces ", "returns "];
    let mut said = part;
    if VERBS.iter().any(|v| said.to_lowercase().starts_with(v)) {
        for end in [" where ", ": ", " = ", ", "] {
            if formula(said) {
                said = said.split(end).next().unwrap_or(said);
            }
        }
    }
    if formula(said) { "" } else { said }
}
/// The sentences of a paragraph, with the blanks behind them.
pub(crate) fn sentences(text: &str) -> Vec<&str> {
    const SHORT: [&str; 6] = ["al.", "alg.", "eq.", "fig.", "cf.", "e.g."];
    let (mut all, mut from, mut at) = (vec![], 0, 0);
    while let Some(dot) = text[at..].find(". ") {
        at += dot + 2;
        let word = text[from..at].trim().rsplit(' ').next();
        if !word.is_some_and(|w| SHORT.contains(&w)) {
            all.push(&text[from..at]);
            from = at;
        }
    }
    all.push(&text[from..]);
    all
}
/// Whether a sentence says how something is computed. A shape does not, such as
/// `[kv, n, g·d]`.
pub(crate) fn formula(sentence: &str) -> bool {
    const SIGNS: &str = "Σ√∂⟨⟩ᵀ⊙·∏^←≈⁻⁺²³ᵢⱼₖₜ×";
    let sentence = without_shapes(sentence);
    if sentence.chars().any(|c| SIGNS.contains(c)) {
        return true;
    }
    let right = sentence.split('=').skip(1);
    let mut sides = right.map(|s| s.split([',', ';']).next().unwrap_or(s));
    sides.any(|s| s.contains(['+', '-', '−', '*', '/']))
}
/// A sentence whose brackets with sizes in them are empty.
fn without_shapes(sentence: &str) -> String {
    let mut out = String::new();
    for (i, part) in sentence.split('[').enumerate() {
        let (inside, rest) = match part.split_once(']') {
            Some((inside, rest)) if i > 0 => (inside, rest),
            _ => ("", part),
        };
        let size =
            |c: char| c.is_ascii_alphanumeric() || " ,_·+-/≥".contains(c);
        if i > 0 {
            out.push('[');
        }
        if !inside.chars().all(size) {
            out += inside;
        }
        out += rest;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{formula, without_formulas};

    fn cut(doc: &str) -> String {
        without_formulas(&format!("/// {doc}\nfn f() {{}}\n"))
            .lines()
            .filter_map(|l| l.strip_prefix("///"))
            .collect::<String>()
            .trim()
            .to_string()
    }

    #[test]
    fn whole_sentences_stay_or_go() {
        let doc = "Sets y = x·w, row by row. Source: A et al. 2019, eq. 3.";
        assert_eq!(cut(doc), "Sets y. Source: A et al. 2019, eq. 3.");
        let doc = "r = x − n·ln 2, and n's last bits. It is never 0.";
        assert_eq!(cut(doc), "It is never 0.");
        let doc = "√0 = 0; of NaN it is NaN.";
        assert_eq!(cut(doc), "Of NaN it is NaN.");
        let doc = "Replaces z: [n] by p; returns ℓ = ln Σ e^z.";
        assert_eq!(cut(doc), "Replaces z: [n] by p; returns ℓ.");
        assert_eq!(cut("s is f·f; m runs from 0."), "m runs from 0.");
    }

    #[test]
    fn shapes_are_no_formulas() {
        let doc = "Sets q. q: [kv, n, g·d]  w: [_, h·d]  x: [≥ n, d + 1]";
        let same = doc.replace("  ", " ");
        assert_eq!(cut(doc), same);
        assert!(formula("wₑ·[e ∈ I]"));
        assert!(formula("p is a·b"));
    }
}
