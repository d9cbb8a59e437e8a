//! Packets as text: what case files say, built into frames, and frames told in the same words.
//!
//! ```text
//!   tcp 10.77.1.2:4000 > 203.0.113.80:80 SA seq=1 ack=2 len=10 mss=1460 ws=7 sackok tsval=5 tsecr=0
//!   udp 10.77.1.2:4000 > 203.0.113.53:53 len=30
//!   icmp 10.77.1.2 > 203.0.113.80 echo id=7 seq=1           (or: reply, unreachable/1, time-exceeded/0, type/13)
//!   icmp 192.0.2.1 > 198.18.0.1 unreachable/1 about tcp 198.18.0.1:4000 > 203.0.113.80:80
//!   arp who-has 10.77.1.1 tell 10.77.1.2                    arp 10.77.1.1 is-at 02:00:00:00:00:01
//! ```
//!
//! Any packet may carry `ttl=`, `tos=`, `df`, and what makes it wrong: `badip`, `badsum`, `badopt`, `nosum`, `options`, `frag`,
//! `version=6`, `proto=47`, `cut=N` (bytes left of the frame), `pad=N` (bytes behind it), `to=MAC`, `from=MAC`.

use core::net::{Ipv4Addr, SocketAddrV4};

use pnat_shared::frame::L2_LEN;
use pnat_shared::wire::ethernet::{self, Mac};
use pnat_shared::wire::tcp::{Flags, Seq};
use pnat_shared::wire::{arp, icmp, ip, tcp, udp};

/// The link address of the host at `addr`.
pub(crate) fn mac_of(addr: Ipv4Addr) -> Mac {
    let [a, b, c, d] = addr.octets();
    Mac([2, 0xaa, a, b, c, d])
}

pub(crate) fn parse_mac(text: &str) -> Mac {
    let bytes: Vec<u8> = text.split(':').map(|part| u8::from_str_radix(part, 16).unwrap()).collect();
    Mac(bytes.try_into().unwrap())
}

/// The words of one packet: its addresses, then keys.
struct Words<'a> {
    words: Vec<&'a str>,
}

impl<'a> Words<'a> {
    fn key(&self, name: &str) -> Option<&'a str> {
        self.words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }

    fn number<N: core::str::FromStr>(&self, name: &str) -> Option<N>
    where
        N::Err: core::fmt::Debug,
    {
        self.key(name).map(|value| value.parse().unwrap())
    }

    fn has(&self, flag: &str) -> bool {
        self.words.contains(&flag)
    }
}

/// A frame from `from` to `to`, as `text` describes it.
pub(crate) fn build(text: &str, from: Mac, to: Mac) -> Vec<u8> {
    let words = Words { words: text.split_whitespace().collect() };
    let mut frame = vec![0; L2_LEN];
    let src = words.key("from").map_or(from, parse_mac);
    let dst = words.key("to").map_or(to, parse_mac);
    let is_arp = words.words[0] == "arp";
    let ether_type = if is_arp { ethernet::TYPE_ARP } else { ethernet::TYPE_IPV4 };
    let ether_type = words.number("type").unwrap_or(ether_type);
    ethernet::Header { dst, src, ether_type }.write(&mut frame);
    if is_arp {
        frame.extend(build_arp(&words, src))
    } else {
        frame.extend(build_ip(text))
    }
    frame.resize(frame.len() + words.number("pad").unwrap_or(0), 0xee);
    frame.truncate(words.number("cut").unwrap_or(frame.len()));
    frame
}

fn build_arp(words: &Words<'_>, src: Mac) -> Vec<u8> {
    let addr = |at: usize| words.words[at].parse().unwrap();
    let message = match words.words[1] {
        "who-has" => arp::Message {
            operation: arp::Operation::Request,
            sender_mac: src,
            sender: addr(4),
            target_mac: Mac::default(),
            target: addr(2),
        },
        _ => arp::Message {
            operation: arp::Operation::Reply,
            sender_mac: parse_mac(words.words[3]),
            sender: addr(1),
            target_mac: Mac::default(),
            target: words.number("target").unwrap_or(Ipv4Addr::UNSPECIFIED),
        },
    };
    let mut bytes = vec![0; arp::LEN];
    message.write(&mut bytes);
    bytes
}

/// An IP packet.
pub(crate) fn build_ip(text: &str) -> Vec<u8> {
    let (own, about) = match text.split_once(" about ") {
        Some((own, about)) => (own, Some(about)),
        None => (text, None),
    };
    let words = Words { words: own.split_whitespace().collect() };
    let protocol = words.words[0];
    let end = |at: usize| -> SocketAddrV4 {
        let word = words.words[at];
        word.parse().unwrap_or_else(|_| SocketAddrV4::new(word.parse().expect(word), 0))
    };
    let (src, dst) = (end(1), end(3));
    let payload: Vec<u8> = (0..words.number("len").unwrap_or(0usize)).map(|n| n as u8).collect();
    let (number, mut body) = match protocol {
        "tcp" => (6, build_tcp(&words, src, dst, &payload)),
        "udp" => (17, build_udp(&words, src, dst, &payload)),
        "icmp" => (1, build_icmp(&words, about, &payload)),
        _ => panic!("no such protocol: {text}"),
    };
    if words.has("badsum") {
        let last = body.len() - 1;
        body[last] ^= 0x55;
    }
    let header = ip::Header {
        header_len: ip::MIN_LEN,
        total_len: ip::MIN_LEN + body.len(),
        tos: words.number("tos").unwrap_or(0),
        id: 1,
        fragment: if words.has("frag") { 0x2000 } else { 0 } | if words.has("df") { 0x4000 } else { 0 },
        ttl: words.number("ttl").unwrap_or(64),
        protocol: words.number("proto").unwrap_or(number),
        src: *src.ip(),
        dst: *dst.ip(),
    };
    let mut packet = vec![0; ip::MIN_LEN];
    header.write(&mut packet);
    if words.has("options") {
        // Four bytes of "no operation".
        packet.extend([1; 4]);
        packet[0] = 0x46;
        packet[3] += 4;
        packet[10..12].fill(0);
        let checksum = pnat_shared::wire::checksum::Sum::ZERO.bytes(&packet).finish();
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    }
    if let Some(version) = words.number::<u8>("version") {
        packet[0] = version << 4 | 5;
    }
    if words.has("badip") {
        packet[10] ^= 0x55;
    }
    packet.extend(body);
    packet
}

fn build_tcp(words: &Words<'_>, src: SocketAddrV4, dst: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    let flags = words.words[4].chars().fold(Flags::default(), |flags, letter| {
        flags.with(match letter {
            'F' => Flags::FIN,
            'S' => Flags::SYN,
            'R' => Flags::RST,
            'P' => Flags::PSH,
            'A' => Flags::ACK,
            'E' => Flags::ECE,
            'C' => Flags::CWR,
            '-' => Flags::default(),
            _ => panic!("no such flag: {letter}"),
        })
    });
    let stamps = words.number("tsval").map(|value| (value, words.number("tsecr").unwrap_or(0)));
    let header = tcp::Header {
        src_port: src.port(),
        dst_port: dst.port(),
        seq: Seq(words.number("seq").unwrap_or(1)),
        ack: Seq(words.number("ack").unwrap_or(0)),
        flags,
        window: 1000,
        urgent: 0,
        options: tcp::Options {
            mss: words.number("mss").or_else(|| words.has("badopt").then_some(1460)),
            window_scale: words.number("ws"),
            sack_permitted: words.has("sackok"),
            timestamps: stamps,
            ..tcp::Options::default()
        },
    };
    let mut body = vec![0; header.len()];
    body.extend(payload);
    header.write(&mut body, *src.ip(), *dst.ip());
    if words.has("badopt") {
        // An MSS of one byte; the checksum stays right.
        (body[tcp::MIN_LEN + 1], body[tcp::MIN_LEN + 3]) = (3, body[tcp::MIN_LEN + 3] + 1);
    }
    if let Some(offset) = words.number::<u8>("offset") {
        body[12] = offset << 4;
    }
    body
}

fn build_udp(words: &Words<'_>, src: SocketAddrV4, dst: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    let mut body = vec![0; udp::LEN];
    body.extend(payload);
    udp::write(&mut body, (*src.ip(), src.port()), (*dst.ip(), dst.port()));
    if words.has("nosum") {
        body[6..8].fill(0);
    }
    if let Some(len) = words.number::<u16>("udplen") {
        body[4..6].copy_from_slice(&len.to_be_bytes());
    }
    body
}

fn build_icmp(words: &Words<'_>, about: Option<&str>, payload: &[u8]) -> Vec<u8> {
    let (kind, code) = match words.words[4].split_once('/') {
        None => (if words.words[4] == "echo" { icmp::ECHO } else { icmp::ECHO_REPLY }, 0),
        Some((name, code)) => {
            let kind = match name {
                "unreachable" => icmp::UNREACHABLE,
                "time-exceeded" => icmp::TIME_EXCEEDED,
                other => other.strip_prefix("type").unwrap().parse().unwrap(),
            };
            (kind, code.parse().unwrap())
        }
    };
    let [a, b] = words.number("id").unwrap_or(0u16).to_be_bytes();
    let low = words.number("mtu").or_else(|| words.number("seq")).unwrap_or(0u16);
    let [c, d] = low.to_be_bytes();
    let mut body = vec![0; icmp::LEN];
    match about {
        Some(about) => {
            let quoted = build_ip(about);
            let keep = words.number("quote").unwrap_or(quoted.len()).min(quoted.len());
            body.extend(&quoted[..keep]);
        }
        None => body.extend(payload),
    }
    icmp::Header { kind, code, rest: [a, b, c, d] }.write(&mut body);
    body
}

/// Tells a frame in words: `badsum` among them where a transport's checksum is wrong, of a quoted packet too. Panics where
/// the IP header is wrong.
pub(crate) fn tell(frame: &[u8]) -> String {
    let link = ethernet::Header::read(frame).expect("a whole link header");
    if link.ether_type == ethernet::TYPE_ARP {
        let message = arp::Message::read(&frame[L2_LEN..]).expect("a whole ARP message");
        return match message.operation {
            arp::Operation::Request => {
                format!("arp who-has {} tell {} to={}", message.target, message.sender, link.dst)
            }
            arp::Operation::Reply => {
                format!("arp {} is-at {} to={}", message.sender, message.sender_mac, link.dst)
            }
        };
    }
    let mut told = tell_ip(&frame[L2_LEN..], true);
    let [a, b, c, d, e, f] = link.dst.0;
    if (a, b) == (2, 0xaa) {
        told += &format!(" via={}", Ipv4Addr::new(c, d, e, f));
    }
    told
}

/// Tells a packet; `whole` ones are checked to the last byte.
pub(crate) fn tell_ip(packet: &[u8], whole: bool) -> String {
    let header = ip::Header::read_quoted(packet).expect("an IP header");
    if whole {
        assert_eq!(Ok(header), ip::Header::read(packet), "IP checksum or length");
        assert_eq!(packet.len(), header.total_len);
    }
    let body = &packet[header.header_len..];
    let (src, dst) = (header.src, header.dst);
    let port = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
    let told = match header.protocol {
        6 => {
            let mut told = format!("tcp {src}:{} > {dst}:{}", port(0), port(2));
            if whole {
                let bad = if tcp::is_intact(body, src, dst) { "" } else { " badsum" };
                let (header, len) = tcp::Header::read(body).unwrap();
                told += &format!(" {} seq={:?} ack={:?}", letters(header.flags), header.seq, header.ack);
                told += &format!(" win={} len={}{bad}", header.window, body.len() - len);
                told += &tell_options(&header.options, "");
            }
            told
        }
        17 => {
            let told = format!("udp {src}:{} > {dst}:{}", port(0), port(2));
            let is_intact = || udp::Header::read(body).unwrap().is_intact(body, src, dst);
            let sum = match port(6) {
                0 => " nosum",
                _ if whole && !is_intact() => " badsum",
                _ => "",
            };
            format!("{told} len={}{sum}", port(4) - 8)
        }
        1 => tell_icmp(body, src, dst, whole),
        other => panic!("protocol {other} left the gateway"),
    };
    if whole { told + &format!(" ttl={} tos={}", header.ttl, header.tos) } else { told }
}

/// The options of a segment, each word behind a prefix.
pub(crate) fn tell_options(options: &tcp::Options, prefix: &str) -> String {
    let stamps = options.timestamps;
    let words = [
        options.mss.map(|mss| format!("mss={mss}")),
        options.window_scale.map(|shift| format!("ws={shift}")),
        options.sack_permitted.then(|| "sackok".to_owned()),
        stamps.map(|(value, _)| format!("tsval={value}")),
        stamps.map(|(_, echo)| format!("tsecr={echo}")),
    ];
    words.into_iter().flatten().map(|word| format!(" {prefix}{word}")).collect()
}

fn tell_icmp(body: &[u8], src: Ipv4Addr, dst: Ipv4Addr, whole: bool) -> String {
    let bad = if whole && icmp::Header::read(body).is_err() { " badsum" } else { "" };
    let word = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
    let told = format!("icmp {src} > {dst}");
    match body[0] {
        icmp::ECHO => format!("{told} echo id={} seq={}{bad}", word(4), word(6)),
        icmp::ECHO_REPLY => format!("{told} reply id={} seq={}{bad}", word(4), word(6)),
        kind => {
            let name = match kind {
                icmp::UNREACHABLE => "unreachable",
                icmp::TIME_EXCEEDED => "time-exceeded",
                _ => "type",
            };
            let quoted = &body[icmp::LEN..];
            // A packet that was quoted in full must have come through with right checksums.
            let len = ip::Header::read_quoted(quoted).unwrap().total_len;
            let about = tell_ip(&quoted[..len.min(quoted.len())], len == quoted.len());
            format!("{told} {name}/{} mtu={}{bad} about {about}", body[1], word(6))
        }
    }
}

fn letters(flags: Flags) -> String {
    format!("{flags:?}")
}
