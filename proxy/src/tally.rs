//! What a pair counts of itself: the numbers of its log record.

use pnat_shared::flow::{Side, Stream};
use pnat_shared::time::{Duration, Instant};
use pnat_shared::verdict::CloseReason;

use crate::filter::Summary;

/// Counts of one pair. Arrays are indexed by side or stream, first before second.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Tally {
    packets: [u64; 2],
    /// Payload bytes taken from each socket, in order, once.
    received: [u64; 2],
    /// Payload bytes given to the socket by which the stream leaves.
    sent: [u64; 2],
    connect: Option<Duration>,
    first_byte: Option<Duration>,
}

impl Tally {
    pub(crate) fn packet(&mut self, from: Side) {
        self.packets[from as usize] += 1;
    }

    pub(crate) fn train(&mut self, from: Side, packets: usize) {
        self.packets[from as usize] += packets as u64;
    }

    pub(crate) fn received(&mut self, stream: Stream, bytes: usize) {
        self.received[stream as usize] += bytes as u64;
    }

    /// Bytes went to the socket of their far side, `age` after the pair's first packet.
    pub(crate) fn sent(&mut self, stream: Stream, bytes: usize, age: Duration) {
        self.sent[stream as usize] += bytes as u64;
        if stream == Stream::Second && bytes > 0 {
            self.first_byte.get_or_insert(age);
        }
    }

    /// Bytes of the send queue were thrown away.
    pub(crate) fn lost(&mut self, stream: Stream, bytes: usize) {
        let sent = &mut self.sent[stream as usize];
        *sent = sent.saturating_sub(bytes as u64);
    }

    /// The server answered, so long after it was asked; of several that were, the first counts.
    pub(crate) fn connected(&mut self, took: Duration) {
        self.connect.get_or_insert(took);
    }

    /// Reads something of every cache line; what, means nothing.
    pub(crate) fn warm(&self) -> u64 {
        self.packets[0] ^ self.sent[1]
    }

    /// Bytes received by stream.
    pub(crate) fn bytes(&self) -> [u64; 2] {
        self.received
    }

    /// Packets received by side.
    pub(crate) fn packets(&self) -> [u64; 2] {
        self.packets
    }

    pub(crate) fn summary(&self, reason: CloseReason, ended: Instant) -> Summary {
        Summary {
            reason,
            received: self.received,
            sent: self.sent,
            packets: self.packets,
            connect: self.connect,
            first_byte: self.first_byte,
            ended,
        }
    }
}
