//! The reactor: one per proxy core. Takes bursts from the rings, finds each packet's pair, visits each pair once.
//!
//! Runs on: proxy cores. Allocates: per pair; nothing per packet. Blocks: never.
//!
//! ```text
//!   ring --> demux --> index --> socket of a pair, for every packet of the burst
//!                                   |
//!                     pairs touched, each once --> visit: handshake, chain, segments --> outputs --> rings
//!                     timers that fired --------'
//! ```
//!
//! A pair that panics is taken out, reset and counted; the others never notice.

mod demux;
mod index;
mod policy;
mod output;
mod visit;
mod stats;
mod open;
mod pairs;
mod residence;

pub use output::Outputs;
pub use pairs::PairView;
pub use policy::Snapshot;
pub use stats::ReactorStats;

pub(crate) use demux::Complaint;
pub(crate) use visit::{Progress, Visit};

use std::collections::VecDeque;
use std::sync::Arc;

use pnat_shared::config::Proxy;
use pnat_shared::flow::Handle;
use pnat_shared::frame::{Frame, FramePool};
use pnat_shared::loopback::ToProxy;
use pnat_shared::stats::{Latency, Stage};
use pnat_shared::time::{Duration, Instant};
use pnat_shared::verdict::{CloseReason, DropReason};
use pnat_shared::wheel::Wheel;
use slab::Slab;

use crate::filter::{Datagrams, Output, Services};
use crate::pair::Limits;
use demux::Arrival;
use index::Index;
use pairs::{Slot, contain};
use policy::Policies;
use residence::{Cause, Residence};

/// Resolution of timers.
const TICK: Duration = Duration::from_millis(1);
/// Most pairs visited in one call, for their packets and for their timers each.
const VISITS: usize = 256;
/// How soon a pair that found the pool dry tries again.
const DRY_RETRY: Duration = TICK;

/// What a proxy core runs.
#[derive(Debug)]
pub struct Reactor<F: Frame> {
    limits: Limits,
    udp_timeout: Duration,
    max_pairs: usize,
    slots: Slab<Slot<F>>,
    index: Index,
    /// One timer per pair, by its key. Armed no later than the pair's deadline: where that has moved on meanwhile, the timer
    /// fires for nothing and is armed again, which is cheaper than moving it with every packet.
    wheel: Wheel,
    /// Keys of pairs to be visited, in the order in which they asked for it. A key may have lost its pair meanwhile.
    ready: VecDeque<usize>,
    policies: Policies,
    services: Services,
    scratch: Scratch<F>,
    residence: Residence,
    latency: Latency,
    stats: Arc<ReactorStats>,
    next_id: u64,
    /// Since the gateway is stopping: when the pairs that are left are aborted.
    drain: Option<Instant>,
}

/// Queues that are empty between visits; kept for their memory.
#[derive(Debug)]
struct Scratch<F> {
    passed: Output<F>,
    datagrams: Datagrams<F>,
    frames: Vec<F>,
    fired: Vec<u32>,
}

impl<F> Scratch<F> {
    /// Throws away what a visit that did not come to its end left behind.
    fn clear(&mut self) {
        self.passed = Output::default();
        self.datagrams = Datagrams::default();
        self.frames.clear();
    }
}

/// Lends a pair what it needs, out of the reactor's fields.
macro_rules! visit {
    ($reactor:expr, $pool:expr, $now:expr) => {
        Visit {
            now: $now,
            pool: $pool,
            services: &mut $reactor.services,
            stats: &$reactor.stats,
            passed: &mut $reactor.scratch.passed,
            datagrams: &mut $reactor.scratch.datagrams,
            frames: &mut $reactor.scratch.frames,
        }
    };
}

impl<F: Frame> Reactor<F> {
    /// A reactor for the flows of `workers` workers.
    pub fn new(settings: &Proxy, workers: usize, services: Services, now: Instant) -> Self {
        Self {
            limits: Limits {
                connect: settings.connect_timeout,
                half_open: settings.half_open_timeout,
                idle: settings.idle_timeout,
                window: settings.window,
            },
            udp_timeout: settings.udp_timeout,
            max_pairs: settings.pairs as usize,
            slots: Slab::new(),
            index: Index::new(workers),
            wheel: Wheel::new(TICK, now),
            ready: VecDeque::new(),
            policies: Policies::default(),
            services,
            scratch: Scratch {
                passed: Output::default(),
                datagrams: Datagrams::default(),
                frames: Vec::new(),
                fired: Vec::new(),
            },
            residence: Residence::default(),
            latency: Latency::default(),
            stats: Arc::default(),
            next_id: 0,
            drain: None,
        }
    }

    /// Adds a policy snapshot. New flows name the snapshot that decided on them; those that are open keep theirs.
    pub fn set_policy(&mut self, snapshot: Snapshot) {
        self.policies.set(snapshot);
    }

    /// Takes in a burst (which may be empty) and does what it asks for, and what bounded visits before left to do. `now` is
    /// when the burst was taken from the ring.
    pub fn on_burst<P: FramePool<F>>(
        &mut self,
        input: &mut Vec<ToProxy<F>>,
        pool: &mut P,
        now: Instant,
        out: &mut Outputs<F>,
    ) {
        self.residence.begin(now, &mut self.latency);
        for message in input.drain(..) {
            match message {
                ToProxy::Packet { frame, at } => {
                    self.residence.arrived(at, &mut self.latency);
                    self.packet(frame, at, pool, now, out);
                }
                ToProxy::Open { frame, at, flow } => {
                    self.residence.arrived(at, &mut self.latency);
                    self.open(frame, at, &flow, pool, now, out);
                }
                ToProxy::Gone { handle, reason } => {
                    if let Some(key) = self.find(handle) {
                        self.close(key, reason, pool, now, out);
                    }
                }
            }
        }
        self.residence.waited(&mut self.latency);
        for _ in 0..self.ready.len().min(VISITS) {
            if let Some(key) = self.ready.pop_front() {
                self.visit(key, false, pool, now, out);
            }
        }
    }

    /// Does what is due at `now`.
    pub fn on_timer<P: FramePool<F>>(&mut self, pool: &mut P, now: Instant, out: &mut Outputs<F>) {
        self.residence.begin(now, &mut self.latency);
        let mut fired = std::mem::take(&mut self.scratch.fired);
        self.wheel.expire(now, VISITS, &mut fired);
        for key in fired.drain(..) {
            self.visit(key as usize, true, pool, now, out);
        }
        self.scratch.fired = fired;
        if self.drain.is_some_and(|until| until <= now) {
            let keys: Vec<usize> = self.slots.iter().map(|(key, _)| key).take(VISITS).collect();
            for key in keys {
                self.close(key, CloseReason::Shutdown, pool, now, out);
            }
        }
    }

    /// What the last call put out has been handed to the rings at `now`: ends its residence.
    pub fn handed_on(&mut self, now: Instant) {
        self.residence.end(now, &mut self.latency);
    }

    /// When [`Reactor::on_burst`] and [`Reactor::on_timer`] are to be called next at the latest, burst or not: the past
    /// where work waits, [`Instant::FAR`] for never.
    pub fn deadline(&self) -> Instant {
        if !self.ready.is_empty() {
            return Instant::ZERO;
        }
        let drain = self.drain.filter(|_| !self.slots.is_empty()).unwrap_or(Instant::FAR);
        self.wheel.next_fire().unwrap_or(Instant::FAR).min(drain)
    }

    /// Takes no new flows from now on; flows that have not ended by `until` are aborted then.
    pub fn drain(&mut self, until: Instant) {
        self.drain = Some(until);
    }

    /// Pairs alive.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Counters that may be read from anywhere.
    pub fn stats(&self) -> Arc<ReactorStats> {
        Arc::clone(&self.stats)
    }

    /// Measurements so far.
    pub const fn latency(&self) -> &Latency {
        &self.latency
    }

    /// What the filters of this core share.
    pub const fn services(&mut self) -> &mut Services {
        &mut self.services
    }

    /// The pairs alive, in no order.
    pub fn pairs(&self, now: Instant) -> impl Iterator<Item = PairView<'_>> {
        self.slots.iter().map(move |(_, slot)| slot.view(now))
    }

    fn find(&self, handle: Handle) -> Option<usize> {
        let key = self.index.find(handle)?;
        self.slots.get(key).filter(|slot| slot.handle == handle).map(|_| key)
    }

    fn packet<P: FramePool<F>>(
        &mut self,
        frame: F,
        at: Instant,
        pool: &mut P,
        now: Instant,
        out: &mut Outputs<F>,
    ) {
        match demux::read(frame.data()) {
            Ok(arrival) => self.deliver(arrival, frame, at, pool, now, out),
            Err(reason) => self.stats.drops.add(reason, 1),
        }
    }

    /// Hands a packet to its pair's socket; datagrams and ICMP errors go on at once, segments when the pair is visited.
    fn deliver<P: FramePool<F>>(
        &mut self,
        arrival: Arrival,
        frame: F,
        at: Instant,
        pool: &mut P,
        now: Instant,
        out: &mut Outputs<F>,
    ) {
        let Some(key) = self.find(arrival.handle) else {
            return self.stats.drops.add(DropReason::StaleHandle, 1);
        };
        let slot = &mut self.slots[key];
        let visit = &mut visit!(self, pool, now);
        let delivered = contain(|| slot.conversation.deliver(arrival.side, arrival.body, frame, visit));
        slot.cause = Some(Cause { at, taken: now });
        match delivered {
            Some(Ok(())) => {}
            Some(Err(reason)) => self.stats.drops.add(reason, 1),
            None => return self.bury(key, pool, now, out),
        }
        self.emit(key, now, out);
        self.touch(key);
    }

    /// Notes a pair for a visit, once.
    fn touch(&mut self, key: usize) {
        let slot = &mut self.slots[key];
        if !std::mem::replace(&mut slot.touched, true) {
            self.ready.push_back(key);
        }
    }

    /// Lets a pair do what there is to do.
    fn visit<P: FramePool<F>>(
        &mut self,
        key: usize,
        fired: bool,
        pool: &mut P,
        now: Instant,
        out: &mut Outputs<F>,
    ) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        if fired {
            slot.armed = Instant::FAR;
        } else {
            slot.touched = false;
        }
        let visit = &mut visit!(self, pool, now);
        let Some(progress) = contain(|| {
            if fired && slot.conversation.deadline() <= now {
                slot.conversation.on_timer(visit);
            }
            slot.conversation.pump(visit)
        }) else {
            return self.bury(key, pool, now, out);
        };
        self.emit(key, now, out);
        self.after_visit(key, progress, now, out);
    }

    /// Sees to a pair's next visit, or to its end.
    fn after_visit(&mut self, key: usize, progress: Progress, now: Instant, out: &mut Outputs<F>) {
        if let Some(took) = progress.connected {
            self.latency.record(Stage::Connect, took, 1);
        }
        let slot = &mut self.slots[key];
        if let Some(reason) = slot.conversation.over() {
            return self.remove(key, reason, out);
        }
        let mut deadline = slot.conversation.deadline();
        if progress.dry {
            deadline = deadline.min(now + DRY_RETRY);
        }
        if deadline < slot.armed {
            slot.armed = deadline;
            self.wheel.arm(u32::try_from(key).unwrap_or(u32::MAX), deadline);
        }
        if progress.more {
            self.touch(key);
        } else {
            slot.cause = None;
        }
    }

    /// Hands a pair's frames to its worker.
    fn emit(&mut self, key: usize, now: Instant, out: &mut Outputs<F>) {
        let frames = &mut self.scratch.frames;
        if frames.is_empty() {
            return;
        }
        let slot = &self.slots[key];
        self.residence.leaving(slot.cause, frames.len() as u64, &mut self.latency);
        out.packets(slot.handle, frames, slot.cause.map_or(now, |cause| cause.at));
    }

    /// Ends a pair on somebody's word.
    fn close<P: FramePool<F>>(
        &mut self,
        key: usize,
        reason: CloseReason,
        pool: &mut P,
        now: Instant,
        out: &mut Outputs<F>,
    ) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        let visit = &mut visit!(self, pool, now);
        let Some(progress) = contain(|| {
            slot.conversation.close(reason, visit);
            slot.conversation.pump(visit)
        }) else {
            return self.bury(key, pool, now, out);
        };
        self.emit(key, now, out);
        self.after_visit(key, progress, now, out);
    }

    /// Takes out a pair that panicked: both sides get RST as far as that still works, and its filters are told.
    fn bury<P: FramePool<F>>(&mut self, key: usize, pool: &mut P, now: Instant, out: &mut Outputs<F>) {
        self.scratch.clear();
        self.stats.panics.add(1);
        let slot = &mut self.slots[key];
        tracing::error!(handle = ?slot.handle, flow = ?slot.conversation.flow(), "a pair panicked and was reset");
        let visit = &mut visit!(self, pool, now);
        let _ = contain(|| {
            slot.conversation.close(CloseReason::Internal, visit);
            let _ = slot.conversation.pump(visit);
        });
        self.emit(key, now, out);
        self.scratch.clear();
        self.remove(key, CloseReason::Internal, out);
    }

    fn remove(&mut self, key: usize, reason: CloseReason, out: &mut Outputs<F>) {
        let slot = self.slots.remove(key);
        self.index.remove(slot.handle);
        self.wheel.cancel(u32::try_from(key).unwrap_or(u32::MAX));
        self.policies.release(slot.policy);
        let flow = slot.conversation.flow();
        self.stats.ended(flow.protocol);
        tracing::debug!(
            protocol = %flow.protocol, client = %flow.client, server = %flow.server, %reason,
            verdict = flow.verdict.as_deref(), "flow closed"
        );
        self.stats.closes.add(reason, 1);
        out.closed(slot.handle, reason);
        let _ = contain(|| drop(slot));
    }
}
