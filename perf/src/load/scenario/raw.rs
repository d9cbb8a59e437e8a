//! A scenario file's keys, read by `serde` and not judged yet.

use pnat_shared::config::{Scalar, Scalars};
use serde::Deserialize;
use toml::Spanned;

use super::head::RawHead;

/// What says how the rest is to be read.
#[derive(Debug, Deserialize)]
#[serde(expecting = "a table")]
pub(super) struct RawKind {
    pub kind: Option<Spanned<String>>,
}

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct RawScenario {
    /// Whoever reads this has looked at it.
    #[serde(rename = "kind")]
    pub _kind: Option<String>,
    pub name: Option<Spanned<String>>,
    pub duration: Option<Spanned<String>>,
    pub warm_up: Option<Spanned<String>>,
    pub drain: Option<Spanned<String>>,
    pub traffic: RawTraffic,
    pub flows: RawFlows,
    #[serde(default)]
    pub medium: RawMedium,
    #[serde(default)]
    pub search: RawSearch,
}

impl RawScenario {
    pub(super) fn head(&self) -> RawHead<'_> {
        let (name, duration) = (self.name.as_ref(), self.duration.as_ref());
        RawHead { name, duration, warm_up: self.warm_up.as_ref(), drain: self.drain.as_ref() }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct RawTraffic {
    pub protocol: Option<Spanned<String>>,
    pub flags: Option<Spanned<String>>,
    pub rate: Spanned<String>,
    pub burst: Option<Spanned<i64>>,
    pub sizes: Option<Spanned<Scalars>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct RawFlows {
    pub count: Option<Spanned<i64>>,
    pub src: Spanned<String>,
    pub src_port: Option<Spanned<Scalar>>,
    pub dst: Spanned<String>,
    pub dst_port: Option<Spanned<Scalar>>,
}

/// All types' keys stand side by side here, so that values keep their places; the resolver says which of them a type has.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct RawMedium {
    #[serde(rename = "type")]
    pub kind: Option<Spanned<String>>,
    pub action: Option<Spanned<String>>,
    pub filters: Option<Spanned<Scalars>>,
    pub latency: Option<Spanned<String>>,
    pub loss: Option<Spanned<String>>,
    pub duplication: Option<Spanned<String>>,
    pub reordering: Option<Spanned<String>>,
    pub reorder_by: Option<Spanned<String>>,
    pub capacity: Option<Spanned<String>>,
    pub queue: Option<Spanned<i64>>,
    pub seed: Option<Spanned<i64>>,
    pub send: Option<Spanned<RawDevice>>,
    pub receive: Option<Spanned<RawDevice>>,
    pub core: Option<Spanned<i64>>,
    pub frames: Option<Spanned<i64>>,
    pub eal: Option<Spanned<Vec<String>>>,
    pub mac: Option<Spanned<String>>,
    pub gateway: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct RawDevice {
    pub device: Spanned<String>,
    pub args: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct RawSearch {
    pub highest: Option<Spanned<String>>,
    pub lowest: Option<Spanned<String>>,
    pub partial_loss: Option<Spanned<String>>,
    pub width: Option<Spanned<String>>,
    pub trial: Option<Spanned<String>>,
    pub trials: Option<Spanned<i64>>,
    pub most_trials: Option<Spanned<i64>>,
}
