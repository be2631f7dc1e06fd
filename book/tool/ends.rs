//! Names in tables may end a line behind `::`, `_` and their like, so that a
//! narrow page parts no word of them.

use crate::text::pattern;
use anyhow::Result;
use regex::Captures;

/// A line may end there; it adds no character, so a copy is as it was typed.
const END: &str = "<wbr>";
/// No word of fewer letters is parted from its neighbor.
const LEAST: usize = 3;

/// A page with the ends of lines marked in the code of its tables.
pub(crate) fn mark(html: &str) -> Result<String> {
    let cell = pattern(r"(?s)<t[dh](?: [^>]*)?>.*?</t[dh]>")?;
    let code = pattern(r"(?s)(<code(?: [^>]*)?>)(.*?)</code>")?;
    // A tag, or a character, which may be written as `&lt;`.
    let part = pattern(r"(?s)<[^>]*>|&\w+;|.")?;
    let marked = cell.replace_all(html, |cell: &Captures| {
        let marked = code.replace_all(&cell[0], |c: &Captures| {
            let parts: Vec<&str> =
                part.find_iter(&c[2]).map(|p| p.as_str()).collect();
            format!("{}{}</code>", &c[1], in_code(&parts))
        });
        marked.into_owned()
    });
    Ok(marked.into_owned())
}

fn in_code(parts: &[&str]) -> String {
    let is_tag = |part: &str| part.len() > 1 && part.starts_with('<');
    let first = |part: &str| part.chars().next().unwrap_or(' ');
    let mut out = String::new();
    let (mut before, mut since) = (' ', 0); // what precedes; from the last end
    for (i, part) in parts.iter().enumerate() {
        out += part;
        if is_tag(part) {
            continue;
        }
        let c = first(part);
        since = if c == ' ' { 0 } else { since + 1 };
        let after = parts[i + 1..].iter().filter(|p| !is_tag(p));
        let word: String = after
            .map(|p| first(p))
            .take_while(|c| c.is_alphanumeric())
            .take(LEAST)
            .collect();
        let joins = match c {
            ':' => before == ':',
            '.' => !word.starts_with(|c: char| c.is_ascii_digit()),
            _ => "_/=,".contains(c),
        };
        if joins && since > LEAST && word.chars().count() == LEAST {
            out += END;
            since = 0;
        }
        before = c;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{END, mark};
    use anyhow::Result;

    #[test]
    fn names_in_tables_end_lines_between_their_words() -> Result<()> {
        for (code, want) in [
            ("mem_train_step", "mem_|train_|step"),
            ("ModelActs::blocks", "ModelActs::|blocks"),
            ("src/nn/silu.rs::silu", "src/nn/|silu.rs::|silu"),
            ("layers.1.moe.experts.1.w1", "layers.1.|moe.|experts.1.w1"),
            ("<i>moe.</i>experts", "<i>moe.|</i>experts"),
            ("--text=plays.txt", "--text=|plays.|txt"),
            ("Vec&lt;f32&gt;::from_iter", "Vec&lt;f32&gt;::|from_|iter"),
            // nothing of these
            ("x_forward", "x_forward"),
            ("silu(d_h)", "silu(d_h)"),
            ("-1234.5678", "-1234.5678"),
            ("T::ZERO", "T::ZERO"),
            ("loss == 0", "loss == 0"),
            ("a += 1.moe", "a += 1.moe"),
            ("&amp;&lt;_word", "&amp;&lt;_word"),
        ] {
            let page = |code: &str| {
                format!(
                    "<code>mem_train_step</code><thead><tr>\
                     <th class=\"a\">mem_train_step <code>{code}</code></th>\
                     </tr></thead><td>\n<b><code class=\"c\">{code}</code></b>\
                     </td><p>mem_train_step <code>mem_train_step</code>"
                )
            };
            let html = page(code);
            let marked = mark(&html)?;
            assert_eq!(marked, page(&want.replace('|', END)));
            assert_eq!(marked.replace(END, ""), html, "nothing else changes");
        }
        Ok(())
    }
}
