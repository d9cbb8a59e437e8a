//! Packets of the loopback, made from words and described in words.

use std::fmt::Write as _;

use pnat_shared::flow::{Handle, Side};
use pnat_shared::frame::L2_LEN;
use pnat_shared::loopback::{FromProxy, mask, side_of, socket, unmask};
use pnat_shared::testkit::VecFrame;
use pnat_shared::wire::tcp::{Flags, Seq};
use pnat_shared::wire::{icmp, ip, tcp, udp};

/// ECN codepoints: may be marked, is marked.
const ECT_0: u8 = 2;
const CE: u8 = 3;

/// Protocol number and what the IP header carries, from one end of a flow to the proxy.
fn wrap(side: Side, handle: Handle, protocol: u8, body: &[u8]) -> VecFrame {
    let total_len = ip::MIN_LEN + body.len();
    let mut bytes = vec![0; L2_LEN + ip::MIN_LEN];
    let header = ip::Header {
        header_len: ip::MIN_LEN,
        total_len,
        tos: 0,
        id: 9,
        fragment: ip::DONT_FRAGMENT,
        ttl: 61,
        protocol,
        src: *mask(handle).ip(),
        dst: *socket(side).ip(),
    };
    header.write(&mut bytes[L2_LEN..]);
    bytes.extend_from_slice(body);
    VecFrame::new(&bytes)
}

/// A datagram from one end of a flow.
pub fn datagram(side: Side, handle: Handle, payload: &[u8]) -> VecFrame {
    let (src, dst) = (mask(handle), socket(side));
    let mut body = vec![0; udp::LEN];
    body.extend_from_slice(payload);
    udp::write(&mut body, (*src.ip(), src.port()), (*dst.ip(), dst.port()));
    wrap(side, handle, 17, &body)
}

/// A segment from one end of a flow; ports are filled in.
pub fn segment(side: Side, handle: Handle, mut header: tcp::Header, payload: &[u8]) -> VecFrame {
    let (src, dst) = (mask(handle), socket(side));
    (header.src_port, header.dst_port) = (src.port(), dst.port());
    let mut body = vec![0; header.len()];
    body.extend_from_slice(payload);
    header.write(&mut body, *src.ip(), *dst.ip());
    wrap(side, handle, 6, &body)
}

/// A router marks a packet that passes it.
pub fn mark(frame: &mut VecFrame) {
    use pnat_shared::frame::Frame;
    let packet = &mut frame.data_mut()[L2_LEN..];
    let header = ip::Header::read(packet).unwrap();
    ip::Header { tos: CE, ..header }.write(packet);
}

/// An ICMP error from one end, about a frame that the proxy sent there.
pub fn complaint(about: &VecFrame, kind: u8, code: u8, mtu: u16) -> VecFrame {
    let quote = &about_packet(about)[..28];
    let inner = ip::Header::read_quoted(quote).unwrap();
    let side = side_of(inner.src).unwrap();
    let handle = unmask(inner.dst, u16::from_be_bytes([quote[22], quote[23]])).unwrap();
    let mut body = vec![0; icmp::LEN];
    body.extend_from_slice(quote);
    let [high, low] = mtu.to_be_bytes();
    icmp::Header { kind, code, rest: [0, 0, high, low] }.write(&mut body);
    wrap(side, handle, 1, &body)
}

fn about_packet(frame: &VecFrame) -> &[u8] {
    use pnat_shared::frame::Frame;
    &frame.data()[L2_LEN..]
}

/// A message of the proxy in words: where to, what, and the fields that are not empty.
pub fn describe(message: &FromProxy<VecFrame>) -> String {
    match message {
        FromProxy::Closed { reason, .. } => format!("closed {reason}"),
        FromProxy::Packet { frame, .. } => describe_packet(about_packet(frame)),
        FromProxy::Retarget { server, .. } => format!("server IS {server}"),
        FromProxy::Again { frame, .. } => {
            let segment = &about_packet(frame)[ip::MIN_LEN..];
            format!("again {}", describe_segment("", segment))
        }
    }
}

fn describe_packet(packet: &[u8]) -> String {
    let header = ip::Header::read(packet).expect("a valid IP packet");
    assert_eq!(header.total_len, packet.len(), "nothing stands behind the packet");
    let to = match side_of(header.src).expect("sent by a socket of the proxy") {
        Side::First => "client",
        Side::Second => "server",
    };
    let body = &packet[header.header_len..];
    match header.protocol {
        1 => format!("{to} {}", describe_complaint(body)),
        6 => {
            assert!(tcp::is_intact(body, header.src, header.dst), "TCP checksum");
            let markable = if header.tos == ECT_0 { "ect " } else { "" };
            format!("{to} {}", describe_segment(markable, body))
        }
        17 => {
            let datagram = udp::Header::read(body).expect("a valid datagram");
            assert!(datagram.is_intact(body, header.src, header.dst), "UDP checksum");
            assert!(unmask(header.dst, datagram.dst_port).is_some(), "addressed to a handle");
            format!("{to} UDP {}", payload(&body[udp::LEN..datagram.len]))
        }
        other => panic!("protocol {other}"),
    }
}

fn describe_segment(markable: &str, body: &[u8]) -> String {
    let (header, len) = tcp::Header::read(body).expect("a valid segment");
    let mut words = String::new();
    let names = [
        (Flags::SYN, "SYN"),
        (Flags::FIN, "FIN"),
        (Flags::RST, "RST"),
        (Flags::ACK, "ACK"),
        (Flags::ECE, "ECE"),
        (Flags::CWR, "CWR"),
    ];
    for (_, name) in names.iter().filter(|(flag, _)| header.flags.has(*flag)) {
        let _ = write!(words, "{name} ");
    }
    let _ = write!(words, "{markable}seq={} ", header.seq.0);
    if header.flags.has(Flags::ACK) {
        let _ = write!(words, "ack={} ", header.ack.0);
    }
    let _ = write!(words, "win={} ", header.window);
    if header.flags.has(Flags::URG) {
        let _ = write!(words, "up={} ", header.urgent);
    }
    let options = header.options;
    let mut option = |name: &str, value: Option<u32>| {
        if let Some(value) = value {
            let _ = write!(words, "{name}={value} ");
        }
    };
    option("mss", options.mss.map(u32::from));
    option("ws", options.window_scale.map(u32::from));
    option("tsecr", options.timestamps.map(|(_, echo)| echo));
    if options.sack_permitted {
        words.push_str("sack ");
    }
    words + &payload(&body[len..])
}

fn describe_complaint(body: &[u8]) -> String {
    let error = icmp::Header::read(body).expect("a valid ICMP message");
    let quote = &body[icmp::LEN..];
    let inner = ip::Header::read(&[quote, &[0; 2000]].concat()).expect("an intact quoted header");
    let side = side_of(inner.dst).expect("quotes what was sent to the proxy");
    assert!(
        unmask(inner.src, u16::from_be_bytes([quote[20], quote[21]])).is_some(),
        "quotes a masked source"
    );
    assert_eq!(socket(side).port(), u16::from_be_bytes([quote[22], quote[23]]));
    let mtu = error.next_hop_mtu();
    let seq = u32::from_be_bytes([quote[24], quote[25], quote[26], quote[27]]);
    match inner.protocol {
        6 => format!("ICMP {}/{} mtu={mtu} quoted=TCP seq={seq}", error.kind, error.code),
        _ => format!("ICMP {}/{} mtu={mtu} quoted=UDP", error.kind, error.code),
    }
}

/// `data=` with the text where there is little of it, `len=` always.
fn payload(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.is_empty() && text.len() <= 60 && !text.contains(char::is_whitespace) => {
            format!("len={} data={text}", bytes.len())
        }
        _ => format!("len={}", bytes.len()),
    }
}

/// A segment by words: `SYN ACK seq=900 ack=101 win=64000 mss=1460 ws=7 sack ts=5/1 up=3`, `data=text`, `fill=1000` or
/// `zeros=1000`, which no filter takes for the beginning of anything.
pub fn parse_segment(words: &[&str]) -> (tcp::Header, Vec<u8>) {
    let mut header = tcp::Header { window: 64_000, ..tcp::Header::default() };
    let mut payload = Vec::new();
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let number = || value.parse::<u32>().unwrap_or_else(|_| panic!("a number in {word}"));
        match key {
            "SYN" => header.flags = header.flags.with(Flags::SYN),
            "ACK" => header.flags = header.flags.with(Flags::ACK),
            "FIN" => header.flags = header.flags.with(Flags::FIN),
            "RST" => header.flags = header.flags.with(Flags::RST),
            "ECE" => header.flags = header.flags.with(Flags::ECE),
            "CWR" => header.flags = header.flags.with(Flags::CWR),
            // Of the IP header: see `mark`.
            "CE" => {}
            "up" => {
                header.flags = header.flags.with(Flags::URG);
                header.urgent = u16::try_from(number()).unwrap();
            }
            "seq" => header.seq = Seq(number()),
            "ack" => header.ack = Seq(number()),
            "win" => header.window = u16::try_from(number()).unwrap(),
            "mss" => header.options.mss = Some(u16::try_from(number()).unwrap()),
            "ws" => header.options.window_scale = Some(u8::try_from(number()).unwrap()),
            "sack" => header.options.sack_permitted = true,
            "ts" => {
                let (value, echo) = value.split_once('/').unwrap();
                header.options.timestamps = Some((value.parse().unwrap(), echo.parse().unwrap()));
            }
            "data" => payload.extend_from_slice(value.as_bytes()),
            "fill" => payload.resize(number() as usize, b'x'),
            "zeros" => payload.resize(number() as usize, 0),
            _ => panic!("unknown word {word}"),
        }
    }
    (header, payload)
}
