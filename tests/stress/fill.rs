//! Chapter: training. A disk that is full: as a limit on the size of a file,
//! which needs no privilege.

use crate::home::{Home, SETTINGS, parts};
use moe_by_hand::rng::Rng;
use moe_by_hand::train::checkpoint::FILE;
use std::fs;

pub(crate) fn run(home: &Home, tries: usize, seed: u64) -> usize {
    let whole = home.left("whole");
    let mut rng = Rng::named(seed, "sizes");
    let largest = fs::metadata(home.path("whole").join(FILE)).unwrap().len();
    let blocks = largest as usize / 512;
    home.stopped("stopped");
    let (mut full, mut faults) = (0, 0);
    for n in 0..tries {
        let mut fault = |what: &str| {
            println!("fault: {what}");
            faults += 1;
        };
        let limit = rng.below(blocks);
        let new = n % 2 == 0;
        let args = match new {
            true => format!("train {SETTINGS} --out full"),
            false => "train --resume --out full".into(),
        };
        home.clear("full");
        if !new {
            home.copy("stopped", "full");
        }
        let end = home.limited(limit, &args);
        if end.code == Some(0) {
            continue; // small enough files
        }
        full += 1;
        let one = end.last().starts_with("moe: ");
        if end.code != Some(2) || !one {
            fault(&format!("{args} with {limit}: {:?}", end.said));
        }
        let out = home.path("full");
        if out.exists() && parts(&out) > 0 || parts(&home.dir) > 0 {
            fault(&format!("{args} with {limit}: half files are left"));
        }
        // With room it goes on, or begins, by the same command: it failed
        // before its first checkpoint, or says how to go on.
        let again = match new && out.exists() {
            true => "train --resume --out full",
            false => &args,
        };
        let end = home.end(again);
        if end.code != Some(0) {
            fault(&format!("{again} after {limit}: {}", end.last()));
        } else if home.left("full") != whole {
            fault(&format!("{args} with {limit}: other bits or lines"));
        }
    }
    println!("{full} full disks in {tries} tries");
    faults
}
