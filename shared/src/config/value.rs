//! Reads single values and collects what is wrong with them, so that one look at a file finds every fault.
//!
//! A faulty value answers with something harmless (the default, or nothing) and leaves a [`Problem`]; the configuration
//! is refused in the end if any was left.

use core::fmt::Display;
use core::ops::RangeInclusive;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::Spanned;

use super::error::{ConfigError, Fault, Problem, from_toml, line_of, nearest};
use super::raw::{Scalar, Scalars};
use super::sections::Keys;
use super::{CongestionControl, Section};
use crate::time::Duration;

/// The words for algorithms of congestion control, wherever one is chosen.
pub(super) const CONGESTION_CONTROLS: [(&str, CongestionControl); 3] = [
    ("cubic", CongestionControl::Cubic),
    ("newreno", CongestionControl::NewReno),
    ("bbr", CongestionControl::Bbr),
];

/// The problems found so far, and the file that they are in. Any file of TOML that an operator writes is read by it.
#[derive(Debug)]
pub struct Findings<'a> {
    file: &'a Path,
    text: &'a str,
    problems: Vec<Problem>,
}

impl<'a> Findings<'a> {
    /// Reads the keys of `text`, which stands in `file`; answers them, and room for what is wrong with their values.
    pub fn read<T: DeserializeOwned>(file: &'a Path, text: &'a str) -> Result<(T, Self), ConfigError> {
        let keys =
            toml::from_str(text).map_err(|error| ConfigError::Invalid(vec![from_toml(file, text, error)]))?;
        Ok((keys, Self { file, text, problems: Vec::new() }))
    }

    /// What was read, if nothing is wrong with it.
    pub fn conclude<T>(self, read: T) -> Result<T, ConfigError> {
        if self.problems.is_empty() { Ok(read) } else { Err(ConfigError::Invalid(self.problems)) }
    }

    /// Notes a fault of the value at `place`.
    pub fn fault<T>(&mut self, place: &Spanned<T>, key: &str, fault: Fault) {
        self.push(Some(self.line(place)), key, fault);
    }

    /// The section of a filter whose type is none of this crate's.
    pub(super) fn section(&self, kind: &Spanned<String>, keys: Keys<'_>) -> Section {
        Section {
            kind: kind.get_ref().clone(),
            file: self.file.to_owned(),
            line: self.line(kind),
            lines: keys.lines(self.text),
            keys: keys.read().unwrap_or_default(),
        }
    }

    /// The keys of a filter as a type that knows them.
    pub(super) fn filter<'k, T: Deserialize<'k>>(&mut self, keys: Keys<'k>) -> Option<T> {
        let error = match keys.read() {
            Ok(read) => return Some(read),
            Err(error) => error,
        };
        let problem = from_toml(self.file, self.text, error);
        self.problems.push(Problem { key: format!("filter.{}", problem.key), ..problem });
        None
    }

    /// The line of the value at `place`, counted from 1.
    pub(super) fn line<T>(&self, place: &Spanned<T>) -> usize {
        line_of(self.text, place.span().start)
    }

    /// Notes that something is absent.
    pub fn absent(&mut self, key: &str, allowed: &'static str) {
        self.push(None, key, Fault::Missing { allowed });
    }

    fn push(&mut self, line: Option<usize>, key: &str, fault: Fault) {
        self.problems.push(Problem { file: self.file.to_owned(), line, key: key.to_owned(), fault });
    }

    /// Notes that `value`, at `place`, is none of what is allowed.
    pub fn not_allowed<T>(
        &mut self,
        place: &Spanned<T>,
        key: &str,
        value: impl Display,
        allowed: impl Into<String>,
    ) {
        self.fault(place, key, Fault::NotAllowed { value: value.to_string(), allowed: allowed.into() });
    }

    /// Reports `value` where it does not parse, with `allowed` as the explanation.
    pub fn parsed<P>(
        &mut self,
        value: &Spanned<String>,
        key: &str,
        allowed: &str,
        parse: impl FnOnce(&str) -> Option<P>,
    ) -> Option<P> {
        let parsed = parse(value.get_ref());
        if parsed.is_none() {
            self.not_allowed(value, key, format!("\"{}\"", value.get_ref()), allowed);
        }
        parsed
    }

    /// An integer within `allowed`.
    pub fn integer(&mut self, value: &Spanned<i64>, key: &str, allowed: RangeInclusive<u32>) -> Option<u32> {
        let number = u32::try_from(*value.get_ref()).ok().filter(|number| allowed.contains(number));
        if number.is_none() {
            self.not_allowed(
                value,
                key,
                value.get_ref(),
                format!("{} to {}", allowed.start(), allowed.end()),
            );
        }
        number
    }

    /// An integer within `allowed`, or `default` where the key is absent.
    pub fn integer_or(
        &mut self,
        value: Option<&Spanned<i64>>,
        key: &str,
        allowed: RangeInclusive<u32>,
        default: u32,
    ) -> u32 {
        value.and_then(|value| self.integer(value, key, allowed)).unwrap_or(default)
    }

    /// A time such as `"2h 4m"` within `allowed`, or `default` where the key is absent.
    pub fn duration_or(
        &mut self,
        value: Option<&Spanned<String>>,
        key: &str,
        allowed: RangeInclusive<Duration>,
        default: Duration,
    ) -> Duration {
        let Some(value) = value else { return default };
        self.duration(value, key, &allowed, "").unwrap_or(default)
    }

    /// As [`Findings::duration_or`]; "0" stands for never and answers zero.
    pub fn duration_or_off(
        &mut self,
        value: Option<&Spanned<String>>,
        key: &str,
        allowed: RangeInclusive<Duration>,
        default: Duration,
    ) -> Duration {
        match value {
            None => default,
            Some(value) if value.get_ref() == "0" => Duration::ZERO,
            Some(value) => self.duration(value, key, &allowed, "\"0\" for never, or ").unwrap_or(default),
        }
    }

    fn duration(
        &mut self,
        value: &Spanned<String>,
        key: &str,
        allowed: &RangeInclusive<Duration>,
        or: &str,
    ) -> Option<Duration> {
        let text = value.get_ref();
        let duration = humantime::parse_duration(text).ok().filter(|duration| allowed.contains(duration));
        if duration.is_none() {
            let [low, high] =
                [allowed.start(), allowed.end()].map(|limit| humantime::format_duration(*limit));
            let allowed = format!("{or}a time from {low} to {high}, as in \"90s\" or \"2h 4m\"");
            self.not_allowed(value, key, format!("\"{text}\""), allowed);
        }
        duration
    }

    /// A count of bytes: an integer, or a string with a unit.
    pub fn bytes(&mut self, value: &Spanned<Scalar>, key: &str, allowed: RangeInclusive<u64>) -> Option<u64> {
        let bytes = match value.get_ref() {
            Scalar::Integer(number) => u64::try_from(*number).ok(),
            Scalar::Text(text) => parse_bytes(text),
        };
        let bytes = bytes.filter(|bytes| allowed.contains(bytes));
        if bytes.is_none() {
            let allowed =
                format!("{} to {} bytes, as in 1500, \"64KiB\" or \"1MB\"", allowed.start(), allowed.end());
            self.not_allowed(value, key, value.get_ref(), allowed);
        }
        bytes
    }

    /// One of a few words.
    pub fn choice<T: Copy>(
        &mut self,
        value: &Spanned<String>,
        key: &str,
        choices: &[(&str, T)],
    ) -> Option<T> {
        let typed = value.get_ref();
        let found = choices.iter().find(|(word, _)| word == typed).map(|(_, meaning)| *meaning);
        if found.is_none() {
            let words = || choices.iter().map(|(word, _)| *word);
            let fault = Fault::UnknownValue {
                value: typed.clone(),
                nearest: nearest(typed, words()),
                allowed: words().map(str::to_owned).collect(),
            };
            self.fault(value, key, fault);
        }
        found
    }

    /// One of a few words, or `default` where the key is absent.
    pub fn choice_or<T: Copy>(
        &mut self,
        value: Option<&Spanned<String>>,
        key: &str,
        choices: &[(&str, T)],
        default: T,
    ) -> T {
        value.and_then(|value| self.choice(value, key, choices)).unwrap_or(default)
    }

    /// A list of texts, each parsed by `parse`.
    pub fn texts<P>(
        &mut self,
        value: Option<&Spanned<Scalars>>,
        key: &str,
        allowed: &str,
        parse: impl Fn(&str) -> Option<P>,
    ) -> Vec<P> {
        self.scalars(value, key, allowed, |scalar| match scalar {
            Scalar::Text(text) => parse(text),
            Scalar::Integer(_) => None,
        })
    }

    /// A port number or a range of ports.
    pub fn port_range(&mut self, value: &Spanned<Scalar>, key: &str) -> Option<RangeInclusive<u16>> {
        let range = parse_port_range(value.get_ref());
        if range.is_none() {
            self.not_allowed(value, key, value.get_ref(), PORT_RANGES);
        }
        range
    }

    /// A list of port numbers and ranges.
    pub fn port_ranges(&mut self, value: Option<&Spanned<Scalars>>, key: &str) -> Vec<RangeInclusive<u16>> {
        self.scalars(value, key, PORT_RANGES, parse_port_range)
    }

    /// A list of integers and texts, each parsed by `parse`.
    pub fn scalars<P>(
        &mut self,
        value: Option<&Spanned<Scalars>>,
        key: &str,
        allowed: &str,
        parse: impl Fn(&Scalar) -> Option<P>,
    ) -> Vec<P> {
        let Some(place) = value else { return Vec::new() };
        let scalars = &place.get_ref().0;
        if scalars.is_empty() {
            // An empty list would match nothing or anything, depending on the reader.
            self.not_allowed(place, key, "an empty list", allowed);
        }
        let mut parsed = Vec::with_capacity(scalars.len());
        for scalar in scalars {
            match parse(scalar) {
                Some(value) => parsed.push(value),
                None => self.not_allowed(place, key, scalar, allowed),
            }
        }
        parsed
    }

    /// Reports every value that equals an earlier one.
    pub fn unique<'v, T: PartialEq + Display + 'v>(
        &mut self,
        values: impl IntoIterator<Item = &'v Spanned<T>>,
        key: &str,
    ) {
        let mut seen: Vec<&T> = Vec::new();
        for value in values {
            if seen.contains(&value.get_ref()) {
                self.fault(value, key, Fault::Duplicate { value: value.get_ref().to_string() });
            }
            seen.push(value.get_ref());
        }
    }

    /// A name that logs and messages can carry unquoted.
    pub fn name(&mut self, value: &Spanned<String>, key: &str) {
        let name = value.get_ref();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
            self.not_allowed(
                value,
                key,
                format!("{name:?}"),
                "1 to 64 letters, digits, \"-\", \"_\" and \".\"",
            );
        }
    }
}

/// What a port or a range of ports looks like.
const PORT_RANGES: &str = "ports from 1 to 65535, and ranges as in \"8000-8999\"";

/// `80`, `"80"` or `"8000-8999"`.
fn parse_port_range(scalar: &Scalar) -> Option<RangeInclusive<u16>> {
    let (low, high) = match scalar {
        Scalar::Integer(port) => {
            let port = u16::try_from(*port).ok()?;
            (port, port)
        }
        Scalar::Text(text) => {
            let (low, high) = text.split_once('-').unwrap_or((text, text));
            (low.trim().parse().ok()?, high.trim().parse().ok()?)
        }
    };
    (0 < low && low <= high).then_some(low..=high)
}

/// `"1500"`, `"64KiB"`, `"1 MB"`: decimal and binary multiples, without regard to case.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_decimal_and_binary_units() {
        assert_eq!(parse_bytes("1500"), Some(1_500));
        assert_eq!(parse_bytes("1 MB"), Some(1_000_000));
        assert_eq!(parse_bytes("64kib"), Some(65_536));
        assert_eq!(parse_bytes("99999999999GB"), None);
        assert_eq!(parse_bytes("MB"), None);
        assert_eq!(parse_bytes("1.5MB"), None);
    }

    #[test]
    fn a_port_range_runs_upwards_and_never_holds_zero() {
        let text = |text: &str| parse_port_range(&Scalar::Text(text.to_owned()));
        assert_eq!(text("8000-8999"), Some(8000..=8999));
        assert_eq!(text("80"), Some(80..=80));
        assert_eq!(text("90-80"), None);
        assert_eq!(text("0-80"), None);
        assert_eq!(text("1-65536"), None);
        assert_eq!(parse_port_range(&Scalar::Integer(443)), Some(443..=443));
        assert_eq!(parse_port_range(&Scalar::Integer(-1)), None);
    }
}
