//! Streams that are made up: what was meant is what is read, in any pieces, and damage is read one way.

use proptest::prelude::*;

use super::write::{Connection, write_request, write_response};
use super::*;
use crate::fuzzing;

const PIPELINE: &[u8] = b"\r\nPOST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\nGET / H\
    GET http://b:80/2 HTTP/1.1\r\nHost: c\r\nConnection: x, close\r\n\r\n\
    POST /3 HTTP/1.1\r\nHost: c\r\nTransfer-Encoding: chunked\r\nX: \t y \r\n\r\n\
    5;ext=\"1\"\r\nGET /\r\n0a\r\n0123456789\r\n000\r\nX: y\r\nZ: \r\n\r\n\
    HEAD /4 HTTP/1.0\r\nContent-Length: 0\r\n\r\n";

const ANSWERS: &[u8] = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
    HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello\
    HTTP/1.0 404 \r\nContent-Length: 0\r\n\r\n\
    HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n3;a\r\nabc\r\n0\r\nX: y\r\n\r\n\
    HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n\
    HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end";

/// `stream` with some bytes replaced, put in or left out.
fn damaged(stream: &'static [u8]) -> impl Strategy<Value = Vec<u8>> {
    let bytes = prop::sample::select(b"\r\n :;,0159GH\0\t\x0b#\"@\xff".to_vec());
    prop::collection::vec((0..stream.len(), bytes, 0..3), 0..4).prop_map(move |changes| {
        let mut stream = stream.to_vec();
        for (place, byte, kind) in changes {
            let place = place.min(stream.len() - 1);
            match kind {
                0 => stream[place] = byte,
                1 => stream.insert(place, byte),
                _ => drop(stream.remove(place)),
            }
        }
        stream
    })
}

/// A request as it is meant: content in chunks where there are several pieces of it.
#[derive(Clone, Debug)]
struct Meant {
    method: String,
    path: String,
    fields: Vec<(String, String)>,
    content: Option<Vec<Vec<u8>>>,
    is_chunked: bool,
}

fn meant() -> impl Strategy<Value = Meant> {
    let fields =
        prop::collection::vec(("X-[A-Za-z0-9!#$%&'*+.^_`|~-]{1,8}", "([!-~]([ \t!-~]{0,12}[!-~])?)?"), 0..6);
    let pieces = prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..4);
    (
        "[A-Z!#$%&'*+.^_`|~-]{1,12}".prop_filter("has a form of its own", |method| method != "CONNECT"),
        "/[!\"$-~]{0,30}",
        fields,
        prop::option::of(pieces),
        any::<bool>(),
    )
        .prop_map(|(method, path, fields, content, is_chunked)| Meant {
            method,
            path,
            fields,
            content,
            is_chunked,
        })
}

impl Meant {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("{} {} HTTP/1.1\r\nHost: a\r\n", self.method, self.path).as_bytes());
        for (name, value) in &self.fields {
            out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        match &self.content {
            None => out.extend_from_slice(b"\r\n"),
            Some(pieces) if self.is_chunked => {
                out.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
                for piece in pieces {
                    out.extend_from_slice(format!("{:X};a=b\r\n", piece.len()).as_bytes());
                    out.extend_from_slice(piece);
                    out.extend_from_slice(b"\r\n");
                }
                out.extend_from_slice(b"0\r\n\r\n");
            }
            Some(pieces) => {
                let content = pieces.concat();
                out.extend_from_slice(format!("Content-Length: {}\r\n\r\n", content.len()).as_bytes());
                out.extend_from_slice(&content);
            }
        }
    }

    fn lines(&self) -> Vec<String> {
        let head = format!("{} {} @a", self.method, self.path);
        let content = self.content.iter().map(|pieces| format!("={}", pieces.concat().escape_ascii()));
        [head].into_iter().chain(content).collect()
    }
}

proptest! {
    #[test]
    fn what_was_meant_is_what_is_read(all in prop::collection::vec(meant(), 1..4), ends in prop::collection::vec(0.0..1.0, 0..6)) {
        let mut stream = Vec::new();
        all.iter().for_each(|meant| meant.write(&mut stream));
        let mut ends: Vec<_> = ends.iter().map(|end| (end * stream.len() as f64) as usize).collect();
        ends.sort_unstable();
        let expected: Vec<_> = all.iter().flat_map(Meant::lines).collect();
        prop_assert_eq!(requests(&stream, &ends, &Limits::default()), expected);
    }

    #[test]
    fn damaged_requests_read_one_way_and_keep_their_meaning_when_written(cut in any::<u8>(), stream in damaged(PIPELINE)) {
        fuzzing::http_requests(&[&[cut][..], &stream].concat());
    }

    #[test]
    fn damaged_responses_read_one_way_and_keep_their_meaning_when_written(cut in any::<u8>(), stream in damaged(ANSWERS)) {
        fuzzing::http_responses(&[&[cut][..], &stream].concat());
    }
}

#[test]
fn limits_hold_to_the_byte() {
    let head = |length: usize| {
        let empty = b"GET / HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n".len();
        format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(length - empty)).into_bytes()
    };
    let limits = Limits { head: 100, fields: 2, line: 40, extra: 10 };
    let line =
        |length: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(length - 16)).into_bytes();
    let chunked = |rest: &str| {
        format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{rest}").into_bytes()
    };
    for (stream, last) in [
        (head(100), "GET / @a"),
        (head(101), "431 a head that is too large"),
        ([b"\r\n", &head(98)[..]].concat(), "GET / @a"),
        ([b"\r\n", &head(99)[..]].concat(), "431 a head that is too large"),
        (b"\r\n".repeat(49), "more"),
        (b"\r\n".repeat(50), "400 empty lines without end"),
        (line(40), "GET /xxxxxxxxxxxxxxxxxxxxxxxx @a"),
        (line(41), "414 a request line that is too long"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\nZ: z\r\n\r\n".to_vec(), "431 a head that is too large"),
        (chunked("1;abcdefghij\r\n"), "=... more"),
        (chunked("1;abcdefghijk\r\n"), "400 chunk extensions that are too long"),
        (chunked("1;abcdefghij\r\nx\r\n1;abcdefghij\r\ny\r\n0\r\n\r\n"), "=xy"),
        (chunked("0\r\nX: abcde\r\n\r\n"), "trailers X: abcde\\r\\n"),
        (chunked("0\r\nX: abcdef\r\n\r\n"), "400 a trailer section that is too long"),
        (chunked("0\r\nX:\r\nY:\r\nZ:z"), "400 a trailer section that is too long"),
    ] {
        for ends in cuts(stream.len()) {
            let lines = requests(&stream, &ends, &limits);
            // Empty lines before a head are no message, complete or not.
            let found = if lines.is_empty() { "more".to_owned() } else { lines.join(" ") };
            assert!(found.ends_with(last), "{:?}: {found}", stream.escape_ascii().to_string());
        }
    }
}

#[test]
fn an_endless_head_is_given_up() {
    let head = [b"GET / HTTP/1.1\r\n".to_vec(), b"X: y\r\n".repeat(100_000)].concat();
    let ends: Vec<_> = (1..head.len()).step_by(1448).collect();
    assert_eq!(requests(&head, &ends, &Limits::default()), ["431 a head that is too large"]);
}

/// Bytes that were shown before are not looked at again until the head is complete: the work for a head that comes byte by byte
/// grows with its length, not with its square.
#[test]
fn a_head_is_looked_through_once_whatever_the_pieces() {
    let head = [
        b"\r\nGET /a-long-target-that-is-not-read-again HTTP/1.1\r\n".to_vec(),
        b"X: y\r\n".repeat(100),
        b"\r\n".to_vec(),
    ]
    .concat();
    let (mut reader, mut request) = (RequestReader::default(), Request::new());
    let line = 2 + head[2..].iter().position(|&byte| byte == b'\n').expect("a line") + 1;
    for end in 1..head.len() {
        // The empty line, the method and the last two bytes may be looked at again, and the line when it is complete; the rest is
        // spoiled once it was shown.
        let mut shown = head[..end].to_vec();
        if end > 9 && end != line {
            shown[6..end - 3].fill(b'\n');
        }
        let part = reader.next(&shown, end - 1, &Limits::default(), &mut request);
        assert_eq!(part, Ok(Part::More), "at {end}");
    }
    let part = reader.next(&head, head.len() - 1, &Limits::default(), &mut request);
    assert_eq!(part, Err(Fault::BadRequest("no Host")));
}

#[test]
fn messages_are_read_and_written_without_an_allocation_once_buffers_are_warm() {
    let requests = [
        PIPELINE[..PIPELINE.len() - 2].to_vec(),
        b"\r\nPOST /4 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n\r\n".to_vec(),
    ]
    .concat();
    let responses = &ANSWERS[..ANSWERS.len() - 13];
    let (mut reader, mut request) = (RequestReader::default(), Request::new());
    let (mut answers, mut response) = (ResponseReader::default(), Response::default());
    let mut out = Vec::new();
    let mut run = || {
        let mut at = 0;
        while at < requests.len() {
            match reader.next(&requests[at..], 0, &Limits::default(), &mut request).expect("good requests") {
                Part::Head(length) => {
                    at += length;
                    write_request(&request, request.framing(), &mut out);
                }
                Part::Content { taken, .. } => at += taken,
                Part::More => unreachable!("they are complete"),
            }
        }
        let mut at = 0;
        while at < responses.len() {
            if answers.is_between() {
                answers.expect("GET");
            }
            match answers
                .next(&responses[at..], 0, &Limits::default(), &mut response)
                .expect("good responses")
            {
                Part::Head(length) => {
                    at += length;
                    write_response(&response, response.framing(), Connection::Keep, &mut out);
                }
                Part::Content { taken, .. } => at += taken,
                Part::More => unreachable!("they are complete"),
            }
        }
        assert_eq!(answers.close(), Ok(true));
        out.clear();
    };
    run();
    assert_eq!(allocation_counter::measure(run).count_total, 0);
}
