//! What pairs keep, and how much each may: fair shares of what is left, by pair and by client.
//!
//! Runs on: proxy cores. Allocates: when it has never known as many clients before. Blocks: never.
//!
//! A pair may keep as much as half of what is free, a client's pairs together as much as all of it (dynamic thresholds;
//! Choudhury and Hahne, "Dynamic Queue Length Thresholds for Multipriority Shared-Memory Packet Switches", 1998). So one
//! greedy client ends with half of the memory, two with a third each, and whoever takes little always finds
//! room. Shares bound receive windows: as memory gets short, windows shrink, and as shortage recedes they open again. Nobody
//! is killed for it. But windows that were granted stay granted, to more pairs perhaps than there is memory for: where
//! little is left, text beyond its pair's share is dropped, and its sender repeats it.
//!
//! Everything is counted in chunks, since it is they that hold memory: about 2 KB each, however few their bytes.

use std::collections::HashMap;
use std::net::IpAddr;

use pnat_shared::slots::Slots;

/// How many times as many chunks as may be in frames all pairs may keep: the proxy core's bound on memory.
const FULL: usize = 8;
/// Payload bytes of a chunk, at least, as a rule.
pub(crate) const CHUNK: usize = 1024;
/// Chunks that a pair may keep in any case: less, and it could not go on.
const LEAST: usize = 8;
/// A pair's chunks are charged to its client by so many at a time, unless memory is short: then exactly.
const COARSE: u32 = 16;

/// A pair's account.
#[derive(Debug)]
pub(super) struct Account {
    client: u32,
    /// Chunks that the pair keeps, and how many of them its client is charged for.
    kept: u32,
    charged: u32,
}

/// How much more one pair may keep at present.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// Bytes of each stream.
    pub(crate) bytes: usize,
    /// Chunks of the pair from which on further text is refused.
    pub(crate) chunks: usize,
}

#[derive(Debug)]
struct Client {
    addr: IpAddr,
    pairs: u32,
    charged: usize,
}

/// The memory of one proxy core's pairs.
#[derive(Debug)]
pub(super) struct Memory {
    /// Chunks that all pairs keep, and how many of them may be in frames.
    kept: usize,
    most_frames: usize,
    /// Most chunks that all pairs may keep.
    most: usize,
    /// Clients that have pairs, and where each stands.
    clients: Slots<Client>,
    places: HashMap<IpAddr, u32, foldhash::quality::RandomState>,
}

impl Memory {
    /// Memory for at most `pairs` pairs, without any other bound to begin with.
    pub(super) fn new(pairs: usize) -> Self {
        // As large as it will ever be: growing it would stall the core. Pages that are not used cost nothing.
        let places = HashMap::with_capacity_and_hasher(pairs, foldhash::quality::RandomState::default());
        Self { kept: 0, most_frames: usize::MAX, most: usize::MAX, clients: Slots::new(), places }
    }

    pub(super) const fn limit(&mut self, most_frames: usize) {
        self.most_frames = most_frames;
        self.most = most_frames.saturating_mul(FULL);
    }

    pub(super) const fn kept(&self) -> usize {
        self.kept
    }

    /// Whether bytes that may wait are to be copied out of their frames.
    pub(super) const fn is_thrifty(&self) -> bool {
        self.kept >= self.most_frames
    }

    /// Whether so much is kept that shares must be exact.
    const fn is_short(&self) -> bool {
        self.kept >= self.most / 4
    }

    /// An account for a new pair of a client's.
    pub(super) fn open(&mut self, client: IpAddr) -> Account {
        let clients = &mut self.clients;
        let place = self
            .places
            .entry(client)
            .or_insert_with(|| clients.insert(Client { addr: client, pairs: 0, charged: 0 }));
        clients[*place].pairs += 1;
        Account { client: *place, kept: 0, charged: 0 }
    }

    /// The pair has ended.
    pub(super) fn close(&mut self, mut account: Account) {
        self.keep(&mut account, 0);
        self.charge(&mut account);
        let client = &mut self.clients[account.client];
        client.pairs -= 1;
        if client.pairs == 0 {
            self.places.remove(&client.addr);
            self.clients.remove(account.client);
        }
    }

    /// Takes note of how many chunks a pair keeps now.
    #[inline]
    pub(super) fn keep(&mut self, account: &mut Account, now: usize) {
        let now = u32::try_from(now).unwrap_or(u32::MAX);
        if now != account.kept {
            self.kept = self.kept.saturating_sub(account.kept as usize) + now as usize;
            account.kept = now;
        }
        if account.charged.abs_diff(now) >= COARSE || (account.charged != now && self.is_short()) {
            self.charge(account);
        }
    }

    fn charge(&mut self, account: &mut Account) {
        let client = &mut self.clients[account.client];
        client.charged = client.charged.saturating_sub(account.charged as usize) + account.kept as usize;
        account.charged = account.kept;
    }

    /// How much a pair may keep.
    pub(super) fn share(&self, account: &Account) -> Share {
        let free = self.most.saturating_sub(self.kept);
        let mut chunks = free / 2;
        if self.is_short() {
            let others = self.clients[account.client].charged.saturating_sub(account.charged as usize);
            chunks = chunks.min(free.saturating_sub(others));
        }
        let chunks = chunks.max(LEAST);
        Share { bytes: chunks.saturating_mul(CHUNK), chunks: self.refused_from(chunks) }
    }

    /// The last resort: from how many chunks on a pair with this share gets no more. The last quarter is for those who keep
    /// little; beyond all bounds nobody gets anything.
    const fn refused_from(&self, share: usize) -> usize {
        let most = self.most;
        if self.kept < most - most / 4 {
            usize::MAX
        } else if self.kept < most.saturating_add(most / 8) {
            share
        } else {
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    /// Room for 800 chunks.
    fn memory() -> Memory {
        let mut memory = Memory::new(10);
        memory.limit(100);
        memory
    }

    fn client(number: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(number))
    }

    /// Lets each of the accounts keep one chunk more as long as its share allows, until none may; answers what each keeps.
    fn fill(memory: &mut Memory, accounts: &mut [Account]) -> Vec<usize> {
        loop {
            let before = memory.kept;
            for account in &mut *accounts {
                let more = account.kept as usize + 1;
                if more * CHUNK <= memory.share(account).bytes {
                    memory.keep(account, more);
                }
            }
            if memory.kept == before {
                return accounts.iter().map(|account| account.kept as usize).collect();
            }
        }
    }

    #[test]
    fn one_greedy_pair_leaves_two_thirds_and_a_greedy_client_half() {
        let mut memory = memory();
        let mut one = [memory.open(client(1))];
        assert_eq!(fill(&mut memory, &mut one), [267]);
        let mut more: Vec<_> = (0..20).map(|_| memory.open(client(1))).collect();
        fill(&mut memory, &mut more);
        // Each pair may go on with its least.
        assert!((400..=400 + 20 * LEAST).contains(&memory.kept), "{}", memory.kept);
    }

    #[test]
    fn those_who_come_later_find_room_and_the_greedy_shrink_as_they_move_on() {
        let mut memory = memory();
        let mut greedy: Vec<_> = (0..20).map(|_| memory.open(client(1))).collect();
        fill(&mut memory, &mut greedy);
        let mut modest: Vec<_> = (0..20).map(|n| memory.open(client(100 + n))).collect();
        for account in &mut modest {
            memory.keep(account, 10);
            assert!(memory.share(account).bytes >= 20 * CHUNK, "{:?}", memory.share(account));
        }
        let bytes = memory.share(&greedy[0]).bytes;
        assert!(bytes <= (greedy[0].kept as usize).max(LEAST) * CHUNK, "the greedy get no more: {bytes}");
        for account in &mut greedy {
            memory.keep(account, 0);
        }
        assert!(memory.share(&greedy[0]).bytes >= 100 * CHUNK, "what was short is there again");
    }

    #[test]
    fn where_little_is_left_text_beyond_a_share_is_refused_and_at_last_all_text() {
        let mut memory = memory();
        let mut accounts = [memory.open(client(1)), memory.open(client(2))];
        let mut refused = |kept| {
            memory.keep(&mut accounts[0], kept);
            memory.share(&accounts[1]).chunks
        };
        assert_eq!([refused(599), refused(600), refused(780)], [usize::MAX, 100, 10]);
        assert_eq!([refused(800), refused(899), refused(900)], [LEAST, LEAST, 0]);
    }

    #[test]
    fn nothing_is_left_of_clients_that_are_gone() {
        let mut memory = memory();
        let mut accounts: Vec<_> = (0..9).map(|n| memory.open(client(n / 3))).collect();
        for (n, account) in accounts.iter_mut().enumerate() {
            memory.keep(account, n * 40);
        }
        for account in accounts {
            memory.close(account);
        }
        assert_eq!((memory.kept, memory.clients.len(), memory.places.len()), (0, 0, 0));
    }

    #[test]
    fn without_a_bound_nobody_is_held_back() {
        let mut memory = Memory::new(1);
        let mut account = memory.open(client(1));
        memory.keep(&mut account, 1 << 30);
        assert!(memory.share(&account).bytes > 1 << 40 && !memory.is_thrifty());
    }
}
