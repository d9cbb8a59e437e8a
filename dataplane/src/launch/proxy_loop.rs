//! One proxy core's turn: bursts from the rings into the reactor, and what it leaves into the rings back.
//!
//! Runs on: proxy cores. Allocates: never by itself. Blocks: never.

use std::sync::Arc;

use crossbeam_channel::Receiver;
use pnat_proxy::reactor::{Outputs, Reactor, ReactorStats, Snapshot};
use pnat_shared::config::Policy;
use pnat_shared::flow::WorkerId;
use pnat_shared::frame::{Frame, FramePool};
use pnat_shared::loopback::ToProxy;
use pnat_shared::report::{FlowPage, PastPage};
use pnat_shared::ring::Producer;
use pnat_shared::stats::Latency;
use pnat_shared::time::Instant;
use pnat_shared::verdict::DropReason;

use super::clock::{Clock, Timepiece};
use super::listing;
use super::mesh::ProxyEnds;
use crate::control::CoreMessage;
use crate::filters::Compiled;
use crate::port::BURST;

/// A reactor with its rings and control channel.
#[derive(Debug)]
pub struct ProxyLoop<F: Frame, P, C = Clock> {
    reactor: Reactor<F>,
    stats: Arc<ReactorStats>,
    pool: P,
    clock: C,
    measures: bool,
    rings: ProxyEnds<F>,
    messages: Receiver<CoreMessage>,
    out: Outputs<F>,
    /// Messages that may wait for a worker beyond its ring: as many as the ring holds.
    most_waiting: usize,
    burst: Vec<ToProxy<F>>,
}

impl<F: Frame, P: FramePool<F>, C: Timepiece> ProxyLoop<F, P, C> {
    /// Puts a reactor between its rings.
    pub fn new(
        reactor: Reactor<F>,
        pool: P,
        clock: C,
        rings: ProxyEnds<F>,
        messages: Receiver<CoreMessage>,
    ) -> Self {
        let out = Outputs::new(rings.from_proxy.len());
        let most_waiting = rings.from_proxy.iter().map(Producer::room).max().unwrap_or(0);
        let stats = reactor.stats();
        let burst = Vec::with_capacity(BURST);
        Self { reactor, stats, pool, clock, measures: true, rings, messages, out, most_waiting, burst }
    }

    /// Whether it measures, which it does to begin with; what it has measured before is forgotten.
    pub fn measure(&mut self, is_on: bool) {
        self.measures = is_on;
        self.reactor.measure(is_on);
    }

    /// Measurements so far.
    pub fn latency(&self) -> &Latency {
        self.reactor.latency()
    }

    /// Takes at most two port bursts from each worker. Answers whether there was anything to do. `since` is as in
    /// [`WorkerLoop::turn`](super::WorkerLoop::turn).
    pub fn turn(&mut self, since: &mut Option<Instant>) -> bool {
        let mut worked = self.take_message();
        for ring in &mut self.rings.to_proxy {
            let count = ring.pop_burst(2 * BURST, &mut self.burst);
            if count > 0 {
                worked = true;
                self.stats.turns.burst(count);
            }
        }
        let now = self.clock.now();
        let due = self.reactor.deadline() <= now;
        if !worked && !due {
            // What found no room may find it now.
            self.hand_on();
            self.stats.turns.idled();
            *since = Some(now);
            return false;
        }
        self.reactor.on_burst(&mut self.burst, &mut self.pool, now, &mut self.out);
        if due {
            self.reactor.on_timer(&mut self.pool, now, &mut self.out);
        }
        if self.measures {
            let ended = self.clock.now();
            self.out.stamp(ended);
            self.reactor.handed_on(ended);
            self.stats.turns.worked(Some((since.unwrap_or(now), ended)));
            *since = Some(ended);
        } else {
            self.stats.turns.worked(None);
        }
        self.hand_on();
        true
    }

    /// What a full ring does not take stays, and TCP's pairs wait until it is gone. Datagrams do not wait: beyond a ring's
    /// worth they are lost.
    fn hand_on(&mut self) {
        if self.out.is_empty() {
            return;
        }
        for (worker, ring) in self.rings.from_proxy.iter_mut().enumerate() {
            let worker = WorkerId(worker as u8);
            ring.push_burst(self.out.worker(worker));
            let lost = self.out.shed(worker, self.most_waiting);
            if lost > 0 {
                self.stats.drops.add(DropReason::RingFull, lost as u64);
            }
        }
    }

    fn take_message(&mut self) -> bool {
        let Ok(message) = self.messages.try_recv() else { return false };
        match message {
            CoreMessage::Policy { generation, oldest, policy, chains, reply } => {
                self.reactor.set_policy(snapshot(generation, &policy, chains), oldest);
                let _ = reply.send(Ok(()));
            }
            CoreMessage::Policies(reply) => {
                let _ = reply.send(self.reactor.newest_policy());
            }
            CoreMessage::Latency(reply) => {
                let _ = reply.send(Box::new(self.reactor.latency().clone()));
            }
            CoreMessage::Web(reply) => {
                let _ = reply.send(Box::new(self.reactor.web().clone()));
            }
            CoreMessage::Pairs { handles, reply } => {
                let _ = reply.send(listing::pairs(&self.reactor, &handles, self.clock.now()));
            }
            CoreMessage::Flows { reply, .. } => {
                let _ = reply.send(FlowPage::default());
            }
            CoreMessage::Past { reply, .. } => {
                let _ = reply.send(PastPage::default());
            }
            // Workers see both ends of the loopback.
            CoreMessage::Capture(_) => {}
            CoreMessage::Drain(limit) => {
                let now: Instant = self.clock.now();
                self.reactor.drain(now + limit);
            }
        }
        true
    }
}

/// A policy as a reactor holds it.
pub fn snapshot(generation: u32, policy: &Policy, chains: Compiled) -> Snapshot {
    let rules = policy.rules.iter().map(Into::into).collect();
    Snapshot { generation, rules, chains }
}
