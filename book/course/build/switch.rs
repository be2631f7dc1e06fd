//! Switches before holes, and a note of which were reached: `cargo course verify`
//! shows by them what a hole stops.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{LazyLock, Mutex};

/// Whether the hole that follows is open.
macro_rules! open {
    ($ids:literal) => {{
        static SITE: $crate::switch::Site = $crate::switch::Site::new($ids);
        SITE.is_open()
    }};
}

/// A place in the source.
pub struct Site {
    ids: &'static str,
    known: AtomicBool,
    reached: AtomicBool,
    open: AtomicBool,
}
static SITES: Mutex<Vec<&'static Site>> = Mutex::new(vec![]);
/// Those that are open; at first those that the environment names.
static OPEN: LazyLock<Mutex<Vec<String>>> = LazyLock::new(|| {
    let named = std::env::var("OPEN_HOLES").unwrap_or_default();
    Mutex::new(named.split(';').map(String::from).collect())
});

impl Site {
    /// A hole of these equations, closed.
    pub const fn new(ids: &'static str) -> Self {
        let [known, reached, open] = [const { AtomicBool::new(false) }; 3];
        Self { ids, known, reached, open }
    }
    /// Notes that it was reached.
    pub fn is_open(&'static self) -> bool {
        if !self.reached.load(Relaxed) {
            self.reached.store(true, Relaxed);
            if !self.known.swap(true, Relaxed) {
                let open = OPEN.lock().expect("never poisoned");
                SITES.lock().expect("never poisoned").push(self);
                self.open.store(open.iter().any(|o| o == self.ids), Relaxed);
            }
        }
        self.open.load(Relaxed)
    }
}
/// Opens these holes, and closes all others.
pub fn open(ids: &[&str]) {
    let mut open = OPEN.lock().expect("never poisoned");
    *open = ids.iter().map(|i| i.to_string()).collect();
    for site in &*SITES.lock().expect("never poisoned") {
        site.open.store(ids.contains(&site.ids), Relaxed);
    }
}
/// Those that were reached since this was asked last.
pub fn reached() -> Vec<&'static str> {
    let sites = SITES.lock().expect("never poisoned");
    let was = sites.iter().filter(|s| s.reached.swap(false, Relaxed));
    was.map(|s| s.ids).collect()
}
