//! A port without a device, for tests and benches: frames wait in plain queues.
//!
//! Runs on: one thread. Allocates: when a queue grows. Blocks: never.

use std::collections::VecDeque;

use super::{BURST, PortQueue};

/// A port whose wire is in reach: what is put into `incoming` is received, what is transmitted lands in `outgoing`.
#[derive(Clone, Debug)]
pub struct MemoryPort<F> {
    /// Frames that wait to be received.
    pub incoming: VecDeque<F>,
    /// Frames that were transmitted and not yet taken by the test.
    pub outgoing: VecDeque<F>,
    /// Frames that `outgoing` holds at most.
    pub room: usize,
    /// Frames dropped because `outgoing` was full.
    pub tx_dropped: u64,
}

impl<F> MemoryPort<F> {
    /// A port that drops what is transmitted while `room` frames wait in `outgoing`.
    pub fn with_room(room: usize) -> Self {
        Self { incoming: VecDeque::new(), outgoing: VecDeque::new(), room, tx_dropped: 0 }
    }
}

impl<F> Default for MemoryPort<F> {
    /// A port that never drops.
    fn default() -> Self {
        Self::with_room(usize::MAX)
    }
}

impl<F> PortQueue<F> for MemoryPort<F> {
    fn receive(&mut self, burst: &mut Vec<F>) -> usize {
        let count = self.incoming.len().min(BURST);
        burst.extend(self.incoming.drain(..count));
        count
    }

    fn transmit(&mut self, burst: &mut Vec<F>) {
        let taken = (self.room - self.outgoing.len().min(self.room)).min(burst.len());
        self.outgoing.extend(burst.drain(..taken));
        self.tx_dropped += burst.len() as u64;
        burst.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_holds_at_most_32_frames_in_order() {
        let mut port = MemoryPort::default();
        port.incoming.extend(0..40);
        let mut burst = vec![-1];
        assert_eq!(port.receive(&mut burst), 32);
        assert_eq!(port.receive(&mut burst), 8);
        assert_eq!(port.receive(&mut burst), 0);
        assert_eq!(burst, (-1..40).collect::<Vec<_>>());
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        let mut port = MemoryPort::with_room(3);
        let mut burst = vec!['a', 'b'];
        port.transmit(&mut burst);
        burst.extend(['c', 'd', 'e']);
        port.transmit(&mut burst);
        assert!(burst.is_empty());
        assert_eq!(port.outgoing, ['a', 'b', 'c']);
        assert_eq!(port.tx_dropped, 2);
    }
}
