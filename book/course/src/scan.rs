//! What a submission may not name: whatever could reach files, other crates,
//! the compiler's settings or the operating system. It is a second wall; the
//! first is that the submission is built without `std` and cannot be `unsafe`.

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

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
    "Location",
    "catch_unwind",
];
/// Crates that a path may begin with.
const CRATES: &[&str] = &["kit", "core", "crate", "self", "super", "Self"];

/// What is not allowed, a line each.
pub(crate) fn scan(name: &str, text: &str) -> Vec<String> {
    let file = match syn::parse_file(text) {
        Ok(file) => file,
        Err(e) => {
            let line = e.span().start().line;
            return vec![format!("{name}:{line}: {e}")];
        }
    };
    let mut scan = Scan { name, faults: vec![] };
    match text.parse::<TokenStream>() {
        Ok(tokens) => scan.words(tokens),
        Err(e) => scan.faults.push(format!("{name}: {e}")),
    }
    scan.visit_file(&file);
    let mut seen = vec![];
    scan.faults.retain(|f| {
        let new = !seen.contains(f);
        seen.push(f.clone());
        new
    });
    scan.faults
}

struct Scan<'a> {
    name: &'a str,
    faults: Vec<String>,
}
impl Scan<'_> {
    fn fault(&mut self, span: proc_macro2::Span, what: String) {
        let (name, line) = (self.name, span.start().line);
        self.faults.push(format!("{name}:{line}: {what} is not allowed"));
    }
    fn words(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Group(group) => self.words(group.stream()),
                TokenTree::Ident(ident) => {
                    let word = ident.to_string();
                    let bare = word.strip_prefix("r#").unwrap_or(&word);
                    if WORDS.contains(&bare) {
                        self.fault(ident.span(), format!("`{bare}`"));
                    }
                }
                _ => {}
            }
        }
    }
}
impl<'a> Visit<'a> for Scan<'_> {
    fn visit_attribute(&mut self, a: &'a syn::Attribute) {
        let path = a.path();
        let first = path.segments.first().map(|s| s.ident.to_string());
        let first = first.unwrap_or_default();
        if !ATTRIBUTES.contains(&&first[..]) {
            let span = syn::spanned::Spanned::span(path);
            self.fault(span, format!("the attribute `{first}`"));
        }
    }
    fn visit_macro(&mut self, m: &'a syn::Macro) {
        let mut path = m.path.segments.iter().map(|s| s.ident.to_string());
        // `vec!`, and `kit::vec!`
        let name = path.next_back().unwrap_or_default();
        let ours = path.all(|p| CRATES.contains(&&p[..]));
        if !ours || !MACROS.contains(&&name[..]) {
            let span = syn::spanned::Spanned::span(&m.path);
            self.fault(span, format!("the macro `{name}!`"));
        }
    }
    fn visit_item_mod(&mut self, m: &'a syn::ItemMod) {
        if m.content.is_none() {
            self.fault(m.ident.span(), format!("another file, `{}`,", m.ident));
        }
        visit::visit_item_mod(self, m);
    }
    fn visit_use_tree(&mut self, tree: &'a syn::UseTree) {
        // only the beginning of the path: its rest is looked at by `words`
        let first = match tree {
            syn::UseTree::Path(p) => &p.ident,
            syn::UseTree::Name(n) => &n.ident,
            syn::UseTree::Rename(r) => &r.ident,
            syn::UseTree::Group(g) => {
                return g.items.iter().for_each(|t| self.visit_use_tree(t));
            }
            syn::UseTree::Glob(_) => return,
        };
        if !CRATES.contains(&&first.to_string()[..]) {
            self.fault(first.span(), format!("`use {first}`"));
        }
    }
}
