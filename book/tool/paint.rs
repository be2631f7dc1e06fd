//! Rust in color: which parts of a source are comments, strings, keywords and
//! numbers.

use crate::text::escape;

/// The words that Rust keeps for itself.
const KEYWORDS: [&str; 38] = [
    "as", "async", "await", "break", "const", "continue", "crate", "dyn",
    "else", "enum", "extern", "false", "fn", "for", "if", "impl", "in", "let",
    "loop", "match", "mod", "move", "mut", "pub", "ref", "return", "self",
    "Self", "static", "struct", "super", "trait", "true", "type", "unsafe",
    "use", "where", "while",
];

/// A part of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    Comment,
    Doc,
    Text,
    Keyword,
    Number,
}
impl Kind {
    fn class(self) -> &'static str {
        match self {
            Kind::Plain => "",
            Kind::Comment => "comment",
            Kind::Doc => "doc",
            Kind::Text => "str",
            Kind::Keyword => "kw",
            Kind::Number => "num",
        }
    }
}

/// The lines of a source as HTML. `words` makes HTML of the words of a part
/// that are not plain, or leaves that to us.
pub(crate) fn lines(
    source: &str, words: impl Fn(Kind, &str) -> Option<String>,
) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut rest = source;
    while !rest.is_empty() {
        let (kind, mut length) = part(rest);
        while kind == Kind::Plain && length < rest.len() {
            match part(&rest[length..]) {
                (Kind::Plain, more) => length += more,
                _ => break,
            }
        }
        let (now, after) = rest.split_at(length);
        rest = after;
        for (i, text) in now.split('\n').enumerate() {
            if i > 0 {
                lines.push(String::new());
            }
            let Some(line) = lines.last_mut() else { continue };
            let html = words(kind, text).unwrap_or_else(|| escape(text));
            *line += &match kind.class() {
                _ if text.is_empty() => String::new(),
                "" => html,
                class => format!("<span class=\"{class}\">{html}</span>"),
            };
        }
    }
    if source.ends_with('\n') {
        lines.pop();
    }
    lines
}

/// The kind of the part that begins here, and its length in bytes.
fn part(text: &str) -> (Kind, usize) {
    let until = |end: &str, from: usize| {
        text[from..].find(end).map_or(text.len(), |at| from + at)
    };
    let while_ =
        |f: fn(char) -> bool| text.find(|c| !f(c)).unwrap_or(text.len());
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let first = text.chars().next().unwrap_or(' ');
    if text.starts_with("///") && !text.starts_with("////")
        || text.starts_with("//!")
    {
        return (Kind::Doc, until("\n", 0));
    }
    if text.starts_with("//") {
        return (Kind::Comment, until("\n", 0));
    }
    if text.starts_with("/*") {
        return (Kind::Comment, (until("*/", 2) + 2).min(text.len()));
    }
    if let Some(length) = raw(text) {
        return (Kind::Text, length);
    }
    if text.starts_with('"') || text.starts_with("b\"") {
        return (Kind::Text, quoted(text, '"'));
    }
    if let Some(inside) = text.strip_prefix('\'') {
        let mut letters = inside.chars();
        let is_char = match (letters.next(), letters.next()) {
            (Some('\\'), _) => true,
            (_, second) => second == Some('\''),
        };
        return match is_char {
            true => (Kind::Text, quoted(text, '\'')),
            false => (Kind::Plain, 1), // a lifetime
        };
    }
    if first.is_ascii_digit() {
        let mut end = 0;
        let bytes = text.as_bytes();
        let digit = |i: usize| bytes.get(i).is_some_and(u8::is_ascii_digit);
        let hex = text.starts_with("0x");
        while let Some(&b) = bytes.get(end) {
            let sign = !hex
                && (b == b'-' || b == b'+')
                && matches!(bytes[end - 1], b'e' | b'E')
                && digit(end + 1);
            let point = b == b'.' && digit(end + 1);
            if !(b.is_ascii_alphanumeric() || b == b'_' || point || sign) {
                break;
            }
            end += 1;
        }
        return (Kind::Number, end);
    }
    if word(first) {
        let end = while_(|c| c.is_alphanumeric() || c == '_');
        let kind = match KEYWORDS.contains(&&text[..end]) {
            true => Kind::Keyword,
            false => Kind::Plain,
        };
        return (kind, end);
    }
    (Kind::Plain, first.len_utf8())
}

/// The length of a raw string, `r"…"` or `r#"…"#`, if one begins here.
fn raw(text: &str) -> Option<usize> {
    let start = text.strip_prefix('b').unwrap_or(text).strip_prefix('r')?;
    let inside = start.trim_start_matches('#');
    let marks = start.len() - inside.len();
    let inside = inside.strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(marks));
    let before = text.len() - inside.len();
    Some(inside.find(&end).map_or(text.len(), |at| before + at + end.len()))
}

/// The length of what stands between quotes, with them.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    let start = text.find(quote).unwrap_or(0) + 1;
    for (at, c) in text[start..].char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return start + at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::lines;

    #[test]
    fn parts_have_their_colors() {
        let html = lines(
            "let s: &'a str = \"é\\\"\"; // x < y\n1e-3..0xfe-2\n",
            |_, _| None,
        );
        assert_eq!(
            html,
            [
                "<span class=\"kw\">let</span> s: &amp;'a str = \
             <span class=\"str\">&quot;é\\&quot;&quot;</span>; \
             <span class=\"comment\">// x &lt; y</span>",
                "<span class=\"num\">1e-3</span>..<span class=\"num\">0xfe</span>-\
             <span class=\"num\">2</span>",
            ]
        );
        let html =
            lines("'\\'' 'é' b\"x\" r#\"a\nb\"#\n\n/// d\nself", |_, _| None);
        assert_eq!(html.len(), 5);
        assert!(html[1].starts_with("<span class=\"str\">b&quot;#"));
        assert_eq!(html[4], "<span class=\"kw\">self</span>");
    }
}
