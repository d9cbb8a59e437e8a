//! What a received frame is: every check that needs no flow, in order, and the flow's key.
//!
//! Runs on: worker. Allocates: never. Blocks: never.

use core::net::SocketAddrV4;

use pnat_shared::flow::{Protocol, Stream, WorkerId};
use pnat_shared::frame::{Checksum, Frame, L2_LEN};
use pnat_shared::verdict::DropReason;
use pnat_shared::wire::ethernet::{self, Mac};
use pnat_shared::wire::tcp::{self, Flags, Seq};
use pnat_shared::wire::{arp, icmp, ip, udp};

use crate::handoff::Shards;
use crate::nat::icmp::Quote;
use crate::nat::tuple::Tuple;
use crate::route::Routes;

/// A packet of a flow, known or not.
#[derive(Copy, Clone, Debug)]
pub(super) struct Packet {
    pub(super) stream: Stream,
    pub(super) tuple: Tuple,
    pub(super) hash: u64,
    /// Where the flow table's first stage expects it.
    pub(super) slot: u32,
    /// None for other protocols than TCP.
    pub(super) flags: Flags,
}

impl Packet {
    /// Whether it is a SYN and answers nothing.
    #[inline]
    pub(super) const fn is_syn(&self) -> bool {
        self.flags.has(Flags::SYN) && !self.flags.has(Flags::ACK)
    }

    /// Whether it may be a flow's first packet.
    pub(super) fn may_open(&self) -> bool {
        self.tuple.protocol() != Protocol::Tcp || self.is_syn()
    }
}

/// What a frame is.
#[derive(Copy, Clone, Debug)]
pub(super) enum Kind {
    Flow(Packet),
    Error(Stream, Quote),
    Arp(arp::Message),
    /// A question to the gateway itself.
    Echo,
    /// For the gateway itself, which serves nothing there.
    Own(Protocol),
    /// A packet that may not go one hop further.
    Expired,
    /// Another worker's.
    Foreign(WorkerId),
    Bad(DropReason),
}

/// Reads a frame that `port` received, and cuts off what follows the packet.
#[inline]
pub(super) fn parse<F: Frame>(
    frame: &mut F,
    port: u8,
    routes: &Routes,
    shards: &Shards,
    me: WorkerId,
) -> Kind {
    read(frame, port, routes, shards, me).unwrap_or_else(Kind::Bad)
}

fn read<F: Frame>(
    frame: &mut F,
    port: u8,
    routes: &Routes,
    shards: &Shards,
    me: WorkerId,
) -> Result<Kind, DropReason> {
    let info = routes.port(port).ok_or(DropReason::Internal)?;
    let link = ethernet::Header::read(frame.data())?;
    let is_arp = link.ether_type == ethernet::TYPE_ARP;
    // An IP packet to one station does not come to all of them (RFC 1122 section 3.3.6).
    if link.dst != info.mac && !(is_arp && link.dst == Mac::BROADCAST) {
        return Err(DropReason::NotForUs);
    }
    if link.src.is_group() {
        return Err(DropReason::Martian);
    }
    if is_arp {
        return arp::Message::read(&frame.data()[L2_LEN..]).map(Kind::Arp);
    }
    if link.ether_type != ethernet::TYPE_IPV4 {
        return Err(DropReason::NotIp);
    }
    let header = ip::Header::read(&frame.data()[L2_LEN..])?;
    if frame.data().len() > L2_LEN + header.total_len {
        frame.resize(L2_LEN + header.total_len);
    }
    if header.header_len != ip::MIN_LEN {
        return Err(DropReason::IpOptions);
    }
    let (src, dst) = (header.src, header.dst);
    routes.check(port, src, dst)?;
    if src == dst {
        return Err(DropReason::Land);
    }
    if header.is_fragment() {
        return Err(DropReason::Fragment);
    }
    if frame.checksum() == Checksum::Bad {
        return Err(DropReason::L4Checksum);
    }
    let protocol = Protocol::from_number(header.protocol).ok_or(DropReason::Protocol)?;
    let packet = &frame.data()[L2_LEN..];
    let stream = if info.outside { Stream::Second } else { Stream::First };
    let transport = read_transport(packet, protocol)?;
    let is_own = routes.is_own(dst);
    let is_public = info.outside && routes.is_public(dst);
    if let Transport::Echo { .. } = transport
        && is_own
    {
        return Ok(Kind::Echo);
    }
    if is_own && !is_public {
        return Ok(Kind::Own(protocol));
    }
    if info.outside && !is_public {
        return Err(DropReason::NoRoute);
    }
    if header.ttl <= 1 {
        // Nobody is told about an error (RFC 1122 section 3.2.2).
        return if let Transport::Error(_) = transport { Err(DropReason::Ttl) } else { Ok(Kind::Expired) };
    }
    let (tuple, flags) = match transport {
        Transport::Segment(flags) => (Tuple::read(protocol, packet), flags),
        Transport::Datagram => (Tuple::read(protocol, packet), Flags::default()),
        Transport::Echo { identifier } if stream == Stream::First => {
            let (client, server) = (SocketAddrV4::new(src, identifier), SocketAddrV4::new(dst, 0));
            (Tuple::new(protocol, client, server), Flags::default())
        }
        Transport::EchoReply { identifier } if stream == Stream::Second => {
            let (server, client) = (SocketAddrV4::new(src, 0), SocketAddrV4::new(dst, identifier));
            (Tuple::new(protocol, server, client), Flags::default())
        }
        // Nobody outside is answered by a client that it did not ask, and the other way round.
        Transport::Echo { .. } | Transport::EchoReply { .. } => return Err(DropReason::NoBinding),
        Transport::Error(quote) => {
            let owner = match stream {
                Stream::First => shards.worker(*quote.tuple.dst().ip()),
                Stream::Second => shards.worker_of_port(quote.tuple.src().port()),
            };
            return Ok(if owner == me { Kind::Error(stream, quote) } else { Kind::Foreign(owner) });
        }
    };
    let owner = match stream {
        Stream::First => shards.worker(src),
        Stream::Second => shards.worker_of_port(tuple.dst().port()),
    };
    if owner != me {
        return Ok(Kind::Foreign(owner));
    }
    Ok(Kind::Flow(Packet { stream, tuple, hash: 0, slot: 0, flags }))
}

enum Transport {
    Segment(Flags),
    Datagram,
    Echo { identifier: u16 },
    EchoReply { identifier: u16 },
    Error(Quote),
}

/// Checks a transport header as far as translation relies on it. Checksums of TCP, UDP and echo that no device has looked at
/// are left alone: a wrong one stays wrong, and only a flow's first packet is looked at ([`is_intact`]).
#[inline]
fn read_transport(packet: &[u8], protocol: Protocol) -> Result<Transport, DropReason> {
    let body = &packet[ip::MIN_LEN..];
    match protocol {
        Protocol::Tcp => {
            let header: &[u8; tcp::MIN_LEN] = body.first_chunk().ok_or(DropReason::Truncated)?;
            let len = usize::from(header[12] >> 4) * 4;
            if len < tcp::MIN_LEN {
                return Err(DropReason::TcpOptions);
            }
            if len > body.len() {
                return Err(DropReason::Truncated);
            }
            let flags = Flags(header[13]);
            if flags.are_sane() { Ok(Transport::Segment(flags)) } else { Err(DropReason::TcpFlags) }
        }
        Protocol::Udp => udp::Header::read(body).map(|_| Transport::Datagram),
        Protocol::Icmp => {
            let header: &[u8; icmp::LEN] = body.first_chunk().ok_or(DropReason::Truncated)?;
            let identifier = u16::from_be_bytes([header[4], header[5]]);
            match header[0] {
                icmp::ECHO => Ok(Transport::Echo { identifier }),
                icmp::ECHO_REPLY => Ok(Transport::EchoReply { identifier }),
                _ => {
                    let quote = Quote::read(packet)?;
                    // An error goes to whoever sent what it quotes.
                    let is_returned = packet[16..20] == quote.tuple.src().ip().octets();
                    if is_returned { Ok(Transport::Error(quote)) } else { Err(DropReason::IcmpUnrelated) }
                }
            }
        }
    }
}

/// The sequence number at a place.
pub(super) fn seq_at(bytes: &[u8], at: usize) -> Option<Seq> {
    bytes.get(at..)?.first_chunk().map(|number| Seq(u32::from_be_bytes(*number)))
}

/// Whether the checksum of a packet's transport is right, where there is one.
pub(super) fn is_intact<F: Frame>(frame: &F) -> bool {
    if frame.checksum() == Checksum::Good {
        return true;
    }
    let packet = &frame.data()[L2_LEN..];
    let Ok(header) = ip::Header::read_quoted(packet) else { return false };
    let Some(body) = packet.get(header.header_len..header.total_len) else { return false };
    match Protocol::from_number(header.protocol) {
        Some(Protocol::Tcp) => tcp::is_intact(body, header.src, header.dst),
        Some(Protocol::Udp) => {
            udp::Header::read(body).is_ok_and(|datagram| datagram.is_intact(body, header.src, header.dst))
        }
        Some(Protocol::Icmp) => icmp::Header::read(body).is_ok(),
        None => false,
    }
}
