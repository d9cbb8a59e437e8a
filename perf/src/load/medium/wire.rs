//! A wire in virtual time that loses, delays, doubles and reorders as it was told: what the generator must find again.

use pnat_shared::flow::Side;
use pnat_shared::testkit::{Link, VecFrame, VecPool};
use pnat_shared::time::Instant;
use pnat_shared::wire::ethernet::{self, Mac};

use crate::load::scenario::Wire;
use crate::load::tcp::Duplex;
use crate::load::trial::{Medium, Tally};

/// A cable.
#[derive(Debug)]
pub struct WireMedium {
    /// From the port of each side to the other.
    links: [Link<VecFrame>; 2],
    now: Instant,
    pool: VecPool,
}

impl WireMedium {
    pub fn new(spec: &Wire) -> Self {
        let links = [spec.seed, !spec.seed].map(|seed| Link::new(spec.link.clone(), seed));
        Self { links, now: Instant::ZERO, pool: VecPool::endless() }
    }
}

impl Medium for WireMedium {
    type Frame = VecFrame;
    type Pool = VecPool;

    fn link(&self) -> ethernet::Header {
        self.link_at(Side::First)
    }

    fn now(&mut self) -> Instant {
        self.now
    }

    fn pool(&mut self) -> &mut VecPool {
        &mut self.pool
    }

    fn transmit(&mut self, burst: &mut Vec<VecFrame>) {
        self.transmit_at(Side::First, burst);
    }

    fn receive(&mut self, burst: &mut Vec<VecFrame>) {
        let [link, _] = &mut self.links;
        burst.extend(std::iter::from_fn(|| link.receive(self.now)));
    }

    fn wait(&mut self, until: Instant) {
        let arrival = self.links.iter().map(Link::next_arrival).fold(until, Instant::min);
        self.now = arrival.max(self.now);
    }

    fn tally(&mut self) -> Tally {
        let [one, other] = &self.links;
        Tally {
            lost: one.lost + other.lost,
            duplicated: one.duplicated + other.duplicated,
            ..Tally::default()
        }
    }
}

impl Duplex for WireMedium {
    fn link_at(&self, side: Side) -> ethernet::Header {
        let [first, second] = [1, 2].map(|last| Mac([2, 0, 0, 0, 0, last]));
        let (src, dst) = if side == Side::First { (first, second) } else { (second, first) };
        ethernet::Header { dst, src, ether_type: ethernet::TYPE_IPV4 }
    }

    fn transmit_at(&mut self, side: Side, burst: &mut Vec<VecFrame>) {
        for frame in burst.drain(..) {
            self.links[side as usize].send(frame, self.now);
        }
    }

    fn receive_both(&mut self, bursts: &mut [Vec<VecFrame>; 2]) {
        let [from_first, from_second] = &mut self.links;
        let [at_first, at_second] = bursts;
        for (link, burst) in [(from_first, at_second), (from_second, at_first)] {
            burst.extend(std::iter::from_fn(|| link.receive(self.now)));
        }
    }
}
