//! A packet's way through the reactor, and a pair's visit.

use pnat_shared::flow::{Handle, LastWords};
use pnat_shared::frame::{Frame, FramePool};
use pnat_shared::slots::Slots;
use pnat_shared::stats::Stage;
use pnat_shared::time::{Duration, Instant};
use pnat_shared::verdict::{CloseReason, DropReason};

use super::demux::{self, Arrival};
use super::index::Index;
use super::pairs::{Slot, contain};
use super::residence::Cause;
use super::visit::Round;
use super::{Outputs, Progress, Reactor, TICK, VISITS, train};
use crate::filter::Given;

/// How soon a pair that found the pool dry tries again.
const DRY_RETRY: Duration = TICK;

impl<F: Frame> Reactor<F> {
    /// The key of this very handle's pair, not of one that had the slot before.
    #[inline]
    pub(super) fn find(&self, handle: Handle) -> Option<u32> {
        let key = self.index.find(handle)?;
        self.slots.get(key).filter(|slot| slot.handle == handle).map(|_| key)
    }

    /// A packet of a flow that is open, or was. What may be the beginning of a train waits for what follows.
    #[inline]
    pub(super) fn packet<P: FramePool<F>>(&mut self, frame: F, round: &mut Round<'_, F, P>) {
        let Some(frame) = self.train.take(frame) else { return };
        // By reference: what was read is long, and stays where it was written.
        match &demux::read(&frame) {
            Ok(arrival) => {
                let fit = train::fit(arrival);
                if !fit.is_some_and(|segment| self.train.is_followed_by(arrival, segment)) {
                    self.deliver_train(round);
                }
                match fit {
                    Some(segment) => self.train.couple(arrival, segment, frame),
                    None => self.deliver(arrival, frame, round),
                }
            }
            Err(reason) => self.stats.drops.add(*reason, 1),
        }
    }

    /// Hands the train, if there is one, to its pair's socket.
    pub(super) fn deliver_train<P: FramePool<F>>(&mut self, round: &mut Round<'_, F, P>) {
        let Self { train, slots, index, bench, ready, .. } = self;
        if train.is_empty() {
            return;
        }
        let Some((key, slot)) = find_slot(index, slots, train.handle) else {
            self.stats.drops.add(DropReason::StaleHandle, train.len() as u64);
            return train.clear();
        };
        slot.cause = Some(Cause::new(round.now));
        let visit = &mut bench.visit(&slot.account, round);
        let delivered = contain(|| slot.conversation.deliver_train(train, visit));
        train.clear();
        if delivered.is_none() {
            return self.bury(key, round);
        }
        slot.touch(key, ready);
    }

    /// Hands a packet to its pair's socket; datagrams and ICMP errors go on at once, segments when the pair is visited.
    pub(super) fn deliver<P: FramePool<F>>(
        &mut self,
        arrival: &Arrival,
        frame: F,
        round: &mut Round<'_, F, P>,
    ) {
        let Self { slots, index, bench, ready, residence, .. } = self;
        let Some((key, slot)) = find_slot(index, slots, arrival.handle) else {
            return self.stats.drops.add(DropReason::StaleHandle, 1);
        };
        if slot.conversation.makes_way(arrival.side, &arrival.body) {
            round.out.again(arrival.handle, frame);
            return self.close(key, CloseReason::Finished, round);
        }
        let visit = &mut bench.visit(&slot.account, round);
        let delivered = contain(|| slot.conversation.deliver(arrival.side, &arrival.body, frame, visit));
        slot.cause = Some(Cause::new(round.now));
        match delivered {
            Some(Ok(())) => {}
            Some(Err(reason)) => self.stats.drops.add(reason, 1),
            None => return self.bury(key, round),
        }
        slot.touch(key, ready);
        // A datagram is on its way already.
        slot.emit(bench, residence, round);
    }

    /// Hands what was given for tickets to the filters that drew them; where their pair is gone, it is dropped.
    pub(super) fn take_given<P: FramePool<F>>(&mut self, round: &mut Round<'_, F, P>) {
        for _ in 0..VISITS {
            let Some(Given { handle, place, answer }) = self.bench.services.given() else { return };
            let Self { slots, index, bench, ready, .. } = self;
            let Some((key, slot)) = find_slot(index, slots, handle) else { continue };
            let visit = &mut bench.visit(&slot.account, round);
            match contain(|| slot.conversation.answered(place, answer, visit)) {
                Some(()) => slot.touch(key, ready),
                None => self.bury(key, round),
            }
        }
    }

    /// A pair's timer has fired.
    pub(super) fn fire(&mut self, key: u32) {
        if let Some(slot) = self.slots.get_mut(key) {
            slot.armed = Instant::FAR;
            slot.touch(key, &mut self.ready);
        }
    }

    /// Visits pairs in the order in which they asked for it, as long as there is room for what they send.
    pub(super) fn visit_ready<P: FramePool<F>>(&mut self, round: &mut Round<'_, F, P>) {
        let mut left = self.ready.len().min(VISITS);
        // One guard for all visits, since each costs as much as a visit's smaller parts: after a panic it is set up anew.
        while contain(|| self.visit_some(&mut left, round)).is_none() {
            let key = self.at_work.take().expect("invariant: nothing but a pair panics");
            self.bury(key, round);
        }
    }

    /// Visits as many pairs, or until there is no room.
    fn visit_some<P: FramePool<F>>(&mut self, left: &mut usize, round: &mut Round<'_, F, P>) {
        while *left > 0 && round.out.most() < self.ring {
            *left -= 1;
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
        self.at_work = Some(key);
        if may_be_due && slot.conversation.deadline() <= visit.now {
            slot.conversation.on_timer(visit);
        }
        let progress = slot.conversation.pump(visit);
        self.at_work = None;
        self.after_visit(key, progress, round);
    }

    /// Sends what a pair had to say, and sees to its next visit, or to its end.
    fn after_visit<P>(&mut self, key: u32, progress: Progress, round: &mut Round<'_, F, P>) {
        if let Some(took) = progress.connected.filter(|_| self.residence.is_on) {
            self.residence.latency.record(Stage::Connect, took, 1);
        }
        let slot = &mut self.slots[key];
        slot.emit(&mut self.bench, &mut self.residence, round);
        self.bench.memory.keep(&mut slot.account, progress.kept);
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
            slot.touch(key, &mut self.ready);
        } else {
            slot.cause = None;
        }
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
        slot.emit(&mut self.bench, &mut self.residence, round);
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
            verdict = flow.told_verdict(), "flow closed"
        );
        self.stats.closes.add(reason, 1);
        let last_words = LastWords {
            verdict: flow.told_verdict().map(str::to_owned),
            name: flow.name.as_deref().map(str::to_owned),
            path_mtus: slot.conversation.path_mtus(),
        };
        out.closed(slot.handle, reason, (!last_words.is_empty()).then(|| Box::new(last_words)));
        self.bench.memory.close(slot.account);
        if reason == CloseReason::Internal {
            let _ = contain(|| drop(slot.conversation));
        } else {
            let _ = contain(|| self.shells.keep(slot.conversation));
        }
    }
}

/// The pair of this very handle, and its key.
#[inline]
fn find_slot<'a, F>(
    index: &Index,
    slots: &'a mut Slots<Slot<F>>,
    handle: Handle,
) -> Option<(u32, &'a mut Slot<F>)> {
    let key = index.find(handle)?;
    let slot = slots.get_mut(key).filter(|slot| slot.handle == handle)?;
    Some((key, slot))
}
