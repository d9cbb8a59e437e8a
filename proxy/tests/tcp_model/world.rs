//! An endpoint and the model side by side: each event goes to both, and they have to agree.

use std::net::{Ipv4Addr, SocketAddrV4};

use pnat_proxy::chunk::Chunk;
use pnat_proxy::tcp::{Endpoint, Offer, Settings, State};
use pnat_shared::frame::{Frame, L2_LEN};
use pnat_shared::testkit::{VecFrame, VecPool};
use pnat_shared::time::{Duration, Instant};
use pnat_shared::wire::ip;
use pnat_shared::wire::tcp::{Flags, Header, Seq};

use crate::model::{Ack, Answer, Event, IRS, ISS, Model, Place, STREAM, Segment, TIME_WAIT, WINDOW};

const LOCAL: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 80);
const PEER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 2), 4000);
const OFFER: Offer = Offer { mss: 1460, window_scale: None, sack: false, timestamp: None, ecn: false };
/// Between two events: longer than an ACK waits and than challenges are rationed.
const PAUSE: Duration = Duration::from_secs(1);
const FOREVER: Duration = Duration::from_secs(4_000_000);

pub(crate) struct World {
    endpoint: Endpoint<VecFrame>,
    model: Model,
    pool: VecPool,
    now: Instant,
    /// SND.NXT, by what was seen.
    nxt: Seq,
    sent: Vec<Header>,
    history: Vec<Event>,
}

impl World {
    pub(crate) fn new(active: bool) -> Self {
        let settings = Settings {
            window: WINDOW,
            open_timeout: FOREVER,
            user_timeout: FOREVER,
            time_wait: Duration::from_secs(TIME_WAIT),
            patience: FOREVER,
            quick_acks: 0,
            ..Settings::default()
        };
        let now = Instant::from_secs(100);
        let endpoint = if active {
            Endpoint::connect(settings, LOCAL, PEER, Seq(ISS), OFFER, now)
        } else {
            let syn = Header { seq: Seq(IRS), flags: Flags::SYN, window: WINDOW as u16, ..Header::default() };
            Endpoint::accept(settings, LOCAL, PEER, &syn, now)
        };
        let mut world = Self {
            endpoint,
            model: Model::new(active),
            pool: VecPool::endless(),
            now,
            nxt: Seq(ISS),
            sent: Vec::new(),
            history: Vec::new(),
        };
        world.transmit();
        world.pass(PAUSE);
        world
    }

    /// Something happens to both; panics where they differ.
    pub(crate) fn step(&mut self, event: Event) {
        self.history.push(event);
        self.sent.clear();
        let (nxt, now) = (self.nxt, self.now);
        match event {
            Event::Arrives(segment) => self.arrive(segment),
            Event::Answer => self.endpoint.answer(Seq(ISS), OFFER, now),
            Event::Send => self.endpoint.send(Chunk::from_vec(vec![7; 10])),
            Event::Shutdown => self.endpoint.shutdown(),
            Event::Abort => self.endpoint.abort(),
            Event::Wait => {}
        }
        while self.endpoint.receive().is_some() {}
        let answer = self.model.step(event, nxt.0, now.as_millis() / 1000);
        self.transmit();
        self.compare(answer);
        self.pass(if matches!(event, Event::Wait) { Duration::from_secs(TIME_WAIT + 1) } else { PAUSE });
        self.model.passes(self.now.as_millis() / 1000);
        self.compare_states();
    }

    fn compare(&self, answer: Answer) {
        let is_plain = |header: &Header| {
            header.flags.has(Flags::ACK) && header.flags.0 & (Flags::SYN.0 | Flags::RST.0) == 0
        };
        let all_plain = self.sent.iter().all(is_plain);
        let only = |flags: Flags| self.sent.len() == 1 && self.sent[0].flags == flags;
        let agrees = match answer {
            Answer::Nothing => self.sent.is_empty(),
            Answer::Acks => all_plain && !self.sent.is_empty(),
            Answer::MayAck => all_plain,
            Answer::SynAck => only(Flags::SYN.with(Flags::ACK)),
            Answer::Rst => only(Flags::RST) || only(Flags::RST.with(Flags::ACK)),
        };
        assert!(agrees, "{answer:?} expected, sent {:?}\n{:#?}", self.sent, self.history);
        self.compare_states();
        let synchronized = !matches!(self.model.state, State::SynHeld | State::SynSent | State::Closed);
        for header in self.sent.iter().filter(|header| synchronized && header.flags.has(Flags::ACK)) {
            assert_eq!(header.ack, Seq(self.model.rcv_nxt()), "{:#?}", self.history);
        }
    }

    fn compare_states(&self) {
        assert_eq!(self.endpoint.state(), self.model.state, "{:#?}", self.history);
    }

    fn arrive(&mut self, segment: Segment) {
        let next = self.model.rcv_nxt();
        // Before anything is known of the peer, its SYN says where its numbers begin.
        let first = segment.syn && self.model.state == State::SynSent;
        let (seq, len) = match segment.place {
            _ if first => (IRS, 0),
            Place::Next => (next, 0),
            Place::Stream(from, to) => (IRS + 1 + from, to - from),
            Place::Ahead => (next + 1000, 0),
            Place::Beyond => (next + 70_000, 10),
            Place::Before => (next.wrapping_sub(70_000), 10),
            Place::Syn => (IRS, 0),
        };
        let mut flags = Flags(0);
        // Text does not stand in SYN and RST here.
        let len = if segment.syn || segment.rst { 0 } else { len };
        if segment.syn {
            flags = flags.with(Flags::SYN);
        } else if segment.rst {
            flags = flags.with(Flags::RST);
        } else if segment.fin && matches!(segment.place, Place::Stream(_, STREAM)) {
            flags = flags.with(Flags::FIN);
        }
        let ack = match segment.ack {
            Ack::None => Seq(0),
            Ack::All => self.nxt,
            Ack::First => Seq(ISS) + 1,
            Ack::TooMuch => self.nxt + 1,
            Ack::LongAgo => Seq(ISS) - 1_000_000,
        };
        if segment.ack != Ack::None {
            flags = flags.with(Flags::ACK);
        }
        let header = Header { seq: Seq(seq), ack, flags, window: WINDOW as u16, ..Header::default() };
        let payload = Chunk::from_vec(vec![9; len as usize]);
        // Whether it was of use is not the question here.
        let _ = self.endpoint.on_segment(&header, payload, self.now);
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while self.endpoint.deadline() <= until {
            self.now = self.now.max(self.endpoint.deadline());
            self.endpoint.on_timer(self.now);
            self.transmit();
        }
        self.now = until;
    }

    fn transmit(&mut self) {
        let mut frames = Vec::new();
        self.endpoint.transmit(&mut self.pool, self.now, 1000, &mut frames);
        for frame in frames {
            let packet = &frame.data()[L2_LEN..];
            let (header, len) = Header::read(&packet[ip::MIN_LEN..]).expect("a sound segment");
            let flags = header.flags;
            let numbers = (packet.len() - ip::MIN_LEN - len) as u32
                + u32::from(flags.has(Flags::SYN))
                + u32::from(flags.has(Flags::FIN));
            if !flags.has(Flags::RST) {
                self.nxt = self.nxt.max(header.seq + numbers);
            }
            self.sent.push(header);
        }
    }
}
