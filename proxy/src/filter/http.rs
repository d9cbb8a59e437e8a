//! HTTP/1 requests of a stream, one after the other, as far as their hosts go.
//!
//! Runs on: proxy cores. Allocates: for the names in a head. Blocks: never.
//!
//! It serves to decide whether a request may reach a server. [`pnat_http::codec`] refuses what two servers could read
//! differently; here, too, nobody guesses.

use pnat_http::codec::{self, Limits, RequestReader};
use pnat_http::message::{Request, host_of};

/// Longest request head, in bytes.
pub(super) const LONGEST_HEAD: usize = Limits::USUAL.head;

/// What a request head says, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// The hosts that the target and the Host field name, in lower case, without port.
    pub hosts: Vec<String>,
    /// The answer to it has no body.
    pub is_head: bool,
}

/// The next thing in a stream of requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// A head is incomplete: show it again, from its first byte, with more.
    More,
    /// A head of so many bytes, leading empty lines included.
    Head(Head, usize),
    /// So many bytes of a body.
    Body(usize),
    /// What follows need not be HTTP.
    Switched,
    /// Not to be understood, or not in one way only.
    Malformed(&'static str),
}

/// Follows a stream of requests.
#[derive(Debug, Default)]
pub(super) struct Requests {
    reader: RequestReader,
    /// The last one.
    request: Request,
    /// Behind it the stream may turn into something else (CONNECT, Upgrade).
    switches: bool,
}

impl Requests {
    /// What `bytes`, the stream from where the last part ended, begin with. The first `seen` of them were shown before.
    /// `bytes` must not be empty.
    pub(super) fn next(&mut self, bytes: &[u8], seen: usize) -> Part {
        if self.switches && self.reader.is_between() {
            self.switches = false;
            return Part::Switched;
        }
        match self.reader.next(bytes, seen, &Limits::USUAL, &mut self.request) {
            Ok(codec::Part::More) => Part::More,
            Ok(codec::Part::Head(length)) => {
                let request = &self.request;
                self.switches = request.method() == "CONNECT" || request.fields().has("upgrade");
                Part::Head(self.head(), length)
            }
            Ok(codec::Part::Content { taken, .. }) => Part::Body(taken),
            Err(fault) => Part::Malformed(fault.sentence()),
        }
    }

    fn head(&self) -> Head {
        let request = &self.request;
        let host = Some(request.host()).filter(|_| !request.authority().is_empty());
        // The stream goes on as it came, so a server may go by the one as well as by the other.
        let other = self.reader.replaced_host().and_then(|host| str::from_utf8(host).ok()).map(host_of);
        let hosts = host.into_iter().chain(other).map(name_of).collect();
        Head { hosts, is_head: request.method() == "HEAD" }
    }
}

/// In lower case, without the final dot.
fn name_of(host: &str) -> String {
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

#[cfg(test)]
mod tests;
