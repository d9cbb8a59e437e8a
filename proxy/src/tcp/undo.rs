//! Whether a recovery was needed: Eifel (RFC 3522), F-RTO (RFC 5682), D-SACK (RFC 3708).
//!
//! Runs on: proxy cores. Allocates: never. Blocks: never.

use pnat_shared::time::Instant;
use pnat_shared::wire::tcp::Seq;

/// What the present recovery, or the last one, would be taken back by.
#[derive(Debug)]
pub(super) struct Undo {
    /// SND.UNA when it began; `None`: nothing is to be taken back.
    marker: Option<Seq>,
    /// When it sent something again for the first time; [`Instant::FAR`] before.
    first_resent: Instant,
    /// Bytes that it sent again, and those of them that came twice.
    resent: u32,
    repeated: u32,
    /// SND.NXT when it was over: reports come within a round trip.
    over: Option<Seq>,
}

/// Where the judgment of a timeout stands (RFC 5682 section 3.1).
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Frto {
    #[default]
    Off,
    /// The first segment was sent again.
    First,
    /// Something was acknowledged since; new data is sent before anything else that was given up.
    Second,
}

impl Default for Undo {
    fn default() -> Self {
        Self { marker: None, first_resent: Instant::FAR, resent: 0, repeated: 0, over: None }
    }
}

impl Undo {
    /// A recovery begins, while `resent` bytes are on their way again already.
    pub(super) fn begin(&mut self, una: Seq, resent: u32) {
        *self = Self { marker: Some(una), resent, ..Self::default() };
    }

    /// It is over, while SND.NXT was `nxt`; only reports of duplicates can still take it back.
    pub(super) const fn close(&mut self, nxt: Seq) {
        self.over = Some(nxt);
    }

    pub(super) fn expire(&mut self, una: Seq) {
        if self.over.is_some_and(|over| una.after(over)) {
            *self = Self::default();
        }
    }

    /// There is nothing to be taken back any more.
    pub(super) fn end(&mut self) {
        *self = Self::default();
    }

    pub(super) fn on_resent(&mut self, len: u32, now: Instant) {
        self.first_resent = self.first_resent.min(now);
        self.resent = self.resent.saturating_add(len);
    }

    /// RFC 3522: the first ACK that advances SND.UNA, from `una`, answers a segment that left before anything was sent
    /// again, at `echoed` or before. Or nothing was sent again at all, and what was believed lost has come
    /// (`unrepaired`).
    pub(super) fn is_refuted(&self, una: Seq, echoed: Option<Instant>, unrepaired: bool) -> bool {
        let needless = if self.first_resent == Instant::FAR {
            unrepaired
        } else {
            echoed.is_some_and(|at| at < self.first_resent)
        };
        self.marker == Some(una) && self.over.is_none() && needless
    }

    /// Whether the present recovery, or one that was over a round trip ago, can have sent something from `left` on again.
    pub(super) fn is_open(&self, left: Seq) -> bool {
        self.resent > 0 && self.marker.is_some_and(|marker| !left.before(marker))
    }

    /// `[left, right)`, which it sent again, came twice (RFC 2883). Answers whether that goes for all that it sent again.
    pub(super) const fn on_duplicate(&mut self, left: Seq, right: Seq) -> bool {
        self.repeated = self.repeated.saturating_add(right.0.wrapping_sub(left.0));
        self.repeated >= self.resent
    }
}
