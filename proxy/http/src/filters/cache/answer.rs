//! Responses made from what is in store: whole, not modified, in parts (RFC 9110 sections 13 to 15, RFC 9111 section 4.3.2).
//!
//! Runs on: proxy cores. Allocates: the head; content is shared. Blocks: never.

use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;

use super::policy::date_of;
use super::range::{self, Ranges};
use super::stored::Stored;
use super::want::Want;
use crate::fields::Fields;
use crate::message::{Answer, Response};

/// Fields that a 304 has, of those that the 200 would have (RFC 9110 section 15.4.5).
const OF_NOT_MODIFIED: [&str; 8] =
    ["cache-control", "content-location", "date", "etag", "expires", "last-modified", "set-cookie", "vary"];

/// What is added to a stored head: `Age` and `Cache-Status`, with a name and a reason of usual length.
const ADDED: (usize, usize) = (2, 96);

/// The response in store, as a request with these fields wants it; `content` is what was lent of it.
pub(super) fn respond(stored: &Stored, content: Bytes, want: &Want, asked: &Fields, now: Duration) -> Answer {
    let mut answer = if stored.head.status() != 200 || !want.is_conditional && !want.is_ranged {
        Answer::new(stored.head.with_room(ADDED.0, ADDED.1), vec![content])
    } else if want.is_conditional && is_unmodified(stored, asked) {
        Answer::new(not_modified(stored), Vec::new())
    } else if want.is_ranged && !want.is_head {
        partial(stored, content, asked)
    } else {
        Answer::new(stored.head.with_room(ADDED.0, ADDED.1), vec![content])
    };
    let mut digits = [0; 20];
    answer.response.fields_mut().push("Age", decimal(stored.age(now), &mut digits));
    answer
}

/// Appends this cache's member of `Cache-Status` (RFC 9211).
pub(super) fn note(fields: &mut Fields, name: &str, what: &str, ttl: Option<i64>) {
    let mut member = String::with_capacity(name.len() + what.len() + 24);
    member.push_str(name);
    member.push_str("; ");
    member.push_str(what);
    if let Some(ttl) = ttl {
        let _ = write!(member, "; ttl={ttl}");
    }
    fields.push("Cache-Status", member.as_bytes());
}

/// RFC 9110 section 13.1: whether the client has it already.
fn is_unmodified(stored: &Stored, asked: &Fields) -> bool {
    let fields = stored.head.fields();
    if asked.has("if-none-match") {
        let weak = |tag: &[u8]| tag.strip_prefix(b"W/").unwrap_or(tag).to_vec();
        let own = fields.get("etag").map(weak);
        return asked.list("if-none-match").any(|tag| tag == b"*" || own.as_ref() == Some(&weak(tag)));
    }
    let since = asked.text("if-modified-since").and_then(date_of);
    let modified = ["last-modified", "date"].iter().find_map(|name| fields.text(name)).and_then(date_of);
    since.zip(modified).is_some_and(|(since, modified)| modified <= since)
}

fn not_modified(stored: &Stored) -> Response {
    let mut response = Response::new(304, "Not Modified");
    let fields = response.fields_mut();
    for (name, value) in stored.head.fields().iter() {
        if OF_NOT_MODIFIED.iter().any(|other| name.eq_ignore_ascii_case(other)) {
            fields.push(name, value);
        }
    }
    response
}

/// RFC 9110 section 14: the parts asked for, or the whole where that is not to be had in parts.
fn partial(stored: &Stored, content: Bytes, asked: &Fields) -> Answer {
    let mut head = stored.head.clone();
    let ranges = match asked.get("range") {
        Some(ranges) if is_same(stored, asked) => range::parse(ranges, content.len() as u64),
        _ => Ranges::Ignored,
    };
    match ranges {
        Ranges::Ignored => Answer::new(head, vec![content]),
        Ranges::Unsatisfiable => {
            let mut response = Response::new(416, "Range Not Satisfiable");
            response.fields_mut().push("Content-Range", format!("bytes */{}", content.len()).as_bytes());
            if let Some(date) = head.fields().get("date") {
                response.fields_mut().push("Date", date);
            }
            Answer::new(response, Vec::new())
        }
        Ranges::Parts(parts) => {
            head.set_status(206, "Partial Content");
            let boundary = format!("{:032x}", stored.moments.received.as_nanos());
            let pieces = range::cut(head.fields_mut(), &content, &parts, &boundary);
            Answer::new(head, pieces)
        }
    }
}

/// `If-Range` (RFC 9110 section 13.1.5): whether the parts would be of the same thing as the client's.
fn is_same(stored: &Stored, asked: &Fields) -> bool {
    let Some(condition) = asked.get("if-range") else { return true };
    let fields = stored.head.fields();
    if condition.starts_with(b"\"") {
        fields.get("etag") == Some(condition)
    } else {
        !condition.starts_with(b"W/") && fields.get("last-modified") == Some(condition)
    }
}

/// A number's digits.
fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        // Below ten.
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[at..];
        }
    }
}
