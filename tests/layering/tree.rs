//! Chapter: model. A crate as its `mod` lines lay it out: the files in their
//! order, the names that each module has, and every path that is mentioned.

use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// What a file's name leads to: its text, if there is such a file.
pub(crate) type Read<'a> = &'a dyn Fn(&str) -> Option<String>;

/// One file of a crate.
pub(crate) struct File {
    /// Relative to the top, with `/` between its parts.
    pub(crate) name: String,
    pub(crate) text: String,
    /// The file with its `mod` line, and the name there; none for the root.
    pub(crate) parent: Option<(usize, String)>,
    /// Has nothing but `mod` and `use`.
    pub(crate) is_list: bool,
}

/// A module: a file, or an inline part of one.
pub(crate) struct Module {
    pub(crate) file: usize,
    pub(crate) parent: Option<usize>,
    /// What each name in it stands for; a name may stand for several things.
    pub(crate) names: Vec<(String, Name)>,
    /// The paths of `use path::*`.
    pub(crate) globs: Vec<Vec<String>>,
}
/// What a name in a module stands for.
pub(crate) enum Name {
    Module(usize),
    /// Something that this file defines.
    Item(usize),
    /// The same, by `macro_rules!`: the modules inside see it, too.
    Macro(usize),
    /// Something that `use` brings in.
    Use(Vec<String>),
}

/// A path as it stands in a module.
pub(crate) struct Mention {
    pub(crate) module: usize,
    pub(crate) path: Vec<String>,
    pub(crate) line: usize,
    pub(crate) how: How,
}
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// By `use`.
    Import,
    /// In an expression, a type, a pattern, a bound, or within a macro.
    Path,
    /// As the name of a macro that is called.
    Call,
}

/// A crate, read from its root file.
#[derive(Default)]
pub(crate) struct Crate {
    pub(crate) files: Vec<File>,
    /// The files from the bottom up: children in the order of their `mod`
    /// lines, their parent's own code after them.
    pub(crate) order: Vec<usize>,
    pub(crate) modules: Vec<Module>,
    pub(crate) mentions: Vec<Mention>,
}

impl Crate {
    /// Reads a root file and all that its `mod` lines lead to.
    ///
    /// # Panics
    /// If a file is not there, or is not Rust.
    pub(crate) fn read(root: &str, read: Read) -> Crate {
        let mut all = Crate::default();
        let folder = folder_of(root).to_string();
        load(&mut all, read, root, folder, None);
        all
    }
}

/// Reads one file, whose children lie in `folder`; returns its module.
fn load(
    all: &mut Crate, read: Read, name: &str, folder: String,
    parent: Option<(usize, String)>,
) -> usize {
    let text = read(name).unwrap_or_else(|| panic!("{name} is not there"));
    let parsed = syn::parse_file(&text).unwrap_or_else(|e| {
        let line = e.span().start().line;
        panic!("{name}:{line}: is not Rust: {e}");
    });
    let is_listed =
        |i: &syn::Item| matches!(i, syn::Item::Mod(_) | syn::Item::Use(_));
    let is_list = parsed.items.iter().all(is_listed);
    let (file, module) = (all.files.len(), all.modules.len());
    let above = parent.as_ref().map(|(module, _)| *module);
    let parent = parent.map(|(m, name)| (all.modules[m].file, name));
    all.files.push(File { name: name.into(), text, parent, is_list });
    all.modules.push(Module::new(file, above));
    Walk { all, read, module, folder }.visit_file(&parsed);
    all.order.push(file);
    module
}

impl Module {
    fn new(file: usize, parent: Option<usize>) -> Module {
        Module { file, parent, names: vec![], globs: vec![] }
    }
}

/// Walks over a file.
struct Walk<'a> {
    all: &'a mut Crate,
    read: Read<'a>,
    /// The module where the walk stands, and the folder of its children.
    module: usize,
    folder: String,
}

impl Walk<'_> {
    fn file(&self) -> usize {
        self.all.modules[self.module].file
    }
    fn name(&mut self, name: &impl ToString, what: Name) {
        self.all.modules[self.module].names.push((name.to_string(), what));
    }
    fn mention(&mut self, path: Vec<String>, line: usize, how: How) {
        let module = self.module;
        self.all.mentions.push(Mention { module, path, line, how });
    }

    /// `mod name { … }`, or `mod name;` with a file of its own.
    fn child(&mut self, m: &syn::ItemMod) {
        let (name, inner) = (m.ident.to_string(), format!("/{}", m.ident));
        let child = if let Some((_, items)) = &m.content {
            let child = self.all.modules.len();
            let inline = Module::new(self.file(), Some(self.module));
            self.all.modules.push(inline);
            let folder = self.folder.clone() + &inner;
            let (module, read) = (child, self.read);
            let mut walk = Walk { all: self.all, read, module, folder };
            items.iter().for_each(|item| walk.visit_item(item));
            child
        } else {
            let mine = &self.all.files[self.file()].name;
            let plain = format!("{}{inner}.rs", self.folder);
            let (file, folder) = match path_of(&m.attrs) {
                Some(path) => {
                    let file = join(folder_of(mine), &path);
                    let folder = folder_of(&file).to_string();
                    (file, folder)
                }
                None if (self.read)(&plain).is_some() => {
                    (plain, self.folder.clone() + &inner)
                }
                None => {
                    let folder = self.folder.clone() + &inner;
                    (format!("{folder}/mod.rs"), folder)
                }
            };
            let parent = Some((self.module, name.clone()));
            load(self.all, self.read, &file, folder, parent)
        };
        self.name(&name, Name::Module(child));
    }

    /// Every name that a use tree brings in.
    fn import(&mut self, tree: &syn::UseTree, mut path: Vec<String>) {
        let line = tree.span().start().line;
        match tree {
            syn::UseTree::Path(p) => {
                path.push(p.ident.to_string());
                self.import(&p.tree, path);
            }
            syn::UseTree::Group(g) => {
                g.items.iter().for_each(|t| self.import(t, path.clone()));
            }
            syn::UseTree::Glob(_) => {
                self.mention(path.clone(), line, How::Import);
                self.all.modules[self.module].globs.push(path);
            }
            syn::UseTree::Name(n) => self.leaf(&n.ident, None, path, line),
            syn::UseTree::Rename(r) => {
                self.leaf(&r.ident, Some(&r.rename), path, line);
            }
        }
    }
    fn leaf(
        &mut self, ident: &syn::Ident, rename: Option<&syn::Ident>,
        mut path: Vec<String>, line: usize,
    ) {
        if ident != "self" {
            path.push(ident.to_string());
        }
        let last = path.last().cloned().unwrap_or_default();
        let name = rename.map_or(last, |r| r.to_string());
        self.mention(path.clone(), line, How::Import);
        self.name(&name, Name::Use(path));
    }

    /// The paths among the tokens of a macro, each begun by `prefix`.
    fn tokens(&mut self, tokens: TokenStream, prefix: &[String]) {
        let all: Vec<TokenTree> = tokens.into_iter().collect();
        let is = |at: usize, c: char| match all.get(at) {
            Some(TokenTree::Punct(p)) => p.as_char() == c,
            _ => false,
        };
        let is_path_end = |at: usize| is(at, ':') && is(at + 1, ':');
        let mut at = 0;
        while at < all.len() {
            let start = at;
            at += 1;
            let first = match &all[start] {
                TokenTree::Group(g) => {
                    self.tokens(g.stream(), prefix);
                    continue;
                }
                TokenTree::Ident(first) => first,
                _ => continue,
            };
            let line = first.span().start().line;
            let mut path = prefix.to_vec();
            path.push(first.to_string());
            let mut group = None;
            while is_path_end(at) {
                match all.get(at + 2) {
                    Some(TokenTree::Ident(next)) => {
                        path.push(next.to_string());
                        at += 3;
                    }
                    Some(TokenTree::Group(g)) => {
                        group = Some(g.stream());
                        at += 3;
                        break;
                    }
                    _ => break,
                }
            }
            // `x.field`, `'lifetime`, `$variable` and `<T>::name` are no
            // paths, `a..b` and `$crate::name` are.
            let before = |c| start > 0 && is(start - 1, c);
            let range = start > 1 && before('.') && is(start - 2, '.');
            let inside = before('.') && !range
                || before('\'')
                || before('$') && first != "crate"
                || before(':') && start > 1 && is(start - 2, ':');
            match group {
                _ if inside => {}
                Some(group) => self.tokens(group, &path),
                None => self.mention(path, line, How::Path),
            }
        }
    }
}

impl<'ast> Visit<'ast> for Walk<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        use syn::Item::*;
        let ident = match item {
            Mod(m) => return self.child(m),
            Use(u) if u.leading_colon.is_some() => return,
            Use(u) => return self.import(&u.tree, vec![]),
            Macro(m) => {
                if let Some(name) = &m.ident {
                    let (file, root) = (self.file(), &mut self.all.modules[0]);
                    if m.attrs.iter().any(|a| a.path().is_ident("macro_export"))
                    {
                        let name = (name.to_string(), Name::Item(file));
                        root.names.push(name);
                    }
                    self.name(name, Name::Macro(file));
                }
                None
            }
            Const(i) => Some(&i.ident),
            Enum(i) => Some(&i.ident),
            Fn(i) => Some(&i.sig.ident),
            Static(i) => Some(&i.ident),
            Struct(i) => Some(&i.ident),
            Trait(i) => Some(&i.ident),
            TraitAlias(i) => Some(&i.ident),
            Type(i) => Some(&i.ident),
            Union(i) => Some(&i.ident),
            _ => None,
        };
        if let Some(ident) = ident {
            self.name(ident, Name::Item(self.file()));
        }
        visit::visit_item(self, item);
    }
    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() {
            let names = path.segments.iter().map(|s| s.ident.to_string());
            let line = path.span().start().line;
            self.mention(names.collect(), line, How::Path);
        }
        visit::visit_path(self, path);
    }
    fn visit_macro(&mut self, m: &'ast syn::Macro) {
        let names = m.path.segments.iter().map(|s| s.ident.to_string());
        let line = m.path.span().start().line;
        self.mention(names.collect(), line, How::Call);
        self.tokens(m.tokens.clone(), &[]);
    }
    fn visit_attribute(&mut self, a: &'ast syn::Attribute) {
        match &a.meta {
            // A link in a doc may point up.
            syn::Meta::NameValue(m) if !m.path.is_ident("doc") => {
                self.visit_expr(&m.value);
            }
            syn::Meta::List(m) if !m.path.is_ident("cfg") => {
                self.tokens(m.tokens.clone(), &[]);
            }
            _ => {}
        }
    }
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {
        // `pub(in crate::nn)` uses nothing.
    }
}

/// The `x` of `#[path = "x"]`.
fn path_of(attrs: &[syn::Attribute]) -> Option<String> {
    let path = attrs.iter().find(|a| a.path().is_ident("path"))?;
    let syn::Meta::NameValue(m) = &path.meta else { return None };
    let syn::Expr::Lit(value) = &m.value else { return None };
    let syn::Lit::Str(value) = &value.lit else { return None };
    Some(value.value())
}
fn folder_of(file: &str) -> &str {
    file.rsplit_once('/').map_or("", |(folder, _)| folder)
}
/// A path relative to a folder, without `..`.
fn join(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').collect();
    for part in path.split('/') {
        match part {
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}
