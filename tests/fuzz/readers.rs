//! Chapter: scaling-out. Every reader of files from outside, fed files that were
//! whole before they were spoiled.
//!
//! What has to hold of each: no panic, an answer at once, and, where it is an
//! error, one plain line.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use crate::edit::Dir;
use moe_by_hand::config::Config;
use moe_by_hand::error::{Result, steers};
use moe_by_hand::rng::Rng;
use moe_by_hand::train::checkpoint::{Checkpoint, State};
use moe_by_hand::train::data::Text;
use moe_by_hand::train::metrics::{self, History};
use moe_by_hand::train::optimizer::{AdamW, Decay};
use moe_by_hand::train::options::Options;
use moe_by_hand::train::trainer::Trainer;
use moe_by_hand::{hf, model::Model, oracle};
use registry::{Registry, Target};
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// One reader, and a directory with a file that it reads.
pub(crate) struct Reader {
    name: &'static str,
    dir: Dir,
    file: &'static str,
    /// The file as it was.
    whole: Vec<u8>,
    read: fn(&Path) -> std::result::Result<(), String>,
    /// How many tries one of its own costs, compared with the cheapest.
    pub(crate) cost: usize,
}

/// An error's line; and that it is one.
fn line<T>(r: Result<T>) -> std::result::Result<(), String> {
    let Err(e) = r else { return Ok(()) };
    assert_eq!(e.exit_code(), 2, "{e}");
    Err(e.to_string())
}
/// The project: this file belongs to a test and to an example.
fn top() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let top = here.ancestors().find(|d| d.join("equations.toml").exists());
    top.expect("a folder with equations.toml")
}
fn oracle(name: &str) -> PathBuf {
    top().join("tests/oracle").join(name)
}
/// A run of two steps, with all of its files.
fn run() -> Dir {
    let dir = Dir::new();
    let config = Config {
        vocab: 256,
        hidden: 4,
        heads: 1,
        head: 4,
        layers: 1,
        experts: 2,
        intermediate: 2,
        context: 8,
        ..Config::preset("tiny").unwrap()
    };
    let o = Options { steps: 4, batch: 1, seq: 4, ..Options::default() };
    let text = Text::new(b"what is read here ".repeat(9));
    let model = Model::new(config).unwrap();
    let adam = AdamW::new(&model.layout, o.decay, Decay::Weights);
    let loss = moe_by_hand::nn::loss::CrossEntropy;
    let mut t = Trainer::with(model, text, o, adam, loss).unwrap();
    let mut lines = String::new();
    for _ in 0..2 {
        let metrics = t.step().unwrap();
        let load = t.load().map(<[f64]>::to_vec).collect();
        let line = metrics::Line { metrics, val: Some(1.5), load };
        lines += &(serde_json::to_string(&line).unwrap() + "\n");
    }
    t.save(&dir.0.join("training.safetensors")).unwrap();
    let saved = Checkpoint::read(&dir.0.join("training.safetensors")).unwrap();
    fs::write(dir.0.join("run.json"), saved.state.to_json()).unwrap();
    fs::write(dir.0.join("metrics.jsonl"), lines).unwrap();
    dir
}
/// All of them.
pub(crate) fn readers() -> Vec<Reader> {
    type Read = fn(&Path) -> std::result::Result<(), String>;
    let reader = |name, dir: Dir, file: &'static str, read: Read, cost| {
        let whole = fs::read(dir.0.join(file)).unwrap();
        Reader { name, dir, file, whole, read, cost }
    };
    let copy = |name: &str| Dir::copy_of(&oracle(name));
    let model = |dir: &Path| line(hf::load::<f32>(dir).map(|_| ()));
    let config = |dir: &Path| line(Config::read(&dir.join("config.json")));
    let equations = Dir::new();
    let all = top().join("equations.toml");
    fs::copy(all, equations.0.join("equations.toml")).unwrap();
    let bench = Dir::new();
    let measured = serde_json::json!({
        "metadata": { "label": "ours", "machine": "a machine" },
        "scenarios": [{ "id": "a", "axis": "x", "median_ns": 1.5e6,
            "memory": { "peak_rss_bytes": 1 } }],
    });
    fs::write(bench.0.join("bench.json"), measured.to_string()).unwrap();
    vec![
        reader("config", copy("tiny"), "config.json", config, 1),
        reader(
            "a config beside weights",
            copy("tiny"),
            "config.json",
            model,
            2,
        ),
        reader("weights", copy("tiny"), "model.safetensors", model, 2),
        reader("joined weights", copy("fused"), "model.safetensors", model, 2),
        reader(
            "an index",
            copy("sharded"),
            "model.safetensors.index.json",
            model,
            2,
        ),
        reader(
            "a checkpoint",
            run(),
            "training.safetensors",
            |dir| line(Checkpoint::read(&dir.join("training.safetensors"))),
            2,
        ),
        reader(
            "a run's settings",
            run(),
            "run.json",
            |dir| line(State::read(&dir.join("run.json"))),
            1,
        ),
        reader(
            "metrics",
            run(),
            "metrics.jsonl",
            |dir| {
                let path = dir.join("metrics.jsonl");
                let history = History::read(&path, 1, None).unwrap();
                metrics::read(&path).unwrap();
                // Bad lines are no error: they are kept aside.
                match history.bad.len() {
                    0 => Ok(()),
                    n => Err(format!("{n} bad lines")),
                }
            },
            1,
        ),
        reader(
            "a text",
            run(),
            "metrics.jsonl",
            |dir| line(Text::read(&dir.join("metrics.jsonl"))),
            1,
        ),
        reader(
            "a reference",
            copy("tied"),
            "reference.safetensors",
            |dir| line(oracle::compare(dir, 1)),
            2000,
        ),
        reader(
            "measurements",
            bench,
            "bench.json",
            |dir| {
                let text = fs::read(dir.join("bench.json")).unwrap();
                let read = moe_by_hand::json::parse::<serde_json::Value>;
                read(&text).map(drop)
            },
            1,
        ),
        reader(
            "equations.toml",
            equations,
            "equations.toml",
            |dir| match Registry::load(dir) {
                Ok(_) => Ok(()),
                Err(e) => Err(e.to_string()),
            },
            40,
        ),
        reader(
            "the name of an item",
            run(),
            "run.json",
            |dir| {
                let text = fs::read(dir.join("run.json")).unwrap();
                let text = String::from_utf8_lossy(&text);
                let short: String = text.chars().take(40).collect();
                short.parse::<Target>().map(drop).map_err(|e| e.to_string())
            },
            1,
        ),
    ]
}

impl Reader {
    /// Spoils the file, reads it, and looks at what comes of it; whether it was
    /// read all the same.
    pub(crate) fn try_once(&self, seed: u64, n: usize) -> bool {
        let mut rng = Rng::named(seed, &format!("{} {n}", self.name));
        let spoiled = spoil(&self.whole, &mut rng);
        let path = self.dir.0.join(self.file);
        fs::write(&path, &spoiled).unwrap();
        let (dir, read) = (self.dir.0.clone(), self.read);
        let begun = Instant::now();
        let said = catch_unwind(move || read(&dir));
        let seconds = begun.elapsed();
        let which = format!("{}, seed {seed}, try {n}", self.name);
        let Ok(said) = said else {
            let kept = std::env::temp_dir().join("moe-fuzz-panic");
            fs::write(&kept, &spoiled).unwrap();
            panic!("{which}: a panic; the file is {}", kept.display());
        };
        // A whole comparison takes as long as it takes.
        let most = Duration::from_secs(if self.cost > 1000 { 60 } else { 10 });
        assert!(seconds < most, "{which}: it took {seconds:?}");
        if let Err(line) = &said {
            // Files' paths and names are ours; what they hold is not.
            assert!(!line.contains(steers), "{which}: {line:?}");
        }
        said.is_ok()
    }
    /// What it is called.
    pub(crate) fn name(&self) -> &str {
        self.name
    }
}

/// Numbers and words at which readers have stumbled.
const STRANGE: [&str; 24] = [
    "18446744073709551615",
    "18446744073709551616",
    "9223372036854775807",
    "4294967296",
    "1000000",
    "-1",
    "0",
    "1e400",
    "-0.0",
    "1e-400",
    "NaN",
    "null",
    "true",
    "[]",
    "{}",
    "\"\"",
    "\"\\ud800\"",
    "\"a\\nb\\u001b\"",
    "[[[[[[[[[[[[[[[[",
    ",",
    ":",
    "\"vocab_size\":7,",
    "\u{202e}\u{7}",
    "0.1",
];
/// A copy with one to four changes, most of them near the beginning, where
/// files say what follows.
fn spoil(whole: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut b = whole.to_vec();
    for _ in 0..1 + rng.below(4) {
        if b.is_empty() {
            break;
        }
        let end = if rng.below(4) > 0 { b.len().min(4000) } else { b.len() };
        let at = rng.below(end);
        let len = 1 + rng.below(16.min(b.len() - at));
        match rng.below(9) {
            0 => b[at] ^= 1 << rng.below(8),
            1 => b[at] = rng.bits() as u8,
            2 => b.truncate(at),
            3 => drop(b.drain(at..at + len)),
            4 => {
                let part = b[at..at + len].to_vec();
                let to = rng.below(b.len());
                b.splice(to..to, part);
            }
            5 => {
                let word = STRANGE[rng.below(STRANGE.len())];
                b.splice(at..at, word.bytes());
            }
            // a number becomes another
            6 | 7 => {
                let Some(from) = b[at..].iter().position(u8::is_ascii_digit)
                else {
                    continue;
                };
                let from = at + from;
                let digits =
                    b[from..].iter().take_while(|c| c.is_ascii_digit());
                let to = from + digits.count();
                let word = STRANGE[rng.below(STRANGE.len())];
                b.splice(from..to, word.bytes());
            }
            // the first eight bytes of a safetensors file
            _ => {
                let n = b.len().min(8);
                let claim = rng.bits64() >> rng.below(64);
                b[..n].copy_from_slice(&claim.to_le_bytes()[..n]);
            }
        }
    }
    // half of the changed headers are given their length
    if whole.get(8) == Some(&b'{') && b.len() > 8 && rng.below(2) == 0 {
        let grown = b.len() as i64 - whole.len() as i64;
        let old = u64::from_le_bytes(whole[..8].try_into().unwrap());
        let new = old.saturating_add_signed(grown);
        b[..8].copy_from_slice(&new.to_le_bytes());
    }
    b
}
