//! Parts of a whole: `Range`, `Content-Range`, `multipart/byteranges` (RFC 9110 section 14).
//!
//! Runs on: proxy cores. Allocates: per part; content is shared. Blocks: never.

use std::ops::Range;

use bytes::Bytes;

use crate::fields::Fields;

/// Parts in one response at most: who asks for more gets the whole (RFC 9110 section 17.15).
const MOST: usize = 32;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ranges {
    /// The field does not count: the whole.
    Ignored,
    /// None of them exists.
    Unsatisfiable,
    Parts(Vec<Range<usize>>),
}

/// Reads `Range` for content of so many bytes.
pub(super) fn parse(value: &[u8], length: u64) -> Ranges {
    let Some(set) = str::from_utf8(value).ok().and_then(|text| text.trim().split_once('=')) else {
        return Ranges::Ignored;
    };
    if !set.0.eq_ignore_ascii_case("bytes") {
        return Ranges::Ignored;
    }
    let (mut parts, mut count) = (Vec::new(), 0);
    for text in set.1.split(',').map(str::trim).filter(|text| !text.is_empty()) {
        count += 1;
        match part(text, length) {
            None => return Ranges::Ignored,
            Some(_) if count > MOST => return Ranges::Ignored,
            Some(range) if range.is_empty() => {}
            Some(range) => parts.push(range),
        }
    }
    let total: usize = parts.iter().map(Range::len).sum();
    match parts.len() {
        0 if count == 0 => Ranges::Ignored,
        0 => Ranges::Unsatisfiable,
        // Parts that overlap so much that they are more than the whole.
        _ if total as u64 > length => Ranges::Ignored,
        _ => Ranges::Parts(parts),
    }
}

/// One range; empty where it lies outside; `None`: it is not one.
fn part(text: &str, length: u64) -> Option<Range<usize>> {
    let (first, last) = text.split_once('-')?;
    let number = |text: &str| -> Option<u64> {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let (start, end) = match (first, last) {
        ("", suffix) => (length.saturating_sub(number(suffix)?), length),
        (first, "") => (number(first)?, length),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                return None;
            }
            (first, last.saturating_add(1).min(length))
        }
    };
    // No longer than content that lies in memory.
    Some(start.min(length) as usize..end.max(start.min(length)) as usize)
}

/// The content of a 206, whose head gets the fields that tell what it is.
pub(super) fn cut(head: &mut Fields, content: &Bytes, parts: &[Range<usize>], boundary: &str) -> Vec<Bytes> {
    let place = |part: &Range<usize>| format!("bytes {}-{}/{}", part.start, part.end - 1, content.len());
    if let [part] = parts {
        head.set("Content-Range", place(part).as_bytes());
        return vec![content.slice(part.clone())];
    }
    let kind = head.text("content-type").unwrap_or("application/octet-stream").to_owned();
    head.set("Content-Type", format!("multipart/byteranges; boundary={boundary}").as_bytes());
    let mut pieces = Vec::with_capacity(parts.len() * 2 + 1);
    for (number, part) in parts.iter().enumerate() {
        let line_end = if number == 0 { "" } else { "\r\n" };
        let place = place(part);
        let start =
            format!("{line_end}--{boundary}\r\nContent-Type: {kind}\r\nContent-Range: {place}\r\n\r\n");
        pieces.push(start.into());
        pieces.push(content.slice(part.clone()));
    }
    pieces.push(format!("\r\n--{boundary}--\r\n").into());
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn section_14_1_2_ranges_are_read_strictly_and_cut_to_what_there_is() {
        let one = |part| Ranges::Parts(std::iter::once(part).collect());
        for (value, expected) in [
            ("bytes=0-4", one(0..5)),
            ("Bytes=5-", one(5..10)),
            ("bytes=-3", one(7..10)),
            ("bytes=-30", one(0..10)),
            ("bytes=0-0, 9-99999999999999999999999", Ranges::Parts(vec![0..1, 9..10])),
            ("bytes=10-", Ranges::Unsatisfiable),
            ("bytes=-0", Ranges::Unsatisfiable),
            ("bytes=3-1", Ranges::Ignored),
            ("bytes=a-b", Ranges::Ignored),
            ("bytes=", Ranges::Ignored),
            ("lines=0-1", Ranges::Ignored),
            ("bytes=0-,0-", Ranges::Ignored),
        ] {
            assert_eq!(parse(value.as_bytes(), 10), expected, "{value}");
        }
        assert_eq!(parse(format!("bytes={}", "0-0,".repeat(MOST + 1)).as_bytes(), 10_000), Ranges::Ignored);
        assert_eq!(parse(b"bytes=-1", 0), Ranges::Unsatisfiable);
    }

    #[test]
    fn section_14_6_several_parts_come_as_a_multipart_message() {
        let mut head: Fields = [("Content-Type", "text/plain")].into_iter().collect();
        let pieces = cut(&mut head, &Bytes::from_static(b"0123456789"), &[0..2, 8..10], "B");
        let text: Vec<u8> = pieces.concat();
        assert_eq!(head.text("content-type"), Some("multipart/byteranges; boundary=B"));
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "--B\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/10\r\n\r\n01\r\n\
             --B\r\nContent-Type: text/plain\r\nContent-Range: bytes 8-9/10\r\n\r\n89\r\n--B--\r\n"
        );
    }
}
