//! HyStart++ (RFC 9406): slow start that ends where round trips get longer, before the queue that makes them so overflows.
//!
//! ```text
//!               this round's shortest round trip is an eighth longer than the last one's
//!   slow start --------------------------------------------------------------------> conservative slow start
//!        ^                                                                            |             |
//!        '----------------------------------------------------------------------------'             | five
//!               it was not for long: a round trip as short as before                                v rounds
//!                                                                                        congestion avoidance
//! ```
//!
//! Runs on: proxy cores. Allocates: never. Blocks: never.

use pnat_shared::wire::tcp::Seq;

use super::congestion::Acked;

/// Bounds of the increase that ends slow start (MIN_RTT_THRESH, MAX_RTT_THRESH), in microseconds.
const MIN_INCREASE: u32 = 4_000;
const MAX_INCREASE: u32 = 16_000;
/// Part of the round trip that the increase is between its bounds (MIN_RTT_DIVISOR).
const INCREASE_DIVISOR: u32 = 8;
/// Round trips that must have been measured before a round is judged (N_RTT_SAMPLE).
const SAMPLES: u8 = 8;
/// How much slower conservative slow start grows (CSS_GROWTH_DIVISOR).
const CONSERVATIVE_DIVISOR: u32 = 4;
/// Rounds that conservative slow start lasts at most (CSS_ROUNDS).
const CONSERVATIVE_ROUNDS: u8 = 5;
/// Segments by which one ACK may raise the window (L of RFC 3465). RFC 9406 section 4.3 asks for eight where segments are
/// not paced: more than a delayed ACK acknowledges, since gateways merge ACKs and what they acknowledge, yet few enough that
/// the burst which follows fits into a shallow queue.
pub(super) const LIMIT: u32 = 8;

/// No round trip was measured.
const NEVER: u32 = u32::MAX;

/// The first slow start of a connection. Later ones end at the threshold that was found before (section 4.3).
#[derive(Copy, Clone, Debug)]
pub(super) struct HyStart {
    /// SND.NXT as the round began: it ends when that is acknowledged.
    end: Seq,
    /// Shortest round trips of the last round and of this one, in microseconds.
    last: u32,
    current: u32,
    /// Round trips measured in this round, as far as that matters.
    samples: u8,
    /// An ACK has come.
    begun: bool,
    /// Rounds of conservative slow start begun; 0: slow start.
    conservative: u8,
    /// What started it.
    baseline: u32,
}

/// What an ACK does to the window.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Growth {
    /// By how many bytes it grows.
    pub(super) bytes: u32,
    /// Slow start is over with this: the threshold is the window that results.
    pub(super) over: bool,
}

impl HyStart {
    pub(super) const fn new() -> Self {
        Self {
            end: Seq(0),
            last: NEVER,
            current: NEVER,
            samples: 0,
            begun: false,
            conservative: 0,
            baseline: NEVER,
        }
    }

    /// Takes in an ACK, whether the window may grow by it or not (`grows`).
    pub(super) fn on_ack(&mut self, acked: &Acked, mss: u32, grows: bool) -> Growth {
        let over = self.count_round(acked);
        if let Some(rtt) = acked.rtt {
            self.measure(rtt);
        }
        let bytes = if grows { acked.progress.min(LIMIT * mss) } else { 0 };
        Growth { bytes: if self.conservative > 0 { bytes / CONSERVATIVE_DIVISOR } else { bytes }, over }
    }

    /// Begins the next round where this one has ended. Answers whether it was the last of conservative slow start.
    fn count_round(&mut self, acked: &Acked) -> bool {
        if self.begun && acked.una.before(self.end) {
            return false;
        }
        if self.begun {
            self.last = self.current;
            self.current = NEVER;
            self.samples = 0;
            if self.conservative > 0 {
                self.conservative += 1;
            }
        }
        self.begun = true;
        self.end = acked.nxt;
        self.conservative > CONSERVATIVE_ROUNDS
    }

    /// A round trip was measured, in nanoseconds.
    fn measure(&mut self, rtt: u64) {
        self.current = self.current.min(u32::try_from(rtt / 1000).unwrap_or(NEVER - 1));
        self.samples = self.samples.saturating_add(1);
        if self.samples < SAMPLES {
            return;
        }
        if self.conservative > 0 {
            if self.current < self.baseline {
                self.conservative = 0;
                self.baseline = NEVER;
            }
        } else if self.last != NEVER {
            let increase = (self.last / INCREASE_DIVISOR).clamp(MIN_INCREASE, MAX_INCREASE);
            if self.current >= self.last.saturating_add(increase) {
                // What is left of this round counts as the first.
                self.conservative = 1;
                self.baseline = self.current;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::congestion::fixture::ack;
    use super::*;
    use pnat_shared::time::{Duration, Instant};

    const MSS: u32 = 1000;

    /// One round of `samples` ACKs for one segment each that all took `rtt_ms`; answers what the last one did.
    fn round(start: &mut HyStart, una: &mut u32, samples: u32, rtt_ms: u64) -> Growth {
        let mut growth = Growth { bytes: 0, over: false };
        for _ in 0..samples {
            *una += MSS;
            let acked = ack(MSS, true, Some(Duration::from_millis(rtt_ms)), Instant::ZERO);
            growth =
                start.on_ack(&Acked { una: Seq(*una), nxt: Seq(*una + samples * MSS), ..acked }, MSS, true);
        }
        growth
    }

    /// Two rounds of 10 ACKs that took 40 ms, and one that took `rtt_ms`.
    fn after(samples: u32, rtt_ms: u64) -> (HyStart, u32) {
        let (mut start, mut una) = (HyStart::new(), 0);
        round(&mut start, &mut una, 10, 40);
        round(&mut start, &mut una, 10, 40);
        round(&mut start, &mut una, samples, rtt_ms);
        (start, una)
    }

    #[test]
    fn rfc9406_4_2_an_eighth_more_round_trip_begins_conservative_slow_start() {
        assert_eq!(after(10, 44).0.conservative, 0);
        assert_eq!(after(10, 45).0.conservative, 1);
    }

    #[test]
    fn rfc9406_4_2_fewer_than_eight_samples_say_nothing() {
        assert_eq!(after(7, 80).0.conservative, 0);
        assert_eq!(after(8, 80).0.conservative, 1);
    }

    #[test]
    fn rfc9406_4_2_on_short_paths_four_milliseconds_must_be_added() {
        let (mut start, mut una) = (HyStart::new(), 0);
        round(&mut start, &mut una, 10, 2);
        round(&mut start, &mut una, 10, 5);
        assert_eq!(start.conservative, 0);
        round(&mut start, &mut una, 10, 9);
        assert_eq!(start.conservative, 1);
    }

    #[test]
    fn rfc9406_4_2_on_long_paths_sixteen_milliseconds_are_enough() {
        let (mut start, mut una) = (HyStart::new(), 0);
        round(&mut start, &mut una, 10, 600);
        round(&mut start, &mut una, 10, 600);
        round(&mut start, &mut una, 10, 616);
        assert_eq!(start.conservative, 1);
    }

    #[test]
    fn rfc9406_4_2_conservative_slow_start_grows_by_a_quarter_for_five_rounds() {
        let (mut start, mut una) = after(10, 50);
        for _ in 0..4 {
            assert_eq!(round(&mut start, &mut una, 10, 50), Growth { bytes: MSS / 4, over: false });
        }
        assert!(round(&mut start, &mut una, 1, 50).over);
    }

    #[test]
    fn rfc9406_4_2_a_short_round_trip_resumes_slow_start() {
        let (mut start, mut una) = after(10, 50);
        round(&mut start, &mut una, 10, 49);
        assert_eq!(start.conservative, 0);
        assert_eq!(round(&mut start, &mut una, 1, 49), Growth { bytes: MSS, over: false });
    }

    #[test]
    fn rfc3465_2_3_one_ack_raises_the_window_by_eight_segments_at_most() {
        let mut start = HyStart::new();
        let acked = ack(40 * MSS, true, None, Instant::ZERO);
        assert_eq!(start.on_ack(&acked, MSS, true).bytes, 8 * MSS);
    }
}
