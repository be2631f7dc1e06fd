//! Chapter: training. Figures that are boxes and arrows.

use crate::csv::Csv;
use crate::paper::value;
use moe_by_hand::kernel::activation::{
    glu_backward, glu_forward, silu_forward,
};
use moe_by_hand::kernel::matrix::{Mat, Set, mat, mat_mut, matmul};
use moe_by_hand::kernel::softmax::{softmax_backward, softmax_forward};
use moe_by_hand::layer::{Layer, Shape};
use moe_by_hand::nn::attention::{
    AttentionGrads, attention_backward, attention_forward,
};
use moe_by_hand::nn::embedding::{embedding_backward, embedding_forward};
use moe_by_hand::nn::moe::dispatch;
use moe_by_hand::nn::rmsnorm::{rmsnorm_backward, rmsnorm_forward};
use moe_by_hand::nn::router::{
    renormalize_backward, renormalize_forward, top_k,
};
use moe_by_hand::nn::swiglu::SwiGlu;
use moe_by_hand::params::Layout;
use moe_by_hand::real::{Dual, Real};

/// The places in memory that a view reads, in its own order: its elements, if
/// each is its own place.
fn places(view: Mat<f64>) -> Vec<usize> {
    let (rows, cols) = (view.rows, view.cols);
    let mut one = vec![0.0; cols * cols];
    (0..cols).for_each(|i| one[i * cols + i] = 1.0);
    let mut y = vec![f64::NAN; rows * cols];
    matmul(mat_mut(&mut y, cols), Set, view, mat(&one, cols));
    y.into_iter().map(|v| v as usize).collect()
}
pub(crate) fn computational_graph() -> Csv {
    let mut csv = Csv::drawing(
        "computational-graph",
        "A computational graph at x = (3, 2): values forward, and gradients \
         back; beside each arrow back, what it carries",
        "Five boxes from left to right. Forward, above: x₁ = 3 and x₂ = 2 give \
         y₁ = x₁x₂ = 6 and y₂ = x₁² = 9, and these give ℒ = y₁ − y₂ = −3. \
         Backward, below, from right to left: ℒ has 1, which becomes 1 at y₁ \
         and −1 at y₂. From y₁, 2 goes to x₁ and 3 to x₂; from y₂, −6 goes to \
         x₁, where 2 and −6 add up to −4.",
    );
    // What ℒ is, over any number, and its slopes by dual numbers.
    fn graph<T: Real>([x1, x2]: [T; 2]) -> ([T; 2], T) {
        let y = [x1 * x2, x1 * x1];
        (y, y[0] - y[1])
    }
    let x = [3.0, 2.0];
    let (y, loss) = graph(x);
    let slope =
        |along: [f64; 2]| graph([0, 1].map(|i| Dual { v: x[i], d: along[i] }));
    let by: [_; 2] = [slope([1.0, 0.0]), slope([0.0, 1.0])];
    let dy = [1.0, -1.0];
    let sent = by.map(|(y, _)| [0, 1].map(|j| y[j].d * dy[j]));
    let dx = by.map(|(_, loss)| loss.d);
    let (wide, high) = (70.0, 62.0);
    let text = |v: f64| value(v, 0);
    let mut node = |[x, y]: [f64; 2], name: &str, v: f64, d: f64| {
        csv.rect([x, y], [wide, high], "c7", "");
        let at = |row: f64| [x + wide / 2.0, y + row];
        csv.text_at(at(12.0), "bold", name);
        csv.text_at(at(31.0), "c0", &text(v));
        csv.text_at(at(49.0), "c1", &text(d));
    };
    let (left, middle, right) = (4.0, 142.0, 286.0);
    let (top, low) = (14.0, 132.0);
    node([left, top], "x₁", x[0], dx[0]);
    node([left, low], "x₂", x[1], dx[1]);
    node([middle, low], "y₁ = x₁x₂", y[0], dy[0]);
    node([middle, top], "y₂ = x₁²", y[1], dy[1]);
    node([right, (top + low) / 2.0], "ℒ = y₁ − y₂", loss, 1.0);
    // Forward at the height of the values, backward at that of the gradients.
    let mut edge = |from: [f64; 2], to: [f64; 2], carried: f64, at: f64| {
        let [a, b] = [from, to].map(|[x, y]| [x, y + 31.0]);
        csv.arrow([a[0] + wide, a[1]], b, 0.0, "c0");
        let [a, b] = [from, to].map(|[x, y]| [x, y + 49.0]);
        let a = [a[0] + wide, a[1]];
        csv.arrow(b, a, 0.0, "c1");
        let label = [0, 1].map(|i| b[i] + at * (a[i] - b[i]));
        csv.text_at([label[0], label[1] + 3.0], "s c1", &text(carried));
    };
    edge([left, top], [middle, top], sent[0][1], 0.5);
    edge([left, top], [middle, low], sent[0][0], 0.75);
    edge([left, low], [middle, low], sent[1][0], 0.5);
    edge([middle, top], [right, (top + low) / 2.0], dy[1], 0.6);
    edge([middle, low], [right, (top + low) / 2.0], dy[0], 0.5);
    csv.text_at([6.0, 214.0], "e c0", "forward: values");
    csv.text_at([354.0, 214.0], "w c1", "backward: gradients");
    csv
}

pub(crate) fn strides() -> Csv {
    let mut csv = Csv::drawing(
        "strides",
        "Six cells of memory, read in three ways; a color for each row, an \
         arrow for each step along it",
        "A ribbon of six memory cells with the numbers 1 to 6, drawn three \
         times. As X, row 0 is the cells 0, 1, 2 and row 1 the cells 3, 4, 5: \
         steps of one cell. As its transpose, the three rows are the cells \
         0 and 3, 1 and 4, 2 and 5: steps of three cells. The block of both \
         rows and the columns 1 and 2 is the cells 1, 2 and 4, 5.",
    );
    let memory = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
    let x = mat(&memory, 3);
    let views = [
        ("X", x),
        ("Xᵀ", x.t()),
        ("X, rows 0..2, columns 1..3", x.block(0..2, 1..3)),
    ];
    let (left, width) = (48.0, 44.0);
    let mut y = 12.0;
    for (name, view) in views {
        let (rows, cols, at) = (view.rows, view.cols, places(view));
        let (rs, cs) = (at[cols] - at[0], at[1] - at[0]);
        let shape = format!("shape [{rows}, {cols}], strides ({rs}, {cs})");
        csv.text_at([8.0, y], "e bold", name);
        csv.text_at([8.0, y + 16.0], "e", &shape);
        let top = y + 26.0 + 10.0 * cs as f64;
        let middle = |i: usize| left + width * (i as f64 + 0.5);
        for i in 0..memory.len() {
            let row = at.iter().position(|&a| a == i).map(|k| k / cols);
            let class = row.map_or("faint".into(), |r| format!("c{r}"));
            let corner = [left + width * i as f64, top];
            csv.rect(corner, [width, 24.0], &class, &format!("{}", i + 1));
        }
        for (r, row) in at.chunks(cols).enumerate() {
            let class = format!("c{r}");
            for step in row.windows(2) {
                let [from, to] = [step[0], step[1]].map(|i| [middle(i), top]);
                csv.arrow(from, to, 10.0 * cs as f64, &class);
            }
            let under = [middle(row[0]), top + 26.0];
            csv.text_at(under, &format!("s {class}"), &format!("row {r}"));
        }
        y = top + 60.0;
    }
    csv
}

pub(crate) fn loop_orders() -> Csv {
    let mut csv = Csv::drawing(
        "loop-orders",
        "Three orders of the loops of C = AB: the innermost loop is an arrow, \
         and the way to the next one dashed",
        "A lattice of 2 times 3 times 3 points, one for each product of an \
         element of A and one of B, drawn three times with the path of a loop \
         order. In the order ijl the innermost loop walks along a row of A \
         and down a column of B, while C stands still. In the orders ilj and \
         lij it walks along rows of B and C, while A stands still; ilj then \
         takes the same row of C again, lij the next one.",
    );
    let sizes = [2, 3, 3]; // of i, l, j
    // i downward, l into the depth, j to the right
    let steps = [[0.0, 44.0], [19.0, -12.0], [34.0, 0.0]];
    let mut top = 14.0;
    for (name, order) in
        [("ijl", [0, 2, 1]), ("ilj", [0, 1, 2]), ("lij", [1, 0, 2])]
    {
        let at = |c: [usize; 3]| {
            [0, 1].map(|axis| {
                let corner = [34.0, top + 44.0][axis];
                let along = |d: usize| c[d] as f64 * steps[d][axis];
                corner + (0..3).map(along).sum::<f64>()
            })
        };
        csv.text_at([8.0, top - 2.0], "e bold", name);
        for (d, letter) in ["i", "l", "j"].into_iter().enumerate() {
            let mut end = [0.0; 3];
            end[d] = sizes[d] as f64 - 0.55;
            let [from, to] = [[0.0; 3], end].map(|c: [f64; 3]| {
                [0, 1].map(|axis| {
                    at([0; 3])[axis]
                        + (0..3).map(|d| c[d] * steps[d][axis]).sum::<f64>()
                })
            });
            csv.line(from, to, "faint thin");
            csv.text_at(to, ["s", "ne", "e"][d], letter);
        }
        let [outer, middle, inner] = order;
        let mut last: Option<[f64; 2]> = None;
        for a in 0..sizes[outer] {
            for b in 0..sizes[middle] {
                let mut c = [0; 3];
                (c[outer], c[middle]) = (a, b);
                let from = at(c);
                c[inner] = sizes[inner] - 1;
                if let Some(last) = last {
                    csv.line(last, from, "c7 thin dashed");
                }
                csv.arrow(from, at(c), 0.0, "c0");
                last = Some(at(c));
            }
        }
        // Steps in memory along i, l, j; a row of A has 3 numbers, so of B.
        let operands = [("A", [3, 1, 0]), ("B", [0, 3, 1]), ("C", [3, 0, 1])];
        let mut y = top + 12.0;
        let loops = ["i", "l", "j"];
        let told = format!("innermost, along {}:", loops[inner]);
        csv.text_at([168.0, y - 14.0], "e", &told);
        for (name, stride) in operands {
            let (class, walk) = match stride[inner] {
                0 => ("e", "stands still"),
                1 => ("e c2", "along a row, cell by cell"),
                _ => ("e c1 bold", "down a column"),
            };
            csv.text_at([168.0, y], class, &format!("{name}  {walk}"));
            y += 15.0;
        }
        let again = match operands[2].1[middle] {
            0 => "same row of C again",
            1 => "next number of C",
            _ => "next row of C",
        };
        let then = format!("then {}: {again}", loops[middle]);
        csv.text_at([168.0, y + 3.0], "e", &then);
        top += 118.0;
    }
    csv
}

pub(crate) fn softmax_simplex() -> Csv {
    let mut csv = Csv::drawing(
        "softmax-simplex",
        "The gradient z̄ = (diag(p) − ppᵀ)p̄ for p̄ = (1, 0, −1), drawn at the \
         shares p; the marked ones are those of z = (1, 2, 3)",
        "The triangle of all shares of three scores, with arrows of z̄ at a \
         grid of points for p̄ = (1, 0, −1). All arrows lie in the plane of \
         the triangle and lead from the third corner toward the first. They \
         are longest midway between these two and shrink to nothing at the \
         corners.",
    );
    // Corners 1 left, 2 above, 3 right; shares are weights of the corners.
    let corners = [[30.0, 272.0], [180.0, 24.0], [330.0, 272.0]];
    let at = |p: [f64; 3]| {
        [0, 1].map(|axis| (0..3).map(|i| p[i] * corners[i][axis]).sum::<f64>())
    };
    let gradient = |p: [f64; 3]| {
        let mut d = [1.0, 0.0, -1.0];
        softmax_backward(&mut d, &p);
        d
    };
    for i in 0..3 {
        csv.line(corners[i], corners[(i + 1) % 3], "faint");
    }
    // Arrows are drawn at a quarter of their length.
    let mut arrow = |p: [f64; 3], class: &str| {
        let d = gradient(p);
        let (from, to) = (at(p), at([0, 1, 2].map(|i| p[i] + 0.25 * d[i])));
        if (to[0] - from[0]).hypot(to[1] - from[1]) > 2.0 {
            csv.arrow(from, to, 0.0, class);
        }
    };
    let n = 7;
    for i in 0..=n {
        for j in 0..=n - i {
            arrow([i, j, n - i - j].map(|c| c as f64 / n as f64), "c0");
        }
    }
    let mut p = [1.0, 2.0, 3.0];
    softmax_forward(&mut p);
    arrow(p, "c1");
    let row = |v: [f64; 3]| v.map(|v| value(v, 4)).join(", ");
    csv.dot(at(p), "c1", "");
    csv.text_at(corners[0], "s", "p₁ = 1");
    csv.text_at(corners[1], "n", "p₂ = 1");
    csv.text_at(corners[2], "s", "p₃ = 1");
    csv.text_at([180.0, 306.0], "c1", &format!("p = ({})", row(p)));
    csv.text_at([180.0, 322.0], "c1", &format!("z̄ = ({})", row(gradient(p))));
    csv
}

pub(crate) fn embedding_scatter() -> Csv {
    let mut csv = Csv::drawing(
        "embedding-scatter",
        "The lookup of the tokens 2, 5, 2, 0, and its backward: the same \
         arrows, turned round",
        "Rows 0 to 5 of the table at the left, the tokens 2, 5, 2, 0 at the \
         right, joined by arrows; row 2 has two. Forward copies along them to \
         the right: 0.2, 0.5, 0.2, 0.0. Backward adds along them to the left: \
         the rows receive 1000, 0, 101, 0, 0, 10.",
    );
    let tokens = [2, 5, 2, 0];
    let table = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5];
    let mut x = [f64::NAN; 4];
    embedding_forward(&mut x, &table, &tokens);
    let dx = [1.0, 10.0, 100.0, 1000.0];
    let mut dtable = [0.0; 6];
    embedding_backward(&mut dtable, &dx, &tokens);
    let color = |t: usize| ["c0", "c1", "c2", "c3"][t];
    let mut half = |top: f64, back: bool| {
        let (left, right) = if back { ("Ē", "x̄") } else { ("E", "x") };
        csv.text_at([84.0, top], "bold", left);
        csv.text_at([282.0, top], "bold", right);
        csv.text_at([330.0, top], "", "token");
        let told = if back { "add" } else { "copy" };
        csv.text_at([184.0, top], "", told);
        let row = |v: usize| top + 12.0 + 22.0 * v as f64;
        let rows = if back { dtable } else { table };
        let digits = if back { 0 } else { 1 };
        for (v, number) in rows.into_iter().enumerate() {
            let used = tokens.contains(&v);
            let class = if used { "c7" } else { "faint" };
            csv.text_at([52.0, row(v) + 10.0], "w", &format!("row {v}"));
            let text = value(number, digits);
            csv.rect([58.0, row(v)], [52.0, 20.0], class, &text);
        }
        for (t, &token) in tokens.iter().enumerate() {
            let y = top + 30.0 + 26.0 * t as f64;
            let number = if back { dx[t] } else { x[t] };
            let text = value(number, digits);
            csv.rect([256.0, y], [52.0, 20.0], color(t), &text);
            let told = format!("{token}");
            csv.text_at([330.0, y + 10.0], "", &told);
            let (from, to) = ([110.0, row(token) + 10.0], [256.0, y + 10.0]);
            let (from, to) = if back { (to, from) } else { (from, to) };
            csv.arrow(from, to, 0.0, color(t));
        }
    };
    half(12.0, false);
    half(180.0, true);
    csv
}

pub(crate) fn rmsnorm_tangent() -> Csv {
    let mut csv = Csv::drawing(
        "rmsnorm-tangent",
        "What is left of the gradient u: the part across x̂, shrunk by r. It \
         stands at a right angle to x",
        "A plane with the circle of radius √2. The input x = (1, 7) points \
         far outward; its image x̂ = (0.2, 1.4) lies on the circle. There the \
         gradient u = (2, 1) is split into 0.9 times x̂, which is removed, and \
         the tangent part (1.82, −0.26). A fifth of that is x̄ = (0.364, \
         −0.052), drawn at x and at a right angle to it.",
    );
    let (x, gain, dy) = ([1.0, 7.0], [2.0, 1.0], [1.0, 1.0]);
    let (mut y, mut r) = ([f64::NAN; 2], [f64::NAN]);
    rmsnorm_forward(&mut y, &mut r, &x, &gain, 0.0);
    let (mut dx, mut dgain) = ([f64::NAN; 2], [0.0; 2]);
    rmsnorm_backward(&mut dx, &mut dgain, &dy, &x, &gain, &r);
    let r = r[0];
    let hat = x.map(|x| r * x);
    let u = [0, 1].map(|j| gain[j] * dy[j]);
    let tangent = dx.map(|d| d / r);
    let share = (u[0] - tangent[0]) / hat[0];
    let sum = |a: [f64; 2], b: [f64; 2]| [a[0] + b[0], a[1] + b[1]];
    let scale = 33.0;
    let at = |v: [f64; 2]| [110.0 + scale * v[0], 262.0 - scale * v[1]];
    let pair = |v: [f64; 2], digits| {
        let [a, b] = v.map(|v| value(v, digits));
        format!("({a}, {b})")
    };
    let origin = [0.0, 0.0];
    let [ox, oy] = at(origin);
    let radius = scale * hat[0].hypot(hat[1]);
    csv.row(format!("circle,{ox},{oy},{radius:.1},c7 thin,"));
    csv.text_at([ox, oy + radius + 4.0], "s", "radius √D = √2");
    csv.line(at(origin), at(x), "c7 thin");
    csv.dot(at(origin), "c7", "");
    // Right angles: between the way out and the way along the circle.
    for (from, size) in [(hat, 0.2), (x, 0.2)] {
        let out = x.map(|v| v * size / x[0].hypot(x[1]));
        let along = dx.map(|v| v * size / dx[0].hypot(dx[1]));
        let inward = [from[0] - out[0], from[1] - out[1]];
        csv.line(at(inward), at(sum(inward, along)), "c7 thin");
        csv.line(at(sum(inward, along)), at(sum(from, along)), "c7 thin");
    }
    let removed = format!("{} x̂, removed", value(share, 1));
    let middle =
        sum(hat, [(u[0] + tangent[0]) / 2.0, (u[1] + tangent[1]) / 2.0]);
    csv.arrow(at(hat), at(sum(hat, u)), 0.0, "c1");
    csv.line(at(sum(hat, u)), at(sum(hat, tangent)), "c7 dashed");
    csv.arrow(at(hat), at(sum(hat, tangent)), 0.0, "c0");
    csv.arrow(at(x), at(sum(x, dx)), 0.0, "c0");
    csv.dot(at(hat), "c7 nw", &format!("x̂ = {}", pair(hat, 1)));
    csv.dot(at(x), "c7 w", &format!("x = {}", pair(x, 0)));
    let beside = |v: [f64; 2]| [at(v)[0] + 6.0, at(v)[1]];
    let text = format!("u = {}", pair(u, 0));
    csv.text_at(beside(sum(hat, u)), "c1 e", &text);
    csv.text_at(beside(middle), "e", &removed);
    let text = format!("u − {} x̂ = {}", value(share, 1), pair(tangent, 2));
    csv.text_at(beside(sum(hat, tangent)), "c0 e", &text);
    let text = format!("x̄ = {} · {}", value(r, 1), pair(tangent, 2));
    let [tx, ty] = beside(sum(x, dx));
    csv.text_at([tx, ty], "c0 e", &text);
    csv.text_at([tx, ty + 16.0], "c0 e", &format!("   = {}", pair(dx, 3)));
    csv
}

pub(crate) fn swiglu_lanes() -> Csv {
    let mut csv = Csv::drawing(
        "swiglu-lanes",
        "The two lanes of an expert for D = F = 1, x = 1, W₁ = 1, W₃ = 2, \
         W₂ = 1 and ȳ = 1: values forward, and gradients back",
        "Two lanes from x to y. Forward, above: x = 1 gives a = 1 and b = 2; \
         s = silu(a) = 0.7311; the lanes meet in h = s·b = 1.4621, and y is \
         1.4621. Backward, below, from right to left: ȳ = 1, h̄ = 1, which \
         parts into ā = 1.8553 and b̄ = 0.7311, and these meet in x̄ = 3.3175.",
    );
    let (x, w1, w3, w2, dy) = ([1.0], 1.0, 2.0, 1.0, 1.0);
    let (a, b, dh) = ([x[0] * w1], [x[0] * w3], [dy * w2]);
    let (mut h, mut da, mut db) = ([f64::NAN], [f64::NAN], [f64::NAN]);
    glu_forward(&mut h, &a, &b);
    glu_backward(&mut da, &mut db, &dh, &a, &b);
    // The ends are those of the layer.
    let mut layout = Layout::default();
    let expert = SwiGlu::new(layout.builder(), 1, 1);
    let mut p = layout.zeros::<f64>();
    p.data.copy_from_slice(&[w1, w3, w2]);
    let one = Shape { batch: 1, time: 1 };
    let (mut acts, mut g) = (expert.acts(one), expert.acts(one));
    expert.forward(&p, &x, &mut acts);
    g.y[0] = dy;
    let (mut dx, mut dp) = ([f64::NAN], layout.grads());
    expert.backward(&p, &x, &acts, &mut g, &mut dx, &mut dp);
    let ds = dh[0] * b[0];
    let short = |v: f64| value(v, if v.fract() == 0.0 { 0 } else { 4 });
    let (wide, high) = (46.0, 58.0);
    let mut node =
        |[x, y]: [f64; 2], name: &str, shape: &str, v: f64, d: f64| {
            csv.rect([x, y], [wide, high], "c7", "");
            let at = |row: f64| [x + wide / 2.0, y + row];
            csv.text_at(at(10.0), "bold", name);
            csv.text_at(at(29.0), "c0", &short(v));
            csv.text_at(at(46.0), "c1", &short(d));
            csv.text_at(at(-8.0), "", shape);
        };
    let (top, low) = (24.0, 128.0);
    let mid = (top + low) / 2.0;
    node([4.0, mid], "x", "[N, D]", x[0], dx[0]);
    node([86.0, top], "a", "[N, F]", a[0], da[0]);
    node([86.0, low], "b", "[N, F]", b[0], db[0]);
    node([154.0, top], "s", "silu(a)", silu_forward(a[0]), ds);
    node([226.0, mid], "h", "s ⊙ b", h[0], dh[0]);
    node([310.0, mid], "y", "[N, D]", acts.y[0], dy);
    // Forward on the row of the values, backward on that of the gradients.
    let mut edge = |from: [f64; 2], to: [f64; 2]| {
        let [a, b] = [from, to].map(|[x, y]| [x, y + 29.0]);
        csv.arrow([a[0] + wide, a[1]], b, 0.0, "c0");
        let [a, b] = [from, to].map(|[x, y]| [x, y + 46.0]);
        csv.arrow(b, [a[0] + wide, a[1]], 0.0, "c1");
    };
    edge([4.0, mid], [86.0, top]);
    edge([4.0, mid], [86.0, low]);
    edge([86.0, top], [154.0, top]);
    edge([154.0, top], [226.0, mid]);
    edge([86.0, low], [226.0, mid]);
    edge([226.0, mid], [310.0, mid]);
    csv.text_at([68.0, top + 38.0], "nw", "W₁");
    csv.text_at([68.0, low + 38.0], "sw", "W₃");
    csv.text_at([291.0, mid + 20.0], "n", "W₂");
    csv.text_at([4.0, 206.0], "e c0", "forward: values");
    csv.text_at([356.0, 206.0], "w c1", "backward: gradients");
    csv
}

pub(crate) fn attention_two_by_two() -> Csv {
    let mut csv = Csv::drawing(
        "attention-two-by-two",
        "Two positions: scores, weights and output, and beneath them, from \
         right to left, their gradients. A gradient of 3 arrives at the masked \
         corner of P̄; its weight P = 0 turns it into 0",
        "Above, from left to right: the scores S = 0.707; 0, 0.707 with −∞ in \
         the masked corner, the weights P = 1, 0; 0.330, 0.670 and the output \
         O = 1, 2; 2.340, 3.340. Beneath, from right to left: the gradient of \
         the output is the identity, that of the weights 1, 3; 2, 4, that of \
         the scores 0, 0; −0.442, 0.442. The 3 stands in the masked corner.",
    );
    let (q, k) = ([1.0, 0.0, 0.0, 1.0], [1.0, 0.0, 1.0, 1.0]);
    let v = [1.0, 2.0, 3.0, 4.0];
    let [qm, km, vm] = [&q, &k, &v].map(|m| mat(m, 2));
    let (mut o, mut p, mut s) = ([f64::NAN; 4], [f64::NAN; 4], [f64::NAN; 4]);
    attention_forward(mat_mut(&mut o, 2), &mut p, qm, km, vm, 1);
    let root = 2f64.sqrt();
    matmul(mat_mut(&mut s, 2), Set, qm, km.t());
    s.iter_mut().for_each(|s| *s /= root);
    s[1] = f64::NEG_INFINITY;
    let d_o = [1.0, 0.0, 0.0, 1.0];
    let [mut dq, mut dk, mut dv, mut ds] = [[f64::NAN; 4]; 4];
    let grads = AttentionGrads {
        dq: mat_mut(&mut dq, 2),
        dk: mat_mut(&mut dk, 2),
        dv: mat_mut(&mut dv, 2),
        ds: &mut ds,
    };
    attention_backward(grads, mat(&d_o, 2), &p, qm, km, vm, 1);
    let ds = ds.map(|d| d * root);
    let mut dp = [f64::NAN; 4];
    matmul(mat_mut(&mut dp, 2), Set, mat(&d_o, 2), vm.t());
    let mut square = |[x, y]: [f64; 2], name: &str, m: [f64; 4], masked| {
        csv.text_at([x + 48.0, y], "bold", name);
        for (i, v) in m.into_iter().enumerate() {
            let (row, col) = ((i / 2) as f64, (i % 2) as f64);
            let corner = [x + 48.0 * col, y + 12.0 + 26.0 * row];
            let text = match v {
                f64::NEG_INFINITY => "−∞".into(),
                _ if v.fract() == 0.0 => value(v + 0.0, 0),
                _ => value(v, 3),
            };
            let class = match v {
                _ if masked && i == 1 && v > 0.0 => "c3 strong",
                _ if masked && i == 1 => "c3 dashed",
                0.0 => "c7",
                _ if v < 0.0 => "c1",
                _ => "c0",
            };
            csv.rect(corner, [48.0, 26.0], class, &text);
        }
    };
    let (columns, rows) = ([4.0, 132.0, 260.0], [12.0, 114.0]);
    square([columns[0], rows[0]], "S = QKᵀ/√d", s, true);
    square([columns[1], rows[0]], "P", p, true);
    square([columns[2], rows[0]], "O = PV", o, false);
    square([columns[0], rows[1]], "S̄ = P ⊙ (P̄ − Δ)", ds, true);
    square([columns[1], rows[1]], "P̄ = ŌVᵀ", dp, true);
    square([columns[2], rows[1]], "Ō", d_o, false);
    for x in [columns[0], columns[1]].map(|x| x + 100.0) {
        csv.arrow([x, 50.0], [x + 24.0, 50.0], 0.0, "c0");
        csv.arrow([x + 24.0, 152.0], [x, 152.0], 0.0, "c1");
    }
    csv
}

pub(crate) fn heads_wiring() -> Csv {
    let mut csv = Csv::drawing(
        "heads-wiring",
        "Which key/value head each of eight query heads reads, and what the \
         cache keeps for a token and layer (heads of 128 numbers, 16 bits)",
        "Eight query heads wired to eight, two and one key/value heads. With \
         eight, each reads its own and the cache keeps 2048 numbers, 4096 \
         bytes, for a token; with two, four share one and it keeps 512; with \
         one, all share it and it keeps 256.",
    );
    let (heads, size) = (8, 128);
    let x = |i: f64| 24.0 + 40.0 * i;
    let mut top = 12.0;
    for (name, kv) in [("MHA", 8), ("GQA", 2), ("MQA", 1)] {
        let numbers = 2 * kv * size;
        csv.text_at([8.0, top], "e bold", &format!("{name}, K = {kv}"));
        let kept = format!("{numbers} numbers, {} bytes", 2 * numbers);
        csv.text_at([352.0, top], "w", &kept);
        let group = heads / kv;
        for h in 0..heads {
            let to = h / group;
            let class = format!("c{to}");
            let first = (to * group) as f64;
            let center = first + (group as f64 - 1.0) / 2.0;
            let (from, to) = (x(h as f64) + 16.0, x(center) + 16.0);
            csv.line([from, top + 32.0], [to, top + 58.0], &class);
            let text = format!("{h}");
            csv.rect([from - 16.0, top + 13.0], [32.0, 19.0], &class, &text);
            if h % group == 0 {
                let text = format!("{}", h / group);
                let corner = [to - 16.0, top + 58.0];
                csv.rect(
                    corner,
                    [32.0, 19.0],
                    &format!("{class} strong"),
                    &text,
                );
            }
        }
        top += 104.0;
    }
    csv
}

pub(crate) fn router_topk() -> Csv {
    let mut csv = Csv::drawing(
        "router-topk",
        "A router's way from scores to weights, k = 2, and the gradient's way \
         back; experts that were not chosen are pale",
        "Above, from left to right: the scores 2, 1, 0, −1 of four experts \
         become the probabilities 0.644, 0.237, 0.087, 0.032; the two largest \
         are kept and stretched to the weights 0.731 and 0.269. Beneath, from \
         right to left: the gradient 1, −1 of the weights becomes 0.61 and \
         −1.66 at the probabilities and 0.39 and −0.39 at the scores. The two \
         experts not chosen receive 0.",
    );
    let z = [2.0, 1.0, 0.0, -1.0];
    let mut p = z;
    softmax_forward(&mut p);
    let (mut choice, mut w) = ([9; 2], [f64::NAN; 2]);
    top_k(&mut choice, &p);
    renormalize_forward(&mut w, &p, &choice);
    let (dw, mut dp) = ([1.0, -1.0], [0.0; 4]);
    renormalize_backward(&mut dp, &dw, &w, &p, &choice);
    let mut dz = dp;
    softmax_backward(&mut dz, &p);
    // The weights beside their experts.
    let spread = |of: [f64; 2]| {
        let mut all = [f64::NAN; 4];
        choice.iter().zip(of).for_each(|(&e, v)| all[e] = v);
        all
    };
    let mut bars = |[left, top]: [f64; 2],
                    name: &str,
                    v: [f64; 4],
                    zero: f64,
                    unit: f64,
                    digits: usize| {
        csv.text_at([left + 52.0, top], "bold", name);
        let axis = left + zero;
        csv.line([axis, top + 12.0], [axis, top + 90.0], "faint");
        for (e, &v) in v.iter().enumerate() {
            let y = top + 14.0 + 19.0 * e as f64;
            let chosen = choice.contains(&e);
            let length = unit * v;
            if length.abs() > 0.0 {
                let from = axis + length.min(0.0);
                let class = if chosen { "c0 strong" } else { "c7" };
                csv.rect([from, y], [length.abs(), 15.0], class, "");
            }
            let text = match v {
                _ if v.is_nan() => "–".into(),
                0.0 => "0".into(),
                _ => value(v, digits),
            };
            let beside = [axis + length.max(0.0) + 4.0, y + 7.5];
            csv.text_at(beside, if chosen { "e c0" } else { "e" }, &text);
        }
    };
    let columns = [22.0, 128.0, 250.0];
    let (top, low) = (12.0, 132.0);
    bars([columns[0], top], "z", z, 28.0, 26.0, 0);
    bars([columns[1], top], "p = softmax(z)", p, 2.0, 88.0, 3);
    bars([columns[2], top], "w = p / Σ", spread(w), 2.0, 88.0, 3);
    bars([columns[0], low], "z̄", dz, 46.0, 26.0, 2);
    bars([columns[1], low], "p̄", dp, 46.0, 26.0, 2);
    bars([columns[2], low], "w̄", spread(dw), 46.0, 26.0, 0);
    for e in 0..4 {
        for from in [top, low] {
            let y = from + 21.5 + 19.0 * e as f64;
            csv.text_at([4.0, y], "e", &format!("{e}"));
        }
    }
    for x in [106.0, 230.0] {
        csv.arrow([x, top], [x + 16.0, top], 0.0, "c0");
        csv.arrow([x + 16.0, low], [x, low], 0.0, "c1");
    }
    csv.text_at([4.0, top], "e", "expert");
    csv
}

pub(crate) fn moe_dispatch() -> Csv {
    let mut csv = Csv::drawing(
        "moe-dispatch",
        "Three tokens, two choices each, four experts: there and back, and \
         the gradients by the same ways",
        "Above: three rows of x fan out to six rows sorted by expert, two for \
         each of the experts 0, 1 and 3, none for expert 2; six weighted \
         arrows bring the answers back to three rows of y. Beneath, the same \
         picture with all arrows turned round carries the gradients, and a \
         dashed arrow leads from ȳ through the weights and the router to x̄.",
    );
    let (choice, count) = ([3, 0, 0, 1, 3, 1], [2, 2, 0, 2]);
    let (mut slot, mut start) = ([9; 6], [9; 5]);
    dispatch(&mut slot, &mut start, &choice, &count);
    let k = choice.len() / 3;
    // From which token a sorted row came.
    let mut origin = [9; 6];
    slot.iter().enumerate().for_each(|(i, &s)| origin[s] = i / k);
    let mut half = |top: f64, back: bool| {
        let bar = if back { "\u{304}" } else { "" };
        let (gather, combine) =
            if back { ("add", "weigh") } else { ("copy", "weigh, add") };
        csv.text_at([34.0, top], "bold", &format!("x{bar}"));
        csv.text_at([101.0, top], "", gather);
        csv.text_at([182.0, top], "bold", "sorted");
        csv.text_at([264.0, top], "", combine);
        csv.text_at([328.0, top], "bold", &format!("y{bar}"));
        let token = |t: usize| top + 36.0 + 44.0 * t as f64;
        for t in 0..3 {
            let class = format!("c{t}");
            for (x, name) in [(12.0, "x"), (306.0, "y")] {
                let text = format!("{name}{bar}{}", ['₀', '₁', '₂'][t]);
                csv.rect([x, token(t) - 10.0], [42.0, 20.0], &class, &text);
            }
        }
        let mut y = top + 14.0;
        for e in 0..count.len() {
            let rows = start[e]..start[e + 1];
            let high = 22.0 * rows.len() as f64 + 4.0;
            let idle = rows.is_empty();
            let high = if idle { 18.0 } else { high };
            let class = if idle { "faint dashed" } else { "c7" };
            let name = format!("f{}", ['₀', '₁', '₂', '₃'][e]);
            csv.rect([148.0, y], [68.0, high], class, "");
            let text = if idle { format!("{name}  no row") } else { name };
            let at = if idle { 182.0 } else { 201.0 };
            csv.text_at([at, y + high / 2.0], "", &text);
            for (i, s) in rows.enumerate() {
                let (t, y) = (origin[s], y + 3.0 + 22.0 * i as f64);
                let class = format!("c{t}");
                csv.rect([152.0, y], [34.0, 20.0], &class, &format!("{s}"));
                let y = y + 10.0;
                let ways = [
                    ([54.0, token(t)], [148.0, y]),
                    ([216.0, y], [306.0, token(t)]),
                ];
                for (from, to) in ways {
                    let (from, to) = if back { (to, from) } else { (from, to) };
                    csv.arrow(from, to, 0.0, &class);
                }
            }
            y += high + 6.0;
        }
        y
    };
    let low = half(12.0, false) + 22.0;
    let end = half(low, true);
    let under = low + 136.0;
    csv.arrow([328.0, under], [33.0, under], 68.0, "c3 dashed");
    csv.text_at([180.0, end + 20.0], "c3", "w̄ = ⟨ȳ, o⟩, through the router");
    csv
}
