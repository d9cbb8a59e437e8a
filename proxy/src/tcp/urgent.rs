//! Urgent data: a mark in a stream, taken in on one leg and set on the other (RFC 9293 section 3.8.5, RFC 6093).
//!
//! Runs on: proxy cores. Allocates: where a peer marks a place in its stream. Blocks: never.
//!
//! The bytes stay in the stream, and nothing waits for them. A mark is the number behind the last urgent byte, which is how
//! everybody reads the pointer (RFC 6093 section 2.1). There is one mark a direction: the latest replaces earlier ones, as
//! they do for a sender with one pointer (RFC 9293 section 3.8.5).

use pnat_shared::frame::Frame;
use pnat_shared::wire::tcp::{Flags, Header, Seq};

use super::endpoint::Endpoint;
use crate::chunk::Chunk;

/// The marks of a connection, while it has any.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Marks {
    /// What the peer has marked and nobody has read yet.
    received: Option<Seq>,
    /// What the peer is told of.
    sent: Option<Seq>,
    /// The next bytes to be queued are urgent.
    due: bool,
}

impl<F: Frame> Endpoint<F> {
    /// Takes in the urgent pointer of an acceptable segment.
    pub(super) fn on_urgent(&mut self, header: &Header) {
        let marks = header.flags.has(Flags::URG) && header.urgent > 0 && !self.recv.finished;
        let mark = header.seq + u32::from(header.urgent);
        let earlier =
            self.urgent.as_ref().and_then(|marks| marks.received).unwrap_or_else(|| self.recv.unread());
        if marks && mark.after(earlier) {
            self.urgent.get_or_insert_default().received = Some(mark);
        }
    }

    /// See [`Endpoint::receive`].
    pub(super) fn receive_to_mark(&mut self) -> Option<Chunk<F>> {
        let mark = self.urgent.as_ref().and_then(|marks| marks.received);
        let until = mark.map(|mark| mark.distance(self.recv.unread())).filter(|until| *until > 0);
        match until {
            Some(until) => self.recv.next_of(until as usize),
            None => self.recv.next(),
        }
    }

    /// See [`Endpoint::take_urgent`].
    pub(super) fn take_mark(&mut self) -> bool {
        let Some(marks) = &mut self.urgent else { return false };
        let reached = marks.received.is_some_and(|mark| !mark.after(self.recv.unread()));
        if reached {
            marks.received = None;
            self.forget_marks();
        }
        reached
    }

    /// See [`Endpoint::mark_urgent`].
    pub(super) fn set_mark(&mut self) {
        let end = self.send.queue.end();
        let marks = self.urgent.get_or_insert_default();
        if end.after(self.send.nxt) {
            marks.sent = Some(end);
        } else {
            marks.due = true;
        }
    }

    /// Bytes were queued.
    pub(super) fn set_due_mark(&mut self) {
        if let Some(marks) = self.urgent.as_mut().filter(|marks| marks.due) {
            marks.due = false;
            marks.sent = Some(self.send.queue.end());
        }
    }

    /// Gives the header the pointer, where the mark lies before it and no further than the pointer reaches. (With a pointer
    /// that says less, the peer would take another byte for the urgent one.)
    #[inline]
    pub(super) fn add_urgent(&self, header: &mut Header) {
        let Some(mark) = self.urgent.as_ref().and_then(|marks| marks.sent) else { return };
        if let Ok(urgent @ 1..) = u16::try_from(mark.distance(header.seq)) {
            header.urgent = urgent;
            header.flags = header.flags.with(Flags::URG);
        }
    }

    /// What was urgent has been acknowledged.
    pub(super) fn on_mark_acked(&mut self) {
        let una = self.send.una;
        if let Some(marks) = &mut self.urgent {
            marks.sent = marks.sent.filter(|mark| mark.after(una));
            self.forget_marks();
        }
    }

    fn forget_marks(&mut self) {
        let is_empty = |marks: &Marks| marks.received.is_none() && marks.sent.is_none() && !marks.due;
        if self.urgent.as_deref().is_some_and(is_empty) {
            self.urgent = None;
        }
    }
}
