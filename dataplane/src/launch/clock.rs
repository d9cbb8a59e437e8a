//! The one clock: the operating system's monotonic time, counted from the gateway's start.

use std::time::{Instant as OsInstant, SystemTime};

use pnat_shared::time::{Duration, Instant};

/// Tells a loop what time it is.
pub trait Timepiece {
    fn now(&self) -> Instant;
}

/// Tells [`Instant`]s. Copies agree with each other, so every core may hold one.
#[derive(Copy, Clone, Debug)]
pub struct Clock {
    start: OsInstant,
    /// Wall-clock time at [`Instant::ZERO`].
    started: SystemTime,
}

impl Clock {
    /// A clock that stands at [`Instant::ZERO`] now.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the clock that everybody else is told the time by"
    )]
    pub fn start() -> Self {
        Self { start: OsInstant::now(), started: SystemTime::now() }
    }

    /// The time; about 20 ns through the vDSO.
    #[inline]
    pub fn now(&self) -> Instant {
        Instant::from_nanos(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// Wall-clock time at [`Instant::ZERO`].
    pub const fn started(&self) -> SystemTime {
        self.started
    }

    /// Unix time at [`Instant::ZERO`].
    pub fn epoch(&self) -> Duration {
        self.started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
    }

    /// Unix time, as it goes on from the start: it takes no part in what becomes of the wall clock since.
    pub fn unix_time(&self) -> Duration {
        self.epoch() + self.now().since(Instant::ZERO)
    }
}

impl Timepiece for Clock {
    #[inline]
    fn now(&self) -> Instant {
        Self::now(self)
    }
}
