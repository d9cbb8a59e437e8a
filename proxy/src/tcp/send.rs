//! The sending half: what may be sent next, cut into segments.
//!
//! Runs on: proxy cores. Allocates: where no memory was lent, or a queue outgrows it (`lent`). Blocks: never.

use pnat_shared::config::CongestionControl;
use pnat_shared::frame::Frame;
use pnat_shared::time::{Duration, Instant};
use pnat_shared::wire::tcp::Seq;

use super::congestion::{Algorithm, Congestion, Start};
use super::ecn::Ecn;
use super::loss::Loss;
use super::newreno::NewReno;
use super::pacing::Pacer;
use super::queue::SendQueue;
use super::rate::Sampler;
use super::records::Records;
use super::recovery::Phase;
use super::rto::Rto;
use super::sizing;
use super::tail::Tail;
use super::undo::Frto;
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
    /// How everything between SND.UNA and SND.NXT was sent first.
    pub(super) records: Records,
    /// `None` until something is lost, or comes out of order.
    pub(super) loss: Option<Box<Loss>>,
    pub(super) phase: Phase,
    /// Without SACK: duplicate ACKs that stand for segments that have arrived.
    pub(super) dup_acks: u32,
    /// The first retransmission after a timeout goes out whatever the window says.
    pub(super) force: bool,
    pub(super) rto: Rto,
    pub(super) congestion: Algorithm,
    pub(super) ecn: Ecn,
    pub(super) sampler: Sampler,
    /// SND.NXT when the last round trip was measured.
    pub(super) measured: Seq,
    /// A window probe is to be sent.
    pub(super) probe: bool,
    /// All that is in flight is a probe, beyond the peer's window.
    pub(super) probing: bool,
    /// The congestion window, not the application or the peer, ended the last round of sending.
    pub(super) limited: bool,
    /// Pacing holds back what could be sent.
    held: bool,
    pub(super) tail: Tail,
    /// A round trip was measured since the last tail loss probe.
    pub(super) tail_measured: bool,
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
            records: Records::default(),
            loss: None,
            phase: Phase::Open,
            dup_acks: 0,
            force: false,
            rto: Rto::new(),
            congestion: Algorithm::NewReno(NewReno::new(u32::from(DEFAULT_MSS))),
            ecn: Ecn::default(),
            sampler: Sampler::default(),
            measured: iss,
            probe: false,
            probing: false,
            limited: false,
            held: false,
            tail: Tail::Idle,
            tail_measured: true,
            unanswered: Instant::FAR,
            last_sent: Instant::ZERO,
        }
    }

    /// Data may be sent from now on: `syns` SYNs were needed to get here.
    pub(super) fn start(&mut self, control: CongestionControl, now: Instant, syns: u32) {
        self.una = self.nxt;
        self.unanswered = Instant::FAR;
        self.last_sent = now;
        self.records.restart(self.una);
        self.measured = self.una;
        if syns > 1 {
            self.rto.after_lost_syn();
        }
        let start = Start {
            mss: u32::from(self.mss),
            sack: self.sack,
            srtt: self.rto.smoothed(),
            nxt: self.nxt,
            now,
        };
        self.congestion = Algorithm::new(control, &start);
        self.sampler = if self.congestion.takes_samples() { Sampler::counting() } else { Sampler::default() };
        if syns > 2 {
            self.congestion.start_small();
        }
    }

    #[inline]
    pub(super) fn push(&mut self, chunk: Chunk<F>) {
        if !self.fin {
            self.queue.push(chunk);
        }
    }

    pub(super) fn flight(&self) -> u32 {
        self.nxt.0.wrapping_sub(self.una.0)
    }

    /// Bytes believed to be in the network (RFC 6675 section 4, SetPipe).
    pub(super) fn pipe(&self) -> u32 {
        let absent = self.loss.as_ref().map_or(0, |loss| loss.board.absent());
        // Without SACK, each duplicate ACK stands for a segment that has left the network (RFC 5681 section 3.2).
        let told = if self.sack { 0 } else { self.dup_acks * u32::from(self.mss) };
        self.records.flight().saturating_sub(absent + told)
    }

    /// Most bytes in the network now.
    fn allowance(&self) -> u32 {
        let prr = self.loss.as_ref().and_then(|loss| loss.prr);
        prr.map_or_else(|| self.congestion.window(), |prr| prr.window())
    }

    /// Whether nothing in flight is known to be lost, SACKed or sent again.
    pub(super) fn is_clean(&self) -> bool {
        self.loss.as_ref().is_none_or(|loss| loss.board.is_clean())
    }

    /// The sequence number behind everything that was asked to be sent, FIN included.
    pub(super) fn limit(&self) -> Seq {
        self.queue.end() + u32::from(self.fin)
    }

    pub(super) fn is_fin_acked(&self) -> bool {
        self.fin && self.una == self.limit()
    }

    /// The peer's right edge.
    pub(super) fn edge(&self) -> Seq {
        self.una + self.window
    }

    /// Whether [`Sender::next`] finds nothing, for the price of a few comparisons: so most visits find one of a pair's
    /// sockets. False wherever in doubt.
    #[inline]
    pub(super) fn is_quiet(&self) -> bool {
        self.nxt == self.limit() && self.tail != Tail::Due && !self.probe && self.is_clean()
    }

    /// There is nothing to send.
    #[inline]
    pub(super) fn rest(&mut self) {
        self.limited = false;
        self.held = false;
        if !self.congestion.takes_samples() {
            return;
        }
        let pipe = self.pipe();
        if pipe < self.allowance() {
            self.sampler.on_app_limited(pipe);
        }
    }

    /// What to send next in a segment with room for `max` bytes; the same answer until [`Sender::sent`].
    pub(super) fn next(&mut self, max: u32) -> Option<Slice> {
        if let Some(slice) = self.tail_probe(max) {
            return Some(slice);
        }
        let room = self.allowance().saturating_sub(self.pipe());
        let loss = self.loss.as_ref().filter(|loss| loss.frto != Frto::Second);
        if let Some(hole) = loss.and_then(|loss| loss.board.next_lost(max)) {
            let slice = self.again(hole, max);
            // Where the peer has taken room back, only a timer asks for it (RFC 9293 section 3.8.6.1).
            let has_room = self.force || slice.seq.before(self.edge());
            // Nothing new goes before what is missing.
            let may = self.force || slice.len <= room;
            self.limited = has_room && !may;
            return (has_room && may).then_some(slice);
        }
        let slice = self.fresh(max);
        let may = slice.is_some_and(|slice| slice.len <= room || self.probe || self.pipe() == 0);
        self.limited = slice.is_some() && !may;
        if self.nxt == self.limit() {
            self.rest();
        }
        slice.filter(|_| may)
    }

    /// What pacing makes of what is to be sent next: nothing for now, where its time has not come. Probes and what a timeout
    /// sends do not wait.
    pub(super) fn pace(&mut self, next: Option<Slice>, now: Instant) -> Option<Slice> {
        let urgent = self.force || self.probe || self.tail == Tail::Due;
        let is_open = urgent || self.congestion.pacer().is_none_or(|pacer| pacer.is_open(now));
        self.held = next.is_some() && !is_open;
        next.filter(|_| is_open)
    }

    /// When pacing lets something go that it holds back; [`Instant::FAR`] where it holds nothing.
    pub(super) fn release_at(&self) -> Instant {
        if !self.held {
            return Instant::FAR;
        }
        self.congestion.pacer().map_or(Instant::FAR, Pacer::release)
    }

    /// The time of what was held back may have come.
    pub(super) const fn release_held(&mut self) {
        self.held = false;
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
        let len = slice.end().0.wrapping_sub(slice.seq.0);
        let pipe = self.pipe();
        let tx = self.sampler.stamp(len, pipe, now);
        self.on_tail_sent(slice);
        if let Some(pacer) = self.congestion.pacer_mut() {
            pacer.sent(slice.len, now);
        }
        if slice.again {
            self.force = false;
            // Beyond the window it only asks for room, and is hardly kept: it stays lost.
            if slice.seq.before(self.edge()) {
                let loss = self.loss.get_or_insert_default();
                loss.board.on_resent(self.una, slice.seq, slice.end(), tx);
                loss.undo.on_resent(len, now);
            }
        } else {
            self.congestion.on_sent(pipe, now);
            self.nxt = slice.end();
            self.records.push(self.nxt, tx);
            self.probing = self.nxt.after(self.edge()) && slice.seq == self.una;
            self.probe = false;
        }
        if let Some(prr) = self.loss.as_mut().and_then(|loss| loss.prr.as_mut()) {
            prr.on_sent(len);
        }
        self.on_sent(now);
    }

    /// Something has left.
    pub(super) fn on_sent(&mut self, now: Instant) {
        self.last_sent = now;
        if self.unanswered == Instant::FAR {
            self.unanswered = now;
        }
    }

    /// Before new data follows a pause.
    pub(super) fn check_idle(&mut self, now: Instant) {
        if self.flight() == 0 && now > self.last_sent.plus_nanos(self.rto.current_nanos()) {
            self.congestion.on_idle(now);
        }
    }

    /// Whether something waits that only a larger window of the peer lets go.
    pub(super) fn is_shut(&self) -> bool {
        self.flight() == 0 && self.nxt != self.limit() && !self.probe
    }

    /// Whether the peer's window, open as it is, is not worth what waits.
    pub(super) fn is_narrow(&self) -> bool {
        self.window > 0 && self.is_shut()
    }

    /// An ICMP message says that packets of this size did not pass (RFC 1191). Answers whether segments get smaller.
    pub(super) fn shrink_mss(&mut self, seq: Seq, mss: u16) -> bool {
        let in_flight = !seq.before(self.una) && seq.before(self.nxt);
        if !in_flight || mss >= self.mss {
            return false;
        }
        self.set_mss(mss);
        // What is in flight was too long and is gone; that is no sign of congestion.
        self.loss.get_or_insert_default().board.lose_all(&self.records);
        if !matches!(self.phase, Phase::Timeout { .. }) {
            self.begin_recovery();
        }
        true
    }

    /// Segments are of this size from now on.
    pub(super) fn set_mss(&mut self, mss: u16) {
        self.mss = mss.max(MIN_MSS);
        self.congestion.set_mss(u32::from(self.mss));
    }

    /// How many bytes it is of use to have in the queue.
    pub(super) fn appetite(&self) -> u32 {
        let may_fly = self.congestion.window().min(self.window.max(self.flight()));
        may_fly.saturating_mul(2).saturating_add(sizing::INITIAL)
    }

    /// Smoothed round-trip time.
    pub(super) fn rtt(&self) -> Option<Duration> {
        self.rto.smoothed()
    }

    pub(super) fn clear(&mut self) {
        self.queue.clear();
        self.records.restart(self.una);
        self.loss = None;
        self.unanswered = Instant::FAR;
    }

    /// Reads something of every cache line; what, means nothing.
    #[inline]
    pub(super) const fn warm(&self) -> u64 {
        let kind = self.congestion.takes_samples() as u32;
        let words = self.ecn.warm() ^ kind ^ self.queue.len() ^ self.una.0 ^ self.measured.0;
        words as u64 ^ self.rto.warm() ^ self.unanswered.as_nanos()
    }

    /// Gives unused memory back.
    pub(super) fn shrink(&mut self) {
        self.queue.shrink();
        self.records.shrink();
        self.loss.take_if(|loss| loss.is_spent());
    }
}
