//! The flow's vocabulary: protocols, sides, streams, core ids, and the handle that names a binding.

use core::fmt;
use core::net::SocketAddr;
use core::ops::Not;

use crate::path_mtu::PathMtus;
use crate::time::Instant;
use crate::wire::tcp::{Options, Seq};

/// Transport protocols that PNAT tracks. The value is the IP protocol number.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Protocol {
    Icmp = 1,
    Tcp = 6,
    Udp = 17,
}

impl Protocol {
    /// By IP protocol number.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Icmp),
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            _ => None,
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Icmp => "icmp",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A socket of a pair, and the blame for what went wrong there.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The internal socket that faces the client.
    First,
    /// The public-side socket that faces the server.
    Second,
}

impl Side {
    /// The host that this socket talks to: `client` or `server`.
    pub const fn host(self) -> &'static str {
        match self {
            Self::First => "client",
            Self::Second => "server",
        }
    }
}

impl Not for Side {
    type Output = Self;

    fn not(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }
}

/// A direction of a conversation.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Client to server: comes in by the first socket, leaves by the second.
    First,
    /// Server to client: comes in by the second socket, leaves by the first.
    Second,
}

impl Stream {
    /// The socket by which this stream enters the pair.
    pub const fn enters(self) -> Side {
        match self {
            Self::First => Side::First,
            Self::Second => Side::Second,
        }
    }

    /// The stream that enters by `side`.
    pub const fn entering(side: Side) -> Self {
        match side {
            Side::First => Self::First,
            Side::Second => Self::Second,
        }
    }
}

impl Not for Stream {
    type Output = Self;

    fn not(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }
}

/// A NAT core, numbered from 0 in configuration order; at most [`Handle::WORKERS`].
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(pub u8);

/// A proxy core, numbered from 0 in configuration order; at most 255.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProxyId(pub u8);

/// Names one binding: which worker's shard, which slot of its table, and which use of that slot.
///
/// It travels inside the masked source address and port of every packet on the loopback ([`crate::loopback`]), so a
/// proxy core finds a pair by indexing. The generation tells a late packet from the slot's next flow.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Handle {
    pub worker: WorkerId,
    /// Below [`Handle::SLOTS`].
    pub slot: u32,
    pub generation: u16,
}

impl Handle {
    /// Workers that a handle can tell apart (6 bits).
    pub const WORKERS: usize = 64;
    /// Bindings that one worker's shard can hold (22 bits).
    pub const SLOTS: usize = 1 << 22;
}

/// What a port does for the TCP and UDP packets that it sends.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Offloads {
    /// It completes checksums ([`crate::frame::Checksum::Partial`]).
    pub checksum: bool,
    /// TCP segments of equal size that it cuts from one frame at most ([`crate::frame::Frame::cut_into`]), at least one. More
    /// than one only where it completes checksums.
    pub segments: u8,
}

impl Default for Offloads {
    fn default() -> Self {
        Self::NONE
    }
}

impl Offloads {
    pub const NONE: Self = Self { checksum: false, segments: 1 };

    /// What either of two ports does.
    #[must_use]
    pub fn shared_with(self, other: Self) -> Self {
        let checksum = self.checksum && other.checksum;
        Self { checksum, segments: if checksum { self.segments.min(other.segments) } else { 1 } }
    }
}

/// What the proxy core is told about a flow when its first packet arrives; it outlives the binding.
#[derive(Clone, Debug)]
pub struct NewFlow {
    pub handle: Handle,
    pub protocol: Protocol,
    /// The client's own address.
    pub client: SocketAddr,
    /// The server's address as the client named it.
    pub server: SocketAddr,
    /// The public address and port that stand for the client.
    pub public: SocketAddr,
    /// Which policy snapshot decided; proxy cores hold the same snapshots.
    pub policy: u32,
    /// Index of the rule in that snapshot; `None`: no rule matched and `default_action` decided.
    pub rule: Option<u16>,
    /// Largest IP packet that the client's and the server's port carry, in bytes.
    pub mtu: [u16; 2],
    /// What those ports do for the packets that they send.
    pub offloads: [Offloads; 2],
    pub opened: Instant,
    /// `None` where the flow's first packet is for the pair to answer.
    pub accepted: Option<Accepted>,
}

/// What a pair knows of its end beside the reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastWords {
    /// Which filter ended the flow and why, where one did: `filter: sentence`.
    pub verdict: Option<String>,
    /// What the client calls the server, where a filter has found out.
    pub name: Option<String>,
    /// What its legs did not carry.
    pub path_mtus: PathMtus,
}

impl LastWords {
    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.verdict.is_none() && self.name.is_none() && self.path_mtus.is_empty()
    }
}

/// A TCP handshake that a worker went through with the client and kept nothing of (SYN cookies, RFC 4987 section 3.6): the
/// client's ACK is the flow's first packet.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Initial sequence number of the SYN-ACK, and of the client's SYN.
    pub iss: Seq,
    pub irs: Seq,
    /// What the SYN-ACK said; TSval is what the same clock says at [`NewFlow::opened`].
    pub ours: Options,
    /// What the SYN said, the MSS rounded down; TSval is the ACK's.
    pub theirs: Options,
    /// Receive window that the SYN-ACK told, in bytes.
    pub window: u16,
    /// Both offered explicit congestion notification (RFC 3168 section 6.1.1).
    pub ecn: bool,
}
