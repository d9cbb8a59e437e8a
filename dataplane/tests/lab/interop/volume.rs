//! Much, in large pieces and in the smallest.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;

use sha2::{Digest, Sha256};

use super::talk::{End, ask, connection, end, expect, read};
use super::{Row, Way, lab, run, run_by};
use crate::exchange::noise;
use crate::hosts::finish;

#[test]
fn much_and_little_arrives_unharmed() {
    let lab = lab();
    let rows = [
        Row::new("20,000 writes of a byte each way at the same time", one_by_one),
        Row::new("2,000 questions of a byte, each answered", questions),
    ];

    run_by(&[Way::PROXY], &lab, [Row::new("a gigabyte up and down", |way| up_and_down(way, 1_000_000_000))]);
    run(&lab, rows);
}

fn up_and_down(way: Way, bytes: u64) {
    let (client, server) = connection(way);
    let streams =
        [(Volume { seed: 1, bytes }, &client, &server), (Volume { seed: 2, bytes }, &server, &client)];

    let transfers = streams.map(|(volume, from, to)| {
        let (from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
        let sending = thread::spawn(move || volume.send(&from));
        let hearing = thread::spawn(move || {
            let mut heard = receive();
            while heard.take(&mut to, usize::MAX) {}
            (heard.bytes(), heard.digest())
        });
        (sending, hearing)
    });

    for (sending, hearing) in transfers {
        let said = finish(sending);
        assert_eq!(finish(hearing), (bytes, said), "as many bytes as were sent, and their SHA-256");
    }
}

fn one_by_one(way: Way) {
    const WRITES: usize = 20_000;
    let (client, server) = connection(way);
    let writing = [(&client, 1), (&server, 2)].map(|(stream, seed)| {
        let mut stream = stream.try_clone().unwrap();
        thread::spawn(move || {
            for byte in noise(seed, WRITES) {
                stream.write_all(&[byte]).unwrap();
            }
            end(&stream);
        })
    });
    let hearing = thread::spawn(move || read(&server));
    expect(&read(&client), noise(2, WRITES), End::Fin);
    expect(&finish(hearing), noise(1, WRITES), End::Fin);
    writing.into_iter().for_each(finish);
}

fn questions(way: Way) {
    let (client, server) = connection(way);
    for _ in 0..2000 {
        ask(&client, &server, 1);
    }
}

/// So many bytes that they are made as they are sent, and compared by their SHA-256.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Volume {
    pub(crate) seed: usize,
    pub(crate) bytes: u64,
}

/// Large enough that making and hashing it costs less than sending it.
const BLOCK: usize = 1 << 18;

impl Volume {
    /// Sends all of it and ends the stream, or stops where the other host does; the hash of what was sent.
    pub(crate) fn send(self, mut stream: &TcpStream) -> String {
        let mut hash = Sha256::new();
        self.blocks(|block| {
            hash.update(block);
            stream.write_all(block).is_ok()
        });
        // The other host may have reset.
        let _ = stream.shutdown(Shutdown::Write);
        hex(hash)
    }

    pub(crate) fn digest(self) -> String {
        let mut hash = Sha256::new();
        self.blocks(|block| {
            hash.update(block);
            true
        });
        hex(hash)
    }

    /// Hands out the content block by block, as long as it is wanted. No block is like another.
    fn blocks(self, mut wanted: impl FnMut(&[u8]) -> bool) {
        let mut block = noise(self.seed, BLOCK);
        let mut left = self.bytes;
        for number in 0_u64.. {
            for page in block.chunks_mut(1024) {
                page[..8].copy_from_slice(&number.to_le_bytes());
            }
            let size = left.min(BLOCK as u64) as usize;
            left -= size as u64;
            if !wanted(&block[..size]) || left == 0 {
                return;
            }
        }
    }
}

/// What has come so far.
pub(crate) struct Received {
    buffer: Vec<u8>,
    bytes: u64,
    hash: Sha256,
}

pub(crate) fn receive() -> Received {
    Received { buffer: vec![0; BLOCK], bytes: 0, hash: Sha256::new() }
}

impl Received {
    /// Reads once, at most so many bytes. Answers false at the end of the stream.
    pub(crate) fn take(&mut self, stream: &mut TcpStream, most: usize) -> bool {
        let room = most.min(self.buffer.len());
        let read = stream.read(&mut self.buffer[..room]).unwrap();
        self.hash.update(&self.buffer[..read]);
        self.bytes += read as u64;
        read > 0
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn digest(&self) -> String {
        hex(self.hash.clone())
    }
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
