//! Chapter: kv-cache. After its first allocation, decoding allocates nothing.
#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use crate::allocator::{alone, calls, count_this_thread};
use moe_by_hand::config::Config;
use moe_by_hand::generate::{Decoder, Sampler};
use moe_by_hand::model::Model;
use moe_by_hand::rng::Rng;

fn allocations(work: impl FnOnce()) -> u64 {
    let before = calls();
    work();
    calls() - before
}

#[test]
fn decoding_and_sampling_allocate_nothing() {
    let _one = alone();
    count_this_thread();
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
