//! Whatever in registry, sources, tests and book does not fit together.
//!
//! One mistake gives one message: what only follows from a fault that is
//! reported anyway (a misspelt id, a `code` that names nothing) is left out.

use crate::book::{Directive, Verb, directives, unlisted};
use crate::error::{Error, hint, nearest};
use crate::registry::{Equation, Kind, Registry, Target};
use crate::source::{Mark, Source, Sources, What};
use std::fmt;
use std::path::Path;

/// Something that does not fit: one line that says what, its value, the rule
/// and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The line, beginning with the file it is about.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Checks completeness in every direction (rung T9): entries against code and
/// tests, code and tests against entries, and both against the book, from the
/// moment it has a `SUMMARY.md`. Empty if all is well; else every problem, in
/// the order of `equations.toml`, then of the files.
pub fn problems(root: &Path) -> Vec<Problem> {
    check(root).unwrap_or_else(|Error(message)| vec![Problem { message }])
}

fn check(root: &Path) -> Result<Vec<Problem>, Error> {
    let registry = &Registry::load(root)?;
    let sources = &Sources::load(root)?;
    let directives = &directives(root)?;
    let (found, causes) = (Vec::new(), Vec::new());
    let mut check = Check { registry, sources, found, causes };
    for equation in &registry.equations {
        check.contents(equation);
        check.items(equation);
        check.tests(equation);
        check.backward(equation);
        check.mistakes(equation);
    }
    for source in sources.src() {
        check.marks(source);
        check.orphans(source);
    }
    for source in &sources.files {
        check.asserts(source);
    }
    if let Some(directives) = directives {
        check.book(directives);
    }
    for file in unlisted(root)? {
        check.say(format!("{file}: is not in SUMMARY.md; list it there"));
    }
    Ok(check.found)
}

struct Check<'a> {
    registry: &'a Registry,
    sources: &'a Sources,
    found: Vec<Problem>,
    /// What is missing, and which problem says so.
    causes: Vec<(String, usize)>,
}

impl Check<'_> {
    fn say(&mut self, message: String) {
        self.found.push(Problem { message });
    }

    /// A problem at `place`: `what` names something that is missing, says
    /// `cause`. A thing missing in many places is said once, with all of them.
    fn missing(&mut self, place: &str, what: &str, cause: String) {
        match self.causes.iter().find(|(c, _)| *c == cause) {
            Some((_, at)) => {
                let message = &mut self.found[*at].message;
                let also =
                    if message.contains("; also ") { "," } else { "; also" };
                *message += &format!("{also} {place}");
            }
            None => {
                self.say(format!("{place}{what}: {cause}"));
                self.causes.push((cause, self.found.len() - 1));
            }
        }
    }

    /// A problem of an entry.
    fn entry(&mut self, equation: &Equation, what: &str) {
        self.say(format!("equations.toml: [{}] {what}", equation.id));
    }

    /// Each entry has what its kind needs.
    fn contents(&mut self, e: &Equation) {
        let kind = e.kind;
        if e.name.trim().is_empty() {
            self.entry(e, "name is empty; say what readers call it");
        }
        if e.tex.trim().is_empty() {
            self.entry(e, "tex is empty; write the formula");
        }
        if e.code.is_none() && needs_code(kind) {
            let rule = format!(
                "of kind {kind} has no code; add \
                 code = \"src/file.rs::item\", the item that computes it"
            );
            self.entry(e, &rule);
        }
        if e.tests.is_empty() && kind != Kind::Definition {
            let rule = format!(
                "of kind {kind} has no tests; add \
                 tests = [\"tests/file.rs::test\"], the tests that prove it"
            );
            self.entry(e, &rule);
        }
    }

    /// `code` and `fast` name items, and these carry the mark.
    fn items(&mut self, e: &Equation) {
        for (key, target) in e.items() {
            match self.code(target) {
                Err(Error(fault)) => {
                    let place = format!("equations.toml: [{}]", e.id);
                    self.missing(&place, &format!(" {key}"), fault);
                }
                Ok(source) if source.mark(&e.id, &target.item).is_none() => {
                    if !self.mark_is_elsewhere(e, source, target) {
                        let rule = format!(
                            "{key}: {target} lacks its mark; write \
                             `// eq: {}` where it computes the equation",
                            e.id
                        );
                        self.entry(e, &rule);
                    }
                }
                Ok(_) => {}
            }
        }
    }

    /// The file of an item that `code` or `fast` names.
    fn code(&self, target: &Target) -> Result<&Source, Error> {
        let (source, _) = self.sources.find(target)?;
        match source.file.starts_with("src/") {
            true => Ok(source),
            false => Err(Error(format!(
                "{target} is not under src/, where code and its mark stand; \
                 name an item there"
            ))),
        }
    }

    /// Whether `marks` will report a mark of this equation in another item,
    /// or a misspelt one in this item.
    fn mark_is_elsewhere(
        &self, e: &Equation, source: &Source, target: &Target,
    ) -> bool {
        let strays = self
            .sources
            .src()
            .any(|s| s.marks.iter().any(|m| m.id == e.id && !bound(e, s, m)));
        let here = |m: &&Mark| source.mark(&m.id, &target.item).is_some();
        let mut marks = source.marks.iter().filter(here);
        strays || marks.any(|m| self.meant(&m.id, e))
    }

    /// Whether `word` is no id, but nearest to the id of `e`.
    fn meant(&self, word: &str, e: &Equation) -> bool {
        self.registry.get(word).is_none()
            && nearest(word, self.registry.ids()) == Some(&e.id)
    }

    /// "equations.toml has no [id]; nearest is …".
    fn unknown(&self, id: &str) -> String {
        if id.is_empty() {
            return "names no equation; write its id".to_string();
        }
        let otherwise = format!("add [{id}], or remove this");
        let near = hint(id, self.registry.ids(), &otherwise);
        format!("equations.toml has no [{id}]; {near}")
    }

    /// Each test exists, is run, and asserts this equation's check.
    fn tests(&mut self, e: &Equation) {
        for target in &e.tests {
            let (source, item) = match self.sources.find(target) {
                Ok(found) => found,
                Err(Error(fault)) => {
                    let place = format!("equations.toml: [{}]", e.id);
                    self.missing(&place, " tests", fault);
                    continue;
                }
            };
            let mut calls = source.asserts_in(item);
            let fault = match item.what {
                What::Test { plain: true } => {
                    if calls.any(|id| id == e.id || self.meant(id, e)) {
                        continue;
                    }
                    format!(
                        "does not call check::assert(\"{0}\"); a test named \
                         here calls it, in its own body and with the literal \
                         id: add the call, or remove the test from [{0}]",
                        e.id
                    )
                }
                What::Test { plain: false } => {
                    "is #[ignore] or #[should_panic] and so proves nothing; \
                     remove that attribute"
                        .to_string()
                }
                _ => "is not a #[test] function; name one, or add #[test]"
                    .to_string(),
            };
            self.entry(e, &format!("tests: {target} {fault}"));
        }
    }

    /// Forwards and backwards come in pairs.
    fn backward(&mut self, e: &Equation) {
        let rule = match (e.kind, &e.backward, &e.no_backward) {
            (Kind::Forward, None, None) => {
                "of kind forward names no backward; add backward = \"id\", or \
                 no_backward = \"why there is none\""
                    .to_string()
            }
            (Kind::Forward, Some(_), Some(_)) => {
                "has both backward and no_backward; remove one".to_string()
            }
            (Kind::Forward, None, Some(reason)) if reason.trim().is_empty() => {
                "no_backward is empty; say why there is none".to_string()
            }
            (Kind::Forward, None, Some(_)) => return,
            (Kind::Forward, Some(id), None) => match self.registry.get(id) {
                Some(other) if other.kind == Kind::Backward => return,
                Some(other) => format!(
                    "backward = \"{id}\", but [{id}] is of kind {}; name an \
                     equation of kind backward",
                    other.kind
                ),
                None => {
                    let place = format!("equations.toml: [{}]", e.id);
                    let what = format!(" backward = \"{id}\"");
                    return self.missing(&place, &what, self.unknown(id));
                }
            },
            (Kind::Backward, None, None) if !self.is_named(e) => {
                "of kind backward is named by no forward; add \
                 backward = \"ID\" to its forward"
                    .replace("ID", &e.id)
            }
            (_, None, None) => return,
            (kind, _, _) => format!(
                "of kind {kind} has a key backward or no_backward; only a \
                 forward has one: remove it"
            ),
        };
        self.entry(e, &rule);
    }

    /// Whether a forward names this backward, if only misspelt, or another
    /// one that the same item computes. A layer's own backward needs no name:
    /// the trait pairs it with its forward.
    fn is_named(&self, e: &Equation) -> bool {
        let layer = |t: &Target| t.item.ends_with("::backward");
        let forwards = self.registry.equations.iter();
        let mut named = forwards
            .filter(|f| f.kind == Kind::Forward)
            .filter_map(|f| f.backward.as_ref());
        e.code.as_ref().is_some_and(layer)
            || named.any(|id| {
                let same = self.registry.equations.iter();
                let mut same = same.filter(|o| o.code == e.code);
                same.any(|o| *id == o.id || self.meant(id, o))
            })
    }

    /// Each backward has a mistake that a test plants in it, so that the test
    /// is known to fail.
    fn mistakes(&mut self, e: &Equation) {
        if e.kind != Kind::Backward && !e.id.contains("-backward") {
            return;
        }
        let lists = self.sources.files.iter().flat_map(|s| &s.planted);
        let mut ids = lists.flat_map(|p| &p.ids);
        if !ids.any(|id| *id == e.id || self.meant(id, e)) {
            let rule = format!(
                "has no planted mistake; add one to a list in tests/wrong, \
                 with `// wrong: {}`, and see it caught",
                e.id
            );
            self.entry(e, &rule);
        }
    }

    /// Each mark is an entry's, in the item that the entry names.
    fn marks(&mut self, source: &Source) {
        for mark in &source.marks {
            let Mark { id, line, item } = mark;
            let place = format!("{}:{line}", source.file);
            let what = format!(": `// eq: {id}`");
            let fault = match self.registry.get(id) {
                None => {
                    self.missing(&place, &what, self.unknown(id));
                    continue;
                }
                Some(e) if self.is_broken(e) || bound(e, source, mark) => {
                    continue;
                }
                Some(e) => {
                    let here = item.as_deref().unwrap_or("no item");
                    let items = e.items().map(|(k, t)| format!("{k} = {t}"));
                    let named = match items.collect::<Vec<_>>().join(", ") {
                        none if none.is_empty() => "no code".to_string(),
                        items => items,
                    };
                    format!(
                        "stands in {here}, but equations.toml: [{id}] has \
                         {named}; move the mark, or correct the entry"
                    )
                }
            };
            self.say(format!("{place}{what}: {fault}"));
        }
    }

    /// Whether `contents` or `items` has said that this entry's code is
    /// missing, so that its marks cannot be judged.
    fn is_broken(&self, e: &Equation) -> bool {
        e.code.is_none() && needs_code(e.kind)
            || e.items().any(|(_, target)| self.code(target).is_err())
    }

    /// Each backward in the code is an equation's.
    fn orphans(&mut self, source: &Source) {
        for item in source.items.iter().filter(|i| !i.only_tests) {
            // Only a function may also be a fast twin.
            let (path, twins) = match &item.what {
                What::Layer { backward } => (backward, false),
                What::Function if item.path.ends_with("_backward") => {
                    (&item.path, true)
                }
                _ => continue,
            };
            let backwards = self.registry.equations.iter();
            let mut backwards = backwards.filter(|e| e.kind == Kind::Backward);
            let claimed = backwards.any(|e| {
                let mut items =
                    e.items().filter(|(k, _)| *k == "code" || twins);
                items.any(|(_, t)| t.file == source.file && t.item == *path)
                    || self.is_broken(e) && source.mark(&e.id, path).is_some()
            });
            if !claimed {
                self.say(format!(
                    "{0}:{1}: `{2}` is bound to no equation, and every \
                     backward is to be proven; add to equations.toml an entry \
                     of kind backward with code = \"{0}::{path}\"",
                    source.file, item.line, item.path
                ));
            }
        }
    }

    /// Each `check::assert("id")` names an equation, and so does each planted
    /// mistake.
    fn asserts(&mut self, source: &Source) {
        for planted in &source.planted {
            for id in &planted.ids {
                if self.registry.get(id).is_none() {
                    let place = format!("{}:{}", source.file, planted.line);
                    self.missing(&place, ": wrong", self.unknown(id));
                }
            }
        }
        for (id, line) in &source.asserts {
            if self.registry.get(id).is_none() {
                let place = format!("{}:{line}", source.file);
                self.missing(&place, ": check::assert", self.unknown(id));
            }
        }
    }

    /// Each equation is shown once, and nothing else is.
    fn book(&mut self, directives: &[Directive]) {
        let mut shown: Vec<&Directive> = Vec::new();
        for directive in directives {
            let Directive { verb, id, file, line } = directive;
            let before = shown.iter().find(|d| d.id == *id);
            let place = format!("{file}:{line}");
            let what = format!(": {{{{#{verb} {id}}}}}");
            if *verb == Verb::Code {
                let item = id.parse::<Target>();
                let found = item.and_then(|t| self.sources.find(&t).map(drop));
                if let Err(e) = found {
                    self.missing(&place, &what, e.to_string());
                }
                continue;
            }
            match (self.registry.get(id), verb, before) {
                (None, _, _) => {
                    self.missing(&place, &what, self.unknown(id));
                }
                (Some(_), Verb::Eq, Some(first)) => self.say(format!(
                    "{place}{what}: is already shown at {}:{}; an equation is \
                     shown once: cite it with {{{{#ref {id}}}}}",
                    first.file, first.line
                )),
                _ => {}
            }
            if *verb == Verb::Eq {
                shown.push(directive);
            }
        }
        for e in &self.registry.equations {
            if !shown.iter().any(|d| d.id == e.id || self.meant(&d.id, e)) {
                let rule = format!(
                    "is shown in no chapter; write {{{{#eq {}}}}} in one",
                    e.id
                );
                self.entry(e, &rule);
            }
        }
    }
}

fn needs_code(kind: Kind) -> bool {
    matches!(kind, Kind::Forward | Kind::Backward)
}

/// Whether the mark stands in an item that the entry names.
fn bound(e: &Equation, source: &Source, mark: &Mark) -> bool {
    e.items().any(|(_, t)| {
        t.file == source.file
            && source.named(&t.item).any(|i| i.covers(mark.line))
    })
}
