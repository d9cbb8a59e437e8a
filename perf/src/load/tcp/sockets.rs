//! Clients' and servers' addresses and ports, by arithmetic, and which of the clients' may be used again.
//!
//! Runs on: the generator's core. Allocates: where more sockets rest than ever before. Blocks: never.

use core::ops::RangeInclusive;
use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddrV4};

use pnat_shared::time::{Duration, Instant};

use crate::load::flows::addresses;

/// Every port of every address of a range: from one socket to the next the address changes, so that connections come from as
/// many hosts as there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sockets {
    pub addrs: RangeInclusive<Ipv4Addr>,
    pub ports: RangeInclusive<u16>,
}

impl Sockets {
    /// How many there are.
    pub fn count(&self) -> u64 {
        let ports = u64::from(self.ports.end().saturating_sub(*self.ports.start())) + 1;
        u64::try_from(addresses(&self.addrs)).unwrap_or(u64::MAX).saturating_mul(ports)
    }

    /// One of them; numbers beyond their count begin anew.
    pub fn at(&self, number: u64) -> SocketAddrV4 {
        let number = number % self.count();
        let hosts = addresses(&self.addrs) as u64;
        let addr = self.addrs.start().to_bits() + (number % hosts) as u32;
        SocketAddrV4::new(Ipv4Addr::from_bits(addr), self.ports.start() + (number / hosts) as u16)
    }

    pub fn holds(&self, socket: SocketAddrV4) -> bool {
        self.addrs.contains(socket.ip()) && self.ports.contains(&socket.port())
    }

    /// Whether a socket is in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        let meet = self.addrs.start() <= other.addrs.end() && other.addrs.start() <= self.addrs.end();
        meet && self.ports.start() <= other.ports.end() && other.ports.start() <= self.ports.end()
    }
}

/// A class's client sockets: each serves one connection at a time, and rests after it as long as TIME-WAIT lasts.
#[derive(Debug)]
pub struct ClientSockets {
    sockets: Sockets,
    rest: Duration,
    /// How many have ever been used: those with the lowest numbers.
    used: u32,
    count: u32,
    /// In the order in which they may be used again, and when.
    resting: VecDeque<(u32, Instant)>,
}

impl ClientSockets {
    pub fn new(sockets: Sockets, rest: Duration) -> Self {
        let count = u32::try_from(sockets.count()).unwrap_or(u32::MAX);
        Self { sockets, rest, used: 0, count, resting: VecDeque::new() }
    }

    /// A socket that nobody uses, and its number: one that was never used, as long as there is one. `None` where all are in use
    /// or rest.
    pub fn take(&mut self, now: Instant) -> Option<(u32, SocketAddrV4)> {
        let number = if self.used < self.count {
            self.used += 1;
            self.used - 1
        } else {
            self.resting.pop_front_if(|(_, until)| *until <= now)?.0
        };
        Some((number, self.sockets.at(number.into())))
    }

    /// The connection of a socket is over.
    pub fn give_back(&mut self, number: u32, now: Instant) {
        self.resting.push_back((number, now + self.rest));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{HashMap, HashSet};

    fn sockets(hosts: u32, ports: u16) -> Sockets {
        let first = 0x0aff_ff00;
        Sockets {
            addrs: Ipv4Addr::from_bits(first)..=Ipv4Addr::from_bits(first + hosts - 1),
            ports: 65_535 - (ports - 1)..=65_535,
        }
    }

    proptest! {
        #[test]
        fn every_number_is_another_socket_of_the_range(hosts in 1u32..600, ports in 1u16..50) {
            let sockets = sockets(hosts, ports);
            let all: HashSet<_> = (0..sockets.count()).map(|number| sockets.at(number)).collect();
            prop_assert_eq!(all.len(), hosts as usize * usize::from(ports));
            prop_assert!(all.iter().all(|socket| sockets.holds(*socket)));
            prop_assert_eq!(sockets.at(sockets.count()), sockets.at(0));
        }

        #[test]
        fn no_socket_is_used_twice_at_a_time_or_before_it_has_rested(
            steps in prop::collection::vec((any::<bool>(), 0u64..400), 1..300),
        ) {
            let mut clients = ClientSockets::new(sockets(3, 2), Duration::from_secs(1));
            let (mut now, mut busy, mut over) = (Instant::ZERO, Vec::new(), HashMap::new());
            for (takes, millis) in steps {
                now += Duration::from_millis(millis);
                if takes {
                    let free = 6 - busy.len()
                        - over.values().filter(|at: &&Instant| now.since(**at) < Duration::from_secs(1)).count();
                    let taken = clients.take(now);
                    prop_assert_eq!(taken.is_some(), free > 0);
                    if let Some((number, _)) = taken {
                        prop_assert!(!busy.contains(&number));
                        let rested = over.remove(&number).is_none_or(|at| now.since(at) >= Duration::from_secs(1));
                        prop_assert!(rested, "{number} had not rested");
                        busy.push(number);
                    }
                } else if !busy.is_empty() {
                    let number = busy.remove(0);
                    clients.give_back(number, now);
                    over.insert(number, now);
                }
            }
        }
    }
}
