//! The readers on streams, whole and in pieces.

use super::*;
use crate::message::{Framing, Request, Response};

mod rows;
mod properties;
mod writing;

/// What a reader finds in a stream, as text: `METHOD target @authority`, or a status, for each message; `=content` where it has
/// some, with a line for its trailer section; a fault's status and sentence; `more` where the last message is not complete.
#[derive(Debug, Default)]
struct Transcript {
    lines: Vec<String>,
    content: Option<Vec<u8>>,
}

impl Transcript {
    fn head(&mut self, line: String, framing: Framing) {
        self.lines.push(line);
        self.content = match framing {
            Framing::None => None,
            Framing::Length(0) => {
                self.lines.push("=".to_owned());
                None
            }
            _ => Some(Vec::new()),
        };
    }

    fn content(&mut self, content: &[u8], end: bool, trailers: &[u8]) {
        let all = self.content.as_mut().expect("content behind a head that has some");
        all.extend_from_slice(content);
        if end {
            self.end(trailers);
        }
    }

    fn end(&mut self, trailers: &[u8]) {
        let content = self.content.take().unwrap_or_default();
        self.lines.push(format!("={}", content.escape_ascii()));
        if !trailers.is_empty() {
            self.lines.push(format!("trailers {}", trailers.escape_ascii()));
        }
    }

    /// Incomplete content is shown, too: it must not depend on the pieces either.
    fn cut(&mut self) {
        if let Some(content) = self.content.take() {
            self.lines.push(format!("={}...", content.escape_ascii()));
        }
    }

    fn fault(&mut self, fault: Fault) {
        self.cut();
        self.lines.push(format!("{} {}", fault.status().0, fault.sentence()));
    }
}

/// Shows `stream` to `next` as it comes in pieces that end at `ends`, the way a connection does.
fn feed(
    stream: &[u8],
    ends: &[usize],
    mut next: impl FnMut(&[u8], usize, &mut Transcript) -> Result<Part, Fault>,
) -> Transcript {
    let mut transcript = Transcript::default();
    let (mut at, mut seen) = (0, 0);
    for &end in ends.iter().chain(&[stream.len()]) {
        while at < end {
            let part = match next(&stream[at..end], seen, &mut transcript) {
                Ok(part) => part,
                Err(fault) => {
                    transcript.fault(fault);
                    return transcript;
                }
            };
            seen = 0;
            match part {
                Part::More => {
                    seen = end - at;
                    break;
                }
                Part::Head(length) => at += length,
                Part::Content { taken, .. } => {
                    assert!(taken > 0, "no way on");
                    at += taken;
                }
            }
        }
    }
    transcript
}

fn requests(stream: &[u8], ends: &[usize], limits: &Limits) -> Vec<String> {
    let mut reader = RequestReader::default();
    let mut request = Request::new();
    let mut transcript = feed(stream, ends, |bytes, seen, transcript| {
        let part = reader.next(bytes, seen, limits, &mut request)?;
        match &part {
            Part::More => {}
            Part::Head(_) => transcript.head(
                format!("{} {} @{}", request.method(), request.target(), request.authority()),
                request.framing(),
            ),
            Part::Content { content, end, .. } => {
                transcript.content(&bytes[content.clone()], *end, reader.trailers());
            }
        }
        Ok(part)
    });
    if !reader.is_between() && !is_refused(&transcript) {
        transcript.cut();
        transcript.lines.push("more".to_owned());
    }
    transcript.lines
}

fn is_refused(transcript: &Transcript) -> bool {
    transcript.lines.last().is_some_and(|line| line.starts_with(['4', '5']) && line.contains(' '))
}

/// The responses to requests of these methods, and what the end of the stream says.
fn responses(methods: &[&str], stream: &[u8], ends: &[usize], limits: &Limits) -> Vec<String> {
    let mut reader = ResponseReader::default();
    let mut response = Response::default();
    let mut methods = methods.iter();
    let mut expect = |reader: &mut ResponseReader| {
        if let Some(method) = methods.next() {
            reader.expect(method);
        }
    };
    expect(&mut reader);
    let mut transcript = feed(stream, ends, |bytes, seen, transcript| {
        let part = reader.next(bytes, seen, limits, &mut response)?;
        match &part {
            Part::More => {}
            Part::Head(_) => {
                transcript.head(response.status().to_string(), response.framing());
                if !response.is_interim() {
                    expect(&mut reader);
                }
            }
            Part::Content { content, end, .. } => {
                transcript.content(&bytes[content.clone()], *end, reader.trailers());
            }
        }
        Ok(part)
    });
    if !is_refused(&transcript) {
        match reader.close() {
            Ok(true) => transcript.end(b""),
            Ok(false) => {}
            Err(fault) => transcript.fault(fault),
        }
    }
    transcript.lines
}

/// Every cut into two pieces, single bytes, and the whole.
fn cuts(length: usize) -> impl Iterator<Item = Vec<usize>> {
    [vec![], (1..length).collect()].into_iter().chain((1..length).map(|at| vec![at]))
}

#[test]
fn a_pipeline_reads_the_same_cut_anywhere() {
    let stream = b"\r\nPOST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\nGET / H\
        GET /2 HTTP/1.1\r\nHost: b\r\n\r\n\
        POST /3 HTTP/1.1\r\nHost: c\r\nTransfer-Encoding: Chunked\r\n\r\n\
        5;ext=\"1\"\r\nGET /\r\n0a\r\n0123456789\r\n000\r\nX: y\r\nZ:\r\n\r\n\
        HEAD /4 HTTP/1.0\r\nContent-Length: 0\r\n\r\n\
        GET http://d/5 HTTP/1.1\r\nHost: e\r\n\r\n\
        GET /6 HTTP/1.1\r\nHost";
    let expected = [
        "POST /1 @a",
        "=GET / H",
        "GET /2 @b",
        "POST /3 @c",
        "=GET /0123456789",
        "trailers X: y\\r\\nZ:\\r\\n",
        "HEAD /4 @",
        "=",
        "GET http://d/5 @d",
        "more",
    ];
    for ends in cuts(stream.len()) {
        assert_eq!(requests(stream, &ends, &Limits::default()), expected, "cut at {ends:?}");
    }
}

#[test]
fn responses_read_the_same_cut_anywhere() {
    let stream = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello\
        HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n\
        HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n\
        HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\n\
        HTTP/1.0 200 OK\r\n\r\nuntil the end";
    let expected =
        ["100", "200", "=hello", "200", "200", "=abc", "trailers X: y\\r\\n", "204", "200", "=until the end"];
    for ends in cuts(stream.len()) {
        let lines = responses(&["POST", "HEAD", "GET", "PUT", "GET"], stream, &ends, &Limits::default());
        assert_eq!(lines, expected, "cut at {ends:?}");
    }
}
