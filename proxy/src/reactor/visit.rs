//! One visit of the reactor to one pair: what the pair may use, and what it did.

use pnat_shared::frame::FramePool;
use pnat_shared::time::{Duration, Instant};

use super::ReactorStats;
use crate::filter::{Datagrams, Flow, Output, Services, Turn};

/// What the reactor lends to the pair that it visits. The queues are empty before and after each use: they are kept only so
/// that no packet allocates.
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
}

impl<F, P: FramePool<F>> Visit<'_, F, P> {
    /// A turn of a stream chain.
    pub(crate) fn turn<'t>(&'t mut self, flow: &'t mut Flow) -> Turn<'t, Output<F>> {
        Turn { now: self.now, flow, services: self.services, out: self.passed }
    }

    /// A turn of a datagram chain.
    pub(crate) fn datagram_turn<'t>(&'t mut self, flow: &'t mut Flow) -> Turn<'t, Datagrams<F>> {
        Turn { now: self.now, flow, services: self.services, out: self.datagrams }
    }
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
