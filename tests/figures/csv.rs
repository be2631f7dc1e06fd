//! Chapter: training. A figure's data as `cargo book figures` reads it.

use moe_by_hand::train::data::Text;
use sha2::{Digest, Sha256};
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// The data of a figure, row by row, below what is to be known of it.
pub(crate) struct Csv {
    name: &'static str,
    head: Vec<(&'static str, String)>,
    rows: String,
}
impl Csv {
    /// Lines over axes of these names.
    pub(crate) fn chart(
        name: &'static str, title: &str, alt: &str, [x, y]: [&str; 2],
    ) -> Self {
        Self::new(name, "chart", title, alt).with("x", x).with("y", y)
    }
    /// Boxes and arrows on a paper 360 wide, y downward.
    #[allow(dead_code, reason = "five_bugs and ulps have none")]
    pub(crate) fn drawing(name: &'static str, title: &str, alt: &str) -> Self {
        Self::new(name, "drawing", title, alt)
    }
    /// Squares as strong as their shares, with the names of columns and rows.
    #[allow(dead_code, reason = "the figures alone have some")]
    pub(crate) fn heat(
        name: &'static str, title: &str, alt: &str, [x, y]: [&str; 2],
    ) -> Self {
        Self::new(name, "heat", title, alt).with("x", x).with("y", y)
    }
    fn new(name: &'static str, kind: &str, title: &str, alt: &str) -> Self {
        let (head, rows) = (vec![], String::new());
        let csv = Self { name, head, rows };
        csv.with("kind", kind).with("title", title).with("alt", alt)
    }
    /// One more line of the header.
    pub(crate) fn with(mut self, key: &'static str, value: &str) -> Self {
        self.head.push((key, value.into()));
        self
    }
    /// What was trained on.
    #[allow(dead_code, reason = "ulps has none")]
    pub(crate) fn of(self, text: &Text) -> Self {
        let (bytes, sha) = (text.id.bytes, &text.id.sha256);
        self.with("text", &format!("{bytes} bytes, SHA-256 {sha}"))
    }
    pub(crate) fn row(&mut self, row: impl Display) {
        self.rows += &format!("{row}\n");
    }
    /// The file that this command makes.
    pub(crate) fn text(&self, command: &str) -> String {
        let hash = Sha256::digest(self.rows.as_bytes());
        let hash: String = hash.iter().map(|b| format!("{b:02x}")).collect();
        let mut text = format!("# command: {command}\n# sha256: {hash}\n");
        for (key, value) in &self.head {
            text += &format!("# {key}: {value}\n");
        }
        text + &self.rows
    }
    /// Where it lies.
    pub(crate) fn path(&self) -> PathBuf {
        // The package that this file is compiled in may lie below the project.
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let project = |d: &&Path| d.join("equations.toml").exists();
        let root = here.ancestors().find(project).unwrap_or(here);
        root.join("book/figures").join(self.name).with_extension("csv")
    }
    pub(crate) fn write(&self, command: &str) -> io::Result<PathBuf> {
        let path = self.path();
        fs::write(&path, self.text(command))?;
        Ok(path)
    }
}
/// Four digits, whatever the size.
#[allow(dead_code, reason = "ulps has none")]
pub(crate) fn short(v: f64) -> String {
    let digits = 3 - v.abs().log10().floor().clamp(-4.0, 3.0) as i32;
    match v.abs() {
        1e-3..1e4 => format!("{v:.*}", digits as usize),
        _ => format!("{v:.3e}"),
    }
}
