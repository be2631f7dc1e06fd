//! Chapter: scaling-out. No file makes a reader panic, wait or speak in two
//! lines: some thousand spoiled files here, any number by
//! `cargo example fuzz -- --seconds 600`.

#[path = "fuzz/readers.rs"]
mod readers;

use readers::readers;

#[test]
fn no_spoiled_file_makes_a_reader_panic() {
    for reader in readers() {
        let tries = (800 / reader.cost).max(6);
        let read = (0..tries).filter(|&n| reader.try_once(0, n)).count();
        // Changes that nothing notices would prove nothing.
        let name = reader.name();
        assert!(read < tries, "{name}: all {tries} were read");
    }
}
