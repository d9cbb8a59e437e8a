//! Transcripts of one flow.
//!
//! ```text
//! >> client SYN seq=100 mss=1460      a packet from the client; lines in a row arrive as one burst
//! << server SYN seq=100 mss=1460      what comes out for the server; words that are not written may be anything
//! @ 200ms                             time passes
//! << closed refused                   the worker is told
//! >> server ICMP 3/1 mtu=0            an ICMP error about the last packet that was sent to the server
//! ```
//!
//! What comes out for one side is expected in order; everything that comes out must be expected before the next `>>` or
//! `@`.

use std::collections::VecDeque;

use pnat_shared::flow::{Protocol, Side};
use pnat_shared::frame::{Frame, L2_LEN};
use pnat_shared::loopback::FromProxy;
use pnat_shared::testkit::VecFrame;
use pnat_shared::time::Duration;
use pnat_shared::verdict::CloseReason;
use pnat_shared::wire::{ip, tcp};

use super::{Rig, handle, packet};

/// Plays a transcript against a rig. The first `>> client` line opens the flow unless it is open already.
pub struct Script {
    pub rig: Rig,
    open: bool,
    pending: bool,
    /// What came out and was not yet expected.
    told: VecDeque<String>,
    /// The last frame sent to the client and to the server.
    last: [Option<VecFrame>; 2],
    /// Up to where the server has seen the first stream; kept by [`Script::client_sends`].
    server_seen: u32,
}

impl Script {
    pub fn new(rig: Rig) -> Self {
        Self { rig, open: false, pending: false, told: VecDeque::new(), last: [None, None], server_seen: 0 }
    }

    /// Plays the lines; panics with the line's number where something else happens.
    pub fn play(&mut self, text: &str) -> &mut Self {
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                [] => {}
                [">>", rest @ ..] => {
                    self.nothing_left(number, line);
                    self.arrive(rest);
                }
                ["--"] => self.flush(),
                ["<<", rest @ ..] => {
                    self.flush();
                    self.expect(number, rest);
                }
                ["@", time] => {
                    self.flush();
                    self.nothing_left(number, line);
                    self.rig.pass(parse_time(time));
                    self.collect();
                }
                _ => panic!("line {number}: {line}"),
            }
        }
        self.flush();
        self.nothing_left(usize::MAX, "the end");
        self
    }

    /// The client says something that no line can hold; answers what comes out.
    pub fn client_says(&mut self, seq: u32, bytes: &[u8]) -> Vec<String> {
        let (header, _) = packet::parse_segment(&["ACK", &format!("seq={seq}"), "ack=901"]);
        self.rig.packet(packet::segment(Side::First, handle(0), header, bytes));
        self.pending = true;
        self.flush();
        self.told.drain(..).collect()
    }

    /// The server says something that no line can hold; answers what comes out.
    pub fn server_says(&mut self, seq: u32, ack: u32, bytes: &[u8]) -> Vec<String> {
        let (header, _) = packet::parse_segment(&["ACK", &format!("seq={seq}"), &format!("ack={ack}")]);
        self.rig.packet(packet::segment(Side::Second, handle(0), header, bytes));
        self.pending = true;
        self.flush();
        self.told.drain(..).collect()
    }

    /// A packet in the burst that is under way, in the words of a `>>` line.
    pub fn queue(&mut self, line: &str) {
        self.arrive(&line.split_whitespace().collect::<Vec<_>>());
    }

    /// The client sends `len` bytes in the burst that is under way.
    pub fn client_queues(&mut self, seq: u32, len: usize) {
        self.queue(&format!("client ACK seq={seq} ack=901 fill={len}"));
    }

    /// Ends the burst; answers all that comes out.
    pub fn take(&mut self) -> Vec<String> {
        self.flush();
        self.told.drain(..).collect()
    }

    /// Payload of the last segment that was sent to a side.
    pub fn last_payload(&self, side: Side) -> &[u8] {
        self.last_segment(side).1
    }

    /// The last segment that was sent to a side.
    pub fn last_segment(&self, side: Side) -> (tcp::Header, &[u8]) {
        let frame = self.last[side as usize].as_ref().expect("something was sent there");
        let segment = &frame.data()[L2_LEN + ip::MIN_LEN..];
        let (header, len) = tcp::Header::read(segment).unwrap();
        (header, &segment[len..])
    }

    /// The client sends `len` bytes; answers the window that it was last told, unscaled, less what it has sent since.
    pub fn client_sends(&mut self, seq: u32, len: usize) -> u32 {
        self.client_queues(seq, len);
        self.flush();
        self.rig.pass(Duration::from_millis(60));
        self.collect();
        let end = seq + u32::try_from(len).unwrap();
        for told in self.told.iter().filter(|told| told.starts_with("server")) {
            self.server_seen = self.server_seen.max(field(told, "seq") + field(told, "len"));
        }
        let told = self.told.drain(..).filter(|told| told.starts_with("client ACK"));
        let right_edge = told.map(|told| field(&told, "ack") + field(&told, "win")).next_back();
        right_edge.map_or(0, |edge| edge.saturating_sub(end))
    }

    /// The server acknowledges whatever it is sent, until it has all up to `end`; answers the windows that the client is
    /// told meanwhile.
    pub fn server_takes_all(&mut self, end: u32) -> Vec<u32> {
        let mut windows = Vec::new();
        while self.server_seen < end {
            self.queue(&format!("server ACK seq=901 ack={}", self.server_seen));
            self.flush();
            for told in self.told.drain(..) {
                if told.starts_with("client") {
                    windows.push(field(&told, "win"));
                } else {
                    self.server_seen = self.server_seen.max(field(&told, "seq") + field(&told, "len"));
                }
            }
        }
        windows
    }

    /// Lets time pass and answers all that comes out.
    pub fn pass_quietly(&mut self, seconds: u64) -> Vec<String> {
        self.flush();
        self.rig.pass(Duration::from_secs(seconds));
        self.collect();
        self.told.drain(..).collect()
    }

    fn arrive(&mut self, words: &[&str]) {
        let flow = handle(0);
        let (from, rest) = words.split_first().expect("who sends");
        let side = match *from {
            "client" => Side::First,
            "server" => Side::Second,
            "worker" => {
                self.rig.gone(flow, CloseReason::Operator);
                self.pending = true;
                return;
            }
            _ => panic!("who is {from}?"),
        };
        let (protocol, frame) = match rest {
            ["UDP", payload @ ..] => {
                let (_, payload) = packet::parse_segment(payload);
                (Protocol::Udp, packet::datagram(side, flow, &payload))
            }
            ["ICMP", code, rest @ ..] => {
                let (kind, code) = code.split_once('/').unwrap();
                let mtu = rest.first().map_or(0, |mtu| mtu.trim_start_matches("mtu=").parse().unwrap());
                let about = self.last[side as usize].as_ref().expect("something was sent there");
                let (kind, code) = (kind.parse().unwrap(), code.parse().unwrap());
                (Protocol::Icmp, packet::complaint(about, kind, code, mtu))
            }
            words => {
                let (header, payload) = packet::parse_segment(words);
                (Protocol::Tcp, packet::segment(side, flow, header, &payload))
            }
        };
        let mut frame = frame;
        if rest.contains(&"CE") {
            packet::mark(&mut frame);
        }
        if std::mem::replace(&mut self.open, true) {
            self.rig.packet(frame);
        } else {
            self.rig.open(flow, protocol, frame);
        }
        self.pending = true;
    }

    fn flush(&mut self) {
        if std::mem::take(&mut self.pending) {
            self.rig.burst();
            self.collect();
        }
    }

    fn collect(&mut self) {
        for message in self.rig.take() {
            let words = packet::describe(&message);
            if let FromProxy::Packet { frame, .. } = message {
                let side = usize::from(words.starts_with("server"));
                self.last[side] = Some(frame);
            }
            self.told.push_back(words);
        }
    }

    fn expect(&mut self, number: usize, words: &[&str]) {
        let (to, rest) = words.split_first().expect("who is told");
        let place = self.told.iter().position(|told| told.starts_with(to));
        let Some(told) = place.and_then(|place| self.told.remove(place)) else {
            panic!("line {number}: nothing for {to}, only {:?}", self.told);
        };
        let said: Vec<&str> = told.split_whitespace().collect();
        for word in rest {
            let (wanted, absent) = word.strip_prefix('!').map_or((*word, false), |word| (word, true));
            let there = said.iter().any(|word| *word == wanted || word.split('=').next() == Some(wanted));
            assert!(there != absent, "line {number}: {words:?} expected, but was told {told:?}");
        }
        if !rest.iter().any(|word| {
            word.trim_start_matches('!') == "len" || word.starts_with("len=") || word.starts_with("data=")
        }) {
            let empty = said.contains(&"len=0") || !told.contains("len=");
            assert!(empty, "line {number}: {words:?} expected, but it carries bytes: {told:?}");
        }
    }

    fn nothing_left(&self, number: usize, line: &str) {
        if !self.pending {
            assert!(self.told.is_empty(), "before line {number} ({line}): unexpected {:?}", self.told);
        }
    }
}

/// A number out of a described segment.
fn field(told: &str, name: &str) -> u32 {
    let value = told.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name} in {told}"))
}

fn parse_time(text: &str) -> Duration {
    let digits = text.trim_end_matches(char::is_alphabetic);
    let number = digits.parse().unwrap_or_else(|_| panic!("a time: {text}"));
    match &text[digits.len()..] {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        unit => panic!("a unit of time: {unit}"),
    }
}
