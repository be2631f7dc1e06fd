//! A small project with a book, in a folder of its own, for tests to break.

use anyhow::{Context, Result};
use book_tool::make::{self, Mode};
use book_tool::{figures, measure};
use std::fs;
use std::path::{Path, PathBuf};

/// Where the real book's redirects begin, the last table of `book.toml`.
pub(crate) const REDIRECT: &str = "[output.html.redirect]";

/// The fixture, with the real book's configuration, theme and fonts.
pub(crate) struct Tree {
    folder: tempfile::TempDir,
}

impl Tree {
    pub(crate) fn new() -> Result<Tree> {
        let folder = tempfile::tempdir()?;
        let book = Path::new(env!("CARGO_MANIFEST_DIR"));
        let tree = Tree { folder };
        copy(&book.join("tests/fixtures/project"), tree.root())?;
        for part in ["book.toml", "theme", "src/katex"] {
            copy(&book.join(part), &tree.root().join("book").join(part))?;
        }
        // The real book's redirects lead to chapters of its own.
        let config = tree.root().join("book/book.toml");
        let text = fs::read_to_string(&config)?;
        let (text, _) = text.split_once(REDIRECT).context(REDIRECT)?;
        let own = format!("{REDIRECT}\n\"/01-why.html\" = \"why.html\"\n");
        fs::write(config, format!("{text}{own}"))?;
        // Figures name the programs that made them, and texts print commands.
        for file in [
            "Cargo.toml",
            ".cargo/config.toml",
            "book/Cargo.toml",
            "tests/Cargo.toml",
            "src/bin/moe/Cargo.toml",
            "benches/scenarios/list.rs",
        ] {
            copy(&book.join("..").join(file), &tree.root().join(file))?;
        }
        figures::draw_all(tree.root())?;
        Ok(tree)
    }

    pub(crate) fn root(&self) -> &Path {
        self.folder.path()
    }

    /// Writes what `moe check --json` would say.
    pub(crate) fn measured(&self) -> Result<()> {
        let json = r#"[{"id": "scale-forward", "holds": true, "rungs": []},
            {"id": "scale-backward", "holds": true,
            "rungs": [{"rung": "T1", "error": 3.14e-11, "bound": 1e-7,
            "holds": true}]}]"#;
        measure::keep(self.root(), &measure::key(self.root())?, json)
    }

    /// Ends the lines of every text as a checkout on Windows may.
    pub(crate) fn crlf(&self) -> Result<()> {
        for ext in ["md", "rs", "toml", "csv", "svg"] {
            for file in registry::files(self.root(), "", ext)? {
                let text = fs::read_to_string(self.root().join(&file))?;
                let text = text.replace('\n', "\r\n");
                fs::write(self.root().join(&file), text)?;
            }
        }
        Ok(())
    }

    /// Replaces the first `from` in a file.
    pub(crate) fn edit(&self, file: &str, from: &str, to: &str) -> Result<()> {
        let path = self.root().join(file);
        let text = fs::read_to_string(&path)?;
        anyhow::ensure!(text.contains(from), "{file} has no `{from}`");
        Ok(fs::write(path, text.replacen(from, to, 1))?)
    }

    pub(crate) fn build(&self) -> Result<PathBuf> {
        make::build(self.root(), Mode::Strict)
    }

    pub(crate) fn page(&self, name: &str) -> Result<String> {
        let file = self.root().join("target/book/html").join(name);
        fs::read_to_string(file).with_context(|| name.to_string())
    }

    /// What the check says after this edit.
    pub(crate) fn fault(file: &str, from: &str, to: &str) -> Result<String> {
        let tree = Tree::new()?;
        tree.edit(file, from, to)?;
        match make::check(tree.root()) {
            Ok(()) => anyhow::bail!("{file}: `{to}` is not found"),
            Err(e) => Ok(format!("{e:#}")),
        }
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if !from.is_dir() {
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::copy(from, to)?;
        return Ok(());
    }
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}
