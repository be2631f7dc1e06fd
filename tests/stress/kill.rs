//! Chapter: training. Signals at random moments, and `--resume` without a word
//! on the settings.

use crate::home::{End, Home, SETTINGS, parts, signal};
use moe_by_hand::rng::Rng;
use moe_by_hand::train::checkpoint;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

pub(crate) fn run(home: &Home, tries: usize, seed: u64) -> usize {
    let whole = home.left("whole");
    let mut rng = Rng::named(seed, "moments");
    let (mut kills, mut early, mut runs, mut faults) = (0, 0, 0, 0);
    let mut fault = |what: &str| {
        println!("fault: {what}");
        faults += 1;
    };
    while kills < tries {
        runs += 1;
        let name = format!("run{runs}");
        let out = home.path(&name);
        let saved = out.join(checkpoint::FILE);
        let mut starts = 0;
        let ended = loop {
            starts += 1;
            let threads = 1 + rng.below(3);
            let settings = if out.exists() { "--resume" } else { SETTINGS };
            let args =
                format!("train {settings} --out {name} --threads {threads}");
            let mut moe = home.moe(&args);
            let child = moe.stdout(Stdio::null()).spawn().unwrap();
            // A third of them while the program begins.
            let most = home.time.mul_f64(0.7);
            let most = match rng.below(3) {
                0 => Duration::from_millis(25).min(most),
                _ => most,
            };
            let wait = most.mul_f64(rng.below(10_000) as f64 / 1e4);
            let names = ["KILL", "TERM", "INT", "HUP"];
            let which = names[rng.below(names.len())];
            let twice = rng.below(4) == 0;
            sleep(wait);
            signal(&child, which);
            if twice {
                sleep(Duration::from_millis(2));
                signal(&child, which);
            }
            let before = !saved.exists();
            let end = End::of(child.wait_with_output().unwrap());
            let by_signal = end.signal.is_some() || end.code == Some(130);
            let fine = by_signal || end.code == Some(0);
            if !fine {
                fault(&format!("{args}, {which}: {}", end.last()));
                break false;
            }
            let done = saved.exists()
                && checkpoint::Checkpoint::read(&saved)
                    .is_ok_and(|c| is_done(&c.state));
            if done && end.code == Some(0) {
                break true;
            }
            kills += 1;
            early += usize::from(before);
            if starts > 500 {
                fault("a run that does not come to its end");
                break false;
            }
        };
        if ended {
            let left = home.left(&name);
            if left.tensors != whole.tensors || left.weights != whole.weights {
                fault(&format!("{name}: other bits"));
            }
            if left.lines != whole.lines {
                let (n, all) = (left.lines.len(), whole.lines.len());
                fault(&format!("{name}: {n} of {all} lines, or other ones"));
            }
            if parts(&out) > 0 {
                fault(&format!("{name}: half files are left behind"));
            }
        }
        home.clear(&name);
    }
    println!("{kills} signals in {runs} runs, {early} before a checkpoint");
    faults
}
fn is_done(state: &checkpoint::State) -> bool {
    let due = state.log.as_ref().is_some_and(|log| log.due.is_some());
    state.step == state.options.steps && !due
}
