//! Chapter: mutants. Which rule catches which of the planted mistakes.

use crate::csv::Csv;
use crate::wrong::judged::Row;
use moe_by_hand::gradcheck::Rung;

/// Rungs of the judge, and after them the rules of others.
const COLUMNS: [&str; 9] =
    ["T1", "T1′", "T2", "T3", "T4", "T10", "a", "b", "c"];
/// Where the first column begins, how wide one is, how high a row is.
const LEFT: f64 = 223.0;
const WIDE: f64 = 14.5;
const HIGH: f64 = 15.0;

/// What a rule says of a mistake.
#[derive(Clone, Copy, PartialEq)]
enum Says {
    Caught,
    /// With a probability.
    Perhaps,
    Nothing,
    NotAsked,
}
use Says::*;
impl Says {
    /// From a cell of the table.
    fn of(cell: &str) -> Self {
        match cell {
            "-" => NotAsked,
            "" => Nothing,
            _ => Caught,
        }
    }
    fn yes(caught: bool) -> Self {
        if caught { Caught } else { Nothing }
    }
}
/// What each column says of a mistake of the whole model.
fn says(row: &Row) -> Option<[Says; 9]> {
    let o = row.others.as_ref()?;
    let cell = |rung| Says::of(&row.cell(rung));
    // A tensor is a tensor, and one random element of it may be right.
    let random = match o.r1 {
        1.0 => Nothing,
        ..5e-4 => Caught,
        _ => Perhaps,
    };
    use Rung::{T1, T2, T3, T4, T10};
    let [t1, t2, t3, t4, t10] = [T1, T2, T3, T4, T10].map(cell);
    let again = match t1 {
        NotAsked => NotAsked,
        _ => Says::of(&row.again()),
    };
    let (llm_c, torch) = (Says::yes(!o.r3), Says::yes(!o.r4));
    Some([t1, again, t2, t3, t4, t10, random, llm_c, torch])
}
pub(crate) fn caught(rows: &[Row]) -> Csv {
    let all: Vec<_> =
        rows.iter().filter_map(|r| Some((r.name, says(r)?))).collect();
    let count = |column: usize, what: Says| {
        all.iter().filter(|(_, s)| s[column] == what).count()
    };
    let told = |column: usize| {
        let asked = all.len() - count(column, NotAsked);
        let (name, caught) = (COLUMNS[column], count(column, Caught));
        match count(column, Perhaps) {
            0 => format!("{name} {caught} of {asked}"),
            n => format!(
                "{name} {caught} of {asked} for certain and {n} perhaps"
            ),
        }
    };
    let told: Vec<_> = (0..COLUMNS.len()).map(told).collect();
    let mut csv = Csv::drawing(
        "caught",
        "Which rule catches which mistake: filled is caught, pale is caught \
         with some luck, an empty box is let through, and no box means that \
         the rule cannot be asked. T1 to T10 are the judge's rungs; T1′ is T1 \
         of a backward that runs a second time. a: one random element of each \
         tensor within 10⁻² + 10⁻²·|n|; b: each element within 2·10⁻²; c: \
         each within 10⁻⁵ + 10⁻³·|n|",
        &format!(
            "A grid of {} mistakes and nine rules. Caught: {}.",
            all.len(),
            told.join("; ")
        ),
    );
    let gap = |column: usize| if column < 6 { 0.0 } else { 4.0 };
    let at = |column: usize| LEFT + WIDE * column as f64 + gap(column);
    for (column, name) in COLUMNS.iter().enumerate() {
        // Two lines, since names are wider than columns.
        let y = [8.0, 20.0][column % 2];
        csv.text_at([at(column) + WIDE / 2.0 - 1.0, y], "", name);
    }
    for (i, (name, says)) in all.iter().enumerate() {
        let y = 30.0 + HIGH * i as f64;
        csv.text_at([0.0, y + HIGH / 2.0], "e", name);
        for (column, says) in says.iter().enumerate() {
            let class = match says {
                Caught => "c0 strong",
                Perhaps => "c0",
                Nothing => "c0 dashed",
                NotAsked => continue,
            };
            let size = [WIDE - 2.0, HIGH - 3.0];
            csv.rect([at(column), y + 1.5], size, class, "");
        }
    }
    csv
}
