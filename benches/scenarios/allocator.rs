//! The system's allocator, counting bytes.
#![allow(unsafe_code, reason = "GlobalAlloc is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

static BYTES: AtomicU64 = AtomicU64::new(0);

/// Bytes that were asked for since the program began.
pub(crate) fn bytes() -> u64 {
    BYTES.load(Relaxed)
}

struct Counting;
// SAFETY: every call is passed on to the system's allocator as it came; what
// is zeroed or grown there is not done anew here.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size() as u64, Relaxed);
        // SAFETY: the caller's promise is the one that is needed.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size() as u64, Relaxed);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(
        &self, at: *mut u8, layout: Layout, new: usize,
    ) -> *mut u8 {
        BYTES.fetch_add(new as u64, Relaxed);
        // SAFETY: as above; what was allocated came from the system.
        unsafe { System.realloc(at, layout, new) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}
#[global_allocator]
static ALLOCATOR: Counting = Counting;
