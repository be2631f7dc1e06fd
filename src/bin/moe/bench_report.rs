//! Chapter: simd. `moe bench-report`.

use crate::output::show;
use moe_by_hand::error::{Error, Result, plain};
use moe_by_hand::{file, json};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Args)]
#[command(after_help = "\
A file is what `cargo bench` writes, or a program in benches/peers, or one of
the published figures there. Figures of another machine, or of wider experts,
say so in the first lines: they are no race.

Examples:
  moe bench-report target/scenarios.json
  moe bench-report target/scenarios.json torch.json
  moe bench-report target/scenarios.json benches/peers/zen5-*.json")]
pub(crate) struct Args {
    /// Each becomes a column
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// As much of a file as is shown.
#[derive(Deserialize)]
struct File {
    metadata: Metadata,
    scenarios: Vec<Scenario>,
}
#[derive(Deserialize)]
struct Metadata {
    label: Option<String>,
    language: Option<String>,
    machine: Option<String>,
    cpu_model: Option<String>,
    note: Option<String>,
}
#[derive(Deserialize)]
struct Scenario {
    id: String,
    axis: String,
    median_ns: f64,
    throughput_tokens_per_sec: Option<f64>,
    memory: Option<Memory>,
    derived: Option<Derived>,
    numerical: Option<Numerical>,
}
#[derive(Deserialize)]
struct Memory {
    peak_rss_bytes: Option<f64>,
    alloc_bytes: Option<f64>,
}
#[derive(Deserialize)]
struct Derived {
    gflops: Option<f64>,
}
#[derive(Deserialize)]
struct Numerical {
    nan_count: Option<u64>,
    inf_count: Option<u64>,
}

pub(crate) fn run(args: Args) -> Result<ExitCode> {
    let files: Result<Vec<File>> = args.files.iter().map(|f| read(f)).collect();
    show(&report(&files?))?;
    Ok(ExitCode::SUCCESS)
}
fn read(path: &Path) -> Result<File> {
    // The longest that is known has 40 kB.
    const MOST: u64 = 16 << 20;
    let cure = "write one with `cargo bench`";
    let text = file::read(path, MOST)?;
    let wrong = |value: &dyn std::fmt::Display, rule: &str| {
        Error::input(path.display(), value, rule, cure)
    };
    let file: File = json::parse(&text).map_err(|e| {
        wrong(&format!("not understood ({e})"), "a report reads scenarios.json")
    })?;
    if file.scenarios.is_empty() {
        return Err(wrong(&"without scenarios", "there must be one"));
    }
    for (i, s) in file.scenarios.iter().enumerate() {
        if s.median_ns <= 0.0 || !s.median_ns.is_finite() {
            let value = format!("damaged ({}: {} ns)", s.id, s.median_ns);
            return Err(wrong(&value, "a median is a time above 0"));
        }
        if file.scenarios[..i].iter().any(|t| t.id == s.id) {
            let value = format!("damaged ({} twice)", s.id);
            return Err(wrong(&value, "each scenario stands there once"));
        }
    }
    Ok(file)
}

impl File {
    fn find(&self, id: &str) -> Option<&Scenario> {
        self.scenarios.iter().find(|s| s.id == id)
    }
    /// The median, in ns.
    fn ns(&self, id: &str) -> Option<f64> {
        Some(self.find(id)?.median_ns)
    }
    /// How often a second, with so many at a time.
    fn rate(&self, id: &str, threads: f64) -> Option<f64> {
        Some(threads * 1e9 / self.ns(id)?)
    }
    fn ratio(&self, above: &str, below: &str) -> Option<f64> {
        Some(self.ns(above)? / self.ns(below)?)
    }
    fn rss(&self, id: &str) -> Option<f64> {
        Some(self.find(id)?.memory.as_ref()?.peak_rss_bytes? / 1e6)
    }
    fn allocated(&self, id: &str) -> Option<f64> {
        Some(self.find(id)?.memory.as_ref()?.alloc_bytes? / 1e6)
    }
}

/// The table that has one column for all files.
const SPREAD: &str = "Spread, slowest/fastest";

/// A row of a table: its name, and its value in each column.
type Row = (String, Vec<Option<f64>>);

fn report(files: &[File]) -> String {
    let mut out = String::new();
    for (i, f) in files.iter().enumerate() {
        out += &heading(i + 1, f);
    }
    for (title, rows) in tables(files) {
        out += &table(title, &rows);
    }
    if files.len() > 1 {
        out += &table(SPREAD, &spread(files));
    }
    out
}
/// What column `n` is: of which machine, with which reservations.
fn heading(n: usize, f: &File) -> String {
    let m = &f.metadata;
    let name = m.label.as_ref().or(m.language.as_ref());
    let machine = m.machine.as_ref().or(m.cpu_model.as_ref());
    let [name, machine] =
        [name, machine].map(|said| said.map_or("?".into(), |s| plain(s)));
    let mut out = format!("[{n}] {name}: {machine}\n");
    if let Some(note) = &m.note {
        out += &format!("    {}\n", plain(note));
    }
    for s in &f.scenarios {
        let odd = s
            .numerical
            .as_ref()
            .is_some_and(|n| n.nan_count > Some(0) || n.inf_count > Some(0));
        if odd {
            let id = plain(&s.id);
            out += &format!("    {id}: some outputs are no numbers\n");
        }
    }
    out
}
/// Every table with a column for each file.
fn tables(files: &[File]) -> [(&'static str, Vec<Row>); 11] {
    let row = |name: &str, f: &dyn Fn(&File) -> Option<f64>| -> Row {
        (name.to_string(), files.iter().map(f).collect())
    };
    let ms = |name: &str, id: &str| row(name, &|f| Some(f.ns(id)? / 1e6));
    let us = |name: &str, id: &str| row(name, &|f| Some(f.ns(id)? / 1e3));
    let sizes = |name: &str, id: &str, all: [usize; 4]| {
        all.map(|n| ms(&format!("{name} {n}"), &format!("{id}_{n}"))).into()
    };
    let (train, warm, cold) =
        ("mem_train_step", "dispatch_warm", "dispatch_cold");
    let gflops = |f: &File| f.find("kernel_matmul")?.derived.as_ref()?.gflops;
    let core = vec![
        ms("forward, ms", warm),
        ms("training step, ms", train),
        row("product, GFLOP/s", &gflops),
        row("four threads, forwards/s", &|f| f.rate("parallel_T4", 4.0)),
        row("peak memory of a step, MB", &|f| f.rss(train)),
    ];
    let kernels = vec![
        us("softmax of 1000", "kernel_softmax"),
        us("RMSNorm of 64 × 64", "kernel_rmsnorm"),
        us("product of 64 × 64 × 64", "kernel_matmul"),
    ];
    let dispatch = vec![
        ms("warm", warm),
        ms("cold", cold),
        row("cold/warm", &|f| f.ratio(cold, warm)),
    ];
    let memory = vec![
        row("allocated by a training step", &|f| f.allocated(train)),
        row("allocated by a forward", &|f| f.allocated(warm)),
        row("peak of the training step", &|f| f.rss(train)),
        row("peak of the forward", &|f| f.rss(warm)),
    ];
    let wide = vec![
        ms("forward", "scale_forward_256"),
        ms("training step", "scale_train_256"),
    ];
    [
        ("Core, width 64", core),
        ("Kernels, µs", kernels),
        ("Parallel, forwards/s", parallel(files, "parallel")),
        ("Parallel, training steps/s", parallel(files, "parallel_train")),
        ("Dispatch, ms", dispatch),
        ("Memory, MB", memory),
        ("Batch, ms", sizes("batch", "mem_scale_batch", [1, 2, 4, 8])),
        ("Sequence, ms", sizes("length", "mem_scale_seq", [8, 16, 32, 64])),
        ("Scale: width 256, ms", wide),
        ("Extra, ms", extra(files, |s| Some(s.median_ns / 1e6))),
        ("Extra, tokens/s", extra(files, |s| s.throughput_tokens_per_sec)),
    ]
}
/// The rate with 1, 2 and 4 threads, and what more of them gain.
fn parallel(files: &[File], kind: &str) -> Vec<Row> {
    let id = |threads: usize| format!("{kind}_T{threads}");
    let rate = |t: usize| -> Row {
        let each = files.iter().map(|f| f.rate(&id(t), t as f64));
        (format!("T{t}"), each.collect())
    };
    let gain = |t: usize| -> Row {
        let gain = |f: &File| Some(t as f64 / f.ratio(&id(t), &id(1))?);
        (format!("T{t}/T1"), files.iter().map(gain).collect())
    };
    vec![rate(1), rate(2), rate(4), gain(2), gain(4)]
}
/// What is beyond the prior art's scenarios, in the order of the files.
fn extra(files: &[File], value: impl Fn(&Scenario) -> Option<f64>) -> Vec<Row> {
    let all = files.iter().flat_map(|f| &f.scenarios);
    let mut ids: Vec<&str> = vec![];
    for s in all.filter(|s| s.axis == "extra") {
        if !ids.contains(&s.id.as_str()) {
            ids.push(&s.id);
        }
    }
    let row = |id: &str| {
        let each = files.iter().map(|f| f.find(id).and_then(&value)).collect();
        (plain(id), each)
    };
    ids.into_iter().map(row).collect()
}
fn spread(files: &[File]) -> Vec<Row> {
    let row = |(name, id): (&str, &str)| {
        let times: Vec<f64> = files.iter().filter_map(|f| f.ns(id)).collect();
        let slowest = times.iter().copied().reduce(f64::max);
        let fastest = times.iter().copied().reduce(f64::min);
        let ratio = slowest.zip(fastest).map(|(slow, fast)| slow / fast);
        (name.to_string(), vec![ratio.filter(|_| times.len() > 1)])
    };
    [
        ("forward, width 64", "dispatch_warm"),
        ("training, width 64", "mem_train_step"),
        ("forward, width 256", "scale_forward_256"),
        ("training, width 256", "scale_train_256"),
    ]
    .map(row)
    .into()
}

/// Rows that have a value somewhere; nothing if there are none.
fn table(title: &str, rows: &[Row]) -> String {
    let some = |r: &&Row| r.1.iter().any(Option::is_some);
    let rows: Vec<&Row> = rows.iter().filter(some).collect();
    let Some(first) = rows.first() else { return String::new() };
    let mut out = format!("\n{title:30}");
    let columns = if title == SPREAD { 0 } else { first.1.len() };
    for i in 1..=columns {
        out += &format!("{:>11}", format!("[{i}]"));
    }
    for (name, values) in rows {
        out += &format!("\n  {name:28}");
        for v in values {
            out += &format!("{:>11}", v.map_or("–".into(), number));
        }
    }
    out + "\n"
}
/// Four digits that count.
fn number(x: f64) -> String {
    match x.abs() {
        0.0 => "0".into(),
        ..10.0 => format!("{x:.3}"),
        ..100.0 => format!("{x:.2}"),
        ..1000.0 => format!("{x:.1}"),
        _ => format!("{x:.0}"),
    }
}
