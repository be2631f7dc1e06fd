//! Yours, to try things in: `cargo test -- --nocapture` runs it, and the grader
//! does not look at it.

mod count;
mod rest;

use count::{Count, operations};
#[allow(unused_imports, reason = "until you call something of yours")]
use submission::*;

#[test]
fn own() {
    // a number that your functions compute with, and that shows what it is
    let x = [1.5, -2.0].map(Count);
    let before = operations();
    // in place of this product, call one of yours
    let y = [x[0] * x[1]];
    let values: Vec<f64> = y.iter().map(|y| y.0).collect();
    println!("{values:?} after {} operations", operations() - before);
}
