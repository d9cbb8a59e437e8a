//! The two halves of talking: writing a stream's bytes as the peer takes them, and reading those that come.
//!
//! Runs on: the generator's core. Allocates: never. Blocks: never.

use pnat_proxy::chunk::Chunk;
use pnat_proxy::tcp::Endpoint;
use pnat_shared::frame::Frame;
use pnat_shared::time::{Duration, Instant};

use super::pattern::Place;

/// Bytes at the beginning of a client's stream that say whose it is.
pub(super) const PREAMBLE: usize = 8;

/// Tells a server which client it talks to.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Preamble {
    /// Of the trial.
    pub(super) run: u16,
    pub(super) class: u16,
    /// Of the connection, among all of the trial.
    pub(super) number: u32,
}

impl Preamble {
    pub(super) fn write(self) -> [u8; PREAMBLE] {
        let mut bytes = [0; PREAMBLE];
        bytes[..2].copy_from_slice(&self.run.to_be_bytes());
        bytes[2..4].copy_from_slice(&self.class.to_be_bytes());
        bytes[4..].copy_from_slice(&self.number.to_be_bytes());
        bytes
    }

    pub(super) const fn read([r0, r1, c0, c1, n0, n1, n2, n3]: [u8; PREAMBLE]) -> Self {
        Self {
            run: u16::from_be_bytes([r0, r1]),
            class: u16::from_be_bytes([c0, c1]),
            number: u32::from_be_bytes([n0, n1, n2, n3]),
        }
    }

    /// Where the client's stream and the server's begin; the preamble stands in place of the client's first bytes.
    pub(super) fn streams(self) -> [Place; 2] {
        let number = u64::from(self.run) << 48 | u64::from(self.number) << 1;
        [number, number | 1].map(Place::new)
    }
}

/// Writes a stream up to a point that may be moved on.
#[derive(Debug)]
pub(super) struct Writer {
    place: Place,
    /// Bytes of the stream that are to be written.
    pub(super) until: u64,
    /// What stands in place of the first bytes, and how many of them.
    head: [u8; PREAMBLE],
    head_len: u8,
    /// When the next byte may be written, where they are written one by one.
    next: Instant,
}

impl Writer {
    /// A server's, which begins at `place`.
    pub(super) const fn new(place: Place) -> Self {
        Self { until: 0, place, head: [0; PREAMBLE], head_len: 0, next: Instant::ZERO }
    }

    /// A client's, which begins with a preamble.
    pub(super) fn with_preamble(preamble: Preamble) -> Self {
        let [place, _] = preamble.streams();
        Self { head: preamble.write(), head_len: PREAMBLE as u8, ..Self::new(place) }
    }

    pub(super) const fn is_done(&self) -> bool {
        self.place.offset() >= self.until
    }

    /// Nothing more than what was written will be.
    pub(super) const fn stop(&mut self) {
        self.until = self.place.offset();
    }

    /// Gives the endpoint as much as is of use to it.
    pub(super) fn write<F: Frame>(&mut self, endpoint: &mut Endpoint<F>) {
        while !self.is_done() {
            let (appetite, queued) = (endpoint.appetite() as u64, endpoint.queued() as u64);
            let room = appetite.saturating_sub(queued);
            // Small pieces of what is long would only cost time.
            if room < appetite / 4 && queued > 0 {
                return;
            }
            endpoint.send(self.next_chunk((self.until - self.place.offset()).min(room.max(1))));
        }
    }

    /// As [`Writer::write`], one byte at a time with so much time between two. Answers when to go on.
    pub(super) fn write_slowly<F: Frame>(
        &mut self,
        endpoint: &mut Endpoint<F>,
        every: Duration,
        now: Instant,
    ) -> Instant {
        if self.is_done() {
            return Instant::FAR;
        }
        if self.next <= now {
            endpoint.send(self.next_chunk(1));
            self.next = now + every;
        }
        self.next
    }

    /// Up to so many bytes, at least one.
    fn next_chunk<F: Frame>(&mut self, len: u64) -> Chunk<F> {
        let left = usize::from(self.head_len).saturating_sub(self.place.offset() as usize);
        if left == 0 {
            return Chunk::from_static(self.place.take(len));
        }
        let from = PREAMBLE - left;
        let len = left.min(len as usize);
        self.place.skip(len);
        Chunk::from_vec(self.head[from..from + len].to_vec())
    }
}

/// What a look at a stream has brought.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Came {
    pub(super) bytes: u64,
    /// All of them were the ones that were to come.
    pub(super) is_right: bool,
}

/// Reads a stream and compares it with what it should be.
#[derive(Debug)]
pub(super) struct Reader {
    place: Place,
    /// When the next bytes may be taken, where they are taken slowly.
    next: Instant,
}

impl Reader {
    pub(super) const fn new(place: Place) -> Self {
        Self { place, next: Instant::ZERO }
    }

    /// Bytes of the stream that have come.
    pub(super) const fn offset(&self) -> u64 {
        self.place.offset()
    }

    /// Goes on behind the preamble.
    pub(super) fn skip_preamble(&mut self) {
        self.place.skip(PREAMBLE);
    }

    pub(super) fn check(&mut self, bytes: &[u8]) -> bool {
        self.place.read(bytes)
    }

    /// Takes what has come, at most `rate` bytes per second of it in the long run.
    pub(super) fn read<F: Frame>(
        &mut self,
        endpoint: &mut Endpoint<F>,
        rate: Option<u64>,
        now: Instant,
    ) -> Came {
        let mut came = Came { bytes: 0, is_right: true };
        while self.next <= now || rate.is_none() {
            let Some(chunk) = endpoint.receive() else { break };
            let len = chunk.len() as u64;
            came.bytes += len;
            came.is_right &= self.check(chunk.bytes());
            if let Some(nanos) = rate.and_then(|rate| (len * 1_000_000_000).checked_div(rate)) {
                self.next = now.plus_nanos(nanos);
            }
        }
        came
    }

    /// When to go on, where something waits.
    pub(super) fn next<F: Frame>(&self, endpoint: &Endpoint<F>) -> Instant {
        if endpoint.is_ready() { self.next } else { Instant::FAR }
    }
}
