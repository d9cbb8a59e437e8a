//! Heads of HTTP/2 as those of HTTP/1, and back (RFC 9113 section 8).
//!
//! Runs on: proxy cores. Allocates: per head. Blocks: never.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, request, uri};

use crate::codec::each_trailer;
use crate::fields::Fields;
use crate::message::{Framing, Request, Response, Version, reason};

/// Fields that speak of a connection of HTTP/1 and have no place in HTTP/2 (RFC 9113 section 8.2.2), and `Host`, which is
/// `:authority` there.
const OF_HTTP1: [&str; 7] = [
    "connection",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
];

/// A request as HTTP/1 would have it. `None`: it names no path or host that HTTP/1 could, or is not for HTTP.
pub(super) fn request_of(head: &request::Parts, has_content: bool) -> Option<Request> {
    if head.uri.scheme().is_some_and(|scheme| *scheme != uri::Scheme::HTTP) {
        return None;
    }
    let target = match &head.method {
        &Method::CONNECT => head.uri.authority()?.as_str(),
        _ => head.uri.path_and_query().map_or("/", uri::PathAndQuery::as_str),
    };
    let mut request = Request::new();
    request.begin(head.method.as_str(), target, Version::Http11);
    // Where both are there, `Host` is not to be used (RFC 9113 section 8.3.1).
    let host = head.headers.get("host").map(HeaderValue::as_bytes);
    let host = head.uri.authority().map(|authority| authority.as_str().as_bytes()).or(host)?;
    request.read_field("Host", host);
    read_fields(&head.headers, |name, value| request.read_field(name, value));
    request.read_framing(match (has_content, length_of(&head.headers)) {
        // What follows it is no content (RFC 9113 section 8.5).
        _ if head.method == Method::CONNECT => Framing::None,
        (false, None) => Framing::None,
        (false, Some(_)) => Framing::Length(0),
        (true, Some(length)) => Framing::Length(length),
        (true, None) => Framing::Chunked,
    });
    Some(request)
}

/// A response to a request of this method, as HTTP/1 would have it.
pub(super) fn response_of<B>(head: &http::Response<B>, method: &str, has_content: bool) -> Response {
    let status = head.status().as_u16();
    let mut response = Response::default();
    response.begin(status, reason(status), Version::Http11);
    read_fields(head.headers(), |name, value| response.read_field(name, value));
    response.read_framing(match (has_content, length_of(head.headers())) {
        // Whatever follows: a frame without content, or with some that is none.
        _ if status < 200 || matches!(status, 204 | 304) || method == "HEAD" => Framing::None,
        (false, _) => Framing::Length(0),
        (true, Some(length)) => Framing::Length(length),
        (true, None) => Framing::Chunked,
    });
    response
}

/// What a message says of its content's length: that it is true, the crate `h2` sees to.
fn length_of(headers: &HeaderMap) -> Option<u64> {
    headers.get("content-length").and_then(|value| value.to_str().ok()?.parse().ok())
}

/// Cookies come in crumbs that HTTP/1 wants in one (RFC 9113 section 8.2.3).
fn read_fields(headers: &HeaderMap, mut read: impl FnMut(&str, &[u8])) {
    for name in headers.keys().filter(|name| !OF_HTTP1.contains(&name.as_str())) {
        let values = headers.get_all(name).iter().map(HeaderValue::as_bytes);
        if name == "cookie" {
            let crumbs: Vec<_> = values.collect();
            read(name.as_str(), &crumbs.join(&b"; "[..]));
        } else {
            values.for_each(|value| read(name.as_str(), value));
        }
    }
}

/// The lines of a trailer section.
pub(super) fn trailers_of(trailers: &HeaderMap) -> Vec<u8> {
    let mut lines = Vec::new();
    read_fields(trailers, |name, value| {
        lines.extend_from_slice(name.as_bytes());
        lines.extend_from_slice(b": ");
        lines.extend_from_slice(value);
        lines.extend_from_slice(b"\r\n");
    });
    lines
}

/// A request of HTTP/1 as HTTP/2 would have it. `None`: it cannot be said there.
pub(super) fn to_request(request: &Request) -> Option<http::Request<()>> {
    let mut uri = uri::Parts::default();
    uri.authority = Some(request.authority().parse().ok()?);
    uri.scheme = Some(uri::Scheme::HTTP);
    uri.path_and_query = Some(request.path_and_query().parse().ok()?);
    let mut head = http::Request::new(());
    *head.method_mut() = request.method().parse().ok()?;
    *head.uri_mut() = Uri::from_parts(uri).ok()?;
    *head.version_mut() = http::Version::HTTP_2;
    write_fields(request.fields(), head.headers_mut())?;
    Some(head)
}

/// A response of HTTP/1 as HTTP/2 would have it. `None`: it cannot be said there.
pub(super) fn to_response(response: &Response) -> Option<http::Response<()>> {
    let mut head = http::Response::new(());
    *head.status_mut() = StatusCode::from_u16(response.status()).ok()?;
    *head.version_mut() = http::Version::HTTP_2;
    write_fields(response.fields(), head.headers_mut())?;
    Some(head)
}

fn write_fields(fields: &Fields, headers: &mut HeaderMap) -> Option<()> {
    fields.iter().try_for_each(|(name, value)| {
        let is_of_http1 = OF_HTTP1.iter().any(|other| name.eq_ignore_ascii_case(other))
            // Of what a client takes, only that trailers are welcome may be said (RFC 9113 section 8.2.2).
            || name.eq_ignore_ascii_case("te") && !value.eq_ignore_ascii_case(b"trailers");
        if is_of_http1 || fields.lists("connection", name) {
            Some(())
        } else {
            write_field(name, value, headers)
        }
    })
}

fn write_field(name: &str, value: &[u8], headers: &mut HeaderMap) -> Option<()> {
    headers.append(name.parse::<HeaderName>().ok()?, HeaderValue::from_bytes(value).ok()?);
    Some(())
}

/// Trailer fields from their lines. `None`: they cannot be said in HTTP/2.
pub(super) fn to_trailers(lines: &[u8]) -> Option<HeaderMap> {
    let mut trailers = HeaderMap::new();
    let mut is_sayable = true;
    each_trailer(lines, |name, value| is_sayable &= write_field(name, value, &mut trailers).is_some())
        .ok()?;
    is_sayable.then_some(trailers)
}
