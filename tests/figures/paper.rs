//! Chapter: training. The shapes of a drawing, as `book/tool/drawing.rs` reads
//! them.

use crate::csv::Csv;

/// Shapes, in units of which the paper is 360 wide; y downward.
impl Csv {
    pub(crate) fn rect(
        &mut self, [x, y]: [f64; 2], [w, h]: [f64; 2], class: &str, text: &str,
    ) {
        let [x, y, w, h] = [x, y, w, h].map(place);
        self.row(format!("box,{x},{y},{w},{h},{class},{text}"));
    }
    /// Bent to the left of its way by so much.
    pub(crate) fn arrow(
        &mut self, [x1, y1]: [f64; 2], [x2, y2]: [f64; 2], bend: f64,
        class: &str,
    ) {
        let [x1, y1, x2, y2, b] = [x1, y1, x2, y2, bend].map(place);
        self.row(format!("arrow,{x1},{y1},{x2},{y2},{b},{class},"));
    }
    pub(crate) fn line(
        &mut self, [x1, y1]: [f64; 2], [x2, y2]: [f64; 2], class: &str,
    ) {
        let [x1, y1, x2, y2] = [x1, y1, x2, y2].map(place);
        self.row(format!("line,{x1},{y1},{x2},{y2},0,{class},"));
    }
    pub(crate) fn dot(&mut self, [x, y]: [f64; 2], class: &str, text: &str) {
        self.row(format!("dot,{},{},{class},{text}", place(x), place(y)));
    }
    pub(crate) fn text_at(
        &mut self, [x, y]: [f64; 2], class: &str, text: &str,
    ) {
        self.row(format!("text,{},{},{class},{text}", place(x), place(y)));
    }
}
/// To a tenth of a unit.
fn place(v: f64) -> f64 {
    (10.0 * v).round() / 10.0 + 0.0
}
/// A value as a figure shows it.
pub(crate) fn value(v: f64, digits: usize) -> String {
    format!("{v:.digits$}").replace('-', "−")
}
