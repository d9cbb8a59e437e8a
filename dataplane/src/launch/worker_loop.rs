//! One worker's turn: bursts from ports and rings into the worker, what it leaves to ports and rings.
//!
//! Runs on: worker. Allocates: never, once its vectors have grown. Blocks: never.

use crossbeam_channel::Receiver;
use pnat_shared::capture::{Tap, TapPoint};
use pnat_shared::flow::Handle;
use pnat_shared::frame::{Frame, FramePool};
use pnat_shared::loopback::{FromProxy, ToProxy};
use pnat_shared::stats::Stage;
use pnat_shared::time::Instant;

use super::clock::Clock;
use super::listing;
use super::mesh::WorkerEnds;
use crate::control::CoreMessage;
use crate::handoff::Handoff;
use crate::loopback::steer;
use crate::nat::policy::Snapshot;
use crate::port::{BURST, PortQueue};
use crate::worker::{Outputs, Worker};

/// A worker with its queues, rings and control channel.
#[derive(Debug)]
pub struct WorkerLoop<F, P, Q> {
    worker: Worker<F, P>,
    clock: Clock,
    /// By port number, and what a capture calls each.
    queues: Vec<(Q, TapPoint)>,
    rings: WorkerEnds<F>,
    messages: Receiver<CoreMessage>,
    tap: Option<Tap>,
    /// When the turn began, as far as it is known.
    began: Option<Instant>,
    /// When the worker's timers are looked at next.
    deadline: Instant,
    out: Outputs<F>,
    frames: Vec<F>,
    handed: Vec<Handoff<F>>,
    answers: Vec<FromProxy<F>>,
    refused: Vec<Handle>,
}

impl<F: Frame, P: FramePool<F>, Q: PortQueue<F>> WorkerLoop<F, P, Q> {
    /// Puts a worker between its queues (by port number, with the port's tap point) and its rings.
    pub fn new(
        worker: Worker<F, P>,
        clock: Clock,
        queues: Vec<(Q, TapPoint)>,
        rings: WorkerEnds<F>,
        messages: Receiver<CoreMessage>,
    ) -> Self {
        let out = Outputs::new(queues.len(), rings.to_proxy.len(), rings.handoff_out.len());
        Self {
            worker,
            clock,
            queues,
            rings,
            messages,
            tap: None,
            began: None,
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

    /// The worker's queues, to put packets in and take them out where they are no devices'.
    pub fn queues_mut(&mut self) -> &mut Vec<(Q, TapPoint)> {
        &mut self.queues
    }

    /// Takes at most one burst from everywhere. Answers whether there was anything.
    ///
    /// `since` is when the core began to be at this loop's service, where that is known, and then when the turn ended: the next
    /// turn's beginning, unless the core does something else or sleeps in between.
    pub fn turn(&mut self, since: &mut Option<Instant>) -> bool {
        self.began = *since;
        let mut worked = self.take_message();
        for port in 0..self.queues.len() {
            worked |= self.receive(port);
        }
        worked |= self.take_from_proxies();
        worked |= self.take_handed_over();
        let now = self.clock.now();
        if self.deadline <= now {
            self.worker.on_timer(now, &mut self.out);
            self.deadline = self.worker.deadline().unwrap_or(Instant::FAR);
        }
        self.hand_on(now);
        let turns = &self.worker.stats().turns;
        if worked {
            let ended = self.clock.now();
            turns.worked(Some((self.began.unwrap_or(now), ended)));
            *since = Some(ended);
        } else {
            turns.idled();
            *since = Some(now);
        }
        worked
    }

    /// A burst was taken.
    fn begin(&mut self, packets: usize) -> Instant {
        let now = self.clock.now();
        self.began.get_or_insert(now);
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
        self.worker.on_port_burst(port as u8, &mut self.frames, start, &mut self.out);
        self.measure(start, count);
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
            self.worker.on_proxy_burst(&mut self.answers, start, &mut self.out);
            self.measure(start, count);
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
        self.worker.on_handoff(&mut self.handed, start, &mut self.out);
        self.measure(start, count);
        true
    }

    /// Notes the worker's time for `count` packets, port input and output not included.
    fn measure(&mut self, start: Instant, count: usize) {
        let each = self.clock.now().since(start) / u32::try_from(count).unwrap_or(u32::MAX);
        self.worker.latency_mut().record(Stage::Nat, each, count as u64);
        // A packet may have armed an earlier timer.
        self.deadline = self.deadline.min(self.worker.deadline().unwrap_or(Instant::FAR));
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
            CoreMessage::Policy { generation, policy, reply, .. } => {
                self.worker.set_policy(Snapshot { generation, policy });
                let _ = reply.send(Ok(()));
            }
            CoreMessage::Policies(reply) => {
                let _ = reply.send(self.worker.policy().generation);
            }
            CoreMessage::Latency(reply) => {
                let _ = reply.send(Box::new(self.worker.latency_mut().clone()));
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
