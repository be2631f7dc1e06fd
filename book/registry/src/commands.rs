//! Commands that texts print, to be typed: the lines of blocks of `console`,
//! and whatever stands between ticks and begins as one.

use crate::book::{after_ticks, fence};
use crate::error::{Error, files, read};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::process::{Command, Stdio};

/// Where texts lie that print commands.
const TEXTS: &[&str] = &[
    "README.md",
    "CONTRIBUTING.md",
    "book/src",
    "book/course",
    "src",
    "tests",
];
const ALIASES: &str = ".cargo/config.toml";
/// What a command of the project begins with.
const FIRST: &[&str] = &["cargo", "moe"];

/// A command as a text prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Printed {
    /// The file, relative to the top.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// As it is printed, on one line.
    pub text: String,
    /// Its words as a shell takes them, an alias of cargo's written out.
    pub words: Vec<String>,
    /// Whether it stands by itself, in a block; in a sentence it may lack what
    /// the reader has to add.
    pub whole: bool,
}

impl fmt::Display for Printed {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}:{}: `{}`", self.file, self.line, self.text)
    }
}

/// All commands that the texts print, in the order of the files.
pub fn commands(root: &Path) -> Result<Vec<Printed>, Error> {
    let aliases = &aliases(root)?;
    let mut all = Vec::new();
    for text in TEXTS {
        let texts = match text.ends_with(".md") {
            true if root.join(text).exists() => vec![text.to_string()],
            _ => files(root, text, "md")?,
        };
        for file in texts {
            in_text(&file, &read(root, &file)?, aliases, &mut all);
        }
    }
    // Below a figure stands what made its data.
    for file in files(root, "book/figures", "csv")? {
        let text = read(root, &file)?;
        for (line, text) in (1..).zip(text.lines()) {
            let typed = text.strip_prefix("# command: ");
            if let Some((text, words)) = typed.and_then(|t| command(t, aliases))
            {
                let (file, whole) = (file.clone(), true);
                all.push(Printed { file, line, text, words, whole });
            }
        }
    }
    Ok(all)
}

type Aliases = BTreeMap<String, Vec<String>>;

/// What `.cargo/config.toml` calls by a shorter name.
fn aliases(root: &Path) -> Result<Aliases, Error> {
    if !root.join(ALIASES).exists() {
        return Ok(Aliases::new());
    }
    let fail = |e: toml::de::Error| Error(format!("{ALIASES}: {e}"));
    let config: toml::Table = read(root, ALIASES)?.parse().map_err(fail)?;
    let named = config.get("alias").and_then(|a| a.as_table());
    let written = named.into_iter().flatten().filter_map(|(name, words)| {
        let words = words.as_str()?.split_whitespace();
        Some((name.clone(), words.map(String::from).collect()))
    });
    Ok(written.collect())
}

/// Lines of a block, each with its number.
type Lines<'a> = Vec<(usize, &'a str)>;

/// The commands of one text.
fn in_text(file: &str, text: &str, aliases: &Aliases, all: &mut Vec<Printed>) {
    let mut say = |line: usize, text: &str, whole: bool| {
        if let Some((text, words)) = command(text, aliases) {
            let file = file.to_string();
            all.push(Printed { file, line, text, words, whole });
        }
    };
    // The fence we are in: its ticks, and the lines of a block of `console`.
    let mut open: Option<(&str, Option<Lines>)> = None;
    let mut prose = String::new(); // with an empty line for each of a fence
    for (at, line) in (1..).zip(text.lines()) {
        match (&mut open, fence(line)) {
            (None, Some((ticks, info))) => {
                let console = info.starts_with("console");
                open = Some((ticks, console.then(Vec::new)));
            }
            (Some((begin, lines)), Some((ticks, "")))
                if ticks.starts_with(*begin) =>
            {
                in_block(&lines.take().unwrap_or_default(), &mut say);
                open = None;
            }
            (Some((_, lines)), _) => {
                lines.iter_mut().for_each(|all| all.push((at, line)));
            }
            (None, None) => prose += line,
        }
        prose.push('\n');
    }
    in_prose(&prose, &mut say);
}

type Say<'a> = dyn FnMut(usize, &str, bool) + 'a;

/// Where some lines begin with `$`, the others are what was printed.
fn in_block(lines: &[(usize, &str)], say: &mut Say) {
    let prompts = lines.iter().any(|(_, l)| l.trim().starts_with("$ "));
    let mut from: Option<(usize, String)> = None; // goes on in the next line
    for &(at, line) in lines {
        let line = line.trim();
        let typed = match (line.strip_prefix("$ "), &from) {
            (Some(typed), _) => typed,
            (None, None) if prompts => continue,
            (None, _) => line,
        };
        let (at, before) = from.take().unwrap_or((at, String::new()));
        match typed.strip_suffix('\\') {
            Some(typed) => from = Some((at, before + typed)),
            None => say(at, &(before + typed), true),
        }
    }
}

/// Between ticks, also where a line ends there.
fn in_prose(prose: &str, say: &mut Say) {
    let (mut rest, mut line) = (prose, 1);
    while let Some(at) = rest.find('`') {
        line += rest[..at].matches('\n').count();
        let after = rest[at..].trim_start_matches('`');
        let ticks = rest.len() - at - after.len();
        // No span goes on in the next paragraph.
        let paragraph = after.split("\n\n").next().unwrap_or_default();
        let Some(next) = after_ticks(paragraph, ticks) else {
            rest = after;
            continue;
        };
        let inside = &paragraph[..paragraph.len() - next.len() - ticks];
        say(line, inside, false);
        line += inside.matches('\n').count();
        rest = &after[inside.len() + ticks..];
    }
}

/// A command on one line and its words, if it is one and says something.
fn command(text: &str, aliases: &Aliases) -> Option<(String, Vec<String>)> {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut words = shell_words(&text);
    let set = |w: &String| {
        let name = w.split_once('=').map_or("", |(name, _)| name);
        let letter =
            |c: char| c.is_ascii_uppercase() || "_0123456789".contains(c);
        !name.is_empty() && name.chars().all(letter)
    };
    let begins = words.iter().position(|w| !set(w))?;
    words.drain(..begins);
    if words.len() < 2 || !FIRST.contains(&&*words[0]) {
        return None;
    }
    if let Some(alias) = aliases.get(&words[1]).filter(|_| words[0] == "cargo")
    {
        words.splice(1..2, alias.iter().cloned());
    }
    Some((text, words))
}

/// The words of the first command on this line, without its comment and
/// without what stands for something that the reader puts there or leaves out:
/// `[NAME]`, `…`.
fn shell_words(text: &str) -> Vec<String> {
    let (mut words, mut word) = (Vec::new(), None::<String>);
    let (mut quote, mut plain) = (None, true);
    for c in text.chars().chain([' ']) {
        match (quote, c) {
            (None, '#') if word.is_none() => break,
            (None, '\'' | '"') => {
                (quote, plain) = (Some(c), false);
                word.get_or_insert_default();
            }
            (None, ' ') => {
                let Some(done) = word.take() else { continue };
                if plain && ["|", "&&", ";", ">", "&"].contains(&&*done) {
                    break;
                }
                let done = done.trim_end_matches("...").to_string();
                let open = plain && done.starts_with(['[', '…']);
                words.extend((!open).then_some(done));
                plain = true;
            }
            (Some(q), c) if c == q => quote = None,
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words
}

impl Printed {
    /// The program of the project that it runs, by the name of the example, of
    /// the binary or of the package, and what that is given.
    pub fn runs(&self) -> Option<(&str, &[String])> {
        if self.words[0] == "moe" {
            return Some(("moe", &self.words[1..]));
        }
        if self.words[1] != "run" {
            return None;
        }
        let end = self.words.iter().position(|w| w == "--");
        let (own, given) = match end {
            Some(at) => (&self.words[..at], &self.words[at + 1..]),
            None => (&self.words[..], &[][..]),
        };
        let value = |keys: &[&str]| {
            let at = own.iter().position(|w| keys.contains(&&**w))?;
            own.get(at + 1).map(String::as_str)
        };
        // `cargo run` without a name runs the command.
        let package = value(&["-p", "--package"]).unwrap_or("moe");
        let name = value(&["--example"]).or(value(&["--bin"]));
        Some((name.unwrap_or(package), given))
    }
}

/// What a program refuses of the commands that the texts print, one line each;
/// the number counts them all. `ask` says what is wrong with what the program
/// is given, and whether the command is [`Printed::whole`].
pub fn refused(
    root: &Path, name: &str,
    mut ask: impl FnMut(&[String], bool) -> Option<String>,
) -> Result<(usize, Vec<String>), Error> {
    let (mut seen, mut faults) = (0, Vec::new());
    for printed in commands(root)? {
        let Some((_, given)) = printed.runs().filter(|r| r.0 == name) else {
            continue;
        };
        seen += 1;
        if let Some(said) = ask(given, printed.whole) {
            let said = said.lines().find(|l| !l.trim().is_empty());
            let said = said.unwrap_or("it is refused");
            faults.push(format!("{printed}: {said}; correct the line"));
        }
    }
    Ok((seen, faults))
}

/// Asks a program for its help, behind what it is given: it helps only if it
/// knows all that stands before. For [`refused`].
pub fn ask_for_help(
    program: &Path, given: &[String], whole: bool,
) -> Option<String> {
    let mut command = Command::new(program);
    command.args(given).arg("--help").stdin(Stdio::null());
    let done = match command.output() {
        Ok(done) => done,
        Err(e) => return Some(format!("{}: {e}", program.display())),
    };
    if !done.status.success() {
        return Some(String::from_utf8_lossy(&done.stderr).into_owned());
    }
    // `Usage: sweeps [OPTIONS] --text <FILE> [NAMES]...`
    let help = String::from_utf8_lossy(&done.stdout);
    let usage = help.lines().find(|l| l.starts_with("Usage: "))?;
    let lacks = |option: &&str| {
        let is = |w: &String| w.split('=').next() == Some(option);
        option.starts_with("--") && !given.iter().any(is)
    };
    let lacks = usage.split_whitespace().find(lacks).filter(|_| whole)?;
    Some(format!("{lacks} is missing"))
}
