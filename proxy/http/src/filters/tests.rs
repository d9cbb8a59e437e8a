//! Filters over content on a whole connection: one after the other, wherever the streams are cut.

use std::sync::Arc;

use pnat_shared::time::Duration;
use proptest::prelude::*;

use super::{Kinds, Lasting, Section};
use crate::cascade::Cascade;
use crate::codec::{Limits, Part, ResponseReader};
use crate::coding::Coding;
use crate::coding::decode::{self, Decoder};
use crate::coding::encode::{Encoder, Flush, Level};
use crate::connection::{Connection, End, Look, Outcome, Settings, Why};
use crate::filter::HttpFilter;
use crate::message::{Framing, Response};
use crate::piece::Piece;
use crate::testkit::{TestGateway, exchange};

mod chained;

/// In the order in which requests meet them.
const CASCADE: [(&str, &str); 3] = [
    ("compress", "min_length = 1"),
    (
        "body-replace",
        "replace = [{ find = 'http://', with = 'https://' }, { regex = '<script.*?</script>', with = '' }]",
    ),
    ("decompress", ""),
];
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: zstd;q=0.9, br, dcb\r\n\r\n";

fn cascade() -> Cascade {
    let lasting = Lasting::default();
    let filter = |(kind, keys): (&str, &str)| -> (Arc<str>, Box<dyn HttpFilter>) {
        let keys = toml::from_str(keys).unwrap();
        let section = Section { name: kind, keys, lasting: &lasting, rehearsal: false };
        (kind.into(), Kinds::default().configure(kind, &section).unwrap().unwrap().filter())
    };
    Cascade::new(CASCADE.map(filter))
}

/// What came of an exchange: what went to the server and to the client, how the connection stands, and why.
struct Told {
    server: Vec<u8>,
    client: Vec<u8>,
    end: End,
    verdict: Option<String>,
}

/// Plays one exchange; the server's stream comes in pieces of these lengths, over and over, and `ends` behind them.
fn play(request: &[u8], response: &[u8], cuts: &[usize], ends: bool) -> Told {
    let mut connection = Connection::new(Arc::new(Settings::default()), cascade(), exchange());
    let mut gateway = TestGateway::default();
    let mut told = Told { server: Vec::new(), client: Vec::new(), end: End::Open, verdict: None };
    let now = pnat_shared::time::Instant::from_secs(1000);
    let outcome = connection.on_request(&mut Look {
        now,
        gateway: &mut gateway,
        bytes: request,
        end: false,
        room: [usize::MAX; 2],
    });
    follow(&outcome, request, &mut told.server);
    let (mut held, mut rest) = (Vec::new(), response);
    for cut in cuts.iter().cycle() {
        let (piece, next) = rest.split_at((*cut).min(rest.len()));
        held.extend_from_slice(piece);
        rest = next;
        let end = ends && rest.is_empty();
        let outcome = connection.on_response(&mut Look {
            now,
            gateway: &mut gateway,
            bytes: &held,
            end,
            room: [usize::MAX; 2],
        });
        let taken = follow(&outcome, &held, &mut told.client);
        held.drain(..taken);
        told.end = outcome.end;
        if rest.is_empty() || told.end != End::Open {
            break;
        }
    }
    told.verdict = connection.exchange().verdict.clone().map(String::from);
    told
}

/// Does with bytes as an outcome says; answers how many it is about.
fn follow(outcome: &Outcome, bytes: &[u8], out: &mut Vec<u8>) -> usize {
    let mut at = 0;
    for piece in &outcome.pieces {
        match piece {
            Piece::Pass(count) => out.extend_from_slice(&bytes[at..at + count]),
            Piece::Skip(_) => {}
            Piece::Insert(bytes) => out.extend_from_slice(bytes),
        }
        at += piece.taken();
    }
    at
}

/// A response as the client reads it: its head, and its content; `None` where that is not whole.
fn read(method: &str, mut stream: &[u8]) -> (Response, Option<Vec<u8>>) {
    let (mut reader, mut response) = (ResponseReader::default(), Response::default());
    reader.expect(method);
    let mut all = Vec::new();
    loop {
        match reader.next(stream, 0, &Limits::default(), &mut response).unwrap() {
            Part::Head(len) => {
                stream = &stream[len..];
                if response.framing() == Framing::None {
                    return (response, Some(all));
                }
            }
            Part::Content { taken, content, end } => {
                all.extend_from_slice(&stream[content]);
                stream = &stream[taken..];
                if end {
                    return (response, Some(all));
                }
                if taken == 0 {
                    return (response, None);
                }
            }
            Part::More => return (response, None),
        }
    }
}

fn code(coding: Coding, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = Encoder::new(coding, Level::default(), Framing::Chunked).unwrap();
    encoder.encode(content, Flush::End, &mut out).unwrap();
    out
}

fn with_length(content: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: gzip\r\nETag: \"1\"\r\nVary: Origin\r\n\
         Content-Length: {}\r\n\r\n",
        content.len()
    );
    [head.as_bytes(), content].concat()
}

fn in_chunks(content: &[u8], len: usize) -> Vec<u8> {
    let mut out = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: gzip\r\nETag: \"1\"\r\nVary: Origin\r\n\
        Transfer-Encoding: chunked\r\n\r\n"
        .to_vec();
    for chunk in content.chunks(len) {
        out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}

fn end_of_head(stream: &[u8]) -> usize {
    stream.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_page_is_decoded_replaced_and_coded_for_the_client_wherever_it_is_cut(
        cuts in prop::collection::vec(1..400_usize, 1..6),
        chunk in prop::option::of(1..200_usize),
        links in 0..50_usize,
    ) {
        let page = b"<a href='http://b.example'>b</a><script>alert(1)</script>".repeat(links);
        let expected = b"<a href='https://b.example'>b</a>".repeat(links);
        let coded = code(Coding::Gzip, &page);
        let stream = chunk.map_or_else(|| with_length(&coded), |len| in_chunks(&coded, len));
        let told = play(GET, &stream, &cuts, false);
        prop_assert_eq!((told.end, told.verdict), (End::Open, None));
        let server = String::from_utf8(told.server).unwrap();
        prop_assert!(server.contains("Accept-Encoding: gzip, br, zstd\r\n"), "{}", server);
        let (head, content) = read("GET", &told.client);
        let fields: Vec<_> = head.fields().iter().collect();
        let expected_fields = [
            ("Content-Type", &b"text/html"[..]),
            ("ETag", b"W/\"1\""),
            ("Vary", b"Origin, Accept-Encoding"),
            ("Transfer-Encoding", b"chunked"),
            ("Content-Encoding", b"br"),
        ];
        prop_assert!(expected_fields.iter().all(|field| fields.contains(field)), "{:?}", fields);
        prop_assert_eq!(fields.len(), expected_fields.len());
        let mut plain = Vec::new();
        let mut decoder = Decoder::new(&[Coding::Br].into_iter().collect(), decode::Limits::default());
        prop_assert_eq!(decoder.decode_all(&content.unwrap(), true, &mut plain), Ok(()));
        prop_assert_eq!(plain, expected);
    }
}

#[test]
fn rfc9112_8_content_that_cannot_be_decoded_to_its_end_never_looks_whole() {
    let coded = code(Coding::Gzip, b"<p>page</p>");
    let bomb = code(Coding::Gzip, &vec![b' '; 10 << 20]);
    for (content, sentence) in [
        (&coded[..coded.len() - 3], "decompress: the content ends within its gzip coding"),
        (&b"<p>page</p>"[..], "decompress: the content is not gzip"),
        (&[&coded[..], b"more"].concat(), "decompress: something follows the end of the gzip coding"),
        (&bomb, "decompress: the content grows by more than it may when it is decoded"),
    ] {
        for stream in [with_length(content), in_chunks(content, 7)] {
            let told = play(GET, &stream, &[100], true);
            assert_eq!(told.end, End::Reset(Why::Filter));
            assert_eq!(told.verdict.as_deref(), Some(sentence));
            if !told.client.is_empty() {
                assert_eq!(read("GET", &told.client).1, None);
            }
        }
    }
}

#[test]
fn rfc9112_8_a_server_that_leaves_early_leaves_content_that_is_not_whole() {
    let stream = in_chunks(&code(Coding::Gzip, b"<p>page</p>"), 9);
    for len in end_of_head(&stream)..stream.len() {
        let told = play(GET, &stream[..len], &[100], true);
        assert_eq!(read("GET", &told.client).1, None, "{len}");
    }
}

#[test]
fn rfc9110_9_3_2_the_head_of_a_coded_page_is_that_of_get_without_its_framing() {
    let page = with_length(&code(Coding::Gzip, &b"page ".repeat(100)));
    let head_only = &page[..end_of_head(&page)];
    let to_get = read("GET", &play(GET, &page, &[1 << 16], false).client).0;
    let head = [b"HEAD", &GET[3..]].concat();
    let mut to_head = read("HEAD", &play(&head, head_only, &[1 << 16], false).client).0;
    to_head.fields_mut().push("Transfer-Encoding", b"chunked");
    let sorted = |response: &Response| {
        let mut fields: Vec<_> =
            response.fields().iter().map(|(name, value)| (name.to_owned(), value.to_vec())).collect();
        fields.sort();
        fields
    };
    assert_eq!(sorted(&to_head), sorted(&to_get));
}

#[test]
fn the_filters_of_the_annotated_configuration_can_be_made() {
    let config: toml::Table = toml::from_str(include_str!("../../../../conf/pnat.toml")).unwrap();
    let mut made = 0;
    for filter in config["filter"].as_array().unwrap() {
        let mut keys = filter.as_table().unwrap().clone();
        let [kind, name] = ["type", "name"].map(|key| keys.remove(key).unwrap().as_str().unwrap().to_owned());
        let section = Section { name: &name, keys, lasting: &Lasting::default(), rehearsal: true };
        if let Some(filter) = Kinds::default().configure(&kind, &section) {
            filter.unwrap();
            made += 1;
        }
    }
    assert!(made >= 5, "{made} filters over HTTP");
}

/// What clients and servers get of two requests on one connection, the first to a name that is blocked, and the lines of the log.
#[test]
fn a_blocked_request_is_answered_logged_and_followed_by_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let list = dir.path().join("list");
    std::fs::write(&list, "||ads.example^\n").unwrap();
    let lasting = Lasting::default();
    let sections = [
        ("http-log", "path = 'log'\nformat = 'combined'".to_owned()),
        ("url-block", format!("lists = [{{ path = '{}' }}]\nanswer = 451", list.display())),
        ("headers", "request = [{ action = 'add', name = 'X', value = '{client}' }]".to_owned()),
        ("redirect", "servers = [{ address = '198.18.0.3:80' }]\nhost = 'b'".to_owned()),
    ];
    let cascade = Cascade::new(sections.map(|(kind, keys)| -> (Arc<str>, Box<dyn HttpFilter>) {
        let keys = toml::from_str(&keys).unwrap();
        let section = Section { name: kind, keys, lasting: &lasting, rehearsal: false };
        (kind.into(), Kinds::default().configure(kind, &section).unwrap().unwrap().filter())
    }));
    let early = crate::filter::Exchange { may_redirect: true, ..exchange() };
    let mut connection = Connection::new(Arc::new(Settings::default()), cascade, early);
    let mut gateway = TestGateway::default();
    let now = pnat_shared::time::Instant::from_secs(1000);

    let bytes: &[u8] = b"GET /x HTTP/1.1\r\nHost: www.ads.example\r\n\r\nGET /y HTTP/1.1\r\nHost: a\r\n\r\n";
    let outcome = connection.on_request(&mut Look {
        now,
        gateway: &mut gateway,
        bytes,
        end: false,
        room: [usize::MAX; 2],
    });
    let mut server = Vec::new();
    assert_eq!(follow(&outcome, bytes, &mut server), bytes.len());
    assert_eq!(String::from_utf8(server).unwrap(), "GET /y HTTP/1.1\r\nHost: b\r\nX: 10.0.0.5\r\n\r\n");
    let client = String::from_utf8(outcome.back.concat()).unwrap();
    assert!(client.starts_with("HTTP/1.1 451 Unavailable For Legal Reasons\r\n"), "{client}");
    assert_eq!(connection.target(), Some("198.18.0.3:80".parse().unwrap()));

    let bytes: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let outcome = connection.on_response(&mut Look {
        now,
        gateway: &mut gateway,
        bytes,
        end: false,
        room: [usize::MAX; 2],
    });
    assert_eq!(follow(&outcome, bytes, &mut Vec::new()), bytes.len());
    let lines: Vec<_> = gateway.lines.into_iter().map(|(_, line)| String::from_utf8(line).unwrap()).collect();
    let said = "10.0.0.5 - - [23/Nov/2026:06:00:00 +0000]";
    assert_eq!(
        lines,
        [
            format!("{said} \"GET /x HTTP/1.1\" 451 - \"-\" \"-\"\n"),
            format!("{said} \"GET /y HTTP/1.1\" 200 2 \"-\" \"-\"\n"),
        ]
    );
}

#[test]
fn every_type_has_a_budget_of_time_that_is_one_second_if_left_out() {
    let lasting = Lasting::default();
    let section = |keys: &str| Section {
        name: "test",
        keys: toml::from_str(keys).unwrap(),
        lasting: &lasting,
        rehearsal: false,
    };
    for (keys, budget) in [
        ("", Duration::from_secs(1)),
        ("time_budget = '1ms'", Duration::from_millis(1)),
        ("time_budget = '1m'", Duration::from_secs(60)),
    ] {
        let mut section = section(keys);
        assert_eq!(section.take_time_budget(), Ok(budget));
        assert!(Kinds::default().configure("compress", &section).unwrap().is_ok(), "{keys}");
    }
    for keys in ["time_budget = 1", "time_budget = '0s'", "time_budget = '61s'", "time_budget = 'long'"] {
        assert_eq!(section(keys).take_time_budget().unwrap_err().key, "time_budget", "{keys}");
    }
}

#[test]
fn a_value_of_the_wrong_kind_is_told_in_an_operators_words() {
    for (kind, keys, told) in [
        ("url-block", "lists = 'a'", "lists: invalid type: string \"a\", expected a list"),
        ("url-block", "lists = ['a']", "lists[0]: invalid type: string \"a\", expected a table"),
        ("compress", "level = 4", "level: invalid type: integer `4`, expected a table"),
        (
            "compress",
            "min_length = -1",
            "min_length: invalid value: integer `-1`, expected a number that is not negative",
        ),
        (
            "compress",
            "codings = ['lzma']",
            "codings[0]: unknown variant `lzma`, expected one of `gzip`, `deflate`, `br`, `zstd`",
        ),
        ("http-log", "path = 7", "path: invalid type: integer `7`, expected a text"),
        ("cache", "set_cookie = true", "set_cookie: is no text"),
        ("redirect", "clients = ['10']", "clients[0]: is no network of IPv4, as in \"10.0.4.0/22\""),
        (
            "redirect",
            "servers = [{ address = 'a:80' }]",
            "servers[0].address: is no address of IPv4 with a port, as in \"198.18.0.3:80\"",
        ),
    ] {
        let keys = toml::from_str(keys).unwrap();
        let section = Section { name: kind, keys, lasting: &Lasting::default(), rehearsal: true };
        let fault = Kinds::default().configure(kind, &section).unwrap().unwrap_err();
        assert_eq!(fault.to_string(), told);
    }
}
