//! Shows that the library with holes is what it should be: it builds, holds
//! nothing that was cut out, and each hole stops the checks that rest on it.

use crate::copy::{files, write};
use crate::cut::{Mode, function, kept, parse, range, tokens};
use crate::hints;
use crate::holes::{Hole, OURS, Track};
use crate::next::cargo;
use crate::table::Table;
use anyhow::{Context, Result, ensure};
use registry::STORED;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Instant;
use syn::visit::{self, Visit};

/// Statements of fewer tokens are in every program.
const SHORT: usize = 10;

pub(crate) fn rows(track: &Track, table: &mut Table) -> Result<()> {
    let room = track.root.join("target/course/copies");
    let equations: usize = track.holes.iter().map(|h| h.ids.len()).sum();
    let (holes, chapters) = (track.holes.len(), track.chapters.len());
    let coded = track.registry.equations.iter().filter(|e| e.code.is_some());
    let coded = coded.count();
    table.row("equations with code", equations == coded, &format!(
        "{equations} of {coded}, in {holes} functions and {chapters} chapters"
    ));
    answers(track, table)?;
    let (stays, goes) = widening(track)?;
    let said = format!(
        "above {} holes; in {} it is the answer once more",
        stays.len(),
        goes.join(" and ")
    );
    let what = "what widens numbers of 16 bits stays";
    table.row(what, stays.len() > goes.len(), &said);
    let faults = hints::faults(track)?;
    table.row(
        "three hints for each hole",
        faults.is_empty(),
        &format!("{} {}", 3 * holes, faults.join("; ")),
    );
    let start = Instant::now();
    let copy = fresh(track, &room, "cut", Mode::Cut)?;
    let mut build = cargo(&copy);
    build.args(["build", "--message-format", "short", "--all-targets"]);
    build.env("CARGO_TARGET_DIR", room.join("target"));
    let built = build.output().context("cargo cannot be run")?;
    let said = String::from_utf8_lossy(&built.stderr);
    let complaint = said.lines().find(|l| {
        l.contains("warning:") || l.contains("error:") || l.contains("error[")
    });
    let good = built.status.success() && complaint.is_none();
    let seconds = start.elapsed().as_secs();
    let found = complaint.unwrap_or("no warning");
    table.row("the copy builds", good, &format!("{found}, {seconds} s"));
    let copy = fresh(track, &room, "switch", Mode::Switch)?;
    let mut singly = cargo(&copy);
    singly.args(["run", "--quiet", "--bin", "singly", "--"]);
    singly.args(track.holes.iter().map(|h| h.names()));
    singly.env("CARGO_TARGET_DIR", room.join("target"));
    let ran = singly.output().context("cargo cannot be run")?;
    let out = String::from_utf8_lossy(&ran.stdout);
    if !ran.status.success() {
        let said = String::from_utf8_lossy(&ran.stderr);
        let said: String = said.chars().take(2000).collect();
        table.row("the copy with a switch at each hole", false, &said);
        return Ok(());
    }
    for line in out.lines() {
        if let [mark @ ("ok" | "WRONG"), what, found] =
            line.split('\t').collect::<Vec<_>>()[..]
        {
            table.row(what, mark == "ok", found);
        }
    }
    order(track, &out, table)?;
    for n in 1..=track.milestones.len() {
        let start = Instant::now();
        let mut run = cargo(&copy);
        run.args(["run", "--quiet", "--bin", "milestone", "--"]);
        run.arg(n.to_string());
        run.env("CARGO_TARGET_DIR", room.join("target"));
        // as a reader has it who comes to this one: later holes are open
        let later = track.holes.iter().filter(|h| h.milestone > n);
        let later: Vec<String> = later.map(Hole::names).collect();
        run.env("OPEN_HOLES", later.join(";"));
        let ran = run.output().context("cargo cannot be run")?;
        let [out, err] = [&ran.stdout, &ran.stderr]
            .map(|said| String::from_utf8_lossy(said).into_owned());
        let last = err.lines().last().or(out.lines().last());
        let seconds = start.elapsed().as_secs_f64();
        let found = format!("{}, {seconds:.1} s", last.unwrap_or("nothing"));
        let name = format!("milestone {n}");
        table.row(&name, ran.status.success(), &found);
    }
    Ok(())
}
/// An empty folder with a copy, of which the compiler sees what has changed.
fn fresh(
    track: &Track, room: &Path, name: &str, mode: Mode,
) -> Result<std::path::PathBuf> {
    let folder = room.join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    write(track, &folder, mode)?;
    Ok(folder)
}

/// The functions in which a hole leaves what widens numbers that are stored, and
/// those in which it does not.
fn widening(track: &Track) -> Result<(Vec<&str>, Vec<&str>)> {
    let (mut stays, mut goes) = (vec![], vec![]);
    for hole in &track.holes {
        let files = &track.sources.files;
        let source = files.iter().find(|s| s.file == hole.file);
        let text = &source.context("a source")?.text;
        let file = parse(text)?;
        let (_, block) = function(&file, hole.line).context("a body")?;
        let widens = |stmt: &syn::Stmt| {
            text[range(stmt)].starts_with(&format!("if {STORED} {{"))
        };
        let kept = &block.stmts[..kept(text, hole, block)];
        if kept.iter().any(widens) {
            stays.push(&hole.item[..]);
        } else if block.stmts.iter().any(widens) {
            goes.push(&hole.item[..]);
        }
    }
    Ok((stays, goes))
}

/// What is cut out stands nowhere in the copy.
fn answers(track: &Track, table: &mut Table) -> Result<()> {
    struct Statements<'a>(&'a str, BTreeSet<String>);
    impl Visit<'_> for Statements<'_> {
        fn visit_stmt(&mut self, stmt: &syn::Stmt) {
            let range = range(stmt);
            let tokens = tokens(&self.0[range.clone()]);
            // what is marked computes an equation, however short it is
            let line = self.0[range.end..].lines().next().unwrap_or_default();
            let marked = line.contains("// eq: ") && tokens.len() > 3;
            if tokens.len() >= SHORT || marked {
                self.1.insert(tokens.join(" "));
            }
            visit::visit_stmt(self, stmt);
        }
    }
    let mut cut = BTreeSet::new();
    for hole in &track.holes {
        let all = &track.sources.files;
        let source = all.iter().find(|s| s.file == hole.file);
        let text = &source.context("a source")?.text;
        let file = parse(text)?;
        let (_, block) = function(&file, hole.line).context("a body")?;
        let mut statements = Statements(text, BTreeSet::new());
        for stmt in &block.stmts[kept(text, hole, block)..] {
            statements.visit_stmt(stmt);
        }
        cut.extend(statements.1);
    }
    let common = fs::read_to_string(Path::new(OURS).join("common.txt"));
    let common = common.context("common.txt")?;
    let common: Vec<&str> = common.lines().collect();
    let (mut found, mut seen) = (vec![], BTreeSet::new());
    for (name, text) in files(track, Mode::Cut)? {
        if !name.ends_with(".rs") {
            continue;
        }
        let all = tokens(&text).join(" ");
        let here = cut.iter().filter(|statement| all.contains(*statement));
        for statement in here {
            if common.contains(&&statement[..]) {
                seen.insert(statement.clone());
            } else {
                found.push(format!("{name}: {statement}"));
            }
        }
        for (word, what) in [("twin ! (", "a door"), ("fast : :", "a twin")] {
            if all.contains(word) {
                found.push(format!("{name}: {what}"));
            }
        }
    }
    ensure!(!cut.is_empty(), "nothing was cut");
    let old = common.iter().filter(|c| !seen.contains(**c));
    found.extend(old.map(|c| format!("common.txt: is nowhere: {c}")));
    table.row(
        "what is cut out stands nowhere",
        found.is_empty(),
        &format!(
            "{} statements, {} of them common ones; {}",
            cut.len(),
            common.len(),
            found.join("; ")
        ),
    );
    Ok(())
}

/// Equations whose checks wait for a later milestone: they are proven on a
/// larger thing than they belong to.
const LATE: [&str; 5] = [
    "attention-forward",
    "block-forward",
    "residual-backward",
    "router-backward",
    "z-loss",
];
/// Written in order, every other equation can be judged with its milestone.
fn order(track: &Track, out: &str, table: &mut Table) -> Result<()> {
    let mut waiting = BTreeSet::new();
    for line in out.lines() {
        let mut fields = line.split('\t');
        let (Some("reach"), Some(id)) = (fields.next(), fields.next()) else {
            continue;
        };
        let when = |names: &str| {
            let found = track.holes.iter().find(|h| h.names() == names);
            found.map_or(0, |h| h.milestone)
        };
        let Some(own) = track.find(id).map(|h| h.milestone) else {
            continue;
        };
        if fields.any(|f| when(f) > own) {
            waiting.insert(id);
        }
    }
    let found: Vec<&str> = waiting.iter().copied().collect();
    let found = format!("these wait for later ones: {}", found.join(", "));
    let good = waiting == BTreeSet::from(LATE);
    table.row("in order", good, &found);
    Ok(())
}
