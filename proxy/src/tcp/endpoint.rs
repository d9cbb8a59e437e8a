//! One end of a TCP connection: a socket of a pair.
//!
//! Runs on: proxy cores. Allocates: per connection, and when queues grow. Blocks: never.

use std::cmp::Ordering;
use std::net::SocketAddrV4;

use pnat_shared::config::CongestionControl;
use pnat_shared::flow::{Accepted, Offloads};
use pnat_shared::frame::{Frame, FramePool};
use pnat_shared::time::{Duration, Instant};
use pnat_shared::verdict::DropReason;
use pnat_shared::wire::tcp::{Header, Seq};

use super::clock::Clock;
use super::lent::Spares;
use super::output::Outlet;
use super::path::Path;
use super::recv::{Owed, Receiver};
use super::send::Sender;
use super::timer::{Timers, fires};
use super::urgent::Marks;
use crate::chunk::Chunk;

/// How long a segment waits for a window that is worth it (RFC 9293 section 3.8.6.2.1: up to a second), whatever the timeout;
/// in nanoseconds.
const OVERRIDE: u64 = 1_000_000_000;

/// How long after the last segment an endpoint gives spare memory back.
const TRIM_AFTER: Duration = Duration::from_secs(5);

/// The options of a SYN, mirrored from one leg to the other (RFC 9293 section 3.2, RFC 7323, RFC 2018).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    pub mss: u16,
    pub window_scale: Option<u8>,
    pub sack: bool,
    /// TSval of the SYN, where it carried timestamps.
    pub timestamp: Option<u32>,
    /// Explicit congestion notification is asked for (RFC 3168 section 6.1.1).
    pub ecn: bool,
}

/// What an endpoint may use and how long it waits.
#[derive(Copy, Clone, Debug)]
pub struct Settings {
    /// Largest receive window, in bytes.
    pub window: u32,
    /// Largest IP packet that the leg carries, in bytes.
    pub mtu: u16,
    /// What the leg's port does for the segments that are sent.
    pub offloads: Offloads,
    /// How long SYN or SYN-ACK are repeated before the endpoint gives up.
    pub open_timeout: Duration,
    /// How long data is retransmitted, or zero windows are probed, without any answer before the endpoint gives up.
    pub user_timeout: Duration,
    /// How long TIME-WAIT lasts.
    pub time_wait: Duration,
    /// After how long a silence the peer is asked whether it is still there (RFC 9293 section 3.8.4); zero: never.
    pub keepalive: Duration,
    /// How long the peer may keep its window shut while something waits for it, even where it answers every probe.
    pub patience: Duration,
    pub congestion: CongestionControl,
    /// How many full segments are acknowledged each at once, before the rest wait for company (RFC 5681 section 4.2).
    pub quick_acks: u8,
}

/// What an end host usually has.
impl Default for Settings {
    fn default() -> Self {
        Self {
            window: 256 * 1024,
            mtu: 1500,
            offloads: Offloads::NONE,
            open_timeout: Duration::from_secs(120),
            user_timeout: Duration::from_secs(300),
            time_wait: Duration::from_secs(5),
            keepalive: Duration::ZERO,
            patience: Duration::from_secs(300),
            congestion: CongestionControl::default(),
            quick_acks: 16,
        }
    }
}

/// [`Settings`] as an endpoint keeps them: times in milliseconds, up to 49 days.
#[derive(Copy, Clone, Debug)]
pub(super) struct Kept {
    pub(super) window: u32,
    pub(super) mtu: u16,
    pub(super) offloads: Offloads,
    pub(super) congestion: CongestionControl,
    open_timeout: u32,
    user_timeout: u32,
    time_wait: u32,
    keepalive: u32,
    patience: u32,
}

impl Kept {
    fn new(settings: &Settings) -> Self {
        let millis = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        Self {
            window: settings.window,
            mtu: settings.mtu,
            offloads: settings.offloads,
            congestion: settings.congestion,
            open_timeout: millis(settings.open_timeout),
            user_timeout: millis(settings.user_timeout),
            time_wait: millis(settings.time_wait),
            keepalive: millis(settings.keepalive),
            patience: millis(settings.patience),
        }
    }

    pub(super) const fn open_timeout(&self) -> Duration {
        Duration::from_millis(self.open_timeout as u64)
    }

    pub(super) const fn time_wait(&self) -> Duration {
        Duration::from_millis(self.time_wait as u64)
    }

    pub(super) const fn keepalive(&self) -> Duration {
        Duration::from_millis(self.keepalive as u64)
    }

    pub(super) const fn patience(&self) -> Duration {
        Duration::from_millis(self.patience as u64)
    }
}

/// The states of RFC 9293 section 3.3.2, one of our own for late accept, and one for servers that are asked late.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// A SYN came and its answer is held back until [`Endpoint::answer`].
    SynHeld,
    /// Nothing was said to the peer yet: what is to be sent is queued until [`Endpoint::ask`].
    SynUnsent,
    SynSent,
    SynReceived,
    Established,
    FinWait1,
    FinWait2,
    CloseWait,
    Closing,
    LastAck,
    TimeWait,
    Closed,
}

/// Why an endpoint is [`State::Closed`] other than by the book.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The peer sent RST to a SYN.
    Refused,
    /// The peer sent RST.
    Reset,
    /// The peer stopped answering.
    Timeout,
    /// The peer answered no keepalive probe.
    Dead,
    /// The peer kept its window shut for too long.
    Stalled,
    /// [`Endpoint::abort`] was called.
    Aborted,
}

/// A RST that is to be sent.
#[derive(Copy, Clone, Debug)]
pub(super) struct Reset {
    pub(super) seq: Seq,
    pub(super) ack: Option<Seq>,
}

/// One end of a connection.
///
/// After [`Endpoint::on_segment`], [`Endpoint::on_timer`], [`Endpoint::receive`], [`Endpoint::set_downstream`] and
/// whatever asks for something to be sent, call [`Endpoint::transmit`]: nothing else sends, not even a window update.
///
/// In memory as it is written down: what every segment needs first, what only the beginning, the end and trouble need last.
#[derive(Debug)]
#[repr(C)]
pub struct Endpoint<F> {
    pub(super) recv: Receiver<F>,
    pub(super) send: Sender<F>,
    pub(super) timers: Timers,
    pub(super) clock: Clock,
    /// When the last segment came.
    pub(super) heard: Instant,
    pub(super) path: Path,
    pub(super) urgent: Option<Box<Marks>>,
    pub(super) reset: Option<Reset>,
    pub(super) local: SocketAddrV4,
    pub(super) remote: SocketAddrV4,
    pub(super) state: State,
    /// A SYN or SYN-ACK is to be sent.
    pub(super) syn_due: bool,
    /// A keepalive probe is to be sent.
    pub(super) keepalive_due: bool,
    /// How many were sent since the peer was last heard.
    pub(super) keepalives: u8,
    pub(super) settings: Kept,
    /// How many SYNs or SYN-ACKs were sent.
    pub(super) syns: u32,
    /// What our SYN says; until [`Endpoint::answer`], nothing.
    pub(super) offer: Option<Offer>,
    /// What the peer's SYN said.
    pub(super) peer: Option<(Seq, Offer)>,
    pub(super) error: Option<Error>,
    /// When the next answer to a dubious segment may be sent (RFC 5961 section 7).
    pub(super) challenge_from: Instant,
}

impl<F: Frame> Endpoint<F> {
    /// Passive open: `syn` has arrived from `peer`. Nothing is sent until [`Endpoint::answer`].
    pub fn accept(
        settings: Settings,
        local: SocketAddrV4,
        peer: SocketAddrV4,
        syn: &Header,
        now: Instant,
    ) -> Self {
        let mut endpoint = Self::new(settings, local, peer, State::SynHeld, Seq(0), now);
        endpoint.meet(syn, now);
        endpoint
    }

    /// Answers the held SYN: SYN-ACK with this initial sequence number and these options (of which those that the peer
    /// did not offer are left out). Does nothing in any other state.
    pub fn answer(&mut self, iss: Seq, offer: Offer, now: Instant) {
        self.answer_held(iss, offer, now);
    }

    /// Takes over a connection that was accepted in our name ([`Accepted`]): nothing has passed but the SYNs. The client's ACK
    /// is to follow by [`Endpoint::on_segment`].
    pub fn accepted(
        settings: Settings,
        local: SocketAddrV4,
        peer: SocketAddrV4,
        handshake: &Accepted,
        now: Instant,
    ) -> Self {
        let mut endpoint = Self::new(settings, local, peer, State::SynReceived, handshake.iss, now);
        endpoint.take_over(handshake, now);
        endpoint
    }

    /// Active open: a SYN with this initial sequence number and these options is to be sent.
    pub fn connect(
        settings: Settings,
        local: SocketAddrV4,
        peer: SocketAddrV4,
        iss: Seq,
        offer: Offer,
        now: Instant,
    ) -> Self {
        let mut endpoint = Self::prepare(settings, local, peer, iss, now);
        endpoint.ask(offer, now);
        endpoint
    }

    /// An active open that is to come: until [`Endpoint::ask`] the peer hears nothing, and is not listened to.
    pub fn prepare(
        settings: Settings,
        local: SocketAddrV4,
        peer: SocketAddrV4,
        iss: Seq,
        now: Instant,
    ) -> Self {
        Self::new(settings, local, peer, State::SynUnsent, iss, now)
    }

    /// Sends the SYN that was put off, with these options. Does nothing in any other state.
    pub fn ask(&mut self, offer: Offer, now: Instant) {
        if self.state == State::SynUnsent {
            self.state = State::SynSent;
            self.start_syn(offer, now);
        }
    }

    fn new(
        settings: Settings,
        local: SocketAddrV4,
        remote: SocketAddrV4,
        state: State,
        iss: Seq,
        now: Instant,
    ) -> Self {
        Self {
            settings: Kept::new(&settings),
            local,
            remote,
            state,
            error: None,
            offer: None,
            peer: None,
            clock: Clock::new(None, now),
            send: Sender::new(iss),
            recv: Receiver::new(settings.window, settings.quick_acks),
            timers: Timers::new(),
            path: Path::default(),
            urgent: None,
            syn_due: false,
            syns: 0,
            reset: None,
            challenge_from: now,
            heard: now,
            keepalive_due: false,
            keepalives: 0,
        }
    }

    /// Takes in a segment whose checksum was verified. `payload` is what follows the TCP header. An error says why the
    /// segment was not used; an answer that the RFC asks for (challenge ACK, RST) is sent all the same.
    ///
    /// Urgent data stays in the stream; where it ends, [`Endpoint::take_urgent`] tells.
    pub fn on_segment(&mut self, header: &Header, payload: Chunk<F>, now: Instant) -> Result<(), DropReason> {
        if self.expects(header, payload.len()) {
            self.on_train(header, std::iter::once(payload), now);
            return Ok(());
        }
        if self.is_bare_ack(header, payload.len()) {
            return self.on_bare_ack(header, now);
        }
        match self.state {
            State::SynHeld => self.on_segment_held(header),
            State::SynUnsent => Err(DropReason::Unacceptable),
            State::SynSent => self.on_segment_syn_sent(header, now),
            State::Closed => self.on_segment_closed(header, payload.len()),
            _ => self.on_segment_synchronized(header, payload, now),
        }
    }

    /// Does what is due at `now`: retransmission, delayed ACK, probes, timeouts.
    pub fn on_timer(&mut self, now: Instant) {
        if self.send.release_at() <= now {
            self.send.release_held();
        }
        if fires(&mut self.timers.ack, now) {
            self.recv.owed = Owed::Now;
        }
        if fires(&mut self.timers.life, now) {
            match self.state {
                State::TimeWait => self.close(None),
                _ if self.is_open() => self.fail(Error::Stalled),
                _ => self.fail(Error::Timeout),
            }
        }
        if fires(&mut self.timers.retransmit, now) {
            self.on_retransmit_timer(now);
        }
        if fires(&mut self.timers.keepalive, now) {
            self.on_keepalive_timer(now);
        }
        if fires(&mut self.timers.trim, now) {
            let idle_until = self.heard + TRIM_AFTER;
            if idle_until > now {
                self.timers.trim = idle_until;
            } else {
                self.send.shrink();
                self.recv.shrink();
            }
        }
    }

    /// When [`Endpoint::on_timer`] is to be called next; [`Instant::FAR`] for never.
    pub fn deadline(&self) -> Instant {
        self.timers.earliest().min(self.send.release_at())
    }

    /// Appends the segments that may be sent now, at most `budget`, each a whole frame with an IPv4 header behind
    /// [`pnat_shared::frame::L2_LEN`] bytes of room. Answers false where the pool ran dry with something left to send;
    /// nothing is lost then, and the next call tries again.
    #[inline]
    pub fn transmit(
        &mut self,
        pool: &mut impl FramePool<F>,
        now: Instant,
        budget: usize,
        out: &mut Vec<F>,
    ) -> bool {
        self.send_segments(&mut Outlet { pool, frames: out, now, budget })
    }

    /// Whether [`Endpoint::receive`] has something.
    #[inline]
    pub fn is_ready(&self) -> bool {
        !self.recv.is_drained()
    }

    /// The next bytes in order, if any: no further than to the peer's urgent mark.
    #[inline]
    pub fn receive(&mut self) -> Option<Chunk<F>> {
        if self.urgent.is_some() { self.receive_to_mark() } else { self.recv.next() }
    }

    /// Whether what [`Endpoint::receive`] has answered ends, now for the first time, where the peer's urgent data does.
    #[inline]
    pub fn take_urgent(&mut self) -> bool {
        self.urgent.is_some() && self.take_mark()
    }

    /// The last byte that was queued is urgent: the peer is told as soon as it may be (RFC 6093). Where nothing is queued that
    /// was not sent before, it is what is queued next.
    pub fn mark_urgent(&mut self) {
        if !matches!(self.state, State::SynHeld | State::Closed) {
            self.set_mark();
        }
    }

    /// Whether the peer's FIN has come and all bytes before it were taken by [`Endpoint::receive`].
    pub fn is_receive_finished(&self) -> bool {
        self.recv.finished && self.recv.is_drained()
    }

    /// How many received bytes of this leg still wait further down (chain, other socket): they count against the receive
    /// window, so back-pressure reaches the peer.
    pub fn set_downstream(&mut self, bytes: usize) {
        self.recv.set_downstream(bytes);
    }

    /// How many bytes of this leg may wait further down to good purpose (more only delay each other), and how many of them
    /// the pair may keep at all as memory is now. What was granted to the peer before stays granted (RFC 9293 section 3.8.6).
    pub fn limit_downstream(&mut self, useful: usize, most: usize) {
        self.recv.limit_downstream(useful, most);
    }

    /// How many bytes it is of use to have in the send queue: twice what may be in flight, so that there is something to send
    /// when an ACK comes, and what a sender needs to find its pace.
    pub fn appetite(&self) -> usize {
        self.send.appetite() as usize
    }

    /// Appends bytes to the send queue; while a SYN is held and after [`Endpoint::shutdown`], drops them. There is no limit
    /// here: the pair bounds it by the other leg's window, and filters that write by what room there is ([`Flow::room`]).
    ///
    /// [`Flow::room`]: crate::filter::Flow::room
    #[inline]
    pub fn send(&mut self, chunk: Chunk<F>) {
        if !matches!(self.state, State::SynHeld | State::Closed) {
            self.send.push(chunk);
            if self.urgent.is_some() {
                self.set_due_mark();
            }
        }
    }

    /// Bytes in the send queue, sent and unacknowledged ones included.
    pub fn queued(&self) -> usize {
        self.send.queue.len() as usize
    }

    /// Chunks in all queues: received, out of order, to be sent.
    pub fn chunks(&self) -> usize {
        self.recv.chunks() + self.send.queue.chunks()
    }

    /// Takes memory for what is received, where it has none, from what others have given back.
    #[inline]
    pub fn lend_to_receive(&mut self, spares: &mut Spares<F>) {
        self.recv.take_place(&mut spares.ready);
    }

    /// Takes memory for what is sent, where it has none, from what others have given back.
    #[inline]
    pub fn lend_to_send(&mut self, spares: &mut Spares<F>) {
        self.send.queue.take_place(&mut spares.pieces);
        self.send.records.take_place(&mut spares.records);
    }

    /// Gives back the memory of queues that are empty. Answers as [`Endpoint::chunks`].
    #[inline]
    pub fn give_back(&mut self, spares: &mut Spares<F>) -> usize {
        self.send.records.give_back(&mut spares.records);
        self.recv.give_back(&mut spares.ready) + self.send.queue.give_back(&mut spares.pieces)
    }

    /// Memory that the queues keep from others, in bytes: to receive and to send. Walks the queues, so not for every
    /// segment.
    pub fn footprint(&self) -> [usize; 2] {
        [self.recv.footprint(), self.send.queue.footprint()]
    }

    /// Sends FIN behind what is queued. Has no effect while a SYN is held; a peer that was not asked anything yet, and to which
    /// nothing is to be said, will not be asked any more.
    pub fn shutdown(&mut self) {
        if self.send.fin || matches!(self.state, State::SynHeld | State::Closed) {
            return;
        }
        if self.state == State::SynUnsent && self.queued() == 0 {
            return self.close(None);
        }
        self.send.fin = true;
        match self.state {
            State::Established => self.state = State::FinWait1,
            State::CloseWait => self.state = State::LastAck,
            // Once the handshake is over the state follows.
            _ => {}
        }
    }

    /// Drops all queues and sends RST if the state calls for one (RFC 9293 section 3.10.5); a held SYN is refused by RST.
    /// To leave a held SYN unanswered, drop the endpoint.
    pub fn abort(&mut self) {
        if self.state != State::Closed {
            self.reset = self.farewell();
            self.close(Some(Error::Aborted));
        }
    }

    pub fn state(&self) -> State {
        self.state
    }

    /// The number behind all that was sent.
    pub(crate) const fn next_number(&self) -> Seq {
        self.send.nxt
    }

    /// Why the endpoint closed, where it was not by the book.
    pub fn error(&self) -> Option<Error> {
        self.error
    }

    /// Initial sequence number and options of the peer's SYN or SYN-ACK; `None` before it came.
    pub fn peer(&self) -> Option<(Seq, Offer)> {
        self.peer
    }

    /// Shift of the window field of segments that we send, SYNs excepted; 0 without scaling.
    pub fn scale(&self) -> u8 {
        self.recv.shift
    }

    /// An ICMP "fragmentation needed" that quotes a segment of ours with this sequence number; `mtu` 0: it does not say what
    /// fits (RFC 1191). Ignored unless the number is in flight; where longer segments have passed, only a timeout makes it
    /// believed (RFC 5927 section 7).
    pub fn on_mtu(&mut self, seq: Seq, mtu: u16, now: Instant) {
        if self.is_open() && self.on_too_long(seq, mtu, now) {
            self.arm_retransmit(now);
        }
    }

    /// Reads something of every cache line that a segment will need; what, means nothing.
    #[inline]
    pub(crate) fn warm(&self) -> u64 {
        let times = self.timers.started.as_nanos() ^ self.timers.trim.as_nanos() ^ self.heard.as_nanos();
        let rest = u64::from(self.path.is_searched()) ^ self.state as u64 ^ u64::from(self.error.is_some());
        times ^ self.recv.warm() ^ self.send.warm() ^ rest
    }

    /// Whether a SYN from the same port opens a new connection: after the end, and in TIME-WAIT where its timestamp, or
    /// else its number, shows that it comes after all that the old one said (RFC 1122 section 4.2.2.13, RFC 6191 section 2).
    pub fn may_reopen(&self, syn: &Header) -> bool {
        match self.state {
            State::Closed => true,
            State::TimeWait => {
                match syn.options.timestamps.and_then(|(value, _)| self.clock.compare(value)) {
                    Some(Ordering::Greater) => true,
                    Some(Ordering::Less) => false,
                    Some(Ordering::Equal) | None => !syn.seq.before(self.recv.nxt),
                }
            }
            _ => false,
        }
    }

    /// Whether everything ended and nothing will be sent any more. Bytes may still wait for [`Endpoint::receive`].
    pub fn is_over(&self) -> bool {
        self.state == State::Closed && self.reset.is_none()
    }

    /// Whether sequence numbers are agreed and the connection has not ended.
    pub(super) fn is_open(&self) -> bool {
        !matches!(
            self.state,
            State::SynHeld | State::SynUnsent | State::SynSent | State::SynReceived | State::Closed
        )
    }

    pub(super) fn arm_retransmit(&mut self, now: Instant) {
        self.timers.started = now;
        self.schedule_retransmit(now);
    }

    /// An ACK brought news while something is still in flight.
    pub(super) fn restart_retransmit(&mut self, now: Instant) {
        self.timers.started = self.send.timer_start(now);
        self.schedule_retransmit(now);
    }

    /// New data does not start the retransmission timer anew, but puts the tail loss probe off (RFC 8985 section 7.2).
    /// Segments that are late are lost before that, and at last all patience ends.
    pub(super) fn schedule_retransmit(&mut self, now: Instant) {
        let timeout = self.timeout();
        self.send.arm_tail(timeout, now);
        let due = timeout.min(self.send.tail_deadline()).min(self.send.reorder_deadline());
        self.timers.retransmit = due.min(self.gives_up_at()).max(now);
    }

    /// When the retransmission timer proper runs out.
    fn timeout(&self) -> Instant {
        let patience = if self.send.is_narrow() { OVERRIDE } else { u64::MAX };
        self.timers.started.plus_nanos(self.send.rto.current_nanos().min(patience))
    }

    /// When the user timeout ends.
    fn gives_up_at(&self) -> Instant {
        self.send.unanswered.plus_nanos(u64::from(self.settings.user_timeout) * 1_000_000)
    }

    fn on_retransmit_timer(&mut self, now: Instant) {
        match self.state {
            State::SynSent | State::SynReceived => {
                self.syn_due = true;
                self.send.rto.back_off();
                self.timers.retransmit = now + self.send.rto.current();
            }
            _ if !self.is_open() => {}
            _ if now >= self.gives_up_at() => self.fail(Error::Timeout),
            _ if self.send.on_reorder_timer(now) => self.restart_retransmit(now),
            _ if self.send.on_tail_timer(now) => self.arm_retransmit(now),
            // What is late was given more time by an ACK that had no other news.
            _ if now < self.timeout() => self.schedule_retransmit(now),
            _ => {
                let shorter = self.is_head_full() && self.on_full_timeout(now);
                self.send.on_timeout(now);
                if shorter {
                    // What became of longer segments says nothing of these.
                    self.send.rto.restart();
                }
                self.arm_retransmit(now);
            }
        }
    }

    /// Ends with an error that the peer should hear of.
    pub(super) fn fail(&mut self, error: Error) {
        self.reset = self.farewell();
        self.close(Some(error));
    }

    /// The RST that ends the present state, if it takes one.
    fn farewell(&self) -> Option<Reset> {
        match self.state {
            State::SynHeld => Some(Reset { seq: Seq(0), ack: Some(self.recv.nxt) }),
            State::SynReceived
            | State::Established
            | State::FinWait1
            | State::FinWait2
            | State::CloseWait => Some(Reset { seq: self.send.nxt, ack: Some(self.recv.nxt) }),
            State::SynUnsent
            | State::SynSent
            | State::Closing
            | State::LastAck
            | State::TimeWait
            | State::Closed => None,
        }
    }

    pub(super) fn close(&mut self, error: Option<Error>) {
        self.state = State::Closed;
        self.error = error;
        self.timers = Timers::new();
        self.syn_due = false;
        self.keepalive_due = false;
        self.urgent = None;
        self.send.clear();
        self.recv.owed = Owed::Nothing;
        if error.is_some() {
            self.recv.clear();
        }
    }

    /// Something came: what disorder left behind is kept for a while.
    #[inline]
    pub(super) fn touch(&mut self, now: Instant) {
        self.heard = now;
        if self.timers.trim == Instant::FAR && (self.send.loss.is_some() || self.recv.keeps_disorder()) {
            self.timers.trim = now + TRIM_AFTER;
        }
    }
}
