//! What an ACK found, what it says, and what follows from that.
//!
//! Runs on: proxy cores. Allocates: never. Blocks: never.

use pnat_shared::time::Instant;
use pnat_shared::wire::tcp::Seq;

use super::congestion::Rate;
use super::records::{Records, Transmission};

/// A transmission that has arrived, and where it ended.
#[derive(Copy, Clone, Debug)]
pub(super) struct Arrival {
    pub(super) tx: Transmission,
    pub(super) end: Seq,
    /// It was not the first of its bytes.
    pub(super) again: bool,
}

impl Arrival {
    /// Whether this one left after another (RFC 8985 section 6.2, RACK_sent_after).
    pub(super) fn is_after(&self, sent: Instant, end: Seq) -> bool {
        self.tx.sent > sent || (self.tx.sent == sent && self.end.after(end))
    }
}

/// What an ACK found, and what it says.
#[derive(Debug)]
pub(super) struct News {
    pub(super) now: Instant,
    /// SND.UNA, bytes between it and SND.NXT, and bytes in the network before it.
    pub(super) una: Seq,
    pub(super) flight: u32,
    pub(super) pipe: u32,
    /// By how much SND.UNA advances.
    pub(super) acked: u32,
    /// It reports that a router has seen congestion (RFC 3168).
    pub(super) marked: bool,
    /// By its timestamp it answers something that left then or before.
    pub(super) echoed: Option<Instant>,
    /// What it reports to have come twice.
    pub(super) repeated: Option<(Seq, Seq)>,
    /// Bytes delivered: named for the first time.
    pub(super) bytes: u32,
    /// Of the transmissions that have arrived, that which left last.
    pub(super) newest: Option<Arrival>,
    /// When the first of them left, where none was sent again.
    pub(super) oldest: Option<Instant>,
    /// Bytes that were sent only once arrived behind others that were sent later.
    pub(super) reordered: bool,
    /// The first byte that arrived of those that were sent only once.
    pub(super) original: Option<Seq>,
    /// Bytes arrived that were believed lost and were not sent again.
    pub(super) unrepaired: bool,
    /// Bytes that are lost by now.
    pub(super) lost: u32,
    /// The round trip that was measured, in nanoseconds.
    pub(super) rtt: Option<u64>,
    pub(super) rate: Option<Rate>,
    /// The highest byte that had arrived before.
    pub(super) highest: Seq,
    /// What was sent again later than this cannot have been answered: then the transmission before it was.
    pub(super) answerable: Instant,
}

impl News {
    pub(super) const fn new(
        now: Instant,
        una: Seq,
        acked: u32,
        flight: u32,
        pipe: u32,
        echoed: Option<Instant>,
    ) -> Self {
        Self {
            now,
            una,
            flight,
            pipe,
            acked,
            marked: false,
            echoed,
            repeated: None,
            bytes: 0,
            newest: None,
            oldest: None,
            reordered: false,
            original: None,
            unrepaired: false,
            lost: 0,
            rtt: None,
            rate: None,
            highest: una,
            answerable: now,
        }
    }

    /// Whether something before `seq` arrived that was sent only once.
    pub(super) fn has_original_before(&self, seq: Seq) -> bool {
        self.original.is_some_and(|original| original.before(seq))
    }

    /// Everything before `ack` is acknowledged, of which nothing was known but that it was in flight.
    pub(super) fn take(&mut self, records: &mut Records, ack: Seq) {
        self.bytes += ack.0.wrapping_sub(records.base().0);
        self.oldest = records.oldest();
        self.newest = records.release(ack).map(|tx| Arrival { tx, end: ack, again: false });
    }

    /// Something has arrived.
    pub(super) fn note(&mut self, arrival: Arrival) {
        if self.newest.is_none_or(|newest| arrival.is_after(newest.tx.sent, newest.end)) {
            self.newest = Some(arrival);
        }
    }
}
