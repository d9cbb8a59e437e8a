//! Delivery rate: how fast the path takes what is sent (draft-ietf-ccwg-bbr section 4.1).
//!
//! Runs on: proxy cores. Allocates: per connection that takes samples. Blocks: never.

use pnat_shared::time::{Duration, Instant};

use super::congestion::Rate;
use super::records::Transmission;

/// Takes samples, where the algorithm asks for them: most do not.
#[derive(Debug, Default)]
pub(super) struct Sampler {
    counts: Option<Box<Counts>>,
}

/// What is counted from the connection's beginning.
#[derive(Debug, Default)]
struct Counts {
    /// Bytes delivered, and when the last of them were.
    delivered: u64,
    delivered_at: Instant,
    /// Bytes found lost, modulo 2^32.
    lost: u32,
    /// When the newest transmission that has arrived was sent; or when sending began after a pause.
    first_sent: Instant,
    /// While less than this was delivered, what is sent counts as limited by the application.
    app_limited_until: u64,
}

fn micros_since(earlier: Instant, now: Instant) -> u32 {
    let micros = now.as_nanos().saturating_sub(earlier.as_nanos()) / 1000;
    u32::try_from(micros).unwrap_or(u32::MAX)
}

impl Sampler {
    /// One that takes samples; [`Sampler::default`] takes none.
    pub(super) fn counting() -> Self {
        Self { counts: Some(Box::default()) }
    }

    /// `len` bytes are sent while `pipe` bytes are in the network.
    #[inline]
    pub(super) fn stamp(&mut self, len: u32, pipe: u32, now: Instant) -> Transmission {
        match &mut self.counts {
            Some(counts) => counts.stamp(len, pipe, now),
            None => Transmission { in_flight: pipe + len, ..Transmission::at(now) },
        }
    }

    /// There is room for more in the network than the application gives.
    #[inline]
    pub(super) fn on_app_limited(&mut self, pipe: u32) {
        if let Some(counts) = &mut self.counts {
            counts.app_limited_until = counts.delivered + u64::from(pipe) + 1;
        }
    }

    #[inline]
    pub(super) fn on_lost(&mut self, bytes: u32) {
        if let Some(counts) = &mut self.counts {
            counts.lost = counts.lost.wrapping_add(bytes);
        }
    }

    /// `bytes` were delivered, of which `newest` was sent last. There is no sample where it took less than the shortest
    /// round trip: then the ACK was for an earlier transmission, or ACKs were compressed.
    #[inline]
    pub(super) fn on_delivered(
        &mut self,
        bytes: u32,
        newest: Option<&Transmission>,
        shortest: Duration,
        now: Instant,
    ) -> Option<Rate> {
        self.counts.as_mut()?.on_delivered(bytes, newest, shortest, now)
    }
}

impl Counts {
    fn stamp(&mut self, len: u32, pipe: u32, now: Instant) -> Transmission {
        if pipe == 0 {
            self.first_sent = now;
            self.delivered_at = now;
        }
        Transmission {
            sent: now,
            delivered: self.delivered as u32,
            lost: self.lost,
            in_flight: pipe + len,
            send_elapsed: micros_since(self.first_sent, now),
            ack_age: micros_since(self.delivered_at, now),
            is_app_limited: self.delivered < self.app_limited_until,
        }
    }

    fn on_delivered(
        &mut self,
        bytes: u32,
        newest: Option<&Transmission>,
        shortest: Duration,
        now: Instant,
    ) -> Option<Rate> {
        self.delivered += u64::from(bytes);
        self.delivered_at = now;
        let newest = newest?;
        self.first_sent = newest.sent;
        let sending = Duration::from_micros(u64::from(newest.send_elapsed));
        let acking = now.since(newest.sent) + Duration::from_micros(u64::from(newest.ack_age));
        let interval = sending.max(acking);
        let delivered = (self.delivered as u32).wrapping_sub(newest.delivered);
        (interval >= shortest && !interval.is_zero()).then_some(Rate {
            delivered,
            interval,
            prior_delivered: self.delivered - u64::from(delivered),
            total: self.delivered,
            is_app_limited: newest.is_app_limited,
            tx_in_flight: newest.in_flight,
            lost: self.lost.wrapping_sub(newest.lost),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(10);

    const fn ms(millis: u64) -> Instant {
        Instant::from_millis(1000 + millis)
    }

    #[test]
    fn a_window_each_round_trip_is_the_rate() {
        let mut sampler = Sampler::counting();
        let first = sampler.stamp(10_000, 0, ms(0));
        let rate = sampler.on_delivered(10_000, Some(&first), RTT, ms(10)).expect("a sample");
        assert_eq!(
            (rate.delivered, rate.interval, rate.total, rate.prior_delivered),
            (10_000, RTT, 10_000, 0)
        );
        let second = sampler.stamp(20_000, 0, ms(10));
        let rate = sampler.on_delivered(20_000, Some(&second), RTT, ms(20)).expect("a sample");
        assert_eq!((rate.delivered, rate.total, rate.prior_delivered), (20_000, 30_000, 10_000));
    }

    #[test]
    fn acks_that_come_at_once_do_not_make_the_path_faster_than_it_was_sent_to() {
        let mut sampler = Sampler::counting();
        let all = [0, 4, 8].map(|at| sampler.stamp(1000, if at == 0 { 0 } else { 1000 }, ms(at)));
        let rate = sampler.on_delivered(1000, Some(&all[0]), Duration::ZERO, ms(10)).expect("a sample");
        assert_eq!((rate.delivered, rate.interval), (1000, RTT));
        let rate = sampler.on_delivered(2000, Some(&all[2]), Duration::ZERO, ms(11)).expect("a sample");
        // Eight milliseconds of sending; eleven since the last delivery before.
        assert_eq!((rate.delivered, rate.interval), (3000, Duration::from_millis(11)));
    }

    #[test]
    fn what_took_less_than_the_shortest_round_trip_is_no_sample() {
        let mut sampler = Sampler::counting();
        let again = sampler.stamp(1000, 0, ms(0));
        assert!(sampler.on_delivered(1000, Some(&again), RTT, ms(3)).is_none());
    }

    #[test]
    fn what_is_sent_after_the_application_fell_silent_is_marked_until_all_that_was_in_flight_is_delivered() {
        let mut sampler = Sampler::counting();
        let before = sampler.stamp(2000, 0, ms(0));
        sampler.on_app_limited(2000);
        let after = sampler.stamp(1000, 2000, ms(1));
        assert!(!before.is_app_limited && after.is_app_limited);
        sampler.on_delivered(2000, Some(&before), RTT, ms(10));
        assert!(sampler.stamp(1000, 1000, ms(10)).is_app_limited);
        sampler.on_delivered(1000, Some(&after), RTT, ms(11));
        assert!(!sampler.stamp(1000, 1000, ms(11)).is_app_limited);
    }

    #[test]
    fn what_was_lost_since_it_was_sent_is_told() {
        let mut sampler = Sampler::counting();
        sampler.on_lost(500);
        let tx = sampler.stamp(4000, 3000, ms(0));
        sampler.on_lost(700);
        let rate = sampler.on_delivered(4000, Some(&tx), RTT, ms(10)).expect("a sample");
        assert_eq!((rate.lost, rate.tx_in_flight), (700, 7000));
    }
}
