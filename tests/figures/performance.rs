//! Chapter: scaling-out, memory, parallel. What stands in a file, what a depth
//! costs, and how a step is shared.

use crate::csv::{Csv, short};
use moe_by_hand::config::Config;
use moe_by_hand::error::Result;
use moe_by_hand::hf;
use moe_by_hand::layer::Shape;
use moe_by_hand::model::Model;
use moe_by_hand::nn::balance::balance_forward;
use moe_by_hand::params::Params;
use moe_by_hand::real::Real;
use moe_by_hand::rng::Rng;
use moe_by_hand::tensors::Tensors;
use moe_by_hand::train::account::Account;
use moe_by_hand::train::data::Text;
use moe_by_hand::train::optimizer::{AdamW, Decay};
use moe_by_hand::train::options::Options;
use std::path::Path;

/// Activations of the preset `bytes` with so many blocks, in bytes.
fn activations(layers: usize, recompute: bool) -> f64 {
    let c = Config { layers, ..Config::preset("bytes").unwrap() };
    let m = Model::new(c).unwrap();
    let o = Options { batch: 12, seq: 64, recompute, ..Options::default() };
    let adam = |layout: &_| AdamW::new(layout, 0.1, Decay::Weights);
    Account::new(&m, &o, 0, 1, adam).activations as f64
}
pub(crate) fn memory_by_depth() -> Csv {
    let depths: Vec<usize> = (2..=32).collect();
    let rows: Vec<[f64; 3]> = depths
        .iter()
        .map(|&l| {
            let (kept, again) = (activations(l, false), activations(l, true));
            // A block's activations, and its row of the stream.
            let block = (kept - again) / (l - 1) as f64;
            let stream = 4.0 * 768.0 * 128.0;
            // At every m-th block the stream; of the m blocks behind it all.
            let m = (l as f64).sqrt().ceil();
            let rest = kept - l as f64 * (block + stream);
            let root = rest + (l as f64 / m).ceil() * stream + m * block;
            [kept, root, again].map(|bytes| bytes / 1e6)
        })
        .collect();
    let last = rows[rows.len() - 1];
    let mut csv = Csv::chart(
        "memory-by-depth",
        "Activations of the preset “bytes” at 12 × 64 tokens, by the number of \
         blocks: all kept, the stream kept at every ⌈√L⌉-th block, the stream \
         kept at every block",
        &format!(
            "Megabytes over two to 32 blocks. Kept, the line rises straight to \
             {:.0} MB. With the stream at every ⌈√L⌉-th block it rises in \
             steps, slower and slower, to {:.0} MB. With the stream at every \
             block it is almost flat and ends at {:.0} MB.",
            last[0], last[1], last[2]
        ),
        ["blocks L", "MB"],
    );
    csv.row("L,kept,√L,every block");
    for (l, row) in depths.iter().zip(&rows) {
        csv.row(format!("{l},{}", row.map(short).join(",")));
    }
    csv
}

pub(crate) fn shard_timeline() -> Csv {
    let mut csv = Csv::drawing(
        "shard-timeline",
        "A gradient of four shards on two threads, from left to right; the two \
         bars are where all have to meet",
        "Two rows, one for each thread. Thread 1 runs the forwards of shards 0 \
         and 1, thread 2 those of shards 2 and 3. A bar follows: there the \
         counts, the loads and the losses of all shards are added. Then each \
         thread runs two backwards, twice as long. A second bar: all \
         gradients are complete. Then the threads add them, each its own \
         chunks of θ, and no order of arrival is left in the result.",
    );
    let (top, row, high) = (42.0, 56.0, 28.0);
    let lane = |t: usize| top + row * t as f64;
    for t in 0..2 {
        let name = format!("thread {}", t + 1);
        csv.text_at([4.0, lane(t) - 9.0], "e", &name);
    }
    // The shard, and how long it takes.
    let mut stage =
        |from: f64, each: [[f64; 2]; 2], name: &str, class: &str| {
            for (t, widths) in each.into_iter().enumerate() {
                let mut x = from;
                for (i, w) in widths.into_iter().enumerate() {
                    let text = match name {
                        "Σ" => name.into(), // of all shards
                        _ => format!("{name}{}", 2 * t + i),
                    };
                    csv.rect([x, lane(t)], [w - 2.0, high], class, &text);
                    x += w;
                }
            }
        };
    stage(4.0, [[34.0, 38.0], [40.0, 36.0]], "F", "c0");
    stage(94.0, [[70.0, 76.0], [72.0, 66.0]], "B", "c1");
    stage(254.0, [[46.0, 46.0], [46.0, 46.0]], "Σ", "c2");
    for x in [86.0, 246.0] {
        csv.rect([x - 2.0, 22.0], [4.0, 114.0], "strong c7", "");
    }
    csv.text_at([86.0, 146.0], "s", "counts, loads, losses");
    csv.text_at([246.0, 146.0], "s", "every gradient is complete");
    csv.text_at([40.0, 12.0], "c0", "forward");
    csv.text_at([166.0, 12.0], "c1", "backward");
    csv.text_at([300.0, 12.0], "c2", "sum, by chunks of θ");
    csv
}

/// The model that is part of the command.
fn shipped<T: Real>() -> (Model, Params<T>) {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    hf::load(&tests.join("../src/bin/moe/model")).unwrap()
}
/// The probabilities of each row's experts and which are chosen, layer by
/// layer, over so many windows of the context.
type Routed = Vec<(Vec<f64>, Vec<usize>)>;
fn routed(text: &Text, windows: usize) -> (Routed, [usize; 2]) {
    let (m, p) = shipped::<f32>();
    let time = m.config.context;
    let mut a = m.acts::<f32>(Shape { batch: 1, time }, false);
    let mut all = vec![(vec![], vec![]); m.blocks.len()];
    for window in text.validation().chunks_exact(time).take(windows) {
        let tokens: Vec<usize> = window.iter().map(|&b| b.into()).collect();
        m.forward(&p, &tokens, &mut a);
        for (all, b) in all.iter_mut().zip(&a.blocks) {
            let router = &b.moe.router;
            all.0.extend(router.prob.iter().map(|&p| f64::from(p)));
            all.1.extend_from_slice(&router.choice);
        }
    }
    (all, [m.config.experts, m.config.top_k])
}
pub(crate) fn balance_excess(text: &Text) -> Result<Csv> {
    let rows = 1 << 16;
    let (layers, [e, k]) = routed(text, rows / 256);
    let straight: Vec<usize> = (0..rows).collect();
    let mut rng = Rng::new(0, 1);
    let shuffled = [(); 32].map(|()| {
        let mut order = straight.clone();
        for i in (1..rows).rev() {
            order.swap(i, rng.below(i + 1));
        }
        order
    });
    // The mean over the layers and over micro-batches of n rows.
    let loss = |n: usize, order: &[usize]| {
        let each = |(prob, choice): &(Vec<f64>, Vec<usize>)| {
            let micro = |rows: &[usize]| {
                let (mut count, mut load) = (vec![0; e], vec![0.0; e]);
                for &t in rows {
                    (0..e).for_each(|x| load[x] += prob[t * e + x]);
                    (0..k).for_each(|j| count[choice[t * k + j]] += 1);
                }
                balance_forward(&count, &load, n, k)
            };
            let sum: f64 = order.chunks_exact(n).map(micro).sum();
            sum * n as f64 / rows as f64
        };
        layers.iter().map(each).sum::<f64>() / layers.len() as f64
    };
    let whole = loss(rows, &straight);
    // E/(nk)·Σₑ Cov(chosen, p) of independent rows.
    let covariance = (loss(1, &straight) - whole) / (1.0 - 1.0 / rows as f64);
    let excess = |n: usize, order: &[usize]| loss(n, order) - whole;
    let sizes: Vec<usize> = (3..=14).map(|i| 1 << i).collect();
    let measured: Vec<[f64; 2]> = sizes
        .iter()
        .map(|&n| {
            let all = shuffled.iter().map(|order| excess(n, order));
            let mean = all.sum::<f64>() / shuffled.len() as f64;
            [excess(n, &straight), mean]
        })
        .collect();
    let at = |n: usize| measured[sizes.iter().position(|&s| s == n).unwrap()];
    let mut csv = Csv::chart(
        "balance-excess",
        "By how much the mean balance loss of micro-batches exceeds that of all \
         65,536 rows, in the router of the model that is part of the command; shuffled: \
         means of 32 shuffles",
        &format!(
            "The excess over the rows of a micro-batch, both axes logarithmic. \
             For shuffled rows it falls as one over their number, along a \
             dashed line. For rows in the order of the text it falls more \
             slowly: with 256 rows it is {:.4}, shuffled {:.4}; with 4096 rows \
             {:.5} and {:.5}. The loss of all rows is {whole:.3}.",
            at(256)[0],
            at(256)[1],
            at(4096)[0],
            at(4096)[1]
        ),
        ["rows of a micro-batch", "excess of the balance loss"],
    )
    .with("log", "xy");
    csv.row("n,in order,shuffled");
    for (n, both) in sizes.iter().zip(&measured) {
        // a logarithm has no place for what is below 0
        let cells = both.map(|v| match v > 0.0 {
            true => short(v),
            false => String::new(),
        });
        csv.row(format!("{n},{}", cells.join(",")));
    }
    let line =
        |n: usize| short(covariance * (1.0 / n as f64 - 1.0 / rows as f64));
    csv.row(format!("guide,8,{},16384,{},,", line(8), line(16384)));
    Ok(csv)
}

pub(crate) fn safetensors_bytes() -> Csv {
    let header = r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}  "#;
    let values = [1.0f32, -0.5];
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    values.iter().for_each(|v| file.extend(v.to_le_bytes()));
    let bytes: &'static [u8] = file.clone().leak();
    let read = Tensors::of(Path::new("w.safetensors"), bytes).unwrap();
    let numbers: Vec<f32> = read.floats("w", &[2]).unwrap();
    assert_eq!(numbers, values, "the library reads it");
    let mut csv = Csv::drawing(
        "safetensors-bytes",
        "A whole safetensors file of one tensor with two numbers, 1 and −0.5: \
         how long the header is, the header, the numbers",
        &format!(
            "The {} bytes of a file in rows of sixteen. Eight bytes hold the \
             length of the header, 38 in hexadecimal and seven zeros. Then \
             come its 56 characters, {}, of which the last two are spaces. \
             The last eight bytes are the numbers: 00 00 80 3f is 1, and 00 \
             00 00 bf is −0.5.",
            file.len(),
            header.trim_end()
        ),
    );
    let (wide, high) = (21.0, 24.0);
    for (i, &byte) in file.iter().enumerate() {
        let (row, column) = (i / 16, i % 16);
        let corner = [12.0 + wide * column as f64, 8.0 + 30.0 * row as f64];
        let (class, text) = match i {
            0..8 => ("c1", format!("{byte:02x}")),
            i if i < file.len() - 8 => {
                let c = char::from(byte);
                let c = if c == ' ' { '␣' } else { c };
                ("c0", c.to_string())
            }
            _ => ("c2", format!("{byte:02x}")),
        };
        csv.rect(corner, [wide, high], class, &text);
    }
    let under = 8.0 + 30.0 * file.len().div_ceil(16) as f64 + 10.0;
    csv.text_at([12.0, under], "e c1", "length: 56");
    csv.text_at([110.0, under], "e c0", "header, as JSON");
    csv.text_at([240.0, under], "e c2", "numbers: 1 and −0.5");
    csv
}

/// The beginning of Shakespeare's 18th sonnet.
const SONNET: &[u8] = b"Shall I compare thee to a summer's day?\n\
    Thou art more lovely and more temperate:\n";

/// The weights as they come out if queries' and keys' rows stay where they
/// are: transposed, and no more.
fn unturned(m: &Model, p: &Params<f64>) -> Params<f64> {
    let mut wrong = p.clone();
    for e in &m.layout.entries {
        if e.name.ends_with(".wq") || e.name.ends_with(".wk") {
            let (rows, cols) = (e.param.rows(), e.param.cols);
            let theirs = hf::to_hf(&p[e.param], e, m.config.head);
            let ours = &mut wrong[e.param];
            for (at, v) in ours.iter_mut().enumerate() {
                *v = theirs[at % cols * rows + at / cols];
            }
        }
    }
    wrong
}
pub(crate) fn logit_error() -> Csv {
    let tokens: Vec<usize> = SONNET.iter().map(|&b| b.into()).collect();
    let shape = Shape { batch: 1, time: tokens.len() };
    let logits = |m: &Model, p: &Params<f64>| {
        let mut a = m.acts::<f64>(shape, false);
        m.forward(p, &tokens, &mut a);
        a.head.y.to_vec()
    };
    let (m, p) = shipped::<f64>();
    let based = Config { rope_theta: 500_000.0, ..m.config.clone() };
    let based = Model::new(based).unwrap();
    let right = logits(&m, &p);
    let wrong = [logits(&m, &unturned(&m, &p)), logits(&based, &p)];
    let v = m.config.vocab;
    // Root mean square over the vocabulary, position by position.
    let errors = wrong.map(|wrong| {
        let both = wrong.chunks(v).zip(right.chunks(v));
        let error = |(a, b): (&[f64], &[f64])| {
            let sum: f64 =
                a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum();
            (sum / v as f64).sqrt()
        };
        both.map(error).collect::<Vec<_>>()
    });
    // Means of four positions; the first by itself.
    let thinned = errors.each_ref().map(|e| {
        let rest = e[1..].chunks_exact(4).map(|c| c.iter().sum::<f64>() / 4.0);
        [e[0]].into_iter().chain(rest).collect::<Vec<_>>()
    });
    let mean = |e: &[f64]| e.iter().sum::<f64>() / e.len() as f64;
    let [turn, base] = [&errors[0], &errors[1]].map(|e| mean(&e[40..]));
    let mut csv = Csv::chart(
        "logit-error",
        "Error of the logits, root mean square over the vocabulary, by \
         position in two lines of a sonnet (means of four positions, the first \
         by itself): queries and keys left in the other order; the base of the \
         rotation 500,000 in place of 10,000",
        &format!(
            "The error of the logits over 81 positions. Both lines begin at 0, \
             at the first position. Without the permutation the error jumps at \
             once and is {turn:.2} in the mean of the second line of verse. \
             With the wrong base it is {base:.2} there."
        ),
        ["position", "error of the logits"],
    );
    csv.row("position,order,base");
    for (i, (order, base)) in thinned[0].iter().zip(&thinned[1]).enumerate() {
        let t = if i == 0 { 0.0 } else { 4.0 * i as f64 - 1.5 };
        csv.row(format!("{t},{order:.3},{base:.3}"));
    }
    csv
}
