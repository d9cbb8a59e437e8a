//! CUBIC (RFC 9438), with HyStart++ for its first slow start.
//!
//! Runs on: proxy cores. Allocates: at a connection's first loss, and where losses follow each other. Blocks: never.
//!
//! ```text
//! W_cubic(t) = C (t - K)^3 + W_max     t: seconds since congestion avoidance began
//! K = cbrt((W_max - cwnd_epoch) / C)   when W_cubic is back at W_max
//! ```

use core::num::NonZeroU32;

use pnat_shared::time::{Duration, Instant};

use super::congestion::{Acked, Congestion, initial_window};
use super::hystart::{HyStart, LIMIT};
use super::recovery::Phase;

/// Segments per second cubed.
const C: f32 = 0.4;
/// What is left of the window after a loss.
const BETA: f32 = 0.7;
/// Additive increase that makes Reno with β = 0.7 as fast as standard Reno (section 4.3).
const ALPHA: f32 = 3.0 * (1.0 - BETA) / (1.0 + BETA);
/// Assumed where no round trip was measured yet.
const RTT: Duration = Duration::from_millis(100);

/// A stage of congestion avoidance (section 4.2). Windows are in segments.
#[derive(Copy, Clone, Debug)]
struct Epoch {
    /// In milliseconds, as [`millis`] counts.
    start: u32,
    /// Seconds until the window is back at `w_max`.
    k: f32,
    /// What Reno's window would be.
    reno: f32,
}

/// How the window grows.
#[derive(Copy, Clone, Debug)]
enum Stage {
    /// No loss has told the path's size yet.
    First(HyStart),
    /// Below the threshold by slow start, and then in an epoch yet to begin.
    Again,
    Avoidance(Epoch),
}

/// What a loss changes, and what one that was none gives back (section 4.9). Windows named `w_` are in segments, as in the
/// RFC; the others in bytes.
#[derive(Copy, Clone, Debug)]
struct Course {
    window: u32,
    ssthresh: u32,
    w_max: f32,
    /// Window just before the last reduction.
    w_prior: f32,
    stage: Stage,
}

#[derive(Debug)]
pub(super) struct Cubic {
    course: Course,
    /// Before the last reduction. Apart, since most connections never lose anything.
    undo: Option<Box<Course>>,
    mss: u32,
    /// Fractions of a byte that growth still owes.
    credit: f32,
    /// When the application began to send too little to fill the window, in milliseconds; `None` while it fills it.
    paused: Option<NonZeroU32>,
}

/// A time in milliseconds, which wraps after 49 days: fine enough for a curve over seconds, in half the room.
const fn millis(now: Instant) -> u32 {
    now.as_millis() as u32
}

impl Cubic {
    pub(super) fn new(mss: u32) -> Self {
        let course = Course {
            window: initial_window(mss),
            ssthresh: u32::MAX,
            w_max: 0.0,
            w_prior: 0.0,
            stage: Stage::First(HyStart::new()),
        };
        Self { course, undo: None, mss, credit: 0.0, paused: None }
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
        self.undo = Some(Box::new(self.course));
        let cwnd = self.segments(self.course.window);
        let course = &mut self.course;
        course.w_max = if cwnd < course.w_max { cwnd * (1.0 + BETA) / 2.0 } else { cwnd };
        course.w_prior = cwnd;
        let kept = u64::from(flight.min(course.window)) * 7 / 10;
        course.ssthresh = (kept as u32).max(2 * self.mss);
        course.stage = Stage::Again;
    }

    fn slow_start(&mut self, acked: &Acked, grows: bool) {
        let course = &mut self.course;
        match &mut course.stage {
            Stage::First(start) => {
                let growth = start.on_ack(acked, self.mss, grows);
                course.window = course.window.saturating_add(growth.bytes);
                if growth.over {
                    course.ssthresh = course.window;
                    course.stage = Stage::Again;
                }
            }
            Stage::Again | Stage::Avoidance(_) if grows => {
                let step = acked.progress.min(LIMIT * self.mss);
                course.window = course.window.saturating_add(step).min(course.ssthresh);
            }
            Stage::Again | Stage::Avoidance(_) => {}
        }
    }

    fn avoid(&mut self, acked: u32, rtt: Duration, now: u32) {
        let cwnd = self.segments(self.course.window);
        let Course { w_max, w_prior, stage, .. } = &mut self.course;
        if !matches!(stage, Stage::Avoidance(_)) {
            *w_max = w_max.max(cwnd);
            *stage = Stage::Avoidance(Epoch { start: now, k: ((*w_max - cwnd) / C).cbrt(), reno: cwnd });
        }
        let Stage::Avoidance(epoch) = stage else { return };
        if let Some(paused) = self.paused.take() {
            // Section 5.8: time without demand is no time to grow.
            epoch.start = epoch.start.wrapping_add(now.wrapping_sub(paused.get()));
        }
        let acked = acked as f32 / self.mss as f32;
        let t = now.wrapping_sub(epoch.start) as f32 / 1000.0;
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

    fn set_mss(&mut self, mss: u32) {
        self.mss = mss;
        self.course.window = self.course.window.max(mss);
    }

    fn on_ack(&mut self, acked: &Acked) {
        if matches!(acked.phase, Phase::Recovery { .. }) || acked.progress == 0 {
            return;
        }
        if self.course.window < self.course.ssthresh {
            self.slow_start(acked, acked.fills(self.course.window, true, self.mss));
        } else if acked.fills(self.course.window, false, self.mss) {
            self.avoid(acked.progress, acked.srtt.map_or(RTT, Duration::from_nanos), millis(acked.now));
        } else if self.paused.is_none() {
            self.paused = NonZeroU32::new(millis(acked.now));
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
        // Section 4.8: what follows begins on the plateau of its own window.
        self.course.w_max = 0.0;
        self.course.stage = Stage::Again;
        self.course.window = self.mss;
    }

    fn on_undo(&mut self) {
        let Some(undo) = self.undo.take() else { return };
        let window = self.course.window.max(undo.window);
        self.course = Course { window, ..*undo };
    }

    fn on_idle(&mut self, _now: Instant) {
        self.course.window = self.course.window.min(initial_window(self.mss));
        if matches!(self.course.stage, Stage::Avoidance(_)) {
            self.course.stage = Stage::Again;
        }
    }
}

#[cfg(test)]
mod tests {
    use pnat_shared::wire::tcp::Seq;

    use super::super::congestion::fixture::ack;
    use super::*;

    const MSS: u32 = 1000;

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

    const RTT_100: Duration = Duration::from_millis(100);

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
    fn rfc9438_4_2_a_loss_leaves_seven_tenths_and_k_seconds_later_the_window_is_back() {
        let mut cubic = after_loss_at(1000);
        assert_eq!(cubic.window(), 700 * MSS);
        // K = cbrt(300 / 0.4) = 9.09 s.
        let now = run(&mut cubic, Instant::ZERO, RTT_100, 91);
        assert!((970 * MSS..=1010 * MSS).contains(&cubic.window()), "{}", cubic.window());
        run(&mut cubic, now, RTT_100, 40);
        assert!(cubic.window() > 1015 * MSS, "{}", cubic.window());
    }

    #[test]
    fn rfc9438_4_3_on_short_paths_it_is_as_fast_as_reno() {
        let mut cubic = after_loss_at(20);
        run(&mut cubic, Instant::ZERO, Duration::from_millis(1), 60);
        // Reno with α = 0.53 grows 14 to 20 in about 11 round trips, and by one a round trip from there on.
        assert!((55 * MSS..=75 * MSS).contains(&cubic.window()), "{}", cubic.window());
    }

    #[test]
    fn rfc9438_4_2_one_round_trip_raises_the_window_by_half_at_most() {
        let mut cubic = after_loss_at(1000);
        cubic.on_ack(&ack(MSS, true, Some(RTT_100), Instant::ZERO));
        // So late that the curve asks for far more.
        let (before, now) = (cubic.window(), Instant::from_secs(60));
        for _ in 0..before / MSS {
            cubic.on_ack(&ack(MSS, true, Some(RTT_100), now));
        }
        // e^0.5: the bound follows the window as it grows.
        assert!(cubic.window() < before * 166 / 100, "{}", cubic.window());
    }

    #[test]
    fn rfc9438_4_7_fast_convergence_gives_way_to_newcomers() {
        let mut cubic = after_loss_at(100);
        cubic.on_loss(70 * MSS, Instant::ZERO);
        assert!((cubic.course.w_max - 70.0 * 0.85).abs() < 0.01);
        assert_eq!(cubic.window(), 49 * MSS);
    }

    #[test]
    fn rfc9438_4_6_what_the_application_left_unused_is_not_kept() {
        let mut cubic = Cubic::new(MSS);
        cubic.course.window = 100 * MSS;
        cubic.on_loss(50 * MSS, Instant::ZERO);
        assert_eq!(cubic.window(), 35 * MSS);
    }

    #[test]
    fn rfc9438_4_8_after_a_timeout_the_curve_begins_on_its_plateau() {
        let mut cubic = after_loss_at(1000);
        cubic.on_timeout(700 * MSS, true, Instant::ZERO);
        assert_eq!((cubic.window(), cubic.ssthresh()), (MSS, 490 * MSS));
        let now = run(&mut cubic, Instant::ZERO, RTT_100, 10);
        let Stage::Avoidance(epoch) = cubic.course.stage else { panic!("{cubic:?}") };
        assert_eq!(epoch.k, 0.0);
        // Without a plateau far above, it moves slowly at first: 0.4 segments in the first second.
        let before = cubic.window();
        run(&mut cubic, now, RTT_100, 5);
        assert!(cubic.window() - before < 5 * MSS, "{before} {}", cubic.window());
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
        assert!(matches!(cubic.course.stage, Stage::Avoidance(_)));
    }

    #[test]
    fn rfc9438_4_9_a_timeout_that_was_none_leaves_no_trace() {
        let mut cubic = Cubic::new(MSS);
        let now = run(&mut cubic, Instant::ZERO, Duration::from_millis(20), 3);
        cubic.on_timeout(80 * MSS, true, now);
        cubic.on_timeout(80 * MSS, false, now);
        cubic.on_undo();
        assert_eq!((cubic.window(), cubic.ssthresh()), (80 * MSS, u32::MAX));
        assert!(matches!(cubic.course.stage, Stage::First(_)));
    }

    #[test]
    fn rfc9438_5_8_an_application_that_sends_little_does_not_inflate_the_window() {
        let mut cubic = Cubic::new(MSS);
        for n in 0..1000 {
            cubic.on_ack(&ack(MSS, false, None, Instant::from_millis(n)));
        }
        assert_eq!(cubic.window(), 10 * MSS);
    }

    #[test]
    fn rfc9438_5_8_time_without_demand_is_no_time_to_grow() {
        let mut busy = after_loss_at(1000);
        let mut paused = after_loss_at(1000);
        let now = run(&mut busy, Instant::ZERO, RTT_100, 20);
        run(&mut paused, Instant::ZERO, RTT_100, 20);
        paused.on_ack(&ack(MSS, false, Some(RTT_100), now));
        run(&mut busy, now, RTT_100, 20);
        run(&mut paused, now + Duration::from_secs(50), RTT_100, 20);
        assert!(paused.window().abs_diff(busy.window()) < 5 * MSS, "{} {}", paused.window(), busy.window());
    }

    #[test]
    fn rfc9406_4_2_a_growing_round_trip_ends_slow_start_without_a_loss() {
        let mut cubic = Cubic::new(MSS);
        let (mut una, mut nxt) = (Seq(0), Seq(cubic.window()));
        let mut now = Instant::ZERO;
        for round in 0..12 {
            // Behind a path of 100 segments a queue of any length builds up.
            let rtt = Duration::from_millis(100) * cubic.window().max(100 * MSS) / (100 * MSS);
            now += rtt;
            let end = nxt;
            while una.before(end) {
                una += MSS;
                nxt = una + cubic.window();
                cubic.on_ack(&Acked { una, nxt, ..ack(MSS, true, Some(rtt), now) });
            }
            assert!(cubic.window() < 550 * MSS, "round {round}: {}", cubic.window());
        }
        assert!(cubic.ssthresh() <= cubic.window(), "{cubic:?}");
    }
}
