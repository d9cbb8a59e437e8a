//! Explicit congestion notification (RFC 3168): routers mark segments of hosts that ask for it, instead of losing them.
//!
//! ```text
//!   a segment arrives marked --> ECE on every ACK ------------------.   (the receiver's half)
//!   CWR arrives               <-- CWR on the next new data <-- ECE arrives: the window is reduced,
//!                                                              once per round trip     (the sender's half)
//! ```
//!
//! Runs on: proxy cores. Allocates: never. Blocks: never.

use pnat_shared::frame::Frame;
use pnat_shared::time::Instant;
use pnat_shared::wire::tcp::{Flags, Header, Seq};

use super::congestion::Congestion;
use super::endpoint::Endpoint;
use super::recovery::Phase;
use super::send::{Sender, Slice};

/// Both flags: what a SYN asks for ECN with.
const ASKS: Flags = Flags(Flags::ECE.0 | Flags::CWR.0);

/// What one connection knows.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Ecn {
    /// Both SYNs have asked for it.
    is_on: bool,
    /// A mark has come, and no word yet that the peer has slowed down.
    echo: bool,
    /// The window was reduced: the next new data says so.
    reduced: bool,
    /// Marks on what was sent before this were answered by the last reduction.
    answered: Seq,
}

/// Whether a peer's SYN, or its SYN-ACK, asks for ECN. Some hosts send all that they get back: an answer with both flags asks
/// for nothing (section 6.1.1).
pub(super) const fn is_asked_for(syn: &Header) -> bool {
    let asks = if syn.flags.has(Flags::ACK) { Flags::ECE } else { ASKS };
    syn.flags.0 & ASKS.0 == asks.0
}

/// The flags by which our SYN, or our SYN-ACK (`answers`), asks for ECN.
pub(super) const fn request(answers: bool) -> Flags {
    if answers { Flags::ECE } else { ASKS }
}

impl Ecn {
    pub(super) const fn agree(&mut self, is_on: bool) {
        self.is_on = is_on;
    }

    /// Reads it; what, means nothing.
    pub(super) const fn warm(&self) -> u32 {
        self.answered.0
    }

    /// What every segment with an ACK says.
    pub(super) const fn echo(&self) -> Flags {
        if self.echo { Flags::ECE } else { Flags(0) }
    }

    /// The window was reduced, for whatever reason, while `nxt` was SND.NXT (section 6.1.2).
    pub(super) const fn on_reduced(&mut self, nxt: Seq) {
        self.reduced = self.is_on;
        self.answered = nxt;
    }

    /// Whether an ACK reports a mark.
    #[inline]
    pub(super) const fn is_told(&self, header: &Header) -> bool {
        self.is_on && header.flags.has(Flags::ECE)
    }

    /// What is said by a segment of new data, if it may be marked; answers `None` where it may not.
    pub(super) fn stamp(&mut self) -> Option<Flags> {
        let reduced = std::mem::take(&mut self.reduced);
        self.is_on.then_some(if reduced { Flags::CWR } else { Flags(0) })
    }
}

impl<F: Frame> Endpoint<F> {
    /// The segment that was taken in last had come marked (CE). Does nothing where the connection does without ECN. To be
    /// called for segments with text only: what else is marked was not ours to be marked.
    pub fn on_mark(&mut self) {
        self.send.ecn.echo = self.send.ecn.is_on;
    }

    /// What the sender of an acceptable segment says of its window.
    pub(super) const fn heed_reduction(&mut self, header: &Header) {
        if header.flags.has(Flags::CWR) {
            self.send.ecn.echo = false;
        }
    }
}

impl<F: Frame> Sender<F> {
    /// Answers whether an ACK reports a mark, and reduces the window where none of this round trip was answered yet. Recovery
    /// has reduced it already.
    pub(super) fn heed_mark(&mut self, header: &Header, flight: u32, now: Instant) -> bool {
        if !self.ecn.is_told(header) {
            return false;
        }
        if self.phase == Phase::Open && self.una.after(self.ecn.answered) {
            self.congestion.on_loss(flight, now);
            self.ecn.on_reduced(self.nxt);
            if let Some(loss) = &mut self.loss {
                // A router's word is not taken back.
                loss.undo.end();
            }
        }
        true
    }

    /// Whether a slice may be marked: new data within the window only (sections 6.1.4 to 6.1.6).
    pub(super) const fn may_be_marked(&self, slice: &Slice) -> bool {
        !slice.again && slice.len > 0 && !self.probe
    }
}
