//! The API's questions, as a request's query string carries them: the client writes them, the server reads them.

use pnat_shared::flow::Protocol;
use pnat_shared::report::Endpoint;
use serde::{Deserialize, Serialize};

/// `GET /flows`: which live flows. What is not given selects all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowsQuestion {
    /// Flows told at most.
    pub limit: Option<usize>,
    pub proto: Option<Protocol>,
    pub client: Option<Endpoint>,
    /// As the client named it.
    pub server: Option<Endpoint>,
    /// Of the server.
    pub port: Option<u16>,
    /// Name of the rule that decided, or [`DEFAULT_ACTION`].
    pub rule: Option<String>,
    /// As flows are told.
    pub state: Option<String>,
    pub min_age_ms: Option<u64>,
    pub max_age_ms: Option<u64>,
    /// Of both streams together.
    pub min_bytes: Option<u64>,
    pub max_bytes: Option<u64>,
    /// By this, the largest first; in no order where it is absent.
    pub sort: Option<Sort>,
}

/// What stands in a rule's place where none matched.
pub const DEFAULT_ACTION: &str = "(default)";

/// `GET /clients`: the clients with the most of something.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientsQuestion {
    /// Clients told at most.
    pub limit: Option<usize>,
    /// Bytes where it is absent.
    pub sort: Option<ClientSort>,
}

/// What clients are ordered by.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientSort {
    /// Of their live flows, both ways together.
    Bytes,
    Flows,
}

/// What flows are ordered by.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Sort {
    Age,
    Idle,
    /// Of both streams together.
    Bytes,
    /// Bytes from the client.
    Sent,
    /// Bytes from the server.
    Received,
    /// Of both streams together.
    Packets,
}
