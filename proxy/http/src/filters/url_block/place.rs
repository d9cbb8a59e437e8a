//! Where a request goes, and what an entry of a list is about, in one normal form: whatever is spelled in several ways is one place.
//!
//! Runs on: proxy cores, and the thread that reads lists. Allocates: until the memory of earlier places is enough. Blocks: never.
//!
//! | Written | Host | Path |
//! |---|---|---|
//! | `www.example.com` | `com.example.www.` | |
//! | `WWW.Example.com.:8080/a/./b/../%63?d` | `com.example.www.` | `/a/c` and `?d` |
//! | `0x7f.1`, `[::ffff:127.0.0.1]` | `=127.0.0.1.` | |

use std::io::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The place that was read last, and the memory for the next one.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// The host's labels from the last to the first, each with a dot behind it. An address is one label after `=`.
    host: Vec<u8>,
    /// The path without a slash at its end, so that the root is empty; the query with its question mark behind it.
    path: Vec<u8>,
    query_at: usize,
    /// The host without case and escapes, before its labels are turned around.
    spelled: Vec<u8>,
}

/// Neither a name nor an address.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct NoHost;

impl Place {
    /// Takes in an authority, of which user and port do not count (RFC 3986 section 3.2), and a path with its query.
    pub fn read(&mut self, authority: &[u8], path_and_query: &[u8]) -> Result<(), NoHost> {
        self.read_path(path_and_query);
        self.read_host(authority)
    }

    /// Takes in an address and a path with its query.
    pub fn read_at(&mut self, address: Ipv4Addr, path_and_query: &[u8]) {
        self.read_path(path_and_query);
        self.set_address(address);
    }

    pub fn host(&self) -> &[u8] {
        &self.host
    }

    /// Path and query.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// Whether this is a whole site, not a part of it.
    pub const fn is_root(&self) -> bool {
        self.path.is_empty()
    }

    /// Whether the first so many bytes of the path and query are a path that this place lies below, or all there is.
    pub fn ends_segment(&self, at: usize) -> bool {
        at == self.path.len() || at == self.query_at || (at < self.query_at && self.path[at] == b'/')
    }

    /// The host as people write it, of the first so many bytes in normal form.
    pub fn host_name(&self, first: usize) -> String {
        let host = self.host.get(..first).unwrap_or_default();
        let text = String::from_utf8_lossy(host.strip_suffix(b".").unwrap_or(host)).into_owned();
        match text.strip_prefix('=') {
            Some(address) => address.to_owned(),
            None => text.rsplit('.').collect::<Vec<_>>().join("."),
        }
    }

    fn read_host(&mut self, authority: &[u8]) -> Result<(), NoHost> {
        let host = authority.rsplit(|&byte| byte == b'@').next().unwrap_or(authority);
        if let Some(rest) = host.strip_prefix(b"[") {
            return self.read_ipv6(rest.split(|&byte| byte == b']').next().unwrap_or(rest));
        }
        let host = memchr::memrchr(b':', host).map_or(host, |at| &host[..at]);
        self.spelled.clear();
        for byte in decoded(host) {
            match byte.to_ascii_lowercase() {
                byte @ (b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | 0x80..) => self.spelled.push(byte),
                _ => return Err(NoHost),
            }
        }
        if let Some(address) = ipv4(&self.spelled) {
            self.set_address(address);
            return Ok(());
        }
        self.host.clear();
        for label in self.spelled.rsplit(|&byte| byte == b'.').filter(|label| !label.is_empty()) {
            self.host.extend_from_slice(label);
            self.host.push(b'.');
        }
        if self.host.is_empty() { Err(NoHost) } else { Ok(()) }
    }

    fn read_ipv6(&mut self, text: &[u8]) -> Result<(), NoHost> {
        let address: Ipv6Addr = str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(NoHost)?;
        match address.to_ipv4_mapped() {
            Some(address) => self.set_address(address),
            None => self.set_address(address),
        }
        Ok(())
    }

    fn set_address(&mut self, address: impl std::fmt::Display) {
        self.host.clear();
        write!(self.host, "={address}.").expect("invariant: a vector takes everything");
    }

    /// RFC 3986 section 6.2.2, and beyond it: escaped slashes, slashes in a row and backslashes divide as one slash does, for
    /// there are servers that read them so.
    fn read_path(&mut self, target: &[u8]) {
        let target = memchr::memchr(b'#', target).map_or(target, |at| &target[..at]);
        let (path, query) = target.split_at(memchr::memchr(b'?', target).unwrap_or(target.len()));
        self.path.clear();
        let mut start = 0;
        for byte in escaped(path) {
            match byte {
                b'/' | b'\\' => {
                    self.end_segment(start);
                    start = self.path.len();
                }
                byte => {
                    if start == self.path.len() {
                        self.path.push(b'/');
                    }
                    self.path.push(byte);
                }
            }
        }
        self.end_segment(start);
        self.query_at = self.path.len();
        self.path.extend(escaped(query));
    }

    /// Follows the dots of the segment that begins here (RFC 3986 section 5.2.4).
    fn end_segment(&mut self, start: usize) {
        match &self.path[start..] {
            b"/." => self.path.truncate(start),
            b"/.." => {
                let parent = memchr::memrchr(b'/', &self.path[..start]).unwrap_or(0);
                self.path.truncate(parent);
            }
            _ => {}
        }
    }
}

/// Bytes with their escapes undone, once; what is no escape stands for itself.
fn decoded(bytes: &[u8]) -> impl Iterator<Item = u8> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let byte = *bytes.get(at)?;
        let escape = (byte == b'%').then(|| bytes.get(at + 1..at + 3)).flatten().and_then(hex);
        at += if escape.is_some() { 3 } else { 1 };
        Some(escape.unwrap_or(byte))
    })
}

/// As [`decoded`], but a question mark or percent sign that was escaped stays so, or it would be taken for what it is not.
fn escaped(bytes: &[u8]) -> impl Iterator<Item = u8> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let byte = *bytes.get(at)?;
        let escape = (byte == b'%').then(|| bytes.get(at + 1..at + 3)).flatten().and_then(hex);
        match escape {
            Some(b'?' | b'%') | None => {
                at += 1;
                Some(byte)
            }
            Some(byte) => {
                at += 3;
                Some(byte)
            }
        }
    })
}

fn hex(digits: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let [high, low] = digits else { return None };
    u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()
}

/// An IPv4 address in any of the spellings that `inet_aton` has taken since ever, and browsers take still: one to four numbers,
/// the last of which fills what is left, each decimal, octal or hexadecimal.
fn ipv4(host: &[u8]) -> Option<Ipv4Addr> {
    let host = host.strip_suffix(b".").unwrap_or(host);
    if !host.first()?.is_ascii_digit() {
        return None;
    }
    let (mut bits, mut count, mut parts) = (0_u32, 0, host.split(|&byte| byte == b'.').peekable());
    while let Some(part) = parts.next() {
        let number = number(part)?;
        count += 1;
        let room = 8 * (4 - u32::min(count, 4));
        let is_last = parts.peek().is_none();
        if count > 4 || (is_last && u64::from(number) >= 1 << (room + 8)) || (!is_last && number > 255) {
            return None;
        }
        bits |= if is_last { number } else { number << room };
    }
    Some(Ipv4Addr::from_bits(bits))
}

fn number(part: &[u8]) -> Option<u32> {
    let text = str::from_utf8(part).ok()?;
    let (digits, radix) = match text.strip_prefix("0x") {
        Some("") => return Some(0),
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    u32::from_str_radix(digits, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(authority: &str, path: &str) -> Result<(String, String), NoHost> {
        let mut place = Place::default();
        place.read(authority.as_bytes(), path.as_bytes())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((text(place.host()), text(place.path())))
    }

    #[test]
    fn one_host_in_all_its_spellings_is_one() {
        for spelling in [
            "ads.example.com",
            "ADS.Example.COM",
            "ads.example.com.",
            "ads.example.com..",
            ".ads..example.com",
            "ads.example.com:8080",
            "ads.example.com.:80",
            "user:pass@ads.example.com",
            "good.example@ads.example.com:80",
            "%61ds.example%2Ecom",
        ] {
            assert_eq!(place(spelling, "/").expect(spelling).0, "com.example.ads.", "{spelling}");
        }
    }

    #[test]
    fn one_address_in_all_its_spellings_is_one() {
        for spelling in [
            "198.51.100.7",
            "198.51.100.7.",
            "198.51.100.7:80",
            "0306.063.0144.07",
            "0xc6.0x33.0x64.7",
            "0xC6336407",
            "3325256711",
            "198.3367943",
            "198.51.25607",
            "[::ffff:198.51.100.7]:80",
            "[::FFFF:c633:6407]",
        ] {
            assert_eq!(place(spelling, "/").expect(spelling).0, "=198.51.100.7.", "{spelling}");
        }
        assert_eq!(place("[2001:DB8:0::1]", "/").expect("an address").0, "=2001:db8::1.");
    }

    #[test]
    fn what_only_looks_like_an_address_is_a_name() {
        for (spelling, host) in [
            ("1.2.3.4.5", "5.4.3.2.1."),
            ("256.1.1.1", "1.1.1.256."),
            ("4294967296", "4294967296."),
            ("1.2.3.4.example", "example.4.3.2.1."),
            ("08.1", "1.08."),
        ] {
            assert_eq!(place(spelling, "/").expect(spelling).0, host);
        }
    }

    #[test]
    fn what_is_no_host_is_said_to_be_none() {
        for spelling in
            ["", ".", ":80", "a b", "a/b", "a%00b", "=127.0.0.1", "*.example", "[::1", "[x]", "[]"]
        {
            let expected = if spelling == "[::1" { Ok(()) } else { Err(NoHost) };
            assert_eq!(place(spelling, "/").map(|_| ()), expected, "{spelling:?}");
        }
    }

    #[test]
    fn one_path_in_all_its_spellings_is_one() {
        for spelling in [
            "/ads/top",
            "/ads/top/",
            "//ads///top",
            "/./ads/./top/.",
            "/x/../ads/y/../top",
            "/../../ads/top",
            "/%61ds/to%70",
            "/%2e/ads/x/%2E%2e/top",
            "/ads%2Ftop",
            "/ads\\top",
            "/ads/top#/../..",
        ] {
            assert_eq!(place("a", spelling).expect("a host").1, "/ads/top", "{spelling}");
        }
        for (spelling, path) in [
            ("/", ""),
            ("", ""),
            ("*", "/*"),
            ("/..", ""),
            ("/...", "/..."),
            ("/a?b/../c?", "/a?b/../c?"),
            ("/a%3Fb", "/a%3Fb"),
            ("/a%3fb?%62", "/a%3fb?b"),
            ("/%2561", "/%2561"),
            ("/%zz%", "/%zz%"),
            ("/Ads", "/Ads"),
        ] {
            assert_eq!(place("a", spelling).expect("a host").1, path, "{spelling}");
        }
    }

    #[test]
    fn a_place_lies_below_whole_segments_of_its_path() {
        let mut place = Place::default();
        place.read(b"a", b"/ab/c?d/e").expect("a host");
        let ends: Vec<_> = (1..=place.path().len()).filter(|&at| place.ends_segment(at)).collect();
        assert_eq!(ends, ["/ab".len(), "/ab/c".len(), "/ab/c?d/e".len()]);
    }
}
