//! The keys of a scenario of connections, read by `serde` and not judged yet.

use pnat_shared::config::Scalar;
use serde::Deserialize;
use toml::Spanned;

use crate::load::scenario::head::RawHead;
use crate::load::scenario::raw::{RawMedium, RawSearch};

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct RawTcpScenario {
    /// Whoever reads this has looked at it.
    #[serde(rename = "kind")]
    pub _kind: String,
    pub name: Option<Spanned<String>>,
    pub duration: Option<Spanned<String>>,
    pub warm_up: Option<Spanned<String>>,
    pub drain: Option<Spanned<String>>,
    /// Shared out among classes by their weights.
    pub rate: Option<Spanned<String>>,
    pub most: Option<Spanned<i64>>,
    pub time_wait: Option<Spanned<String>>,
    pub class: Spanned<Vec<RawClass>>,
    #[serde(default)]
    pub medium: RawMedium,
    #[serde(default)]
    pub search: RawSearch,
}

impl RawTcpScenario {
    pub(super) fn head(&self) -> RawHead<'_> {
        let (name, duration) = (self.name.as_ref(), self.duration.as_ref());
        RawHead { name, duration, warm_up: self.warm_up.as_ref(), drain: self.drain.as_ref() }
    }
}

/// All kinds' keys stand side by side here, so that values keep their places; the resolver says which of them a kind has.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct RawClass {
    pub name: Option<Spanned<String>>,
    pub clients: Spanned<String>,
    pub client_ports: Option<Spanned<Scalar>>,
    pub servers: Spanned<String>,
    pub server_ports: Option<Spanned<Scalar>>,
    pub weight: Option<Spanned<i64>>,
    pub rate: Option<Spanned<String>>,
    pub concurrent: Option<Spanned<i64>>,
    pub ramp: Option<Spanned<String>>,
    pub requests: Option<Spanned<Scalar>>,
    pub request: Option<Spanned<Scalar>>,
    pub response: Option<Spanned<Scalar>>,
    pub think: Option<Spanned<String>>,
    pub close: Option<Spanned<String>>,
    pub bulk: Option<Spanned<String>>,
    pub lasts: Option<Spanned<String>>,
    pub half_open: Option<Spanned<String>>,
    pub read_rate: Option<Spanned<Scalar>>,
    pub byte_every: Option<Spanned<String>>,
    pub answer: Option<Spanned<String>>,
    pub timeout: Option<Spanned<String>>,
    pub window: Option<Spanned<Scalar>>,
}
