//! Chapter: gradcheck. `moe check`: the proofs as a table.

use crate::output::show;
use moe_by_hand::check::{CHECKS, Check};
use moe_by_hand::error::{Error, Result};
use moe_by_hand::gradcheck::{Measure, Report, Rung};
use serde::Deserialize;
use serde_json::json;
use std::collections::HashMap;
use std::panic;
use std::process::ExitCode;

/// The equations, as they were when the program was built.
const EQUATIONS: &str = include_str!("../../../equations.toml");
const RUNGS: [Rung; 7] =
    [Rung::T1, Rung::T2, Rung::T3, Rung::T4, Rung::T5, Rung::T7, Rung::T10];

#[derive(clap::Args)]
#[command(after_help = "\
Rungs:
  T1  every element of every gradient against central differences in f64
  T2  every tensor against dual numbers: ⟨ȳ, J·u⟩ = ⟨Jᵀȳ, u⟩
  T3  the whole model against central differences, each loss by itself
  T4  the error of a difference falls a hundredfold with a tenfold step
  T5  fast f32 kernels against their plain twins, on this CPU's instructions
  T7  formulas evaluated literally, and invariants
  T10 every tensor over a finite field, where both sides are equal or not

Examples:
  moe check                 every equation; exit 1 if any bound is broken
  moe check rmsnorm         those whose id contains `rmsnorm`
  moe check --json          for programs")]
pub(crate) struct Args {
    /// Only equations whose id contains this
    name: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}
/// What this table needs of an entry of `equations.toml`.
#[derive(Deserialize)]
struct Entry {
    name: String,
    code: Option<String>,
}
/// What was measured of one equation, or the panic that ended it.
struct Outcome {
    check: &'static Check,
    report: std::result::Result<Report, String>,
    /// If it is broken: the innermost part that is, too.
    root: Option<&'static str>,
}
impl Outcome {
    fn of(check: &'static Check) -> Self {
        let report = check.measure();
        let holds = report.as_ref().is_ok_and(Report::holds);
        let root = if holds { None } else { check.root() };
        Self { check, report, root }
    }
    fn holds(&self) -> bool {
        self.report.as_ref().is_ok_and(Report::holds)
    }
    /// Whether the report says why something is not measured.
    fn inexact(&self) -> bool {
        self.report.as_ref().is_ok_and(|r| !r.unmeasured.is_empty())
    }
    fn worst(&self, rung: Rung) -> Option<&Measure> {
        self.report.as_ref().ok()?.worst(rung)
    }
    /// Those among the broken equations that this one is composed of: if it
    /// is broken, too, they are to be mended first. If none of them was asked
    /// for, the one at the root.
    fn rests_on<'a>(&self, broken: &[&'a str]) -> Vec<&'a str> {
        let part = |id: &&&str| self.check.of.contains(*id);
        let parts: Vec<_> = broken.iter().filter(part).copied().collect();
        if parts.is_empty() { self.root.into_iter().collect() } else { parts }
    }
    /// Why it does not hold, on one line or more.
    fn explain(&self, broken: &[&str]) -> String {
        let (id, roots) = (self.check.id, self.rests_on(broken));
        if !roots.is_empty() {
            let roots = roots.join(" and ");
            return format!("{id} rests on {roots}: mend that first");
        }
        let report = match &self.report {
            Ok(report) => report,
            Err(panic) => {
                return format!("{id} could not be measured: {panic}");
            }
        };
        format!("{id} does not hold:{}", report.broken())
    }
}

pub(crate) fn run(args: Args) -> Result<ExitCode> {
    let entries: HashMap<String, Entry> =
        toml::from_str(EQUATIONS).map_err(|e| {
            let rule = "it has to be valid TOML";
            Error::input("equations.toml", e.message(), rule, "correct it")
        })?;
    let named = |c: &&Check| {
        args.name.as_ref().is_none_or(|name| c.id.contains(name.as_str()))
    };
    let chosen: Vec<&Check> = CHECKS.iter().filter(named).collect();
    if chosen.is_empty() {
        return Err(Error::input(
            "the name",
            format!("`{}`", args.name.unwrap_or_default()),
            "no equation's id contains it",
            "type `moe check` to see them all",
        ));
    }
    // A check that panics is reported in its row, not in the middle of it.
    panic::set_hook(Box::new(|_| ()));
    let outcomes: Vec<Outcome> = chosen.into_iter().map(Outcome::of).collect();
    let _ = panic::take_hook();
    let broken = outcomes.iter().filter(|o| !o.holds());
    let broken: Vec<&str> = broken.map(|o| o.check.id).collect();
    let text = if args.json {
        let each = outcomes.iter().map(|o| as_json(o, &entries, &broken));
        format!("{:#}\n", json!(each.collect::<Vec<_>>()))
    } else {
        table(&outcomes, &entries, &broken)
    };
    show(&text)?;
    let all = outcomes.iter().all(Outcome::holds);
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
fn as_json(
    o: &Outcome, entries: &HashMap<String, Entry>, broken: &[&str],
) -> serde_json::Value {
    let rung = |r: &Rung| {
        let m = o.worst(*r)?;
        // JSON has no NaN: null says that something was read before it was
        // set.
        Some(json!({
            "rung": r.to_string(), "error": m.error, "bound": m.bound,
            "holds": m.holds(), "worst": m.what, "detail": m.detail,
        }))
    };
    let entry = entries.get(o.check.id);
    json!({
        "id": o.check.id,
        "name": entry.map(|e| &e.name),
        "code": entry.and_then(|e| e.code.as_ref()),
        "holds": o.holds(),
        "rests_on": if o.holds() { vec![] } else { o.rests_on(broken) },
        "rungs": RUNGS.iter().filter_map(rung).collect::<Vec<_>>(),
        "unmeasured": o.report.as_ref().map_or(&[][..], |r| &r.unmeasured),
        "panic": o.report.as_ref().err(),
    })
}
fn table(
    outcomes: &[Outcome], entries: &HashMap<String, Entry>, broken: &[&str],
) -> String {
    let code = |o: &Outcome| {
        let code = entries.get(o.check.id).and_then(|e| e.code.as_deref());
        code.unwrap_or("-")
    };
    let width = |length: &dyn Fn(&Outcome) -> usize| {
        outcomes.iter().map(length).max().unwrap_or(0).max(8) + 2
    };
    let id = width(&|o| o.check.id.len());
    let file = width(&|o| code(o).len());
    let mut text = format!(
        "{:<id$}{:<file$}{}",
        "equation",
        "code",
        RUNGS.map(|r| format!("{:<16}", format!("{r} error/bound"))).concat()
    );
    text = format!("{}\n", text.trim_end());
    for o in outcomes {
        let cell = |r| match o.worst(r) {
            Some(m) if r == Rung::T10 && m.holds() => "exact".into(),
            Some(_) if r == Rung::T10 => "not equal".into(),
            Some(m) if m.bound == 0.0 => format!("{:.0e}/0", m.error),
            Some(m) => format!("{:.1e}/{:.0e}", m.error, m.bound),
            None if r == Rung::T10 && o.inexact() => "-".into(),
            None => String::new(),
        };
        let cells = RUNGS.map(|r| format!("{:<16}", cell(r))).concat();
        let verdict = if o.holds() { "" } else { " FAILS" };
        let line = format!("{:<id$}{:<file$}{cells}", o.check.id, code(o));
        text += &format!("{}{verdict}\n", line.trim_end());
    }
    let reports = outcomes.iter().filter_map(|o| {
        let report = o.report.as_ref().ok()?;
        Some((o.check.id, report.unmeasured.as_slice()))
    });
    for (id, lines) in reports.filter(|(_, lines)| !lines.is_empty()) {
        text += &format!("\n{id}: {}", lines.join("; "));
    }
    for o in outcomes.iter().filter(|o| !o.holds()) {
        text += &format!("\n{}\n", o.explain(broken));
    }
    let n = outcomes.len();
    text + &match broken.len() {
        0 => format!("\n{n} equations, every bound holds\n"),
        1 => format!("\n{n} equations, 1 does not hold\n"),
        bad => format!("\n{n} equations, {bad} do not hold\n"),
    }
}
