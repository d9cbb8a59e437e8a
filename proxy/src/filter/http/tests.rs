//! Hosts of requests, and where requests are; the codec's own tests are with it.

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
            if body > 0 {
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

fn hosts(text: &str) -> Vec<String> {
    match Requests::default().next(text.as_bytes(), 0) {
        Part::Head(head, length) if length == text.len() => head.hosts,
        other => panic!("{text:?}: {other:?}"),
    }
}

#[test]
fn a_host_is_told_in_lower_case_without_port_and_final_dot() {
    for field in ["Host: www.example.com", "HOST:\tWWW.Example.com:8080 ", "host:www.example.com.:"] {
        assert_eq!(hosts(&format!("GET / HTTP/1.1\r\n{field}\r\n\r\n")), ["www.example.com"], "{field}");
    }
    assert_eq!(hosts("GET / HTTP/1.1\r\nHost: [2001:DB8::1]:80\r\n\r\n"), ["2001:db8::1"]);
    assert!(hosts("GET / HTTP/1.1\r\nHost:\r\n\r\n").is_empty());
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
    assert_eq!(hosts("CONNECT a.example:443 HTTP/1.0\r\n\r\n"), ["a.example"]);
    assert!(hosts("OPTIONS * HTTP/1.0\r\n\r\n").is_empty());
    assert!(hosts("GET /http://a.example/ HTTP/1.0\r\n\r\n").is_empty());
}

const PIPELINE: &str = "\r\nPOST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\nGET / H\
     GET /2 HTTP/1.1\r\nHost: b\r\n\r\n\
     POST /3 HTTP/1.1\r\nHost: c\r\nTransfer-Encoding: Chunked\r\n\r\n\
     5;ext=\"1\"\r\nGET /\r\n0a\r\n0123456789\r\n000\r\nX: y\r\n\r\n\
     HEAD /4 HTTP/1.0\r\n\r\n\
     GET /5 HTTP/1.1\r\nHost: d\r\nUpgrade: websocket\r\nContent-Length: 3\r\n\r\nabc\
     GET /6 HTTP/1.1\r\nHost: e\r\n\r\n\
     GET  /7 HTTP/1.1\r\nHost: f\r\n\r\n";

#[test]
fn every_head_of_a_pipeline_is_found_whatever_the_segments() {
    let expected = [
        "head a",
        "body 7",
        "head b",
        "head c",
        "body 47",
        "head ",
        "head d",
        "body 3",
        "switched",
        "head e",
        "a malformed target",
    ];
    for segment in 1..=PIPELINE.len() {
        assert_eq!(parts(PIPELINE.as_bytes(), segment), expected, "in segments of {segment}");
    }
}
