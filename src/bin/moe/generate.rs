//! Chapter: sampling. `moe generate`.

use crate::output::{note, show};
use crate::shipped;
use moe_by_hand::error::{Error, Result};
use moe_by_hand::generate::{Decoder, Sampler, Stop, generate};
use moe_by_hand::rng::Rng;
use moe_by_hand::tokens::{Characters, encode, harmless};
use moe_by_hand::{hf, memory};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

const EXAMPLES: &str = "\
Examples:
  moe generate --prompt 'ROMEO:'              the model that moe comes with
  moe generate --model runs/bytes-001 --prompt 'To be'
  moe generate --model runs/bytes-001 --prompt 'To be' --greedy --max-tokens 50
  moe generate --model runs/bytes-001 --prompt 'To be' --top-p 0.9 --seed 7
  moe generate --model runs/bytes-001 --prompt 'To be' --window 64
  moe generate --model mixtral --tokens 1,15043,29892";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Directory with config.json and model.safetensors [default: the small
    /// model that is part of the command]
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// What to continue; each byte of it is a token
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    #[arg(required_unless_present = "tokens")]
    prompt: Option<String>,
    /// What to continue, as numbers of tokens, such as 1,15043: for a model
    /// with a tokenizer of its own. What follows is shown as numbers, too
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    #[arg(conflicts_with = "prompt")]
    tokens: Option<Vec<usize>>,
    /// Most tokens to make
    #[arg(long, value_name = "N", default_value_t = 200)]
    max_tokens: usize,
    /// Take the most probable token each time
    #[arg(long, conflicts_with_all = ["temperature", "top_k", "top_p"])]
    greedy: bool,
    /// Divide the logits by this: below 1 is bolder, 0 is --greedy
    #[arg(long, value_name = "X", default_value_t = 0.8)]
    #[arg(allow_negative_numbers = true)]
    temperature: f64,
    /// Draw from the K most probable tokens; 0 is off
    #[arg(long, value_name = "K", default_value_t = 0)]
    top_k: usize,
    /// Draw from the fewest tokens of probability P in sum; 1 is off
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    #[arg(allow_negative_numbers = true)]
    top_p: f64,
    /// Let each token see the last N only; `moe train --seq N` has never seen
    /// a greater distance. Without it, all of the context
    #[arg(long, value_name = "N")]
    window: Option<usize>,
    /// The same seed draws the same tokens
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
}

pub(crate) fn run(args: Args) -> Result<ExitCode> {
    let temperature = if args.greedy { 0.0 } else { args.temperature };
    let mut sampler = Sampler::new(temperature, args.top_k, args.top_p)?;
    let (model, p) = match &args.model {
        Some(dir) => hf::load::<f32>(dir)?,
        None => shipped::load()?,
    };
    let context = model.config.context;
    let window = args.window.unwrap_or(context);
    if window == 0 {
        let (rule, cure) = ("a token sees itself at least", "take 1 or more");
        return Err(Error::input("--window", window, rule, cure));
    }
    memory::check("keys and values", memory::cache(&model.config))?;
    let numbers = args.tokens.is_some();
    let (tokens, begin_with) = match (args.tokens, args.prompt) {
        (Some(tokens), _) => {
            let shown: Vec<_> = tokens.iter().map(usize::to_string).collect();
            (tokens, shown.join(" "))
        }
        (None, prompt) => {
            if let Some(dir) = &args.model {
                hf::check_bytes(dir, model.config.vocab)?;
            }
            let prompt = prompt.unwrap_or_default();
            (encode(&prompt), prompt)
        }
    };
    let mut rng = Rng::named(args.seed, "sample");

    // What is to be shown next. The prompt comes with the first token, when
    // it is known to be a good one.
    let (mut next, mut text) = (begin_with, Characters::default());
    let (mut made, mut shown, begin) = (0, Ok(true), Instant::now());
    let (max, unnamed) = (args.max_tokens, args.model.is_none());
    let rest = |token: usize| {
        made += 1;
        if unnamed && made == 1 {
            note(shipped::NOTE);
        }
        match numbers {
            true => next += &format!(" {token}"),
            false => next += text.push(token),
        }
        shown = show(&harmless(&next));
        next.clear();
        matches!(shown, Ok(true))
    };
    let mut decoder = Decoder::with_window(&model, window);
    let (s, r) = (&mut sampler, &mut rng);
    let stop = generate(&mut decoder, &p, &tokens, max, s, r, rest)?;
    let seconds = begin.elapsed().as_secs_f64();
    next += text.finish();
    next.push('\n');
    if !(shown? && show(&harmless(&next))?) {
        return Ok(ExitCode::SUCCESS);
    }
    if stop == Stop::Context {
        note(&format!(
            "the context of {context} is full: stopped after {made} tokens"
        ));
    }
    let speed = made as f64 / seconds;
    note(&format!("{made} tokens in {seconds:.2} s: {speed:.0} tokens/s"));
    Ok(ExitCode::SUCCESS)
}
