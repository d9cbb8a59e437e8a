//! Startup and Drain (sections 5.3.1 and 5.3.2): the first search for the path's bandwidth, and what ends it.

use super::sample::Sample;
use super::{Bbr, State};

/// Rounds without growth after which the pipe counts as full.
const PLATEAU: u8 = 3;
/// ACKs of one round that tell of losses, from which on Startup may end by them (BBRStartupFullLossCnt).
const LOSSES: u8 = 6;
/// Rounds that Drain lasts at most.
const DRAIN_ROUNDS: u32 = 3;

/// Whether sending faster still delivers faster.
#[derive(Debug, Default)]
pub(super) struct FullPipe {
    /// Bandwidth was fully used once in the connection's life.
    pub(super) reached: bool,
    /// It has been since the last [`FullPipe::reset`].
    pub(super) now: bool,
    /// The rate that must be exceeded by a quarter, in bytes per second.
    base: u64,
    /// Rounds that have not exceeded it.
    count: u8,
    /// Round in which Drain began.
    pub(super) drain: u32,
}

impl FullPipe {
    /// Begins to look anew, from a rate of `base`.
    pub(super) const fn reset(&mut self, base: u64) {
        self.base = base;
        self.count = 0;
        self.now = false;
    }
}

impl Bbr {
    /// Section 5.3.1.2.
    pub(super) fn check_full_pipe(&mut self, sample: &Sample) {
        let pipe = &mut self.full_pipe;
        if pipe.now || !self.rounds.start || sample.is_app_limited || sample.rate == 0 {
            return;
        }
        if sample.rate >= pipe.base.saturating_add(pipe.base / 4) {
            return pipe.reset(sample.rate);
        }
        pipe.count += 1;
        pipe.now = pipe.count >= PLATEAU;
        pipe.reached |= pipe.now;
    }

    pub(super) fn check_startup_done(&mut self, sample: &Sample) {
        if self.state != State::Startup {
            return;
        }
        if !self.full_pipe.reached {
            self.check_startup_loss(sample);
        }
        if self.full_pipe.reached {
            self.state = State::Drain;
            self.full_pipe.drain = self.rounds.count;
        }
    }

    /// Section 5.3.1.3: a whole round of recovery in which too much was lost, and not in a single burst.
    fn check_startup_loss(&mut self, sample: &Sample) {
        let many = self.bounds.losses >= LOSSES || !self.sack;
        if self.bounds.round_start && self.recovering && many && self.is_inflight_too_high(sample) {
            self.undo.state = Some(State::Startup);
            self.full_pipe.reached = true;
            self.bounds.inflight_long = self.bdp(self.bw(), 100).max(self.bounds.inflight_latest);
        }
        if self.bounds.round_start {
            self.bounds.losses = 0;
        }
    }

    pub(super) fn check_drain_done(&mut self, sample: &Sample) {
        let late = self.rounds.count > self.full_pipe.drain + DRAIN_ROUNDS;
        if self.state == State::Drain && (sample.flight <= self.inflight(100) || late) {
            self.start_down(sample.now);
        }
    }
}
