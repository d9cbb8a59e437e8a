//! Bounded single-producer single-consumer rings, moved in bursts.
//!
//! Runs on: worker and proxy cores. Allocates: at creation. Blocks: never.
//!
//! A thin face over `rtrb`: a burst is published with one store, so a frame of a burst of 32 costs less than half of what one
//! by itself does (`cargo bench -p pnat-perf --bench loopback`).

/// The sending end. There is exactly one.
#[derive(Debug)]
pub struct Producer<T>(rtrb::Producer<T>);

/// The receiving end. There is exactly one.
#[derive(Debug)]
pub struct Consumer<T>(rtrb::Consumer<T>);

/// A ring of `capacity` elements.
pub fn ring<T>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    let (producer, consumer) = rtrb::RingBuffer::new(capacity);
    (Producer(producer), Consumer(consumer))
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
        let count = self.0.slots().min(max);
        if count == 0 {
            return 0;
        }
        let Ok(chunk) = self.0.read_chunk(count) else { return 0 };
        into.extend(chunk);
        count
    }

    /// Elements that wait.
    pub fn waiting(&self) -> usize {
        self.0.slots()
    }
}
