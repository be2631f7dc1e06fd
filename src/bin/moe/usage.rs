//! Chapter: training. What is wrong with the words of a command, in one line.

use clap::error::{ContextKind, ContextValue, Error as Wrong, ErrorKind};
use clap::{ArgMatches, Command};
use moe_by_hand::error::Error;
use std::collections::HashSet;
use std::env;
use std::error::Error as _;
use std::ffi::OsString;
use std::num::{IntErrorKind, ParseFloatError, ParseIntError};

/// Reads the words that the program was started with.
pub(crate) fn parse(command: Command) -> Result<ArgMatches, Wrong> {
    let words = join_values(&command, env::args_os().collect());
    command.try_get_matches_from(words)
}
/// Writes `--lr -inf` as `--lr=-inf`, so that a value which looks like an
/// option is seen as the value that it is, and judged by its own rule.
fn join_values(command: &Command, words: Vec<OsString>) -> Vec<OsString> {
    let options = command.get_subcommands().flat_map(Command::get_arguments);
    let valued = options.filter(|a| a.get_action().takes_values());
    let names = valued.filter_map(|a| a.get_long().map(|n| format!("--{n}")));
    let names: HashSet<String> = names.collect();
    let mut joined: Vec<OsString> = vec![];
    for word in words {
        let bytes = word.as_encoded_bytes();
        let is_value = matches!(bytes, [b'-', c, ..] if *c != b'-')
            && bytes != b"-h"
            && bytes != b"-V";
        let last = joined.last_mut();
        match last.filter(|l| l.to_str().is_some_and(|l| names.contains(l))) {
            Some(option) if is_value => {
                option.push("=");
                option.push(word);
            }
            _ => joined.push(word),
        }
    }
    joined
}

/// Whether it is an error, not what `--help` and `--version` say.
pub(crate) fn is_wrong(e: &Wrong) -> bool {
    e.use_stderr()
        && e.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
}
/// The thing, its value, the rule, and what to do.
pub(crate) fn explain(e: &Wrong, all: &Command) -> Error {
    let get = |kind| match e.get(kind) {
        Some(ContextValue::String(one)) => Some(one.clone()),
        Some(ContextValue::Strings(all)) => all.first().cloned(),
        Some(ContextValue::StyledStr(text)) => Some(text.to_string()),
        _ => None,
    };
    let arg = get(ContextKind::InvalidArg).unwrap_or_default();
    // `--steps <N>`
    let name = arg.split_once(" <").map_or(arg.as_str(), |(name, _)| name);
    let value = get(ContextKind::InvalidValue).unwrap_or_default();
    let help = help(all);
    let near = [
        ContextKind::SuggestedArg,
        ContextKind::SuggestedSubcommand,
        ContextKind::SuggestedValue,
    ];
    let near = near.into_iter().find_map(get);
    let see = match near {
        Some(near) => format!("did you mean {near}? See {help}"),
        None => format!("see {help}"),
    };
    let command = help.trim_end_matches(" --help").to_string();
    match e.kind() {
        ErrorKind::UnknownArgument => {
            let rule = format!("`{command}` has no such option or argument");
            Error::input(format!("`{name}`"), "unknown", rule, see)
        }
        ErrorKind::InvalidSubcommand => {
            let word = get(ContextKind::InvalidSubcommand).unwrap_or_default();
            let rule = "`moe` has no such command";
            Error::input(format!("`{word}`"), "unknown", rule, see)
        }
        ErrorKind::MissingRequiredArgument => {
            Error::input(arg, "missing", format!("`{command}` needs it"), see)
        }
        ErrorKind::ArgumentConflict => {
            let other = get(ContextKind::PriorArg).unwrap_or_default();
            if other == arg {
                let rule = "it stands once";
                return Error::input(name, "given twice", rule, see);
            }
            let rule = format!("{other} is given too, and they exclude");
            let rule = format!("{rule} each other");
            let cure = format!("leave one of them out, or {see}");
            Error::input(name, "given", rule, cure)
        }
        ErrorKind::InvalidValue if value.is_empty() => {
            Error::input(name, "without a value", "it needs one", see)
        }
        ErrorKind::TooManyValues => {
            Error::input(name, format!("{value:?}"), "it takes no value", see)
        }
        ErrorKind::ValueValidation => {
            let rule = broken_rule(e);
            let cure = format!("give such a value, or {see}");
            Error::input(name, shown(value), rule, cure)
        }
        ErrorKind::InvalidUtf8 => {
            let rule = "options and their values are UTF-8, but for paths";
            Error::input("a word of the command", "not UTF-8", rule, see)
        }
        _ => {
            // What clap says on several lines, before it repeats the usage.
            let said = e.to_string();
            let said = said.split("\n\n").next().unwrap_or_default();
            let said = said.trim_start_matches("error: ");
            let words: Vec<&str> = said.split_whitespace().collect();
            let value = format!("not understood ({})", words.join(" "));
            Error::input("the command", value, "it is read as --help says", see)
        }
    }
}
fn shown(value: String) -> String {
    if value.is_empty() { "empty".into() } else { value }
}
/// Which help is meant: that of the command at hand, if there is one.
fn help(all: &Command) -> String {
    let word = env::args_os().nth(1);
    let word = word.as_ref().and_then(|w| w.to_str()).unwrap_or_default();
    match all.get_subcommands().find(|c| c.get_name() == word) {
        Some(command) => format!("moe {} --help", command.get_name()),
        None => "moe --help".into(),
    }
}
/// What a value has to be, from what the reader of numbers says.
fn broken_rule(e: &Wrong) -> String {
    let Some(source) = e.source() else { return "it has another form".into() };
    if let Some(e) = source.downcast_ref::<ParseIntError>() {
        return match e.kind() {
            IntErrorKind::PosOverflow => "it has to be less than 2⁶⁴".into(),
            _ => "it has to be a whole number from 0 on".into(),
        };
    }
    match source.downcast_ref::<ParseFloatError>() {
        Some(_) => "it has to be a number".into(),
        None => source.to_string(),
    }
}
