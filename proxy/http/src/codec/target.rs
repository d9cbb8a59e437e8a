//! Targets of requests, and whom they name (RFC 9112 section 3.2, RFC 3986 section 3.2).
//!
//! Runs on: proxy cores. Allocates: never. Blocks: never.

use std::net::Ipv6Addr;

use super::Fault;

/// Longest name of a host, in bytes (RFC 1035 section 2.3.4).
const LONGEST_NAME: usize = 255;

/// Refuses a target that has none of the four forms, or one that does not go with the method.
pub(super) fn check(method: &str, target: &str) -> Result<(), Fault> {
    let is_good = match authority(method, target) {
        Some(authority) if method == "CONNECT" => {
            let port = authority.rsplit_once(':').map_or("", |(_, port)| port);
            !port.is_empty() && is_port(port) && names_host(authority)
        }
        Some(authority) => {
            target.split_once("://").is_some_and(|(scheme, _)| is_scheme(scheme)) && names_host(authority)
        }
        None => target.starts_with('/') || target == "*" && method == "OPTIONS",
    };
    if is_good { Ok(()) } else { Err(Fault::BadRequest("a malformed target")) }
}

/// The authority that a target itself names: that of the absolute and of the authority form. `None`: the origin form and `*` leave
/// it to `Host`.
pub(super) fn authority<'a>(method: &str, target: &'a str) -> Option<&'a str> {
    if method == "CONNECT" {
        return Some(target);
    }
    let (_, rest) = target.split_once("://").filter(|_| !target.starts_with('/'))?;
    rest.split(['/', '?']).next()
}

/// RFC 3986 section 3.1.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// Whether it is `host [":" port]` with a host that is not empty.
fn names_host(authority: &str) -> bool {
    !authority.is_empty() && !authority.starts_with(':') && is_host_field(authority.as_bytes())
}

/// Whether it can be the value of `Host` (RFC 9110 section 7.2): `[host [":" port]]`. User information has no place there; nor
/// have percent signs, which some would decode, and bytes that no name in use has.
pub(super) fn is_host_field(value: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(value) else { return false };
    if let Some(rest) = text.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else { return false };
        return address.parse::<Ipv6Addr>().is_ok()
            && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
    }
    let (name, port) = text.split_once(':').unwrap_or((text, ""));
    name.len() <= LONGEST_NAME && name.bytes().all(is_name_byte) && is_port(port)
}

/// Digits that fit, or nothing (RFC 3986 section 3.2.3).
fn is_port(text: &str) -> bool {
    text.is_empty()
        || text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

const fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'*' | b'+' | b'=')
}
