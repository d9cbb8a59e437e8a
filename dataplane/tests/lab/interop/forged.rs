//! RST in every state, on either leg, by somebody who sends it in a host's name: the kernel of that host does not know.
//!
//! A number outside the window is passed over in silence; one within it is questioned by a challenge ACK and changes nothing
//! else; the exact one ends the connection (RFC 5961 section 3), but not TIME-WAIT (RFC 1337).

use std::io::ErrorKind;
use std::net::{SocketAddrV4, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use pnat_shared::wire::tcp::{Flags, Options, Seq};

use super::setting::{Applied, wire};
use super::talk::{End, RESET, ask, connect_from, end, expect, listen, read, write_until_refused};
use super::tap::Tap;
use super::{Row, Way, lab, run, run_together_proxied};
use crate::hosts::{CLIENT, CLIENT_ADDRESS, FAR_ADDRESS, Host, PUBLIC_ADDRESS, SERVER, accept, finish};

/// A port of the client's for each connection whose first segments are to be seen.
const CLIENT_PORT: u16 = 41_000;
/// Longer than the time in which there is one challenge at most.
const NEXT_CHALLENGE: Duration = Duration::from_millis(600);
/// Long enough for several retransmissions of a FIN.
const REPETITIONS: Duration = Duration::from_millis(1500);
/// Far beyond any window.
const FAR_AWAY: u32 = 1 << 30;

#[test]
fn reset_in_a_hosts_name_is_believed_in_every_state_but_time_wait_only_with_the_exact_number() {
    let lab = lab();
    let states: [(&str, Open); 7] = [
        ("ESTABLISHED", established),
        ("CLOSE-WAIT", close_wait),
        ("FIN-WAIT-1", fin_wait_1),
        ("FIN-WAIT-2", fin_wait_2),
        ("CLOSING", closing),
        ("LAST-ACK", last_ack),
        ("TIME-WAIT", time_wait),
    ];
    let open = states.into_iter().flat_map(|(name, state)| {
        LEGS.map(|leg| Row::new(format!("{name} toward {}", leg.name), move |way| state(way, leg)))
    });
    let opening: [(&str, Opening); 4] = [
        ("a SYN that is held", held),
        ("SYN-RECEIVED toward the client", received_from_client),
        ("SYN-SENT toward the server", sent_to_server),
        ("SYN-RECEIVED toward the server", received_from_server),
    ];
    let opening = opening.map(|(name, state)| Row::new(name, state));

    run_together_proxied(&lab, open.chain(opening));

    // What the gateway alone translates, the kernels judge; the binding must outlive what they do not believe.
    let translated = LEGS.map(|leg| {
        Row::new(format!("out of the window toward {}", leg.name), move |way| unbelievable(way, leg))
    });
    run(&lab, translated);
}

/// Brings a connection into a state and resets it there; toward one of the hosts, or before there is a connection.
type Open = fn(Way, Leg);
type Opening = fn(Way);

/// A leg of a connection: the host at its end, in whose name is lied, and whether the client is that.
#[derive(Copy, Clone)]
struct Leg {
    name: &'static str,
    host: Host,
}

const LEGS: [Leg; 2] = [Leg { name: "the client", host: CLIENT }, Leg { name: "the server", host: SERVER }];

/// A connection: the socket at the end of the leg, the one at the other host, and the leg's wire.
struct Scene {
    near: TcpStream,
    far: TcpStream,
    tap: Tap,
}

impl Leg {
    /// A connection over which something was said both ways.
    fn scene(self, way: Way) -> Scene {
        let (client, server) = super::talk::connection(way);
        let mut tap = Tap::of(self.host, if self.host == CLIENT { &client } else { &server });
        ask(&client, &server, 100);
        tap.settle();
        let (near, far) = if self.host == CLIENT { (client, server) } else { (server, client) };
        Scene { near, far, tap }
    }
}

/// From now on a host's kernel hears nothing of the connections of this way.
fn deafen(host: Host, way: Way) -> Applied {
    wire("ingress", of(way, "drop")).apply(host)
}

/// Rules for the connections of one way, whichever host they are seen at.
fn of(way: Way, rule: &str) -> String {
    let port = way.port();
    format!("tcp sport {port} {rule}; tcp dport {port} {rule};")
}

/// Numbers that are not the one that is expected change nothing, whatever the state.
fn doubt(tap: &mut Tap) {
    let exact = tap.expected();
    for seq in [exact + FAR_AWAY, exact - FAR_AWAY, exact - 1] {
        tap.say(Flags::RST, seq, Seq(0));
        assert_eq!(answers(tap, exact), 0, "answers to a reset outside of the window");
    }
    for flags in [Flags::RST, Flags::RST.with(Flags::ACK)] {
        thread::sleep(NEXT_CHALLENGE);
        tap.settle();
        tap.say(flags, exact + 1, tap.next());
        assert_eq!(answers(tap, exact), 1, "challenges to a reset within the window");
    }
    tap.say(Flags::RST, exact + 1, Seq(0));
    assert_eq!(answers(tap, exact), 0, "challenges are rationed");
}

/// How many bare ACKs of this number the gateway sends; what it repeats for other reasons does not count.
fn answers(tap: &mut Tap, exact: Seq) -> usize {
    let mut count = 0;
    while let Some((header, text)) = tap.hear(Duration::from_millis(100)) {
        assert_eq!(header.ack, exact, "{header:?}");
        count += usize::from(header.flags == Flags::ACK && text == 0);
    }
    count
}

fn exactly(tap: &mut Tap) {
    tap.settle();
    tap.say(Flags::RST, tap.expected(), Seq(0));
}

/// The gateway has nothing more to say on this leg, also not by its timers.
fn silent(tap: &mut Tap) {
    // What was on its way when the reset came.
    tap.settle();
    assert_eq!(tap.hear(REPETITIONS), None, "all is over");
}

fn established(way: Way, leg: Leg) {
    let Scene { near, far, mut tap } = leg.scene(way);
    doubt(&mut tap);
    ask(&near, &far, 1000);
    exactly(&mut tap);
    expect(&read(&far), Vec::new(), RESET);
}

fn close_wait(way: Way, leg: Leg) {
    let Scene { near, far, mut tap } = leg.scene(way);
    end(&near);
    expect(&read(&far), Vec::new(), End::Fin);
    tap.settle();
    doubt(&mut tap);
    say_and_hear(&far, &near);
    exactly(&mut tap);
    thread::sleep(Duration::from_millis(50));
    assert_eq!(write_until_refused(&far), ErrorKind::BrokenPipe);
}

fn fin_wait_1(way: Way, leg: Leg) {
    let unheard = || {
        let Scene { near, far, mut tap } = leg.scene(way);
        let deaf = deafen(leg.host, way);
        end(&far);
        tap.expect(Flags::FIN);
        (near, far, tap, deaf)
    };
    let (near, far, mut tap, deaf) = unheard();
    doubt(&mut tap);
    drop(deaf);
    expect(&read(&near), Vec::new(), End::Fin);
    say_and_hear(&near, &far);
    end(&near);
    expect(&read(&far), Vec::new(), End::Fin);

    let (_near, far, mut tap, _deaf) = unheard();
    exactly(&mut tap);
    expect(&read(&far), Vec::new(), RESET);
    silent(&mut tap);
}

fn fin_wait_2(way: Way, leg: Leg) {
    let Scene { near, far, mut tap } = leg.scene(way);
    end(&far);
    expect(&read(&near), Vec::new(), End::Fin);
    tap.settle();
    doubt(&mut tap);
    say_and_hear(&near, &far);
    exactly(&mut tap);
    expect(&read(&far), Vec::new(), RESET);
}

/// Both FINs have crossed, and the host has not acknowledged the gateway's.
fn closing(way: Way, leg: Leg) {
    let crossed = || {
        let Scene { near, far, mut tap } = leg.scene(way);
        let before = tap.expected();
        let deaf = deafen(leg.host, way);
        end(&far);
        tap.expect(Flags::FIN);
        end(&near);
        while tap.expected() == before {
            tap.expect(Flags::ACK);
        }
        // It would be repeated, and acknowledged each time.
        let said_once = wire("egress", of(way, "tcp flags & fin == fin fwd to \"lo\"")).apply(leg.host);
        expect(&read(&far), Vec::new(), End::Fin);
        tap.settle();
        (near, tap, vec![deaf, said_once])
    };
    over_by_the_book_or_by_an_exact_reset(crossed);
}

/// The host has closed first, and has not acknowledged the gateway's FIN.
fn last_ack(way: Way, leg: Leg) {
    let unheard = || {
        let Scene { near, far, mut tap } = leg.scene(way);
        end(&near);
        expect(&read(&far), Vec::new(), End::Fin);
        tap.settle();
        let deaf = deafen(leg.host, way);
        end(&far);
        tap.expect(Flags::FIN);
        (near, tap, vec![deaf])
    };
    over_by_the_book_or_by_an_exact_reset(unheard);
}

/// Both streams have come through, and only an ACK of the gateway's FIN is awaited.
fn over_by_the_book_or_by_an_exact_reset(awaiting: impl Fn() -> (TcpStream, Tap, Vec<Applied>)) {
    let (near, mut tap, shielded) = awaiting();
    doubt(&mut tap);
    drop(shielded);
    expect(&read(&near), Vec::new(), End::Fin);
    tap.settle();

    let (_near, mut tap, _shielded) = awaiting();
    exactly(&mut tap);
    silent(&mut tap);
}

/// RFC 1337: no reset ends the waiting, nor does a SYN that is older than the connection. A repeated FIN is answered.
fn time_wait(way: Way, leg: Leg) {
    let listener = listen(way);
    let client = connect_from(0, way, |_| ()).unwrap();
    let server = accept(&listener);
    let (near, far) = if leg.host == CLIENT { (client, server) } else { (server, client) };
    let mut tap = Tap::of(leg.host, &near);
    ask(&near, &far, 100);
    end(&far);
    expect(&read(&near), Vec::new(), End::Fin);
    end(&near);
    expect(&read(&far), Vec::new(), End::Fin);
    tap.settle();

    let (exact, next) = (tap.expected(), tap.next());
    for seq in [exact, exact + 1, exact + FAR_AWAY] {
        tap.say(Flags::RST, seq, Seq(0));
        assert_eq!(tap.hear(Duration::from_millis(50)), None, "nobody is answered");
    }
    if leg.host == CLIENT {
        let timestamps = tap.echoed().map(|last| (last.wrapping_sub(1000), 0));
        let old = Options { timestamps, mss: Some(1460), ..Options::default() };
        tap.say_with(old, Flags::SYN, exact - FAR_AWAY, Seq(0));
        let answer = tap.hear(Duration::from_millis(500)).expect("an answer to an old SYN").0;
        assert_eq!((answer.flags, answer.ack), (Flags::ACK, exact), "an old SYN opens nothing");
    }
    tap.say(Flags::FIN.with(Flags::ACK), exact - 1, next);
    let answer = tap.hear(Duration::from_millis(500)).expect("an answer to a repeated FIN").0;
    assert_eq!((answer.flags, answer.seq, answer.ack), (Flags::ACK, next, exact), "it still waits");
}

/// The server has not answered yet, so neither was the client.
fn held(way: Way) {
    let unanswered = |port| {
        let listener = listen(way);
        let deaf = deafen(SERVER, way);
        let mut server = Tap::at_server(SERVER, way.port(), PUBLIC_ADDRESS.parse().unwrap());
        let calling = call(port, way);
        let syn = server.expect(Flags::SYN);
        let client = client_tap(port, way);
        (listener, deaf, calling, client, syn.seq + 1)
    };
    let (listener, deaf, calling, client, exact) = unanswered(CLIENT_PORT);
    for seq in [exact + FAR_AWAY, exact - FAR_AWAY, exact + 1] {
        client.say(Flags::RST, seq, Seq(0));
    }
    drop(deaf);
    works(listener, finish(calling).unwrap());

    let (listener, deaf, calling, mut client, exact) = unanswered(CLIENT_PORT + 1);
    client.say(Flags::RST, exact, Seq(0));
    drop(deaf);
    // Its kernel repeats the SYN, which opens another flow.
    works(listener, finish(calling).unwrap());
    client.settle();
}

/// The server has accepted, and the client's ACK is on its way.
fn received_from_client(way: Way) {
    let unacknowledged = |port| {
        let listener = listen(way);
        // Resets in the client's name carry no ACK.
        let mute = wire("egress", of(way, "tcp flags & ack == ack fwd to \"lo\"")).apply(CLIENT);
        let mut tap = client_tap(port, way);
        let client = finish(call(port, way)).unwrap();
        tap.settle();
        (client, accept(&listener), tap, mute)
    };
    let (client, server, tap, mute) = unacknowledged(CLIENT_PORT + 2);
    let exact = tap.expected();
    for seq in [exact + FAR_AWAY, exact - FAR_AWAY, exact + 1] {
        tap.say(Flags::RST, seq, Seq(0));
    }
    drop(mute);
    ask(&client, &server, 1000);

    let (_client, server, mut tap, _mute) = unacknowledged(CLIENT_PORT + 3);
    exactly(&mut tap);
    expect(&read(&server), Vec::new(), RESET);
}

/// Only a reset that acknowledges the SYN comes from somebody who has seen it (RFC 9293 section 3.10.7.3).
fn sent_to_server(way: Way) {
    let unheard = |port| {
        let listener = listen(way);
        let deaf = deafen(SERVER, way);
        let mut tap = Tap::at_server(SERVER, way.port(), PUBLIC_ADDRESS.parse().unwrap());
        let calling = call(port, way);
        let syn = tap.expect(Flags::SYN);
        (listener, deaf, calling, tap, syn.seq)
    };
    let refusal = Flags::RST.with(Flags::ACK);
    let (listener, deaf, calling, tap, syn) = unheard(CLIENT_PORT + 4);
    tap.say(Flags::RST, syn + 1, Seq(0));
    tap.say(refusal, Seq(0), syn);
    tap.say(refusal, Seq(0), syn + 2);
    drop(deaf);
    works(listener, finish(calling).unwrap());

    let (_listener, _deaf, calling, tap, syn) = unheard(CLIENT_PORT + 5);
    tap.say(refusal, Seq(0), syn + 1);
    assert_eq!(finish(calling).expect_err("a refusal").kind(), ErrorKind::ConnectionRefused);
}

/// Both have called each other (RFC 9293 figure 8); the server's SYN is not its kernel's.
fn received_from_server(way: Way) {
    const THEIRS: Seq = Seq(1_000_000);
    let crossed = |port| {
        let deaf = deafen(SERVER, way);
        let mut tap = Tap::at_server(SERVER, way.port(), PUBLIC_ADDRESS.parse().unwrap());
        let calling = call(port, way);
        tap.expect(Flags::SYN);
        tap.say_with(Options { mss: Some(1460), ..Options::default() }, Flags::SYN, THEIRS, Seq(0));
        tap.expect(Flags::SYN.with(Flags::ACK));
        (deaf, calling, tap)
    };
    let (deaf, calling, mut tap) = crossed(CLIENT_PORT + 6);
    let (exact, next) = (tap.expected(), tap.next());
    assert_eq!(exact, THEIRS + 1);
    for seq in [exact + FAR_AWAY, exact - FAR_AWAY, exact + 1] {
        tap.say(Flags::RST, seq, Seq(0));
    }
    tap.say(Flags::ACK, exact, next);
    let client = finish(calling).unwrap();
    exactly(&mut tap);
    expect(&read(&client), Vec::new(), RESET);
    drop(deaf);

    let (_deaf, calling, mut tap) = crossed(CLIENT_PORT + 7);
    exactly(&mut tap);
    assert_eq!(finish(calling).expect_err("a refusal").kind(), ErrorKind::ConnectionRefused);
}

fn unbelievable(way: Way, leg: Leg) {
    let Scene { near, far, mut tap } = leg.scene(way);
    let exact = tap.expected();
    for seq in [exact + FAR_AWAY, exact - FAR_AWAY] {
        tap.say(Flags::RST, seq, Seq(0));
    }
    tap.settle();
    ask(&near, &far, 1000);
    end(&near);
    expect(&read(&far), Vec::new(), End::Fin);
    end(&far);
    expect(&read(&near), Vec::new(), End::Fin);
}

/// The client calls from this port.
fn call(port: u16, way: Way) -> JoinHandle<std::io::Result<TcpStream>> {
    thread::spawn(move || connect_from(port, way, |_| ()))
}

fn client_tap(port: u16, way: Way) -> Tap {
    let local = SocketAddrV4::new(CLIENT_ADDRESS.parse().unwrap(), port);
    Tap::between(CLIENT, local, SocketAddrV4::new(FAR_ADDRESS.parse().unwrap(), way.port()))
}

fn works(listener: TcpListener, client: TcpStream) {
    let server = accept(&listener);
    ask(&client, &server, 1000);
    end(&client);
    expect(&read(&server), Vec::new(), End::Fin);
    end(&server);
    expect(&read(&client), Vec::new(), End::Fin);
}

/// Words in the direction that is still open.
fn say_and_hear(mut from: &TcpStream, mut to: &TcpStream) {
    use std::io::{Read, Write};
    let words = b"still here";
    from.write_all(words).unwrap();
    let mut heard = [0; 10];
    to.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, words);
}
