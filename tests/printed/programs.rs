//! Chapter: training. The programs that have no tests of their own understand
//! what texts tell to type. `cargo test -p examples` builds them first.
#![allow(missing_docs, reason = "a test is documented by its name")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;

#[test]
fn texts_print_what_they_understand() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let manifest = std::fs::read_to_string(root.join("tests/Cargo.toml"));
    // target/debug/deps/programs-… and target/debug/examples/fuzz
    let here = std::env::current_exe().unwrap();
    let folder = here.parent().and_then(|d| d.parent()).unwrap();
    let (mut all, mut faults) = (0, vec![]);
    for part in manifest.unwrap().split("[[example]]").skip(1) {
        if part.contains("test = true") {
            continue; // it has a test that does this
        }
        let name = part.split('"').nth(1).unwrap();
        let exe = format!("{name}{}", std::env::consts::EXE_SUFFIX);
        let program = folder.join("examples").join(exe);
        let (seen, found) = registry::refused(root, name, |given, whole| {
            registry::ask_for_help(&program, given, whole)
        })
        .unwrap();
        all += seen;
        faults.extend(found);
    }
    assert!(all > 20, "only {all} commands: are texts still read?");
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}
