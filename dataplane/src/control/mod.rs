//! The control plane: answers operators over a Unix socket, and by TCP if asked to, and carries their words to the cores.
//!
//! Runs on: its own thread (tokio, one thread). Allocates: freely. Blocks: never a core.
//!
//! ```text
//!   pnat stats, flows, ...        control thread                          worker and proxy cores
//!   ---------------------- HTTP -> api --- CoreMessage, bounded channel --> polled between bursts
//!   client                           <---- Reply, one-shot ---------------- try, never wait
//!                                    <==== counters, tap ================== written, never read back
//! ```
//!
//! Nothing is locked: counters are single-writer atomics that control reads in place; everything else is a message that
//! a core answers when it comes to it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use crossbeam_channel::{Sender, TrySendError};
use pnat_shared::capture::Tap;
use pnat_shared::config::{Config, Policy};
use pnat_shared::flow::Handle;
use pnat_shared::report::{FlowPage, FlowQuery, PairRow, PastPage, PastQuery};
use pnat_shared::stats::{Counters, Latency};
use pnat_shared::time::Duration;
use thiserror::Error;
use tokio::sync::oneshot;

use crate::filters::{Compiled, Filters, WebStats};
use tls::Credentials;

pub mod answer;
mod api;
mod capture;
pub mod client;
mod clients;
pub mod columns;
pub mod cores;
pub mod course;
pub mod explain;
mod flows;
pub mod history;
pub mod web;
mod metrics;
mod past;
mod picture;
pub mod question;
mod ready;
mod reload;
mod remote;
pub mod report;
mod server;
mod socket;
mod stats;
mod text;
pub mod tls;
mod watch;
#[cfg(test)]
mod tests;

pub use picture::percentile_curve;
pub use server::{Control, ControlError, start};
pub use text::{nanos, short};

/// How a core answers a [`CoreMessage`]. Sending never blocks; nobody may be listening any more.
pub type Reply<T> = oneshot::Sender<T>;

/// Messages that fit into a core's channel. Control asks one thing at a time, so only a stuck core fills it.
pub const CORE_QUEUE: usize = 64;

/// How long control waits for a core. A core that carries traffic answers within a millisecond.
const PATIENCE: Duration = Duration::from_secs(2);

/// What control tells or asks a core. A core takes at most one between two bursts.
#[derive(Debug)]
pub enum CoreMessage {
    /// A new policy. A worker decides by it from now on; a proxy core gets it before any worker does, and makes the filters
    /// of new flows by `chains`. Snapshots of a generation below `oldest` decide nothing any more and may go as their pairs
    /// end. An error refuses the policy, and the core stays as it was.
    Policy {
        generation: u32,
        oldest: u32,
        policy: Arc<Policy>,
        chains: Compiled,
        reply: Reply<Result<(), String>>,
    },
    /// The newest policy generation that the core holds: it answers, so its loop turns.
    Policies(Reply<u32>),
    /// A copy of the core's histograms.
    Latency(Reply<Box<Latency>>),
    /// What a proxy core's HTTP filters did; a worker has none.
    Web(Reply<Box<WebStats>>),
    /// A worker's live flows; a proxy core tells none.
    Flows { query: FlowQuery, reply: Reply<FlowPage> },
    /// What a worker remembers of flows that are no more, or never were; a proxy core remembers none.
    Past { query: PastQuery, reply: Reply<PastPage> },
    /// What a proxy core knows of these flows; those it does not know are left out, and a worker knows none.
    Pairs { handles: Vec<Handle>, reply: Reply<Vec<PairRow>> },
    /// Starts (or with `None` ends) copying packets.
    Capture(Option<Tap>),
    /// Opens no new flow, and ends those that still live after this time.
    Drain(Duration),
}

/// What a core is for. A CPU that runs a worker and a reactor has two [`Core`]s, one for each.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Worker,
    Proxy,
}

impl Role {
    pub const fn key(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Proxy => "proxy",
        }
    }
}

/// Control's end of a worker or a proxy core.
#[derive(Clone, Debug)]
pub struct Core {
    pub role: Role,
    /// The number in its [`pnat_shared::flow::WorkerId`] or [`pnat_shared::flow::ProxyId`].
    pub index: usize,
    pub cpu: usize,
    pub messages: Sender<CoreMessage>,
    pub counters: Arc<dyn Counters>,
}

/// Something that is no core and has counters: a port, a pool, a ring.
#[derive(Clone, Debug)]
pub struct Gauge {
    /// `port`, `pool` or `ring`.
    pub kind: &'static str,
    /// As in `outside`, or `to_proxy 0-1`.
    pub name: String,
    pub counters: Arc<dyn Counters>,
}

/// A running gateway, as control sees it.
#[derive(Debug)]
pub struct Gateway {
    /// The file that a reload reads again.
    pub config_file: PathBuf,
    /// What the gateway was started with; its policy is generation [`FIRST_GENERATION`].
    pub config: Config,
    /// CPUs of this machine are numbered below this.
    pub cpus: usize,
    /// Wall-clock time at [`pnat_shared::time::Instant::ZERO`].
    pub started: SystemTime,
    pub cores: Vec<Core>,
    pub gauges: Vec<Gauge>,
    /// Makes a policy's chains, and opens log files anew.
    pub filters: Filters,
    /// Read from where `config.control.listen` says; `None` where it says nothing.
    pub credentials: Option<Credentials>,
}

/// The generation of the policy that cores start with.
pub const FIRST_GENERATION: u32 = 1;

/// Why a core did not do as asked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CoreError {
    #[error("{0} does not read its messages")]
    Busy(String),
    #[error("{0} has stopped")]
    Stopped(String),
    #[error("{0} did not answer within {patience}", patience = humantime::format_duration(*.1))]
    Silent(String, Duration),
    #[error("{0}: {1}")]
    Refused(String, String),
}

impl Core {
    /// As in `worker 0`.
    pub fn name(&self) -> String {
        format!("{} {}", self.role.key(), self.index)
    }

    /// Hands a message over; never waits.
    pub fn tell(&self, message: CoreMessage) -> Result<(), CoreError> {
        self.messages.try_send(message).map_err(|error| match error {
            TrySendError::Full(_) => CoreError::Busy(self.name()),
            TrySendError::Disconnected(_) => CoreError::Stopped(self.name()),
        })
    }

    /// Asks; the answer is awaited apart, so that many cores can be asked at once.
    fn ask<T>(&self, message: impl FnOnce(Reply<T>) -> CoreMessage) -> Asked<T> {
        let (reply, answer) = oneshot::channel();
        Asked { core: self.name(), answer: self.tell(message(reply)).map(|()| answer) }
    }
}

/// A question on its way.
#[derive(Debug)]
struct Asked<T> {
    core: String,
    answer: Result<oneshot::Receiver<T>, CoreError>,
}

impl<T> Asked<T> {
    /// The answer, or what went wrong, within [`PATIENCE`].
    async fn answer(self) -> Result<T, CoreError> {
        self.answer_within(PATIENCE).await
    }

    async fn answer_within(self, patience: Duration) -> Result<T, CoreError> {
        match tokio::time::timeout(patience, self.answer?).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(CoreError::Stopped(self.core)),
            Err(_) => Err(CoreError::Silent(self.core, patience)),
        }
    }
}

impl Gateway {
    fn role(&self, role: Role) -> impl Iterator<Item = &Core> {
        self.cores.iter().filter(move |core| core.role == role)
    }
}
