//! CUBIC (RFC 9438).
//!
//! Runs on: proxy cores. Allocates: never. Blocks: never.
//!
//! ```text
//! W_cubic(t) = C (t - K)^3 + W_max     t: seconds since the window was last reduced
//! K = cbrt((W_max - cwnd_epoch) / C)   when W_cubic is back at W_max
//! ```

use pnat_shared::time::{Duration, Instant};

use super::congestion::{Congestion, initial_window};

/// Segments per second cubed.
const C: f64 = 0.4;
/// What is left of the window after a loss.
const BETA: f64 = 0.7;
/// Additive increase that makes Reno with β = 0.7 as fast as standard Reno (section 4.3).
const ALPHA: f64 = 3.0 * (1.0 - BETA) / (1.0 + BETA);

/// One congestion-avoidance stage (section 4.2).
#[derive(Copy, Clone, Debug)]
struct Epoch {
    start: Instant,
    /// Seconds until the window is back at `w_max`.
    k: f64,
    /// What Reno's window would be, in segments.
    reno: f64,
}

/// Windows named `w_` are in segments, as in the RFC; the others in bytes.
#[derive(Debug)]
pub(super) struct Cubic {
    window: u32,
    ssthresh: u32,
    mss: u32,
    w_max: f64,
    /// Window just before the last reduction, in segments.
    w_prior: f64,
    epoch: Option<Epoch>,
    /// Fractions of a byte that growth still owes, in segments.
    credit: f64,
}

impl Cubic {
    pub(super) fn new(mss: u32) -> Self {
        Self {
            window: initial_window(mss),
            ssthresh: u32::MAX,
            mss,
            w_max: 0.0,
            w_prior: 0.0,
            epoch: None,
            credit: 0.0,
        }
    }

    /// The SYN was lost more than once: begin with one segment (RFC 6928 section 2).
    pub(super) fn start_small(&mut self) {
        self.window = self.mss;
    }

    fn segments(&self, bytes: u32) -> f64 {
        f64::from(bytes) / f64::from(self.mss)
    }

    /// Sections 4.6 and 4.7: the new threshold, with fast convergence for flows that find less room than before.
    fn reduce(&mut self, flight: u32) {
        let cwnd = self.segments(self.window);
        self.w_max = if cwnd < self.w_max { cwnd * (1.0 + BETA) / 2.0 } else { cwnd };
        self.w_prior = cwnd;
        let basis = f64::from(flight.min(self.window));
        self.ssthresh = ((basis * BETA) as u32).max(2 * self.mss);
        self.epoch = None;
    }

    fn avoid(&mut self, acked: u32, rtt: Duration, now: Instant) {
        let cwnd = self.segments(self.window);
        let epoch = self.epoch.get_or_insert_with(|| {
            if self.w_max < cwnd {
                self.w_max = cwnd;
            }
            Epoch { start: now, k: ((self.w_max - cwnd) / C).cbrt(), reno: cwnd }
        });
        let acked = f64::from(acked) / f64::from(self.mss);
        let t = now.since(epoch.start).as_secs_f64();
        let cubic = |t: f64| C * (t - epoch.k).powi(3) + self.w_max;
        epoch.reno += if epoch.reno < self.w_prior { ALPHA } else { 1.0 } * acked / cwnd;
        let growth = if cubic(t) < epoch.reno {
            // Reno-friendly region (section 4.3).
            (epoch.reno - cwnd).max(0.0)
        } else {
            let target = cubic(t + rtt.as_secs_f64()).clamp(cwnd, 1.5 * cwnd);
            (target - cwnd) / cwnd * acked
        };
        self.credit += growth * f64::from(self.mss);
        let whole = self.credit as u32;
        self.credit -= f64::from(whole);
        self.window = self.window.saturating_add(whole);
    }
}

impl Congestion for Cubic {
    fn window(&self) -> u32 {
        self.window
    }

    fn set_mss(&mut self, mss: u32) {
        self.mss = mss;
        self.window = self.window.max(mss);
    }

    fn on_ack(&mut self, acked: u32, limited: bool, rtt: Option<Duration>, now: Instant) {
        if !limited {
            // Section 5.8: time without demand must not count as time to grow.
            self.epoch = None;
            return;
        }
        if self.window < self.ssthresh {
            // RFC 3465 with a limit of eight segments: one ACK may stand for a whole burst that a gateway merged.
            let step = acked.min(8 * self.mss);
            self.window = self.window.saturating_add(step).min(self.ssthresh.max(self.window));
            self.epoch = None;
        } else {
            self.avoid(acked, rtt.unwrap_or(Duration::from_millis(100)), now);
        }
    }

    fn on_loss(&mut self, flight: u32) {
        self.reduce(flight);
        self.window = self.ssthresh;
    }

    fn on_timeout(&mut self, flight: u32, first: bool) {
        if first {
            self.reduce(flight);
        }
        self.epoch = None;
        self.window = self.mss;
    }

    fn on_idle(&mut self) {
        self.window = self.window.min(initial_window(self.mss));
        self.epoch = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u32 = 1000;

    /// Acknowledges one full window per round trip for `rounds`.
    fn run(cubic: &mut Cubic, mut now: Instant, rtt: Duration, rounds: u32) -> Instant {
        for _ in 0..rounds {
            now += rtt;
            for _ in 0..cubic.window() / MSS {
                cubic.on_ack(MSS, true, Some(rtt), now);
            }
        }
        now
    }

    fn after_loss_at(segments: u32) -> Cubic {
        let mut cubic = Cubic::new(MSS);
        cubic.window = segments * MSS;
        cubic.on_loss(segments * MSS);
        cubic
    }

    #[test]
    fn rfc6928_the_initial_window_is_ten_segments() {
        assert_eq!(Cubic::new(1448).window(), 14_480);
        assert_eq!(Cubic::new(1460).window(), 14_600);
        assert_eq!(Cubic::new(8960).window(), 17_920);
    }

    #[test]
    fn slow_start_doubles_every_round_trip() {
        let mut cubic = Cubic::new(MSS);
        run(&mut cubic, Instant::ZERO, Duration::from_millis(50), 3);
        assert_eq!(cubic.window(), 80 * MSS);
    }

    #[test]
    fn a_loss_leaves_seven_tenths_and_k_seconds_later_the_window_is_back() {
        let mut cubic = after_loss_at(1000);
        assert_eq!(cubic.window(), 700 * MSS);
        // K = cbrt(300 / 0.4) = 9.09 s.
        let rtt = Duration::from_millis(100);
        let now = run(&mut cubic, Instant::ZERO, rtt, 91);
        assert!((970 * MSS..=1010 * MSS).contains(&cubic.window()), "{}", cubic.window());
        run(&mut cubic, now, rtt, 40);
        assert!(cubic.window() > 1015 * MSS, "{}", cubic.window());
    }

    #[test]
    fn on_short_paths_it_is_as_fast_as_reno() {
        let mut cubic = after_loss_at(20);
        run(&mut cubic, Instant::ZERO, Duration::from_millis(1), 60);
        // Reno with α = 0.53 grows 14 to 20 in about 11 round trips, and by one a round trip from there on.
        assert!((55 * MSS..=75 * MSS).contains(&cubic.window()), "{}", cubic.window());
    }

    #[test]
    fn fast_convergence_gives_way_to_newcomers() {
        let mut cubic = after_loss_at(100);
        cubic.on_loss(70 * MSS);
        assert!((cubic.w_max - 70.0 * 0.85).abs() < 0.01);
        assert_eq!(cubic.window(), 49 * MSS);
    }

    #[test]
    fn an_application_that_sends_little_does_not_inflate_the_window() {
        let mut cubic = Cubic::new(MSS);
        for n in 0..1000 {
            cubic.on_ack(MSS, false, None, Instant::from_millis(n));
        }
        assert_eq!(cubic.window(), 10 * MSS);
    }
}
