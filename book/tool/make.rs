//! Builds the book: every check, then the pages, then every check of these.
//! What is built replaces what was there only when all is well.

use crate::chapters::{self, Tally};
use crate::directives::Directives;
use crate::sources::SourcePages;
use crate::text::all_well;
use crate::{figures, links, measure, rules};
use anyhow::{Context, Result};
use mdbook_driver::MDBook;
use registry::Sources;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;

/// How strict to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Whatever is wrong is an error.
    Strict,
    /// Whatever is wrong is printed, and the book built all the same: for
    /// chapters that are being written.
    Draft,
}

/// The top of the project: the nearest folder, from here up, that holds
/// `equations.toml`.
pub fn root() -> Result<PathBuf> {
    let here = std::env::current_dir()?;
    let top = here.ancestors().find(|a| a.join("equations.toml").exists());
    let top =
        top.context("no equations.toml here or above; go into the project")?;
    Ok(top.to_path_buf())
}

/// Waits until no other process builds, and keeps others waiting: they would
/// write to the same folders. The system frees the lock with the process.
fn lock(root: &Path) -> Result<File> {
    let folder = root.join("target/book");
    fs::create_dir_all(&folder)?;
    let mut open = OpenOptions::new();
    let file = open.create(true).append(true).open(folder.join("lock"))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            eprintln!("another `cargo book` is building: waiting for it");
            file.lock()?;
        }
        Err(TryLockError::Error(e)) if e.kind() != ErrorKind::Unsupported => {
            return Err(e.into());
        }
        _ => {}
    }
    Ok(file)
}

/// Builds the book of the project at `root` into `target/book/html`, whose
/// path it returns.
pub fn build(root: &Path, mode: Mode) -> Result<PathBuf> {
    let _lock = lock(root)?;
    let next = root.join("target/book/next");
    let html = root.join("target/book/html");
    build_into(root, &next, mode)?;
    if html.exists() {
        fs::remove_dir_all(&html)?;
    }
    fs::rename(next.join("html"), &html)?;
    fs::remove_dir_all(&next)?;
    Ok(html)
}

/// Builds the book and drops it: only its faults are wanted.
pub fn check(root: &Path) -> Result<()> {
    let _lock = lock(root)?;
    let folder = root.join("target/book/check");
    let built = build_into(root, &folder, Mode::Strict);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    built
}

fn build_into(root: &Path, folder: &Path, mode: Mode) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    let drawn = figures::faults(root)?;
    if mode == Mode::Strict {
        all_well(&drawn)?;
    }
    // Rules need no pages, and pages no rules: both at once. What breaks a rule
    // may break a page; so it is told first.
    let (kept, built) = thread::scope(|scope| {
        let kept = scope.spawn(|| check_rules(root, mode));
        let built = pages(root, folder, mode);
        (kept.join(), built)
    });
    kept.unwrap_or_else(|panic| resume_unwind(panic))?;
    built?;
    let mut faults = links::faults(&folder.join("html"))?;
    if mode == Mode::Strict {
        all_well(&faults)?;
    }
    faults.extend(drawn);
    for fault in faults {
        eprintln!("draft: {fault}");
    }
    Ok(())
}

/// Every rule that chapters, equations and sources keep. A draft prints what
/// breaks one, and goes on.
pub fn check_rules(root: &Path, mode: Mode) -> Result<()> {
    let faults = rules::faults(root)?;
    if mode == Mode::Strict {
        return all_well(&faults);
    }
    for fault in faults {
        eprintln!("draft: {fault}");
    }
    Ok(())
}

fn pages(root: &Path, folder: &Path, mode: Mode) -> Result<()> {
    let mut book = MDBook::load(root.join("book"))?;
    book.config.build.build_dir = folder.to_path_buf();
    // These replace, in place, the commands of the same name in book.toml.
    book.with_preprocessor(Directives { draft: mode == Mode::Draft });
    book.with_renderer(SourcePages);
    book.build()
}

/// Measures anew if the sources are no longer those that were measured. That
/// takes minutes; so what does not fit together is said before.
pub fn measure_if_changed(root: &Path, mode: Mode) -> Result<()> {
    let _lock = lock(root)?;
    let last = measure::last(root);
    if last.current {
        return Ok(());
    }
    if mode == Mode::Strict {
        check_rules(root, mode)?;
    }
    let why = match last.rungs.is_empty() {
        true => "nothing is measured yet",
        false => "the sources have changed",
    };
    eprintln!("{why}: running `moe check`");
    measure::measure(root)
}

/// A line for each chapter: minutes, equations, exercises.
pub fn tallies(root: &Path) -> Result<String> {
    let sources = Sources::load(root)?;
    let (mut out, mut all) = (String::new(), Tally::default());
    for chapter in chapters::chapters(root)? {
        let t = chapters::tally(&chapter, &sources);
        out += &format!("{:<22}{}\n", chapter.file, line(&t));
        all.minutes += t.minutes;
        all.equations += t.equations;
        all.exercises += t.exercises;
        for (all, of) in all.of_kind.iter_mut().zip(t.of_kind) {
            *all += of;
        }
        all.solutions += t.solutions;
    }
    Ok(format!("{out}{:<22}{}", "all", line(&all)))
}

fn line(t: &Tally) -> String {
    let [paper, code, measure] = t.of_kind;
    let others = t.exercises - paper - code - measure;
    format!(
        "{:>4} min {:>4} equations {:>4} exercises: {paper:>3} paper \
         {code:>3} code {measure:>3} measure {others:>3} of no kind {:>4} \
         solutions",
        t.minutes, t.equations, t.exercises, t.solutions
    )
}
