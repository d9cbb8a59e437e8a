//! Delivery rate: how fast the path takes what is sent (draft-ietf-ccwg-bbr section 4.1).
//!
//! Runs on: proxy cores. Allocates: never. Blocks: never.

use pnat_shared::time::{Duration, Instant};

use super::congestion::Rate;
use super::records::Transmission;

/// What is counted from the connection's beginning.
#[derive(Debug, Default)]
pub(super) struct Sampler {
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

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

impl Sampler {
    /// `len` bytes are sent while `pipe` bytes are in the network.
    pub(super) fn stamp(&mut self, len: u32, pipe: u32, now: Instant) -> Transmission {
        if pipe == 0 {
            self.first_sent = now;
            self.delivered_at = now;
        }
        Transmission {
            sent: now,
            delivered: self.delivered as u32,
            lost: self.lost,
            in_flight: pipe + len,
            send_elapsed: micros(now.since(self.first_sent)),
            ack_age: micros(now.since(self.delivered_at)),
            is_app_limited: self.delivered < self.app_limited_until,
        }
    }

    /// There is room for more in the network than the application gives.
    pub(super) fn on_app_limited(&mut self, pipe: u32) {
        self.app_limited_until = self.delivered + u64::from(pipe) + 1;
    }

    pub(super) const fn on_lost(&mut self, bytes: u32) {
        self.lost = self.lost.wrapping_add(bytes);
    }

    /// `bytes` were delivered, of which `newest` was sent last. There is no sample where it took less than the shortest
    /// round trip: then the ACK was for an earlier transmission, or ACKs were compressed.
    pub(super) fn on_delivered(
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
