//! What the filters of one proxy core share.

use pnat_shared::time::{Duration, Instant};

use super::limit::Buckets;
use super::log_writer::LogSender;

/// One per proxy core; every call of a filter may use it. The default has no log writer and starts at the Unix epoch.
#[derive(Debug, Default)]
pub struct Services {
    /// The Unix time at [`Instant::ZERO`].
    epoch: Duration,
    /// Where records go; `None`: they are dropped, uncounted.
    pub(super) log: Option<LogSender>,
    /// Token buckets of clients.
    pub(super) buckets: Buckets,
}

impl Services {
    /// `epoch` is the Unix time at [`Instant::ZERO`]; `log` leads to the writer's thread.
    pub fn new(epoch: Duration, log: LogSender) -> Self {
        Self { epoch, log: Some(log), buckets: Buckets::default() }
    }

    /// The Unix time at `now`.
    pub(super) const fn unix_time(&self, now: Instant) -> Duration {
        self.epoch.saturating_add(Duration::from_nanos(now.as_nanos()))
    }
}
