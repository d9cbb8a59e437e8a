//! Round-trip time and retransmission timeout (RFC 6298).

use pnat_shared::time::Duration;

/// Before the first measurement (RFC 6298 section 2.1).
pub(super) const INITIAL: Duration = Duration::from_secs(1);
/// Where data follows a handshake whose SYN was retransmitted (RFC 6298 section 5.7).
const AFTER_LOST_SYN: Duration = Duration::from_secs(3);
/// RFC 6298 section 2.4 asks for one second, which costs short flows a second per tail loss; like Linux, we wait a round
/// trip and 200 ms: longer than nearly all receivers delay an ACK.
const MIN_SPREAD: Duration = Duration::from_millis(200);
/// Most doublings that outlast progress. Karn's rule keeps the back-off until something that was sent once is acknowledged,
/// which at heavy loss may never come to be; but where ACKs advance, this much is enough for any round trip.
const MAX_BACKOFF_AT_PROGRESS: u8 = 3;
const MAX: Duration = Duration::from_secs(60);

/// In place of a time that was never measured.
const NEVER: u64 = u64::MAX;

/// The estimator and its exponential back-off. Plain numbers are nanoseconds.
#[derive(Debug)]
pub(super) struct Rto {
    smoothed: u64,
    variance: u64,
    /// The shortest ever measured: about what the path takes when its queues are empty.
    shortest: u64,
    timeout: u64,
    /// How often the timeout has been doubled since the last measurement (Karn: only a fresh one undoes it).
    backoff: u8,
}

const fn nanos(time: Duration) -> u64 {
    // All times here lie below a minute.
    time.as_nanos() as u64
}

impl Rto {
    pub(super) const fn new() -> Self {
        Self { smoothed: NEVER, variance: 0, shortest: NEVER, timeout: nanos(INITIAL), backoff: 0 }
    }

    /// Takes in a measurement of data that was sent once only, or that a timestamp tells apart (RFC 6298 section 3).
    pub(super) fn sample(&mut self, rtt: u64) {
        self.on_round_trip(rtt);
        let rtt = rtt.min(nanos(MAX));
        if self.smoothed == NEVER {
            self.variance = rtt / 2;
            self.set(rtt);
        } else {
            self.variance = self.variance / 4 * 3 + self.smoothed.abs_diff(rtt) / 4;
            self.set(self.smoothed / 8 * 7 + rtt / 8);
        }
    }

    fn set(&mut self, smoothed: u64) {
        self.smoothed = smoothed;
        self.timeout = smoothed + (self.variance * 4).max(nanos(MIN_SPREAD));
        self.backoff = 0;
    }

    /// A round trip was measured that may be one of many: not all of them go into the averages.
    #[inline]
    pub(super) fn on_round_trip(&mut self, rtt: u64) {
        self.shortest = self.shortest.min(rtt.min(nanos(MAX)));
    }

    /// The timeout was spurious, and its segment in truth took `rtt` (RFC 4015 section 3.3).
    pub(super) fn on_spurious(&mut self, rtt: u64) {
        let rtt = rtt.min(nanos(MAX));
        self.variance = self.variance.max(rtt / 2);
        self.set(if self.smoothed == NEVER { rtt } else { self.smoothed.max(rtt) });
    }

    /// New data is acknowledged.
    pub(super) fn on_progress(&mut self) {
        self.backoff = self.backoff.min(MAX_BACKOFF_AT_PROGRESS);
    }

    /// Whether a measurement would end a back-off.
    pub(super) const fn is_backed_off(&self) -> bool {
        self.backoff > 0
    }

    /// The handshake is over, and its SYN had to be sent again.
    pub(super) fn after_lost_syn(&mut self) {
        if self.smoothed == NEVER {
            self.timeout = nanos(AFTER_LOST_SYN);
            self.backoff = 0;
        }
    }

    /// What is sent next has not been sent in vain before.
    pub(super) fn restart(&mut self) {
        self.backoff = 0;
    }

    /// The timer has run out: wait twice as long next time.
    pub(super) fn back_off(&mut self) {
        if self.current() < MAX {
            self.backoff += 1;
        }
    }

    /// How long to wait for an answer now, back-off included.
    pub(super) fn current(&self) -> Duration {
        Duration::from_nanos(self.current_nanos())
    }

    /// As [`Rto::current`], in nanoseconds.
    #[inline]
    pub(super) fn current_nanos(&self) -> u64 {
        // A few minutes at most, and doubled no longer than it takes to get to the largest: far from an overflow.
        (self.timeout << self.backoff).min(nanos(MAX))
    }

    /// As [`Rto::smoothed`], in nanoseconds.
    #[inline]
    pub(super) fn smoothed_nanos(&self) -> Option<u64> {
        (self.smoothed != NEVER).then_some(self.smoothed)
    }

    /// Reads something of every cache line; what, means nothing.
    pub(super) const fn warm(&self) -> u64 {
        self.smoothed ^ self.timeout
    }

    /// The shortest round trip measured; zero before the first one.
    pub(super) const fn shortest(&self) -> Duration {
        Duration::from_nanos(if self.shortest == NEVER { 0 } else { self.shortest })
    }

    /// Smoothed round-trip time; `None` before the first measurement.
    pub(super) fn smoothed(&self) -> Option<Duration> {
        (self.smoothed != NEVER).then_some(Duration::from_nanos(self.smoothed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn the_first_measurement_sets_both_averages() {
        let mut rto = Rto::new();
        assert_eq!(rto.current(), ms(1000));
        rto.sample(nanos(ms(100)));
        assert_eq!(rto.current(), ms(300));
        rto.sample(nanos(ms(180)));
        assert_eq!(rto.current(), ms(110) + Duration::from_micros(4 * 57_500));
    }

    #[test]
    fn a_steady_path_waits_long_enough_for_a_delayed_ack() {
        let mut rto = Rto::new();
        for _ in 0..100 {
            rto.sample(nanos(ms(3)));
        }
        assert_eq!(rto.current(), ms(203));
    }

    #[test]
    fn back_off_doubles_up_to_a_minute_until_a_measurement() {
        let mut rto = Rto::new();
        rto.sample(nanos(ms(100)));
        let waits: Vec<_> = (0..10)
            .map(|_| {
                rto.back_off();
                rto.current().as_millis()
            })
            .collect();
        assert_eq!(waits, [600, 1200, 2400, 4800, 9600, 19200, 38400, 60000, 60000, 60000]);
        rto.sample(nanos(ms(100)));
        assert_eq!(rto.current(), ms(300));
    }

    #[test]
    fn a_lost_syn_makes_the_first_timeout_three_seconds() {
        let mut rto = Rto::new();
        rto.back_off();
        rto.after_lost_syn();
        assert_eq!(rto.current(), ms(3000));
    }
}
