//! What a request wants of a cache (RFC 9111 section 5.2.1, RFC 9110 sections 13 and 14).
//!
//! Runs on: proxy cores. Allocates: for requests with directives. Blocks: never.

use std::time::Duration;

use super::directive::Directives;
use super::stored::Stored;
use crate::fields::Fields;
use crate::message::{Framing, Request};

/// What kind of request a cache is dealing with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A response in store may answer.
    Read(Want),
    /// It changes what it names, if it succeeds.
    Change,
    /// A cache has no part in it.
    Other,
}

/// How a response may answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Want {
    pub(super) is_head: bool,
    /// Parts only: `Range`.
    pub(super) is_ranged: bool,
    /// Only if it has changed: `If-None-Match`, `If-Modified-Since`.
    pub(super) is_conditional: bool,
    pub(super) directives: Option<Box<Limits>>,
}

/// Directives of a request; in seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) no_cache: bool,
    pub(super) only_if_cached: bool,
    pub(super) max_age: Option<u64>,
    pub(super) min_fresh: Option<u64>,
    pub(super) max_stale: Option<u64>,
    pub(super) if_error: u64,
}

/// How a response in store serves a request.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// It answers.
    Now,
    /// It answers, and is revalidated (RFC 5861 section 3).
    Meanwhile,
    /// Once the server has said that it still holds.
    Validated,
}

impl Kind {
    pub(super) fn of(request: &Request) -> Self {
        if names_other_scheme(request.target()) {
            return Self::Other;
        }
        let is_head = match request.method() {
            "GET" => false,
            "HEAD" => true,
            "OPTIONS" | "TRACE" | "CONNECT" | "PROPFIND" | "REPORT" | "SEARCH" => return Self::Other,
            _ => return Self::Change,
        };
        if request.framing() != Framing::None {
            return Self::Other;
        }
        let mut want = Want { is_head, ..Want::default() };
        let mut has_directives = false;
        for (name, _) in request.fields().iter() {
            let is = |other: &str| name.eq_ignore_ascii_case(other);
            match name.len() {
                5 if is("range") => want.is_ranged = true,
                6 if is("pragma") => has_directives = true,
                7 if is("upgrade") => return Self::Other,
                8 if is("if-match") => return Self::Other,
                13 if is("cache-control") => has_directives = true,
                13 if is("if-none-match") => want.is_conditional = true,
                17 if is("if-modified-since") => want.is_conditional = true,
                19 if is("if-unmodified-since") => return Self::Other,
                _ => {}
            }
        }
        if has_directives {
            let Some(limits) = Limits::of(request.fields()) else { return Self::Other };
            want.directives = Some(Box::new(limits));
        }
        Self::Read(want)
    }
}

/// Whether a target is an absolute URI of another scheme than `http`: what lies there is another resource.
fn names_other_scheme(target: &str) -> bool {
    let scheme = target.split_once("://").filter(|_| !target.starts_with('/'));
    scheme.is_some_and(|(scheme, _)| !scheme.eq_ignore_ascii_case("http"))
}

impl Limits {
    /// `None`: nothing of it may be stored.
    fn of(fields: &Fields) -> Option<Self> {
        let directives = Directives::of(fields);
        if directives.has("no-store") || directives.are_broken() {
            return None;
        }
        let pragma = !fields.has("cache-control") && fields.lists("pragma", "no-cache");
        let max_age = directives.seconds("max-age");
        let any_age = directives.has_bare("max-stale").then_some(u64::from(u32::MAX));
        Some(Self {
            // Ages are whole seconds: what is 0 seconds old may be older than the request.
            no_cache: pragma || directives.has("no-cache") || max_age == Some(0),
            only_if_cached: directives.has("only-if-cached"),
            max_age,
            min_fresh: directives.seconds("min-fresh"),
            max_stale: any_age.or_else(|| directives.seconds("max-stale")),
            if_error: directives.seconds("stale-if-error").unwrap_or(0),
        })
    }
}

impl Want {
    /// What a response in store is to it (RFC 9111 section 4).
    pub(super) fn use_of(&self, stored: &Stored, now: Duration) -> Use {
        let Some(limits) = &self.directives else {
            return match stored.is_fresh(now) {
                true => Use::Now,
                false if stored.may_be_stale_by(stored.terms.while_revalidate, now) => Use::Meanwhile,
                false => Use::Validated,
            };
        };
        let ttl = stored.ttl(now);
        let is_too_old = limits.max_age.is_some_and(|most| stored.age(now) > most);
        let is_too_stale =
            limits.min_fresh.is_some_and(|least| ttl < i64::try_from(least).unwrap_or(i64::MAX));
        if limits.no_cache || is_too_old || is_too_stale {
            return Use::Validated;
        }
        let is_accepted =
            limits.max_stale.is_some_and(|by| stored.may_be_stale_by(by.saturating_add(1), now));
        if stored.is_fresh(now) || is_accepted { Use::Now } else { Use::Validated }
    }

    pub(super) fn only_if_cached(&self) -> bool {
        self.directives.as_ref().is_some_and(|limits| limits.only_if_cached)
    }

    /// Whether the response to it, as it is, is one to everybody's request.
    pub(super) const fn is_for_all(&self) -> bool {
        !self.is_head && !self.is_ranged && !self.is_conditional
    }
}
