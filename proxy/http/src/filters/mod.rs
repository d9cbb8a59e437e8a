//! The HTTP filters there are, and how the keys of a configuration become one.
//!
//! To add one: a file here that implements [`HttpFilter`](crate::filter::HttpFilter) and
//! [`HttpFactory`], a line in [`Kinds::default`], a section in `conf/pnat.toml`, and its tests. Outside of this tree the same is done
//! with [`Kinds::add`].

pub mod cache;

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
#[expect(clippy::disallowed_types, reason = "for who reads a configuration, which no core does")]
use std::sync::{Arc, Mutex, PoisonError};

use pnat_shared::time::Duration;
use serde::de::DeserializeOwned;

use crate::cascade::TIME_BUDGET;
use crate::coding::encode::Level;
use crate::coding::representation::Types;
use crate::filter::{ConfigFault, HttpFactory};

mod body_replace;
mod compress;
mod decompress;
mod headers;
mod http_log;
pub mod redirect;
mod shelf;
mod text;
#[cfg(test)]
mod tests;
pub mod url_block;

/// What a filter is made from.
#[derive(Debug)]
pub struct Section<'a> {
    /// The name that the operator gave it.
    pub name: &'a str,
    /// Its keys, without `name` and `type`, and without `time_budget` where [`Section::take_time_budget`] was asked.
    pub keys: toml::Table,
    pub lasting: &'a Lasting,
    /// Only to see whether the keys are right: no thread is started, nothing is written, what lasts is left alone.
    pub rehearsal: bool,
}

impl Section<'_> {
    /// How long one call of the filter may take, by the key that filters of all types have: 1 ms to 1 minute.
    pub fn take_time_budget(&mut self) -> Result<Duration, ConfigFault> {
        let Some(budget) = self.keys.remove("time_budget") else { return Ok(TIME_BUDGET) };
        let time = budget.as_str().and_then(|text| humantime::parse_duration(text).ok());
        let allowed = Duration::from_millis(1)..=Duration::from_secs(60);
        time.filter(|time| allowed.contains(time)).ok_or_else(|| ConfigFault {
            key: "time_budget".to_owned(),
            message: format!("{budget} is not a time from \"1ms\" to \"1m\""),
        })
    }

    /// The keys as a type of the filter's own, which should deny unknown ones.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, ConfigFault> {
        serde_path_to_error::deserialize(self.keys.clone()).map_err(|error| ConfigFault {
            key: error.path().to_string(),
            message: plain(error.inner().message().trim()),
        })
    }
}

/// What the reader of the keys says, in the words of who wrote them.
fn plain(message: &str) -> String {
    match message {
        "invalid IP address syntax" => return "is no network of IPv4, as in \"10.0.4.0/22\"".to_owned(),
        "invalid IPv4 socket address syntax" => {
            return "is no address of IPv4 with a port, as in \"198.18.0.3:80\"".to_owned();
        }
        _ => {}
    }
    if message == "invalid type: unit variant, expected string only" {
        return "is no text".to_owned();
    }
    let Some((found, expected)) = message.split_once(", expected ") else { return message.to_owned() };
    let found = found.replace("invalid type: map", "invalid type: table").replace("sequence", "list");
    let expected = match expected {
        "a sequence" => "a list",
        "path string" => "a text",
        "u16" | "u32" | "u64" | "usize" => "a number that is not negative",
        _ if expected.starts_with("struct ") => "a table",
        _ => expected,
    };
    format!("{found}, expected {expected}")
}

/// What belongs to filters and outlives a change of configuration: a cache, lists that are read again.
#[derive(Default)]
pub struct Lasting {
    #[expect(clippy::disallowed_types, reason = "for who reads a configuration, which no core does")]
    by_name: Mutex<HashMap<String, Arc<dyn Any + Send + Sync>>>,
}

impl Lasting {
    /// What is kept under this name, made by `make` where there is nothing of this type. A name is `type:name of the filter`.
    pub fn keep<T: Any + Send + Sync, E>(
        &self,
        name: &str,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<Arc<T>, E> {
        if let Some(kept) = self.find(name) {
            return Ok(kept);
        }
        let made = Arc::new(make()?);
        let mut by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        by_name.insert(name.to_owned(), Arc::clone(&made) as Arc<dyn Any + Send + Sync>);
        Ok(made)
    }

    /// What is kept under this name, where it is of this type.
    pub fn find<T: Any + Send + Sync>(&self, name: &str) -> Option<Arc<T>> {
        let by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        by_name.get(name).cloned().and_then(|kept| kept.downcast().ok())
    }

    /// Everything of one type that is kept, with its name.
    pub fn all<T: Any + Send + Sync>(&self) -> Vec<(String, Arc<T>)> {
        let by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        let of_type = |(name, kept): (&String, &Arc<dyn Any + Send + Sync>)| {
            Some((name.clone(), Arc::clone(kept).downcast().ok()?))
        };
        let mut all: Vec<_> = by_name.iter().filter_map(of_type).collect();
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        all
    }
}

impl fmt::Debug for Lasting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lasting").finish_non_exhaustive()
    }
}

/// Makes a filter from its section. Not for a hot core: it may read files.
pub type Configure = fn(&Section<'_>) -> Result<Arc<dyn HttpFactory>, ConfigFault>;

/// The types of HTTP filters that a configuration may name.
#[derive(Clone, Debug)]
pub struct Kinds {
    kinds: Vec<(&'static str, Configure)>,
}

impl Default for Kinds {
    /// Those of this crate.
    fn default() -> Self {
        let kinds: [(_, Configure); _] = [
            ("body-replace", body_replace::configure),
            ("cache", cache::configure),
            ("compress", compress::configure),
            ("decompress", decompress::configure),
            ("headers", headers::configure),
            ("http-log", http_log::configure),
            ("redirect", redirect::configure),
            ("url-block", url_block::configure),
        ];
        Self { kinds: kinds.into() }
    }
}

impl Kinds {
    /// Adds a type, in place of one of the same name.
    #[must_use]
    pub fn add(mut self, kind: &'static str, configure: Configure) -> Self {
        self.kinds.retain(|(own, _)| *own != kind);
        self.kinds.push((kind, configure));
        self
    }

    /// The names of all types.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.kinds.iter().map(|(kind, _)| *kind)
    }

    /// The filter of a section; `None`: there is no such type.
    pub fn configure(
        &self,
        kind: &str,
        section: &Section<'_>,
    ) -> Option<Result<Arc<dyn HttpFactory>, ConfigFault>> {
        self.kinds.iter().find(|(own, _)| *own == kind).map(|(_, configure)| configure(section))
    }
}

/// The media types of a key.
fn types(key: &str, names: &[String]) -> Result<Types, ConfigFault> {
    if names.is_empty() {
        return Err(ConfigFault {
            key: key.to_owned(),
            message: "names none, and all are left alone".to_owned(),
        });
    }
    Types::new(names).map_err(|place| ConfigFault {
        key: format!("{key}[{place}]"),
        message: "is no media type, as text/html or text/*".to_owned(),
    })
}

/// The levels of the key `level`.
fn check_level(level: Level) -> Result<(), ConfigFault> {
    level.check().map_err(|(key, range)| ConfigFault {
        key: format!("level.{key}"),
        message: format!("is not {range}"),
    })
}

/// The keys `request` and `response`: at least one of them is wanted.
fn check_sides(request: bool, response: bool) -> Result<(), ConfigFault> {
    match request || response {
        true => Ok(()),
        false => {
            let message = "is false, and request is not true: nothing is left to do".to_owned();
            Err(ConfigFault { key: "response".to_owned(), message })
        }
    }
}

/// The key `max_ratio`.
fn check_ratio(ratio: u32) -> Result<(), ConfigFault> {
    match ratio {
        0 => Err(ConfigFault { key: "max_ratio".to_owned(), message: "is not 1 or more".to_owned() }),
        _ => Ok(()),
    }
}
