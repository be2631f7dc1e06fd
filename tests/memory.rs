//! What is allocated, and when, by an allocator that counts.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(unsafe_code, reason = "an allocator is an unsafe trait")]

mod allocation;
mod decode_allocation;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// How often the threads of the pool asked for memory.
pub(crate) static COUNT: AtomicUsize = AtomicUsize::new(0);
thread_local! {
    /// Whether this thread is one of them: the test harness has others.
    pub(crate) static COUNTED: Cell<bool> = const { Cell::new(false) };
}
/// How many bytes are in use, by all threads: so the tests here go one
/// at a time.
pub(crate) static BYTES: AtomicUsize = AtomicUsize::new(0);
pub(crate) static ONE: Mutex<()> = Mutex::new(());

struct Counting;
// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if COUNTED.get() {
            COUNT.fetch_add(1, SeqCst);
        }
        BYTES.fetch_add(layout.size(), SeqCst);
        // SAFETY: the caller's promise is the one that is needed.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size(), SeqCst);
        // SAFETY: as above; what was allocated came from the system.
        unsafe { System.dealloc(at, layout) }
    }
    unsafe fn realloc(
        &self, at: *mut u8, layout: Layout, new: usize,
    ) -> *mut u8 {
        if COUNTED.get() {
            COUNT.fetch_add(1, SeqCst);
        }
        BYTES.fetch_add(new, SeqCst);
        BYTES.fetch_sub(layout.size(), SeqCst);
        // SAFETY: `at` came from the system, with this layout.
        unsafe { System.realloc(at, layout, new) }
    }
}
#[global_allocator]
static ALLOCATOR: Counting = Counting;
