//! Bytes of any kind sent to a web server, and what comes back.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use crate::hosts::{CLIENT, SERVER_ADDRESS};

/// Rows of `rows::rows`: name, bytes, outcome, section.
pub(super) const REQUESTS: &str = include_str!("../../../../proxy/http/corpus/requests.rows");

/// Sent behind everything. Who takes part of what came before for the probe's, or the other way round, answers it otherwise,
/// or something else than it.
const PROBE: &[u8] = b"GET /1k HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n";

/// With these a server refuses what it cannot read, and looks at nothing behind it.
pub(super) const REFUSALS: [u16; 9] = [400, 405, 411, 413, 414, 417, 431, 501, 505];

/// What came back.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Heard {
    /// Of the final responses, in order.
    pub(super) statuses: Vec<u16>,
    pub(super) probe_answered: bool,
}

impl Heard {
    pub(super) fn ends_with_refusal(&self) -> bool {
        self.statuses.last().is_some_and(|last| REFUSALS.contains(last))
    }
}

/// Sends the bytes and the probe to a port of the server, and hears it out.
pub(super) fn talk(port: u16, bytes: &[u8]) -> Heard {
    let mut stream = CLIENT.connect(SERVER_ADDRESS, port);
    stream.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    // Who refuses may have closed before all was sent.
    let _ = stream.write_all(&[bytes, PROBE].concat());
    let _ = stream.shutdown(Shutdown::Write);
    heard(&all_of(&mut stream))
}

/// What comes until the end, be it a reset.
fn all_of(stream: &mut TcpStream) -> Vec<u8> {
    let mut got = Vec::new();
    let mut buffer = [0; 16_384];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        got.extend_from_slice(&buffer[..count]);
    }
    got
}

fn heard(bytes: &[u8]) -> Heard {
    let text = String::from_utf8_lossy(bytes);
    let statuses = text.split("HTTP/1.1 ").skip(1).filter_map(|rest| rest.get(..3)?.parse().ok());
    Heard {
        statuses: statuses.filter(|status| *status >= 200).collect(),
        probe_answered: text.contains(&"x".repeat(1024)),
    }
}

/// Sends a request for a page on a connection that stays, and reads the response; its status.
pub(super) fn ask(stream: &mut TcpStream, host: &str, target: &str) -> u16 {
    write!(stream, "GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    while lines.last().is_none_or(|last: &String| last != "\r\n") {
        let mut line = String::new();
        assert!(reader.read_line(&mut line).unwrap() > 0, "cut short: {lines:?}");
        lines.push(line);
    }
    let length = lines.iter().find_map(|line| line.strip_prefix("Content-Length: ")).expect("a length");
    reader.read_exact(&mut vec![0; length.trim().parse().unwrap()]).unwrap();
    lines[0][9..12].parse().expect("a status")
}

/// What `work` makes of each item, many at a time; in order.
pub(super) fn in_lanes<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    const LANES: usize = 16;
    let work = &work;
    thread::scope(|scope| {
        let lanes: Vec<_> = items
            .chunks(items.len().div_ceil(LANES))
            .map(|some| scope.spawn(move || some.iter().map(work).collect::<Vec<_>>()))
            .collect();
        lanes.into_iter().flat_map(|lane| lane.join().expect("a lane")).collect()
    })
}
