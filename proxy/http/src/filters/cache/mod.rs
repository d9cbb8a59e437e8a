//! `cache`: answers from what servers said before (RFC 9111), from memory and disk, for all proxy cores together.
//!
//! ```text
//!   proxy cores              any thread reads             the cache's thread         threads of the disk
//!   filter --- key -------> front: hit, answered here
//!     |                        ^ published    . . . . . . . memory, what is asked for, who waits
//!     '--- Job, Ticket ----------------------------------->  |    '--- load, write ---> disk
//!     ^                                                      |
//!     '----------------- Reply: Found, Lead, Go -------------'
//! ```
//!
//! A hit in memory waits for nobody and takes no lock; once a second the cache's thread is told what is in use. Whatever else there is to know goes to the cache's thread as a job, and the
//! filter waits for the reply, not the core. Of many requests for one thing that is not there, one goes to the server
//! (`service.rs`).
//!
//! Responses are kept by the address that requests were sent to: a client could name any host to a server of its own, and what
//! that server says must not reach others. `key = "host"` gives that up where all of a rule's servers are trusted.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use crossbeam_channel::{Sender, unbounded};
use pnat_shared::time::Duration;

mod answer;
mod counters;
mod directive;
mod disk;
mod fetch;
mod filter;
mod front;
mod health;
mod key;
mod policy;
mod purge;
mod range;
mod service;
mod settings;
mod store;
mod stored;
mod threads;
mod want;
#[cfg(test)]
mod tests;

pub use counters::Report;
pub use purge::{Purge, PurgeFault};

use counters::Counters;
use filter::CacheFilter;
use front::Front;
use purge::Pattern;
use service::{Job, Service};
use settings::Settings;
use store::{Room, Store, StoreError};
use threads::Threads;

use crate::filter::{ConfigFault, HttpFactory, HttpFilter};
use crate::filters::shelf::{all_shared, shared};
use crate::filters::{Lasting, Section};

/// Content up to this size is lent without being counted: connections are few enough for that.
const SMALL: usize = 64 << 10;

/// Makes the filter of a `cache` section. A cache that is there already under this name is used on.
pub fn configure(section: &Section<'_>) -> Result<Arc<dyn HttpFactory>, ConfigFault> {
    let mut settings: Settings = section.read()?;
    if settings.dir.is_none() && section.keys.contains_key("disk") {
        return Err(ConfigFault {
            key: "disk".to_owned(),
            message: "is for a cache with dir only".to_owned(),
        });
    }
    let room = settings.room()?;
    if section.keys.contains_key("object") {
        settings.check_object(&room)?;
    } else {
        settings.object = settings.object.min(room.largest());
    }
    let running = running(section.lasting).into_iter().find(|(name, _)| name == section.name);
    if let Some(key) = running.and_then(|(_, cache)| cache.room.changed(&room)) {
        let message = "cannot change as long as the configuration in force, or a connection, has this cache";
        return Err(ConfigFault { key: key.to_owned(), message: message.to_owned() });
    }
    if section.rehearsal {
        return Ok(Arc::new(Rehearsed));
    }
    let threads = section.lasting.keep("caches", || Ok(Threads::default()));
    let threads = threads.unwrap_or_else(|never: Infallible| match never {});
    let open = || threads.open(section.name, &room);
    let handle = shared(section.lasting, &format!("{SHELF}{}", section.name), |_| true, open)?;
    Ok(Arc::new(Factory { settings: Arc::new(settings), handle }))
}

/// Before the names under which caches last.
const SHELF: &str = "cache:";

/// The caches that are running, by their filters' names.
pub fn running(lasting: &Lasting) -> Vec<(String, Arc<CacheHandle>)> {
    let all = all_shared::<CacheHandle>(lasting).into_iter();
    all.map(|(name, cache)| (name.trim_start_matches(SHELF).to_owned(), cache)).collect()
}

/// What proxy cores and the cache's threads share.
#[derive(Debug)]
struct Shared {
    front: Front,
    counters: Counters,
    /// Bytes of content with readers that may be slow, and of responses on their way into the cache; and how many there may be.
    lent: Arc<AtomicU64>,
    collected: AtomicU64,
    most: u64,
    /// Unix time in nanoseconds up to which nothing that was asked for is stored, nor believed if it lies on disk.
    distrusted: AtomicU64,
    /// For who reports: the storage belongs to the cache's thread.
    memory_bytes: AtomicU64,
    disk_bytes: AtomicU64,
}

impl Shared {
    fn new(room: &Room) -> Self {
        Self {
            front: Front::default(),
            counters: Counters::default(),
            lent: Arc::default(),
            collected: AtomicU64::new(0),
            most: room.memory as u64,
            distrusted: AtomicU64::new(0),
            memory_bytes: AtomicU64::new(0),
            disk_bytes: AtomicU64::new(0),
        }
    }

    /// Content to be sent to a client; `None`: too much is with slow readers already.
    fn lend(&self, content: &Bytes) -> Option<Bytes> {
        if content.len() <= SMALL {
            return Some(content.clone());
        }
        let bytes = content.len() as u64;
        let lent = Lent { content: content.clone(), lent: Arc::clone(&self.lent) };
        // From here on, dropping it gives the bytes back.
        let before = self.lent.fetch_add(bytes, Relaxed);
        (before + bytes <= self.most).then(|| Bytes::from_owner(lent))
    }

    /// Something that was asked for up to now does not hold any more, and nobody can be told what.
    fn distrust(&self, now: Duration) {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        self.distrusted.fetch_max(now, Relaxed);
    }

    fn distrusts(&self, requested: Duration) -> bool {
        requested <= Duration::from_nanos(self.distrusted.load(Relaxed))
    }

    fn gauge(&self, store: &Store) {
        self.memory_bytes.store(store.memory_bytes() as u64, Relaxed);
        self.disk_bytes.store(store.disk_bytes() as u64, Relaxed);
    }
}

/// Content that a client reads.
struct Lent {
    content: Bytes,
    lent: Arc<AtomicU64>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.content
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.lent.fetch_sub(self.content.len() as u64, Relaxed);
    }
}

/// A cache that runs, as long as a configuration or a connection has it.
#[derive(Debug)]
pub struct CacheHandle {
    shared: Arc<Shared>,
    jobs: Sender<Job>,
    room: Room,
    /// Where nobody else waits for it.
    thread: OnceLock<JoinHandle<()>>,
}

impl CacheHandle {
    fn open(name: &str, room: &Room) -> Result<(Self, JoinHandle<()>), ConfigFault> {
        let shared = Arc::new(Shared::new(room));
        let (jobs, received) = unbounded();
        let (opened, result) = crossbeam_channel::bounded(1);
        let (own_shared, own_jobs, own_room) = (Arc::clone(&shared), jobs.clone(), room.clone());
        let thread = thread::Builder::new().name(format!("cache {name}")).spawn(move || {
            let store = Store::open(&own_room, &own_shared);
            let opening = store.as_ref().map(|_| ()).map_err(StoreError::to_string);
            // Who asks waits for it.
            let _ = opened.send(opening);
            if let Ok((store, rules)) = store {
                Service::new(store, own_shared, own_jobs, rules).run(&received);
            }
        });
        let fault = |message: String| {
            let dir = room.disk.as_ref().map_or_else(String::new, |(dir, _)| format!("{}: ", dir.display()));
            ConfigFault { key: "dir".to_owned(), message: format!("{dir}{message}") }
        };
        let thread = thread.map_err(|error| fault(format!("no thread for the cache: {error}")))?;
        result.recv().map_err(|_| fault("the cache ended at its start".to_owned()))?.map_err(fault)?;
        Ok((Self { shared, jobs, room: room.clone(), thread: OnceLock::new() }, thread))
    }

    /// Whoever has it last is to wait for the end of its thread.
    fn wait_at_the_end(&self, thread: JoinHandle<()>) {
        // It is given away once.
        let _ = self.thread.set(thread);
    }

    /// Removes what it names, for everybody and at once, and whatever is on its way from servers; `unix_time` is now. Answers how
    /// many responses in memory were removed; what lies on disk only is not counted, but will not be found again. Where that cannot
    /// be written down, it will be once the cache is opened again, which is a fault.
    ///
    /// Waits for the cache's thread: not for proxy cores.
    pub fn purge(&self, purge: &Purge, unix_time: Duration) -> Result<u64, PurgeFault> {
        let pattern = Pattern::new(purge)?;
        let (removed, count) = crossbeam_channel::bounded(1);
        let sent = self.jobs.send(Job::Purge { pattern, now: unix_time, removed });
        sent.ok().and_then(|()| count.recv().ok()).unwrap_or(Err(PurgeFault::Ended))
    }

    pub fn report(&self) -> Report {
        let shared = &self.shared;
        Report {
            entries: shared.front.len() as u64,
            memory_bytes: shared.memory_bytes.load(Relaxed),
            disk_bytes: shared.disk_bytes.load(Relaxed),
            lent_bytes: shared.lent.load(Relaxed),
            ..shared.counters.report()
        }
    }

    /// Waits until everything that was handed to the cache before is done: for tests, and before a clean end.
    pub fn settle(&self) {
        let (done, is_done) = crossbeam_channel::bounded(1);
        if self.jobs.send(Job::Sync(done)).is_ok() {
            let _ = is_done.recv();
        }
    }
}

impl Drop for CacheHandle {
    /// Has written what is to be written yet; [`Threads`] waits for that.
    fn drop(&mut self) {
        // Where it has ended already, it has written what it had.
        let _ = self.jobs.send(Job::Stop);
        if let Some(thread) = self.thread.take() {
            // That it panicked has been told by itself.
            let _ = thread.join();
        }
    }
}

#[derive(Debug)]
struct Factory {
    settings: Arc<Settings>,
    handle: Arc<CacheHandle>,
}

impl HttpFactory for Factory {
    fn filter(&self) -> Box<dyn HttpFilter> {
        let (shared, jobs) = (Arc::clone(&self.handle.shared), self.handle.jobs.clone());
        Box::new(CacheFilter::new(Arc::clone(&self.settings), shared, jobs))
    }
}

/// What a cache would be made of, if it were not only to be seen whether it can: it has no part in anything.
#[derive(Debug)]
struct Rehearsed;

impl HttpFactory for Rehearsed {
    fn filter(&self) -> Box<dyn HttpFilter> {
        Box::new(Self)
    }
}

impl HttpFilter for Rehearsed {}
