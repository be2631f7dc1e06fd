//! Quoted source: what a chapter is about stays open; long comments, and what
//! comes before the formula, are folded.

/// Lines of an item that stand together.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Part<'a> {
    /// What they are, if they are folded.
    pub(crate) folded: Option<&'static str>,
    /// The lines.
    pub(crate) lines: Vec<&'a str>,
}

const COMMENT: &str = "documentation";
const GATE: &str = "checks and other number types";
/// How what sends other types of numbers elsewhere begins.
const OTHERS: &[&str] = &["twin!(", "if T::STORED {"];
/// A comment of so many lines is short enough to stay.
const SHORT: usize = 2;

/// The chapter that explains how kernels take other types of numbers.
const EXPLAINS: &str = "half";

/// Which lines of an item the chapter of this name folds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quote {
    /// Not of a test, whose assertions are its point.
    checks: bool,
    /// Not where they are explained.
    others: bool,
}
impl Quote {
    /// The library's, folded wherever anything can be.
    pub(crate) const CODE: Self = Self { checks: true, others: true };
    /// An item of this file in this chapter.
    pub(crate) fn new(file: &str, chapter: &str) -> Self {
        let checks = !file.starts_with("tests/");
        Self { checks, others: chapter != EXPLAINS }
    }
}

/// The parts of an item.
pub(crate) fn parts(text: &str, how: Quote) -> Vec<Part<'_>> {
    let lines: Vec<&str> = text.lines().collect();
    let mut folds = comments(&lines);
    gates(&lines, how, &mut folds);
    let mut parts: Vec<Part> = Vec::new();
    for (line, folded) in lines.into_iter().zip(folds) {
        match parts.last_mut() {
            Some(part) if part.folded == folded => part.lines.push(line),
            _ => parts.push(Part { folded, lines: vec![line] }),
        }
    }
    parts
}

type Fold = Option<&'static str>;

/// Doc comments, with the attributes that follow.
fn comments(lines: &[&str]) -> Vec<Fold> {
    let mut folds = vec![None; lines.len()];
    let mut at = 0;
    while at < lines.len() {
        let is = |i: usize, mark: &str| {
            lines.get(i).is_some_and(|l| l.trim_start().starts_with(mark))
        };
        let mut end = at;
        while is(end, "///") {
            end += 1;
        }
        if end - at > SHORT {
            while is(end, "#[") {
                end = statement(lines, end);
            }
            folds[at..end].fill(Some(COMMENT));
        }
        at = end.max(at + 1);
    }
    folds
}

/// What comes before the formula: lengths are compared, and numbers of other
/// types go elsewhere.
fn gates(lines: &[&str], how: Quote, folds: &mut [Fold]) {
    let begins = |at: usize, marks: &[&str]| {
        marks.iter().any(|m| lines[at].trim_start().starts_with(m))
    };
    let (mut at, mut beginning) = (0, false);
    let mut names = Vec::new(); // of each `let` at the beginning, its lines
    while at < lines.len() {
        if !begins(at, &["//"]) && words(lines[at]).any(|w| w == "fn") {
            let head = |l: &&str| l.trim_end().ends_with(['{', ';']);
            let ends = lines[at..].iter().position(head).unwrap_or(0);
            (at, beginning) = (at + ends + 1, true);
            continue;
        }
        if begins(at, &["///"]) {
            at += 1; // the function below it is no part of its sentence
            continue;
        }
        let end = statement(lines, at);
        let gate = how.others && begins(at, OTHERS);
        let assert = begins(at, &["assert!(", "assert_eq!("]);
        if gate || assert && beginning && how.checks {
            folds[at..end].fill(Some(GATE));
        } else if begins(at, &["let "]) && beginning {
            names.push(at..end);
        } else {
            beginning = false;
        }
        // Into blocks, over statements.
        let opens = lines[at].trim_end().ends_with('{') && !gate;
        at = if opens { at + 1 } else { end };
    }
    // Names that nothing else uses go with the checks.
    for range in names.into_iter().rev() {
        let head = lines[range.start].trim_start();
        let pattern = head["let ".len()..].split('=').next().unwrap_or("");
        let used = |name: &str| {
            let other = lines
                .iter()
                .enumerate()
                .filter(|(i, _)| !range.contains(i) && folds[*i].is_none());
            other.into_iter().any(|(_, l)| words(l).any(|w| w == name))
        };
        let folded_next =
            folds.get(range.end).is_some_and(|f| *f == Some(GATE));
        if folded_next && !words(pattern).any(used) {
            folds[range].fill(Some(GATE));
        }
    }
    // One line of checks by itself is as short as what would stand for it.
    let mut at = 0;
    while at < folds.len() {
        let run = folds[at..].iter().take_while(|f| **f == Some(GATE)).count();
        if run == 1 && begins(at, &["assert"]) {
            folds[at] = None;
        }
        at += run.max(1);
    }
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|w| !w.is_empty())
}

/// The line after the statement that begins here: where every bracket that it
/// opens is closed.
fn statement(lines: &[&str], at: usize) -> usize {
    let mut depth = 0i32;
    for (i, line) in lines.iter().enumerate().skip(at) {
        for c in line.chars() {
            depth += i32::from("([{".contains(c));
            depth -= i32::from(")]}".contains(c));
        }
        let ends = line.trim_end().ends_with([';', '}', ']', ',']);
        if depth <= 0 && ends {
            return i + 1;
        }
    }
    lines.len()
}

#[cfg(test)]
mod tests {
    use super::{COMMENT, GATE, OTHERS, Quote, parts};

    const CODE: Quote = Quote::CODE;
    const TEST: Quote = Quote { checks: false, others: true };

    const KERNEL: &str = "\
/// Sets y.
///
/// y = x.
#[track_caller]
pub fn copy<T: Real>(
    y: &mut [T], x: &[T],
) {
    let d = x.len();
    let lens = [y.len(); 2];
    assert_eq!(lens, [x.len(); 2]);
    if T::STORED {
        return in_wide(d, [y], [x], |_, [y], [x]| {
            copy(y, x);
        });
    }
    twin!(return fast::Copy { y, x });
    for i in 0..d {
        assert_eq!(i, i);
        y[i] = x[i];
    }
}";

    #[test]
    fn a_kernel_shows_its_formula() {
        let parts = parts(KERNEL, CODE);
        let folded: Vec<_> = parts.iter().map(|p| p.folded).collect();
        assert_eq!(folded, [Some(COMMENT), None, Some(GATE), None]);
        let shown: Vec<&str> = parts
            .iter()
            .filter(|p| p.folded.is_none())
            .flat_map(|p| p.lines.iter().copied())
            .collect();
        assert_eq!(shown.len(), 4 + 5, "{shown:?}");
        assert_eq!(shown[3].trim(), "let d = x.len();");
        let all: Vec<&str> = parts.into_iter().flat_map(|p| p.lines).collect();
        assert_eq!(all.join("\n"), KERNEL, "nothing is lost");
    }

    /// Whatever the last line of its documentation ends with.
    #[test]
    fn a_function_without_attributes_is_folded_as_well() {
        let text = "/// One.\nfn f(y: &mut [f32]) {\n    twin!(return fast::F { y });\n    y[0] = 1.0;\n}";
        let parts = parts(text, CODE);
        let folded: Vec<_> = parts.iter().map(|p| p.folded).collect();
        assert_eq!(folded, [None, Some(GATE), None]);
    }

    #[test]
    fn where_other_numbers_are_explained_they_are_shown() {
        let how = Quote::new("src/nn/copy.rs", "half");
        let parts = parts(KERNEL, how);
        let shown = parts.iter().filter(|p| p.folded.is_none());
        let shown: Vec<&str> =
            shown.flat_map(|p| p.lines.iter().map(|l| l.trim())).collect();
        assert!(shown.contains(&"if T::STORED {"), "{shown:?}");
        assert!(!shown.contains(&"/// Sets y."), "{shown:?}");
    }

    /// What is looked for is what the library's kernels say.
    #[test]
    fn the_library_has_what_is_folded() {
        let kernels = include_str!("../../src/nn/rmsnorm.rs");
        for begins in OTHERS {
            let has = |l: &str| l.trim_start().starts_with(begins);
            assert!(kernels.lines().any(has), "no kernel has `{begins}`");
        }
    }

    #[test]
    fn what_is_short_or_asserts_in_a_test_stays() {
        let text = "/// One.\n/// Two.\nfn f(x: u8) {\n    assert!(x > 1);\n    g();\n}";
        assert_eq!(parts(text, CODE).len(), 1);
        let text = "fn f(x: u8) {\n    assert!(x > 1);\n    assert!(x < 9);\n}";
        assert_eq!(parts(text, CODE).len(), 3);
        assert_eq!(parts(text, TEST).len(), 1);
    }
}
