//! One flow of a run: its two hosts, what is under way between them and the reactor, and what is done to that.

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
const CE: u8 = 3;
/// The sequence number with which a worker accepts a client early.
const COOKIE: Seq = Seq(u32::MAX - 5000);

/// A segment under way, as it is read.
#[derive(Clone)]
pub(super) struct Flying {
    tos: u8,
    header: Header,
    text: Vec<u8>,
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
enum Binding {
    /// Nothing yet.
    None,
    Open,
    Closed(CloseReason),
}

pub(super) struct Flow {
    pub(super) handle: Handle,
    hosts: [Host; 2],
    inward: [VecDeque<Flying>; 2],
    outward: [VecDeque<Flying>; 2],
    binding: Binding,
    /// The client's SYN, where a worker answers it.
    early: Option<Header>,
    accepts_early: bool,
    /// By host: what it said last, how much of its text has left, and whether its FIN has.
    last: [Option<Header>; 2],
    left: [u32; 2],
    ended: [bool; 2],
    /// What the reactor has acknowledged to each host.
    acked: [Option<Seq>; 2],
    deceived: bool,
}

/// What happens to a segment on its way into the burst.
#[derive(Copy, Clone)]
pub(super) struct Tampering {
    kind: u8,
    by: u32,
}

impl Tampering {
    pub(super) fn read(input: &mut Input<'_>) -> Self {
        Self { kind: input.byte(), by: input.offset() }
    }
}

/// Text that a host has sent before, sent again, in other pieces and under other headers.
#[derive(Copy, Clone)]
pub(super) struct Forgery {
    style: u8,
    count: u8,
    len: u32,
    start: u32,
}

impl Forgery {
    pub(super) fn read(input: &mut Input<'_>) -> Self {
        Self {
            style: input.byte(),
            count: input.byte() % 64,
            len: 1 + input.word() % 1448,
            start: input.offset(),
        }
    }
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

    /// The next segment from a host goes into the burst, with whatever is done to it.
    pub(super) fn take(
        &mut self,
        side: usize,
        tampering: Tampering,
        now: Instant,
        burst: &mut Vec<ToProxy<VecFrame>>,
    ) {
        let Tampering { kind, by } = tampering;
        let Some(mut flying) = self.inward[side].pop_front() else { return };
        let header = &mut flying.header;
        match kind {
            0..=99 => {}
            100..=109 => burst.extend(self.enter(side, flying.clone(), 0, now)),
            110..=119 => {
                // The one behind it overtakes.
                if let Some(next) = self.inward[side].pop_front() {
                    burst.extend(self.enter(side, next, 0, now));
                }
            }
            120..=139 => {
                let (head, tail) = split(flying, by as usize);
                burst.extend(head.and_then(|head| self.enter(side, head, 0, now)));
                flying = tail;
            }
            140..=149 => flying.tos |= CE,
            150..=159 => header.window = by as u16,
            160..=169 => header.ack = header.ack - by,
            170..=171 => {
                header.ack += by;
                self.deceived |= by > 0;
            }
            172..=184 => {
                if let Some((value, echo)) = &mut header.options.timestamps {
                    *value = value.wrapping_sub(by);
                    // A stamp from the future makes all that is honest look old.
                    self.deceived |= (by as i32) < 0;
                    *echo = echo.wrapping_add(by % 3);
                }
            }
            185..=189 => header.options.timestamps = None,
            190..=199 => {
                for n in 0..1 + by % 3 {
                    let left = header.ack + by.wrapping_mul(n + 1);
                    header.options.sack.push(left, left + by % 3000);
                }
            }
            200..=214 => {
                header.flags =
                    header.flags.with(Flags(by as u8 & (Flags::PSH.0 | Flags::ECE.0 | Flags::CWR.0)))
            }
            215..=219 => {
                header.flags = header.flags.with(Flags::URG);
                header.urgent = by as u16;
            }
            // Fifty bytes behind the packet, as short frames have them.
            220..=239 => return burst.extend(self.enter(side, flying, 50, now)),
            _ => return,
        }
        burst.extend(self.enter(side, flying, 0, now));
    }

    /// What a worker makes of a packet from one of the hosts.
    fn enter(
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
    fn masked(&self, side: usize, flying: &Flying, padding: usize) -> VecFrame {
        let (from, to) = (mask(self.handle), socket(SIDES[side]));
        let header = Header { src_port: from.port(), dst_port: to.port(), ..flying.header };
        let total_len = ip::MIN_LEN + header.len() + flying.text.len();
        let mut frame = VecFrame::new(&vec![0; L2_LEN + total_len + padding]);
        let packet = ip::Header {
            header_len: ip::MIN_LEN,
            total_len,
            tos: flying.tos,
            id: 0,
            fragment: ip::DONT_FRAGMENT,
            ttl: 64,
            protocol: 6,
            src: *from.ip(),
            dst: *to.ip(),
        };
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

    /// Says again what a host has said: in pieces of other lengths, overlapping or with gaps, by headers that differ from
    /// each other.
    pub(super) fn forge(
        &mut self,
        side: usize,
        forgery: Forgery,
        input: &mut Input<'_>,
        now: Instant,
        burst: &mut Vec<ToProxy<VecFrame>>,
    ) {
        let Forgery { style, count, len, start } = forgery;
        let (Some(last), Some(acked)) = (self.last[side], self.acked[side]) else { return };
        let first = self.hosts[side].iss + 1;
        let mut place = (acked - start).0.wrapping_sub(first.0);
        for _ in 0..=count {
            if place > self.left[side] {
                return;
            }
            let len = if style & 1 == 0 { len } else { 1 + input.word() % 1448 };
            let end = (place + len).min(self.left[side]);
            let mut header = Header { seq: first + place, ..last };
            header.flags = Flags(header.flags.0 & !Flags::FIN.0);
            if end == self.hosts[side].written && self.ended[side] && style & 2 != 0 {
                header.flags = header.flags.with(Flags::FIN);
            }
            if let Some((value, _)) = &mut header.options.timestamps
                && style & 4 != 0
            {
                *value = value.wrapping_sub(u32::from(input.byte()));
            }
            if style & 8 != 0 {
                header.window = input.word() as u16;
            }
            if style & 16 != 0 {
                header.ack = header.ack - input.offset() % 4000;
            }
            if style & 32 != 0 {
                header.flags =
                    header.flags.with(Flags(input.byte() & (Flags::PSH.0 | Flags::ECE.0 | Flags::CWR.0)));
            }
            let text = (place..end).map(|at| byte_at(side, at)).collect();
            let tos = if style & 64 == 0 { 2 } else { input.byte() & CE };
            burst.extend(self.enter(side, Flying { tos, header, text }, 0, now));
            place = if style & 128 == 0 { end } else { (end + input.offset() % 40).saturating_sub(20) };
        }
    }

    /// A segment leaves its place and comes last, in either direction.
    pub(super) fn hold_back(&mut self, side: usize, which: usize) {
        let queue = if which & 1 == 0 { &mut self.inward[side] } else { &mut self.outward[side] };
        if let Some(flying) = queue.remove(which / 2) {
            queue.push_back(flying);
        }
    }

    pub(super) fn lose(&mut self, side: usize, which: usize) {
        let queue = if which & 1 == 0 { &mut self.inward[side] } else { &mut self.outward[side] };
        drop(queue.remove(which / 2));
    }

    /// Somebody who has seen the last segment slips in one without text.
    pub(super) fn intrude(
        &mut self,
        side: usize,
        input: &mut Input<'_>,
        now: Instant,
        burst: &mut Vec<ToProxy<VecFrame>>,
    ) {
        let flags = match input.byte() {
            0..=99 => Flags::RST,
            100..=119 => Flags::RST.with(Flags::ACK),
            120..=159 => Flags::SYN,
            160..=199 => Flags::SYN.with(Flags::ACK),
            _ => Flags::ACK,
        };
        let offset = input.offset();
        if let Some(seen) = self.last[side] {
            let header = Header { seq: seen.seq + offset, flags, options: Options::default(), ..seen };
            burst.extend(self.enter(side, Flying { tos: 0, header, text: Vec::new() }, 0, now));
        }
    }

    /// A frame that says nothing sensible: bytes of a real one were overwritten, or it ends early.
    pub(super) fn babble(
        &self,
        side: usize,
        input: &mut Input<'_>,
        now: Instant,
        burst: &mut Vec<ToProxy<VecFrame>>,
    ) {
        let (Some(flying), Binding::Open) = (self.inward[side].front().cloned(), self.binding) else {
            return;
        };
        let mut frame = self.masked(side, &flying, 0);
        let len = frame.data().len();
        match input.byte() {
            // A checksum notices a bit that is turned over, wherever it is.
            bit @ 0..=127 => {
                let at = L2_LEN + input.word() as usize % (len - L2_LEN);
                frame.data_mut()[at] ^= 1 << (bit % 8);
            }
            cut => {
                let kept = len.saturating_sub(1 + usize::from(cut) % len);
                assert!(frame.resize(kept));
            }
        }
        burst.push(ToProxy::Packet { frame, at: now });
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

    /// A host reads all there is, and compares.
    pub(super) fn read(&mut self, side: usize, now: Instant) {
        let [first, second] = &mut self.hosts;
        let (reader, writer) = if side == 0 { (first, second) } else { (second, first) };
        let Some(endpoint) = &mut reader.endpoint else { return };
        while let Some(chunk) = endpoint.receive() {
            for byte in chunk.bytes() {
                assert!(reader.read < writer.written, "side {side} reads what was never written");
                assert_eq!(
                    *byte,
                    byte_at(1 - side, reader.read),
                    "side {side}: a wrong byte at {}",
                    reader.read
                );
                reader.read += 1;
            }
        }
        if endpoint.is_receive_finished() && endpoint.error().is_none() {
            assert!(writer.shut, "side {side}: an end that the other did not send");
            assert_eq!(reader.read, writer.written, "side {side}: an early end");
        }
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

/// The first bytes of a segment's text, at most so many, and the rest; the flags that end it stay with the rest.
fn split(flying: Flying, at: usize) -> (Option<Flying>, Flying) {
    let Flying { tos, header, mut text } = flying;
    if text.is_empty() {
        return (None, Flying { tos, header, text });
    }
    let rest = text.split_off(at % text.len());
    let ending = Flags::FIN.with(Flags::PSH);
    let head = Header { flags: Flags(header.flags.0 & !ending.0), ..header };
    let tail = Header { seq: header.seq + text.len() as u32, ..header };
    (Some(Flying { tos, header: head, text }), Flying { tos, header: tail, text: rest })
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
