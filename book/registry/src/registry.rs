//! The entries of `equations.toml`.

use crate::error::{Error, read};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use toml::Spanned;

/// All equations, in the order of the file.
#[derive(Clone, Debug)]
pub struct Registry {
    /// The entries, in the order of the file.
    pub equations: Vec<Equation>,
}

/// One equation: what it says, where it is computed, what proves it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table `[id]`")]
pub struct Equation {
    /// The name of its table, unique: `rmsnorm-backward`.
    #[serde(skip)]
    pub id: String,
    /// What readers call it.
    pub name: String,
    /// What it must be bound to.
    pub kind: Kind,
    /// The formula, in `KaTeX`.
    pub tex: String,
    /// The item that computes it.
    pub code: Option<Target>,
    /// Why no item computes it.
    pub no_code: Option<String>,
    /// A faster item, equal to `code`.
    pub fast: Option<Target>,
    /// The tests that prove it.
    #[serde(default)]
    pub tests: Vec<Target>,
    /// On a forward: the id of its backward.
    pub backward: Option<String>,
    /// On a forward: why it has no backward.
    pub no_backward: Option<String>,
    /// The paper and equation it is from.
    pub source: Option<String>,
}

/// What an equation is, and so what it must be bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Outputs from inputs: needs code, tests and a backward.
    Forward,
    /// Gradients from gradients: needs code, tests and a forward naming it.
    Backward,
    /// What always holds: needs tests.
    Identity,
    /// What a letter means: needs only a chapter.
    Definition,
}

/// An item in a file: `src/nn/rmsnorm.rs::rmsnorm_backward`,
/// `src/nn/moe.rs::Moe::backward`, `src/nn/moe.rs::impl Layer for Moe`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Target {
    /// The file, relative to the top, with `/` between its parts.
    pub file: String,
    /// The path inside the file, through inline modules and types.
    pub item: String,
}

impl Registry {
    /// Reads `equations.toml` under `root`, or says what is wrong with it.
    pub fn load(root: &Path) -> Result<Registry, Error> {
        Registry::parse(&read(root, "equations.toml")?)
    }

    /// Reads the text of an `equations.toml`, or says what is wrong with it.
    pub fn parse(text: &str) -> Result<Registry, Error> {
        let entries: BTreeMap<String, Spanned<Equation>> =
            toml::from_str(text).map_err(|e| explain(text, &e))?;
        let mut entries: Vec<_> = entries.into_iter().collect();
        entries.sort_by_key(|(_, entry)| entry.span().start);
        let named = |(id, entry): (String, Spanned<Equation>)| Equation {
            id,
            ..entry.into_inner()
        };
        Ok(Registry { equations: entries.into_iter().map(named).collect() })
    }

    /// The entry of this id, if there is one.
    pub fn get(&self, id: &str) -> Option<&Equation> {
        self.equations.iter().find(|e| e.id == id)
    }

    /// All ids, in the order of the file.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &str> {
        self.equations.iter().map(|e| e.id.as_str())
    }
}

impl Equation {
    /// `code` and `fast`, as far as given, with the name of the key.
    pub(crate) fn items(
        &self,
    ) -> impl Iterator<Item = (&'static str, &Target)> {
        let code = self.code.iter().map(|t| ("code", t));
        code.chain(self.fast.iter().map(|t| ("fast", t)))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Kind::Forward => "forward",
            Kind::Backward => "backward",
            Kind::Identity => "identity",
            Kind::Definition => "definition",
        })
    }
}

impl FromStr for Target {
    type Err = Error;

    fn from_str(text: &str) -> Result<Target, Error> {
        match text.split_once(".rs::") {
            Some((file, item)) if !file.is_empty() && !item.is_empty() => {
                let file = format!("{file}.rs");
                Ok(Target { file, item: item.to_string() })
            }
            _ => Err(Error(format!(
                "`{text}` is not `file.rs::item`, as in \
                 `src/nn/moe.rs::Moe::backward`"
            ))),
        }
    }
}

impl TryFrom<String> for Target {
    type Error = Error;

    fn try_from(text: String) -> Result<Target, Error> {
        text.parse()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}::{}", self.file, self.item)
    }
}

/// Says in one line where the fault stands, of which id, and what to do.
fn explain(text: &str, fault: &toml::de::Error) -> Error {
    let at = fault.span().map_or(0, |span| span.start);
    let before = text.get(..at).unwrap_or_default();
    let line = before.matches('\n').count();
    let shown = text.lines().nth(line).unwrap_or_default().trim();
    let above = text.lines().take(line).filter(|l| l.starts_with('['));
    let id = match above.last() {
        Some(header) if !shown.starts_with('[') => format!("{header} "),
        _ => String::new(),
    };
    let message = fault.message().replace('\n', "; ");
    let cure = match &message {
        m if m.starts_with("unknown field") => "correct or remove the key",
        m if m.starts_with("missing field") => "add the key",
        m if m.starts_with("duplicate key") => {
            "each id, and each key of an id, stands once: rename or remove it"
        }
        _ => "correct it",
    };
    let line = line + 1;
    Error(format!("equations.toml:{line}: {id}{shown}: {message}; {cure}"))
}
