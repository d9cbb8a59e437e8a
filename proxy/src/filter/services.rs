//! What the filters of one proxy core share.

use std::any::Any;
use std::fmt;

use crossbeam_channel::{Receiver, Sender};
use pnat_http::filter::Ticket;
use pnat_shared::flow::Handle;
use pnat_shared::time::{Duration, Instant};

use super::limit::Buckets;
use super::log_writer::LogSender;
use super::web::WebStats;

/// One per proxy core; every call of a filter may use it. The default has no log writer and starts at the Unix epoch.
#[derive(Debug, Default)]
pub struct Services {
    /// The Unix time at [`Instant::ZERO`].
    epoch: Duration,
    /// Where records go; `None`: they are dropped, uncounted.
    pub(super) log: Option<LogSender>,
    /// Token buckets of clients.
    pub(super) buckets: Buckets,
    inbox: Inbox,
    /// What HTTP filters did.
    pub(super) web: WebStats,
    /// Measures filters; `None`: they are not measured.
    clock: Option<Stopwatch>,
}

/// A clock that counts nanoseconds.
struct Stopwatch(Box<dyn Fn() -> u64 + Send>);

impl fmt::Debug for Stopwatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stopwatch").finish_non_exhaustive()
    }
}

/// What comes in for tickets. As many may be under way as there are filters that wait, so it needs no bound of its own.
#[derive(Debug)]
struct Inbox {
    sender: Sender<Given>,
    receiver: Receiver<Given>,
}

impl Default for Inbox {
    fn default() -> Self {
        let (sender, receiver) = crossbeam_channel::unbounded();
        Self { sender, receiver }
    }
}

/// What was given for a ticket, and where to.
pub(crate) struct Given {
    pub(crate) handle: Handle,
    /// The filter's place in its chain.
    pub(crate) place: u16,
    pub(crate) answer: Box<dyn Any + Send>,
}

impl Services {
    /// `epoch` is the Unix time at [`Instant::ZERO`]; `log` leads to the writer's thread.
    pub fn new(epoch: Duration, log: LogSender) -> Self {
        Self { epoch, log: Some(log), ..Self::default() }
    }

    /// Measures filters by this clock, which counts nanoseconds.
    #[must_use]
    pub fn with_clock(self, clock: impl Fn() -> u64 + Send + 'static) -> Self {
        Self { clock: Some(Stopwatch(Box::new(clock))), ..self }
    }

    /// What HTTP filters did so far.
    pub const fn web(&self) -> &WebStats {
        &self.web
    }

    pub(super) fn nanos(&self) -> Option<u64> {
        self.clock.as_ref().map(|clock| clock.0())
    }

    /// A ticket for a filter of a flow.
    pub(super) fn ticket(&self, handle: Handle, place: u16) -> Ticket {
        let sender = self.inbox.sender.clone();
        Ticket::new(move |answer| {
            // Without its core, nobody waits.
            let _ = sender.send(Given { handle, place, answer });
        })
    }

    /// The next thing that was given for a ticket.
    pub(crate) fn given(&self) -> Option<Given> {
        self.inbox.receiver.try_recv().ok()
    }

    /// Whether there is one.
    pub(crate) fn has_given(&self) -> bool {
        !self.inbox.receiver.is_empty()
    }

    /// The Unix time at `now`.
    pub(super) const fn unix_time(&self, now: Instant) -> Duration {
        self.epoch.saturating_add(Duration::from_nanos(now.as_nanos()))
    }
}
