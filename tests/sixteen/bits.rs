//! Chapter: half. The vector forms of the conversions against the plain ones,
//! over all 2³² f32s, on every instruction set that this CPU has.

use clap::Parser;
use moe_by_hand::half::{Bf16, F16};
use moe_by_hand::kernel::simd::Isa;
use rayon::prelude::*;
use std::process::ExitCode;

/// f32s that a thread takes at a time.
const CHUNK: u32 = 1 << 20;

/// How many of the f32s from `first` on become other bits than by the plain
/// form, and back, by any set.
macro_rules! differ {
    ($t:ty, $first:expr) => {{
        let x: Vec<f32> =
            ($first..=$first + (CHUNK - 1)).map(f32::from_bits).collect();
        let plain: Vec<u16> =
            x.iter().map(|&x| <$t>::from_f32(x).to_bits()).collect();
        let mut y = vec![<$t>::from_bits(0); x.len()];
        let mut wide = vec![0.0; x.len()];
        let mut differ = 0;
        for isa in Isa::here() {
            <$t>::narrow_with(isa, &mut y, &x);
            <$t>::widen_with(isa, &mut wide, &y);
            for ((y, wide), plain) in y.iter().zip(&wide).zip(&plain) {
                let back = y.f32().to_bits() == wide.to_bits();
                differ += usize::from(y.to_bits() != *plain || !back);
            }
        }
        differ
    }};
}
/// Compare the conversions of all f32s to 16 bits, and back, with their plain
/// forms.
#[derive(Parser)]
struct Args {}

fn main() -> ExitCode {
    registry::end_with_the_reader();
    let Args {} = Args::parse();
    let sets: Vec<String> = Isa::here().map(|isa| isa.to_string()).collect();
    let chunks = || (0..u32::MAX / CHUNK + 1).into_par_iter();
    let both = [
        ("bf16", chunks().map(|n| differ!(Bf16, n * CHUNK)).sum::<usize>()),
        ("f16", chunks().map(|n| differ!(F16, n * CHUNK)).sum()),
    ];
    for (name, differ) in both {
        println!(
            "{name}: {differ} of 2^32 f32s differ from the plain form, on {}",
            sets.join(", ")
        );
    }
    ExitCode::from(u8::from(both.iter().any(|(_, differ)| *differ > 0)))
}
