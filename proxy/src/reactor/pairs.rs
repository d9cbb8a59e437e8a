//! What stands in the reactor's table: pairs of both protocols behind one face.

use std::any::Any;
use std::collections::VecDeque;
use std::net::SocketAddrV4;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pnat_shared::flow::{Handle, Side};
use pnat_shared::frame::{Frame, FramePool};
use pnat_shared::path_mtu::PathMtus;
use pnat_shared::time::{Duration, Instant};
use pnat_shared::verdict::{CloseReason, DropReason};

use super::demux::Body;
use super::memory::Account;
use super::residence::{Cause, Residence};
use super::train::Train;
use super::visit::{Progress, Round, Turned, Visit, Workbench};
use crate::filter::Flow;
use crate::pair::Pair;
use crate::tcp::State;
use crate::udp::Association;

/// One pair and what the reactor knows about it: a cache line.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Slot<F> {
    pub(super) handle: Handle,
    /// Generation of its policy snapshot.
    pub(super) policy: u32,
    pub(super) conversation: Conversation<F>,
    /// When its timer fires; [`Instant::FAR`] where it is not armed.
    pub(super) armed: Instant,
    /// Whether its key waits for a visit.
    pub(super) touched: bool,
    /// Holds [`Progress::kept`] as of its last visit.
    pub(super) account: Account,
    /// The burst that the next frames are due to; `None` where time is.
    pub(super) cause: Option<Cause>,
}

/// A pair by its protocol.
#[derive(Debug)]
pub(super) enum Conversation<F> {
    Tcp(Box<Pair<F>>),
    Udp(Box<Association<F>>),
}

/// Pairs that have ended: the next ones come to be in their places, which are in the cache.
#[derive(Debug)]
pub(super) struct Shells<F> {
    #[expect(clippy::vec_box, reason = "what is used again is the box")]
    pairs: Vec<Box<Pair<F>>>,
}

impl<F: Frame> Shells<F> {
    /// Most that are kept.
    const MOST: usize = 256;

    pub(super) const fn new() -> Self {
        Self { pairs: Vec::new() }
    }

    /// A place for a pair.
    pub(super) fn fill(&mut self, pair: Pair<F>) -> Box<Pair<F>> {
        match self.pairs.pop() {
            Some(mut place) => {
                *place = pair;
                place
            }
            None => Box::new(pair),
        }
    }

    /// Keeps a pair that has ended, unless it holds on to something; else it is dropped.
    pub(super) fn keep(&mut self, conversation: Conversation<F>) {
        if let Conversation::Tcp(pair) = conversation
            && self.pairs.len() < Self::MOST
            && pair.chunks() == 0
        {
            self.pairs.push(pair);
        }
    }
}

/// A pair as it may be shown.
#[derive(Clone, Debug)]
pub struct PairView<'a> {
    pub handle: Handle,
    /// Whose it is, and what it is called.
    pub flow: &'a Flow,
    /// State of the client's and of the server's socket; `None` for UDP.
    pub states: Option<[State; 2]>,
    /// Payload bytes received from the client and from the server.
    pub bytes: [u64; 2],
    pub packets: [u64; 2],
    /// Bytes inside the pair: with filters, and in send queues.
    pub held: usize,
    /// Longest IP packet that goes to the client and to the server for now, in bytes.
    pub mtus: [u16; 2],
    /// What the legs were found not to carry.
    pub path_mtus: PathMtus,
    /// Generation of the policy snapshot that decided.
    pub policy: u32,
    pub age: Duration,
    /// Since the last packet that was of use.
    pub idle: Duration,
}

impl<F: Frame> Slot<F> {
    /// Notes the pair, which has this key, for a visit, once.
    #[inline]
    pub(super) fn touch(&mut self, key: u32, ready: &mut VecDeque<u32>) {
        if !std::mem::replace(&mut self.touched, true) {
            ready.push_back(key);
        }
    }

    /// Hands the pair's frames to its worker.
    #[inline]
    pub(super) fn emit<P>(
        &self,
        bench: &mut Workbench<F>,
        residence: &mut Residence,
        round: &mut Round<'_, F, P>,
    ) {
        if !bench.turns.is_empty() {
            self.emit_turns(bench, residence, round);
        }
        let frames = &mut bench.frames;
        if !frames.is_empty() {
            residence.leaving(self.cause, frames.len() as u64);
            round.out.packets(self.handle, frames);
        }
    }

    /// Hands on what the pair has for the server that it leaves, and word of the one that it turns to.
    #[cold]
    fn emit_turns<P>(
        &self,
        bench: &mut Workbench<F>,
        residence: &mut Residence,
        round: &mut Round<'_, F, P>,
    ) {
        let mut gone = 0;
        for Turned { at, server } in bench.turns.drain(..) {
            let mut before: Vec<F> = bench.frames.drain(..at - gone).collect();
            gone = at;
            residence.leaving(self.cause, before.len() as u64);
            round.out.packets(self.handle, &mut before);
            round.out.retarget(self.handle, server);
        }
    }

    pub(super) fn view(&self, now: Instant) -> PairView<'_> {
        let flow = self.conversation.flow();
        let (states, held, tally, last_seen) = match &self.conversation {
            Conversation::Tcp(pair) => (Some(pair.states()), pair.held(), pair.tally(), pair.last_seen()),
            Conversation::Udp(association) => (None, 0, association.tally(), association.last_seen()),
        };
        PairView {
            handle: self.handle,
            flow,
            states,
            bytes: tally.bytes(),
            packets: tally.packets(),
            held,
            mtus: self.conversation.mtus(),
            path_mtus: self.conversation.path_mtus(),
            policy: self.policy,
            age: now.since(flow.opened),
            idle: now.since(last_seen),
        }
    }
}

impl<F: Frame> Conversation<F> {
    /// Hands on what arrived for the socket of `side`.
    pub(super) fn deliver<P: FramePool<F>>(
        &mut self,
        side: Side,
        body: &Body,
        frame: F,
        visit: &mut Visit<'_, F, P>,
    ) -> Result<(), DropReason> {
        match (self, body) {
            (Self::Tcp(pair), Body::Segment(segment)) => {
                visit.bench.stats.packets[side as usize].add(1);
                let text = segment.text(frame);
                let is_mark = segment.marked && !text.is_empty();
                pair.on_text(side, &segment.header, text, visit)?;
                if is_mark {
                    pair.on_mark(side);
                }
                Ok(())
            }
            (Self::Udp(association), Body::Datagram { payload }) => {
                visit.bench.stats.packets[side as usize].add(1);
                association.on_datagram(side, frame, payload.clone(), visit)
            }
            (conversation, Body::Icmp(complaint)) => {
                let of_use = match conversation {
                    Self::Tcp(pair) => pair.on_complaint(side, complaint, visit),
                    Self::Udp(association) => association.on_complaint(side, complaint, visit),
                };
                visit.bench.stats.icmp_soft.add(u64::from(!of_use));
                Ok(())
            }
            _ => Err(DropReason::NoBinding),
        }
    }

    /// Hands on segments that follow each other.
    pub(super) fn deliver_train<P: FramePool<F>>(
        &mut self,
        train: &mut Train<F>,
        visit: &mut Visit<'_, F, P>,
    ) {
        match self {
            Self::Tcp(pair) => {
                visit.bench.stats.packets[train.side as usize].add(train.len() as u64);
                pair.on_train(train.side, &mut train.header, train.bytes, train.texts.drain(..), visit);
            }
            Self::Udp(_) => visit.bench.stats.drops.add(DropReason::NoBinding, train.len() as u64),
        }
    }

    /// Whether the packet opens the client's next conversation by the same ports, and this one is over.
    #[inline]
    pub(super) fn makes_way(&self, side: Side, body: &Body) -> bool {
        match (self, body) {
            (Self::Tcp(pair), Body::Segment(segment)) => {
                side == Side::First && pair.makes_way(&segment.header)
            }
            _ => false,
        }
    }

    pub(super) fn on_timer<P: FramePool<F>>(&mut self, visit: &mut Visit<'_, F, P>) {
        match self {
            Self::Tcp(pair) => pair.on_timer(visit),
            Self::Udp(association) => association.on_timer(visit),
        }
    }

    /// Hands what was given for a ticket to the filter at this place of the chain; [`Conversation::pump`] is to follow.
    pub(super) fn answered<P: FramePool<F>>(
        &mut self,
        place: u16,
        answer: Box<dyn Any + Send>,
        visit: &mut Visit<'_, F, P>,
    ) {
        if let Self::Tcp(pair) = self {
            pair.answered(place, answer, visit);
        }
    }

    /// Goes on with what arrived. Datagrams went on at once, or wait out of their frames.
    pub(super) fn pump<P: FramePool<F>>(&mut self, visit: &mut Visit<'_, F, P>) -> Progress {
        match self {
            Self::Tcp(pair) => pair.pump(visit),
            Self::Udp(_) => Progress::default(),
        }
    }

    /// Ends the pair; [`Conversation::pump`] is to follow.
    pub(super) fn close<P: FramePool<F>>(&mut self, reason: CloseReason, visit: &mut Visit<'_, F, P>) {
        match self {
            Self::Tcp(pair) => pair.close(reason, visit.now),
            Self::Udp(association) => association.close(reason, visit),
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        match self {
            Self::Tcp(pair) => pair.deadline(),
            Self::Udp(association) => association.deadline(),
        }
    }

    /// Reads something of every cache line that a segment will need; what, means nothing.
    pub(super) fn warm(&self) -> u64 {
        match self {
            Self::Tcp(pair) => pair.warm(),
            Self::Udp(_) => 0,
        }
    }

    /// Why it ended, once it has.
    pub(super) fn over(&self) -> Option<CloseReason> {
        match self {
            Self::Tcp(pair) => pair.over(),
            Self::Udp(association) => association.over(),
        }
    }

    /// What the server sees in the client's place is another address from now on.
    pub(super) fn note_moved(&mut self, public: SocketAddrV4) {
        if let Self::Tcp(pair) = self {
            pair.note_moved(public);
        }
    }

    fn mtus(&self) -> [u16; 2] {
        match self {
            Self::Tcp(pair) => pair.mtus(),
            Self::Udp(association) => association.mtus(),
        }
    }

    /// What the legs were found not to carry.
    pub(super) fn path_mtus(&self) -> PathMtus {
        match self {
            Self::Tcp(pair) => pair.path_mtus(),
            Self::Udp(association) => association.path_mtus().clone(),
        }
    }

    pub(super) fn flow(&self) -> &Flow {
        match self {
            Self::Tcp(pair) => pair.flow(),
            Self::Udp(association) => association.flow(),
        }
    }
}

/// Does something for one pair; `None` where that panicked. What the pair looks like then is anybody's guess: it has to go.
/// Nothing else is touched by it, since a pair owns what it works on and the reactor's queues are cleared.
pub(super) fn contain<T>(work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pnat_shared::slots::Slots;
    use pnat_shared::testkit::VecFrame;

    #[test]
    fn a_slot_fills_a_cache_line() {
        assert_eq!(Slots::<Slot<VecFrame>>::PLACE_BYTES, 64);
    }
}
