//! What cores tell control about their flows.
//!
//! Runs on: worker and proxy cores (filling), control (asking). Allocates: per row. Blocks: never.
//!
//! A table may hold millions of flows, so one question makes a core look at a bounded number of slots; control asks
//! again from where the core stopped.

use core::net::{IpAddr, SocketAddr};

use crate::flow::{Handle, Protocol, ProxyId};
use crate::time::Duration;

/// Which flows control wants to see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowQuery {
    pub protocol: Option<Protocol>,
    pub client: Option<Endpoint>,
    pub server: Option<Endpoint>,
    /// First slot to look at.
    pub from: u32,
    /// Slots to look at, at most.
    pub visit: u32,
    /// Rows to answer, at most.
    pub limit: usize,
}

/// An address, with or without a port.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub address: IpAddr,
    pub port: Option<u16>,
}

impl Endpoint {
    pub fn admits(&self, address: SocketAddr) -> bool {
        self.address == address.ip() && self.port.is_none_or(|port| port == address.port())
    }
}

impl FlowQuery {
    /// Whether a flow is asked for; `server` is the address that the client named.
    pub fn admits(&self, protocol: Protocol, client: SocketAddr, server: SocketAddr) -> bool {
        self.protocol.is_none_or(|wanted| wanted == protocol)
            && self.client.is_none_or(|wanted| wanted.admits(client))
            && self.server.is_none_or(|wanted| wanted.admits(server))
    }
}

/// A core's answer to a [`FlowQuery`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowPage {
    pub rows: Vec<FlowRow>,
    /// The slot to go on from; `None`: all slots were looked at.
    pub next: Option<u32>,
}

/// A live flow as one core sees it: a worker tells its binding, a proxy core tells its pair. Rows with the same handle
/// are the same flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowRow {
    pub handle: Handle,
    pub protocol: Protocol,
    pub client: SocketAddr,
    /// The server as the client named it.
    pub server: SocketAddr,
    /// What the server sees in the client's place.
    pub public: SocketAddr,
    /// Which policy snapshot decided.
    pub policy: u32,
    /// Index of the rule in that snapshot; `None`: `default_action` decided.
    pub rule: Option<u16>,
    /// The proxy core that has the pair; `None`: translated by the worker alone.
    pub proxy: Option<ProxyId>,
    /// The teller's own word for the flow's state, as in `established`.
    pub state: &'static str,
    pub age: Duration,
    /// Since the last packet.
    pub idle: Duration,
    /// Client to server.
    pub first: Traffic,
    /// Server to client.
    pub second: Traffic,
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
        let (client, server) = (address("10.0.0.5:4000"), address("192.0.2.1:80"));
        let endpoint = |address: SocketAddr, port| Some(Endpoint { address: address.ip(), port });
        let everything = FlowQuery::default();
        assert!(everything.admits(Protocol::Tcp, client, server));
        assert!(!FlowQuery { protocol: Some(Protocol::Udp), ..everything.clone() }.admits(
            Protocol::Tcp,
            client,
            server
        ));
        for (port, admitted) in [(None, true), (Some(4000), true), (Some(4001), false)] {
            let query = FlowQuery { client: endpoint(client, port), ..everything.clone() };
            assert_eq!(query.admits(Protocol::Tcp, client, server), admitted);
        }
        let query = FlowQuery { server: endpoint(client, None), ..everything };
        assert!(!query.admits(Protocol::Tcp, client, server));
    }
}
