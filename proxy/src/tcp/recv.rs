//! The receiving half: delivery in order, the window it advertises, and when it acknowledges.
//!
//! Runs on: proxy cores. Allocates: where no memory was lent, or a queue outgrows it (`lent`). Blocks: never.

use pnat_shared::frame::Frame;
use pnat_shared::time::{Duration, Instant};
use pnat_shared::verdict::DropReason;
use pnat_shared::wire::tcp::{SackBlocks, Seq};

use super::lent::{Lent, Spare};
use super::reassembly::Reassembly;
use super::sizing::Sizing;
use crate::chunk::Chunk;

/// How long an ACK may wait for company: what Linux does at least; RFC 9293 section 3.8.6.3 allows 500 ms.
pub(super) const ACK_DELAY: Duration = Duration::from_millis(40);

/// Options that a full segment may carry in place of text: timestamps.
const FULL_BUT: u32 = 12;

/// What acknowledgment is owed.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Owed {
    Nothing,
    /// One segment came: the timer will send it, if no other segment does before.
    Soon,
    Now,
}

/// How a segment lies to the window (RFC 9293 section 3.10.7.4, first check).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    Acceptable,
    /// All of it came before.
    Old,
    /// It begins behind the window.
    Beyond,
}

/// Bytes of this leg that wait further down: in the chain, and in the other socket's queue.
#[derive(Copy, Clone, Debug)]
struct Downstream {
    waiting: u32,
    /// How many may wait there to good purpose: more only delay each other. `None`: nobody said.
    useful: Option<u32>,
    /// How many may wait in the whole pair, as memory is now.
    most: u32,
}

#[derive(Debug)]
pub(super) struct Receiver<F> {
    /// RCV.NXT.
    pub(super) nxt: Seq,
    /// The window's right edge: never moves left. What is advertised lies up to one unit of the scale further.
    right: Seq,
    /// Right edge as the last segment sent said it.
    told: Seq,
    /// RCV.NXT as the last segment sent said it ("Last.ACK.sent" of RFC 7323).
    pub(super) told_nxt: Seq,
    sizing: Sizing,
    pub(super) shift: u8,
    /// The MSS that we advertised.
    mss: u32,
    ready: Lent<Chunk<F>>,
    ready_bytes: usize,
    downstream: Downstream,
    reassembly: Reassembly<F>,
    /// Where the peer's FIN stands, once it was seen.
    fin: Option<Seq>,
    /// The FIN was reached: nothing more will come.
    pub(super) finished: bool,
    pub(super) owed: Owed,
    /// Some text has come.
    begun: bool,
    /// Full segments that are still acknowledged at once.
    quick: u8,
    /// What came last although it had come before: the next ACK says so (D-SACK, RFC 2883), and the peer can undo what it
    /// did about a loss that was none.
    duplicate: Option<(Seq, Seq)>,
}

impl<F: Frame> Receiver<F> {
    /// Before the peer's SYN: sequence numbers mean nothing yet.
    pub(super) fn new(window: u32, quick: u8) -> Self {
        Self {
            nxt: Seq(0),
            right: Seq(0),
            told: Seq(0),
            told_nxt: Seq(0),
            sizing: Sizing::new(window),
            shift: 0,
            mss: 536,
            ready: Lent::new(),
            ready_bytes: 0,
            downstream: Downstream { waiting: 0, useful: None, most: u32::MAX },
            reassembly: Reassembly::new(),
            fin: None,
            finished: false,
            owed: Owed::Nothing,
            begun: false,
            quick,
            duplicate: None,
        }
    }

    /// The peer's SYN has come with this sequence number.
    pub(super) fn start(&mut self, irs: Seq) {
        self.nxt = irs + 1;
        self.told_nxt = self.nxt;
        self.right = self.nxt;
        self.told = self.nxt;
    }

    /// What was agreed: our shift (0 without scaling) and the MSS that we advertised.
    pub(super) fn agree(&mut self, window: u32, shift: u8, mss: u16) {
        self.shift = shift;
        self.mss = u32::from(mss);
        let unit = 1 << shift;
        self.sizing = Sizing::new(window.min(0xffff << shift).max(unit) / unit * unit);
    }

    /// A SYN-ACK that was sent in our name told this window.
    pub(super) fn honor(&mut self, window: u16) {
        self.right = self.right.max(self.nxt + u32::from(window));
        self.told = self.told.max(self.right);
    }

    /// The window field of the segment that is sent now; in SYN segments it is not scaled.
    pub(super) fn advertise(&mut self, syn: bool) -> u16 {
        let shift = if syn { 0 } else { self.shift };
        let granted = self.candidate();
        if granted.distance(self.right) >= self.worthwhile() as i32 {
            self.right = granted;
        }
        // Text may have been taken up to the rounded edge.
        self.right = self.right.max(self.nxt);
        if syn {
            self.right = self.right.min(self.nxt + 0xffff);
        }
        // Rounded up, so that the edge that the peer sees never lies before one that it has seen.
        let window = self.right.0.wrapping_sub(self.nxt.0).div_ceil(1 << shift).min(0xffff);
        // What it was promised once is taken, even where rounding now says a little less.
        self.told = self.told.max(self.nxt + (window << shift));
        self.told_nxt = self.nxt;
        self.owed = Owed::Nothing;
        self.duplicate = None;
        window as u16
    }

    /// Most bytes between the peer's window and the other socket's queue. Under shortage of memory it shrinks, and with it
    /// the window, but only by what is not granted anew.
    fn capacity(&self) -> u32 {
        let Downstream { waiting, useful, most } = self.downstream;
        let size = match useful {
            Some(useful) if waiting > useful => useful,
            Some(useful) => useful.max(self.sizing.size()),
            None => self.sizing.size(),
        };
        size.min(self.sizing.most()).min(most)
    }

    /// Bytes in order that have not moved on.
    fn held(&self) -> u32 {
        u32::try_from(self.ready_bytes).unwrap_or(u32::MAX).saturating_add(self.downstream.waiting)
    }

    /// The right edge that need and free memory allow.
    fn candidate(&self) -> Seq {
        // Bytes out of order lie inside the window and need no place of their own.
        self.nxt + self.capacity().saturating_sub(self.held())
    }

    /// The smallest step of the right edge: no silly windows (RFC 9293 section 3.8.6.2.2).
    fn worthwhile(&self) -> u32 {
        self.mss.min(self.sizing.size() / 2).max(1)
    }

    /// Whether the window has opened so far that the peer should hear of it without asking.
    #[inline]
    pub(super) fn is_update_due(&self) -> bool {
        // The first scaled window, larger than the SYN could say, is no news before the peer has used the first.
        self.begun && !self.finished && self.is_news()
    }

    fn is_news(&self) -> bool {
        let step = self.candidate().distance(self.told).max(0) as u32;
        let left = self.told.distance(self.nxt).max(0) as u32;
        let size = self.sizing.size();
        let enough = if left == 0 { self.worthwhile() } else { (2 * self.mss).min(size / 2).max(1) };
        // A peer that has plenty left needs no news; the next ACK will tell.
        let needed = left <= size / 4 || step >= size / 4;
        step >= enough && needed
    }

    pub(super) fn fit(&self, seq: Seq, len: u32) -> Fit {
        let end = seq + len;
        // The edge that the peer was told may lie up to one unit beyond `right`.
        let edge = self.right.max(self.told);
        // RFC 9293: with a window of zero, ACKs and RSTs are still taken; so is the rest of a window probe, for its ACK.
        if seq == self.nxt
            || (!seq.before(self.nxt) && seq.before(edge))
            || (seq.before(self.nxt) && end.after(self.nxt))
        {
            Fit::Acceptable
        } else if seq.before(self.nxt) {
            Fit::Old
        } else {
            Fit::Beyond
        }
    }

    /// Takes in the text of an acceptable segment. Answers whether the peer's FIN was reached.
    pub(super) fn take(&mut self, mut seq: Seq, mut text: Chunk<F>, fin: bool) -> Result<bool, DropReason> {
        let had_gap = self.has_gap() || self.fin.is_some();
        let edge = self.right.max(self.told);
        let before = self.nxt.distance(seq).max(0) as usize;
        self.note_duplicate(seq, text.len() as u32);
        let mut fin_at = fin.then(|| seq + text.len() as u32);
        text.advance(before);
        seq += before as u32;
        let room = edge.distance(seq).max(0) as usize;
        let mut cut = false;
        if text.len() > room {
            text.truncate(room);
            fin_at = None;
            cut = true;
        }
        self.note_fin(fin_at);
        if let Some(fin) = self.fin {
            text.truncate(fin.distance(seq).max(0) as usize);
        }
        let in_order = seq == self.nxt;
        let mut outcome = Ok(());
        if !text.is_empty() {
            if in_order && self.reassembly.is_empty() {
                self.deliver(text);
            } else {
                // What fills the gap is always let in: it leaves at once, and takes what waited along.
                let limit = if in_order { usize::MAX } else { self.piece_limit() };
                outcome = self.reassembly.insert(seq, text, limit);
                while let Some(chunk) = self.reassembly.pop(self.nxt) {
                    self.deliver(chunk);
                }
            }
        }
        let reached = self.fin == Some(self.nxt) && !self.finished;
        if reached {
            self.nxt += 1;
            self.finished = true;
        }
        // RFC 5681 section 4.2: at once where something is missing or was filled in; else every second segment.
        let at_once = had_gap || !in_order || reached || cut || self.owed != Owed::Nothing;
        self.owed = if at_once { Owed::Now } else { Owed::Soon };
        outcome.map(|()| reached)
    }

    /// Whether text at `seq` is the next one, all of it within the window, with nothing out of order behind it.
    #[inline]
    pub(super) fn is_next(&self, seq: Seq, len: usize) -> bool {
        seq == self.nxt
            && len > 0
            && len <= self.right.max(self.told).distance(seq).max(0) as usize
            && self.reassembly.is_empty()
            && self.fin.is_none()
    }

    /// Takes in texts that [`Receiver::is_next`], one or more segments'. Answers the last one's number.
    #[inline]
    pub(super) fn append(&mut self, texts: impl Iterator<Item = Chunk<F>>) -> Seq {
        let mut last = self.nxt;
        for text in texts {
            last = self.nxt;
            self.deliver(text);
            self.owed = if self.owed == Owed::Nothing { Owed::Soon } else { Owed::Now };
        }
        last
    }

    /// The first FIN decides where the stream ends, unless bytes were seen beyond.
    fn note_fin(&mut self, fin: Option<Seq>) {
        let Some(fin) = fin else { return };
        let seen = self.reassembly.end().unwrap_or(self.nxt).max(self.nxt);
        if self.fin.is_none() && !fin.before(seen) {
            self.fin = Some(fin);
        }
    }

    #[inline]
    fn deliver(&mut self, chunk: Chunk<F>) {
        let len = chunk.len();
        self.nxt += len as u32;
        self.ready_bytes += len;
        self.begun = true;
        if self.quick > 0 && len as u32 + FULL_BUT >= self.mss {
            self.quick -= 1;
            self.owed = Owed::Now;
        }
        if chunk.is_dense() {
            self.ready.push_back(chunk);
        } else if let Some(chunk) = Chunk::gather(self.ready.back_mut(), chunk) {
            self.ready.push_back(chunk);
        }
    }

    /// Most pieces out of order: four times what full segments would need, so small segments cost a bounded multiple.
    fn piece_limit(&self) -> usize {
        64 + 4 * self.sizing.most() as usize / self.mss.max(512) as usize
    }

    #[inline]
    pub(super) fn next(&mut self) -> Option<Chunk<F>> {
        let chunk = self.ready.pop_front()?;
        self.ready_bytes -= chunk.len();
        Some(chunk)
    }

    /// As [`Receiver::next`], but at most so many bytes.
    pub(super) fn next_of(&mut self, most: usize) -> Option<Chunk<F>> {
        let mut chunk = self.ready.pop_front()?;
        if chunk.len() > most {
            self.ready.push_front(chunk.copy_from(most));
            chunk.truncate(most);
        }
        self.ready_bytes -= chunk.len();
        Some(chunk)
    }

    /// Number of the next byte that [`Receiver::next`] answers.
    pub(super) fn unread(&self) -> Seq {
        self.nxt - self.ready_bytes as u32 - u32::from(self.finished)
    }

    pub(super) fn is_drained(&self) -> bool {
        self.ready.is_empty()
    }

    pub(super) fn set_downstream(&mut self, bytes: usize) {
        self.downstream.waiting = u32::try_from(bytes).unwrap_or(u32::MAX);
    }

    pub(super) fn limit_downstream(&mut self, useful: usize, most: usize) {
        self.downstream.useful = Some(u32::try_from(useful).unwrap_or(u32::MAX));
        self.downstream.most = u32::try_from(most).unwrap_or(u32::MAX);
    }

    /// Text has come: sees to the window's size. `rtt` is what the segment's timestamps measured, in microseconds, 0 for
    /// nothing, and `known` the round-trip time as the sending half knows it.
    #[inline]
    pub(super) fn resize(&mut self, rtt: u32, known: impl FnOnce() -> Option<Duration>, now: Instant) {
        let moved = Seq(self.nxt.0.wrapping_sub(self.held()));
        let Downstream { waiting, useful, .. } = self.downstream;
        let crowded = useful.is_some_and(|useful| waiting > useful);
        self.sizing.on_text(moved, self.mss, rtt, known, crowded, now);
    }

    /// A segment's timestamps have measured a round trip.
    #[inline]
    pub(super) fn measure(&mut self, rtt: u32) {
        self.sizing.measure(rtt);
    }

    /// Text came at `seq`: what of it lies before the next expected byte is a duplicate.
    pub(super) fn note_duplicate(&mut self, seq: Seq, len: u32) {
        let end = (seq + len).min(self.nxt);
        if end.after(seq) {
            self.duplicate = Some((seq, end));
        }
    }

    /// Something is missing before what has come.
    pub(super) fn has_gap(&self) -> bool {
        !self.reassembly.is_empty()
    }

    pub(super) fn has_blocks(&self) -> bool {
        self.duplicate.is_some() || self.has_gap()
    }

    /// What the next ACK says about segments out of order and come twice.
    pub(super) fn sack_blocks(&self) -> SackBlocks {
        let runs = self.reassembly.sack_blocks();
        let Some((left, right)) = self.duplicate else { return runs };
        let mut blocks = SackBlocks::default();
        blocks.push(left, right);
        for (left, right) in runs.as_slice() {
            blocks.push(*left, *right);
        }
        blocks
    }

    /// A segment goes out that carries our ACK: when must the timer run?
    pub(super) fn ack_deadline(&self, now: Instant, running: Instant) -> Instant {
        match self.owed {
            Owed::Soon if running == Instant::FAR => now + ACK_DELAY,
            Owed::Soon => running,
            Owed::Nothing | Owed::Now => Instant::FAR,
        }
    }

    pub(super) fn chunks(&self) -> usize {
        self.ready.len() + self.reassembly.pieces()
    }

    /// Memory held, in bytes.
    pub(super) fn footprint(&self) -> usize {
        let ready: usize = self.ready.iter().map(Chunk::footprint).sum();
        ready + self.ready.capacity() * size_of::<Chunk<F>>() + self.reassembly.footprint()
    }

    pub(super) fn clear(&mut self) {
        self.ready.clear();
        self.ready_bytes = 0;
        self.reassembly.clear();
        self.owed = Owed::Nothing;
    }

    /// Whether it has memory for what comes out of order.
    #[inline]
    pub(super) const fn keeps_disorder(&self) -> bool {
        self.reassembly.has_memory()
    }

    /// Gives unused memory back.
    pub(super) fn shrink(&mut self) {
        self.ready.shrink();
        self.reassembly.shrink();
    }

    /// Reads something of every cache line; what, means nothing.
    #[inline]
    pub(super) const fn warm(&self) -> u64 {
        (self.downstream.waiting ^ self.told_nxt.0) as u64 ^ self.ready_bytes as u64
    }

    /// Takes memory that others gave back, where there is none.
    #[inline]
    pub(super) fn take_place(&mut self, spare: &mut Spare<Chunk<F>>) {
        self.ready.take_place(spare);
    }

    /// Gives the memory back where all in order has moved on. Answers as [`Receiver::chunks`].
    #[inline]
    pub(super) fn give_back(&mut self, spare: &mut Spare<Chunk<F>>) -> usize {
        self.ready.give_back(spare) + self.reassembly.pieces()
    }
}
