//! Connections that end where they should not, clients that are slow on purpose, lengths that lie: nothing is left of them, and who
//! is served meanwhile notices nothing.

use std::io::{BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use socket2::SockRef;

use super::server::{Server, target};
use super::talk::{ask, in_lanes};
use super::{ACCESS, APACHE_PORT, chain};
use crate::fixture::{Lab, wait_until};
use crate::hosts::{CLIENT, SERVER_ADDRESS, finish};

/// Of each kind.
const CONNECTIONS: usize = 10;
const SLOW_CLIENTS: usize = 200;

/// What clients say before they leave, to nginx.
const CUT_REQUESTS: [&str; 7] = [
    "",
    "GET /wo",
    "GET /word HTTP/1.1\r\nHost: a\r\nX: ",
    "PUT /uploads/cut HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nsome",
    "PUT /uploads/cut HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1000\r\nsome",
    "GET /big HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /slow/text HTTP/1.1\r\nHost: a\r\n\r\nGET /slow/text HTTP/1.1\r\nHost: a\r\n\r\nGET",
];

/// What the server says before it leaves, to requests for these.
const CUT_RESPONSES: [(&str, &str); 4] = [
    ("/nothing", ""),
    ("/head", "HTTP/1.1 200 OK\r\nConte"),
    ("/content", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome"),
    ("/chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1000\r\nsome"),
];

#[test]
fn connections_that_end_anywhere_leave_nothing_behind_and_harm_nobody() {
    let lab = Lab::start(&format!("{}\n[http]\nhead_timeout = \"1s\"", chain(&[ACCESS])));
    let _server = Server::start(answer);
    let frames_before = frames_in_use(&lab);
    let bystander = Bystander::start();

    let slow = thread::spawn(slow_heads);
    let cut_requests = times(&CUT_REQUESTS);
    in_lanes(&cut_requests, |(request, end)| leave(request, *end));
    let cut_responses = times(&CUT_RESPONSES.map(|(target, _)| target));
    let heard = in_lanes(&cut_responses, |(target, end)| hear(target, *end));
    for ((target, end), heard) in cut_responses.iter().zip(heard) {
        let is_whole = heard.starts_with("HTTP/1.1 200") && !heard.ends_with("\r\nsome");
        assert!(!is_whole, "{target} {end:?}: {heard}");
    }
    assert_lengths_that_lie_deceive_nobody();
    let slow = finish(slow);

    assert!(slow.iter().all(|heard| heard.starts_with("HTTP/1.1 408 ")), "{slow:?}");
    let pages = bystander.stop();
    assert!(pages > 50, "pages that another client got meanwhile: {pages}");
    wait_until(Duration::from_secs(20), "no flow is left", || flows(&lab).is_empty());
    assert!(
        frames_in_use(&lab) <= frames_before + 64,
        "frames: {frames_before} before, {}",
        frames_in_use(&lab)
    );
    let report: Value = serde_json::from_str(&lab.pnat("filters", &["--json"])).unwrap();
    assert_eq!(report["faults"]["slow_head"], SLOW_CLIENTS, "{report}");
}

/// How somebody leaves.
#[derive(Copy, Clone, Debug)]
enum End {
    Close,
    Reset,
}

fn times<'a>(what: &[&'a str]) -> Vec<(&'a str, End)> {
    let both = what.iter().flat_map(|what| [(*what, End::Close), (*what, End::Reset)]);
    let all: Vec<_> = both.collect();
    all.iter().copied().cycle().take(all.len() * CONNECTIONS).collect()
}

fn end(stream: TcpStream, end: End) {
    if matches!(end, End::Reset) {
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
    drop(stream);
}

/// A client that leaves in the middle, also of what it hears.
fn leave(request: &str, how: End) {
    let mut stream = CLIENT.connect(SERVER_ADDRESS, 80);
    stream.write_all(request.as_bytes()).unwrap();
    if request.starts_with("GET /big") {
        stream.read_exact(&mut [0; 100_000]).unwrap();
    }
    end(stream, how);
}

/// What a client hears of a server that leaves so.
fn hear(target: &str, how: End) -> String {
    let mut stream = CLIENT.connect(SERVER_ADDRESS, APACHE_PORT);
    write!(stream, "GET {target}?{how:?} HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    heard(&mut stream)
}

fn answer(mut stream: TcpStream) {
    let Some(target) = target(&mut BufReader::new(stream.try_clone().unwrap())) else { return };
    let (target, how) = target.split_once('?').expect("how it ends");
    let (_, said) = CUT_RESPONSES.iter().find(|(own, _)| *own == target).expect("a response");
    stream.write_all(said.as_bytes()).unwrap();
    end(stream, if how == "Reset" { End::Reset } else { End::Close });
}

/// Until the end, whatever it is; a hanging gateway fails the test.
fn heard(stream: &mut TcpStream) -> String {
    let mut heard = Vec::new();
    if let Err(error) = stream.read_to_end(&mut heard) {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    }
    String::from_utf8(heard).unwrap()
}

fn assert_lengths_that_lie_deceive_nobody() {
    let put = |said: usize, sent: usize| {
        let mut stream = CLIENT.connect(SERVER_ADDRESS, 80);
        let head = format!("PUT /uploads/lie HTTP/1.1\r\nHost: a\r\nContent-Length: {said}\r\n\r\n");
        stream.write_all(&[head.as_bytes(), &vec![b'x'; sent]].concat()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        heard(&mut stream)
    };
    let (true_, more, less) = (put(100, 100), put(10, 100), put(100, 10));

    assert!(true_.starts_with("HTTP/1.1 201 "), "{true_}");
    // What is beyond is the next request, or none.
    assert!(more.starts_with("HTTP/1.1 204 ") && more.contains("HTTP/1.1 400 "), "{more}");
    assert!(!less.contains("HTTP/1.1 2"), "{less}");
}

/// Clients that send a byte of a head now and then; what they hear.
fn slow_heads() -> Vec<String> {
    let mut streams: Vec<_> = (0..SLOW_CLIENTS).map(|_| CLIENT.connect(SERVER_ADDRESS, 80)).collect();
    for stream in &mut streams {
        stream.write_all(b"GET /word HTTP/1.1\r\nHost: a\r\nX: ").unwrap();
    }
    for _ in 0..4 {
        thread::sleep(Duration::from_millis(200));
        for stream in &mut streams {
            stream.write_all(b"y").unwrap();
        }
    }
    streams.iter_mut().map(heard).collect()
}

/// A client that asks for a page again and again, on one connection.
struct Bystander {
    ends: Arc<AtomicBool>,
    pages: thread::JoinHandle<usize>,
}

impl Bystander {
    fn start() -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let own_ends = Arc::clone(&ends);
        let pages = thread::spawn(move || {
            let mut stream = CLIENT.connect(SERVER_ADDRESS, 80);
            let mut pages = 0;
            while !own_ends.load(Relaxed) {
                assert_eq!(ask(&mut stream, "www.lab.example", "/word"), 200);
                pages += 1;
                thread::sleep(Duration::from_millis(10));
            }
            pages
        });
        Self { ends, pages }
    }

    /// How many it got, all of them whole.
    fn stop(self) -> usize {
        self.ends.store(true, Relaxed);
        finish(self.pages)
    }
}

fn flows(lab: &Lab) -> Vec<Value> {
    let report: Value = serde_json::from_str(&lab.pnat("flows", &["--json"])).unwrap();
    report["flows"].as_array().expect("flows").clone()
}

fn frames_in_use(lab: &Lab) -> u64 {
    lab.gauge("pool", "frames", "frames") - lab.gauge("pool", "frames", "frames_available")
}
