//! A binding: what a worker stores for a flow beside its two keys.

use pnat_shared::flow::ProxyId;
use pnat_shared::time::Instant;

use super::expiry::Track;
use super::proof::Proof;
use super::rewrite::Change;

/// Which way a flow's packets take.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Path {
    /// Translated by the worker alone.
    Nat,
    /// Through a pair on this proxy core.
    Proxy(ProxyId),
    /// To the worker itself: a health check of its own.
    Own,
}

/// In [`Binding::egress`]: no port leads to the host.
pub const NOWHERE: u8 = u8::MAX;

/// One flow's state. Arrays are indexed by [`Stream`](pnat_shared::flow::Stream).
#[derive(Copy, Clone, Debug)]
pub struct Binding {
    /// When its last packet passed; its timer looks at this only when it fires.
    pub last_seen: Instant,
    /// What translation does to checksums. On [`Path::Nat`] only the first is used: from the client's tuple to the
    /// public one. On [`Path::Proxy`]: from either host's tuple to the masked one of its side.
    pub changes: [Change; 2],
    pub opened: Instant,
    /// Packets received from the client and from the server.
    pub packets: [u64; 2],
    /// Bytes of those packets, from the IP header on.
    pub bytes: [u64; 2],
    /// Slot of the mapping that holds the flow's public port.
    pub mapping: u32,
    /// Which policy snapshot decided.
    pub policy: u32,
    /// Which of its rules; `None`: the default action.
    pub rule: Option<u16>,
    /// Where each stream's next hop stood in the neighbor table last time.
    pub hops: [u16; 2],
    pub path: Path,
    /// The port by which each stream leaves; [`NOWHERE`] toward a server that was refused.
    pub egress: [u8; 2],
    /// What was seen of TCP: on [`Path::Proxy`] by leg, client to first socket and second socket to server; on
    /// [`Path::Nat`] there is one connection, and only the first is used.
    pub tracks: [Track; 2],
    /// On [`Path::Proxy`], of a TCP client.
    pub proof: Proof,
}

impl Binding {
    /// Whether the flow's TCP is over on every leg, as far as a translator can tell.
    pub const fn is_over(&self) -> bool {
        match self.path {
            Path::Nat | Path::Own => self.tracks[0].is_closing(),
            Path::Proxy(_) => self.tracks[0].is_closing() && self.tracks[1].is_closing(),
        }
    }

    /// Whether a pair's first socket is in TIME-WAIT. Only it knows which SYN may end that (RFC 1122 section 4.2.2.13,
    /// RFC 6191); where the client has closed first, the waiting is the client's own affair.
    pub const fn is_first_waiting(&self) -> bool {
        matches!(self.path, Path::Proxy(_)) && self.tracks[0].was_closed_by_second()
    }
}
