//! README and the chapters print commands that `cargo course` understands.
#![allow(missing_docs, reason = "a test is documented by its name")]

use std::path::Path;

#[test]
fn texts_print_what_it_understands() -> Result<(), registry::Error> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let course = Path::new(env!("CARGO_BIN_EXE_course"));
    let (seen, faults) = registry::refused(root, "course", |given, whole| {
        registry::ask_for_help(course, given, whole)
    })?;
    assert!(seen > 30, "only {seen} commands: are texts still read?");
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
    Ok(())
}
