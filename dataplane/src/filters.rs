//! What control and cores share of the proxy's filters: compiled chains, and the thread that writes their logs.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam_channel::Sender;
use pnat_proxy::filter::log_writer::{self, LogSender, Record};
use pnat_proxy::filter::{Chains, Services};
use pnat_shared::config::Policy;
use pnat_shared::stats::{Counter, Counters, Metric};
use pnat_shared::time::Duration;

/// A policy's chains, as proxy cores are handed them.
pub type Compiled = Arc<Chains>;

/// Compiles chains and leads to the log writer.
#[derive(Clone, Debug)]
pub struct Filters {
    /// Largest receive window of a pair's socket, in bytes.
    window: u32,
    records: Sender<Record>,
}

impl Filters {
    /// Starts the log writer. Its thread ends when the last [`Filters`] and [`Services`] are gone; then all is written.
    pub fn start(window: u32) -> std::io::Result<(Self, LogThread)> {
        let (records, received) = log_writer::channel();
        let unwritten = Arc::new(Counter::default());
        let count = unwritten.clone();
        let thread = thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn(move || log_writer::run(&received, &count))?;
        Ok((Self { window, records }, LogThread { thread, unwritten }))
    }

    /// Builds what a policy's filters need; may take long.
    pub fn compile(&self, policy: &Policy) -> Result<Compiled, String> {
        Chains::compile(policy, self.window).map(Arc::new).map_err(|error| {
            let cause =
                std::error::Error::source(&error).map_or_else(String::new, |cause| format!(": {cause}"));
            format!("{error}{cause}")
        })
    }

    /// Makes the writer open its files by name again (log rotation).
    pub fn reopen_logs(&self) {
        if self.records.try_send(Record::Reopen).is_err() {
            tracing::warn!("the log writer is too busy to open its files again; they stay as they are");
        }
    }

    /// A proxy core's own. `epoch` is the Unix time at which its clock began; `lost` counts records that found no room.
    pub fn services(&self, epoch: Duration, lost: Arc<Counter>) -> Services {
        Services::new(epoch, LogSender::new(self.records.clone(), lost))
    }
}

/// The log writer's thread.
#[derive(Debug)]
pub struct LogThread {
    thread: JoinHandle<()>,
    unwritten: Arc<Counter>,
}

impl LogThread {
    /// Counts the records that could not be written.
    pub fn counters(&self) -> Arc<dyn Counters> {
        Arc::new(Unwritten(self.unwritten.clone()))
    }

    /// Waits until everything is written. Every [`Filters`] must be gone.
    pub fn finish(self) {
        if self.thread.join().is_err() {
            tracing::error!("the log writer has panicked; records are lost");
        }
    }
}

#[derive(Debug)]
struct Unwritten(Arc<Counter>);

impl Counters for Unwritten {
    fn counters(&self, each: &mut dyn FnMut(Metric, u64)) {
        each(Metric::count("unwritten_records", "Log records that could not be written."), self.0.value());
    }
}
