//! Header prediction: the next text of a stream that nothing disturbs, past the checks that it would pass (Van Jacobson).
//!
//! Runs on: proxy cores. Allocates: when queues are longer than ever before. Blocks: never.
//!
//! Nothing happens here that [`Endpoint::on_segment_synchronized`] would not do; a test compares the two.

use pnat_shared::frame::Frame;
use pnat_shared::time::Instant;
use pnat_shared::wire::tcp::{Flags, Header};

use super::endpoint::{Endpoint, State};
use super::recovery::Phase;
use super::send::Sender;
use super::tail::Tail;
use crate::chunk::Chunk;

impl<F: Frame> Endpoint<F> {
    /// Whether the segment is what was expected: the next text in order, within the window, with no news about ours.
    #[inline]
    pub(super) fn is_predicted(&self, header: &Header, len: usize) -> bool {
        let stamp_is_good = match header.options.timestamps {
            Some((value, _)) => self.clock.on && self.clock.is_next(value),
            None => !self.clock.on,
        };
        len > 0
            && self.state == State::Established
            && Flags(header.flags.0 & !Flags::PSH.0) == Flags::ACK
            && stamp_is_good
            && header.options.sack.is_empty()
            && self.recv.is_next(header.seq, len)
            && self.send.is_no_news(header)
            // Nothing runs that any sign of life would stop.
            && self.timers.life == Instant::FAR
            && (self.send.flight() > 0 || self.timers.retransmit == Instant::FAR)
    }

    /// Takes in a segment that [`Endpoint::is_predicted`].
    #[inline]
    pub(super) fn on_predicted(&mut self, header: &Header, payload: Chunk<F>, now: Instant) {
        if let Some((value, _)) = header.options.timestamps
            && !header.seq.after(self.recv.told_nxt)
        {
            self.clock.remember(value, now);
        }
        self.touch(now);
        // A segment from further on may have come before.
        if !self.send.wl1.after(header.seq) {
            self.send.wl1 = header.seq;
            self.send.wl2 = header.ack;
        }
        self.resize_window(header, now);
        self.recv.append(payload);
        self.timers.ack = self.recv.ack_deadline(now, self.timers.ack);
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
