//! Items, tests and `// eq: id` marks, found by parsing the sources.

use crate::error::{Error, files, hint, read};
use crate::registry::Target;
use proc_macro2::{Span, TokenStream, TokenTree};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Mutex;
use syn::Attribute;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

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
    /// Parses every file under `src/` and `tests/`.
    pub fn load(root: &Path) -> Result<Sources, Error> {
        let mut names = files(root, "src", "rs")?;
        names.extend(files(root, "tests", "rs")?);
        let mut parsed = PARSED.lock().unwrap_or_else(|e| e.into_inner());
        let mut files = Vec::with_capacity(names.len());
        for file in names {
            let text = read(root, &file)?;
            let source = match parsed.remove(&file) {
                Some(source) if source.text == text => source,
                _ => Source::parse(&file, &text)?,
            };
            parsed.insert(file, source.clone());
            files.push(source);
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
}

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
        };
        walk.visit_file(&parsed);
        let Walk { items, asserts, .. } = walk;
        let marks = marks(text, tokens, &items);
        let (file, text) = (file.to_string(), text.to_string());
        Ok(Source { file, text, items, marks, asserts })
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
        let inside = |m: &Mark| self.named(path).any(|i| i.covers(m.line));
        self.marks.iter().find(|m| m.id == id && inside(m))
    }

    /// The literals that the calls of `check::assert` in an item name.
    pub(crate) fn asserts_in(&self, item: &Item) -> impl Iterator<Item = &str> {
        let lines = item.first..=item.last;
        let inside = self.asserts.iter();
        inside.filter(move |(_, l)| lines.contains(l)).map(|(id, _)| &**id)
    }
}

impl Item {
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
