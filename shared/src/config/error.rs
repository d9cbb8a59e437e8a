//! What can be wrong with a configuration, each fault with its file, line and key.

use core::fmt;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why a configuration was not accepted. Its text is for the operator: one line per problem.
#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("{}: cannot be read: {source}", file.display())]
    Unreadable { file: PathBuf, source: io::Error },
    #[error("{}", lines(.0))]
    Invalid(Vec<Problem>),
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}

/// One fault and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub file: PathBuf,
    /// From 1; `None` where the fault is that something is absent from the whole file.
    pub line: Option<usize>,
    /// As an operator would say it: `nat.ports`, or `rule "web": filters`. Empty where the file is not even TOML.
    pub key: String,
    pub fault: Fault,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        write!(f, " {}", self.fault)
    }
}

/// What is wrong, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// Not TOML, or a value of the wrong TOML type; the text is the parser's.
    #[error("{0}")]
    Syntax(String),
    #[error("no such key{}; allowed here: {}", hint(nearest), allowed.join(", "))]
    UnknownKey { nearest: Option<String>, allowed: Vec<String> },
    /// A key that exists, but not together with another key's value.
    #[error("only {0}")]
    OnlyWith(&'static str),
    #[error("is missing; allowed: {allowed}")]
    Missing { allowed: &'static str },
    #[error("{value} is not allowed; allowed: {allowed}")]
    NotAllowed { value: String, allowed: String },
    #[error("\"{value}\" is not one of {}{}", choices(allowed), hint(nearest))]
    UnknownValue { value: String, nearest: Option<String>, allowed: Vec<String> },
    #[error("no filter is named \"{value}\"{}", hint(nearest))]
    UnknownFilter { value: String, nearest: Option<String> },
    #[error("{value} stands here twice; each may occur once")]
    Duplicate { value: String },
    #[error("{value} collides with {other}; {allowed}")]
    Collision { value: String, other: String, allowed: &'static str },
    /// A file that the configuration names cannot be used.
    #[error("{}: {reason}", file.display())]
    File { file: PathBuf, reason: String },
}

fn hint(nearest: &Option<String>) -> String {
    nearest.as_ref().map_or_else(String::new, |nearest| format!("; did you mean \"{nearest}\"?"))
}

fn choices(allowed: &[String]) -> String {
    allowed.iter().map(|choice| format!("\"{choice}\"")).collect::<Vec<_>>().join(", ")
}

/// The candidate that a typing error most likely meant, if one is near enough.
pub(super) fn nearest<'a>(typed: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let slips = 1 + typed.chars().count() / 3;
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(typed, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= slips || abbreviates(typed, candidate))
        .min()
        .map(|(_, candidate)| candidate.to_owned())
}

/// Whether `short` is `long` with letters left out, as `dport` is of `dst_port`.
fn abbreviates(short: &str, long: &str) -> bool {
    let mut rest = long.chars();
    short.len() >= 3 && short.chars().all(|letter| rest.any(|other| other == letter))
}

/// The line, from 1, of a byte of `text`.
pub(super) fn line_of(text: &str, byte: usize) -> usize {
    1 + text.bytes().take(byte).filter(|byte| *byte == b'\n').count()
}

/// Says in our words what the TOML reader found: serde's only has the form of a sentence, so the names are read from
/// between its back-ticks.
pub(super) fn from_toml(file: &Path, text: &str, mut error: toml::de::Error) -> Problem {
    let line = error.span().map(|span| line_of(text, span.start));
    let message = error.message().to_owned();
    error.set_input(None);
    let whole = error.to_string();
    let table = whole.trim_end().rsplit_once("\nin `").map_or("", |(_, path)| path.trim_end_matches('`'));
    let names: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let join = |name: &str| if table.is_empty() { name.to_owned() } else { format!("{table}.{name}") };

    let (key, fault) = match names.as_slice() {
        [unknown, allowed @ ..] if message.starts_with("unknown field") => {
            let allowed_names = allowed.iter().map(|&name| name.to_owned()).collect();
            let nearest = nearest(unknown, allowed.iter().copied());
            (join(unknown), Fault::UnknownKey { nearest, allowed: allowed_names })
        }
        [missing] if message.starts_with("missing field") => {
            (join(missing), Fault::Syntax("is missing from this table".to_owned()))
        }
        _ => {
            let plain =
                message.replace("expected i64", "expected an integer").replace("a sequence", "a list");
            (table.to_owned(), Fault::Syntax(plain.replace("invalid type: map", "invalid type: table")))
        }
    };
    Problem { file: file.to_owned(), line, key, fault }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_its_neighbour_and_a_stranger_finds_none() {
        let keys = ["main", "workers", "proxies", "idle"];
        assert_eq!(nearest("wrokers", keys), Some("workers".to_owned()));
        assert_eq!(nearest("gateway", keys), None);
    }

    #[test]
    fn lines_count_from_one() {
        assert_eq!(line_of("a\nb\n", 0), 1);
        assert_eq!(line_of("a\nb\n", 2), 2);
    }
}
