//! Chapter: gradcheck. Rung T9: equations, code, tests and proofs are complete
//! against each other. That this can fail is tested here and in
//! `book/registry`.
#![allow(missing_docs, reason = "a test is documented by its name")]

use moe_by_hand::check::CHECKS;
use moe_by_hand::gradcheck::{Measure, Report, Rung};
use registry::{Equation, Kind, Registry};
use std::path::Path;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
fn equations() -> Vec<Equation> {
    Registry::load(root()).unwrap_or_else(|e| panic!("{e}")).equations
}
#[track_caller]
fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn everything_is_bound() {
    let problems = registry::problems(root());
    let lines: Vec<_> = problems.iter().map(|p| p.to_string()).collect();
    assert_none(&lines);
}

/// What stands in one of the two lists only. A definition needs no proof.
fn unmatched(equations: &[Equation], checks: &[&str]) -> Vec<String> {
    let mut faults = vec![];
    for e in equations {
        let (id, kind) = (&e.id, e.kind);
        match (kind, checks.contains(&id.as_str())) {
            (Kind::Definition, false) => {}
            (Kind::Definition, true) => faults.push(format!(
                "equations.toml: [{id}] has a check, but a definition needs \
                 none; remove the check, or make it an identity"
            )),
            (_, true) => {}
            (_, false) => faults.push(format!(
                "equations.toml: [{id}] of kind {kind} has no check; add one \
                 to src/check"
            )),
        }
    }
    for (i, id) in checks.iter().enumerate() {
        if equations.iter().all(|e| e.id != *id) {
            faults.push(format!(
                "src/check: `{id}` is no equation; add [{id}] to \
                 equations.toml"
            ));
        }
        if checks[..i].contains(id) {
            faults.push(format!("src/check: `{id}` twice; remove one"));
        }
    }
    faults
}

#[test]
fn every_equation_has_a_check_and_every_check_an_equation() {
    let ids: Vec<_> = CHECKS.iter().map(|c| c.id).collect();
    assert_none(&unmatched(&equations(), &ids));
}

#[test]
fn both_lists_are_in_the_order_of_the_chapters() {
    let equations = equations();
    let proven = equations.iter().filter(|e| e.kind != Kind::Definition);
    let proven: Vec<_> = proven.map(|e| e.id.as_str()).collect();
    let checks: Vec<_> = CHECKS.iter().map(|c| c.id).collect();
    assert_eq!(proven, checks, "equations.toml against src/check");
}

#[test]
fn checks_are_composed_of_checks() {
    for c in CHECKS.iter() {
        for part in c.of {
            let known = CHECKS.iter().any(|c| c.id == *part);
            assert!(known, "src/check: `{}` is of `{part}`: no check", c.id);
        }
    }
}

/// The rungs that a check of such an equation has to stand on. Differences
/// of every element of a whole model would take hours: there T3 and T4 stand
/// for T1. A fast twin has to be held to the plain kernel.
fn rungs(e: &Equation, inexact: bool) -> Vec<Rung> {
    let mut rungs = match (e.kind, e.id.as_str()) {
        (Kind::Backward, "model-backward") => {
            vec![Rung::T2, Rung::T3, Rung::T4, Rung::T10]
        }
        (Kind::Backward, _) => vec![Rung::T1, Rung::T2, Rung::T10],
        _ => vec![],
    };
    rungs.retain(|&rung| rung != Rung::T10 || !inexact);
    rungs.extend(e.fast.as_ref().map(|_| Rung::T5));
    rungs
}
/// What a report lacks.
fn unmeasured(e: &Equation, report: &Report) -> Vec<String> {
    let Equation { id, kind, .. } = e;
    if report.measures.is_empty() {
        return vec![format!("src/check: `{id}` measures nothing")];
    }
    let has = |rung| report.measures.iter().any(|m| m.rung == rung);
    let inexact = !report.unmeasured.is_empty();
    let missing = rungs(e, inexact).into_iter().filter(|&rung| !has(rung));
    let say = |rung| match rung {
        Rung::T5 => format!(
            "src/check: `{id}` has a `fast` twin and does not measure T5; \
             add it there"
        ),
        _ => {
            format!("src/check: `{id}` of kind {kind} does not measure {rung}")
        }
    };
    missing.map(say).collect()
}

#[test]
fn every_check_stands_on_its_rungs() {
    let faults = equations().into_iter().flat_map(|e| {
        let check = moe_by_hand::check::find(&e.id);
        check.map_or(vec![], |c| match c.measure() {
            Ok(report) => unmeasured(&e, &report),
            Err(panic) => vec![format!("src/check: `{}`: {panic}", c.id)],
        })
    });
    assert_none(&faults.collect::<Vec<_>>());
}

// The tests are tested ------------------------------------------------------

fn parse(text: &str) -> Vec<Equation> {
    Registry::parse(text).unwrap_or_else(|e| panic!("{e}")).equations
}
const THREE: &str = r#"
[width]
name = "Width"
kind = "definition"
tex = "D"

[y]
name = "Y"
kind = "forward"
tex = "y"

[y-backward]
name = "Y, backward"
kind = "backward"
tex = '\bar y'
"#;

#[test]
fn an_equation_without_check_is_found() {
    assert_eq!(unmatched(&parse(THREE), &["y", "y-backward"]), [""; 0]);
    assert_eq!(
        unmatched(&parse(THREE), &["y"]),
        [
            "equations.toml: [y-backward] of kind backward has no check; add one \
          to src/check"
        ]
    );
}

#[test]
fn a_check_without_equation_is_found() {
    let faults = unmatched(&parse(THREE), &["y", "y", "z", "y-backward"]);
    assert_eq!(
        faults,
        [
            "src/check: `y` twice; remove one",
            "src/check: `z` is no equation; add [z] to equations.toml"
        ]
    );
    let faults = unmatched(&parse(THREE), &["width", "y", "y-backward"]);
    assert_eq!(faults.len(), 1, "a definition with a check: {faults:?}");
}

fn report(rungs: &[Rung]) -> Report {
    let measure = |&rung| Measure { rung, ..Measure::invariant("x", 0.0, 1.0) };
    let measures = rungs.iter().map(measure).collect();
    Report { measures, ..Report::default() }
}

#[test]
fn an_equation_without_a_rung_is_found() {
    use Rung::{T1, T2, T3, T4, T5, T7, T10};
    let lacks = |id: &str, kind, fast: &str, rungs: &[Rung]| {
        let text =
            format!("[{id}]\nname = 'Y'\nkind = '{kind}'\ntex = 'y'\n{fast}\n");
        unmeasured(&parse(&text)[0], &report(rungs)).len()
    };
    let (back, fast) = (Kind::Backward, "fast = 'src/y.rs::y'");
    assert_eq!(lacks("y-backward", back, "", &[T1, T2, T10]), 0);
    assert_eq!(lacks("y-backward", back, "", &[T1, T2]), 1);
    assert_eq!(lacks("y-backward", back, "", &[T1, T7]), 2);
    assert_eq!(lacks("y-backward", back, "", &[T3, T4]), 3);
    assert_eq!(lacks("y-backward", back, fast, &[T1, T2, T10]), 1);
    assert_eq!(lacks("y-backward", back, fast, &[T1, T2, T10, T5]), 0);
    assert_eq!(lacks("model-backward", back, "", &[T2, T3, T4, T10]), 0);
    assert_eq!(lacks("model-backward", back, "", &[T2, T3, T10]), 1);
    assert_eq!(lacks("y", Kind::Forward, "", &[T7]), 0);
    assert_eq!(lacks("y", Kind::Forward, fast, &[T7]), 1);
    assert_eq!(lacks("y", Kind::Forward, "", &[]), 1);
    assert_eq!(lacks("shift", Kind::Identity, "", &[]), 1);
    // A reason why there is no T10 stands for it.
    let mut reason = report(&[T1, T2]);
    reason.unmeasured.push("T10: not measured: …".into());
    let text = "[y-backward]\nname = 'Y'\nkind = 'backward'\ntex = 'y'\n";
    assert_eq!(unmeasured(&parse(text)[0], &reason), [""; 0]);
}
