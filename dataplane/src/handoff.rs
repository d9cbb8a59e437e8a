//! Which core a packet belongs to, and what workers hand each other.
//!
//! Runs on: worker. Allocates: never. Blocks: never.
//!
//! A flow belongs to the worker that its client's address hashes to; its public port is one that this worker owns
//! ([`crate::nat::alloc::owner`]). So either side's packets name the owner without any shared table, and a packet that a
//! NIC delivered to another worker goes over by a ring, as it came.

use core::hash::BuildHasher;
use core::net::Ipv4Addr;

use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;
use pnat_shared::flow::{ProxyId, WorkerId};
use pnat_shared::time::Instant;
use pnat_shared::wire::arp;

use crate::nat::alloc;

/// What one worker puts into another's ring.
#[derive(Debug)]
pub enum Handoff<F> {
    /// A frame as port `port` received it. `at` is when its burst was taken there; only measurements depend on it.
    Frame { port: u8, frame: F, at: Instant },
    /// An ARP message that port `port` received: every worker resolves for itself, but a NIC delivers an answer to one.
    Arp { port: u8, message: arp::Message },
}

/// How clients and public ports are shared out among cores; the same on all workers of a process.
#[derive(Clone, Debug)]
pub struct Shards {
    workers: u8,
    proxies: u8,
    hasher: SeedableRandomState,
}

impl Shards {
    /// `workers` is 1 to 64, `proxies` 0 to 255. The hash is keyed by `secret` and the process's own random seed, so that
    /// nobody can choose addresses that all meet on one core.
    pub fn new(workers: u8, proxies: u8, secret: u64) -> Self {
        let hasher = SeedableRandomState::with_seed(secret, SharedSeed::global_random());
        Self { workers: workers.max(1), proxies, hasher }
    }

    pub fn workers(&self) -> u8 {
        self.workers
    }

    /// A client's hash, from which [`Shards::worker`] and [`Shards::proxy`] are derived.
    #[inline]
    pub fn hash(&self, client: Ipv4Addr) -> u64 {
        self.hasher.hash_one(client.to_bits())
    }

    /// The worker that owns a client's flows.
    #[inline]
    pub fn worker(&self, client: Ipv4Addr) -> WorkerId {
        if self.workers == 1 {
            return WorkerId(0);
        }
        WorkerId(spread(self.hash(client) as u32, self.workers))
    }

    /// The worker that owns a public port.
    #[inline]
    pub fn worker_of_port(&self, public: u16) -> WorkerId {
        alloc::owner(public, self.workers)
    }

    /// The proxy core that carries a client's proxied flows, so that limits per client live on one core; `None` where
    /// there is no proxy core.
    #[inline]
    pub fn proxy(&self, client: Ipv4Addr) -> Option<ProxyId> {
        // Other bits than the worker's, or each worker would use one proxy core only.
        (self.proxies > 0).then(|| ProxyId(spread((self.hash(client) >> 32) as u32, self.proxies)))
    }
}

/// A number below `count`, evenly by `hash`.
#[inline]
fn spread(hash: u32, count: u8) -> u8 {
    ((u64::from(hash) * u64::from(count)) >> 32) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_spread_evenly_over_each_kind_of_core() {
        let shards = Shards::new(4, 3, 5);
        let mut counts = [[0u32; 3]; 4];
        for last in 0..12_000u32 {
            let client = Ipv4Addr::from_bits(0x0a00_0000 + last);
            let proxy = shards.proxy(client).unwrap();
            counts[usize::from(shards.worker(client).0)][usize::from(proxy.0)] += 1;
        }
        assert!(counts.as_flattened().iter().all(|n| (800..1200).contains(n)), "{counts:?}");
    }

    #[test]
    fn a_client_stays_where_it_is() {
        let (a, b) = (Shards::new(7, 2, 99), Shards::new(7, 2, 99));
        let client = Ipv4Addr::new(10, 1, 2, 3);
        assert_eq!((a.worker(client), a.proxy(client)), (b.worker(client), b.proxy(client)));
    }
}
