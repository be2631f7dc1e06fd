//! Chapter: training. What texts tell to type, the examples take.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(missing_docs, reason = "a test is documented by its name")]

use std::path::Path;

/// The examples without tests of their own, which cargo builds as programs
/// before it runs this.
fn untested() -> Vec<&'static str> {
    let examples = include_str!("../Cargo.toml").split("[[example]]").skip(1);
    examples
        .filter(|e| !e.contains("\ntest = true"))
        .filter_map(|e| e.split('"').nth(1))
        .collect()
}

#[test]
fn texts_print_what_the_examples_understand() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    // target/debug/deps/texts-…, and target/debug/examples
    let here = std::env::current_exe().unwrap();
    let built = here.ancestors().nth(2).unwrap().join("examples");
    let names = untested();
    assert!(names.len() > 5, "only {names:?}: is the list still read?");
    let (mut all, mut wrong) = (0, vec![]);
    for name in names {
        let program =
            built.join(name).with_extension(std::env::consts::EXE_EXTENSION);
        assert!(program.exists(), "{name}: run all of cargo test -p examples");
        let (seen, faults) = registry::refused(root, name, |given, whole| {
            registry::ask_for_help(&program, given, whole)
        })
        .unwrap();
        all += seen;
        wrong.extend(faults);
    }
    assert!(all > 30, "only {all} commands: are texts still read?");
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}
