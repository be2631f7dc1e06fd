//! Chapter: training. Files and directories that are whole or not there,
//! whoever else writes beside.
#![cfg(unix)]

use crate::edit::Dir;
use moe_by_hand::error::Result;
use moe_by_hand::file::{Lock, NewDir, first_free, remove_parts, write_atomic};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

fn names(dir: &Path) -> Vec<String> {
    let name = |e: io::Result<fs::DirEntry>| e.unwrap().file_name();
    let names = fs::read_dir(dir).unwrap().map(name);
    let mut names: Vec<_> = names.map(|n| n.into_string().unwrap()).collect();
    names.sort();
    names
}
fn write(path: &Path, text: &str) -> Result<()> {
    write_atomic(path, |w| w.write_all(text.as_bytes()))
}

/// The first edition wrote through a link of the name that it used.
#[test]
fn a_link_is_never_written_through() {
    let dir = Dir::new();
    let [mine, file] = ["mine", "file"].map(|n| dir.0.join(n));
    fs::write(&mine, "mine").unwrap();
    symlink(&mine, dir.0.join("file.part")).unwrap();
    symlink(&mine, &file).unwrap();
    write(&file, "new").unwrap();
    assert_eq!(fs::read_to_string(&mine).unwrap(), "mine");
    assert_eq!(fs::read_to_string(&file).unwrap(), "new");
    let lock = dir.0.join("lock");
    symlink(&mine, &lock).unwrap();
    let error = Lock::take(&lock).unwrap_err().to_string();
    assert!(error.contains("a symbolic link, but"), "{error}");
    assert_eq!(fs::read_to_string(&mine).unwrap(), "mine");
}

/// Each of many writers publishes its own text, whole.
#[test]
fn two_writers_never_mix() {
    let dir = Dir::new();
    let file = dir.0.join("file");
    thread::scope(|s| {
        for c in ["a", "b", "c", "d"] {
            let file = &file;
            s.spawn(move || {
                for n in 0..40 {
                    let text = c.repeat(1000 + n);
                    write_atomic(file, |w| {
                        text.as_bytes().chunks(99).try_for_each(|part| {
                            thread::yield_now();
                            w.write_all(part)
                        })
                    })
                    .unwrap();
                    let is = fs::read_to_string(file).unwrap();
                    let same = is.chars().all(|c| is.starts_with(c));
                    assert!(same && is.len() >= 1000, "a mixture");
                }
            });
        }
    });
    assert_eq!(names(&dir.0), ["file"], "nothing is left beside");
}

#[test]
fn a_failure_leaves_what_was_there() {
    let dir = Dir::new();
    let file = dir.0.join("file");
    write(&file, "old").unwrap();
    let full = |w: &mut dyn Write| {
        w.write_all(b"half")?;
        Err(io::Error::from(io::ErrorKind::StorageFull))
    };
    write_atomic(&file, full).unwrap_err();
    assert_eq!(fs::read_to_string(&file).unwrap(), "old");
    assert_eq!(names(&dir.0), ["file"]);
}

#[test]
fn half_files_of_a_killed_run_are_removed_and_no_others() {
    let dir = Dir::new();
    let keep = ["a", "a.part", "a.0123.part", "b.0123456789abcdef.part"];
    for name in keep.iter().chain(&["a.0123456789abcdef.part"]) {
        fs::write(dir.0.join(name), "").unwrap();
    }
    remove_parts(&dir.0, &["a"]);
    let mut keep = keep.map(String::from);
    keep.sort();
    assert_eq!(names(&dir.0), keep);
}

#[test]
fn a_new_directory_appears_whole_or_not_at_all() {
    let home = Dir::new();
    let dir = home.0.join("above/new");
    // Dropped, and nothing is left, not even the directory above.
    drop(NewDir::beside(&dir).unwrap());
    assert!(names(&home.0).is_empty());
    let mut new = NewDir::beside(&dir).unwrap();
    fs::write(new.path().join("file"), "").unwrap();
    assert!(!dir.exists(), "not yet");
    new.publish(&dir).unwrap();
    assert_eq!(names(&dir), ["file"]);
    // What another program put there stays.
    drop(new);
    assert_eq!(names(&dir), ["file"]);
    // A name that is taken, in every way.
    let empty = home.0.join("empty");
    fs::create_dir(&empty).unwrap();
    fs::write(home.0.join("plain"), "").unwrap();
    symlink("nowhere", home.0.join("link")).unwrap();
    let before = names(&home.0);
    for taken in
        [".", "", "..", "empty", "plain", "link", "above/new", "no/../empty"]
    {
        let taken = home.0.join(taken);
        let error = NewDir::beside(&taken)
            .and_then(|mut new| new.publish(&taken))
            .unwrap_err();
        assert_eq!(error.to_string().lines().count(), 1, "{error}");
        assert_eq!(names(&home.0), before, "{}", taken.display());
    }
    assert!(NewDir::beside(&home.0.join("plain/below")).is_err());
}

/// One of many that want one name gets it.
#[test]
fn a_name_is_given_once() {
    let home = Dir::new();
    for n in 0..20 {
        let dir = home.0.join(format!("{n}"));
        let wins = thread::scope(|s| {
            let start = |k: usize| {
                let dir = &dir;
                s.spawn(move || {
                    let mut new = NewDir::beside(dir).ok()?;
                    let file = new.path().join(k.to_string());
                    fs::write(file, "").unwrap();
                    new.publish(dir).ok()?;
                    new.keep();
                    Some(k.to_string())
                })
            };
            let all: Vec<_> = (0..4).map(start).collect();
            let all = all.into_iter().filter_map(|t| t.join().unwrap());
            all.collect::<Vec<_>>()
        });
        assert_eq!(wins.len(), 1, "{wins:?}");
        assert_eq!(names(&dir), wins, "whole, and the winner's");
    }
    assert_eq!(names(&home.0).len(), 20, "nothing is left beside");
}

/// Others may take a name at any moment: before it is asked for, after it was
/// chosen, and while its directory is being filled.
#[test]
fn a_name_that_another_takes_meanwhile_is_passed_over() {
    let home = Dir::new();
    let take = |name: &Path| fs::create_dir(name).unwrap();
    let all = (0..6).map(|n| home.0.join(n.to_string()));
    let mut names = all.clone().peekable();
    take(&home.0.join("0"));
    let mut wanted = vec![];
    let mut new = first_free(&mut names, |name| {
        wanted.push(name.to_path_buf());
        if wanted.len() == 2 {
            take(name);
        }
        NewDir::beside(name)
    })
    .unwrap();
    take(&home.0.join("2"));
    let mut publish = |name: &Path| new.publish(name);
    first_free(&mut names, &mut publish).unwrap();
    assert_eq!(names.next(), all.clone().nth(3));
    assert!(home.0.join("3").is_dir());
    // The last name's error, and one that is not about the name.
    let mut last = all.clone().take(3).peekable();
    let error = first_free(&mut last, NewDir::beside).unwrap_err();
    assert!(error.to_string().contains("2, but that exists"), "{error}");
    fs::write(home.0.join("plain"), "").unwrap();
    let mut below =
        (0..9).map(|n| home.0.join(format!("plain/{n}"))).peekable();
    assert!(first_free(&mut below, NewDir::beside).is_err());
    assert_eq!(below.next(), Some(home.0.join("plain/1")));
}

/// One that is refused takes away the directories it made above; another that
/// begins at that moment makes them again.
#[test]
fn a_directory_that_vanishes_above_is_made_again() {
    let home = Dir::new();
    let runs = home.0.join("a/runs");
    let done = AtomicBool::new(false);
    thread::scope(|s| {
        s.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let _ = fs::create_dir_all(&runs);
                let _ = fs::remove_dir(&runs);
                let _ = fs::remove_dir(home.0.join("a"));
            }
        });
        let make = |_| NewDir::beside(&runs.join("x")).map(drop);
        let made = (0..500).try_for_each(make);
        done.store(true, Ordering::Relaxed);
        made.unwrap();
    });
}

#[test]
fn a_lock_is_held_once_and_ends_with_its_owner() {
    let dir = Dir::new();
    let path = dir.0.join("lock");
    // A lock that nobody signed leaves no file.
    drop(Lock::take(&path).unwrap());
    assert!(!path.exists());
    let mut lock = Lock::take(&path).unwrap();
    let error = Lock::take(&path).unwrap_err().to_string();
    assert!(error.contains("in use by a process, but"), "{error}");
    lock.sign().unwrap();
    let error = Lock::take(&path).unwrap_err().to_string();
    let id = std::process::id();
    assert!(error.contains(&format!("in use by process {id}, but")), "{error}");
    drop(lock);
    drop(Lock::take(&path).unwrap());
    assert!(path.exists(), "signed once, it stays");
}
