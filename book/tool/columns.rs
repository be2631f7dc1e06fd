//! Tables: in a column of numbers, the decimal points stand below each other.

use crate::markdown::options;
use pulldown_cmark::{Alignment, Event, Parser, Tag};
use std::ops::Range;

/// As wide as a digit, and as a point.
const DIGIT: char = '\u{2007}';
const POINT: char = '\u{2008}';

/// The text with its columns of numbers aligned; lines stay where they are.
pub(crate) fn align(text: &str) -> String {
    let events = Parser::new_ext(text, options()).into_offset_iter();
    let tables = events.filter_map(|(event, range)| match event {
        Event::Start(Tag::Table(columns)) => Some((columns, range)),
        _ => None,
    });
    let tables: Vec<(Vec<Alignment>, Range<usize>)> = tables.collect();
    let mut out = text.to_string();
    for (columns, range) in tables.into_iter().rev() {
        let new = table(&text[range.clone()], &columns);
        out.replace_range(range, &new);
    }
    out
}

fn table(text: &str, columns: &[Alignment]) -> String {
    let mut rows: Vec<Vec<String>> = text.lines().map(cells).collect();
    for (column, alignment) in columns.iter().enumerate() {
        let body = rows.iter().skip(2).filter_map(|r| r.get(column + 1));
        let body: Vec<&str> = body.map(|cell| cell.trim()).collect();
        let places = |number: fn(&str) -> Option<usize>| {
            body.iter().map(|cell| number(cell)).collect::<Vec<_>>()
        };
        let places = (places(decimals), places(in_formula));
        // Digits of formulas are of another width: a column has either.
        let formulas = places.1.iter().any(Option::is_some);
        let places = if formulas { places.1 } else { places.0 };
        let numbers = places.iter().flatten().count();
        let most = places.iter().flatten().max().copied().unwrap_or(0);
        let fits = body.iter().zip(&places).all(|(cell, places)| {
            places.is_some() || matches!(*cell, "" | "–" | "—" | "-")
        });
        if numbers < 2 || !fits {
            continue;
        }
        if *alignment == Alignment::None
            && let Some(rule) =
                rows.get_mut(1).and_then(|r| r.get_mut(column + 1))
        {
            *rule = "---:".into();
        }
        if *alignment == Alignment::Left || *alignment == Alignment::Center {
            continue;
        }
        for (row, places) in rows.iter_mut().skip(2).zip(places) {
            let (Some(cell), Some(places)) = (row.get_mut(column + 1), places)
            else {
                continue;
            };
            let bare = cell.trim();
            let point = places == 0 && most > 0;
            *cell = match bare.strip_suffix('$') {
                Some(_) if places == most => continue,
                Some(formula) => {
                    let point = if point { "." } else { "" };
                    let zeros = "0".repeat(most - places);
                    format!(" {formula}\\phantom{{{point}{zeros}}}$ ")
                }
                None => {
                    let point = point.then_some(POINT);
                    let zeros = std::iter::repeat_n(DIGIT, most - places);
                    let pad: String = point.into_iter().chain(zeros).collect();
                    format!(" {bare}{pad} ")
                }
            };
        }
    }
    let lines: Vec<String> = rows.iter().map(|row| row.join("|")).collect();
    let end = if text.ends_with('\n') { "\n" } else { "" };
    lines.join("\n") + end
}

/// The parts of a row, between the bars that no backslash stands before; what
/// stands before the first bar is the first part.
fn cells(row: &str) -> Vec<String> {
    let mut cells = vec![String::new()];
    if !row.trim_start_matches([' ', '\t', '>']).starts_with('|') {
        cells.push(String::new());
    }
    let mut before = ' ';
    for c in row.chars() {
        match (c, cells.last_mut()) {
            ('|', _) if before != '\\' => cells.push(String::new()),
            (_, Some(cell)) => cell.push(c),
            _ => {}
        }
        before = c;
    }
    cells
}

/// How many decimals the number has that is all of a formula, `$2.5$`.
fn in_formula(cell: &str) -> Option<usize> {
    decimals(&cell.strip_prefix('$')?.strip_suffix('$')?.replace("{,}", ","))
}

/// How many decimals a number has; `None` of what is no plain number.
fn decimals(cell: &str) -> Option<usize> {
    let bare = cell.trim_matches('*').trim_start_matches(['+', '-', '−']);
    let (whole, places) = match bare.split_once('.') {
        Some((whole, places)) => (whole, Some(places)),
        None => (bare, None),
    };
    let digits = |text: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_digit())
    };
    let whole = whole.replace(',', "");
    // Bits are none.
    let fits = digits(&whole)
        && (whole == "0" || !whole.starts_with('0'))
        && places.is_none_or(digits);
    fits.then(|| places.map_or(0, str::len))
}

#[cfg(test)]
mod tests {
    use super::align;

    #[test]
    fn decimal_points_stand_below_each_other() {
        let text = "a\n\n| x | y | z |\n|---|---|---|\n| p | 1.25 | 3 % |\n\
                    | q \\| r | −12 | 4 |\n| s | **1,000.5** | 5 |\n| t | – | |\n\nb\n";
        let want = "a\n\n| x | y | z |\n|---|---:|---|\n| p | 1.25 | 3 % |\n\
                    | q \\| r | −12\u{2008}\u{2007}\u{2007} | 4 |\n\
                    | s | **1,000.5**\u{2007} | 5 |\n| t | – | |\n\nb\n";
        assert_eq!(align(text), want);
        assert_eq!(align(want), want, "twice is once");
    }

    #[test]
    fn so_do_those_of_formulas() {
        let text = "| x | y | z |\n|---|---|---|\n| $-1.25$ | 1.5 | $0101$ |\n\
                    | $12$ | $1.25$ | $11$ |\n| $1{,}000.5$ | 3 | $2$ |\n";
        let want = "| x | y | z |\n|---:|---|---|\n\
                    | $-1.25$ | 1.5 | $0101$ |\n\
                    | $12\\phantom{.00}$ | $1.25$ | $11$ |\n\
                    | $1{,}000.5\\phantom{0}$ | 3 | $2$ |\n";
        assert_eq!(align(text), want, "a column of formulas, and of both");
    }
}
