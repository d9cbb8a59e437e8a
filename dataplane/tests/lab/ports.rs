//! Ports look to the client the way they are: open, closed, silent, denied.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use crate::capture::{Capture, Packet};
use crate::fixture::Lab;
use crate::hosts::{CLIENT, CLIENT_ADDRESS, FAR_ADDRESS, SERVER};
use crate::policy;

/// "At once", for a person and for a program that tries the next address.
const AT_ONCE: Duration = Duration::from_millis(100);
/// A port where `scripts/lab` drops every packet.
const SILENT: u16 = 9;
/// A port without a server.
const CLOSED: u16 = 7000;

#[test]
fn closed_port_refuses_at_once() {
    for policy in [policy::proxied(), policy::translated()] {
        let _lab = Lab::start(&policy);

        let (error, took) = failure(CLOSED, Duration::from_secs(5));

        assert_eq!(error, ErrorKind::ConnectionRefused);
        assert!(took < AT_ONCE, "{took:?}");
    }
}

#[test]
fn silent_port_stays_silent() {
    let lab = Lab::start(&policy::proxied());
    let capture = Capture::start(&lab, CLIENT);

    let (error, _) = failure(SILENT, Duration::from_secs(2));

    assert_eq!(error, ErrorKind::TimedOut);
    let packets = capture.stop();
    assert!(packets.iter().any(|packet| packet.line.contains("Flags [S]")), "{packets:?}");
    assert!(!packets.iter().any(|packet| packet.line.contains("Flags [S.]")), "{packets:?}");
}

#[test]
fn denied_with_reset_refuses_at_once_without_the_server() {
    let (error, took, seen) = denied("reset", Duration::from_secs(5));

    assert_eq!(error, ErrorKind::ConnectionRefused);
    assert!(took < AT_ONCE, "{took:?}");
    assert!(seen.is_empty(), "{seen:?}");
}

#[test]
fn denied_with_icmp_fails_at_once_without_the_server() {
    let (error, took, seen) = denied("icmp", Duration::from_secs(5));

    assert_eq!(error, ErrorKind::HostUnreachable, "what Linux makes of `administratively prohibited`");
    assert!(took < AT_ONCE, "{took:?}");
    assert!(seen.is_empty(), "{seen:?}");
}

#[test]
fn denied_in_silence_times_out_without_the_server() {
    let (error, _, seen) = denied("silent", Duration::from_secs(2));

    assert_eq!(error, ErrorKind::TimedOut);
    assert!(seen.is_empty(), "{seen:?}");
}

#[test]
fn denied_datagram_is_answered_by_icmp() {
    let _lab = Lab::start(&policy::denied("udp", CLOSED, "icmp"));
    let _server = SERVER.udp(FAR_ADDRESS, CLOSED);
    let client = CLIENT.udp(CLIENT_ADDRESS, 0);
    client.connect((FAR_ADDRESS, CLOSED)).unwrap();
    client.send(b"hello?").unwrap();

    let error = client.recv(&mut [0; 10]).expect_err("denied");

    assert_eq!(error.kind(), ErrorKind::HostUnreachable);
}

#[test]
fn rule_for_one_port_denies_no_other() {
    let _lab = Lab::start(&policy::denied("tcp", CLOSED, "reset"));

    let page = CLIENT.run(&["curl", "-sS", "-m", "10", "http://www.lab.example/"]);

    assert_eq!(page, "hello from the server\n");
}

/// A connection attempt to a port that has a server but is denied: its end, and what the server got to see.
fn denied(with: &str, limit: Duration) -> (ErrorKind, Duration, Vec<Packet>) {
    let lab = Lab::start(&policy::denied("tcp", CLOSED, with));
    let _server = SERVER.listen(CLOSED);
    let capture = Capture::start(&lab, SERVER);
    let (error, took) = failure(CLOSED, limit);
    (error, took, capture.stop())
}

/// How a connection attempt fails, and how long that takes.
fn failure(port: u16, limit: Duration) -> (ErrorKind, Duration) {
    let start = Instant::now();
    let error = CLIENT.try_connect(FAR_ADDRESS, port, limit).expect_err("no connection");
    (error.kind(), start.elapsed())
}
