//! A hierarchical timer wheel over caller-numbered slots: O(1) to arm and to cancel, no scan over idle timers.
//!
//! Runs on: worker and proxy cores. Allocates: only when a slot number is first used. Blocks: never.
//!
//! Four levels of 256 buckets; a level's bucket spans the whole level below, and its timers move down when time reaches
//! it. Timers fire late by less than one tick, never early. Lists are linked by slot number inside one table, so a timer
//! costs 16 bytes and no pointer. (Varghese and Lauck, "Hashed and Hierarchical Timing Wheels", 1987, scheme 7.)

use crate::time::{Duration, Instant};

const BITS: u32 = 8;
const BUCKETS: usize = 1 << BITS;
const LEVELS: usize = 4;
/// List end, and "not armed" in [`Node::bucket`].
const NONE: u32 = u32::MAX;

#[derive(Copy, Clone, Debug)]
struct Node {
    prev: u32,
    next: u32,
    /// Index into `heads` while armed, else [`NONE`].
    bucket: u32,
    /// Tick at which the timer fires; meaningless while not armed.
    tick: u32,
}

const IDLE: Node = Node { prev: NONE, next: NONE, bucket: NONE, tick: 0 };

/// Timers numbered by the caller: at most one per slot.
#[derive(Debug)]
pub struct Wheel {
    tick: Duration,
    /// The tick that [`Wheel::expire`] has worked off.
    current: u32,
    nodes: Vec<Node>,
    heads: Vec<u32>,
    armed: usize,
}

impl Wheel {
    /// A wheel whose resolution is `tick`. It spans 2^32 ticks: 49 days at one millisecond; later deadlines fire at the
    /// end of the span.
    pub fn new(tick: Duration, now: Instant) -> Self {
        let mut wheel =
            Self { tick, current: 0, nodes: Vec::new(), heads: vec![NONE; BUCKETS * LEVELS], armed: 0 };
        wheel.current = wheel.tick_of(now);
        wheel
    }

    /// Sets the timer of `slot`, which replaces the one it had. A deadline that has passed fires at the next tick.
    pub fn arm(&mut self, slot: u32, deadline: Instant) {
        let index = slot as usize;
        if index >= self.nodes.len() {
            self.nodes.resize(index + 1, IDLE);
        }
        self.unlink(slot);
        let nanos = self.tick.as_nanos() as u64;
        let due = deadline.as_nanos().div_ceil(nanos).min(u64::from(u32::MAX - 1)) as u32;
        self.nodes[index].tick = due.max(self.current.saturating_add(1));
        self.link(slot);
        self.armed += 1;
    }

    /// Clears the timer of `slot`, if it has one.
    pub fn cancel(&mut self, slot: u32) {
        self.unlink(slot);
    }

    /// Whether `slot` has a timer.
    pub fn is_armed(&self, slot: u32) -> bool {
        self.nodes.get(slot as usize).is_some_and(|node| node.bucket != NONE)
    }

    /// Timers that are armed.
    pub fn armed(&self) -> usize {
        self.armed
    }

    /// Appends the slots whose timers fired up to `now`, at most about `budget` of them; what is left fires at the next
    /// call. Fired timers are no longer armed.
    pub fn expire(&mut self, now: Instant, budget: usize, fired: &mut Vec<u32>) {
        let target = self.tick_of(now);
        if self.armed == 0 {
            self.current = self.current.max(target);
            return;
        }
        let start = fired.len();
        while self.current < target && fired.len() - start < budget {
            self.current += 1;
            self.cascade();
            let bucket = self.current as usize % BUCKETS;
            while self.heads[bucket] != NONE {
                let slot = self.heads[bucket];
                self.unlink(slot);
                fired.push(slot);
            }
            if self.armed == 0 {
                self.current = target;
            }
        }
    }

    /// A time before which nothing fires, or `None` where nothing is armed: how long a core may sleep. Exact when the
    /// next timer lies within 256 ticks, earlier than the timer otherwise.
    pub fn next_fire(&self) -> Option<Instant> {
        if self.armed == 0 {
            return None;
        }
        let base = self.current as usize;
        let near = (1..=BUCKETS).find(|step| {
            let tick = base + step;
            self.heads[tick % BUCKETS] != NONE || tick % BUCKETS == 0
        });
        let ticks = base as u64 + near.unwrap_or(BUCKETS) as u64;
        Some(Instant::from_nanos(ticks * self.tick.as_nanos() as u64))
    }

    fn tick_of(&self, at: Instant) -> u32 {
        (at.as_nanos() / self.tick.as_nanos() as u64).min(u64::from(u32::MAX - 1)) as u32
    }

    /// Moves timers down from each level whose lower levels have just turned over.
    fn cascade(&mut self) {
        for level in 1..LEVELS as u32 {
            if self.current & ((1 << (BITS * level)) - 1) != 0 {
                return;
            }
            let bucket = level as usize * BUCKETS + (self.current >> (BITS * level)) as usize % BUCKETS;
            let mut slot = core::mem::replace(&mut self.heads[bucket], NONE);
            while slot != NONE {
                let next = self.nodes[slot as usize].next;
                self.link(slot);
                slot = next;
            }
        }
    }

    /// Puts `slot` into the bucket that its tick asks for.
    fn link(&mut self, slot: u32) {
        let due = self.nodes[slot as usize].tick;
        // The highest digit in which due and current differ names the level; a timer due now goes to the lowest.
        let level = (due ^ self.current).checked_ilog2().map_or(0, |bit| bit / BITS);
        let bucket = level as usize * BUCKETS + (due >> (BITS * level)) as usize % BUCKETS;
        let head = core::mem::replace(&mut self.heads[bucket], slot);
        if head != NONE {
            self.nodes[head as usize].prev = slot;
        }
        let node = &mut self.nodes[slot as usize];
        (node.prev, node.next, node.bucket) = (NONE, head, bucket as u32);
    }

    fn unlink(&mut self, slot: u32) {
        let Some(node) = self.nodes.get_mut(slot as usize) else { return };
        if node.bucket == NONE {
            return;
        }
        let Node { prev, next, bucket, .. } = core::mem::replace(node, IDLE);
        if prev == NONE {
            self.heads[bucket as usize] = next;
        } else {
            self.nodes[prev as usize].next = next;
        }
        if next != NONE {
            self.nodes[next as usize].prev = prev;
        }
        self.armed -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Clone, Debug)]
    enum Step {
        Arm(u32, u64),
        Cancel(u32),
        Advance(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0u32..64, prop_oneof![0u64..300, 0u64..70_000, 0u64..20_000_000])
                .prop_map(|(s, d)| Step::Arm(s, d)),
            (0u32..64).prop_map(Step::Cancel),
            prop_oneof![0u64..5, 0u64..300, 0u64..70_000].prop_map(Step::Advance),
        ]
    }

    proptest! {
        #[test]
        fn agrees_with_a_sorted_map(steps in prop::collection::vec(step(), 1..200)) {
            let mut now = 1_000u64;
            let mut wheel = Wheel::new(Duration::from_millis(1), Instant::from_millis(now));
            let mut oracle: BTreeMap<u32, u64> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Arm(slot, delay) => {
                        wheel.arm(slot, Instant::from_millis(now + delay));
                        oracle.insert(slot, (now + delay).max(now + 1));
                    }
                    Step::Cancel(slot) => {
                        wheel.cancel(slot);
                        oracle.remove(&slot);
                    }
                    Step::Advance(by) => {
                        if let (Some(fire), Some(first)) = (wheel.next_fire(), oracle.values().min()) {
                            prop_assert!(fire <= Instant::from_millis(*first));
                        }
                        now += by;
                        let mut fired = Vec::new();
                        wheel.expire(Instant::from_millis(now), usize::MAX, &mut fired);
                        fired.sort_unstable();
                        let due: Vec<u32> = oracle.iter().filter(|(_, at)| **at <= now).map(|(s, _)| *s).collect();
                        oracle.retain(|_, at| *at > now);
                        prop_assert_eq!(fired, due);
                    }
                }
                prop_assert_eq!(wheel.armed(), oracle.len());
            }
        }
    }
}
