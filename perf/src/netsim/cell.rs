//! The settings that the table goes through, and what a link looks like under each.

use core::fmt;
use core::str::FromStr;
use std::time::Duration;

use pnat_shared::frame::L2_LEN;
use pnat_shared::testkit::LinkSpec;

/// What the bottleneck carries, in bits per second, Ethernet headers included.
pub const RATE: u64 = 500_000_000;

/// A full packet at the bottleneck, in bytes.
const PACKET: u64 = 1500 + L2_LEN as u64;

/// Share of the packets that overtake others when a path reorders.
const REORDERING: f64 = 0.01;

/// How long a bulk flow lasts, its handshake included.
pub const BULK: Duration = Duration::from_secs(6);

/// Bytes of the flows whose completion is timed. The n-th flow of a size finds its packets lost or late as the n-th one of
/// the other side does (seed n): else the chance of a few losses would be most of what rows differ by.
pub const SIZES: [usize; 3] = [10_000, 100_000, 1_000_000];

/// Full segment's payload, in bits.
const SEGMENT: f64 = 1448.0 * 8.0;

/// Most bulk flows for a mean.
const BULKS: f64 = 24.0;
/// Fewest, where anything is left to chance.
const FEWEST_BULKS: f64 = 4.0;
/// What all bulk flows of a cell may bring over in a second if they ran together, in bits, before there are few of them.
const BULK_LOAD: f64 = 1e9;

/// Losses after which a window that slow start has left far too large is where it stays.
const LOSSES_TO_SETTLE: f64 = 10.0;

/// Congestion control of the sending end.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Algorithm {
    Cubic,
    Bbr,
}

impl Algorithm {
    pub const ALL: [Self; 2] = [Self::Cubic, Self::Bbr];

    /// As Linux and the table call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cubic => "cubic",
            Self::Bbr => "bbr",
        }
    }
}

/// How much waits in front of the bottleneck before packets are dropped.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Queue {
    /// A tenth of the path's bandwidth-delay product, but no fewer than 16 packets.
    Shallow,
    /// The whole product, but no fewer than 64 packets.
    Deep,
}

/// One path that flows are sent over.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    /// Packets lost at random, both ways, in tenths of a percent.
    pub loss: u32,
    /// Round-trip time of the empty path, in milliseconds.
    pub rtt: u32,
    /// One packet in a hundred takes up to a quarter of a round trip longer.
    pub reordered: bool,
    pub queue: Queue,
}

impl Cell {
    /// The whole grid, in the table's order.
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for loss in [0, 1, 10, 30] {
            for rtt in [2, 20, 100] {
                for reordered in [false, true] {
                    for queue in [Queue::Shallow, Queue::Deep] {
                        all.push(Self { loss, rtt, reordered, queue });
                    }
                }
            }
        }
        all
    }

    pub fn loss(self) -> f64 {
        f64::from(self.loss) / 1000.0
    }

    pub fn rtt(self) -> Duration {
        Duration::from_millis(u64::from(self.rtt))
    }

    /// About what a flow will get, in bits per second: the bottleneck; or half as much again as Mathis et al. say of a window
    /// that halves at each loss, and what is sent until the window of slow start has come down to that.
    pub fn expected(self, algorithm: Algorithm) -> f64 {
        if algorithm == Algorithm::Bbr || self.loss == 0 {
            return RATE as f64;
        }
        let mathis = SEGMENT / self.rtt().as_secs_f64() * (1.5 / self.loss()).sqrt();
        let settling = LOSSES_TO_SETTLE / self.loss() * SEGMENT / BULK.as_secs_f64();
        (1.5 * mathis + settling).min(RATE as f64)
    }

    /// How many bulk flows make the cell's mean, with the seeds from 0 on: more where the first losses decide what a flow
    /// brings over, and each flow is little work.
    pub fn bulks(self, algorithm: Algorithm) -> u64 {
        let is_certain = self.loss == 0 && !self.reordered;
        if algorithm == Algorithm::Bbr || is_certain {
            return 1;
        }
        (BULK_LOAD / self.expected(algorithm)).clamp(FEWEST_BULKS, BULKS) as u64
    }

    /// The links from the sender to the receiver, and back. The way back has no bottleneck, but all the rest.
    pub fn links(self) -> [LinkSpec; 2] {
        let there = LinkSpec {
            latency: self.rtt() / 2,
            rate: RATE,
            queue: self.packets(),
            loss: self.loss(),
            duplication: 0.0,
            reordering: if self.reordered { REORDERING } else { 0.0 },
            reorder_by: self.rtt() / 4,
            corruption: 0.0,
        };
        let back = LinkSpec { rate: 0, ..there.clone() };
        [there, back]
    }

    /// Packets that fit into the queue.
    fn packets(self) -> usize {
        let product = RATE * u64::from(self.rtt) / 1000 / 8 / PACKET;
        let packets = match self.queue {
            Queue::Shallow => (product / 10).max(16),
            Queue::Deep => product.max(64),
        };
        packets as usize
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let order = if self.reordered { "reordered" } else { "ordered" };
        let queue = match self.queue {
            Queue::Shallow => "shallow",
            Queue::Deep => "deep",
        };
        write!(f, "{:>4.1} {:>4} {order:<9} {queue:<7}", f64::from(self.loss) / 10.0, self.rtt)
    }
}

impl FromStr for Cell {
    type Err = ();

    /// Reads what `Display` writes.
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::all().into_iter().find(|cell| words(&cell.to_string()).eq(words(text))).ok_or(())
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_whitespace()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grid_is_written_and_read_back() {
        let all = Cell::all();
        assert_eq!(all.len(), 48);
        for cell in all {
            assert_eq!(cell.to_string().parse(), Ok(cell));
        }
    }

    #[test]
    fn a_deep_queue_holds_a_round_trip_and_a_shallow_one_a_tenth() {
        let queue = |rtt, queue| Cell { loss: 0, rtt, reordered: false, queue }.links()[0].queue;
        // 500 Mbit/s for 100 ms are 6.25 MB.
        assert_eq!([queue(100, Queue::Deep), queue(100, Queue::Shallow)], [4128, 412]);
        assert_eq!([queue(2, Queue::Deep), queue(2, Queue::Shallow)], [82, 16]);
    }
}
