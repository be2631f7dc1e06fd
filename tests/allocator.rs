//! Chapter: measuring. The system's allocator, counting: for the tests of
//! memory and for the benchmarks.
#![allow(dead_code, reason = "each program asks for what it needs")]
#![allow(unsafe_code, reason = "GlobalAlloc is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

static ASKED: AtomicU64 = AtomicU64::new(0);
static FREED: AtomicU64 = AtomicU64::new(0);
static CALLS: AtomicU64 = AtomicU64::new(0);
static ONE: Mutex<()> = Mutex::new(());
thread_local! {
    static COUNTED: Cell<bool> = const { Cell::new(false) };
}

/// Bytes that were asked for since the program began.
pub(crate) fn asked() -> u64 {
    ASKED.load(Relaxed)
}
/// Bytes that are in use, by all threads.
pub(crate) fn in_use() -> u64 {
    ASKED.load(Relaxed).wrapping_sub(FREED.load(Relaxed))
}
/// How often the counted threads asked for memory.
pub(crate) fn calls() -> u64 {
    CALLS.load(Relaxed)
}
/// Counts the calls of this thread from now on: the test harness has threads
/// of its own.
pub(crate) fn count_this_thread() {
    COUNTED.set(true);
}
/// Lets one test at a time measure.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn note(asked: usize, freed: usize) {
    ASKED.fetch_add(asked as u64, Relaxed);
    FREED.fetch_add(freed as u64, Relaxed);
    if asked > 0 && COUNTED.get() {
        CALLS.fetch_add(1, Relaxed);
    }
}

struct Counting;
// SAFETY: every call is passed on to the system's allocator as it came; what
// is zeroed or grown there is not done anew here.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size(), 0);
        // SAFETY: the caller's promise is the one that is needed.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size(), 0);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(
        &self, at: *mut u8, layout: Layout, new: usize,
    ) -> *mut u8 {
        note(new, layout.size());
        // SAFETY: as above; what was allocated came from the system.
        unsafe { System.realloc(at, layout, new) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        note(0, layout.size());
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}
#[global_allocator]
static ALLOCATOR: Counting = Counting;
