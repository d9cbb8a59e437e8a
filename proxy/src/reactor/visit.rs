//! One visit of the reactor to one pair: what the pair may use, and what it did.

use std::net::SocketAddrV4;
use std::sync::Arc;

use pnat_shared::frame::FramePool;
use pnat_shared::time::{Duration, Instant};

use super::memory::{Account, Memory, Share};
use super::{Outputs, ReactorStats};
use crate::filter::{Datagrams, Flow, Output, Services, Turn};
use crate::tcp::Spares;

/// What one call of the reactor works with.
#[derive(Debug)]
pub(super) struct Round<'a, F, P> {
    pub(super) now: Instant,
    pub(super) pool: &'a mut P,
    pub(super) out: &'a mut Outputs<F>,
}

/// What the reactor lends to one pair after the other. The queues are empty between visits: they are kept only so that no
/// packet allocates.
#[derive(Debug)]
pub(crate) struct Workbench<F> {
    pub(crate) services: Services,
    pub(crate) stats: Arc<ReactorStats>,
    /// What leaves a stream chain.
    pub(crate) passed: Output<F>,
    /// What leaves a datagram chain.
    pub(crate) datagrams: Datagrams<F>,
    /// What the pair sends.
    pub(crate) frames: Vec<F>,
    /// Where in that it turns from one server to another.
    pub(crate) turns: Vec<Turned>,
    /// Memory for what its sockets queue.
    pub(crate) spares: Spares<F>,
    pub(super) memory: Memory,
}

/// A pair's second socket has turned to this server.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Turned {
    /// Frames that were sent before.
    pub(super) at: usize,
    pub(super) server: SocketAddrV4,
}

/// The workbench in one pair's hands.
#[derive(Debug)]
pub(crate) struct Visit<'a, F, P> {
    pub(crate) now: Instant,
    pub(crate) pool: &'a mut P,
    pub(crate) bench: &'a mut Workbench<F>,
    account: &'a Account,
}

/// What one visit did.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Progress {
    /// There is more to do at once: a bound on the work of one visit was met.
    pub(crate) more: bool,
    /// The pool ran dry with something left to send.
    pub(crate) dry: bool,
    /// The server has just answered, this long after the client's SYN.
    pub(crate) connected: Option<Duration>,
    /// Chunks that the pair keeps, whether frames hold them or not: no fewer than the frames.
    pub(crate) kept: usize,
}

impl<F> Workbench<F> {
    /// A workbench for at most `pairs` pairs.
    pub(super) fn new(services: Services, stats: Arc<ReactorStats>, pairs: usize) -> Self {
        Self {
            services,
            stats,
            passed: Output::default(),
            datagrams: Datagrams::default(),
            frames: Vec::new(),
            turns: Vec::new(),
            spares: Spares::default(),
            memory: Memory::new(pairs),
        }
    }

    pub(super) fn visit<'a, P>(
        &'a mut self,
        account: &'a Account,
        round: &'a mut Round<'_, F, P>,
    ) -> Visit<'a, F, P> {
        Visit { now: round.now, pool: round.pool, bench: self, account }
    }

    /// Throws away what a visit that did not come to its end left behind.
    pub(super) fn clear(&mut self) {
        self.passed = Output::default();
        self.datagrams = Datagrams::default();
        self.frames.clear();
        self.turns.clear();
    }

    /// Tells everybody how many chunks all pairs keep now.
    pub(super) fn tell_kept(&self) {
        self.stats.kept.set(self.memory.kept() as u64);
    }
}

impl<F, P> Visit<'_, F, P> {
    /// Whether frames are scarce: bytes that may wait are to be copied out of theirs. Memory for copies lasts longer, so while
    /// this is not so text may be kept as it comes.
    #[inline]
    pub(crate) const fn is_thrifty(&self) -> bool {
        self.bench.memory.is_thrifty()
    }

    /// What the pair sends from here on is for this server.
    pub(crate) fn turn_to(&mut self, server: SocketAddrV4) {
        self.bench.turns.push(Turned { at: self.bench.frames.len(), server });
    }

    /// What the pair may keep.
    #[inline]
    pub(crate) fn share(&self) -> Share {
        self.bench.memory.share(self.account)
    }
}

impl<F, P: FramePool<F>> Visit<'_, F, P> {
    /// A turn of a stream chain.
    pub(crate) const fn turn<'t>(&'t mut self, flow: &'t mut Flow) -> Turn<'t, Output<F>> {
        Turn { now: self.now, flow, services: &mut self.bench.services, out: &mut self.bench.passed }
    }

    /// A turn of a datagram chain.
    pub(crate) const fn datagram_turn<'t>(&'t mut self, flow: &'t mut Flow) -> Turn<'t, Datagrams<F>> {
        Turn { now: self.now, flow, services: &mut self.bench.services, out: &mut self.bench.datagrams }
    }
}
