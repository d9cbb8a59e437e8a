//! What operators have removed: a rule that holds for all that was asked for before it.
//!
//! Runs on: the cache's thread. Allocates: per rule. Blocks: to write a small file, when a rule comes.
//!
//! What lies on disk is not listed anywhere, so it cannot be searched for what a host or a prefix names. Instead such rules are
//! kept, with their time, and whatever is read from disk, or comes from a server that was asked before, is measured by them.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::key;

/// How far something may be dated ahead of what the cache's thread was told last: the threads' looks at the clock differ, and so does
/// the clock over a restart.
pub(super) const AHEAD: Duration = Duration::from_secs(60);

/// Rules kept at most: beyond that, the older ones are put together to one for everything.
const MOST: usize = 512;

/// What to remove from a cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purge {
    All,
    /// Everything of a host, by name; on all ports unless it names one.
    Host(String),
    /// Everything whose URL starts so: `http://www.example/dir/`.
    Prefix(String),
    /// One URL with all of its variants.
    Url(String),
}

/// Why a purge is not what somebody asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PurgeFault {
    #[error("{0}: not a URL of the form http://host/path")]
    NotUrl(String),
    /// It holds for as long as the cache is open, and no longer.
    #[error(
        "what was removed comes back from disk with a restart, for the purge cannot be written down: {0}"
    )]
    Unwritten(String),
    #[error("the cache has ended")]
    Ended,
}

/// A purge in the form in which keys are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Pattern {
    All,
    Host(String),
    /// Host and the path's beginning.
    Prefix(String, String),
    /// Host and path.
    Url(String, String),
}

impl Pattern {
    pub(super) fn new(purge: &Purge) -> Result<Self, PurgeFault> {
        let divided = |url: &str| {
            let fault = || PurgeFault::NotUrl(url.to_owned());
            let rest = url.get(..7).filter(|scheme| scheme.eq_ignore_ascii_case("http://"));
            let rest = rest.map(|_| &url[7..]).ok_or_else(fault)?;
            let at = rest.find(['/', '?']).unwrap_or(rest.len());
            let path = if at == rest.len() { "/" } else { &rest[at..] };
            let mut key = "- ".to_owned();
            if !key::write_resource(&mut key, &rest[..at], path) {
                return Err(fault());
            }
            let (_, host, path) = key::parts(&key).ok_or_else(fault)?;
            Ok((host.to_owned(), path.to_owned()))
        };
        Ok(match purge {
            Purge::All => Self::All,
            Purge::Host(host) => Self::Host(host.to_ascii_lowercase()),
            Purge::Prefix(url) => divided(url).map(|(host, path)| Self::Prefix(host, path))?,
            Purge::Url(url) => divided(url).map(|(host, path)| Self::Url(host, path))?,
        })
    }

    pub(super) fn matches(&self, key: &str) -> bool {
        let Some((_, host, path)) = key::parts(key) else { return false };
        match self {
            Self::All => true,
            Self::Host(name) => {
                host.strip_prefix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
            }
            Self::Prefix(name, start) => host == name && path.starts_with(start.as_str()),
            Self::Url(name, whole) => host == name && path == whole,
        }
    }
}

/// A pattern, and the Unix time up to which it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Rule {
    pattern: Pattern,
    at: Duration,
}

/// The rules of one cache, kept in a file if it has a directory.
#[derive(Debug, Default)]
pub(super) struct Rules {
    rules: Vec<Rule>,
    file: Option<PathBuf>,
}

impl Rules {
    /// Those of a directory; `None`: there are some, but they cannot be read, so that nothing there is to be believed.
    pub(super) fn read(dir: Option<&PathBuf>) -> Option<Self> {
        let Some(dir) = dir else { return Some(Self::default()) };
        let file = dir.join("purges.json");
        let rules = match fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text).ok()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(_) => return None,
        };
        Some(Self { rules, file: Some(file) })
    }

    /// None yet, for a directory.
    pub(super) fn new(dir: &Path) -> Self {
        Self { rules: Vec::new(), file: Some(dir.join("purges.json")) }
    }

    pub(super) fn add(&mut self, pattern: Pattern, at: Duration) -> io::Result<()> {
        if pattern == Pattern::All {
            self.rules.retain(|rule| rule.at > at);
        }
        self.rules.push(Rule { pattern, at });
        if self.rules.len() > MOST {
            self.rules.drain(1..MOST / 2);
            self.rules[0] = Rule { pattern: Pattern::All, at: self.rules[1].at };
        }
        self.write()
    }

    /// Takes rules from a clock that was ahead, and has been set right since, as such of now: else nothing that they match would be
    /// stored until their time comes.
    pub(super) fn set_right(&mut self, now: Duration) {
        for rule in self.rules.iter_mut().filter(|rule| rule.at > now + AHEAD) {
            rule.at = now;
        }
    }

    /// Whether what lies under this key and was asked for at that time has been removed.
    pub(super) fn match_any(&self, key: &str, requested: Duration) -> bool {
        self.rules.iter().any(|rule| requested <= rule.at && rule.pattern.matches(key))
    }

    fn write(&self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let path = file.with_extension("new");
        let mut new = File::create(&path)?;
        new.write_all(&serde_json::to_vec(&self.rules)?)?;
        new.sync_all()?;
        fs::rename(path, file)?;
        file.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purge_matches_what_it_names_and_nothing_else() {
        let pattern = |purge| Pattern::new(&purge).unwrap();
        for (purge, key, expected) in [
            (Purge::Host("A.example".into()), "1.2.3.4:80 a.example /x", true),
            (Purge::Host("a.example".into()), "1.2.3.4:80 a.example:8080 /x", true),
            (Purge::Host("a.example".into()), "1.2.3.4:80 a.example.org /x", false),
            (Purge::Prefix("http://a.example/d/".into()), "1.2.3.4:80 a.example /d/x\n1f\n=gzip", true),
            (Purge::Prefix("http://a.example/d/".into()), "1.2.3.4:80 a.example /d", false),
            (Purge::Url("HTTP://a.example:80".into()), "1.2.3.4:80 a.example /", true),
            (Purge::Url("http://a.example/x".into()), "1.2.3.4:80 a.example /x?q", false),
            (Purge::All, "1.2.3.4:80 a.example /x?q", true),
        ] {
            assert_eq!(pattern(purge.clone()).matches(key), expected, "{purge:?} {key}");
        }
        assert!(Pattern::new(&Purge::Url("a.example/x".into())).is_err());
    }

    #[test]
    fn rules_that_are_too_many_become_one_that_removes_more_and_never_less() {
        let mut rules = Rules::default();
        for number in 0..2000 {
            rules.add(Pattern::Host(format!("{number}.example")), Duration::from_secs(number)).unwrap();
        }
        assert!(rules.rules.len() <= MOST);
        for number in 0..2000 {
            let key = format!("- {number}.example /");
            assert!(rules.match_any(&key, Duration::from_secs(number)), "{number}");
        }
        assert!(!rules.match_any("- 1999.example /", Duration::from_secs(2000)));
    }
}
