//! Pacing: when the next segment may leave, so that a window is spread over its round trip and not sent in one burst.
//!
//! Runs on: proxy cores. Allocates: never. Blocks: never.
//!
//! Timers here fire up to a tick (1 ms) late, which at 1 Gbit/s is 86 segments. So time that was lost by waiting is made up
//! for, up to [`CREDIT`]: what became due meanwhile leaves at once, and the rate holds whatever the tick is. Where ACKs come
//! in between, what is due leaves with them and bursts are shorter.

use pnat_shared::time::{Duration, Instant};

/// How much lost time is made up for: a tick for which the timer may be late, and as much again for a busy core.
const CREDIT: Duration = Duration::from_millis(2);

/// The release time of one connection's segments.
#[derive(Debug, Default)]
pub(super) struct Pacer {
    /// Bytes per second.
    rate: u64,
    /// When all that was sent has had its time.
    release: Instant,
    /// The time of one segment: two leave together (draft-ietf-ccwg-bbr section 5.6.3), since most receivers acknowledge
    /// every other one.
    ahead: Duration,
}

impl Pacer {
    /// Whether a segment may leave.
    pub(super) fn is_open(&self, now: Instant) -> bool {
        self.release <= now + self.ahead
    }

    /// When the next segment may leave.
    pub(super) const fn release(&self) -> Instant {
        self.release
    }

    /// Bytes per second.
    pub(super) const fn rate(&self) -> u64 {
        self.rate
    }

    /// What follows leaves at `rate` bytes per second.
    pub(super) const fn set_rate(&mut self, rate: u64) {
        self.rate = rate;
    }

    /// `bytes` have left.
    pub(super) fn sent(&mut self, bytes: u32, now: Instant) {
        self.ahead = Duration::from_nanos(u64::from(bytes) * 1_000_000_000 / self.rate.max(1));
        self.release = self.release.max(now.back(CREDIT)) + self.ahead;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends segments of 1000 bytes at 1 MB/s whenever `every` has passed; answers how many left in `span`.
    fn send(every: Duration, span: Duration) -> u32 {
        let mut pacer = Pacer { rate: 1_000_000, ..Pacer::default() };
        let (mut now, mut count) = (Instant::from_secs(1), 0);
        let end = now + span;
        while now < end {
            while pacer.is_open(now) {
                pacer.sent(1000, now);
                count += 1;
            }
            now += every;
        }
        count
    }

    #[test]
    fn segments_leave_at_the_rate_and_not_before() {
        let count = send(Duration::from_micros(10), Duration::from_secs(1));
        assert!((1000..=1005).contains(&count), "{count}");
    }

    #[test]
    fn a_timer_that_is_a_tick_late_costs_no_rate() {
        for micros in [700, 1000, 1300, 1900] {
            let count = send(Duration::from_micros(micros), Duration::from_secs(1));
            assert!((995..=1005).contains(&count), "{micros}: {count}");
        }
    }

    #[test]
    fn a_pause_does_not_end_in_a_burst() {
        let mut pacer = Pacer { rate: 1_000_000, ..Pacer::default() };
        pacer.sent(1000, Instant::from_secs(1));
        let now = Instant::from_secs(9);
        let mut burst = 0;
        while pacer.is_open(now) {
            pacer.sent(1000, now);
            burst += 1;
        }
        assert!(burst <= 4, "{burst}");
    }
}
