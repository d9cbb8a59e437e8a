//! NewReno: standard congestion control (RFC 5681), windows by bytes counted (RFC 3465). What of it is loss recovery
//! (RFC 6582, RFC 6675) is in [`super::recovery`].
//!
//! Runs on: proxy cores. Allocates: never. Blocks: never.

use pnat_shared::time::Instant;

use super::congestion::{Acked, Congestion, initial_window};
use super::hystart::LIMIT;
use super::recovery::Phase;

#[derive(Debug)]
pub(super) struct NewReno {
    window: u32,
    ssthresh: u32,
    mss: u32,
    /// Bytes acknowledged in congestion avoidance since the window last grew.
    counted: u32,
    /// Window and threshold before the last reduction.
    undo: Option<(u32, u32)>,
}

impl NewReno {
    pub(super) fn new(mss: u32) -> Self {
        Self { window: initial_window(mss), ssthresh: u32::MAX, mss, counted: 0, undo: None }
    }

    /// The SYN was lost more than once: begin with one segment (RFC 6928 section 2).
    pub(super) fn start_small(&mut self) {
        self.window = self.mss;
    }

    /// RFC 5681, equation 4.
    fn reduce(&mut self, flight: u32) {
        self.undo = Some((self.window, self.ssthresh));
        self.ssthresh = (flight.min(self.window) / 2).max(2 * self.mss);
        self.counted = 0;
    }
}

impl Congestion for NewReno {
    fn window(&self) -> u32 {
        self.window
    }

    fn ssthresh(&self) -> u32 {
        self.ssthresh
    }

    fn uses_prr(&self) -> bool {
        true
    }

    fn set_mss(&mut self, mss: u32) {
        self.mss = mss;
        self.window = self.window.max(mss);
    }

    fn on_ack(&mut self, acked: &Acked) {
        let slow_start = self.window < self.ssthresh;
        if matches!(acked.phase, Phase::Recovery { .. }) || !acked.fills(self.window, slow_start, self.mss) {
            return;
        }
        if slow_start {
            let step = acked.progress.min(LIMIT * self.mss);
            self.window = self.window.saturating_add(step).min(self.ssthresh);
        } else {
            // RFC 3465 section 2.1: a segment per window acknowledged.
            self.counted = self.counted.saturating_add(acked.progress);
            if self.counted >= self.window {
                self.counted -= self.window;
                self.window = self.window.saturating_add(self.mss);
            }
        }
    }

    fn on_sent(&mut self, _flight: u32, _now: Instant) {}

    fn on_loss(&mut self, flight: u32, _now: Instant) {
        self.reduce(flight);
        self.window = self.ssthresh;
    }

    fn on_recovered(&mut self, _now: Instant) {
        self.window = self.window.min(self.ssthresh);
    }

    fn on_timeout(&mut self, flight: u32, first: bool, _now: Instant) {
        if first {
            self.reduce(flight);
        }
        self.window = self.mss;
    }

    fn on_undo(&mut self) {
        let Some((window, ssthresh)) = self.undo.take() else { return };
        self.window = self.window.max(window);
        self.ssthresh = self.ssthresh.max(ssthresh);
    }

    fn on_idle(&mut self, _now: Instant) {
        self.window = self.window.min(initial_window(self.mss));
    }
}

#[cfg(test)]
mod tests {
    use super::super::congestion::fixture::ack;
    use super::*;

    const MSS: u32 = 1000;

    fn acknowledge(reno: &mut NewReno, bytes: u32) {
        reno.on_ack(&ack(bytes, true, None, Instant::ZERO));
    }

    #[test]
    fn rfc5681_3_1_slow_start_grows_by_what_is_acknowledged() {
        let mut reno = NewReno::new(MSS);
        acknowledge(&mut reno, 2 * MSS);
        acknowledge(&mut reno, 300);
        assert_eq!(reno.window(), 12 * MSS + 300);
    }

    #[test]
    fn rfc3465_2_1_avoidance_grows_by_a_segment_per_window() {
        let mut reno = NewReno::new(MSS);
        reno.on_loss(10 * MSS, Instant::ZERO);
        assert_eq!(reno.window(), 5 * MSS);
        for _ in 0..4 {
            acknowledge(&mut reno, MSS);
        }
        assert_eq!(reno.window(), 5 * MSS);
        acknowledge(&mut reno, MSS);
        assert_eq!(reno.window(), 6 * MSS);
    }

    #[test]
    fn rfc5681_3_1_a_timeout_leaves_one_segment_and_half_the_flight_as_threshold() {
        let mut reno = NewReno::new(MSS);
        reno.on_timeout(10 * MSS, true, Instant::ZERO);
        reno.on_timeout(10 * MSS, false, Instant::ZERO);
        assert_eq!((reno.window(), reno.ssthresh()), (MSS, 5 * MSS));
        reno.on_undo();
        assert_eq!((reno.window(), reno.ssthresh()), (10 * MSS, u32::MAX));
    }

    #[test]
    fn rfc5681_4_1_a_pause_leaves_the_initial_window() {
        let mut reno = NewReno::new(MSS);
        acknowledge(&mut reno, 8 * MSS);
        reno.on_idle(Instant::ZERO);
        assert_eq!(reno.window(), 10 * MSS);
    }
}
