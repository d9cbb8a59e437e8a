//! Bodies of the fuzz targets, where plain tests can reach them, too: any bytes are a run, and a run checks promises.
//!
//! `proxy/fuzz` feeds them by libFuzzer, `tests/fuzz_corpus.rs` replays the corpus, `tests/tcp_hostile.rs` makes up runs.

mod two_ends;
mod pair_bursts;

pub use pair_bursts::pair_bursts;
pub use two_ends::two_ends;

use std::net::{Ipv4Addr, SocketAddrV4};

use pnat_shared::frame::{Frame, L2_LEN};
use pnat_shared::testkit::{VecFrame, VecPool};
use pnat_shared::time::{Duration, Instant};
use pnat_shared::wire::tcp::{self, Flags, Header, Options, Seq};
use pnat_shared::wire::{arp, ethernet, icmp, ip, udp};

use crate::chunk::Chunk;
use crate::tcp::{Endpoint, Offer, Settings, State};

const LOCAL: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 80);
const PEER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 2), 4000);

/// Reads a frame as all readers of the wire would. None may panic, and what they say of lengths must be true.
pub fn packet(data: &[u8]) {
    let _ = ethernet::Header::read(data);
    let payload = data.get(L2_LEN..).unwrap_or(&[]);
    let _ = arp::Message::read(payload);
    let _ = ip::Header::read_quoted(payload);
    // Each reader also sees the bytes as they are: a fuzzer seldom guesses an IP checksum.
    let packet = ip::Header::read(payload).ok().map(|header| &payload[header.header_len..header.total_len]);
    for bytes in packet.into_iter().chain([payload, data]) {
        if let Ok((header, len)) = Header::read(bytes) {
            assert!(len <= bytes.len() && header.options.len() <= 40);
        }
        if let Ok(header) = udp::Header::read(bytes) {
            assert!(header.len <= bytes.len());
            header.is_intact(bytes, *LOCAL.ip(), *PEER.ip());
        }
        if let Ok(header) = icmp::Header::read(bytes) {
            header.next_hop_mtu();
        }
        tcp::is_intact(bytes, *LOCAL.ip(), *PEER.ip());
    }
}

/// Drives an endpoint by a sequence of operations read from `data`: segments near and far from what it expects, calls and
/// passing time. Panics where the endpoint breaks a promise.
pub fn tcp_segment(data: &[u8]) {
    let mut input = Input { data };
    let mut driver = Driver::new(&mut input);
    while !input.data.is_empty() {
        driver.operate(&mut input);
        driver.transmit();
        driver.check_memory();
    }
}

/// What the endpoints of all runs are given.
fn settings(window: u32) -> Settings {
    Settings {
        window,
        open_timeout: Duration::from_secs(20),
        user_timeout: Duration::from_secs(60),
        time_wait: Duration::from_secs(10),
        keepalive: Duration::from_secs(45),
        patience: Duration::from_secs(600),
        ..Settings::default()
    }
}

/// The rest of the run's bytes; zeros behind the end.
struct Input<'a> {
    data: &'a [u8],
}

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.data.split_first().unwrap_or((&0, &[]));
        self.data = rest;
        *first
    }

    fn word(&mut self) -> u32 {
        u32::from(self.byte()) << 8 | u32::from(self.byte())
    }

    /// Mostly nothing or a little, sometimes far away.
    fn offset(&mut self) -> u32 {
        match self.byte() {
            kind @ 0..=99 => u32::from(kind) % 4,
            kind @ 100..=179 => u32::from(kind - 100) * 100,
            180..=219 => self.word(),
            220..=239 => 0_u32.wrapping_sub(self.word()),
            _ => self.word() << 16 | self.word(),
        }
    }
}

struct Driver {
    endpoint: Endpoint<VecFrame>,
    now: Instant,
    pool: VecPool,
    window: u32,
    /// Whether the endpoint may send already.
    answered: bool,
    /// Every segment's text: first number, length, filling.
    told: Vec<(Seq, u32, u8)>,
    /// The next byte in order to be delivered.
    expected: Seq,
    /// What the endpoint said last: acknowledgment, right edge, behind its highest number.
    acked: Seq,
    edge: Option<Seq>,
    highest: Seq,
    /// The first byte that was queued to be sent.
    first_sent: Seq,
    sent: u32,
}

/// Most segments sent at once.
const BUDGET: usize = 64;

/// The byte that is sent at a number.
fn byte_at(seq: Seq) -> u8 {
    (seq.0.wrapping_mul(0x9e37_79b1) >> 24) as u8
}

impl Driver {
    fn new(input: &mut Input<'_>) -> Self {
        let kind = input.byte();
        let window = 1 + (input.word() << (kind >> 5));
        let settings = settings(window);
        let now = Instant::from_secs(1);
        let iss = Seq(u32::MAX - 1000);
        let active = kind & 1 == 0;
        let irs = Seq(input.word() << 16);
        let endpoint = if active {
            Endpoint::connect(settings, LOCAL, PEER, iss, Self::offer(kind), now)
        } else {
            let options = Self::options(kind, now);
            let syn = Header { seq: irs, flags: Flags::SYN, window: 1000, options, ..Header::default() };
            Endpoint::accept(settings, LOCAL, PEER, &syn, now)
        };
        let mut driver = Self {
            endpoint,
            now,
            pool: VecPool::endless(),
            window,
            answered: active,
            told: Vec::new(),
            expected: irs + 1,
            acked: irs + 1,
            edge: None,
            highest: iss + 1,
            first_sent: iss + 1,
            sent: 0,
        };
        driver.transmit();
        // Most runs begin behind the handshake: the interesting part.
        if kind & 2 != 0 && active {
            let flags = Flags::SYN.with(Flags::ACK);
            let options = Self::options(kind, now);
            driver.arrive(
                Header { seq: irs, ack: iss + 1, flags, window: 1000, options, ..Header::default() },
                0,
                0,
            );
        } else if kind & 2 != 0 {
            driver.answer(kind);
            let header =
                Header { seq: irs + 1, ack: iss + 1, flags: Flags::ACK, window: 1000, ..Header::default() };
            driver.transmit();
            driver.arrive(header, 0, 0);
        }
        driver.transmit();
        driver
    }

    const fn offer(kind: u8) -> Offer {
        Offer {
            mss: 1460,
            window_scale: if kind & 4 == 0 { None } else { Some(kind >> 4) },
            sack: kind & 8 != 0,
            timestamp: if kind & 16 == 0 { None } else { Some(u32::MAX) },
            ecn: kind & 1 != 0,
        }
    }

    fn options(kind: u8, now: Instant) -> Options {
        let offer = Self::offer(kind);
        Options {
            mss: Some(u16::from(kind) * 8),
            window_scale: offer.window_scale.map(|shift| shift.min(14)),
            sack_permitted: offer.sack,
            timestamps: offer.timestamp.map(|_| (now.as_millis() as u32, 0)),
            ..Options::default()
        }
    }

    fn answer(&mut self, kind: u8) {
        self.endpoint.answer(Seq(u32::MAX - 1000), Self::offer(kind), self.now);
        self.answered = true;
    }

    fn operate(&mut self, input: &mut Input<'_>) {
        match input.byte() {
            0..=119 => self.segment(input),
            120..=139 => self.receive(),
            140..=159 => self.send(input.word() % 5000),
            160..=199 => {
                let micros = match input.byte() {
                    ms @ 0..=127 => u64::from(ms) * 1000,
                    s => u64::from(s - 127) * 1_000_000,
                };
                self.wait(Duration::from_micros(micros));
            }
            200..=209 => self.endpoint.set_downstream(input.word() as usize),
            210..=213 => self.endpoint.shutdown(),
            214..=215 => self.endpoint.mark_urgent(),
            216 => self.endpoint.abort(),
            217..=225 => self.answer(input.byte()),
            226..=232 => {
                let seq = self.highest - input.offset();
                self.endpoint.on_mtu(seq, input.word() as u16, self.now);
            }
            233..=242 => self.pool.left = usize::from(input.byte()) % 4,
            _ => self.pool.left = usize::MAX,
        }
    }

    fn segment(&mut self, input: &mut Input<'_>) {
        let flags = match input.byte() {
            0..=159 => Flags::ACK,
            160..=189 => Flags::ACK.with(Flags::FIN),
            190..=199 => Flags::RST,
            200..=209 => Flags::SYN,
            210..=219 => Flags::SYN.with(Flags::ACK),
            _ => Flags(input.byte()),
        };
        let mut options = Options::default();
        let extras = input.byte();
        if extras & 1 != 0 {
            options.timestamps =
                Some(((self.now.as_millis() as u32).wrapping_add(input.offset()), input.offset()));
        }
        if extras & 2 != 0 {
            for _ in 0..extras >> 6 {
                let left = self.highest - input.offset();
                options.sack.push(left, left + input.offset());
            }
        }
        if extras & 4 != 0 {
            options.mss = Some(input.word() as u16);
        }
        let header = Header {
            seq: self.acked + input.offset(),
            ack: self.highest - input.offset(),
            flags,
            window: if extras & 8 == 0 { 0xffff } else { input.offset() as u16 },
            options,
            urgent: if extras & 32 == 0 { 0 } else { input.offset() as u16 },
            ..Header::default()
        };
        let len = if extras & 16 == 0 { u32::from(input.byte()) } else { input.word() % 1461 };
        self.arrive(header, len, input.byte());
    }

    fn arrive(&mut self, header: Header, len: u32, fill: u8) {
        let begun = self.endpoint.peer().is_some();
        let payload = Chunk::from_frame(VecFrame::new(&vec![fill; len as usize]), 0, len as usize);
        self.told.push((header.seq, len, fill));
        // Whatever it says of the segment is right; only what it does then is checked.
        let _ = self.endpoint.on_segment(&header, payload, self.now);
        if !begun && let Some((irs, _)) = self.endpoint.peer() {
            self.expected = irs + 1;
        }
    }

    /// Nothing is delivered that no segment held at that place.
    fn receive(&mut self) {
        while let Some(chunk) = self.endpoint.receive() {
            assert!(!chunk.is_empty());
            for byte in chunk.bytes() {
                let at = self.expected;
                let known = self.told.iter().any(|(seq, len, fill)| {
                    let offset = at.distance(*seq);
                    fill == byte && offset >= 0 && (offset as u32) < *len
                });
                assert!(known, "byte {byte} at {at:?} was never sent");
                self.expected += 1;
            }
            self.endpoint.take_urgent();
        }
    }

    fn send(&mut self, len: u32) {
        if self.endpoint.queued() > 200_000 || !self.answered {
            return;
        }
        let start = self.first_sent + self.sent;
        let before = self.endpoint.queued();
        self.endpoint.send(Chunk::from_vec((0..len).map(|n| byte_at(start + n)).collect()));
        self.sent += (self.endpoint.queued() - before) as u32;
    }

    /// Timers fire in order, and none may ask to be called again at the same time.
    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        while self.endpoint.deadline() <= until {
            let due = self.endpoint.deadline();
            self.now = self.now.max(due);
            self.endpoint.on_timer(self.now);
            assert!(self.endpoint.deadline() > due, "the deadline {due:?} stays");
            self.transmit();
        }
        self.now = until;
    }

    fn transmit(&mut self) {
        let mut out = Vec::new();
        let complete = self.endpoint.transmit(&mut self.pool, self.now, BUDGET, &mut out);
        let count = out.len();
        for frame in out {
            self.check_frame(&frame);
        }
        if complete && count < BUDGET {
            let silent = self.endpoint.transmit(&mut VecPool { left: 0 }, self.now, 1, &mut Vec::new());
            assert!(silent, "more to send after it was said that nothing is left");
        }
    }

    /// What leaves is well-formed, says what was to be said, and never takes a window back.
    fn check_frame(&mut self, frame: &VecFrame) {
        assert!(self.answered || self.endpoint.state() == State::Closed, "a held SYN was answered");
        let packet = ip::Header::read(&frame.data()[L2_LEN..]).expect("a sound IPv4 header");
        assert!(packet.total_len <= 1500);
        let segment = &frame.data()[L2_LEN + packet.header_len..];
        assert!(tcp::is_intact(segment, packet.src, packet.dst), "a sound TCP checksum");
        let (header, len) = Header::read(segment).expect("a sound TCP header");
        assert!(header.flags.are_sane());
        let text = &segment[len..];
        for (n, byte) in text.iter().enumerate() {
            assert_eq!(*byte, byte_at(header.seq + n as u32), "a wrong byte at {:?}", header.seq + n as u32);
        }
        if header.flags.has(Flags::RST) {
            return;
        }
        let extra = u32::from(header.flags.has(Flags::SYN)) + u32::from(header.flags.has(Flags::FIN));
        self.highest = self.highest.max(header.seq + text.len() as u32 + extra);
        if header.flags.has(Flags::ACK) && !header.flags.has(Flags::SYN) {
            let shift = self.endpoint.scale();
            let edge = header.ack + (u32::from(header.window) << shift);
            if let Some(last) = self.edge {
                assert!(
                    edge.distance(last) > -(1 << shift),
                    "the right edge moved back from {last:?} to {edge:?}"
                );
                assert!(!header.ack.before(self.acked), "an acknowledgment was taken back");
            }
            self.edge = Some(self.edge.map_or(edge, |last| last.max(edge)));
            self.acked = header.ack;
        }
    }

    /// The peer cannot make us hold more than a multiple of the window.
    fn check_memory(&self) {
        let [received, _] = self.endpoint.footprint();
        let bound = 20 * self.window as usize + 512 * 1024;
        assert!(received <= bound, "{received} bytes are held for a window of {}", self.window);
    }
}
