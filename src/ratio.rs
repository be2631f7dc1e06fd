//! Chapter: gradcheck. What a wrong gradient's ratio tells. The course's grader
//! has this file as well.

/// What the ratio of an analytic to a numeric gradient usually means.
///
/// ```
/// use moe_by_hand::ratio::hint;
/// assert_eq!(hint(-1.0), "−1: a sign");
/// assert_eq!(hint(8.0), "n or 1/n: a sum for a mean, or a mean for a sum");
/// assert_eq!(hint(5f64.sqrt()).split(':').next(), Some("√n or 1/√n"));
/// assert_eq!(hint(-23.764), "no simple factor: a wrong or missing term");
/// ```
pub fn hint(ratio: f64) -> &'static str {
    let near = |r: f64| (ratio - r).abs() < 0.02 * r.abs().max(0.05);
    // 2 % of a large x would reach the next whole number.
    let close = |x: f64| (x - x.round()).abs() < (0.02 * x).min(0.1);
    let whole = |x: f64| ratio > 0.0 && x >= 1.5 && close(x);
    let (n, root) = (ratio.max(1.0 / ratio), ratio * ratio);
    match () {
        () if ratio.is_nan() => "NaN: read before it was set",
        () if near(1.0) => "1: a small term is wrong or missing",
        () if near(-1.0) => "−1: a sign",
        () if near(0.0) => "0: a path is missing",
        () if near(2.0) => "2: counted twice",
        () if near(0.5) => "1/2: one of two uses is missing",
        () if whole(n) => "n or 1/n: a sum for a mean, or a mean for a sum",
        () if whole(root) || whole(1.0 / root) => {
            "√n or 1/√n: a scale is missing or there twice"
        }
        () => "no simple factor: a wrong or missing term",
    }
}
