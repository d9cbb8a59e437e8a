//! Lists of a million places in little memory, and the search through all of them at once.
//!
//! Runs on: proxy cores ([`Lists::walk`]); [`Builder`] on the thread that reads lists. Allocates: never; the builder freely.
//! Blocks: never.
//!
//! All entries are keys of one finite state transducer, which keeps what keys have in common once: about ten bytes per name of
//! usual lists. Keys are the normal form of [`Place`], so that a site's subdomains and its paths are longer keys that begin like
//! its own, and one walk along a request's place meets every entry that concerns it:
//!
//! ```text
//!   entry                 key                      it covers
//!   example.com           com.example.             the site, its subdomains, all their paths
//!   *.example.com         com.example.*            its subdomains
//!   example.com/ads       com.example./ads         this path and what lies below it, also at subdomains
//! ```
//!
//! The walk ends at the first byte that no entry goes on with, and never takes more steps than the place has bytes, once for its
//! host and once for its path at each of the sites that have paths. Nothing is hashed, so no name is mistaken for another, and
//! none can be made up that takes longer than its length.

use std::collections::HashMap;
use std::fmt;

use fst::raw::{Fst, Node, Output};

use super::parse::{Entry, Format, parse};
use super::place::Place;

/// Lists are bits of a set.
pub(super) const MOST_LISTS: usize = 64;

/// Which lists have an entry, and to which it is an exception.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Membership {
    /// A bit for each list that has the entry.
    pub listed: u64,
    /// A bit for each list that the entry is an exception to.
    pub excepted: u64,
}

/// The part of a place that an entry is about.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Covered {
    /// Bytes of [`Place::host`].
    pub host: usize,
    /// Bytes of [`Place::path`].
    pub path: usize,
    /// Only what lies below that host.
    pub is_below: bool,
}

impl Covered {
    /// The entry, as it is written in a plain list.
    pub fn spell(self, place: &Place) -> String {
        let below = if self.is_below { "*." } else { "" };
        let path = String::from_utf8_lossy(&place.path()[..self.path]);
        format!("{below}{}{path}", place.host_name(self.host))
    }
}

/// The entries of all lists of a filter.
pub struct Lists {
    entries: Fst<Vec<u8>>,
    /// What entries lead to; few differ.
    memberships: Vec<Membership>,
}

impl Lists {
    /// Entries that differ.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.entries.as_bytes().len() + size_of_val(&*self.memberships)
    }

    /// Calls `found` with every entry that covers a place, from the widest to the narrowest host.
    pub fn walk(&self, place: &Place, mut found: impl FnMut(Membership, Covered)) {
        let mut step = Step { entries: &self.entries, node: self.entries.root(), output: Output::zero() };
        let host = place.host();
        for (at, &byte) in host.iter().enumerate() {
            if !step.take(byte) {
                return;
            }
            if byte != b'.' {
                continue;
            }
            let at = at + 1;
            if let Some(membership) = self.end(&step) {
                found(membership, Covered { host: at, path: 0, is_below: false });
            }
            if at < host.len() {
                let mut below = step.clone();
                if below.take(b'*')
                    && let Some(membership) = self.end(&below)
                {
                    found(membership, Covered { host: at, path: 0, is_below: true });
                }
            }
            self.walk_path(step.clone(), place, at, &mut found);
        }
    }

    fn walk_path(
        &self,
        mut step: Step<'_>,
        place: &Place,
        host: usize,
        found: &mut impl FnMut(Membership, Covered),
    ) {
        for (at, &byte) in place.path().iter().enumerate() {
            if !step.take(byte) {
                return;
            }
            if place.ends_segment(at + 1)
                && let Some(membership) = self.end(&step)
            {
                found(membership, Covered { host, path: at + 1, is_below: false });
            }
        }
    }

    /// What the entry is in that ends here, if one does.
    fn end(&self, step: &Step<'_>) -> Option<Membership> {
        let index = step.node.is_final().then(|| step.output.cat(step.node.final_output()).value())?;
        self.memberships.get(usize::try_from(index).ok()?).copied()
    }
}

impl fmt::Debug for Lists {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lists")
            .field("len", &self.len())
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}

/// How far a walk has come.
#[derive(Clone)]
struct Step<'a> {
    entries: &'a Fst<Vec<u8>>,
    node: Node<'a>,
    output: Output,
}

impl Step<'_> {
    /// Goes on by a byte; false: no entry does.
    fn take(&mut self, byte: u8) -> bool {
        let Some(index) = self.node.find_input(byte) else { return false };
        let transition = self.node.transition(index);
        self.output = self.output.cat(transition.out);
        self.node = self.entries.node(transition.addr);
        true
    }
}

/// Why entries do not become lists.
#[derive(Debug, thiserror::Error)]
pub enum TooMany {
    #[error("the names and URLs of all lists take more than 4 GiB")]
    Bytes,
    #[error(transparent)]
    Entries(#[from] fst::Error),
}

/// What became of the lines of a list.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Entries, also such as come twice.
    pub entries: u64,
    /// Lines, or names in lines, that are no entries.
    pub skipped: u64,
}

/// Gathers entries.
#[derive(Debug, Default)]
pub struct Builder {
    /// Keys, one behind the other.
    bytes: Vec<u8>,
    keys: Vec<Key>,
    place: Place,
}

#[derive(Copy, Clone, Debug)]
struct Key {
    start: u32,
    len: u32,
    membership: Membership,
}

impl Builder {
    /// Adds the lines of a list, which are in `listed`; its exceptions are for the lists of `excepted`.
    pub fn add_list(&mut self, text: &[u8], format: Format, listed: u64, excepted: u64) -> Tally {
        let mut tally = Tally::default();
        for line in text.split(|&byte| byte == b'\n') {
            let parsed = parse(format, line, |entry| {
                let membership = match entry.is_exception {
                    true => Membership { listed: 0, excepted },
                    false => Membership { listed, excepted: 0 },
                };
                match self.add(&entry, membership) {
                    true => tally.entries += 1,
                    false => tally.skipped += 1,
                }
            });
            tally.skipped += u64::from(parsed.is_err());
        }
        tally
    }

    /// Adds an entry; false: it is about no place, or about a name with letters that requests have as `xn--` only (RFC 5890 section
    /// 2.3.2.1): so must lists.
    pub fn add(&mut self, entry: &Entry<'_>, membership: Membership) -> bool {
        if !entry.authority.is_ascii()
            || self.place.read(entry.authority, entry.path).is_err()
            || (entry.is_below && !self.place.is_root())
        {
            return false;
        }
        let (start, place) = (self.bytes.len(), &self.place);
        self.bytes.extend_from_slice(place.host());
        self.bytes.extend_from_slice(if entry.is_below { b"*" } else { place.path() });
        let len = self.bytes.len() - start;
        // Whether they fit is asked at the end.
        self.keys.push(Key { start: start as u32, len: len as u32, membership });
        true
    }

    /// Puts all that was added in order.
    pub fn build(mut self) -> Result<Lists, TooMany> {
        if u32::try_from(self.bytes.len()).is_err() {
            return Err(TooMany::Bytes);
        }
        let bytes = &self.bytes;
        let text = |key: &Key| &bytes[key.start as usize..][..key.len as usize];
        self.keys.sort_unstable_by(|a, b| text(a).cmp(text(b)));
        let (mut numbers, mut memberships) = (HashMap::new(), Vec::new());
        let mut entries = fst::raw::Builder::memory();
        for same in self.keys.chunk_by(|a, b| text(a) == text(b)) {
            let membership = same.iter().fold(Membership::default(), |all, key| Membership {
                listed: all.listed | key.membership.listed,
                excepted: all.excepted | key.membership.excepted,
            });
            let number = *numbers.entry(membership).or_insert_with(|| {
                memberships.push(membership);
                memberships.len() as u64 - 1
            });
            entries.insert(text(&same[0]), number)?;
        }
        let mut entries = entries.into_inner()?;
        entries.shrink_to_fit();
        Ok(Lists { entries: Fst::new(entries)?, memberships })
    }
}

#[cfg(test)]
mod tests;
