//! What losses say (section 5.5.10): bounds on what is in flight and how fast it goes, for long and for the moment; and how
//! they are taken back where nothing was lost (section 5.5.11).

use super::sample::Sample;
use super::{Bbr, ENDLESS, State};

/// What the bounds shrink to at most per round, in tenths (BBR.Beta).
const BETA: u64 = 7;
/// Largest share of what was in flight that a probe may lose, in percent (BBR.LossThresh).
const TOLERATED: u64 = 2;

#[derive(Debug)]
pub(super) struct Bounds {
    /// What may be in flight in the long run: above it, probes lost too much.
    pub(super) inflight_long: u32,
    /// For as long as this probing cycle lasts: bytes per second, and bytes.
    pub(super) bw: u64,
    pub(super) inflight_short: u32,
    /// The most of this round: bytes per second, and bytes.
    bw_latest: u64,
    pub(super) inflight_latest: u32,
    /// What must have been delivered before a segment is sent whose ACK ends the round in which loss is counted.
    round_end: u64,
    /// The ACK being taken in ends it.
    pub(super) round_start: bool,
    lost_in_round: bool,
    /// ACKs of this round that told of losses, as far as that matters.
    pub(super) losses: u8,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            inflight_long: ENDLESS,
            bw: u64::MAX,
            inflight_short: ENDLESS,
            bw_latest: 0,
            inflight_latest: 0,
            round_end: 0,
            round_start: false,
            lost_in_round: false,
            losses: 0,
        }
    }
}

impl Bounds {
    pub(super) fn begin_ack(&mut self, sample: &Sample) {
        self.bw_latest = self.bw_latest.max(sample.rate);
        self.inflight_latest = self.inflight_latest.max(sample.delivered);
        self.round_start = sample.prior_delivered >= self.round_end;
        if self.round_start {
            self.round_end = sample.total;
        }
    }

    pub(super) const fn end_ack(&mut self, sample: &Sample) {
        if self.round_start {
            self.bw_latest = sample.rate;
            self.inflight_latest = sample.delivered;
        }
    }

    pub(super) const fn reset_signals(&mut self) {
        self.lost_in_round = false;
        self.bw_latest = 0;
        self.inflight_latest = 0;
    }

    pub(super) const fn forget_short_term(&mut self) {
        self.bw = u64::MAX;
        self.inflight_short = ENDLESS;
    }
}

/// What stood before the last loss.
#[derive(Debug, Default)]
pub(super) struct Undo {
    /// The state that the loss has ended, if it was a probe.
    pub(super) state: Option<State>,
    bw: u64,
    inflight_short: u32,
    inflight_long: u32,
}

impl Bbr {
    /// Something was lost, or marked, when `total` bytes had been delivered. What an undo restores was saved as recovery
    /// began: a second round of losses in it must not take the place of that.
    pub(super) const fn note_loss(&mut self, total: u64) {
        if !self.bounds.lost_in_round {
            self.bounds.round_end = total;
        }
        self.bounds.lost_in_round = true;
        self.bounds.losses = self.bounds.losses.saturating_add(1);
    }

    pub(super) const fn is_inflight_too_high(&self, sample: &Sample) -> bool {
        let too_many = sample.lost as u64 * 100 > sample.tx_in_flight as u64 * TOLERATED;
        too_many || sample.marked || (sample.lost > 0 && !self.sack)
    }

    /// Once per round with losses, the bounds for the moment follow what still arrives; not while bandwidth is probed,
    /// when losses are to be expected.
    pub(super) fn adapt_to_congestion(&mut self) {
        if !self.bounds.round_start {
            return;
        }
        let lost = std::mem::take(&mut self.bounds.lost_in_round);
        if self.state.probes_bandwidth() || !lost {
            return;
        }
        let max_bw = self.bandwidth.max();
        let bounds = &mut self.bounds;
        if bounds.bw == u64::MAX {
            bounds.bw = max_bw;
        }
        if bounds.inflight_short == ENDLESS {
            bounds.inflight_short = self.window;
        }
        bounds.bw = bounds.bw_latest.max(bounds.bw * BETA / 10);
        let kept = u64::from(bounds.inflight_short) * BETA / 10;
        bounds.inflight_short = bounds.inflight_latest.max(kept as u32);
    }

    pub(super) fn save_state(&mut self) {
        self.save_window();
        self.undo = Undo {
            state: None,
            bw: self.bounds.bw,
            inflight_short: self.bounds.inflight_short,
            inflight_long: self.bounds.inflight_long,
        };
    }

    /// Nothing was lost after all.
    pub(super) fn undo_loss(&mut self) {
        self.restore_window();
        self.full_pipe.reset(0);
        let bounds = &mut self.bounds;
        bounds.lost_in_round = false;
        bounds.bw = bounds.bw.max(self.undo.bw);
        bounds.inflight_short = bounds.inflight_short.max(self.undo.inflight_short);
        bounds.inflight_long = bounds.inflight_long.max(self.undo.inflight_long);
        match self.undo.state.take() {
            Some(State::Startup) if self.state != State::Startup => {
                self.full_pipe.reached = false;
                if self.state != State::ProbeRtt {
                    self.state = State::Startup;
                }
            }
            Some(State::Up) if !matches!(self.state, State::Up | State::ProbeRtt) => self.start_refill(),
            _ => {}
        }
    }
}
