//! What comes out of the model (section 5.6): pacing rate and window.

use pnat_shared::time::Duration;

use super::super::congestion::{Acked, initial_window};
use super::{Bbr, ENDLESS, State};

/// Percent of the bandwidth that is sent (100 less BBR.PacingMarginPercent): a queue that is there runs dry in time.
const PACED: u64 = 99;
/// Largest piece that leaves at once, in bytes (section 5.6.3).
const MAX_QUANTUM: u64 = 64 * 1024;

impl Bbr {
    /// Before anything was measured: the initial window in a round trip.
    pub(super) fn init_pacing_rate(&mut self, srtt: Option<Duration>) {
        self.has_rtt = srtt.is_some();
        let micros = srtt.map_or(1000, |srtt| srtt.as_micros() as u64).max(1);
        let nominal = u64::from(initial_window(self.mss)) * 1_000_000 / micros;
        self.pacer.set_rate(nominal * State::Startup.pacing_gain() / 100);
    }

    pub(super) fn update_control(&mut self, acked: &Acked) {
        if !self.has_rtt && acked.srtt.is_some() {
            self.init_pacing_rate(acked.srtt.map(Duration::from_nanos));
        }
        self.set_pacing_rate(self.state.pacing_gain());
        self.set_window(acked.delivered);
    }

    /// Before the pipe was full once the rate only grows: samples may be as low as the application has made them.
    pub(super) fn set_pacing_rate(&mut self, gain: u64) {
        let rate = self.bw().saturating_mul(gain * PACED) / 10_000;
        if rate > 0 && (self.full_pipe.reached || rate > self.pacer.rate()) {
            self.pacer.set_rate(rate);
        }
    }

    fn set_window(&mut self, delivered: u32) {
        let most = self.max_inflight();
        if self.full_pipe.reached {
            self.window = self.window.saturating_add(delivered).min(most);
        } else if self.window < most || self.rounds.total() < u64::from(initial_window(self.mss)) {
            self.window = self.window.saturating_add(delivered);
        }
        self.window = self.window.max(self.least_window());
        if self.state == State::ProbeRtt {
            self.window = self.window.min(self.probe_rtt_window());
        }
        self.bound_window();
    }

    /// Section 5.6.4.7.
    fn bound_window(&mut self) {
        let long = match self.state {
            State::Down | State::Refill | State::Up => self.bounds.inflight_long,
            State::Cruise | State::ProbeRtt => self.inflight_with_headroom(),
            State::Startup | State::Drain => ENDLESS,
        };
        let bound = long.min(self.bounds.inflight_short).max(self.least_window());
        self.window = self.window.min(bound);
    }

    /// What must be in flight to use the bandwidth fully, bunched ACKs allowed for.
    fn max_inflight(&self) -> u32 {
        let bdp = self.bdp(self.bw(), self.state.window_gain());
        self.quantized(bdp.saturating_add(self.aggregation.extra()))
    }

    /// What must be in flight at `gain` percent of the bandwidth-delay product.
    pub(super) fn inflight(&self, gain: u64) -> u32 {
        self.quantized(self.bdp(self.bw(), gain))
    }

    /// At least what both ends may hold back (section 5.5.8).
    pub(super) fn quantized(&self, inflight: u32) -> u32 {
        let quantum = (self.pacer.rate() / 1000).min(MAX_QUANTUM).max(2 * u64::from(self.mss));
        let held = inflight.max(3 * quantum as u32).max(self.least_window());
        if self.state == State::Up { held.saturating_add(2 * self.mss) } else { held }
    }

    /// Fewer segments in flight would wait for delayed ACKs (BBR.MinPipeCwnd).
    pub(super) const fn least_window(&self) -> u32 {
        4 * self.mss
    }
}
