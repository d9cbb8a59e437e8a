//! The path: how many rounds have gone, its bandwidth, and how much of its answers come in bunches.

use pnat_shared::time::Instant;

use super::super::congestion::Acked;
use super::sample::Sample;
use super::{Bbr, ENDLESS};

/// Rounds of one slot of the aggregation filter: two slots make up its ten rounds (BBR.ExtraAckedFilterLen).
const AGGREGATION_ROUNDS: u32 = 5;

/// Round trips counted by packets (section 5.5.1): one ends with the ACK of what was sent after it had begun.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    pub(super) count: u32,
    /// The ACK being taken in ends a round.
    pub(super) start: bool,
    /// What must have been delivered before a segment is sent whose ACK ends this round.
    end: u64,
    total: u64,
    /// The window was full at some time in this round, and in the last one.
    filled: [bool; 2],
}

impl Rounds {
    pub(super) const fn update(&mut self, sample: &Sample) {
        self.total = sample.total;
        self.start = sample.prior_delivered >= self.end;
        if self.start {
            self.begin();
            self.count += 1;
            self.filled = [false, self.filled[0]];
        }
    }

    /// A new round begins here.
    pub(super) const fn begin(&mut self) {
        self.end = self.total;
    }

    /// Bytes delivered altogether.
    pub(super) const fn total(&self) -> u64 {
        self.total
    }

    pub(super) fn note_window_use(&mut self, acked: &Acked, window: u32, mss: u32) {
        self.filled[0] |= acked.fills(window, false, mss);
    }

    /// Whether the window bounded what was in flight (C.is_cwnd_limited).
    pub(super) const fn is_window_full(&self) -> bool {
        self.filled[0] || self.filled[1]
    }
}

/// The largest delivery rate of this probing cycle and of the last one (sections 5.5.2 to 5.5.6), in bytes per second.
#[derive(Debug, Default)]
pub(super) struct Bandwidth {
    cycles: [u64; 2],
}

impl Bandwidth {
    pub(super) fn max(&self) -> u64 {
        self.cycles[0].max(self.cycles[1])
    }

    /// A cycle is over.
    pub(super) const fn advance(&mut self) {
        // Without a sample of its own the cycle says nothing.
        if self.cycles[0] > 0 {
            self.cycles = [0, self.cycles[0]];
        }
    }
}

/// How much more is acknowledged at times than the bandwidth accounts for (section 5.5.9): radio links, and hosts that merge
/// segments, hold ACKs back and let them go in bunches.
#[derive(Debug)]
pub(super) struct Aggregation {
    since: Instant,
    delivered: u64,
    /// The most extra bytes of the last rounds, in two slots.
    extra: [u32; 2],
    /// Round in which the younger slot began.
    began: u32,
}

impl Aggregation {
    pub(super) const fn new(now: Instant) -> Self {
        Self { since: now, delivered: 0, extra: [0; 2], began: 0 }
    }

    pub(super) const fn restart(&mut self, now: Instant) {
        self.since = now;
        self.delivered = 0;
    }

    /// Extra bytes that the window has to allow for.
    pub(super) fn extra(&self) -> u32 {
        self.extra[0].max(self.extra[1])
    }
}

impl Bbr {
    pub(super) fn update_bandwidth(&mut self, sample: &Sample) {
        if sample.rate > 0 && (sample.rate >= self.bandwidth.max() || !sample.is_app_limited) {
            let cycle = &mut self.bandwidth.cycles[0];
            *cycle = (*cycle).max(sample.rate);
        }
    }

    /// What the path carries, as far as recent losses leave it (BBR.bw), in bytes per second.
    pub(super) fn bw(&self) -> u64 {
        self.bandwidth.max().min(self.bounds.bw)
    }

    /// Bandwidth-delay product at `bw` bytes per second by `gain` percent; the initial window before anything was
    /// measured.
    pub(super) fn bdp(&self, bw: u64, gain: u64) -> u32 {
        let min_rtt = self.delay.min_rtt().as_micros() as u64;
        if min_rtt == 0 || bw == 0 {
            return super::initial_window(self.mss);
        }
        let bdp = bw.saturating_mul(min_rtt) / 1_000_000;
        u32::try_from(bdp.saturating_mul(gain) / 100).unwrap_or(ENDLESS)
    }

    pub(super) fn update_aggregation(&mut self, sample: &Sample) {
        let bw = self.bw();
        let Aggregation { since, delivered, extra, began } = &mut self.aggregation;
        let expected = |since: Instant| {
            let micros = sample.now.since(since).as_micros() as u64;
            bw.saturating_mul(micros) / 1_000_000
        };
        let mut due = expected(*since);
        if *delivered <= due {
            // ACKs come no faster than expected: a new stretch begins.
            (*since, *delivered, due) = (sample.now, 0, 0);
        }
        *delivered += u64::from(sample.newly_delivered);
        let rounds = if self.full_pipe.reached { AGGREGATION_ROUNDS } else { 1 };
        if self.rounds.start && self.rounds.count - *began >= rounds {
            *extra = [0, extra[0]];
            *began = self.rounds.count;
        }
        let more = delivered.saturating_sub(due).min(u64::from(self.window)) as u32;
        extra[0] = extra[0].max(more);
    }
}
