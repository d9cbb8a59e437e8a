//! Round-trip time and retransmission timeout (RFC 6298).

use pnat_shared::time::Duration;

/// Before the first measurement (RFC 6298 section 2.1).
pub(super) const INITIAL: Duration = Duration::from_secs(1);
/// Where data follows a handshake whose SYN was retransmitted (RFC 6298 section 5.7).
const AFTER_LOST_SYN: Duration = Duration::from_secs(3);
/// RFC 6298 section 2.4 asks for one second, which costs short flows a second per tail loss; like Linux, we wait 200 ms:
/// still five times the delayed ACK that most receivers use.
const MIN: Duration = Duration::from_millis(200);
const MAX: Duration = Duration::from_secs(60);

/// The estimator and its exponential back-off.
#[derive(Debug)]
pub(super) struct Rto {
    /// Zero before the first measurement.
    smoothed: Duration,
    variance: Duration,
    /// The shortest ever measured: about what the path takes when its queues are empty.
    shortest: Duration,
    timeout: Duration,
    /// How often the timeout has been doubled since the last measurement (Karn: only a fresh one undoes it).
    backoff: u8,
}

impl Rto {
    pub(super) const fn new() -> Self {
        Self {
            smoothed: Duration::ZERO,
            variance: Duration::ZERO,
            shortest: MAX,
            timeout: INITIAL,
            backoff: 0,
        }
    }

    /// Takes in a measurement of data that was sent once only, or that a timestamp tells apart (RFC 6298 section 3).
    pub(super) fn sample(&mut self, rtt: Duration) {
        // A zero would look like "never measured".
        let rtt = rtt.clamp(Duration::from_nanos(1), MAX);
        self.shortest = self.shortest.min(rtt);
        if self.smoothed.is_zero() {
            self.smoothed = rtt;
            self.variance = rtt / 2;
        } else {
            self.variance = self.variance * 3 / 4 + self.smoothed.abs_diff(rtt) / 4;
            self.smoothed = self.smoothed * 7 / 8 + rtt / 8;
        }
        // The clock's granularity G is one millisecond where timestamps measure.
        let spread = (self.variance * 4).max(Duration::from_millis(1));
        self.timeout = (self.smoothed + spread).clamp(MIN, MAX);
        self.backoff = 0;
    }

    /// The handshake is over, and its SYN had to be sent again.
    pub(super) fn after_lost_syn(&mut self) {
        if self.smoothed.is_zero() {
            self.timeout = AFTER_LOST_SYN;
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
        self.timeout.saturating_mul(1 << self.backoff.min(16)).min(MAX)
    }

    /// Reads something of every cache line; what, means nothing.
    pub(super) const fn warm(&self) -> u32 {
        self.smoothed.subsec_nanos() ^ self.timeout.subsec_nanos()
    }

    /// The shortest round trip measured; zero before the first measurement.
    pub(super) fn shortest(&self) -> Duration {
        self.shortest.min(self.smoothed)
    }

    /// Smoothed round-trip time; `None` before the first measurement.
    pub(super) fn smoothed(&self) -> Option<Duration> {
        (!self.smoothed.is_zero()).then_some(self.smoothed)
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
        rto.sample(ms(100));
        assert_eq!(rto.current(), ms(300));
        rto.sample(ms(100));
        assert_eq!(rto.current(), ms(250));
    }

    #[test]
    fn a_steady_path_waits_no_less_than_the_minimum() {
        let mut rto = Rto::new();
        for _ in 0..100 {
            rto.sample(ms(3));
        }
        assert_eq!(rto.current(), MIN);
    }

    #[test]
    fn back_off_doubles_up_to_a_minute_until_a_measurement() {
        let mut rto = Rto::new();
        rto.sample(ms(100));
        let waits: Vec<_> = (0..10)
            .map(|_| {
                rto.back_off();
                rto.current().as_millis()
            })
            .collect();
        assert_eq!(waits, [600, 1200, 2400, 4800, 9600, 19200, 38400, 60000, 60000, 60000]);
        rto.sample(ms(100));
        assert!(rto.current() < ms(300));
    }

    #[test]
    fn a_lost_syn_makes_the_first_timeout_three_seconds() {
        let mut rto = Rto::new();
        rto.back_off();
        rto.after_lost_syn();
        assert_eq!(rto.current(), ms(3000));
    }
}
