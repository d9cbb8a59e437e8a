//! Hosts that take their time: windows that stay shut, readers that crawl, connections that are silent.

use std::env;
use std::fs;
use std::net::TcpStream;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::{SockRef, TcpKeepalive};

use super::talk::{End, ask, connection, expect, read};
use super::volume::{Volume, receive};
use super::{Row, Way, lab, run_together};
use crate::exchange::{noise, send_all};
use crate::fixture::Lab;
use crate::hosts::finish;

#[test]
fn hosts_may_take_their_time() {
    run_together(
        &lab(),
        [
            || {
                Row::new("the client's window stays shut", |way| {
                    shut_window(way, |(client, server)| (server, client))
                })
            },
            || Row::new("the server's window stays shut", |way| shut_window(way, |ends| ends)),
            || Row::new("silence, kept alive by both hosts", kept_alive),
        ],
    );
}

/// `sides` says who sends and who does not read for eight seconds: each side asks for the window some five times meanwhile.
fn shut_window(way: Way, sides: fn((TcpStream, TcpStream)) -> (TcpStream, TcpStream)) {
    const BYTES: usize = 40_000_000;
    let (sender, reader) = sides(connection(way));
    sender.set_write_timeout(Some(Duration::from_secs(60))).unwrap();
    let sending = send_all(&sender, noise(1, BYTES));

    thread::sleep(Duration::from_secs(8));

    expect(&read(&reader), noise(1, BYTES), End::Fin);
    finish(sending);
}

/// Either kernel would give up within 4 s if its probes were not answered.
fn kept_alive(way: Way) {
    let (client, server) = connection(way);
    let second = Duration::from_secs(1);
    let often = TcpKeepalive::new().with_time(second).with_interval(second).with_retries(3);
    for stream in [&client, &server] {
        SockRef::from(stream).set_tcp_keepalive(&often).unwrap();
    }

    thread::sleep(Duration::from_secs(8));

    ask(&client, &server, 1000);
}

/// Ten gigabytes for a client that reads a megabyte per second: whatever the gateway keeps of them, it does not grow.
/// The whole of it takes three hours; `PNAT_LAB_SLOW_SECONDS=11000` has the patience, by default only the first part is
/// read.
#[test]
fn slow_reader_costs_no_memory() {
    const RATE: usize = 1 << 20;
    const STEP: Duration = Duration::from_millis(50);
    let patience = env::var("PNAT_LAB_SLOW_SECONDS").map_or(12, |seconds| seconds.parse().expect("seconds"));
    let offered = Volume { seed: 1, bytes: 10_000_000_000 };
    let lab = lab();
    let (mut client, server) = connection(Way::PROXY);
    server.set_write_timeout(None).unwrap();
    let sending: JoinHandle<_> = thread::spawn(move || offered.send(&server));
    let start = Instant::now();
    let mut heard = receive();
    let mut settled = None;

    while start.elapsed() < Duration::from_secs(patience) && heard.bytes() < offered.bytes {
        let due = start.elapsed().as_secs_f64() * RATE as f64;
        let behind = (due as u64).saturating_sub(heard.bytes()) as usize;
        heard.take(&mut client, behind);
        if settled.is_none() && start.elapsed() > Duration::from_secs(5) {
            settled = Some(Memory::of(&lab));
        }
        thread::sleep(STEP);
    }

    let settled = settled.expect("more than 5 s");
    let last = Memory::of(&lab);
    assert!(last.resident < settled.resident + 2_000_000, "{settled:?}, then {last:?}");
    assert!(last.frames < settled.frames + 500, "{settled:?}, then {last:?}");
    assert!(heard.bytes() > 9 * RATE as u64, "the reader did read");
    assert_eq!(heard.digest(), Volume { bytes: heard.bytes(), ..offered }.digest());
    drop(client);
    finish(sending);
}

/// What the gateway uses.
#[derive(Debug)]
struct Memory {
    /// Bytes of ordinary memory.
    resident: u64,
    /// Frames that are out of the pool.
    frames: u64,
}

impl Memory {
    fn of(lab: &Lab) -> Self {
        let pid = fs::read_to_string(lab.file("pid/gateway")).unwrap();
        let status = fs::read_to_string(format!("/proc/{}/status", pid.trim())).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
        let kib: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
        let frames = lab.gauge("pool", "frames", "frames") - lab.gauge("pool", "frames", "frames_available");
        Self { resident: kib * 1024, frames }
    }
}
