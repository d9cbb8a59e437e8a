//! A wire with somebody in the middle: what tests of the generator and of the methods have it do.

use pnat_shared::flow::Side;
use pnat_shared::testkit::{VecFrame, VecPool};
use pnat_shared::time::{Duration, Instant};
use pnat_shared::wire::ethernet;

use super::WireMedium;
use crate::load::tcp::Duplex;
use crate::load::trial::{Medium, Tally};

/// Somebody through whose hands every frame goes that is sent.
pub trait Middle {
    /// Answers whether it lets the frame pass.
    fn pass(&mut self, side: Side, frame: &mut VecFrame, now: Instant) -> bool;

    /// The generator is about to wait; answers until when it stands still.
    fn stall(&mut self, now: Instant) -> Instant {
        now
    }
}

/// The wire, and who is in the middle of it.
#[derive(Debug)]
pub struct Tapped<M> {
    wire: WireMedium,
    middle: M,
    /// By side: what arrived while the generator stood still.
    waiting: [Vec<VecFrame>; 2],
}

impl<M: Middle> Tapped<M> {
    pub fn new(wire: WireMedium, middle: M) -> Self {
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
        burst.append(&mut self.waiting[Side::Second as usize]);
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

/// The generator stands still once, as one that waits for its device would.
#[derive(Debug)]
pub struct Stall {
    pub at: Instant,
    pub lasts: Duration,
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

/// Every frame is lost that is sent between two points of time.
#[derive(Debug)]
pub struct Outage {
    pub from: Instant,
    pub until: Instant,
}

impl Middle for Outage {
    fn pass(&mut self, _: Side, _: &mut VecFrame, now: Instant) -> bool {
        !(self.from..self.until).contains(&now)
    }
}
