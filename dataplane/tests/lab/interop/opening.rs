//! Every way in which two hosts can come to a connection: the same addresses again, many at once, data in the SYN, SYNs
//! lost, a listener that is too busy, and both calling each other.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::setting::{Setting, sysctl, wire};
use super::talk::{End, ask, bulk, connect_from, connection, end, expect, listen, read, reset};
use super::{Row, Way, lab, run};
use crate::capture::Capture;
use crate::exchange::noise;
use crate::hosts::{CLIENT, FAR_ADDRESS, PATIENCE, PUBLIC_ADDRESS, SERVER, accept, finish, patient};

/// A port of the client's that is used again and again.
const SAME_PORT: u16 = 40_000;

#[test]
fn connections_come_about_under_all_circumstances() {
    let syn = "tcp flags & (syn|ack) == syn numgen inc mod 2 == 0 counter drop;";
    let answer = "tcp flags & (syn|ack) == syn|ack numgen inc mod 2 == 0 counter drop;";
    let rows = [
        Row::new("the same port again, the server ended first", |way| same_port_again(way, server_ends)),
        Row::new("the same port again, the client ended first", |way| same_port_again(way, client_ends))
            .client(reuse()),
        Row::new("the same port again, the client reset", |way| same_port_again(way, client_resets)),
        Row::new("the same port again, the server reset", |way| same_port_again(way, server_resets)),
        Row::new("a hundred connect at the same moment", a_hundred_at_once),
        Row::new("data in the SYN", data_in_syn)
            .client([sysctl("tcp_fastopen", "5")])
            .server([sysctl("tcp_fastopen", "1538")]),
        Row::new("data in the SYN, which the server does not want", data_in_syn)
            .client([sysctl("tcp_fastopen", "5")])
            .server([sysctl("tcp_fastopen", "0")]),
        Row::new("the first SYN is lost", opens_and_talks).server([wire("ingress", syn)]),
        Row::new("the first answer is lost", opens_and_talks).client([wire("ingress", answer)]),
        Row::new("the listener is too busy", busy_listener).server([sysctl("tcp_syncookies", "0")]),
        Row::new("the listener is too busy and resets", busy_listener_resets)
            .server([sysctl("tcp_abort_on_overflow", "1"), sysctl("tcp_syncookies", "0")]),
        Row::new("the listener answers with cookies only", opens_and_talks)
            .server([sysctl("tcp_syncookies", "2")]),
    ];

    run(&lab(), rows);
}

fn opens_and_talks(way: Way) {
    let (client, server) = connection(way);
    bulk(&client, &server, 100_000);
}

/// Ends a connection so that the client's port is free again.
type Ending = fn(TcpStream, TcpStream);

fn same_port_again(way: Way, ending: Ending) {
    let listener = listen(way);
    for _ in 0..20 {
        let client = connect_from(SAME_PORT, way, |_| ()).unwrap();
        let server = accept(&listener);
        ask(&client, &server, 3000);
        ending(client, server);
        thread::sleep(Duration::from_millis(5));
    }
}

fn server_ends(client: TcpStream, server: TcpStream) {
    end(&server);
    expect(&read(&client), Vec::new(), End::Fin);
    end(&client);
    expect(&read(&server), Vec::new(), End::Fin);
}

fn client_ends(client: TcpStream, server: TcpStream) {
    server_ends(server, client);
}

fn client_resets(client: TcpStream, _server: TcpStream) {
    reset(client);
}

fn server_resets(client: TcpStream, server: TcpStream) {
    reset(server);
    read(&client);
}

/// The client may use a port again a moment after its TIME-WAIT began (RFC 6191).
fn reuse() -> [Setting; 2] {
    [sysctl("tcp_tw_reuse", "1"), sysctl("tcp_tw_reuse_delay", "1")]
}

fn a_hundred_at_once(way: Way) {
    const HOSTS: usize = 100;
    let listener = listen(way);
    let together = Arc::new(Barrier::new(HOSTS));
    let callers: Vec<_> = (0..HOSTS)
        .map(|seed| {
            let together = together.clone();
            thread::spawn(move || {
                together.wait();
                let mut client = CLIENT.connect(FAR_ADDRESS, way.port());
                client.write_all(&noise(seed, 4000)).unwrap();
                end(&client);
                expect(&read(&client), noise(seed, 4000), End::Fin);
            })
        })
        .collect();
    for _ in 0..HOSTS {
        let mut server = accept(&listener);
        let (heard, end) = read(&server);
        assert_eq!(end, End::Fin);
        server.write_all(&heard).unwrap();
    }
    callers.into_iter().for_each(finish);
}

/// TCP Fast Open without a cookie (RFC 7413): the first words are in the SYN, and must be heard once.
fn data_in_syn(way: Way) {
    let listener = listen(way);
    let to = SocketAddrV4::new(FAR_ADDRESS.parse().unwrap(), way.port());
    let client = CLIENT.within(move || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let said = socket.send_to_with_flags(&noise(1, 700), &to.into(), MSG_FASTOPEN).unwrap();
        assert_eq!(said, 700);
        TcpStream::from(socket)
    });
    patient(&client);
    let server = accept(&listener);
    end(&client);
    expect(&read(&server), noise(1, 700), End::Fin);
    bulk_answer(&client, server);
}

/// Sends data with the SYN (Linux).
const MSG_FASTOPEN: i32 = 0x2000_0000;

fn bulk_answer(client: &TcpStream, mut server: TcpStream) {
    server.write_all(&noise(2, 50_000)).unwrap();
    end(&server);
    expect(&read(client), noise(2, 50_000), End::Fin);
}

/// A listener with room for one that is slow to accept: the others' SYNs go unanswered until there is room again. (With
/// cookies Linux would answer them all, and reset those who speak too early.)
fn busy_listener(way: Way) {
    const CALLERS: usize = 4;
    let listener = listener_with_room_for_one(way);
    let callers: Vec<_> = (0..CALLERS)
        .map(|seed| {
            thread::spawn(move || {
                let mut client = CLIENT.connect(FAR_ADDRESS, way.port());
                client.write_all(&noise(seed, 1000)).unwrap();
                end(&client);
                expect(&read(&client), noise(seed, 1000), End::Fin);
            })
        })
        .collect();
    thread::sleep(Duration::from_millis(300));
    for _ in 0..CALLERS {
        let mut server = accept(&listener);
        let (heard, end) = read(&server);
        assert_eq!(end, End::Fin);
        server.write_all(&heard).unwrap();
    }
    callers.into_iter().for_each(finish);
}

/// Linux may be told to reset those for whom it has no room; the client hears of it sooner or later.
fn busy_listener_resets(way: Way) {
    let listener = listener_with_room_for_one(way);
    let attempts: Vec<_> = (0..4)
        .map(|_| {
            thread::spawn(move || CLIENT.try_connect(FAR_ADDRESS, way.port(), Duration::from_millis(500)))
        })
        .collect();
    let outcomes: Vec<_> = attempts.into_iter().map(finish).collect();
    let opened = outcomes.iter().flatten().count();
    assert!((1..4).contains(&opened), "some have got in, some have not: {outcomes:?}");
    drop(listener);
    for client in outcomes.into_iter().flatten() {
        assert_ne!(read(&client).1, End::Fin, "nobody has ended in order");
    }
}

fn listener_with_room_for_one(way: Way) -> TcpListener {
    let listener = SERVER.within(move || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, way.port()).into()).unwrap();
        socket.listen(0).unwrap();
        TcpListener::from(socket)
    });
    listener.set_nonblocking(true).unwrap();
    listener
}

/// Both hosts call each other at once (RFC 9293 figure 8): the server's kernel never sees the client's SYN, and the server
/// calls back from the port that was called.
#[test]
fn hosts_may_call_each_other_at_the_same_time() {
    let lab = lab();
    let keep_out = wire("ingress", "tcp flags & (syn|ack) == syn drop;").apply(SERVER);
    let capture = Capture::start(&lab, SERVER);
    let calling = CLIENT.spawn(|| TcpStream::connect((FAR_ADDRESS, Way::PROXY.port())));
    thread::sleep(Duration::from_millis(200));
    let packets = capture.stop();
    let syn = packets.iter().find(|packet| packet.line.contains("Flags [S]")).expect("the client's SYN");
    let public_port = syn.src_port().expect("a port");

    let server = SERVER.within(move || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddrV4::new(FAR_ADDRESS.parse().unwrap(), Way::PROXY.port()).into()).unwrap();
        let to = SocketAddrV4::new(PUBLIC_ADDRESS.parse().unwrap(), public_port);
        socket.connect_timeout(&to.into(), PATIENCE).unwrap();
        TcpStream::from(socket)
    });

    let client = finish(calling).unwrap();
    patient(&client);
    patient(&server);
    bulk(&client, &server, 100_000);
    drop(keep_out);
}
