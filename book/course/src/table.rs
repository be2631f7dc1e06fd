//! The table that `cargo course verify` prints.

/// What was looked at, and how much of it was not as it should be.
pub(crate) struct Table {
    pub(crate) rows: usize,
    pub(crate) faults: usize,
}
impl Table {
    pub(crate) fn row(&mut self, what: &str, holds: bool, found: &str) {
        self.rows += 1;
        self.faults += usize::from(!holds);
        let mark = if holds { "ok   " } else { "WRONG" };
        println!("{mark} {what}: {found}");
    }
}
