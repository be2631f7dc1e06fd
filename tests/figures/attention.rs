//! Chapter: attention, heads, rope. Figures of the three chapters on
//! attention.

use crate::csv::Csv;
use crate::paper::value;
use moe_by_hand::hf;
use moe_by_hand::kernel::softmax::softmax_forward;
use moe_by_hand::kernel::vector::dot;
use moe_by_hand::layer::{Layer, Shape};
use moe_by_hand::nn::attention::{Attention, Heads, prob_matrix};
use moe_by_hand::nn::rope::{Rope, rope_forward};
use moe_by_hand::params::Layout;
use std::path::Path;
use std::sync::Arc;

pub(crate) fn lookup() -> Csv {
    let mut csv = Csv::drawing(
        "attention-lookup",
        "A lookup by degrees: the query of “he” is compared with every key, \
         and each value counts as much as its key fits",
        "Five words with their keys, their scores against the query (2, 2), \
         their weights as bars and their values. Juliet: score 0, weight \
         0.016. called and and: score −2, weight 0.002. Romeo: score 4, weight \
         0.863. he: score 2, weight 0.117. Beneath stands the answer, the \
         weighted sum of the values: 0.016 of Juliet, 0.863 of Romeo.",
    );
    let words = ["Juliet", "called", "Romeo", "and", "he"];
    let keys = [[1.0, -1.0], [-1.0, 0.0], [1.0, 1.0], [-1.0, 0.0], [0.0, 1.0]];
    let values = [[1.0, 0.0], [0.0, 0.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0]];
    let query = [2.0, 2.0];
    let scores = keys.map(|k| dot(&query, &k));
    let mut p = scores;
    softmax_forward(&mut p);
    let pair = |v: [f64; 2], digits| {
        format!("({}, {})", value(v[0], digits), value(v[1], digits))
    };
    csv.text_at([8.0, 12.0], "e", "query of “he”");
    csv.rect([92.0, 2.0], [58.0, 20.0], "c0 strong", &pair(query, 0));
    let heads = [("key", 121.0), ("score", 175.0), ("weight", 234.0)];
    for (name, x) in heads.into_iter().chain([("value", 326.0)]) {
        csv.text_at([x, 38.0], "bold", name);
    }
    for (i, word) in words.iter().enumerate() {
        let y = 50.0 + 27.0 * i as f64;
        csv.text_at([8.0, y + 10.0], "e", word);
        csv.rect([92.0, y], [58.0, 20.0], "c1", &pair(keys[i], 0));
        csv.text_at([175.0, y + 10.0], "", &value(scores[i], 0));
        let long = 62.0 * p[i];
        csv.rect([202.0, y], [long, 20.0], "c0 strong", "");
        let beside = [206.0 + long, y + 10.0];
        csv.text_at(beside, "e", &value(p[i], 3));
        csv.rect([302.0, y], [50.0, 20.0], "c2", &pair(values[i], 0));
    }
    let answer = [0, 1].map(|c| dot(&p, &values.map(|v| v[c])));
    csv.text_at([244.0, 200.0], "w", "answer: weights times values");
    csv.rect([254.0, 190.0], [98.0, 20.0], "c2 strong", &pair(answer, 3));
    csv
}

/// What a head of the model that is part of the command reads.
pub(crate) fn heat() -> Csv {
    const TEXT: &str = "Shall I compare thee";
    let mut csv = Csv::heat(
        "attention-heat",
        "Two of the twelve heads of the model that is part of the command, on \
         the beginning of Shakespeare's 18th sonnet. A row is a query; the \
         stronger a square, the more of that column's value it takes; · is a \
         space",
        "Two triangles of squares over the letters of Shall I compare thee. \
         In the first, of the first block, most rows are faint all over; only \
         the rows of the spaces have strong squares, at letters of the word \
         before. In the second, of the second block, nearly every row is strong \
         at one square, just left of the diagonal.",
        ["the key: which byte is read", "query"],
    );
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = folder.join("../src/bin/moe/model");
    let (m, p) = hf::load::<f64>(&folder).unwrap();
    let tokens: Vec<usize> = TEXT.bytes().map(usize::from).collect();
    let t = tokens.len();
    let mut a = m.acts(Shape { batch: 1, time: t }, false);
    m.forward(&p, &tokens, &mut a);
    let heads = m.config.heads;
    for (block, head) in [(0, 0), (1, 2)] {
        let which = ["first", "second", "third"][block];
        csv.row(format!("panel,{which} block, head {head}"));
        // all heads read one key head
        let prob = &a.blocks[block].attention.prob;
        let prob = prob_matrix(prob, t * heads, t, heads);
        for (i, byte) in TEXT.chars().enumerate() {
            let row = &prob[(i * heads + head) * t..][..=i];
            let cells: Vec<_> = row.iter().map(|p| value(*p, 2)).collect();
            let label = if byte == ' ' { '·' } else { byte };
            csv.row(format!("{label},{}", cells.join(",")));
        }
    }
    csv
}

/// Where the slices of four query heads and of the two key heads that they
/// share lie: every slice holds the numbers of its head and of its position.
pub(crate) fn heads_memory() -> Csv {
    let mut csv = Csv::drawing(
        "heads-memory",
        "Memory from left to right, for four query heads on two key heads and \
         three positions; a box is one slice of d numbers. Blue belongs to key \
         head 0, orange to key head 1. Beneath: the blue group as one product",
        "The buffer of queries holds first all slices of heads 0 and 1, \
         position by position, then those of heads 2 and 3. The buffer of keys \
         holds position by position the slices of key head 0 and key head 1. \
         Beneath, the six slices of the first group, stacked as six rows, \
         times the three keys of key head 0 give six rows of three weights, \
         of which each pair of rows sees one key more than the pair above it.",
    );
    let (heads, kv, d, t) = (4, 2, 2, 3);
    let mut layout = Layout::default();
    let sizes = Heads { heads, kv_heads: kv, head: d };
    let rope = Arc::new(Rope::still(d, t));
    let layer = Attention::new(layout.builder(), 2, sizes, rope);
    // x = (1, position); every head writes (its number, the position).
    let mut p = layout.zeros::<f64>();
    for (w, heads) in [(layer.wq, heads), (layer.wk, kv)] {
        for h in 0..heads {
            p[w][h * d] = h as f64;
            p[w][(heads + h) * d + 1] = 1.0;
        }
    }
    let x: Vec<f64> = (0..t).flat_map(|t| [1.0, t as f64]).collect();
    let mut a = layer.acts(Shape { batch: 1, time: t });
    layer.forward(&p, &x, &mut a);
    let group = heads / kv;
    let mut ribbon =
        |top: f64, name: &str, slices: &[f64], sizes: [usize; 2]| {
            let [group, together] = sizes;
            csv.text_at([8.0, top], "e bold", name);
            for (i, slice) in slices.chunks(d).enumerate() {
                let x = 8.0 + 28.6 * i as f64;
                let class = format!("c{} strong", slice[0] as usize / group);
                let text = format!("{}", slice[0]);
                csv.rect([x, top + 26.0], [28.6, 20.0], &class, &text);
                if i % together == 0 {
                    let middle = x + 14.3 * together as f64;
                    let text = format!("t = {}", slice[1]);
                    csv.text_at([middle, top + 17.0], "", &text);
                }
            }
        };
    let q = "q [K, N, g·d]: which query head";
    ribbon(10.0, q, &a.q, [group, group]);
    ribbon(76.0, "k, v [N, K·d]: which key head", &a.k, [1, kv]);
    let top = 172.0;
    csv.text_at([50.0, 150.0], "bold", "q [Tg, d]");
    csv.text_at([166.0, 150.0], "bold", "kᵀ [d, T]");
    csv.text_at([286.0, 150.0], "bold", "P [Tg, T]");
    for (r, slice) in a.q[..t * group * d].chunks(d).enumerate() {
        let y = top + 21.0 * r as f64;
        let text = format!("t {}, head {}", slice[1], slice[0]);
        csv.rect([8.0, y], [84.0, 20.0], "c0 strong", &text);
        for s in 0..t {
            let x = 240.0 + 31.0 * s as f64;
            let seen = a.prob[r * t + s] > 0.0;
            let class = if seen { "c0" } else { "faint dashed" };
            csv.rect([x, y], [30.0, 20.0], class, "");
        }
    }
    for s in 0..t {
        let x = 122.0 + 31.0 * s as f64;
        csv.rect([x, top], [30.0, 62.0], "c0 strong", &format!("t {s}"));
    }
    csv.text_at([107.0, top + 31.0], "", "·");
    csv.arrow([218.0, top + 31.0], [236.0, top + 31.0], 0.0, "c7");
    csv
}

/// The hand (1, 0) of a pair after `m` positions, on the paper: y downward.
fn hand(rope: &Rope, m: usize, pair: usize) -> [f64; 2] {
    let mut x: Vec<f64> = [1.0, 0.0].repeat(rope.head / 2);
    rope_forward(&mut x, rope.head, 1, m, rope);
    [x[2 * pair], -x[2 * pair + 1]]
}
pub(crate) fn rope_hands() -> Csv {
    let mut csv = Csv::drawing(
        "rope-hands",
        "The four hands of a head of 8, at seven positions. All begin at three \
         o'clock and turn counter-clockwise, each ten times slower than the \
         one above it",
        "Four rows of clocks at positions 0, 1, 2, 3, 10, 100 and 1000. At \
         position 0 every hand points to the right. The first hand turns by \
         one radian for each position; the second by a tenth: at 10 it has \
         turned one radian; the third stands there at 100, the fourth at \
         1000.",
    );
    let positions = [0, 1, 2, 3, 10, 100, 1000];
    let rope = Rope::new(8, 1001, 1e4);
    csv.text_at([8.0, 12.0], "e bold", "position");
    for (i, m) in positions.into_iter().enumerate() {
        let x = 98.0 + 40.0 * i as f64;
        csv.text_at([x, 12.0], "bold", &format!("{m}"));
        for pair in 0..4 {
            let y = 42.0 + 40.0 * pair as f64;
            let [dx, dy] = hand(&rope, m, pair);
            csv.row(format!("circle,{x},{y},15,faint thin,"));
            let tip = [x + 15.0 * dx, y + 15.0 * dy];
            csv.arrow([x, y], tip, 0.0, &format!("c{pair}"));
        }
    }
    for pair in 0..4 {
        let y = 42.0 + 40.0 * pair as f64;
        let index = ['₀', '₁', '₂', '₃'][pair];
        let speed = ["1", "0.1", "0.01", "0.001"][pair];
        let text = format!("ω{index} = {speed}");
        csv.text_at([8.0, y], &format!("e c{pair}"), &text);
    }
    csv
}
pub(crate) fn rope_relative() -> Csv {
    let mut csv = Csv::drawing(
        "rope-relative",
        "One pair (ω = 1): a query two positions after its key, at three \
         places of the text. Both hands stand elsewhere each time; the angle \
         from the key to the query is 2 radians in all three",
        "Three clocks with two hands each, of a key and of a query, at \
         positions 1 and 3, 3 and 5, 10 and 12. The pair of hands as a whole \
         is turned from clock to clock; the angle between them is the same.",
    );
    let rope = Rope::new(2, 16, 1e4);
    for (i, (n, m)) in [(1, 3), (3, 5), (10, 12)].into_iter().enumerate() {
        let (x, y) = (62.0 + 118.0 * i as f64, 66.0);
        csv.row(format!("circle,{x},{y},44,faint thin,"));
        let [key, query] = [n, m].map(|m| hand(&rope, m, 0));
        let at = |[dx, dy]: [f64; 2], r: f64| [x + r * dx, y + r * dy];
        csv.arrow([x, y], at(key, 44.0), 0.0, "c1");
        csv.arrow([x, y], at(query, 44.0), 0.0, "c0");
        // An arc of 2 radians rises above its chord by r·(1 − cos 1), on the
        // right of a way that goes counter-clockwise.
        let r = 18.0;
        let bend = r * (1.0 - 1f64.cos());
        csv.arrow(at(key, r), at(query, r), -bend, "c3 thin");
        let text = format!("key at {n}");
        csv.text_at([x, 126.0], "c1", &text);
        let text = format!("query at {m}");
        csv.text_at([x, 142.0], "c0", &text);
        let [kq, kk] = [query, key].map(|v| v.map(|c| 44.0 * c));
        let angle = (dot(&kq, &kk) / (44.0 * 44.0)).acos();
        let text = format!("angle {}", value(angle, 3));
        csv.text_at([x, 158.0], "c3", &text);
    }
    csv
}
