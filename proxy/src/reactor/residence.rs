//! How long packets wait in the ring, and how long the reactor keeps what they bring.
//!
//! Runs on: proxy cores. Allocates: never. Blocks: never.
//!
//! The clock is read once per burst, so most packets of a burst give equal measurements: these are counted first and
//! recorded together.

use core::num::NonZeroU32;

use pnat_shared::stats::{Latency, Stage};
use pnat_shared::time::{Duration, Instant};

/// The packet that frames are due to. Every pair has one, so it takes little room.
#[derive(Copy, Clone, Debug)]
#[repr(Rust, packed(4))]
pub(super) struct Cause {
    /// When its worker put it into the ring.
    at: Instant,
    /// How long it was there, in nanoseconds and one more; four seconds at most.
    waited: NonZeroU32,
}

impl Cause {
    /// A packet that entered the ring at `at`, and that the reactor took out at `taken`.
    pub(super) fn new(at: Instant, taken: Instant) -> Self {
        let nanos = u32::try_from(taken.since(at).as_nanos()).unwrap_or(u32::MAX);
        Self { at: at.min(taken), waited: NonZeroU32::MIN.saturating_add(nanos) }
    }

    /// When its worker put it into the ring.
    pub(super) const fn at(&self) -> Instant {
        self.at
    }

    /// When the reactor took it out.
    fn taken(&self) -> Instant {
        let waited = self.waited.get() - 1;
        self.at() + Duration::from_nanos(waited.into())
    }
}

/// Measurements, and those in progress.
#[derive(Debug, Default)]
pub(super) struct Residence {
    pub(super) latency: Latency,
    /// When the burst was taken.
    now: Instant,
    /// Packets of the burst that entered the ring at the same time.
    waiting: (Instant, u64),
    /// Frames due to the burst, not yet handed on.
    leaving: u64,
}

impl Residence {
    /// The reactor was called, with a burst or for its timers.
    pub(super) fn begin(&mut self, now: Instant) {
        if now != self.now {
            self.end(now);
            self.now = now;
        }
    }

    /// The burst holds a packet that entered the ring at this time.
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
        if count > 0 {
            self.latency.record(Stage::RingWait, self.now.since(at), count);
        }
    }

    /// Frames were put out. Those that no packet caused reside nowhere.
    pub(super) fn leaving(&mut self, cause: Option<Cause>, count: u64) {
        match cause {
            Some(cause) if cause.taken() == self.now => self.leaving += count,
            Some(cause) => self.latency.record(Stage::Proxy, self.now.since(cause.taken()), count),
            None => {}
        }
    }

    /// What was put out has been handed on.
    pub(super) fn end(&mut self, now: Instant) {
        let count = std::mem::take(&mut self.leaving);
        if count > 0 {
            self.latency.record(Stage::Proxy, now.since(self.now), count);
        }
    }
}
