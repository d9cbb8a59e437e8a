//! The formats of lists: hosts files, Adblock's rules for domains, plain names and URLs.
//!
//! Whatever stands in a line, it is an entry, or nothing, or counted as skipped.

use std::net::IpAddr;

use serde::Deserialize;

/// How the lines of a list are written.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Each line tells by its looks which of the others it is.
    #[default]
    Auto,
    /// `0.0.0.0 ads.example`: names behind an address that leads nowhere.
    Hosts,
    /// `||ads.example^`, and `@@||good.ads.example^` for an exception.
    Adblock,
    /// `ads.example`, `*.ads.example`, `example.com/ads`, `http://example.com/ads?top`.
    Plain,
}

/// What a line of a list says.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Name or address, maybe with a port.
    pub authority: &'a [u8],
    /// From the slash or question mark on; empty for the whole site.
    pub path: &'a [u8],
    /// It is about what lies below a name, not the name itself.
    pub is_below: bool,
    /// It takes out of the list what another entry put in.
    pub is_exception: bool,
}

/// A line that is none of what we read.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Skipped;

/// Reads a line, and hands each of its entries on.
pub(super) fn parse<'a>(
    format: Format,
    line: &'a [u8],
    mut entry: impl FnMut(Entry<'a>),
) -> Result<(), Skipped> {
    let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line).trim_ascii();
    let format = match format {
        Format::Auto => guess(line),
        format => format,
    };
    match format {
        _ if line.is_empty() => Ok(()),
        Format::Adblock => adblock(line).map(|found| found.into_iter().for_each(entry)),
        Format::Hosts => hosts(line, &mut entry),
        Format::Plain | Format::Auto => plain(line).map(|found| found.into_iter().for_each(entry)),
    }
}

fn guess(line: &[u8]) -> Format {
    let first = line.split(u8::is_ascii_whitespace).next().unwrap_or(line);
    match line {
        [b'!', ..] | [b'|', b'|', ..] | [b'@', b'@', ..] => Format::Adblock,
        // A title, but no IPv6 address.
        [b'[', ..] if !line.contains(&b':') => Format::Adblock,
        _ if first.len() < line.len() && address(first).is_some() => Format::Hosts,
        _ => Format::Plain,
    }
}

fn address(word: &[u8]) -> Option<IpAddr> {
    str::from_utf8(word).ok()?.parse().ok()
}

/// What stands before a comment.
fn uncommented(line: &[u8]) -> &[u8] {
    line.split(|&byte| byte == b'#').next().unwrap_or(line).trim_ascii()
}

const fn whole(authority: &[u8]) -> Entry<'_> {
    Entry { authority, path: b"", is_below: false, is_exception: false }
}

fn hosts<'a>(line: &'a [u8], entry: &mut impl FnMut(Entry<'a>)) -> Result<(), Skipped> {
    let mut words = uncommented(line).split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let Some(first) = words.next() else { return Ok(()) };
    let leads_nowhere = |address: IpAddr| address.is_unspecified() || address.is_loopback();
    if !address(first).is_some_and(leads_nowhere) {
        return Err(Skipped);
    }
    // Such files begin with the host's own names: `localhost`, `ip6-allnodes`, `0.0.0.0`.
    let is_own =
        |name: &[u8]| !name.contains(&b'.') || name == b"localhost.localdomain" || address(name).is_some();
    words.filter(|name| !is_own(name)).for_each(|name| entry(whole(name)));
    Ok(())
}

/// Rules for whole domains alone. Patterns, options and what hides elements of pages have no meaning here.
fn adblock(line: &[u8]) -> Result<Option<Entry<'_>>, Skipped> {
    if matches!(line, [b'!' | b'[', ..] | [b'#'] | [b'#', b' ', ..]) {
        return Ok(None);
    }
    let (rule, is_exception) = match line.strip_prefix(b"@@") {
        Some(rule) => (rule, true),
        None => (line, false),
    };
    let name = rule.strip_prefix(b"||").and_then(|rule| rule.strip_suffix(b"^")).ok_or(Skipped)?;
    if name.iter().any(|byte| b"/^*|$".contains(byte)) {
        return Err(Skipped);
    }
    Ok(Some(Entry { is_exception, ..whole(name) }))
}

fn plain(line: &[u8]) -> Result<Option<Entry<'_>>, Skipped> {
    // A number sign within a word belongs to a URL, and ends it.
    let line = match line.windows(2).position(|pair| pair[0].is_ascii_whitespace() && pair[1] == b'#') {
        Some(at) => line[..at].trim_ascii(),
        None => line,
    };
    if line.is_empty() || line[0] == b'#' {
        return Ok(None);
    }
    if line.iter().any(u8::is_ascii_whitespace) {
        return Err(Skipped);
    }
    let url = ["http://", "https://"].iter().find_map(|scheme| {
        let (head, rest) = line.split_at_checked(scheme.len())?;
        head.eq_ignore_ascii_case(scheme.as_bytes()).then_some(rest)
    });
    let rest = url.unwrap_or(line);
    let (authority, path) =
        rest.split_at(rest.iter().position(|byte| b"/?#".contains(byte)).unwrap_or(rest.len()));
    let (authority, is_below) = match authority.strip_prefix(b"*.") {
        Some(parent) => (parent, true),
        None => (authority.strip_prefix(b".").unwrap_or(authority), false),
    };
    Ok(Some(Entry { path, is_below, ..whole(authority) }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The entries of a line as plain text; `!` marks an exception.
    fn parsed(format: Format, line: &str) -> Result<Vec<String>, Skipped> {
        let mut found = Vec::new();
        parse(format, line.as_bytes(), |entry| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let mark = if entry.is_exception { "!" } else { "" };
            let below = if entry.is_below { "*." } else { "" };
            found.push(format!("{mark}{below}{}{}", text(entry.authority), text(entry.path)));
        })?;
        Ok(found)
    }

    /// A line in a format, and what it says.
    type Row = (Format, &'static str, Result<&'static [&'static str], Skipped>);

    #[test]
    fn each_format_has_its_lines_and_auto_knows_them_by_their_looks() {
        use Format::{Adblock, Hosts, Plain};
        let rows: &[Row] = &[
            (Hosts, "0.0.0.0 ads.example", Ok(&["ads.example"])),
            (Hosts, "127.0.0.1\tads.example  b.example # both", Ok(&["ads.example", "b.example"])),
            (Hosts, "::1 ads.example", Ok(&["ads.example"])),
            (Hosts, "127.0.0.1 localhost", Ok(&[])),
            (Hosts, "127.0.0.1 localhost.localdomain", Ok(&[])),
            (Hosts, "0.0.0.0 0.0.0.0", Ok(&[])),
            (Hosts, "192.0.2.1 ads.example", Err(Skipped)),
            (Adblock, "||ads.example^", Ok(&["ads.example"])),
            (Adblock, "@@||good.ads.example^", Ok(&["!good.ads.example"])),
            (Adblock, "! a comment", Ok(&[])),
            (Adblock, "[Adblock Plus 2.0]", Ok(&[])),
            (Adblock, "||ads.example^$third-party", Err(Skipped)),
            (Adblock, "||ads.example/banner^", Err(Skipped)),
            (Adblock, "||ads.*^", Err(Skipped)),
            (Adblock, "||ads.example", Err(Skipped)),
            (Adblock, "@@/banner", Err(Skipped)),
            (Plain, "ads.example", Ok(&["ads.example"])),
            (Plain, "*.ads.example", Ok(&["*.ads.example"])),
            (Plain, ".ads.example", Ok(&["ads.example"])),
            (Plain, "  ads.example  # why", Ok(&["ads.example"])),
            (Plain, "# a comment", Ok(&[])),
            (Plain, "", Ok(&[])),
            (Plain, "example.com/ads", Ok(&["example.com/ads"])),
            (Plain, "http://example.com:8080/ads?x", Ok(&["example.com:8080/ads?x"])),
            (Plain, "HTTPS://example.com", Ok(&["example.com"])),
            (Plain, "two words", Err(Skipped)),
        ];
        for (format, line, expected) in rows {
            let expected = expected.map(|entries| entries.iter().map(|&entry| entry.to_owned()).collect());
            assert_eq!(parsed(*format, line), expected, "{format:?}: {line}");
            if !matches!(*line, "192.0.2.1 ads.example" | "@@/banner") {
                assert_eq!(parsed(Format::Auto, line), expected, "auto: {line}");
            }
        }
    }

    #[test]
    fn what_a_format_does_not_have_is_skipped() {
        assert_eq!(parsed(Format::Hosts, "ads.example"), Err(Skipped));
        assert_eq!(parsed(Format::Adblock, "ads.example"), Err(Skipped));
        assert_eq!(parsed(Format::Adblock, "example.com##.banner"), Err(Skipped));
        assert_eq!(parsed(Format::Plain, "0.0.0.0 ads.example"), Err(Skipped));
    }

    proptest! {
        #[test]
        fn no_line_of_whatever_bytes_does_harm(line: Vec<u8>, format in 0..4_usize) {
            let format = [Format::Auto, Format::Hosts, Format::Adblock, Format::Plain][format];
            let mut bytes = 0;
            let _ = parse(format, &line, |entry| bytes += entry.authority.len() + entry.path.len());
            prop_assert!(bytes <= line.len());
        }
    }
}
