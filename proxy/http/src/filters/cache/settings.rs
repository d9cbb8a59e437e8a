//! What an operator says about a cache.

use std::path::PathBuf;

use pnat_shared::time::Duration;
use serde::{Deserialize, Deserializer, de};

use super::store::{self, Room};
use crate::filter::ConfigFault;

/// What a `cache` section may say.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Settings {
    /// Bytes of memory. Cannot change while the cache is running, nor can `dir` and `disk`.
    #[serde(deserialize_with = "size")]
    pub(super) memory: usize,
    /// Directory on a disk; without it, a restart forgets everything.
    pub(super) dir: Option<PathBuf>,
    /// Bytes on disk, all of which the directory takes from the beginning.
    #[serde(deserialize_with = "size")]
    pub(super) disk: usize,
    /// Largest content that is stored, in bytes.
    #[serde(deserialize_with = "size")]
    pub(super) object: usize,
    /// What tells apart responses of the same URL: the address of the server, or nothing.
    pub(super) key: KeyedBy,
    /// The name by which `Cache-Status` speaks of this cache (RFC 9211); empty: there is no such field.
    pub(super) status: String,
    pub(super) set_cookie: Cookies,
    /// How long a request waits for the response to another one.
    #[serde(deserialize_with = "duration")]
    pub(super) wait: Duration,
    /// How many wait for one response at most.
    pub(super) waiting: usize,
    /// How long it is remembered that a response was not to be stored.
    #[serde(deserialize_with = "duration")]
    pub(super) uncacheable: Duration,
    /// How long a stale response answers for a server that cannot be reached, unless it forbids that.
    #[serde(deserialize_with = "duration")]
    pub(super) stale_if_unreachable: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            memory: 256 << 20,
            dir: None,
            disk: 4 << 30,
            object: 8 << 20,
            key: KeyedBy::Server,
            status: "PNAT".to_owned(),
            set_cookie: Cookies::Strip,
            wait: Duration::from_secs(5),
            waiting: 1000,
            uncacheable: Duration::from_secs(120),
            stale_if_unreachable: Duration::from_secs(3600),
        }
    }
}

#[derive(Copy, Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum KeyedBy {
    /// The server's address as the client dialled it, and the host.
    Server,
    /// The host alone.
    Host,
}

/// What becomes of a response with `Set-Cookie` whose freshness is explicit; without that, it is never stored.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Cookies {
    /// It is stored without that field, which is for one client.
    Strip,
    /// It is stored as it is (RFC 9111 section 7.3).
    Keep,
    /// It is not stored.
    Refuse,
}

impl Settings {
    /// Where the cache lies, if all is as it can be.
    pub(super) fn room(&self) -> Result<Room, ConfigFault> {
        let fault =
            |key: &str, message: &str| Err(ConfigFault { key: key.to_owned(), message: message.to_owned() });
        if self.memory < 1 << 20 {
            return fault("memory", "at least 1048576 bytes");
        }
        if self.dir.is_some() && self.disk < store::LEAST {
            return fault("disk", "at least 8388608 bytes");
        }
        let room = Room { memory: self.memory, disk: self.dir.clone().map(|dir| (dir, self.disk)) };
        let is_name = self.status.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
        if !is_name || self.status.starts_with(|char: char| !char.is_ascii_alphabetic()) {
            return fault("status", "letters, digits, and -._ after a letter");
        }
        Ok(room)
    }

    /// Whether the largest content that is to be stored can be.
    pub(super) fn check_object(&self, room: &Room) -> Result<(), ConfigFault> {
        let largest = room.largest();
        if self.object <= largest {
            return Ok(());
        }
        let message = format!(
            "at most {largest}: a quarter of memory, an eighth of disk less 65536 bytes, and 16711680 bytes"
        );
        Err(ConfigFault { key: "object".to_owned(), message })
    }
}

/// Bytes, as a number or as text: `"64MiB"`, `"4GB"`.
fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a size is a number of bytes or a text like \"256MiB\"")]
    enum Size {
        Bytes(usize),
        Text(String),
    }
    let text = match Size::deserialize(deserializer)? {
        Size::Bytes(bytes) => return Ok(bytes),
        Size::Text(text) => text,
    };
    let digits = text.trim_end_matches(|char: char| !char.is_ascii_digit());
    let factor = match text[digits.len()..].trim() {
        "" | "B" => Some(1),
        "KB" => Some(1000),
        "MB" => Some(1_000_000),
        "GB" => Some(1_000_000_000),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1_usize << 30),
        _ => None,
    };
    let bytes =
        digits.parse::<usize>().ok().zip(factor).and_then(|(count, factor)| count.checked_mul(factor));
    bytes.ok_or_else(|| de::Error::custom(format!("{text:?} is no size; such are 1048576 and \"256MiB\"")))
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text)
        .map_err(|_| de::Error::custom(format!("{text:?} is no duration; such are \"30s\" and \"2h\"")))
}
