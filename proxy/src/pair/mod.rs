//! A pair: the proxied conversation of one TCP flow. Two sockets, a filter chain between them, one end.
//!
//! Runs on: proxy cores. Allocates: per pair, and what its sockets and filters queue. Blocks: never.
//!
//! ```text
//!      accepted early,
//!     a filter may answer           something to send            the server ends, a filter keeps the client
//!   (nothing) ------------> Waiting ---.<----------------------------------------- Open
//!       |                              |
//!       |                 .------------|-- the client was accepted early -----.
//!       |     SYN         |     answered by the server     ACK from the client v
//!       '------> Connecting <----------'
//!                         '--------------------------> Accepting --------------> Open
//!                  |      |                              |                    |      |
//!      unreachable,|      | refused,                     | reset,       reset,|      | a filter's
//!           silence|      | reset                        | half-open     idle,|      | answer
//!                  v      |                              |        both through|      v
//!                Gone     '------------> Ending <--------'<-------------------'<-- Answering
//!                  ^                       |          nothing left to say, or no time
//!                  '-----------------------'
//! ```
//!
//! Late accept: the server is asked with the client's own initial sequence number and options, and only its answer is
//! answered to the client, with *its* sequence number and options. As long as no filter edits, both legs speak of the same
//! bytes by the same numbers (README, "Late accept").
//!
//! Early accept, where a worker has answered by a SYN cookie: the server is asked likewise, once the client's ACK is there. The
//! second stream's numbers then differ between the legs by a constant, and whatever keeps the server from answering is told to
//! the client by a reset. Where one of the chain's filters may answer in the server's place, the server is asked no sooner than
//! there is something to send to it ([`server`]): many a client is served without.

mod open;
mod server;
mod pump;
mod close;

pub(crate) use open::{Opening, is_completing, is_opening};

use std::net::SocketAddrV4;
use std::sync::Arc;

use pnat_shared::flow::{Side, Stream};
use pnat_shared::frame::{Frame, FramePool};
use pnat_shared::path_mtu::PathMtus;
use pnat_shared::time::{Duration, Instant};
use pnat_shared::verdict::{CloseReason, DropReason};
use pnat_shared::wire::tcp::{Flags, Header, Seq};

use crate::chunk::Chunk;
use crate::filter::{Flow, StreamChain};
use crate::icmp::Quote;
use crate::reactor::{CHUNK, Progress, Visit};
use crate::tally::Tally;
use crate::tcp::{Endpoint, State};
use server::Inquiry;

/// What every TCP pair of a reactor goes by.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Limits {
    /// How long the server may take to answer the SYN.
    pub(crate) connect: Duration,
    /// How long the client may take to complete the handshake.
    pub(crate) half_open: Duration,
    /// How long an open pair may be silent, and how long one side may keep the other's bytes waiting.
    pub(crate) idle: Duration,
    /// After how long a silence a side is asked whether it is still there; zero: never.
    pub(crate) keepalive: Duration,
    /// Largest receive window of a socket, and most bytes that a stream may have inside the pair.
    pub(crate) window: u32,
}

/// One proxied TCP conversation.
#[derive(Debug)]
pub(crate) struct Pair<F> {
    flow: Flow,
    masked: SocketAddrV4,
    limits: Arc<Limits>,
    phase: Phase,
    /// The client's side and the server's.
    first: Endpoint<F>,
    second: Endpoint<F>,
    /// `None` once the flow's record is written.
    chain: Option<StreamChain>,
    /// Head of the client's first segment, and its SYN's sequence number, which is also that of our first one.
    syn: (Quote, Seq),
    /// How the server is asked that is not asked at once; `None` where it is.
    inquiry: Option<Box<Inquiry>>,
    /// Largest IP packet that both legs carry, in bytes.
    path: u16,
    /// By stream: whether the chain was told that it has ended.
    finished: [bool; 2],
    tally: Tally,
    /// When a segment was last of use.
    last_seen: Instant,
}

/// How far the conversation is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// The client was accepted early, and nothing has come out for the server: since the flow began, or since the server ended its
    /// stream, which the client was not told; then the second socket ends its own. It is closed, too, where the client ended its
    /// stream without a word for the server.
    Waiting,
    /// The server's answer is awaited since then. The client's SYN is held meanwhile; or it was answered early, and what the
    /// client says waits within its window.
    Connecting {
        early: bool,
        since: Instant,
    },
    /// The server's answer went to the client at this time; the client's ACK is awaited.
    Accepting(Instant),
    Open,
    /// A filter answered: one socket was reset, the other, on this side, sends the answer and FIN: until this time, and as long as that
    /// side says that it takes it.
    Answering(Side, CloseReason, Instant),
    /// The reason is settled. The sockets say what they still have to say (RST, the last ACK), but not beyond this time.
    Ending(CloseReason, Instant),
    /// Nothing will be sent any more, not even what the sockets would say: silence is an answer, too.
    Gone(CloseReason),
}

impl<F: Frame> Pair<F> {
    /// Hands a train of segments to a socket, as [`Pair::on_text`] would one after the other: `header` is the first one's, and
    /// but for numbers and PSH the others': it may move on to the last one's. `bytes` of text they have together.
    pub(crate) fn on_train<P: FramePool<F>>(
        &mut self,
        side: Side,
        header: &mut Header,
        mut bytes: usize,
        mut texts: impl ExactSizeIterator<Item = Chunk<F>>,
        visit: &mut Visit<'_, F, P>,
    ) {
        while texts.len() > 0 {
            if !visit.is_thrifty() && self.socket(side).expects(header, bytes) {
                self.tally.train(side, texts.len());
                self.last_seen = visit.now;
                let socket = self.socket(side);
                socket.lend_to_receive(&mut visit.bench.spares);
                return socket.on_train(header, texts, visit.now);
            }
            // Something about the first one is out of the ordinary, or about the memory that is left.
            let Some(text) = texts.next() else { return };
            let len = text.len();
            if let Err(reason) = self.on_text(side, header, text, visit) {
                visit.bench.stats.drops.add(reason, 1);
            }
            header.seq += len as u32;
            bytes -= len;
        }
    }

    /// Hands a segment whose checksum was verified to a socket, as far as there is memory for its text.
    pub(crate) fn on_text<P: FramePool<F>>(
        &mut self,
        side: Side,
        header: &Header,
        text: Chunk<F>,
        visit: &mut Visit<'_, F, P>,
    ) -> Result<(), DropReason> {
        if !visit.is_thrifty() || text.is_empty() {
            return self.on_segment(side, header, text, visit);
        }
        let most = visit.share().chunks;
        if most != usize::MAX && self.chunks() >= most {
            return self.on_unwelcome_text(side, *header, text, visit);
        }
        let text = if visit.is_thrifty() { text.out_of_frame() } else { text };
        self.on_segment(side, header, text, visit)
    }

    /// Hands a segment to a socket. What follows from it, [`Pair::pump`] does.
    fn on_segment<P: FramePool<F>>(
        &mut self,
        side: Side,
        header: &Header,
        payload: Chunk<F>,
        visit: &mut Visit<'_, F, P>,
    ) -> Result<(), DropReason> {
        if side == Side::First && is_opening(header) && self.is_alive() && self.first.state() == State::Closed
        {
            // The client has reset the old conversation in this very burst, of which the server is yet to hear, and uses its
            // port again: its SYN, repeated, will open the new one.
            self.settle(visit);
            return Err(DropReason::Unacceptable);
        }
        self.tally.packet(side);
        if header.flags.has(Flags::RST) && self.is_alive() {
            // A reset clears the socket's queue, but what came before it belongs to the other side, also in one burst.
            self.carry(Stream::entering(side), visit);
        }
        if !payload.is_empty() {
            self.socket(side).lend_to_receive(&mut visit.bench.spares);
        }
        let queued = self.socket(side).queued();
        let taken = self.socket(side).on_segment(header, payload, visit.now);
        self.note_loss(side, queued);
        if taken.is_ok() {
            self.last_seen = visit.now;
        }
        taken
    }

    /// The segment of which a socket was last told had come marked (CE).
    pub(crate) fn on_mark(&mut self, side: Side) {
        self.socket(side).on_mark();
    }

    /// Whether a segment of the client opens its next conversation by the same ports: this one is over, and has to go.
    pub(crate) fn makes_way(&self, header: &Header) -> bool {
        is_opening(header) && (self.is_through() || !self.is_alive()) && self.first.may_reopen(header)
    }

    /// Does what is due by time; [`Pair::pump`] is to follow.
    pub(crate) fn on_timer<P: FramePool<F>>(&mut self, visit: &mut Visit<'_, F, P>) {
        for side in [Side::First, Side::Second] {
            let queued = self.socket(side).queued();
            if self.socket(side).deadline() <= visit.now {
                self.socket(side).on_timer(visit.now);
                self.note_loss(side, queued);
            }
        }
        self.wake_chain(visit);
        self.expire(visit);
    }

    /// Moves what can be moved, once per burst: goes on with the handshake, carries both streams through the chain, sends,
    /// and settles what ended.
    pub(crate) fn pump<P: FramePool<F>>(&mut self, visit: &mut Visit<'_, F, P>) -> Progress {
        let mut progress = Progress { connected: self.advance(visit.now), ..Progress::default() };
        if self.is_alive() {
            if self.chain.as_ref().is_some_and(StreamChain::may_answer) {
                self.measure_room(visit);
                if self.flow.wants_room {
                    self.offer_room(visit);
                }
            }
            progress.more |= self.carry(Stream::First, visit);
            progress.more |= self.carry(Stream::Second, visit);
            if self.phase == Phase::Waiting {
                self.ask_when_due(visit);
            }
            self.bound(visit.share().bytes);
            self.transmit(visit, &mut progress);
            // What a side said before it reset is on its way now; only then the other side is reset, or told, too.
            if self.settle(visit) && self.over().is_none() {
                self.transmit(visit, &mut progress);
            }
        } else if matches!(self.phase, Phase::Ending(..)) {
            self.transmit(visit, &mut progress);
        }
        self.conclude(visit);
        let spares = &mut visit.bench.spares;
        progress.kept = self.first.give_back(spares) + self.second.give_back(spares) + self.chunks_held();
        progress
    }

    /// Whether bytes still go through.
    const fn is_alive(&self) -> bool {
        !matches!(self.phase, Phase::Ending(..) | Phase::Gone(_))
    }

    /// Whether both conversations are through, in whatever way.
    fn is_through(&self) -> bool {
        let is_through = |socket: &Endpoint<F>| matches!(socket.state(), State::Closed | State::TimeWait);
        is_through(&self.first) && is_through(&self.second)
    }

    /// When [`Pair::on_timer`] is to be called next; [`Instant::FAR`] for never.
    #[inline]
    pub(crate) fn deadline(&self) -> Instant {
        let chain = self.chain.as_ref().map_or(Instant::FAR, StreamChain::deadline);
        self.expiry().min(self.first.deadline()).min(self.second.deadline()).min(chain)
    }

    /// Reads something of every cache line that a segment will need; what, means nothing.
    pub(crate) fn warm(&self) -> u64 {
        let chain = self.chain.as_ref().map_or(0, StreamChain::warm);
        let times = self.last_seen.as_nanos() ^ self.flow.opened.as_nanos() ^ u64::from(self.is_alive());
        times ^ chain ^ self.tally.warm() ^ self.first.warm() ^ self.second.warm()
    }

    /// Why the pair ended, once there is nothing left for it to do.
    pub(crate) const fn over(&self) -> Option<CloseReason> {
        match self.phase {
            Phase::Gone(reason) => Some(reason),
            _ => None,
        }
    }

    pub(crate) const fn flow(&self) -> &Flow {
        &self.flow
    }

    pub(crate) const fn tally(&self) -> &Tally {
        &self.tally
    }

    /// When a segment was last of use.
    pub(crate) const fn last_seen(&self) -> Instant {
        self.last_seen
    }

    /// State of the client's socket and of the server's.
    pub(crate) fn states(&self) -> [State; 2] {
        [self.first.state(), self.second.state()]
    }

    /// Longest IP packet that goes to the client and to the server for now, in bytes.
    pub(crate) fn mtus(&self) -> [u16; 2] {
        [self.first.longest_packet(), self.second.longest_packet()]
    }

    /// What the server sees in the client's place is another address from now on.
    pub(crate) const fn note_moved(&mut self, public: SocketAddrV4) {
        self.flow.public = public;
    }

    /// What the legs were found not to carry.
    pub(crate) fn path_mtus(&self) -> PathMtus {
        PathMtus::from([self.first.path_mtu(), self.second.path_mtu()])
    }

    /// Bytes inside the pair: with the filters, and in send queues.
    pub(crate) fn held(&self) -> usize {
        self.downstream(Stream::First) + self.downstream(Stream::Second)
    }

    /// Chunks that its sockets keep, no fewer than the frames; and what filters hold, counted likewise.
    pub(crate) fn chunks(&self) -> usize {
        self.first.chunks() + self.second.chunks() + self.chunks_held()
    }

    /// What filters hold, in chunks.
    fn chunks_held(&self) -> usize {
        let held = |chain: &StreamChain| chain.held(Stream::First) + chain.held(Stream::Second);
        self.chain.as_ref().map_or(0, held) / CHUNK
    }

    /// A segment whose text finds no memory: its sender has to repeat it. What it acknowledges may free some.
    fn on_unwelcome_text<P: FramePool<F>>(
        &mut self,
        side: Side,
        header: Header,
        mut payload: Chunk<F>,
        visit: &mut Visit<'_, F, P>,
    ) -> Result<(), DropReason> {
        payload.truncate(0);
        let flags = Flags(header.flags.0 & !Flags::FIN.0);
        self.on_segment(side, &Header { flags, ..header }, payload, visit)?;
        Err(DropReason::NoBuffer)
    }

    /// Bytes of a stream that wait between its two sockets, and in the queue of the one by which it leaves.
    fn downstream(&self, stream: Stream) -> usize {
        let leaving = match stream {
            Stream::First => &self.second,
            Stream::Second => &self.first,
        };
        self.chain.as_ref().map_or(0, |chain| chain.held(stream)) + leaving.queued()
    }

    #[inline]
    fn socket(&mut self, side: Side) -> &mut Endpoint<F> {
        match side {
            Side::First => &mut self.first,
            Side::Second => &mut self.second,
        }
    }
}
