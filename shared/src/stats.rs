//! What each core counts and measures: counters that one core writes and anybody may read, and latency histograms.
//!
//! Runs on: every core (writing), control (reading). Allocates: at creation. Blocks: never.

use std::sync::LazyLock;
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
    /// For people, with the unit where it counts no plain things and the name does not tell.
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
        each(Metric::count("busy_nanoseconds", "Time of the turns that found something."), self.busy.value());
        each(Metric::count("bursts", "Bursts taken from ports and rings."), self.bursts.value());
        each(Metric::count("burst_packets", "Packets in the bursts taken."), self.packets.value());
    }
}

/// Where a packet's time goes: each stage ends where the next one begins, so that the means of a way's stages add up to the
/// mean of the whole way.
///
/// ```text
///   port ---------------------------------- nat ----------------------------------> port
///   port -- nat_in --> ring_in --> [ proxy core: proxy ] --> ring_out --> nat_out --> port
/// ```
///
/// A way begins when the gateway fetches the packet's burst from a port: what it waited there before only the device could
/// tell. It ends when the burst that it leaves with has been given to a port. Frames that the gateway makes are on the way of
/// the burst that they are due to, and packets that wait for a neighbor on that of its answer.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// The whole way of a packet that the workers translate by themselves, hand-off between them included.
    Nat,
    /// From a port's burst to the moment that a worker puts the packet into the ring to a proxy core, hand-off included.
    NatIn,
    /// From there to the moment that the proxy core took it.
    RingIn,
    /// From there to the moment that the frames that it caused are put into the ring back.
    Proxy,
    /// From there to the moment that the worker took them.
    RingOut,
    /// From there to the port.
    NatOut,
    /// No packet's time: from a client's SYN to the server's answer; where the server was asked later, from our own.
    Connect,
}

impl Stage {
    pub const ALL: [Self; 7] =
        [Self::Nat, Self::NatIn, Self::RingIn, Self::Proxy, Self::RingOut, Self::NatOut, Self::Connect];
    /// Those that workers measure.
    pub const OF_WORKERS: [Self; 4] = [Self::Nat, Self::NatIn, Self::RingOut, Self::NatOut];
    /// Those that proxy cores measure.
    pub const OF_PROXIES: [Self; 3] = [Self::RingIn, Self::Proxy, Self::Connect];
    /// The way of a packet through a proxy core, in order.
    pub const PROXIED: [Self; 5] = [Self::NatIn, Self::RingIn, Self::Proxy, Self::RingOut, Self::NatOut];

    pub const fn key(self) -> &'static str {
        match self {
            Self::Nat => "nat",
            Self::NatIn => "nat_in",
            Self::RingIn => "ring_in",
            Self::Proxy => "proxy",
            Self::RingOut => "ring_out",
            Self::NatOut => "nat_out",
            Self::Connect => "connect",
        }
    }

    /// What it is, for people.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Nat => "the whole way of a translated packet, from port to port",
            Self::NatIn => "of a proxied packet: from a port into the ring to a proxy core",
            Self::RingIn => "its wait in that ring",
            Self::Proxy => "its time on the proxy core",
            Self::RingOut => "the wait in the ring back of what it caused",
            Self::NatOut => "from there to a port",
            Self::Connect => "from a client's SYN to the server's answer",
        }
    }
}

/// Latency histograms of one core, one for each [`Stage`] that it measures, in nanoseconds: 1 ns to 60 s at two significant
/// digits.
#[derive(Clone, Debug, Default)]
pub struct Latency {
    /// `None`: 30 KB saved.
    stages: [Option<Histogram<u64>>; Stage::ALL.len()],
}

impl Latency {
    /// For these stages; others are not recorded.
    pub fn of(stages: &[Stage]) -> Self {
        let mut new = Self::default();
        for stage in stages {
            new.stages[*stage as usize] = Some(empty());
        }
        new
    }

    /// Records `count` equal measurements; longer than 60 s counts as 60 s.
    pub fn record(&mut self, stage: Stage, took: Duration, count: u64) {
        if let Some(histogram) = &mut self.stages[stage as usize] {
            let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1);
            histogram.saturating_record_n(nanos, count);
        }
    }

    /// What was recorded of a stage: nothing where it is not measured.
    pub fn stage(&self, stage: Stage) -> &Histogram<u64> {
        static NOTHING: LazyLock<Histogram<u64>> = LazyLock::new(empty);
        self.stages[stage as usize].as_ref().unwrap_or(&NOTHING)
    }

    /// What was measured since `earlier`, a copy of this; `None`: it is none.
    pub fn since(&self, earlier: &Self) -> Option<Self> {
        let mut since = self.clone();
        for (mine, theirs) in since.stages.iter_mut().zip(&earlier.stages) {
            if let Some(theirs) = theirs {
                mine.as_mut()?.subtract(theirs).ok()?;
            }
        }
        Some(since)
    }

    /// Adds another core's measurements.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.stages.iter_mut().zip(&other.stages) {
            if let Some(theirs) = theirs {
                mine.get_or_insert_with(empty).add(theirs).expect("invariant: same bounds");
            }
        }
    }
}

fn empty() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 2).expect("invariant: bounds are valid")
}
