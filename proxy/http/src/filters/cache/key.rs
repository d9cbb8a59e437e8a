//! What stored responses are found by.
//!
//! Runs on: proxy cores. Allocates: until a filter's memory of earlier keys is enough. Blocks: never.
//!
//! ```text
//!   93.184.216.34:80 www.example /path?query                a resource
//!   93.184.216.34:80 www.example /path?query\n1f\ngzip      one of its variants: generation, then the selecting fields' values
//!   93.184.216.34:80>inside www.example /path?query        the same, where the filter `inside` sends it to another server
//! ```
//!
//! The server's address is a part of it: a client may send any `Host` to a server of its own, and what that server says about
//! somebody else's name must reach nobody else. Where a filter before sends requests to another server, its name is a part, too: it
//! may do so by client or by field, and whom it does not concern must not get what that server says. All servers of one filter
//! share what they say.

use std::borrow::Borrow;
use std::fmt::Write;
use std::sync::Arc;

use crate::fields::Fields;
use crate::filter::Exchange;
use crate::message::Request;

/// A key, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key(Arc<str>);

impl Key {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Key {
    fn from(key: &str) -> Self {
        Self(key.into())
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Longest key in bytes: what is asked for at greater length is not cached.
const LONGEST: usize = 8 << 10;

/// Writes the key of what a request asks for; `false`: it has none.
pub(super) fn write(key: &mut String, exchange: &Exchange, by_server: bool, request: &Request) -> bool {
    key.clear();
    if by_server {
        let server = exchange.server;
        let _ = write!(key, "{}:{}", server.ip(), server.port());
    } else {
        key.push('-');
    }
    if let Some(filter) = exchange.redirected_by.as_deref().filter(|_| exchange.target.is_some()) {
        key.push('>');
        // A blank would end it.
        key.extend(filter.escape_default().map(|char| if char == ' ' { '+' } else { char }));
    }
    key.push(' ');
    write_resource(key, request.authority(), request.path_and_query())
}

/// Appends host and path in their normal forms (RFC 3986 section 6.2.2, RFC 9110 section 4.2.3).
pub(super) fn write_resource(key: &mut String, authority: &str, path: &str) -> bool {
    let authority = authority.strip_suffix(":80").unwrap_or(authority);
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]~%!$&'()*+,;=".contains(&byte);
    if authority.is_empty()
        || !authority.bytes().all(is_host)
        || !path.starts_with('/')
        || path.len() > LONGEST
    {
        return false;
    }
    key.extend(authority.chars().map(|char| char.to_ascii_lowercase()));
    key.push(' ');
    let path = path.split('#').next().unwrap_or_default();
    if path.bytes().any(|byte| byte <= b' ' || byte >= 0x7f) {
        return false;
    }
    write_path(key, path);
    true
}

fn write_path(key: &mut String, path: &str) {
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        key.push_str(&rest[..at]);
        let digits = rest.get(at + 1..at + 3).filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let code = digits.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match code {
            Some(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => key.push(byte.into()),
            Some(byte) => {
                let _ = write!(key, "%{byte:02X}");
            }
            None => key.push('%'),
        }
        rest = &rest[at + if code.is_some() { 3 } else { 1 }..];
    }
    key.push_str(rest);
}

/// The server, the host and the path that a key was made from.
pub(super) fn parts(key: &str) -> Option<(&str, &str, &str)> {
    let resource = key.split('\n').next()?;
    let (server, rest) = resource.split_once(' ')?;
    let (host, path) = rest.split_once(' ')?;
    Some((server, host, path))
}

/// The key of a resource's variant.
pub(super) fn variant(resource: &str, generation: u64, selected: &str) -> String {
    format!("{resource}\n{generation:x}{selected}")
}

/// What selects a variant: the values of the fields with these names, each after a line end.
pub(super) fn selected(names: &[String], fields: &Fields) -> String {
    let mut selected = String::new();
    for name in names {
        selected.push('\n');
        write_selecting(&mut selected, name, fields);
    }
    selected
}

/// A selecting field: its lines in one, without blanks around commas; languages and codings without case (RFC 9111 section 4.1).
/// A field that is not there differs from an empty one.
fn write_selecting(key: &mut String, name: &str, fields: &Fields) {
    let has_case = !["accept-language", "accept-encoding"].contains(&name);
    for (number, line) in fields.all(name).enumerate() {
        key.push(if number == 0 { '=' } else { ',' });
        for (number, member) in line.split(|&byte| byte == b',').enumerate() {
            if number > 0 {
                key.push(',');
            }
            for &byte in member.trim_ascii() {
                // Each byte as a character of its own: a key is text.
                key.push(char::from(if has_case { byte } else { byte.to_ascii_lowercase() }));
            }
        }
    }
}

/// The key of what a `Location` or `Content-Location` names, where that lies on the same origin (RFC 9111 section 4.4).
pub(super) fn referred(own: &str, reference: &str) -> Option<String> {
    let (server, host, path) = parts(own)?;
    let (authority, target) = match reference.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => {
            let at = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            (&rest[..at], if at == rest.len() { "/" } else { &rest[at..] })
        }
        Some((scheme, _)) if scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) => return None,
        _ if reference.starts_with("//") => return None,
        _ => (host, reference),
    };
    let mut absolute = String::new();
    if !target.starts_with('/') {
        let directory =
            path.split('?').next().and_then(|path| path.rsplit_once('/')).map_or("", |(dir, _)| dir);
        absolute = format!("{directory}/{target}");
    }
    let target = if absolute.is_empty() { target } else { &absolute };
    let mut key = format!("{server} ");
    let is_whole = write_resource(&mut key, authority, target);
    (is_whole && parts(&key).is_some_and(|(_, other, _)| other == host)).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_has_one_key_however_it_is_spelled() {
        for (authority, path, expected) in [
            ("WWW.Example:80", "/a%7eb%2f?q=%41#x", Some("www.example /a~b%2F?q=A")),
            ("www.example:8080", "/%", Some("www.example:8080 /%")),
            ("a b", "/", None),
            ("", "/", None),
            ("a", "*", None),
            ("a", "/\u{e9}", None),
        ] {
            let mut key = String::new();
            let is_whole = write_resource(&mut key, authority, path);
            assert_eq!(is_whole.then_some(key.as_str()), expected, "{authority} {path}");
        }
    }

    #[test]
    fn references_lead_to_the_same_origin_only() {
        let own = "1.2.3.4:80 a.example /dir/file?q";
        for (reference, expected) in [
            ("/x", Some("1.2.3.4:80 a.example /x")),
            ("other?y", Some("1.2.3.4:80 a.example /dir/other?y")),
            ("http://A.example:80", Some("1.2.3.4:80 a.example /")),
            ("http://b.example/x", None),
            ("https://a.example/x", None),
            ("//a.example/x", None),
        ] {
            assert_eq!(referred(own, reference).as_deref(), expected, "{reference}");
        }
    }

    #[test]
    fn selecting_fields_are_the_same_however_they_are_divided_into_lines() {
        let key = |fields: &[(&str, &str)]| {
            let names = ["x".to_owned(), "accept-language".to_owned()];
            variant("a", 31, &selected(&names, &fields.iter().copied().collect()))
        };
        assert_eq!(key(&[("X", "a ,b"), ("x", "c"), ("Accept-Language", "EN")]), "a\n1f\n=a,b,c\n=en");
        assert_ne!(key(&[("X", "")]), key(&[]));
    }
}
