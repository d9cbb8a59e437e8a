//! What HTTP filters do: their numbers, added up over the proxy cores, and what operators tell caches.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddrV4;
use std::time::{Duration, UNIX_EPOCH};

use pnat_shared::stats::Metric;
use serde::{Deserialize, Serialize};

use super::metrics::Families;
use super::server::Server;
use super::{CoreError, CoreMessage, Role};
use crate::filters::{FilterStats, ListReport, Purge, ServerReport, Spoken};

/// The HTTP filters that have seen exchanges since the gateway started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WebReport {
    /// By name.
    pub filters: BTreeMap<String, WebFilter>,
    /// Connections that ended by a message that was not HTTP, or not in one way only: by what was wrong.
    pub faults: BTreeMap<String, u64>,
    /// Connections that HTTP filters were to see, by what they turned out to speak: `http1`, `http2`, `other`.
    pub connections: BTreeMap<String, u64>,
    /// Numbers of each `cache` filter.
    pub caches: BTreeMap<String, BTreeMap<String, u64>>,
    /// The servers of each `redirect` filter.
    pub servers: BTreeMap<String, Vec<WebServer>>,
    /// The lists of each `url-block` filter.
    pub lists: BTreeMap<String, Vec<ListReport>>,
}

/// One server to which requests are redirected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WebServer {
    pub address: SocketAddrV4,
    /// Requests that it got.
    pub requests: u64,
    /// Those of them that failed.
    pub failures: u64,
    /// Whether it is left out for now, because it failed.
    pub ejected: bool,
}

/// What one filter did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WebFilter {
    /// Requests whose heads it was shown.
    pub exchanges: u64,
    /// Responses that it gave in the server's place.
    pub answered: u64,
    /// Connections that it ended.
    pub resets: u64,
    /// Calls that took longer than its `time_budget`, which ends the connection.
    pub overruns: u64,
    /// Time spent in it, in nanoseconds.
    pub nanoseconds: u64,
    /// Bytes of content that it was shown.
    pub request_bytes: u64,
    pub response_bytes: u64,
    /// Bytes of content that it let out in their place, where it edits.
    pub edited_request_bytes: u64,
    pub edited_response_bytes: u64,
}

/// What a purge removed.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purged {
    /// Responses that were in memory. Those on disk are passed over from now on, and not counted.
    pub purged: u64,
}

/// What to remove from which cache: exactly one of `all`, `host`, `prefix` and `url`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PurgeQuestion {
    /// A filter's name; all caches where it is left out.
    cache: Option<String>,
    #[serde(default)]
    all: bool,
    host: Option<String>,
    prefix: Option<String>,
    url: Option<String>,
}

impl PurgeQuestion {
    pub(super) fn cache(&self) -> Option<&str> {
        self.cache.as_deref()
    }

    /// `None`: not exactly one thing is named.
    pub(super) fn purge(&self) -> Option<Purge> {
        let all = self.all.then_some(Purge::All);
        let host = self.host.clone().map(Purge::Host);
        let prefix = self.prefix.clone().map(Purge::Prefix);
        let url = self.url.clone().map(Purge::Url);
        let mut named = [all, host, prefix, url].into_iter().flatten();
        named.next().filter(|_| named.next().is_none())
    }
}

pub(super) async fn gather(server: &Server) -> Result<WebReport, CoreError> {
    let proxies = server.gateway.cores.iter().filter(|core| core.role == Role::Proxy);
    let asked: Vec<_> = proxies.map(|core| core.ask(CoreMessage::Web)).collect();
    let filters = &server.gateway.filters;
    let mut report = WebReport { caches: filters.caches(), lists: filters.lists(), ..WebReport::default() };
    for (name, servers) in filters.servers() {
        report.servers.insert(name, servers.iter().map(WebServer::new).collect());
    }
    for asked in asked {
        let stats = asked.answer().await?;
        for (name, stats) in &stats.filters {
            report.filters.entry(name.to_string()).or_default().add(stats);
        }
        for (spoken, count) in Spoken::ALL.iter().zip(stats.connections) {
            *report.connections.entry(spoken.key().to_owned()).or_default() += count;
        }
        for (key, count) in &stats.faults {
            *report.faults.entry((*key).to_owned()).or_default() += count;
        }
    }
    Ok(report)
}

impl WebServer {
    const fn new(report: &ServerReport) -> Self {
        let ServerReport { address, requests, failures, is_ejected, .. } = *report;
        Self { address, requests, failures, ejected: is_ejected }
    }
}

impl WebFilter {
    fn add(&mut self, stats: &FilterStats) {
        let FilterStats { exchanges, answered, resets, overruns, nanos, shown, let_out } = *stats;
        self.exchanges += exchanges;
        self.answered += answered;
        self.resets += resets;
        self.overruns += overruns;
        self.nanoseconds += nanos;
        self.request_bytes += shown[0];
        self.response_bytes += shown[1];
        self.edited_request_bytes += let_out[0];
        self.edited_response_bytes += let_out[1];
    }

    fn numbers(&self) -> [(Metric, u64); 9] {
        [
            (Metric::count("exchanges", "Requests that an HTTP filter was shown."), self.exchanges),
            (Metric::count("answered", "Responses given in the server's place."), self.answered),
            (Metric::count("resets", "Connections ended."), self.resets),
            (
                Metric::count(
                    "overruns",
                    "Calls that took longer than its time_budget, each ended a connection.",
                ),
                self.overruns,
            ),
            (Metric::count("busy_nanoseconds", "Time spent in it."), self.nanoseconds),
            (Metric::count("request_bytes", "Bytes of requests' content shown to it."), self.request_bytes),
            (
                Metric::count("response_bytes", "Bytes of responses' content shown to it."),
                self.response_bytes,
            ),
            (
                Metric::count("edited_request_bytes", "Bytes of requests' content that it let out edited."),
                self.edited_request_bytes,
            ),
            (
                Metric::count("edited_response_bytes", "Bytes of responses' content that it let out edited."),
                self.edited_response_bytes,
            ),
        ]
    }
}

impl WebReport {
    /// Adds everything to what Prometheus reads.
    pub(super) fn tell(&self, families: &mut Families) {
        for (name, filter) in &self.filters {
            for (metric, value) in filter.numbers() {
                families.add("filter", metric, &[("filter", name)], value);
            }
        }
        let faults = Metric::count(
            "faults",
            "Connections ended by a message that was not HTTP, or not in one way only, by what was wrong.",
        );
        for (key, count) in &self.faults {
            families.add("http", faults, &[("reason", key)], *count);
        }
        let connections = Metric::count(
            "connections",
            "Connections that HTTP filters were to see, by what they turned out to speak.",
        );
        for (protocol, count) in &self.connections {
            families.add("http", connections, &[("protocol", protocol)], *count);
        }
        for (name, servers) in &self.servers {
            for server in servers {
                let numbers = [server.requests, server.failures, u64::from(server.ejected)];
                let labels = [("filter", name.as_str()), ("server", &server.address.to_string())];
                for (metric, number) in SERVER.into_iter().zip(numbers) {
                    families.add("redirect", metric, &labels, number);
                }
            }
        }
        for (name, numbers) in &self.caches {
            for metric in CACHE {
                let value = numbers.get(metric.name).copied().unwrap_or(0);
                families.add("cache", metric, &[("filter", name)], value);
            }
        }
        for (name, lists) in &self.lists {
            for list in lists {
                let path = list.path.display().to_string();
                for (metric, value) in LIST.iter().zip([list.entries, list.skipped, list.written]) {
                    families.add("list", *metric, &[("filter", name), ("path", &path)], value);
                }
            }
        }
    }
}

/// What Prometheus is told of a server.
const SERVER: [Metric; 3] = [
    Metric::count("requests", "Requests redirected to a server."),
    Metric::count("failures", "Redirected requests that failed: no response, or a status of 5xx."),
    Metric::level("ejected", "Whether the server is left out for now, because it failed."),
];

/// What of a cache's numbers Prometheus is told.
const CACHE: [Metric; 16] = [
    Metric::count("hits", "Requests answered by a response in store."),
    Metric::count("misses", "Requests for which the server was asked."),
    Metric::count("stale", "Requests answered by a stale response."),
    Metric::count("revalidated", "Responses in store that the server said still to hold."),
    Metric::count(
        "collapsed",
        "Requests that waited for the response to another one, and were answered by it.",
    ),
    Metric::count("stored", "Responses stored."),
    Metric::count("evicted", "Responses that left memory for others."),
    Metric::count("purged", "Responses removed by operators or by requests."),
    Metric::count("refused", "Requests for what is in store alone, which was not there."),
    Metric::count("too_large", "Responses not stored for their size."),
    Metric::count(
        "outdated",
        "Responses not stored, for what they name was removed meanwhile, or asked for anew.",
    ),
    Metric::count("busy", "Requests passed on, and responses not stored, because too much was under way."),
    Metric::count("io_errors", "Failures of the disk."),
    Metric::count("unwritten", "Responses that the disk did not take."),
    Metric::level("entries", "Responses in memory."),
    Metric::level("memory_bytes", "Bytes of memory in use."),
];

/// What of a list Prometheus is told.
const LIST: [Metric; 3] = [
    Metric::level("entries", "Entries of a url-block filter's list."),
    Metric::level("skipped", "Lines of a url-block filter's list that are no entries."),
    Metric::level("written_seconds", "When the list in force was written, as Unix time."),
];

impl fmt::Display for WebReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<16} {:>12} {:>12} {:>8} {:>8} {:>10} {:>14} {:>14}",
            "filter",
            "exchanges",
            "answered",
            "resets",
            "overruns",
            "each",
            "request bytes",
            "response bytes"
        )?;
        for (name, filter) in &self.filters {
            let each = filter.nanoseconds.checked_div(filter.exchanges).filter(|each| *each > 0);
            writeln!(
                f,
                "{name:<16} {:>12} {:>12} {:>8} {:>8} {:>10} {:>14} {:>14}",
                filter.exchanges,
                filter.answered,
                filter.resets,
                filter.overruns,
                each.map_or_else(|| "-".to_owned(), |each| format!("{each} ns")),
                filter.request_bytes,
                filter.response_bytes,
            )?;
        }
        for (name, numbers) in &self.caches {
            let told: Vec<String> = numbers.iter().map(|(key, value)| format!("{key} {value}")).collect();
            writeln!(f, "\ncache {name}: {}", told.join(", "))?;
        }
        for (name, lists) in &self.lists {
            writeln!(f, "\nlists of {name}:")?;
            for ListReport { path, category, entries, skipped, written } in lists {
                let written = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(*written));
                let path = path.display();
                writeln!(f, "{path} ({category}): {entries} entries, {skipped} lines skipped, of {written}")?;
            }
        }
        for (name, servers) in &self.servers {
            writeln!(f, "\nservers of {name}:")?;
            for WebServer { address, requests, failures, ejected } in servers {
                let state = if *ejected { ", ejected" } else { "" };
                writeln!(f, "{address}: {requests} requests, {failures} failed{state}")?;
            }
        }
        let told: Vec<String> =
            self.connections.iter().map(|(protocol, count)| format!("{protocol} {count}")).collect();
        writeln!(f, "\nconnections: {}", told.join(", "))?;
        for (key, count) in &self.faults {
            writeln!(f, "fault {key}: {count}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Purged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} responses removed from memory; those on disk are passed over from now on",
            self.purged
        )
    }
}
