//! A host's wire beside its kernel: what the gateway sends of one connection, and segments in the kernel's name that the
//! kernel knows nothing of.

use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use pnat_shared::wire::ip;
use pnat_shared::wire::tcp::{self, Flags, Header, Options, Seq};
use rustix::net::sockopt::{Timeout, set_socket_recv_buffer_size_force, set_socket_timeout};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, recv, sendto,
    socket_with,
};

use crate::hosts::{FAR_ADDRESS, Host, PATIENCE};

/// Every protocol, in network order: packets are seen before any rule of a firewall at the wire drops them.
const ALL_PROTOCOLS: NonZeroU32 = NonZeroU32::new(0x0300).unwrap();
/// How long the wire is silent when all has been said.
const SILENCE: Duration = Duration::from_millis(150);

/// One connection's segments at a host's wire.
#[derive(Debug)]
pub(super) struct Tap {
    /// Sees each packet; and sends whole ones.
    wire: OwnedFd,
    raw: OwnedFd,
    pub(super) local: SocketAddrV4,
    pub(super) remote: SocketAddrV4,
    /// The gateway's last segment, and how much text it had.
    last: Option<(Header, u32)>,
}

impl Tap {
    /// Between the addresses that a connected socket has.
    pub(super) fn of(host: Host, stream: &TcpStream) -> Self {
        let address = |address: std::io::Result<std::net::SocketAddr>| match address.unwrap() {
            std::net::SocketAddr::V4(address) => address,
            std::net::SocketAddr::V6(address) => panic!("{address}"),
        };
        Self::between(host, address(stream.local_addr()), address(stream.peer_addr()))
    }

    pub(super) fn between(host: Host, local: SocketAddrV4, remote: SocketAddrV4) -> Self {
        let (wire, raw) = host.within(|| (wire(), raw()));
        Self { wire, raw, local, remote, last: None }
    }

    /// At the server's wire, for whatever public port the next connection to `port` comes from. `None` stands for no port.
    pub(super) fn at_server(host: Host, port: u16, public: Ipv4Addr) -> Self {
        let local = SocketAddrV4::new(FAR_ADDRESS.parse().unwrap(), port);
        Self::between(host, local, SocketAddrV4::new(public, 0))
    }

    /// The next segment that comes from the gateway, with the length of its text, or nothing for so long.
    pub(super) fn hear(&mut self, limit: Duration) -> Option<(Header, u32)> {
        let deadline = Instant::now() + limit;
        let mut packet = [0; 2048];
        loop {
            let left = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
            set_socket_timeout(&self.wire, Timeout::Recv, Some(left)).unwrap();
            let Ok((_, len)) = recv(&self.wire, &mut packet, RecvFlags::empty()) else { continue };
            let Ok(head) = ip::Header::read(&packet[..len]) else { continue };
            let Ok((header, at)) = Header::read(&packet[head.header_len..head.total_len]) else { continue };
            let src = SocketAddrV4::new(head.src, header.src_port);
            let is_theirs = src == self.remote || (self.remote.port() == 0 && src.ip() == self.remote.ip());
            if head.protocol == 6 && is_theirs && SocketAddrV4::new(head.dst, header.dst_port) == self.local {
                self.remote = src;
                let text = (head.total_len - head.header_len - at) as u32;
                self.last = Some((header, text));
                return self.last;
            }
        }
    }

    /// Waits for a segment with these flags.
    pub(super) fn expect(&mut self, flags: Flags) -> Header {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let (header, _) = self.hear(left).unwrap_or_else(|| panic!("no {flags:?} within {PATIENCE:?}"));
            if header.flags.has(flags) {
                return header;
            }
        }
    }

    /// Waits until nothing more is under way; how many segments have come.
    pub(super) fn settle(&mut self) -> usize {
        std::iter::from_fn(|| self.hear(SILENCE)).count()
    }

    /// The number that the gateway expects next of this host.
    pub(super) fn expected(&self) -> Seq {
        self.last.expect("the gateway has said something").0.ack
    }

    /// The gateway's own next number.
    pub(super) fn next(&self) -> Seq {
        let (header, text) = self.last.expect("the gateway has said something");
        let unit = |flag| u32::from(header.flags.has(flag));
        header.seq + text + unit(Flags::SYN) + unit(Flags::FIN)
    }

    /// The host's timestamp that the gateway has heard last.
    pub(super) fn echoed(&self) -> Option<u32> {
        self.last.and_then(|(header, _)| header.options.timestamps).map(|(_, echo)| echo)
    }

    /// Sends a segment without text in the host's name.
    pub(super) fn say(&self, flags: Flags, seq: Seq, ack: Seq) {
        self.say_with(Options::default(), flags, seq, ack);
    }

    pub(super) fn say_with(&self, options: Options, flags: Flags, seq: Seq, ack: Seq) {
        let (src_port, dst_port) = (self.local.port(), self.remote.port());
        let header = Header { src_port, dst_port, seq, ack, flags, window: 1000, urgent: 0, options };
        let total_len = ip::MIN_LEN + header.len();
        let mut packet = vec![0; total_len];
        let head = ip::Header::new(6, *self.local.ip(), *self.remote.ip(), total_len);
        head.write(&mut packet);
        header.write(&mut packet[ip::MIN_LEN..], head.src, head.dst);
        assert!(tcp::is_intact(&packet[ip::MIN_LEN..], head.src, head.dst));
        sendto(&self.raw, &packet, SendFlags::empty(), &self.remote).unwrap();
    }
}

fn wire() -> OwnedFd {
    let all = Some(Protocol::from_raw(ALL_PROTOCOLS));
    let wire = socket_with(AddressFamily::PACKET, SocketType::DGRAM, SocketFlags::CLOEXEC, all).unwrap();
    // It sees the packets of other rows too.
    set_socket_recv_buffer_size_force(&wire, 4 << 20).unwrap();
    wire
}

fn raw() -> OwnedFd {
    socket_with(AddressFamily::INET, SocketType::RAW, SocketFlags::CLOEXEC, Some(ipproto::RAW)).unwrap()
}
