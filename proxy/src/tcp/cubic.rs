//! CUBIC (RFC 9438).
//!
//! Runs on: proxy cores. Allocates: never. Blocks: never.
//!
//! ```text
//! W_cubic(t) = C (t - K)^3 + W_max     t: seconds since the window was last reduced
//! K = cbrt((W_max - cwnd_epoch) / C)   when W_cubic is back at W_max
//! ```

use pnat_shared::time::{Duration, Instant};

use super::congestion::{Acked, Congestion, initial_window};
use super::recovery::Phase;

/// Segments per second cubed.
const C: f32 = 0.4;
/// What is left of the window after a loss.
const BETA: f32 = 0.7;
/// Additive increase that makes Reno with β = 0.7 as fast as standard Reno (section 4.3).
const ALPHA: f32 = 3.0 * (1.0 - BETA) / (1.0 + BETA);

/// One congestion-avoidance stage (section 4.2).
#[derive(Copy, Clone, Debug)]
struct Epoch {
    start: Instant,
    /// Seconds until the window is back at `w_max`.
    k: f32,
    /// What Reno's window would be, in segments.
    reno: f32,
}

/// What a loss changes, and what one that was none gives back (section 4.9). Windows named `w_` are in segments, as in the
/// RFC; the others in bytes.
#[derive(Copy, Clone, Debug)]
struct Course {
    window: u32,
    ssthresh: u32,
    w_max: f32,
    /// Window just before the last reduction, in segments.
    w_prior: f32,
    epoch: Option<Epoch>,
}

#[derive(Debug)]
pub(super) struct Cubic {
    course: Course,
    /// Before the last reduction.
    undo: Option<Course>,
    mss: u32,
    /// Fractions of a byte that growth still owes.
    credit: f32,
}

impl Cubic {
    pub(super) fn new(mss: u32) -> Self {
        let course =
            Course { window: initial_window(mss), ssthresh: u32::MAX, w_max: 0.0, w_prior: 0.0, epoch: None };
        Self { course, undo: None, mss, credit: 0.0 }
    }

    /// The SYN was lost more than once: begin with one segment (RFC 6928 section 2).
    pub(super) fn start_small(&mut self) {
        self.course.window = self.mss;
    }

    fn segments(&self, bytes: u32) -> f32 {
        bytes as f32 / self.mss as f32
    }

    /// Sections 4.6 and 4.7: the new threshold, with fast convergence for flows that find less room than before.
    fn reduce(&mut self, flight: u32) {
        self.undo = Some(self.course);
        let cwnd = self.segments(self.course.window);
        let course = &mut self.course;
        course.w_max = if cwnd < course.w_max { cwnd * (1.0 + BETA) / 2.0 } else { cwnd };
        course.w_prior = cwnd;
        let kept = u64::from(flight.min(course.window)) * 7 / 10;
        course.ssthresh = (kept as u32).max(2 * self.mss);
        course.epoch = None;
    }

    fn avoid(&mut self, acked: u32, rtt: Duration, now: Instant) {
        let cwnd = self.segments(self.course.window);
        let Course { w_max, w_prior, epoch, .. } = &mut self.course;
        let epoch = epoch.get_or_insert_with(|| {
            *w_max = w_max.max(cwnd);
            Epoch { start: now, k: ((*w_max - cwnd) / C).cbrt(), reno: cwnd }
        });
        let acked = acked as f32 / self.mss as f32;
        let t = now.since(epoch.start).as_secs_f32();
        let cubic = |t: f32| C * (t - epoch.k).powi(3) + *w_max;
        epoch.reno += if epoch.reno < *w_prior { ALPHA } else { 1.0 } * acked / cwnd;
        let growth = if cubic(t) < epoch.reno {
            // Reno-friendly region (section 4.3).
            (epoch.reno - cwnd).max(0.0)
        } else {
            let target = cubic(t + rtt.as_secs_f32()).clamp(cwnd, 1.5 * cwnd);
            (target - cwnd) / cwnd * acked
        };
        self.credit += growth * self.mss as f32;
        let whole = self.credit as u32;
        self.credit -= whole as f32;
        self.course.window = self.course.window.saturating_add(whole);
    }
}

impl Congestion for Cubic {
    fn window(&self) -> u32 {
        self.course.window
    }

    fn ssthresh(&self) -> u32 {
        self.course.ssthresh
    }

    fn uses_prr(&self) -> bool {
        true
    }

    fn pacing_rate(&self) -> Option<u64> {
        None
    }

    fn set_mss(&mut self, mss: u32) {
        self.mss = mss;
        self.course.window = self.course.window.max(mss);
    }

    fn on_ack(&mut self, acked: &Acked) {
        if matches!(acked.phase, Phase::Recovery { .. }) || acked.acked == 0 {
            return;
        }
        if !acked.limited {
            // Section 5.8: time without demand must not count as time to grow.
            self.course.epoch = None;
            return;
        }
        if self.course.window < self.course.ssthresh {
            // RFC 3465 with a limit of eight segments: one ACK may stand for a whole burst that a gateway merged.
            let step = acked.acked.min(8 * self.mss);
            self.course.window =
                self.course.window.saturating_add(step).min(self.course.ssthresh.max(self.course.window));
            self.course.epoch = None;
        } else {
            self.avoid(acked.acked, acked.srtt.unwrap_or(Duration::from_millis(100)), acked.now);
        }
    }

    fn on_sent(&mut self, _flight: u32, _now: Instant) {}

    fn on_loss(&mut self, flight: u32, _now: Instant) {
        self.reduce(flight);
        self.course.window = self.course.ssthresh;
    }

    fn on_recovered(&mut self, _now: Instant) {
        self.course.window = self.course.window.min(self.course.ssthresh);
    }

    fn on_timeout(&mut self, flight: u32, first: bool, _now: Instant) {
        if first {
            self.reduce(flight);
        }
        self.course.epoch = None;
        self.course.window = self.mss;
    }

    fn on_undo(&mut self) {
        let Some(undo) = self.undo.take() else { return };
        let window = self.course.window.max(undo.window);
        self.course = Course { window, ..undo };
    }

    fn on_idle(&mut self, _now: Instant) {
        self.course.window = self.course.window.min(initial_window(self.mss));
        self.course.epoch = None;
    }
}

#[cfg(test)]
mod tests {
    use pnat_shared::wire::tcp::Seq;

    use super::*;

    const MSS: u32 = 1000;

    fn ack(bytes: u32, limited: bool, rtt: Option<Duration>, now: Instant) -> Acked {
        Acked {
            now,
            delivered: bytes,
            acked: bytes,
            lost: 0,
            prior_flight: bytes,
            flight: 0,
            limited,
            rtt,
            srtt: rtt,
            rate: None,
            una: Seq(0),
            nxt: Seq(0),
            phase: Phase::Open,
            ece: false,
        }
    }

    /// Acknowledges one full window per round trip for `rounds`.
    fn run(cubic: &mut Cubic, mut now: Instant, rtt: Duration, rounds: u32) -> Instant {
        for _ in 0..rounds {
            now += rtt;
            for _ in 0..cubic.window() / MSS {
                cubic.on_ack(&ack(MSS, true, Some(rtt), now));
            }
        }
        now
    }

    fn after_loss_at(segments: u32) -> Cubic {
        let mut cubic = Cubic::new(MSS);
        cubic.course.window = segments * MSS;
        cubic.on_loss(segments * MSS, Instant::ZERO);
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
        cubic.on_loss(70 * MSS, Instant::ZERO);
        assert!((cubic.course.w_max - 70.0 * 0.85).abs() < 0.01);
        assert_eq!(cubic.window(), 49 * MSS);
    }

    #[test]
    fn rfc9438_4_9_a_loss_that_was_none_leaves_no_trace() {
        let mut cubic = after_loss_at(100);
        cubic.on_recovered(Instant::ZERO);
        let now = run(&mut cubic, Instant::ZERO, Duration::from_millis(20), 3);
        let (window, w_max) = (cubic.window(), cubic.course.w_max);
        cubic.on_loss(window, now);
        cubic.on_undo();
        assert_eq!((cubic.window(), cubic.ssthresh(), cubic.course.w_max), (window, 70 * MSS, w_max));
    }

    #[test]
    fn an_application_that_sends_little_does_not_inflate_the_window() {
        let mut cubic = Cubic::new(MSS);
        for n in 0..1000 {
            cubic.on_ack(&ack(MSS, false, None, Instant::from_millis(n)));
        }
        assert_eq!(cubic.window(), 10 * MSS);
    }
}
