//! One look at a stream, and what has come of it so far.

use bytes::Bytes;
use pnat_shared::flow::Stream;
use pnat_shared::time::{Duration, Instant};

use super::{End, Look, Outcome};
use crate::cascade::Context;
use crate::filter::Exchange;
use crate::piece::{Piece, Script};

/// One look at a stream, and what came of it so far.
pub(super) struct Work<'w, 'a> {
    pub(super) look: &'w mut Look<'a>,
    pub(super) script: Script,
    pub(super) back: Vec<Bytes>,
    /// By stream: bytes that were written to it, in place of what came or beside it.
    written: [usize; 2],
    /// What filters have done, in bytes that they might have written meanwhile.
    effort: usize,
    pub(super) wake: Option<Instant>,
    pub(super) again: bool,
    /// More would have been written to a stream that has no room.
    wants_room: bool,
    /// The server is left.
    pub(super) leaves: bool,
    pub(super) end: End,
}

/// What filters may do in one look at a stream, before other flows have their turn: so many bytes of content, and one portion more.
const MOST_EFFORT: usize = 256 * 1024;

/// What a call with content counts as at least, and an exchange that is answered.
const LEAST_EFFORT: usize = 1024;

/// How long a side that does not take what it is sent is left alone, unless it is known to have taken some.
pub(super) const RESPITE: Duration = Duration::from_secs(1);

impl<'w, 'a> Work<'w, 'a> {
    pub(super) fn new(look: &'w mut Look<'a>) -> Self {
        let (script, back) = (Script::default(), Vec::new());
        Self {
            look,
            script,
            back,
            written: [0; 2],
            effort: 0,
            wake: None,
            again: false,
            wants_room: false,
            leaves: false,
            end: End::Open,
        }
    }

    /// What the script does not cover.
    pub(super) fn rest(&self) -> &'a [u8] {
        let bytes: &'a [u8] = self.look.bytes;
        &bytes[self.script.taken()..]
    }

    /// Whether more may be written to a stream.
    pub(super) fn has_room(&self, stream: Stream) -> bool {
        self.effort < MOST_EFFORT && self.written[stream as usize] < self.look.room[stream as usize]
    }

    /// Whether filters have done enough in this look. What is left of the bytes is then for the next one, at once.
    pub(super) fn is_spent(&mut self) -> bool {
        let is_spent = self.effort >= MOST_EFFORT;
        if is_spent {
            self.want(self.look.now);
        }
        is_spent
    }

    /// There is more to write to a stream than there is room for now. Answers false.
    pub(super) fn put_off(&mut self, stream: Stream) -> bool {
        let is_for_room = self.written[stream as usize] >= self.look.room[stream as usize];
        self.wants_room |= is_for_room;
        self.want(if is_for_room { self.look.now + RESPITE } else { self.look.now });
        false
    }

    /// Notes content that filters have written to a stream, in its place.
    pub(super) fn count(&mut self, stream: Stream, bytes: usize) {
        self.written[stream as usize] += bytes;
        self.spend(bytes);
    }

    /// Notes that filters were shown something, and have written so many bytes.
    pub(super) fn spend(&mut self, bytes: usize) {
        self.effort += bytes.max(LEAST_EFFORT);
    }

    /// Sends bytes to the client, where these are the client's that are looked at.
    pub(super) fn tell(&mut self, bytes: Bytes) {
        self.written[Stream::Second as usize] += bytes.len();
        self.back.push(bytes);
    }

    /// What was to be told to the client goes its way where these are the server's bytes that are looked at.
    pub(super) fn tell_onward(&mut self) {
        for bytes in std::mem::take(&mut self.back) {
            self.script.insert(bytes);
        }
    }

    /// Whether bytes of this look are on their way to the other side.
    pub(super) fn lets_out(&self) -> bool {
        self.script.pieces.iter().any(|piece| !matches!(piece, Piece::Skip(_)))
    }

    pub(super) fn goes_on(&self) -> bool {
        self.end == End::Open
    }

    pub(super) fn want(&mut self, at: Instant) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    pub(super) fn context<'c>(&'c mut self, exchange: &'c mut Exchange) -> Context<'c> {
        Context { now: self.look.now, exchange, gateway: &mut *self.look.gateway, wake: &mut self.wake }
    }

    pub(super) fn outcome(self) -> Outcome {
        let Self { script, back, wake, again, wants_room, leaves, end, .. } = self;
        Outcome { pieces: script.pieces, back, wake, again, wants_room, leaves, end }
    }
}
