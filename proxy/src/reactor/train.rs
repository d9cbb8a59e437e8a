//! The train: segments of one stream that follow each other in a burst, to be taken in as one (generic receive offload).
//!
//! Runs on: proxy cores. Allocates: never, once it was as long as it gets. Blocks: never.
//!
//! What a segment costs beside its bytes is mostly the same for two as for one: the look for its pair, the checks of its
//! header, the books that are kept. Only segments that say the same in all but their numbers are coupled, so that their pair
//! may take them for one where it expected them, and one by one where it did not. Nothing is ever held back beyond a burst.

use pnat_shared::flow::{Handle, Side, WorkerId};
use pnat_shared::frame::Frame;
use pnat_shared::wire::tcp::{Flags, Header, Seq};

use super::demux::{self, Arrival, Body, Pattern, Segment};
use crate::chunk::Chunk;

/// Most segments of a train, and most bytes of their text: of full segments one makes up the other.
const SEGMENTS: usize = 44;
const BYTES: usize = 65_535;

#[derive(Debug)]
pub(super) struct Train<F> {
    pub(super) handle: Handle,
    pub(super) side: Side,
    /// The first segment's. The others differ by number and PSH.
    pub(super) header: Header,
    /// Its headers, where they are of the usual kind.
    pattern: Option<Pattern>,
    /// Number of the segment that may be coupled next.
    next: Seq,
    /// What the segments bring, in order; none is empty.
    pub(super) texts: Vec<Chunk<F>>,
    pub(super) bytes: usize,
}

impl<F> Default for Train<F> {
    fn default() -> Self {
        Self {
            handle: Handle { worker: WorkerId(0), slot: 0, generation: 0 },
            side: Side::First,
            header: Header::default(),
            pattern: None,
            next: Seq(0),
            texts: Vec::new(),
            bytes: 0,
        }
    }
}

impl<F: Frame> Train<F> {
    pub(super) const fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// Segments.
    pub(super) const fn len(&self) -> usize {
        self.texts.len()
    }

    pub(super) fn clear(&mut self) {
        self.texts.clear();
        self.bytes = 0;
    }

    /// Takes what a frame holds where that follows and says the same by the very same bytes, as most does that follows.
    /// Answers other frames back.
    #[inline]
    pub(super) fn take(&mut self, frame: F) -> Option<F> {
        let Some(pattern) = self.pattern.as_ref().filter(|_| !self.is_empty() && self.len() < SEGMENTS)
        else {
            return Some(frame);
        };
        match demux::read_next(&frame, pattern, self.next) {
            Some((text, sum)) if !text.is_empty() && self.bytes + text.len() <= BYTES => {
                self.push(Chunk::from_frame(frame, text.start, text.end).with_sum(sum));
                None
            }
            _ => Some(frame),
        }
    }

    /// Whether a segment that is [`fit`] comes right behind the last one, and says the same.
    #[inline]
    pub(super) fn is_followed_by(&self, arrival: &Arrival, segment: &Segment) -> bool {
        let (header, len) = (&segment.header, segment.payload.len());
        header.seq == self.next
            && arrival.handle == self.handle
            && arrival.side == self.side
            && !self.is_empty()
            && header.ack == self.header.ack
            && header.window == self.header.window
            && header.options.timestamps == self.header.options.timestamps
            && self.bytes + len <= BYTES
            && self.len() < SEGMENTS
    }

    /// Takes a segment that follows, or is the first one.
    #[inline]
    pub(super) fn couple(&mut self, arrival: &Arrival, segment: &Segment, frame: F) {
        if self.is_empty() {
            (self.handle, self.side) = (arrival.handle, arrival.side);
            (self.header, self.next) = (segment.header, segment.header.seq);
            self.pattern = Pattern::of(frame.data(), segment);
        }
        self.push(segment.text(frame));
    }

    #[inline]
    fn push(&mut self, text: Chunk<F>) {
        self.next += text.len() as u32;
        self.bytes += text.len();
        self.texts.push(text);
    }
}

/// The segment, where it may go into a train: it has text, and says nothing out of the ordinary.
#[inline]
pub(super) fn fit(arrival: &Arrival) -> Option<&Segment> {
    let Body::Segment(segment) = &arrival.body else { return None };
    let header = &segment.header;
    let is_plain = || Flags(header.flags.0 & !Flags::PSH.0) == Flags::ACK && header.options.are_plain();
    (!segment.payload.is_empty() && is_plain() && !segment.marked).then_some(segment)
}
