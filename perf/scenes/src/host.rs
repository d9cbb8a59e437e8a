//! One end of a TCP connection as its packets show it.
//!
//! It says what a host would say on a wire that loses nothing: a handshake with all options, full segments in order, an
//! ACK for every second segment. So what is measured is PNAT's TCP and not another one.

use std::net::SocketAddrV4;

use pnat_shared::frame::{Frame, L2_LEN};
use pnat_shared::wire::ethernet;
use pnat_shared::wire::ip;
use pnat_shared::wire::tcp::{Flags, Header, Options, Seq};

use crate::frames::PoolFrame;
use crate::packet::{self, SEGMENT};

/// Window that every segment offers, unscaled, and its scale: 8 MB.
const WINDOW: u16 = 0xffff;
const SCALE: u8 = 7;
/// The first sequence number.
const START: Seq = Seq(1_000_000);

/// A client or a server.
#[derive(Clone, Debug)]
pub struct Host {
    link: ethernet::Header,
    local: SocketAddrV4,
    remote: SocketAddrV4,
    /// What it sends next, and what it expects next.
    seq: Seq,
    expected: Seq,
    /// How far the peer's window reaches.
    edge: Seq,
    /// The peer's last TSval.
    stamp: u32,
    /// Data segments received.
    pub segments: u64,
}

impl Host {
    /// A host that sends by `link`.
    pub const fn new(link: ethernet::Header, local: SocketAddrV4, remote: SocketAddrV4) -> Self {
        Self { link, local, remote, seq: START, expected: Seq(0), edge: START, stamp: 0, segments: 0 }
    }

    /// A server that answers whoever sent `syn`.
    ///
    /// # Panics
    /// Where that is no TCP segment.
    pub fn meeting(link: ethernet::Header, syn: &PoolFrame) -> Self {
        let (packet, header) = read(syn).map(|(packet, header, _)| (packet, header)).expect("a segment");
        let src = SocketAddrV4::new(packet.src, header.src_port);
        Self::new(link, SocketAddrV4::new(packet.dst, header.dst_port), src)
    }

    /// Asks for a connection.
    pub fn syn(&mut self) -> PoolFrame {
        self.opening(Flags::SYN)
    }

    /// A full segment, the next of its stream.
    pub fn data(&mut self) -> PoolFrame {
        self.text(SEGMENT)
    }

    /// A segment of so many bytes, at most [`SEGMENT`].
    pub fn text(&mut self, len: usize) -> PoolFrame {
        let frame = self.segment(Flags::ACK.with(Flags::PSH), self.options(), len);
        self.seq += len as u32;
        frame
    }

    /// Ends the stream.
    pub fn fin(&mut self) -> PoolFrame {
        let frame = self.segment(Flags::ACK.with(Flags::FIN), self.options(), 0);
        self.seq += 1;
        frame
    }

    /// Whether the peer's window has room for a full segment.
    pub const fn may_send(&self) -> bool {
        self.edge.distance(self.seq) >= SEGMENT as i32
    }

    /// Acknowledges all that has come.
    pub fn ack(&self) -> PoolFrame {
        self.segment(Flags::ACK, self.options(), 0)
    }

    /// Takes a segment, and answers it where a host would at once.
    ///
    /// # Panics
    /// Where it is not the segment that comes next: then what is measured is not what it seems to be.
    pub fn on_frame(&mut self, frame: &PoolFrame) -> Option<PoolFrame> {
        let (_, header, len) = read(frame).expect("a TCP segment");
        assert!(!header.flags.has(Flags::RST), "{} was reset: {header:?}", self.local);
        if let Some((value, _)) = header.options.timestamps {
            self.stamp = value;
        }
        let scale = if header.flags.has(Flags::SYN) { 0 } else { SCALE };
        self.edge = self.edge.max(header.ack + (u32::from(header.window) << scale));
        if header.flags.has(Flags::SYN) {
            self.expected = header.seq + 1;
            let answers = header.flags.has(Flags::ACK);
            return Some(if answers { self.ack() } else { self.opening(Flags::SYN.with(Flags::ACK)) });
        }
        assert_eq!(header.seq, self.expected, "out of order");
        if header.flags.has(Flags::FIN) {
            self.expected += len as u32 + 1;
            return Some(self.ack());
        }
        if len == 0 {
            return None;
        }
        self.expected += len as u32;
        self.segments += 1;
        self.segments.is_multiple_of(2).then(|| self.ack())
    }

    fn opening(&mut self, flags: Flags) -> PoolFrame {
        let options = Options {
            mss: Some(1460),
            window_scale: Some(SCALE),
            sack_permitted: true,
            timestamps: Some((1, self.stamp)),
            ..Options::default()
        };
        let frame = self.segment(flags, options, 0);
        self.seq += 1;
        frame
    }

    fn options(&self) -> Options {
        Options { timestamps: Some((1, self.stamp)), ..Options::default() }
    }

    fn segment(&self, flags: Flags, options: Options, payload: usize) -> PoolFrame {
        let header = Header {
            src_port: self.local.port(),
            dst_port: self.remote.port(),
            seq: self.seq,
            ack: self.expected,
            flags,
            window: WINDOW,
            urgent: 0,
            options,
        };
        packet::segment(self.link, self.local, self.remote, &header, payload)
    }
}

/// The headers of a segment and the length of its payload.
pub fn read(frame: &PoolFrame) -> Option<(ip::Header, Header, usize)> {
    let packet = ip::Header::read(&frame.data()[L2_LEN..]).ok().filter(|packet| packet.protocol == 6)?;
    let bytes = &frame.data()[L2_LEN + ip::MIN_LEN..L2_LEN + packet.total_len];
    let (header, len) = Header::read(bytes).ok()?;
    Some((packet, header, bytes.len() - len))
}
