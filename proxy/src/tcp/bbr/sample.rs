//! What one acknowledgment measured, as BBR's model takes it in.

use pnat_shared::time::{Duration, Instant};

use super::super::congestion::Acked;
use super::Bbr;

#[derive(Copy, Clone, Debug)]
pub(super) struct Sample {
    pub(super) now: Instant,
    /// Bytes per second (RS.delivery_rate); 0 where the interval is too short to tell.
    pub(super) rate: u64,
    /// Bytes delivered since the newest segment that arrived was sent, and altogether by then.
    pub(super) delivered: u32,
    pub(super) prior_delivered: u64,
    /// Bytes delivered altogether.
    pub(super) total: u64,
    /// The rate is what the application asked for, or less than the path carries for another reason that we know.
    pub(super) is_app_limited: bool,
    /// In flight when that segment was sent, and lost since then.
    pub(super) tx_in_flight: u32,
    pub(super) lost: u32,
    /// In flight now.
    pub(super) flight: u32,
    pub(super) newly_delivered: u32,
    pub(super) newly_lost: u32,
    /// A router has marked a segment: ECE (RFC 3168).
    pub(super) marked: bool,
    pub(super) rtt: Option<Duration>,
}

impl Sample {
    /// `None` where the ACK says nothing of a delivery.
    pub(super) fn new(acked: &Acked, bbr: &Bbr) -> Option<Self> {
        let rate = acked.rate?;
        // Shorter than any round trip: ACKs came bunched, and the rate is none of the path's (section 4.1.2.3).
        let reliable = rate.interval >= bbr.delay.min_rtt() && !rate.interval.is_zero();
        let nanos = rate.interval.as_nanos() as u64;
        let bytes_per_second = if reliable { u64::from(rate.delivered) * 1_000_000_000 / nanos } else { 0 };
        Some(Self {
            now: acked.now,
            rate: bytes_per_second,
            delivered: rate.delivered,
            prior_delivered: rate.prior_delivered,
            total: rate.total,
            is_app_limited: rate.is_app_limited || rate.prior_delivered < bbr.low_until,
            tx_in_flight: rate.tx_in_flight,
            lost: rate.lost,
            flight: acked.flight,
            newly_delivered: acked.delivered,
            newly_lost: acked.lost,
            marked: acked.ece,
            rtt: acked.rtt.map(Duration::from_nanos),
        })
    }
}
