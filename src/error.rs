//! Chapter: proof. What can go wrong outside the program, in one line each: the
//! thing, its value, the rule, what to do.

use std::fmt::{self, Display};
use std::path::{Path, PathBuf};

/// An error that a user can cause and mend. Shown, it is one line of plain
/// characters, whatever the names and values in it hold (see [`plain`]).
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// An option, a field of a config, a token, a tensor: a value that breaks
    /// a rule.
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
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
        /// What to do.
        cure: String,
    },
    /// Training ran away.
    Diverged {
        /// At which step, counted from 1.
        step: usize,
        /// The loss, or the norm of the gradient, that is not finite.
        loss: f64,
    },
    /// The gradients are too large for the numbers that they are stored in.
    Overflow {
        /// At which step, counted from 1.
        step: usize,
        /// What the loss was multiplied by.
        scale: f64,
        /// For how many steps the scale has been falling below 1; 0, if it is
        /// fixed.
        low: usize,
    },
}
impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let text = match self {
            Self::Input { what, value, rule, cure } => {
                format!("{what} is {value}, but {rule}; {cure}")
            }
            Self::Io { path, source, cure } => {
                format!("{}: {source}; {cure}", path.display())
            }
            // Nothing was learned yet, so the rate is not to blame.
            Self::Diverged { step: step @ 1, loss } => format!(
                "step {step}: the loss is {loss} with the initial weights; \
                 begin a new run with a smaller initializer_range in the \
                 config, or a smaller --aux or --z-loss"
            ),
            Self::Diverged { step, loss } => format!(
                "step {step}: the loss is {loss}; begin a new run with a lower \
                 --lr (the last checkpoint is as it was)"
            ),
            Self::Overflow { step, scale, low: 0 } => format!(
                "step {step}: the gradient is not finite with the loss scale \
                 {scale}; begin a new run with a smaller --loss-scale, with \
                 dynamic, or with a lower --lr (the last checkpoint is as it \
                 was)"
            ),
            Self::Overflow { step, scale, low } => format!(
                "step {step}: the loss scale is {scale}, and has been below 1 \
                 for {low} steps: the gradients themselves are too large for \
                 this precision; begin a new run with a lower --lr, or with \
                 --precision bf16 (the last checkpoint is as it was)"
            ),
        };
        f.write_str(&plain(&text))
    }
}
impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
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
        match self {
            Self::Diverged { .. } | Self::Overflow { .. } => 1,
            Self::Input { .. } | Self::Io { .. } => 2,
        }
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

/// Text from outside as one line that steers no terminal: a control character,
/// or one that ends a line or turns the direction of writing, is shown as its
/// escape.
///
/// ```
/// use moe_by_hand::error::plain;
/// assert_eq!(plain("a\nb \x1b[31m é\u{202e}"), "a\\nb \\u{1b}[31m é\\u{202e}");
/// ```
pub fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            _ if !steers(c) => out.push(c),
            '\n' => out += "\\n",
            '\r' => out += "\\r",
            '\t' => out += "\\t",
            _ => out.extend(c.escape_unicode()),
        }
    }
    out
}
/// Whether a character is a command rather than a letter: a control character,
/// a separator of lines, a mark of direction, or an invisible tag.
pub fn steers(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}
