//! Live flows as a table whose columns can be chosen.

use clap::ValueEnum;

use super::answer::{Flow, Flows};
use super::question::DEFAULT_ACTION;
use super::text::{Column, millis, table};

/// What a column of the flow table tells.
#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
pub enum FlowColumn {
    Proto,
    Client,
    /// As the client named it; behind an arrow the one that a filter chose in its place.
    Server,
    /// The server that a filter chose in place of the one that the client named.
    Target,
    /// What the server sees in the client's place.
    Public,
    /// What the client calls the server, where a filter has found out.
    Name,
    Rule,
    /// As the proxy core sees it, or else the worker.
    State,
    /// TCP states of the client's socket and of the server's.
    Legs,
    /// Longest IP packet that goes to the client and to the server for now, in bytes.
    Mtu,
    Age,
    /// Since the last packet.
    Idle,
    /// Bytes from the client.
    Sent,
    /// Bytes from the server.
    Received,
    PacketsSent,
    PacketsReceived,
    /// Bytes that wait inside the pair.
    Held,
    Cores,
    /// Of the policy that decided.
    Generation,
}

impl FlowColumn {
    /// Those that are shown where nobody chooses.
    pub const USUAL: [Self; 11] = [
        Self::Proto,
        Self::Client,
        Self::Server,
        Self::Public,
        Self::Rule,
        Self::State,
        Self::Age,
        Self::Idle,
        Self::Sent,
        Self::Received,
        Self::Cores,
    ];

    /// Those that tell what an on-call person asks about a flow whose server is known.
    pub(super) const EXPLAINED: [Self; 12] = [
        Self::Client,
        Self::Target,
        Self::Public,
        Self::Name,
        Self::Rule,
        Self::State,
        Self::Legs,
        Self::Mtu,
        Self::Age,
        Self::Idle,
        Self::Sent,
        Self::Received,
    ];

    fn head(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().replace('-', " "))
    }

    const fn set(self) -> Column {
        match self {
            Self::Idle
            | Self::Sent
            | Self::Received
            | Self::PacketsSent
            | Self::PacketsReceived
            | Self::Held
            | Self::Generation => Column::Right,
            _ => Column::Left,
        }
    }

    fn cell(self, flow: &Flow) -> String {
        let pair = flow.pair.as_ref();
        match self {
            Self::Proto => flow.protocol.to_string(),
            Self::Client => flow.client.to_string(),
            Self::Server => match flow.target {
                Some(target) => format!("{} -> {target}", flow.server),
                None => flow.server.to_string(),
            },
            Self::Target => flow.target.map_or_else(String::new, |target| target.to_string()),
            Self::Public => flow.public.to_string(),
            Self::Name => pair.and_then(|pair| pair.name.clone()).unwrap_or_default(),
            Self::Rule => flow.rule.as_deref().unwrap_or(DEFAULT_ACTION).to_owned(),
            Self::State => flow.told_state().to_owned(),
            Self::Legs => {
                pair.and_then(|pair| pair.legs.as_ref()).map_or_else(String::new, |legs| legs.join("/"))
            }
            Self::Mtu => flow.mtus.map(|mtu| mtu.to_string()).join("/"),
            Self::Age => millis(flow.age_ms),
            Self::Idle => millis(flow.idle_ms),
            Self::Sent => flow.first.bytes.to_string(),
            Self::Received => flow.second.bytes.to_string(),
            Self::PacketsSent => flow.first.packets.to_string(),
            Self::PacketsReceived => flow.second.packets.to_string(),
            Self::Held => pair.map_or_else(String::new, |pair| pair.held.to_string()),
            Self::Cores => {
                let proxy = flow.proxy.map_or_else(String::new, |proxy| format!(", proxy {proxy}"));
                format!("worker {}{proxy}", flow.worker)
            }
            Self::Generation => flow.generation.to_string(),
        }
    }
}

impl Flows {
    /// The flows with these columns, a line each below their heads, and how many they are.
    pub fn table(&self, columns: &[FlowColumn]) -> String {
        let more = if self.more { ", and more (--limit)" } else { "" };
        format!("{}{} flows{more}\n", table_of(&self.flows, columns), self.flows.len())
    }
}

/// Flows with these columns, a line each below their heads.
pub(super) fn table_of(flows: &[Flow], columns: &[FlowColumn]) -> String {
    let head = columns.iter().map(|column| column.head()).collect();
    let rows = flows.iter().map(|flow| row(flow, columns));
    let set: Vec<Column> = columns.iter().map(|column| column.set()).collect();
    table(&set, std::iter::once(head).chain(rows))
}

fn row(flow: &Flow, columns: &[FlowColumn]) -> Vec<String> {
    columns.iter().map(|column| column.cell(flow)).collect()
}
