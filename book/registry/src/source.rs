//! Items, tests and `// eq: id` marks, found by parsing the sources.

use crate::error::{Error, files, hint, read};
use crate::registry::Target;
use proc_macro2::{Span, TokenStream, TokenTree};
use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use syn::Attribute;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// The condition behind which a kernel widens numbers that are stored in 16 bits:
/// no formula. By it a page folds those lines, and a hole keeps them.
pub const STORED: &str = "T::STORED";

/// All files under `src/` and `tests/`.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The files, sorted by name, `src/` first.
    pub files: Vec<Source>,
}

/// One file, parsed.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its name, relative to the top, with `/` between its parts.
    pub file: String,
    /// Its text.
    pub text: String,
    /// Its items, nested ones too, in the order of the file.
    pub items: Vec<Item>,
    /// Its marks, in the order of the file.
    pub marks: Vec<Mark>,
    /// The literal of each call `check::assert("id")`, and its line.
    pub(crate) asserts: Vec<(String, usize)>,
    /// The calls `check("id", function)` and `composed("id", function, …)`.
    proofs: Vec<Proof>,
    /// The mistakes that it plants.
    pub planted: Vec<Planted>,
}

/// An entry of a list of proofs.
#[derive(Clone, Debug)]
struct Proof {
    id: String,
    /// The function that measures: `backward`, or `model::z_loss`.
    run: Vec<String>,
    line: usize,
}

/// A mistake that a test plants, as a list of them has it:
/// `(ExtraR, "RMSNorm: extra factor r"), // wrong: rmsnorm-backward`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planted {
    /// The equations whose backward it breaks.
    pub ids: Vec<String>,
    /// The name of it in code.
    pub name: String,
    /// What is wrong, in words.
    pub words: String,
    /// The line of the list.
    pub line: usize,
}

/// An item of a file. Lines count from 1.
#[derive(Clone, Debug)]
pub struct Item {
    /// The path inside the file: `rmsnorm_backward`, `Moe::backward`,
    /// `tests::rows`, or `impl Layer for Moe` for the block itself.
    pub path: String,
    /// The first line, of doc comments and attributes.
    pub first: usize,
    /// The line of its name.
    pub line: usize,
    /// The last line.
    pub last: usize,
    /// The first of the comment lines directly before it.
    lead: usize,
    /// What matters about it for completeness.
    pub(crate) what: What,
    /// Stands under `#[cfg(test)]`.
    pub(crate) only_tests: bool,
}

/// What the completeness check asks of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A function or method with a body.
    Function,
    /// A function that measures another one: it returns a `Report`.
    Proof,
    /// A `#[test]` function; `plain` if neither ignored nor to panic.
    Test { plain: bool },
    /// An `impl Layer for X`, with the path of its `X::backward`.
    Layer { backward: String },
    /// Anything else.
    Other,
}

/// One id of a comment `// eq: id`, or `// eq: one-id, another-id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The id.
    pub id: String,
    /// The line, from 1.
    pub line: usize,
    /// The path of the innermost item around it.
    pub item: Option<String>,
}

/// Files as they were parsed last: one build of the book asks for them often,
/// and parsing takes most of its time.
static PARSED: Mutex<BTreeMap<String, Source>> = Mutex::new(BTreeMap::new());

impl Sources {
    /// Parses every file under `src/` and `tests/`, on all processors.
    pub fn load(root: &Path) -> Result<Sources, Error> {
        let mut names = files(root, "src", "rs")?;
        names.extend(files(root, "tests", "rs")?);
        let mut parsed = PARSED.lock().unwrap_or_else(|e| e.into_inner());
        let known = &*parsed;
        let load = |file: &String| {
            let text = read(root, file)?;
            match known.get(file) {
                Some(source) if source.text == text => Ok(source.clone()),
                _ => Source::parse(file, &text),
            }
        };
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let each = names.len().div_ceil(threads).max(1);
        let parts: Vec<Result<Vec<Source>, Error>> = thread::scope(|scope| {
            let part = |files: &[String]| files.iter().map(load).collect();
            let parts = names.chunks(each);
            let parts: Vec<_> =
                parts.map(|files| scope.spawn(move || part(files))).collect();
            let parts = parts.into_iter().map(|part| part.join());
            parts
                .map(|p| p.unwrap_or_else(|panic| resume_unwind(panic)))
                .collect()
        });
        let mut files = Vec::with_capacity(names.len());
        for part in parts {
            files.extend(part?);
        }
        for source in &files {
            parsed.insert(source.file.clone(), source.clone());
        }
        Ok(Sources { files })
    }

    /// The files under `src/`.
    pub(crate) fn src(&self) -> impl Iterator<Item = &Source> {
        self.files.iter().filter(|s| s.file.starts_with("src/"))
    }

    /// The item and its file, or what is missing and what comes nearest.
    pub fn find(&self, target: &Target) -> Result<(&Source, &Item), Error> {
        let Target { file, item: path } = target;
        let Some(source) = self.files.iter().find(|s| s.file == *file) else {
            let names = self.files.iter().map(|s| s.file.as_str());
            let near = hint(file, names, "name a file of src/ or tests/");
            return Err(Error(format!("there is no file {file}; {near}")));
        };
        let Some(item) = source.named(path).next() else {
            let names = source.items.iter().map(|i| i.path.as_str());
            let near = hint(path, names, "name an item of that file");
            return Err(Error(format!("{file} has no item `{path}`; {near}")));
        };
        Ok((source, item))
    }

    /// What measures the equation: `router::backward`, with file and line.
    /// A list of proofs in `src/check` names it.
    pub fn proof(&self, id: &str) -> Option<(String, &Source, usize)> {
        let lists = self.files.iter().filter(|s| s.file.starts_with(CHECKS));
        let mut all = lists.flat_map(|s| s.proofs.iter().map(move |p| (s, p)));
        let (list, proof) = all.find(|(_, p)| p.id == id)?;
        let (name, modules) = proof.run.split_last()?;
        let file = match modules {
            [] => list,
            [.., module] => {
                let file = format!("{CHECKS}{module}.rs");
                self.files.iter().find(|s| s.file == file)?
            }
        };
        let module = file.file[CHECKS.len()..].trim_end_matches(".rs");
        match file.named(name).next() {
            Some(item) => Some((format!("{module}::{name}"), file, item.line)),
            None => Some((format!("{module}::CHECKS"), list, proof.line)),
        }
    }

    /// The mistakes that are planted in this equation: words, file and line.
    pub fn planted(&self, id: &str) -> Vec<(&str, &Source, usize)> {
        let of = |p: &&Planted| p.ids.iter().any(|i| i == id);
        let all = self.files.iter().flat_map(|list| {
            list.planted.iter().filter(of).map(move |p| {
                let (source, line) =
                    self.where_planted(p).unwrap_or((list, p.line));
                (p.words.as_str(), source, line)
            })
        });
        all.collect()
    }

    /// The first line that asks for the mistake: `is(ExtraR)`.
    fn where_planted(&self, planted: &Planted) -> Option<(&Source, usize)> {
        let asks = format!("is({})", planted.name);
        let tests = self.files.iter().filter(|s| s.file.starts_with("tests/"));
        tests.into_iter().find_map(|s| {
            let at = s.text.lines().position(|l| l.contains(&asks))?;
            Some((s, at + 1))
        })
    }
}

/// Where the proofs are.
const CHECKS: &str = "src/check/";

impl Source {
    /// Parses the text of `file`.
    pub fn parse(file: &str, text: &str) -> Result<Source, Error> {
        let fail = |at: Span, fault: String| {
            let line = at.start().line;
            Error(format!("{file}:{line}: is not Rust: {fault}; correct it"))
        };
        let text = text.trim_start_matches('\u{feff}');
        let tokens: TokenStream =
            text.parse().map_err(|e: proc_macro2::LexError| {
                fail(e.span(), e.to_string())
            })?;
        let parsed: syn::File = syn::parse2(tokens.clone())
            .map_err(|e| fail(e.span(), e.to_string()))?;
        let mut walk = Walk {
            text,
            lines: text.lines().collect(),
            scope: Vec::new(),
            only_tests: false,
            items: Vec::new(),
            asserts: Vec::new(),
            proofs: Vec::new(),
        };
        walk.visit_file(&parsed);
        let Walk { items, asserts, proofs, .. } = walk;
        let marks = marks(text, tokens, &items);
        let planted = match file.starts_with("tests/") {
            true => text.lines().enumerate().filter_map(planted).collect(),
            false => Vec::new(),
        };
        let (file, text) = (file.to_string(), text.to_string());
        Ok(Source { file, text, items, marks, asserts, proofs, planted })
    }

    /// All items of this path: several where `cfg` picks one of them, or
    /// where two traits give a type methods of one name.
    pub fn named(&self, path: &str) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(move |i| i.path == path)
    }

    /// The lines of an item, doc comments and all, without its indentation.
    pub fn text_of(&self, item: &Item) -> String {
        let count = item.last + 1 - item.first;
        let lines = self.text.lines().skip(item.first - 1).take(count);
        let lines: Vec<&str> = lines.collect();
        let indent = lines.first().map_or(0, |first| {
            first.len() - first.trim_start_matches(' ').len()
        });
        let indent = " ".repeat(indent);
        let bare = lines.iter().map(|l| l.strip_prefix(&indent).unwrap_or(l));
        bare.collect::<Vec<_>>().join("\n")
    }

    /// The first mark of `id` in an item of this path.
    pub fn mark(&self, id: &str, path: &str) -> Option<&Mark> {
        self.all_marks(id, path).next()
    }

    /// The marks of `id` in items of this path.
    pub fn all_marks(
        &self, id: &str, path: &str,
    ) -> impl Iterator<Item = &Mark> {
        let inside = move |m: &Mark| self.named(path).any(|i| i.covers(m.line));
        self.marks.iter().filter(move |m| m.id == id && inside(m))
    }

    /// The literals that the calls of `check::assert` in an item name.
    pub(crate) fn asserts_in(&self, item: &Item) -> impl Iterator<Item = &str> {
        let lines = item.first..=item.last;
        let inside = self.asserts.iter();
        inside.filter(move |(_, l)| lines.contains(l)).map(|(id, _)| &**id)
    }
}

impl Item {
    /// Whether it is a function with a body, a method or a test.
    pub fn is_function(&self) -> bool {
        matches!(self.what, What::Function | What::Proof | What::Test { .. })
    }

    /// Whether it is a `#[test]`.
    pub fn is_test(&self) -> bool {
        matches!(self.what, What::Test { .. })
    }

    /// Whether the line is one of its own, or of the comment before it.
    pub(crate) fn covers(&self, line: usize) -> bool {
        (self.lead..=self.last).contains(&line)
    }
}

/// Walks over a file and collects its items.
struct Walk<'a> {
    text: &'a str,
    lines: Vec<&'a str>,
    /// The names of the modules, types and functions around.
    scope: Vec<String>,
    only_tests: bool,
    items: Vec<Item>,
    asserts: Vec<(String, usize)>,
    proofs: Vec<Proof>,
}

impl Walk<'_> {
    /// Records an item.
    fn item(
        &mut self, name: &str, at: Span, all: Span, attrs: &[Attribute],
        what: What,
    ) {
        let first = all.start().line;
        let above = self.lines.iter().take(first - 1).rev();
        let is_comment = |l: &&&str| l.trim_start().starts_with("//");
        self.items.push(Item {
            path: self.path(name),
            first,
            line: at.start().line,
            last: all.end().line,
            lead: first - above.take_while(is_comment).count(),
            what,
            only_tests: self.only_tests || attrs.iter().any(is_cfg_test),
        });
    }

    /// Walks on inside an item.
    fn inside(
        &mut self, name: String, attrs: &[Attribute],
        walk: impl FnOnce(&mut Self),
    ) {
        let outer = self.only_tests;
        self.only_tests |= attrs.iter().any(is_cfg_test);
        self.scope.push(name);
        walk(self);
        self.scope.pop();
        self.only_tests = outer;
    }

    /// The path of `name` where the walk stands.
    fn path(&self, name: &str) -> String {
        let scope = self.scope.iter().map(|s| format!("{s}::"));
        scope.collect::<String>() + name
    }

    /// `Moe` for `Moe`, `Moe<T>`, `nn::Moe` and `&Moe`; a type without a name
    /// is written as it stands, without blanks.
    fn type_name(&self, ty: &syn::Type) -> String {
        match ty {
            syn::Type::Path(p) => last(&p.path),
            syn::Type::Reference(r) => self.type_name(&r.elem),
            other => {
                let text = self.text.get(other.span().byte_range());
                text.unwrap_or("_").split_whitespace().collect()
            }
        }
    }
}

impl<'ast> Visit<'ast> for Walk<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        use syn::Item::*;
        let (ident, attrs, what) = match item {
            Fn(i) => (&i.sig.ident, &i.attrs, function(&i.attrs, &i.sig)),
            Const(i) => (&i.ident, &i.attrs, What::Other),
            Static(i) => (&i.ident, &i.attrs, What::Other),
            Struct(i) => (&i.ident, &i.attrs, What::Other),
            Enum(i) => (&i.ident, &i.attrs, What::Other),
            Trait(i) => (&i.ident, &i.attrs, What::Other),
            Type(i) => (&i.ident, &i.attrs, What::Other),
            Mod(i) => (&i.ident, &i.attrs, What::Other),
            _ => return visit::visit_item(self, item),
        };
        let name = ident.to_string();
        self.item(&name, ident.span(), item.span(), attrs, what);
        self.inside(name, attrs, |walk| visit::visit_item(walk, item));
    }

    fn visit_item_impl(&mut self, block: &'ast syn::ItemImpl) {
        let ty = self.type_name(&block.self_ty);
        let of = block.trait_.as_ref().map(|(_, path, _)| last(path));
        let (name, what) = match of.as_deref() {
            Some("Layer") => {
                let backward = self.path(&format!("{ty}::backward"));
                (format!("impl Layer for {ty}"), What::Layer { backward })
            }
            Some(of) => (format!("impl {of} for {ty}"), What::Other),
            None => (format!("impl {ty}"), What::Other),
        };
        let (at, attrs) = (block.impl_token.span, &block.attrs);
        self.item(&name, at, block.span(), attrs, what);
        self.inside(ty, attrs, |walk| visit::visit_item_impl(walk, block));
    }

    fn visit_impl_item_fn(&mut self, f: &'ast syn::ImplItemFn) {
        let (ident, attrs) = (&f.sig.ident, &f.attrs);
        let name = ident.to_string();
        let what = function(attrs, &f.sig);
        self.item(&name, ident.span(), f.span(), attrs, what);
        self.inside(name, attrs, |walk| visit::visit_impl_item_fn(walk, f));
    }

    fn visit_trait_item_fn(&mut self, f: &'ast syn::TraitItemFn) {
        let (ident, attrs) = (&f.sig.ident, &f.attrs);
        let name = ident.to_string();
        let what = match f.default {
            Some(_) => function(attrs, &f.sig),
            None => What::Other,
        };
        self.item(&name, ident.span(), f.span(), attrs, what);
        self.inside(name, attrs, |walk| visit::visit_trait_item_fn(walk, f));
    }

    fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
        if let syn::Expr::Path(f) = &*call.func
            && let mut names = f.path.segments.iter().rev()
            && names.next().is_some_and(|s| s.ident == "assert")
            && names.next().is_some_and(|s| s.ident == "check")
            && let Some(syn::Expr::Lit(id)) = call.args.first()
            && let syn::Lit::Str(id) = &id.lit
        {
            self.asserts.push((id.value(), id.span().start().line));
        }
        if let syn::Expr::Path(f) = &*call.func
            && ["check", "composed"].contains(&last(&f.path).as_str())
            && let Some(syn::Expr::Lit(id)) = call.args.first()
            && let syn::Lit::Str(id) = &id.lit
            && let Some(syn::Expr::Path(run)) = call.args.iter().nth(1)
        {
            let names = run.path.segments.iter().map(|s| s.ident.to_string());
            let (id, line) = (id.value(), id.span().start().line);
            self.proofs.push(Proof { id, run: names.collect(), line });
        }
        visit::visit_expr_call(self, call);
    }
}

/// The last name of a path.
fn last(path: &syn::Path) -> String {
    path.segments.last().map(|s| s.ident.to_string()).unwrap_or_default()
}

fn function(attrs: &[Attribute], signature: &syn::Signature) -> What {
    let has = |name: &str| attrs.iter().any(|a| a.path().is_ident(name));
    if has("test") {
        let plain = !has("ignore") && !has("should_panic");
        return What::Test { plain };
    }
    match &signature.output {
        syn::ReturnType::Type(_, ty) if is_report(ty) => What::Proof,
        _ => What::Function,
    }
}

/// A line of a list of mistakes.
fn planted((at, line): (usize, &str)) -> Option<Planted> {
    let (entry, ids) = line.split_once("// wrong: ")?;
    let (name, words) =
        entry.trim_start().strip_prefix('(')?.split_once(',')?;
    let words = words.split('"').nth(1)?;
    Some(Planted {
        ids: ids.split(',').map(|id| id.trim().to_string()).collect(),
        name: name.trim().to_string(),
        words: words.to_string(),
        line: at + 1,
    })
}

fn is_report(ty: &syn::Type) -> bool {
    matches!(ty, syn::Type::Path(p) if last(&p.path) == "Report")
}

fn is_cfg_test(attr: &Attribute) -> bool {
    let argument = attr.parse_args::<syn::Ident>();
    attr.path().is_ident("cfg") && argument.is_ok_and(|i| i == "test")
}

/// The marks of a file. Between two tokens stand only blanks and comments, so
/// what looks like a mark in a string or in a doc comment, a token, is none.
fn marks(text: &str, tokens: TokenStream, items: &[Item]) -> Vec<Mark> {
    let mut spans = Vec::new();
    flatten(tokens, &mut spans);
    spans.push(text.len()..text.len());
    let mut marks = Vec::new();
    let (mut at, mut line) = (0, 1);
    for span in spans {
        let gap = text.get(at..span.start).unwrap_or_default();
        for (line, comment) in (line..).zip(gap.split('\n')) {
            let ids = comment.trim_start().strip_prefix("// eq: ");
            for id in ids.iter().flat_map(|ids| ids.split(',')) {
                let around = items.iter().filter(|i| i.covers(line));
                let inner = around.min_by_key(|i| i.last - i.lead);
                let (id, item) = (id.trim(), inner.map(|i| i.path.clone()));
                marks.push(Mark { id: id.to_string(), line, item });
            }
        }
        let passed = text.get(at..span.end).unwrap_or_default();
        line += passed.matches('\n').count();
        at = at.max(span.end);
    }
    marks
}

/// Where each token stands, in bytes; a doc comment is a token.
fn flatten(tokens: TokenStream, spans: &mut Vec<Range<usize>>) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => {
                spans.push(group.span_open().byte_range());
                flatten(group.stream(), spans);
                spans.push(group.span_close().byte_range());
            }
            other => spans.push(other.span().byte_range()),
        }
    }
}
