//! Chapter: training. The last bits of θ after a short run, for each
//! instruction set: a change of them is a new version of the arithmetic.

#[path = "bits/run.rs"]
mod run;

use crate::again::again;
use moe_by_hand::config::Config;
use moe_by_hand::kernel::simd::Isa;
use moe_by_hand::model::Model;
use moe_by_hand::nn::loss::CrossEntropy;
use moe_by_hand::rng::Rng;
use moe_by_hand::tensors::sha256;
use moe_by_hand::train::checkpoint::ARITHMETIC;
use moe_by_hand::train::data::Text;
use moe_by_hand::train::muon::Muon;
use moe_by_hand::train::optimizer::{AdamW, Decay, StepFrom};
use moe_by_hand::train::options::Options;
use moe_by_hand::train::trainer::Trainer;
use run::{THETA, theta};

/// What each version of the arithmetic led to. A row is never changed: other
/// bits are a new row, and `ARITHMETIC` rises to its number.
const BITS: &[(u32, &[(&str, &str)])] = &[
    (
        1,
        &[
            (
                "portable",
                "96df938ac3087ca8353ce7c2e930be2014b233dcf9aea6dff3361eb31f3f4642",
            ),
            (
                "avx2",
                "e76731360dc5a10718bf2e9073f3348d08992af0c3ce7d25934c1fecdd35ce9f",
            ),
            (
                "avx512",
                "33ff6d8ad6ea0e77be9df5f1b079eb8edc762f8438bcaf42106f97ce30c5e97f",
            ),
        ],
    ),
    (
        2,
        &[
            (
                "portable",
                "4b955add804631a2f8e67926fba83cddf3b3ec7a7ac95df42a019adf043feeea",
            ),
            (
                "avx2",
                "e5372ffa65d6cec020eff573b8932872b369d37fbce3d3532ff42c9eca789d1f",
            ),
            (
                "avx512",
                "68937f5d1d15e290c42fb0e8fee1889393583d0f528e7065db8f1a2b1c1731b5",
            ),
        ],
    ),
    (
        3,
        &[
            (
                "portable",
                "a8131993427d14a009531bd3c91d28148fe92e254b259d34ed43e9c010edfa02",
            ),
            (
                "avx2",
                "e37a880743c584639f812b5b7ae15b0890b2e1bf3dcaba80c309fb10b6509008",
            ),
            (
                "avx512",
                "916b3557bc469f307bb30046a1200fa5e848e7617993db56852702eff2725ad3",
            ),
        ],
    ),
];

/// The same with Muon, since it is there.
const MUON_BITS: &[(u32, &[(&str, &str)])] = &[(
    3,
    &[
        (
            "portable",
            "015adb2862838c56c28677a3c3eaacb19ec280529f421e9031ff12bde3c620a1",
        ),
        (
            "avx2",
            "b7c251b54a917b30f0605df891c6637dcc7a37d4fa831dcd05e8b267f1184b36",
        ),
        (
            "avx512",
            "ae8e5986f3c68b717c41d24b06b40f3af0f72a3eaf6bfadf4d709ebdbeb49fba",
        ),
    ],
)];

#[test]
fn other_bits_are_another_version() {
    bits_of("adamw", BITS, 1);
}
#[test]
fn other_bits_of_muon_are_another_version() {
    bits_of("muon", MUON_BITS, 3);
}
fn bits_of(optimizer: &str, rows: &[(u32, &[(&str, &str)])], first: u32) {
    let (version, bits) = rows.last().unwrap();
    assert_eq!(*version, ARITHMETIC, "the last row is that of ARITHMETIC");
    for (i, (version, _)) in (first..).zip(rows) {
        assert_eq!(*version, i, "each version has its row");
    }
    let all: Vec<&str> =
        rows.iter().flat_map(|(_, b)| b.iter().map(|(_, b)| *b)).collect();
    for (i, bits) in all.iter().enumerate() {
        assert!(!all[..i].contains(bits), "{bits} is there twice");
    }
    let mut compared = 0;
    for isa in Isa::here() {
        let isa = isa.to_string();
        // Each set in a process of its own, as a run has it.
        let says = format!("arithmetic::says_bits_of_{optimizer}");
        let is = again(&says, &isa, "bits: ");
        // No machine was at hand to say it of NEON.
        let Some((_, was)) = bits.iter().find(|(set, _)| *set == isa) else {
            continue;
        };
        assert_eq!(
            is, *was,
            "with {isa} training by {optimizer} has other bits than version {version}: if \
             that is wanted, raise ARITHMETIC in src/train/checkpoint.rs and \
             add its row here"
        );
        compared += 1;
    }
    assert!(compared > 0, "the portable form runs everywhere");
}

#[test]
fn says_bits_of_adamw() {
    let adam = |m: &Model, decay| AdamW::new(&m.layout, decay, Decay::Weights);
    println!("bits: {}", bits(adam));
}
#[test]
fn says_bits_of_muon() {
    // Hidden matrices at 0.02.
    let muon = |m: &Model, decay| Muon::new(&m.layout, decay, 2.0);
    println!("bits: {}", bits(muon));
}
/// Sizes that are no multiples of anything, two shards, all losses, several
/// batches in a step, and validation.
fn bits<O: StepFrom<f32>>(optimizer: impl Fn(&Model, f64) -> O) -> String {
    let config = Config {
        vocab: 256,
        hidden: 42,
        layers: 2,
        heads: 6,
        kv_heads: 3,
        head: 14,
        experts: 5,
        top_k: 2,
        intermediate: 37,
        context: 64,
        ..Config::preset("tiny").unwrap()
    };
    let (steps, batch, seq, accumulate) = (3, 40, 21, 2);
    let (lr, z_loss) = (1e-2, 1e-3);
    let options = Options {
        steps,
        batch,
        seq,
        accumulate,
        lr,
        z_loss,
        ..Options::default()
    };
    let mut rng = Rng::named(3, "letters");
    let text = (0..4000).map(|_| b'a' + rng.below(26) as u8).collect();
    let model = Model::new(config).unwrap();
    let optimizer = optimizer(&model, options.decay);
    let text = Text::new(text);
    let mut t =
        Trainer::with(model, text, options, optimizer, CrossEntropy).unwrap();
    let mut bytes = vec![];
    while !t.done() {
        let m = t.step().unwrap();
        for x in [m.ce, m.aux, m.z, m.grad_norm] {
            bytes.extend(x.to_le_bytes());
        }
    }
    bytes.extend(t.validate().to_le_bytes());
    for p in t.params.data.iter() {
        bytes.extend(p.to_le_bytes());
    }
    sha256(&bytes)
}

/// By the portable set, for which this test starts itself again; `.ci/run`
/// compares the same hash on ARM and in WebAssembly.
#[test]
fn one_hash_everywhere() {
    let kept = THETA.map(|(precision, hash)| format!("{precision} {hash}"));
    let is = if Isa::chosen() == Ok(Isa::Portable) {
        let is = THETA.map(|(p, _)| format!("{p} {}", theta(p).unwrap()));
        println!("\ntheta: {}", is.join(", "));
        is.join(", ")
    } else {
        again("arithmetic::one_hash_everywhere", "portable", "theta: ")
    };
    assert_eq!(
        is,
        kept.join(", "),
        "another θ than on other platforms, or than before: if other bits are \
         wanted, raise ARITHMETIC, and keep these in tests/bits/run.rs"
    );
}
