//! What control and cores share of the proxy's filters: compiled chains, and the thread that writes their logs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam_channel::Sender;
pub use pnat_http::filters::Kinds;
use pnat_http::filters::Lasting;
use pnat_http::filters::cache::CacheHandle;
pub use pnat_http::filters::cache::{Purge, PurgeFault};
pub use pnat_http::filters::redirect::ServerReport;
pub use pnat_http::filters::url_block::ListReport;
use pnat_http::filters::{cache, redirect, url_block};
use pnat_proxy::filter::log_writer::{self, LogSender, Record};
use pnat_proxy::filter::{Chains, CompileError, Needs, Services};
pub use pnat_proxy::filter::{FilterStats, Spoken, WebStats};
use pnat_shared::config::Policy;
use pnat_shared::stats::{Counter, Counters, Metric};

pub use crate::launch::Clock;

/// Why nothing was removed from a cache.
#[derive(Debug, thiserror::Error)]
pub enum PurgeError {
    #[error("no filter of type cache{}", .0.as_ref().map_or_else(String::new, |name| format!(" is named \"{name}\"")))]
    NoCache(Option<String>),
    #[error(transparent)]
    Fault(#[from] PurgeFault),
}

/// A policy's chains, as proxy cores are handed them.
pub type Compiled = Arc<Chains>;

/// Compiles chains and leads to the log writer.
#[derive(Clone, Debug)]
pub struct Filters {
    /// Largest receive window of a pair's socket, in bytes.
    window: u32,
    /// That of the proxy cores.
    clock: Clock,
    records: Sender<Record>,
    kinds: Arc<Kinds>,
    lasting: Arc<Lasting>,
}

/// Whether the filters of a policy can be made, without making any; answers which of them do nothing all the same.
pub fn rehearse(policy: &Policy, window: u32, kinds: &Kinds) -> Result<Vec<String>, String> {
    let needs = Needs { kinds, lasting: &Lasting::default(), rehearsal: true };
    let chains = Chains::compile_with(policy, window, &needs).map_err(|error| told(&error))?;
    Ok(chains.doubts().to_vec())
}

/// An error with its cause.
fn told(error: &CompileError) -> String {
    let cause = std::error::Error::source(error).map_or_else(String::new, |cause| format!(": {cause}"));
    format!("{error}{cause}")
}

impl Filters {
    /// Starts the log writer. Its thread ends when the last [`Filters`] and [`Services`] are gone; then all is written.
    /// `kinds` are the types of HTTP filters that there are.
    pub fn start(window: u32, kinds: Kinds, clock: Clock) -> std::io::Result<(Self, LogThread)> {
        let (records, received) = log_writer::channel();
        let unwritten = Arc::new(Counter::default());
        let count = unwritten.clone();
        let thread = thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn(move || log_writer::run(&received, &count))?;
        let (kinds, lasting) = (Arc::new(kinds), Arc::new(Lasting::default()));
        Ok((Self { window, clock, records, kinds, lasting }, LogThread { thread, unwritten }))
    }

    /// Builds what a policy's filters need; may take long. What does nothing is told in the log.
    pub fn compile(&self, policy: &Policy) -> Result<Compiled, String> {
        let needs = Needs { kinds: &self.kinds, lasting: &self.lasting, rehearsal: false };
        let chains = Chains::compile_with(policy, self.window, &needs).map_err(|error| told(&error))?;
        for doubt in chains.doubts() {
            tracing::warn!("{doubt}");
        }
        Ok(Arc::new(chains))
    }

    /// The numbers of each cache, by the filter's name.
    pub fn caches(&self) -> BTreeMap<String, BTreeMap<String, u64>> {
        let numbers = |handle: &CacheHandle| {
            let report = serde_json::to_value(handle.report()).unwrap_or_default();
            serde_json::from_value(report).unwrap_or_default()
        };
        cache::running(&self.lasting).into_iter().map(|(name, handle)| (name, numbers(&handle))).collect()
    }

    /// What was read of each list, by the filter's name.
    pub fn lists(&self) -> BTreeMap<String, Vec<ListReport>> {
        url_block::report(&self.lasting).into_iter().collect()
    }

    /// How the servers do that each `redirect` filter has, by the filter's name.
    pub fn servers(&self) -> Vec<(String, Vec<ServerReport>)> {
        redirect::report(&self.lasting)
    }

    /// Removes responses from the cache of this filter, or from all caches; answers how many were in memory. What is asked for later
    /// is not concerned. A fault of one cache keeps it from none of the others.
    pub fn purge(&self, cache: Option<&str>, purge: &Purge) -> Result<u64, PurgeError> {
        // The clock on the wall may have been set since those of the cores began, by which responses are dated.
        let now = self.clock.unix_time();
        let mut chosen = cache::running(&self.lasting);
        chosen.retain(|(name, _)| cache.is_none_or(|cache| name == cache));
        if chosen.is_empty() {
            return Err(PurgeError::NoCache(cache.map(str::to_owned)));
        }
        let removed: Vec<_> = chosen.iter().map(|(_, handle)| handle.purge(purge, now)).collect();
        Ok(removed.into_iter().sum::<Result<u64, PurgeFault>>()?)
    }

    /// Makes the writer open its files by name again (log rotation).
    pub fn reopen_logs(&self) {
        if self.records.try_send(Record::Reopen).is_err() {
            tracing::warn!("the log writer is too busy to open its files again; they stay as they are");
        }
    }

    /// A proxy core's own. `lost` counts records that found no room.
    pub fn services(&self, lost: Arc<Counter>) -> Services {
        let clock = self.clock;
        // Whatever is measured else: HTTP filters have a budget of time.
        Services::new(clock.epoch(), LogSender::new(self.records.clone(), lost))
            .with_clock(move || clock.now().as_nanos())
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
