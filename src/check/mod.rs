//! Chapter: gradcheck. The proofs: for each equation, what is measured of it.
//! One file for each subject, with the name of the file that it proves.
//!
//! `tests/` runs this list, `moe check` prints it, and the book's map shows
//! its errors. What it measures are the rungs T1 to T5, T7 and T10.

mod tools;
pub mod parity;

pub mod matrix;
mod real;
pub mod rng;
mod params;
pub mod softmax;
pub mod activation;
mod linear;
mod embedding;
pub mod rmsnorm;
mod swiglu;
mod block;
pub mod attention;
mod rope;
mod router;
mod l1;
pub mod moe;
mod model;
mod balance; // after the model, which the z-loss is measured on
pub mod loss;
pub mod optimizer;
mod schedule;
mod half;
mod sampling;
mod cache;
mod threads;

use crate::gradcheck::Report;
use std::panic;
use std::sync::LazyLock;
pub use tools::{Check, config};

/// Every proof, in the order of the chapters.
pub static CHECKS: LazyLock<Vec<Check>> = LazyLock::new(|| {
    [
        matrix::CHECKS,
        real::CHECKS,
        rng::CHECKS,
        params::CHECKS,
        softmax::CHECKS,
        activation::CHECKS,
        linear::CHECKS,
        embedding::CHECKS,
        rmsnorm::CHECKS,
        swiglu::CHECKS,
        block::CHECKS,
        attention::CHECKS,
        rope::CHECKS,
        router::CHECKS,
        l1::CHECKS,
        moe::CHECKS,
        balance::CHECKS,
        model::CHECKS,
        loss::CHECKS,
        optimizer::CHECKS,
        schedule::CHECKS,
        half::CHECKS,
        sampling::CHECKS,
        cache::CHECKS,
        threads::CHECKS,
    ]
    .concat()
});

/// The proof of the equation `id`, if there is one.
pub fn find(id: &str) -> Option<&'static Check> {
    CHECKS.iter().find(|c| c.id == id)
}

impl Check {
    /// What is measured, or the words of the panic that ended it.
    ///
    /// # Errors
    /// If the check panics: a wrong shape, a step across a discrete choice.
    pub fn measure(&self) -> Result<Report, String> {
        let report = panic::catch_unwind(self.run);
        let report = report.map(|mut report| {
            if !self.inexact.is_empty() {
                let line = format!("T10: not measured: {}", self.inexact);
                report.unmeasured.push(line);
            }
            report
        });
        report.map_err(|cause| {
            let text = cause.downcast_ref::<String>().cloned();
            let text =
                text.or(cause.downcast_ref::<&str>().map(|s| s.to_string()));
            text.unwrap_or_else(|| "it panicked".into())
        })
    }
    /// Whether something is measured, and every bound holds.
    pub fn holds(&self) -> bool {
        self.measure().is_ok_and(|report| report.holds())
    }
    /// The innermost equation that this one is composed of and that does not
    /// hold: where to look for the fault.
    pub fn root(&self) -> Option<&'static str> {
        let parts = self.of.iter().filter_map(|id| find(id));
        for part in parts {
            if let Some(root) = part.root() {
                return Some(root);
            }
            if !part.holds() {
                return Some(part.id);
            }
        }
        None
    }
}

/// Proves the equation `id`.
///
/// # Panics
/// If it has no check, or one of its bounds is broken: with tensor, index,
/// both numbers, their ratio, and what that usually means; or, where the
/// fault lies in an equation that this one is composed of, with its name.
#[track_caller]
pub fn assert(id: &str) {
    let Some(check) = find(id) else {
        panic!("there is no check of `{id}`; add one in src/check");
    };
    let outcome = check.measure();
    if outcome.as_ref().is_ok_and(Report::holds) {
        return;
    }
    if let Some(root) = check.root() {
        panic!("{id} rests on {root}, which does not hold: mend that first");
    }
    match outcome {
        Ok(report) => report.assert(id),
        Err(panic) => panic!("{id} could not be measured: {panic}"),
    }
}
