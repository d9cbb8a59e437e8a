//! Whether the disk takes what is written.
//!
//! Runs on: the cache's threads. Allocates: for a record that asks. Blocks: never.
//!
//! The storage tells nobody but its log when writing fails, and its writer may end by it, after which it says so again for
//! everything that it is given. So what becomes of each record is looked at. One may be lost because the disk has no time for it:
//! whether it takes anything at all is asked by records of our own.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use foyer::{HybridCache, HybridCacheProperties, Location};

use super::key::Key;
use super::stored::{Record, Variants};

/// What nothing else lies under: keys of resources have a blank.
const QUESTION: &str = "question";

/// So many records, each written when the one before is known to be lost: the disk takes nothing any more.
const QUESTIONS: u8 = 4;

#[derive(Debug, Default)]
pub(super) struct Health {
    is_asked: AtomicBool,
    is_given_up: AtomicBool,
}

impl Health {
    pub(super) fn is_given_up(&self) -> bool {
        self.is_given_up.load(Relaxed)
    }

    /// A record is lost. Asks the disk, unless somebody does already; whether it is given up by that.
    pub(super) async fn doubt(&self, cache: &HybridCache<Key, Record>) -> bool {
        if self.is_given_up() || self.is_asked.swap(true, Relaxed) {
            return false;
        }
        let is_well = takes_anything(cache).await;
        self.is_given_up.store(!is_well, Relaxed);
        self.is_asked.store(false, Relaxed);
        !is_well
    }
}

async fn takes_anything(cache: &HybridCache<Key, Record>) -> bool {
    let key = Key::from(QUESTION);
    let record =
        Record::Variants(Arc::new(Variants { generation: 0, requested: Duration::ZERO, names: Vec::new() }));
    for _ in 0..QUESTIONS {
        let properties = HybridCacheProperties::default().with_location(Location::OnDisk);
        cache.insert_with_properties(key.clone(), record.clone(), properties);
        cache.storage().wait().await;
        if cache.storage().may_contains(&key) {
            cache.remove(&key);
            return true;
        }
    }
    false
}
