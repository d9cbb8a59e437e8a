//! What of a cache lies in memory, as proxy cores see it.
//!
//! Runs on: any thread. Allocates: when it changes. Blocks: never.
//!
//! One map for all cores, from which reading is wait-free: a hit costs a hash, a comparison of keys and a count of references,
//! sends nothing and takes no lock. A map of each core's own would hold hot objects once per core, and a purge would have to reach
//! all of them; here what is removed is gone for everybody at once. It mirrors the storage's memory, which decides what stays:
//! the storage's thread publishes here, and what leaves there is removed here.

use super::key::Key;
use super::stored::Record;

#[derive(Debug, Default)]
pub(super) struct Front {
    records: papaya::HashMap<Key, Record, foldhash::fast::RandomState>,
}

impl Front {
    pub(super) fn get(&self, key: &str) -> Option<Record> {
        self.records.pin().get(key).cloned()
    }

    pub(super) fn publish(&self, key: Key, record: Record) {
        self.records.pin().insert(key, record);
    }

    /// Removes whatever lies there.
    pub(super) fn remove(&self, key: &str) -> Option<Record> {
        self.records.pin().remove(key).cloned()
    }

    /// Removes this very record.
    pub(super) fn remove_this(&self, key: &Key, record: &Record) {
        // That another one lies there is as good.
        let _ = self.records.pin().remove_if(key, |_, own| own.is(record));
    }

    /// The keys that `wanted` chooses, with whether a response lies there.
    pub(super) fn keys(&self, wanted: impl Fn(&Key) -> bool) -> Vec<(Key, bool)> {
        let records = self.records.pin();
        let chosen = records.iter().filter(|(key, _)| wanted(key));
        chosen.map(|(key, record)| (key.clone(), matches!(record, Record::Response(_)))).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }
}
