//! The sending half: what may be sent next, cut into segments.
//!
//! Runs on: proxy cores. Allocates: when queues are longer than ever before. Blocks: never.

use pnat_shared::frame::Frame;
use pnat_shared::time::{Duration, Instant};
use pnat_shared::wire::tcp::Seq;

use super::congestion::{Algorithm, Congestion};
use super::queue::SendQueue;
use super::recovery::Phase;
use super::rto::Rto;
use super::scoreboard::Scoreboard;
use super::tail::Tail;
use crate::chunk::Chunk;

/// Smallest MSS believed (Linux's `TCP_MIN_MSS`): with less, a peer could make us send floods of tiny segments, and
/// options would leave no room for data.
pub(super) const MIN_MSS: u16 = 88;

/// What a peer that offers no MSS is sent (RFC 9293 section 3.7.1).
pub(super) const DEFAULT_MSS: u16 = 536;

/// A piece of the send queue on its way into a segment.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Slice {
    pub(super) seq: Seq,
    /// Payload bytes.
    pub(super) len: u32,
    pub(super) fin: bool,
    pub(super) again: bool,
}

impl Slice {
    pub(super) fn end(&self) -> Seq {
        self.seq + self.len + u32::from(self.fin)
    }
}

#[derive(Debug)]
pub(super) struct Sender<F> {
    pub(super) queue: SendQueue<F>,
    /// SND.UNA and SND.NXT.
    pub(super) una: Seq,
    pub(super) nxt: Seq,
    /// SND.WND in bytes, and the segment that it came with (SND.WL1, SND.WL2).
    pub(super) window: u32,
    pub(super) wl1: Seq,
    pub(super) wl2: Seq,
    /// Largest window that the peer has offered.
    pub(super) max_window: u32,
    /// Shift of the peer's window field.
    pub(super) shift: u8,
    /// Payload of a segment without options.
    pub(super) mss: u16,
    /// The peer understands SACK.
    pub(super) sack: bool,
    /// FIN follows the queue's last byte.
    pub(super) fin: bool,
    pub(super) scoreboard: Scoreboard,
    pub(super) phase: Phase,
    pub(super) dup_acks: u32,
    /// The first retransmission of a recovery goes out whatever the window says.
    pub(super) force: bool,
    pub(super) rto: Rto,
    pub(super) congestion: Algorithm,
    /// End of a segment that was sent once, and when: the round trip being measured.
    pub(super) timed: Option<(Seq, Instant)>,
    /// A window probe is to be sent.
    pub(super) probe: bool,
    /// All that is in flight is a probe, beyond the peer's window.
    pub(super) probing: bool,
    /// The congestion window, not the application or the peer, ended the last round of sending.
    pub(super) limited: bool,
    pub(super) tail: Tail,
    /// Since when the peer owes an answer; [`Instant::FAR`] while it owes none.
    pub(super) unanswered: Instant,
    last_sent: Instant,
}

impl<F: Frame> Sender<F> {
    pub(super) fn new(iss: Seq) -> Self {
        Self {
            queue: SendQueue::new(iss + 1),
            una: iss,
            nxt: iss,
            window: 0,
            wl1: Seq(0),
            wl2: Seq(0),
            max_window: 0,
            shift: 0,
            mss: DEFAULT_MSS,
            sack: false,
            fin: false,
            scoreboard: Scoreboard::default(),
            phase: Phase::Open,
            dup_acks: 0,
            force: false,
            rto: Rto::new(),
            congestion: Algorithm::new(u32::from(DEFAULT_MSS)),
            timed: None,
            probe: false,
            probing: false,
            limited: false,
            tail: Tail::Idle,
            unanswered: Instant::FAR,
            last_sent: Instant::ZERO,
        }
    }

    /// Data may be sent from now on: `syns` SYNs were needed to get here.
    pub(super) fn start(&mut self, now: Instant, syns: u32) {
        self.una = self.nxt;
        self.unanswered = Instant::FAR;
        self.last_sent = now;
        self.scoreboard.advance(self.una, now);
        self.congestion = Algorithm::new(u32::from(self.mss));
        if syns > 1 {
            self.rto.after_lost_syn();
        }
        if syns > 2 {
            self.congestion.start_small();
        }
    }

    pub(super) fn push(&mut self, chunk: Chunk<F>) {
        if !self.fin {
            self.queue.push(chunk);
        }
    }

    pub(super) fn flight(&self) -> u32 {
        self.nxt.0.wrapping_sub(self.una.0)
    }

    /// Bytes believed to be in the network.
    pub(super) fn pipe(&self) -> u32 {
        let pipe = self.scoreboard.pipe(self.flight());
        // Without SACK, each duplicate ACK stands for a segment that has left the network (RFC 5681 section 3.2).
        if self.sack { pipe } else { pipe.saturating_sub(self.dup_acks.saturating_mul(u32::from(self.mss))) }
    }

    /// The sequence number behind everything that was asked to be sent, FIN included.
    pub(super) fn limit(&self) -> Seq {
        self.queue.end() + u32::from(self.fin)
    }

    pub(super) fn is_fin_acked(&self) -> bool {
        self.fin && self.una == self.limit()
    }

    /// The peer's right edge.
    fn edge(&self) -> Seq {
        self.una + self.window
    }

    /// Whether [`Sender::next`] finds nothing, for the price of a few comparisons: so most visits find one of a pair's
    /// sockets. False wherever in doubt.
    #[inline]
    pub(super) fn is_quiet(&self) -> bool {
        self.nxt == self.limit() && self.tail != Tail::Due && !self.probe && self.scoreboard.is_clean()
    }

    /// What to send next in a segment with room for `max` bytes; the same answer until [`Sender::sent`].
    pub(super) fn next(&mut self, max: u32) -> Option<Slice> {
        if let Some(slice) = self.tail_probe(max) {
            return Some(slice);
        }
        let room = self.congestion.window().saturating_sub(self.pipe());
        let hole = if self.scoreboard.is_clean() { None } else { self.scoreboard.next_lost() };
        if let Some(hole) = hole {
            let slice = self.again(hole, max);
            // Nothing new goes before what is missing.
            let may = self.force || slice.len <= room;
            self.limited = !may;
            return may.then_some(slice);
        }
        if let Some(slice) = self.fresh(max) {
            let may = slice.len <= room || self.probe || self.pipe() == 0;
            self.limited = !may;
            return may.then_some(slice);
        }
        self.limited = false;
        if matches!(self.phase, Phase::Recovery { .. }) && self.nxt == self.limit() && room >= max {
            let hole = self.scoreboard.next_doubtful()?;
            return Some(self.again(hole, max));
        }
        None
    }

    /// A segment from the hole's beginning.
    pub(super) fn again(&self, (left, right): (Seq, Seq), max: u32) -> Slice {
        // Even a window that was shut since leaves room for one byte, which then is a probe.
        let allowed = self.edge().distance(left).max(1) as u32;
        let data_end = self.queue.end();
        let len = right.min(data_end).distance(left).max(0) as u32;
        let len = len.min(max).min(allowed);
        Slice { seq: left, len, fin: right.after(data_end) && left + len == data_end, again: true }
    }

    /// The next segment of new data, where the peer's window allows one.
    pub(super) fn fresh(&self, max: u32) -> Option<Slice> {
        if self.nxt == self.limit() {
            return None;
        }
        let unsent = self.queue.end().distance(self.nxt).max(0) as u32;
        let usable = self.edge().distance(self.nxt).max(0) as u32;
        let want = unsent.min(max);
        let fits = want <= usable && (want > 0 || usable > 0);
        // Sender's silly window avoidance (RFC 9293 section 3.8.6.2.1), without Nagle: PNAT relays what others decided to
        // send. A segment that the window cuts short must be worth it.
        let worth = usable > 0 && (usable >= max || usable >= self.max_window / 2);
        let len = match (fits, worth, self.probe) {
            (true, _, _) => want,
            (false, true, _) => usable,
            (false, false, true) => want.min(usable.max(1)),
            (false, false, false) => return None,
        };
        let fin = self.fin && self.nxt + len == self.queue.end() && (len < usable || self.probe);
        (len > 0 || fin).then_some(Slice { seq: self.nxt, len, fin, again: false })
    }

    /// A slice has left.
    pub(super) fn sent(&mut self, slice: Slice, now: Instant) {
        self.on_tail_sent(slice);
        if slice.again {
            self.force = false;
            self.scoreboard.on_resent(slice.seq, slice.end(), self.nxt, now);
            // Karn: what was sent twice measures nothing (RFC 6298 section 3).
            if self.timed.is_some_and(|(end, _)| end.after(slice.seq)) {
                self.timed = None;
            }
        } else {
            self.congestion.on_sent(self.pipe(), now);
            self.nxt = slice.end();
            self.probing = self.nxt.after(self.edge()) && slice.seq == self.una;
            self.probe = false;
            if self.timed.is_none() && !self.probing {
                self.timed = Some((self.nxt, now));
            }
        }
        self.last_sent = now;
        if self.unanswered == Instant::FAR {
            self.unanswered = now;
        }
    }

    /// Before new data follows a pause.
    pub(super) fn check_idle(&mut self, now: Instant) {
        if self.flight() == 0 && now.since(self.last_sent) > self.rto.current() {
            self.congestion.on_idle(now);
        }
    }

    /// Whether something waits that only a larger window of the peer lets go.
    pub(super) fn is_shut(&self) -> bool {
        self.flight() == 0 && self.nxt != self.limit() && !self.probe
    }

    /// An ICMP message says that packets of this size did not pass (RFC 1191). Answers whether segments get smaller.
    pub(super) fn shrink_mss(&mut self, seq: Seq, mss: u16) -> bool {
        let in_flight = !seq.before(self.una) && seq.before(self.nxt);
        if !in_flight || mss >= self.mss {
            return false;
        }
        self.mss = mss.max(MIN_MSS);
        self.congestion.set_mss(u32::from(self.mss));
        // What is in flight was too long and is gone; that is no sign of congestion.
        self.scoreboard.mark_all_lost(self.una, self.nxt);
        self.recover();
        true
    }

    /// Smoothed round-trip time.
    pub(super) fn rtt(&self) -> Option<Duration> {
        self.rto.smoothed()
    }

    pub(super) fn clear(&mut self) {
        self.queue.clear();
        self.scoreboard = Scoreboard::default();
        self.unanswered = Instant::FAR;
    }

    /// Gives unused memory back.
    pub(super) fn shrink(&mut self) {
        self.queue.shrink();
        self.scoreboard.shrink();
    }
}
