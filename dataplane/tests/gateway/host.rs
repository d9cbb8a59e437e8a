//! A host of either side: one TCP connection by PNAT's own engine, and an application on it.

use std::net::SocketAddrV4;

use pnat_proxy::chunk::Chunk;
use pnat_proxy::tcp::{Endpoint, Offer, Settings, State};
use pnat_shared::frame::{Frame, L2_LEN};
use pnat_shared::testkit::{Random, VecFrame, VecPool};
use pnat_shared::time::{Duration, Instant};
use pnat_shared::wire::ip;
use pnat_shared::wire::tcp::{self, Flags, Header, Seq};

const OFFER: Offer = Offer { mss: 1460, window_scale: Some(7), sack: true, timestamp: Some(77), ecn: false };

fn settings() -> Settings {
    Settings { time_wait: Duration::from_secs(3), ..Settings::default() }
}

/// What an application says.
#[derive(Debug)]
pub(crate) enum Part {
    /// The client's: this text, then the end.
    Says(Vec<u8>),
    /// The server's: what it heard, then the end.
    Echoes,
}

#[derive(Debug)]
pub(crate) struct Host {
    socket: Endpoint<VecFrame>,
    part: Part,
    said: usize,
    pub(crate) heard: Vec<u8>,
}

impl Host {
    pub(crate) fn client(
        local: SocketAddrV4,
        peer: SocketAddrV4,
        text: Vec<u8>,
        iss: u32,
        now: Instant,
    ) -> Self {
        let socket = Endpoint::connect(settings(), local, peer, Seq(iss), OFFER, now);
        Self { socket, part: Part::Says(text), said: 0, heard: Vec::new() }
    }

    /// A server that meets a segment of no connection; `None` where it is no SYN.
    pub(crate) fn server(
        local: SocketAddrV4,
        peer: SocketAddrV4,
        syn: &Header,
        iss: u32,
        now: Instant,
    ) -> Option<Self> {
        if syn.flags.has(Flags::ACK) || !syn.flags.has(Flags::SYN) {
            return None;
        }
        let mut socket = Endpoint::accept(settings(), local, peer, syn, now);
        socket.answer(Seq(iss), OFFER, now);
        Some(Self { socket, part: Part::Echoes, said: 0, heard: Vec::new() })
    }

    /// What the client said.
    pub(crate) fn text(&self) -> &[u8] {
        match &self.part {
            Part::Says(text) => text,
            Part::Echoes => &self.heard,
        }
    }

    pub(crate) fn on_segment(&mut self, header: &Header, payload: Chunk<VecFrame>, now: Instant) {
        // What is of no use is the link's fault, and not of interest here.
        let _ = self.socket.on_segment(header, payload, now);
    }

    /// Lets the application and the socket do what they can.
    pub(crate) fn run(&mut self, random: &mut Random, now: Instant, out: &mut Vec<VecFrame>) {
        if self.socket.deadline() <= now {
            self.socket.on_timer(now);
        }
        while let Some(chunk) = self.socket.receive() {
            self.heard.extend_from_slice(chunk.bytes());
        }
        while self.said < self.text().len() && self.socket.queued() < 64 * 1024 {
            let count = (self.text().len() - self.said).min(1 + random.below(4000) as usize);
            let bytes = self.text()[self.said..][..count].to_vec();
            self.socket.send(Chunk::from_vec(bytes));
            self.said += count;
        }
        let has_all = matches!(self.part, Part::Says(_)) || self.socket.is_receive_finished();
        if has_all && self.said == self.text().len() {
            self.socket.shutdown();
        }
        self.socket.transmit(&mut VecPool::endless(), now, usize::MAX, out);
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.socket.deadline()
    }

    /// Whether both streams have come to their end.
    pub(crate) fn is_done(&self) -> bool {
        matches!(self.socket.state(), State::TimeWait | State::Closed) && self.socket.is_receive_finished()
    }
}

/// A TCP packet's addresses, header and payload; `None` for what is none, or damaged.
pub(crate) fn read(frame: VecFrame) -> Option<(SocketAddrV4, SocketAddrV4, Header, Chunk<VecFrame>)> {
    let packet = ip::Header::read(&frame.data()[L2_LEN..]).ok()?;
    let (from, to) = (L2_LEN + packet.header_len, L2_LEN + packet.total_len);
    let bytes = &frame.data()[from..to];
    if packet.protocol != 6 || !tcp::is_intact(bytes, packet.src, packet.dst) {
        return None;
    }
    let (header, len) = Header::read(bytes).ok()?;
    let (src, dst) =
        (SocketAddrV4::new(packet.src, header.src_port), SocketAddrV4::new(packet.dst, header.dst_port));
    Some((src, dst, header, Chunk::from_frame(frame, from + len, to)))
}
