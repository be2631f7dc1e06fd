//! What a submission may not name: whatever could reach files, other crates,
//! the compiler's settings or the operating system. It is a second wall; the
//! first is that the submission is built without `std` and cannot be `unsafe`.

use proc_macro2::{Ident, TokenStream, TokenTree};
use std::collections::BTreeSet;
use syn::visit::Visit;

/// Macros that only stop or allocate.
const MACROS: &[&str] = &[
    "assert",
    "assert_eq",
    "assert_ne",
    "debug_assert",
    "debug_assert_eq",
    "debug_assert_ne",
    "matches",
    "panic",
    "todo",
    "unimplemented",
    "unreachable",
    "vec",
];
/// What a library makes public, by name.
pub(crate) fn exports(text: &str) -> syn::Result<Vec<String>> {
    struct Public(Vec<String>);
    impl<'a> Visit<'a> for Public {
        fn visit_use_name(&mut self, name: &'a syn::UseName) {
            self.0.push(name.ident.to_string());
        }
    }
    let mut public = Public(vec![]);
    for item in &syn::parse_file(text)?.items {
        match item {
            syn::Item::Use(u)
                if matches!(u.vis, syn::Visibility::Public(_)) =>
            {
                public.visit_use_tree(&u.tree);
            }
            syn::Item::Use(_) | syn::Item::ExternCrate(_) => {}
            syn::Item::Trait(t) => public.0.push(t.ident.to_string()),
            _ => public.0.push("something else".into()),
        }
    }
    Ok(public.0)
}

/// Attributes that change no meaning.
const ATTRIBUTES: &[&str] = &[
    "allow",
    "derive",
    "doc",
    "expect",
    "inline",
    "must_use",
    "track_caller",
    "rustfmt",
];
/// Words that may stand nowhere outside comments and literals, not even as the
/// name of something of one's own.
const WORDS: &[&str] = &[
    "unsafe",
    "extern",
    "std",
    "include",
    "include_str",
    "include_bytes",
    "env",
    "option_env",
    "arch",
    "asm",
    "global_asm",
    "naked_asm",
    "macro_rules",
    "macro",
    "type_name",
    "type_name_of_val",
    "type_id",
    "TypeId",
    "Any",
    "no_mangle",
    "export_name",
    "link_section",
    "global_allocator",
    "panic_handler",
    "submission",
    "moe_by_hand",
    "transmute",
    "dyn",
    "Location",
    "catch_unwind",
    "long_running_const_eval", // else the compiler stops by itself
];
/// Crates that a path may begin with.
const CRATES: &[&str] = &["kit", "core", "crate", "self", "super", "Self"];

/// Words after which `!` begins no macro: `if !(a)`.
const BEFORE_NOT: &[&str] =
    &["if", "while", "match", "return", "in", "break", "else"];

/// How much of a file's own text a message repeats.
const LONGEST: usize = 100;
/// How many faults of a file are told.
const MOST: usize = 20;

/// What is not allowed, a line each.
///
/// It looks at tokens and not at the tree that is parsed of them: what a macro
/// is given, and what the parser does not know, are in no tree.
pub(crate) fn scan(name: &str, text: &str) -> Vec<String> {
    // The compiler leaves such a line out. A comment that begins in it would hide
    // what follows from this scan, and from nobody else.
    let bare = text.strip_prefix('\u{feff}').unwrap_or(text);
    if bare.starts_with("#!") && !bare.starts_with("#![") {
        return vec![format!(
            "{name}:1: a first line that begins with `#!` is not allowed"
        )];
    }
    if let Err(e) = syn::parse_file(text) {
        let line = e.span().start().line;
        let said = match &e.to_string()[..] {
            "cannot parse string into token stream" => {
                "this is not Rust".into()
            }
            other => short(other),
        };
        return vec![format!("{name}:{line}: {said}")];
    }
    let mut scan = Scan { name, faults: vec![], seen: BTreeSet::new() };
    match text.parse::<TokenStream>() {
        Ok(tokens) => scan.tokens(tokens),
        Err(e) => scan.faults.push(format!("{name}: {e}")),
    }
    let more = scan.faults.len().saturating_sub(MOST);
    scan.faults.truncate(MOST);
    if more > 0 {
        scan.faults.push(format!("{name}: and {more} more"));
    }
    scan.faults
}
/// The beginning of a text, on one line: a file may not write lines of a report.
fn short(text: &str) -> String {
    let long = text.chars().nth(LONGEST).is_some();
    let text = text.chars().take(LONGEST);
    let text = text.map(|c| if c.is_control() { ' ' } else { c });
    text.collect::<String>() + if long { "…" } else { "" }
}

struct Scan<'a> {
    name: &'a str,
    faults: Vec<String>,
    seen: BTreeSet<String>,
}
impl Scan<'_> {
    fn fault(&mut self, span: proc_macro2::Span, what: &str) {
        let (name, line) = (self.name, span.start().line);
        let fault = format!("{name}:{line}: {what} is not allowed");
        if self.seen.insert(fault.clone()) {
            self.faults.push(fault);
        }
    }
    fn tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        for (i, token) in tokens.iter().enumerate() {
            let rest = &tokens[i + 1..];
            match token {
                TokenTree::Group(group) => self.tokens(group.stream()),
                TokenTree::Ident(ident) => self.word(ident, rest),
                TokenTree::Punct(p) if p.as_char() == '#' => {
                    self.attribute(rest);
                }
                TokenTree::Punct(p) if p.as_char() == '\'' => {
                    let before = i.checked_sub(1).map(|i| &tokens[i]);
                    let left = before.is_some_and(|t| {
                        matches!(&t.to_string()[..], "break" | "continue")
                    });
                    if !left {
                        self.lifetime(rest);
                    }
                }
                _ => {}
            }
        }
    }
    fn word(&mut self, ident: &Ident, rest: &[TokenTree]) {
        let word = ident.to_string();
        let word = word.strip_prefix("r#").unwrap_or(&word);
        let span = ident.span();
        if WORDS.contains(&word) {
            self.fault(span, &format!("`{word}`"));
        }
        match rest {
            [TokenTree::Ident(module), TokenTree::Punct(p), ..]
                if word == "mod" && p.as_char() == ';' =>
            {
                let module = short(&module.to_string());
                self.fault(span, &format!("another file, `{module}`,"));
            }
            [TokenTree::Punct(p), TokenTree::Group(_), ..]
                if p.as_char() == '!'
                    && !MACROS.contains(&word)
                    && !BEFORE_NOT.contains(&word) =>
            {
                self.fault(span, &format!("the macro `{}!`", short(word)));
            }
            _ if word == "use" => {
                let end = |t: &&TokenTree| !is(t, ';');
                let path: Vec<_> = rest.iter().take_while(end).collect();
                self.path(&path);
            }
            _ => {}
        }
    }
    /// The beginning of what is used; its rest is looked at word by word.
    fn path(&mut self, path: &[&TokenTree]) {
        match path.iter().find(|t| !is(t, ':')) {
            Some(TokenTree::Ident(first))
                if !CRATES.contains(&&first.to_string()[..]) =>
            {
                let word = short(&first.to_string());
                self.fault(first.span(), &format!("`use {word}`"));
            }
            Some(TokenTree::Group(group)) => {
                let all: Vec<_> = group.stream().into_iter().collect();
                for one in all.split(|t| is(t, ',')) {
                    self.path(&one.iter().collect::<Vec<_>>());
                }
            }
            _ => {}
        }
    }
    fn attribute(&mut self, rest: &[TokenTree]) {
        let group = match rest {
            [TokenTree::Group(g), ..] => g,
            [not, TokenTree::Group(g), ..] if is(not, '!') => g,
            _ => return,
        };
        let first = group.stream().into_iter().next();
        let first = first.map(|t| t.to_string()).unwrap_or_default();
        if !ATTRIBUTES.contains(&&first[..]) {
            let first = short(&first);
            self.fault(group.span(), &format!("the attribute `{first}`"));
        }
    }
    /// A lifetime, or the label of a loop. Known holes of the compiler turn any
    /// type into any other without `unsafe`. They take lifetimes with names, or
    /// `dyn`, and nobody needs these here.
    fn lifetime(&mut self, rest: &[TokenTree]) {
        let [TokenTree::Ident(name), rest @ ..] = rest else { return };
        let label = match rest {
            [colon, TokenTree::Ident(word), ..] if is(colon, ':') => {
                ["loop", "while", "for"].contains(&&word.to_string()[..])
            }
            [colon, TokenTree::Group(_), ..] => is(colon, ':'),
            _ => false,
        };
        if !label && name != "_" {
            let word = short(&name.to_string());
            self.fault(name.span(), &format!("the lifetime `'{word}`"));
        }
    }
}
/// Whether it is this sign.
fn is(token: &TokenTree, sign: char) -> bool {
    matches!(token, TokenTree::Punct(p) if p.as_char() == sign)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_the_compiler_skips_is_not_allowed() {
        // to the compiler a module, to this scan a comment
        let hidden = "#!x /*\n#[path = \"a\"] mod a;\n// */\nfn f() {}\n";
        for text in [hidden.to_string(), format!("\u{feff}{hidden}")] {
            let said = scan("a.rs", &text);
            assert_eq!(said.len(), 1, "{said:?}");
            assert!(said[0].contains("`#!`"), "{said:?}");
        }
        assert!(scan("a.rs", "#![allow(unused)]\nfn f() {}\n").is_empty());
    }

    /// Without the scan, it takes a minute until the compiler is ended.
    #[test]
    fn a_constant_that_never_ends_is_not_compiled() {
        let text = "#[allow(long_running_const_eval)] const X: () = loop {};";
        let said = scan("a.rs", text);
        assert_eq!(said.len(), 1, "{said:?}");
    }

    #[test]
    fn a_file_writes_no_lines_of_a_report() {
        let long = "a".repeat(10_000);
        let text = format!("fn f() {{ {long}!(); assert!(#[\"x\ny\"] a); }}");
        let said = scan("a.rs", &text);
        assert_eq!(said.len(), 2, "{said:?}");
        for line in said {
            assert!(line.starts_with("a.rs:"), "{line}");
            assert!(line.chars().count() < 200 && !line.contains('\n'));
        }
        let many: String = (0..1000).map(|i| format!("m{i}!{{}}")).collect();
        let said = scan("a.rs", &many);
        assert_eq!(said.len(), MOST + 1);
        assert_eq!(said[MOST], "a.rs: and 980 more");
    }
}
