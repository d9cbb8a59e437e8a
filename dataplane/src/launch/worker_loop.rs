//! One worker's turn: bursts from ports and rings into the worker, what it leaves to ports and rings.
//!
//! Runs on: worker. Allocates: never, once its vectors have grown. Blocks: never.

use crossbeam_channel::Receiver;
use pnat_shared::capture::{Tap, TapPoint};
use pnat_shared::flow::{Handle, WorkerId};
use pnat_shared::frame::{Frame, FramePool};
use pnat_shared::loopback::{FromProxy, ToProxy};
use pnat_shared::stats::{Latency, Stage};
use pnat_shared::time::Instant;

use super::clock::{Clock, Timepiece};
use super::listing;
use super::mesh::WorkerEnds;
use super::meter::{self, Left, Meter};
use crate::control::CoreMessage;
use crate::filters::Compiled;
use crate::handoff::Handoff;
use crate::loopback::steer;
use crate::nat::policy::Snapshot;
use crate::port::{BURST, PortQueue};
use crate::worker::{Outputs, Worker};

/// A worker with its queues, rings and control channel.
#[derive(Debug)]
pub struct WorkerLoop<F, P, Q, C = Clock> {
    worker: Worker<F, P>,
    clock: C,
    /// `None` where nothing is measured.
    meter: Option<Meter>,
    /// By port number, and what a capture calls each.
    queues: Vec<(Q, TapPoint)>,
    rings: WorkerEnds<F>,
    messages: Receiver<CoreMessage>,
    tap: Option<Tap>,
    /// When the turn's first and its latest burst were taken.
    taken: Option<[Instant; 2]>,
    /// When the worker's timers are looked at next.
    deadline: Instant,
    out: Outputs<F>,
    frames: Vec<F>,
    handed: Vec<Handoff<F>>,
    answers: Vec<FromProxy<F>>,
    refused: Vec<Handle>,
}

impl<F: Frame, P: FramePool<F>, Q: PortQueue<F>, C: Timepiece> WorkerLoop<F, P, Q, C> {
    /// Puts a worker between its queues (by port number, with the port's tap point) and its rings.
    pub fn new(
        worker: Worker<F, P>,
        clock: C,
        queues: Vec<(Q, TapPoint)>,
        rings: WorkerEnds<F>,
        messages: Receiver<CoreMessage>,
    ) -> Self {
        let out = Outputs::new(queues.len(), rings.to_proxy.len(), rings.handoff_out.len());
        Self {
            worker,
            clock,
            meter: Some(Meter::default()),
            queues,
            rings,
            messages,
            tap: None,
            taken: None,
            deadline: Instant::ZERO,
            out,
            frames: Vec::with_capacity(BURST),
            handed: Vec::new(),
            answers: Vec::new(),
            refused: Vec::new(),
        }
    }

    /// Tells the neighbors on all ports who the gateway is; for one worker, before its first turn.
    pub fn announce(&mut self) {
        self.worker.announce(&mut self.out);
    }

    /// Has the servers asked that filters want to be asked; by the first worker, for one is enough.
    pub fn check(&mut self, chains: &Compiled) {
        if self.worker.me() == WorkerId(0) {
            self.worker.set_checks(chains.checks(), self.clock.now(), &mut self.out);
            self.deadline = Instant::ZERO;
        }
    }

    /// The worker's queues, to put packets in and take them out where they are no devices'.
    pub fn queues_mut(&mut self) -> &mut Vec<(Q, TapPoint)> {
        &mut self.queues
    }

    /// The same, to look at.
    pub fn queues(&self) -> &[(Q, TapPoint)] {
        &self.queues
    }

    /// Whether it measures, which it does to begin with; what it has measured before is forgotten.
    pub fn measure(&mut self, is_on: bool) {
        self.meter = is_on.then(Meter::default);
    }

    /// Measurements so far.
    pub fn latency(&self) -> Latency {
        self.meter.as_ref().map(|meter| meter.latency().clone()).unwrap_or_default()
    }

    /// Takes at most one burst from everywhere. Answers whether there was anything.
    ///
    /// `since` is when the core began to be at this loop's service, where that is known, and then when the turn ended: the next
    /// turn's beginning, unless the core does something else or sleeps in between.
    pub fn turn(&mut self, since: &mut Option<Instant>) -> bool {
        self.taken = None;
        let mut worked = self.take_message();
        for port in 0..self.queues.len() {
            worked |= self.receive(port);
        }
        worked |= self.take_from_proxies();
        worked |= self.take_handed_over();
        let now = self.taken.map_or_else(|| self.clock.now(), |[_, latest]| latest);
        // A packet may have armed an earlier timer.
        if self.taken.is_some() {
            self.deadline = self.deadline.min(self.worker.deadline().unwrap_or(Instant::FAR));
        }
        if self.deadline <= now {
            self.worker.on_timer(now, &mut self.out);
            self.deadline = self.worker.deadline().unwrap_or(Instant::FAR);
        }
        self.put_into_rings();
        self.hand_on(now);
        self.end(worked, now, since);
        worked
    }

    /// Takes the time of the packets that are about to go into rings to proxy cores.
    fn put_into_rings(&mut self) {
        if let Some(meter) = self.meter.as_mut().filter(|meter| meter.has_to_proxies()) {
            meter.put_into_rings(&mut self.out, self.clock.now());
        }
    }

    /// Everything has been handed on.
    fn end(&mut self, worked: bool, now: Instant, since: &mut Option<Instant>) {
        let turns = &self.worker.stats().turns;
        let Some(meter) = &mut self.meter else {
            if worked {
                turns.worked(None)
            } else {
                turns.idled()
            }
            return;
        };
        if !worked {
            turns.idled();
            *since = Some(now);
            return;
        }
        let ended = self.clock.now();
        meter.sent(ended);
        let began = since.or(self.taken.map(|[first, _]| first)).unwrap_or(now);
        turns.worked(Some((began, ended)));
        *since = Some(ended);
    }

    /// A burst was taken.
    fn begin(&mut self, packets: usize) -> Instant {
        let now = self.clock.now();
        self.taken = Some([self.taken.map_or(now, |[first, _]| first), now]);
        self.worker.stats().turns.burst(packets);
        now
    }

    fn receive(&mut self, port: usize) -> bool {
        let (queue, point) = &mut self.queues[port];
        let (count, point) = (queue.receive(&mut self.frames), *point);
        if count == 0 {
            return false;
        }
        let start = self.begin(count);
        copy_all(self.tap.as_ref(), point, start, &self.frames);
        let before = Left::of(&self.out);
        self.worker.on_port_burst(port as u8, &mut self.frames, start, &mut self.out);
        if let Some(meter) = &mut self.meter {
            meter.taken(Stage::Nat, start, before, Left::of(&self.out));
        }
        true
    }

    fn take_from_proxies(&mut self) -> bool {
        let mut worked = false;
        for proxy in 0..self.rings.from_proxy.len() {
            let count = self.rings.from_proxy[proxy].pop_burst(2 * BURST, &mut self.answers);
            if count == 0 {
                continue;
            }
            let start = self.begin(count);
            if let Some(tap) = &self.tap {
                for message in &self.answers {
                    if let FromProxy::Packet { frame, .. } = message {
                        tap.copy(TapPoint::FromProxy, start, frame.data());
                    }
                }
            }
            let before = Left::of(&self.out);
            if let Some(meter) = &mut self.meter {
                meter.waited(&self.answers, start);
            }
            self.worker.on_proxy_burst(&mut self.answers, start, &mut self.out);
            if let Some(meter) = &mut self.meter {
                meter.taken(Stage::NatOut, start, before, Left::of(&self.out));
            }
            worked = true;
        }
        worked
    }

    fn take_handed_over(&mut self) -> bool {
        let mut count = 0;
        for ring in &mut self.rings.handoff_in {
            count += ring.pop_burst(BURST, &mut self.handed);
        }
        if count == 0 {
            return false;
        }
        let start = self.begin(count);
        let (before, received) = (Left::of(&self.out), meter::received(&self.handed, start));
        self.worker.on_handoff(&mut self.handed, start, &mut self.out);
        if let Some(meter) = &mut self.meter {
            meter.taken(Stage::Nat, received, before, Left::of(&self.out));
        }
        true
    }

    fn hand_on(&mut self, now: Instant) {
        let drops = &self.worker.stats().drops;
        for (ring, burst) in self.rings.to_proxy.iter_mut().zip(&mut self.out.to_proxy) {
            if burst.is_empty() {
                continue;
            }
            if let Some(tap) = &self.tap {
                for message in burst.iter() {
                    if let ToProxy::Packet { frame, .. } | ToProxy::Open { frame, .. } = message {
                        tap.copy(TapPoint::ToProxy, now, frame.data());
                    }
                }
            }
            steer::push_to_proxy(ring, burst, &mut self.refused, drops);
        }
        for (ring, burst) in self.rings.handoff_out.iter_mut().zip(&mut self.out.handoff) {
            if let Some(ring) = ring
                && !burst.is_empty()
            {
                steer::push_handoff(ring, burst, drops);
            }
        }
        for handle in self.refused.drain(..) {
            self.worker.refuse(handle, now);
        }
        for ((queue, point), burst) in self.queues.iter_mut().zip(&mut self.out.transmit) {
            if !burst.is_empty() {
                copy_all(self.tap.as_ref(), *point, now, burst);
                queue.transmit(burst);
            }
        }
    }

    fn take_message(&mut self) -> bool {
        let Ok(message) = self.messages.try_recv() else { return false };
        match message {
            CoreMessage::Policy { generation, policy, chains, reply, .. } => {
                self.worker.set_policy(Snapshot { generation, policy });
                self.check(&chains);
                let _ = reply.send(Ok(()));
            }
            CoreMessage::Policies(reply) => {
                let _ = reply.send(self.worker.policy().generation);
            }
            CoreMessage::Web(reply) => {
                let _ = reply.send(Box::default());
            }
            CoreMessage::Latency(reply) => {
                let _ = reply.send(Box::new(self.latency()));
            }
            CoreMessage::Flows { query, reply } => {
                let _ = reply.send(listing::bindings(&self.worker, &query, self.clock.now()));
            }
            CoreMessage::Past { query, reply } => {
                let _ = reply.send(listing::past(&self.worker, &query, self.clock.now()));
            }
            CoreMessage::Pairs { reply, .. } => {
                let _ = reply.send(Vec::new());
            }
            CoreMessage::Capture(tap) => self.tap = tap,
            CoreMessage::Drain(_) => self.worker.drain(),
        }
        true
    }
}

#[inline]
fn copy_all<F: Frame>(tap: Option<&Tap>, point: TapPoint, now: Instant, frames: &[F]) {
    if let Some(tap) = tap {
        for frame in frames {
            tap.copy(point, now, frame.data());
        }
    }
}
