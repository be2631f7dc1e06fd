//! Chapter: training. The ladder on a text of a few words, and the chapters'
//! data against what the program would write.

use crate::alone::Alone;
use crate::counts::Counts;
use crate::data::{Data, Rung};
use crate::rungs::{
    MOMENTS, RUNGS, STEPS, TEMPERATURES, Task, WRITTEN, climb, config, options,
};
use moe_by_hand::config::Config;
use moe_by_hand::gradcheck::assert_layer;
use moe_by_hand::layer::Shape;
use moe_by_hand::params::Builder;
use moe_by_hand::rng::Rng;
use moe_by_hand::train::data::Text;
use moe_by_hand::train::options::Options;

const WORDS: &[u8] = b"to be, or not to be, that is the question: ";

fn quiet(_: String) {}
fn task(text: &Text, options: Options) -> Task<'_> {
    Task { text, options, say: &quiet }
}

#[test]
fn counts_are_shares_of_what_was_seen() {
    // Three letters; after a came b twice and c once, after b and c came a.
    let bytes = Counts::new(b"abacaba", b"abacaba", false);
    let pairs = Counts::new(b"abacaba", b"abacaba", true);
    assert_eq!((bytes.parameters(), pairs.parameters()), (3, 9));
    // Six bytes come after another: 3 a, 2 b, 1 c; and each once more.
    let want = -((4.0f64 / 9.0).ln() + (3.0f64 / 9.0).ln()) / 2.0;
    assert!((bytes.loss(b"cab") - want).abs() < 1e-15);
    // After c: a 1 + 1 of 1 + 3; after a: b 2 + 1 of 3 + 3.
    let want = -((2.0f64 / 4.0).ln() + (3.0f64 / 6.0).ln()) / 2.0;
    assert!((pairs.loss(b"cab") - want).abs() < 1e-15);
    // What is never seen is possible, if it is in the alphabet.
    assert!((pairs.loss(b"bb") - 5f64.ln()).abs() < 1e-15);
    let written = pairs.write(b'a', 100, &mut Rng::new(0, 0));
    assert!(written.iter().all(|t| b"abc".contains(&(*t as u8))));
}

#[test]
fn a_block_without_attention_is_proven() {
    let c = Config { hidden: 6, intermediate: 5, ..config("expert") };
    for expert in [false, true] {
        let build = |b: Builder| Alone::new(b, &c, expert);
        assert_layer(build, Shape { batch: 2, time: 3 }, 6);
    }
}

/// What each rung knows shows in its loss on words that repeat, after a few
/// steps; the numbers are those of the first run.
#[test]
fn every_rung_learns() {
    let text = Text::new(WORDS.repeat(40));
    let o = Options { batch: 2, seq: 16, ..options(20) };
    let names = RUNGS.map(|r| r.0);
    let climbs = climb(&task(&text, o), &names, 2).unwrap();
    let losses: Vec<f64> = climbs.iter().map(|c| c.rung.loss).collect();
    for (climb, want) in climbs.iter().zip(LOSSES) {
        let Rung { name, loss, sample, .. } = &climb.rung;
        // 20 steps amplify f32's rounding to less than the fourth digit; two
        // rungs are 2e-4 apart.
        assert!((loss - want).abs() < 1.1e-4, "{name}: {losses:?}");
        assert!(sample.len() >= WRITTEN, "{name} wrote {sample:?}");
    }
    // The sizes of those that are trained do not depend on the text.
    for (made, kept) in climbs.iter().zip(Data::read().rungs).skip(2) {
        let size = |r: &Rung| (r.parameters, r.active);
        let same = size(&kept) == size(&made.rung);
        assert!(same, "{}: make the data anew", kept.name);
    }
    let steps = climbs.iter().flat_map(|c| &c.moments).map(|m| m.step);
    assert_eq!(steps.collect::<Vec<_>>(), [0]);
    let heats = climbs.iter().flat_map(|c| &c.heats).count();
    assert_eq!(heats, TEMPERATURES.len());
}
const LOSSES: [f64; 9] =
    [2.3823, 1.0832, 3.0245, 2.7398, 2.7631, 2.7459, 2.7457, 2.765, 2.8287];

/// The chapters show what this program writes.
#[test]
fn the_data_is_that_of_this_program() {
    let data = Data::read();
    let again = "make it anew: see CONTRIBUTING";
    assert_eq!(data.sha256, data.hash(), "changed by hand; {again}");
    assert_eq!(data.options, options(STEPS), "{again}");
    assert_eq!(data.rungs.len(), RUNGS.len(), "{again}");
    for (rung, (name, added)) in data.rungs.iter().zip(RUNGS) {
        assert_eq!((&*rung.name, &*rung.added), (name, added), "{again}");
    }
    let steps = data.steps.iter().map(|m| m.step);
    assert!(steps.eq(MOMENTS), "{again}");
    let heats = data.temperatures.iter().map(|h| h.temperature);
    assert!(heats.eq(TEMPERATURES), "{again}");
}

/// What the chapters say of the numbers in words.
#[test]
fn the_data_says_what_the_chapters_say() {
    let data = Data::read();
    let loss =
        |name: &str| data.rungs.iter().find(|r| r.name == name).unwrap().loss;
    let near = |a: &str, b: &str, gap: f64| {
        let (a, b) = (loss(a), loss(b));
        assert!((a - b).abs() < gap, "{a} and {b} are farther than {gap}");
    };
    let below = |a: &str, b: &str, gap: f64| {
        let (a, b) = (loss(a), loss(b));
        assert!(a < b - gap, "{a} is not {gap} below {b}");
    };
    below("pairs", "bytes", 0.8);
    near("bigram", "pairs", 0.02); // training finds the table
    near("expert", "bigram", 0.02); // nothing more is known of one byte
    below("attention", "expert", 0.05);
    below("rotations", "heads", 0.2); // the order of what came before
    near("heads", "attention", 0.03);
    below("mixture", "rotations", 0.0);
    below("blocks", "mixture", 0.0);
    let trained = data.rungs[2..].windows(2);
    let gains = trained.map(|r| (r[0].loss - r[1].loss, &*r[1].name));
    let most = gains.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
    assert_eq!(most.1, "rotations", "the largest gain of training");
    let cold = &data.temperatures[0].sample;
    assert!(cold.bytes().all(|b| b == b'\n'), "circles: {cold:?}");
    let last = data.steps.last().unwrap();
    assert_eq!((last.step, last.loss), (STEPS, loss("blocks")));
}
