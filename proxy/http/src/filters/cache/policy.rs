//! Whether a response may be stored, and how long it is fresh (RFC 9111 sections 3 and 4.2).
//!
//! Runs on: proxy cores, once for each response that might be stored. Allocates: freely. Blocks: never.
//!
//! The rules are those of the crate `http-cache-semantics`, which judges by RFC 7234. It is given heads in a normal form: what
//! RFC 9111 reads otherwise (case, quoted strings, broken ages and dates, statuses nobody knew) is settled before it sees them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Uri};
use http_cache_semantics::{CacheOptions, CachePolicy, RequestLike, ResponseLike};

use super::directive::{self, Directives};
use super::settings::Cookies;
use crate::message::{Request, Response};

/// Longest lifetime that is guessed from `Last-Modified`.
const LONGEST_GUESS: u64 = 24 * 3600;

/// Longer than any lifetime: for what is stale however it is seen.
const AGES: u64 = 1 << 32;

/// Statuses that the policy crate knows; others are judged as one of them.
const KNOWN: [u16; 14] = [200, 203, 204, 300, 301, 302, 303, 307, 308, 404, 405, 410, 414, 501];

/// When a response was asked for and when its head came: Unix time.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Moments {
    pub(super) requested: Duration,
    pub(super) received: Duration,
}

/// What follows from the head of a response that may be stored; in seconds.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Terms {
    /// Age when it came (`corrected_initial_age`, RFC 9111 section 4.2.3).
    pub(super) age: u64,
    /// Age up to which it is fresh.
    pub(super) lifetime: u64,
    /// Never answers without validation: `no-cache`.
    pub(super) always_validate: bool,
    /// Never answers stale: `must-revalidate`, `proxy-revalidate`, `s-maxage`.
    pub(super) must_revalidate: bool,
    /// RFC 5861, both.
    pub(super) while_revalidate: u64,
    pub(super) if_error: u64,
}

/// Judges a response; `None`: it must not be stored, or storing it would be of no use.
pub(super) fn judge(
    request: &Request,
    response: &Response,
    moments: Moments,
    cookies: Cookies,
) -> Option<Terms> {
    let directives = Directives::of(response.fields());
    if directives.are_broken() {
        return None;
    }
    let fields = response.fields();
    let is_explicit =
        ["max-age", "s-maxage"].iter().any(|name| directives.has(name)) || fields.has("expires");
    let is_authorized = request.fields().has("authorization");
    let is_shared = ["public", "s-maxage", "must-revalidate"].iter().any(|name| directives.has(name));
    if is_authorized && !is_shared || fields.lists("vary", "*") {
        return None;
    }
    if fields.has("set-cookie") && (cookies == Cookies::Refuse || !is_explicit) {
        return None;
    }
    let received = UNIX_EPOCH + moments.received;
    let head = Head {
        status: status(response.status(), &directives, is_explicit)?,
        fields: normal_fields(response, &directives, moments),
    };
    let asked = Asked { is_authorized, fields: HeaderMap::new() };
    let policy = CachePolicy::new_options(&asked.with_fields(), &head, received, CacheOptions::default());
    if !policy.is_storable() {
        return None;
    }
    let age = policy.age(received).as_secs();
    let left = policy.time_to_live(received).as_secs();
    let mut lifetime = if left > 0 { age + left } else { 0 };
    if !is_explicit {
        lifetime = lifetime.min(LONGEST_GUESS);
    }
    let terms = Terms {
        age,
        lifetime,
        always_validate: directives.has_whole("no-cache"),
        must_revalidate: ["must-revalidate", "proxy-revalidate", "s-maxage"]
            .iter()
            .any(|name| directives.has(name)),
        while_revalidate: directives.seconds("stale-while-revalidate").unwrap_or(0),
        if_error: directives.seconds("stale-if-error").unwrap_or(0),
    };
    let can_validate = fields.has("etag") || fields.has("last-modified");
    let can_be_stale = terms.while_revalidate > 0 || terms.if_error > 0;
    (terms.age < terms.lifetime && !terms.always_validate || can_validate || can_be_stale).then_some(terms)
}

/// The status to judge by. Any final one may be stored whose freshness is explicit (RFC 9111 section 3), which holds for 302.
fn status(status: u16, directives: &Directives, is_explicit: bool) -> Option<StatusCode> {
    // 206 and 304 are parts of other responses.
    if status < 200 || status == 206 || status == 304 {
        return None;
    }
    let is_known = KNOWN.contains(&status);
    if !is_known && (directives.has("must-understand") || !is_explicit && !directives.has("public")) {
        return None;
    }
    StatusCode::from_u16(if is_known { status } else { 302 }).ok()
}

/// The fields that count, each once, each such that RFC 7234 and RFC 9111 mean the same by it.
fn normal_fields(response: &Response, directives: &Directives, moments: Moments) -> HeaderMap {
    let fields = response.fields();
    let mut normal = HeaderMap::with_capacity(8);
    let mut put = |name: HeaderName, value: String| {
        if let Ok(value) = HeaderValue::try_from(value) {
            normal.insert(name, value);
        }
    };
    put(header::CACHE_CONTROL, normal_directives(directives));
    let date = fields.text("date").and_then(date_of);
    let date_or_now = date.unwrap_or(moments.received);
    put(header::DATE, http_date(date_or_now));
    put(header::AGE, initial_age(response, date, moments).to_string());
    if fields.has("expires") {
        let mut lines = fields.all("expires");
        let expires = lines.next().and_then(|line| str::from_utf8(line).ok()).and_then(date_of);
        // What is no date lies in the past (RFC 9111 section 5.3).
        put(header::EXPIRES, http_date(expires.filter(|_| lines.next().is_none()).unwrap_or_default()));
    }
    if let Some(modified) = fields.text("last-modified").and_then(date_of) {
        put(header::LAST_MODIFIED, http_date(modified));
    }
    normal
}

fn normal_directives(directives: &Directives) -> String {
    let mut list: Vec<String> = Vec::new();
    let is_understood = directives.has("must-understand");
    if directives.has("no-store") && !is_understood {
        list.push("no-store".to_owned());
    }
    for name in ["private", "no-cache"] {
        if directives.has_whole(name) {
            list.push(name.to_owned());
        }
    }
    for name in ["public", "must-revalidate", "immutable"] {
        if directives.has(name) {
            list.push(name.to_owned());
        }
    }
    for name in ["max-age", "s-maxage"] {
        if let Some(seconds) = directives.seconds(name) {
            list.push(format!("{name}={seconds}"));
        }
    }
    list.join(", ")
}

/// RFC 9111 section 4.2.3. Of a list, the first member counts (section 5.1); what is no number, or said in several lines, is taken
/// for a great age.
fn initial_age(response: &Response, date: Option<Duration>, moments: Moments) -> u64 {
    let mut lines = response.fields().all("age");
    let age = match (lines.next(), lines.next()) {
        (None, _) => 0,
        (Some(line), None) => {
            let first = str::from_utf8(line).ok().and_then(|line| line.split(',').next());
            first.map(str::trim).and_then(directive::seconds).unwrap_or(AGES)
        }
        (Some(_), Some(_)) => AGES,
    };
    let delay = moments.received.saturating_sub(moments.requested).as_secs();
    let apparent = date.map_or(0, |date| moments.received.as_secs().saturating_sub(date.as_secs()));
    apparent.max(age + delay)
}

/// A date in any of the three forms (RFC 9110 section 5.6.7), as Unix time.
pub(super) fn date_of(text: &str) -> Option<Duration> {
    httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()
}

/// Unix time as the preferred form of a date.
pub(super) fn http_date(unix: Duration) -> String {
    // Year 9999: later ones have no such form.
    let latest = Duration::from_secs(253_402_300_799);
    httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + unix.min(latest))
}

/// A request as the policy crate wants one: of it, nothing but `Authorization` matters for storing.
#[derive(Debug)]
struct Asked {
    is_authorized: bool,
    fields: HeaderMap,
}

impl Asked {
    fn with_fields(mut self) -> Self {
        if self.is_authorized {
            self.fields.insert(header::AUTHORIZATION, HeaderValue::from_static("-"));
        }
        self
    }
}

impl RequestLike for Asked {
    fn uri(&self) -> Uri {
        Uri::from_static("/")
    }

    fn is_same_uri(&self, _: &Uri) -> bool {
        true
    }

    fn method(&self) -> &Method {
        &Method::GET
    }

    fn headers(&self) -> &HeaderMap {
        &self.fields
    }
}

#[derive(Debug)]
struct Head {
    status: StatusCode,
    fields: HeaderMap,
}

impl ResponseLike for Head {
    fn status(&self) -> StatusCode {
        self.status
    }

    fn headers(&self) -> &HeaderMap {
        &self.fields
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Version;

    const NOW: Duration = Duration::from_secs(1_000_000);

    fn terms(status: u16, fields: &[(&str, &str)]) -> Option<Terms> {
        let mut request = Request::new();
        request.begin("GET", "/", Version::Http11);
        let mut response = Response::new(status, "");
        for (name, value) in fields {
            if *name == "Authorization" {
                request.read_field(name, value.as_bytes());
            } else {
                response.read_field(name, value.as_bytes());
            }
        }
        judge(&request, &response, Moments { requested: NOW, received: NOW }, Cookies::Strip)
    }

    fn lifetime(fields: &[(&str, &str)]) -> Option<(u64, u64)> {
        terms(200, fields).map(|terms| (terms.lifetime, terms.age))
    }

    /// So many seconds from now.
    fn at(offset: i64) -> String {
        http_date(Duration::from_secs(NOW.as_secs().saturating_add_signed(offset)))
    }

    #[test]
    fn section_4_2_1_a_lifetime_is_that_of_the_first_rule_that_applies() {
        let past = at(-10);
        let future = at(500);
        assert_eq!(
            lifetime(&[("Cache-Control", "max-age=60, s-maxage=5"), ("Expires", &future)]),
            Some((5, 0))
        );
        assert_eq!(lifetime(&[("Cache-Control", "max-age=60"), ("Expires", &past)]), Some((60, 0)));
        assert_eq!(lifetime(&[("Expires", &future)]), Some((500, 0)));
        assert_eq!(lifetime(&[("Expires", "0")]), None, "stale and without a validator");
        assert_eq!(lifetime(&[("Expires", "0"), ("ETag", "\"a\"")]), Some((0, 0)));
        assert_eq!(lifetime(&[("Last-Modified", &at(-1000))]), Some((100, 0)), "a tenth of its age");
        assert_eq!(lifetime(&[("Last-Modified", &http_date(Duration::ZERO))]), Some((LONGEST_GUESS, 0)));
        assert_eq!(lifetime(&[("ETag", "\"a\"")]), Some((0, 0)));
        assert_eq!(lifetime(&[]), None);
    }

    #[test]
    fn section_4_2_3_the_age_of_a_response_is_the_greater_one_of_what_is_said_and_what_is_seen() {
        let date = at(-30);
        assert_eq!(
            lifetime(&[("Cache-Control", "max-age=60"), ("Date", &date), ("Age", "7")]),
            Some((60, 30))
        );
        assert_eq!(
            lifetime(&[("Cache-Control", "max-age=60"), ("Date", &date), ("Age", "40")]),
            Some((60, 40))
        );
        assert_eq!(lifetime(&[("Cache-Control", "max-age=60"), ("Age", "7, 99")]), Some((60, 7)));
        for ages in [&["x"][..], &["-1"], &["99, 0"], &["x, 0"], &["0", "0"], &["7.5"]] {
            let mut fields = vec![("Cache-Control", "max-age=60")];
            fields.extend(ages.iter().map(|age| ("Age", *age)));
            assert_eq!(lifetime(&fields), None, "{ages:?}");
        }
    }

    #[test]
    fn section_3_what_must_not_be_stored() {
        for fields in [
            &[("Cache-Control", "max-age=60, no-store")][..],
            &[("Cache-Control", "max-age=60, PRIVATE")],
            &[("Cache-Control", "max-age=60"), ("Vary", "a, *")],
            &[("Cache-Control", "max-age=60"), ("Authorization", "x")],
            &[("Last-Modified", "Thu, 01 Jan 1970 00:00:00 GMT"), ("Set-Cookie", "a=b")],
        ] {
            assert_eq!(terms(200, fields), None, "{fields:?}");
        }
        assert_eq!(terms(206, &[("Cache-Control", "max-age=60")]), None);
        assert_eq!(terms(599, &[("Cache-Control", "max-age=60, must-understand")]), None);
        assert_eq!(terms(403, &[("Last-Modified", "Thu, 01 Jan 1970 00:00:00 GMT")]), None);
    }

    #[test]
    fn section_3_what_may_be_stored() {
        for (status, fields) in [
            (599, &[("Cache-Control", "max-age=60")][..]),
            (404, &[("Last-Modified", "Thu, 01 Jan 1970 00:00:00 GMT")]),
            (200, &[("Cache-Control", "max-age=60, private=\"X\"")]),
            (200, &[("Cache-Control", "max-age=60, no-store, must-understand")]),
            (200, &[("Cache-Control", "max-age=60, public"), ("Authorization", "x")]),
            (200, &[("Cache-Control", "s-maxage=60"), ("Authorization", "x")]),
            (200, &[("Cache-Control", "max-age=60"), ("Set-Cookie", "a=b")]),
        ] {
            assert!(terms(status, fields).is_some(), "{status} {fields:?}");
        }
    }

    #[test]
    fn section_5_2_2_what_asks_for_validation_is_kept_apart() {
        let of = |value| terms(200, &[("Cache-Control", value), ("ETag", "\"a\"")]).unwrap();
        assert!(
            of("no-cache, max-age=60").always_validate && !of("no-cache=\"x\", max-age=60").always_validate
        );
        for value in ["s-maxage=9", "proxy-revalidate, max-age=9", "must-revalidate, max-age=9"] {
            assert_eq!((of(value).must_revalidate, of(value).lifetime), (true, 9), "{value}");
        }
        let terms = of("max-age=1, stale-while-revalidate=5, stale-if-error=6");
        assert_eq!((terms.while_revalidate, terms.if_error, terms.must_revalidate), (5, 6, false));
    }
}
