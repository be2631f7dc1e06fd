//! Grades one submission.

use crate::assignment::{Assignment, Sources, Task, Variant};
use crate::machine::{End, Grants, Limits, Machine};
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// The version of what `Grade` looks like as JSON.
const SCHEMA: u32 = 1;
/// What a number may be off by, relative to the largest of its tensor.
const BOUND: f64 = 1e-12;
/// How many rounds of hidden cases there are.
const HIDDEN: u64 = 3;
/// The seed of the public cases.
const PUBLIC: u64 = 1;
/// How to grade.
#[derive(Clone, Copy)]
pub(crate) struct Options {
    /// The instructor's secret. Without it only the public cases run.
    pub(crate) seed: Option<u64>,
    /// The points of the paper part, once there are any.
    pub(crate) paper: Option<u32>,
    /// `verify` turns the scan off, to see what the other walls hold.
    pub(crate) scan: bool,
    /// `verify` does without, as hosted graders have to.
    pub(crate) namespaces: bool,
}
impl Options {
    pub(crate) fn new(seed: Option<u64>) -> Self {
        Self { seed, paper: None, scan: true, namespaces: true }
    }
}

/// What came of one submission.
#[derive(Serialize)]
pub(crate) struct Grade {
    pub(crate) schema: u32,
    pub(crate) assignment: String,
    pub(crate) title: String,
    pub(crate) variant: String,
    pub(crate) seed: Option<u64>,
    /// Of the machine's part.
    pub(crate) score: u32,
    pub(crate) max_score: u32,
    pub(crate) paper: Paper,
    pub(crate) verdict: String,
    /// What kept it from being run at all.
    pub(crate) problems: Vec<String>,
    pub(crate) isolation: Isolation,
    /// How many cases there are, and of how many there is a result.
    pub(crate) declared: usize,
    pub(crate) executed: usize,
    pub(crate) tasks: Vec<Outcome>,
    pub(crate) toolchain: String,
    pub(crate) times: Times,
}
#[derive(Serialize)]
pub(crate) struct Paper {
    pub(crate) points: u32,
    pub(crate) score: Option<u32>,
    pub(crate) status: &'static str,
}
/// What held, and what this machine does not grant.
#[derive(Serialize)]
pub(crate) struct Isolation {
    pub(crate) scan: bool,
    pub(crate) no_std: bool,
    pub(crate) limits: bool,
    pub(crate) memory: bool,
    pub(crate) namespaces: bool,
    pub(crate) missing: Vec<&'static str>,
}
#[derive(Serialize)]
pub(crate) struct Times {
    pub(crate) build_seconds: f64,
    pub(crate) total_seconds: f64,
}
/// What came of one task.
#[derive(Serialize)]
pub(crate) struct Outcome {
    pub(crate) task: String,
    pub(crate) title: String,
    pub(crate) points: u32,
    pub(crate) score: u32,
    pub(crate) passed: bool,
    /// What to look at, where points were lost.
    pub(crate) hint: Option<String>,
    pub(crate) cases: Vec<Run>,
}
/// What came of one case.
#[derive(Clone, Serialize)]
pub(crate) struct Run {
    /// `public`, or `hidden` and its number.
    pub(crate) round: String,
    pub(crate) case: String,
    pub(crate) status: Status,
    /// In words: what was measured, or why nothing was.
    pub(crate) detail: String,
    /// Of a small public case, what the function was given.
    pub(crate) inputs: Option<String>,
    pub(crate) error: Option<f64>,
    pub(crate) bound: f64,
    pub(crate) ratio: Option<f64>,
    pub(crate) operations: Option<u64>,
    pub(crate) limit: u64,
}
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Status {
    Pass,
    /// A number is wrong.
    Wrong,
    /// More operations than a derivation needs.
    Operations,
    /// It stopped itself, by a panic or otherwise.
    Stopped,
    TimeOut,
    NotRun,
}
impl Status {
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Pass => "passed",
            Self::Wrong => "wrong",
            Self::Operations => "too many operations",
            Self::Stopped => "stopped",
            Self::TimeOut => "out of time",
            Self::NotRun => "not run",
        }
    }
}

/// One case, as the judge tells it.
pub(crate) struct Case {
    pub(crate) task: String,
    name: String,
    limit: u64,
    names: Vec<String>,
    /// What the submission is told.
    pub(crate) input: String,
    pub(crate) outputs: Vec<Vec<f64>>,
}
impl Case {
    /// Sizes and inputs, in the order of the call, if they are few.
    fn inputs(&self) -> Option<String> {
        const MOST: usize = 24;
        let mut fields = self.input.split('\t');
        let (call, sizes) = (fields.next()?, fields.next()?);
        let inputs: Vec<_> = fields.map(numbers).collect::<Option<_>>()?;
        let all: usize = inputs.iter().map(Vec::len).sum();
        let said = inputs.iter().map(|x| format!("{x:.4?}"));
        let said = said.collect::<Vec<_>>().join(" ");
        let call = format!("{call} ({sizes}) {said}");
        (all <= MOST).then_some(call)
    }
}
/// Cases that were made from one seed.
struct Round {
    name: String,
    cases: Vec<Case>,
}

pub(crate) fn numbers(field: &str) -> Option<Vec<f64>> {
    let one = |b| u64::from_str_radix(b, 16).ok().map(f64::from_bits);
    field.split_whitespace().map(one).collect()
}
fn cases(text: &str) -> Result<Vec<Case>> {
    let lines: Vec<&str> = text.lines().collect();
    let one = |lines: &[&str]| -> Option<Case> {
        let [head, input, outputs] = lines else { return None };
        let mut fields = head.split('\t').map(str::to_string);
        let (task, name) = (fields.next()?, fields.next()?);
        let limit = fields.next()?.parse().ok()?;
        let names = fields.next()?.split(' ').map(str::to_string).collect();
        let outputs = outputs.split('\t').map(numbers);
        let outputs = outputs.collect::<Option<_>>()?;
        Some(Case {
            task,
            name,
            limit,
            names,
            input: input.to_string(),
            outputs,
        })
    };
    let cases = lines.chunks(3).map(one).collect::<Option<Vec<_>>>();
    cases.context("the judge's words are garbled")
}
/// The seeds of the hidden rounds.
fn mix(seed: u64, round: u64) -> u64 {
    let x = seed.wrapping_add(round.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
/// All rounds: the public one, and with a seed the hidden ones.
///
/// # Errors
/// If a task has not as many cases as it declares, or two inputs are the same.
fn rounds(
    m: &Machine, a: &Assignment, variant: &Variant, seed: Option<u64>,
) -> Result<Vec<Round>> {
    let mut rounds = vec![("public".to_string(), PUBLIC)];
    if let Some(seed) = seed {
        let hidden = |i| (format!("hidden {i}"), mix(seed, i));
        rounds.extend((1..=HIDDEN).map(hidden));
    }
    let mut seen = BTreeSet::new();
    let mut made = vec![];
    for (name, seed) in rounds {
        let cases = cases(&m.judge(a, &variant.name, seed)?)?;
        for task in &a.tasks {
            let n = cases.iter().filter(|c| c.task == task.id).count();
            let (id, declared) = (&task.id, task.cases);
            ensure!(n == declared, "task {id}: {n} cases, {declared} declared");
        }
        for case in &cases {
            let new = seen.insert(case.input.clone());
            ensure!(
                new,
                "{name}: {}: these inputs were there before; \
                 choose another seed",
                case.name
            );
        }
        made.push(Round { name, cases });
    }
    Ok(made)
}

/// The public cases.
pub(crate) fn public(
    m: &Machine, a: &Assignment, variant: &Variant,
) -> Result<Vec<Case>> {
    cases(&m.judge(a, &variant.name, PUBLIC)?)
}

/// Grades the files of a submission, or what is wrong with them.
///
/// # Errors
/// If the grader itself fails; whatever a submission does is its result.
pub(crate) fn grade(
    m: &Machine, a: &Assignment, variant: &Variant,
    files: &Result<Sources, Vec<String>>, options: Options,
) -> Result<Grade> {
    let start = Instant::now();
    let rounds = rounds(m, a, variant, options.seed)?;
    let room = m.room("submission")?;
    let mut problems = vec![];
    let mut built = None;
    match files {
        Err(faults) => problems.clone_from(faults),
        Ok(files) => {
            if options.scan {
                for (name, text) in files {
                    problems.extend(m.scan(name, text)?);
                }
            }
            if problems.is_empty() {
                match m.submission(a, files, &room)? {
                    Ok(program) => built = Some(program),
                    Err(said) => problems.push(first_error(&said)),
                }
            }
        }
    }
    let build_seconds = start.elapsed().as_secs_f64();
    let mut executed = 0;
    // a task whose points are lost is not worth more of the machine's time
    let mut slow: Vec<&str> = vec![];
    let mut runs: Vec<(&str, Run)> = vec![];
    for round in &rounds {
        for case in &round.cases {
            let Some(program) = &built else { continue };
            let run = if slow.contains(&&case.task[..]) {
                let why = "a case of this task ran out of time before";
                run(round, case, Status::NotRun, why.into())
            } else {
                one(m, program, round, case, options)?
            };
            executed += 1;
            if run.status == Status::TimeOut {
                slow.push(&case.task);
            }
            runs.push((&case.task, run));
        }
    }
    let declared = rounds.iter().map(|r| r.cases.len()).sum();
    if built.is_some() {
        ensure!(executed == declared, "{executed} of {declared} cases ran");
    }
    let outcome = |task: &Task| {
        let cases = runs.iter().filter(|(id, _)| *id == task.id);
        let cases: Vec<Run> = cases.map(|(_, run)| run.clone()).collect();
        let all = task.cases * rounds.len();
        let passed = cases.len() == all
            && cases.iter().all(|r| r.status == Status::Pass);
        Outcome {
            task: task.id.clone(),
            title: task.title.clone(),
            points: task.points,
            score: if passed { task.points } else { 0 },
            passed,
            hint: (!passed).then(|| task.hints[0].clone()),
            cases,
        }
    };
    let tasks: Vec<Outcome> = a.tasks.iter().map(outcome).collect();
    let count = |hidden: bool| {
        let of = |r: &&Run| (r.round != "public") == hidden;
        let all = tasks.iter().flat_map(|t| &t.cases).filter(of);
        let passed = all.clone().filter(|r| r.status == Status::Pass).count();
        format!("{passed} of {}", all.count())
    };
    let verdict = if !problems.is_empty() {
        "not run".to_string()
    } else if options.seed.is_some() {
        let (public, hidden) = (count(false), count(true));
        format!("{public} public cases passed, and {hidden} hidden ones")
    } else {
        format!("{} public cases passed; no hidden case was run", count(false))
    };
    let no_std = m.bare.is_some();
    let namespaces = m.grants.namespaces && options.namespaces;
    let grants = Grants { namespaces, ..m.grants };
    let ours = [(options.scan, "scan"), (no_std, "no_std")];
    let ours = ours.into_iter().filter(|(there, _)| !there);
    let mut missing: Vec<_> = ours.map(|(_, what)| what).collect();
    missing.extend(grants.missing());
    let paper = Paper {
        points: a.paper.points,
        score: options.paper,
        status: options.paper.map_or("not graded", |_| "graded"),
    };
    Ok(Grade {
        schema: SCHEMA,
        assignment: a.id.clone(),
        title: a.title.clone(),
        variant: variant.name.clone(),
        seed: options.seed,
        score: tasks.iter().map(|t| t.score).sum(),
        max_score: a.points(),
        paper,
        verdict,
        problems,
        isolation: Isolation {
            scan: options.scan,
            no_std,
            limits: grants.limits,
            memory: grants.memory,
            namespaces,
            missing,
        },
        declared,
        executed,
        tasks,
        toolchain: m.toolchain.clone(),
        times: Times {
            build_seconds,
            total_seconds: start.elapsed().as_secs_f64(),
        },
    })
}

fn run(round: &Round, case: &Case, status: Status, detail: String) -> Run {
    Run {
        round: round.name.clone(),
        case: case.name.clone(),
        status,
        detail,
        inputs: (round.name == "public").then(|| case.inputs()).flatten(),
        error: None,
        bound: BOUND,
        ratio: None,
        operations: None,
        limit: case.limit,
    }
}

/// Runs one case in a process of its own, and compares what comes out.
fn one(
    m: &Machine, program: &Path, round: &Round, case: &Case, options: Options,
) -> Result<Run> {
    let random = || RandomState::new().hash_one(program);
    let nonce = format!("{:016x}{:016x}", random(), random());
    let told = format!("{nonce}\n{}\n", case.input);
    let limits = Limits {
        seconds: 2,
        megabytes: 1000,
        namespaces: options.namespaces,
        writes: false,
    };
    let not = |status, why| Ok(run(round, case, status, why));
    let out = match m.run(Command::new(program), &told, limits)? {
        End::TimeOut(s) => {
            return not(Status::TimeOut, format!("no result after {s} s"));
        }
        End::Killed { signal, err } => {
            let why = panic(&err).unwrap_or(format!("ended by {signal}"));
            return not(Status::Stopped, why);
        }
        End::Exit { good: false, err, .. } => {
            let why = panic(&err).unwrap_or("ended without a result".into());
            return not(Status::Stopped, why);
        }
        End::Exit { out, .. } => out,
    };
    let line = out.lines().find_map(|l| l.strip_prefix(&nonce[..]));
    let Some(line) = line else {
        return not(Status::Stopped, "ended before its result was told".into());
    };
    let mut fields = line.trim_start().split('\t');
    let operations = fields.next().and_then(|n| n.trim().parse().ok());
    let outputs = fields.map(numbers).collect::<Option<Vec<_>>>();
    let (Some(operations), Some(outputs)) = (operations, outputs) else {
        return not(Status::Stopped, "its result is garbled".into());
    };
    let mut run = compared(round, case, &outputs);
    run.operations = Some(operations);
    if run.status == Status::Pass && operations > case.limit {
        run.status = Status::Operations;
        run.detail = format!(
            "{operations} operations; {} are allowed. The numbers are right, \
             but this is not the derived formula",
            case.limit
        );
    }
    Ok(run)
}

/// The worst element of all outputs, in words.
fn compared(round: &Round, case: &Case, outputs: &[Vec<f64>]) -> Run {
    let mut worst: Option<(f64, f64, String)> = None;
    if outputs.len() != case.outputs.len() {
        let why = format!("{} outputs", outputs.len());
        return run(round, case, Status::Wrong, why);
    }
    let all = case.names.iter().zip(&case.outputs).zip(outputs);
    for ((name, want), got) in all {
        if got.len() != want.len() {
            let (got, want) = (got.len(), want.len());
            let why = format!("{name} has {got} elements, not {want}");
            return run(round, case, Status::Wrong, why);
        }
        let size = want.iter().fold(0.0, |m: f64, w| m.max(w.abs()));
        let size = if size == 0.0 { 1.0 } else { size };
        for (i, (got, want)) in got.iter().zip(want).enumerate() {
            let error = (got - want).abs() / size;
            let worse = worst.as_ref().is_none_or(|(most, ..)| {
                !most.is_nan() && (error > *most || error.is_nan())
            });
            if worse {
                let ratio = got / want;
                let words = format!("{name}[{i}] is {got:.6e}, not {want:.6e}");
                worst = Some((error, ratio, words));
            }
        }
    }
    let (error, ratio, words) = worst.unwrap_or((0.0, 1.0, String::new()));
    let good = error <= BOUND;
    let status = if good { Status::Pass } else { Status::Wrong };
    let mut detail = format!("error {error:.1e}, bound {BOUND:.0e}");
    if !good {
        let meaning = crate::ratio::hint(ratio);
        detail += &format!("; {words}, ratio {ratio:.4} ({meaning})");
    }
    let finite = |x: f64| x.is_finite().then_some(x);
    let mut run = run(round, case, status, detail);
    (run.error, run.ratio) = (finite(error), finite(ratio));
    run
}

/// What a panic, or the runtime, said last.
fn panic(err: &str) -> Option<String> {
    let mut lines = err.lines().skip_while(|l| !l.contains("panicked at"));
    let said = if let Some(place) = lines.next() {
        let place = place.split("panicked at ").nth(1).unwrap_or_default();
        let place = place.trim_end_matches(':');
        format!("{} ({place})", lines.next().unwrap_or_default())
    } else {
        // the runtime's words have a process id in them
        if err.contains("overflowed its stack") {
            return Some("its stack overflowed".into());
        }
        err.lines().find(|l| l.contains("memory allocation"))?.to_string()
    };
    let said: String = said.chars().take(200).collect();
    Some(said.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The first error of a compiler, on one line.
fn first_error(said: &str) -> String {
    // not a warning about something that is called so
    let error = |l: &&str| l.starts_with("error") || l.contains(": error");
    let error = said.lines().find(error);
    let error = error.or(said.lines().next()).unwrap_or("no message");
    format!(
        "it does not build: {}",
        error.chars().take(300).collect::<String>()
    )
}
