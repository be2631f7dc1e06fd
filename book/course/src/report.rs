//! A grade, written for people and for other programs.

use crate::grade::{Grade, Outcome, Run, Status};
use serde_json::{Value, json};

/// Where a missing wall is said in words.
fn isolation(g: &Grade) -> String {
    if g.isolation.missing.is_empty() {
        return String::new();
    }
    format!(
        "Isolation that was missing: {}. Run only files that you trust.\n",
        g.isolation.missing.join(", ")
    )
}
/// The case that a person should see first: a public one, if it is lost.
fn first_lost(o: &Outcome) -> Option<&Run> {
    o.cases.iter().find(|r| r.status != Status::Pass)
}
fn lost(r: &Run) -> String {
    let (status, round, case) = (r.status.words(), &r.round, &r.case);
    format!("{status}, {round} case “{case}”: {}", r.detail)
}

/// For a person: every lost point with what was measured and a hint.
pub(crate) fn text(g: &Grade) -> String {
    let (id, title, variant) = (&g.assignment, &g.title, &g.variant);
    let mut out = format!("{id} · {title} · variant {variant}\n");
    for problem in &g.problems {
        out += &format!("  {problem}\n");
    }
    for o in &g.tasks {
        let (task, title, score, points) =
            (&o.task, &o.title, o.score, o.points);
        out += &format!("\n{task}  {title}: {score} of {points}\n");
        if let Some(r) = first_lost(o) {
            let wrong = o.cases.iter().filter(|r| r.status != Status::Pass);
            out += &format!("   {}\n", lost(r));
            // the first that can be done by hand
            let small = o.cases.iter().find_map(|r| {
                let lost = r.status != Status::Pass;
                Some((&r.case, r.inputs.as_ref().filter(|_| lost)?))
            });
            if let Some((case, inputs)) = small {
                out += &format!("   by hand, “{case}”: {inputs}\n");
            }
            let (wrong, all) = (wrong.count(), o.cases.len());
            out += &format!("   {wrong} of {all} cases do not pass\n");
        }
        if let Some(hint) = o.hint.as_ref().filter(|_| g.problems.is_empty()) {
            out += &format!("   hint: {hint}\n");
            out +=
                &format!("   more: cargo course hint {id} {task} --level 2\n");
        }
    }
    let (paper, status) = (g.paper.points, g.paper.status);
    let paper = match g.paper.score {
        Some(score) => format!("{score} of {paper}"),
        None => format!("{status}; {paper} points, entered by --paper"),
    };
    out += &format!("\nOn paper: {paper}\n");
    let (score, max) = (g.score, g.max_score);
    out += &format!("Machine: {score} of {max}. {}.\n", g.verdict);
    out + &isolation(g)
}

/// Indented JSON, with an end of line.
pub(crate) fn pretty(value: &impl serde::Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

/// Gradescope's `results.json`. Students see the public cases only.
pub(crate) fn gradescope(g: &Grade) -> Value {
    let test = |o: &Outcome| {
        let public = |r: &&Run| r.round == "public" && r.status != Status::Pass;
        let output = match o.cases.iter().find(public) {
            Some(r) => lost(r),
            None if o.passed && g.seed.is_none() => {
                "Its public cases passed.".into()
            }
            None if o.passed => "Its public and hidden cases passed.".into(),
            None if o.cases.is_empty() => g.problems.join("\n"),
            None => "Its public cases passed; a hidden one did not.".into(),
        };
        let hint = o.hint.iter().map(|h| format!("\nHint: {h}"));
        json!({
            "number": o.task,
            "name": o.title,
            "score": o.score,
            "max_score": o.points,
            "status": if o.passed { "passed" } else { "failed" },
            "output": output + &hint.collect::<String>(),
            "visibility": "visible",
        })
    };
    let mut tests: Vec<Value> = g.tasks.iter().map(test).collect();
    if let Some(score) = g.paper.score {
        tests.push(json!({
            "name": "On paper", "score": score, "max_score": g.paper.points,
            "visibility": "visible",
        }));
    }
    let public = g.verdict.split(", and ").next().unwrap_or_default();
    let problems = g.problems.iter().map(|p| format!("{p}\n"));
    json!({
        "score": g.score + g.paper.score.unwrap_or(0),
        "execution_time": g.times.total_seconds.ceil(),
        "output": problems.collect::<String>() + public + "\n" + &isolation(g),
        "stdout_visibility": "hidden",
        "tests": tests,
    })
}

/// JUnit's XML: a suite for each submission, a test for each case.
pub(crate) fn junit(grades: &[(String, Grade)]) -> String {
    let mut out = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n"
        .to_string();
    for (name, g) in grades {
        let all: Vec<(&Outcome, &Run)> = g
            .tasks
            .iter()
            .flat_map(|o| o.cases.iter().map(move |r| (o, r)))
            .collect();
        let failed =
            all.iter().filter(|(_, r)| r.status != Status::Pass).count();
        let errors = usize::from(!g.problems.is_empty());
        let suite = xml(&format!("{} {name}", g.assignment));
        let tests = all.len() + errors;
        out += &format!(
            " <testsuite name=\"{suite}\" tests=\"{tests}\" \
             failures=\"{failed}\" errors=\"{errors}\">\n"
        );
        if errors > 0 {
            let why = xml(&g.problems.join("; "));
            out += &format!(
                "  <testcase classname=\"{suite}\" name=\"build\">\
                 <error message=\"{why}\"/></testcase>\n"
            );
        }
        for (o, r) in all {
            let class = xml(&format!("{}.{}", g.assignment, o.task));
            let case = xml(&format!("{}: {}", r.round, r.case));
            out +=
                &format!("  <testcase classname=\"{class}\" name=\"{case}\"");
            if r.status == Status::Pass {
                out += "/>\n";
            } else {
                let (status, why) = (r.status.words(), xml(&r.detail));
                out += &format!(
                    "><failure type=\"{status}\" message=\"{why}\"/>\
                     </testcase>\n"
                );
            }
        }
        out += " </testsuite>\n";
    }
    out + "</testsuites>\n"
}
fn xml(text: &str) -> String {
    let one = |c: char| match c {
        '&' => "&amp;".to_string(),
        '<' => "&lt;".into(),
        '>' => "&gt;".into(),
        '"' => "&quot;".into(),
        c if c.is_control() => " ".into(),
        c => c.into(),
    };
    text.chars().map(one).collect()
}

/// One line for each submission.
pub(crate) fn csv(grades: &[(String, Grade)]) -> String {
    let mut out = String::new();
    if let Some((_, g)) = grades.first() {
        let tasks = g.tasks.iter().map(|t| format!("task {}", t.task));
        let tasks = tasks.collect::<Vec<_>>().join(",");
        out += &format!("submission,machine,paper,{tasks},verdict,problems\n");
    }
    for (name, g) in grades {
        let tasks = g.tasks.iter().map(|t| t.score.to_string());
        let paper =
            g.paper.score.map_or("not graded".into(), |p| p.to_string());
        let mut fields = vec![quoted(name), g.score.to_string(), paper];
        fields.extend(tasks);
        fields.push(quoted(&g.verdict));
        fields.push(quoted(&g.problems.join("; ")));
        out += &fields.join(",");
        out.push('\n');
    }
    out
}
/// A field of CSV. One that begins as a formula gets a quotation mark, because
/// a spreadsheet would compute it.
fn quoted(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t']);
    let text = text.replace('"', "\"\"");
    format!("\"{}{text}\"", if formula { "'" } else { "" })
}
