//! Requests and responses: their heads, and how their content is told (RFC 9110, RFC 9112).
//!
//! Runs on: proxy cores. Allocates: until the memory of earlier messages is enough. Blocks: never.
//!
//! A connection uses one [`Request`] and one [`Response`] for all its messages. Whatever changes one marks it as edited; what
//! is not edited goes on in the very bytes in which it came.

use bytes::Bytes;

use crate::fields::Fields;

#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    Http10,
    #[default]
    Http11,
    Http2,
}

/// How the end of a message's content is told.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    #[default]
    None,
    /// It has so many bytes (RFC 9112 section 6.2).
    Length(u64),
    /// In chunks (RFC 9112 section 7.1), or in HTTP/2's frames.
    Chunked,
    /// It ends with the connection: responses only (RFC 9112 section 6.3).
    UntilClose,
}

/// The head of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    method: String,
    target: String,
    version: Version,
    fields: Fields,
    framing: Framing,
    edited: bool,
}

impl Request {
    pub const fn new() -> Self {
        Self {
            method: String::new(),
            target: String::new(),
            version: Version::Http11,
            fields: Fields::new(),
            framing: Framing::None,
            edited: false,
        }
    }

    /// Starts over with what a request line says; no field, no content, not edited.
    pub fn begin(&mut self, method: &str, target: &str, version: Version) {
        self.method.clear();
        self.method.push_str(method);
        self.target.clear();
        self.target.push_str(target);
        self.version = version;
        self.fields.clear();
        self.framing = Framing::None;
        self.edited = false;
    }

    /// For who reads a head: adds a field as it came.
    pub fn read_field(&mut self, name: &str, value: &[u8]) {
        self.fields.push(name, value);
    }

    /// For who reads a head: how its content is told.
    pub const fn read_framing(&mut self, framing: Framing) {
        self.framing = framing;
    }

    pub fn method(&self) -> &str {
        &self.method
    }

    pub fn set_method(&mut self, method: &str) {
        self.edited = true;
        self.method.clear();
        self.method.push_str(method);
    }

    /// In whatever form it came (RFC 9112 section 3.2): a path with its query, or an absolute URI, an authority, an asterisk.
    pub fn target(&self) -> &str {
        &self.target
    }

    pub fn set_target(&mut self, target: &str) {
        self.edited = true;
        self.target.clear();
        self.target.push_str(target);
    }

    pub const fn version(&self) -> Version {
        self.version
    }

    /// For who reads a head: which version it came in, where that is not its line's.
    pub const fn read_version(&mut self, version: Version) {
        self.version = version;
    }

    pub const fn fields(&self) -> &Fields {
        &self.fields
    }

    /// The fields, to be edited. `Content-Length`, `Transfer-Encoding` and `Connection` are the codec's: it writes them to suit
    /// the content.
    pub const fn fields_mut(&mut self) -> &mut Fields {
        self.edited = true;
        &mut self.fields
    }

    /// How its content came.
    pub const fn framing(&self) -> Framing {
        self.framing
    }

    /// It is to be written anew, though it says what it said.
    pub(crate) const fn mark_edited(&mut self) {
        self.edited = true;
    }

    pub const fn is_edited(&self) -> bool {
        self.edited
    }

    /// Puts another host and port in place of those it names, in `Host` and, if that is an absolute URI, in its target. The caller
    /// answers for an authority that is one.
    pub fn set_authority(&mut self, authority: &str) {
        if let Some((scheme, rest)) = self.target.split_once("://").filter(|_| !self.target.starts_with('/'))
        {
            let rest = rest.find(['/', '?', '#']).map_or("", |at| &rest[at..]);
            self.target = format!("{scheme}://{authority}{rest}");
        }
        self.fields_mut().set("Host", authority.as_bytes());
    }

    /// Host and port as the request names them, by its target if that is an absolute URI or of `CONNECT`, else by `Host`
    /// (RFC 9112 section 3.3); empty where it names none.
    pub fn authority(&self) -> &str {
        if self.method == "CONNECT" {
            return &self.target;
        }
        match self.target.split_once("://") {
            Some((_, rest)) if !self.target.starts_with('/') => {
                rest.split(['/', '?', '#']).next().unwrap_or(rest)
            }
            _ => self.fields.text("host").unwrap_or_default(),
        }
    }

    /// The host by itself, as spelled, without brackets and port.
    pub fn host(&self) -> &str {
        host_of(self.authority())
    }

    /// Path and query; `/` where the target has neither.
    pub fn path_and_query(&self) -> &str {
        let Some((_, rest)) = self.target.split_once("://").filter(|_| !self.target.starts_with('/')) else {
            return &self.target;
        };
        rest.find(['/', '?', '#']).map_or("/", |at| &rest[at..])
    }

    /// The path by itself.
    pub fn path(&self) -> &str {
        self.path_and_query().split(['?', '#']).next().unwrap_or_default()
    }
}

/// The host in `host[:port]`, without brackets.
pub fn host_of(authority: &str) -> &str {
    match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    }
}

/// The head of a response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    status: u16,
    reason: String,
    version: Version,
    fields: Fields,
    framing: Framing,
    edited: bool,
}

impl Response {
    /// A response of the gateway's own; counts as edited.
    pub fn new(status: u16, reason: &str) -> Self {
        Self {
            status,
            reason: reason.to_owned(),
            version: Version::Http11,
            fields: Fields::new(),
            framing: Framing::None,
            edited: true,
        }
    }

    /// A copy with room for so many fields more, and so many bytes of them.
    #[must_use]
    pub fn with_room(&self, fields: usize, bytes: usize) -> Self {
        Self { reason: self.reason.clone(), fields: self.fields.with_room(fields, bytes), ..*self }
    }

    /// Starts over with what a status line says; no field, no content, not edited. A reason's bytes that are not UTF-8 are
    /// replaced.
    pub fn begin(&mut self, status: u16, reason: &str, version: Version) {
        self.status = status;
        self.reason.clear();
        self.reason.push_str(reason);
        self.version = version;
        self.fields.clear();
        self.framing = Framing::None;
        self.edited = false;
    }

    /// For who reads a head: adds a field as it came.
    pub fn read_field(&mut self, name: &str, value: &[u8]) {
        self.fields.push(name, value);
    }

    /// For who reads a head: how its content is told.
    pub const fn read_framing(&mut self, framing: Framing) {
        self.framing = framing;
    }

    pub const fn status(&self) -> u16 {
        self.status
    }

    pub fn set_status(&mut self, status: u16, reason: &str) {
        self.edited = true;
        self.status = status;
        self.reason.clear();
        self.reason.push_str(reason);
    }

    pub fn reason(&self) -> &str {
        &self.reason
    }

    pub const fn version(&self) -> Version {
        self.version
    }

    pub const fn fields(&self) -> &Fields {
        &self.fields
    }

    /// The fields, to be edited. `Content-Length`, `Transfer-Encoding` and `Connection` are the codec's: it writes them to suit
    /// the content.
    pub const fn fields_mut(&mut self) -> &mut Fields {
        self.edited = true;
        &mut self.fields
    }

    /// How its content came.
    pub const fn framing(&self) -> Framing {
        self.framing
    }

    /// It is to be written anew, though it says what it said.
    pub(crate) const fn mark_edited(&mut self) {
        self.edited = true;
    }

    pub const fn is_edited(&self) -> bool {
        self.edited
    }

    /// 1xx: another response follows (RFC 9110 section 15.2).
    pub const fn is_interim(&self) -> bool {
        self.status < 200
    }
}

/// A response that a filter gives in the server's place: its head, and its content in pieces, which are passed on without a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub response: Response,
    pub content: Vec<Bytes>,
    /// The request goes on all the same, as it was edited; the response to it ends with the filter that answers.
    pub goes_on: bool,
}

impl Answer {
    pub const fn new(response: Response, content: Vec<Bytes>) -> Self {
        Self { response, content, goes_on: false }
    }

    /// A page of HTML.
    pub fn page(status: u16, reason: &str, html: impl Into<Bytes>) -> Self {
        let mut response = Response::new(status, reason);
        let fields = response.fields_mut();
        fields.push("Content-Type", b"text/html; charset=utf-8");
        fields.push("Cache-Control", b"no-store");
        Self::new(response, vec![html.into()])
    }

    /// A page that says no more than a status does.
    pub fn status(status: u16, reason: &str) -> Self {
        let html = format!("<!DOCTYPE html>\n<title>{status} {reason}</title>\n<h1>{reason}</h1>\n");
        Self::page(status, reason, html)
    }

    /// Bytes of content.
    pub fn len(&self) -> usize {
        self.content.iter().map(Bytes::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a status is called (RFC 9110 section 15, RFC 6585); empty for others, which is a reason, too.
pub const fn reason(status: u16) -> &'static str {
    match status {
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        410 => "Gone",
        414 => "URI Too Long",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_a_request_is_for_is_said_by_its_target_before_its_host() {
        for (target, host, authority, name, path) in [
            ("/a?b", "www.example:80", "www.example:80", "www.example", "/a"),
            ("http://other.example/a?b", "www.example", "other.example", "other.example", "/a"),
            ("http://other.example", "", "other.example", "other.example", "/"),
            ("/?u=http://x.example/", "www.example", "www.example", "www.example", "/"),
            ("*", "[::1]:8080", "[::1]:8080", "::1", "*"),
        ] {
            let mut request = Request::new();
            request.begin("GET", target, Version::Http11);
            request.read_field("Host", host.as_bytes());
            assert_eq!(
                (request.authority(), request.host(), request.path()),
                (authority, name, path),
                "{target}"
            );
            assert!(!request.is_edited());
        }
    }
}
