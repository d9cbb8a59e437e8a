//! What an operator wrote: the configuration file's keys, read by `serde` and not judged yet.
//!
//! Every value that can be wrong keeps its place in the file ([`Spanned`]), so that [`super::resolve`] can name the line.
//! Numbers are read as `i64` for the same reason: one out of range is a message with a key, not a parser's complaint.

use core::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use toml::Spanned;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct RawConfig {
    #[serde(default)]
    pub port: Vec<Spanned<RawPort>>,
    #[serde(default)]
    pub cores: RawCores,
    #[serde(default)]
    pub memory: RawMemory,
    #[serde(default)]
    pub nat: RawNat,
    #[serde(default)]
    pub proxy: RawProxy,
    #[serde(default)]
    pub http: RawHttp,
    #[serde(default)]
    pub policy: RawPolicy,
    #[serde(default)]
    pub rule: Vec<Spanned<RawRule>>,
    #[serde(default)]
    pub filter: Vec<Spanned<RawFilterHead>>,
    #[serde(default)]
    pub control: RawControl,
    #[serde(default)]
    pub log: RawLog,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct RawPort {
    pub name: Spanned<String>,
    pub device: Spanned<String>,
    pub args: Option<Spanned<String>>,
    #[serde(default)]
    pub addresses: Vec<Spanned<String>>,
    pub gateway: Option<Spanned<String>>,
    pub mtu: Option<Spanned<i64>>,
    pub offloads: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct RawCores {
    pub main: Option<Spanned<i64>>,
    #[serde(default)]
    pub workers: Vec<Spanned<i64>>,
    #[serde(default)]
    pub proxies: Vec<Spanned<i64>>,
    pub idle: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct RawMemory {
    pub frames: Option<Spanned<i64>>,
    pub hugepages: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct RawNat {
    #[serde(default)]
    pub public: Vec<Spanned<String>>,
    pub ports: Option<Spanned<Scalar>>,
    pub flows: Option<Spanned<i64>>,
    pub flows_per_client: Option<Spanned<i64>>,
    #[serde(default)]
    pub timeouts: RawTimeouts,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct RawTimeouts {
    pub tcp_established: Option<Spanned<String>>,
    pub tcp_transitory: Option<Spanned<String>>,
    pub udp: Option<Spanned<String>>,
    pub icmp: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct RawProxy {
    pub pairs: Option<Spanned<i64>>,
    pub connect_timeout: Option<Spanned<String>>,
    pub half_open_timeout: Option<Spanned<String>>,
    pub idle_timeout: Option<Spanned<String>>,
    pub keepalive: Option<Spanned<String>>,
    pub udp_timeout: Option<Spanned<String>>,
    pub window: Option<Spanned<Scalar>>,
    pub ring: Option<Spanned<i64>>,
    pub syn_cookies_above: Option<Spanned<i64>>,
    pub congestion_inside: Option<Spanned<String>>,
    pub congestion_outside: Option<Spanned<String>>,
    pub ecn: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct RawHttp {
    pub head_limit: Option<Spanned<Scalar>>,
    pub line_limit: Option<Spanned<Scalar>>,
    pub fields_limit: Option<Spanned<i64>>,
    pub trailer_limit: Option<Spanned<Scalar>>,
    pub head_timeout: Option<Spanned<String>>,
    pub response_timeout: Option<Spanned<String>>,
    pub connect: Option<bool>,
    pub http2: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct RawPolicy {
    pub default_action: Option<Spanned<String>>,
    pub deny_with: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct RawRule {
    pub name: Spanned<String>,
    #[serde(default, rename = "match")]
    pub matching: RawMatch,
    pub action: Spanned<String>,
    pub accept: Option<Spanned<String>>,
    pub deny_with: Option<Spanned<String>>,
    #[serde(default)]
    pub filters: Vec<Spanned<String>>,
    pub congestion_inside: Option<Spanned<String>>,
    pub congestion_outside: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct RawMatch {
    pub proto: Option<Spanned<String>>,
    pub src: Option<Spanned<Scalars>>,
    pub dst: Option<Spanned<Scalars>>,
    pub src_port: Option<Spanned<Scalars>>,
    pub dst_port: Option<Spanned<Scalars>>,
}

/// What every filter has. Its other keys depend on its type: [`super::sections`].
#[derive(Debug, Deserialize)]
#[serde(expecting = "a table")]
pub(super) struct RawFilterHead {
    pub name: Spanned<String>,
    #[serde(rename = "type")]
    pub kind: Spanned<String>,
}

/// A filter over streams, of any type: `serde`'s tagged enums lose the places of values, so the keys of all of them stand side by
/// side here, and the resolver says which of them a type has.
#[derive(Debug, Deserialize)]
#[serde(expecting = "a table")]
pub(super) struct RawFilter {
    pub path: Option<Spanned<String>>,
    pub content_dir: Option<Spanned<String>>,
    pub content_cap: Option<Spanned<Scalar>>,
    pub patterns: Option<Spanned<Scalars>>,
    pub hosts: Option<Spanned<Scalars>>,
    pub sni: Option<Spanned<Scalars>>,
    pub answer: Option<Spanned<String>>,
    pub page: Option<Spanned<String>>,
    pub find: Option<Spanned<String>>,
    pub with: Option<Spanned<String>>,
    pub stream: Option<Spanned<String>>,
    pub bytes_per_second: Option<Spanned<Scalar>>,
    pub burst: Option<Spanned<Scalar>>,
    pub by: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct RawControl {
    pub socket: Option<Spanned<String>>,
    pub group: Option<Spanned<String>>,
    pub metrics: Option<Spanned<String>>,
    pub measure: Option<bool>,
    pub listen: Option<Spanned<String>>,
    pub tls: Option<Spanned<RawTls>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct RawTls {
    pub certificate: Option<Spanned<String>>,
    pub key: Option<Spanned<String>>,
    pub clients: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct RawLog {
    pub format: Option<Spanned<String>>,
    pub level: Option<Spanned<String>>,
}

/// An integer or a string: `80`, `"8000-8999"`, `"1MB"`.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    Integer(i64),
    Text(String),
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(number) => write!(f, "{number}"),
            Self::Text(text) => write!(f, "\"{text}\""),
        }
    }
}

/// One [`Scalar`] or a list of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Scalars(pub Vec<Scalar>);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneScalar;

        impl Visitor<'_> for OneScalar {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer or a string")
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Scalar, E> {
                Ok(Scalar::Integer(number))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Scalar, E> {
                Ok(Scalar::Text(text.to_owned()))
            }
        }

        deserializer.deserialize_any(OneScalar)
    }
}

impl<'de> Deserialize<'de> for Scalars {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;

        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Scalars;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer, a string or a list of those")
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Scalars, E> {
                Ok(Scalars(vec![Scalar::Integer(number)]))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Scalars, E> {
                Ok(Scalars(vec![Scalar::Text(text.to_owned())]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Scalars, A::Error> {
                let mut scalars = Vec::new();
                while let Some(scalar) = list.next_element()? {
                    scalars.push(scalar);
                }
                Ok(Scalars(scalars))
            }
        }

        deserializer.deserialize_any(OneOrMany)
    }
}
