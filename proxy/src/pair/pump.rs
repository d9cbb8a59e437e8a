//! Bytes on their way: out of one socket, through the chain, into the other; then segments.

use std::any::Any;

use pnat_shared::flow::Stream;
use pnat_shared::frame::{Frame, FramePool};
use pnat_shared::verdict::DropReason;

use super::Pair;
use crate::filter::Outcome;
use crate::reactor::{Progress, Visit};
use crate::tcp::Endpoint;

/// Most segments that one socket sends in one visit, so that one pair cannot starve the others.
const SEGMENTS: usize = 64;
/// Most chunks that go through the chain before the next socket gets what comes out.
const RUN: usize = 32;
/// Most chunks that one stream moves in one visit: a filled hole may set a whole window free at once.
const CHUNKS: usize = 128;

/// Bytes that filters may have waiting in a socket, whatever its use for them, within its window and while there is memory.
const ROOM: usize = 256 * 1024;

/// What was taken out of a socket at once.
#[derive(Copy, Clone, Debug, Default)]
struct Run {
    bytes: usize,
    chunks: usize,
}

impl<F: Frame> Pair<F> {
    /// Carries one stream as far as it goes. Answers whether it stopped only at the visit's bound.
    #[inline]
    pub(super) fn carry<P: FramePool<F>>(&mut self, stream: Stream, visit: &mut Visit<'_, F, P>) -> bool {
        let more = self.socket(stream.enters()).is_ready() && self.carry_ready(stream, visit);
        if !self.finished[stream as usize] && self.socket(stream.enters()).is_receive_finished() {
            self.finish(stream, visit);
        }
        more
    }

    /// Tells the chain that a stream has ended, unless the client is to be kept although the server's has.
    #[cold]
    pub(super) fn finish<P: FramePool<F>>(&mut self, stream: Stream, visit: &mut Visit<'_, F, P>) {
        if stream == Stream::Second && self.keeps_client() {
            return self.part(visit);
        }
        self.finished[stream as usize] = true;
        if let Some(chain) = &mut self.chain {
            chain.finish(&mut visit.turn(&mut self.flow), stream);
            self.pass(visit);
        }
    }

    /// Carries what came in order. Answers as [`Pair::carry`]; apart from it, since most visits find one stream at rest.
    #[inline(never)]
    fn carry_ready<P: FramePool<F>>(&mut self, stream: Stream, visit: &mut Visit<'_, F, P>) -> bool {
        let window = self.limits.window as usize;
        let (mut bytes, mut chunks) = (0, 0);
        while chunks < CHUNKS && self.socket(stream.enters()).is_ready() {
            let room = window.saturating_sub(self.downstream(stream));
            let taken = self.carry_run(stream, room, CHUNKS - chunks, visit);
            if taken.chunks == 0 {
                break;
            }
            bytes += taken.bytes;
            chunks += taken.chunks;
        }
        if bytes > 0 {
            self.tally.received(stream, bytes);
            visit.bench.stats.bytes[stream as usize].add(bytes as u64);
        }
        chunks == CHUNKS
    }

    /// Tells the sockets how much of the stream that enters by each waits, and may wait, inside the pair: as much as the other
    /// socket has a use for, and `most` in any case. What filters hold they hold for what follows, which must be let in.
    #[inline]
    pub(super) fn bound(&mut self, most: usize) {
        let held = |stream| self.chain.as_ref().map_or(0, |chain| chain.held(stream));
        let held = [held(Stream::First), held(Stream::Second)];
        let bound = |entering: &mut Endpoint<F>, leaving: &Endpoint<F>, held: usize| {
            entering.set_downstream(held + leaving.queued());
            entering.limit_downstream(held + leaving.appetite(), most);
        };
        bound(&mut self.first, &self.second, held[0]);
        bound(&mut self.second, &self.first, held[1]);
    }

    /// Sees how much room there is for what filters write: as much as a socket has a use for, as far as there is memory.
    pub(super) fn measure_room<P>(&mut self, visit: &Visit<'_, F, P>) {
        let most = visit.share().bytes.min(self.limits.window as usize);
        let room = |leaving: &Endpoint<F>| {
            let room = leaving.appetite().max(ROOM).min(most).saturating_sub(leaving.queued());
            u32::try_from(room).unwrap_or(u32::MAX)
        };
        self.flow.room = [room(&self.second), room(&self.first)];
    }

    /// Shows filters that wait for room what they hold, where there is some for a stream.
    #[cold]
    pub(super) fn offer_room<P: FramePool<F>>(&mut self, visit: &mut Visit<'_, F, P>) {
        let Some(chain) = &mut self.chain else { return };
        let worth = ROOM.min(self.limits.window as usize) / 2;
        if self.flow.room.into_iter().any(|room| room as usize >= worth) {
            self.flow.wants_room = false;
            chain.on_room(&mut visit.turn(&mut self.flow));
            self.pass(visit);
        }
    }

    /// Takes what came in order out of a socket, some chunks at most and until there are enough bytes for the `room` that
    /// there is, and lets the chain see it before the next socket gets it.
    fn carry_run<P: FramePool<F>>(
        &mut self,
        stream: Stream,
        room: usize,
        most: usize,
        visit: &mut Visit<'_, F, P>,
    ) -> Run {
        let Self { chain, flow, first, second, .. } = self;
        let (entering, leaving) = match stream {
            Stream::First => (first, second),
            Stream::Second => (second, first),
        };
        leaving.lend_to_send(&mut visit.bench.spares);
        let is_thrifty = visit.is_thrifty();
        let mut turn = visit.turn(flow);
        let (mut run, mut straight, mut is_urgent) = (Run::default(), 0, false);
        while run.chunks < most.min(RUN) && run.bytes < room && !is_urgent && turn.out.outcome.is_none() {
            let Some(chunk) = entering.receive() else { break };
            run.chunks += 1;
            run.bytes += chunk.len();
            // Without a chain the flow has its record: what still comes is taken, so that FIN can come, and dropped.
            let Some(chain) = chain else { continue };
            match chain.look(&mut turn, stream, &chunk) {
                Some(stop) => {
                    chain.stop(&mut turn, stream, chunk, stop);
                    // The next bytes may be for another server.
                    let may_turn = stream == Stream::First || !turn.out.to_server.is_empty();
                    if may_turn && chain.may_answer() || turn.flow.leaves_server {
                        is_urgent = entering.take_urgent();
                        break;
                    }
                }
                None => {
                    straight += chunk.len();
                    if is_thrifty { leaving.send(chunk.out_of_frame()) } else { leaving.send(chunk) }
                }
            }
            is_urgent = entering.take_urgent();
        }
        if straight > 0 {
            self.tally.sent(stream, straight, visit.now.since(self.flow.opened));
        }
        if !visit.bench.passed.is_empty() || self.flow.leaves_server {
            self.pass(visit);
        }
        if is_urgent {
            // What the chain has let out by now ends where the urgent data does, however it was edited.
            self.socket(!stream.enters()).mark_urgent();
        }
        run
    }

    /// Wakes the filters whose time has come.
    pub(super) fn wake_chain<P: FramePool<F>>(&mut self, visit: &mut Visit<'_, F, P>) {
        if self.chain.as_ref().is_none_or(|chain| chain.deadline() > visit.now) {
            return;
        }
        self.measure_room(visit);
        let Some(chain) = &mut self.chain else { return };
        chain.on_timer(&mut visit.turn(&mut self.flow));
        self.pass(visit);
    }

    /// Hands what was given for a ticket to the filter at this place of the chain.
    pub(crate) fn answered<P: FramePool<F>>(
        &mut self,
        place: u16,
        answer: Box<dyn Any + Send>,
        visit: &mut Visit<'_, F, P>,
    ) {
        if !self.is_alive() {
            return;
        }
        self.measure_room(visit);
        if let Some(chain) = &mut self.chain {
            chain.answered(&mut visit.turn(&mut self.flow), place, answer);
            self.pass(visit);
        }
    }

    /// Gives what the chain let out to the sockets by which it leaves: bytes first, then ends, then the chain's word on the
    /// flow.
    pub(super) fn pass<P: FramePool<F>>(&mut self, visit: &mut Visit<'_, F, P>) {
        if std::mem::take(&mut self.flow.leaves_server) {
            self.drop_server();
        }
        if self.inquiry.is_some() && !visit.bench.passed.to_server.is_empty() {
            self.face_server(visit);
        }
        let age = visit.now.since(self.flow.opened);
        let is_thrifty = visit.is_thrifty();
        for (stream, leaving) in [(Stream::First, &mut self.second), (Stream::Second, &mut self.first)] {
            if !visit.bench.passed.stream(stream).is_empty() || visit.bench.passed.ended[stream as usize] {
                leaving.lend_to_send(&mut visit.bench.spares);
            }
            for chunk in visit.bench.passed.stream(stream).drain(..) {
                self.tally.sent(stream, chunk.len(), age);
                leaving.send(if is_thrifty { chunk.out_of_frame() } else { chunk });
            }
            if std::mem::take(&mut visit.bench.passed.ended[stream as usize]) {
                leaving.shutdown();
            }
        }
        match visit.bench.passed.outcome.take() {
            None => {}
            Some(Outcome::Reset(reason)) => self.close(reason, visit.now),
            Some(Outcome::Answer { to, reason }) => self.close_with_answer(to, reason, visit.now),
        }
    }

    /// Lets both sockets send.
    pub(super) fn transmit<P: FramePool<F>>(&mut self, visit: &mut Visit<'_, F, P>, progress: &mut Progress) {
        transmit(&mut self.second, visit, progress);
        transmit(&mut self.first, visit, progress);
    }
}

/// Lets a socket send.
pub(super) fn transmit<F: Frame, P: FramePool<F>>(
    socket: &mut Endpoint<F>,
    visit: &mut Visit<'_, F, P>,
    progress: &mut Progress,
) {
    let frames = &mut visit.bench.frames;
    let before = frames.len();
    let fed = socket.transmit(visit.pool, visit.now, SEGMENTS, frames);
    progress.more |= frames.len() - before >= SEGMENTS;
    if !fed {
        progress.dry = true;
        visit.bench.stats.drops.add(DropReason::NoFrame, 1);
    }
}
