//! What is written: framing fields in their place, and one message whatever filters put into it.

use super::write::{Connection, write_chunk, write_last_chunk, write_request, write_response};
use super::*;
use crate::message::{Framing, Request, Response};

fn request(fields: &[(&str, &str)], framing: Framing) -> String {
    let mut request = Request::new();
    request.begin("POST", "/x", Version::Http11);
    for (name, value) in fields {
        request.read_field(name, value.as_bytes());
    }
    let mut out = Vec::new();
    write_request(&request, framing, &mut out);
    String::from_utf8(out).expect("text")
}

fn response(status: u16, fields: &[(&str, &str)], framing: Framing, connection: Connection) -> String {
    let mut response = Response::new(status, "So");
    for (name, value) in fields {
        response.fields_mut().push(name, value.as_bytes());
    }
    let mut out = Vec::new();
    write_response(&response, framing, connection, &mut out);
    String::from_utf8(out).expect("text")
}

#[test]
fn rfc9112_6_framing_fields_say_how_content_is_framed_in_their_place() {
    let fields = [("Host", "a"), ("content-length", "5"), ("X", "y")];
    let head = "POST /x HTTP/1.1\r\nHost: a\r\n";
    for (fields, framing, expected) in [
        (&fields[..], Framing::Length(5), "content-length: 5\r\nX: y\r\n\r\n"),
        (&fields, Framing::Length(6), "content-length: 6\r\nX: y\r\n\r\n"),
        (&fields, Framing::Length(0), "content-length: 0\r\nX: y\r\n\r\n"),
        (&fields, Framing::Chunked, "X: y\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (&fields, Framing::None, "X: y\r\n\r\n"),
        (&[("Host", "a")], Framing::Length(5), "Content-Length: 5\r\n\r\n"),
        (
            &[("Host", "a"), ("TRANSFER-encoding", "Chunked")],
            Framing::Chunked,
            "TRANSFER-encoding: Chunked\r\n\r\n",
        ),
        (
            &[("Host", "a"), ("Transfer-Encoding", "cow")],
            Framing::Chunked,
            "Transfer-Encoding: chunked\r\n\r\n",
        ),
        (&[("Host", "a"), ("Transfer-Encoding", "chunked")], Framing::Length(1), "Content-Length: 1\r\n\r\n"),
        (
            &[("Host", "a"), ("Content-Length", "1"), ("Content-Length", "2")],
            Framing::Length(3),
            "Content-Length: 3\r\n\r\n",
        ),
        (&[("Host", "a"), ("Content-Length", "+3")], Framing::Length(3), "Content-Length: 3\r\n\r\n"),
    ] {
        assert_eq!(request(fields, framing), format!("{head}{expected}"), "{fields:?} {framing:?}");
    }
}

#[test]
fn rfc9112_6_3_a_response_without_content_keeps_what_it_says_of_some_only_where_it_may() {
    let fields = [("Content-Length", "5"), ("Transfer-Encoding", "chunked")];
    for status in [101, 204] {
        let written = response(status, &fields, Framing::None, Connection::AsIs);
        assert_eq!(written, format!("HTTP/1.1 {status} So\r\n\r\n"));
    }
    for status in [200, 304] {
        let written = response(status, &fields[..1], Framing::None, Connection::AsIs);
        assert_eq!(written, format!("HTTP/1.1 {status} So\r\nContent-Length: 5\r\n\r\n"));
    }
}

#[test]
fn rfc9112_9_a_response_says_once_what_becomes_of_the_connection() {
    let fields = [("connection", "Keep-Alive, x"), ("Y", "z"), ("Connection", "close")];
    for (fields, framing, connection, expected) in [
        (
            &fields[..],
            Framing::Length(0),
            Connection::Close,
            "connection: x, close\r\nY: z\r\nContent-Length: 0\r\n\r\n",
        ),
        (
            &fields,
            Framing::Length(0),
            Connection::Keep,
            "connection: x, keep-alive\r\nY: z\r\nContent-Length: 0\r\n\r\n",
        ),
        (&[], Framing::Length(0), Connection::Close, "Content-Length: 0\r\nConnection: close\r\n\r\n"),
        (&[], Framing::Length(0), Connection::AsIs, "Content-Length: 0\r\n\r\n"),
        (&[], Framing::UntilClose, Connection::Keep, "Connection: close\r\n\r\n"),
    ] {
        assert_eq!(response(200, fields, framing, connection), format!("HTTP/1.1 200 So\r\n{expected}"));
    }
}

#[test]
fn rfc9112_11_1_no_filter_can_split_a_message() {
    let mut request = Request::new();
    request.begin("GET", "/", Version::Http11);
    request.set_method("GET / HTTP/1.1\r\nX");
    request.set_target("/ HTTP/1.1\r\nHost: b\r\n\r\nGET /#\u{fc}");
    request.fields_mut().push("X: y\r\nHost", b"a");
    request.fields_mut().push("Host", b"a\r\n\r\nGET / HTTP/1.1\0");
    let mut out = Vec::new();
    write_request(&request, Framing::None, &mut out);
    let expected = "GET___HTTP_1.1__X /%20HTTP/1.1%0D%0AHost:%20b%0D%0A%0D%0AGET%20/%23\u{fc} HTTP/1.1\r\n\
         X__y__Host: a\r\nHost: a    GET / HTTP/1.1 \r\n\r\n";
    assert_eq!(String::from_utf8(out).expect("text"), expected);

    let mut response = Response::new(200, "OK\r\nX: y\r\n\r\n");
    response.fields_mut().push("", b"\n");
    let mut out = Vec::new();
    write_response(&response, Framing::Length(0), Connection::AsIs, &mut out);
    assert_eq!(out, b"HTTP/1.1 200 OK  X: y    \r\n_:  \r\nContent-Length: 0\r\n\r\n");
}

#[test]
fn rfc9112_3_2_http_1_1_always_has_a_host() {
    let mut request = Request::new();
    for (target, version, framing, expected) in [
        ("/", Version::Http10, Framing::Length(0), "POST / HTTP/1.0\r\nContent-Length: 0\r\n\r\n"),
        (
            "/",
            Version::Http10,
            Framing::Chunked,
            "POST / HTTP/1.1\r\nHost: \r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        (
            "http://a/",
            Version::Http10,
            Framing::Chunked,
            "POST http://a/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        ("http://a/", Version::Http2, Framing::None, "POST http://a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    ] {
        request.begin("POST", target, version);
        let mut out = Vec::new();
        write_request(&request, framing, &mut out);
        assert_eq!(String::from_utf8(out).expect("text"), expected);
    }
}

#[test]
fn rfc9112_7_1_chunks_are_written_as_they_are_read() {
    let mut out = Vec::new();
    write_chunk(b"", &mut out);
    write_chunk(&[b'x'; 26], &mut out);
    write_last_chunk(b"X: y\r\n", &mut out);
    assert_eq!(out, b"1a\r\nxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n0\r\nX: y\r\n\r\n");
}

#[test]
fn rfc9113_3_4_a_stream_in_http2_is_told_by_its_preface() {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for end in 0..preface.len() {
        assert_eq!(is_http2_preface(&preface[..end]), None);
    }
    assert_eq!(is_http2_preface(preface), Some(true));
    assert_eq!(is_http2_preface(b"PRI * HTTP/1.1"), Some(false));
    assert_eq!(is_http2_preface(b"G"), Some(false));
}

#[test]
fn rfc9112_9_3_a_connection_persists_unless_somebody_says_otherwise() {
    for (version, connection, expected) in [
        (Version::Http11, "", true),
        (Version::Http11, "x, Close", false),
        (Version::Http10, "", false),
        (Version::Http10, "Keep-Alive", true),
        (Version::Http10, "keep-alive, close", false),
    ] {
        let fields = [("Connection", connection)].into_iter().collect();
        assert_eq!(persists(version, &fields), expected, "{version:?} {connection}");
    }
}

#[test]
fn rfc9110_15_every_fault_has_a_status_and_a_reason() {
    let faults = [
        Fault::BadRequest("x"),
        Fault::HeadTooLarge,
        Fault::TargetTooLong,
        Fault::Version,
        Fault::TransferCoding,
        Fault::Malformed("x"),
    ];
    for fault in faults {
        let (status, reason) = fault.status();
        assert!((400..=505).contains(&status) && !reason.is_empty(), "{fault:?}");
        assert_eq!(fault.sentence(), fault.to_string());
    }
}
