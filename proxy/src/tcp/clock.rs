//! Timestamps: our clock as the peer sees it, and PAWS (RFC 7323 sections 3 to 5).

use std::cmp::Ordering;

use pnat_shared::time::{Duration, Instant};
use pnat_shared::wire::tcp::Seq;

/// After so many seconds without a segment the peer's clock may have gone half way round (RFC 7323 section 5.5).
const STALE: u32 = 24 * 24 * 3600;

/// How much older than the latest a segment may be that comes while others are missing, in the peer's ticks: mostly
/// milliseconds. More than paths reorder by, and too little for 2 GB to pass meanwhile.
const DISORDER: u32 = 64;

/// How long TSval stays the same.
const TICK: Duration = Duration::from_millis(1);

/// The timestamp option of one connection. TSval counts milliseconds from the value that the SYN's offer carried, so the
/// clocks of a pair's two legs run alike.
#[derive(Debug)]
pub(super) struct Clock {
    /// Both ends offered the option. While a SYN of ours is out this says that we offer it.
    pub(super) on: bool,
    /// TSval at [`Instant::ZERO`].
    base: u32,
    /// TS.Recent: what goes into TSecr.
    recent: u32,
    /// When it came, in seconds.
    recent_at: u32,
}

/// Seconds until `now`, as a small number: they last for more than a century.
const fn seconds(now: Instant) -> u32 {
    (now.as_millis() / 1000) as u32
}

impl Clock {
    pub(super) fn new(base: Option<u32>, now: Instant) -> Self {
        let start = now.as_millis() as u32;
        Self {
            on: base.is_some(),
            base: base.unwrap_or(0).wrapping_sub(start),
            recent: 0,
            recent_at: seconds(now),
        }
    }

    /// TSval at `now`.
    pub(super) const fn value(&self, now: Instant) -> u32 {
        self.base.wrapping_add(now.as_millis() as u32)
    }

    /// The option of a segment that leaves now.
    pub(super) fn stamp(&self, now: Instant) -> Option<(u32, u32)> {
        self.on.then(|| (self.value(now), self.recent))
    }

    /// Bytes that the option takes in every segment, padding included.
    pub(super) const fn option_len(&self) -> u16 {
        if self.on { 12 } else { 0 }
    }

    /// TSval of the peer's SYN.
    pub(super) const fn start(&mut self, value: u32, now: Instant) {
        self.recent = value;
        self.recent_at = seconds(now);
    }

    /// PAWS (RFC 7323 section 5.3, R1): whether the segment is older than one that came before. `disorder`: something is
    /// missing, which may be repaired in part. Then what was sent before the repair and comes after it is as good, and to
    /// refuse it would be the next loss.
    pub(super) fn is_old(&self, value: u32, disorder: bool, now: Instant) -> bool {
        let oldest = if disorder { self.recent.wrapping_sub(DISORDER) } else { self.recent };
        self.on && Seq(value).before(Seq(oldest)) && !self.is_stale(now)
    }

    /// Whether the segment is no older than the one before it, however long ago that was.
    #[inline]
    pub(super) const fn is_next(&self, value: u32) -> bool {
        !Seq(value).before(Seq(self.recent))
    }

    /// How a stamp lies to the latest of the peer; `None` without timestamps.
    pub(super) fn compare(&self, value: u32) -> Option<Ordering> {
        self.on.then(|| Seq(value).distance(Seq(self.recent)).cmp(&0))
    }

    const fn is_stale(&self, now: Instant) -> bool {
        seconds(now).saturating_sub(self.recent_at) >= STALE
    }

    /// Remembers the TSval of a segment that reaches down to the last ACK sent (RFC 7323 section 4.3).
    pub(super) fn remember(&mut self, value: u32, now: Instant) {
        if !Seq(value).before(Seq(self.recent)) || self.is_stale(now) {
            self.start(value, now);
        }
    }

    /// The last moment at which the echoed value can have been written; `None` where that has not come or is long past.
    pub(super) fn echoed(&self, echo: u32, now: Instant) -> Option<Instant> {
        let age = u64::try_from(Seq(self.value(now)).distance(Seq(echo))).ok().filter(|ms| *ms <= 60_000)?;
        let at = Instant::from_millis(now.as_millis().checked_sub(age)?);
        Some(at + (TICK - Duration::from_nanos(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZERO: Instant = Instant::ZERO;

    #[test]
    fn the_first_value_is_the_offered_one_and_then_counts_milliseconds() {
        let start = Instant::from_secs(7);
        let clock = Clock::new(Some(u32::MAX), start);
        assert_eq!(clock.value(start), u32::MAX);
        assert_eq!(clock.value(start + Duration::from_millis(3)), 2);
    }

    #[test]
    fn an_older_stamp_is_old_until_the_clock_may_have_wrapped() {
        let mut clock = Clock::new(Some(0), ZERO);
        clock.start(5, ZERO);
        assert!(clock.is_old(4, false, ZERO) && !clock.is_old(5, false, ZERO));
        assert!(clock.is_old(u32::MAX, false, ZERO));
        assert!(!clock.is_old(4, false, ZERO + Duration::from_secs(u64::from(STALE))));
        clock.remember(4, ZERO);
        assert_eq!(clock.stamp(ZERO), Some((0, 5)));
    }

    #[test]
    fn while_something_is_missing_a_stamp_may_be_64_ticks_older() {
        let mut clock = Clock::new(Some(0), ZERO);
        clock.start(5, ZERO);
        let oldest = 5_u32.wrapping_sub(64);
        assert!(!clock.is_old(oldest, true, ZERO) && clock.is_old(oldest.wrapping_sub(1), true, ZERO));
    }

    #[test]
    fn an_echo_from_the_future_measures_nothing() {
        let clock = Clock::new(Some(100), ZERO);
        let now = Instant::from_millis(50);
        assert_eq!(clock.echoed(130, now), Some(Instant::from_nanos(30_999_999)));
        assert_eq!(clock.echoed(151, now), None);
    }
}
