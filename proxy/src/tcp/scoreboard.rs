//! What the sender knows of the bytes in flight: SACKed, lost, retransmitted (RFC 6675).
//!
//! Runs on: proxy cores. Allocates: when more holes are open than ever before. Blocks: never.
//!
//! A byte with enough SACKed data above it is lost, so the lost bytes are all those below one number that are not SACKed;
//! no mark per segment is needed.
//!
//! ```text
//!        una                  lost_below                    nxt
//!         |---lost---[SACKed]--lost--|--in flight--[SACKed]---|
//!              ^ some of them sent again: `resent`
//! ```

use pnat_shared::time::{Duration, Instant};
use pnat_shared::wire::tcp::Seq;

use super::ranges::Ranges;

/// Most separate ranges kept: a peer that reports more is lying or beyond help, and forgetting SACKs is harmless.
const MAX_RANGES: usize = 1024;

/// Bytes sent again and not yet acknowledged or found lost again.
#[derive(Copy, Clone, Debug)]
struct Resent {
    left: Seq,
    right: Seq,
    /// SND.NXT at that time: SACKs beyond it prove that a later transmission arrived.
    nxt: Seq,
    at: Instant,
}

impl Resent {
    const fn len(&self) -> u32 {
        self.right.0.wrapping_sub(self.left.0)
    }
}

#[derive(Debug, Default)]
pub(super) struct Scoreboard {
    sacked: Ranges,
    /// Sorted by sequence number.
    resent: Vec<Resent>,
    resent_bytes: u32,
    lost_below: Seq,
    lost_bytes: u32,
    /// Every lost byte before it is in `resent`.
    cursor: Seq,
    /// When the latest of the retransmissions that have arrived was sent.
    delivered: Instant,
}

impl Scoreboard {
    /// Whether nothing is known but that everything is in flight.
    pub(super) fn is_clean(&self) -> bool {
        self.sacked.is_empty() && self.resent.is_empty() && self.lost_bytes == 0
    }

    /// Everything before `una` is acknowledged.
    /// What was sent again after `answerable` cannot have been answered yet: then the first transmission was.
    pub(super) fn advance(&mut self, una: Seq, answerable: Instant) {
        if self.is_clean() {
            self.lost_below = una;
            self.cursor = una;
            return;
        }
        self.sacked.remove_below(una);
        self.on_delivered(None, una, answerable);
        self.lost_below = self.lost_below.max(una);
        self.cursor = self.cursor.max(una);
        self.count_lost(una);
    }

    /// The peer has `[left, right)`, all of it in flight; answers how many bytes are news. `answerable` as in
    /// [`Scoreboard::advance`].
    pub(super) fn sack(&mut self, left: Seq, right: Seq, answerable: Instant) -> u32 {
        if self.sacked.as_slice().len() >= MAX_RANGES {
            return 0;
        }
        let gained = self.sacked.insert(left, right);
        if gained > 0 && !self.resent.is_empty() {
            self.on_delivered(Some(left), right, answerable);
        }
        gained
    }

    /// Draws the conclusions from new SACKs: a byte is lost once `threshold` separate ranges, or more than
    /// `threshold` - 1 segments, are SACKed above it (RFC 6675 section 4, IsLost). Retransmissions are judged by time, with
    /// `reorder` to spare.
    pub(super) fn detect(&mut self, una: Seq, mss: u32, threshold: u32, reorder: Duration) {
        let (mut bytes, mut ranges) = (0, 0);
        for (left, right) in self.sacked.as_slice().iter().rev() {
            bytes += right.0.wrapping_sub(left.0);
            ranges += 1;
            if ranges >= threshold || bytes > (threshold - 1) * mss {
                self.lost_below = self.lost_below.max(*left);
                break;
            }
        }
        self.detect_lost_again(mss, reorder);
        self.count_lost(una);
    }

    /// A retransmission is lost, too, where what was sent well after it has arrived. RFC 6675 would wait for the timer;
    /// this is the part of RACK (RFC 8985) that it lacks most.
    fn detect_lost_again(&mut self, mss: u32, reorder: Duration) {
        let highest = self.sacked.as_slice().last().map(|range| range.1);
        let delivered = self.delivered;
        self.lose_again(|resent| {
            let overtaken = highest.is_some_and(|seq| seq.distance(resent.nxt) > 2 * mss as i32);
            overtaken || resent.at + reorder < delivered
        });
    }

    /// Nothing was heard for so long that what was sent again at least `age` ago must be lost.
    pub(super) fn give_up_resent(&mut self, now: Instant, age: Duration) {
        self.lose_again(|resent| now.since(resent.at) >= age);
    }

    fn lose_again(&mut self, is_lost: impl Fn(&Resent) -> bool) {
        let (cursor, bytes) = (&mut self.cursor, &mut self.resent_bytes);
        self.resent.retain(|resent| {
            let lost = is_lost(resent);
            if lost {
                *cursor = cursor.min(resent.left);
                *bytes -= resent.len();
            }
            !lost
        });
    }

    /// Without SACK: what three duplicate ACKs or a partial ACK say about the first segment (RFC 6582).
    pub(super) fn mark_lost(&mut self, una: Seq, below: Seq) {
        self.lost_below = self.lost_below.max(below);
        self.count_lost(una);
    }

    /// The timer has run out: everything that is not SACKed is to be sent again. A receiver that has SACKed the very
    /// first byte without acknowledging it has dropped it since, and is believed no longer (RFC 2018 section 8).
    pub(super) fn mark_all_lost(&mut self, una: Seq, nxt: Seq) {
        if self.sacked.containing(una).is_some() {
            self.sacked.clear();
        }
        self.resent.clear();
        self.resent_bytes = 0;
        self.lost_below = nxt;
        self.cursor = una;
        self.count_lost(una);
    }

    fn count_lost(&mut self, una: Seq) {
        let below = self.lost_below.0.wrapping_sub(una.0);
        self.lost_bytes = below - self.sacked.bytes_below(self.lost_below);
    }

    /// Bytes believed to be in the network (RFC 6675 section 4, SetPipe).
    pub(super) const fn pipe(&self, flight: u32) -> u32 {
        (flight + self.resent_bytes).saturating_sub(self.sacked.bytes() + self.lost_bytes)
    }

    pub(super) const fn sacked_bytes(&self) -> u32 {
        self.sacked.bytes()
    }

    pub(super) const fn lost_bytes(&self) -> u32 {
        self.lost_bytes
    }

    pub(super) fn is_sacked(&self, seq: Seq) -> bool {
        self.sacked.containing(seq).is_some()
    }

    pub(super) const fn has_lost(&self) -> bool {
        self.lost_bytes > 0
    }

    /// The first lost bytes that are not on their way again (RFC 6675 section 4, NextSeg rule 1).
    pub(super) fn next_lost(&self) -> Option<(Seq, Seq)> {
        if self.lost_bytes == 0 { None } else { self.next_hole(self.lost_below) }
    }

    /// The first bytes below the highest SACK that are not on their way again, lost or not (NextSeg rule 3).
    pub(super) fn next_doubtful(&self) -> Option<(Seq, Seq)> {
        self.next_hole(self.sacked.as_slice().last()?.0)
    }

    fn next_hole(&self, limit: Seq) -> Option<(Seq, Seq)> {
        let mut at = self.cursor;
        while at.before(limit) {
            let index = self.resent.partition_point(|resent| !resent.right.after(at));
            let resent = self.resent.get(index);
            if let Some((_, right)) = self.sacked.containing(at) {
                at = right;
            } else if let Some(resent) = resent.filter(|resent| !resent.left.after(at)) {
                at = resent.right;
            } else {
                let end = self.sacked.next_left(at).map_or(limit, |left| left.min(limit));
                return Some((at, resent.map_or(end, |resent| resent.left.min(end))));
            }
        }
        None
    }

    /// A hole's first bytes were sent again while SND.NXT was `nxt`.
    pub(super) fn on_resent(&mut self, left: Seq, right: Seq, nxt: Seq, at: Instant) {
        let index = self.resent.partition_point(|resent| resent.left.before(left));
        self.resent.insert(index, Resent { left, right, nxt, at });
        self.resent_bytes += right.0.wrapping_sub(left.0);
        // A tail probe leaves out what lies before it, which may turn out to be lost.
        if self.next_hole(right).is_none() {
            self.cursor = self.cursor.max(right);
        }
    }

    /// What was sent again of `[left, right)`, or of all below `right`, has arrived. Entries that overlap partly are cut.
    fn on_delivered(&mut self, left: Option<Seq>, right: Seq, answerable: Instant) {
        let mut bytes = 0;
        let delivered = &mut self.delivered;
        self.resent.retain_mut(|resent| {
            let before = resent.len();
            match left.filter(|left| resent.left.before(*left)) {
                None => resent.left = resent.left.max(right.min(resent.right)),
                Some(left) => resent.right = resent.right.min(left),
            }
            if resent.len() < before && resent.at <= answerable {
                *delivered = (*delivered).max(resent.at);
            }
            let keep = resent.len() > 0;
            bytes += resent.len();
            keep
        });
        self.resent_bytes = bytes;
    }

    /// Gives unused memory back.
    pub(super) fn shrink(&mut self) {
        self.sacked.shrink();
        self.resent.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u32 = 100;

    fn board() -> Scoreboard {
        let mut board = Scoreboard::default();
        board.advance(Seq(1000), Instant::ZERO);
        board
    }

    fn detect(board: &mut Scoreboard) {
        board.detect(Seq(1000), MSS, 3, Duration::from_millis(5));
    }

    #[test]
    fn rfc6675_a_hole_is_lost_below_three_separate_sacks() {
        let mut board = board();
        board.sack(Seq(1100), Seq(1150), Instant::FAR);
        board.sack(Seq(1200), Seq(1250), Instant::FAR);
        detect(&mut board);
        assert_eq!((board.next_lost(), board.pipe(1000)), (None, 900));
        board.sack(Seq(1300), Seq(1350), Instant::FAR);
        detect(&mut board);
        assert_eq!(board.next_lost(), Some((Seq(1000), Seq(1100))));
        assert_eq!(board.pipe(1000), 1000 - 150 - 100);
    }

    #[test]
    fn rfc6675_a_hole_is_lost_below_more_than_two_segments() {
        let mut board = board();
        board.sack(Seq(1100), Seq(1300), Instant::FAR);
        detect(&mut board);
        assert!(!board.has_lost());
        board.sack(Seq(1300), Seq(1301), Instant::FAR);
        detect(&mut board);
        assert!(board.has_lost());
    }

    #[test]
    fn retransmissions_count_in_the_pipe_and_are_not_repeated() {
        let mut board = board();
        board.sack(Seq(1200), Seq(1600), Instant::FAR);
        detect(&mut board);
        assert_eq!(board.pipe(1000), 1000 - 400 - 200);
        board.on_resent(Seq(1000), Seq(1100), Seq(2000), Instant::ZERO);
        assert_eq!(board.pipe(1000), 500);
        assert_eq!(board.next_lost(), Some((Seq(1100), Seq(1200))));
        board.on_resent(Seq(1100), Seq(1200), Seq(2000), Instant::ZERO);
        assert_eq!((board.next_lost(), board.pipe(1000)), (None, 600));
        board.advance(Seq(1600), Instant::ZERO);
        assert!(board.is_clean());
    }

    #[test]
    fn a_retransmission_is_lost_again_once_later_data_is_sacked() {
        let mut board = board();
        board.sack(Seq(1100), Seq(1500), Instant::FAR);
        detect(&mut board);
        board.on_resent(Seq(1000), Seq(1100), Seq(2000), Instant::ZERO);
        board.sack(Seq(1500), Seq(2200), Instant::FAR);
        detect(&mut board);
        assert_eq!(board.next_lost(), None);
        board.sack(Seq(2200), Seq(2300), Instant::FAR);
        detect(&mut board);
        assert_eq!(board.next_lost(), Some((Seq(1000), Seq(1100))));
    }

    #[test]
    fn rfc8985_a_retransmission_is_lost_again_once_a_later_one_arrives() {
        let mut board = board();
        board.sack(Seq(1300), Seq(1700), Instant::FAR);
        detect(&mut board);
        for n in 0..3 {
            let left = Seq(1000 + 100 * n);
            board.on_resent(left, left + MSS, Seq(2000), Instant::from_millis(u64::from(4 * n)));
        }
        // The third was sent 8 ms after the first, 4 ms after the second.
        board.sack(Seq(1200), Seq(1300), Instant::FAR);
        detect(&mut board);
        assert_eq!(board.next_lost(), Some((Seq(1000), Seq(1100))));
        assert_eq!(board.pipe(1000), 1000 - 500 - 200 + 100);
    }

    #[test]
    fn an_answer_that_comes_too_soon_is_for_the_first_transmission() {
        let mut board = board();
        board.sack(Seq(1200), Seq(1600), Instant::FAR);
        detect(&mut board);
        board.on_resent(Seq(1000), Seq(1100), Seq(2000), Instant::from_millis(0));
        board.on_resent(Seq(1100), Seq(1200), Seq(2000), Instant::from_millis(20));
        board.sack(Seq(1100), Seq(1200), Instant::from_millis(15));
        detect(&mut board);
        assert_eq!(board.next_lost(), None);
    }

    #[test]
    fn the_timer_resends_everything_but_what_is_sacked() {
        let mut board = board();
        board.sack(Seq(1500), Seq(1600), Instant::FAR);
        board.mark_all_lost(Seq(1000), Seq(2000));
        assert_eq!(board.pipe(1000), 0);
        assert_eq!(board.next_lost(), Some((Seq(1000), Seq(1500))));
        board.on_resent(Seq(1000), Seq(1500), Seq(2000), Instant::ZERO);
        assert_eq!(board.next_lost(), Some((Seq(1600), Seq(2000))));
    }

    #[test]
    fn rfc2018_a_receiver_that_reneged_is_believed_no_longer() {
        let mut board = board();
        board.sack(Seq(1100), Seq(1600), Instant::FAR);
        board.advance(Seq(1100), Instant::ZERO);
        board.mark_all_lost(Seq(1100), Seq(2000));
        assert_eq!(board.next_lost(), Some((Seq(1100), Seq(2000))));
    }
}
