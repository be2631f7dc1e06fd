//! Chapter: training. A directory with a small config, a text and a whole run
//! to compare others with.

use moe_by_hand::config::Config;
use moe_by_hand::hf;
use moe_by_hand::train::checkpoint::{self, Checkpoint};
use moe_by_hand::train::metrics;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// What a run is begun with.
pub(crate) const SETTINGS: &str = "--config small.json --text text --batch 4 --seq 16 --eval-every 20 \
     --save-every 7 --accumulate 2 --steps 200";

pub(crate) struct Home {
    pub(crate) dir: PathBuf,
    moe: PathBuf,
    /// How long the whole run took.
    pub(crate) time: Duration,
}
impl Home {
    pub(crate) fn new(moe: PathBuf) -> Self {
        let name = format!("moe-stress-{}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        fs::create_dir_all(&dir).unwrap();
        let config = Config {
            hidden: 16,
            layers: 2,
            kv_heads: 2,
            head: 4,
            experts: 4,
            intermediate: 8,
            context: 32,
            ..Config::preset("bytes").unwrap()
        };
        fs::write(dir.join("small.json"), config.to_json()).unwrap();
        let text = "the gate chose an expert. ".repeat(40);
        fs::write(dir.join("text"), text).unwrap();
        let mut home = Self { dir, moe, time: Duration::ZERO };
        let start = Instant::now();
        let end = home.end(&format!("train {SETTINGS} --out whole"));
        assert_eq!(end.code, Some(0), "a run by itself: {}", end.said);
        home.time = start.elapsed();
        home
    }
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
    pub(crate) fn moe(&self, args: &str) -> Command {
        let mut moe = Command::new(&self.moe);
        moe.args(args.split_whitespace()).current_dir(&self.dir);
        moe.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        moe
    }
    pub(crate) fn end(&self, args: &str) -> End {
        End::of(self.moe(args).output().unwrap())
    }
    /// The command where no file may be longer than so many times 512 bytes.
    pub(crate) fn limited(&self, blocks: usize, args: &str) -> End {
        let script = format!(
            "trap '' XFSZ; ulimit -f {blocks}; exec {} {args}",
            self.moe.display()
        );
        let mut sh = Command::new("sh");
        sh.args(["-c", &script]).current_dir(&self.dir).stdin(Stdio::null());
        End::of(sh.output().unwrap())
    }
    /// What a run left, without what the clock says.
    pub(crate) fn left(&self, run: &str) -> Left {
        let dir = self.path(run);
        let saved = Checkpoint::read(&dir.join(checkpoint::FILE)).unwrap();
        let lines = metrics::read(&dir.join(metrics::FILE)).unwrap();
        let timeless = |mut line: metrics::Line| {
            line.metrics.tokens_per_second = 0.0;
            serde_json::to_string(&line).unwrap()
        };
        Left {
            step: saved.state.step,
            tensors: saved.tensors,
            weights: self.left_model(run),
            lines: lines.into_iter().map(timeless).collect(),
        }
    }
    /// The bits of the model in a directory.
    pub(crate) fn left_model(&self, run: &str) -> Vec<u32> {
        let (_, p) = hf::load::<f32>(&self.path(run)).unwrap();
        p.data.iter().map(|w| w.to_bits()).collect()
    }
    /// Removes a run.
    pub(crate) fn clear(&self, run: &str) {
        let _ = fs::remove_dir_all(self.path(run));
    }
    pub(crate) fn copy(&self, from: &str, to: &str) {
        self.clear(to);
        fs::create_dir(self.path(to)).unwrap();
        for file in fs::read_dir(self.path(from)).unwrap() {
            let file = file.unwrap();
            let to = self.path(to).join(file.file_name());
            fs::copy(file.path(), to).unwrap();
        }
    }
    /// A run that was stopped on its way, between two checkpoints; its metrics
    /// go on a few lines.
    pub(crate) fn stopped(&self, run: &str) {
        self.clear(run);
        let args = format!("train {SETTINGS} --out {run}");
        let mut moe = self.moe(&args);
        let moe = moe.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = moe.spawn().unwrap();
        let log = self.path(run).join(metrics::FILE);
        let lines =
            || fs::read_to_string(&log).map_or(0, |l| l.lines().count());
        while lines() < 60 {
            std::thread::sleep(Duration::from_micros(200));
        }
        signal(&child, "KILL");
        child.wait().unwrap();
    }
}
impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}
pub(crate) fn signal(child: &Child, name: &str) {
    let id = child.id().to_string();
    // It may have ended by itself.
    let _ = Command::new("kill")
        .args([&format!("-{name}"), &id])
        .stderr(Stdio::null())
        .status();
}

/// How a command ended.
pub(crate) struct End {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    /// What it said on stderr.
    pub(crate) said: String,
}
impl End {
    pub(crate) fn of(end: Output) -> Self {
        Self {
            code: end.status.code(),
            signal: end.status.signal(),
            said: String::from_utf8_lossy(&end.stderr).into_owned(),
        }
    }
    /// The last line on stderr.
    pub(crate) fn last(&self) -> &str {
        self.said.lines().last().unwrap_or_default()
    }
}
#[derive(PartialEq)]
pub(crate) struct Left {
    pub(crate) step: usize,
    pub(crate) tensors: BTreeMap<String, Vec<f32>>,
    pub(crate) weights: Vec<u32>,
    pub(crate) lines: Vec<String>,
}
/// Temporary files and directories that lie about.
pub(crate) fn parts(dir: &Path) -> usize {
    let names = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name());
    names.filter(|n| n.to_string_lossy().ends_with(".part")).count()
}
