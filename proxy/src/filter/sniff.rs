//! What a client speaks, told by its first bytes, and what it calls the server.
//!
//! Runs on: proxy cores. Allocates: a copy of a hello or head until it is complete. Blocks: never.

use pnat_http::codec::is_token_byte;

use super::http::{Part, Requests};
use super::tls::{Hello, HelloReader};

/// What a stream's first bytes tell.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Guess {
    /// Too few of them.
    More,
    /// A TLS handshake.
    Tls,
    /// Something that an HTTP/1 server might take for a request.
    Http,
    Other,
}

/// Longest request line that is waited for, in bytes; a longer one of a request's form counts as one.
const LONGEST_LINE: usize = 16 * 1024;

/// Longest method, in bytes: no server reads a request line that is longer by much.
const LONGEST_METHOD: usize = 8 * 1024;

/// Guesses from a stream's first bytes. It decides at the first byte that cannot belong to a request or hello, at the latest
/// at the end of the first line. Being wrong on the side of HTTP costs little, the other way would let a request through
/// unseen: so what any server is known to make out as a request is one, however it is spelled ([`is_blank`], [`is_request`]).
/// There are some, too, that take the end of the stream, `end`, for the end of a line.
pub(super) fn guess(bytes: &[u8], end: bool) -> Guess {
    match guess_so_far(bytes) {
        Guess::More if end && is_request(trim_start(bytes)) => Guess::Http,
        Guess::More if end => Guess::Other,
        guess => guess,
    }
}

fn guess_so_far(bytes: &[u8]) -> Guess {
    match bytes {
        [22, 3, ..] => return Guess::Tls,
        [22] => return Guess::More,
        _ => {}
    }
    let line = trim_start(bytes);
    let method = line.iter().take_while(|&&byte| is_token_byte(byte)).count();
    if method > LONGEST_METHOD {
        return Guess::Other;
    }
    match line.get(method) {
        None if bytes.len() > LONGEST_LINE => return Guess::Http,
        None => return Guess::More,
        Some(&byte) if method > 0 && byte != b'\n' && is_blank(byte) => {}
        Some(_) => return Guess::Other,
    }
    match memchr::memchr(b'\n', line) {
        None if line.len() > LONGEST_LINE => Guess::Http,
        None => Guess::More,
        Some(end) if is_request(&line[..end]) => Guess::Http,
        Some(_) => Guess::Other,
    }
}

/// Whether somebody parts a request line here. Python's `http.server` does so at everything that is blank in Latin-1, before the
/// method, too; nginx and Apache pass over empty lines there.
const fn is_blank(byte: u8) -> bool {
    matches!(byte, b'\t'..=b'\r' | 0x1c..=b' ' | 0x85 | 0xa0)
}

fn trim_start(bytes: &[u8]) -> &[u8] {
    let blanks = bytes.iter().take_while(|&&byte| is_blank(byte)).count();
    &bytes[blanks..]
}

/// Whether a server might take a line for a request's first. Where a version of HTTP stands in it, that need not be its end (old
/// Apache); and for what asks for a page, none is needed: HTTP/0.9 has none, of whatever target, and to old Apache any other
/// word is HTTP/1.0.
fn is_request(line: &[u8]) -> bool {
    let mut words = line.split(|&byte| is_blank(byte)).filter(|word| !word.is_empty());
    let asks_for_page = words.next().is_some_and(|method| [&b"GET"[..], b"HEAD", b"POST"].contains(&method));
    let is_version = |word: &[u8]| word.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"HTTP/"));
    match words.next() {
        Some(_) if asks_for_page => true,
        second => second.into_iter().chain(words).any(is_version),
    }
}

/// Finds what the client calls the server, beside bytes that pass.
#[derive(Debug, Default)]
pub(super) struct NameFinder {
    /// The stream so far; empty where `hello` has it.
    seen: Vec<u8>,
    guess: Option<Guess>,
    hello: HelloReader,
    /// Made when there are some: most flows wait longest before their first byte.
    requests: Option<Box<Requests>>,
}

impl NameFinder {
    /// Takes in the stream's next bytes. `Some` when it is done: with the name, or `None` where there is none.
    #[expect(clippy::option_option, reason = "not yet known, known to be absent, known")]
    pub(super) fn push(&mut self, bytes: &[u8]) -> Option<Option<String>> {
        if self.guess == Some(Guess::Tls) {
            return self.hello(bytes);
        }
        let mut before = self.seen.len();
        self.seen.extend_from_slice(bytes);
        if self.guess.is_none() {
            match guess(&self.seen, false) {
                Guess::More => return None,
                Guess::Other => return Some(None),
                Guess::Tls => {
                    self.guess = Some(Guess::Tls);
                    let seen = std::mem::take(&mut self.seen);
                    return self.hello(&seen);
                }
                Guess::Http => {
                    self.guess = Some(Guess::Http);
                    before = 0;
                }
            }
        }
        match self.requests.get_or_insert_default().next(&self.seen, before) {
            Part::More => None,
            Part::Head(head, _) => Some(head.hosts.into_iter().next()),
            Part::Body(_) | Part::Switched | Part::Malformed(_) => Some(None),
        }
    }

    fn hello(&mut self, bytes: &[u8]) -> Option<Option<String>> {
        match self.hello.push(bytes) {
            Hello::More => None,
            Hello::Name(name) => Some(name),
            Hello::Malformed(_) => Some(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A guess must not change once it is made.
    fn guess_of(text: &str) -> Guess {
        let whole = guess(text.as_bytes(), false);
        for end in 1..text.len() {
            let part = guess(&text.as_bytes()[..end], false);
            assert!(
                part == Guess::More || part == whole,
                "{part:?} after {end} bytes of {text:?}, then {whole:?}"
            );
        }
        whole
    }

    #[test]
    fn what_a_server_might_take_for_a_request_is_http() {
        for text in [
            "GET / HTTP/1.1\r\n",
            "A_METHOD_THAT_IS_LONGER_THAN_ANY_ONE_KNOWS / HTTP/1.1\r\n",
            "GET / HTTP/1.1\n",
            "\r\n\n PROPFIND /x HTTP/1.0\r\n",
            "get  http://x.example/ http/1.1\r\n",
            "GET /a b HTTP/1.1\r\n",
            "PRI * HTTP/2.0\r\n",
            "M-SEARCH * HTTP/1.1\r\nand so on",
            "GET /\r\n",
        ] {
            assert_eq!(guess_of(text), Guess::Http, "{text:?}");
        }
    }

    #[test]
    fn what_only_lenient_servers_take_for_a_request_is_http() {
        for text in [
            // Python's http.server.
            "GET\x0b/\x0cHTTP/1.0\r\n",
            "\x0b\x1fGET / HTTP/1.0\r\n",
            "GET\r/\rHTTP/1.0\n",
            "GET secret.html\r\n",
            // nginx, some of it before 1.21.1.
            "GET http://x.example/secret\r\n",
            "GET /secret page\r\n",
            &format!("{} /secret HTTP/1.1\r\n", "A".repeat(4000)),
            // Apache before 2.4.25.
            "GET /secret JUNK\r\n",
            "POST /secret JUNK\r\n",
            "PUT /secret HTTP/1.1 junk\r\n",
            "DELETE /secret hTtP/1.1\t\r\n",
        ] {
            assert_eq!(guess_of(text), Guess::Http, "{text:?}");
        }
        for bytes in [&b"GET\xa0/\xa0HTTP/1.0\r\n"[..], b"\x85GET / HTTP/1.0\r\n"] {
            assert_eq!(guess(bytes, false), Guess::Http, "{bytes:?}");
        }
    }

    #[test]
    fn a_request_that_ends_with_the_stream_is_one() {
        for (text, guessed) in [
            ("GET /secret", Guess::Http),
            ("\r\nGET /secret HTTP/1.0", Guess::Http),
            ("PUT /secret HTTP/1.0\r", Guess::Http),
            ("GET", Guess::Other),
            ("get key", Guess::Other),
            ("PING", Guess::Other),
            ("\r\n", Guess::Other),
            ("", Guess::Other),
            ("\x16", Guess::Other),
        ] {
            assert_eq!(guess(text.as_bytes(), true), guessed, "{text:?}");
        }
    }

    #[test]
    fn other_protocols_are_told_at_the_first_byte_or_line_that_rules_http_out() {
        for text in [
            "SSH-2.0-OpenSSH_9.2\r\n",
            "EHLO mail.example\r\n",
            "USER anonymous\r\n",
            "OPTIONS rtsp://x RTSP/1.0\r\n",
            "INVITE sip:a@b SIP/2.0\r\n",
            "get key\r\n",
            "get /key\r\n",
            "QUIT\r\n",
            "QUIT\n",
            "SOURCE /mount ICE/1.0\r\n",
            "\0\0\0\x08\x04",
            "{\"json\"",
            "\x17\x03\x03",
            "\x16\x02",
            &"a_word_that_is_far_longer_than_any_method_name".repeat(200),
        ] {
            assert_eq!(guess_of(text), Guess::Other, "{text:?}");
        }
    }

    #[test]
    fn endless_lines_are_decided_on() {
        assert_eq!(guess(&[b'\n'; LONGEST_LINE + 1], false), Guess::Http);
        assert_eq!(guess(format!("GET /{}", "x".repeat(LONGEST_LINE)).as_bytes(), false), Guess::Http);
    }

    #[test]
    fn a_name_is_found_whatever_the_segments() {
        let hello = super::super::tls::tests::hello_with_name("www.Example.com");
        let request = b"GET / HTTP/1.1\r\nHost: www.Example.com:8080\r\n\r\n".to_vec();
        for stream in [hello, request] {
            for size in 1..stream.len() {
                let mut finder = NameFinder::default();
                let found = stream.chunks(size).find_map(|piece| finder.push(piece));
                assert_eq!(found, Some(Some("www.example.com".to_owned())), "in segments of {size}");
            }
        }
    }
}
