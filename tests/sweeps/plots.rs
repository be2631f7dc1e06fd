//! Chapter: training. The sweeps, and what they look like.

use crate::counts::Counts;
use crate::csv::{Csv, short};
use crate::runs::{
    Lab, Outcome, Rule, Run, config, mean, options, seeded, sequences,
};
use moe_by_hand::config::Config;
use moe_by_hand::error::Result;
use moe_by_hand::train::options::Options;
use moe_by_hand::train::schedule::Kind;
use moe_by_hand::train::validation::windows;

/// The losses of the seeds, over what was changed.
pub(crate) struct Series {
    pub(crate) name: &'static str,
    pub(crate) points: Vec<(f64, Vec<f64>)>,
}
impl Series {
    /// The losses of one run after the other.
    fn of(
        lab: &mut Lab, name: &'static str,
        runs: impl IntoIterator<Item = (f64, Run)>,
    ) -> Result<Self> {
        let runs: Vec<_> = runs.into_iter().collect();
        let all: Vec<_> = runs.iter().map(|r| r.1.clone()).collect();
        lab.train(&seeded(&all))?;
        let mut points = vec![];
        for (x, run) in runs {
            let seeds = lab.seeds(&run)?;
            points.push((x, seeds.iter().map(|o| o.loss).collect()));
        }
        Ok(Self { name, points })
    }
}
/// The lowest, the mean and the highest.
fn range(x: &[f64]) -> [f64; 3] {
    let low = x.iter().copied().fold(f64::INFINITY, f64::min);
    let high = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    [low, mean(x), high]
}
/// The lowest mean.
fn best(all: &[Series]) -> f64 {
    let points = all.iter().flat_map(|s| &s.points);
    points.map(|p| mean(&p.1)).fold(f64::INFINITY, f64::min)
}
/// What the seeds gave, in words.
fn told(losses: &[f64]) -> String {
    let [low, mean, high] = range(losses);
    match high.is_finite() {
        true => format!("{mean:.3} ({low:.3} to {high:.3})"),
        false => "diverged".into(),
    }
}
fn all_told(all: &[Series]) -> String {
    let each = |s: &Series| {
        let points: Vec<_> =
            s.points.iter().map(|(x, y)| format!("{x}: {}", told(y))).collect();
        let name = match s.name {
            "" => String::new(),
            name => format!("{name}, "),
        };
        format!("{name}{}.", points.join("; "))
    };
    all.iter().map(each).collect::<Vec<_>>().join(" ")
}
/// Lines of the means above `from`, a bar from the best seed to the worst, and
/// the lowest mean of all in numbers, on this side of it, if any. What is more
/// than `most` above is left out.
pub(crate) fn draw(
    csv: &mut Csv, x: &str, all: &[Series], from: f64, most: f64, side: &str,
) {
    let names: Vec<_> = all.iter().map(|s| s.name).collect();
    csv.row(format!("{x},{}", names.join(",")));
    let lowest = best(all);
    let (mut rows, mut more) = (vec![], vec![]);
    for (line, series) in all.iter().enumerate() {
        let [before, after] =
            [line, all.len() - 1 - line].map(|n| ",".repeat(n));
        for (x, losses) in &series.points {
            let [low, mean, high] = range(losses).map(|y| y - from);
            if !high.is_finite() || mean > most {
                continue;
            }
            rows.push((*x, format!("{x},{before}{mean:.4}{after}")));
            more.push(format!(
                "guide,{x},{low:.4},{x},{:.4},,",
                high.min(most)
            ));
            let text = match range(losses)[1] == lowest {
                true if !side.is_empty() => format!("{side},{lowest:.3}"),
                _ => ",".into(),
            };
            more.push(format!("mark,{line},{x},{mean:.4},{text}"));
        }
    }
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    rows.iter().for_each(|row| csv.row(&row.1));
    more.iter().for_each(|row| csv.row(row));
}
const ABOVE: &str = "nats above the best mean";
const SEEDED: &str = "Points are means of three seeds, bars reach from the \
                      best seed to the worst";

/// Losses over the rates of one rule.
fn rates(
    lab: &mut Lab, name: &'static str, words: &str, rule: Rule, at: &[f64],
) -> Result<Csv> {
    let run = |&lr: &f64| {
        let options = Options { lr, ..options() };
        (lr, Run { rule, ..Run::new(config(), options) })
    };
    let all = [Series::of(lab, "", at.iter().map(run))?];
    let alt = format!(
        "Validation loss after 400 steps of {words} against the highest \
         learning rate, mean and range of three seeds. {}",
        all_told(&all)
    );
    let title = format!(
        "Validation loss after 400 steps of {words} against the highest \
         learning rate η. {SEEDED}"
    );
    let what = ["rate η", ABOVE];
    let mut csv = Csv::chart(name, &title, &alt, what).with("log", "x");
    draw(&mut csv, "rate", &all, best(&all), 1.0, "s");
    Ok(csv)
}
pub(crate) fn rate(lab: &mut Lab) -> Result<Csv> {
    let at = [3e-4, 1e-3, 3e-3, 1e-2, 3e-2];
    rates(lab, "sweep-rate", "AdamW", Rule::AdamW, &at)
}
pub(crate) fn momentum(lab: &mut Lab) -> Result<Csv> {
    let at = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0];
    let words = "descent with momentum";
    rates(lab, "sweep-momentum", words, Rule::Momentum, &at)
}

pub(crate) fn batch(lab: &mut Lab) -> Result<Csv> {
    let sizes = [3, 12, 48];
    let run = |grows: bool| {
        move |&b: &usize| {
            let o = sequences(b);
            let scale = if grows { (b as f64 / 12.0).sqrt() } else { 1.0 };
            let lr = options().lr * scale;
            ((b * o.seq) as f64, Run::new(config(), Options { lr, ..o }))
        }
    };
    let all = [
        Series::of(lab, "η fixed", sizes.iter().map(run(false)))?,
        Series::of(lab, "η ∝ √B", sizes.iter().map(run(true)))?,
    ];
    let alt = format!(
        "Validation loss after 307,200 bytes against the bytes in a batch, \
         mean and range of three seeds. {}",
        all_told(&all)
    );
    let title = format!(
        "Validation loss after the same 307,200 bytes, in batches of 192 to \
         3072. {SEEDED}"
    );
    let mut csv =
        Csv::chart("sweep-batch", &title, &alt, ["bytes in a batch", ABOVE])
            .with("log", "x");
    draw(&mut csv, "bytes", &all, best(&all), 1.0, "se");
    Ok(csv)
}

/// As many parameters in all, and as many at a time, for each k.
pub(crate) fn choosing(k: usize) -> Config {
    Config { top_k: k, experts: 4 * k, intermediate: 128 / k, ..config() }
}
fn dense() -> Run {
    let one = Config { experts: 1, top_k: 1, intermediate: 128, ..config() };
    Run::new(one, options())
}
pub(crate) fn experts(lab: &mut Lab) -> Result<Csv> {
    let ks = [1, 2, 4, 8];
    let run = |&k: &usize| (k as f64, Run::new(choosing(k), options()));
    let all = [
        Series::of(lab, "mixture", ks.iter().map(run))?,
        Series::of(lab, "", [(0.0, dense())])?,
    ];
    let level = mean(&all[1].points[0].1);
    let alt = format!(
        "Validation loss of mixtures that choose one of four, two of eight, \
         four of sixteen and eight of 32 experts, by how many they choose: {} The dense model \
         of as many active parameters has {}.",
        all_told(&all[..1]),
        told(&all[1].points[0].1)
    );
    let title = format!(
        "Validation loss of four mixtures with the same active and the same \
         total parameters, and of a dense model (at 0) with the same active \
         ones. {SEEDED}"
    );
    let what = ["experts chosen, k", ABOVE];
    let mut csv = Csv::chart("sweep-experts", &title, &alt, what);
    let from = best(&all);
    draw(&mut csv, "k", &all, from, 1.0, "s");
    let level = level - from;
    csv.row(format!("guide,0,{level:.4},8,{level:.4},nw,dense"));
    Ok(csv)
}

/// Two schedules from the same seeds.
pub(crate) fn schedule(lab: &mut Lab) -> Result<Csv> {
    let kinds = [Kind::Cosine, Kind::Wsd];
    let run = |schedule| Run::new(config(), Options { schedule, ..options() });
    lab.train(&seeded(&kinds.map(run)))?;
    let mut losses = vec![];
    for kind in kinds {
        let seeds = lab.seeds(&run(kind))?;
        losses.push(seeds.iter().map(|o| o.loss).collect::<Vec<_>>());
    }
    let lowest = range(&losses.concat())[0];
    let gaps: Vec<_> =
        losses[0].iter().zip(&losses[1]).map(|(a, b)| a - b).collect();
    let alt = format!(
        "Validation loss of three seeds, with the cosine {}, with WSD {}. \
         Seed by seed the cosine's is higher by {}.",
        told(&losses[0]),
        told(&losses[1]),
        told(&gaps)
    );
    let mut csv = Csv::chart(
        "sweep-schedule",
        "Validation loss with two schedules, from the same three seeds: the \
         seeds differ by more than the schedules, and still the comparison is \
         clear",
        &alt,
        ["the three seeds, one by one", "nats above the lowest"],
    );
    csv.row("seed,cosine,WSD");
    for seed in 0..losses[0].len() {
        let [a, b] = [0, 1].map(|i| losses[i][seed] - lowest);
        csv.row(format!("{},{a:.4},{b:.4}", seed + 1));
    }
    for (line, losses) in losses.iter().enumerate() {
        for (seed, loss) in losses.iter().enumerate() {
            let (x, y) = (seed + 1, loss - lowest);
            let side = ["nw", "se"][line];
            csv.row(format!("mark,{line},{x},{y:.4},{side},{loss:.3}"));
        }
    }
    csv.row("guide,0,0,4,0,,");
    // Room below for the last line's numbers.
    csv.row("guide,0,-0.03,0,-0.03,,");
    Ok(csv)
}

/// A mixture of many small experts, which collapses if nothing keeps it in
/// balance: 32, of which a byte chooses two, in one layer, at a high rate.
fn fragile(aux: f64) -> Run {
    let config = Config { layers: 1, experts: 32, intermediate: 8, ..config() };
    let steps = 600;
    Run::new(config, Options { aux, steps, lr: 1e-2, ..options() })
}
const ALPHAS: [f64; 4] = [1e-3, 1e-2, 1e-1, 1.0];
/// Steps whose shares are taken together: one batch says little.
const TOGETHER: usize = 15;

/// How many experts have less than a tenth of an even share, in each group of
/// steps: (the group's middle, how many).
fn idle(o: &Outcome) -> Vec<(f64, f64)> {
    let least = 0.1 / o.load.len() as f64;
    let groups = o.load[0].len() / TOGETHER;
    let count = |i: usize| {
        let group = i * TOGETHER..(i + 1) * TOGETHER;
        let few = |s: &&Vec<f64>| mean(&s[group.clone()]) < least;
        let middle = (i as f64 + 0.5) * TOGETHER as f64;
        (middle, o.load.iter().filter(few).count() as f64)
    };
    (0..groups).map(count).collect()
}

pub(crate) fn balance_load(lab: &mut Lab) -> Result<Csv> {
    let alphas = [0.0, 0.01];
    lab.train(&seeded(&alphas.map(fragile)))?;
    let mut all = vec![];
    for aux in alphas {
        all.push(lab.seeds(&fragile(aux))?);
    }
    let counts: Vec<Vec<_>> =
        all.iter().map(|seeds| seeds.iter().map(idle).collect()).collect();
    let experts = all[0][0].load.len();
    let groups = counts[0][0].len();
    let ends: Vec<_> = (0..2)
        .map(|i| {
            let idle: Vec<_> =
                counts[i].iter().map(|c| c[groups - 1].1 as usize).collect();
            let losses: Vec<_> = all[i].iter().map(|o| o.loss).collect();
            format!(
                "with α = {} {idle:?} experts are without work in the three \
                 runs and the validation loss is {}",
                alphas[i],
                told(&losses)
            )
        })
        .collect();
    let alt = format!(
        "Above: how many of {experts} experts get less than a tenth of an even \
         share, over the steps. Below: the training loss without a balance \
         loss minus that with it. At the end, {}.",
        ends.join("; ")
    );
    let mut csv = Csv::chart(
        "balance-load",
        "A mixture of 32 experts with and without the balance loss, means and \
         ranges of three seeds: how many experts have no work (above), and \
         how much higher the training loss is without it, on the same batches \
         (below)",
        &alt,
        ["step", "experts above, nats below"],
    );
    csv.row("panel,experts with less than a tenth of an even share");
    csv.row("step,α = 0,α = 0.01");
    for i in 0..groups {
        let [a, b] = [0, 1].map(|k| {
            let each: Vec<_> = counts[k].iter().map(|c| c[i].1).collect();
            range(&each)
        });
        let step = counts[0][0][i].0;
        csv.row(format!("{step},{:.2},{:.2}", a[1], b[1]));
        if i % 4 == 3 {
            for [low, _, high] in [a, b] {
                csv.row(format!("guide,{step},{low},{step},{high},,"));
            }
        }
    }
    csv.row("panel,loss with α = 0 − loss with α = 0.01");
    csv.row("step,");
    gaps(&mut csv, &all[1], &all[0], TOGETHER);
    Ok(csv)
}
/// The training loss of the second minus that of the first, on the same
/// batches: means of so many steps, and now and then the seeds' range.
fn gaps(csv: &mut Csv, a: &[Outcome], b: &[Outcome], together: usize) {
    let steps = a[0].curve.len();
    for i in 0..steps / together {
        let group = i * together..(i + 1) * together;
        let gap = |(a, b): (&Outcome, &Outcome)| {
            mean(&b.curve[group.clone()]) - mean(&a.curve[group.clone()])
        };
        let [low, mean, high] =
            range(&a.iter().zip(b).map(gap).collect::<Vec<_>>());
        let step = (i as f64 + 0.5) * together as f64;
        csv.row(format!("{step},{mean:.4}"));
        if i % 4 == 3 {
            csv.row(format!("guide,{step},{low:.4},{step},{high:.4},,"));
        }
    }
    csv.row(format!("guide,0,0,{steps},0,,"));
}

pub(crate) fn balance(lab: &mut Lab) -> Result<Csv> {
    let run = |&aux: &f64| (aux, fragile(aux));
    let zero = Series::of(lab, "", [(0.0, fragile(0.0))])?;
    let all = [Series::of(lab, "", ALPHAS.iter().map(run))?];
    let busiest = |lab: &mut Lab, aux: f64| -> Result<Vec<f64>> {
        let of = |o: &Outcome| {
            let tail = |s: &Vec<f64>| mean(&s[s.len().saturating_sub(50)..]);
            o.load.iter().map(tail).fold(0.0, f64::max)
        };
        Ok(lab.seeds(&fragile(aux))?.iter().map(of).collect())
    };
    let none = busiest(lab, 0.0)?;
    let mut shares = vec![];
    for aux in ALPHAS {
        shares.push((aux, busiest(lab, aux)?));
    }
    let shares = [Series { name: "", points: shares }];
    let alt = format!(
        "Validation loss against the coefficient α: {} Without a balance loss \
         it is {}. The largest share of any expert: {} Without a balance loss \
         it is {}.",
        all_told(&all),
        told(&zero.points[0].1),
        all_told(&shares),
        told(&none)
    );
    let title = format!(
        "Validation loss and the largest share of any expert against the \
         coefficient α of the balance loss; dotted levels are α = 0. {SEEDED}"
    );
    let what = ["coefficient α", "nats above, share below"];
    let mut csv =
        Csv::chart("sweep-balance", &title, &alt, what).with("log", "x");
    let from = best(&all).min(best(&[zero]));
    csv.row("panel,validation loss above the best mean");
    draw(&mut csv, "α", &all, from, 1.0, "s");
    let losses: Vec<f64> =
        lab.seeds(&fragile(0.0))?.iter().map(|o| o.loss - from).collect();
    level(&mut csv, &losses);
    csv.row("panel,largest share of any expert");
    draw(&mut csv, "α", &shares, 0.0, 1.0, "");
    level(&mut csv, &none);
    Ok(csv)
}
/// The mean across the panel of [`balance`], and at its left the seeds' range.
fn level(csv: &mut Csv, y: &[f64]) {
    let [low, mean, high] = range(y);
    let (left, right) = (ALPHAS[0] / 2.0, ALPHAS[ALPHAS.len() - 1]);
    csv.row(format!("guide,{right},{mean:.4},{left},{mean:.4},ne,α = 0"));
    csv.row(format!("guide,{left},{low:.4},{left},{high:.4},,"));
}

pub(crate) fn paired(lab: &mut Lab) -> Result<Csv> {
    let [a, b] = [dense(), Run::new(choosing(2), options())];
    lab.train(&[a.clone(), b.clone()])?;
    let (a, b) = (lab.one(&a)?, lab.one(&b)?);
    let gaps: Vec<f64> =
        b.windows.iter().zip(&a.windows).map(|(b, a)| b - a).collect();
    let around = |x: &[f64], center: f64| {
        let mut x: Vec<f64> = x.iter().map(|x| x - center).collect();
        x.sort_by(f64::total_cmp);
        x
    };
    let deviation = |x: &[f64]| {
        let (m, n) = (mean(x), x.len() as f64 - 1.0);
        (x.iter().map(|x| (x - m) * (x - m)).sum::<f64>() / n).sqrt()
    };
    let n = a.windows.len();
    let root = (n as f64).sqrt();
    let [sa, sb, sd] =
        [&a.windows, &b.windows, &gaps].map(|x| deviation(x) / root);
    let apart = (sa * sa + sb * sb).sqrt();
    let alt = format!(
        "{n} windows. The dense model's mean loss is {:.4} with a standard \
         error of {sa:.4}, the mixture's {:.4} with {sb:.4}; the difference \
         is {:.4}, with a standard error of {apart:.4} if the two are taken \
         as independent, and {sd:.4} from the differences of the windows.",
        mean(&a.windows),
        mean(&b.windows),
        mean(&gaps)
    );
    let mut csv = Csv::chart(
        "paired-windows",
        "The validation windows: loss of each with the dense model, less the \
         mean, and how much it changes with the mixture; each curve is sorted \
         by itself",
        &alt,
        ["windows, % of all", "nats"],
    );
    csv.row("windows,loss,change");
    let losses = around(&a.windows, mean(&a.windows));
    let gaps = around(&gaps, 0.0);
    for i in 0..=100 {
        let at = i * (n - 1) / 100;
        csv.row(format!("{i},{:.4},{:.4}", losses[at], gaps[at]));
    }
    csv.row("guide,0,0,100,0,,");
    Ok(csv)
}

/// The default model of the command, beside tables of counts.
pub(crate) fn loss(lab: &mut Lab) -> Result<Csv> {
    let text = lab.text;
    let (train, held) = (text.train(), text.validation());
    let all = [train, held].concat();
    let time = Options::default().seq;
    let held = &held[..windows(held.len(), time) * time + 1];
    let table = |pairs| Counts::new(train, &all, pairs).loss(held);
    let [bytes, pairs] = [table(false), table(true)];
    let [curve, validation] = lab.long()?;
    let [first, end] = [&validation[0], &validation[validation.len() - 1]];
    let alt = format!(
        "Training loss falls from 5.5 to {:.2} nats per byte in {} \
         steps, validation loss from {:.2} at step {} to {:.2}. A table of \
         counted bytes has {bytes:.3}, one of pairs {pairs:.3}.",
        mean(&curve.iter().rev().take(20).map(|p| p.1).collect::<Vec<_>>()),
        curve.len(),
        first.1,
        first.0,
        end.1
    );
    let title = "Loss of the default model on Shakespeare's plays; dotted: \
                 tables of counts";
    let what = ["step", "nats per byte"];
    let mut csv = Csv::chart("loss", title, &alt, what);
    csv.row("step,training,validation");
    for group in curve.chunks(20) {
        let losses: Vec<f64> = group.iter().map(|p| p.1).collect();
        let step = group[group.len() - 1].0;
        let at = validation.iter().find(|v| v.0 == step);
        let held = at.map_or(String::new(), |v| short(v.1));
        csv.row(format!("{step},{:.4},{held}", mean(&losses)));
    }
    let steps = curve.len();
    csv.row(format!("guide,0,{bytes:.3},{steps},{bytes:.3},nw,bytes counted"));
    csv.row(format!("guide,0,{pairs:.3},{steps},{pairs:.3},nw,pairs counted"));
    Ok(csv)
}
