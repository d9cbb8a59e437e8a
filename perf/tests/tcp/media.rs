//! A wire with somebody in the middle.

use pnat_perf::load::Medium;
use pnat_perf::load::medium::WireMedium;
use pnat_perf::load::tcp::Duplex;
use pnat_perf::load::trial::Tally;
use pnat_shared::flow::Side;
use pnat_shared::testkit::{VecFrame, VecPool};
use pnat_shared::time::{Duration, Instant};
use pnat_shared::wire::ethernet;

/// Does something to every frame that is sent.
pub(crate) trait Middle {
    /// Answers whether it lets the frame pass.
    fn pass(&mut self, side: Side, frame: &mut VecFrame, now: Instant) -> bool;

    /// The generator is about to wait; answers until when it stands still.
    fn stall(&mut self, now: Instant) -> Instant {
        now
    }
}

pub(crate) struct Tapped<M> {
    pub(crate) wire: WireMedium,
    pub(crate) middle: M,
    /// What arrived while the generator stood still.
    waiting: [Vec<VecFrame>; 2],
}

impl<M: Middle> Tapped<M> {
    pub(crate) fn new(wire: WireMedium, middle: M) -> Self {
        Self { wire, middle, waiting: Default::default() }
    }
}

impl<M: Middle> Medium for Tapped<M> {
    type Frame = VecFrame;
    type Pool = VecPool;

    fn link(&self) -> ethernet::Header {
        self.wire.link()
    }

    fn now(&mut self) -> Instant {
        self.wire.now()
    }

    fn pool(&mut self) -> &mut VecPool {
        self.wire.pool()
    }

    fn transmit(&mut self, burst: &mut Vec<VecFrame>) {
        self.transmit_at(Side::First, burst);
    }

    fn receive(&mut self, burst: &mut Vec<VecFrame>) {
        self.wire.receive(burst);
    }

    fn wait(&mut self, until: Instant) {
        self.wire.wait(until);
        let now = self.now();
        let end = self.middle.stall(now);
        while self.now() < end {
            self.wire.receive_both(&mut self.waiting);
            self.wire.wait(end);
        }
    }

    fn tally(&mut self) -> Tally {
        self.wire.tally()
    }
}

impl<M: Middle> Duplex for Tapped<M> {
    fn link_at(&self, side: Side) -> ethernet::Header {
        self.wire.link_at(side)
    }

    fn transmit_at(&mut self, side: Side, burst: &mut Vec<VecFrame>) {
        let now = self.wire.now();
        burst.retain_mut(|frame| self.middle.pass(side, frame, now));
        self.wire.transmit_at(side, burst);
    }

    fn receive_both(&mut self, bursts: &mut [Vec<VecFrame>; 2]) {
        for (burst, waiting) in bursts.iter_mut().zip(&mut self.waiting) {
            burst.append(waiting);
        }
        self.wire.receive_both(bursts);
    }
}

/// The generator stands still once.
pub(crate) struct Stall {
    pub(crate) at: Instant,
    pub(crate) lasts: Duration,
}

impl Middle for Stall {
    fn pass(&mut self, _: Side, _: &mut VecFrame, _: Instant) -> bool {
        true
    }

    fn stall(&mut self, now: Instant) -> Instant {
        if now < self.at {
            return now;
        }
        now + std::mem::take(&mut self.lasts)
    }
}
