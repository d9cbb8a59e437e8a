//! What has become of the bytes in flight: SACKed, lost, sent again (RFC 6675).
//!
//! Runs on: proxy cores. Allocates: with the number of holes. Blocks: never.
//!
//! ```text
//!       una                     trusted                           nxt
//!        |--[lost]--[SACKed]--[resent]--in flight--[SACKed]--in flight--|
//! ```
//!
//! A byte is in at most one of three sets; one that is in none is in flight since it was first sent. First transmissions
//! are sent in order, so those that RACK finds late lie below those that it does not: each is judged once. An ACK costs
//! O(log n) and what it takes off the sets, whatever it says.

use std::collections::VecDeque;

use pnat_shared::time::{Duration, Instant};
use pnat_shared::wire::tcp::Seq;

use super::news::{Arrival, News};
use super::rack::Newest;
use super::records::{Records, Transmission};
use super::spans::Spans;

/// SACKed ranges that are kept however little is in flight.
const MIN_RANGES: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Scoreboard {
    sacked: Spans<()>,
    /// Believed lost and not sent again since; whether they had been sent again before.
    lost: Spans<bool>,
    /// In flight again, by their last transmission.
    resent: Spans<Transmission>,
    /// Those transmissions by time. An entry outlives what it tells until it comes to the front.
    order: VecDeque<(Instant, Seq, Seq)>,
    /// No byte before it is in flight since it was first sent.
    trusted: Seq,
}

impl Scoreboard {
    /// Nothing is in flight.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether nothing is known but that everything is in flight.
    pub(super) fn is_clean(&self) -> bool {
        self.sacked.is_empty() && self.resent.is_empty() && self.lost.is_empty()
    }

    /// Bytes that have left the network: SACKed, or lost and not sent again.
    pub(super) const fn absent(&self) -> u32 {
        self.sacked.bytes() + self.lost.bytes()
    }

    /// Bytes in flight again.
    pub(super) const fn resent_bytes(&self) -> u32 {
        self.resent.bytes()
    }

    pub(super) fn has_lost(&self) -> bool {
        !self.lost.is_empty()
    }

    /// When the first byte in flight was last sent; `None` where it is not on its way.
    pub(super) fn oldest(&self, records: &Records) -> Option<Instant> {
        let una = records.base();
        if self.lost.containing(una).is_some() {
            return None;
        }
        let resent = self.resent.containing(una).map(|span| span.value.sent);
        resent.or_else(|| records.oldest())
    }

    /// The first lost bytes (RFC 6675 section 4, NextSeg rule 1): all that are in a row, or at least `enough`.
    pub(super) fn next_lost(&self, enough: u32) -> Option<(Seq, Seq)> {
        let (left, mut right) = self.lost.first().map(|span| (span.left, span.right))?;
        while right.before(left + enough)
            && let Some(next) = self.lost.containing(right)
        {
            right = next.right;
        }
        Some((left, right))
    }

    /// `[left, right)` was sent again, behind SND.UNA `una`.
    pub(super) fn on_resent(&mut self, una: Seq, left: Seq, right: Seq, tx: Transmission) {
        self.wake(una);
        self.lost.remove(left, right, |_| ());
        self.resent.remove(left, right, |_| ());
        // What was SACKed meanwhile has arrived all the same.
        let mut at = left;
        while let Some((from, to)) = self.sacked.gap(at, right) {
            self.resent.insert(from, to, tx);
            at = to;
        }
        self.order.push_back((tx.sent, left, right));
    }

    /// Everything before `ack` is acknowledged, which lies behind SND.UNA and not behind SND.NXT. `answerable`: what was
    /// sent again later than that cannot have been answered yet.
    pub(super) fn advance(&mut self, records: &mut Records, ack: Seq, answerable: Instant, news: &mut News) {
        let una = records.base();
        news.answerable = answerable;
        self.arrive(records, una, ack, news);
        self.sacked.remove(una, ack, |_| ());
        records.release(ack);
        self.trusted = self.trusted.max(ack);
        if self.is_clean() {
            self.order.clear();
        }
    }

    /// The peer has `[left, right)`, all of it in flight. `mss` bounds how many separate ranges are believed: hardly more
    /// than there can be segments. To forget one is harmless.
    pub(super) fn sack(
        &mut self,
        records: &Records,
        (left, right): (Seq, Seq),
        mss: u32,
        answerable: Instant,
        news: &mut News,
    ) {
        let most = MIN_RANGES + (records.flight() / mss) as usize;
        let separate = self.sacked.overlap(left - 1, right + 1).is_none();
        if separate && self.sacked.len() >= most {
            return;
        }
        self.wake(records.base());
        news.answerable = answerable;
        let before = news.bytes;
        self.arrive(records, left, right, news);
        if news.bytes > before {
            self.sacked.remove(left, right, |_| ());
            self.sacked.insert(left, right, ());
        }
    }

    /// What was known before is long past if nothing is now.
    fn wake(&mut self, una: Seq) {
        if self.is_clean() {
            self.trusted = una;
        }
    }

    /// Whatever of `[left, right)` was not SACKed before has arrived.
    fn arrive(&mut self, records: &Records, left: Seq, right: Seq, news: &mut News) {
        news.highest = self.sacked.last().map_or_else(|| records.base(), |span| span.right);
        let mut at = left;
        while let Some((from, to)) = self.sacked.gap(at, right) {
            news.bytes += to.0.wrapping_sub(from.0);
            self.arrive_together(records, from, to, news);
            at = to;
        }
    }

    fn arrive_together(&mut self, records: &Records, left: Seq, right: Seq, news: &mut News) {
        if let Some(end) = self.last_original(left, right)
            && let Some(part) = records.part(end - 1, end)
        {
            news.note(Arrival { tx: part.tx, end, again: false });
            news.reordered |= end.before(news.highest);
            let first = self.first_original(left, end);
            news.original = Some(news.original.map_or(first, |original| original.min(first)));
        }
        self.lost.remove(left, right, |_| news.unrepaired = true);
        self.resent.remove(left, right, |span| {
            if span.value.sent <= news.answerable {
                news.note(Arrival { tx: span.value, end: span.right, again: true });
            }
        });
    }

    /// Behind the last byte of `[left, right)`, none of which is SACKed, that was sent only once.
    fn last_original(&self, left: Seq, right: Seq) -> Option<Seq> {
        let mut end = right;
        while end.after(left) {
            match self.again(end - 1) {
                Some((start, _)) => end = start,
                None => return Some(end),
            }
        }
        None
    }

    /// The first byte from `left` on, none of which is SACKed, that was sent only once; there is one before `end`.
    fn first_original(&self, mut left: Seq, end: Seq) -> Seq {
        while let Some((_, right)) = self.again(left).filter(|(_, right)| right.before(end)) {
            left = right;
        }
        left
    }

    /// The bytes around `seq` that were sent again.
    fn again(&self, seq: Seq) -> Option<(Seq, Seq)> {
        let resent = self.resent.containing(seq).map(|span| (span.left, span.right));
        resent.or_else(|| {
            self.lost.containing(seq).filter(|span| span.value).map(|span| (span.left, span.right))
        })
    }

    /// Finds lost what left before `newest`, which has arrived, and is overdue: `wait` has passed since (RFC 8985 section
    /// 6.2, RACK_detect_loss). Answers how many bytes that are, and when there may be more.
    pub(super) fn detect(
        &mut self,
        records: &Records,
        newest: &Newest,
        wait: Duration,
        now: Instant,
    ) -> (u32, Option<Instant>) {
        self.wake(records.base());
        let Newest { sent, end, again } = *newest;
        let before = self.lost.bytes();
        let mut late = false;
        while let Some((left, right)) = self.next_trusted(records) {
            let limit = if left.before(end) { right.min(end) } else { right };
            let Some(part) = records.part(left, limit) else { break };
            if part.tx.sent > sent || (part.tx.sent == sent && !left.before(end)) {
                break;
            }
            if part.tx.sent + wait > now {
                late = true;
                break;
            }
            self.lost.insert(left, part.end, false);
            self.trusted = part.end;
        }
        while let Some((at, left, right)) = self.order.front().copied() {
            if self.resent_at(at, left, right).is_some() {
                // New data that left at the same time left first, whatever the numbers say.
                if at > sent || (at == sent && !(again && right.before(end))) {
                    break;
                }
                if at + wait > now {
                    late = true;
                    break;
                }
            }
            self.order.pop_front();
            self.lose_resent(at, left, right);
        }
        (self.lost.bytes() - before, late.then(|| sent + wait))
    }

    /// The first bytes that are in flight since they were first sent.
    fn next_trusted(&mut self, records: &Records) -> Option<(Seq, Seq)> {
        let nxt = records.end();
        loop {
            let at = self.trusted;
            if !at.before(nxt) {
                return None;
            }
            let sacked = self.sacked.overlap(at, nxt).map(|span| (span.left, span.right));
            let lost = self.lost.overlap(at, nxt).map(|span| (span.left, span.right));
            let resent = self.resent.overlap(at, nxt).map(|span| (span.left, span.right));
            let mut end = nxt;
            for (left, right) in [sacked, lost, resent].into_iter().flatten() {
                if !left.after(at) {
                    self.trusted = right;
                }
                end = end.min(left);
            }
            if self.trusted == at {
                return Some((at, end));
            }
        }
    }

    /// The first bytes of `[left, right)` that were last sent at this time.
    fn resent_at(&self, sent: Instant, mut left: Seq, right: Seq) -> Option<(Seq, Seq)> {
        while let Some(span) = self.resent.overlap(left, right) {
            if span.value.sent == sent {
                return Some((span.left.max(left), span.right.min(right)));
            }
            left = span.right;
        }
        None
    }

    fn lose_resent(&mut self, sent: Instant, left: Seq, right: Seq) {
        while let Some((from, to)) = self.resent_at(sent, left, right) {
            self.resent.remove(from, to, |_| ());
            self.lost.insert(from, to, true);
        }
    }

    /// What left at `until` or earlier is lost, whether or not something later has arrived; and the first `least` bytes in
    /// any case.
    pub(super) fn lose_until(&mut self, records: &Records, until: Instant, least: u32) -> u32 {
        self.wake(records.base());
        let before = self.lost.bytes();
        while let Some((left, right)) = self.next_trusted(records) {
            let Some(part) = records.part(left, right) else { break };
            if part.tx.sent > until {
                break;
            }
            self.lost.insert(left, part.end, false);
            self.trusted = part.end;
        }
        self.lose_again_until(until);
        self.lose_first(records, least);
        self.lost.bytes() - before
    }

    /// Everything is lost, whatever of it is not SACKed.
    pub(super) fn lose_all(&mut self, records: &Records) -> u32 {
        self.lose_first(records, records.flight())
    }

    /// What was sent again at `until` or earlier is lost.
    pub(super) fn lose_again_until(&mut self, until: Instant) {
        while let Some((at, left, right)) = self.order.front().copied().filter(|entry| entry.0 <= until) {
            self.order.pop_front();
            self.lose_resent(at, left, right);
        }
    }

    /// The first `len` bytes are lost, whatever of them is not SACKed. Answers how many are news.
    pub(super) fn lose_first(&mut self, records: &Records, len: u32) -> u32 {
        self.wake(records.base());
        let before = self.lost.bytes();
        let una = records.base();
        let right = una + len.min(records.flight());
        let lost = &mut self.lost;
        self.resent.remove(una, right, |span| lost.insert(span.left, span.right, true));
        while let Some((left, end)) = self.next_trusted(records).filter(|(left, _)| left.before(right)) {
            let end = end.min(right);
            self.lost.insert(left, end, false);
            self.trusted = end;
        }
        self.lost.bytes() - before
    }

    /// What is believed lost is in flight after all.
    pub(super) fn forgive(&mut self, una: Seq) {
        self.lost.clear();
        self.trusted = una;
    }

    /// A receiver that has SACKed the very first byte without acknowledging it has dropped it since, and is believed no
    /// longer (RFC 2018 section 8).
    pub(super) fn check_reneging(&mut self, una: Seq) {
        if self.sacked.containing(una).is_some() {
            self.sacked.clear();
            self.trusted = una;
        }
    }

    /// Whether `threshold` separate ranges, or more than `threshold` - 1 segments, are SACKed (RFC 6675 section 4, IsLost,
    /// for the first byte).
    pub(super) fn is_sacked_enough(&self, threshold: u32, mss: u32) -> bool {
        self.sacked.len() >= threshold as usize || self.sacked.bytes() > (threshold - 1) * mss
    }
}

#[cfg(test)]
mod tests;
