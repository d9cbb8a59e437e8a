//! A packet's way through the reactor, and a pair's visit.

use pnat_shared::flow::{Handle, LastWords};
use pnat_shared::frame::{Frame, FramePool};
use pnat_shared::stats::Stage;
use pnat_shared::time::{Duration, Instant};
use pnat_shared::verdict::{CloseReason, DropReason};

use super::demux::{self, Arrival};
use super::pairs::contain;
use super::residence::Cause;
use super::visit::Round;
use super::{Outputs, Progress, Reactor, TICK, VISITS, train};

/// How soon a pair that found the pool dry tries again.
const DRY_RETRY: Duration = TICK;

impl<F: Frame> Reactor<F> {
    /// The pair of this very handle, not of one that had the slot before.
    #[inline]
    pub(super) fn find(&self, handle: Handle) -> Option<u32> {
        let key = self.index.find(handle)?;
        self.slots.get(key).filter(|slot| slot.handle == handle).map(|_| key)
    }

    /// A packet of a flow that is open, or was. What may be the beginning of a train waits for what follows.
    pub(super) fn packet<P: FramePool<F>>(&mut self, frame: F, at: Instant, round: &mut Round<'_, F, P>) {
        let Some(frame) = self.train.take(frame, at) else { return };
        match demux::read(&frame) {
            Ok(arrival) => {
                let fit = train::fit(&arrival);
                if !fit.is_some_and(|segment| self.train.is_followed_by(&arrival, segment)) {
                    self.deliver_train(round);
                }
                match fit {
                    Some(segment) => self.train.couple(&arrival, segment, frame, at),
                    None => self.deliver(&arrival, frame, at, round),
                }
            }
            Err(reason) => self.stats.drops.add(reason, 1),
        }
    }

    /// Hands the train, if there is one, to its pair's socket.
    pub(super) fn deliver_train<P: FramePool<F>>(&mut self, round: &mut Round<'_, F, P>) {
        let Self { train, slots, bench, .. } = self;
        if train.is_empty() {
            return;
        }
        let found = self
            .index
            .find(train.handle)
            .filter(|key| slots.get(*key).is_some_and(|slot| slot.handle == train.handle));
        let Some(key) = found else {
            self.stats.drops.add(DropReason::StaleHandle, train.len() as u64);
            return train.clear();
        };
        let slot = &mut slots[key];
        slot.cause = Some(Cause::new(train.at, round.now));
        let visit = &mut bench.visit(&slot.account, round);
        let delivered = contain(|| slot.conversation.deliver_train(train, visit));
        train.clear();
        if delivered.is_none() {
            return self.bury(key, round);
        }
        self.touch(key);
    }

    /// Hands a packet to its pair's socket; datagrams and ICMP errors go on at once, segments when the pair is visited.
    pub(super) fn deliver<P: FramePool<F>>(
        &mut self,
        arrival: &Arrival,
        frame: F,
        at: Instant,
        round: &mut Round<'_, F, P>,
    ) {
        let Some(key) = self.find(arrival.handle) else {
            return self.stats.drops.add(DropReason::StaleHandle, 1);
        };
        let slot = &mut self.slots[key];
        if slot.conversation.makes_way(arrival.side, &arrival.body) {
            round.out.again(arrival.handle, frame);
            return self.close(key, CloseReason::Finished, round);
        }
        let visit = &mut self.bench.visit(&slot.account, round);
        let delivered = contain(|| slot.conversation.deliver(arrival.side, &arrival.body, frame, visit));
        slot.cause = Some(Cause::new(at, round.now));
        match delivered {
            Some(Ok(())) => {}
            Some(Err(reason)) => self.stats.drops.add(reason, 1),
            None => return self.bury(key, round),
        }
        self.touch(key);
        // A datagram is on its way already.
        self.emit(key, round);
    }

    /// Notes a pair for a visit, once.
    pub(super) fn touch(&mut self, key: u32) {
        let slot = &mut self.slots[key];
        if !std::mem::replace(&mut slot.touched, true) {
            self.ready.push_back(key);
        }
    }

    /// A pair's timer has fired.
    pub(super) fn fire(&mut self, key: u32) {
        if let Some(slot) = self.slots.get_mut(key) {
            slot.armed = Instant::FAR;
            self.touch(key);
        }
    }

    /// Visits pairs in the order in which they asked for it, as long as there is room for what they send.
    pub(super) fn visit_ready<P: FramePool<F>>(&mut self, round: &mut Round<'_, F, P>) {
        for _ in 0..self.ready.len().min(VISITS) {
            if round.out.most() >= self.ring {
                return;
            }
            if let Some(key) = self.ready.pop_front() {
                self.visit(key, round);
            }
        }
    }

    /// Lets a pair do what there is to do.
    fn visit<P: FramePool<F>>(&mut self, key: u32, round: &mut Round<'_, F, P>) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        slot.touched = false;
        // The timer is armed for what its pair waited for; where it has fired, or was never armed, the pair knows.
        let may_be_due = slot.armed <= round.now || slot.armed == Instant::FAR;
        let visit = &mut self.bench.visit(&slot.account, round);
        let Some(progress) = contain(|| {
            if may_be_due && slot.conversation.deadline() <= visit.now {
                slot.conversation.on_timer(visit);
            }
            slot.conversation.pump(visit)
        }) else {
            return self.bury(key, round);
        };
        self.emit(key, round);
        self.after_visit(key, progress, round);
    }

    /// Sees to a pair's next visit, or to its end.
    fn after_visit<P>(&mut self, key: u32, progress: Progress, round: &mut Round<'_, F, P>) {
        if let Some(took) = progress.connected {
            self.latency.record(Stage::Connect, took, 1);
        }
        let slot = &mut self.slots[key];
        self.bench.keep(&mut slot.account, slot.conversation.kept());
        if let Some(reason) = slot.conversation.over() {
            return self.remove(key, reason, round.out);
        }
        let mut deadline = slot.conversation.deadline();
        if progress.dry {
            deadline = deadline.min(round.now + DRY_RETRY);
        }
        if deadline != slot.armed {
            slot.armed = deadline;
            self.wheel.arm(key, deadline);
        }
        if progress.more {
            self.touch(key);
        } else {
            slot.cause = None;
        }
    }

    /// Hands a pair's frames to its worker.
    fn emit<P>(&mut self, key: u32, round: &mut Round<'_, F, P>) {
        let frames = &mut self.bench.frames;
        if frames.is_empty() {
            return;
        }
        let slot = &self.slots[key];
        self.residence.leaving(slot.cause, frames.len() as u64, &mut self.latency);
        round.out.packets(slot.handle, frames, slot.cause.map_or(round.now, |cause| cause.at()));
    }

    /// Ends a pair on somebody's word.
    pub(super) fn close<P: FramePool<F>>(
        &mut self,
        key: u32,
        reason: CloseReason,
        round: &mut Round<'_, F, P>,
    ) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        let visit = &mut self.bench.visit(&slot.account, round);
        let Some(progress) = contain(|| {
            slot.conversation.close(reason, visit);
            slot.conversation.pump(visit)
        }) else {
            return self.bury(key, round);
        };
        self.emit(key, round);
        self.after_visit(key, progress, round);
    }

    /// Takes out a pair that panicked: both sides get RST as far as that still works, and its filters are told.
    fn bury<P: FramePool<F>>(&mut self, key: u32, round: &mut Round<'_, F, P>) {
        self.stats.panics.add(1);
        let slot = &mut self.slots[key];
        tracing::error!(handle = ?slot.handle, flow = ?slot.conversation.flow(), "a pair panicked and was reset");
        let visit = &mut self.bench.visit(&slot.account, round);
        let _ = contain(|| {
            slot.conversation.close(CloseReason::Internal, visit);
            let _ = slot.conversation.pump(visit);
        });
        self.emit(key, round);
        self.bench.clear();
        self.remove(key, CloseReason::Internal, round.out);
    }

    /// Forgets a pair that has ended, and tells its worker.
    pub(super) fn remove(&mut self, key: u32, reason: CloseReason, out: &mut Outputs<F>) {
        let Some(slot) = self.slots.remove(key) else { return };
        self.index.remove(slot.handle);
        self.wheel.cancel(key);
        self.policies.release(slot.policy);
        let flow = slot.conversation.flow();
        self.stats.ended(flow.protocol);
        tracing::debug!(
            protocol = %flow.protocol, client = %flow.client, server = %flow.server, %reason,
            verdict = flow.verdict.as_deref(), "flow closed"
        );
        self.stats.closes.add(reason, 1);
        let has_words = flow.verdict.is_some() || flow.name.is_some();
        let last_words =
            has_words.then(|| Box::new(LastWords { verdict: flow.verdict.clone(), name: flow.name.clone() }));
        out.closed(slot.handle, reason, last_words);
        self.bench.forget(slot.account);
        if reason == CloseReason::Internal {
            let _ = contain(|| drop(slot.conversation));
        } else {
            let _ = contain(|| self.shells.keep(slot.conversation));
        }
    }
}
