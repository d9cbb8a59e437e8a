//! One flow of a run: its two hosts, and what is under way between them and the reactor.

use std::collections::VecDeque;
use std::net::SocketAddr;

use pnat_shared::flow::{Accepted, Handle, NewFlow, Offloads, Protocol, Side, WorkerId};
use pnat_shared::frame::{Frame, L2_LEN};
use pnat_shared::loopback::{ToProxy, mask, socket, unmask};
use pnat_shared::testkit::VecFrame;
use pnat_shared::time::Instant;
use pnat_shared::verdict::CloseReason;
use pnat_shared::wire::ip;
use pnat_shared::wire::tcp::{self, Flags, Header, Options, SackBlocks, Seq};

use super::super::two_ends::{QUEUED, Side as Host, byte_at};
use super::super::{Input, settings};
use crate::chunk::Chunk;
use crate::tcp::{Endpoint, State};

/// Most segments under way in a direction; what comes beyond is lost.
const FLYING: usize = 512;
/// Most segments that a host sends at once.
const BUDGET: usize = 128;
const SIDES: [Side; 2] = [Side::First, Side::Second];
/// Codepoint of a mark (RFC 3168 section 5).
pub(super) const CE: u8 = 3;
/// The sequence number with which a worker accepts a client early.
const COOKIE: Seq = Seq(u32::MAX - 5000);

/// A segment under way, as it is read.
#[derive(Clone)]
pub(super) struct Flying {
    pub(super) tos: u8,
    pub(super) header: Header,
    pub(super) text: Vec<u8>,
}

/// What is under way to the reactor and from it, by side.
pub(super) struct Arriving {
    inward: [VecDeque<Flying>; 2],
    outward: [VecDeque<Flying>; 2],
}

impl Arriving {
    pub(super) fn is_empty(&self) -> bool {
        self.inward.iter().chain(&self.outward).all(VecDeque::is_empty)
    }
}

/// What the workers know of the flow.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Binding {
    /// Nothing yet.
    None,
    Open,
    Closed(CloseReason),
}

pub(super) struct Flow {
    pub(super) handle: Handle,
    pub(super) hosts: [Host; 2],
    pub(super) inward: [VecDeque<Flying>; 2],
    pub(super) outward: [VecDeque<Flying>; 2],
    pub(super) binding: Binding,
    /// The client's SYN, where a worker answers it.
    early: Option<Header>,
    accepts_early: bool,
    /// By host: what it said last, how much of its text has left, and whether its FIN has.
    pub(super) last: [Option<Header>; 2],
    pub(super) left: [u32; 2],
    pub(super) ended: [bool; 2],
    /// What the reactor has acknowledged to each host.
    pub(super) acked: [Option<Seq>; 2],
    pub(super) deceived: bool,
}

/// Whose a frame from the reactor is.
pub(super) fn addressee(frame: &[u8]) -> Option<Handle> {
    let packet = ip::Header::read(&frame[L2_LEN..]).expect("a sound IPv4 header");
    let (segment, _) = Header::read(&frame[L2_LEN + ip::MIN_LEN..]).expect("a sound TCP header");
    unmask(packet.dst, segment.dst_port)
}

impl Flow {
    pub(super) fn new(slot: u32, input: &mut Input<'_>, now: Instant) -> Self {
        let handle = Handle { worker: WorkerId(0), slot, generation: 1 };
        let mut hosts = [Host::new(input), Host::new(input)];
        let accepts_early = input.byte() & 3 == 0;
        let [client, _] = &mut hosts;
        let (settings, offer) = (settings(client.window), client.offer);
        let socket = Endpoint::connect(settings, mask(handle), socket(Side::First), client.iss, offer, now);
        client.endpoint = Some(socket);
        let mut flow = Self {
            handle,
            hosts,
            inward: Default::default(),
            outward: Default::default(),
            binding: Binding::None,
            early: None,
            accepts_early,
            last: [None; 2],
            left: [0; 2],
            ended: [false; 2],
            acked: [None; 2],
            deceived: false,
        };
        flow.transmit(0, now);
        flow
    }

    pub(super) fn is_deceived(&self) -> bool {
        self.deceived
    }

    /// What a worker makes of a packet from one of the hosts.
    pub(super) fn enter(
        &mut self,
        side: usize,
        flying: Flying,
        padding: usize,
        at: Instant,
    ) -> Option<ToProxy<VecFrame>> {
        let header = flying.header;
        let opens = side == 0 && header.flags.has(Flags::SYN) && !header.flags.has(Flags::ACK);
        let frame = self.masked(side, &flying, padding);
        match self.binding {
            Binding::Open => Some(ToProxy::Packet { frame, at }),
            Binding::Closed(_) => None,
            Binding::None if self.accepts_early && opens => {
                self.early = Some(header);
                self.outward[0].push_back(accepting(&header, at));
                None
            }
            Binding::None => {
                let accepted = self.early.and_then(|syn| completed(&syn, &header, at));
                (opens || accepted.is_some()).then(|| {
                    self.binding = Binding::Open;
                    ToProxy::Open { frame, at, flow: Box::new(self.new_flow(accepted, at)) }
                })
            }
        }
    }

    fn new_flow(&self, accepted: Option<Accepted>, opened: Instant) -> NewFlow {
        let address = SocketAddr::from(([10, 0, 0, 1], 80));
        NewFlow {
            handle: self.handle,
            protocol: Protocol::Tcp,
            client: address,
            server: address,
            public: address,
            policy: 1,
            rule: Some(0),
            mtu: [1500, 1500],
            offloads: [Offloads::NONE; 2],
            opened,
            accepted,
        }
    }

    /// A frame from a host, as the reactor gets it.
    pub(super) fn masked(&self, side: usize, flying: &Flying, padding: usize) -> VecFrame {
        let (from, to) = (mask(self.handle), socket(SIDES[side]));
        let header = Header { src_port: from.port(), dst_port: to.port(), ..flying.header };
        let total_len = ip::MIN_LEN + header.len() + flying.text.len();
        let mut frame = VecFrame::new(&vec![0; L2_LEN + total_len + padding]);
        let packet = ip::Header { tos: flying.tos, ..ip::Header::new(6, *from.ip(), *to.ip(), total_len) };
        let bytes = &mut frame.data_mut()[L2_LEN..];
        packet.write(bytes);
        let segment = &mut bytes[ip::MIN_LEN..total_len];
        segment[header.len()..].copy_from_slice(&flying.text);
        header.write(segment, packet.src, packet.dst);
        frame
    }

    /// A frame from the reactor: sound, and its text is the other host's at that place.
    pub(super) fn take_out(&mut self, frame: VecFrame) {
        let packet = ip::Header::read(&frame.data()[L2_LEN..]).expect("a sound IPv4 header");
        assert!(packet.total_len <= 1500, "a packet of {} bytes", packet.total_len);
        let side =
            SIDES.into_iter().position(|side| *socket(side).ip() == packet.src).expect("from a socket");
        let segment = &frame.data()[L2_LEN + ip::MIN_LEN..L2_LEN + packet.total_len];
        assert!(tcp::is_intact(segment, packet.src, packet.dst), "a sound TCP checksum");
        let (header, len) = Header::read(segment).expect("a sound TCP header");
        assert!(header.flags.are_sane(), "{header:?}");
        let text = &segment[len..];
        let iss = if side == 0 && self.accepts_early { COOKIE } else { self.hosts[1 - side].iss };
        let place = header.seq.0.wrapping_sub(iss.0.wrapping_add(1));
        for (byte, at) in text.iter().zip(place..) {
            assert!(at < self.hosts[1 - side].written, "side {side}: text at {at} that nobody wrote");
            assert_eq!(*byte, byte_at(1 - side, at), "side {side}: a wrong byte at {at}");
        }
        if header.flags.has(Flags::FIN) {
            let writer = &self.hosts[1 - side];
            assert!(writer.shut, "side {side}: a FIN that the other has not sent");
            assert_eq!(place + text.len() as u32, writer.written, "side {side}: an early FIN");
        }
        if header.flags.has(Flags::ACK) && !header.flags.has(Flags::RST) {
            self.acked[side] = Some(header.ack);
        }
        if self.outward[side].len() < FLYING {
            self.outward[side].push_back(Flying { tos: packet.tos, header, text: text.to_vec() });
        }
    }

    pub(super) fn close(&mut self, reason: CloseReason) {
        self.binding = Binding::Closed(reason);
    }

    /// The next segment from the reactor reaches a host.
    pub(super) fn deliver(&mut self, side: usize, now: Instant) {
        if let Some(flying) = self.outward[side].pop_front() {
            self.reach(side, flying, now);
        }
    }

    fn reach(&mut self, side: usize, Flying { header, text, tos }: Flying, now: Instant) {
        let Host { endpoint, window, offer, iss, .. } = &mut self.hosts[side];
        match endpoint {
            Some(endpoint) => {
                let marked = tos & CE == CE && !text.is_empty();
                // Whatever it says of the segment is right; only what it does then is checked.
                if endpoint.on_segment(&header, Chunk::from_vec(text), now).is_ok() && marked {
                    endpoint.on_mark();
                }
            }
            None if header.flags.has(Flags::SYN) => {
                let (local, peer) = (mask(self.handle), socket(SIDES[side]));
                let mut accepted = Endpoint::accept(settings(*window), local, peer, &header, now);
                accepted.answer(*iss, *offer, now);
                *endpoint = Some(accepted);
            }
            None => {}
        }
        self.transmit(side, now);
    }

    fn transmit(&mut self, side: usize, now: Instant) {
        let host = &mut self.hosts[side];
        let Some(endpoint) = &mut host.endpoint else { return };
        let mut out = Vec::new();
        endpoint.transmit(&mut host.pool, now, BUDGET, &mut out);
        for frame in out {
            let packet = ip::Header::read(&frame.data()[L2_LEN..]).expect("a sound IPv4 header");
            let segment = &frame.data()[L2_LEN + ip::MIN_LEN..L2_LEN + packet.total_len];
            let (header, len) = Header::read(segment).expect("a sound TCP header");
            let text = segment[len..].to_vec();
            if !header.flags.has(Flags::SYN) && !header.flags.has(Flags::RST) {
                let end =
                    header.seq.0.wrapping_sub(host.iss.0.wrapping_add(1)).wrapping_add(text.len() as u32);
                // A keepalive probe stands before the first byte.
                self.left[side] =
                    if end <= host.written { self.left[side].max(end) } else { self.left[side] };
                self.last[side] = Some(header);
                self.ended[side] |= header.flags.has(Flags::FIN);
            }
            if self.inward[side].len() < FLYING {
                self.inward[side].push_back(Flying { tos: packet.tos, header, text });
            }
        }
    }

    pub(super) fn write(&mut self, side: usize, len: u32, now: Instant) {
        let Host { endpoint: Some(endpoint), written, shut: false, .. } = &mut self.hosts[side] else {
            return;
        };
        if endpoint.queued() <= QUEUED && endpoint.state() != State::Closed {
            endpoint.send(Chunk::from_vec((*written..*written + len).map(|at| byte_at(side, at)).collect()));
            *written += len;
        }
        self.transmit(side, now);
    }

    /// A host reads all there is.
    pub(super) fn read(&mut self, side: usize, now: Instant) {
        let [first, second] = &mut self.hosts;
        let (reader, writer) = if side == 0 { (first, second) } else { (second, first) };
        reader.read_all(side, writer);
        self.transmit(side, now);
    }

    /// A host's application is slow: so many bytes wait.
    pub(super) fn hold_up(&mut self, side: usize, bytes: usize, now: Instant) {
        if let Some(endpoint) = &mut self.hosts[side].endpoint {
            endpoint.set_downstream(bytes);
        }
        self.transmit(side, now);
    }

    pub(super) fn shut(&mut self, side: usize, now: Instant) {
        let host = &mut self.hosts[side];
        if let Some(endpoint) = &mut host.endpoint {
            endpoint.shutdown();
            host.shut = true;
        }
        self.transmit(side, now);
    }

    pub(super) fn abort(&mut self, side: usize, now: Instant) {
        if let Some(endpoint) = &mut self.hosts[side].endpoint {
            endpoint.abort();
        }
        self.transmit(side, now);
    }

    pub(super) fn deadline(&self) -> Instant {
        let ends = self.hosts.iter().filter_map(|host| host.endpoint.as_ref());
        ends.map(Endpoint::deadline).min().unwrap_or(Instant::FAR)
    }

    pub(super) fn on_timer(&mut self, now: Instant) {
        for side in 0..2 {
            if let Some(endpoint) = &mut self.hosts[side].endpoint
                && endpoint.deadline() <= now
            {
                endpoint.on_timer(now);
                self.transmit(side, now);
            }
        }
    }

    /// Both applications read everything and close.
    pub(super) fn conclude(&mut self, now: Instant) {
        for side in 0..2 {
            self.hold_up(side, 0, now);
            self.read(side, now);
            self.shut(side, now);
        }
    }

    pub(super) fn take_all(&mut self) -> Arriving {
        Arriving { inward: core::mem::take(&mut self.inward), outward: core::mem::take(&mut self.outward) }
    }

    /// All that was under way arrives as it is.
    pub(super) fn arrive(&mut self, arriving: Arriving, now: Instant, burst: &mut Vec<ToProxy<VecFrame>>) {
        for (side, (inward, outward)) in arriving.inward.into_iter().zip(arriving.outward).enumerate() {
            for flying in outward {
                self.reach(side, flying, now);
            }
            for flying in inward {
                burst.extend(self.enter(side, flying, 0, now));
            }
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.hosts.iter().all(|host| host.endpoint.as_ref().is_none_or(Endpoint::is_over))
    }

    pub(super) fn describe(&self) -> String {
        let of = |host: &Host| host.endpoint.as_ref().map(|end| (end.state(), end.queued(), end.error()));
        format!("{:?}, {:?}", self.binding, self.hosts.each_ref().map(of))
    }

    /// A flow that nobody reset is complete.
    pub(super) fn check_end(&mut self, now: Instant) {
        for side in 0..2 {
            self.read(side, now);
        }
        let fine = |host: &Host| host.endpoint.as_ref().is_some_and(|end| end.error().is_none());
        let [first, second] = &self.hosts;
        if !self.deceived && fine(first) && fine(second) {
            assert_eq!((second.read, first.read), (first.written, second.written), "bytes are missing");
        }
    }
}

/// What a worker says in a SYN-ACK of its own.
fn early_options(syn: &Header, now: Instant) -> Options {
    Options {
        mss: Some(1460),
        window_scale: syn.options.window_scale.map(|_| 2),
        sack_permitted: syn.options.sack_permitted,
        timestamps: syn.options.timestamps.map(|(value, _)| (now.as_millis() as u32, value)),
        sack: SackBlocks::default(),
        excessive_scale: false,
    }
}

/// Receive window of such a SYN-ACK, in bytes.
const EARLY_WINDOW: u16 = 65_532;

fn accepting(syn: &Header, now: Instant) -> Flying {
    let header = Header {
        seq: COOKIE,
        ack: syn.seq + 1,
        flags: Flags::SYN.with(Flags::ACK),
        window: EARLY_WINDOW,
        options: early_options(syn, now),
        ..Header::default()
    };
    Flying { tos: 0, header, text: Vec::new() }
}

/// The handshake that a client's ACK completes.
fn completed(syn: &Header, ack: &Header, now: Instant) -> Option<Accepted> {
    let others = ack.flags.0 & (Flags::SYN.0 | Flags::RST.0);
    let completes =
        ack.flags.has(Flags::ACK) && others == 0 && ack.seq == syn.seq + 1 && ack.ack == COOKIE + 1;
    let theirs = Options { timestamps: ack.options.timestamps, ..syn.options };
    let stamps = theirs.timestamps.map(|_| (now.as_millis() as u32, 0));
    let ours = Options { timestamps: stamps, ..early_options(syn, now) };
    completes.then_some(Accepted {
        iss: COOKIE,
        irs: syn.seq,
        ours,
        theirs,
        window: EARLY_WINDOW,
        ecn: false,
    })
}
