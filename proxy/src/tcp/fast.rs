//! Header prediction: the next text of a stream that nothing disturbs, and ACKs of what was sent, past the checks that they
//! would pass (Van Jacobson).
//!
//! Runs on: proxy cores. Allocates: where no memory was lent, or a queue outgrows it (`lent`). Blocks: never.
//!
//! Nothing happens here that [`Endpoint::on_segment_synchronized`] would not do; a test compares the two.

use pnat_shared::frame::Frame;
use pnat_shared::time::Instant;
use pnat_shared::verdict::DropReason;
use pnat_shared::wire::tcp::{Flags, Header};

use super::endpoint::{Endpoint, State};
use super::recovery::Phase;
use super::send::Sender;
use super::tail::Tail;
use crate::chunk::Chunk;

impl<F: Frame> Endpoint<F> {
    /// Whether a train of segments is what was expected: the next text in order, within the window, with no news about ours.
    /// Then [`Endpoint::on_train`] takes it in. They follow each other by their numbers, none is empty, and what `header`, the
    /// first one's, says beside its number and PSH, all of them say. `bytes` of text they have together. One segment is a
    /// train, too.
    #[inline]
    pub fn expects(&self, header: &Header, bytes: usize) -> bool {
        bytes > 0
            && self.state == State::Established
            && Flags(header.flags.0 & !Flags::PSH.0) == Flags::ACK
            && self.is_in_time(header)
            && header.options.sack.is_empty()
            && self.recv.is_next(header.seq, bytes)
            && self.send.is_no_news(header)
            // Nothing runs that any sign of life would stop.
            && self.timers.life == Instant::FAR
            && (self.send.flight() > 0 || self.timers.retransmit == Instant::FAR)
    }

    /// Takes in a train that [`Endpoint::expects`], as [`Endpoint::on_segment`] would have taken one segment after the other:
    /// what all of them say is as good as said once.
    #[inline]
    pub fn on_train(
        &mut self,
        header: &Header,
        texts: impl ExactSizeIterator<Item = Chunk<F>>,
        now: Instant,
    ) {
        // Only the first one's number can be one that we have asked for.
        self.remember(header, now);
        self.touch(now);
        self.resize_window(header, texts.len(), now);
        let last = self.recv.append(texts);
        // A segment from further on may have come before.
        if !self.send.wl1.after(last) {
            self.send.wl1 = last;
            self.send.wl2 = header.ack;
        }
        self.timers.ack = self.recv.ack_deadline(now, self.timers.ack);
    }

    /// Whether the segment is an ACK and nothing else, in order: all that it can bring is news about what we have sent.
    #[inline]
    pub(super) fn is_bare_ack(&self, header: &Header, len: usize) -> bool {
        len == 0
            && self.state == State::Established
            && header.flags == Flags::ACK
            && header.seq == self.recv.nxt
            && self.is_in_time(header)
    }

    /// Takes in what [`Endpoint::is_bare_ack`].
    #[inline]
    pub(super) fn on_bare_ack(&mut self, header: &Header, now: Instant) -> Result<(), DropReason> {
        self.remember(header, now);
        self.touch(now);
        self.on_ack(header, true, now)
    }

    /// Whether PAWS has nothing against it, however long ago the last segment was.
    #[inline]
    fn is_in_time(&self, header: &Header) -> bool {
        match header.options.timestamps {
            Some((value, _)) => self.clock.on && self.clock.is_next(value),
            None => !self.clock.on,
        }
    }

    #[inline]
    fn remember(&mut self, header: &Header, now: Instant) {
        if let Some((value, _)) = header.options.timestamps
            && !header.seq.after(self.recv.told_nxt)
        {
            self.clock.remember(value, now);
        }
    }
}

impl<F: Frame> Sender<F> {
    /// Whether the header of a segment with text says nothing that we do not know: no number acknowledged, no other window.
    #[inline]
    fn is_no_news(&self, header: &Header) -> bool {
        header.ack == self.una
            && self.window > 0
            && u32::from(header.window) << self.shift == self.window
            && !self.probing
            && matches!(self.tail, Tail::Idle | Tail::Armed(_))
            && self.phase == Phase::Open
            && self.dup_acks == 0
            && self.loss.as_ref().is_none_or(|loss| loss.is_spent())
    }
}

#[cfg(test)]
mod tests;
