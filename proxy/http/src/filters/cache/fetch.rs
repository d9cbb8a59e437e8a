//! A request on its way to the server, and the response that is collected from it.
//!
//! Runs on: proxy cores. Allocates: what is stored. Blocks: never.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;

use super::Shared;
use super::counters::Count;
use super::key::{self, Key};
use super::policy::{self, Moments};
use super::service::{Arrival, Flight};
use super::settings::Settings;
use super::stored::{self, Stored};
use super::want::Want;
use crate::fields::Fields;
use crate::message::{Framing, Request, Response};

/// What a client asks of the response that it gets, not of the one that is stored.
pub(super) const OF_CLIENT: [&str; 4] = ["if-none-match", "if-modified-since", "range", "if-range"];

/// What is asked of a server, and why.
#[derive(Debug)]
pub(super) struct Fetch {
    pub(super) want: Want,
    /// The request as this filter was shown it: what others make of it later is their affair with the server.
    pub(super) shown: Arc<Request>,
    /// Of the resource, and of what was looked for: a variant, perhaps.
    pub(super) resource: Key,
    pub(super) looked_for: Key,
    pub(super) flight: Option<Flight>,
    /// What is in store, but does not answer as it is.
    pub(super) stale: Option<Arc<Stored>>,
    /// What the client had asked for of that: its conditions and ranges.
    pub(super) asked: Fields,
    /// Whether the request asks if `stale` still holds.
    pub(super) validates: bool,
    /// Whether the client has been answered.
    pub(super) is_answered: bool,
    /// Why the server is asked (RFC 9211 section 2.2).
    pub(super) reason: &'static str,
    /// Unix time.
    pub(super) requested: Duration,
    pub(super) collecting: Option<Collecting>,
}

impl Fetch {
    /// Has the request ask whether what is in store still holds (RFC 9111 section 4.3.1).
    pub(super) fn ask_to_validate(&mut self, request: &mut Request) {
        let Some(stale) = self.stale.as_ref().filter(|_| !self.want.is_head) else { return };
        let own = stale.head.fields();
        for name in OF_CLIENT {
            for value in request.fields().all(name) {
                self.asked.push(name, value);
            }
        }
        let (tag, modified) = (own.get("etag"), own.get("last-modified"));
        if tag.is_none() && modified.is_none() {
            return;
        }
        let fields = request.fields_mut();
        for name in OF_CLIENT {
            fields.remove(name);
        }
        if let Some(tag) = tag {
            fields.push("If-None-Match", tag);
        }
        if let Some(modified) = modified {
            fields.push("If-Modified-Since", modified);
        }
        self.validates = true;
    }

    /// What a 304 names by a strong tag, where that is not what is in store, of which it says nothing then (RFC 9111 section 4.3.4).
    pub(super) fn other<'r>(&self, response: &'r Response) -> Option<&'r [u8]> {
        let own = self.stale.as_ref()?.head.fields().get("etag")?;
        let own = own.strip_prefix(b"W/").unwrap_or(own);
        response.fields().get("etag").filter(|tag| tag.starts_with(b"\"") && *tag != own)
    }

    /// Whether the client has what this tag names.
    pub(super) fn is_clients(&self, tag: &[u8]) -> bool {
        self.asked.list("if-none-match").any(|asked| asked == tag)
    }

    /// Has the request ask for what the client has asked for, as if nothing were in store.
    pub(super) fn ask_anew(&mut self, request: &mut Request, now: Duration) {
        let fields = request.fields_mut();
        for name in OF_CLIENT {
            fields.remove(name);
        }
        for (name, value) in self.asked.iter() {
            fields.push(name, value);
        }
        self.asked = Fields::new();
        (self.stale, self.validates, self.requested) = (None, false, now);
    }

    /// What is in store, after a 304 said that it holds (RFC 9111 section 4.3.4).
    pub(super) fn renewed(
        &self,
        request: &Request,
        response: &Response,
        settings: &Settings,
        now: Duration,
    ) -> Option<Stored> {
        let stale = self.stale.as_ref()?;
        let head = stale.updated_head(response, now, settings.set_cookie);
        let moments = Moments { requested: self.requested, received: now };
        // The age is that of the 304, not that of what it renews.
        let mut judged = head.clone();
        for age in response.fields().all("age") {
            judged.fields_mut().push("Age", age);
        }
        let terms = policy::judge(request, &judged, moments, settings.set_cookie)?;
        Some(Stored::new(head, stale.content.clone(), moments, terms))
    }

    /// Hands on what is to be stored.
    pub(super) fn arrival(
        &mut self,
        request_values: Option<(Vec<String>, String)>,
        stored: Arc<Stored>,
        room: Option<Taken>,
    ) -> Arrival {
        let (key, flight) = (self.resource.clone(), self.flight.take());
        Arrival { key, variant: request_values, stored, room, flight }
    }
}

/// What a response varies by, with the values that the request has for it.
pub(super) fn variant(request: &Request, head: &Response) -> Option<(Vec<String>, String)> {
    let names = stored::selecting(head.fields());
    let selected = key::selected(&names, request.fields());
    (!names.is_empty()).then_some((names, selected))
}

/// A response on its way into the cache.
#[derive(Debug)]
pub(super) struct Collecting {
    head: Response,
    terms: policy::Terms,
    moments: Moments,
    pub(super) variant: Option<(Vec<String>, String)>,
    content: Vec<u8>,
    expected: Option<u64>,
    most: usize,
    room: Taken,
}

/// Whether a response can be collected on.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Collected {
    More,
    Whole,
    /// It is not stored, which counts as that.
    Never(Count),
}

impl Collecting {
    /// Begins with a response's head; `None`: it is not to be stored.
    pub(super) fn begin(
        request: &Request,
        response: &Response,
        moments: Moments,
        settings: &Settings,
        shared: &Arc<Shared>,
    ) -> Option<Self> {
        let terms = policy::judge(request, response, moments, settings.set_cookie)?;
        let expected = match response.framing() {
            Framing::None => Some(0),
            Framing::Length(length) => Some(length),
            Framing::Chunked | Framing::UntilClose => None,
        };
        if expected.is_some_and(|length| length > settings.object as u64) {
            shared.counters.add(Count::TooLarge);
            return None;
        }
        let head = stored::kept_head(response, moments.received, settings.set_cookie);
        Some(Self {
            variant: variant(request, response),
            head,
            terms,
            moments,
            content: Vec::new(),
            expected,
            most: settings.object,
            room: Taken { bytes: 0, shared: Arc::clone(shared) },
        })
    }

    /// Whether the head is all there is: no content will be shown.
    pub(super) fn is_whole(&self) -> bool {
        self.expected == Some(0)
    }

    pub(super) fn push(&mut self, bytes: &[u8], end: bool) -> Collected {
        let length = self.content.len() + bytes.len();
        if length > self.most {
            return Collected::Never(Count::TooLarge);
        }
        if !self.room.take(bytes.len()) {
            return Collected::Never(Count::Busy);
        }
        self.content.extend_from_slice(bytes);
        match (end, self.expected) {
            (false, _) => Collected::More,
            // The codec has read it to its end: a filter has cut it.
            (true, Some(expected)) if expected != length as u64 => Collected::Never(Count::Busy),
            (true, _) => Collected::Whole,
        }
    }

    /// What is to be stored, and the room that it takes until it is.
    pub(super) fn finish(self) -> (Stored, Taken) {
        let content = Bytes::from(self.content.into_boxed_slice());
        (Stored::new(self.head, content, self.moments, self.terms), self.room)
    }
}

/// Bytes taken from what may be on its way into the cache at once; dropped, it gives them back.
#[derive(Debug)]
pub(super) struct Taken {
    bytes: u64,
    shared: Arc<Shared>,
}

impl Taken {
    /// Takes so many more; `false`: there is too much already.
    fn take(&mut self, bytes: usize) -> bool {
        let added = bytes as u64;
        self.bytes += added;
        self.shared.collected.fetch_add(added, Relaxed) + added <= self.shared.most
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.shared.collected.fetch_sub(self.bytes, Relaxed);
    }
}
