//! One flow of our engine's in virtual time, both ends ours. The connecting end sends.

use pnat_shared::testkit::{Link, LinkSpec, VecFrame};
use pnat_shared::time::{Duration, Instant};

use super::cell::{Algorithm, BULK, Cell, SIZES};
use super::end::{ADDRS, End, settings};
use super::table::{Figures, Percentiles};

/// Flows for each cell and size.
const TRANSFERS: u64 = 400;
/// Longest that a transfer may take: what takes longer counts as if it took that long.
const PATIENCE: Duration = Duration::from_secs(120);

/// More rounds without any time passing than any burst needs.
const STILL: usize = 10_000;

/// A flow under way.
#[derive(Debug)]
pub struct Flow {
    now: Instant,
    start: Instant,
    ends: [End; 2],
    /// From each end to the other.
    links: [Link<VecFrame>; 2],
    out: Vec<VecFrame>,
}

/// What our engine makes of a cell.
pub fn measure(algorithm: Algorithm, cell: Cell) -> Figures {
    let goodput = {
        let seeds = cell.bulks(algorithm);
        let bytes: usize = (0..seeds).map(|seed| bulk(algorithm, cell.links(), seed, BULK)).sum();
        bytes as f64 * 8.0 / seeds as f64 / BULK.as_secs_f64() / 1e6
    };
    let completion = SIZES.map(|size| {
        Percentiles::of(
            (0..TRANSFERS).map(|seed| transfer(algorithm, cell, size, seed).as_secs_f64()).collect(),
        )
    });
    Figures { goodput, completion }
}

/// Bytes that a flow brings to the other end in the given time.
pub fn bulk(algorithm: Algorithm, links: [LinkSpec; 2], seed: u64, lasts: Duration) -> usize {
    let mut flow = Flow::new(algorithm, links, usize::MAX, seed);
    flow.run(usize::MAX, lasts);
    flow.ends[1].read
}

/// Time until the last byte has come.
pub fn transfer(algorithm: Algorithm, cell: Cell, bytes: usize, seed: u64) -> Duration {
    Flow::new(algorithm, cell.links(), bytes, seed).run(bytes, PATIENCE)
}

impl Flow {
    fn new(algorithm: Algorithm, [there, back]: [LinkSpec; 2], bytes: usize, seed: u64) -> Self {
        let start = Instant::from_secs(1);
        let settings = settings(algorithm);
        let [a, b] = ADDRS;
        Self {
            now: start,
            start,
            ends: [End::connect([a, b], settings, bytes, start), End::listen([b, a], settings, 0)],
            links: [Link::new(there, seed * 2), Link::new(back, seed * 2 + 1)],
            out: Vec::new(),
        }
    }

    /// Runs until so many bytes have come, or for so long at most; answers how long it took.
    fn run(&mut self, bytes: usize, most: Duration) -> Duration {
        let mut still = 0;
        loop {
            self.step();
            if self.ends[1].read >= bytes {
                return self.now - self.start;
            }
            let links = self.links.iter().map(Link::next_arrival);
            let next = links.chain(self.ends.iter().map(End::deadline)).min().unwrap_or(Instant::FAR);
            if next >= self.start + most {
                return most;
            }
            still = if next > self.now { 0 } else { still + 1 };
            assert!(
                still < STILL,
                "time stands still at {:?}, with deadlines {:?}",
                self.now,
                self.ends.each_ref().map(End::deadline)
            );
            self.now = next.max(self.now);
        }
    }

    /// All that happens now.
    fn step(&mut self) {
        for side in 0..2 {
            while let Some(frame) = self.links[1 - side].receive(self.now) {
                self.ends[side].on_frame(frame, self.now);
            }
            self.ends[side].run(self.now, &mut self.out);
            for frame in self.out.drain(..) {
                self.links[side].send(frame, self.now);
            }
        }
    }
}
