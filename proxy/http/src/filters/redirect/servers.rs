//! Servers that share requests: who gets the next one, and who is left out for a while because it failed.
//!
//! Runs on: proxy cores, all on the same atomics. Allocates: never. Blocks: never.
//!
//! ```text
//!            failures in a row                      time is over: one request goes there
//!   in  ---------------------------->  ejected  -------------------------------------->  probed
//!    ^                                    ^                                              |  |
//!    |                                    '------------- failure: for longer ------------'  |
//!    '------------------------------------------------------------------------- success ----'
//! ```
//!
//! That is seen by what becomes of requests, and who probes a server in vain is served by another, where the request may be sent
//! twice. Health checks ([`pnat_shared::check`]), if there are any, have a say of their own: who fails as many of them in a row is
//! ill, and left out, until one succeeds. Where nobody is in, the one whose time is over first gets requests all the same.

use std::hash::Hasher as _;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};

use pnat_shared::check::{Checked, Finding};
use pnat_shared::time::{Duration, Instant};
use serde::Deserialize;
use siphasher::sip::SipHasher13;

use crate::filter::Exchange;

/// One server.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ServerSettings {
    pub(super) address: SocketAddrV4,
    /// Its share of requests beside the others'.
    #[serde(default = "default_weight")]
    pub(super) weight: u32,
}

const fn default_weight() -> u32 {
    1
}

/// How requests are shared, and when a server is ejected.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Sharing {
    /// A client's requests all go to one server, as long as it is in.
    pub(super) is_sticky: bool,
    /// So many failures in a row eject a server.
    pub(super) failures: u32,
    /// For how long at first; each time as much longer.
    pub(super) eject: Duration,
    /// For how long at most. Who has been in for so long again starts over.
    pub(super) eject_most: Duration,
    /// Servers are asked whether they are well.
    pub(super) is_checked: bool,
    /// Status of who is well; `None`: 200 to 399.
    pub(super) status: Option<u16>,
}

/// The servers of one filter.
#[derive(Debug)]
pub(super) struct Servers {
    servers: Vec<Server>,
    sharing: Sharing,
    /// Requests so far, or where in their sequence of shares the next one stands.
    turn: AtomicU64,
}

#[derive(Debug)]
struct Server {
    settings: ServerSettings,
    /// In a row, while it is in.
    failures: AtomicU32,
    /// How often in a row it was ejected.
    ejections: AtomicU32,
    /// Nanoseconds of the [`Instant`] until when it is ejected, or probed; 0: it is in.
    until: AtomicU64,
    /// Nanoseconds of the [`Instant`] since when it is in again.
    since: AtomicU64,
    /// Health checks that it has failed in a row, and whether that is too many.
    failed_checks: AtomicU32,
    is_ill: AtomicBool,
    requests: AtomicU64,
    /// Requests that failed.
    failed: AtomicU64,
}

/// How one server does.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerReport {
    pub address: SocketAddrV4,
    /// Requests that it got.
    pub requests: u64,
    /// Those of them that failed: no response, or a status of 5xx.
    pub failures: u64,
    /// It is left out for now.
    pub is_ejected: bool,
}

/// A request's server, until its outcome is told.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) address: SocketAddrV4,
    index: usize,
    is_probe: bool,
}

impl Choice {
    /// Whether it is to have the request yet.
    pub(super) fn is_asked(self, exchange: &Exchange) -> bool {
        exchange.target == Some(self.address)
    }

    /// The server in a set of servers.
    pub(super) const fn bit(self) -> u64 {
        1 << self.index
    }
}

/// What became of a request.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Success,
    Failure,
    /// The server was asked, and the client left before it said anything.
    Silence,
    /// The server had no chance to show anything.
    None,
}

impl Servers {
    /// At least one server, of a weight of at least one.
    pub(super) fn new(servers: &[ServerSettings], sharing: Sharing) -> Self {
        let server = |settings: &ServerSettings| Server {
            settings: *settings,
            failures: AtomicU32::new(0),
            ejections: AtomicU32::new(0),
            until: AtomicU64::new(0),
            since: AtomicU64::new(0),
            failed_checks: AtomicU32::new(0),
            is_ill: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        };
        Self { servers: servers.iter().map(server).collect(), sharing, turn: AtomicU64::new(0) }
    }

    /// Whether they are these, shared in this way.
    pub(super) fn are(&self, servers: &[ServerSettings], sharing: &Sharing) -> bool {
        self.servers.iter().map(|server| &server.settings).eq(servers) && self.sharing == *sharing
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = SocketAddrV4> {
        self.servers.iter().map(|server| server.settings.address)
    }

    /// The server for a client's next request.
    pub(super) fn choose(&self, client: Ipv4Addr, now: Instant) -> Choice {
        let (index, is_probe) = match self.sharing.is_sticky {
            true => self.sticky(client, now),
            false => self.in_turn(now),
        };
        Choice { address: self.servers[index].settings.address, index, is_probe }
    }

    /// The server of a request before, if it is in.
    pub(super) fn again(&self, choice: Choice) -> Option<Choice> {
        self.servers[choice.index].is_in().then_some(Choice { is_probe: false, ..choice })
    }

    /// A server that is in, for a request that others have `tried` in vain.
    pub(super) fn other(&self, tried: u64, client: Ipv4Addr) -> Option<Choice> {
        let is_other = |index: usize| tried >> index & 1 == 0 && self.servers[index].is_in();
        let index = match self.sharing.is_sticky {
            true => self.best(client, is_other),
            false => self.next(is_other),
        }?;
        Some(Choice { address: self.servers[index].settings.address, index, is_probe: false })
    }

    /// Says what became of the request.
    pub(super) fn tell(&self, choice: Choice, outcome: Outcome, now: Instant) {
        let server = &self.servers[choice.index];
        server.requests.fetch_add(u64::from(outcome != Outcome::None), Relaxed);
        server.failed.fetch_add(u64::from(outcome == Outcome::Failure), Relaxed);
        match outcome {
            Outcome::Success => server.succeeded(now),
            Outcome::Failure => server.failed(choice.is_probe, &self.sharing, now),
            Outcome::None if choice.is_probe => server.until.store(now.as_nanos().max(1), Relaxed),
            // A probe that found nothing out: the next one is when this one's time is over.
            Outcome::Silence | Outcome::None => {}
        }
    }

    pub(super) fn report(&self) -> Vec<ServerReport> {
        let report = |server: &Server| ServerReport {
            address: server.settings.address,
            requests: server.requests.load(Relaxed),
            failures: server.failed.load(Relaxed),
            is_ejected: !server.is_in(),
        };
        self.servers.iter().map(report).collect()
    }

    /// By weights: multiples of the golden ratio fill the range of shares more evenly than chance does, with any number of cores.
    fn in_turn(&self, now: Instant) -> (usize, bool) {
        let probe = self.servers.iter().position(|server| server.may_be_probed(&self.sharing, now));
        if let Some(index) = probe {
            return (index, true);
        }
        (self.next(|index| self.servers[index].is_in()).unwrap_or_else(|| self.first_back()), false)
    }

    /// The one of these whose turn it is.
    fn next(&self, is_one: impl Fn(usize) -> bool) -> Option<usize> {
        let weight = |index: usize| u64::from(self.servers[index].settings.weight);
        let those = || (0..self.servers.len()).filter(|&index| is_one(index));
        let total: u64 = those().map(weight).sum();
        let turn = self.turn.fetch_add(1, Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut point = ((u128::from(turn) * u128::from(total)) >> 64) as u64;
        for index in those() {
            match point.checked_sub(weight(index)) {
                Some(rest) => point = rest,
                None => return Some(index),
            }
        }
        // The last of them may have been ejected in between.
        None
    }

    /// Each client has an order of servers of its own, in which heavier ones come first more often; whoever is ejected is passed
    /// over, and moves nobody else's clients (rendezvous hashing).
    fn sticky(&self, client: Ipv4Addr, now: Instant) -> (usize, bool) {
        let mut passed_over = 0_u64;
        while let Some(index) = self.best(client, |index| passed_over >> index & 1 == 0) {
            let server = &self.servers[index];
            if server.is_in() {
                return (index, false);
            }
            if server.may_be_probed(&self.sharing, now) {
                return (index, true);
            }
            passed_over |= 1 << index;
        }
        (self.first_back(), false)
    }

    /// The first of these in a client's order.
    fn best(&self, client: Ipv4Addr, is_one: impl Fn(usize) -> bool) -> Option<usize> {
        let those = (0..self.servers.len().min(MOST_SERVERS)).filter(|&index| is_one(index));
        let costs = those.map(|index| (index, self.servers[index].cost(client)));
        costs.min_by(|(_, one), (_, other)| one.total_cmp(other)).map(|(index, _)| index)
    }

    fn first_back(&self) -> usize {
        let until =
            |(_, server): &(usize, &Server)| (server.is_ill.load(Relaxed), server.until.load(Relaxed));
        self.servers.iter().enumerate().min_by_key(until).map_or(0, |(index, _)| index)
    }
}

impl Checked for Servers {
    fn checked(&self, address: SocketAddrV4, finding: Finding, _now: Instant) {
        let Some(server) = self.servers.iter().find(|server| server.settings.address == address) else {
            return;
        };
        let is_well = match finding {
            Finding::Connected => true,
            Finding::Status(status) => match self.sharing.status {
                Some(wanted) => status == wanted,
                None => (200..400).contains(&status),
            },
            Finding::Reset | Finding::Unreachable | Finding::Silence | Finding::Garbage => false,
        };
        if is_well {
            server.failed_checks.store(0, Relaxed);
            if server.is_ill.swap(false, Relaxed) {
                tracing::info!(server = %address, "server is well again, says its health check");
            }
            return;
        }
        let failed = server.failed_checks.fetch_add(1, Relaxed).saturating_add(1);
        if failed >= self.sharing.failures && !server.is_ill.swap(true, Relaxed) {
            tracing::warn!(server = %address, ?finding, "server is left out: it fails its health checks");
        }
    }
}

/// Servers are bits of a set.
pub(super) const MOST_SERVERS: usize = 64;

impl Server {
    fn is_in(&self) -> bool {
        self.until.load(Relaxed) == 0 && !self.is_ill.load(Relaxed)
    }

    /// Whether the caller, and nobody else, is to probe it. It has as long for that as an ejection takes at first.
    fn may_be_probed(&self, sharing: &Sharing, now: Instant) -> bool {
        let until = self.until.load(Relaxed);
        let next = (now + sharing.eject).as_nanos();
        until != 0
            && !self.is_ill.load(Relaxed)
            && until <= now.as_nanos()
            && self.until.compare_exchange(until, next, Relaxed, Relaxed).is_ok()
    }

    fn succeeded(&self, now: Instant) {
        self.failures.store(0, Relaxed);
        if self.until.swap(0, Relaxed) != 0 {
            self.since.store(now.as_nanos(), Relaxed);
            tracing::info!(server = %self.settings.address, "server is back");
        }
    }

    fn failed(&self, is_probe: bool, sharing: &Sharing, now: Instant) {
        let until = self.until.load(Relaxed);
        if until == 0 {
            if self.failures.fetch_add(1, Relaxed) + 1 < sharing.failures {
                return;
            }
            if now.since(Instant::from_nanos(self.since.load(Relaxed))) > sharing.eject_most {
                self.ejections.store(0, Relaxed);
            }
        } else if !is_probe {
            // Sent before it was ejected, or because nobody else was left.
            return;
        }
        let ejections = self.ejections.load(Relaxed).saturating_add(1);
        let time = sharing.eject.saturating_mul(ejections).min(sharing.eject_most);
        if self.until.compare_exchange(until, (now + time).as_nanos(), Relaxed, Relaxed).is_ok() {
            self.ejections.store(ejections, Relaxed);
            self.failures.store(0, Relaxed);
            tracing::warn!(server = %self.settings.address, ?time, "server is ejected: it failed too often in a row");
        }
    }

    /// The less, the sooner a client's requests go here.
    fn cost(&self, client: Ipv4Addr) -> f64 {
        let mut hasher = SipHasher13::new();
        hasher.write(&client.octets());
        hasher.write(&self.settings.address.ip().octets());
        hasher.write_u16(self.settings.address.port());
        // In (0, 1], evenly.
        let even = ((hasher.finish() >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        -even.ln() / f64::from(self.settings.weight)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);

    fn settings(weights: &[u32]) -> Vec<ServerSettings> {
        let server = |(at, weight): (usize, &u32)| ServerSettings {
            address: SocketAddrV4::new(Ipv4Addr::new(198, 18, 0, at as u8), 80),
            weight: *weight,
        };
        weights.iter().enumerate().map(server).collect()
    }

    fn servers(weights: &[u32], is_sticky: bool) -> Servers {
        let (eject, eject_most) = (Duration::from_secs(30), Duration::from_secs(75));
        Servers::new(
            &settings(weights),
            Sharing { is_sticky, failures: 3, eject, eject_most, is_checked: true, status: None },
        )
    }

    /// How often each server was chosen in so many turns, which all succeed.
    fn shares(servers: &Servers, turns: u32, now: Instant) -> Vec<u32> {
        let mut shares = vec![0; servers.servers.len()];
        for turn in 0..turns {
            let choice = servers.choose(Ipv4Addr::from_bits(0x0a00_0000 + turn), now);
            shares[choice.index] += 1;
            servers.tell(choice, Outcome::Success, now);
        }
        shares
    }

    /// Fails as often as it takes.
    fn eject(servers: &Servers, index: usize, now: Instant) {
        let address = servers.servers[index].settings.address;
        for _ in 0..3 {
            assert!(servers.servers[index].is_in());
            servers.tell(Choice { address, index, is_probe: false }, Outcome::Failure, now);
        }
        let report = servers.report()[index];
        assert!(
            report.is_ejected && report.failures >= 3 && report.requests >= report.failures,
            "{report:?}"
        );
    }

    #[test]
    fn shares_are_as_weights_are() {
        let servers = servers(&[3, 1, 2], false);
        for share in shares(&servers, 600, Instant::ZERO).iter().zip([300, 100, 200]) {
            assert!(share.0.abs_diff(share.1) <= 3, "{share:?}");
        }
    }

    #[test]
    fn a_client_keeps_its_server_and_clients_are_shared_by_weight() {
        let servers = servers(&[3, 1], true);
        let first = servers.choose(CLIENT, Instant::ZERO);
        assert!((0..100).all(|_| servers.choose(CLIENT, Instant::ZERO) == first));
        let shares = shares(&servers, 4000, Instant::ZERO);
        assert!(shares[0].abs_diff(3000) < 150, "{shares:?}");
    }

    #[test]
    fn who_is_ejected_moves_no_other_servers_clients() {
        let servers = servers(&[1, 1, 1], true);
        let all = |now| -> Vec<_> {
            (0..200).map(|client| servers.choose(Ipv4Addr::from_bits(client), now).index).collect()
        };
        let before = all(Instant::ZERO);
        eject(&servers, 1, Instant::ZERO);
        for (before, after) in before.iter().zip(all(Instant::from_secs(1))) {
            assert!(after == *before || (*before == 1 && after != 1));
        }
    }

    #[test]
    fn failures_in_a_row_eject_a_server_and_a_success_between_them_does_not() {
        let servers = servers(&[1, 1], false);
        let choice = Choice { address: servers.servers[0].settings.address, index: 0, is_probe: false };
        for _ in 0..10 {
            servers.tell(choice, Outcome::Failure, Instant::ZERO);
            servers.tell(choice, Outcome::Failure, Instant::ZERO);
            servers.tell(choice, Outcome::Success, Instant::ZERO);
        }
        assert!(servers.servers[0].is_in());
        eject(&servers, 0, Instant::ZERO);
        assert_eq!(shares(&servers, 100, Instant::from_secs(29)), [0, 100]);
    }

    #[test]
    fn when_its_time_is_over_one_request_probes_a_server_and_its_outcome_decides() {
        let servers = servers(&[1, 1], false);
        let mut now = Instant::ZERO;
        eject(&servers, 0, now);
        // Each time for longer, up to the most there is.
        for seconds in [30, 60, 75, 75] {
            now += Duration::from_secs(seconds - 1);
            assert!(!servers.choose(CLIENT, now).is_probe, "{seconds}");
            now += Duration::from_secs(1);
            let probe = servers.choose(CLIENT, now);
            assert_eq!((probe.index, probe.is_probe), (0, true));
            assert!(!servers.choose(CLIENT, now).is_probe, "one is enough");
            servers.tell(probe, Outcome::Failure, now);
        }
        now += Duration::from_secs(75);
        let probe = servers.choose(CLIENT, now);
        servers.tell(probe, Outcome::None, now);
        let probe = servers.choose(CLIENT, now);
        assert!(probe.is_probe, "the one before showed nothing");
        servers.tell(probe, Outcome::Silence, now);
        assert!(!servers.choose(CLIENT, now).is_probe, "who waits for it in vain is one at a time");
        now += Duration::from_secs(30);
        let probe = servers.choose(CLIENT, now);
        assert!(probe.is_probe);
        servers.tell(probe, Outcome::Success, now);
        assert_eq!(shares(&servers, 100, now), [50, 50]);
    }

    #[test]
    fn who_fails_again_soon_is_ejected_for_longer_and_later_starts_over() {
        let servers = servers(&[1], false);
        let server = &servers.servers[0];
        let ejected = |now: Instant| {
            eject(&servers, 0, now);
            Instant::from_nanos(server.until.load(Relaxed)).since(now).as_secs()
        };
        assert_eq!(ejected(Instant::from_secs(1000)), 30);
        server.succeeded(Instant::from_secs(1030));
        assert_eq!(ejected(Instant::from_secs(1040)), 60);
        server.succeeded(Instant::from_secs(1100));
        assert_eq!(ejected(Instant::from_secs(1176)), 30);
    }

    #[test]
    fn where_all_are_ejected_the_first_to_be_back_gets_requests_all_the_same() {
        for is_sticky in [false, true] {
            let servers = servers(&[1, 5], is_sticky);
            eject(&servers, 1, Instant::from_secs(1));
            eject(&servers, 0, Instant::from_secs(2));
            let choice = servers.choose(CLIENT, Instant::from_secs(3));
            assert_eq!((choice.index, choice.is_probe), (1, false));
            servers.tell(choice, Outcome::Failure, Instant::from_secs(4));
            assert_eq!(servers.servers[1].ejections.load(Relaxed), 1, "that says nothing new");
            servers.tell(choice, Outcome::Success, Instant::from_secs(4));
            assert!(servers.servers[1].is_in());
        }
    }

    proptest! {
        #[test]
        fn whatever_happens_somebody_is_chosen_and_nobody_is_out_for_ever(
            weights in proptest::collection::vec(1..5_u32, 1..6),
            is_sticky: bool,
            events in proptest::collection::vec((0..4_u8, 0..40_u64, any::<u32>()), 0..200),
        ) {
            let servers = servers(&weights, is_sticky);
            let mut now = Instant::from_secs(1);
            for (outcome, seconds, client) in events {
                now += Duration::from_secs(seconds);
                let choice = servers.choose(Ipv4Addr::from_bits(client), now);
                let all = [Outcome::Success, Outcome::Failure, Outcome::Silence, Outcome::None];
                let outcome = all[usize::from(outcome)];
                servers.tell(choice, outcome, now);
                for server in &servers.servers {
                    let until = Instant::from_nanos(server.until.load(Relaxed));
                    prop_assert!(until.since(now) <= servers.sharing.eject_most);
                }
            }
            // From now on all is well: every server comes in again.
            for client in 0..2000 {
                now += Duration::from_secs(1);
                let choice = servers.choose(Ipv4Addr::from_bits(client), now);
                servers.tell(choice, Outcome::Success, now);
            }
            prop_assert!(servers.servers.iter().all(Server::is_in));
        }
    }
}
