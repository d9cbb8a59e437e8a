//! The threads of caches: who waits for them to end.
//!
//! Runs on: where configurations are read. Allocates: freely. Blocks: until what a cache has to write yet is written.
//!
//! The last one who has a cache may be a connection, and so a proxy core, which waits for no disk: it only tells the cache's
//! thread to end. Who opens another cache in the same directory waits for that here, and so does who ends the process.

use std::sync::Weak;
#[expect(clippy::disallowed_types, reason = "for who reads a configuration, which no core does")]
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::CacheHandle;
use super::store::Room;
use crate::filter::ConfigFault;

/// Of all caches that were opened one after the other, and may run yet.
#[derive(Debug, Default)]
pub(super) struct Threads {
    #[expect(clippy::disallowed_types, reason = "for who reads a configuration, which no core does")]
    all: Mutex<Vec<Running>>,
}

#[derive(Debug)]
struct Running {
    name: String,
    room: Room,
    /// Gone once it was told to end.
    cache: Weak<CacheHandle>,
    thread: JoinHandle<()>,
}

impl Threads {
    /// Opens a cache, behind those in the same directory that nobody has any more.
    pub(super) fn open(&self, name: &str, room: &Room) -> Result<Arc<CacheHandle>, ConfigFault> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |running: &mut Running| {
            running.cache.strong_count() == 0 && (running.thread.is_finished() || running.shares_dir(room))
        };
        all.extract_if(.., is_over).for_each(Running::wait);
        if let Some(there) = all.iter().find(|running| running.shares_dir(room)) {
            let there = &there.name;
            let message = format!(
                "the cache \"{there}\" has it as long as the configuration in force, or a connection, has that cache"
            );
            return Err(ConfigFault { key: "dir".to_owned(), message });
        }
        let (cache, thread) = CacheHandle::open(name, room)?;
        let cache = Arc::new(cache);
        let (name, room) = (name.to_owned(), room.clone());
        all.push(Running { name, room, cache: Arc::downgrade(&cache), thread });
        Ok(cache)
    }
}

impl Running {
    fn shares_dir(&self, room: &Room) -> bool {
        let dir = |room: &Room| room.disk.as_ref().map(|(dir, _)| dir.clone());
        dir(room).is_some_and(|wanted| dir(&self.room) == Some(wanted))
    }

    fn wait(self) {
        // That it panicked has been told by itself.
        let _ = self.thread.join();
    }
}

impl Drop for Threads {
    /// Waits for caches that nobody has any more. For others, who has them last will.
    fn drop(&mut self) {
        for running in self.all.get_mut().unwrap_or_else(PoisonError::into_inner).drain(..) {
            match running.cache.upgrade() {
                Some(cache) => cache.wait_at_the_end(running.thread),
                None => running.wait(),
            }
        }
    }
}
