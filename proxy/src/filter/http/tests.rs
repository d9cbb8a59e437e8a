//! Request heads, bodies and ambiguities.

use proptest::prelude::*;

use super::*;

/// The parts of a stream that comes in segments of at most `segment` bytes, bodies joined, as text.
fn parts(stream: &[u8], segment: usize) -> Vec<String> {
    let mut requests = Requests::default();
    let mut parts: Vec<String> = Vec::new();
    let mut body = 0;
    let (mut at, mut seen, mut came) = (0, 0, 0);
    while came < stream.len() {
        came = stream.len().min(came + segment);
        while at < came {
            let part = requests.next(&stream[at..came], seen);
            seen = 0;
            if let Part::Body(length) = part {
                body += length;
                at += length;
                continue;
            }
            if part == Part::More {
                seen = came - at;
                break;
            }
            // How much of a malformed body was good depends on the segments.
            if body > 0 && !matches!(part, Part::Malformed(_)) {
                parts.push(format!("body {body}"));
                body = 0;
            }
            match part {
                Part::Head(head, length) => {
                    parts.push(format!("head {}", head.hosts.join(" ")));
                    at += length;
                }
                Part::Switched => parts.push("switched".to_owned()),
                Part::Malformed(why) => {
                    parts.push(why.to_owned());
                    return parts;
                }
                Part::Body(_) | Part::More => unreachable!("handled above"),
            }
        }
    }
    if body > 0 {
        parts.push(format!("body {body}"));
    }
    parts
}

fn head(fields: &str) -> Result<Head, &'static str> {
    parse_head(format!("GET / HTTP/1.1\r\n{fields}\r\n").as_bytes())
}

fn hosts(text: &str) -> Vec<String> {
    parse_head(text.as_bytes()).unwrap().hosts
}

#[test]
fn a_host_is_told_in_lower_case_without_port_and_final_dot() {
    for field in ["Host: www.example.com", "HOST:\tWWW.Example.com:8080 ", "host:www.example.com.:"] {
        assert_eq!(head(&format!("{field}\r\n")).unwrap().hosts, ["www.example.com"], "{field}");
    }
    assert_eq!(head("Host: [2001:DB8::1]:80\r\n").unwrap().hosts, ["2001:db8::1"]);
    assert_eq!(head("Host:\r\n").unwrap().hosts, [""]);
}

#[test]
fn the_target_names_a_host_too_in_absolute_and_authority_form() {
    assert_eq!(
        hosts("GET http://A.example:81/x?y HTTP/1.1\r\nHost: b.example\r\n\r\n"),
        ["a.example", "b.example"]
    );
    assert_eq!(hosts("GET ftp://a.example HTTP/1.0\r\n\r\n"), ["a.example"]);
    assert_eq!(
        hosts("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\n\r\n"),
        ["a.example", "a.example"]
    );
    assert!(hosts("OPTIONS * HTTP/1.1\r\n\r\n").is_empty());
    assert!(hosts("GET /http://a.example/ HTTP/1.1\r\n\r\n").is_empty());
}

#[test]
fn a_head_that_servers_may_read_differently_is_malformed() {
    for (fields, why) in [
        ("Host: a\r\nHost: a\r\n", "more than one Host"),
        ("Host: a\r\nhost: b\r\n", "more than one Host"),
        ("Host: a, b\r\n", "a malformed host"),
        ("Host: user@a\r\n", "a malformed host"),
        ("Host: a:80:81\r\n", "a malformed host"),
        ("Host: a/b\r\n", "a malformed host"),
        ("Host: a\u{b}b\r\n", "a malformed head"),
        ("Host : a\r\n", "a malformed head"),
        ("Host: a\r\n folded\r\n", "a malformed head"),
        (" Host: a\r\n", "a malformed head"),
        ("X: a\rHost: b\r\n", "a malformed head"),
        ("Content-Length: 1\r\nContent-Length: 1\r\n", "more than one Content-Length"),
        ("Content-Length: 1, 1\r\n", "a malformed Content-Length"),
        ("Content-Length: +1\r\n", "a malformed Content-Length"),
        ("Content-Length: \r\n", "a malformed Content-Length"),
        ("Content-Length: 18446744073709551616\r\n", "a malformed Content-Length"),
        ("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", "both a length and a transfer coding"),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "more than one Transfer-Encoding"),
        ("Transfer-Encoding: chunked, chunked\r\n", "an unknown transfer coding"),
        ("Transfer-Encoding: chunked, gzip\r\n", "an unknown transfer coding"),
        ("Transfer-Encoding: xchunked\r\n", "an unknown transfer coding"),
        ("Transfer-Encoding: identity\r\n", "an unknown transfer coding"),
    ] {
        assert_eq!(head(fields), Err(why), "{fields:?}");
    }
    for (text, why) in [
        ("PRI * HTTP/2.0\r\n\r\n", "a malformed head"),
        ("GET  / HTTP/1.1\r\n\r\n", "a malformed head"),
        ("GET / x HTTP/1.1\r\n\r\n", "a malformed head"),
        ("GET a.example HTTP/1.1\r\n\r\n", "a malformed target"),
        ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "a transfer coding in HTTP/1.0"),
    ] {
        assert_eq!(parse_head(text.as_bytes()), Err(why), "{text:?}");
    }
    let many = "X: y\r\n".repeat(MOST_FIELDS + 1);
    assert_eq!(head(&many), Err("too many header fields"));
    assert_eq!(head(&format!("Host: {}\r\n", "x".repeat(256))), Err("a malformed host"));
}

const PIPELINE: &str = "\r\nPOST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\nGET / H\
     GET /2 HTTP/1.1\r\nHost: b\r\n\r\n\
     POST /3 HTTP/1.1\r\nHost: c\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n\
     5;ext=\"1\"\r\nGET /\r\n0a\r\n0123456789\r\n000\r\nX: y\r\nHost: evil\r\n\r\n\
     HEAD /4 HTTP/1.0\n\n\
     GET /5 HTTP/1.1\r\nHost: d\r\nUpgrade: websocket\r\nContent-Length: 3\r\n\r\nabc\
     GET /6 HTTP/1.1\r\nHost: e\r\n\r\n\n";

#[test]
fn every_head_of_a_pipeline_is_found_whatever_the_segments() {
    let expected = [
        "head a", "body 7", "head b", "head c", "body 59", "head ", "head d", "body 3", "switched", "head e",
    ];
    for segment in 1..=PIPELINE.len() {
        assert_eq!(parts(PIPELINE.as_bytes(), segment), expected, "in segments of {segment}");
    }
}

#[test]
fn a_chunked_body_that_servers_may_end_elsewhere_is_malformed() {
    for body in [
        "\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "0\r\nX: y\n\r\n",
        "0\r\n\n",
        "0000000000000005\r\nhello\r\n0\r\n\r\n",
        "5\r\rhello",
    ] {
        let stream = format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        for segment in [1, 1000] {
            let parts = parts(stream.as_bytes(), segment);
            assert_eq!(parts.last().map(String::as_str), Some("a malformed chunked body"), "{body:?}");
        }
    }
}

#[test]
fn endless_heads_extensions_and_trailers_are_ended() {
    let endless = "X: y\r\n".repeat(LONGEST_HEAD);
    let head = format!("GET / HTTP/1.1\r\n{endless}");
    assert_eq!(parts(head.as_bytes(), 1448), ["a head that is too long"]);
    let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    for body in [format!("1;{endless}").replace("\r\n", ";"), format!("0\r\n{endless}")] {
        let parts = parts(format!("{chunked}{body}").as_bytes(), 1448);
        assert_eq!(parts.last().map(String::as_str), Some("a chunk extension or trailer that is too long"));
    }
}

proptest! {
    /// However a stream is damaged and cut, it reads the same.
    #[test]
    fn damaged_pipelines_read_the_same_in_any_segments(
        damage in prop::collection::vec((0..PIPELINE.len(), prop::sample::select(b"\r\n :;0GH".to_vec())), 0..4),
        segment in 1_usize..200,
    ) {
        let mut stream = PIPELINE.as_bytes().to_vec();
        for (place, value) in damage {
            stream[place] = value;
        }
        prop_assert_eq!(parts(&stream, segment), parts(&stream, stream.len()));
    }
}
