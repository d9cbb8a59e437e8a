//! What cores tell control about their flows.
//!
//! Runs on: worker and proxy cores (filling), control (asking). Allocates: per row. Blocks: never.
//!
//! A table may hold millions of flows, so one question makes a core look at a bounded number of slots; control asks
//! again from where the core stopped.

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::str::FromStr;

use ipnet::IpNet;
use thiserror::Error;

use crate::flow::{Handle, Protocol, ProxyId};
use crate::path_mtu::{MtuCause, PathMtu, PathMtus};
use crate::time::{Duration, Instant};
use crate::verdict::{CloseReason, DropReason};

/// Which flows control wants to see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowQuery {
    pub protocol: Option<Protocol>,
    pub client: Endpoint,
    /// As the client named it.
    pub server: Endpoint,
    pub age: Bounds<Duration>,
    /// Of both streams together.
    pub bytes: Bounds<u64>,
    /// First slot to look at.
    pub from: u32,
    /// Slots to look at, and so rows to answer, at most.
    pub visit: u32,
}

/// Addresses and ports; what is not given may be any.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint {
    pub net: Option<IpNet>,
    pub port: Option<u16>,
}

/// A text that is no [`Endpoint`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "\"{0}\" is not an address; allowed: an IP address, with a port or not, or a prefix, as in 10.0.0.5, 10.0.0.5:4000 or 10.0.0.0/8"
)]
pub struct EndpointError(String);

impl Endpoint {
    pub fn admits(&self, address: SocketAddr) -> bool {
        self.net.is_none_or(|net| net.contains(&address.ip()))
            && self.port.is_none_or(|port| port == address.port())
    }

    fn one(&self) -> Option<SocketAddr> {
        let net = self.net.filter(|net| net.prefix_len() == net.max_prefix_len())?;
        Some(SocketAddr::new(net.addr(), self.port?))
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self { net: Some(address.ip().into()), port: Some(address.port()) });
        }
        let address = text.parse::<IpAddr>().map(IpNet::from).ok();
        let net = address.or_else(|| text.parse().ok()).ok_or_else(|| EndpointError(text.to_owned()))?;
        Ok(Self { net: Some(net), port: None })
    }
}

impl TryFrom<String> for Endpoint {
    type Error = EndpointError;

    fn try_from(text: String) -> Result<Self, EndpointError> {
        text.parse()
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.to_string()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.net, self.port) {
            (Some(net), Some(port)) => SocketAddr::new(net.addr(), port).fmt(f),
            (Some(net), None) if net.prefix_len() == net.max_prefix_len() => net.addr().fmt(f),
            (Some(net), None) => net.fmt(f),
            (None, Some(port)) => write!(f, "any:{port}"),
            (None, None) => f.write_str("any"),
        }
    }
}

/// Least and most, both included; what is not given bounds nothing.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Bounds<T> {
    pub least: Option<T>,
    pub most: Option<T>,
}

impl<T: PartialOrd> Bounds<T> {
    pub fn admit(&self, value: &T) -> bool {
        self.least.as_ref().is_none_or(|least| least <= value)
            && self.most.as_ref().is_none_or(|most| value <= most)
    }
}

impl FlowQuery {
    /// Whether a flow may be asked for, by what never changes of it; `server` is the address that the client named.
    pub fn admits(&self, protocol: Protocol, client: SocketAddr, server: SocketAddr) -> bool {
        self.protocol.is_none_or(|wanted| wanted == protocol)
            && self.client.admits(client)
            && self.server.admits(server)
    }

    /// The one flow that may be asked for, where protocol, addresses and ports are all given: it can be looked up.
    pub fn one(&self) -> Option<(Protocol, SocketAddr, SocketAddr)> {
        Some((self.protocol?, self.client.one()?, self.server.one()?))
    }

    /// Whether a flow is asked for.
    pub fn admits_row(&self, row: &FlowRow) -> bool {
        self.admits(row.protocol, row.client, row.server)
            && self.age.admit(&row.age)
            && self.bytes.admit(&(row.first.bytes + row.second.bytes))
    }
}

/// A worker's answer to a [`FlowQuery`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowPage {
    pub rows: Vec<FlowRow>,
    /// The slot to go on from; `None`: all slots were looked at.
    pub next: Option<u32>,
}

/// A live flow as its worker sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowRow {
    pub handle: Handle,
    pub protocol: Protocol,
    pub client: SocketAddr,
    /// The server as the client named it.
    pub server: SocketAddr,
    /// The server that a filter chose in its place.
    pub target: Option<SocketAddr>,
    /// What the server sees in the client's place.
    pub public: SocketAddr,
    /// Which policy snapshot decided.
    pub policy: u32,
    /// Index of the rule in that snapshot; `None`: `default_action` decided.
    pub rule: Option<u16>,
    /// The proxy core that has the pair; `None`: translated by the worker alone.
    pub proxy: Option<ProxyId>,
    /// The worker's word for the flow's state, as in `established`.
    pub state: &'static str,
    /// Longest IP packet that the client's and the server's port carry, in bytes.
    pub mtus: [u16; 2],
    /// What else the worker knows of their length.
    pub path_mtus: [Option<NarrowLeg>; 2],
    pub age: Duration,
    /// Since the last packet.
    pub idle: Duration,
    /// Client to server.
    pub first: Traffic,
    /// Server to client.
    pub second: Traffic,
}

/// A flow's pair as its proxy core sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairRow {
    pub handle: Handle,
    /// The proxy core's word for the flow's state, as in `connecting`.
    pub state: &'static str,
    /// The TCP state of the client's socket and of the server's, as in `syn_sent`; `None` for UDP.
    pub legs: Option<[&'static str; 2]>,
    /// What the client calls the server, where a filter has found out.
    pub name: Option<String>,
    /// Bytes that wait inside the pair.
    pub held: u64,
    /// Longest IP packet that goes to the client and to the server for now, in bytes.
    pub mtus: [u16; 2],
    /// What the legs were found not to carry.
    pub path_mtus: [Option<NarrowLeg>; 2],
    /// Since the last packet that was of use.
    pub idle: Duration,
    /// Client to server: payload.
    pub first: Traffic,
    /// Server to client: payload.
    pub second: Traffic,
}

/// Which flows of the past control wants to see, the latest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastQuery {
    pub kind: PastKind,
    /// By protocol, client and server; the rest of it is not looked at.
    pub flows: FlowQuery,
    /// Only what came before the entry of this number.
    pub before: Option<u64>,
    /// Entries to look at, and so rows to answer, at most.
    pub visit: u32,
}

/// What a worker remembers.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum PastKind {
    /// Flows that were not opened.
    Refusals,
    /// Flows that ended though nobody wanted them to ([`CloseReason::is_ordinary`]).
    Failures,
    /// The other ones that have ended.
    Endings,
}

impl PastKind {
    pub const ALL: [Self; 3] = [Self::Refusals, Self::Failures, Self::Endings];
}

/// A worker's answer to a [`PastQuery`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PastPage {
    pub rows: Vec<PastRow>,
    /// What to go on before; `None`: nothing more is remembered.
    pub next: Option<u64>,
}

/// A flow that is no more, or never was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastRow {
    pub protocol: Protocol,
    pub client: SocketAddr,
    /// The server as the client named it.
    pub server: SocketAddr,
    /// Which policy snapshot decided.
    pub policy: u32,
    /// Index of the rule in that snapshot; `None`: `default_action` decided.
    pub rule: Option<u16>,
    pub ago: Duration,
    pub fate: Fate,
}

/// What became of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "few live at a time: a page's rows, for as long as they are told"
)]
pub enum Fate {
    Refused {
        reason: DropReason,
        /// Attempts in a row.
        times: u32,
    },
    Ended {
        reason: CloseReason,
        /// The server that a filter chose in place of the one that the client named.
        target: Option<SocketAddr>,
        /// What the server saw in the client's place.
        public: SocketAddr,
        /// The proxy core that had the pair.
        proxy: Option<ProxyId>,
        lived: Duration,
        first: Traffic,
        second: Traffic,
        /// Which filter ended it and why.
        verdict: Option<String>,
        /// What the client called the server.
        name: Option<String>,
        /// What the legs were found not to carry; ages are those at the end.
        path_mtus: [Option<NarrowLeg>; 2],
    },
}

/// A leg that does not carry every packet ([`PathMtu`]).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct NarrowLeg {
    /// Longest IP packet that passes, in bytes; 0: a router did not say.
    pub mtu: u16,
    pub cause: MtuCause,
    /// Since it was found out.
    pub age: Duration,
    /// Packets that were too long for it, as far as the gateway knows.
    pub packets: u64,
}

impl NarrowLeg {
    /// What a flow has found out, by leg.
    pub fn all(found: &PathMtus, now: Instant) -> [Option<Self>; 2] {
        let leg =
            |PathMtu { mtu, cause, since, packets }| Self { mtu, cause, age: now.since(since), packets };
        found.legs().map(|found| found.map(leg))
    }

    /// Of what two have found out about a flow the first one's, where there is any.
    pub fn prefer([client, server]: [Option<Self>; 2], second: [Option<Self>; 2]) -> [Option<Self>; 2] {
        [client.or(second[0]), server.or(second[1])]
    }
}

/// What one stream of a flow carried.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Traffic {
    pub packets: u64,
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_admits_what_it_names_and_nothing_else() {
        let address = |text: &str| text.parse::<SocketAddr>().expect("address");
        let endpoint = |text: &str| text.parse::<Endpoint>().expect("endpoint");
        let (client, server) = (address("10.0.0.5:4000"), address("192.0.2.1:80"));
        let admits = |query: FlowQuery| query.admits(Protocol::Tcp, client, server);
        assert!(admits(FlowQuery::default()));
        assert!(!admits(FlowQuery { protocol: Some(Protocol::Udp), ..FlowQuery::default() }));
        let rows = [
            ("10.0.0.5", true),
            ("10.0.0.5:4000", true),
            ("10.0.0.5:4001", false),
            ("10.0.0.0/29", true),
            ("10.0.0.8/29", false),
            ("192.0.2.1", false),
        ];
        for (text, admitted) in rows {
            let query = FlowQuery { client: endpoint(text), ..FlowQuery::default() };
            assert_eq!(admits(query), admitted, "{text}");
            assert_eq!(endpoint(text).to_string(), text);
        }
        let web = Endpoint { port: Some(80), ..Endpoint::default() };
        assert!(admits(FlowQuery { server: web, ..FlowQuery::default() }));
        assert!(!admits(FlowQuery { client: web, ..FlowQuery::default() }));
        let told = "10.0.0.256".parse::<Endpoint>().expect_err("no address").to_string();
        assert!(told.starts_with("\"10.0.0.256\" is not an address; allowed: "), "{told}");
    }

    #[test]
    fn a_query_that_leaves_nothing_open_names_one_flow() {
        let endpoint = |text: &str| text.parse::<Endpoint>().expect("endpoint");
        let query = |client, server| FlowQuery {
            protocol: Some(Protocol::Udp),
            client: endpoint(client),
            server: endpoint(server),
            ..FlowQuery::default()
        };
        let whole = query("10.0.0.5:4000", "192.0.2.1:53");
        let address = |text: &str| text.parse::<SocketAddr>().expect("address");
        assert_eq!(whole.one(), Some((Protocol::Udp, address("10.0.0.5:4000"), address("192.0.2.1:53"))));
        assert_eq!(FlowQuery { protocol: None, ..whole }.one(), None);
        assert_eq!(query("10.0.0.5", "192.0.2.1:53").one(), None);
        assert_eq!(query("10.0.0.0/24", "192.0.2.1:53").one(), None);
    }

    #[test]
    fn bounds_include_both_ends() {
        let both = Bounds { least: Some(2), most: Some(4) };
        assert_eq!([1, 2, 4, 5].map(|value| both.admit(&value)), [false, true, true, false]);
        assert!(Bounds::default().admit(&7));
    }
}
