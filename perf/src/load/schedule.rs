//! When frames are meant to be sent: a fixed rate, in bursts, for a time; then perhaps another.
//!
//! Runs on: the generator's core. Allocates: never. Blocks: never.

use pnat_shared::time::Duration;

const NANOS: u128 = 1_000_000_000;

/// Frames per time, as an exact fraction: a rate in bits per second and a mix of sizes seldom give a whole number.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Nanoseconds that `frames` frames take.
    nanos: u128,
    frames: u128,
}

impl Rate {
    /// So many frames every second; at least one.
    pub fn frames(per_second: u64) -> Self {
        Self { nanos: NANOS, frames: u128::from(per_second.max(1)) }
    }

    /// So many frames every second, to a thousandth of one.
    pub fn exactly(per_second: f64) -> Self {
        Self { nanos: NANOS * 1_000, frames: ((per_second * 1_000.0).round() as u128).max(1) }
    }

    /// So many bits every second, frame check sequences included, by frames that have `bits` bits in `frames` frames.
    pub fn bits(per_second: u64, bits: u64, frames: u64) -> Self {
        Self {
            nanos: NANOS * u128::from(bits.max(1)),
            frames: u128::from(per_second.max(1)) * u128::from(frames.max(1)),
        }
    }

    /// Frames per second.
    pub fn per_second(self) -> f64 {
        self.frames as f64 / self.nanos as f64 * NANOS as f64
    }
}

/// The intended send times of a trial, one after the other, in nanoseconds since its start. All frames of a burst are meant
/// to be sent at the same time, that of the first of them.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// From one burst to the next: `step` nanoseconds and `rest / divisor` of one.
    step: u64,
    rest: u128,
    divisor: u128,
    burst: u32,
    /// The next frame's time, what is left over of it, and frames that share it.
    next: u64,
    carry: u128,
    left: u32,
    /// No frame is meant to be sent at this time or later.
    end: u64,
    /// Frames of all parts.
    total: u64,
    /// What follows at `end`.
    second: Option<Box<Self>>,
}

impl Schedule {
    /// Frames at `rate`, `burst` of them (at least one) at a time, for as long as `duration`.
    pub fn new(rate: Rate, burst: u32, duration: Duration) -> Self {
        let burst = burst.max(1);
        let interval = rate.nanos * u128::from(burst);
        let end = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        // Burst k is at k * interval / frames, rounded down; those below `end` take place.
        let bursts = (u128::from(end) * rate.frames).div_ceil(interval.max(1));
        Self {
            step: u64::try_from(interval / rate.frames).unwrap_or(u64::MAX),
            rest: interval % rate.frames,
            divisor: rate.frames,
            burst,
            next: 0,
            carry: 0,
            left: burst,
            end,
            total: u64::try_from(bursts * u128::from(burst)).unwrap_or(u64::MAX),
            second: None,
        }
    }

    /// Goes on at another rate, for as long as `duration`.
    pub fn then(mut self, rate: Rate, duration: Duration) -> Self {
        let mut second = Self::new(rate, self.burst, duration);
        second.next = self.end;
        second.end = second.end.saturating_add(self.end);
        second.total = second.total.saturating_add(self.total);
        self.total = second.total;
        self.second = Some(Box::new(second));
        self
    }

    /// Frames of the whole trial.
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// The next frame's time; `None` where none is left.
    #[inline]
    pub fn peek(&self) -> Option<u64> {
        (self.next < self.end).then_some(self.next)
    }

    /// Goes on to the frame after the next one.
    #[inline]
    pub fn advance(&mut self) {
        self.left -= 1;
        if self.left > 0 {
            return;
        }
        self.left = self.burst;
        self.next = self.next.saturating_add(self.step);
        self.carry += self.rest;
        if self.carry >= self.divisor {
            self.carry -= self.divisor;
            self.next = self.next.saturating_add(1);
        }
        if self.next >= self.end
            && let Some(second) = self.second.take()
        {
            *self = *second;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// When the `n`th frame is meant to be sent, in nanoseconds after frame 0.
    fn exact(rate: Rate, n: u64) -> u128 {
        u128::from(n) * rate.nanos / rate.frames
    }

    fn times(mut schedule: Schedule) -> Vec<u64> {
        std::iter::from_fn(|| {
            let time = schedule.peek();
            schedule.advance();
            time
        })
        .collect()
    }

    #[test]
    fn frames_of_a_burst_share_a_time_and_the_rate_stays() {
        let schedule = Schedule::new(Rate::frames(1_000), 3, Duration::from_millis(9));
        assert_eq!(
            times(schedule),
            [0, 0, 0, 3_000_000, 3_000_000, 3_000_000, 6_000_000, 6_000_000, 6_000_000]
        );
    }

    #[test]
    fn the_second_part_begins_where_the_first_ends() {
        let schedule = Schedule::new(Rate::frames(3_000), 1, Duration::from_millis(1));
        let schedule = schedule.then(Rate::frames(1_000), Duration::from_millis(2));
        assert_eq!(schedule.total(), 5);
        assert_eq!(times(schedule), [0, 333_333, 666_666, 1_000_000, 2_000_000]);
    }

    #[test]
    fn bits_per_second_are_shared_out_among_frames_of_all_sizes() {
        // Three frames of 1000 bits together, 2000 bits per second.
        assert_eq!(Rate::bits(2_000, 1_000, 3).per_second().round(), 6.0);
    }

    proptest! {
        #[test]
        fn times_never_drift_from_the_exact_rate(
            rate in prop_oneof![
                (1u64..200_000_000).prop_map(Rate::frames),
                (1u64..400_000_000_000, 1u64..100_000_000, 1u64..5_000).prop_map(|(b, bits, n)| Rate::bits(b, bits, n)),
            ],
            burst in 1u32..40,
            frames in 1u64..2_000,
        ) {
            let nanos = u64::try_from(exact(rate, frames)).unwrap_or(u64::MAX).clamp(1, 1 << 56);
            let schedule = Schedule::new(rate, burst, Duration::from_nanos(nanos));
            let total = schedule.total();
            prop_assume!(total <= 10_000);
            let times = times(schedule);
            prop_assert_eq!(times.len() as u64, total);
            for (n, time) in (0u64..).zip(times) {
                let first = n - n % u64::from(burst);
                prop_assert_eq!(u128::from(time), exact(rate, first));
                prop_assert!(time < nanos);
            }
        }
    }
}
