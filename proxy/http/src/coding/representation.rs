//! What the head of a message has to say where its content is another one than the server's: validators, digests, `Vary`.
//!
//! A strong validator stands for the very bytes (RFC 9110 section 8.8.1). What a filter makes of content depends on when the
//! server's bytes came, so no name of our own could be a strong one: strong ETags are made weak (section 8.8.3), as `"x"` to
//! `W/"x"`. They serve `If-None-Match`, which compares weakly (section 13.1.2); a client cannot use them with `Range` and
//! `If-Match`, and must not: the bytes that it has are not the server's.

use crate::fields::Fields;
use crate::message::{Framing, Request, Response};

/// Takes from a response's head what holds for the server's bytes alone. The codec says how long the content is.
pub fn forget_bytes(fields: &mut Fields) {
    weaken(fields);
    forget_digests(fields);
    fields.remove("accept-ranges");
}

/// Takes the length and the digests of the content as it was (RFC 1864, RFC 3230, RFC 9530) from a message's head.
pub fn forget_digests(fields: &mut Fields) {
    for name in ["content-length", "content-md5", "digest", "content-digest", "repr-digest"] {
        if fields.has(name) {
            fields.remove(name);
        }
    }
}

/// Makes a strong ETag weak.
fn weaken(fields: &mut Fields) {
    let Some(tag) = fields.get("etag") else { return };
    if tag.starts_with(b"\"") {
        let weak = [b"W/", tag].concat();
        fields.set("ETag", &weak);
    }
}

/// Has a request ask for what the server calls by a strong ETag, too, where the client has a weak one: that may be ours. By RFC
/// 9110 section 13.1.2 this asks for nothing more; there are servers which compare letter by letter.
pub fn ask_for_strong(request: &mut Request) {
    let mut strong = Vec::new();
    for tag in request.fields().list("if-none-match") {
        if let Some(tag) = tag.strip_prefix(b"W/") {
            strong.extend_from_slice(b", ");
            strong.extend_from_slice(tag);
        }
    }
    if strong.is_empty() {
        return;
    }
    let mut all = request.fields().all("if-none-match").collect::<Vec<_>>().join(&b", "[..]);
    all.extend_from_slice(&strong);
    request.fields_mut().set("If-None-Match", &all);
}

/// Gives a 304 the ETag by which the client knows what it has (RFC 9110 section 15.4.5), where that is one of ours. Answers
/// whether it is.
pub fn answer_weakly(request: &Request, response: &mut Response) -> bool {
    let Some(tag) = response.fields().get("etag").filter(|tag| tag.starts_with(b"\"")) else { return false };
    let weak = [b"W/", tag].concat();
    let knows_weak = request.fields().list("if-none-match").any(|own| own == weak);
    if knows_weak {
        response.fields_mut().set("ETag", &weak);
    }
    knows_weak
}

/// Says that the response depends on a field of the request (RFC 9110 section 12.5.5), unless it says so already.
pub fn vary(response: &mut Response, name: &str) {
    let fields = response.fields();
    if fields.lists("vary", name) || fields.lists("vary", "*") {
        return;
    }
    let mut all = fields.all("vary").filter(|value| !value.trim_ascii().is_empty()).collect::<Vec<_>>();
    all.push(name.as_bytes());
    let all = all.join(&b", "[..]);
    response.fields_mut().set("Vary", &all);
}

/// Whether a sender forbids to change content (RFC 9110 section 7.7).
pub fn forbids_transforming(fields: &Fields) -> bool {
    fields.lists("cache-control", "no-transform")
}

/// Whether a response is a whole representation, and no part of one.
pub fn is_whole(response: &Response) -> bool {
    response.status() != 206 && !response.fields().has("content-range")
}

/// Whether there is content; of a response to HEAD, whether there is to GET.
pub fn has_content(request: &Request, response: &Response) -> bool {
    match (response.status(), response.framing()) {
        (204 | 205 | 304, _) | (_, Framing::Length(0)) => false,
        (..200, _) => false,
        (_, Framing::None) => request.method() == "HEAD" && length(response) != Some(0),
        _ => request.method() != "CONNECT",
    }
}

/// How long the content is, where that is known; of a response to HEAD, how long it would be.
pub fn length(response: &Response) -> Option<u64> {
    match response.framing() {
        Framing::Length(length) => Some(length),
        Framing::None => response.fields().text("content-length")?.trim().parse().ok(),
        Framing::Chunked | Framing::UntilClose => None,
    }
}

/// Media types of text, as far as pages are made of it.
pub const TEXTUAL: [&str; 13] = [
    "text/*",
    "application/atom+xml",
    "application/javascript",
    "application/json",
    "application/ld+json",
    "application/manifest+json",
    "application/problem+json",
    "application/rss+xml",
    "application/vnd.api+json",
    "application/x-javascript",
    "application/xhtml+xml",
    "application/xml",
    "image/svg+xml",
];

/// The media types that a filter is for.
#[derive(Clone, Debug, Default)]
pub struct Types {
    /// In lower case; `text/` stands for all that begin so.
    types: Vec<String>,
}

impl Types {
    /// From names as `text/html`, or `text/*`; answers the place of one that is neither, otherwise.
    pub fn new(names: &[String]) -> Result<Self, usize> {
        let mut types = Vec::new();
        for (place, name) in names.iter().enumerate() {
            let name = name.to_ascii_lowercase();
            let name = name.strip_suffix('*').map_or(&*name, |start| start);
            let Some((kind, rest)) = name.split_once('/') else { return Err(place) };
            if kind.is_empty()
                || !name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'*')
                || rest.contains('/')
            {
                return Err(place);
            }
            types.push(name.to_owned());
        }
        Ok(Self { types })
    }

    /// Whether a message's content is of one of them.
    pub fn has(&self, fields: &Fields) -> bool {
        let Some(value) = fields.get("content-type") else { return false };
        let name = value.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
        self.types.iter().any(|own| match own.ends_with('/') {
            true => name.get(..own.len()).is_some_and(|start| start.eq_ignore_ascii_case(own.as_bytes())),
            false => name.eq_ignore_ascii_case(own.as_bytes()),
        })
    }
}

/// Whether it is a stream of events, each of which is due as it comes.
pub fn is_event_stream(fields: &Fields) -> bool {
    let value = fields.get("content-type").unwrap_or_default();
    let name = value.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    name.eq_ignore_ascii_case(b"text/event-stream")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::{request, response};

    #[test]
    fn rfc9110_8_8_3_strong_etags_become_weak_and_weak_ones_stay() {
        for (tag, now) in [("\"x\"", "W/\"x\""), ("W/\"x\"", "W/\"x\""), ("unquoted", "unquoted")] {
            let mut fields: Fields = [("Etag", tag), ("Accept-Ranges", "bytes")].into_iter().collect();
            forget_bytes(&mut fields);
            assert_eq!((fields.text("etag"), fields.len()), (Some(now), 1));
        }
    }

    #[test]
    fn rfc9110_12_5_5_vary_is_said_once() {
        for (before, after) in [
            (&[][..], &["Accept-Encoding"][..]),
            (&["Origin", "Cookie"], &["Origin, Cookie, Accept-Encoding"]),
            (&["origin, accept-encoding"], &["origin, accept-encoding"]),
            (&["*"], &["*"]),
            (&[""], &["Accept-Encoding"]),
        ] {
            let mut response =
                response(200, &before.iter().map(|value| ("Vary", *value)).collect::<Vec<_>>());
            vary(&mut response, "Accept-Encoding");
            let values = response.fields().all("vary").map(|value| str::from_utf8(value).unwrap());
            assert_eq!(values.collect::<Vec<_>>(), after);
        }
    }

    #[test]
    fn rfc9110_13_1_2_a_weak_tag_asks_for_its_strong_form_too() {
        let mut request =
            request("GET", "/", &[("If-None-Match", "\"a\", W/\"b\""), ("if-none-match", "W/\"c\"")]);
        ask_for_strong(&mut request);
        let tags = request.fields().all("if-none-match").collect::<Vec<_>>();
        assert_eq!(tags, [&b"\"a\", W/\"b\", W/\"c\", \"b\", \"c\""[..]]);
    }

    #[test]
    fn types_are_names_or_begin_like_one() {
        let types = Types::new(&["text/*".into(), "Application/JSON".into()]).unwrap();
        for (value, has) in [
            ("text/html; charset=utf-8", true),
            ("TEXT/CSS", true),
            ("text", false),
            ("application/json ;x", true),
            ("application/json+x", false),
            ("image/png", false),
        ] {
            let fields: Fields = [("Content-Type", value)].into_iter().collect();
            assert_eq!(types.has(&fields), has, "{value}");
        }
        for bad in ["", "text", "/html", "te xt/html", "*/*", "text/a/b"] {
            assert_eq!(Types::new(&["text/html".into(), bad.into()]).err(), Some(1), "{bad}");
        }
    }
}
