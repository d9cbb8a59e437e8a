//! The files that lists come from: read once at the start, and again whenever they have changed.
//!
//! Runs on: [`Source::lists`] on proxy cores; everything else where configurations are read, and on a thread of its own.
//! Allocates: freely, but not on proxy cores. Blocks: on the disk, but not on proxy cores: they go on with the lists they have
//! until new ones are ready.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::{ArcSwap, Guard};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use serde::{Deserialize, Serialize};

use super::lists::{Builder, Lists, MOST_LISTS, Membership, Tally};
use super::parse::{Format, parse};
use crate::filter::ConfigFault;
use crate::filters::Lasting;
use crate::filters::shelf::{all_shared, shared};

/// How often the files are looked at.
const EVERY: Duration = Duration::from_secs(2);

/// One list.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListSettings {
    pub path: PathBuf,
    #[serde(default = "default_category")]
    pub category: String,
    #[serde(default)]
    pub format: Format,
}

fn default_category() -> String {
    "unwanted".to_owned()
}

/// Everything that entries come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub lists: Vec<ListSettings>,
    /// Entries of a plain list that are exceptions to all lists.
    pub allow: Vec<String>,
}

impl Origin {
    /// The lists of a category as bits; `None`: there are none.
    pub(super) fn of_category(&self, category: &str) -> Option<u64> {
        let bits =
            self.lists.iter().enumerate().take(MOST_LISTS).filter(|(_, list)| list.category == category);
        Some(bits.fold(0, |all, (at, _)| all | 1 << at)).filter(|bits| *bits != 0)
    }

    /// Reads all lists; `before` is what they had: none may have lost all of it.
    fn read(&self, filter: &str, before: &[Tally]) -> Result<Reading, ConfigFault> {
        if self.lists.len() > MOST_LISTS {
            let message = format!("{} lists are more than {MOST_LISTS}", self.lists.len());
            return Err(ConfigFault { key: "lists".to_owned(), message });
        }
        // Before what they stamp: what is written meanwhile is read again.
        let stamps = self.stamps();
        let (mut builder, mut tallies) = (Builder::default(), Vec::with_capacity(self.lists.len()));
        for (at, text) in self.allow.iter().enumerate() {
            let mut taken = false;
            let all = Membership { listed: 0, excepted: u64::MAX };
            let parsed = parse(Format::Plain, text.as_bytes(), |entry| taken = builder.add(&entry, all));
            if parsed.is_err() || !taken {
                let message = format!("{text:?} is not like example.com, *.example.com or example.com/path");
                return Err(ConfigFault { key: format!("allow[{at}]"), message });
            }
        }
        for (at, list) in self.lists.iter().enumerate() {
            let text = fs::read(&list.path).map_err(|error| ConfigFault {
                key: format!("lists[{at}].path"),
                message: format!("cannot read {}: {error}", list.path.display()),
            })?;
            let of_category = self.of_category(&list.category).unwrap_or_default();
            let tally = builder.add_list(&text, list.format, 1 << at, of_category);
            let (path, entries, skipped) = (list.path.display(), tally.entries, tally.skipped);
            // An error page in the list's place, say, or what a failed download leaves.
            let had = before.get(at).map_or(0, |tally| tally.entries);
            if entries == 0 && (skipped > 0 || had > 0) {
                let were = if had > 0 { format!(", where there were {had}") } else { String::new() };
                let message = format!("{path}: none of its {skipped} lines is an entry{were}");
                return Err(ConfigFault { key: format!("lists[{at}].path"), message });
            }
            tallies.push(tally);
            tracing::info!(filter, %path, category = list.category, entries, skipped, "list read");
        }
        let lists = builder
            .build()
            .map_err(|error| ConfigFault { key: "lists".to_owned(), message: error.to_string() })?;
        let (entries, bytes) = (lists.len(), lists.bytes());
        let per_entry = bytes as f64 / entries.max(1) as f64;
        tracing::info!(filter, entries, bytes, "lists in place, {per_entry:.1} bytes per entry");
        Ok(Reading { lists, stamps, tallies })
    }

    fn stamps(&self) -> Vec<Stamp> {
        self.lists.iter().map(|list| stamp(&list.path).ok()).collect()
    }
}

/// By what a change of a file is seen: time, length and inode; `None`: it cannot be told.
type Stamp = Option<(SystemTime, u64, u64)>;

fn stamp(path: &Path) -> io::Result<(SystemTime, u64, u64)> {
    let metadata = fs::metadata(path)?;
    Ok((metadata.modified()?, metadata.len(), metadata.ino()))
}

#[derive(Debug)]
struct Reading {
    lists: Lists,
    stamps: Vec<Stamp>,
    /// Of each list.
    tallies: Vec<Tally>,
}

/// Lists with their origin, which all filters of one name share, also over a change of configuration.
#[derive(Debug)]
pub(super) struct Source {
    filter: String,
    origin: Origin,
    current: ArcSwap<Reading>,
    /// Ends the thread when it is dropped.
    _watched: Sender<()>,
}

impl Source {
    /// The lists of the filter of this name, watched by a thread. Files that have changed since they were read are read again.
    pub(super) fn open(lasting: &Lasting, filter: &str, origin: Origin) -> Result<Arc<Self>, ConfigFault> {
        let make = || {
            let (source, end) = Self::unwatched(filter, origin.clone())?;
            watch(Arc::downgrade(&source), end).map_err(|error| ConfigFault {
                key: "lists".to_owned(),
                message: format!("cannot start the thread that reads them again: {error}"),
            })?;
            Ok(source)
        };
        let is_same = |there: &Self| there.origin == origin;
        let source = shared(lasting, &format!("url-block:{filter}"), is_same, make)?;
        if source.current.load().stamps != source.origin.stamps() {
            // Whoever has a configuration read again means what is there now.
            source.read(&[])?;
        }
        Ok(source)
    }

    /// As [`Source::open`] for the first time, but without a thread and for nobody else; and what such a thread would end by.
    pub(super) fn unwatched(filter: &str, origin: Origin) -> Result<(Arc<Self>, Receiver<()>), ConfigFault> {
        let current = ArcSwap::from_pointee(origin.read(filter, &[])?);
        let (watched, end) = crossbeam_channel::bounded(0);
        Ok((Arc::new(Self { filter: filter.to_owned(), origin, current, _watched: watched }), end))
    }

    /// The lists as they are now.
    pub(super) fn lists(&self) -> impl AsRef<Lists> + use<> {
        Current(self.current.load())
    }

    fn report(&self) -> Vec<ListReport> {
        let reading = self.current.load();
        let read = reading.tallies.iter().zip(&reading.stamps);
        let report = |(list, (tally, stamp)): (&ListSettings, (&Tally, &Stamp))| ListReport {
            path: list.path.clone(),
            category: list.category.clone(),
            entries: tally.entries,
            skipped: tally.skipped,
            written: stamp
                .and_then(|(at, ..)| at.duration_since(UNIX_EPOCH).ok())
                .unwrap_or_default()
                .as_secs(),
        };
        self.origin.lists.iter().zip(read).map(report).collect()
    }

    pub(super) const fn origin(&self) -> &Origin {
        &self.origin
    }

    fn read(&self, before: &[Tally]) -> Result<(), ConfigFault> {
        self.current.store(Arc::new(self.origin.read(&self.filter, before)?));
        Ok(())
    }
}

/// What a list's file said when it was read last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListReport {
    pub path: PathBuf,
    pub category: String,
    /// Entries, also such as come twice.
    pub entries: u64,
    /// Lines, or names in lines, that are no entries.
    pub skipped: u64,
    /// When the file was written that was read: Unix time in seconds.
    pub written: u64,
}

/// The lists that are in force, by their filters' names.
pub fn report(lasting: &Lasting) -> Vec<(String, Vec<ListReport>)> {
    let own_name = |name: &str| name.strip_prefix("url-block:").unwrap_or(name).to_owned();
    all_shared::<Source>(lasting).iter().map(|(name, source)| (own_name(name), source.report())).collect()
}

struct Current(Guard<Arc<Reading>>);

impl AsRef<Lists> for Current {
    fn as_ref(&self) -> &Lists {
        &self.0.lists
    }
}

fn watch(source: Weak<Source>, end: Receiver<()>) -> io::Result<()> {
    let run = move || {
        let mut watch = Watch::default();
        while end.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
            let Some(source) = source.upgrade() else { return };
            watch.look(&source);
        }
    };
    thread::Builder::new().name("url-block".to_owned()).spawn(run).map(drop)
}

/// What the thread has seen.
#[derive(Debug, Default)]
struct Watch {
    /// At the last look.
    last: Vec<Stamp>,
    /// What could not be read, which was said then.
    failed: Vec<Stamp>,
}

impl Watch {
    /// Reads the files if they have changed, and rested since the look before: one that is being written is left alone. A list that
    /// has no entry any more unblocks everything, and is believed only once a configuration is read again.
    fn look(&mut self, source: &Source) {
        let stamps = source.origin.stamps();
        let rests = stamps == self.last;
        let is_known = stamps == source.current.load().stamps || stamps == self.failed;
        if rests && !is_known {
            let before = source.current.load().tallies.clone();
            match source.read(&before) {
                Ok(()) => self.failed.clear(),
                Err(fault) => {
                    tracing::warn!(filter = source.filter, %fault, "lists stay as they were read before");
                    self.failed.clone_from(&stamps);
                }
            }
        }
        self.last = stamps;
    }
}

#[cfg(test)]
mod tests {
    use super::super::place::Place;
    use super::*;

    fn origin(dir: &Path) -> Origin {
        let list = |name: &str, category: &str| ListSettings {
            path: dir.join(name),
            category: category.to_owned(),
            format: Format::Auto,
        };
        Origin {
            lists: vec![list("ads.txt", "ads"), list("more.txt", "ads"), list("games.txt", "games")],
            allow: vec!["good.example".to_owned()],
        }
    }

    fn has(source: &Source, host: &str) -> bool {
        let mut place = Place::default();
        place.read(host.as_bytes(), b"/").expect("a host");
        let mut listed = 0;
        source.lists().as_ref().walk(&place, |membership, _| listed |= membership.listed);
        listed != 0
    }

    fn files(texts: [&str; 3]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        for (name, text) in ["ads.txt", "more.txt", "games.txt"].iter().zip(texts) {
            fs::write(dir.path().join(name), text).expect("a file");
        }
        dir
    }

    #[test]
    fn a_file_that_changed_is_read_once_it_rests() {
        let dir = files(["a.example", "", ""]);
        let source = Source::open(&Lasting::default(), "test", origin(dir.path())).expect("lists");
        let mut watch = Watch::default();
        watch.look(&source);
        assert!(has(&source, "a.example") && !has(&source, "b.example"));
        fs::write(dir.path().join("more.txt"), "b.example\nc.exam").expect("a file");
        watch.look(&source);
        assert!(!has(&source, "b.example"), "it may be written still");
        fs::write(dir.path().join("more.txt"), "b.example\nc.example").expect("a file");
        watch.look(&source);
        assert!(!has(&source, "b.example"));
        watch.look(&source);
        assert!(has(&source, "a.example") && has(&source, "b.example") && has(&source, "c.example"));
    }

    #[test]
    fn a_file_that_is_gone_leaves_the_lists_as_they_were_until_it_is_back() {
        let dir = files(["a.example", "", "b.example"]);
        let source = Source::open(&Lasting::default(), "test", origin(dir.path())).expect("lists");
        let mut watch = Watch::default();
        fs::remove_file(dir.path().join("games.txt")).expect("the file is there");
        for _ in 0..3 {
            watch.look(&source);
            assert!(has(&source, "b.example"));
        }
        fs::write(dir.path().join("games.txt"), "c.example").expect("a file");
        watch.look(&source);
        watch.look(&source);
        assert!(has(&source, "c.example") && !has(&source, "b.example"));
    }

    #[test]
    fn a_file_without_an_entry_in_its_lines_leaves_the_lists_as_they_were() {
        let (lasting, dir) = (Lasting::default(), files(["a.example", "", ""]));
        let source = Source::open(&lasting, "test", origin(dir.path())).expect("lists");
        let mut watch = Watch::default();
        let changed = |text: &str, watch: &mut Watch| {
            fs::write(dir.path().join("ads.txt"), text).expect("a file");
            watch.look(&source);
            watch.look(&source);
        };
        changed("<!doctype html>\n<p>not found</p>\n", &mut watch);
        assert!(has(&source, "a.example"));
        changed("<!doctype html>\nb.example\n", &mut watch);
        assert!(has(&source, "b.example"), "a line that is no entry is skipped");
        for text in ["# nothing any more\n", ""] {
            changed(text, &mut watch);
            assert!(has(&source, "b.example"), "{text:?}");
        }
        Source::open(&lasting, "test", origin(dir.path())).expect("lists");
        assert!(!has(&source, "b.example"), "a list may be empty where that is meant");
    }

    #[test]
    fn a_report_tells_of_each_list_what_was_read() {
        let dir = files(["a.example\nb.example\ntwo words", "", "c.example"]);
        let lasting = Lasting::default();
        let source = Source::open(&lasting, "test", origin(dir.path())).expect("lists");
        let [(name, lists)] = &report(&lasting)[..] else { panic!("one filter") };
        assert_eq!(name, "test");
        let told: Vec<_> =
            lists.iter().map(|list| (list.category.as_str(), list.entries, list.skipped)).collect();
        assert_eq!(told, [("ads", 2, 1), ("ads", 0, 0), ("games", 1, 0)]);
        assert!(lists.iter().all(|list| list.written > 1_700_000_000 && list.path.starts_with(dir.path())));
        drop(source);
        assert!(report(&lasting).is_empty(), "nobody has them any more");
    }

    #[test]
    fn what_cannot_be_read_at_the_start_is_told_by_key_and_file() {
        let dir = files(["", "", ""]);
        let mut origin = origin(dir.path());
        origin.lists[1].path = dir.path().join("none.txt");
        let fault =
            Source::open(&Lasting::default(), "test", origin.clone()).expect_err("there is no such file");
        assert_eq!(fault.key, "lists[1].path");
        assert!(fault.message.contains("none.txt"), "{fault}");
        origin.allow.push("two words".to_owned());
        let fault = Source::open(&Lasting::default(), "test", origin.clone()).expect_err("that is no entry");
        assert_eq!(fault.key, "allow[1]");
        origin.lists = vec![origin.lists[0].clone(); MOST_LISTS + 1];
        assert_eq!(Source::open(&Lasting::default(), "test", origin).expect_err("too many").key, "lists");
    }

    #[test]
    fn the_next_configuration_shares_the_lists_and_reads_what_changed() {
        let (lasting, dir) = (Lasting::default(), files(["a.example", "", ""]));
        let open = |origin: Origin| Source::open(&lasting, "test", origin).expect("lists");
        let first = open(origin(dir.path()));
        fs::write(dir.path().join("ads.txt"), "bb.example").expect("a file");
        let second = open(origin(dir.path()));
        assert!(Arc::ptr_eq(&first, &second));
        assert!(has(&first, "bb.example"));
        let other = open(Origin { allow: vec![], ..origin(dir.path()) });
        assert!(!Arc::ptr_eq(&first, &other), "an origin of its own");
    }

    #[test]
    fn lists_that_nobody_has_any_more_are_gone() {
        let (lasting, dir) = (Lasting::default(), files(["a.example", "", ""]));
        let source = Arc::downgrade(&Source::open(&lasting, "test", origin(dir.path())).expect("lists"));
        assert!(source.upgrade().is_none());
    }
}
