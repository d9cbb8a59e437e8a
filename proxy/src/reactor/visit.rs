//! One visit of the reactor to one pair: what the pair may use, and what it did.

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
pub(super) struct Workbench<F> {
    services: Services,
    stats: Arc<ReactorStats>,
    passed: Output<F>,
    datagrams: Datagrams<F>,
    pub(super) frames: Vec<F>,
    spares: Spares<F>,
    pub(super) memory: Memory,
}

/// The workbench in one pair's hands.
#[derive(Debug)]
pub(crate) struct Visit<'a, F, P> {
    pub(crate) now: Instant,
    pub(crate) pool: &'a mut P,
    pub(crate) services: &'a mut Services,
    pub(crate) stats: &'a ReactorStats,
    /// What leaves a stream chain.
    pub(crate) passed: &'a mut Output<F>,
    /// What leaves a datagram chain.
    pub(crate) datagrams: &'a mut Datagrams<F>,
    /// What the pair sends.
    pub(crate) frames: &'a mut Vec<F>,
    /// Memory for what its sockets queue.
    pub(crate) spares: &'a mut Spares<F>,
    /// Frames are scarce: bytes that may wait are to be copied out of theirs.
    pub(crate) is_thrifty: bool,
    /// What the pair may keep.
    pub(crate) share: Share,
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
            spares: Spares::default(),
            memory: Memory::new(pairs),
        }
    }

    pub(super) fn visit<'a, P>(
        &'a mut self,
        account: &Account,
        round: &'a mut Round<'_, F, P>,
    ) -> Visit<'a, F, P> {
        Visit {
            now: round.now,
            pool: round.pool,
            services: &mut self.services,
            stats: &self.stats,
            passed: &mut self.passed,
            datagrams: &mut self.datagrams,
            frames: &mut self.frames,
            spares: &mut self.spares,
            is_thrifty: self.memory.is_thrifty(),
            share: self.memory.share(account),
        }
    }

    /// Throws away what a visit that did not come to its end left behind.
    pub(super) fn clear(&mut self) {
        self.passed = Output::default();
        self.datagrams = Datagrams::default();
        self.frames.clear();
    }

    /// Takes note of how many chunks a pair keeps now.
    pub(super) fn keep(&mut self, account: &mut Account, now: usize) {
        self.memory.keep(account, now);
    }

    /// Tells everybody how many chunks all pairs keep now.
    pub(super) fn tell_kept(&self) {
        self.stats.kept.set(self.memory.kept() as u64);
    }

    /// Closes the account of a pair that has ended.
    pub(super) fn forget(&mut self, account: Account) {
        self.memory.close(account);
    }
}

impl<F, P> Visit<'_, F, P> {
    /// Whether text may be kept as it comes: nothing is short.
    #[inline]
    pub(crate) const fn is_generous(&self) -> bool {
        !self.is_thrifty && self.share.chunks == usize::MAX
    }
}

impl<F, P: FramePool<F>> Visit<'_, F, P> {
    /// A turn of a stream chain.
    pub(crate) const fn turn<'t>(&'t mut self, flow: &'t mut Flow) -> Turn<'t, Output<F>> {
        Turn { now: self.now, flow, services: self.services, out: self.passed }
    }

    /// A turn of a datagram chain.
    pub(crate) const fn datagram_turn<'t>(&'t mut self, flow: &'t mut Flow) -> Turn<'t, Datagrams<F>> {
        Turn { now: self.now, flow, services: self.services, out: self.datagrams }
    }
}
