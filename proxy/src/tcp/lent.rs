//! Queues whose memory an endpoint has only while there is something in them: most endpoints of a core have nothing under way,
//! and what one gives back the next one takes while it is still in the cache.
//!
//! Runs on: proxy cores. Allocates: where nothing was given back before. Blocks: never.

use std::collections::VecDeque;
use std::collections::vec_deque::Iter;

use super::queue::Piece;
use super::records::Record;
use crate::chunk::Chunk;

/// Most queues that wait to be taken, and most entries that one of them has room for: what goes beyond is freed.
const MOST: usize = 1024;
const LARGEST: usize = 128;

/// A queue in one pointer.
#[derive(Debug)]
pub(super) struct Lent<T> {
    place: Option<Box<Place<T>>>,
}

#[derive(Debug)]
struct Place<T> {
    entries: VecDeque<T>,
}

/// What the endpoints of one core have given back: queues of received bytes, of bytes to be sent, of what is in flight.
#[derive(Debug)]
pub struct Spares<F> {
    pub(super) ready: Spare<Chunk<F>>,
    pub(super) pieces: Spare<Piece<F>>,
    pub(super) records: Spare<Record>,
}

impl<F> Default for Spares<F> {
    fn default() -> Self {
        Self { ready: Spare::default(), pieces: Spare::default(), records: Spare::default() }
    }
}

/// Places that were given back, all of them empty, the latest to be taken first.
#[derive(Debug)]
pub(super) struct Spare<T> {
    #[expect(clippy::vec_box, reason = "what is lent is the box")]
    places: Vec<Box<Place<T>>>,
}

impl<T> Default for Spare<T> {
    fn default() -> Self {
        Self { places: Vec::new() }
    }
}

impl<T> Default for Lent<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Lent<T> {
    pub(super) const fn new() -> Self {
        Self { place: None }
    }

    /// Takes a place that was given back, where there is one and it has none.
    #[inline]
    pub(super) fn take_place(&mut self, spare: &mut Spare<T>) {
        if self.place.is_none() {
            self.place = spare.places.pop();
        }
    }

    /// Gives its place back where nothing is in it. Answers how many entries it keeps.
    #[inline]
    pub(super) fn give_back(&mut self, spare: &mut Spare<T>) -> usize {
        let kept = self.len();
        if kept == 0
            && let Some(place) = self.place.take()
            && spare.places.len() < MOST
            && place.entries.capacity() <= LARGEST
        {
            spare.places.push(place);
        }
        kept
    }

    /// Frees unused memory.
    pub(super) fn shrink(&mut self) {
        if self.is_empty() {
            self.place = None;
        } else if let Some(place) = &mut self.place {
            place.entries.shrink_to_fit();
        }
    }

    pub(super) fn capacity(&self) -> usize {
        self.place.as_ref().map_or(0, |place| place.entries.capacity())
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.place.as_ref().map_or(0, |place| place.entries.len())
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline]
    pub(super) fn get(&self, index: usize) -> Option<&T> {
        self.place.as_ref()?.entries.get(index)
    }

    #[inline]
    pub(super) fn front(&self) -> Option<&T> {
        self.place.as_ref()?.entries.front()
    }

    #[inline]
    pub(super) fn front_mut(&mut self) -> Option<&mut T> {
        self.place.as_mut()?.entries.front_mut()
    }

    #[inline]
    pub(super) fn back(&self) -> Option<&T> {
        self.place.as_ref()?.entries.back()
    }

    #[inline]
    pub(super) fn back_mut(&mut self) -> Option<&mut T> {
        self.place.as_mut()?.entries.back_mut()
    }

    /// Inlined wherever it is called: an entry is built in its place, and not first for a call.
    #[inline(always)]
    pub(super) fn push_back(&mut self, entry: T) {
        match &mut self.place {
            Some(place) => place.entries.push_back(entry),
            None => self.push_first(entry),
        }
    }

    pub(super) fn push_front(&mut self, entry: T) {
        match &mut self.place {
            Some(place) => place.entries.push_front(entry),
            None => self.push_first(entry),
        }
    }

    #[inline]
    pub(super) fn pop_front(&mut self) -> Option<T> {
        self.place.as_mut()?.entries.pop_front()
    }

    pub(super) fn clear(&mut self) {
        if let Some(place) = &mut self.place {
            place.entries.clear();
        }
    }

    pub(super) fn iter(&self) -> Iter<'_, T> {
        self.place.as_ref().map_or_else(Iter::default, |place| place.entries.iter())
    }

    /// As [`VecDeque::partition_point`].
    pub(super) fn partition_point(&self, before: impl FnMut(&T) -> bool) -> usize {
        self.place.as_ref().map_or(0, |place| place.entries.partition_point(before))
    }

    /// Seldom needed: as a rule a place was lent.
    #[cold]
    fn push_first(&mut self, entry: T) {
        let place = self.place.insert(Box::new(Place { entries: VecDeque::new() }));
        place.entries.push_back(entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_queue_gives_back_empty_the_next_one_takes_without_allocating() {
        let (mut spare, mut queues) = (Spare::default(), [Lent::new(), Lent::new()]);
        queues[0].push_back(1);
        queues[0].give_back(&mut spare);
        assert_eq!((queues[0].pop_front(), spare.places.len()), (Some(1), 0), "it was not empty");
        queues[0].give_back(&mut spare);
        queues[1].take_place(&mut spare);
        assert_eq!((queues[0].capacity(), spare.places.len()), (0, 0));
        assert!(queues[1].capacity() > 0 && queues[1].is_empty());
    }

    #[test]
    fn large_queues_and_too_many_are_freed() {
        let mut spare = Spare::default();
        for number in 0..MOST + 9 {
            let mut queue = Lent::new();
            let entries = if number % 2 == 0 { LARGEST } else { LARGEST + 1 };
            (0..entries).for_each(|entry| queue.push_back(entry));
            queue.clear();
            queue.give_back(&mut spare);
        }
        assert!(spare.places.iter().all(|place| place.entries.capacity() <= LARGEST));
        assert!(spare.places.len() <= MOST && !spare.places.is_empty());
    }
}
