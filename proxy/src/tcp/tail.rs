//! Tail loss probes (RFC 8985 section 7): a loss at the end of a flight, where nothing follows that could be SACKed, is
//! found after two round trips and not only when the retransmission timer runs out. During recovery the same wait tells
//! that the last retransmissions were lost, behind which nothing follows either.
//!
//! Runs on: proxy cores. Allocates: never. Blocks: never.

use pnat_shared::frame::Frame;
use pnat_shared::time::{Duration, Instant};
use pnat_shared::wire::tcp::{Header, Seq};

use super::congestion::Congestion;
use super::recovery::Phase;
use super::send::{Sender, Slice};

/// How long a receiver may sit on the ACK of a single segment (WCDelAckT).
const ACK_DELAY: Duration = Duration::from_millis(200);
/// What timers here and there may be late by.
const SLACK: Duration = Duration::from_millis(2);

/// Where the probe of the present flight stands.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    /// None was sent.
    Idle,
    /// The timer runs for it.
    Armed,
    /// It is to be sent.
    Due,
    /// It was sent as `[left, right)`; `again`: with bytes that were sent before.
    Sent { left: Seq, right: Seq, again: bool },
}

impl<F: Frame> Sender<F> {
    /// How long to wait for an ACK before the probe, where one is in order. The timer is armed by this.
    pub(super) fn arm_tail(&mut self) -> Option<Duration> {
        if !matches!(self.tail, Tail::Idle | Tail::Armed) {
            return None;
        }
        self.tail = Tail::Idle;
        let quiet = match self.phase {
            Phase::Open => self.scoreboard.is_clean() && !self.probing && self.window > 0,
            Phase::Recovery { .. } => true,
            Phase::Timeout { .. } => false,
        };
        if !self.sack || !quiet || self.flight() == 0 {
            return None;
        }
        let single = self.flight() <= u32::from(self.mss);
        let wait = self.rtt()? * 2 + if single { ACK_DELAY } else { SLACK };
        if wait >= self.rto.current() {
            return None;
        }
        self.tail = Tail::Armed;
        Some(wait)
    }

    /// The timer has run out; answers whether it ran for a probe.
    pub(super) fn on_tail_timer(&mut self, now: Instant) -> bool {
        if self.tail != Tail::Armed {
            return false;
        }
        if self.phase == Phase::Open {
            self.tail = Tail::Due;
        } else {
            // Once per recovery: then it is up to the retransmission timer.
            self.tail = Tail::Sent { left: self.una, right: self.nxt, again: false };
            self.scoreboard.give_up_resent(now, self.rtt().unwrap_or(Duration::ZERO));
            self.force = true;
        }
        true
    }

    /// The probe: new data, or else the last segment once more; in either case whatever the congestion window says.
    pub(super) fn tail_probe(&self, max: u32) -> Option<Slice> {
        if self.tail != Tail::Due || self.flight() == 0 {
            return None;
        }
        let last = self.una.max(self.nxt - max.min(self.flight()));
        Some(self.fresh(max).unwrap_or_else(|| self.again((last, self.nxt), max)))
    }

    /// A slice has left while the probe was due.
    pub(super) fn on_tail_sent(&mut self, slice: Slice) {
        if self.tail == Tail::Due {
            self.tail = Tail::Sent { left: slice.seq, right: slice.end(), again: slice.again };
        }
    }

    /// What an ACK says of the probe that was sent.
    pub(super) fn judge_tail(&mut self, header: &Header, flight: u32, now: Instant) {
        if self.tail == Tail::Due {
            // The ACK came before the probe could leave.
            self.tail = Tail::Idle;
        }
        let Tail::Sent { left, right, again } = self.tail else { return };
        if self.una.before(right) {
            // It has arrived, and all that was sent two round trips before it has not.
            if self.una.before(left) && self.scoreboard.is_sacked(left) {
                self.scoreboard.mark_lost(self.una, left);
            }
            return;
        }
        self.tail = Tail::Idle;
        let block = header.options.sack.as_slice().first();
        let duplicate = block.is_some_and(|(_, right)| !right.after(header.ack));
        // The probe has itself repaired a loss, which tells of congestion all the same; a D-SACK (RFC 2883) says that it
        // was not needed.
        if again && !duplicate && self.phase == Phase::Open {
            self.congestion.on_loss(flight, now);
        }
    }
}
