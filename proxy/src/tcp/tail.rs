//! Tail loss probes (RFC 8985 section 7): a loss at the end of a flight, where nothing follows that could be SACKed, is
//! found after two round trips and not only when the retransmission timer runs out. During recovery the same wait tells
//! that the last retransmissions were lost, behind which nothing follows either.
//!
//! Runs on: proxy cores. Allocates: never. Blocks: never.

use pnat_shared::frame::Frame;
use pnat_shared::time::{Duration, Instant};
use pnat_shared::wire::tcp::{Header, Seq};

use super::congestion::Congestion;
use super::news::News;
use super::recovery::Phase;
use super::send::{Sender, Slice};

/// How long a receiver may sit on the ACK of a single segment (WCDelAckT), in nanoseconds.
const ACK_DELAY: u64 = 200_000_000;
/// What timers here and there may be late by, in nanoseconds.
const SLACK: u64 = 2_000_000;

/// While there is no estimate of the round trip (section 7.2), in nanoseconds.
const WITHOUT_ESTIMATE: u64 = 1_000_000_000;

/// Where the probe of the present flight stands.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    /// None was sent.
    Idle,
    /// It is to be sent then.
    Armed(Instant),
    /// It is to be sent now.
    Due,
    /// It was sent while SND.NXT was `end`; `again`: with bytes that were sent before (TLP.end_seq, TLP.is_retrans).
    Sent { end: Seq, again: bool },
}

impl<F: Frame> Sender<F> {
    /// Plans the probe, where one is in order, for two round trips from now, but not after the `timeout`.
    pub(super) fn arm_tail(&mut self, timeout: Instant, now: Instant) {
        if !matches!(self.tail, Tail::Idle | Tail::Armed(_)) {
            return;
        }
        self.tail = Tail::Idle;
        let quiet = match self.phase {
            // A probe needs a round trip measured since the last one (section 7.3).
            Phase::Open => self.is_clean() && !self.probing && self.window > 0 && self.tail_measured,
            Phase::Recovery { .. } => true,
            Phase::Timeout { .. } => false,
        };
        if !self.sack || !quiet || self.flight() == 0 {
            return;
        }
        let single = self.flight() <= u32::from(self.mss);
        let round_trips = self.rto.smoothed_nanos().map_or(WITHOUT_ESTIMATE, |rtt| 2 * rtt);
        let due = now.plus_nanos(round_trips + if single { ACK_DELAY } else { SLACK });
        if self.phase == Phase::Open {
            self.tail = Tail::Armed(timeout.min(due));
        } else if due < timeout {
            self.tail = Tail::Armed(due);
        }
    }

    /// When it is to be sent; [`Instant::FAR`] while none is planned.
    pub(super) const fn tail_deadline(&self) -> Instant {
        if let Tail::Armed(at) = self.tail { at } else { Instant::FAR }
    }

    /// The timer has run out; answers whether it ran for a probe.
    pub(super) fn on_tail_timer(&mut self, now: Instant) -> bool {
        if self.tail_deadline() > now {
            return false;
        }
        if self.phase == Phase::Open {
            self.tail = Tail::Due;
        } else {
            // Once per recovery: then it is up to the retransmission timer.
            self.tail = Tail::Sent { end: self.nxt, again: false };
            let age = self.rtt().unwrap_or(Duration::ZERO);
            if let Some(loss) = &mut self.loss {
                loss.board.lose_again_until(now.back(age));
            }
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
            self.tail = Tail::Sent { end: self.nxt.max(slice.end()), again: slice.again };
            self.tail_measured = false;
        }
    }

    /// What an ACK says of the probe that was sent (section 7.4).
    pub(super) fn judge_tail(&mut self, header: &Header, news: &News) {
        if self.tail == Tail::Due {
            // The ACK came before the probe could leave.
            self.tail = Tail::Idle;
        }
        let Tail::Sent { end, again } = self.tail else { return };
        if self.una.before(end) {
            return;
        }
        if !again || news.repeated.is_some() {
            self.tail = Tail::Idle;
        } else if self.una.after(end) {
            // Nobody has reported that the probe came twice: it has itself repaired a loss, which tells of congestion all
            // the same. What was in flight then is not known any more, but the window is.
            self.tail = Tail::Idle;
            if self.phase == Phase::Open {
                self.congestion.on_loss(self.congestion.window(), news.now);
                self.ecn.on_reduced(self.nxt);
                self.congestion.on_recovered(news.now);
            }
        } else if news.bytes == 0 && header.options.sack.is_empty() {
            // A second ACK of the same number: both copies have come.
            self.tail = Tail::Idle;
        }
    }
}
