//! Chapter: model, cross-entropy, sampling, kv-cache. Figures of the whole
//! network, its loss, and how it writes.

use crate::counted::{Counted, products};
use crate::csv::{Csv, short};
use crate::paper::value;
use moe_by_hand::config::Config;
use moe_by_hand::generate::{Decoder, rank, sample_temperature, sample_top_p};
use moe_by_hand::hf;
use moe_by_hand::kernel::softmax::softmax_forward;
use moe_by_hand::layer::Shape;
use moe_by_hand::model::Model;
use moe_by_hand::nn::loss::{cross_entropy_backward, cross_entropy_forward};
use moe_by_hand::params::Params;
use moe_by_hand::rng::Rng;
use std::path::Path;

/// The model that is part of the command, in f64: the same on every machine.
fn shipped() -> (Model, Params<f64>) {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../src/bin/moe/model");
    hf::load(&folder).unwrap()
}

/// The parameters of a model, by how a token meets them.
struct Parts {
    /// Embedding and head.
    ends: u64,
    /// What every token uses besides.
    common: u64,
    /// The experts that one token is sent to.
    chosen: u64,
    /// All others.
    idle: u64,
}
impl Parts {
    fn total(&self) -> u64 {
        self.active() + self.idle
    }
    fn active(&self) -> u64 {
        self.ends + self.common + self.chosen
    }
    /// Of a model of this book.
    fn of(c: &Config) -> Self {
        let expert = (3 * c.layers * c.intermediate * c.hidden) as u64;
        let (k, e) = (c.top_k as u64, c.experts as u64);
        let ends = (2 * c.vocab * c.hidden) as u64;
        let common = c.total() - ends - e * expert;
        Self { ends, common, chosen: k * expert, idle: (e - k) * expert }
    }
    /// Mixtral 8x7B, which is a model of this book.
    fn mixtral() -> Self {
        Self::of(&Config {
            vocab: 32_000,
            hidden: 4096,
            layers: 32,
            heads: 32,
            kv_heads: 8,
            head: 128,
            experts: 8,
            top_k: 2,
            intermediate: 14_336,
            ..Config::preset("tiny").unwrap()
        })
    }
    /// Qwen3-30B-A3B: queries and keys have a norm, of one gain each.
    fn qwen3() -> Self {
        let c = Config {
            vocab: 151_936,
            hidden: 2048,
            layers: 48,
            heads: 32,
            kv_heads: 4,
            head: 128,
            experts: 128,
            top_k: 8,
            intermediate: 768,
            ..Config::preset("tiny").unwrap()
        };
        let norms = 48 * 2 * 128;
        let parts = Self::of(&c);
        Self { common: parts.common + norms, ..parts }
    }
    /// gpt-oss: each map has a bias, experts and router included, and each
    /// head a sink.
    fn gpt_oss(layers: usize, experts: usize) -> Self {
        let (d, f, heads) = (2880, 2880, 64);
        let c = Config {
            vocab: 201_088,
            hidden: d,
            layers,
            heads,
            kv_heads: 8,
            head: 64,
            experts,
            top_k: 4,
            intermediate: f,
            attention_bias: true,
            ..Config::preset("tiny").unwrap()
        };
        let (l, e, parts) = (layers as u64, experts as u64, Self::of(&c));
        let bias = l * (2 * f + d) as u64;
        Self {
            common: parts.common + l * (e + heads as u64),
            chosen: parts.chosen + 4 * bias,
            idle: parts.idle + (e - 4) * bias,
            ..parts
        }
    }
    /// DeepSeek-V3 without the module that predicts a second token: latent
    /// attention, three dense layers, one shared expert.
    fn deepseek() -> Self {
        let (d, heads, v) = (7168u64, 128, 129_280);
        let (ranks, nope, rope) = ([1536, 512], 128, 64);
        let query = d * ranks[0] + ranks[0] + ranks[0] * heads * (nope + rope);
        let keys = d * (ranks[1] + rope) + ranks[1];
        let values = ranks[1] * heads * (nope + nope);
        let attention = query + keys + values + heads * nope * d;
        let (layers, dense, e, k) = (61, 3, 256, 8);
        let sparse = layers - dense;
        let expert = 3 * d * 2048;
        let common = layers * (attention + 2 * d)
            + dense * 3 * d * 18_432
            + sparse * (expert + d * e + e)
            + d;
        Self {
            ends: 2 * v * d,
            common,
            chosen: sparse * k * expert,
            idle: sparse * (e - k) * expert,
        }
    }
}
/// Three digits and a unit.
fn count(n: u64) -> String {
    let n = n as f64;
    let (n, unit) = match n {
        1e9.. => (n / 1e9, " B"),
        1e6.. => (n / 1e6, " M"),
        _ => (n / 1e3, " k"),
    };
    let digits = if n < 10.0 { 2 } else { usize::from(n < 100.0) };
    format!("{n:.digits$}{unit}")
}
pub(crate) fn parameter_shares() -> Csv {
    let preset = |name| Parts::of(&Config::preset(name).unwrap());
    let models = [
        ("tiny", preset("tiny")),
        ("bytes", preset("bytes")),
        ("moe_6_9b", preset("moe_6_9b")),
        ("Mixtral 8x7B", Parts::mixtral()),
        ("gpt-oss-20b", Parts::gpt_oss(24, 32)),
        ("Qwen3-30B-A3B", Parts::qwen3()),
        ("gpt-oss-120b", Parts::gpt_oss(36, 128)),
        ("DeepSeek-V3", Parts::deepseek()),
    ];
    let said = models.iter().map(|(name, p)| {
        let share = 100.0 * p.active() as f64 / p.total() as f64;
        format!("{name} {share:.0} %")
    });
    let said: Vec<_> = said.collect();
    let alt = format!(
        "A bar for each of eight models, cut into four parts: embedding and \
         head; what every token uses besides; the experts that a token is \
         sent to; the other experts. The first three are active: {}.",
        said.join(", ")
    );
    let mut csv = Csv::drawing(
        "parameter-shares",
        "Where the parameters are: all bars have the same length, whatever \
         the size of the model",
        &alt,
    );
    let (left, wide) = (4.0, 352.0);
    let kinds = [
        ("c7", "embedding, head"),
        ("c2", "for every token"),
        ("c0 strong", "chosen experts"),
        ("c0 dashed", "other experts"),
    ];
    for (i, (class, name)) in kinds.iter().enumerate() {
        let x = [4.0, 182.0][i % 2];
        let y = 6.0 + 18.0 * (i / 2) as f64;
        csv.rect([x, y], [16.0, 12.0], class, "");
        csv.text_at([x + 21.0, y + 6.0], "e", name);
    }
    for (i, (name, p)) in models.iter().enumerate() {
        let y = 54.0 + 40.0 * i as f64;
        csv.text_at([left, y], "e bold", name);
        let text =
            format!("{}, active {}", count(p.total()), count(p.active()));
        csv.text_at([left + wide, y], "w", &text);
        let mut x = left;
        let parts = [p.ends, p.common, p.chosen, p.idle];
        for (part, (class, _)) in parts.into_iter().zip(kinds) {
            let w = wide * part as f64 / p.total() as f64;
            csv.rect([x, y + 9.0], [w, 15.0], class, "");
            x += w;
        }
    }
    csv
}

/// Bytes as a figure shows them.
fn bytes(n: u64) -> String {
    match n {
        0..10_240 => format!("{n} B"),
        10_240..10_485_760 => format!("{:.0} KiB", n as f64 / 1024.0),
        _ => format!("{:.1} MiB", n as f64 / 1_048_576.0),
    }
}
pub(crate) fn book_map() -> Csv {
    let c = Config::preset("bytes").unwrap();
    let m = Model::new(c.clone()).unwrap();
    let shape = Shape { batch: 1, time: c.context };
    let a = m.acts::<f32>(shape, false);
    let n = shape.rows();
    // Bytes of θ, all of a name's beginning in the first block or outside.
    let theta = |part: &str| {
        let of = m.layout.entries.iter().filter(|e| e.name.starts_with(part));
        of.map(|e| 4 * e.param.range().len() as u64).sum::<u64>()
    };
    // Bytes that are kept for each token.
    let kept =
        |floats: usize, indices: usize| ((4 * floats + 8 * indices) / n) as u64;
    let b = &a.blocks[0];
    let (at, moe) = (&b.attention, &b.moe);
    let norm = kept(b.norm1.y.len() + b.norm1.r.len(), 0);
    let heads = [&at.q, &at.k, &at.v, &at.prob, &at.mix, &at.y];
    let heads = kept(heads.iter().map(|b| b.len()).sum(), 0);
    let (r, x) = (&moe.router, &moe.experts);
    let route =
        kept(r.weight.len() + r.prob.len() + r.lse.len(), r.choice.len());
    let inner = [&moe.sorted, &x.y, &x.gate, &x.up, &x.hidden, &moe.y];
    let inner = inner.iter().map(|b| b.len()).sum::<usize>();
    let inner = kept(inner, moe.slot.len());
    let sum = kept(b.h.len(), 0);
    let stream = kept(a.stream.len() / (c.layers + 1), 0);
    let last = kept(a.norm.y.len() + a.norm.r.len(), 0);
    let logits = kept(a.head.y.len(), 0);
    let mut csv = Csv::drawing(
        "book-map",
        "The network of the preset bytes (V = 256, D = 128, L = 4, E = 8, \
         k = 2), with the bytes of its parameters in f32 and the bytes that a \
         forward pass over 256 tokens keeps for each of them",
        &format!(
            "From top to bottom: embedding, then a dashed frame that stands \
             four times and holds norm, attention, norm, router and experts \
             with two sums, then norm, head and cross-entropy. Of a block's \
             parameters the experts have {}, attention {}; of what is kept \
             for a token attention has {}, the experts {}.",
            bytes(theta("layers.0.moe.experts")),
            bytes(theta("layers.0.attention")),
            bytes(heads),
            bytes(inner),
        ),
    );
    let (x, w, h) = (60.0, 130.0, 22.0);
    csv.text_at([232.0, 10.0], "bold", "parameters");
    csv.text_at([318.0, 10.0], "bold", "kept");
    let rows = [
        ("embedding", "c7", theta("embed"), stream),
        ("norm", "c2", theta("layers.0.norm1"), norm),
        ("attention", "c1", theta("layers.0.attention"), heads),
        ("+", "c7", 0, sum),
        ("norm", "c2", theta("layers.0.norm2"), norm),
        ("router", "c3", theta("layers.0.moe.router"), route),
        ("experts", "c0", theta("layers.0.moe.experts"), inner),
        ("+", "c7", 0, sum + stream),
        ("norm", "c2", theta("norm"), last),
        ("head", "c7", theta("head"), logits),
        ("cross-entropy", "c4", 0, kept(a.lse.len(), 0)),
    ];
    let at = |i: usize| {
        let frames = f64::from(i > 0) + f64::from(i > 7);
        22.0 + 36.0 * i as f64 + 12.0 * frames
    };
    let frame = [x - 26.0, at(1) - 9.0];
    csv.rect(frame, [w + 44.0, at(7) + h + 9.0 - frame[1]], "c7 dashed", "");
    csv.text_at([16.0, (at(1) + at(7) + h) / 2.0], "bold", "4 ×");
    for (i, (name, class, theta, kept)) in rows.into_iter().enumerate() {
        let (y, sum) = (at(i), name == "+");
        let (bx, bw) = if sum { (x + w / 2.0 - 14.0, 28.0) } else { (x, w) };
        csv.rect([bx, y], [bw, h], class, name);
        let middle = y + h / 2.0;
        if theta > 0 {
            csv.text_at([266.0, middle], "w", &bytes(theta));
        }
        csv.text_at([348.0, middle], "w", &bytes(kept));
        if i > 0 {
            let from = at(i - 1) + h;
            csv.arrow([x + w / 2.0, from], [x + w / 2.0, y], 0.0, "c7");
        }
        if sum {
            // The residual stream, around norm and sublayer.
            let back = if i == 3 { at(1) } else { at(4) };
            let (side, top) = (x - 14.0, back - 6.0);
            csv.line([x + w / 2.0, top], [side, top], "c7");
            csv.line([side, top], [side, middle], "c7");
            csv.arrow([side, middle], [bx, middle], 0.0, "c7");
        }
    }
    csv
}

pub(crate) fn loss_forces() -> Csv {
    let z = [2.0, 1.0, 0.0];
    let mut csv = Csv::drawing(
        "loss-forces",
        "What the loss of one row asks of its logits (2, 1, 0): −z̄ for each \
         of the three possible targets",
        "Three panels, one for each target. In each, an arrow up at the \
         target's logit has the length 1 − p of the target, and an arrow down \
         at each other logit the length p. With the most probable token as \
         the target the arrow up is 0.335 long, with the least probable one \
         0.910. In each panel the arrows down are together as long as the \
         arrow up.",
    );
    for target in 0..3 {
        let (mut lse, mut dz) = ([f64::NAN], [f64::NAN; 3]);
        cross_entropy_forward(&mut lse, &z, &[target]);
        cross_entropy_backward(&mut dz, &z, &lse, &[target], 1.0);
        let left = 4.0 + 120.0 * target as f64;
        let title = format!("target {target}");
        csv.text_at([left + 56.0, 10.0], "bold", &title);
        let zero = 118.0;
        csv.line([left, zero], [left + 112.0, zero], "faint");
        for (v, &d) in dz.iter().enumerate() {
            let x = left + 20.0 + 36.0 * v as f64;
            let (class, tip) = (if v == target { "c2" } else { "c1" }, -d);
            let end = zero - 88.0 * tip;
            csv.arrow([x, zero], [x, end], 0.0, class);
            let sign = if tip > 0.0 { "+" } else { "" };
            let (text, gap) =
                (value(tip, 3), if tip > 0.0 { -9.0 } else { 9.0 });
            csv.text_at([x, end + gap], class, &format!("{sign}{text}"));
            csv.text_at([x, 226.0], "", &format!("z{}", ['₀', '₁', '₂'][v]));
        }
    }
    csv
}
pub(crate) fn start_loss() -> Csv {
    let mut csv = Csv::chart(
        "start-loss",
        "Mean cross-entropy of random logits s·N(0, 1) against targets that \
         know nothing of them; dashed: ln V + s²/2",
        "Two curves over the scale s of the logits from 0.01 to 4, for 256 and \
         for 1000 tokens. Up to s = 0.1 they lie on ln V, 5.55 and 6.91. At \
         s = 1 they are half a nat higher, as ln V + s²/2 says; beyond 2 they \
         stay below that rule.",
        ["scale s of the logits", "nats"],
    )
    .with("log", "x");
    let scales: Vec<f64> =
        (0..=26).map(|i| 10f64.powf(f64::from(i) / 10.0 - 2.0)).collect();
    let rows = 400;
    let curve = |v: usize| -> Vec<f64> {
        let mut rng = Rng::named(0, "start");
        let mut unit = vec![0.0; rows * v];
        rng.fill_normal(&mut unit, 1.0);
        let target: Vec<_> = (0..rows).map(|_| rng.below(v)).collect();
        let loss = |&s: &f64| {
            let z: Vec<f64> = unit.iter().map(|z| s * z).collect();
            let mut lse = vec![f64::NAN; rows];
            cross_entropy_forward(&mut lse, &z, &target) / rows as f64
        };
        scales.iter().map(loss).collect()
    };
    let (small, large) = (curve(256), curve(1000));
    csv.row("s,V = 256,V = 1000");
    for (s, (a, b)) in scales.iter().zip(small.iter().zip(&large)) {
        csv.row(format!("{},{a:.3},{b:.3}", short(*s)));
    }
    for v in [256.0f64, 1000.0] {
        for pair in scales[..=25].windows(2) {
            let [a, b] = [pair[0], pair[1]].map(|s| v.ln() + s * s / 2.0);
            let (x1, x2) = (short(pair[0]), short(pair[1]));
            csv.row(format!("guide,{x1},{a:.3},{x2},{b:.3},,"));
        }
    }
    for (line, curve) in [(0, &small), (1, &large)] {
        let side = if line == 0 { "se" } else { "nw" };
        csv.row(format!("mark,{line},1,{0:.3},{side},{0:.2}", curve[20]));
    }
    csv
}

/// The probabilities of what follows a text, and their order.
fn follows(text: &str) -> (Vec<f64>, Vec<usize>) {
    let (m, p) = shipped();
    let tokens: Vec<_> = text.bytes().map(usize::from).collect();
    let mut decoder = Decoder::new(&m);
    let mut probs = decoder.extend(&p, &tokens).unwrap().to_vec();
    softmax_forward(&mut probs);
    let mut order = vec![0; probs.len()];
    rank(&mut order, &probs);
    (probs, order)
}
/// Two places in a text: inside a word, and where a line begins.
const SURE: &str = "ROMEO:\nWhat say yo";
const OPEN: &str = "ROMEO:\nWhat say you?\n\n";
/// The cuts of the figure.
const TOP_K: usize = 10;
const TOP_P: f64 = 0.9;
const MIN_P: f64 = 0.1;

pub(crate) fn three_cuts() -> Csv {
    let mut rows = vec![];
    let mut said = vec![];
    for (name, text) in [("Inside a word", SURE), ("A new speaker", OPEN)] {
        let (p, order) = follows(text);
        let mut nucleus = p.clone();
        sample_top_p(&mut nucleus, &order, TOP_P);
        let by_p = nucleus.iter().filter(|p| **p > 0.0).count();
        let least = MIN_P * p[order[0]];
        let by_min = p.iter().filter(|p| **p >= least).count();
        let shown = text.replace('\n', "⏎");
        rows.push(format!("panel,{name}: {shown} …"));
        rows.push("rank,p".into());
        for (i, &token) in order.iter().take(30).enumerate() {
            rows.push(format!("{},{:.3e}", i + 1, p[token]));
        }
        let cuts = [
            (TOP_K, "top-k", 0.6),
            (by_p, "nucleus", 0.6),
            (by_min, "min-p", 0.03),
        ];
        for (n, name, y) in cuts {
            let x = n as f64 + 0.5;
            rows.push(format!("guide,{x},2e-6,{x},{y},e,{name}: {n}"));
        }
        said.push(format!(
            "{name}: the best byte has {:.2}, the nucleus keeps {by_p} and \
             min-p {by_min}",
            p[order[0]]
        ));
    }
    let alt = format!(
        "Two panels with the probabilities of the 30 most probable bytes, \
         sorted, on a logarithmic axis. Top-k keeps 10 in both. {}. {}.",
        said[0], said[1]
    );
    let mut csv = Csv::chart(
        "three-cuts",
        "The 30 most probable next bytes at two places of a text, and where \
         top-k (10), the nucleus (0.9) and min-p (0.1) cut; each keeps what \
         is left of its line",
        &alt,
        ["rank", "p"],
    )
    .with("log", "y");
    rows.iter().for_each(|row| csv.row(row));
    csv
}
pub(crate) fn temperature_entropy() -> Csv {
    let places = [SURE, OPEN].map(follows);
    let entropy = |p: &[f64], tau: f64| {
        let z: Vec<f64> = p.iter().map(|p| p.ln()).collect();
        let mut q = vec![f64::NAN; z.len()];
        sample_temperature(&mut q, &z, tau);
        let each = q.iter().filter(|q| **q > 0.0).map(|q| -q * q.ln());
        each.sum::<f64>()
    };
    let at_one = places.each_ref().map(|(p, _)| entropy(p, 1.0));
    let mut csv = Csv::chart(
        "temperature-entropy",
        "Entropy of the next byte against temperature, at the same two places",
        &format!(
            "Two curves over temperatures from 0.1 to 10 on a logarithmic \
             axis. Both begin near 0 and approach ln 256, 5.55 nats. At \
             temperature 1 the entropy is {:.2} nats inside a word and {:.2} \
             where a new speaker begins.",
            at_one[0], at_one[1]
        ),
        ["temperature τ", "nats"],
    )
    .with("log", "x");
    csv.row("τ,,");
    for i in 0..=40 {
        let tau = 10f64.powf(f64::from(i) / 20.0 - 1.0);
        let [a, b] = places.each_ref().map(|(p, _)| entropy(p, tau));
        csv.row(format!("{},{a:.3},{b:.3}", short(tau)));
    }
    csv.row("guide,0.1,5.545,10,5.545,nw,ln 256");
    let names = ["inside a word", "a new speaker"];
    for (line, (h, name)) in at_one.iter().zip(names).enumerate() {
        csv.row(format!("mark,{line},1,{h:.3},nw,{name}: {h:.2}"));
    }
    csv
}

pub(crate) fn cache_work() -> Csv {
    let m = Model::new(Config {
        vocab: 11,
        hidden: 12,
        head: 6,
        intermediate: 7,
        context: 64,
        ..Config::preset("tiny").unwrap()
    })
    .unwrap();
    let p = m.init::<Counted>(0);
    let mut rng = Rng::new(0, 1);
    let tokens: Vec<_> = (0..64).map(|_| rng.below(11)).collect();
    let mut decoder = Decoder::new(&m);
    let (mut steps, mut passes) = (vec![], vec![]);
    for t in 1..=64 {
        let step = products(|| {
            decoder.step(&p, tokens[t - 1]).unwrap();
        });
        steps.push(step as f64);
        let mut a = m.acts(Shape { batch: 1, time: t }, false);
        let pass = products(|| m.forward(&p, &tokens[..t], &mut a));
        passes.push(pass as f64);
    }
    let sum = |all: &[f64]| -> Vec<f64> {
        let next = |s: &mut f64, v: &f64| {
            *s += v;
            Some(*s)
        };
        all.iter().scan(0.0, next).collect()
    };
    let (with, without) = (sum(&steps), sum(&passes));
    let mut csv = Csv::chart(
        "cache-work",
        "Products of numbers that a small model needs to write 64 tokens, \
         counted, with the cache and without it",
        &format!(
            "Two panels over the number of tokens from 1 to 64. Above, the \
             products for one more token: with the cache a nearly flat line \
             that ends at {:.0}, without it a steep curve that ends at {:.0}. \
             Beneath, all products so far: {:.1} million with the cache, {:.1} \
             million without.",
            steps[63],
            passes[63],
            with[63] / 1e6,
            without[63] / 1e6
        ),
        ["T, tokens", "products"],
    );
    let panels = [
        ("for the T-th token, in thousands", &steps, &passes, 1e3),
        ("for all T tokens, in millions", &with, &without, 1e6),
    ];
    for (title, with, without, unit) in panels {
        csv.row(format!("panel,{title}"));
        csv.row("T,cache,without");
        for t in 1..=64 {
            let [a, b] = [with, without].map(|v| short(v[t - 1] / unit));
            csv.row(format!("{t},{a},{b}"));
        }
    }
    csv
}
pub(crate) fn cache_bytes() -> Csv {
    let (layers, heads, d) = (61u64, 128u64, 128u64);
    let context = 131_072u64;
    let kinds = [
        ("MHA, K = 128", 2 * heads * d),
        ("GQA, K = 8", 2 * 8 * d),
        ("MLA", 512 + 64),
        ("MQA, K = 1", 2 * d),
    ];
    let whole = |n: u64| {
        let gib = (2 * n * layers * context) as f64 / 1_073_741_824.0;
        format!("{gib:.1} GiB")
    };
    let said = kinds.map(|(name, n)| format!("{name} {n} numbers"));
    let mut csv = Csv::drawing(
        "cache-bytes",
        "What four kinds of attention keep for each token in each layer, for \
         128 query heads of 128 columns; and the whole cache of 61 layers and \
         131,072 tokens in 16 bits",
        &format!(
            "Four bars, whose lengths are to scale: {}. The whole cache takes \
             {} for MHA and {} for MLA.",
            said.join(", "),
            whole(kinds[0].1),
            whole(kinds[2].1)
        ),
    );
    let (left, wide) = (4.0, 352.0);
    for (i, (name, n)) in kinds.into_iter().enumerate() {
        let y = 10.0 + 44.0 * i as f64;
        csv.text_at([left, y], "e bold", name);
        let text = format!("{n} numbers, {}", whole(n));
        csv.text_at([left + wide, y], "w", &text);
        let w = wide * n as f64 / (2 * heads * d) as f64;
        csv.rect([left, y + 10.0], [w, 16.0], &format!("c{i} strong"), "");
    }
    csv
}
pub(crate) fn experts_read() -> Csv {
    let measured = experts_met();
    let mut csv = Csv::chart(
        "experts-read",
        "Share of a layer's experts that a batch of B tokens reads, if each \
         token chooses k of E evenly; dots: the model that is part of the \
         command (E = 4, k = 2), on random bytes of a sonnet",
        &format!(
            "Four curves of 1 − (1 − k/E)^B over B from 1 to 256, for 2 of 4, 2 \
             of 8, 4 of 32 and 8 of 256 experts. With 2 of 8 a batch of 8 \
             reads 90 %; with 8 of 256 a batch of 100 reads 96 %. Of the four \
             experts of the small model a batch of 4 reads {:.0} %, nearly \
             what its curve says.",
            100.0 * measured[2].1 / 4.0
        ),
        ["B, tokens in the batch", "share of the experts"],
    )
    .with("log", "x");
    let kinds = [(4, 2), (8, 2), (32, 4), (256, 8)];
    csv.row("B,,,,");
    for i in 0..=32 {
        let b = 2f64.powf(f64::from(i) / 4.0);
        let share = |(e, k): (i32, i32)| {
            let miss = 1.0 - f64::from(k) / f64::from(e);
            format!("{:.4}", 1.0 - miss.powf(b))
        };
        csv.row(format!("{},{}", short(b), kinds.map(share).join(",")));
    }
    // The names, where the curves are at six tenths.
    for (e, k) in kinds {
        let miss = 1.0 - f64::from(k) / f64::from(e);
        let b = short(0.4f64.ln() / miss.ln());
        csv.row(format!("guide,{b},0.6,{b},0.6,se,{k}/{e}"));
    }
    for (b, experts) in measured {
        csv.row(format!("mark,0,{b},{:.4},,", experts / 4.0));
    }
    csv
}
/// Shakespeare's 18th, the first two quatrains.
const SONNET: &str = "\
Shall I compare thee to a summer's day?
Thou art more lovely and more temperate:
Rough winds do shake the darling buds of May,
And summer's lease hath all too short a date;
";
/// For batches of 1, 2, 4, … bytes of the sonnet, how many of its four experts
/// a layer of the command's model reads: the mean over layers and 200 batches.
fn experts_met() -> Vec<(usize, f64)> {
    let (m, p) = shipped();
    let tokens: Vec<_> = SONNET.bytes().map(usize::from).collect();
    let mut a = m.acts(Shape { batch: 1, time: tokens.len() }, false);
    m.forward(&p, &tokens, &mut a);
    let mut rng = Rng::named(0, "batches");
    let mut mean = |b: usize| {
        let mut met = 0;
        for _ in 0..200 {
            let rows: Vec<_> =
                (0..b).map(|_| rng.below(tokens.len())).collect();
            for block in &a.blocks {
                let chosen = &block.moe.router.choice;
                let has = |e| {
                    rows.iter().any(|t| chosen[2 * t..2 * t + 2].contains(&e))
                };
                met += (0..4).filter(|&e| has(e)).count();
            }
        }
        f64::from(met as u32) / (200 * m.blocks.len()) as f64
    };
    [1, 2, 4, 8, 16].into_iter().map(|b| (b, mean(b))).collect()
}
