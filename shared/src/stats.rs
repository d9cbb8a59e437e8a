//! What each core counts and measures: counters that one core writes and anybody may read, and latency histograms.
//!
//! Runs on: every core (writing), control (reading). Allocates: at creation. Blocks: never.

use std::sync::atomic::{AtomicU64, Ordering};

use hdrhistogram::Histogram;

use crate::time::{Duration, Instant};
use crate::verdict::{CloseReason, DropReason};

/// A counter with one writer. Adding is a plain load and store, no locked instruction.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the owning core may call this, or counts get lost.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Sets a gauge's value.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The value; readable from anywhere at any time.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that is told to operators: what it is called, how it behaves, what it means.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Stable, in `snake_case`; the same for all owners of a kind.
    pub name: &'static str,
    pub behavior: Behavior,
    /// For people, with the unit where it counts no plain things.
    pub meaning: &'static str,
}

/// How a number moves.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Behavior {
    /// Only up, since the start.
    Counts,
    /// Up and down.
    Varies,
}

impl Metric {
    /// A number that only goes up.
    pub const fn count(name: &'static str, meaning: &'static str) -> Self {
        Self { name, behavior: Behavior::Counts, meaning }
    }

    /// A number that goes up and down.
    pub const fn level(name: &'static str, meaning: &'static str) -> Self {
        Self { name, behavior: Behavior::Varies, meaning }
    }
}

/// Counters that belong together (a core's, a port's, a ring's), as control reads them while their owner writes.
pub trait Counters: core::fmt::Debug + Send + Sync {
    /// Calls `each` with every number and its value.
    fn counters(&self, each: &mut dyn FnMut(Metric, u64));

    /// What the owner's loop makes of its turns, where it has one.
    fn turns(&self) -> Option<&Turns> {
        None
    }

    /// Packets dropped, where the owner drops packets.
    fn drops(&self) -> Option<&Drops> {
        None
    }

    /// Flows ended, where the owner ends flows.
    fn closes(&self) -> Option<&Closes> {
        None
    }
}

/// One counter per reason.
#[derive(Debug)]
pub struct Drops([Counter; DropReason::COUNT]);

impl Default for Drops {
    fn default() -> Self {
        Self(core::array::from_fn(|_| Counter::default()))
    }
}

impl Drops {
    pub fn add(&self, reason: DropReason, n: u64) {
        self.0[reason.index()].add(n);
    }

    /// Takes over what somebody else counted, such as a device.
    pub fn set(&self, reason: DropReason, n: u64) {
        self.0[reason.index()].set(n);
    }

    pub fn value(&self, reason: DropReason) -> u64 {
        self.0[reason.index()].value()
    }
}

/// One counter per reason that flows end for.
#[derive(Debug)]
pub struct Closes([Counter; CloseReason::COUNT]);

impl Default for Closes {
    fn default() -> Self {
        Self(core::array::from_fn(|_| Counter::default()))
    }
}

impl Closes {
    pub fn add(&self, reason: CloseReason, n: u64) {
        self.0[reason.index()].add(n);
    }

    pub fn value(&self, reason: CloseReason) -> u64 {
        self.0[reason.index()].value()
    }
}

/// What one loop of a core (a worker's, a reactor's) makes of its turns. A CPU on which two loops run by turns has two.
///
/// Time is counted where the loop measures itself. A turn that found nothing is idle, and so is the sleep after it: what is
/// not busy is idle.
#[derive(Debug, Default)]
pub struct Turns {
    pub all: Counter,
    /// Those that found nothing to do.
    pub idle: Counter,
    /// Nanoseconds of the others.
    pub busy: Counter,
    /// Bursts taken from ports and rings, and packets in them.
    pub bursts: Counter,
    pub packets: Counter,
}

impl Turns {
    /// Counts a burst that was taken.
    #[inline]
    pub fn burst(&self, packets: usize) {
        self.bursts.add(1);
        self.packets.add(packets as u64);
    }

    /// Counts a turn that worked; it began and ended at these times where that is known.
    #[inline]
    pub fn worked(&self, lasted: Option<(Instant, Instant)>) {
        self.all.add(1);
        if let Some((began, ended)) = lasted {
            self.busy.add(ended.nanos_since(began));
        }
    }

    /// Counts a turn that found nothing.
    #[inline]
    pub fn idled(&self) {
        self.all.add(1);
        self.idle.add(1);
    }
}

impl Counters for Turns {
    fn counters(&self, each: &mut dyn FnMut(Metric, u64)) {
        each(Metric::count("turns", "Turns of the core's poll loop."), self.all.value());
        each(
            Metric::count("idle_turns", "Turns of the core's poll loop that found nothing."),
            self.idle.value(),
        );
        each(
            Metric::count("busy_nanoseconds", "Time of the turns that found something, in nanoseconds."),
            self.busy.value(),
        );
        each(Metric::count("bursts", "Bursts taken from ports and rings."), self.bursts.value());
        each(Metric::count("burst_packets", "Packets in the bursts taken."), self.packets.value());
    }
}

/// Where time is measured.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// A worker's time per packet, from burst received to burst handed on.
    Nat,
    /// From the moment a worker put a packet into the ring to the moment a proxy core took it.
    RingWait,
    /// From a frame taken by a proxy core to the frame that it caused handed back.
    Proxy,
    /// From a client's SYN to the server's answer.
    Connect,
}

impl Stage {
    pub const ALL: [Self; 4] = [Self::Nat, Self::RingWait, Self::Proxy, Self::Connect];

    pub const fn key(self) -> &'static str {
        match self {
            Self::Nat => "nat",
            Self::RingWait => "ring_wait",
            Self::Proxy => "proxy",
            Self::Connect => "connect",
        }
    }
}

/// Latency histograms of one core, one per [`Stage`], in nanoseconds: 1 ns to 60 s at two significant digits.
#[derive(Clone, Debug)]
pub struct Latency {
    stages: [Histogram<u64>; 4],
}

impl Default for Latency {
    fn default() -> Self {
        let new = || Histogram::new_with_bounds(1, 60_000_000_000, 2).expect("invariant: bounds are valid");
        Self { stages: core::array::from_fn(|_| new()) }
    }
}

impl Latency {
    /// Records `count` equal measurements; longer than 60 s counts as 60 s.
    pub fn record(&mut self, stage: Stage, took: Duration, count: u64) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1);
        self.stages[stage as usize].saturating_record_n(nanos, count);
    }

    pub fn stage(&self, stage: Stage) -> &Histogram<u64> {
        &self.stages[stage as usize]
    }

    /// Adds another core's measurements.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.stages.iter_mut().zip(&other.stages) {
            mine.add(theirs).expect("invariant: same bounds");
        }
    }
}
