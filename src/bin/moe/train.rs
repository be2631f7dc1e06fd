//! Chapter: training. `moe train`.

use crate::defaults::{PRESET, presets, threads};
use crate::optimizers::{Any, Choice};
use crate::output::quote;
use crate::progress::{Progress, say, tell};
use crate::watch::Watch;
use moe_by_hand::block::Block;
use moe_by_hand::config::Config;
use moe_by_hand::error::{Error, Result, plain, rule};
use moe_by_hand::file::{Lock, NewDir, first_free, remove_parts, write_atomic};
use moe_by_hand::generate::{Decoder, Sampler, generate};
use moe_by_hand::half::{Bf16, F16};
use moe_by_hand::kernel::simd::Isa;
use moe_by_hand::model::Model;
use moe_by_hand::nn::loss::CrossEntropy;
use moe_by_hand::params::Entry;
use moe_by_hand::rng::Rng;
use moe_by_hand::tensors::Tensors;
use moe_by_hand::tokens::{Characters, harmless};
use moe_by_hand::train::account::Account;
use moe_by_hand::train::charts;
use moe_by_hand::train::checkpoint::{self, Checkpoint, State};
use moe_by_hand::train::data::Text;
use moe_by_hand::train::metrics::{self, History, Log};
use moe_by_hand::train::muon::Muon;
use moe_by_hand::train::optimizer::{AdamW, StepFrom};
use moe_by_hand::train::options::Options;
use moe_by_hand::train::precision::{LossScale, Precision, Stored};
use moe_by_hand::train::schedule::Kind;
use moe_by_hand::train::trainer;
use moe_by_hand::train::validation::windows;
use moe_by_hand::{hf, memory};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

/// A run that is stored in numbers of type `T`, with whichever optimizer it
/// has.
type Trainer<T> = trainer::Trainer<Block, Any<T>, CrossEntropy, T>;

const EXAMPLES: &str = "\
Examples:
  moe train                                   the project's own words
  moe train --text shakespeare.txt --steps 500
  moe train --precision bf16                  stored in half the bits
  moe train --text t.txt --out runs/mine      Ctrl-C saves and stops
  moe train --resume --out runs/mine          goes on, with the same bits
  moe train --resume                          goes on with the newest of runs/

A run's directory holds run.json (the settings, there before anything else),
training.safetensors (for --resume), config.json and model.safetensors (for
others), metrics.jsonl, loss.svg, experts.svg, and run.lock, which keeps a
second process out. --resume takes the settings from there. Those that are
given all the same have to agree, except --threads. The newest run is the one
that began last. A run's directory may be copied or moved; on a CPU without
the run's instruction set --resume stops, because the last bits would differ.";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES, mut_args = with_default)]
pub(crate) struct Args {
    #[arg(long, value_name = "NAME", conflicts_with = "config")]
    #[arg(help = format!("A model of known sizes: {}", presets()))]
    preset: Option<String>,
    /// A model of the sizes in a config.json
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What to train on, UTF-8; each byte is a token; `-` is standard input
    /// [default: the project's own words]
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
    /// most 100, it falls as the schedule says
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
    /// Go on with the run in --out, or with the newest one under runs/
    #[arg(long)]
    resume: bool,
    /// Go on with another instruction set or version of the arithmetic than
    /// the run began with: its last bits will be others
    #[arg(long, requires = "resume")]
    other_arithmetic: bool,
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
    /// What weights, activations and gradients are stored in: f32, bf16 or
    /// f16. Sums, losses, the weights that are trained and what the optimizer
    /// keeps are f32 [default: f32]
    #[arg(long, value_name = "NAME")]
    precision: Option<Precision>,
    /// What the loss is multiplied by for backward, and the gradient divided by
    /// after it: a number, or dynamic, which begins with 65536, doubles after
    /// 2000 steps, and halves where a gradient is not finite: that step is
    /// skipped [default: dynamic with f16, 1 with bf16]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    loss_scale: Option<LossScale>,
    /// What model.safetensors stores the weights in: f32 or bf16 [default: f32]
    #[arg(long, value_name = "NAME")]
    save_precision: Option<Precision>,
    /// adamw, or muon, which moves the matrices of attention and experts along
    /// momentum with its singular values brought near 1, at --muon-lr; gains,
    /// embedding, router and head stay AdamW's, at --lr [default: adamw]
    #[arg(long, value_name = "NAME")]
    optimizer: Option<Choice>,
    /// The highest learning rate of the matrices that Muon moves; one schedule
    /// is for both rates
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    muon_lr: Option<f64>,
    /// cosine, which falls to a tenth over all steps; or wsd, which stays and
    /// falls to 0 in the cooldown [default: cosine]
    #[arg(long, value_name = "NAME")]
    schedule: Option<Kind>,
    /// The share of the steps, the last ones, in which wsd falls
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    cooldown: Option<f64>,
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

/// The file whose lock keeps a second process out.
const LOCK: &str = "run.lock";
/// All that a run writes.
const FILES: [&str; 9] = [
    checkpoint::RUN,
    checkpoint::FILE,
    "config.json",
    "model.safetensors",
    metrics::FILE,
    metrics::ASIDE,
    "loss.svg",
    "experts.svg",
    LOCK,
];

pub(crate) fn run(args: Args) -> Result<ExitCode> {
    let watch = Watch::start();
    let threads = threads(args.threads)?;
    // All that can be wrong is found before anything is written.
    args.check_out()?;
    let mut found = match (args.resume, &args.out) {
        (false, _) => None,
        (true, Some(out)) => Some(Found::open(out, &watch)?),
        (true, None) => Some(Found::open(&newest()?, &watch)?),
    };
    if let Some(found) = &mut found {
        found.choose_arithmetic(args.other_arithmetic)?;
    }
    let state = found.as_ref().map(|f| &f.state);
    let precision = args.precision(state)?;
    match precision {
        Precision::F32 => go::<f32>(args, found, threads, &watch),
        Precision::Bf16 => go::<Bf16>(args, found, threads, &watch),
        Precision::F16 => go::<F16>(args, found, threads, &watch),
    }
}
fn go<T: Stored>(
    args: Args, found: Option<Found>, threads: usize, watch: &Watch,
) -> Result<ExitCode>
where
    AdamW<f32>: StepFrom<T>,
    Muon<f32>: StepFrom<T>,
    Any<T>: StepFrom<T>,
{
    let state = found.as_ref().map(|f| &f.state);
    let config = args.config(state)?;
    let options = args.options(state, &config, T::PRECISION)?;
    options.validate(&config)?;
    let optimizer = args.optimizer(state)?;
    optimizer.validate(&options)?;
    args.check_unused(optimizer, &options)?;
    let text = args.text(state, watch)?;
    text.check(options.seq)?;
    memory::check("the table of parameters", memory::table(&config))?;
    let model = Model::new(config)?;
    let maker = optimizer.maker::<T>(&options, threads);
    let n = text.id.bytes;
    let account =
        Account::stored::<T, _, _>(&model, &options, n, threads, &maker);
    memory::check("training this model", account.total())?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.map_err(|e| {
        Error::input("--threads", threads, e, "give a smaller number")
    })?;
    pool.install(|| {
        let new = || {
            let optimizer = maker(&model.layout);
            Trainer::stored(model, text, options, optimizer, CrossEntropy)
        };
        let mut trainer: Trainer<T> =
            watch.during("drawing the first weights", new)?;
        let (run, history) = match found {
            Some(found) => found.go_on(&mut trainer)?,
            None => (None, History::default()),
        };
        watch.hold();
        let mut run = match run {
            Some(run) => run,
            None => Run::begin(args.dirs(), &trainer)?,
        };
        introduce(&trainer, threads, account.total(), &run.dir);
        if args.resume {
            resumes(&trainer, &history, &run.dir);
        }
        let done = train(trainer, &mut run, history, watch);
        if done.is_err() {
            run.undo();
        }
        done
    })
}

/// A run's directory, and its lock.
struct Run {
    dir: PathBuf,
    /// Holds as long as the process lives.
    _lock: Lock,
    /// Until the first checkpoint of a new run is on the disk.
    new: Option<NewDir>,
    /// Whether there is a checkpoint.
    saved: bool,
}
impl Run {
    /// A new one, under the first of these names that is free. It appears with
    /// its settings in it, and locked.
    fn begin<T: Stored>(
        dirs: impl Iterator<Item = PathBuf>, t: &Trainer<T>,
    ) -> Result<Self> {
        let mut dirs = dirs.peekable();
        let mut new = first_free(&mut dirs, NewDir::beside)?;
        let mut lock = Lock::take(&new.path().join(LOCK))?;
        lock.sign()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let begun = now.ok().and_then(|d| d.as_millis().try_into().ok());
        let json = State { begun, ..t.state() }.to_json();
        let file = new.path().join(checkpoint::RUN);
        write_atomic(&file, |w| w.write_all(json.as_bytes()))?;
        let publish = |dir: &Path| Ok((new.publish(dir)?, dir.into()).1);
        let dir = first_free(&mut dirs, publish)?;
        Ok(Self { dir, _lock: lock, new: Some(new), saved: false })
    }
    /// The checkpoint first: it refuses numbers that are not finite, and what
    /// others read follows from it.
    fn save<T: Stored>(
        &mut self, t: &mut Trainer<T>, log: &mut Log,
        due: Option<&metrics::Line>,
    ) -> Result<()> {
        if !log.sync()? {
            tell(&format!(
                "{} was changed or removed by someone; it is written again",
                self.dir.join(metrics::FILE).display()
            ));
        }
        t.log = Some(log.logged(due.cloned()));
        t.save(&self.dir.join(checkpoint::FILE))?;
        let dtype = t.options().save_precision.dtype();
        hf::save_as(dtype, &self.dir, &t.model, &t.params)?;
        self.saved = true;
        if let Some(new) = self.new.take() {
            new.keep();
        }
        Ok(())
    }
    /// Removes a new run that could not save its first checkpoint: the same
    /// command can be given again.
    fn undo(&mut self) {
        if self.new.is_some() {
            for name in FILES {
                let _ = fs::remove_file(self.dir.join(name));
            }
            self.new = None;
        }
    }
}

/// A run on the disk that is to go on.
struct Found {
    dir: PathBuf,
    lock: Lock,
    state: State,
    /// Absent if it was killed before it saved one.
    saved: Option<Checkpoint>,
}
impl Found {
    fn open(dir: &Path, watch: &Watch) -> Result<Self> {
        let [run, file] =
            [checkpoint::RUN, checkpoint::FILE].map(|name| dir.join(name));
        let wrong =
            |rule, cure| Err(Error::input("--out", dir.display(), rule, cure));
        if !there(dir) {
            let cure = "begin it without --resume";
            return wrong("there is no such run", cure);
        }
        if !dir.is_dir() {
            let cure = "name the directory of a run";
            return wrong("that is no directory", cure);
        }
        if !there(&run) && !there(&file) {
            return wrong(
                "that is no run: it has neither run.json nor \
                 training.safetensors",
                "name the directory of a run, or begin one without --resume",
            );
        }
        let lock = Lock::take(&dir.join(LOCK))?;
        let saved = match there(&file) {
            true => {
                let read = || Checkpoint::read(&file);
                Some(watch.during("reading the checkpoint", read)?)
            }
            false => None,
        };
        let state = match (there(&run), &saved) {
            (true, Some(saved)) => {
                let begun = State::read(&run).map_err(|e| match e {
                    Error::Input { what, value, rule, .. } => {
                        let cure = "remove it: training.safetensors has all \
                                    that it says";
                        Error::input(what, value, rule, cure)
                    }
                    other => other,
                })?;
                saved.state.check_run(&begun, dir)?;
                saved.state.clone()
            }
            (false, Some(saved)) => saved.state.clone(),
            (_, None) => {
                nothing_saved(dir)?;
                State::read(&run)?
            }
        };
        Ok(Self { dir: dir.into(), lock, state, saved })
    }
    /// Takes the instruction set of the run, before anything is computed.
    fn choose_arithmetic(&mut self, other: bool) -> Result<()> {
        let stored = self.state.isa.as_ref().and_then(|w| w.parse().ok());
        let asked = Isa::asked().ok().flatten();
        let isa = asked.or(stored).unwrap_or(Isa::best());
        isa.choose();
        if other {
            self.state.isa = Some(isa.to_string());
            self.state.arithmetic = checkpoint::ARITHMETIC;
            if let Some(saved) = &mut self.saved {
                saved.state = self.state.clone();
            }
        }
        self.state.check_arithmetic()
    }
    /// Takes the trainer to where the run is.
    fn go_on<T: Stored>(
        self, t: &mut Trainer<T>,
    ) -> Result<(Option<Run>, History)> {
        let Self { dir, mut lock, state, saved } = self;
        let is_saved = saved.is_some();
        match saved {
            Some(saved) => {
                t.restore(saved)?;
                is_own(&dir, t)?;
            }
            None => t.adopt(&state)?,
        }
        let log = dir.join(metrics::FILE);
        let history = History::read(&log, t.steps_done(), t.log.as_ref())?;
        lock.sign()?;
        remove_parts(&dir, &FILES);
        let run = Run { dir, _lock: lock, new: None, saved: is_saved };
        Ok((Some(run), history))
    }
}
fn there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
/// A run that has no checkpoint has not written any of these.
fn nothing_saved(dir: &Path) -> Result<()> {
    let log = dir.join(metrics::FILE);
    let logged = log.metadata().is_ok_and(|m| m.len() > 0);
    let after = ["config.json", "model.safetensors", "loss.svg", "experts.svg"];
    let after = after.into_iter().find(|name| there(&dir.join(name)));
    let Some(name) = after.or(logged.then_some(metrics::FILE)) else {
        return Ok(());
    };
    Err(Error::input(
        dir.join(name).display(),
        "there without a training.safetensors",
        "the run would begin again and overwrite it",
        "restore training.safetensors, or move the other files away",
    ))
}
/// Whether the model in a run's directory is the run's, and may be replaced.
fn is_own<T: Stored>(dir: &Path, t: &Trainer<T>) -> Result<()> {
    let other = |name: &str| {
        Err(Error::input(
            dir.join(name).display(),
            "not of this run",
            "the run would overwrite it",
            "move it away",
        ))
    };
    let config = dir.join("config.json");
    if there(&config)
        && Config::read(&config).ok().as_ref() != Some(&t.model.config)
    {
        return other("config.json");
    }
    let weights = dir.join("model.safetensors");
    if there(&weights) {
        let same = Tensors::open(&weights).is_ok_and(|file| {
            let entries = &t.model.layout.entries;
            let same = |e: &Entry| {
                let name = hf::hf_name(&e.name);
                file.has(&name) && file.shape(&name) == hf::hf_shape(e)
            };
            file.names().count() == entries.len() && entries.iter().all(same)
        });
        if !same {
            return other("model.safetensors");
        }
    }
    Ok(())
}
/// The directory under `runs/` of the run that began last.
fn newest() -> Result<PathBuf> {
    let entries = fs::read_dir("runs").into_iter().flatten().flatten();
    let hidden =
        |dir: &fs::DirEntry| dir.file_name().as_encoded_bytes()[0] == b'.';
    let runs = entries.filter(|dir| !hidden(dir)).map(|dir| dir.path());
    let newest = runs.filter_map(|dir| Some((begun(&dir)?, dir))).max();
    newest.map(|(_, dir)| dir).ok_or_else(|| {
        let cure = "name one with --out, or begin one without --resume";
        let rule = "there is no run under runs/";
        Error::input("--resume", "given without --out", rule, cure)
    })
}
/// When a run began, in milliseconds since 1970: what it says itself, or else
/// when its file was written.
fn begun(dir: &Path) -> Option<u64> {
    let written = |name| {
        let time = dir.join(name).metadata().ok()?.modified().ok()?;
        let time = time.duration_since(UNIX_EPOCH).ok()?;
        u64::try_from(time.as_millis()).ok()
    };
    let said = State::read(&dir.join(checkpoint::RUN)).ok();
    let said = said.and_then(|state| state.begun);
    said.or_else(|| written(checkpoint::RUN))
        .or_else(|| written(checkpoint::FILE))
}

impl Args {
    /// Whether there is already what would be new.
    fn check_out(&self) -> Result<()> {
        match &self.out {
            Some(out) if !self.resume && there(out) => Err(Error::input(
                "--out",
                out.display(),
                "that exists, and may be another run",
                "choose a new name, or continue it with --resume",
            )),
            _ => Ok(()),
        }
    }
    /// Where a new run may be: where it is told to, or else under the next
    /// free name.
    fn dirs(&self) -> impl Iterator<Item = PathBuf> {
        let first = last_run(self.name()) + 1;
        let next = (first..).map(|n| run_dir(self.name(), n));
        let choice = if self.out.is_some() { 0 } else { usize::MAX };
        self.out.clone().into_iter().chain(next.take(choice))
    }
    /// What a run is called that is given no name.
    fn name(&self) -> &str {
        let stem = self.config.as_ref().and_then(|c| c.file_stem()?.to_str());
        stem.or(self.preset.as_deref()).unwrap_or(PRESET)
    }
    fn config(&self, run: Option<&State>) -> Result<Config> {
        match (&self.config, &self.preset, run) {
            (Some(file), ..) => Config::read(file),
            (_, Some(name), _) => Config::preset(name),
            (.., Some(run)) => run.config(),
            _ => Config::preset(PRESET),
        }
    }
    /// What is given, else what the run had, else the defaults.
    fn options(
        &self, run: Option<&State>, config: &Config, precision: Precision,
    ) -> Result<Options> {
        let loss_scale = LossScale::of(precision);
        let new = Options { aux: config.aux, loss_scale, ..Options::default() };
        let o = run.map_or(new, |run| run.options.clone());
        if let Some(given) = self.loss_scale {
            let needed = precision != Precision::F32;
            let cure = "leave it out, or give --precision bf16 or f16";
            let none = "no gradient is too small for f32";
            rule(needed, "--loss-scale", given, none, cure)?;
        }
        Ok(Options {
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
            schedule: self.schedule.unwrap_or(o.schedule),
            cooldown: self.cooldown.unwrap_or(o.cooldown),
            muon_lr: self.muon_lr.unwrap_or(o.muon_lr),
            loss_scale: self.loss_scale.unwrap_or(o.loss_scale),
            save_precision: self.save_precision.unwrap_or(o.save_precision),
        })
    }
    /// What is given, else what the run had, else f32.
    fn precision(&self, run: Option<&State>) -> Result<Precision> {
        let saved = run.map(State::precision).transpose()?;
        Ok(self.precision.or(saved).unwrap_or_default())
    }
    /// What is given, else what the run had, else AdamW.
    fn optimizer(&self, run: Option<&State>) -> Result<Choice> {
        match (self.optimizer, run) {
            (Some(given), _) => Ok(given),
            (None, Some(run)) => Choice::of_run(&run.optimizer),
            (None, None) => Ok(Choice::AdamW),
        }
    }
    /// What is given to an optimizer or a schedule that does not take it.
    fn check_unused(&self, optimizer: Choice, o: &Options) -> Result<()> {
        let used = optimizer == Choice::Muon || self.muon_lr.is_none();
        let cure = "leave it out, or give --optimizer muon";
        let lr = "AdamW moves all by --lr";
        rule(used, "--muon-lr", o.muon_lr, lr, cure)?;
        let used = o.schedule == Kind::Wsd || self.cooldown.is_none();
        let cure = "leave it out, or give --schedule wsd";
        let cosine = "a cosine has none";
        rule(used, "--cooldown", o.cooldown, cosine, cure)
    }
    fn text(&self, run: Option<&State>, watch: &Watch) -> Result<Text> {
        let read = |path: &Path| {
            let what = format!("reading {}", path.display());
            let told = |done, total| watch.at(done, total);
            watch.during(&what, || Text::read_while(path, told))
        };
        if let Some(path) = &self.text {
            return read(path);
        }
        let Some((path, id)) = run.and_then(|run| {
            let id = &run.text;
            Some((id.path.as_ref()?, id))
        }) else {
            let here = std::env::current_dir()
                .map_err(|e| Error::io(".", e, "name a file with --text"))?;
            return Text::of_project(&here);
        };
        // Where it was when the run began.
        let pipe = id.stream || path.exists() && !path.is_file();
        let gone = "that was a pipe or the like, which is read only once";
        let cure = "give the same bytes with --text, in a file";
        rule(!pipe, "the run's text", path.display(), gone, cure)?;
        read(path).map_err(|e| match e {
            Error::Io { path, source, .. } => {
                Error::io(path, source, "say with --text where it is now")
            }
            other => other,
        })
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
fn introduce<T: Stored>(t: &Trainer<T>, threads: usize, need: u64, out: &Path) {
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
    let mut rates = String::new();
    if t.state().optimizer == "muon" {
        rates = format!(", muon {}", o.muon_lr);
    }
    if o.schedule == Kind::Wsd {
        rates += &format!(", wsd with a cooldown of {}", o.cooldown);
    }
    say(format!(
        "settings  {} steps of {} × {} × {} bytes, lr {}{}, clip {}, decay {}, \
         aux {}, z-loss {}, seed {}{}",
        o.steps,
        o.accumulate,
        o.batch,
        o.seq,
        o.lr,
        rates,
        o.clip,
        o.decay,
        o.aux,
        o.z_loss,
        o.seed,
        if o.recompute { ", recompute" } else { "" }
    ));
    let shards = t.shards();
    say(format!("threads   {threads}, and {shards} parts of a gradient"));
    let isa = Isa::current();
    let version = checkpoint::ARITHMETIC;
    let stored = match T::PRECISION {
        Precision::F32 => String::new(),
        other => format!(", stored in {other}, loss scale {}", o.loss_scale),
    };
    say(format!(
        "numbers   {isa}, version {version} of the arithmetic{stored}"
    ));
    let n = windows(t.text().validation().len(), o.seq);
    // Forward is about a third of a step.
    let cost = n / (3 * o.batch * o.accumulate);
    let eval = o.eval_every;
    let hint = if cost > eval / 2 {
        format!(", each as long as about {cost} steps; see --eval-every")
    } else {
        String::new()
    };
    say(format!(
        "validates {n} windows of {} bytes, every {eval} steps{hint}",
        o.seq
    ));
    say(format!("memory    {} ({need} bytes)", memory::human(need)));
    say(format!("out       {}", quote(out)));
    if c.top_k == 1 {
        say("with one expert for each token its weight is always 1: the gate \
             learns from the balance loss only");
    }
}

/// Where a resumed run goes on, and what became of its metrics.
fn resumes<T: Stored>(t: &Trainer<T>, history: &History, dir: &Path) {
    match t.steps_done() {
        0 => say(format!(
            "no step of {} is saved yet: starts at step 0",
            quote(dir)
        )),
        n => say(format!("resumes after step {n}")),
    }
    let file = dir.join(metrics::FILE);
    let (file, n) = (file.display(), history.cut);
    if n > 0 {
        let (lines, are) =
            if n == 1 { ("line", "is") } else { ("lines", "are") };
        say(format!(
            "{file}: {n} {lines} of later steps {are} cut, to be written again"
        ));
    }
    if !history.as_written || !history.bad.is_empty() {
        let step = t.steps_done();
        tell(&format!(
            "{file} is damaged: its lines up to step {step} are not all as the \
             run wrote them; those that can be read stay, and the rest, {}, \
             goes to {}",
            history.bad.len(),
            metrics::ASIDE
        ));
    }
}

/// Trains from where the trainer stands to the last step or to Ctrl-C.
fn train<T: Stored>(
    mut t: Trainer<T>, run: &mut Run, history: History, watch: &Watch,
) -> Result<ExitCode>
where
    Any<T>: StepFrom<T>,
{
    let steps = t.options().steps;
    let (eval, saves) = (t.options().eval_every, t.options().save_every);
    // A long run keeps about 2000 lines.
    let logs = steps.div_ceil(2000);
    let mut log = Log::open(&run.dir.join(metrics::FILE), history)?;
    // A step whose validation was stopped is validated first.
    let mut due = t.log.take().and_then(|log| log.due);
    if !run.saved {
        run.save(&mut t, &mut log, None)?;
    }
    let mut progress = Progress::new(t.steps_done(), steps);
    while !watch.stopped() && (due.is_some() || !t.done()) {
        let again = due.is_some();
        let mut line = match due.take() {
            Some(line) => line,
            None => {
                let metrics = t.step()?;
                let load = t.load().map(<[f64]>::to_vec).collect();
                metrics::Line { metrics, val: None, load }
            }
        };
        let (step, last) = (line.metrics.step, t.done());
        let measure = step.is_multiple_of(eval) || last || again;
        if measure {
            line.val = validate(&mut t, watch);
        }
        if let Some(loss) = line.val.filter(|v| !v.is_finite()) {
            return Err(Error::Diverged { step, loss });
        }
        if measure && line.val.is_none() {
            due = Some(line);
            break;
        }
        if step.is_multiple_of(logs) || measure {
            log.push(&line)?;
        }
        progress.step(&line.metrics, line.val);
        if step.is_multiple_of(saves) && !last && !watch.stopped() {
            let save = || run.save(&mut t, &mut log, None);
            watch.during("saving", save)?;
        }
    }
    progress.finish();
    watch.during("saving", || run.save(&mut t, &mut log, due.as_ref()))?;
    charts::draw(&run.dir)?;
    let out = quote(&run.dir);
    if !t.done() || due.is_some() {
        let done = t.steps_done();
        say(format!("stopped after step {done} of {steps}, and saved"));
        say(format!("go on with: moe train --resume --out {out}"));
        return Ok(ExitCode::SUCCESS);
    }
    sample(&t, watch)?;
    let seq = t.options().seq;
    say(format!(
        "next: moe generate --model {out} --prompt 'The ' --window {seq}"
    ));
    Ok(ExitCode::SUCCESS)
}
/// The loss on the validation text; nothing if a stop came first.
fn validate<T: Stored>(t: &mut Trainer<T>, watch: &Watch) -> Option<f64> {
    let what = format!("validating step {}", t.steps_done());
    let all = windows(t.text().validation().len(), t.options().seq);
    watch.during(&what, || {
        t.validate_while(|done| {
            watch.at(done, all);
            !watch.stopped()
        })
    })
}
/// 200 bytes that the model writes.
fn sample<T: Stored>(t: &Trainer<T>, watch: &Watch) -> Result<()> {
    let mut sampler = Sampler::new(0.8, 0, 1.0)?;
    let mut rng = Rng::named(t.options().seed, "sample");
    let (mut text, mut all) = (Characters::default(), String::new());
    let first = [usize::from(b'\n')];
    let each = |token| {
        all += text.push(token);
        !watch.stopped()
    };
    // Not farther back than the training sequences reached.
    let mut d = Decoder::with_window(&t.model, t.options().seq);
    watch.during("writing a sample", || {
        generate(&mut d, &t.params, &first, 200, &mut sampler, &mut rng, each)
    })?;
    all += text.finish();
    say(format!("a sample, at temperature 0.8:\n{}", harmless(&all)));
    Ok(())
}
