//! Chapter: parallel. Trains a little by the portable form, on any platform,
//! and prints the hash of θ; it fails where that is not the one that is kept.
#![allow(clippy::unwrap_used, reason = "an example may panic")]

mod run;

use moe_by_hand::kernel::simd::Isa;
use run::{THETA, theta};
use std::env::consts::ARCH;
use std::io::{Write, stdout};
use std::process::ExitCode;

fn main() -> ExitCode {
    // `MOE_SIMD` may name another set, to see that it leads to other bits.
    let isa = Isa::asked().unwrap().unwrap_or(Isa::Portable);
    assert!(isa.choose(), "nothing was computed yet");
    let mut same = true;
    for (precision, kept) in THETA {
        let hash = theta(precision).unwrap();
        // That nobody reads it is no error.
        let _ = writeln!(stdout(), "{ARCH} {isa} {precision} {hash}");
        same &= hash == kept;
    }
    if same {
        return ExitCode::SUCCESS;
    }
    eprintln!(
        "not the hash of the portable set, which tests/bits/run.rs keeps"
    );
    ExitCode::FAILURE
}
