//! The API's answers, as JSON carries them: the server fills them in, the client reads them back.

use core::net::{IpAddr, SocketAddr};
use std::collections::BTreeMap;

use pnat_shared::flow::Protocol;
use pnat_shared::report::Traffic;
use serde::{Deserialize, Serialize};

/// `GET /stats`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    pub version: String,
    pub config_file: String,
    /// Of the policy that decides now; a reload counts up.
    pub generation: u32,
    pub uptime_seconds: u64,
    /// The same in milliseconds: when the counters were read.
    pub uptime_ms: u64,
    /// Counters of all workers, and of all proxy cores, summed up.
    pub totals: BTreeMap<String, BTreeMap<String, u64>>,
    /// Packets dropped by all cores, every reason.
    pub drops: Vec<Reason>,
    /// Flows ended by all cores, every reason.
    pub closes: Vec<Reason>,
    /// Each core, port, pool and ring by itself.
    pub groups: Vec<Group>,
    pub capture: CaptureTotals,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    pub reason: String,
    pub count: u64,
    pub sentence: String,
}

/// The counters of one owner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// `worker`, `proxy`, `port`, `pool` or `ring`.
    pub kind: String,
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<usize>,
    pub counters: BTreeMap<String, u64>,
    /// Reasons that occurred.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub drops: BTreeMap<String, u64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub closes: BTreeMap<String, u64>,
}

/// All captures since the start.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureTotals {
    pub packets: u64,
    /// Seen, but not written because control did not keep up.
    pub lost: u64,
}

/// `GET /flows`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flows {
    pub flows: Vec<Flow>,
    /// Whether there may be more than were asked for.
    pub more: bool,
}

/// A live flow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flow {
    pub protocol: Protocol,
    pub client: SocketAddr,
    /// The server as the client named it.
    pub server: SocketAddr,
    /// The server that a filter chose in its place.
    pub target: Option<SocketAddr>,
    /// What the server sees in the client's place.
    pub public: SocketAddr,
    /// Name of the rule that decided; `None`: `default_action` did.
    pub rule: Option<String>,
    pub generation: u32,
    pub worker: u8,
    /// Which slot of the worker's table, and which use of it.
    pub slot: u32,
    pub use_of_slot: u16,
    pub proxy: Option<u8>,
    /// As the worker sees it.
    pub state: String,
    pub age_ms: u64,
    pub idle_ms: u64,
    /// Client to server, as the worker counts packets.
    pub first: Traffic,
    /// Server to client.
    pub second: Traffic,
    /// Longest IP packet that goes to the client and to the server for now, in bytes.
    pub mtus: [u16; 2],
    /// Legs that were found not to carry every packet.
    pub path_mtus: Vec<PathMtu>,
    /// As the proxy core sees it.
    pub pair: Option<Pair>,
}

/// A leg that does not carry every packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathMtu {
    /// To the `client` or to the `server`.
    pub leg: String,
    /// Longest IP packet that passes, in bytes; `None`: a router did not say.
    pub mtu: Option<u16>,
    /// `port`, `router` or `black_hole`.
    pub cause: String,
    pub sentence: String,
    /// Since it was found out; of a flow that has ended, until its end.
    pub age_ms: u64,
    /// Packets that were too long, as far as the gateway knows.
    pub packets: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    pub state: String,
    /// TCP states of the client's socket and of the server's.
    pub legs: Option<[String; 2]>,
    /// What the client calls the server, where a filter has found out.
    pub name: Option<String>,
    /// Bytes that wait inside the pair.
    pub held: u64,
    pub idle_ms: u64,
    pub first: Traffic,
    pub second: Traffic,
}

impl Flow {
    /// The flow's state as its pair tells it, or else its worker.
    pub fn told_state(&self) -> &str {
        self.pair.as_ref().map_or(&self.state, |pair| &pair.state)
    }
}

/// `GET /clients`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Clients {
    /// The largest first.
    pub clients: Vec<Client>,
    /// Clients with live flows, as many as were added up.
    pub known: usize,
    /// Whether there were too many to add all of them up: small ones may be missing, or told as too small.
    pub partial: bool,
}

/// A client and what its live flows carried.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    pub address: IpAddr,
    pub flows: u64,
    /// From the client.
    pub first: Traffic,
    /// To the client.
    pub second: Traffic,
}

/// `GET /explain`: what the policy decides for a flow's first packet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    pub protocol: Protocol,
    pub src: SocketAddr,
    pub dst: SocketAddr,
    /// `None`: the configuration file's policy, as no gateway runs.
    pub generation: Option<u32>,
    /// The rules looked at, in order; the last one matched if `rule` is given.
    pub steps: Vec<Step>,
    /// Index of the rule that matched; `None`: `default_action` decides.
    pub rule: Option<usize>,
    pub action: String,
    pub filters: Vec<String>,
    /// Those of its flows that live; several where the question leaves the client's port open.
    pub flows: Vec<Flow>,
    /// The latest ones of its flows that have ended, or were refused.
    pub past: Vec<Past>,
}

/// A flow that is no more, or never was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// Since it ended, or was tried last.
    pub ago_ms: u64,
    pub client: SocketAddr,
    pub server: SocketAddr,
    /// `refused`: it was never opened; `ended`.
    pub outcome: String,
    pub reason: String,
    pub sentence: String,
    /// Where it happened: on the leg to the `client` or to the `server`.
    pub leg: Option<String>,
    /// Attempts in a row.
    pub times: u32,
    /// Name of the rule that decided; `None`: `default_action` did.
    pub rule: Option<String>,
    /// Where the rule begins in the configuration file of its generation.
    pub line: Option<usize>,
    pub generation: u32,
    /// Which filter ended it and why: `filter: sentence`.
    pub verdict: Option<String>,
    /// What the client called the server, where a filter has found out.
    pub name: Option<String>,
    /// The server that a filter chose in place of the one that the client named.
    pub target: Option<SocketAddr>,
    pub public: Option<SocketAddr>,
    pub proxy: Option<u8>,
    pub lived_ms: Option<u64>,
    pub first: Traffic,
    pub second: Traffic,
    /// Legs that were found not to carry every packet.
    pub path_mtus: Vec<PathMtu>,
}

/// One rule's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    pub rule: String,
    /// Where it begins in the configuration file.
    pub line: usize,
    /// The key that does not match; `None`: all match.
    pub mismatch: Option<String>,
}

/// `POST /reload`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    pub generation: u32,
    pub rules: usize,
    pub filters: usize,
}

/// `GET /health`
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Always: who reads it has been answered.
    pub alive: bool,
}

/// `GET /ready`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    pub ready: bool,
    /// Why not.
    pub reasons: Vec<String>,
}

/// Any request that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub error: String,
}
