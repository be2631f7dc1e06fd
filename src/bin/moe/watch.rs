//! Chapter: training. A thread beside the work: it answers signals at once, and
//! tells how far something is that takes long.

use crate::progress::tell;
use signal_hook::flag;
use std::process::{Command, exit};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

/// The first signal asks to stop, the second ends the process.
#[derive(Clone)]
pub(crate) struct Watch(Arc<Shared>);
struct Shared {
    asked: Arc<AtomicBool>,
    /// How much is done, and of how much; 0 if that is not known.
    done: AtomicUsize,
    total: AtomicUsize,
    state: Mutex<State>,
}
#[derive(Default)]
struct State {
    /// Whether a stop is obeyed by who asks [`Watch::stopped`]: before, the
    /// process just ends.
    held: bool,
    doing: Option<Doing>,
}
struct Doing {
    what: String,
    since: Instant,
    /// When it is told next, in seconds.
    next: u64,
}
impl Watch {
    /// Begins to watch. A signal that is ignored, as HUP is under `nohup`,
    /// stays ignored.
    pub(crate) fn start() -> Self {
        let asked = Arc::new(AtomicBool::new(false));
        let ignored = ignored();
        for signal in signals().filter(|s| ignored >> (s - 1) & 1 == 0) {
            // Without a handler a signal ends the program at once: then what
            // was saved last is what there is, and that is no reason not to
            // train. The order counts: the first signal finds `false`.
            let again = asked.clone();
            let _ = flag::register_conditional_shutdown(signal, 130, again);
            let _ = flag::register(signal, asked.clone());
        }
        let (done, total) = Default::default();
        let state = Mutex::default();
        let watch = Self(Arc::new(Shared { asked, done, total, state }));
        let beside = watch.clone();
        thread::spawn(move || beside.run());
        watch
    }
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(|e| e.into_inner())
    }
    fn run(&self) {
        let mut answered = false;
        loop {
            thread::sleep(Duration::from_millis(50));
            let mut state = self.state();
            if self.stopped() && !answered {
                answered = true;
                if !state.held {
                    tell("stopped before training began; nothing was written");
                    exit(0);
                }
                tell(
                    "stopping after this step; a second signal ends the \
                     program at once",
                );
            }
            if let Some(doing) = &mut state.doing {
                let seconds = doing.since.elapsed().as_secs();
                if seconds >= doing.next {
                    doing.next = seconds + if seconds < 20 { 2 } else { 10 };
                    let far = match self.far() {
                        Some(percent) => format!("{percent} %, "),
                        None => String::new(),
                    };
                    tell(&format!("{}: {far}{seconds} s so far", doing.what));
                }
            }
        }
    }
    fn far(&self) -> Option<usize> {
        let [done, total] =
            [&self.0.done, &self.0.total].map(|n| n.load(Ordering::Relaxed));
        (done.min(total) as u128 * 100)
            .checked_div(total as u128)
            .map(|percent| percent as usize)
    }
    /// Whether a signal asked to stop.
    pub(crate) fn stopped(&self) -> bool {
        self.0.asked.load(Ordering::SeqCst)
    }
    /// From now on something is on the disk that a stop has to leave in order.
    pub(crate) fn hold(&self) {
        self.state().held = true;
    }
    /// Does something that may take long.
    pub(crate) fn during<R>(&self, what: &str, f: impl FnOnce() -> R) -> R {
        self.at(0, 0);
        let (what, since) = (what.into(), Instant::now());
        self.state().doing = Some(Doing { what, since, next: 2 });
        let result = f();
        self.state().doing = None;
        result
    }
    /// How far that is.
    pub(crate) fn at(&self, done: usize, total: usize) {
        self.0.done.store(done, Ordering::Relaxed);
        self.0.total.store(total, Ordering::Relaxed);
    }
}
/// What asks a program to stop.
fn signals() -> impl Iterator<Item = i32> {
    use signal_hook::consts::*;
    #[cfg(unix)]
    let all = [SIGINT, SIGTERM, SIGHUP];
    #[cfg(not(unix))]
    let all = [SIGINT, SIGTERM];
    all.into_iter()
}
/// The signals that were ignored when the process began: bit n − 1 is signal n.
///
/// To ask the system itself takes `unsafe`; Linux shows them in a file, other
/// systems in `ps`.
fn ignored() -> u64 {
    let mask = match std::fs::read_to_string("/proc/self/status") {
        Ok(status) => {
            let line = status.lines().find_map(|l| l.strip_prefix("SigIgn:"));
            line.unwrap_or_default().to_string()
        }
        Err(_) if cfg!(unix) => {
            let id = std::process::id().to_string();
            let mut ps = Command::new("ps");
            let ps = ps.args(["-o", "ignored=", "-p", &id]).output();
            let said = ps.map(|o| o.stdout).unwrap_or_default();
            String::from_utf8_lossy(&said).into_owned()
        }
        Err(_) => String::new(),
    };
    u64::from_str_radix(mask.trim().trim_start_matches("0x"), 16).unwrap_or(0)
}
