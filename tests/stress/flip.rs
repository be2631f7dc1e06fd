//! Chapter: training. One flipped bit in a file of a run.

use crate::home::Home;
use moe_by_hand::rng::Rng;
use std::fs;

const FILES: [&str; 4] =
    ["training.safetensors", "model.safetensors", "metrics.jsonl", "run.json"];

pub(crate) fn run(home: &Home, tries: usize, seed: u64) -> usize {
    home.stopped("stopped");
    home.copy("stopped", "good");
    let end = home.end("train --resume --out good");
    assert_eq!(end.code, Some(0), "{}", end.said);
    let (good, mut all) = (home.left("good"), 0);
    for file in FILES {
        let Ok(bytes) = fs::read(home.path("stopped").join(file)) else {
            println!("{file}: not there");
            continue;
        };
        let mut rng = Rng::named(seed, file);
        let (mut refused, mut told, mut same, mut faults) = (0, 0, 0, 0);
        for _ in 0..tries {
            let (at, bit) = (rng.below(bytes.len()), rng.below(8));
            home.copy("stopped", "flipped");
            let mut bad = bytes.clone();
            bad[at] ^= 1 << bit;
            fs::write(home.path("flipped").join(file), bad).unwrap();
            let mut fault = |what: &str| {
                if faults < 5 {
                    println!("fault: {file}, byte {at}, bit {bit}: {what}");
                }
                faults += 1;
            };
            let args = match file {
                "model.safetensors" => {
                    "generate --model flipped --prompt the --max-tokens 1"
                }
                _ => "train --resume --out flipped",
            };
            let end = home.end(args);
            let noticed = end.said.contains("damaged");
            match end.code {
                Some(2) if end.said.lines().count() == 1 => refused += 1,
                Some(0) if file == "model.safetensors" => {
                    let whole = home.left_model("stopped");
                    if home.left_model("flipped") == whole {
                        same += 1;
                    } else {
                        fault("taken, with other weights");
                    }
                }
                Some(0) => {
                    let left = home.left("flipped");
                    let equal = left == good;
                    let weights = left.weights == good.weights;
                    let after = left.lines.len() + 2 >= good.lines.len();
                    match (equal, noticed) {
                        (true, false) => same += 1,
                        _ if noticed && weights && after => told += 1,
                        _ if !weights => fault("other weights"),
                        _ if !after => fault("lines are lost"),
                        _ => fault("not noticed"),
                    }
                }
                _ => fault(&format!("{:?}: {}", end.code, end.last())),
            }
        }
        println!(
            "{file}: {tries} flips, {refused} refused, {told} told, {same} of \
             no effect, {faults} faults"
        );
        all += faults;
    }
    all
}
