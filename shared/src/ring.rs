//! Bounded single-producer single-consumer rings, moved in bursts.
//!
//! Runs on: worker and proxy cores. Allocates: at creation. Blocks: never.
//!
//! A thin face over `rtrb`: a burst is published with one store, so a frame of a burst of 32 costs less than half of what one
//! by itself does (`cargo bench -p pnat-perf --bench loopback`).

use std::sync::Arc;

use crate::stats::{Counter, Counters, Metric};

/// The sending end. There is exactly one.
#[derive(Debug)]
pub struct Producer<T>(rtrb::Producer<T>);

/// The receiving end. There is exactly one.
#[derive(Debug)]
pub struct Consumer<T> {
    ring: rtrb::Consumer<T>,
    level: Arc<RingLevel>,
}

/// How full a ring is, as its receiving end finds it.
#[derive(Debug)]
pub struct RingLevel {
    slots: usize,
    /// At the latest look.
    waiting: Counter,
    /// At the worst one.
    most: Counter,
}

/// A ring of `capacity` elements.
pub fn ring<T>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    let (producer, consumer) = rtrb::RingBuffer::new(capacity);
    let level =
        Arc::new(RingLevel { slots: capacity, waiting: Counter::default(), most: Counter::default() });
    (Producer(producer), Consumer { ring: consumer, level })
}

impl<T> Producer<T> {
    /// Moves elements from the front of `burst` into the ring until the ring is full or the burst is empty; what did not
    /// fit stays in `burst`, in order. Answers how many went.
    pub fn push_burst(&mut self, burst: &mut Vec<T>) -> usize {
        let room = self.0.slots().min(burst.len());
        if room == 0 {
            return 0;
        }
        let Ok(chunk) = self.0.write_chunk_uninit(room) else { return 0 };
        chunk.fill_from_iter(burst.drain(..room))
    }

    /// Puts one element, or gives it back where the ring is full.
    pub fn push(&mut self, item: T) -> Result<(), T> {
        self.0.push(item).map_err(|rtrb::PushError::Full(item)| item)
    }

    /// Elements that still fit.
    pub fn room(&self) -> usize {
        self.0.slots()
    }

    /// Whether the other end is gone.
    pub fn is_abandoned(&self) -> bool {
        self.0.is_abandoned()
    }
}

impl<T> Consumer<T> {
    /// Appends up to `max` elements to `into`. Answers how many came.
    pub fn pop_burst(&mut self, max: usize, into: &mut Vec<T>) -> usize {
        let waiting = self.ring.slots();
        self.level.note(waiting as u64);
        let count = waiting.min(max);
        if count == 0 {
            return 0;
        }
        let Ok(chunk) = self.ring.read_chunk(count) else { return 0 };
        into.extend(chunk);
        count
    }

    /// Elements that wait.
    pub fn waiting(&self) -> usize {
        self.ring.slots()
    }

    /// For who wants to know how full the ring is while its ends are in use.
    pub fn level(&self) -> Arc<RingLevel> {
        self.level.clone()
    }
}
impl RingLevel {
    /// A ring that is empty most of the time costs no store.
    fn note(&self, waiting: u64) {
        if waiting != self.waiting.value() {
            self.waiting.set(waiting);
            if waiting > self.most.value() {
                self.most.set(waiting);
            }
        }
    }
}

impl Counters for RingLevel {
    fn counters(&self, each: &mut dyn FnMut(Metric, u64)) {
        each(Metric::level("slots", "Elements that the ring has room for."), self.slots as u64);
        each(
            Metric::level("waiting", "Elements that its receiver found in it at its latest look."),
            self.waiting.value(),
        );
        each(
            Metric::level("most_waiting", "Elements that its receiver found in it at most, since the start."),
            self.most.value(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_tells_what_its_receiver_found_last_and_at_most() {
        let (mut producer, mut consumer) = ring(8);
        let told = |level: &RingLevel| {
            let mut told = Vec::new();
            level.counters(&mut |metric, value| told.push((metric.name, value)));
            told
        };
        let level = consumer.level();
        let mut burst: Vec<u32> = (0..5).collect();
        producer.push_burst(&mut burst);
        assert_eq!(told(&level), [("slots", 8), ("waiting", 0), ("most_waiting", 0)], "nobody has looked");
        let mut taken = Vec::new();
        consumer.pop_burst(3, &mut taken);
        assert_eq!(told(&level), [("slots", 8), ("waiting", 5), ("most_waiting", 5)]);
        consumer.pop_burst(3, &mut taken);
        assert_eq!(told(&level), [("slots", 8), ("waiting", 2), ("most_waiting", 5)]);
        assert_eq!(consumer.pop_burst(3, &mut taken), 0);
        assert_eq!(told(&level), [("slots", 8), ("waiting", 0), ("most_waiting", 5)]);
    }
}
