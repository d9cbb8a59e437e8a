//! Public ports: which are free, and which a new mapping gets.
//!
//! Runs on: worker. Allocates: at creation, and when more ports rest than ever before. Blocks: never.
//!
//! Each worker owns the ports of every `workers`-th block of 64 ([`owner`]), on every public address and for each
//! protocol, so a reply's destination port names its worker. A pool is a bitmap with a summary of which blocks have a
//! free even and a free odd port; taking one looks at 18 words at most.
//!
//! A port is chosen at random (RFC 6888 REQ-15, RFC 7857 section 9); parity and the class below 1024 are kept while the
//! class has any (RFC 4787 REQ-3a, REQ-4). A client always gets the same public address (RFC 4787 REQ-2).
//!
//! A port that is given back rests for [`REST`] (RFC 6888 REQ-8), so that what is still on its way to its last client
//! meets no other; this is also what TIME-WAIT is for, and pairs rely on it. Where nothing else is left, the port that
//! has rested longest is taken before its time: better than to refuse the flow.

use core::hash::Hasher;
use core::net::{Ipv4Addr, SocketAddrV4};
use core::ops::RangeInclusive;
use std::collections::VecDeque;
use std::hash::DefaultHasher;

use pnat_shared::flow::{Protocol, WorkerId};
use pnat_shared::time::{Duration, Instant};

/// Blocks of 64 ports.
const BLOCKS: usize = 1024;
/// Words of a summary with one bit per block.
const SUMMARY: usize = BLOCKS / 64;
/// How long a port rests before it serves another mapping.
pub const REST: Duration = Duration::from_secs(120);
const EVEN: u64 = 0x5555_5555_5555_5555;

/// The worker that owns a public port, of `workers`.
#[inline]
pub fn owner(port: u16, workers: u8) -> WorkerId {
    WorkerId(u8::try_from((port >> 6) % u16::from(workers)).unwrap_or(0))
}

/// A secret stream of numbers that those who see some of them cannot continue: SipHash of a key and a counter.
#[derive(Debug)]
pub struct Dice {
    key: u64,
    counter: u64,
}

impl Dice {
    pub fn new(key: u64) -> Self {
        Self { key, counter: 0 }
    }

    pub fn roll(&mut self) -> u64 {
        self.counter = self.counter.wrapping_add(1);
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.key);
        hasher.write_u64(self.counter);
        hasher.write_u64(self.key.rotate_left(32));
        hasher.finish()
    }
}

/// The free ports of one public address and protocol.
#[derive(Clone, Debug)]
struct Pool {
    /// One bit per free port.
    blocks: Box<[u64; BLOCKS]>,
    /// Which blocks have a free port: even ones, odd ones.
    summary: [[u64; SUMMARY]; 2],
    free: u32,
    /// Ports given back and when they may be used again, oldest first.
    resting: VecDeque<(Instant, u16)>,
}

impl Pool {
    fn new(range: &RangeInclusive<u16>, me: WorkerId, workers: u8) -> Self {
        let mut pool = Self {
            blocks: Box::new([0; BLOCKS]),
            summary: [[0; SUMMARY]; 2],
            free: 0,
            resting: VecDeque::new(),
        };
        // Port 0 is no port, whatever the range says.
        for port in range.clone().filter(|port| *port != 0 && owner(*port, workers) == me) {
            pool.free(port);
        }
        pool
    }

    fn free(&mut self, port: u16) {
        let block = usize::from(port >> 6);
        self.blocks[block] |= 1 << (port & 63);
        self.free += 1;
        self.summarise(block);
    }

    /// Frees some of the ports that have rested. A few per call: the work of one that takes is bounded.
    fn wake(&mut self, now: Instant) {
        for _ in 0..4 {
            match self.resting.front() {
                Some((due, port)) if *due <= now => {
                    let port = *port;
                    self.resting.pop_front();
                    self.free(port);
                }
                _ => return,
            }
        }
    }

    /// A port for a client's port, by the rules of this module.
    fn choose(&mut self, client: u16, random: u64) -> Option<u16> {
        let parity = usize::from(client & 1);
        let (low, high) = (0..1024 / 64, 1024 / 64..BLOCKS);
        let kept = if client < 1024 {
            self.take(parity, low.clone(), random).or_else(|| self.take(1 - parity, low, random))
        } else {
            None
        };
        kept.or_else(|| self.take(parity, high.clone(), random))
            .or_else(|| self.take(1 - parity, high, random))
            .or_else(|| self.take_resting(client))
    }

    /// The port that has rested longest, unless it is of the class below 1024 and the client's is not.
    fn take_resting(&mut self, client: u16) -> Option<u16> {
        let (_, port) = self.resting.front().filter(|(_, port)| client < 1024 || *port >= 1024)?;
        let port = *port;
        self.resting.pop_front();
        Some(port)
    }

    /// Takes a free port of that parity (0 or 1) from blocks in `from`, starting at a random place.
    fn take(&mut self, parity: usize, from: core::ops::Range<usize>, random: u64) -> Option<u16> {
        let start = from.start + random as usize % from.len();
        let block = self
            .next_block(parity, start..from.end)
            .or_else(|| self.next_block(parity, from.start..start))?;
        let fit = self.blocks[block] & EVEN << parity;
        let turn = (random >> 32) as u32 & 63;
        let bit = (fit.rotate_right(turn).trailing_zeros() + turn) & 63;
        self.blocks[block] &= !(1 << bit);
        self.free -= 1;
        self.summarise(block);
        Some((block << 6) as u16 | bit as u16)
    }

    /// The first block in the range with a free port of that parity.
    fn next_block(&self, parity: usize, range: core::ops::Range<usize>) -> Option<usize> {
        let mut at = range.start;
        while at < range.end {
            let word = self.summary[parity][at / 64] >> (at % 64);
            if word != 0 {
                let block = at + word.trailing_zeros() as usize;
                return (block < range.end).then_some(block);
            }
            at = (at / 64 + 1) * 64;
        }
        None
    }

    fn summarise(&mut self, block: usize) {
        for parity in 0..2 {
            let bit = 1 << (block % 64);
            let word = &mut self.summary[parity][block / 64];
            *word = if self.blocks[block] & EVEN << parity == 0 { *word & !bit } else { *word | bit };
        }
    }
}

/// All public ports of one worker.
#[derive(Debug)]
pub struct Ports {
    public: Vec<Ipv4Addr>,
    /// Per public address: TCP, UDP, ICMP identifiers.
    pools: Vec<[Pool; 3]>,
    dice: Dice,
}

impl Ports {
    /// `key` makes the choice unguessable; it must be secret.
    pub fn new(
        public: &[Ipv4Addr],
        range: &RangeInclusive<u16>,
        me: WorkerId,
        workers: u8,
        key: u64,
    ) -> Self {
        let pool = Pool::new(range, me, workers);
        let pools = public.iter().map(|_| [pool.clone(), pool.clone(), pool.clone()]).collect();
        Self { public: public.to_vec(), pools, dice: Dice::new(key) }
    }

    /// A public address and port for a client's port, or `None` where the address has none left. `client` is a hash of
    /// the client's address and chooses among the public addresses.
    pub fn take(&mut self, protocol: Protocol, client: u64, port: u16, now: Instant) -> Option<SocketAddrV4> {
        let chosen = usize::try_from(client % self.public.len().max(1) as u64).ok()?;
        let pool = &mut self.pools.get_mut(chosen)?[kind(protocol)];
        pool.wake(now);
        let port = pool.choose(port, self.dice.roll())?;
        Some(SocketAddrV4::new(self.public[chosen], port))
    }

    /// Gives back a port that was taken.
    pub fn put(&mut self, protocol: Protocol, public: SocketAddrV4, now: Instant) {
        if let Some(at) = self.public.iter().position(|addr| addr == public.ip()) {
            self.pools[at][kind(protocol)].resting.push_back((now + REST, public.port()));
        }
    }

    /// Ports of a protocol, over all public addresses, that no mapping has; resting ones too.
    pub fn free(&self, protocol: Protocol) -> usize {
        let pools = self.pools.iter().map(|pools| &pools[kind(protocol)]);
        pools.map(|pool| pool.free as usize + pool.resting.len()).sum()
    }
}

fn kind(protocol: Protocol) -> usize {
    match protocol {
        Protocol::Tcp => 0,
        Protocol::Udp => 1,
        Protocol::Icmp => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    const NOW: Instant = Instant::from_secs(1000);
    const ADDR: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

    fn ports(range: RangeInclusive<u16>, me: u8, workers: u8) -> Ports {
        Ports::new(&[ADDR], &range, WorkerId(me), workers, 42)
    }

    proptest! {
        #[test]
        fn every_port_is_given_once_and_by_its_owner(
            start in 1u16..5000, len in 1u16..2000, workers in 1u8..5, wanted: u16
        ) {
            let range = start..=start.saturating_add(len);
            let mut seen = HashSet::new();
            for me in 0..workers {
                let mut ports = ports(range.clone(), me, workers);
                while let Some(got) = ports.take(Protocol::Udp, 0, wanted, NOW) {
                    prop_assert!(range.contains(&got.port()));
                    prop_assert_eq!(owner(got.port(), workers), WorkerId(me));
                    prop_assert!(seen.insert(got.port()));
                }
                let left = ports.free(Protocol::Udp);
                // Ports below 1024 are never given to clients' ports above.
                prop_assert!(left == 0 || wanted >= 1024 && start < 1024);
            }
            let expected = range.filter(|port| wanted < 1024 || *port >= 1024).count();
            prop_assert_eq!(seen.len(), expected);
        }

        #[test]
        fn what_is_put_back_is_given_again(order in prop::collection::vec(any::<u16>(), 1..100)) {
            let mut ports = ports(2000..=2099, 0, 1);
            let all = ports.free(Protocol::Tcp);
            let taken: Vec<_> = order.iter().filter_map(|p| ports.take(Protocol::Tcp, 0, (*p).max(1024), NOW)).collect();
            prop_assert_eq!(ports.free(Protocol::Tcp), all - taken.len());
            for port in taken {
                ports.put(Protocol::Tcp, port, NOW);
            }
            prop_assert_eq!(ports.free(Protocol::Tcp), all);
        }
    }

    #[test]
    fn u03a_u04_class_and_parity_are_kept_while_there_are_any() {
        let mut ports = ports(1..=65535, 0, 1);
        for client in [5060u16, 5061, 53, 500, 40001, 1023] {
            let got = ports.take(Protocol::Udp, 0, client, NOW).unwrap().port();
            assert_eq!(got % 2, client % 2);
            assert_eq!(got < 1024, client < 1024, "{client} got {got}");
        }
    }

    #[test]
    fn c15_ports_are_spread_and_differ_between_keys() {
        let sequence = |key| {
            let mut ports = Ports::new(&[ADDR], &(1024..=65535), WorkerId(0), 1, key);
            (0..64).map(|_| ports.take(Protocol::Tcp, 0, 4000, NOW).unwrap().port()).collect::<Vec<_>>()
        };
        assert_ne!(sequence(1), sequence(2));
        let drawn = sequence(3);
        let blocks: HashSet<u16> = drawn.iter().map(|port| port >> 10).collect();
        assert!(blocks.len() > 30, "{drawn:?}");
    }

    #[test]
    fn u02_a_client_keeps_its_public_address() {
        let pool: Vec<Ipv4Addr> = (1..=8).map(|last| Ipv4Addr::new(198, 18, 0, last)).collect();
        let mut ports = Ports::new(&pool, &(1024..=65535), WorkerId(0), 1, 9);
        for client in 0..100u64 {
            let first = ports.take(Protocol::Udp, client, 4000, NOW).unwrap();
            let second = ports.take(Protocol::Tcp, client, 9000, NOW).unwrap();
            assert_eq!(first.ip(), second.ip());
        }
    }

    #[test]
    fn protocols_have_their_own_ports() {
        let mut ports = ports(2000..=2000, 0, 1);
        for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Icmp] {
            assert_eq!(ports.take(protocol, 0, 2000, NOW).map(|p| p.port()), Some(2000));
            assert_eq!(ports.take(protocol, 0, 2000, NOW), None);
        }
    }

    #[test]
    fn c08_a_port_rests_for_two_minutes_unless_nothing_else_is_left() {
        let mut ports = ports(2000..=2099, 0, 1);
        let first = ports.take(Protocol::Udp, 0, 4000, NOW).unwrap();
        ports.put(Protocol::Udp, first, NOW);
        let early = NOW + Duration::from_secs(119);
        let others: Vec<_> = (0..99).map(|_| ports.take(Protocol::Udp, 0, 4000, early).unwrap()).collect();
        assert!(!others.contains(&first));
        assert_eq!(ports.take(Protocol::Udp, 0, 4000, early), Some(first), "nothing else is left");
        assert_eq!(ports.take(Protocol::Udp, 0, 4000, early), None);
        ports.put(Protocol::Udp, others[7], early);
        let pool = &mut ports.pools[0][kind(Protocol::Udp)];
        pool.wake(early + REST);
        assert_eq!((pool.free, pool.resting.len()), (1, 0), "it has rested");
    }
}
