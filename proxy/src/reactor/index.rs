//! From a handle to its pair by indexing: no hashing on a packet's way.
//!
//! Runs on: proxy cores. Allocates: a page when a worker's slot number in it is first seen. Blocks: never.

use pnat_shared::flow::Handle;
use pnat_shared::paged::Paged;

/// "No pair": the table of pairs never grows this far.
const NONE: u32 = u32::MAX;

/// Per worker, the key of each slot's pair.
///
/// Generations are not kept here: the pair knows its handle, and the reactor compares.
#[derive(Debug)]
pub(super) struct Index {
    workers: Vec<Paged<u32>>,
}

impl Index {
    pub(super) fn new(workers: usize) -> Self {
        Self { workers: (0..workers.min(Handle::WORKERS)).map(|_| Paged::default()).collect() }
    }

    /// Whether the handle's worker exists.
    pub(super) fn knows(&self, handle: Handle) -> bool {
        usize::from(handle.worker.0) < self.workers.len()
    }

    #[inline]
    pub(super) fn find(&self, handle: Handle) -> Option<u32> {
        let key = *self.workers.get(usize::from(handle.worker.0))?.get(handle.slot as usize)?;
        (key != NONE).then_some(key)
    }

    /// Notes the pair of a handle whose worker exists.
    pub(super) fn insert(&mut self, handle: Handle, key: u32) {
        let Some(slots) = self.workers.get_mut(usize::from(handle.worker.0)) else { return };
        *slots.reach(handle.slot as usize % Handle::SLOTS, || NONE) = key;
    }

    pub(super) fn remove(&mut self, handle: Handle) {
        let slots = self.workers.get_mut(usize::from(handle.worker.0));
        if let Some(place) = slots.and_then(|slots| slots.get_mut(handle.slot as usize)) {
            *place = NONE;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pnat_shared::flow::WorkerId;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        #[test]
        fn agrees_with_a_map(steps in prop::collection::vec((0u8..3, 0u32..3000, any::<bool>(), 0u32..99), 1..200)) {
            let mut index = Index::new(2);
            let mut oracle = HashMap::new();
            for (worker, slot, insert, key) in steps {
                let handle = Handle { worker: WorkerId(worker), slot, generation: 1 };
                if insert && worker < 2 {
                    index.insert(handle, key);
                    oracle.insert((worker, slot), key);
                } else {
                    index.remove(handle);
                    oracle.remove(&(worker, slot));
                }
                prop_assert_eq!(index.find(handle), oracle.get(&(worker, slot)).copied());
            }
            for ((worker, slot), key) in oracle {
                let handle = Handle { worker: WorkerId(worker), slot, generation: 1 };
                prop_assert_eq!(index.find(handle), Some(key));
            }
        }
    }
}
