//! What a reactor hands to the workers.

use std::net::SocketAddrV4;

use pnat_shared::flow::{Handle, LastWords, WorkerId};
use pnat_shared::loopback::FromProxy;
use pnat_shared::time::Instant;
use pnat_shared::verdict::CloseReason;

/// What waits for each worker, in order: the loop moves it into the rings after every visit.
#[derive(Debug)]
pub struct Outputs<F> {
    workers: Vec<Vec<FromProxy<F>>>,
}

impl<F> Outputs<F> {
    /// Outputs for `workers` workers.
    pub fn new(workers: usize) -> Self {
        Self { workers: (0..workers).map(|_| Vec::new()).collect() }
    }

    /// What waits for one worker; to be drained into its ring. What a full ring leaves behind stays, and holds back pairs
    /// that want to send; see also [`Outputs::shed`].
    ///
    /// # Panics
    /// Where the worker is not one of those that the outputs were made for.
    pub fn worker(&mut self, worker: WorkerId) -> &mut Vec<FromProxy<F>> {
        &mut self.workers[usize::from(worker.0)]
    }

    /// Drops packets for a worker that does not take them, all but the first `most` messages, and answers how many: datagrams
    /// do not wait, and TCP recovers. What nothing makes good is never dropped: word of a flow's end ([`FromProxy::Closed`]), and
    /// of another server ([`FromProxy::Retarget`]).
    pub fn shed(&mut self, worker: WorkerId, most: usize) -> usize {
        let waiting = self.worker(worker);
        let (before, mut place) = (waiting.len(), 0);
        waiting.retain(|message| {
            place += 1;
            place <= most || matches!(message, FromProxy::Closed { .. } | FromProxy::Retarget { .. })
        });
        before - waiting.len()
    }

    /// Messages that wait for the worker for which most do.
    pub(super) fn most(&self) -> usize {
        self.workers.iter().map(Vec::len).max().unwrap_or(0)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.workers.iter().all(Vec::is_empty)
    }

    /// What waits and has not been handed on before is handed on at `now`, whether its ring has room at once or not.
    pub fn stamp(&mut self, now: Instant) {
        for message in self.workers.iter_mut().flatten() {
            if let FromProxy::Packet { at, .. } = message
                && *at == Instant::FAR
            {
                *at = now;
            }
        }
    }

    /// Takes a pair's frames. A call of its own, so that the many visits that send nothing do not make room for it.
    #[inline(never)]
    pub(super) fn packets(&mut self, to: Handle, frames: &mut Vec<F>) {
        let at = Instant::FAR;
        if let Some(waiting) = self.workers.get_mut(usize::from(to.worker.0)) {
            // Most of those who answer one packet send one.
            if frames.len() == 1 {
                waiting.extend(frames.pop().map(|frame| FromProxy::Packet { frame, at }));
            } else {
                waiting.extend(frames.drain(..).map(|frame| FromProxy::Packet { frame, at }));
            }
        }
        frames.clear();
    }

    pub(super) fn retarget(&mut self, handle: Handle, server: SocketAddrV4) {
        if let Some(waiting) = self.workers.get_mut(usize::from(handle.worker.0)) {
            waiting.push(FromProxy::Retarget { handle, server });
        }
    }

    pub(super) fn again(&mut self, handle: Handle, frame: F) {
        if let Some(waiting) = self.workers.get_mut(usize::from(handle.worker.0)) {
            waiting.push(FromProxy::Again { handle, frame });
        }
    }

    pub(super) fn closed(&mut self, handle: Handle, reason: CloseReason, last_words: Option<Box<LastWords>>) {
        if let Some(waiting) = self.workers.get_mut(usize::from(handle.worker.0)) {
            waiting.push(FromProxy::Closed { handle, reason, last_words });
        }
    }
}
