//! What criterion does not measure, in a process that runs one scenario.

use crate::allocator;
use crate::list::Scenario;
use serde::{Deserialize, Serialize};
use std::process::Command;
use std::{env, fs};

/// What the child is asked with; not for people.
pub(crate) const CHILD: &str = "--measure-one";
/// Runs before the ones that count, and these.
pub(crate) const WARM: u64 = 3;
const TRIALS: u64 = 10;

/// What the process says of itself.
#[derive(Serialize, Deserialize)]
pub(crate) struct Measured {
    /// How long each warm-up took.
    pub(crate) warmup_timings_ns: Vec<u64>,
    /// CPU time of all threads, for each trial; none where the system does not
    /// say.
    pub(crate) cpu_times_ns: Vec<u64>,
    /// The most memory that it ever had.
    pub(crate) peak_rss_bytes: Option<u64>,
    /// What one run asked the allocator for.
    pub(crate) alloc_bytes: u64,
    /// Outputs that are NaN, …
    pub(crate) nan_count: u64,
    /// … or infinite; and the largest of the others.
    pub(crate) inf_count: u64,
    pub(crate) max_abs: f64,
}

/// What a process of its own says of one scenario.
pub(crate) fn measured(s: &Scenario) -> Measured {
    let mut me = Command::new(env::current_exe().unwrap());
    let done = me.args([CHILD, &s.id]).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{}: {said}", s.id);
    serde_json::from_slice(&done.stdout).unwrap()
}
/// Measures one scenario, as JSON: what that process does.
pub(crate) fn child(s: &Scenario) -> String {
    let mut work = s.make();
    let mut m = Measured {
        warmup_timings_ns: vec![],
        cpu_times_ns: vec![],
        peak_rss_bytes: None,
        alloc_bytes: 0,
        nan_count: 0,
        inf_count: 0,
        max_abs: 0.0,
    };
    for _ in 0..WARM {
        m.warmup_timings_ns.push(work.run(1).as_nanos() as u64);
    }
    // A clock that counts some hundred ns sees a kernel only many times over.
    let each = (1_000_000 / m.warmup_timings_ns[2].max(1)).clamp(1, 10_000);
    m.cpu_times_ns.reserve(TRIALS as usize);
    // What it takes to ask other threads is not theirs.
    let before = allocator::asked();
    work.run(0);
    let asking = allocator::asked() - before;
    let before = allocator::asked();
    for _ in 0..TRIALS {
        let start = cpu_ns();
        work.run(each);
        let spent = cpu_ns().zip(start).map(|(end, start)| end - start);
        m.cpu_times_ns.extend(spent.map(|ns| ns / each));
    }
    let taken = allocator::asked() - before;
    m.alloc_bytes = taken.saturating_sub(TRIALS * asking) / (TRIALS * each);
    m.peak_rss_bytes = peak_rss(); // before anything is looked at
    work.outputs(&mut |part| {
        for x in part {
            m.nan_count += u64::from(x.is_nan());
            m.inf_count += u64::from(x.is_infinite());
            if x.is_finite() {
                m.max_abs = m.max_abs.max(x.abs().into());
            }
        }
    });
    serde_json::to_string(&m).unwrap()
}

/// CPU time of all threads of this process so far.
#[cfg(unix)]
fn cpu_ns() -> Option<u64> {
    use rustix::time::{ClockId, clock_gettime};
    let t = clock_gettime(ClockId::ProcessCPUTime);
    Some(t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64)
}
#[cfg(not(unix))]
fn cpu_ns() -> Option<u64> {
    None
}
/// As Linux tells it.
fn peak_rss() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}
