//! Runs one case of a submission. It is told a nonce, the case and its inputs,
//! and tells what came out; it does not know what is right.

mod call;
mod count;
mod rest;

use count::{Count, operations};
use std::io::Read;

fn numbers(field: &str) -> Vec<Count> {
    let one = |bits: &str| {
        let bits = u64::from_str_radix(bits, 16).expect("a number's bits");
        Count(f64::from_bits(bits))
    };
    field.split_whitespace().map(one).collect()
}

fn main() {
    let mut told = String::new();
    std::io::stdin().read_to_string(&mut told).expect("the case");
    let (nonce, case) = told.split_once('\n').expect("a nonce and a case");
    let mut fields = case.trim_end_matches('\n').split('\t');
    let mut field = || fields.next().expect("name and sizes");
    let (name, sizes) = (field(), field());
    let size = |n: &str| n.parse().expect("a size");
    let sizes: Vec<usize> = sizes.split_whitespace().map(size).collect();
    let inputs: Vec<Vec<Count>> = fields.map(numbers).collect();
    let before = operations();
    let outputs = call::call(name, &sizes, &inputs);
    let mut line = format!("{nonce} {}", operations() - before);
    for output in outputs {
        line.push('\t');
        for x in output {
            line += &format!("{:016x} ", x.0.to_bits());
        }
    }
    println!("{line}");
}
