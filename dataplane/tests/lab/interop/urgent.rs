//! Urgent data (RFC 9293 section 3.8.5), as Linux sends and takes it: a byte beside the stream, with a place in it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use rustix::net::{RecvFlags, recv};
use socket2::SockRef;

use super::talk::{End, connection, end, expect, read};
use super::{Row, lab, run};
use crate::exchange::noise;
use crate::fixture::wait_until;

#[test]
fn urgent_byte_keeps_its_place() {
    let rows = [
        Row::new("beside the stream, up", |way| {
            let (client, server) = connection(way);
            beside(client, server);
        }),
        Row::new("beside the stream, down", |way| {
            let (client, server) = connection(way);
            beside(server, client);
        }),
        Row::new("in the stream, up", |way| {
            let (client, server) = connection(way);
            inline(client, server);
        }),
        Row::new("in the stream, down", |way| {
            let (client, server) = connection(way);
            inline(server, client);
        }),
    ];

    run(&lab(), rows);
}

/// A read never goes beyond the mark, and never sees the byte.
fn beside(mut one: TcpStream, mut other: TcpStream) {
    let mut heard = [0; 100];
    for (before, urgent, after) in [(&b"before"[..], b'!', &b"after"[..]), (b"again", b'?', b"and again")] {
        one.write_all(before).unwrap();
        SockRef::from(&one).send_out_of_band(&[urgent]).unwrap();
        one.write_all(after).unwrap();

        assert_eq!(out_of_band(&other), urgent);
        for words in [before, after] {
            let count = other.read(&mut heard).unwrap();
            assert_eq!(&heard[..count], words);
        }
    }
    end(&one);
    expect(&read(&other), Vec::new(), End::Fin);
}

/// The byte is one like the others, among much.
fn inline(mut one: TcpStream, other: TcpStream) {
    SockRef::from(&other).set_out_of_band_inline(true).unwrap();
    let words = noise(1, 100_000);
    for (index, piece) in words.chunks(10_000).enumerate() {
        if index % 3 == 0 {
            SockRef::from(&one).send_out_of_band(piece).unwrap();
        } else {
            one.write_all(piece).unwrap();
        }
    }
    end(&one);
    expect(&read(&other), words, End::Fin);
}

/// The urgent byte, as soon as it is there.
fn out_of_band(stream: &TcpStream) -> u8 {
    let mut byte = [0];
    wait_until(Duration::from_secs(5), "an urgent byte has come", || {
        recv(stream, &mut byte, RecvFlags::OOB).is_ok_and(|(_, count)| count == 1)
    });
    byte[0]
}
