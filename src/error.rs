//! Chapter: proof. What can go wrong outside the program, in one line each: the
//! thing, its value, the rule, what to do.

use std::fmt::Display;
use std::path::{Path, PathBuf};

/// An error that a user can cause and mend.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An option, a field of a config, a token, a tensor: a value that breaks
    /// a rule.
    #[error("{what} is {value}, but {rule}; {cure}")]
    Input {
        /// The thing, by the name the user knows.
        what: String,
        /// Its value.
        value: String,
        /// What it has to be, or why it cannot be.
        rule: String,
        /// What to do.
        cure: String,
    },
    /// A file or directory that could not be read or written.
    #[error("{}: {source}; {cure}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
        /// What to do.
        cure: String,
    },
    /// Training ran away.
    #[error(
        "step {step}: the loss is {loss}; begin a new run with a lower --lr (the \
         last checkpoint is as it was)"
    )]
    Diverged {
        /// At which step, counted from 1.
        step: usize,
        /// The loss, or the norm of the gradient, that is not finite.
        loss: f64,
    },
}
/// A value, or an [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An [`Error::Input`].
    pub fn input(
        what: impl Display, value: impl Display, rule: impl Display,
        cure: impl Display,
    ) -> Self {
        Self::Input {
            what: what.to_string(),
            value: value.to_string(),
            rule: rule.to_string(),
            cure: cure.to_string(),
        }
    }
    /// An [`Error::Io`].
    pub fn io(
        path: impl AsRef<Path>, source: std::io::Error, cure: impl Display,
    ) -> Self {
        let (path, cure) = (path.as_ref().to_path_buf(), cure.to_string());
        Self::Io { path, source, cure }
    }
    /// What the command exits with: 1 for a run that failed, 2 for wrong
    /// usage or input.
    pub fn exit_code(&self) -> u8 {
        if matches!(self, Self::Diverged { .. }) { 1 } else { 2 }
    }
}

/// An [`Error::Input`] if a rule does not hold.
///
/// # Errors
/// If it does not.
pub fn rule(
    holds: bool, what: impl Display, value: impl Display, rule: impl Display,
    cure: impl Display,
) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::input(what, value, rule, cure)) }
}
