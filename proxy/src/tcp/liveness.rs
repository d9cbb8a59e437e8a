//! Whether the peer is still there: keepalive probes, both ways (RFC 9293 section 3.8.4), and how long a shut window is borne.
//!
//! Runs on: proxy cores. Allocates: never. Blocks: never.
//!
//! A peer that answers window probes may keep its window shut for as long as it likes, says RFC 9293 section 3.8.6.1; to
//! lose patience is for whoever owns the memory (RFC 6429 section 3). A gateway owns it: what waits is bounded by the
//! other leg's window, and how long it waits by [`Settings::patience`](super::Settings::patience).

use pnat_shared::frame::Frame;
use pnat_shared::time::{Duration, Instant};
use pnat_shared::wire::tcp::{Flags, Header};

use super::endpoint::{Endpoint, Error, State};

/// Most keepalive probes without an answer.
const PROBES: u8 = 7;
/// Between two of them. All together they take less than the 4 minutes by which RFC 5382 REQ-5 has a translator wait
/// longer than the 2 hours of a default keepalive.
const PROBE_INTERVAL: Duration = Duration::from_secs(30);

impl<F: Frame> Endpoint<F> {
    /// The connection is open: from now on silence is noticed.
    pub(super) fn start_keepalive(&mut self, now: Instant) {
        let idle = self.settings.keepalive();
        if !idle.is_zero() {
            self.timers.keepalive = now + idle;
        }
    }

    /// The peer may have been silent for too long. A segment does not move this timer: it fires early and looks.
    pub(super) fn on_keepalive_timer(&mut self, now: Instant) {
        if !self.is_open() || self.state == State::TimeWait {
            return;
        }
        let idle = self.settings.keepalive();
        // What is not acknowledged is repeated, and a shut window probed: no need to ask.
        let is_asking = self.send.una != self.send.limit();
        let quiet_until = if is_asking { now + idle } else { self.heard + idle };
        if now < quiet_until {
            self.keepalives = 0;
            self.timers.keepalive = quiet_until;
        } else if self.keepalives < PROBES {
            self.keepalives += 1;
            self.keepalive_due = true;
            self.timers.keepalive = now + PROBE_INTERVAL.min(idle);
        } else {
            self.fail(Error::Dead);
        }
    }

    /// Whether a segment only asks whether we are there, or whether our window is still shut: it repeats the last number
    /// that we have, with no more than one byte of text.
    pub(super) fn is_question(&self, header: &Header, payload: usize, now: Instant) -> bool {
        let old = header.options.timestamps.is_some_and(|(value, _)| self.clock.is_old(value, false, now));
        let Flags(bits) = header.flags;
        bits & (Flags::SYN.0 | Flags::FIN.0 | Flags::RST.0 | Flags::ACK.0) == Flags::ACK.0
            && header.seq + 1 == self.recv.nxt
            && payload <= 1
            && self.is_open()
            && (0..=0xffff).contains(&self.send.nxt.distance(header.ack))
            && !old
    }

    /// It is answered, and shows that the peer is there.
    pub(super) fn answer_question(&mut self, header: &Header, payload: usize, now: Instant) {
        self.touch(now);
        self.recv.note_duplicate(header.seq, payload as u32);
        self.remember_repeated(header, now);
        self.acknowledge_stray(payload as u32, now);
    }

    /// Where something waits behind a window that is quite shut, its time runs.
    pub(super) fn start_patience(&mut self, now: Instant) {
        if self.timers.life == Instant::FAR && self.is_open() && self.is_stalled() {
            self.timers.life = now + self.settings.patience();
        }
    }

    /// The window is open, or nothing waits for it any more.
    pub(super) fn end_patience(&mut self) {
        if !self.is_stalled() && self.state != State::TimeWait {
            self.timers.life = Instant::FAR;
        }
    }

    /// The window is quite shut, and something waits for it: never sent, or in flight when the peer took room back.
    fn is_stalled(&self) -> bool {
        self.send.window == 0 && self.send.una != self.send.limit()
    }
}
