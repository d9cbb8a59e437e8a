//! A response in store, and what else may be found under a key.
//!
//! Runs on: proxy cores and the cache's threads. Allocates: when made. Blocks: never.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;

use super::directive::Directives;
use super::policy::{Moments, Terms, http_date};
use super::settings::Cookies;
use crate::fields::Fields;
use crate::message::Response;

/// How long who revalidates in the background may take before somebody else does, in seconds.
const CLAIM: u64 = 30;

/// What a record costs in the maps that it lies in, and by itself, in bytes.
const RECORD: usize = 384;

/// Fields that are no part of what is stored: they are the connection's or the codec's, or are made anew (RFC 9111 section 3.1).
const LEFT_OUT: [&str; 12] = [
    "age",
    "connection",
    "content-length",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Fields that tell about the content that came with them: a 304 changes neither (RFC 9111 section 3.2).
const OF_CONTENT: [&str; 6] =
    ["content-encoding", "content-length", "content-md5", "content-range", "etag", "transfer-encoding"];

/// What may lie under a key.
#[derive(Clone, Debug)]
pub(super) enum Record {
    Response(Arc<Stored>),
    /// The resource has variants.
    Variants(Arc<Variants>),
    /// What came for this was not to be stored lately, so that nobody should wait for another one's response (Unix time until
    /// when that is believed).
    Uncacheable(Duration),
}

impl Record {
    /// Bytes of memory, about.
    pub(super) fn weight(&self) -> usize {
        RECORD
            + match self {
                Self::Response(stored) => stored.weight(),
                Self::Variants(variants) => variants.names.iter().map(|name| 24 + name.len()).sum(),
                Self::Uncacheable(_) => 0,
            }
    }

    /// Whether both are one and the same.
    pub(super) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Response(a), Self::Response(b)) => Arc::ptr_eq(a, b),
            (Self::Variants(a), Self::Variants(b)) => Arc::ptr_eq(a, b),
            (Self::Uncacheable(a), Self::Uncacheable(b)) => a == b,
            _ => false,
        }
    }
}

/// By which fields a resource's variants differ.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Variants {
    /// In lower case, each once, in order.
    pub(super) names: Vec<String>,
    /// A part of the variants' keys: with a new one, the old variants are out of reach.
    pub(super) generation: u64,
    /// When the resource was asked for: Unix time.
    pub(super) requested: Duration,
}

/// The fields that a response varies by.
pub(super) fn selecting(fields: &Fields) -> Vec<String> {
    let mut names: Vec<String> =
        fields.list("vary").map(|name| String::from_utf8_lossy(name).to_ascii_lowercase()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// A complete response in store.
#[derive(Debug)]
pub(super) struct Stored {
    /// As it goes out, but for `Age`.
    pub(super) head: Response,
    pub(super) content: Bytes,
    pub(super) moments: Moments,
    pub(super) terms: Terms,
    /// Unix time.
    fresh_until: Duration,
    /// The second of the last time that its use was told to the storage.
    touched: AtomicU64,
    /// Until when somebody revalidates it: Unix time, in seconds.
    claimed: AtomicU64,
}

impl Stored {
    pub(super) fn new(head: Response, content: Bytes, moments: Moments, terms: Terms) -> Self {
        let left = Duration::from_secs(terms.lifetime.saturating_sub(terms.age));
        let fresh_until = if terms.always_validate { Duration::ZERO } else { moments.received + left };
        Self {
            head,
            content,
            moments,
            terms,
            fresh_until,
            touched: AtomicU64::new(moments.received.as_secs()),
            claimed: AtomicU64::new(0),
        }
    }

    /// Whether it answers whom asks for nothing special.
    pub(super) fn is_fresh(&self, now: Duration) -> bool {
        now < self.fresh_until
    }

    /// Whether it could answer others without validation, at least when it came.
    pub(super) fn answers_others(&self) -> bool {
        let received = self.moments.received;
        self.is_fresh(received) || self.may_be_stale_by(self.terms.while_revalidate, received)
    }

    /// RFC 9111 section 4.2.3, in seconds.
    pub(super) fn age(&self, now: Duration) -> u64 {
        self.terms.age + now.saturating_sub(self.moments.received).as_secs()
    }

    /// Seconds for which it is fresh yet; negative ones, since when it is stale.
    pub(super) fn ttl(&self, now: Duration) -> i64 {
        let seconds = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        seconds(self.terms.lifetime).saturating_sub(seconds(self.age(now)))
    }

    /// Whether something still goes by it once it is stale by so many seconds, unless it forbids that (RFC 9111 section 4.2.4).
    pub(super) fn may_be_stale_by(&self, seconds: u64, now: Duration) -> bool {
        let is_forbidden = self.terms.always_validate || self.terms.must_revalidate;
        !is_forbidden && self.age(now) < self.terms.lifetime.saturating_add(seconds)
    }

    /// Takes on to revalidate it; one at a time gets `true`.
    pub(super) fn claim(&self, now: Duration) -> bool {
        let now = now.as_secs();
        let until = self.claimed.load(Relaxed);
        until <= now && self.claimed.compare_exchange(until, now + CLAIM, Relaxed, Relaxed).is_ok()
    }

    /// Whether the storage should hear that it is used: once a second.
    pub(super) fn touch(&self, now: Duration) -> bool {
        let now = now.as_secs();
        let last = self.touched.load(Relaxed);
        last != now && self.touched.compare_exchange(last, now, Relaxed, Relaxed).is_ok()
    }

    fn weight(&self) -> usize {
        let fields: usize =
            self.head.fields().iter().map(|(name, value)| name.len() + value.len() + 16).sum();
        fields + self.content.len()
    }

    /// Whether a response to HEAD is about this: what it says of validators and length is the same.
    pub(super) fn is_described_by(&self, response: &Response) -> bool {
        let own = self.head.fields();
        let is_same = |name| response.fields().get(name).is_none_or(|value| own.get(name) == Some(value));
        let length = response.fields().text("content-length").map(str::parse);
        is_same("etag")
            && is_same("last-modified")
            && length.is_none_or(|length| length == Ok(self.content.len()))
    }

    /// The head with what a 304 said anew (RFC 9111 section 3.2).
    pub(super) fn updated_head(&self, update: &Response, received: Duration, cookies: Cookies) -> Response {
        let update = kept_head(update, received, cookies);
        let mut head = self.head.clone();
        let fields = head.fields_mut();
        let is_new = |name: &str| !OF_CONTENT.iter().any(|other| name.eq_ignore_ascii_case(other));
        for (name, _) in update.fields().iter().filter(|(name, _)| is_new(name)) {
            fields.remove(name);
        }
        for (name, value) in update.fields().iter().filter(|(name, _)| is_new(name)) {
            fields.push(name, value);
        }
        head
    }
}

/// What of a head is stored (RFC 9111 section 3.1).
pub(super) fn kept_head(response: &Response, received: Duration, cookies: Cookies) -> Response {
    let directives = Directives::of(response.fields());
    let fields = response.fields();
    let is_kept = |name: &str| {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        let is_limited = ["no-cache", "private"].iter().any(|one| directives.limited_to(one).any(is));
        let is_cookie = cookies == Cookies::Strip && is("set-cookie");
        !is_limited
            && !is_cookie
            && !LEFT_OUT.iter().any(|other| is(other))
            && !fields.lists("connection", name)
    };
    let mut head = Response::new(response.status(), response.reason());
    let kept = head.fields_mut();
    for (name, value) in fields.iter().filter(|(name, _)| is_kept(name)) {
        kept.push(name, value);
    }
    if !kept.has("date") {
        kept.push("Date", http_date(received).as_bytes());
    }
    head
}
