//! How large the receive window is: as large as the pace calls for at which bytes move on (dynamic right-sizing, DRS; Feng
//! and others, "Dynamic Right-Sizing", 2001), so that memory follows need.
//!
//! Runs on: proxy cores. Allocates: never. Blocks: never.
//!
//! Once per round trip the receiver counts what has moved on. The window is to hold twice that: as much again is on its
//! way while the sender hears of it. Where what moves on is slower than what comes, the window follows it down.

use pnat_shared::time::{Duration, Instant};
use pnat_shared::wire::tcp::Seq;

/// The window that every connection starts with, in bytes: Linux's.
pub(super) const INITIAL: u32 = 64 * 1024;
/// Segments to spare beside what the pace asks for: a pace of nothing must be able to grow.
const SPARE: u32 = 16;
/// Segments of the first round trip (RFC 6928).
const FIRST: u32 = 10;

#[derive(Debug)]
pub(super) struct Sizing {
    /// The window now and at most, in bytes.
    size: u32,
    most: u32,
    /// Bytes that moved on in the best round.
    pace: u32,
    /// The round being counted: when it began and which byte was to move on next then; [`Instant::ZERO`] before any text.
    began: Instant,
    from: Seq,
    /// Round-trip time as timestamps tell it, and the least measurement of this round, in microseconds; 0 before any.
    rtt: u32,
    least: u32,
}

impl Sizing {
    pub(super) fn new(most: u32) -> Self {
        Self { size: INITIAL.min(most), most, pace: 0, began: Instant::ZERO, from: Seq(0), rtt: 0, least: 0 }
    }

    pub(super) const fn size(&self) -> u32 {
        self.size
    }

    pub(super) const fn most(&self) -> u32 {
        self.most
    }

    /// Text has come. `moved` is the byte that is to move on next, `rtt` what this segment's timestamps measured, in
    /// microseconds, 0 for nothing, and `known` the round-trip time as the sending half knows it. `crowded`: more waits
    /// further down than is of use there.
    pub(super) fn on_text(
        &mut self,
        moved: Seq,
        mss: u32,
        rtt: u32,
        known: impl FnOnce() -> Option<Duration>,
        crowded: bool,
        now: Instant,
    ) {
        self.measure(rtt);
        if self.began == Instant::ZERO {
            self.pace = FIRST * mss;
            return self.begin(moved, now);
        }
        let round = if self.rtt == 0 { known().map_or(0, micros) } else { self.rtt };
        let took = now.as_nanos().saturating_sub(self.began.as_nanos());
        if round == 0 || took < u64::from(round) * 1000 {
            return;
        }
        let taken = moved.distance(self.from).max(0) as u32;
        self.fit(taken, mss, crowded);
        if self.least > 0 {
            // The least of a round is free of delayed ACKs and of a sender that had nothing to say.
            let longer = self.rtt - self.rtt / 8 + self.least / 8;
            self.rtt = if self.rtt == 0 { self.least } else { self.least.min(longer) };
            self.least = 0;
        }
        self.begin(moved, now);
    }

    /// A segment has measured a round trip, in microseconds; 0: it has not.
    #[inline]
    pub(super) fn measure(&mut self, rtt: u32) {
        // What there is not is more than anything.
        self.least = self.least.wrapping_sub(1).min(rtt.wrapping_sub(1)).wrapping_add(1);
    }

    fn begin(&mut self, moved: Seq, now: Instant) {
        (self.began, self.from) = (now, moved);
    }

    /// A round has ended in which this many bytes moved on.
    fn fit(&mut self, taken: u32, mss: u32, crowded: bool) {
        let needed = u64::from(taken) * 2 + u64::from(SPARE * mss);
        if crowded && taken <= self.pace {
            let least = INITIAL.min(self.most);
            self.size = self.size.min(u32::try_from(needed).unwrap_or(u32::MAX).max(least));
            self.pace = taken;
            return;
        }
        // A sender in slow start will be faster by as much again before it can use the new window.
        let gain = needed * u64::from(taken.saturating_sub(self.pace)) / u64::from(self.pace.max(1)) * 2;
        let size = (needed + gain).min(u64::from(self.size) * 2).min(u64::from(self.most));
        self.size = self.size.max(size as u32);
        self.pace = self.pace.max(taken);
    }
}

/// A measured time in microseconds, at least one: 0 would mean that there is none.
fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u32 = 1448;

    /// Rounds of 20 ms in which so many segments move on; answers the window after each.
    fn rounds(sizing: &mut Sizing, segments: &[u32], crowded: bool) -> Vec<u32> {
        let rtt = Duration::from_millis(20);
        let (mut moved, mut now) = (sizing.from, sizing.began.max(Instant::from_secs(1)));
        sizing.on_text(moved, MSS, 0, || Some(rtt), crowded, now);
        let after = |count: &u32| {
            moved += count * MSS;
            now += rtt;
            sizing.on_text(moved, MSS, 0, || Some(rtt), crowded, now);
            sizing.size()
        };
        segments.iter().map(after).collect()
    }

    #[test]
    fn the_window_keeps_ahead_of_a_sender_in_slow_start() {
        let mut sizing = Sizing::new(8 << 20);
        let sent = [10, 20, 40, 80, 160, 320, 640, 1280];
        let windows = rounds(&mut sizing, &sent, false);
        for (window, next) in windows.iter().zip(&sent[1..]) {
            assert!(*window >= next * MSS, "{windows:?}");
        }
    }

    #[test]
    fn a_steady_pace_gets_twice_what_it_takes_and_no_more() {
        let mut sizing = Sizing::new(8 << 20);
        let windows = rounds(&mut sizing, &[100; 50], false);
        assert!((200 * MSS..=900 * MSS).contains(&windows[49]), "{windows:?}");
        assert_eq!(windows[10], windows[49]);
    }

    #[test]
    fn a_slow_pace_never_grows_the_window() {
        let windows = rounds(&mut Sizing::new(8 << 20), &[5; 100], false);
        assert_eq!(windows[99], INITIAL);
    }

    #[test]
    fn where_bytes_pile_up_further_down_the_window_follows_their_pace_down() {
        let mut sizing = Sizing::new(8 << 20);
        let grown = *rounds(&mut sizing, &[100, 200, 400, 800], false).last().unwrap();
        assert!(grown >= 1 << 20);
        assert_eq!(rounds(&mut sizing, &[100], true), [2 * 100 * MSS + SPARE * MSS]);
        assert_eq!(rounds(&mut sizing, &[1], true), [INITIAL]);
    }

    #[test]
    fn the_window_has_a_bound() {
        let windows = rounds(&mut Sizing::new(100_000), &[10_000; 9], false);
        assert_eq!(windows[8], 100_000);
        assert_eq!(Sizing::new(4000).size(), 4000);
    }
}
