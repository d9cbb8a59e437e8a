//! A worker's stopwatch: how long packets are on their way between ports and rings.
//!
//! Runs on: worker. Allocates: never, once its vector has grown. Blocks: never.
//!
//! The packets of a burst come together and go together, so that a burst costs what a packet would. Which way they went is
//! told by the outputs, before the worker had the burst and after.

use pnat_shared::loopback::{FromProxy, ToProxy};
use pnat_shared::stats::{Latency, Stage};
use pnat_shared::time::{Duration, Instant};

use crate::handoff::Handoff;
use crate::worker::Outputs;

/// Measurements, and those in progress.
#[derive(Debug)]
pub(super) struct Meter {
    latency: Latency,
    /// The bursts of this turn.
    bursts: Vec<Taken>,
}

/// A burst, and what it has left in the outputs.
#[derive(Debug)]
struct Taken {
    at: Instant,
    /// What ends at the ports.
    stage: Stage,
    to_ports: u64,
    to_proxies: u64,
}

/// Frames in the outputs: for ports, and for proxy cores.
#[derive(Copy, Clone, Debug)]
pub(super) struct Left([u64; 2]);

impl Left {
    pub(super) fn of<F>(out: &Outputs<F>) -> Self {
        let to_ports: usize = out.transmit.iter().map(Vec::len).sum();
        let to_proxies: usize = out.to_proxy.iter().map(Vec::len).sum();
        Self([to_ports as u64, to_proxies as u64])
    }
}

impl Default for Meter {
    fn default() -> Self {
        Self { latency: Latency::of(&Stage::OF_WORKERS), bursts: Vec::new() }
    }
}

impl Meter {
    pub(super) const fn latency(&self) -> &Latency {
        &self.latency
    }

    /// A burst was taken `at`; between `before` and `after` it was added to the outputs. What of it goes to ports ends `stage`.
    pub(super) fn taken(&mut self, stage: Stage, at: Instant, before: Left, after: Left) {
        let [to_ports, to_proxies] = [0, 1].map(|way| after.0[way] - before.0[way]);
        self.bursts.push(Taken { at, stage, to_ports, to_proxies });
    }

    /// This burst is taken from the ring of a proxy core.
    pub(super) fn waited<F>(&mut self, burst: &[FromProxy<F>], now: Instant) {
        let mut waiting = (now, 0);
        for message in burst {
            let FromProxy::Packet { at, .. } = message else { continue };
            if waiting.0 != *at {
                self.came(waiting, now);
                waiting = (*at, 0);
            }
            waiting.1 += 1;
        }
        self.came(waiting, now);
    }

    /// Packets were put into a ring at the same time.
    fn came(&mut self, (at, count): (Instant, u64), now: Instant) {
        // What nobody has stamped was sent by a proxy core that does not measure.
        if count > 0 && at != Instant::FAR {
            self.latency.record(Stage::RingOut, now.since(at), count);
        }
    }

    /// Whether packets are about to go into rings to proxy cores.
    pub(super) fn has_to_proxies(&self) -> bool {
        self.bursts.iter().any(|burst| burst.to_proxies > 0)
    }

    /// They go now.
    pub(super) fn put_into_rings<F>(&mut self, out: &mut Outputs<F>, now: Instant) {
        for message in out.to_proxy.iter_mut().flatten() {
            if let ToProxy::Packet { at, .. } | ToProxy::Open { at, .. } = message {
                *at = now;
            }
        }
        for burst in self.bursts.iter().filter(|burst| burst.to_proxies > 0) {
            self.latency.record(Stage::NatIn, now.since(burst.at), burst.to_proxies);
        }
    }

    /// The rest has been given to the ports.
    pub(super) fn sent(&mut self, now: Instant) {
        for burst in self.bursts.drain(..).filter(|burst| burst.to_ports > 0) {
            self.latency.record(burst.stage, now.since(burst.at), burst.to_ports);
        }
    }
}

/// When ports received what another worker has handed over: the mean of all, for such a burst comes from several of theirs.
pub(super) fn received<F>(burst: &[Handoff<F>], now: Instant) -> Instant {
    let (mut sum, mut count) = (Duration::ZERO, 0);
    for handed in burst {
        if let Handoff::Frame { at, .. } = handed {
            sum += now.since(*at);
            count += 1;
        }
    }
    now.back(sum / count.max(1))
}
