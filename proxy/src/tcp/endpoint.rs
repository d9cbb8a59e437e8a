//! One end of a TCP connection: a socket of a pair.

use std::marker::PhantomData;
use std::net::SocketAddrV4;

use pnat_shared::frame::{Frame, FramePool};
use pnat_shared::time::{Duration, Instant};
use pnat_shared::verdict::DropReason;
use pnat_shared::wire::tcp::{Header, Seq};

use crate::chunk::Chunk;

/// The options of a SYN, mirrored from one leg to the other (RFC 9293 section 3.2, RFC 7323, RFC 2018).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    pub mss: u16,
    pub window_scale: Option<u8>,
    pub sack: bool,
    /// TSval of the SYN, where it carried timestamps.
    pub timestamp: Option<u32>,
}

/// What an endpoint may use and how long it waits.
#[derive(Copy, Clone, Debug)]
pub struct Settings {
    /// Largest receive window, in bytes.
    pub window: u32,
    /// Largest IP packet that the leg carries, in bytes.
    pub mtu: u16,
    /// How long SYN or SYN-ACK are repeated before the endpoint gives up.
    pub open_timeout: Duration,
    /// How long data is retransmitted, or zero windows are probed, without any answer before the endpoint gives up.
    pub user_timeout: Duration,
    /// How long TIME-WAIT lasts.
    pub time_wait: Duration,
}

/// The states of RFC 9293 section 3.3.2, and one of our own for late accept.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// A SYN came and its answer is held back until [`Endpoint::answer`].
    SynHeld,
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
    /// [`Endpoint::abort`] was called.
    Aborted,
}

/// One end of a connection.
#[derive(Debug)]
pub struct Endpoint<F> {
    marker: PhantomData<F>,
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
        let _ = (settings, local, peer, syn, now);
        unimplemented!()
    }

    /// Answers the held SYN: SYN-ACK with this initial sequence number and these options (of which those that the peer
    /// did not offer are left out).
    pub fn answer(&mut self, iss: Seq, offer: Offer, now: Instant) {
        let _ = (iss, offer, now);
        unimplemented!()
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
        let _ = (settings, local, peer, iss, offer, now);
        unimplemented!()
    }

    /// Takes in a segment whose checksum was verified. `payload` is what follows the TCP header. An error says why the
    /// segment was not used; an answer that the RFC asks for (challenge ACK, RST) is sent all the same.
    pub fn on_segment(&mut self, header: &Header, payload: Chunk<F>, now: Instant) -> Result<(), DropReason> {
        let _ = (header, payload, now);
        unimplemented!()
    }

    /// Does what is due at `now`: retransmission, delayed ACK, probes, timeouts.
    pub fn on_timer(&mut self, now: Instant) {
        let _ = now;
        unimplemented!()
    }

    /// When [`Endpoint::on_timer`] is to be called next; [`Instant::FAR`] for never.
    pub fn deadline(&self) -> Instant {
        unimplemented!()
    }

    /// Appends the segments that may be sent now, at most `budget`, each a whole frame with an IPv4 header behind
    /// [`pnat_shared::frame::L2_LEN`] bytes of room. Answers false where the pool ran dry with something left to send.
    pub fn transmit(
        &mut self,
        pool: &mut impl FramePool<F>,
        now: Instant,
        budget: usize,
        out: &mut Vec<F>,
    ) -> bool {
        let _ = (pool, now, budget, out);
        unimplemented!()
    }

    /// The next bytes in order, if any.
    pub fn receive(&mut self) -> Option<Chunk<F>> {
        unimplemented!()
    }

    /// Whether the peer's FIN has come and all bytes before it were taken by [`Endpoint::receive`].
    pub fn is_receive_finished(&self) -> bool {
        unimplemented!()
    }

    /// How many received bytes of this leg still wait further down (chain, other socket): they count against the receive
    /// window, so back-pressure reaches the peer.
    pub fn set_downstream(&mut self, bytes: usize) {
        let _ = bytes;
        unimplemented!()
    }

    /// Appends bytes to the send queue. There is no limit here: the pair bounds it by the other leg's window.
    pub fn send(&mut self, chunk: Chunk<F>) {
        let _ = chunk;
        unimplemented!()
    }

    /// Bytes in the send queue, sent and unacknowledged ones included.
    pub fn queued(&self) -> usize {
        unimplemented!()
    }

    /// Sends FIN behind what is queued.
    pub fn shutdown(&mut self) {
        unimplemented!()
    }

    /// Drops all queues and sends RST if the state calls for one (RFC 9293 section 3.10.5).
    pub fn abort(&mut self) {
        unimplemented!()
    }

    pub fn state(&self) -> State {
        unimplemented!()
    }

    /// Why the endpoint closed, where it was not by the book.
    pub fn error(&self) -> Option<Error> {
        unimplemented!()
    }

    /// Initial sequence number and options of the peer's SYN or SYN-ACK; `None` before it came.
    pub fn peer(&self) -> Option<(Seq, Offer)> {
        unimplemented!()
    }

    /// An ICMP "fragmentation needed" that quotes a segment of ours with this sequence number (RFC 1191; RFC 5927 section 7: ignored
    /// unless the number is in flight).
    pub fn on_mtu(&mut self, seq: Seq, mtu: u16, now: Instant) {
        let _ = (seq, mtu, now);
        unimplemented!()
    }

    /// Whether everything ended and nothing will be sent any more.
    pub fn is_over(&self) -> bool {
        unimplemented!()
    }
}
