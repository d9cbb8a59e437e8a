//! The language of the transcripts, one step a line, in virtual time.
//!
//! ```text
//! connect iss 100 mss 1460 ws 7 sackok ts 1000     an endpoint opens actively with this offer
//! answer iss 300 mss 1460                          answers the SYN that a `>>` line before has opened the endpoint with
//! accepted iss 300 mss 1460 ws 7 sackok ts 1000 win 65535 from iss 100 mss 1400 ws 3 sackok ts 77
//!                                                  takes over what a SYN-ACK with this offer (and window) has accepted
//! >> S. 300 ack 101 win 65535 mss 1460             a segment comes; 300+10 is one with ten bytes
//! << . 101 ack 301                                 exactly this segment must have been sent by now, next in order
//! << @1.5 PF. 101+10 ack 301                       the same, sent at 1.5 s
//! @2.5                                             time goes on to 2.5 s; timers fire on the way
//! drop paws                                        the last `>>` was not used, for this reason
//! congestion bbr | quick N                         settings, before the endpoint opens
//! window N | keepalive N | patience N              settings, times in seconds, before the endpoint opens
//! send N | shutdown | abort | urgent | read | downstream N | limit USEFUL MOST | mtu SEQ SIZE | pool N
//! state S | error E | got N | marked N | queued N | over
//! path MTU CAUSE PACKETS @1.5 | path whole         what is known of the path, since when
//! ```
//!
//! Flags are `S F R P U .`(ACK) `E`(ECE) `C`(CWR). Fields of a `<<` line that are not written are not compared, except
//! sequence number, length and acknowledgment, and the ECN codepoint (`ect`, `ce`, or neither). What was sent must have been
//! expected before the next `>>`, `@` or call. `#` begins a comment.
//! Each byte is a function of its sequence number, so every payload is checked.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddrV4};

use pnat_proxy::chunk::Chunk;
use pnat_proxy::tcp::{Endpoint, Offer, Settings};
use pnat_shared::config::CongestionControl;
use pnat_shared::flow::Accepted;
use pnat_shared::frame::{Frame, L2_LEN};
use pnat_shared::testkit::{VecFrame, VecPool};
use pnat_shared::time::{Duration, Instant};
use pnat_shared::verdict::DropReason;
use pnat_shared::wire::ip;
use pnat_shared::wire::tcp::{self, Flags, Header, Options, Seq};

/// Codepoints of the ECN field: may be marked, is marked.
const ECT_0: u8 = 2;
const CE: u8 = 3;

const LOCAL: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 80);
const PEER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 2), 4000);

/// The byte that stands at a sequence number.
fn byte_at(seq: Seq) -> u8 {
    (seq.0.wrapping_mul(0x9e37_79b1) >> 24) as u8
}

fn text(seq: Seq, len: usize) -> Vec<u8> {
    (0..len as u32).map(|n| byte_at(seq + n)).collect()
}

/// What a `>>` or `<<` line says.
#[derive(Debug)]
struct Segment {
    at: Option<Instant>,
    header: Header,
    len: usize,
    /// Codepoint in the IP header.
    ecn: u8,
    /// Names of the optional fields that the line has.
    named: Vec<String>,
}

struct Sent {
    at: Instant,
    header: Header,
    ecn: u8,
    payload: Vec<u8>,
}

/// A transcript being played.
struct Bench {
    settings: Settings,
    now: Instant,
    endpoint: Option<Endpoint<VecFrame>>,
    pool: VecPool,
    sent: VecDeque<Sent>,
    last: Result<(), DropReason>,
    /// Next sequence number to be sent and to be read.
    send_at: Seq,
    read_at: Seq,
    got: usize,
    /// How much had been read when the last urgent mark was met.
    marked: usize,
}

/// Plays a transcript; panics at the line that does not hold.
pub(crate) fn play(script: &str) {
    let mut bench = Bench {
        settings: Settings {
            window: 65_535,
            open_timeout: Duration::from_secs(20),
            user_timeout: Duration::from_secs(60),
            time_wait: Duration::from_secs(10),
            patience: Duration::from_secs(3600),
            quick_acks: 0,
            ..Settings::default()
        },
        now: START,
        endpoint: None,
        pool: VecPool::endless(),
        sent: VecDeque::new(),
        last: Ok(()),
        send_at: Seq(0),
        read_at: Seq(0),
        got: 0,
        marked: 0,
    };
    for (number, line) in script.lines().enumerate() {
        let line = line.split('#').next().unwrap_or("").trim();
        if !line.is_empty()
            && let Err(problem) = bench.step(line)
        {
            panic!("line {}: `{line}`: {problem}\n{:#?}", number + 1, bench.endpoint);
        }
    }
    if let Some(sent) = bench.sent.front() {
        panic!("at the end: unexpected {}", show(sent));
    }
}

fn show(sent: &Sent) -> String {
    let after = sent.at.since(START).as_secs_f64();
    let Sent { header, payload, ecn, .. } = sent;
    format!("@{after} {header:?} +{} bytes, ECN {ecn}", payload.len())
}

fn number(words: &mut VecDeque<&str>) -> Result<u32, String> {
    let word = words.pop_front().ok_or("a number is missing")?;
    word.parse().map_err(|_| format!("`{word}` is no number"))
}

/// When scripts begin.
const START: Instant = Instant::from_secs(100);

fn time(word: &str) -> Result<Instant, String> {
    let secs: f64 = word.parse().map_err(|_| format!("`{word}` is no time"))?;
    Ok(START + Duration::from_micros((secs * 1e6).round() as u64))
}

fn pair(word: Option<&str>, by: char) -> Result<(u32, u32), String> {
    let (a, b) = word.and_then(|word| word.split_once(by)).ok_or("a pair of numbers is missing")?;
    Ok((a.parse().map_err(|_| "no number")?, b.parse().map_err(|_| "no number")?))
}

impl Segment {
    fn read(line: &str) -> Result<Self, String> {
        let mut words: VecDeque<&str> = line.split_whitespace().collect();
        let mut at = None;
        if let Some(word) = words.front().and_then(|word| word.strip_prefix('@')) {
            at = Some(time(word)?);
            words.pop_front();
        }
        let mut header = Header { window: 65_535, ..Header::default() };
        for letter in words.pop_front().ok_or("flags are missing")?.chars() {
            let flag = match letter {
                'S' => Flags::SYN,
                'F' => Flags::FIN,
                'R' => Flags::RST,
                'P' => Flags::PSH,
                'U' => Flags::URG,
                '.' => Flags::ACK,
                'E' => Flags::ECE,
                'C' => Flags::CWR,
                '-' => Flags(0),
                _ => return Err(format!("no flag `{letter}`")),
            };
            header.flags = header.flags.with(flag);
        }
        let place = words.pop_front().ok_or("the sequence number is missing")?;
        let (seq, len) = match place.split_once('+') {
            Some(_) => pair(Some(place), '+')?,
            None => (place.parse().map_err(|_| "no sequence number")?, 0),
        };
        header.seq = Seq(seq);
        let (mut named, mut ecn) = (Vec::new(), 0);
        while let Some(word) = words.pop_front() {
            named.push(word.to_owned());
            let options = &mut header.options;
            match word {
                "ack" => header.ack = Seq(number(&mut words)?),
                "win" => header.window = number(&mut words)? as u16,
                "up" => header.urgent = number(&mut words)? as u16,
                "mss" => options.mss = Some(number(&mut words)? as u16),
                "ws" => options.window_scale = Some(number(&mut words)? as u8),
                "sackok" => options.sack_permitted = true,
                "ts" => options.timestamps = Some(pair(words.pop_front(), '/')?),
                "sack" => {
                    for block in words.pop_front().ok_or("blocks are missing")?.split(',') {
                        let (left, right) = pair(Some(block), '-')?;
                        options.sack.push(Seq(left), Seq(right));
                    }
                }
                "ect" => ecn = ECT_0,
                "ce" => ecn = CE,
                // The line lists all options: others than named must not be there.
                "only" => {}
                _ => return Err(format!("no field `{word}`")),
            }
        }
        Ok(Self { at, header, len: len as usize, ecn, named })
    }
}

/// An offer, and `iss` before it.
fn offer(words: &mut VecDeque<&str>) -> Result<(Seq, Offer), String> {
    let mut iss = 0;
    let mut offer = Offer { mss: 1460, window_scale: None, sack: false, timestamp: None, ecn: false };
    while let Some(word) = words.pop_front() {
        match word {
            "iss" => iss = number(words)?,
            "mss" => offer.mss = number(words)? as u16,
            "ws" => offer.window_scale = Some(number(words)? as u8),
            "sackok" => offer.sack = true,
            "ts" => offer.timestamp = Some(number(words)?),
            "ecn" => offer.ecn = true,
            _ => return Err(format!("no field `{word}`")),
        }
    }
    Ok((Seq(iss), offer))
}

/// An offer as a SYN carries it.
fn syn_options(offer: &Offer) -> Options {
    Options {
        mss: Some(offer.mss),
        window_scale: offer.window_scale,
        sack_permitted: offer.sack,
        timestamps: offer.timestamp.map(|value| (value, 0)),
        ..Options::default()
    }
}

impl Bench {
    fn step(&mut self, line: &str) -> Result<(), String> {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let mut words: VecDeque<&str> = rest.split_whitespace().collect();
        match verb {
            "<<" => return self.expect(rest),
            "drop" => return same(&self.last.map_err(|reason| reason.key()), &Err(rest)),
            "state" => return same(&format!("{:?}", self.endpoint()?.state()).as_str(), &rest),
            "error" => return same(&format!("{:?}", self.endpoint()?.error()), &format!("Some({rest})")),
            "over" => return same(&self.endpoint()?.is_over(), &true),
            "marked" => return same(&self.marked, &(number(&mut words)? as usize)),
            "got" => return same(&self.got, &(number(&mut words)? as usize)),
            "queued" => {
                let queued = number(&mut words)? as usize;
                return same(&self.endpoint()?.queued(), &queued);
            }
            "path" => return same(&self.path()?.as_str(), &rest),
            "finished" => return same(&self.endpoint()?.is_receive_finished(), &true),
            _ => {}
        }
        if let Some(sent) = self.sent.front() {
            return Err(format!("before it, unexpected {}", show(sent)));
        }
        match verb {
            ">>" => self.arrive(rest)?,
            "connect" => {
                let (iss, offer) = offer(&mut words)?;
                self.send_at = iss + 1;
                self.endpoint = Some(Endpoint::connect(self.settings, LOCAL, PEER, iss, offer, self.now));
            }
            "answer" => {
                let (iss, offer) = offer(&mut words)?;
                self.send_at = iss + 1;
                let now = self.now;
                self.endpoint()?.answer(iss, offer, now);
            }
            "accepted" => {
                let (ours, theirs) = rest.split_once(" from ").ok_or("what the peer said is missing")?;
                let mut window = 0xffff;
                let ours = match ours.split_once(" win ") {
                    Some((ours, told)) => {
                        window = told.parse().map_err(|_| "no window")?;
                        ours
                    }
                    None => ours,
                };
                let said = |words: &str| offer(&mut words.split_whitespace().collect());
                let ((iss, ours), (irs, theirs)) = (said(ours)?, said(theirs)?);
                let ecn = ours.ecn && theirs.ecn;
                let (ours, theirs) = (syn_options(&ours), syn_options(&theirs));
                (self.send_at, self.read_at) = (iss + 1, irs + 1);
                let handshake = Accepted { iss, irs, ours, theirs, window, ecn };
                self.endpoint = Some(Endpoint::accepted(self.settings, LOCAL, PEER, &handshake, self.now));
            }
            "congestion" => {
                self.settings.congestion = match rest {
                    "cubic" => CongestionControl::Cubic,
                    "newreno" => CongestionControl::NewReno,
                    "bbr" => CongestionControl::Bbr,
                    _ => return Err("no such algorithm".into()),
                }
            }
            "window" => self.settings.window = number(&mut words)?,
            "keepalive" => self.settings.keepalive = Duration::from_secs(number(&mut words)?.into()),
            "quick" => self.settings.quick_acks = number(&mut words)? as u8,
            "patience" => self.settings.patience = Duration::from_secs(number(&mut words)?.into()),
            "send" => {
                let len = number(&mut words)? as usize;
                let bytes = text(self.send_at, len);
                self.send_at += len as u32;
                self.endpoint()?.send(Chunk::from_vec(bytes));
            }
            "shutdown" => self.endpoint()?.shutdown(),
            "abort" => self.endpoint()?.abort(),
            "urgent" => self.endpoint()?.mark_urgent(),
            "read" => self.read()?,
            "downstream" => {
                let bytes = number(&mut words)? as usize;
                self.endpoint()?.set_downstream(bytes);
            }
            "limit" => {
                let (useful, most) = (number(&mut words)? as usize, number(&mut words)? as usize);
                self.endpoint()?.limit_downstream(useful, most);
            }
            "mtu" => {
                let (seq, mtu) = (number(&mut words)?, number(&mut words)?);
                let now = self.now;
                self.endpoint()?.on_mtu(Seq(seq), mtu as u16, now);
            }
            "pool" => self.pool.left = number(&mut words)? as usize,
            _ => match verb.strip_prefix('@') {
                Some(until) => return self.wait(time(until)?),
                None => return Err("no such step".into()),
            },
        }
        self.transmit();
        Ok(())
    }

    fn endpoint(&mut self) -> Result<&mut Endpoint<VecFrame>, String> {
        self.endpoint.as_mut().ok_or_else(|| "nothing is open".into())
    }

    fn arrive(&mut self, line: &str) -> Result<(), String> {
        let segment = Segment::read(line)?;
        let (header, now) = (segment.header, self.now);
        if self.endpoint.is_none() {
            self.endpoint = Some(Endpoint::accept(self.settings, LOCAL, PEER, &header, now));
            self.read_at = header.seq + 1;
            return Ok(());
        }
        if header.flags.has(Flags::SYN) && self.endpoint()?.peer().is_none() {
            self.read_at = header.seq + 1;
        }
        let bytes = text(header.seq, segment.len);
        let payload = Chunk::from_frame(VecFrame::new(&bytes), 0, bytes.len());
        self.last = self.endpoint()?.on_segment(&header, payload, now);
        if segment.ecn == CE && self.last.is_ok() {
            self.endpoint()?.on_mark();
        }
        Ok(())
    }

    fn read(&mut self) -> Result<(), String> {
        while let Some(chunk) = self.endpoint()?.receive() {
            same(&chunk.bytes(), &text(self.read_at, chunk.len()).as_slice())?;
            self.read_at += chunk.len() as u32;
            self.got += chunk.len();
            if self.endpoint()?.take_urgent() {
                self.marked = self.got;
            }
        }
        Ok(())
    }

    fn wait(&mut self, until: Instant) -> Result<(), String> {
        while self.endpoint()?.deadline() <= until {
            let due = self.endpoint()?.deadline();
            self.now = self.now.max(due);
            let now = self.now;
            self.endpoint()?.on_timer(now);
            if self.endpoint()?.deadline() <= due {
                return Err(format!("the timer of {due:?} was not worked off"));
            }
            self.transmit();
        }
        self.now = until;
        Ok(())
    }

    fn path(&mut self) -> Result<String, String> {
        let found = self.endpoint()?.path_mtu();
        Ok(found.map_or_else(
            || "whole".to_owned(),
            |found| {
                let since = found.since.since(START).as_millis() as f64 / 1000.0;
                format!("{} {} {} @{since}", found.mtu, found.cause.key(), found.packets)
            },
        ))
    }

    fn transmit(&mut self) {
        let Some(endpoint) = &mut self.endpoint else { return };
        let mut out = Vec::new();
        endpoint.transmit(&mut self.pool, self.now, usize::MAX, &mut out);
        for frame in out {
            let packet = ip::Header::read(&frame.data()[L2_LEN..]).expect("a sound IPv4 header");
            assert_eq!((packet.src, packet.dst, packet.ttl, packet.id), (*LOCAL.ip(), *PEER.ip(), 64, 0));
            assert!(packet.dont_fragment() && packet.total_len <= usize::from(self.settings.mtu));
            assert_eq!(frame.data().len(), L2_LEN + packet.total_len);
            let segment = &frame.data()[L2_LEN + packet.header_len..];
            assert!(tcp::is_intact(segment, packet.src, packet.dst), "a sound TCP checksum");
            let (header, len) = Header::read(segment).expect("a sound TCP header");
            let ecn = packet.tos;
            self.sent.push_back(Sent { at: self.now, header, ecn, payload: segment[len..].to_vec() });
        }
    }

    fn expect(&mut self, line: &str) -> Result<(), String> {
        if line == "-" {
            return self.sent.front().map_or(Ok(()), |sent| Err(format!("got {}", show(sent))));
        }
        let expected = Segment::read(line)?;
        let sent = self.sent.pop_front().ok_or("nothing was sent")?;
        let (want, has) = (&expected.header, &sent.header);
        let named = |name: &str| expected.named.iter().any(|field| field == name);
        let right = expected.at.is_none_or(|at| at == sent.at)
            && want.flags == has.flags
            && want.seq == has.seq
            && want.ack == has.ack
            && expected.ecn == sent.ecn
            && expected.len == sent.payload.len()
            && (!named("win") || want.window == has.window)
            && (!named("up") || want.urgent == has.urgent)
            && (!named("only") || want.options == has.options)
            && option_fits(&named, &want.options, &has.options);
        if !right {
            return Err(format!("got {}", show(&sent)));
        }
        same(&sent.payload, &text(has.seq, sent.payload.len()))
    }
}

fn option_fits(named: &impl Fn(&str) -> bool, want: &Options, has: &Options) -> bool {
    (!named("mss") || want.mss == has.mss)
        && (!named("ws") || want.window_scale == has.window_scale)
        && (!named("sackok") || has.sack_permitted)
        && (!named("ts") || want.timestamps == has.timestamps)
        && (!named("sack") || want.sack == has.sack)
}

fn same<T: PartialEq + std::fmt::Debug>(has: &T, want: &T) -> Result<(), String> {
    if has == want { Ok(()) } else { Err(format!("it is {has:?}")) }
}
