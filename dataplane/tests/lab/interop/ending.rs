//! Every way in which two hosts can end a connection: FIN in all orders, RST in every state that a host can reset in.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use super::setting::firewall;
use super::talk::{End, RESET, bulk, connection, end, expect, listen, read, reset, write_until_refused};
use super::{Row, Way, lab, run};
use crate::exchange::{noise, send_all};
use crate::hosts::{CLIENT, FAR_ADDRESS, PATIENCE, accept, finish};

/// Long enough for what a host has sent to be at the other one, and short enough to be done a hundred times.
const UNDERWAY: Duration = Duration::from_millis(30);
/// More than all buffers on the way hold.
const TOO_MUCH: usize = 40_000_000;

/// One end closes in some way, the other watches; the roles change.
type Ending = fn(TcpStream, TcpStream);

#[test]
fn hosts_see_each_others_fin_and_rst_in_every_order_and_state() {
    let orders: [(&str, Ending); 6] = [
        ("one ends, the other answers and ends", one_after_the_other),
        ("one ends without a word, the other without an answer", wordless),
        ("one ends, and then hears much", half_close_then_much),
        ("both end at the same moment", simultaneous),
        ("both end at the same moment behind much", simultaneous_behind_much),
        ("one closes its socket, the other finds out by writing", closed_for_good),
    ];
    let resets: [(&str, Ending); 12] = [
        ("reset at once", at_once),
        ("closed over unread bytes", over_unread_bytes),
        ("closed over unread bytes behind words", over_unread_bytes_behind_words),
        ("reset behind words", behind_words),
        ("reset with much in flight from the one that resets", in_the_middle_of_its_own_words),
        ("reset with much in flight to the one that resets", in_the_middle_of_the_others_words),
        ("reset with a shut window", behind_a_shut_window),
        ("reset after its own FIN", after_its_own_fin),
        ("reset after the other's FIN", after_the_others_fin),
        ("reset in half-close, hearing much", half_closed_in_the_middle_of_the_others_words),
        ("reset in half-close, saying much", half_closed_in_the_middle_of_its_own_words),
        ("reset when both have ended", after_both_fins),
    ];
    let unaccepted = [
        Row::new("server closes before it accepts", listener_is_closed),
        Row::new("client resets before the server accepts", client_resets_before_accept),
        Row::new("server's firewall resets the handshake", server_refuses)
            .server([firewall("input", "tcp flags syn tcp dport 7000-7100 reject with tcp reset;")]),
        Row::new("client's firewall resets the handshake", client_resets_the_answer)
            .client([firewall("input", "tcp flags & (syn|ack) == syn|ack reject with tcp reset;")]),
    ];

    run(&lab(), by_either_host(&orders).chain(by_either_host(&resets)).chain(unaccepted));
}

fn by_either_host(endings: &[(&str, Ending)]) -> impl Iterator<Item = Row> {
    endings.iter().flat_map(|&(name, ending)| {
        let client_first = move |way| {
            let (client, server) = connection(way);
            ending(client, server);
        };
        let server_first = move |way| {
            let (client, server) = connection(way);
            ending(server, client);
        };
        [
            Row::new(format!("client first: {name}"), client_first),
            Row::new(format!("server first: {name}"), server_first),
        ]
    })
}

fn one_after_the_other(one: TcpStream, other: TcpStream) {
    let asking = send_all(&one, noise(1, 300_000));
    expect(&read(&other), noise(1, 300_000), End::Fin);
    finish(asking);
    let answering = send_all(&other, noise(2, 500_000));
    expect(&read(&one), noise(2, 500_000), End::Fin);
    finish(answering);
}

fn wordless(one: TcpStream, other: TcpStream) {
    end(&one);
    expect(&read(&other), Vec::new(), End::Fin);
    end(&other);
    expect(&read(&one), Vec::new(), End::Fin);
}

fn half_close_then_much(one: TcpStream, other: TcpStream) {
    end(&one);
    expect(&read(&other), Vec::new(), End::Fin);
    let sending = send_all(&other, noise(1, 20_000_000));
    expect(&read(&one), noise(1, 20_000_000), End::Fin);
    finish(sending);
}

fn simultaneous(one: TcpStream, other: TcpStream) {
    let together = Arc::new(Barrier::new(2));
    let ending = {
        let (one, together) = (one.try_clone().unwrap(), together.clone());
        thread::spawn(move || {
            together.wait();
            end(&one);
        })
    };
    together.wait();
    end(&other);
    finish(ending);
    expect(&read(&one), Vec::new(), End::Fin);
    expect(&read(&other), Vec::new(), End::Fin);
}

fn simultaneous_behind_much(one: TcpStream, other: TcpStream) {
    bulk(&one, &other, 1_000_000);
}

/// A socket that nobody holds any more answers bytes with RST.
fn closed_for_good(one: TcpStream, other: TcpStream) {
    drop(one);
    expect(&read(&other), Vec::new(), End::Fin);
    assert_eq!(write_until_refused(&other), ErrorKind::BrokenPipe);
}

fn at_once(one: TcpStream, other: TcpStream) {
    reset(one);
    expect(&read(&other), Vec::new(), RESET);
}

fn over_unread_bytes(one: TcpStream, mut other: TcpStream) {
    other.write_all(b"unread").unwrap();
    thread::sleep(UNDERWAY);
    drop(one);
    expect(&read(&other), Vec::new(), RESET);
}

/// What was said before the reset may still be read, for it came in time.
fn over_unread_bytes_behind_words(mut one: TcpStream, mut other: TcpStream) {
    one.write_all(b"last words").unwrap();
    other.write_all(b"unread").unwrap();
    thread::sleep(UNDERWAY);
    drop(one);
    thread::sleep(UNDERWAY);
    // Linux lets a reader have the bytes in front of a reset.
    expect(&read(&other), b"last words".to_vec(), RESET);
}

fn behind_words(mut one: TcpStream, other: TcpStream) {
    one.write_all(b"last words").unwrap();
    thread::sleep(UNDERWAY);
    reset(one);
    expect(&read(&other), b"last words".to_vec(), RESET);
}

fn in_the_middle_of_its_own_words(mut one: TcpStream, other: TcpStream) {
    let hearing = thread::spawn(move || read(&other));
    let words = noise(1, TOO_MUCH);
    one.set_nonblocking(true).unwrap();
    let (start, mut said) = (Instant::now(), 0);
    while start.elapsed() < UNDERWAY {
        said += one.write(&words[said..]).unwrap_or(0);
    }
    reset(one);
    let (heard, ended) = finish(hearing);
    assert_eq!(ended, RESET);
    assert!(heard == words[..heard.len()], "what came is the beginning of what was said");
}

fn in_the_middle_of_the_others_words(one: TcpStream, other: TcpStream) {
    let sending = write_much(&other);
    thread::sleep(UNDERWAY);
    reset(one);
    assert_eq!(finish(sending), ErrorKind::ConnectionReset);
}

fn behind_a_shut_window(one: TcpStream, other: TcpStream) {
    let sending = write_much(&one);
    // Nobody reads, so everything stands still.
    thread::sleep(10 * UNDERWAY);
    reset(other);
    assert_eq!(finish(sending), ErrorKind::ConnectionReset);
}

/// Nobody is owed an error in CLOSE-WAIT: the bytes have all come. Only further words are refused.
fn after_its_own_fin(one: TcpStream, other: TcpStream) {
    end(&one);
    expect(&read(&other), Vec::new(), End::Fin);
    thread::sleep(UNDERWAY);
    reset(one);
    thread::sleep(UNDERWAY);
    assert_eq!(write_until_refused(&other), ErrorKind::BrokenPipe);
}

fn after_the_others_fin(one: TcpStream, other: TcpStream) {
    end(&other);
    expect(&read(&one), Vec::new(), End::Fin);
    thread::sleep(UNDERWAY);
    reset(one);
    expect(&read(&other), Vec::new(), RESET);
}

fn half_closed_in_the_middle_of_the_others_words(one: TcpStream, other: TcpStream) {
    end(&one);
    expect(&read(&other), Vec::new(), End::Fin);
    let sending = write_much(&other);
    thread::sleep(UNDERWAY);
    reset(one);
    assert_eq!(finish(sending), ErrorKind::BrokenPipe);
}

fn half_closed_in_the_middle_of_its_own_words(one: TcpStream, other: TcpStream) {
    end(&other);
    expect(&read(&one), Vec::new(), End::Fin);
    in_the_middle_of_its_own_words(one, other);
}

/// There is nothing left to reset: both have heard the other's end.
fn after_both_fins(one: TcpStream, other: TcpStream) {
    end(&one);
    end(&other);
    expect(&read(&one), Vec::new(), End::Fin);
    expect(&read(&other), Vec::new(), End::Fin);
    reset(one);
    expect(&read(&other), Vec::new(), End::Fin);
}

fn listener_is_closed(way: Way) {
    let listener = listen(way);
    let client = CLIENT.connect(FAR_ADDRESS, way.port());
    thread::sleep(UNDERWAY);
    drop(listener);
    expect(&read(&client), Vec::new(), RESET);
}

fn client_resets_before_accept(way: Way) {
    let listener = listen(way);
    let client = CLIENT.connect(FAR_ADDRESS, way.port());
    thread::sleep(UNDERWAY);
    reset(client);
    thread::sleep(UNDERWAY);
    expect(&read(&accept(&listener)), Vec::new(), RESET);
}

fn server_refuses(way: Way) {
    let _listener = listen(way);
    let error = CLIENT.try_connect(FAR_ADDRESS, way.port(), PATIENCE).expect_err("a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

/// The client's kernel never gets the answer that its firewall has reset: nothing is established, and nobody is left
/// waiting at the server.
fn client_resets_the_answer(way: Way) {
    let listener = listen(way);
    let error = CLIENT.try_connect(FAR_ADDRESS, way.port(), Duration::from_millis(500)).expect_err("nothing");
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    // The proxy had to complete the handshake with the server to know its answer.
    if way.is_proxied() {
        expect(&read(&accept(&listener)), Vec::new(), RESET);
    }
}

/// Writes [`TOO_MUCH`] on a thread; what stopped it.
fn write_much(stream: &TcpStream) -> thread::JoinHandle<ErrorKind> {
    let mut stream = stream.try_clone().unwrap();
    thread::spawn(move || {
        let written = stream.write_all(&noise(1, TOO_MUCH));
        written.expect_err("more than the buffers hold").kind()
    })
}
