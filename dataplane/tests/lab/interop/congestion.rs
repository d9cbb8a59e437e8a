//! How the gateway's own sockets treat a congested or a bad network: loss at random under each congestion control, and ECN
//! (RFC 3168) with the kernel as the other end.

use std::net::TcpStream;
use std::thread;
use std::time::Instant;

use super::setting::{Setting, sysctl, wire};
use super::talk::{Told, ask, listen};
use super::volume::{Volume, receive};
use super::{Way, ready};
use crate::capture::{Capture, Packet};
use crate::fixture::Lab;
use crate::hosts::{CLIENT, CLIENT_ADDRESS, FAR_ADDRESS, Host, SERVER, accept, finish};
use crate::policy::Arrangement;

/// Congestion controls, in the order of the ports that they are tried on.
const CONTROLS: [&str; 3] = ["cubic", "newreno", "bbr"];
/// The port of clients that are accepted before the server is asked.
const EARLY: Way = Way { lane: 50, ..Way::PROXY };

/// One packet of a hundred is lost each way between the gateway and the receiving host. What it costs is told, not judged:
/// `netsim gateway` (perf/README.md) has a path where that says something.
#[test]
#[allow(clippy::print_stdout)] // the figures are for people
fn random_loss_harms_nothing_under_any_congestion_control() {
    let rules =
        CONTROLS.into_iter().zip(0..).map(|(control, lane)| rule(control, Way { lane, ..Way::PROXY }, ""));
    let lab = ready(Lab::start(&rules.collect::<String>()));
    for receiver in [CLIENT, SERVER] {
        let _losses = lossy().map(|setting| setting.apply(receiver));
        for (lane, control) in (0..).zip(CONTROLS) {
            let seconds = takes(Way { lane, ..Way::PROXY }, receiver, 60_000_000);
            println!("60 MB to the {receiver:?} by {control}: {seconds:.2} s");
        }
    }
    assert_eq!(lab.total("proxy", "panics"), 0);
}

#[test]
fn ecn_is_mirrored_from_leg_to_leg_or_terminated_or_off() {
    let rules = rule("cubic", Way::PROXY, "") + &rule("cubic", EARLY, "accept = \"early\"");
    // What the client and the server ask for, and what they then have, by way.
    let mirrored = [
        (Way::PROXY, [1, 1], [true, true]),
        (Way::PROXY, [1, 0], [false, false]),
        (Way::PROXY, [0, 1], [false, false]),
        (EARLY, [1, 1], [true, true]),
        (EARLY, [1, 0], [true, false]),
        (EARLY, [0, 1], [false, false]),
    ];
    let off = [(Way::PROXY, [1, 1], [false, false]), (EARLY, [1, 1], [false, false])];

    for (ecn, cases) in [("mirror", mirrored.as_slice()), ("off", &off)] {
        let _lab = ready(Lab::arranged(Arrangement { ecn, ..Arrangement::default() }, &rules));
        for &(way, asked, agreed) in cases {
            let _settings = [(CLIENT, asked[0]), (SERVER, asked[1])]
                .map(|(host, value)| sysctl("tcp_ecn", value.to_string()).apply(host));
            let (client, server) = connection(way);
            ask(&client, &server, 5000);
            let told = [Told::of(CLIENT, &client), Told::of(SERVER, &server)];
            assert_eq!(
                told.each_ref().map(|told| told.says("ecn")),
                agreed,
                "{ecn}, port {}, {asked:?}",
                way.port()
            );
            assert_eq!(told.each_ref().map(|told| told.says("ecnseen")), agreed, "what may be marked comes");
        }
    }
}

/// Marks between the gateway, which sends, and a host: the host echoes them, the gateway says CWR and has less under way, and
/// nothing is sent twice.
#[test]
#[allow(clippy::print_stdout)] // the figures are for people
fn marks_slow_the_gateway_down_without_a_loss() {
    let lab = ready(Lab::start(&rule("cubic", Way::PROXY, "")));
    let _asked = [CLIENT, SERVER].map(|host| sysctl("tcp_ecn", "1").apply(host));
    for receiver in [CLIENT, SERVER] {
        let _slow = Setting::Queue(SLOW_ACKS).apply(receiver);
        let seen = |lab| {
            let capture = Capture::start(lab, receiver);
            takes(Way::PROXY, receiver, 12_000_000);
            Seen::at(receiver, &capture.stop())
        };
        let calm = seen(&lab);
        let marked = {
            let _marks = wire("ingress", MARKS).apply(receiver);
            seen(&lab)
        };
        println!("to the {receiver:?}: {calm:?}, with marks {marked:?}");
        assert_eq!(calm.reductions, 0, "nobody is told to slow down");
        assert!(marked.echoes > 0 && marked.reductions > 10, "{marked:?}");
        assert!(calm.again.max(marked.again) <= PROBES, "nothing was lost: {calm:?}, then {marked:?}");
        assert!(marked.most_flying * 2 < calm.most_flying, "{calm:?}, then {marked:?}");
    }
}

/// Marks between a host, which sends, and the gateway: the kernel is told, and says that it slows down.
#[test]
fn gateway_echoes_marks_to_the_sending_host() {
    let lab = ready(Lab::start(&rule("cubic", Way::PROXY, "")));
    let _asked = [CLIENT, SERVER].map(|host| sysctl("tcp_ecn", "1").apply(host));
    for sender in [CLIENT, SERVER] {
        let told = || {
            let capture = Capture::start(&lab, sender);
            let (client, server) = connection(Way::PROXY);
            let (from, to) = if sender == CLIENT { (client, server) } else { (server, client) };
            carry(&from, &to, 5_000_000);
            let echoed =
                Told::of(sender, &from).value("delivered_ce").map_or(0, |value| value.parse().unwrap());
            let says =
                |packet: &&Packet| packet.src.to_string() == own(sender) && flags(packet).contains('W');
            let reductions = capture.stop().iter().filter(|packet| !is_syn(packet)).filter(says).count();
            (echoed, reductions)
        };
        assert_eq!(told(), (0_u32, 0), "nobody is told to slow down");
        let _marks = wire("egress", MARKS).apply(sender);
        let (echoed, reductions) = told();
        // Few round trips take all there is; but each echo ends with the CWR that it asks for.
        let is_answered = reductions > 0 && (10..2000).contains(&echoed);
        assert!(is_answered, "{echoed} segments told as marked to the {sender:?}, {reductions} times CWR");
    }
}

/// Where a CPU has something else to do for a while, a tail loss probe goes out for nothing.
const PROBES: usize = 3;

/// One of 50 packets that may be marked is.
const MARKS: &str = "ip ecn { ect0, ect1 } meta l4proto tcp numgen inc mod 50 == 11 counter ip ecn set ce;";

/// ACKs leave one after the other, so that what is sent is under way for a while.
const SLOW_ACKS: &str = "qdisc add dev eth0 root tbf rate 2mbit burst 3000 limit 10000000";

fn lossy() -> [Setting; 2] {
    [
        wire("ingress", "meta l4proto tcp numgen random mod 100 == 0 counter drop;"),
        // What a host drops on its own way out it knows of; so it is sent to nobody instead.
        wire("egress", "meta l4proto tcp numgen random mod 100 == 0 counter fwd to \"lo\";"),
    ]
}

/// A rule by which both of the gateway's sockets have this congestion control.
fn rule(control: &str, way: Way, more: &str) -> String {
    let port = way.port();
    format!(
        r#"
        [[rule]]
        name = "port-{port}"
        match = {{ proto = "tcp", dst_port = [{port}] }}
        action = "proxy"
        congestion_inside = "{control}"
        congestion_outside = "{control}"
        {more}
        "#
    )
}

fn connection(way: Way) -> (TcpStream, TcpStream) {
    let listener = listen(way);
    let client = CLIENT.connect(FAR_ADDRESS, way.port());
    (client, accept(&listener))
}

/// How long it takes to bring so many bytes to a host, in seconds.
fn takes(way: Way, receiver: Host, bytes: u64) -> f64 {
    let (client, server) = connection(way);
    let (from, to) = if receiver == CLIENT { (server, client) } else { (client, server) };
    let start = Instant::now();
    carry(&from, &to, bytes);
    start.elapsed().as_secs_f64()
}

/// Sends so many bytes and the end; all of them come.
fn carry(from: &TcpStream, to: &TcpStream, bytes: u64) {
    let volume = Volume { seed: 1, bytes };
    let sending = {
        let from = from.try_clone().unwrap();
        thread::spawn(move || volume.send(&from))
    };
    let (mut to, mut heard) = (to.try_clone().unwrap(), receive());
    while heard.take(&mut to, usize::MAX) {}
    assert_eq!((heard.bytes(), heard.digest()), (bytes, finish(sending)), "bytes, and their SHA-256");
}

/// What a receiving host's wire has carried.
#[derive(Debug, Default)]
struct Seen {
    /// Segments with ECE from the host, and with CWR to it.
    echoes: usize,
    reductions: usize,
    /// Segments to it with text that it had got before.
    again: usize,
    /// Most bytes to it that it had not acknowledged.
    most_flying: u64,
}

impl Seen {
    fn at(receiver: Host, packets: &[Packet]) -> Self {
        let (mut seen, mut highest, mut acknowledged) = (Self::default(), 1, 1);
        for packet in packets.iter().filter(|packet| !is_syn(packet)) {
            let flags = flags(packet);
            if packet.src.to_string() == own(receiver) {
                seen.echoes += usize::from(flags.contains('E'));
                acknowledged = number(&packet.line, "ack ").unwrap_or(acknowledged);
            } else if let Some((from, to)) = text(&packet.line) {
                seen.reductions += usize::from(flags.contains('W'));
                seen.again += usize::from(from < highest);
                highest = highest.max(to);
                seen.most_flying = seen.most_flying.max(highest.saturating_sub(acknowledged));
            }
        }
        seen
    }
}

/// The address of a host as its wire shows it.
fn own(host: Host) -> &'static str {
    if host == CLIENT { CLIENT_ADDRESS } else { FAR_ADDRESS }
}

/// The letters that tcpdump has for flags: `E` for ECE, `W` for CWR.
fn flags(packet: &Packet) -> &str {
    word(&packet.line, "Flags [").unwrap_or_default()
}

fn is_syn(packet: &Packet) -> bool {
    flags(packet).starts_with('S')
}

/// What stands behind `key`, up to the next mark of punctuation.
fn word<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let rest = &line[line.find(key)? + key.len()..];
    rest.split([']', ',']).next()
}

fn number(line: &str, key: &str) -> Option<u64> {
    word(line, key)?.parse().ok()
}

/// The numbers of a segment's text, from and to, as tcpdump counts them: from the connection's begin.
fn text(line: &str) -> Option<(u64, u64)> {
    let (from, to) = word(line, "seq ")?.split_once(':')?;
    Some((from.parse().ok()?, to.parse().ok()?))
}
