//! What a worker remembers of flows that it refused or that have ended: the latest ones, for who asks why.
//!
//! Runs on: worker. Allocates: at creation. Blocks: never.
//!
//! Refusals, failures and ordinary endings are kept apart, so that many of the one kind do not wash the others away; and the
//! same refusal of one client many times in a row fills one place.

use core::net::SocketAddrV4;

use pnat_shared::flow::LastWords;
use pnat_shared::path_mtu::PathMtus;
use pnat_shared::time::Instant;
use pnat_shared::verdict::{CloseReason, DropReason};

use super::target;
use crate::nat::Closed;
use crate::nat::binding::Path;
use crate::nat::tuple::Tuple;

/// Refusals that are remembered: 64 bytes each.
const REFUSALS: usize = 4_096;
/// Failures that are remembered, and as many ordinary endings: some 120 bytes each, and what a filter said.
const ENDINGS: usize = 8_192;

/// A worker's memory of the past.
#[derive(Debug)]
pub struct History {
    pub refusals: Past<Refusal>,
    pub failures: Past<Ending>,
    pub endings: Past<Ending>,
}

/// A flow that was not opened.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Client to server; its client's port is that of the last attempt.
    pub tuple: Tuple,
    pub policy: u32,
    pub rule: Option<u16>,
    pub reason: DropReason,
    /// When it was tried last.
    pub at: Instant,
    /// How often in a row.
    pub times: u32,
}

/// A flow that was open.
#[derive(Debug)]
pub struct Ending {
    /// Client to server.
    pub tuple: Tuple,
    /// The server that a filter chose in place of the one that the client named; the last of several.
    pub target: Option<SocketAddrV4>,
    pub public: SocketAddrV4,
    pub policy: u32,
    pub rule: Option<u16>,
    pub path: Path,
    pub opened: Instant,
    /// From the client and from the server.
    pub packets: [u64; 2],
    /// Of those packets, from the IP header on.
    pub bytes: [u64; 2],
    pub reason: CloseReason,
    pub at: Instant,
    /// What the worker found to be longer than a leg carries.
    pub path_mtus: PathMtus,
    pub last_words: Option<Box<LastWords>>,
}

impl Default for History {
    fn default() -> Self {
        Self { refusals: Past::new(REFUSALS), failures: Past::new(ENDINGS), endings: Past::new(ENDINGS) }
    }
}

impl History {
    pub(super) fn refused(&mut self, refusal: Refusal) {
        if let Some(last) = self.refusals.latest_mut()
            && last.is_again(&refusal)
        {
            let times = last.times.saturating_add(1);
            *last = Refusal { times, ..refusal };
        } else {
            self.refusals.push(refusal);
        }
    }

    pub(super) fn ended(
        &mut self,
        closed: &Closed,
        reason: CloseReason,
        path_mtus: PathMtus,
        last_words: Option<Box<LastWords>>,
        at: Instant,
    ) {
        let ([tuple, outside], binding) = (closed.keys, &closed.binding);
        let past = if reason.is_ordinary() { &mut self.endings } else { &mut self.failures };
        past.push(Ending {
            tuple,
            target: target(&closed.keys),
            public: outside.dst(),
            policy: binding.policy,
            rule: binding.rule,
            path: binding.path,
            opened: binding.opened,
            packets: binding.packets,
            bytes: binding.bytes,
            reason,
            at,
            path_mtus,
            last_words,
        });
    }
}

impl Refusal {
    /// Whether the same client was refused the same for the same reason.
    fn is_again(&self, other: &Self) -> bool {
        let what = |refusal: &Self| {
            let tuple = refusal.tuple;
            (*tuple.src().ip(), tuple.dst(), tuple.protocol(), refusal.policy, refusal.rule, refusal.reason)
        };
        what(self) == what(other)
    }
}

/// The latest entries of all that there were, in a ring; entries are numbered from 0 as they come.
#[derive(Debug)]
pub struct Past<T> {
    ring: Vec<T>,
    /// Entries that there were.
    count: u64,
}

impl<T> Past<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { ring: Vec::with_capacity(capacity), count: 0 }
    }

    pub(crate) fn push(&mut self, entry: T) {
        let place = self.place(self.count);
        match self.ring.get_mut(place) {
            Some(oldest) => *oldest = entry,
            None => self.ring.push(entry),
        }
        self.count += 1;
    }

    fn latest_mut(&mut self) -> Option<&mut T> {
        let place = self.place(self.count.checked_sub(1)?);
        self.ring.get_mut(place)
    }

    /// Entries that there were.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The entry of this number, unless it is forgotten or still to come.
    pub fn get(&self, number: u64) -> Option<&T> {
        let is_there = number < self.count && self.count - number <= self.ring.len() as u64;
        self.ring.get(self.place(number)).filter(|_| is_there)
    }

    fn place(&self, number: u64) -> usize {
        (number % self.ring.capacity() as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_entries_are_known_by_their_numbers_and_no_others() {
        let mut past = Past::new(3);
        let capacity = past.ring.capacity() as u64;
        for entry in 0..10 {
            past.push(entry);
            let known: Vec<u64> = (0..12).filter_map(|number| past.get(number).copied()).collect();
            let expected: Vec<u64> = (0..=entry).filter(|number| entry - number < capacity).collect();
            assert_eq!(known, expected);
        }
        assert_eq!(past.ring.len() as u64, capacity, "it never grows");
    }

    #[test]
    fn a_client_that_tries_again_takes_one_place() {
        let tuple = |client: &str, server: &str| {
            let address = |text: &str| text.parse().expect("address");
            Tuple::new(pnat_shared::flow::Protocol::Tcp, address(client), address(server))
        };
        let refusal = |client, server, at| Refusal {
            tuple: tuple(client, server),
            policy: 1,
            rule: Some(0),
            reason: DropReason::Denied,
            at: Instant::from_nanos(at),
            times: 1,
        };
        let mut history = History::default();
        history.refused(refusal("10.0.0.5:4000", "192.0.2.1:80", 1));
        history.refused(refusal("10.0.0.5:4001", "192.0.2.1:80", 2));
        history.refused(refusal("10.0.0.5:4002", "192.0.2.1:81", 3));
        let told = |number| {
            history.refusals.get(number).map(|r: &Refusal| (r.times, r.at.as_nanos(), r.tuple.src().port()))
        };
        assert_eq!([told(0), told(1), told(2)], [Some((2, 2, 4001)), Some((1, 3, 4002)), None]);
        assert_eq!(history.refusals.count(), 2);
    }
}
