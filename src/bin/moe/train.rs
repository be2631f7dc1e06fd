//! Chapter: training. `moe train`.

use crate::defaults::{PRESET, presets, threads};
use crate::output::quote;
use crate::progress::{Progress, say};
use moe_by_hand::config::Config;
use moe_by_hand::error::{Error, Result, plain};
use moe_by_hand::generate::{Decoder, Sampler, generate};
use moe_by_hand::model::Model;
use moe_by_hand::rng::Rng;
use moe_by_hand::tokens::{Characters, harmless};
use moe_by_hand::train::account::Account;
use moe_by_hand::train::charts;
use moe_by_hand::train::checkpoint::{self, Checkpoint};
use moe_by_hand::train::data::Text;
use moe_by_hand::train::metrics::{self, Log};
use moe_by_hand::train::optimizer::{AdamW, Decay};
use moe_by_hand::train::options::Options;
use moe_by_hand::train::trainer::Trainer;
use moe_by_hand::{hf, memory};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const EXAMPLES: &str = "\
Examples:
  moe train                                   the project's own words
  moe train --text shakespeare.txt --steps 500
  moe train --text t.txt --out runs/mine      Ctrl-C saves and stops
  moe train --resume --out runs/mine          goes on, with the same bits
  moe train --resume                          goes on with the last of runs/

A run's directory holds config.json and model.safetensors (for others),
training.safetensors (for --resume), metrics.jsonl, loss.svg, experts.svg.
--resume takes the settings from there. Those that are given all the same
have to agree, except --threads. A run's directory may be copied or moved.";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES, mut_args = with_default)]
pub(crate) struct Args {
    #[arg(long, value_name = "NAME", conflicts_with = "config")]
    #[arg(help = format!("A model of known sizes: {}", presets()))]
    preset: Option<String>,
    /// A model of the sizes in a config.json
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What to train on, UTF-8; each byte is a token [default: the project's
    /// own words]
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// Steps in all
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    steps: Option<usize>,
    /// Sequences in a batch
    #[arg(long, value_name = "B", allow_negative_numbers = true)]
    batch: Option<usize>,
    /// Bytes in a sequence
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    seq: Option<usize>,
    /// The highest learning rate: after a warm-up of a tenth of the steps, at
    /// most 100, it falls to a tenth in a cosine
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    lr: Option<f64>,
    /// Draws the first weights and the batches; decides every bit
    #[arg(long, value_name = "S", allow_negative_numbers = true)]
    seed: Option<u64>,
    /// Changes the speed, and no bit of the result [default: one per core]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    threads: Option<usize>,
    /// Where to write; must be new without --resume [default: a new name
    /// under runs/]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on with the run in --out, or with the last one under runs/
    #[arg(long)]
    resume: bool,
    /// Coefficient of the balance loss [default: the config's
    /// `router_aux_loss_coef`]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    aux: Option<f64>,
    /// Coefficient of the router's z-loss
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    z_loss: Option<f64>,
    /// Batches in a step, whose gradients are averaged; the balance loss is
    /// that of each batch (f and P are per batch), their mean
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    accumulate: Option<usize>,
    /// Keep one block's activations, and compute the others' again in
    /// backward: less memory, more time, same bits
    #[arg(long)]
    recompute: bool,
    /// The norm to which the gradient is clipped
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    clip: Option<f64>,
    /// Decay of the weights of linear maps
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    decay: Option<f64>,
    /// Steps between measurements of the validation loss
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    eval_every: Option<usize>,
    /// Steps between checkpoints
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    save_every: Option<usize>,
}

/// Adds to an option's help the default that [`Options`] has for it, where it
/// does not say its own.
fn with_default(arg: clap::Arg) -> clap::Arg {
    let defaults = serde_json::json!(Options::default());
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    match arg.get_long().and_then(|name| defaults.get(name)) {
        Some(value) if value.is_number() && !help.contains("[default: ") => {
            let value = value.to_string();
            let value = value.trim_end_matches(".0");
            arg.help(format!("{help} [default: {value}]"))
        }
        _ => arg,
    }
}

pub(crate) fn run(args: Args) -> Result<ExitCode> {
    let stop = Arc::new(AtomicBool::new(false));
    let asked = stop.clone();
    // Without a handler Ctrl-C ends the program at once: then what was saved
    // last is what there is, and that is no reason not to train.
    let _ = ctrlc::set_handler(move || {
        if asked.swap(true, Ordering::SeqCst) {
            std::process::exit(130); // a second time: at once
        }
    });
    let threads = threads(args.threads)?;
    // All that can be wrong is found before anything is written.
    let (out, is_new) = args.out()?;
    let file = out.join(checkpoint::FILE);
    let saved = match args.resume && file.exists() {
        true => Some(Checkpoint::read(&file)?),
        false => None,
    };
    let config = args.config(saved.as_ref())?;
    let options = args.options(saved.as_ref(), &config);
    options.validate(&config)?;
    let text = args.text(saved.as_ref())?;
    text.check(options.seq)?;
    memory::check("the table of parameters", memory::table(&config))?;
    let model = Model::new(config)?;
    let adam = |layout: &_| AdamW::new(layout, options.decay, Decay::Weights);
    let account = Account::new(&model, &options, text.id.bytes, threads, adam);
    memory::check("training this model", account.total())?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.map_err(|e| {
        Error::input("--threads", threads, e, "give a smaller number")
    })?;
    let from = saved.as_ref().map(|c| c.state.step);
    pool.install(|| {
        let trainer = match saved {
            Some(c) => Trainer::resume(model, text, options, c)?,
            None => Trainer::new(model, text, options)?,
        };
        if is_new {
            let cure = "choose another --out, or correct the permissions";
            fs::create_dir_all(&out).map_err(|e| Error::io(&out, e, cure))?;
        }
        introduce(&trainer, threads, account.total(), &out);
        match from {
            Some(n) => say(format!("resumes after step {n}")),
            None if args.resume => say(format!(
                "no checkpoint in {}: starts at step 0",
                quote(&out)
            )),
            None => {}
        }
        train(trainer, &out, from.is_some(), &stop)
    })
}

impl Args {
    /// The run's directory, and whether it is still to be made.
    fn out(&self) -> Result<(PathBuf, bool)> {
        let Some(out) = &self.out else {
            let last = last_run(self.name());
            return Ok(match (self.resume, last) {
                (true, n @ 1..) => (run_dir(self.name(), n), false),
                (_, n) => (run_dir(self.name(), n + 1), true),
            });
        };
        let there = out.symlink_metadata().is_ok();
        let wrong =
            |rule, cure| Err(Error::input("--out", out.display(), rule, cure));
        match (there, self.resume) {
            (true, false) => wrong(
                "that exists, and may be another run",
                "choose a new name, or continue it with --resume",
            ),
            (true, true) if !out.is_dir() => {
                wrong("that is no directory", "name the directory of a run")
            }
            _ => Ok((out.clone(), !there)),
        }
    }
    /// What a run is called that is given no name.
    fn name(&self) -> &str {
        let stem = self.config.as_ref().and_then(|c| c.file_stem()?.to_str());
        stem.or(self.preset.as_deref()).unwrap_or(PRESET)
    }
    fn config(&self, saved: Option<&Checkpoint>) -> Result<Config> {
        match (&self.config, &self.preset, saved) {
            (Some(file), ..) => Config::read(file),
            (_, Some(name), _) => Config::preset(name),
            (.., Some(saved)) => Ok(saved.config.clone()),
            _ => Config::preset(PRESET),
        }
    }
    /// What is given, else what the run had, else the defaults.
    fn options(&self, saved: Option<&Checkpoint>, config: &Config) -> Options {
        let new = Options { aux: config.aux, ..Options::default() };
        let o = saved.map_or(new, |c| c.state.options.clone());
        Options {
            steps: self.steps.unwrap_or(o.steps),
            batch: self.batch.unwrap_or(o.batch),
            seq: self.seq.unwrap_or(o.seq),
            lr: self.lr.unwrap_or(o.lr),
            seed: self.seed.unwrap_or(o.seed),
            aux: self.aux.unwrap_or(o.aux),
            z_loss: self.z_loss.unwrap_or(o.z_loss),
            accumulate: self.accumulate.unwrap_or(o.accumulate),
            recompute: self.recompute || o.recompute,
            eval_every: self.eval_every.unwrap_or(o.eval_every),
            save_every: self.save_every.unwrap_or(o.save_every),
            clip: self.clip.unwrap_or(o.clip),
            decay: self.decay.unwrap_or(o.decay),
        }
    }
    fn text(&self, saved: Option<&Checkpoint>) -> Result<Text> {
        if let Some(path) = &self.text {
            return Text::read(path);
        }
        match saved.and_then(|c| c.state.text.path.as_ref()) {
            // Where it was when the run began.
            Some(path) => Text::read(path).map_err(|e| match e {
                Error::Io { path, source, .. } => {
                    Error::io(path, source, "say with --text where it is now")
                }
                other => other,
            }),
            None => {
                let here = std::env::current_dir().map_err(|e| {
                    Error::io(".", e, "name a file with --text")
                })?;
                Text::of_project(&here)
            }
        }
    }
}
fn run_dir(name: &str, n: usize) -> PathBuf {
    Path::new("runs").join(format!("{name}-{n:03}"))
}
/// The highest number of a run of that name under `runs/`, or 0.
fn last_run(name: &str) -> usize {
    let entries = fs::read_dir("runs").into_iter().flatten().flatten();
    let number = |e: fs::DirEntry| {
        let file = e.file_name();
        let number = file.to_str()?.strip_prefix(name)?.strip_prefix('-')?;
        number.parse().ok()
    };
    entries.filter_map(number).max().unwrap_or(0)
}

/// The first lines: what is trained, on what, how, and where it goes.
fn introduce(t: &Trainer, threads: usize, need: u64, out: &Path) {
    let (c, o, id) = (&t.model.config, t.options(), &t.text().id);
    say(format!(
        "model     {} parameters, of which a token uses {}",
        c.total(),
        c.active()
    ));
    let from = match &id.path {
        Some(path) => plain(&path.to_string_lossy()),
        None => "the project's own words".into(),
    };
    if c.tied {
        say("the config ties the head to the embedding: here they are two \
             matrices, and are saved as two");
    }
    say(format!("text      {from}: {} bytes", id.bytes));
    say(format!("SHA-256   {}", id.sha256));
    say(format!(
        "settings  {} steps of {} × {} × {} bytes, lr {}, clip {}, decay {}, \
         aux {}, z-loss {}, seed {}{}",
        o.steps,
        o.accumulate,
        o.batch,
        o.seq,
        o.lr,
        o.clip,
        o.decay,
        o.aux,
        o.z_loss,
        o.seed,
        if o.recompute { ", recompute" } else { "" }
    ));
    let shards = t.shards();
    say(format!("threads   {threads}, and {shards} parts of a gradient"));
    say(format!("memory    {} ({need} bytes)", memory::human(need)));
    say(format!("out       {}", quote(out)));
    if c.top_k == 1 {
        say("with one expert for each token its weight is always 1: the gate \
             learns from the balance loss only");
    }
}

/// Trains from where the trainer stands to the last step or to Ctrl-C.
fn train(
    mut t: Trainer, out: &Path, resumed: bool, stop: &AtomicBool,
) -> Result<ExitCode> {
    let steps = t.options().steps;
    let (eval, saves) = (t.options().eval_every, t.options().save_every);
    // A long run keeps about 2000 lines.
    let logs = steps.div_ceil(2000);
    let mut log = Log::open(&out.join(metrics::FILE), t.steps_done())?;
    if !resumed {
        save(&mut t, &log, out)?;
    }
    let mut progress = Progress::new(t.steps_done(), steps);
    while !t.done() && !stop.load(Ordering::SeqCst) {
        let metrics = t.step()?;
        let (step, last) = (metrics.step, t.done());
        let measure = step.is_multiple_of(eval) || last;
        let val = measure.then(|| t.validate());
        if let Some(loss) = val.filter(|v| !v.is_finite()) {
            return Err(Error::Diverged { step, loss });
        }
        if step.is_multiple_of(logs) || measure {
            let load = t.load().map(<[f64]>::to_vec).collect();
            log.push(&metrics::Line { metrics, val, load })?;
        }
        progress.step(&metrics, val);
        let stopped = stop.load(Ordering::SeqCst);
        if step.is_multiple_of(saves) && !last && !stopped {
            save(&mut t, &log, out)?;
        }
    }
    progress.finish();
    save(&mut t, &log, out)?;
    charts::draw(out)?;
    if !t.done() {
        let (done, out) = (t.steps_done(), quote(out));
        say(format!("stopped after step {done} of {steps}, and saved"));
        say(format!("go on with: moe train --resume --out {out}"));
        return Ok(ExitCode::SUCCESS);
    }
    sample(&t)?;
    let out = quote(out);
    let seq = t.options().seq;
    say(format!(
        "next: moe generate --model {out} --prompt 'The ' --window {seq}"
    ));
    Ok(ExitCode::SUCCESS)
}
/// The checkpoint first: it refuses numbers that are not finite, and what
/// others read follows from it.
fn save(t: &mut Trainer, log: &Log, out: &Path) -> Result<()> {
    log.sync()?;
    t.save(&out.join(checkpoint::FILE))?;
    hf::save(out, &t.model, &t.params)
}
/// 200 bytes that the model writes.
fn sample(t: &Trainer) -> Result<()> {
    let mut sampler = Sampler::new(0.8, 0, 1.0)?;
    let mut rng = Rng::named(t.options().seed, "sample");
    let (mut text, mut all) = (Characters::default(), String::new());
    let first = [usize::from(b'\n')];
    let each = |token| {
        all += text.push(token);
        true
    };
    // Not farther back than the training sequences reached.
    let mut d = Decoder::with_window(&t.model, t.options().seq);
    generate(&mut d, &t.params, &first, 200, &mut sampler, &mut rng, each)?;
    all += text.finish();
    say(format!("a sample, at temperature 0.8:\n{}", harmless(&all)));
    Ok(())
}
