//! The reactor: one per proxy core. Takes bursts from the rings, finds each packet's pair, visits each pair once.
//!
//! Runs on: proxy cores. Allocates: per pair; nothing per packet. Blocks: never.
//!
//! ```text
//!   ring --> demux, train --> index --> socket of a pair, for every packet of the burst, or several at once
//!                                   |
//!                     pairs touched, each once --> visit: handshake, chain, segments --> outputs --> rings
//!                     timers that fired --------'
//! ```
//!
//! A pair that panics is taken out, reset and counted; the others never notice.

mod ahead;
mod demux;
mod index;
mod open;
mod deliver;
mod train;
mod pairs;
mod visit;
mod memory;
mod output;
mod residence;
mod policy;
mod stats;

pub use output::Outputs;
pub use pairs::PairView;
pub use policy::{Rule, Snapshot};
pub use stats::ReactorStats;

pub(crate) use demux::Complaint;
pub(crate) use memory::CHUNK;
pub(crate) use visit::{Progress, Visit};

use std::collections::VecDeque;
use std::net::SocketAddrV4;
use std::sync::Arc;

use pnat_shared::config::{Proxy, Transport};
use pnat_shared::flow::Handle;
use pnat_shared::frame::{Frame, FramePool};
use pnat_shared::loopback::ToProxy;
use pnat_shared::slots::Slots;
use pnat_shared::stats::Latency;
use pnat_shared::time::{Duration, Instant};
use pnat_shared::verdict::CloseReason;
use pnat_shared::wheel::Wheel;

use crate::filter::{Services, WebStats};
use crate::pair::Limits;
use index::Index;
use pairs::{Shells, Slot};
use policy::Policies;
use residence::Residence;
use train::Train;
use visit::{Round, Workbench};

/// Resolution of timers.
const TICK: Duration = Duration::from_millis(1);
/// Most pairs visited in one call.
const VISITS: usize = 256;

/// What a proxy core runs.
#[derive(Debug)]
pub struct Reactor<F: Frame> {
    limits: Arc<Limits>,
    transport: Transport,
    udp_timeout: Duration,
    max_pairs: usize,
    /// Slots of the ring to a worker: pairs wait with what would not fit.
    ring: usize,
    slots: Slots<Slot<F>>,
    index: Index,
    /// One timer per pair, by its key: armed for the deadline that the pair had after its last visit.
    wheel: Wheel,
    /// Keys of pairs to be visited, in the order in which they asked for it. A key may have lost its pair meanwhile.
    ready: VecDeque<u32>,
    policies: Policies,
    /// Segments of the burst that have been read and not yet handed to their pair. Empty between calls.
    train: Train<F>,
    shells: Shells<F>,
    bench: Workbench<F>,
    /// Keys of pairs whose timers fired. Empty between calls; kept for its memory.
    fired: Vec<u32>,
    /// Keys of the pairs that a burst is for. Empty between calls; kept for its memory.
    ahead: Vec<u32>,
    residence: Residence,
    /// Key of the pair that is being visited.
    at_work: Option<u32>,
    stats: Arc<ReactorStats>,
    next_id: u64,
    /// Since the gateway is stopping: when the pairs that are left are aborted.
    drain: Option<Instant>,
    /// Key of the pair that is to be aborted next then.
    abort_next: u32,
}

impl<F: Frame> Reactor<F> {
    /// A reactor for the flows of `workers` workers, which counts in `stats`.
    pub fn new(
        settings: &Proxy,
        workers: usize,
        services: Services,
        stats: Arc<ReactorStats>,
        now: Instant,
    ) -> Self {
        Self {
            limits: Arc::new(Limits {
                connect: settings.connect_timeout,
                half_open: settings.half_open_timeout,
                idle: settings.idle_timeout,
                keepalive: settings.keepalive,
                window: settings.window,
            }),
            transport: settings.transport,
            udp_timeout: settings.udp_timeout,
            max_pairs: settings.pairs as usize,
            ring: settings.ring as usize,
            slots: Slots::new(),
            index: Index::new(workers),
            wheel: Wheel::new(TICK, now),
            ready: VecDeque::new(),
            policies: Policies::default(),
            train: Train::default(),
            shells: Shells::new(),
            bench: Workbench::new(services, Arc::clone(&stats), settings.pairs as usize),
            fired: Vec::new(),
            ahead: Vec::new(),
            residence: Residence::new(true),
            at_work: None,
            stats,
            next_id: 0,
            drain: None,
            abort_next: 0,
        }
    }

    /// Adds a policy snapshot. New flows name the snapshot that decided on them, of generation `oldest` or later; those that
    /// are open keep theirs.
    pub fn set_policy(&mut self, snapshot: Snapshot, oldest: u32) {
        self.policies.set(snapshot, oldest);
    }

    /// The newest generation of policy that it holds; 0 where it has none.
    pub fn newest_policy(&self) -> u32 {
        self.policies.newest()
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
        let round = &mut Round { now, pool, out };
        self.residence.begin(now);
        self.take_given(round);
        self.look_ahead(input);
        for message in input.drain(..) {
            match message {
                ToProxy::Packet { frame, at } => {
                    self.residence.arrived(at);
                    self.packet(frame, round);
                }
                ToProxy::Open { frame, at, flow } => {
                    self.deliver_train(round);
                    self.residence.arrived(at);
                    self.open(frame, &flow, round);
                }
                ToProxy::Gone { handle, reason } => {
                    self.deliver_train(round);
                    if let Some(key) = self.find(handle) {
                        self.close(key, reason, round);
                    }
                }
                ToProxy::Moved { handle, public } => self.note_moved(handle, public),
            }
        }
        self.deliver_train(round);
        self.residence.waited();
        self.visit_ready(round);
        self.bench.tell_kept();
    }

    /// Does what is due at `now`.
    pub fn on_timer<P: FramePool<F>>(&mut self, pool: &mut P, now: Instant, out: &mut Outputs<F>) {
        let round = &mut Round { now, pool, out };
        self.residence.begin(now);
        let mut fired = std::mem::take(&mut self.fired);
        self.wheel.expire(now, VISITS, &mut fired);
        self.look_at_timers(&fired);
        for key in fired.drain(..) {
            self.fire(key);
        }
        self.fired = fired;
        self.visit_ready(round);
        if self.drain.is_some_and(|until| until <= now) {
            self.abort_some(round);
        }
        self.bench.tell_kept();
    }

    /// How many received frames pairs may keep: out of order or not acknowledged; no bound to begin with. Beyond it
    /// what arrives is copied out of its frame, so that no number of slow readers, and no gap that is never filled, can
    /// exhaust the pool on which every port's reception lives. Memory for eight times as much is shared fairly: the less is
    /// left of it, the smaller the windows of pairs and clients that keep much.
    pub const fn keep_frames(&mut self, most: usize) {
        self.bench.memory.limit(most);
    }

    /// Whether it measures, which it does to begin with; what it has measured before is forgotten.
    pub fn measure(&mut self, is_on: bool) {
        self.residence = Residence::new(is_on);
    }

    /// What the last call put out is handed to the rings at `now`: ends its residence.
    pub fn handed_on(&mut self, now: Instant) {
        self.residence.end(now);
    }

    /// When [`Reactor::on_burst`] and [`Reactor::on_timer`] are to be called next at the latest, burst or not: the past
    /// where work waits, [`Instant::FAR`] for never.
    pub fn deadline(&self) -> Instant {
        if !self.ready.is_empty() || self.bench.services.has_given() {
            return Instant::ZERO;
        }
        let drain = self.drain.filter(|_| !self.slots.is_empty()).unwrap_or(Instant::FAR);
        self.wheel.next_fire().unwrap_or(Instant::FAR).min(drain)
    }

    /// Takes no new flows from now on; flows that have not ended by `until` are aborted then.
    pub fn drain(&mut self, until: Instant) {
        self.drain = Some(until);
    }

    /// What a flow's server sees in the client's place is another address from now on.
    fn note_moved(&mut self, handle: Handle, public: SocketAddrV4) {
        if let Some(key) = self.find(handle)
            && let Some(slot) = self.slots.get_mut(key)
        {
            slot.conversation.note_moved(public);
        }
    }

    /// Aborts the next pairs of all, round and round until none is left.
    fn abort_some<P: FramePool<F>>(&mut self, round: &mut Round<'_, F, P>) {
        for _ in 0..VISITS {
            if self.abort_next >= self.slots.bound() {
                self.abort_next = 0;
                return;
            }
            self.close(self.abort_next, CloseReason::Shutdown, round);
            self.abort_next += 1;
        }
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
        &self.residence.latency
    }

    /// What HTTP filters did so far.
    pub const fn web(&self) -> &WebStats {
        self.bench.services.web()
    }

    /// The pairs alive, in no order.
    pub fn pairs(&self, now: Instant) -> impl Iterator<Item = PairView<'_>> {
        self.slots.iter().map(move |slot| slot.view(now))
    }

    /// The pair of a flow, if it is alive.
    pub fn pair_of(&self, handle: Handle, now: Instant) -> Option<PairView<'_>> {
        self.slots.get(self.find(handle)?).map(|slot| slot.view(now))
    }
}
