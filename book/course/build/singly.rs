//! Which holes stop which checks: `cargo course verify` reads the lines.

use moe_by_hand::check::{CHECKS, Check};
use moe_by_hand::switch::{open, reached};
use std::collections::{BTreeMap, BTreeSet};
use std::panic;
use std::time::Instant;

/// A check is quick below so many milliseconds.
const QUICK: u128 = 20;
/// How often some of the holes are open, at random.
const SUBSETS: usize = 12;

fn row(what: &str, faults: &[String], found: &str) {
    let holds = if faults.is_empty() { "ok" } else { "WRONG" };
    let faults: Vec<&str> = faults.iter().take(3).map(|f| &f[..]).collect();
    let faults = faults.join("; ").replace(['\n', '\t'], " ");
    println!("{holds}\t{what}\t{found} {faults}");
}
/// What is wrong with a check while these holes are open, and it reaches these.
fn fault(
    check: &Check, open: &[&str], reached: &BTreeSet<&str>,
) -> Option<String> {
    let stops = open.iter().any(|o| reached.contains(o));
    let id = check.id;
    match check.measure() {
        Ok(report) if report.holds() && !stops => None,
        Ok(report) if report.holds() => {
            Some(format!("{id} holds without {}", open.join(" and ")))
        }
        Ok(report) => Some(format!("{id} fails by itself:{}", report.broken())),
        Err(words) => {
            let named = open.iter().any(|o| {
                words.starts_with(&format!("not written yet: {o}, chapter "))
            });
            let good = named && stops;
            (!good).then(|| format!("{id} is stopped by: {words}"))
        }
    }
}

fn main() {
    panic::set_hook(Box::new(|_| ()));
    let all: BTreeSet<String> = std::env::args().skip(1).collect();
    let all: BTreeSet<&str> = all.iter().map(|s| &s[..]).collect();
    let mut reach: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut quick: BTreeSet<&str> = BTreeSet::new();
    let mut faults = vec![];
    let start = Instant::now();
    reached();
    for check in CHECKS.iter() {
        let begin = Instant::now();
        match check.measure() {
            Ok(report) if report.holds() => {}
            Ok(report) => {
                faults.push(format!("{}:{}", check.id, report.broken()));
            }
            Err(words) => faults.push(format!("{}: {words}", check.id)),
        }
        if begin.elapsed().as_millis() < QUICK {
            quick.insert(check.id);
        }
        reach.insert(check.id, reached().into_iter().collect());
    }
    let n = CHECKS.len();
    let took = start.elapsed().as_secs_f64();
    row(
        "filled with the library's bodies",
        &faults,
        &format!("{n} checks hold, {took:.1} s;"),
    );
    for (id, holes) in &reach {
        let holes: Vec<&str> = holes.iter().copied().collect();
        println!("reach\t{id}\t{}", holes.join("\t"));
    }
    let seen: BTreeSet<&str> = reach.values().flatten().copied().collect();
    let unseen: Vec<String> =
        all.difference(&seen).map(|h| h.to_string()).collect();
    row(
        "every hole is reached by a check",
        &unseen,
        &format!("{} of {};", seen.len(), all.len()),
    );
    let measured = |holes: &[&str], only_quick: bool| {
        let mut faults = vec![];
        let (mut stopped, mut held) = (0, 0);
        open(holes);
        for check in CHECKS.iter() {
            let reached = &reach[check.id];
            let stops = holes.iter().any(|h| reached.contains(h));
            if !stops && only_quick && !quick.contains(check.id) {
                continue;
            }
            stopped += usize::from(stops);
            held += usize::from(!stops);
            faults.extend(fault(check, holes, reached));
        }
        open(&[]);
        (faults, stopped, held)
    };
    let holes: Vec<&str> = all.iter().copied().collect();
    let (faults, stopped, held) = measured(&holes, false);
    row(
        "all holes open",
        &faults,
        &format!("{stopped} checks are stopped, {held} hold;"),
    );
    let (mut faults, mut stopped, mut held) = (vec![], 0, 0);
    for hole in &holes {
        let (more, s, h) = measured(&[hole], true);
        faults.extend(more);
        (stopped, held) = (stopped + s, held + h);
    }
    row(
        "each hole singly",
        &faults,
        &format!(
            "{} holes: {stopped} times a check that rests on it is stopped, \
         {held} times a quick one that does not holds;",
            holes.len()
        ),
    );
    let (mut faults, mut stopped, mut held) = (vec![], 0, 0);
    let mut state = 1u64;
    for round in 1..=SUBSETS {
        let mut some = vec![];
        for hole in &holes {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            if state % SUBSETS as u64 * 2 < round as u64 {
                some.push(*hole);
            }
        }
        let (more, s, h) = measured(&some, false);
        faults.extend(more);
        (stopped, held) = (stopped + s, held + h);
    }
    row(
        "some holes at a time",
        &faults,
        &format!("{SUBSETS} times: {stopped} checks stopped, {held} hold;"),
    );
}
