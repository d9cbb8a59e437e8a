//! Rows of streams and what is found in them, however they are cut.

use super::*;

/// Calls `run` for each row: its columns between the name and the section; must answer what was found.
fn each_row(text: &str, columns: usize, run: impl Fn(&[&str]) -> String) {
    let mut failures = Vec::new();
    let mut count = 0;
    for row in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let cells: Vec<_> = row.split(" | ").collect();
        assert_eq!(cells.len(), columns, "{row}");
        let (found, expected) = (run(&cells[1..columns - 2]), cells[columns - 2]);
        if found != expected {
            failures.push(format!("{}\n    found {found}\n expected {expected}", cells[0]));
        }
        count += 1;
    }
    assert!(failures.is_empty(), "{} of {count} rows:\n{}", failures.len(), failures.join("\n"));
}

/// As [`each_row`], for the corpus, of which an outcome may be one of several: `run` must answer one of them.
fn each_row_of_corpus(text: &str, columns: usize, run: impl Fn(&[&str]) -> String) {
    let rows: Vec<_> = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    assert!(rows.len() > 80, "the corpus is gone");
    let mut failures = Vec::new();
    for row in &rows {
        let cells: Vec<_> = row.split(" | ").collect();
        assert_eq!(cells.len(), columns, "{row}");
        let (found, allowed) = (run(&cells[1..columns - 2]), cells[columns - 2]);
        if !allowed.split(" or ").any(|one| one == found) {
            failures.push(format!("{}: {found} is not {allowed}", cells[0]));
        }
    }
    assert!(failures.is_empty(), "{} of {} rows:\n{}", failures.len(), rows.len(), failures.join("\n"));
}

/// The bytes that a cell stands for.
fn unescape(cell: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = cell;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let (kind, behind) = rest[at + 1..].split_at(1);
        rest = behind;
        match kind {
            "r" => bytes.push(b'\r'),
            "n" => bytes.push(b'\n'),
            "t" => bytes.push(b'\t'),
            "0" => bytes.push(0),
            "\\" => bytes.push(b'\\'),
            "x" => {
                bytes.push(u8::from_str_radix(&rest[..2], 16).expect("two digits"));
                rest = &rest[2..];
            }
            "{" => {
                let (times, behind) = rest.split_once('*').expect("a number");
                let (what, behind) = behind.split_once('}').expect("an end");
                bytes.extend(unescape(what).repeat(times.parse().expect("a number")));
                rest = behind;
            }
            _ => panic!("an unknown escape: {cell}"),
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

/// What `read` finds, which must not depend on the cuts.
fn read_in_pieces(stream: &[u8], read: impl Fn(&[usize]) -> Vec<String>) -> String {
    let whole = read(&[]).join(" ");
    for ends in cuts(stream.len()) {
        assert_eq!(read(&ends).join(" "), whole, "{:?} cut at {ends:?}", stream.escape_ascii().to_string());
    }
    whole
}

#[test]
fn rows_of_requests_are_read_as_they_say() {
    each_row(include_str!("requests.rows"), 4, |cells| {
        let stream = unescape(cells[0]);
        read_in_pieces(&stream, |ends| requests(&stream, ends, &Limits::default()))
    });
}

#[test]
fn rows_of_responses_are_read_as_they_say() {
    each_row(include_str!("responses.rows"), 5, |cells| {
        let methods: Vec<_> = cells[0].split(' ').collect();
        let stream = unescape(cells[1]);
        read_in_pieces(&stream, |ends| responses(&methods, &stream, ends, &Limits::default()))
    });
}

/// What becomes of the messages of a stream, in the corpus's words.
#[derive(Default)]
struct Words {
    words: Vec<String>,
    /// Of a message that is not complete: its content so far.
    content: Option<usize>,
    /// No more is read.
    is_over: bool,
}

impl Words {
    fn head(&mut self, framing: Framing) {
        match framing {
            Framing::None | Framing::Length(0) => self.words.push("0".to_owned()),
            _ => self.content = Some(0),
        }
    }

    /// Takes in content, or its end.
    fn content(&mut self, length: usize, end: bool) {
        let all = self.content.unwrap_or(0) + length;
        self.content = Some(all).filter(|_| !end);
        if end {
            self.words.push(all.to_string());
        }
    }

    fn end(&mut self, word: impl Into<String>) {
        self.words.push(word.into());
        self.content = None;
        self.is_over = true;
    }
}

/// Where the other side closes, a cell ends in `$`.
fn unescape_stream(cell: &str) -> (Vec<u8>, bool) {
    let bytes = cell.strip_suffix('$').unwrap_or(cell);
    (unescape(bytes), bytes.len() < cell.len())
}

fn words_of_requests(cell: &str) -> String {
    let (stream, is_closed) = unescape_stream(cell);
    let (mut reader, mut request) = (RequestReader::default(), Request::new());
    let mut words = Words::default();
    feed(&stream, &[], |bytes, seen, _| {
        if words.is_over {
            return Ok(Part::Head(bytes.len()));
        }
        let part = match reader.next(bytes, seen, &Limits::default(), &mut request) {
            Ok(part) => part,
            Err(fault) => {
                words.end(format!("={}", fault.status().0));
                return Ok(Part::Head(bytes.len()));
            }
        };
        match &part {
            Part::More => {}
            // Whether it is refused is not for the codec to say.
            Part::Head(_) if request.method() == "CONNECT" => words.end("=405"),
            Part::Head(_) => words.head(request.framing()),
            Part::Content { content, end, .. } => words.content(content.len(), *end),
        }
        words.is_over |= reader.is_between() && !persists(request.version(), request.fields());
        Ok(part)
    });
    if words.content.is_some() {
        words.end(if is_closed { "cut" } else { "..." });
    } else if !words.is_over && !reader.is_between() {
        words.end("...");
    }
    words.words.join(" ")
}

fn words_of_responses(asked: &str, cell: &str) -> String {
    let (stream, is_closed) = unescape_stream(cell);
    let mut asked = asked.split(' ').peekable();
    let (mut reader, mut response) = (ResponseReader::default(), Response::default());
    let mut words = Words::default();
    feed(&stream, &[], |bytes, seen, _| {
        if words.is_over {
            return Ok(Part::Head(bytes.len()));
        }
        if reader.is_between() && seen == 0 {
            match asked.peek() {
                Some(method) => reader.expect(method),
                None => {
                    words.is_over = true;
                    return Ok(Part::Head(bytes.len()));
                }
            }
        }
        let part = match reader.next(bytes, seen, &Limits::default(), &mut response) {
            Ok(part) => part,
            Err(fault) => {
                let status = fault.status().0;
                words.end(if words.content.is_some() { "cut".to_owned() } else { format!("={status}") });
                return Ok(Part::Head(bytes.len()));
            }
        };
        match &part {
            Part::More => {}
            Part::Head(_) if response.status() == 101 => {
                // Whether it was asked for is not for the codec to say.
                let word = if asked.next() == Some("UPGRADE") { "switch" } else { "=502" };
                words.end(word);
            }
            Part::Head(_) if response.is_interim() => {}
            Part::Head(_) => {
                asked.next();
                words.head(response.framing());
            }
            Part::Content { content, end, .. } => words.content(content.len(), *end),
        }
        words.is_over |=
            reader.is_between() && !response.is_interim() && !persists(response.version(), response.fields());
        Ok(part)
    });
    let is_waiting = words.content.is_some() || asked.peek().is_some();
    match reader.close() {
        _ if words.is_over || !is_waiting => {}
        _ if !is_closed => words.end("..."),
        Ok(true) => words.content(0, true),
        Err(_) if words.content.is_some() => words.end("cut"),
        Ok(false) | Err(_) => words.end("=502"),
    }
    words.words.join(" ")
}

#[test]
fn the_corpus_of_requests_is_taken_as_it_says() {
    each_row_of_corpus(include_str!("../../../corpus/requests.rows"), 4, |cells| words_of_requests(cells[0]));
}

#[test]
fn the_corpus_of_responses_is_taken_as_it_says() {
    each_row_of_corpus(include_str!("../../../corpus/responses.rows"), 5, |cells| {
        words_of_responses(cells[0], cells[1])
    });
}
