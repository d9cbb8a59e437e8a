//! How long packets wait in the ring, and how long the reactor keeps what they bring.
//!
//! Runs on: proxy cores. Allocates: never, once its vector has grown. Blocks: never.
//!
//! The clock is read once per burst, so most packets of a burst give equal measurements: these are counted first and
//! recorded together.

use core::num::NonZeroU64;

use pnat_shared::stats::{Latency, Stage};
use pnat_shared::time::Instant;

/// The burst that frames are due to. Every pair has one, so it takes little room.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Cause(NonZeroU64);

impl Cause {
    /// A burst that the reactor took from the ring at `taken`.
    pub(super) const fn new(taken: Instant) -> Self {
        // The process's first nanosecond counts as its second one.
        match NonZeroU64::new(taken.as_nanos()) {
            Some(nanos) => Self(nanos),
            None => Self(NonZeroU64::MIN),
        }
    }

    const fn taken(self) -> Instant {
        Instant::from_nanos(self.0.get())
    }
}

/// Measurements, and those in progress.
#[derive(Debug)]
pub(super) struct Residence {
    pub(super) latency: Latency,
    /// Whether anything is recorded.
    pub(super) is_on: bool,
    /// When the burst was taken.
    now: Instant,
    /// Packets of the burst that entered the ring at the same time.
    waiting: (Instant, u64),
    /// Frames due to the burst, not yet handed on.
    leaving: u64,
    /// The same for bursts before: pairs that had to wait for their visit. At most one entry a visit.
    overdue: Vec<(Cause, u64)>,
}

impl Residence {
    pub(super) fn new(is_on: bool) -> Self {
        Self {
            latency: if is_on { Latency::of(&Stage::OF_PROXIES) } else { Latency::default() },
            is_on,
            now: Instant::ZERO,
            waiting: (Instant::ZERO, 0),
            leaving: 0,
            overdue: Vec::new(),
        }
    }

    /// The reactor was called, with a burst or for its timers.
    pub(super) fn begin(&mut self, now: Instant) {
        if now != self.now {
            self.end(now);
            self.now = now;
        }
    }

    /// The burst holds a packet that entered the ring at this time.
    #[inline]
    pub(super) fn arrived(&mut self, at: Instant) {
        if self.waiting.0 != at {
            self.waited();
            self.waiting.0 = at;
        }
        self.waiting.1 += 1;
    }

    /// The burst holds no more packets.
    pub(super) fn waited(&mut self) {
        let (at, count) = std::mem::take(&mut self.waiting);
        if count > 0 && self.is_on {
            self.latency.record(Stage::RingIn, self.now.since(at), count);
        }
    }

    /// Frames were put out. Those that no packet caused reside nowhere.
    #[inline]
    pub(super) fn leaving(&mut self, cause: Option<Cause>, count: u64) {
        match cause {
            Some(cause) if cause == Cause::new(self.now) => self.leaving += count,
            Some(cause) => self.overdue(cause, count),
            None => {}
        }
    }

    #[cold]
    fn overdue(&mut self, cause: Cause, count: u64) {
        match self.overdue.last_mut() {
            Some((last, counted)) if *last == cause => *counted += count,
            _ => self.overdue.push((cause, count)),
        }
    }

    /// What was put out is handed on.
    pub(super) fn end(&mut self, now: Instant) {
        let count = std::mem::take(&mut self.leaving);
        if count > 0 && self.is_on {
            self.latency.record(Stage::Proxy, now.since(self.now), count);
        }
        for (cause, count) in self.overdue.drain(..) {
            if self.is_on {
                self.latency.record(Stage::Proxy, now.since(cause.taken()), count);
            }
        }
    }
}
