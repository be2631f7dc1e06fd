//! Chapter: training. A program understands what texts tell to type.

use clap::Parser;
use clap::error::ErrorKind;
use std::path::Path;

/// What README, CONTRIBUTING, the chapters and the captions of figures print of
/// this program, its options take; returns what they ask for.
#[track_caller]
pub(crate) fn understood<Args: Parser>(name: &str) -> Vec<Args> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let mut all = vec![];
    let (seen, faults) = registry::refused(root, name, |given, whole| {
        let words = std::iter::once(name).chain(given.iter().map(|w| &**w));
        let error = match Args::try_parse_from(words) {
            Ok(args) => {
                all.push(args);
                return None;
            }
            Err(error) => error,
        };
        let lacks = error.kind() == ErrorKind::MissingRequiredArgument;
        (whole || !lacks).then(|| error.to_string())
    })
    .unwrap();
    assert!(seen > 0, "{name}: are texts still read?");
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
    all
}
