//! `log`: one JSON line per flow at its end and, if asked, what its streams carried.
//!
//! Runs on: proxy cores. Allocates: per flow, and for content in pieces. Blocks: never: the writer has a thread of its own
//! ([`super::log_writer`]), and what it has no room for is lost and counted.
//!
//! Without content to keep, the filter sees the first stream only until the name of the server is known, and lets go.

use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pnat_shared::config::LogFilter;
use pnat_shared::flow::{Protocol, Stream};
use pnat_shared::time::Duration;
use pnat_shared::verdict::CloseReason;
use serde::Serialize;

use super::log_writer::Record;
use super::sniff::NameFinder;
use super::{Call, DatagramFilter, DatagramVerdict, Factory, Flow, Services, StreamFilter, Summary, Verdict};

/// Content goes to the writer in pieces of this size, in bytes.
const PIECE: usize = 16 * 1024;

/// The filter as configured.
#[derive(Debug)]
pub(super) struct LogFactory {
    path: Arc<Path>,
    content: Option<Arc<ContentConfig>>,
}

#[derive(Debug)]
struct ContentConfig {
    dir: PathBuf,
    /// Bytes kept per stream.
    cap: u64,
}

impl LogFactory {
    pub(super) fn new(config: &LogFilter) -> Self {
        let content = |dir: &PathBuf| Arc::new(ContentConfig { dir: dir.clone(), cap: config.content_cap });
        Self { path: Arc::from(&*config.path), content: config.content_dir.as_ref().map(content) }
    }

    fn log(&self, finder: Option<NameFinder>) -> Log {
        let kept = self.content.as_ref().map(|_| [Kept::default(), Kept::default()]);
        Log { path: self.path.clone(), finder, content: self.content.clone(), kept }
    }
}

impl Factory for LogFactory {
    fn stream(&self) -> Box<dyn StreamFilter> {
        Box::new(self.log(Some(NameFinder::default())))
    }

    fn datagram(&self) -> Box<dyn DatagramFilter> {
        Box::new(self.log(None))
    }
}

/// One flow's instance.
struct Log {
    path: Arc<Path>,
    /// Looks for the server's name. I.e. `None` once that is settled.
    finder: Option<NameFinder>,
    content: Option<Arc<ContentConfig>>,
    /// Per stream; `None` where no content is kept.
    kept: Option<[Kept; 2]>,
}

/// A stream's content on its way to its file.
#[derive(Debug, Default)]
struct Kept {
    path: Option<Arc<Path>>,
    /// Bytes that went to the writer or were lost.
    offset: u64,
    lost: u64,
    piece: Vec<u8>,
}

impl Kept {
    /// Keeps what the cap allows; answers whether there is room for more.
    fn take(&mut self, call: &Call<'_>, config: &ContentConfig, stream: Stream, bytes: &[u8]) -> bool {
        let room = config.cap.saturating_sub(self.offset + self.piece.len() as u64);
        let count = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
        if self.path.is_none() && count > 0 {
            self.path = Some(content_path(&config.dir, call.flow, stream));
        }
        self.piece.extend_from_slice(&bytes[..count]);
        let full = count as u64 == room;
        if self.piece.len() >= PIECE || full {
            self.send(call.services);
        }
        !full
    }

    fn send(&mut self, services: &Services) {
        let (Some(path), false) = (&self.path, self.piece.is_empty()) else { return };
        let bytes = std::mem::take(&mut self.piece);
        let length = bytes.len() as u64;
        let record = Record::Content { path: path.clone(), offset: self.offset, bytes };
        self.offset += length;
        if !services.log.as_ref().is_some_and(|log| log.send(record)) {
            self.lost += length;
        }
    }
}

fn content_path(dir: &Path, flow: &Flow, stream: Stream) -> Arc<Path> {
    let end = match stream {
        Stream::First => "first",
        Stream::Second => "second",
    };
    Arc::from(dir.join(format!("{}-{}-{}.{end}", flow.id, flow.client, flow.server)))
}

impl Log {
    /// Keeps content; answers whether more is wanted.
    fn keep(&mut self, call: &Call<'_>, stream: Stream, bytes: &[u8]) -> bool {
        match (&mut self.kept, &self.content) {
            (Some(kept), Some(config)) => kept[stream as usize].take(call, config, stream, bytes),
            _ => false,
        }
    }

    /// Looks for the name; answers whether it goes on doing so.
    fn find_name(&mut self, flow: &mut Flow, bytes: &[u8]) -> bool {
        let Some(finder) = &mut self.finder else { return false };
        if flow.name.is_none() {
            match finder.push(bytes) {
                None => return true,
                Some(name) => flow.name = name.map(String::into_boxed_str),
            }
        }
        self.finder = None;
        false
    }

    fn write_line(&mut self, flow: &Flow, summary: &Summary, services: &Services) {
        let content = self.kept.as_mut().map(|kept| {
            kept.iter_mut().for_each(|kept| kept.send(services));
            kept.each_ref().map(|kept| Content {
                file: kept.path.as_deref(),
                bytes: kept.offset,
                lost: kept.lost,
            })
        });
        let (Some(log), Ok(mut line)) =
            (&services.log, serde_json::to_vec(&Line::new(flow, summary, services, content)))
        else {
            return;
        };
        line.push(b'\n');
        log.send(Record::Line { path: self.path.clone(), line });
    }
}

impl StreamFilter for Log {
    fn data(
        &mut self,
        call: &mut Call<'_>,
        stream: Stream,
        bytes: &[u8],
        _held: usize,
        _end: bool,
    ) -> Verdict {
        let keeps = self.keep(call, stream, bytes);
        let finds = stream == Stream::First && self.find_name(call.flow, bytes);
        if keeps || finds { Verdict::Pass(bytes.len()) } else { Verdict::Release }
    }

    fn wants(&self, stream: Stream) -> bool {
        self.kept.is_some() || stream == Stream::First
    }

    fn close(&mut self, flow: &Flow, summary: &Summary, services: &mut Services) {
        self.write_line(flow, summary, services);
    }
}

impl DatagramFilter for Log {
    fn datagram(&mut self, call: &mut Call<'_>, stream: Stream, bytes: &[u8]) -> DatagramVerdict {
        if self.keep(call, stream, bytes) { DatagramVerdict::Pass } else { DatagramVerdict::Release }
    }

    fn wants(&self, _stream: Stream) -> bool {
        self.kept.is_some()
    }

    fn close(&mut self, flow: &Flow, summary: &Summary, services: &mut Services) {
        self.write_line(flow, summary, services);
    }
}

/// What a line says. Times are in milliseconds, to the microsecond.
#[derive(Debug, Serialize)]
struct Line<'a> {
    /// When the flow ended.
    time: String,
    opened: String,
    flow: u64,
    protocol: Protocol,
    /// As the client sees it, and as the server does.
    original: Tuple,
    translated: Tuple,
    /// The server that a filter chose.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<SocketAddrV4>,
    rule: Option<&'a str>,
    name: Option<&'a str>,
    first: Carried,
    second: Carried,
    connect_ms: Option<f64>,
    first_byte_ms: Option<f64>,
    duration_ms: f64,
    reason: CloseReason,
    sentence: &'static str,
    verdict: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<[Content<'a>; 2]>,
}

#[derive(Debug, Serialize)]
struct Tuple {
    client: SocketAddrV4,
    server: SocketAddrV4,
}

/// What a stream carried: bytes and packets that came in, bytes that went out.
#[derive(Debug, Serialize)]
struct Carried {
    bytes: u64,
    packets: u64,
    sent: u64,
}

/// What was kept of a stream: lost bytes are zeros in the file.
#[derive(Debug, Serialize)]
struct Content<'a> {
    file: Option<&'a Path>,
    bytes: u64,
    lost: u64,
}

impl<'a> Line<'a> {
    fn new(
        flow: &'a Flow,
        summary: &Summary,
        services: &Services,
        content: Option<[Content<'a>; 2]>,
    ) -> Self {
        let carried = |stream: Stream| Carried {
            bytes: summary.received[stream as usize],
            packets: summary.packets[stream as usize],
            sent: summary.sent[stream as usize],
        };
        Self {
            time: rfc3339(services.unix_time(summary.ended)),
            opened: rfc3339(services.unix_time(flow.opened)),
            flow: flow.id,
            protocol: flow.protocol,
            original: Tuple { client: flow.client, server: flow.server },
            translated: Tuple { client: flow.public, server: flow.target.unwrap_or(flow.server) },
            target: flow.target,
            rule: flow.rule.as_deref(),
            name: flow.name.as_deref(),
            first: carried(Stream::First),
            second: carried(Stream::Second),
            connect_ms: summary.connect.map(millis),
            first_byte_ms: summary.first_byte.map(millis),
            duration_ms: millis(summary.ended.since(flow.opened)),
            reason: summary.reason,
            sentence: summary.reason.sentence(),
            verdict: flow.told_verdict(),
            content,
        }
    }
}

fn millis(time: Duration) -> f64 {
    time.as_micros() as f64 / 1_000.0
}

/// A Unix time as RFC 3339 writes it, in UTC, to the microsecond.
fn rfc3339(unix: Duration) -> String {
    let seconds = unix.as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Counted from 0000-03-01, so that leap days end years, and 400 years are one cycle of 146,097 days.
    let days = days + 719_468;
    let (cycle, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let year = cycle * 400 + year + u64::from(month >= 10);
    let month = if month < 10 { month + 3 } else { month - 9 };
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    let micros = unix.subsec_micros();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

#[cfg(test)]
mod tests;
