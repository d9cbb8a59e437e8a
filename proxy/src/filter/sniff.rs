//! What a client speaks, told by its first bytes, and what it calls the server.
//!
//! Runs on: proxy cores. Allocates: a copy of a hello or head until it is complete. Blocks: never.

use super::http::{LONGEST_HEAD, head_length, parse_head};
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

/// Longest method, in bytes.
const LONGEST_METHOD: usize = 32;

/// Guesses from a stream's first bytes. It decides at the first byte that cannot belong to a request or hello, at the latest
/// at the end of the first line. Being wrong on the side of HTTP costs little, the other way would let a request through
/// unseen: so blanks and empty lines before the method, and more than one blank behind it, are let pass.
pub(super) fn guess(bytes: &[u8]) -> Guess {
    match bytes {
        [22, 3, ..] => return Guess::Tls,
        [22] => return Guess::More,
        _ => {}
    }
    let line = bytes.trim_ascii_start();
    let method = line.iter().take_while(|&&byte| is_token(byte)).count();
    if method > LONGEST_METHOD {
        return Guess::Other;
    }
    match line.get(method) {
        None if bytes.len() > LONGEST_LINE => return Guess::Http,
        None => return Guess::More,
        Some(b' ' | b'\t') if method > 0 => {}
        Some(_) => return Guess::Other,
    }
    match memchr::memchr(b'\n', line) {
        None if line.len() > LONGEST_LINE => Guess::Http,
        None => Guess::More,
        Some(end) if ends_with_version(line[..end].trim_ascii_end()) => Guess::Http,
        Some(_) => Guess::Other,
    }
}

fn ends_with_version(line: &[u8]) -> bool {
    let last = line.rsplit(|&byte| byte == b' ' || byte == b'\t').next().unwrap_or(line);
    last.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"HTTP/"))
}

/// RFC 9110 section 5.6.2.
const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// Finds what the client calls the server, beside bytes that pass.
#[derive(Debug, Default)]
pub(super) struct NameFinder {
    /// The stream so far; empty where `hello` has it.
    seen: Vec<u8>,
    guess: Option<Guess>,
    hello: HelloReader,
}

impl NameFinder {
    /// Takes in the stream's next bytes. `Some` when it is done: with the name, or `None` where there is none.
    #[expect(clippy::option_option, reason = "not yet known, known to be absent, known")]
    pub(super) fn push(&mut self, bytes: &[u8]) -> Option<Option<String>> {
        if self.guess == Some(Guess::Tls) {
            return self.hello(bytes);
        }
        let before = self.seen.len();
        self.seen.extend_from_slice(bytes);
        if self.guess.is_none() {
            match guess(&self.seen) {
                Guess::More => return None,
                Guess::Other => return Some(None),
                Guess::Tls => {
                    self.guess = Some(Guess::Tls);
                    let seen = std::mem::take(&mut self.seen);
                    return self.hello(&seen);
                }
                Guess::Http => self.guess = Some(Guess::Http),
            }
        }
        match head_length(&self.seen, before) {
            None if self.seen.len() > LONGEST_HEAD => Some(None),
            None => None,
            Some(length) => {
                Some(parse_head(&self.seen[..length]).ok().and_then(|head| head.hosts.into_iter().next()))
            }
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
        let whole = guess(text.as_bytes());
        for end in 1..text.len() {
            let part = guess(&text.as_bytes()[..end]);
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
            "GET / HTTP/1.1\n",
            "\r\n\n PROPFIND /x HTTP/1.0\r\n",
            "get  http://x.example/ http/1.1\r\n",
            "GET /a b HTTP/1.1\r\n",
            "PRI * HTTP/2.0\r\n",
            "M-SEARCH * HTTP/1.1\r\nand so on",
        ] {
            assert_eq!(guess_of(text), Guess::Http, "{text:?}");
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
            "GET /\r\n",
            "\0\0\0\x08\x04",
            "{\"json\"",
            "\x17\x03\x03",
            "\x16\x02",
            "a_word_that_is_far_longer_than_any_method_name",
        ] {
            assert_eq!(guess_of(text), Guess::Other, "{text:?}");
        }
    }

    #[test]
    fn endless_lines_are_decided_on() {
        assert_eq!(guess(&[b'\n'; LONGEST_LINE + 1]), Guess::Http);
        assert_eq!(guess(format!("GET /{}", "x".repeat(LONGEST_LINE)).as_bytes()), Guess::Http);
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
