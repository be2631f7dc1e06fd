//! Chapter: training. The data of the book's figures, from the library's own
//! code.
#![allow(clippy::unwrap_used, reason = "an example may panic")]

mod csv;
mod paper;
mod attention;
mod drawings;
mod half;
mod plots;
mod performance;
mod tiles;
mod counted;
mod network;
#[path = "../wrong/mod.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod wrong;
mod caught;
#[cfg(test)]
#[path = "../printed/mod.rs"]
mod printed;

use clap::Parser;
use csv::Csv;
use moe_by_hand::error::{Error, Result};
use moe_by_hand::train::data::Text;
use std::path::PathBuf;
use std::process::ExitCode;

/// Write the data of the book's figures into book/figures.
///
/// `cargo book figures` draws them. Where a model is trained for a figure, it
/// takes minutes, and `caught` takes one; the others take no time.
#[derive(Parser)]
struct Args {
    /// Which [default: all that take no time]
    names: Vec<String>,
    /// What to train on, UTF-8
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
}

/// How a figure's data comes about.
enum Make {
    /// The same on every machine.
    Exact(fn() -> Csv),
    /// Its last digits are rounding errors, which differ between machines.
    Rounded(fn() -> Csv),
    /// What a test computes anyway, and compares: tests/mutants.rs.
    Judged(fn() -> Csv),
    /// By training on a text.
    Trained(fn(&Text) -> Result<Csv>),
}
use Make::{Exact, Judged, Rounded, Trained};
/// In the order of the book.
const FIGURES: &[(&str, Make)] = &[
    ("computational-graph", Exact(drawings::computational_graph)),
    ("difference-error", Rounded(plots::difference_error)),
    ("strides", Exact(drawings::strides)),
    ("loop-orders", Exact(drawings::loop_orders)),
    ("exp-polynomial", Exact(plots::exp_polynomial)),
    ("rsqrt-newton", Exact(plots::rsqrt_newton)),
    ("softmax-simplex", Exact(drawings::softmax_simplex)),
    ("silu", Exact(plots::silu)),
    ("stream-rms", Exact(plots::stream_rms)),
    ("embedding-scatter", Exact(drawings::embedding_scatter)),
    ("rmsnorm-tangent", Exact(drawings::rmsnorm_tangent)),
    ("swiglu-lanes", Exact(drawings::swiglu_lanes)),
    ("gradient-highway", Exact(plots::gradient_highway)),
    ("attention-lookup", Exact(attention::lookup)),
    ("attention-heat", Exact(attention::heat)),
    ("attention-two-by-two", Exact(drawings::attention_two_by_two)),
    ("heads-wiring", Exact(drawings::heads_wiring)),
    ("heads-memory", Exact(attention::heads_memory)),
    ("rope-hands", Exact(attention::rope_hands)),
    ("rope-relative", Exact(attention::rope_relative)),
    ("rope-clock", Exact(plots::rope_clock)),
    ("router-topk", Exact(drawings::router_topk)),
    ("moe-dispatch", Exact(drawings::moe_dispatch)),
    ("parameter-shares", Exact(network::parameter_shares)),
    ("book-map", Exact(network::book_map)),
    ("loss-forces", Exact(network::loss_forces)),
    ("start-loss", Exact(network::start_loss)),
    ("caught", Judged(|| caught::caught(&wrong::judged::rows()))),
    ("schedules", Exact(plots::schedules)),
    ("adam-pauses", Exact(plots::adam_pauses)),
    ("newton-schulz", Exact(plots::newton_schulz)),
    ("half-bits", Exact(half::half_bits)),
    ("half-error", Exact(half::half_error)),
    ("half-gradients", Trained(half::half_gradients)),
    ("half-scale", Trained(half::half_scale)),
    ("safetensors-bytes", Exact(performance::safetensors_bytes)),
    ("logit-error", Exact(performance::logit_error)),
    ("register-tile", Exact(tiles::register_tile)),
    ("cache-sets", Exact(tiles::cache_sets)),
    ("memory-by-depth", Exact(performance::memory_by_depth)),
    ("shard-timeline", Exact(performance::shard_timeline)),
    ("balance-excess", Trained(performance::balance_excess)),
    ("three-cuts", Exact(network::three_cuts)),
    ("temperature-entropy", Exact(network::temperature_entropy)),
    ("cache-work", Exact(network::cache_work)),
    ("cache-bytes", Exact(network::cache_bytes)),
    ("experts-read", Exact(network::experts_read)),
];

fn command(name: &str) -> String {
    format!("cargo example figures -- {name}")
}
fn make(name: &str, make: &Make, text: Option<&PathBuf>) -> Result<PathBuf> {
    let (csv, command) = match make {
        Exact(make) | Rounded(make) | Judged(make) => (make(), command(name)),
        Trained(make) => {
            let path = text.ok_or_else(|| {
                let rule = "the model of this figure is trained on a text";
                Error::input("--text", "missing", rule, "name a file")
            })?;
            let text = Text::read(path)?;
            let file = path.file_name().unwrap_or_default().display();
            let command = format!("{} --text {file}", command(name));
            (make(&text)?.of(&text), command)
        }
    };
    let path = csv.path();
    let cure = "make the folder, or correct its permissions";
    csv.write(&command).map_err(|e| Error::io(&path, e, cure))?;
    Ok(path)
}
fn run(args: &Args) -> Result<()> {
    for name in &args.names {
        if !FIGURES.iter().any(|f| f.0 == name) {
            let all: Vec<_> = FIGURES.iter().map(|f| f.0).collect();
            let rule = "there is no figure of this name";
            let cure = format!("choose from {}", all.join(", "));
            return Err(Error::input("NAME", name, rule, cure));
        }
    }
    for (name, how) in FIGURES {
        let wanted = match args.names.is_empty() {
            true => matches!(how, Exact(_) | Rounded(_)),
            false => args.names.iter().any(|n| n == name),
        };
        if wanted {
            println!("{}", make(name, how, args.text.as_ref())?.display());
        }
    }
    Ok(())
}
fn main() -> ExitCode {
    registry::end_with_the_reader();
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("figures: {e}");
            ExitCode::from(e.exit_code())
        }
    }
}

#[test]
fn texts_ask_for_figures_that_there_are() {
    for args in printed::understood::<Args>("figures") {
        for name in args.names {
            assert!(FIGURES.iter().any(|f| f.0 == name), "no figure {name}");
        }
    }
}

/// What the book shows is what the library does now.
#[test]
fn the_figures_are_those_of_the_library() {
    for (name, make) in FIGURES {
        let Exact(make) = make else { continue };
        let (csv, again) = (make(), command(name));
        let kept = std::fs::read_to_string(csv.path()).unwrap_or_default();
        assert!(kept == csv.text(&again), "{name} has changed: {again}");
    }
}
