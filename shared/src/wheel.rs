//! A hierarchical timer wheel over caller-numbered slots: O(1) to arm and to cancel, no scan over timers or buckets.
//!
//! Runs on: worker and proxy cores. Allocates: a page when a slot number in it is first used. Blocks: never.
//!
//! Four levels of 256 buckets; a level's bucket spans the whole level below, and its timers move down when time reaches
//! it. Timers fire late by less than one tick, never early. Lists are linked by slot number inside one table, so a timer
//! costs 16 bytes and no pointer. (Varghese and Lauck, "Hashed and Hierarchical Timing Wheels", 1987, scheme 7.)
//!
//! A timer that is put off stays in its bucket, and moves only when time reaches that: most timers are put off with every
//! packet and never fire.
//!
//! A bit per bucket says whether it holds timers, so time jumps from one occupied bucket to the next, and the next stop is
//! found in a few instructions. What stands in a bucket that time has reached is moved or fired within the caller's
//! budget, time stands still meanwhile, and the next call goes on: a million timers of one bucket stall nobody.

use crate::paged::Paged;
use crate::time::{Duration, Instant};

const BITS: u32 = 8;
const BUCKETS: usize = 1 << BITS;
const LEVELS: usize = 4;
/// Most ticks ahead that a timer may lie: then its bucket on the highest level is not the one that time is in.
const SPAN: u64 = (BUCKETS as u64 - 1) << (BITS * (LEVELS as u32 - 1));
/// List end, and "not armed" in [`Node::bucket`].
const NONE: u32 = u32::MAX;

#[derive(Copy, Clone, Debug)]
struct Node {
    prev: u32,
    next: u32,
    /// Level and bucket, as one number, while armed; else [`NONE`].
    bucket: u32,
    /// Lower half of the tick at which the timer fires, which within the span is all of it; meaningless while not armed.
    /// Its bucket is not reached later than that.
    tick: u32,
}

const IDLE: Node = Node { prev: NONE, next: NONE, bucket: NONE, tick: 0 };

#[derive(Copy, Clone, Debug)]
struct Level {
    heads: [u32; BUCKETS],
    /// A bit for each bucket that is not empty.
    occupied: [u64; BUCKETS / 64],
}

impl Level {
    fn is_occupied(&self, bucket: usize) -> bool {
        self.occupied[bucket / 64] >> (bucket % 64) & 1 != 0
    }

    /// How many buckets behind `bucket` the next occupied one lies, round the wheel; 0: it is that one.
    fn distance(&self, bucket: usize) -> Option<u32> {
        const WORDS: usize = BUCKETS / 64;
        let (word, bit) = (bucket / 64, bucket as u32 % 64);
        let here = self.occupied[word] >> bit;
        if here != 0 {
            return Some(here.trailing_zeros());
        }
        (1..=WORDS).find_map(|step| {
            let there = self.occupied[(word + step) % WORDS];
            (there != 0).then(|| 64 * step as u32 - bit + there.trailing_zeros())
        })
    }
}

/// Timers numbered by the caller: at most one per slot.
#[derive(Debug)]
pub struct Wheel {
    /// In nanoseconds.
    tick: u64,
    /// The tick that time has reached. Buckets that it lies in are empty, unless the last call's budget was used up.
    current: u64,
    nodes: Paged<Node>,
    levels: Box<[Level; LEVELS]>,
    armed: usize,
}

impl Wheel {
    /// A wheel whose resolution is `tick`. It spans almost 2^32 ticks, 49 days at one millisecond: a timer that is due later
    /// fires after so long.
    pub fn new(tick: Duration, now: Instant) -> Self {
        let level = Level { heads: [NONE; BUCKETS], occupied: [0; BUCKETS / 64] };
        let mut wheel = Self {
            tick: tick.as_nanos() as u64,
            current: 0,
            nodes: Paged::default(),
            levels: Box::new([level; LEVELS]),
            armed: 0,
        };
        wheel.current = wheel.tick_of(now);
        wheel
    }

    /// Sets the timer of `slot`, which replaces the one it had. A deadline that has passed fires at the next tick. To put a
    /// timer off, or back again, costs next to nothing.
    pub fn arm(&mut self, slot: u32, deadline: Instant) {
        let due = deadline.as_nanos().div_ceil(self.tick);
        let due = due.clamp(self.current + 1, self.current + SPAN);
        let node = self.nodes.reach(slot as usize, || IDLE);
        node.tick = due as u32;
        let node = *node;
        if node.bucket == NONE {
            self.link(slot, node.tick);
        } else if self.reaches(node.bucket) > due {
            self.unlink(node);
            self.link(slot, node.tick);
        }
    }

    /// Clears the timer of `slot`, if it has one.
    pub fn cancel(&mut self, slot: u32) {
        if let Some(node) = self.nodes.get_mut(slot as usize)
            && node.bucket != NONE
        {
            let node = core::mem::replace(node, IDLE);
            self.unlink(node);
        }
    }

    /// Whether `slot` has a timer.
    pub fn is_armed(&self, slot: u32) -> bool {
        self.nodes.get(slot as usize).is_some_and(|node| node.bucket != NONE)
    }

    /// Timers that are armed.
    pub fn armed(&self) -> usize {
        self.armed
    }

    /// Appends the slots whose timers fired up to `now`. At most `budget` timers fire or move to another level; where there
    /// are more, the next call goes on. Fired timers are no longer armed.
    pub fn expire(&mut self, now: Instant, budget: usize, fired: &mut Vec<u32>) {
        let target = self.tick_of(now);
        let mut left = budget;
        while left > 0 {
            if let Some(level) = self.reached() {
                let slot = self.levels[level].heads[self.digit(level)];
                let node = self.nodes[slot as usize];
                self.unlink(node);
                if level == 0 && node.tick == self.current as u32 {
                    self.nodes[slot as usize] = IDLE;
                    fired.push(slot);
                } else {
                    self.link(slot, node.tick);
                }
                left -= 1;
                continue;
            }
            match self.next_stop() {
                Some(stop) if stop <= target => self.current = stop,
                _ => {
                    self.current = self.current.max(target);
                    return;
                }
            }
        }
    }

    /// A time before which nothing fires, or `None` where nothing is armed: how long a core may sleep. Exact when the
    /// next timer lies within 256 ticks and was not put off; else as a rule earlier than the timer, but not before there is
    /// something to move.
    pub fn next_fire(&self) -> Option<Instant> {
        let stop = if self.reached().is_some() { self.current } else { self.next_stop()? };
        Some(Instant::from_nanos(stop.saturating_mul(self.tick)))
    }

    fn tick_of(&self, at: Instant) -> u64 {
        at.as_nanos() / self.tick
    }

    /// The bucket of a level that time is in.
    const fn digit(&self, level: usize) -> usize {
        (self.current >> (BITS * level as u32)) as usize % BUCKETS
    }

    /// The lowest level whose bucket that time is in holds timers: they are to fire, or to move down.
    fn reached(&self) -> Option<usize> {
        (0..LEVELS).find(|level| self.levels[*level].is_occupied(self.digit(*level)))
    }

    /// When time next enters an occupied bucket, given that it is in none. A level's buckets all lie before what the level
    /// above holds.
    fn next_stop(&self) -> Option<u64> {
        (0..LEVELS).find_map(|level| {
            let shift = BITS * level as u32;
            let distance = self.levels[level].distance(self.digit(level))?;
            Some(((self.current >> shift) + u64::from(distance)) << shift)
        })
    }

    /// The tick at which time enters a bucket, or has entered the one that it is in.
    const fn reaches(&self, bucket: u32) -> u64 {
        let shift = BITS * (bucket / BUCKETS as u32);
        let here = self.current >> shift;
        let ahead = (bucket as u64).wrapping_sub(here) % BUCKETS as u64;
        (here + ahead) << shift
    }

    /// Puts `slot`, which is in no list, into the bucket that the tick `due` asks for.
    #[inline]
    fn link(&mut self, slot: u32, due: u32) {
        // The highest digit in which due and current differ names the level; a timer due now goes to the lowest.
        let level = (due ^ self.current as u32).checked_ilog2().map_or(0, |bit| bit / BITS);
        let digit = (due >> (BITS * level)) as usize % BUCKETS;
        let place = &mut self.levels[level as usize];
        place.occupied[digit / 64] |= 1 << (digit % 64);
        let head = core::mem::replace(&mut place.heads[digit], slot);
        if head != NONE {
            self.nodes[head as usize].prev = slot;
        }
        let bucket = level * BUCKETS as u32 + digit as u32;
        self.nodes[slot as usize] = Node { prev: NONE, next: head, bucket, tick: due };
        self.armed += 1;
    }

    /// Takes a timer that is armed out of its list. What its node says is old then: it is linked again, or idle.
    #[inline]
    fn unlink(&mut self, Node { prev, next, bucket, .. }: Node) {
        if prev == NONE {
            let (place, digit) = (&mut self.levels[bucket as usize / BUCKETS], bucket as usize % BUCKETS);
            place.heads[digit] = next;
            if next == NONE {
                place.occupied[digit / 64] &= !(1 << (digit % 64));
            }
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

    const MS: Duration = Duration::from_millis(1);
    const DAY: u64 = 24 * 3600 * 1000;

    #[derive(Clone, Debug)]
    enum Step {
        Arm(u32, u64),
        Cancel(u32),
        Advance(u64, usize),
    }

    /// Milliseconds, near and far.
    fn delay() -> impl Strategy<Value = u64> {
        prop_oneof![4 => 0u64..300, 2 => 0u64..70_000, 1 => 0u64..20_000_000, 1 => 0..49 * DAY]
    }

    fn step() -> impl Strategy<Value = Step> {
        let budget = prop_oneof![Just(1), Just(5), Just(usize::MAX)];
        prop_oneof![
            6 => (0u32..64, delay()).prop_map(|(slot, delay)| Step::Arm(slot, delay)),
            2 => (0u32..64).prop_map(Step::Cancel),
            3 => (delay(), budget).prop_map(|(by, budget)| Step::Advance(by, budget)),
        ]
    }

    /// Calls `expire` as a core does, until it has nothing left to do; answers what fired, and how many calls that took.
    fn expire(wheel: &mut Wheel, now: Instant, budget: usize) -> (Vec<u32>, usize) {
        let (mut fired, mut calls) = (Vec::new(), 0);
        loop {
            let before = fired.len();
            wheel.expire(now, budget, &mut fired);
            calls += 1;
            assert!(fired.len() - before <= budget);
            if wheel.next_fire().is_none_or(|at| at > now) {
                let before = fired.len();
                wheel.expire(now, budget, &mut fired);
                assert_eq!(fired.len(), before, "there was nothing left to do");
                return (fired, calls);
            }
        }
    }

    proptest! {
        #[test]
        fn agrees_with_a_sorted_map(start in 0..500 * DAY, steps in prop::collection::vec(step(), 1..200)) {
            let mut now = start;
            let mut wheel = Wheel::new(MS, Instant::from_millis(now));
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
                    Step::Advance(by, budget) => {
                        let first = oracle.values().min();
                        prop_assert_eq!(wheel.next_fire().is_some(), first.is_some());
                        if let (Some(fire), Some(first)) = (wheel.next_fire(), first) {
                            prop_assert!(fire > Instant::from_millis(now) && fire <= Instant::from_millis(*first));
                        }
                        now += by;
                        let (mut fired, calls) = expire(&mut wheel, Instant::from_millis(now), budget);
                        fired.sort_unstable();
                        let due: Vec<u32> = oracle.iter().filter(|(_, at)| **at <= now).map(|(s, _)| *s).collect();
                        oracle.retain(|_, at| *at > now);
                        prop_assert_eq!(fired, due);
                        // Each timer moves at most once per level, and once more where it was put off.
                        prop_assert!(calls <= 1 + 64 * (LEVELS + 1) / budget.min(64));
                    }
                }
                prop_assert_eq!(wheel.armed(), oracle.len());
            }
        }

        #[test]
        fn arming_and_cancelling_between_calls_that_ran_out_of_budget_loses_no_timer(
            steps in prop::collection::vec((0u32..64, 0u64..3000, any::<bool>()), 1..300),
        ) {
            let mut now = 0;
            let mut wheel = Wheel::new(MS, Instant::ZERO);
            let mut oracle: BTreeMap<u32, u64> = BTreeMap::new();
            let mut fired = Vec::new();
            for (slot, delay, arms) in steps {
                now += 40;
                wheel.expire(Instant::from_millis(now), 2, &mut fired);
                for slot in fired.drain(..) {
                    prop_assert!(oracle.remove(&slot).is_some_and(|due| due <= now));
                }
                if arms {
                    wheel.arm(slot, Instant::from_millis(now + delay));
                    oracle.insert(slot, now + delay);
                } else {
                    wheel.cancel(slot);
                    oracle.remove(&slot);
                }
            }
            let (mut fired, _) = expire(&mut wheel, Instant::from_millis(now + 4000), usize::MAX);
            fired.sort_unstable();
            prop_assert_eq!(fired, oracle.into_keys().collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_timer_that_is_put_off_stays_where_it_is_until_time_gets_there() {
        let mut wheel = Wheel::new(MS, Instant::ZERO);
        let mut fired = Vec::new();
        wheel.arm(7, Instant::from_millis(30));
        for far in [31, 500, 80_000, 40, 90_000] {
            wheel.arm(7, Instant::from_millis(far));
            assert_eq!(wheel.next_fire(), Some(Instant::from_millis(30)), "it has not moved");
        }
        wheel.expire(Instant::from_millis(30), 9, &mut fired);
        assert!(fired.is_empty() && wheel.next_fire() > Some(Instant::from_millis(30)));
        wheel.arm(7, Instant::from_millis(35));
        assert_eq!(wheel.next_fire(), Some(Instant::from_millis(35)), "what comes earlier moves it");
        assert_eq!(expire(&mut wheel, Instant::from_millis(34), 9).0, []);
        assert_eq!(expire(&mut wheel, Instant::from_millis(35), 9).0, [7]);
    }

    #[test]
    fn a_long_pause_costs_no_more_than_the_timers_in_it() {
        let mut wheel = Wheel::new(Duration::from_nanos(1), Instant::ZERO);
        wheel.arm(3, Instant::from_nanos(4_000_000_000));
        let mut fired = Vec::new();
        // A step for each of these ticks would take minutes.
        for second in 1..=100 {
            wheel.expire(Instant::from_secs(10 * second), 8, &mut fired);
        }
        assert_eq!(fired, [3]);
    }

    #[test]
    fn a_bucket_with_very_many_timers_is_worked_off_in_pieces() {
        let mut wheel = Wheel::new(MS, Instant::ZERO);
        let due = Instant::from_secs(7200);
        for slot in 0..100_000 {
            wheel.arm(slot, due);
        }
        let (fired, calls) = expire(&mut wheel, due, 256);
        assert_eq!((fired.len(), wheel.armed()), (100_000, 0));
        assert!((100_000 / 256..=LEVELS * 100_000 / 256).contains(&calls), "{calls} calls");
    }

    #[test]
    fn a_timer_beyond_the_span_fires_at_its_end() {
        let mut wheel = Wheel::new(MS, Instant::ZERO);
        wheel.arm(0, Instant::FAR);
        assert!(expire(&mut wheel, Instant::from_millis(49 * DAY), 9).0.is_empty());
        assert_eq!(expire(&mut wheel, Instant::from_millis(50 * DAY), 9).0, [0]);
    }
}
