//! Markdown as all pages use it.

use pulldown_cmark::{Event, Options, Parser, Tag};
use std::ops::Range;

/// What is understood beyond plain Markdown.
pub(crate) fn options() -> Options {
    Options::ENABLE_MATH
        | Options::ENABLE_TABLES
        | Options::ENABLE_GFM
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_HEADING_ATTRIBUTES
        | Options::ENABLE_DEFINITION_LIST
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
}

/// Where the lines of a text end: a page is asked for thousands of its bytes.
pub(crate) struct Lines(Vec<usize>);

impl Lines {
    pub(crate) fn of(text: &str) -> Lines {
        Lines(text.match_indices('\n').map(|(at, _)| at).collect())
    }

    /// The line on which this byte stands, from 1.
    pub(crate) fn at(&self, byte: usize) -> usize {
        self.0.partition_point(|&end| end < byte) + 1
    }
}

/// Where code blocks stand, in bytes.
pub(crate) fn code(text: &str) -> Vec<Range<usize>> {
    let events = Parser::new_ext(text, options()).into_offset_iter();
    let code =
        events.filter(|(e, _)| matches!(e, Event::Start(Tag::CodeBlock(_))));
    code.map(|(_, range)| range).collect()
}

/// The text without its code blocks; lines stay where they are.
pub(crate) fn prose(text: &str) -> String {
    let mut out = text.to_string();
    for range in code(text).into_iter().rev() {
        let lines = "\n".repeat(text[range.clone()].matches('\n').count());
        out.replace_range(range, &lines);
    }
    out
}

/// How many cells a row of a table has: bars part them, unless a backslash
/// stands before; the outer ones may be missing.
pub(crate) fn cells(row: &str) -> usize {
    let row = row.trim_start_matches([' ', '\t', '>']).trim_end();
    let row = row.strip_prefix('|').unwrap_or(row);
    let last = row.strip_suffix('|').filter(|r| !r.ends_with('\\'));
    let row = last.unwrap_or(row).replace("\\|", "");
    row.matches('|').count() + 1
}
