//! The shortest round trip, and ProbeRtt (section 5.3.4): the queue must run dry now and then, or nobody sees how long the
//! path is.

use pnat_shared::time::{Duration, Instant};

use super::sample::Sample;
use super::{Bbr, State};

/// How long a shortest round trip is believed (BBR.MinRTTFilterLen).
const BELIEVED: Duration = Duration::from_secs(10);
/// After how long without one as short ProbeRtt looks for it. All flows that share a path use the same, so that their
/// queues run dry together (BBR.ProbeRTTInterval).
const INTERVAL: Duration = Duration::from_secs(5);
/// How long ProbeRtt keeps little in flight (BBR.ProbeRTTDuration).
const DURATION: Duration = Duration::from_millis(200);

/// Shortest round trips; [`Duration::MAX`] before the first.
#[derive(Debug)]
pub(super) struct Delay {
    /// Of the last ten seconds, and since when.
    min_rtt: Duration,
    stamp: Instant,
    /// Of the last five seconds, and since when.
    recent: Duration,
    recent_stamp: Instant,
    /// None was as short for five seconds.
    expired: bool,
    /// When ProbeRtt may end; `None` before little enough is in flight.
    done: Option<Instant>,
    /// A round has gone since then.
    round_done: bool,
}

impl Delay {
    pub(super) fn new(srtt: Option<Duration>, now: Instant) -> Self {
        let first = srtt.unwrap_or(Duration::MAX);
        Self {
            min_rtt: first,
            stamp: now,
            recent: first,
            recent_stamp: now,
            expired: false,
            done: None,
            round_done: false,
        }
    }

    /// The path's delay; zero before it was measured.
    pub(super) fn min_rtt(&self) -> Duration {
        if self.min_rtt == Duration::MAX { Duration::ZERO } else { self.min_rtt }
    }
}

impl Bbr {
    pub(super) fn update_delay(&mut self, sample: &Sample) {
        let delay = &mut self.delay;
        delay.expired = sample.now > delay.recent_stamp + INTERVAL;
        if let Some(rtt) = sample.rtt
            && (rtt < delay.recent || delay.expired)
        {
            (delay.recent, delay.recent_stamp) = (rtt, sample.now);
        }
        if delay.recent < delay.min_rtt || sample.now > delay.stamp + BELIEVED {
            (delay.min_rtt, delay.stamp) = (delay.recent, delay.recent_stamp);
        }
    }

    pub(super) fn check_probe_rtt(&mut self, sample: &Sample) {
        if self.state != State::ProbeRtt && self.delay.expired && !self.idle_restart {
            self.save_window();
            self.state = State::ProbeRtt;
            self.delay.done = None;
            self.cycle.stop();
            self.rounds.begin();
        }
        if self.state == State::ProbeRtt {
            self.probe_rtt(sample);
        }
        self.idle_restart = false;
    }

    fn probe_rtt(&mut self, sample: &Sample) {
        // What is measured now is as low as we have made it.
        self.low_until = sample.total + u64::from(sample.flight);
        if self.delay.done.is_some() {
            self.delay.round_done |= self.rounds.start;
            if self.delay.round_done {
                self.check_probe_rtt_done(sample.now);
            }
        } else if sample.flight <= self.probe_rtt_window() {
            self.delay.done = Some(sample.now + DURATION);
            self.delay.round_done = false;
            self.rounds.begin();
        }
    }

    pub(super) fn check_probe_rtt_done(&mut self, now: Instant) {
        if self.delay.done.is_none_or(|done| now <= done) {
            return;
        }
        self.delay.recent_stamp = now;
        self.restore_window();
        self.bounds.forget_short_term();
        if self.full_pipe.reached {
            self.start_down(now);
            // There is no queue left to drain.
            self.start_cruise();
        } else {
            self.state = State::Startup;
        }
    }

    pub(super) fn probe_rtt_window(&self) -> u32 {
        self.bdp(self.bw(), State::ProbeRtt.window_gain()).max(self.least_window())
    }
}
