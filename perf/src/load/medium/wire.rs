//! A wire in virtual time that loses, delays, doubles and reorders as it was told: what the generator must find again.

use pnat_shared::testkit::{Link, VecFrame, VecPool};
use pnat_shared::time::Instant;
use pnat_shared::wire::ethernet::{self, Mac};

use crate::load::scenario::Wire;
use crate::load::trial::{Medium, Tally};

/// One direction of a cable.
#[derive(Debug)]
pub struct WireMedium {
    link: Link<VecFrame>,
    now: Instant,
    pool: VecPool,
}

impl WireMedium {
    pub fn new(spec: &Wire) -> Self {
        let link = Link::new(spec.link.clone(), spec.seed);
        Self { link, now: Instant::ZERO, pool: VecPool::endless() }
    }
}

impl Medium for WireMedium {
    type Frame = VecFrame;
    type Pool = VecPool;

    fn link(&self) -> ethernet::Header {
        let [dst, src] = [2, 1].map(|last| Mac([2, 0, 0, 0, 0, last]));
        ethernet::Header { dst, src, ether_type: ethernet::TYPE_IPV4 }
    }

    fn now(&mut self) -> Instant {
        self.now
    }

    fn pool(&mut self) -> &mut VecPool {
        &mut self.pool
    }

    fn transmit(&mut self, burst: &mut Vec<VecFrame>) {
        for frame in burst.drain(..) {
            self.link.send(frame, self.now);
        }
    }

    fn receive(&mut self, burst: &mut Vec<VecFrame>) {
        while let Some(frame) = self.link.receive(self.now) {
            burst.push(frame);
        }
    }

    fn wait(&mut self, until: Instant) {
        self.now = until.min(self.link.next_arrival()).max(self.now);
    }

    fn tally(&mut self) -> Tally {
        Tally { lost: self.link.lost, duplicated: self.link.duplicated, ..Tally::default() }
    }
}
