//! The probing cycle (section 5.3.3): Down, Cruise, Refill, Up, and how the long-term bound on what is in flight follows it.

use pnat_shared::time::{Duration, Instant};

use super::sample::Sample;
use super::{Bbr, ENDLESS, State};

/// Round trips after which a flow that shares the path with Reno probes again, at most (section 5.3.3.5).
const RENO_ROUNDS: u32 = 63;

/// What the ACKs that come answer to.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Feedback {
    Nothing,
    Refilling,
    /// The probe has begun, its ACKs have not.
    Starting,
    Probe,
    /// The probe is over, its ACKs are not.
    Stopping,
}

#[derive(Debug)]
pub(super) struct Cycle {
    /// When it began, and how long it lasts at most before bandwidth is probed again.
    began: Instant,
    wait: Duration,
    /// Since the last probe began.
    rounds: u32,
    feedback: Feedback,
    /// ACKs are of a probe whose losses were not answered yet.
    pub(super) is_probe_sample: bool,
    /// The last probe lost too much.
    pub(super) too_high: bool,
    /// The last probe ended where the one before had lost too much.
    precautionary: bool,
    /// Rounds that the long-term bound has grown in this probe.
    up_rounds: u8,
    /// Bytes acknowledged towards its next step, and how many make one.
    up_acked: u32,
    up_step: u32,
}

impl Cycle {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            began: now,
            wait: Duration::ZERO,
            rounds: 0,
            feedback: Feedback::Nothing,
            is_probe_sample: false,
            too_high: false,
            precautionary: false,
            up_rounds: 0,
            up_acked: 0,
            up_step: ENDLESS,
        }
    }

    /// The probe is over: its ACKs are yet to come.
    pub(super) const fn stop(&mut self) {
        self.feedback = Feedback::Stopping;
    }
}

impl Bbr {
    pub(super) fn start_down(&mut self, now: Instant) {
        self.bounds.reset_signals();
        self.cycle.up_step = ENDLESS;
        // Flows that began together are not to probe together.
        self.cycle.rounds = self.random_below(2);
        self.cycle.wait = Duration::from_millis(2000 + u64::from(self.random_below(1000)));
        self.cycle.began = now;
        self.cycle.stop();
        self.rounds.begin();
        self.state = State::Down;
    }

    pub(super) const fn start_cruise(&mut self) {
        self.state = State::Cruise;
    }

    pub(super) const fn start_refill(&mut self) {
        self.bounds.forget_short_term();
        self.cycle.up_rounds = 0;
        self.cycle.up_acked = 0;
        self.cycle.precautionary = false;
        self.cycle.feedback = Feedback::Refilling;
        self.rounds.begin();
        self.state = State::Refill;
    }

    fn start_up(&mut self, sample: &Sample) {
        self.cycle.is_probe_sample = true;
        self.cycle.feedback = Feedback::Starting;
        self.rounds.begin();
        self.full_pipe.reset(sample.rate);
        self.state = State::Up;
        self.steepen();
    }

    /// Section 5.3.3.6.
    pub(super) fn update_cycle(&mut self, sample: &Sample) {
        self.cycle.rounds += u32::from(self.rounds.start);
        if !self.full_pipe.reached || self.adapt_long_term(sample) {
            return;
        }
        match self.state {
            State::Down if self.is_time_to_probe(sample.now) => self.start_refill(),
            State::Down if self.is_time_to_cruise(sample) => self.start_cruise(),
            State::Cruise if self.is_time_to_probe(sample.now) => self.start_refill(),
            State::Refill if self.rounds.start => self.start_up(sample),
            State::Up => self.check_up_done(sample),
            _ => {}
        }
    }

    /// Either its time has come, or Reno would have filled the same pipe by now.
    fn is_time_to_probe(&self, now: Instant) -> bool {
        let reno = (self.target_inflight() / self.mss).min(RENO_ROUNDS);
        now > self.cycle.began + self.cycle.wait || self.cycle.rounds >= reno
    }

    fn is_time_to_cruise(&self, sample: &Sample) -> bool {
        sample.flight <= self.inflight_with_headroom()
            && sample.flight <= self.quantized(self.bdp(self.bandwidth.max(), 100))
    }

    /// The probe ends where the one before had lost too much, or where bandwidth no longer grows.
    fn check_up_done(&mut self, sample: &Sample) {
        let is_risky = self.cycle.too_high && sample.flight >= self.bounds.inflight_long;
        if is_risky {
            self.cycle.precautionary = true;
        } else if self.rounds.is_window_full() && self.window >= self.bounds.inflight_long {
            // Bandwidth does not grow because the bound does not let it.
            return self.full_pipe.reset(sample.rate);
        }
        if is_risky || self.full_pipe.now {
            self.cycle.too_high = false;
            self.start_down(sample.now);
        }
    }

    /// Follows what the ACKs of a probe say. Answers whether that has decided on the state.
    fn adapt_long_term(&mut self, sample: &Sample) -> bool {
        if self.cycle.feedback == Feedback::Starting && self.rounds.start {
            self.cycle.feedback = Feedback::Probe;
        }
        if self.cycle.feedback == Feedback::Stopping && self.rounds.start {
            self.cycle.is_probe_sample = false;
            self.cycle.feedback = Feedback::Nothing;
            if self.state.is_in_cycle() && !sample.is_app_limited {
                self.bandwidth.advance();
            }
            if self.state.is_in_cycle() && self.cycle.precautionary && !self.cycle.too_high {
                // A careful probe went well: now a full one.
                self.start_refill();
                return true;
            }
        }
        if self.is_inflight_too_high(sample) {
            if self.cycle.is_probe_sample {
                self.on_inflight_too_high(sample);
            }
            return false;
        }
        if self.bounds.inflight_long != ENDLESS {
            self.bounds.inflight_long = self.bounds.inflight_long.max(sample.tx_in_flight);
            if self.state == State::Up {
                self.raise_long_term(sample);
            }
        }
        false
    }

    /// The probe has lost too much (section 5.5.10.2): once per probe.
    fn on_inflight_too_high(&mut self, sample: &Sample) {
        self.cycle.too_high = true;
        self.cycle.is_probe_sample = false;
        if !sample.is_app_limited {
            let target = u64::from(self.target_inflight()) * 7 / 10;
            self.bounds.inflight_long = sample.tx_in_flight.max(target as u32);
        }
        if self.state == State::Up {
            self.undo.state = Some(State::Up);
            self.start_down(sample.now);
        }
    }

    /// The bound doubles its steps every round: 1, 2, 4 segments and so on, spread over the round.
    fn raise_long_term(&mut self, sample: &Sample) {
        if !self.rounds.is_window_full() || self.window < self.bounds.inflight_long {
            return;
        }
        let cycle = &mut self.cycle;
        cycle.up_acked = cycle.up_acked.saturating_add(sample.newly_delivered);
        if cycle.up_acked >= cycle.up_step {
            let steps = cycle.up_acked / cycle.up_step;
            cycle.up_acked -= steps * cycle.up_step;
            let more = steps.saturating_mul(self.mss);
            self.bounds.inflight_long = self.bounds.inflight_long.saturating_add(more);
        }
        if self.rounds.start {
            self.steepen();
        }
    }

    fn steepen(&mut self) {
        self.cycle.up_step = (self.window >> self.cycle.up_rounds).max(self.mss);
        self.cycle.up_rounds = (self.cycle.up_rounds + 1).min(30);
    }

    /// What is to be in flight: what the path holds, unless congestion has cut the window.
    fn target_inflight(&self) -> u32 {
        self.bdp(self.bw(), 100).min(self.window)
    }

    /// The long-term bound less what is left to others (section 5.3.3.1).
    pub(super) fn inflight_with_headroom(&self) -> u32 {
        let bound = self.bounds.inflight_long;
        if bound == ENDLESS {
            return ENDLESS;
        }
        let headroom = (u64::from(bound) * 15 / 100) as u32;
        bound.saturating_sub(headroom.max(self.mss)).max(self.least_window())
    }
}
