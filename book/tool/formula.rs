//! Marks the formulas of a chapter: `$…$` and `$$…$$` as Markdown understands
//! them.

use crate::markdown::{code, options};
use pulldown_cmark::{Event, Parser, Tag, TagEnd};
use std::ops::Range;

// Characters for private use, of which a text has none: FROM place AT, then
// INLINE or DISPLAY, and the formula TO.
pub(crate) const INLINE: char = '\u{E000}';
pub(crate) const DISPLAY: char = '\u{E001}';
pub(crate) const FROM: char = '\u{E002}';
pub(crate) const AT: char = '\u{E003}';
pub(crate) const TO: char = '\u{E004}';

/// A formula that will be typeset; `place` is for messages.
pub(crate) fn formula(place: &str, tex: &str, display: bool) -> String {
    let kind = if display { DISPLAY } else { INLINE };
    format!("{FROM}{place}{AT}{kind}{}{TO}", tex.trim())
}

/// A chapter's file and its text as written, to name the lines of faults.
pub(crate) struct Written<'a> {
    /// Its name.
    pub(crate) file: &'a str,
    /// Its text.
    pub(crate) text: &'a str,
}

impl Written<'_> {
    /// `file:line` of these lines. Other files are included in the text that is
    /// marked, so they are looked up; lines that are not found have no number.
    fn place(&self, lines: &str) -> String {
        let lines = lines.trim_end_matches('\n');
        let whole = |at: &usize| {
            let (before, rest) = self.text.split_at(*at);
            let after = &rest[lines.len()..];
            (before.is_empty() || before.ends_with('\n'))
                && (after.is_empty() || after.starts_with('\n'))
        };
        let mut found = self.text.match_indices(lines).map(|(at, _)| at);
        match found.find(whole) {
            Some(at) => {
                let line = 1 + self.text[..at].matches('\n').count();
                format!("{}:{line}", self.file)
            }
            None => self.file.to_string(),
        }
    }
}

/// The text with its formulas marked; whatever is wrong with them goes to
/// `errors`.
pub(crate) fn mark(
    text: &str, written: &Written, errors: &mut Vec<String>,
) -> String {
    if text.contains(|c| (INLINE..=TO).contains(&c)) {
        errors.push(format!(
            "{}: has characters U+E000 to U+E004, which book/tool/formula.rs \
             needs",
            written.file
        ));
    }
    let text = displays(text, written, errors);
    in_paragraphs(text, written, errors)
}

/// Marks the displays: a `$$` at the end of a line opens one, one alone on a
/// line closes it. Inside, a line that begins with `+` is no list.
fn displays(text: &str, written: &Written, errors: &mut Vec<String>) -> String {
    let code = code(text);
    let is_code = |at: usize| code.iter().any(|range| range.contains(&at));
    let mut out = String::with_capacity(text.len());
    let mut open: Option<(usize, &str, String)> = None; // where, prefix, formula
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let body = line.trim_start_matches([' ', '\t', '>']);
        match (&mut open, line.trim_end().strip_suffix("$$")) {
            (Some((start, prefix, tex)), Some(_))
                if body.trim_end() == "$$" =>
            {
                let place = written.place(&text[*start..at]);
                out += &format!("{prefix}{}\n", formula(&place, tex, true));
                open = None;
            }
            (Some((_, prefix, tex)), _) => {
                *tex += line.strip_prefix(*prefix).unwrap_or(body)
            }
            (None, Some(prefix))
                if is_closed(prefix) && !is_code(at + prefix.len()) =>
            {
                open = Some((at, prefix, String::new()));
            }
            _ => out += line,
        }
        at += line.len();
    }
    if let Some((start, ..)) = open {
        let place = written.place(&text[start..]);
        errors.push(format!("{place}: `$$` is never closed"));
    }
    out
}

/// Whether every formula of this line's beginning ends in it.
fn is_closed(prefix: &str) -> bool {
    let bare = prefix.replace("\\$", "");
    !bare.contains("$$") && bare.matches('$').count().is_multiple_of(2)
}

/// Marks the rest, which stand inside paragraphs, where the Markdown parser
/// finds them.
fn in_paragraphs(
    mut text: String, written: &Written, errors: &mut Vec<String>,
) -> String {
    let mut found: Vec<(String, Range<usize>)> = Vec::new();
    let (mut verbatim, mut bare_heading) = (0, false);
    for (event, range) in Parser::new_ext(&text, options()).into_offset_iter() {
        let begin = text[..range.start].rfind('\n').map_or(0, |at| at + 1);
        let place =
            || written.place(text[begin..].lines().next().unwrap_or_default());
        let mut fault = |what: &str| {
            errors.push(format!("{}: {what}", place()));
        };
        match event {
            Event::Start(Tag::CodeBlock(_) | Tag::Image { .. }) => {
                verbatim += 1
            }
            Event::End(TagEnd::CodeBlock | TagEnd::Image) => verbatim -= 1,
            Event::Start(Tag::Heading { id, .. }) => {
                bare_heading = id.is_none()
            }
            Event::End(TagEnd::Heading(_)) => bare_heading = false,
            Event::InlineMath(_) | Event::DisplayMath(_) if bare_heading => {
                fault(
                    "a heading with a formula needs an id, `{#some-name}` at \
                     its end",
                )
            }
            Event::InlineMath(tex) if verbatim == 0 => {
                found.push((formula(&place(), &tex, false), range))
            }
            Event::DisplayMath(tex) if verbatim == 0 => {
                found.push((formula(&place(), &tex, true), range))
            }
            Event::Text(words)
                if verbatim == 0
                    && words.contains('$')
                    && !text[..range.start].ends_with('\\') =>
            {
                fault(
                    "a lone `$`: write `\\$` for a dollar, `\\lvert` for a bar \
                     in a table",
                )
            }
            Event::Html(html) if html.matches('$').count() > 1 => fault(
                "no formula is read inside HTML: leave a blank line before it",
            ),
            _ => {}
        }
    }
    for (formula, range) in found.into_iter().rev() {
        text.replace_range(range, &formula);
    }
    text
}
