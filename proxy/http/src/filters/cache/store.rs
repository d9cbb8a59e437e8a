//! Memory and disk of a cache: the hybrid cache `foyer`.
//!
//! Runs on: the cache's threads. Allocates: freely. Blocks: at opening and closing only.
//!
//! ```text
//!   insert -----> memory (least recently used leaves) ---leaves---> front forgets it
//!      '--------> disk (written at once; oldest blocks leave)
//!   load <------- disk, checked by a checksum, and into memory again
//! ```
//!
//! Disk is written at insertion, not at eviction: so what was stored survives a restart. Removals are written to a log of
//! their own, lest what was invalidated comes back. All of the space is taken at opening. A disk that fails later costs what lies
//! there, never an answer: what cannot be read, or is not written, is counted. One that takes nothing any more is given up, and
//! what lies there forgotten, for removals could not be written down either ([`health`](super::health)).

use std::fs::{self, File, TryLockError};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use foyer::{
    BlockEngineConfig, DeviceBuilder, Event, EventListener, FsDeviceBuilder, HybridCache, HybridCacheBuilder,
    HybridCachePolicy, HybridCacheProperties, Location, LruConfig, PsyncIoEngineConfig, RecoverMode, Spawner,
};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use tokio::runtime::{self, Runtime};

use super::Shared;
use super::counters::Count;
use super::health::Health;
use super::key::Key;
use super::purge::Rules;
use super::stored::Record;

/// A block of the disk at most: what is evicted as one.
const BLOCK: usize = 16 << 20;

/// Blocks at least: one is cleaned while another one is written.
const BLOCKS: usize = 8;

/// Least bytes of disk.
pub(super) const LEAST: usize = 8 << 20;

/// What a block has room for beside content: a head, and the storage's own.
const HEAD: usize = 64 << 10;

/// Where blocks lie in the cache's directory.
const PLACE: &str = "blocks";

/// The file among them where removals are written down: the storage takes it first.
const LOG: &str = "foyer-storage-direct-fs-00000000";

/// What is waiting to be written, at most; beyond it, responses stay in memory only.
const WRITE_BUFFER: usize = 16 << 20;

/// Where a cache lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Room {
    /// Bytes of memory.
    pub(super) memory: usize,
    /// Directory, and bytes in it.
    pub(super) disk: Option<(PathBuf, usize)>,
}

impl Room {
    /// Largest content that there is room for.
    pub(super) fn largest(&self) -> usize {
        let on_disk = self.disk.as_ref().map_or(usize::MAX, |(_, bytes)| block(*bytes) - HEAD);
        on_disk.min(self.memory / 4)
    }

    /// The first key by which another one differs.
    pub(super) fn changed(&self, other: &Self) -> Option<&'static str> {
        let parts = |room: &Self| room.disk.clone().unzip();
        let ((dir, disk), (other_dir, other_disk)) = (parts(self), parts(other));
        let keys = [
            ("memory", self.memory != other.memory),
            ("dir", dir != other_dir),
            ("disk", disk != other_disk),
        ];
        keys.into_iter().find_map(|(key, differs)| differs.then_some(key))
    }
}

/// Size of a block where there are so many bytes of disk.
const fn block(disk: usize) -> usize {
    let block = disk / BLOCKS;
    if block < BLOCK { block } else { BLOCK }
}

/// Why a cache cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    #[error("cannot write in the directory: {0}")]
    Directory(#[source] io::Error),
    #[error("another cache uses the directory")]
    InUse,
    #[error("no thread for the disk: {0}")]
    Thread(#[source] io::Error),
    #[error("the disk cannot be opened: {0}")]
    Storage(#[source] foyer::Error),
}

#[derive(Debug)]
pub(super) struct Store {
    cache: HybridCache<Key, Record>,
    runtime: Runtime,
    shared: Arc<Shared>,
    health: Arc<Health>,
    /// Where blocks lie, if anywhere.
    blocks: Option<PathBuf>,
    /// Kept locked as long as the directory is in use.
    _lock: Option<File>,
}

impl Store {
    /// Opens a cache, and finds what lies in its directory. Not within an asynchronous runtime.
    pub(super) fn open(room: &Room, shared: &Arc<Shared>) -> Result<(Self, Rules), StoreError> {
        let lock = room.disk.as_ref().map(|(dir, _)| lock(dir)).transpose()?;
        let rules = rules(room, shared)?;
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(4)
            .thread_name("cache-disk")
            .build()
            .map_err(StoreError::Thread)?;
        let cache = build_or_forget(&runtime, room, shared)?;
        let blocks = room.disk.as_ref().map(|(dir, _)| dir.join(PLACE));
        if let Some(blocks) = &blocks {
            reserve(blocks).map_err(StoreError::Directory)?;
        }
        let (shared, health) = (Arc::clone(shared), Arc::default());
        Ok((Self { cache, runtime, shared, health, blocks, _lock: lock }, rules))
    }

    /// Puts a record in memory, and on disk if it is worth that.
    pub(super) fn insert(&self, key: Key, record: Record) {
        let goes_to_disk = !matches!(record, Record::Uncacheable(_)) && self.has_disk();
        let location = if goes_to_disk { Location::Default } else { Location::InMem };
        let properties = HybridCacheProperties::default().with_location(location);
        self.cache.insert_with_properties(key.clone(), record.clone(), properties);
        if goes_to_disk {
            self.follow(key.clone());
        }
        self.publish(key, record);
    }

    fn has_disk(&self) -> bool {
        self.blocks.is_some() && !self.health.is_given_up()
    }

    /// Looks at what becomes of a record that is to be written.
    fn follow(&self, key: Key) {
        let (cache, shared) = (self.cache.clone(), Arc::clone(&self.shared));
        let (health, blocks) = (Arc::clone(&self.health), self.blocks.clone());
        self.runtime.spawn(async move {
            // One that is given up would log each time that it is asked.
            if !health.is_given_up() {
                cache.storage().wait().await;
            }
            // What was removed meanwhile, or had to make room, is in neither: it tells nothing.
            if cache.storage().may_contains(&key) || !cache.memory().contains(&key) {
                return;
            }
            shared.counters.add(Count::Unwritten);
            if health.doubt(&cache).await {
                shared.counters.add(Count::IoError);
                let forgotten = blocks.map(fs::remove_dir_all).transpose();
                let fault = forgotten.err().map(tracing::field::display);
                tracing::error!(
                    fault,
                    "the cache's disk takes nothing any more: it goes on in memory until a restart"
                );
            }
        });
    }

    /// Lets proxy cores see a record that is in memory.
    pub(super) fn publish(&self, key: Key, record: Record) {
        self.shared.front.publish(key.clone(), record.clone());
        // It may have had to leave in between, which nobody would notice any more.
        if !self.cache.memory().contains(&key) {
            self.shared.front.remove_this(&key, &record);
        }
    }

    pub(super) fn remove(&self, key: &Key) {
        self.shared.front.remove(key.as_str());
        if self.has_disk() {
            self.cache.remove(key);
        } else {
            self.cache.memory().remove(key);
        }
    }

    /// A record has been used.
    pub(super) fn touch(&self, key: &Key) {
        self.cache.memory().touch(key);
    }

    pub(super) fn contains(&self, key: &Key) -> bool {
        self.cache.memory().contains(key) || self.may_be_on_disk(key)
    }

    pub(super) fn may_be_on_disk(&self, key: &Key) -> bool {
        self.has_disk() && self.cache.storage().may_contains(key)
    }

    /// Reads a record from disk, where it should be, and hands it on once it is there.
    pub(super) fn load(&self, key: &Key, deliver: impl FnOnce(Option<Record>) + Send + 'static) {
        let (get, shared) = (self.cache.get(key), Arc::clone(&self.shared));
        self.runtime.spawn(async move {
            let found = get.await.ok().flatten();
            if found.is_none() {
                shared.counters.add(Count::IoError);
            }
            deliver(found.map(|entry| entry.value().clone()));
        });
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.cache.memory().usage()
    }

    pub(super) fn disk_bytes(&self) -> usize {
        self.cache.statistics().disk_write_bytes()
    }

    /// Writes what is to be written yet.
    pub(super) fn close(self) {
        if self.runtime.block_on(self.cache.close()).is_err() {
            self.shared.counters.add(Count::IoError);
        }
    }
}

/// Makes the directory where there is none, and keeps others out of it.
fn lock(dir: &PathBuf) -> Result<File, StoreError> {
    fs::create_dir_all(dir).map_err(StoreError::Directory)?;
    let lock = File::create(dir.join("lock")).map_err(StoreError::Directory)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse),
        Err(TryLockError::Error(error)) => Err(StoreError::Directory(error)),
    }
}

/// Takes the space of all blocks, so that a disk that is full says so now, and not at some later write.
fn reserve(blocks: &Path) -> io::Result<()> {
    for entry in fs::read_dir(blocks)? {
        let block = File::options().write(true).open(entry?.path())?;
        let length = block.metadata()?.len();
        match fallocate(&block, FallocateFlags::empty(), 0, length) {
            // Some file systems have no such promise to give.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// What was purged from the directory. Where that is lost, so is what lies there.
fn rules(room: &Room, shared: &Shared) -> Result<Rules, StoreError> {
    let dir = room.disk.as_ref().map(|(dir, _)| dir);
    match (Rules::read(dir), dir) {
        (Some(rules), _) => Ok(rules),
        (None, None) => Ok(Rules::default()),
        (None, Some(dir)) => {
            tracing::warn!(dir = %dir.display(), "what was purged cannot be read: what lies on disk is forgotten");
            shared.counters.add(Count::IoError);
            fs::remove_dir_all(dir.join(PLACE)).map_err(StoreError::Directory)?;
            Ok(Rules::new(dir))
        }
    }
}

/// Opens the storage. What lies on disk is forgotten where it cannot be read: by that the storage may panic, too.
fn build_or_forget(
    runtime: &Runtime,
    room: &Room,
    shared: &Arc<Shared>,
) -> Result<HybridCache<Key, Record>, StoreError> {
    let try_build = || {
        let spawner = Spawner::from(runtime.handle().clone());
        // As a task, whose panic is its result.
        runtime.block_on(runtime.spawn(build(room.clone(), Arc::clone(shared), spawner)))
    };
    let read = |dir: &Path| is_sound(&dir.join(PLACE).join(LOG)).then(try_build)?.ok();
    let built = match room.disk.as_ref().map(|(dir, _)| (dir, read(dir))) {
        None => try_build(),
        Some((_, Some(built))) => Ok(built),
        Some((dir, None)) => {
            tracing::warn!(dir = %dir.display(), "what lies on disk cannot be read: it is forgotten");
            shared.counters.add(Count::IoError);
            fs::remove_dir_all(dir.join(PLACE)).map_err(StoreError::Directory)?;
            try_build()
        }
    };
    built.map_err(|panic| StoreError::Thread(panic.into()))?.map_err(StoreError::Storage)
}

/// Whether the log of removals can be what was written there: pairs of 64 bits, of which the second one numbers what happened.
/// By a number that nobody counts up to, what was removed later might come back; the storage would take it.
fn is_sound(log: &Path) -> bool {
    let Ok(log) = File::open(log) else {
        return true;
    };
    let mut log = BufReader::with_capacity(1 << 20, log);
    let mut removal = [[0; 8]; 2];
    while log.read_exact(removal.as_flattened_mut()).is_ok() {
        if i64::from_be_bytes(removal[1]) < 0 {
            return false;
        }
    }
    true
}

async fn build(room: Room, shared: Arc<Shared>, spawner: Spawner) -> foyer::Result<HybridCache<Key, Record>> {
    let storage = HybridCacheBuilder::new()
        .with_policy(HybridCachePolicy::WriteOnInsertion)
        .with_event_listener(Arc::new(Leaving(shared)))
        .memory(room.memory)
        // Only the cache's own threads come here: proxy cores read the front.
        .with_shards(1)
        .with_eviction_config(LruConfig::default())
        .with_weighter(|key: &Key, record: &Record| key.as_str().len() + record.weight())
        .storage()
        .with_spawner(spawner)
        .with_recover_mode(RecoverMode::Quiet);
    let Some((dir, bytes)) = &room.disk else {
        return storage.build().await;
    };
    let device = FsDeviceBuilder::new(dir.join(PLACE)).with_capacity(*bytes).build()?;
    let engine = BlockEngineConfig::new(Arc::clone(&device))
        .with_block_size(block(*bytes))
        .with_buffer_pool_size(WRITE_BUFFER)
        .with_tombstone_log(true);
    let storage = storage.with_io_engine_config(PsyncIoEngineConfig::new()).with_engine_config(engine);
    let cache = storage.build().await?;
    free(&dir.join(PLACE), device.partitions()).map_err(foyer::Error::io_error)?;
    Ok(cache)
}

/// Removes files that are left of a time when there was more room on disk: those in use are numbered below `used`.
fn free(blocks: &Path, used: usize) -> io::Result<()> {
    for entry in fs::read_dir(blocks)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.rsplit('-').next()?.parse::<usize>().ok());
        if number.is_some_and(|number| number >= used) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Takes what leaves memory from the front.
struct Leaving(Arc<Shared>);

impl EventListener for Leaving {
    type Key = Key;
    type Value = Record;

    fn on_leave(&self, reason: Event, key: &Key, record: &Record) {
        if reason == Event::Evict && matches!(record, Record::Response(_)) {
            self.0.counters.add(Count::Evicted);
        }
        self.0.front.remove_this(key, record);
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn assert_given_up(disk: Option<(PathBuf, usize)>, expected: bool) {
        let room = Room { memory: 1 << 20, disk };
        let shared = Arc::new(Shared::new(&room));
        let (store, _) = Store::open(&room, &shared).unwrap();
        for doubt in 0..10 {
            let is_given_up = store.runtime.block_on(store.health.doubt(&store.cache));
            assert_eq!(is_given_up, expected && doubt == 0, "told once");
        }
        assert_eq!(store.health.is_given_up(), expected);
        store.close();
    }

    #[test]
    fn a_disk_that_takes_something_is_not_given_up() {
        let dir = TempDir::new().unwrap();
        assert_given_up(Some((dir.path().to_owned(), LEAST)), false);
    }

    #[test]
    fn a_disk_that_takes_nothing_is_given_up() {
        assert_given_up(None, true);
    }
}
