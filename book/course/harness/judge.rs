//! Tells the cases of an assignment: inputs, and what has to come out.
//! `judge VARIANT SEED`: one case a line.

mod cases;
mod dual;
mod rest;

/// One call of one function of the submission.
pub struct Case {
    /// The task whose points it decides.
    pub task: &'static str,
    /// What is special about it, for the report.
    pub name: String,
    /// Which function, as `call.rs` names it.
    pub call: &'static str,
    pub sizes: Vec<usize>,
    pub inputs: Vec<Vec<f64>>,
    /// What has to come out, with a name for each.
    pub outputs: Vec<(&'static str, Vec<f64>)>,
    /// How many operations it may take.
    pub limit: usize,
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, variant, seed] = &arguments[..] else {
        panic!("judge VARIANT SEED");
    };
    let seed = seed.parse().expect("a seed");
    let field = |x: &[f64]| {
        let bits = x.iter().map(|x| format!("{:016x}", x.to_bits()));
        bits.collect::<Vec<_>>().join(" ")
    };
    for c in cases::cases(variant, &mut dual::Rng(seed)) {
        let sizes = c.sizes.iter().map(|n| n.to_string());
        let sizes = sizes.collect::<Vec<_>>().join(" ");
        let inputs = c.inputs.iter().map(|x| field(x));
        let (mut names, mut outputs) = (vec![], vec![]);
        for (name, y) in &c.outputs {
            names.push(*name);
            outputs.push(field(y));
        }
        let input = [c.call.to_string(), sizes].into_iter().chain(inputs);
        println!("{}\t{}\t{}\t{}", c.task, c.name, c.limit, names.join(" "));
        println!("{}", input.collect::<Vec<_>>().join("\t"));
        println!("{}", outputs.join("\t"));
    }
}
