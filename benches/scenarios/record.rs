//! `scenarios.json`, in the prior art's schema.

use crate::list::Scenario;
use crate::measure::{WARM, measured};
use crate::work;
use moe_by_hand::kernel::simd::Isa;
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};
use std::{env, fs};

/// What criterion leaves of one benchmark.
#[derive(Deserialize)]
struct Sample {
    /// Runs in each sample, and ns that they took together.
    iters: Vec<f64>,
    times: Vec<f64>,
}

/// Writes what is known of the scenarios that ran.
pub(crate) fn write(target: &Path, ran: &[Scenario]) {
    let records: Vec<Value> = ran.iter().map(|s| record(target, s)).collect();
    let all = json!({ "metadata": metadata(&records), "scenarios": records });
    let path = target.join("scenarios.json");
    fs::write(&path, format!("{all:#}\n")).unwrap();
    println!("{} scenarios in {}", records.len(), path.display());
}

fn record(target: &Path, s: &Scenario) -> Value {
    let dir = target.join("criterion").join(s.group).join(&s.id);
    let sample = fs::read(dir.join("new/sample.json")).unwrap();
    let sample: Sample = serde_json::from_slice(&sample).unwrap();
    let each = sample.times.iter().zip(&sample.iters).map(|(t, n)| t / n);
    let timings: Vec<f64> = each.collect();
    let mut order = timings.clone();
    order.sort_by(f64::total_cmp);
    let median = percentile(&order, 0.5);
    let m = measured(s);
    let mut cpu: Vec<f64> = m.cpu_times_ns.iter().map(|&t| t as f64).collect();
    cpu.sort_by(f64::total_cmp);
    let cpu_median = (!cpu.is_empty()).then(|| percentile(&cpu, 0.5));
    let mut derived = json!({
        "alloc_rate_bytes_per_sec": m.alloc_bytes as f64 / (median * 1e-9),
        "gc_throughput": 1.0,
    });
    if let Some(flops) = s.flops() {
        derived["gflops"] = (flops as f64 / median).into();
    }
    json!({
        "id": s.id,
        "axis": s.group,
        "params": s.params(),
        "warmup_runs": WARM,
        "trial_runs": timings.len(),
        "timings_ns": timings,
        "cpu_times_ns": m.cpu_times_ns,
        "warmup_timings_ns": m.warmup_timings_ns,
        "median_ns": median,
        "p95_ns": percentile(&order, 0.95),
        "min_ns": order[0],
        "max_ns": order[order.len() - 1],
        "iqr_ns": percentile(&order, 0.75) - percentile(&order, 0.25),
        "cpu_median_ns": cpu_median,
        "throughput_tokens_per_sec":
            s.tokens().map(|n| n as f64 / (median * 1e-9)),
        "memory": {
            "peak_rss_bytes": m.peak_rss_bytes,
            "alloc_bytes": m.alloc_bytes,
        },
        // there is no collector
        "gc": { "total_gc_time_ns": 0, "gc_pause_count": 0 },
        "numerical": {
            "nan_count": m.nan_count,
            "inf_count": m.inf_count,
            "max_abs": m.max_abs,
        },
        "derived": derived,
    })
}
/// The quantile p of sorted numbers, interpolated linearly.
fn percentile(sorted: &[f64], p: f64) -> f64 {
    let at = p * (sorted.len() - 1) as f64;
    let (low, high) = (at.floor() as usize, at.ceil() as usize);
    sorted[low] + (at - low as f64) * (sorted[high] - sorted[low])
}

fn metadata(records: &[Value]) -> Value {
    let trials = records.iter().filter_map(|r| r["trial_runs"].as_u64()).max();
    let cpu = cpu_model();
    json!({
        "label": "moe-by-hand",
        "machine": cpu,
        "note": "timings: criterion's samples, one thread unless said; CPU \
                 time, memory and outputs: a process of its own for each",
        "language": "rust",
        "language_version": compiler(),
        "instruction_set": Isa::current().to_string(),
        "os": format!("{} {}", env::consts::OS, env::consts::ARCH),
        "cpu_model": cpu,
        "timestamp": timestamp(),
        "n_trials": trials,
        "n_warmup": WARM,
        "seed": work::SEED,
    })
}
fn compiler() -> String {
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let said = Command::new(rustc).arg("--version").output();
    let said = said.map(|s| String::from_utf8_lossy(&s.stdout).into_owned());
    said.unwrap_or_default().trim().to_string()
}
fn cpu_model() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = info.lines().find(|l| l.starts_with("model name"));
    let name = line.and_then(|l| l.split(": ").nth(1));
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    format!("{}, {cores} threads", name.unwrap_or(env::consts::ARCH))
}
/// Now, as ISO 8601 in UTC.
fn timestamp() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let (days, rest) = ((now / 86_400) as i64, now % 86_400);
    // Days since 1 March of the year 0, in eras of 400 years.
    // Source: Hinnant 2013, civil_from_days.
    let z = days + 719_468;
    let (era, doe) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * mp + 2) / 5 + 1, (mp + 2) % 12 + 1);
    let year = yoe + era * 400 + i64::from(month <= 2);
    let (h, m, s) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}Z")
}
