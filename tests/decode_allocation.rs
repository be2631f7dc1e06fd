//! Chapter 23. After its first allocation, decoding allocates nothing.
#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]
#![allow(
    unsafe_code,
    reason = "an allocator that counts: GlobalAlloc is an unsafe trait"
)]

use moe_by_hand::config::Config;
use moe_by_hand::generate::{Decoder, Sampler};
use moe_by_hand::model::Model;
use moe_by_hand::rng::Rng;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// How often this thread asked for memory: the test harness has threads
    /// of its own.
    static COUNT: Cell<usize> = const { Cell::new(0) };
}
struct Counting;

// SAFETY: hands every call to the system's allocator, unchanged. Counting
// needs no memory: the thread-local value is constant and has no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: `at` came from `System`, with this layout.
        unsafe { System.dealloc(at, layout) }
    }
    unsafe fn realloc(
        &self, at: *mut u8, layout: Layout, new: usize,
    ) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: `at` came from `System`, with this layout.
        unsafe { System.realloc(at, layout, new) }
    }
}
#[global_allocator]
static COUNTING: Counting = Counting;

fn allocations(work: impl FnOnce()) -> usize {
    let before = COUNT.get();
    work();
    COUNT.get() - before
}

#[test]
fn decoding_and_sampling_allocate_nothing() {
    let config = Config::preset("tiny").unwrap();
    let model = Model::new(config).unwrap();
    let p = model.init::<f32>(0);
    let mut decoder = Decoder::new(&model);
    let mut sampler = Sampler::new(0.8, 40, 0.9).unwrap();
    let mut rng = Rng::new(0, 0);
    // The sampler learns the size of the vocabulary from its first draw.
    let first = decoder.step(&p, 1).unwrap();
    let mut token = sampler.sample(first, &mut rng).unwrap();
    let prompt: Vec<usize> = (0..100).collect();
    let counts = [
        allocations(|| {
            for _ in 0..150 {
                let logits = decoder.step(&p, token).unwrap();
                token = sampler.sample(logits, &mut rng).unwrap();
            }
        }),
        allocations(|| decoder.reset()),
        allocations(|| {
            decoder.extend(&p, &prompt).unwrap();
        }),
    ];
    assert_eq!(counts, [0; 3], "steps and draws, reset, prompt");
    // The counter counts.
    assert_eq!(allocations(|| drop(vec![0u8; 8])), 1);
}
