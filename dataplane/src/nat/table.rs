//! The flow table: a slab of entries with two keys each, found by tag buckets of one cache line.
//!
//! Runs on: worker. Allocates: at creation; the slab's pages are touched when first used. Blocks: never.
//!
//! ```text
//!   hash --> bucket (64 bytes): 8 tags, 8 slot numbers, how many keys had to go past  --> slot: both keys, value
//! ```
//!
//! A lookup reads one bucket and, where a tag matches, one slot. Buckets are at most half full, so a key rarely has to go
//! past its own bucket; its count of passed keys says when to look further, so that removal needs no tombstones and nothing is
//! ever rehashed. A burst is looked up in stages ([`Table::candidate`] for all, then [`Table::holds`] for all): the
//! cache misses of independent packets overlap.

use core::hash::{BuildHasher, Hash};

use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;
use pnat_shared::flow::Stream;

/// No slot.
pub const NONE: u32 = u32::MAX;
/// In [`Slot::link`]: the slot holds an entry.
const LIVE: u32 = u32::MAX - 1;
const WAYS: usize = 8;

/// Why an entry could not be put into a table.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Full;

#[derive(Copy, Clone, Debug)]
#[repr(align(64))]
struct Bucket {
    /// Upper bits of the keys' hashes; 0: the way is free.
    tags: [u16; WAYS],
    slots: [u32; WAYS],
    /// Keys that wanted this bucket or one before it and live in one behind it.
    passed: u32,
}

const EMPTY: Bucket = Bucket { tags: [0; WAYS], slots: [NONE; WAYS], passed: 0 };

/// Finds slot numbers by hash; the caller compares keys.
#[derive(Debug)]
struct Index {
    buckets: Vec<Bucket>,
    mask: usize,
}

impl Index {
    fn new(capacity: usize) -> Self {
        let count = (capacity * 2).div_ceil(WAYS).next_power_of_two();
        Self { buckets: vec![EMPTY; count], mask: count - 1 }
    }

    fn tag(hash: u64) -> u16 {
        ((hash >> 48) as u16).max(1)
    }

    /// The first slot in the home bucket whose tag matches, or [`NONE`].
    #[inline]
    fn candidate(&self, hash: u64) -> u32 {
        let bucket = &self.buckets[hash as usize & self.mask];
        let tag = Self::tag(hash);
        // Without a branch per way: the compiler makes vector compares of it.
        let matches = (0..WAYS).fold(0u8, |bits, way| bits | u8::from(bucket.tags[way] == tag) << way);
        match matches {
            0 => NONE,
            bits => bucket.slots[bits.trailing_zeros() as usize],
        }
    }

    #[inline]
    fn find(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        let tag = Self::tag(hash);
        let mut at = hash as usize & self.mask;
        for _ in 0..=self.mask {
            let bucket = &self.buckets[at];
            for way in 0..WAYS {
                if bucket.tags[way] == tag && is(bucket.slots[way]) {
                    return Some(bucket.slots[way]);
                }
            }
            if bucket.passed == 0 {
                return None;
            }
            at = (at + 1) & self.mask;
        }
        None
    }

    /// Room is the caller's care: twice as many ways as entries.
    fn insert(&mut self, hash: u64, slot: u32) {
        let mut at = hash as usize & self.mask;
        loop {
            let bucket = &mut self.buckets[at];
            if let Some(way) = bucket.tags.iter().position(|tag| *tag == 0) {
                bucket.tags[way] = Self::tag(hash);
                bucket.slots[way] = slot;
                return;
            }
            bucket.passed += 1;
            at = (at + 1) & self.mask;
        }
    }

    fn remove(&mut self, hash: u64, slot: u32) {
        let mut at = hash as usize & self.mask;
        for _ in 0..=self.mask {
            let bucket = &mut self.buckets[at];
            if let Some(way) = (0..WAYS).find(|way| bucket.tags[*way] != 0 && bucket.slots[*way] == slot) {
                bucket.tags[way] = 0;
                bucket.slots[way] = NONE;
                return;
            }
            bucket.passed = bucket.passed.saturating_sub(1);
            at = (at + 1) & self.mask;
        }
    }
}

/// One entry; with a binding in it, two cache lines that the processor fetches as a pair.
#[derive(Copy, Clone, Debug)]
#[repr(C, align(128))]
struct Slot<K, V> {
    keys: [K; 2],
    /// [`LIVE`], or the next free slot.
    link: u32,
    generation: u16,
    value: V,
}

/// Entries with one key per direction: [`Stream::First`] as clients name it, [`Stream::Second`] as servers do.
#[derive(Debug)]
pub struct Table<K, V> {
    slots: Vec<Slot<K, V>>,
    capacity: usize,
    free: u32,
    len: usize,
    indexes: [Index; 2],
    hasher: SeedableRandomState,
}

impl<K: Copy + Eq + Hash, V: Copy> Table<K, V> {
    /// A table of `capacity` entries that never grows. `seed` keys the hash, beside the process's own random seed.
    pub fn new(capacity: usize, seed: u64) -> Self {
        Self {
            slots: Vec::with_capacity(capacity),
            capacity,
            free: NONE,
            len: 0,
            indexes: [Index::new(capacity), Index::new(capacity)],
            hasher: SeedableRandomState::with_seed(seed, SharedSeed::global_random()),
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// Slots of live entries are below this.
    pub fn slots(&self) -> u32 {
        self.slots.len() as u32
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn is_full(&self) -> bool {
        self.len == self.capacity
    }

    #[inline]
    pub fn hash(&self, key: &K) -> u64 {
        self.hasher.hash_one(key)
    }

    /// First stage of a lookup: the slot that probably holds the key, or [`NONE`]. Reads the bucket only.
    #[inline]
    pub fn candidate(&self, by: Stream, hash: u64) -> u32 {
        self.indexes[by as usize].candidate(hash)
    }

    /// Second stage: whether `slot` is live and holds the key. Reads the slot only.
    #[inline]
    pub fn holds(&self, slot: u32, by: Stream, key: &K) -> bool {
        self.slots.get(slot as usize).is_some_and(|s| s.link == LIVE && s.keys[by as usize] == *key)
    }

    /// The whole lookup.
    #[inline]
    pub fn find(&self, by: Stream, hash: u64, key: &K) -> Option<u32> {
        self.indexes[by as usize].find(hash, |slot| self.holds(slot, by, key))
    }

    /// Puts an entry in. Neither key may be in the table yet.
    pub fn insert(&mut self, keys: [K; 2], value: V) -> Result<u32, Full> {
        if self.is_full() {
            return Err(Full);
        }
        let slot = if self.free == NONE {
            self.slots.push(Slot { keys, link: LIVE, generation: 0, value });
            (self.slots.len() - 1) as u32
        } else {
            let slot = self.free;
            let entry = &mut self.slots[slot as usize];
            self.free = entry.link;
            *entry = Slot { keys, link: LIVE, generation: entry.generation, value };
            slot
        };
        self.len += 1;
        for by in [Stream::First, Stream::Second] {
            let hash = self.hash(&keys[by as usize]);
            self.indexes[by as usize].insert(hash, slot);
        }
        Ok(slot)
    }

    /// Takes an entry out; the slot's next entry has another generation.
    pub fn remove(&mut self, slot: u32) -> Option<([K; 2], V)> {
        let entry = self.slots.get_mut(slot as usize).filter(|s| s.link == LIVE)?;
        let (keys, value) = (entry.keys, entry.value);
        entry.link = core::mem::replace(&mut self.free, slot);
        entry.generation = entry.generation.wrapping_add(1);
        self.len -= 1;
        for by in [Stream::First, Stream::Second] {
            let hash = self.hash(&keys[by as usize]);
            self.indexes[by as usize].remove(hash, slot);
        }
        Some((keys, value))
    }

    /// Gives a live entry another key. It may not be in the table yet.
    pub fn rekey(&mut self, slot: u32, by: Stream, key: K) {
        let Some(entry) = self.slots.get_mut(slot as usize).filter(|s| s.link == LIVE) else { return };
        let old = core::mem::replace(&mut entry.keys[by as usize], key);
        let (old, new) = (self.hash(&old), self.hash(&key));
        self.indexes[by as usize].remove(old, slot);
        self.indexes[by as usize].insert(new, slot);
    }

    /// Keys and value of a live slot.
    #[inline]
    pub fn entry(&self, slot: u32) -> Option<(&[K; 2], &V)> {
        self.slots.get(slot as usize).filter(|s| s.link == LIVE).map(|s| (&s.keys, &s.value))
    }

    /// As [`Table::entry`], the value to be changed.
    #[inline]
    pub fn entry_mut(&mut self, slot: u32) -> Option<(&[K; 2], &mut V)> {
        self.slots.get_mut(slot as usize).filter(|s| s.link == LIVE).map(|s| (&s.keys, &mut s.value))
    }

    /// Which use of the slot this is.
    #[inline]
    pub fn generation(&self, slot: u32) -> u16 {
        self.slots.get(slot as usize).map_or(0, |s| s.generation)
    }

    /// Whether `slot` is live and in that use.
    #[inline]
    pub fn is_current(&self, slot: u32, generation: u16) -> bool {
        self.slots.get(slot as usize).is_some_and(|s| s.link == LIVE && s.generation == generation)
    }

    /// All live entries, in slot order.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &[K; 2], &V)> {
        self.slots
            .iter()
            .enumerate()
            .filter(|(_, s)| s.link == LIVE)
            .map(|(slot, s)| (slot as u32, &s.keys, &s.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    /// A key whose hash is as bad as the test wants: everything may collide.
    #[derive(Copy, Clone, Debug, PartialEq, Eq)]
    struct Coarse(u32);

    impl Hash for Coarse {
        fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
            state.write_u32(self.0 % 3);
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u32),
        Remove(usize),
        Find(u32),
        /// Gives an entry another second key.
        Rekey(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0u32..200).prop_map(Step::Insert),
            2 => any::<usize>().prop_map(Step::Remove),
            1 => (0u32..200).prop_map(Step::Find),
            1 => any::<usize>().prop_map(Step::Rekey),
        ]
    }

    fn check<K: Copy + Eq + Hash + core::fmt::Debug>(steps: Vec<Step>, capacity: usize, key: fn(u32) -> K) {
        let mut table: Table<K, u32> = Table::new(capacity, 1);
        let mut oracle: HashMap<u32, (u32, u16)> = HashMap::new();
        // What the second key of an entry is, where it is not what it was to begin with; none is ever used again.
        let (mut rekeyed, mut next): (HashMap<u32, u32>, u32) = (HashMap::new(), 10_000);
        for step in steps {
            match step {
                Step::Insert(n) if !oracle.contains_key(&n) => {
                    match table.insert([key(n), key(n + 1000)], n) {
                        Ok(slot) => assert!(oracle.insert(n, (slot, table.generation(slot))).is_none()),
                        Err(Full) => assert_eq!(oracle.len(), capacity),
                    };
                }
                Step::Remove(nth) if !oracle.is_empty() => {
                    let n = *oracle.keys().nth(nth % oracle.len()).unwrap();
                    let (slot, generation) = oracle.remove(&n).unwrap();
                    assert!(table.is_current(slot, generation));
                    let second = rekeyed.remove(&n).unwrap_or(n + 1000);
                    assert_eq!(table.remove(slot), Some(([key(n), key(second)], n)));
                    assert!(!table.is_current(slot, generation));
                    assert_eq!(table.remove(slot), None);
                }
                Step::Insert(n) | Step::Find(n) => {
                    let expected = oracle.get(&n).map(|(slot, _)| *slot);
                    let (first, old) = (key(n), key(n + 1000));
                    let second = rekeyed.get(&n).map_or(old, |second| key(*second));
                    assert_eq!(table.find(Stream::First, table.hash(&first), &first), expected);
                    assert_eq!(table.find(Stream::Second, table.hash(&second), &second), expected);
                    let by_old = expected.filter(|_| !rekeyed.contains_key(&n));
                    assert_eq!(table.find(Stream::Second, table.hash(&old), &old), by_old);
                }
                Step::Rekey(nth) if !oracle.is_empty() => {
                    let n = *oracle.keys().nth(nth % oracle.len()).unwrap();
                    next += 1;
                    rekeyed.insert(n, next);
                    table.rekey(oracle[&n].0, Stream::Second, key(next));
                }
                Step::Remove(_) | Step::Rekey(_) => {}
            }
            assert_eq!(table.len(), oracle.len());
        }
        for (n, (slot, generation)) in &oracle {
            let first = key(*n);
            assert_eq!(table.find(Stream::First, table.hash(&first), &first), Some(*slot));
            assert!(table.is_current(*slot, *generation));
        }
        let mut all: Vec<u32> = table.iter().map(|(_, _, n)| *n).collect();
        all.sort_unstable();
        let mut expected: Vec<u32> = oracle.keys().copied().collect();
        expected.sort_unstable();
        assert_eq!(all, expected);
        // With everything removed no bucket may still claim that keys went past it.
        for (slot, _) in oracle.values() {
            table.remove(*slot);
        }
        for index in &table.indexes {
            assert!(index.buckets.iter().all(|b| b.passed == 0 && b.tags == [0; WAYS]));
        }
    }

    proptest! {
        #[test]
        fn agrees_with_a_hash_map(steps in prop::collection::vec(step(), 1..400), capacity in 1usize..120) {
            check(steps, capacity, |n| n);
        }

        #[test]
        fn agrees_with_a_hash_map_when_hashes_collide(steps in prop::collection::vec(step(), 1..400)) {
            check(steps, 64, Coarse);
        }
    }

    #[test]
    fn a_candidate_is_what_find_finds_when_nothing_collides() {
        let mut table: Table<u32, ()> = Table::new(4096, 7);
        for n in 0..1000 {
            table.insert([n, n], ()).unwrap();
        }
        let direct = (0..1000u32)
            .filter(|n| table.holds(table.candidate(Stream::First, table.hash(n)), Stream::First, n));
        assert!(direct.count() > 990);
    }

    #[test]
    fn flows_that_differ_little_are_spread_well() {
        use crate::nat::tuple::Tuple;
        use core::net::SocketAddrV4;
        let mut table: Table<Tuple, ()> = Table::new(8192, 3);
        let keys: Vec<Tuple> = (0..8192u32)
            .map(|n| {
                let client = SocketAddrV4::new((0x0a00_0000 + n / 64).into(), 4000 + (n % 64) as u16);
                Tuple::new(
                    pnat_shared::flow::Protocol::Tcp,
                    client,
                    SocketAddrV4::new([9, 9, 9, 9].into(), 443),
                )
            })
            .collect();
        for key in &keys {
            table.insert([*key, key.reversed()], ()).unwrap();
        }
        for by in [Stream::First, Stream::Second] {
            let named = |key: &Tuple| if by == Stream::First { *key } else { key.reversed() };
            let direct = keys
                .iter()
                .map(named)
                .filter(|key| table.holds(table.candidate(by, table.hash(key)), by, key));
            assert!(direct.count() > 7900, "{by:?}");
        }
    }

    #[test]
    fn a_bucket_is_one_cache_line_and_a_flow_two() {
        use crate::nat::binding::Binding;
        use crate::nat::tuple::Tuple;
        assert_eq!(size_of::<Bucket>(), 64);
        assert_eq!(size_of::<Slot<Tuple, Binding>>(), 128);
    }
}
