//! `block`: ends flows that carry unwanted bytes or go to unwanted names.
//!
//! Runs on: proxy cores. Allocates: per flow, and for request heads and hellos until they are judged. Blocks: never.
//!
//! - Byte patterns, in both streams: a match ends the flow before the segment that completes it goes on. Nothing is
//!   held for that, so an exchange never waits for bytes that do not come.
//! - HTTP hosts: of every request on a connection. A head is held until it is judged; a request that servers could
//!   understand in several ways, or HTTP/2 without TLS, is blocked, too.
//! - TLS server names: the hello is held until it is complete and judged. One that cannot be read is blocked.
//!
//! A stream that is neither HTTP nor TLS is let go at the first byte or line that says so; no verdict waits for a timer.
//! In datagrams only patterns are looked for, each datagram by itself; QUIC is not inspected: deny UDP port 443 by a
//! rule where names matter.

use std::collections::HashSet;
use std::io::Write;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, BuildError};
use pnat_shared::config::{BlockAnswer, BlockFilter};
use pnat_shared::flow::Stream;
use pnat_shared::verdict::CloseReason;

use super::http::{LONGEST_HEAD, Part, Requests};
use super::sniff::{Guess, guess};
use super::tls::{Hello, HelloReader};
use super::{Call, DatagramFilter, DatagramVerdict, Factory, Flow, StreamFilter, Verdict};

/// The filter as configured.
#[derive(Debug)]
pub(super) struct BlockFactory {
    unwanted: Arc<Unwanted>,
}

#[derive(Debug)]
struct Unwanted {
    patterns: Option<Patterns>,
    hosts: Names,
    sni: Names,
    /// What a blocked request is answered with; `None`: a reset.
    page: Option<Arc<str>>,
}

impl BlockFactory {
    pub(super) fn new(config: &BlockFilter) -> Result<Self, BuildError> {
        let page = match &config.answer {
            BlockAnswer::Reset => None,
            BlockAnswer::Page(page) => Some(page.clone()),
        };
        let unwanted = Unwanted {
            patterns: Patterns::new(&config.patterns)?,
            hosts: Names::new(&config.hosts),
            sni: Names::new(&config.sni),
            page,
        };
        Ok(Self { unwanted: Arc::new(unwanted) })
    }

    fn block(&self) -> Block {
        let names = if self.unwanted.judges_names() { Watch::Start } else { Watch::Done };
        Block {
            unwanted: self.unwanted.clone(),
            names,
            tails: [Vec::new(), Vec::new()],
            request: None,
            answered: false,
        }
    }
}

impl Factory for BlockFactory {
    fn stream(&self) -> Box<dyn StreamFilter> {
        Box::new(self.block())
    }

    fn datagram(&self) -> Box<dyn DatagramFilter> {
        Box::new(self.block())
    }
}

/// One flow's instance.
struct Block {
    unwanted: Arc<Unwanted>,
    names: Watch,
    /// Per stream: the last bytes let out, in which a pattern may begin.
    tails: [Vec<u8>; 2],
    /// The last request that was read.
    request: Option<Request>,
    /// The server has sent something.
    answered: bool,
}

#[derive(Copy, Clone, Debug)]
struct Request {
    is_head: bool,
}

/// How names are looked for in the first stream.
#[derive(Debug)]
enum Watch {
    /// It is not known yet what the client speaks.
    Start,
    Tls(HelloReader),
    Http(Box<Requests>),
    Done,
}

/// Why a flow is blocked, in words.
type Why = String;

impl StreamFilter for Block {
    fn data(&mut self, call: &mut Call<'_>, stream: Stream, bytes: &[u8], held: usize, end: bool) -> Verdict {
        let judged = match stream {
            Stream::First => self.judge_names(call.flow, bytes, held, end),
            Stream::Second => {
                self.answered |= !bytes.is_empty();
                Ok(bytes.len())
            }
        };
        let count = match judged.and_then(|count| self.judge_patterns(stream, &bytes[..count])) {
            Ok(count) => count,
            Err(why) => return self.end(call, stream, why),
        };
        let needed = match stream {
            Stream::First => !matches!(self.names, Watch::Done),
            Stream::Second => self.unwanted.page.is_some() && !self.answered,
        };
        if needed || self.unwanted.patterns.is_some() { Verdict::Pass(count) } else { Verdict::Release }
    }

    fn wants(&self, stream: Stream) -> bool {
        let unwanted = &*self.unwanted;
        unwanted.patterns.is_some()
            || match stream {
                Stream::First => unwanted.judges_names(),
                Stream::Second => unwanted.judges_requests() && unwanted.page.is_some(),
            }
    }

    /// Heads and hellos have limits of their own, both below.
    fn budget(&self) -> usize {
        2 * LONGEST_HEAD
    }
}

impl Block {
    /// Looks for names; answers how many bytes may go on.
    fn judge_names(&mut self, flow: &mut Flow, bytes: &[u8], held: usize, end: bool) -> Result<usize, Why> {
        let unwanted = &*self.unwanted;
        let mut at = 0;
        // Bytes behind `at` that the current reader has seen in an earlier call.
        let mut seen = held;
        while at < bytes.len() {
            let rest = &bytes[at..];
            match &mut self.names {
                Watch::Done => return Ok(bytes.len()),
                Watch::Start => {
                    self.names = match guess(rest, end) {
                        Guess::More if unwanted.judges_requests() || rest == [22] => return Ok(at),
                        Guess::Tls if !unwanted.sni.is_empty() => Watch::Tls(HelloReader::default()),
                        Guess::Http if unwanted.judges_requests() => Watch::Http(Box::default()),
                        _ => Watch::Done,
                    };
                }
                Watch::Tls(reader) => match reader.push(&rest[seen..]) {
                    Hello::More if end => self.names = Watch::Done,
                    Hello::More => return Ok(at),
                    Hello::Name(name) => {
                        if let Some(name) = name {
                            unwanted.judge_name(flow, &unwanted.sni, "TLS server name", name)?;
                        }
                        self.names = Watch::Done;
                    }
                    Hello::Malformed(why) => return Err(format!("unreadable ClientHello: {why}")),
                },
                Watch::Http(requests) => match requests.next(rest, seen) {
                    Part::More if !end => return Ok(at),
                    Part::Head(head, length) => {
                        self.request = Some(Request { is_head: head.is_head });
                        for host in head.hosts {
                            unwanted.judge_name(flow, &unwanted.hosts, "HTTP host", host)?;
                        }
                        at += length;
                        if unwanted.hosts.is_empty() {
                            self.names = Watch::Done;
                        }
                    }
                    Part::Body(length) => at += length,
                    Part::Switched => self.names = Watch::Start,
                    Part::More | Part::Malformed(_) if unwanted.hosts.is_empty() => self.names = Watch::Done,
                    Part::More => return Err("HTTP request: a head that is cut off".to_owned()),
                    Part::Malformed(why) => return Err(format!("HTTP request: {why}")),
                },
            }
            seen = 0;
        }
        Ok(at)
    }

    /// Looks for patterns in bytes that would go on now; answers their number.
    fn judge_patterns(&mut self, stream: Stream, bytes: &[u8]) -> Result<usize, Why> {
        let Some(patterns) = &self.unwanted.patterns else { return Ok(bytes.len()) };
        match patterns.find(&mut self.tails[stream as usize], bytes) {
            None => Ok(bytes.len()),
            Some(number) => {
                let sender = match stream {
                    Stream::First => "client",
                    Stream::Second => "server",
                };
                Err(format!("pattern {number}, sent by the {sender}"))
            }
        }
    }

    /// The page where it can be one answer to one request, else a reset.
    fn end(&self, call: &mut Call<'_>, stream: Stream, why: Why) -> Verdict {
        call.flow.verdict = Some(why.into());
        match (&self.unwanted.page, self.request) {
            (Some(page), Some(request)) if stream == Stream::First && !self.answered => {
                write_page(call.output, page, request.is_head);
                Verdict::Answer(CloseReason::Blocked)
            }
            _ => Verdict::Reset(CloseReason::Blocked),
        }
    }
}

fn write_page(output: &mut Vec<u8>, page: &str, is_head: bool) {
    let head =
        "HTTP/1.1 403 Forbidden\r\nContent-Type: text/html; charset=utf-8\r\nCache-Control: no-store\r\n";
    let length = page.len();
    write!(output, "{head}Content-Length: {length}\r\nConnection: close\r\n\r\n")
        .expect("invariant: writing to a vector cannot fail");
    if !is_head {
        output.extend_from_slice(page.as_bytes());
    }
}

impl Unwanted {
    /// Whether the first stream's beginning is read at all.
    fn judges_names(&self) -> bool {
        self.judges_requests() || !self.sni.is_empty()
    }

    /// Whether requests are read: for their hosts, or to know what the page would answer.
    fn judges_requests(&self) -> bool {
        !self.hosts.is_empty() || self.page.is_some() && self.patterns.is_some()
    }

    fn judge_name(&self, flow: &mut Flow, names: &Names, kind: &str, name: String) -> Result<(), Why> {
        let result = if names.contain(&name) { Err(format!("{kind} {name}")) } else { Ok(()) };
        flow.name.get_or_insert_with(|| name.into());
        result
    }
}

impl DatagramFilter for Block {
    fn datagram(&mut self, call: &mut Call<'_>, stream: Stream, bytes: &[u8]) -> DatagramVerdict {
        self.tails[stream as usize].clear();
        match self.judge_patterns(stream, bytes) {
            Ok(_) => DatagramVerdict::Pass,
            Err(why) => {
                call.flow.verdict = Some(why.into());
                DatagramVerdict::Close(CloseReason::Blocked)
            }
        }
    }

    fn wants(&self, _stream: Stream) -> bool {
        self.unwanted.patterns.is_some()
    }
}

/// Byte sequences to look for.
#[derive(Debug)]
struct Patterns {
    searcher: AhoCorasick,
    /// Bytes of a stream in which a match may begin that ends later: one less than the longest pattern.
    overlap: usize,
}

impl Patterns {
    /// `None` where there is nothing to look for.
    fn new(patterns: &[Vec<u8>]) -> Result<Option<Self>, BuildError> {
        let patterns: Vec<_> = patterns.iter().filter(|pattern| !pattern.is_empty()).collect();
        let Some(longest) = patterns.iter().map(|pattern| pattern.len()).max() else { return Ok(None) };
        let searcher = AhoCorasick::new(patterns)?;
        Ok(Some(Self { searcher, overlap: longest - 1 }))
    }

    /// The number, from 1, of a pattern that ends within `bytes`, which follow on `tail`; `tail` moves along.
    fn find(&self, tail: &mut Vec<u8>, bytes: &[u8]) -> Option<usize> {
        if !tail.is_empty() {
            tail.extend_from_slice(&bytes[..bytes.len().min(self.overlap)]);
            if let Some(found) = self.searcher.find(&*tail) {
                return Some(found.pattern().as_usize() + 1);
            }
        }
        if let Some(found) = self.searcher.find(bytes) {
            return Some(found.pattern().as_usize() + 1);
        }
        if bytes.len() >= self.overlap || tail.is_empty() {
            tail.clear();
            tail.extend_from_slice(&bytes[bytes.len().saturating_sub(self.overlap)..]);
        } else {
            tail.drain(..tail.len().saturating_sub(self.overlap));
        }
        None
    }
}

/// Names: exact, or `*.suffix`.
#[derive(Debug, Default)]
struct Names {
    exact: HashSet<Box<str>>,
    /// A name matches if it ends with one of these behind a dot.
    suffixes: HashSet<Box<str>>,
}

impl Names {
    fn new(names: &[String]) -> Self {
        let mut all = Self::default();
        for name in names {
            let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
            match name.strip_prefix("*.") {
                Some(suffix) => all.suffixes.insert(Box::from(suffix)),
                None => all.exact.insert(Box::from(name)),
            };
        }
        all
    }

    fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.suffixes.is_empty()
    }

    /// `name` is in lower case.
    fn contain(&self, name: &str) -> bool {
        self.exact.contains(name)
            || name.match_indices('.').any(|(dot, _)| self.suffixes.contains(&name[dot + 1..]))
    }
}

#[cfg(test)]
mod tests;
