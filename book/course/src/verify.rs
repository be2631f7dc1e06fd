//! Shows that starters, solutions, mutants and cheats get what they should.

use crate::assignment::{Assignment, Course, Sources, edit, submitted};
use crate::grade::{Grade, Options, Status, grade, numbers, public};
use crate::holes::Track;
use crate::machine::{HARNESS, Machine, plain};
use crate::rows::rows;
use crate::scan::exports;
use crate::table::Table;
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Instant;

/// The hidden seeds of the sample solutions. What loses points already loses
/// them on the public cases, which are fewer.
const SEEDS: [u64; 3] = [3, 20, 1999];

/// Verifies the assignments of these names, by the name `cheats` the book's cheats,
/// by `build` the library with holes; without names, everything. Whether all is as
/// it should be.
pub(crate) fn verify(course: &Course, ids: &[String]) -> Result<bool> {
    let start = Instant::now();
    let machine = Machine::new()?;
    let cheating = ids.iter().any(|id| id == "cheats");
    let all = if ids.is_empty() {
        course.assignments()?
    } else {
        let others = ["build", "cheats"];
        let ids = ids.iter().filter(|id| !others.contains(&id.as_str()));
        ids.map(|id| course.find(id)).collect::<Result<_>>()?
    };
    let mut table = Table { rows: 0, faults: 0 };
    // a submission depends on the kit alone, and the kit solves nothing
    let kit = fs::read_to_string(Path::new(HARNESS).join("kit/lib.rs"))?;
    let kit = exports(&kit)?.join(", ");
    table.row("what the kit exports", kit == "vec, Vec, Real", &kit);
    for a in &all {
        println!("\n{} · {}", a.id, a.title);
        one(&machine, a, &mut table)?;
    }
    if cheating || ids.is_empty() && course.seed.is_none() {
        let first = Course::open(None)?.assignments()?;
        let first = first.first().context("no assignment")?;
        println!("\nfiles that are no submission");
        damaged(&machine, first, &mut table)?;
        println!("\ncheats: points with the scan, and without it");
        cheats(&machine, first, &mut table)?;
    }
    let track = "build".to_string();
    if course.seed.is_none() && (ids.is_empty() || ids.contains(&track)) {
        println!("\nbuild it yourself");
        rows(&Track::open()?, &mut table)?;
    }
    let Table { rows, faults } = table;
    let seconds = start.elapsed().as_secs();
    println!("\n{rows} rows, {faults} wrong, {seconds} s");
    Ok(faults == 0)
}

/// An assignment: its starter, its solutions, its mutants.
fn one(m: &Machine, a: &Assignment, table: &mut Table) -> Result<()> {
    let first = a.variant(None)?;
    let max = a.points();
    let score = |g: &Grade| {
        let problem = g.problems.first().map(|p| format!("; {p}"));
        format!("{} of {max}{}", g.score, problem.unwrap_or_default())
    };
    let points = max + a.paper.points;
    table.row("points", points == 100, &format!("{points}"));
    let rubric = a.rubric()?;
    let paper = a.paper.points;
    table.row("rubric", rubric == paper, &format!("{rubric} of {paper}"));
    page(a, table)?;
    // for a conversation, with what a good answer has in it
    let oral =
        fs::read_to_string(a.folder.join("oral.md")).context("oral.md")?;
    let asked = |l: &&str| {
        l.split_once(". **")
            .is_some_and(|(n, q)| n.parse::<u32>().is_ok() && q.ends_with("**"))
    };
    let n = oral.lines().filter(asked).count();
    let answers = oral.lines().filter(|l| l.starts_with("   ")).count();
    let found = format!("{n}, and {answers} answers");
    table.row("questions", n == 10 && answers == 10, &found);
    for variant in &a.variants {
        let starter = a.starter(variant)?;
        let room = m.room("warnings")?;
        let said = m.warnings(a, &starter, &room)?;
        let what = format!("starter, {}", variant.name);
        let found = said.as_deref().unwrap_or("no warning");
        table.row(&what, said.is_none(), found);
        let g = grade(m, a, variant, &Ok(starter), Options::new(None))?;
        let details = g.tasks.iter().flat_map(|t| &t.cases);
        let details: Vec<_> = details.map(|r| &r.detail).collect();
        let holes = a.holes()?;
        let reached = |h: &&String| {
            let said = format!("not yet implemented: task {h} (");
            details.iter().any(|d| d.starts_with(&said))
        };
        let (n, k) = (holes.iter().filter(reached).count(), holes.len());
        let good = n == k && g.score == 0 && g.problems.is_empty();
        let found = format!("{}; {n} of {k} holes reached", score(&g));
        table.row(&what, good, &found);
    }
    for variant in &a.variants {
        let files = Ok(a.solution(variant)?);
        let mut once = None;
        for seed in SEEDS {
            let g = grade(m, a, variant, &files, Options::new(Some(seed)))?;
            if once.is_none() {
                once = Some(without_times(&g)?);
            }
            let good = g.score == max && g.paper.score.is_none();
            let (n, of) = (g.executed, g.declared);
            let found = format!(
                "{}, {n} of {of} cases; on paper {}; {}",
                score(&g),
                g.paper.status,
                operations(&g)
            );
            let what = format!("solution, {}, seed {seed}", variant.name);
            table.row(&what, good && n == of, &found);
        }
        let options = Options::new(Some(SEEDS[0]));
        let again = without_times(&grade(m, a, variant, &files, options)?)?;
        let same = Some(again) == once;
        let found = if same { "the same" } else { "not the same" };
        table.row("its grade again, but for times", same, found);
        for other in a.variants.iter().filter(|o| o.name != variant.name) {
            let g = grade(m, a, other, &files, Options::new(None))?;
            let what = format!("solution, {}, as {}", variant.name, other.name);
            table.row(&what, g.score < max, &score(&g));
        }
    }
    // as on a hosted grader that refuses namespaces
    let bare = Options { namespaces: false, ..Options::new(None) };
    let g = grade(m, a, first, &Ok(a.solution(first)?), bare)?;
    let said = g.isolation.missing.contains(&"namespaces");
    let found =
        format!("{}; missing: {}", score(&g), g.isolation.missing.join(", "));
    table.row("solution without namespaces", g.score == max && said, &found);
    let mutants = a.mutants.len();
    table.row("mutants", mutants >= 6, &format!("{mutants}"));
    for mutant in &a.mutants {
        let files = Ok(a.mutated(mutant)?);
        let g = grade(m, a, first, &files, Options::new(None))?;
        let own = g.tasks.iter().find(|t| t.task == mutant.task);
        let own = own.context("a mutant of a task that is not there")?;
        let lost = !own.passed && g.problems.is_empty();
        let what = format!("mutant of task {}, {}", mutant.task, mutant.name);
        let ratio = own.cases.iter().find(|r| r.status != Status::Pass);
        let why = ratio.map_or("", |r| r.status.words());
        table.row(&what, lost, &format!("{}, {why}", score(&g)));
    }
    Ok(())
}
/// The largest part of the allowed operations that was used.
fn operations(g: &Grade) -> String {
    let all = g.tasks.iter().flat_map(|t| &t.cases);
    let part = |o: Option<u64>, limit| o.unwrap_or(0) as f64 / limit as f64;
    let most = all.map(|r| part(r.operations, r.limit)).fold(0.0, f64::max);
    format!("{:.0} % of the operations allowed", 100.0 * most)
}
fn without_times(g: &Grade) -> Result<serde_json::Value> {
    let mut value = serde_json::to_value(g)?;
    let object = value.as_object_mut().context("a grade is an object")?;
    object.remove("times").context("times")?;
    Ok(value)
}
/// The page tells the same as the assignment.
fn page(a: &Assignment, table: &mut Table) -> Result<()> {
    let text = a.page()?;
    let mut missing = vec![];
    for t in &a.tasks {
        let row = format!("| {} | {} | {} |", t.id, t.title, t.points);
        if !text.contains(&row) {
            missing.push(row);
        }
    }
    for v in &a.variants {
        if !text.contains(&format!("`{}`", v.name)) {
            missing.push(v.name.clone());
        }
    }
    let chapters = a.after.iter().map(|c| format!("{{{{#chapter {c}}}}}"));
    for said in chapters.chain([a.paper.question.clone()]) {
        if !text.contains(&said) {
            missing.push(said);
        }
    }
    let found = if missing.is_empty() {
        "tasks, points and variants".to_string()
    } else {
        format!("lacks {}", missing.join(", "))
    };
    table.row("page", missing.is_empty(), &found);
    Ok(())
}

/// A submission whose files are missing, links, too long, or no text: a result
/// in words.
fn damaged(m: &Machine, a: &Assignment, table: &mut Table) -> Result<()> {
    let file = a.files.first().context("no file")?;
    let first = a.variant(None)?;
    for what in [
        "missing",
        "a folder",
        "too long",
        "no text",
        "a link",
        "behind a link",
        "there twice",
        "a pipe",
    ] {
        let folder = m.room("damaged")?;
        let place = folder.join(file);
        match what {
            "a folder" => fs::create_dir(&place)?,
            "too long" => fs::write(&place, " ".repeat(300_000))?,
            "no text" => fs::write(&place, [0xff, 0xfe])?,
            "there twice" => {
                fs::create_dir(folder.join("src"))?;
                for to in [folder.join("src").join(file), place.clone()] {
                    fs::copy(a.folder.join(file), to)?;
                }
            }
            #[cfg(unix)]
            "a pipe" => {
                // a pipe that nobody writes to, which must not be waited for
                let made = std::process::Command::new("mkfifo")
                    .arg(&place)
                    .status()?;
                ensure!(made.success(), "mkfifo: {made}");
            }
            #[cfg(unix)]
            "a link" => {
                std::os::unix::fs::symlink(a.folder.join(file), &place)?;
            }
            #[cfg(unix)]
            "behind a link" => {
                let to = folder.join("src");
                std::os::unix::fs::symlink(&a.folder, to)?;
            }
            _ => {}
        }
        let files = submitted(a, &folder);
        let g = grade(m, a, first, &files, Options::new(None))?;
        let said = g.problems.join("; ");
        table.row(what, g.score == 0 && !said.is_empty(), &said);
    }
    Ok(())
}

/// `cheats.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cheats {
    #[serde(rename = "cheat")]
    cheats: Vec<Cheat>,
}
/// A way to get points without the answer.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cheat {
    name: String,
    /// What stands in every hole; `todo!()` if it is not given.
    #[serde(default)]
    body: String,
    /// What stands in single holes, by their number.
    #[serde(default)]
    holes: BTreeMap<String, String>,
    /// Items besides, at the end of the file.
    #[serde(default)]
    items: String,
    /// What else is changed, such as a signature.
    #[serde(default)]
    edits: Vec<[String; 2]>,
    /// Only the scan sees it: it includes the solution from a disk that has it,
    /// or uses a hole of the compiler.
    #[serde(default)]
    scan_only: bool,
    /// Graded twice: it looks at what may differ from run to run.
    #[serde(default)]
    again: bool,
    /// It gets the public cases right: only hidden ones see it.
    #[serde(default)]
    public: bool,
}

fn cheats(m: &Machine, a: &Assignment, table: &mut Table) -> Result<()> {
    let first = a.variant(None)?;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("cheats.toml");
    let text = fs::read_to_string(&file).context("cheats.toml")?;
    let solution = a.folder.join(a.files.first().context("no file")?);
    let text = text.replace("SOLUTION", &solution.display().to_string());
    let deep = format!("{}1{}", "(".repeat(10_000), ")".repeat(10_000));
    let text = text.replace("DEEP", &deep);
    let macros: String = (0..1000).map(|i| format!("m{i}!{{}} ")).collect();
    let text = text.replace("THOUSAND", &macros);
    let text = text.replace("PUBLIC", &memorized(m, a)?);
    let Cheats { cheats } = toml::from_str(&text).context("cheats.toml")?;
    ensure!(!cheats.is_empty(), "cheats.toml: no cheat");
    for cheat in &cheats {
        let files = cheat.sources(a)?;
        let graded = |scan| {
            let seed = cheat.public.then_some(SEEDS[0]);
            let options = Options { scan, ..Options::new(seed) };
            grade(m, a, first, &Ok(files.clone()), options)
        };
        let (with, without) = (graded(true)?, graded(false)?);
        let good = with.score == 0 && (without.score == 0 || cheat.scan_only);
        let good = good && readable(a, &with) && readable(a, &without);
        let found = format!(
            "{} ({}); {} ({})",
            with.score,
            why(&with),
            without.score,
            why(&without)
        );
        table.row(&cheat.name, good, &found);
        // where the system grants it, no address differs either
        if cheat.again && m.steady {
            let same =
                without_times(&without)? == without_times(&graded(false)?)?;
            let found = if same { "the same" } else { "not the same" };
            table.row("its grade again, but for times", same, found);
        }
    }
    Ok(())
}
/// Code that knows the third task's public answers by heart.
fn memorized(m: &Machine, a: &Assignment) -> Result<String> {
    let mut code = String::new();
    for case in public(m, a, a.variant(None)?)? {
        let inputs: Vec<_> = case.input.split('\t').skip(2).collect();
        let (Some(y), "3") = (case.outputs.first(), &case.task[..]) else {
            continue;
        };
        let input = inputs.first().and_then(|x| numbers(x));
        let x = input.context("inputs")?;
        code += &format!(
            "if dz.len() == {} && dp[0] == T::of({:?}) {{ for (d, y) in \
             dz.iter_mut().zip({y:?}) {{ *d = T::of(y); }} }} ",
            y.len(),
            x.first().context("an element")?
        );
    }
    Ok(code)
}
impl Cheat {
    fn sources(&self, a: &Assignment) -> Result<Sources> {
        let mut files = a.filled(a.variant(None)?, |hole| {
            let id = hole.split(':').next().unwrap_or_default();
            match self.holes.get(id) {
                Some(code) => code.clone(),
                None if self.body.is_empty() => "todo!()".into(),
                None => self.body.clone(),
            }
        })?;
        if let Some((_, text)) = files.first_mut() {
            *text += &self.items;
        }
        edit(&mut files, &self.edits).with_context(|| self.name.clone())?;
        Ok(files)
    }
}
/// Whether nothing that a cheat wrote moves a cursor, is a line of a report by
/// itself, or fills a screen.
fn readable(a: &Assignment, g: &Grade) -> bool {
    const MOST: usize = 30;
    const LONGEST: usize = 400;
    let details = g.tasks.iter().flat_map(|t| &t.cases).map(|r| &r.detail);
    let simple = |said: &String| {
        plain(said) == *said
            && !said.contains('\n')
            && said.chars().count() <= LONGEST
    };
    let begins = |said: &String| {
        let files = a.files.iter().map(|f| &f[..]);
        let mut all = files.chain(["it does not build: "]);
        all.any(|beginning| said.starts_with(beginning))
    };
    details.chain(&g.problems).all(simple)
        && g.problems.iter().all(begins)
        && g.problems.len() <= MOST
}
/// What a cheat met.
fn why(g: &Grade) -> String {
    let short = |s: &str| s.chars().take(90).collect::<String>();
    if let Some(problem) = g.problems.first() {
        return short(problem);
    }
    let all: Vec<_> = g.tasks.iter().flat_map(|t| &t.cases).collect();
    let not =
        |r: &&&crate::grade::Run| !r.detail.contains("not yet implemented");
    let lost = all.iter().filter(|r| r.status != Status::Pass);
    let first = lost.clone().find(not).or(lost.clone().next());
    first.map_or(String::new(), |r| {
        short(&format!("{}: {}", r.status.words(), r.detail))
    })
}
