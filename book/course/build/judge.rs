//! Judges what is written so far: the project's proofs, one for each equation.
//!
//!     cargo run                        all of them
//!     cargo run -- softmax-forward     one, or several

mod early;

use moe_by_hand::check::{CHECKS, Check, find};
use std::collections::HashMap;
use std::panic;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

/// Where each panic was, by its words.
static PLACES: Mutex<Option<HashMap<String, String>>> = Mutex::new(None);

/// What is known of an equation.
enum Verdict {
    Holds,
    /// Something is not written yet that it, or its check, needs.
    Open(String),
    Fails(String),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
/// How a panic begins that a hole has caused.
const OPEN: &str = "not written yet: ";
/// The innermost equation that is written, does not hold, and is a part of this
/// one.
fn root(check: &Check) -> Option<&'static str> {
    let mut parts = check.of.iter().filter_map(|id| find(id));
    parts.find_map(|part| {
        let wrong = || match part.measure() {
            Ok(report) => !report.holds(),
            Err(words) => !words.starts_with(OPEN),
        };
        root(part).or_else(|| wrong().then_some(part.id))
    })
}
/// What is known of it; while its proof waits, by what can be told early.
fn verdict(check: &Check) -> Verdict {
    match judged(check) {
        Verdict::Open(words) => {
            let early = early::EARLY.iter().find(|e| e.id == check.id);
            match early.map(judged) {
                Some(wrong @ Verdict::Fails(_)) => wrong,
                _ => Verdict::Open(words),
            }
        }
        known => known,
    }
}
fn judged(check: &Check) -> Verdict {
    match check.measure() {
        Ok(report) if report.holds() => Verdict::Holds,
        Err(words) if words.starts_with(OPEN) => Verdict::Open(words),
        outcome => {
            if let Some(root) = root(check) {
                return Verdict::Fails(format!(
                    "rests on {root}, which does not hold: mend that first"
                ));
            }
            Verdict::Fails(match outcome {
                Ok(report) => {
                    format!("does not hold:{}", report.broken())
                }
                Err(words) => {
                    let places = lock(&PLACES);
                    let place = places.as_ref().and_then(|p| p.get(&words));
                    let place =
                        place.map_or(String::new(), |p| format!(" ({p})"));
                    format!("could not be measured: {words}{place}")
                }
            })
        }
    }
}

/// What a panic says.
fn words_of<'a>(info: &'a panic::PanicHookInfo) -> &'a str {
    let words = info.payload();
    let text = words.downcast_ref::<String>().map(|s| &s[..]);
    text.or(words.downcast_ref::<&str>().copied()).unwrap_or("it panicked")
}

fn main() -> ExitCode {
    let mut ids: Vec<String> = std::env::args().skip(1).collect();
    let lines = ids.first().is_some_and(|a| a == "--lines"); // for a program
    if lines {
        ids.remove(0);
    }
    for id in &ids {
        if find(id).is_none() {
            eprintln!("error: {id}: no equation has this id");
            return ExitCode::from(2);
        }
    }
    panic::set_hook(Box::new(|info| {
        let words = words_of(info).to_string();
        if words.starts_with("failed printing to stdout: Broken pipe") {
            std::process::exit(0); // nobody reads it any more
        }
        let place =
            info.location().map(|l| format!("{}:{}", l.file(), l.line()));
        let mut places = lock(&PLACES);
        let places = places.get_or_insert_default();
        places.insert(words, place.unwrap_or_default());
    }));
    let wanted = |c: &&Check| ids.is_empty() || ids.iter().any(|i| i == c.id);
    let checks: Vec<&Check> = CHECKS.iter().filter(wanted).collect();
    let verdicts: Vec<Mutex<Option<Verdict>>> =
        checks.iter().map(|_| Mutex::new(None)).collect();
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Relaxed);
                    let Some(check) = checks.get(i) else { break };
                    *lock(&verdicts[i]) = Some(verdict(check));
                }
            });
        }
    });
    let mut good = true;
    for (check, verdict) in checks.iter().zip(&verdicts) {
        let (mark, words) = match lock(verdict).take() {
            Some(Verdict::Holds) => ("holds", String::new()),
            Some(Verdict::Open(words)) => ("open", words),
            Some(Verdict::Fails(words)) => ("fails", words),
            None => ("fails", "was not judged".into()),
        };
        good &= mark == "holds";
        let id = check.id;
        if lines {
            let words = words.replace('\\', "\\\\").replace('\n', "\\n");
            println!("{id}\t{mark}\t{words}");
        } else if words.is_empty() {
            println!("{id:<28} holds");
        } else {
            println!("{id:<28} {words}");
        }
    }
    ExitCode::from(u8::from(!good))
}
