//! A table of numbered places that are used again, in pages that never move.
//!
//! Runs on: any core. Allocates: a page when it has never had as many entries before. Blocks: never.

use core::ops::{Index, IndexMut};

use crate::paged::Paged;

/// End of the list of free places.
const NONE: u32 = u32::MAX;

#[derive(Debug)]
enum Place<T> {
    /// The free place to be used after this one.
    Free(u32),
    Taken(T),
}

/// Entries by key; a key is used again after its entry was removed, the latest one first.
#[derive(Debug)]
pub struct Slots<T> {
    places: Paged<Place<T>>,
    /// Places below this have been used.
    used: u32,
    free: u32,
    len: usize,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Slots<T> {
    /// What an entry takes, in bytes.
    pub const PLACE_BYTES: usize = size_of::<Place<T>>();

    pub fn new() -> Self {
        Self { places: Paged::default(), used: 0, free: NONE, len: 0 }
    }

    pub const fn len(&self) -> usize {
        self.len
    }

    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Keys are below this.
    pub const fn bound(&self) -> u32 {
        self.used
    }

    pub fn insert(&mut self, entry: T) -> u32 {
        let key = if self.free == NONE {
            self.used += 1;
            self.used - 1
        } else {
            self.free
        };
        let place = self.places.reach(key as usize, || Place::Free(NONE));
        if let Place::Free(next) = *place {
            self.free = next;
        }
        *place = Place::Taken(entry);
        self.len += 1;
        key
    }

    pub fn remove(&mut self, key: u32) -> Option<T> {
        let place = self.places.get_mut(key as usize).filter(|place| matches!(place, Place::Taken(_)))?;
        let Place::Taken(entry) = core::mem::replace(place, Place::Free(self.free)) else { return None };
        self.free = key;
        self.len -= 1;
        Some(entry)
    }

    #[inline]
    pub fn get(&self, key: u32) -> Option<&T> {
        match self.places.get(key as usize)? {
            Place::Taken(entry) => Some(entry),
            Place::Free(_) => None,
        }
    }

    #[inline]
    pub fn get_mut(&mut self, key: u32) -> Option<&mut T> {
        match self.places.get_mut(key as usize)? {
            Place::Taken(entry) => Some(entry),
            Place::Free(_) => None,
        }
    }

    /// All entries, in no order: a walk over all of the table.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        (0..self.used).filter_map(|key| self.get(key))
    }
}

impl<T> Index<u32> for Slots<T> {
    type Output = T;

    #[inline]
    fn index(&self, key: u32) -> &T {
        self.get(key).expect("invariant: the caller has just found it")
    }
}

impl<T> IndexMut<u32> for Slots<T> {
    #[inline]
    fn index_mut(&mut self, key: u32) -> &mut T {
        self.get_mut(key).expect("invariant: the caller has just found it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn agrees_with_a_map_and_uses_places_again(steps in prop::collection::vec((any::<bool>(), 0u32..40), 1..300)) {
            let mut slots = Slots::new();
            let mut oracle = BTreeMap::new();
            let mut most = 0;
            for (number, (insert, key)) in steps.into_iter().enumerate() {
                if insert {
                    prop_assert_eq!(oracle.insert(slots.insert(number), number), None, "the key was free");
                } else {
                    prop_assert_eq!(slots.remove(key), oracle.remove(&key));
                }
                most = most.max(oracle.len());
                prop_assert_eq!((slots.len(), slots.bound() as usize), (oracle.len(), most));
                prop_assert_eq!(slots.get(key), oracle.get(&key));
                prop_assert!(slots.iter().eq(oracle.values()));
            }
        }
    }
}
