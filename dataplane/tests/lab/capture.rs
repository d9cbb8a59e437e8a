//! What a host's wire carries, as tcpdump tells it.

use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::fixture::{Lab, succeed, text};
use crate::hosts::Host;

/// A running capture of all that a host sends and receives.
#[derive(Debug)]
pub(crate) struct Capture {
    tcpdump: Child,
    file: PathBuf,
}

/// One IPv4 packet: its addresses, and tcpdump's line about it.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) src: Ipv4Addr,
    pub(crate) dst: Ipv4Addr,
    pub(crate) line: String,
}

impl Packet {
    /// The source port, where there are ports.
    pub(crate) fn src_port(&self) -> Option<u16> {
        let source = self.line.split_whitespace().nth(1)?;
        source.split('.').nth(4)?.parse().ok()
    }
}

impl Capture {
    /// Captures from when this returns.
    pub(crate) fn start(lab: &Lab, host: Host) -> Self {
        Self::of(lab, host, "256")
    }

    /// The same, with all bytes of each packet.
    pub(crate) fn start_whole(lab: &Lab, host: Host) -> Self {
        Self::of(lab, host, "0")
    }

    fn of(lab: &Lab, host: Host, most_bytes: &str) -> Self {
        let file = lab.file(&format!("{}.pcap", host.namespace()));
        let mut tcpdump = host
            .command(&[
                "tcpdump",
                "-i",
                "eth0",
                "-n",
                "-U",
                "-s",
                most_bytes,
                "--immediate-mode",
                "-w",
                text(&file),
            ])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first_words = String::new();
        BufReader::new(tcpdump.stderr.take().unwrap()).read_line(&mut first_words).unwrap();
        assert!(first_words.contains("listening on"), "{first_words}");
        Self { tcpdump, file }
    }

    /// Ends the capture; every IPv4 packet of it in order.
    pub(crate) fn stop(self) -> Vec<Packet> {
        packets(&self.end())
    }

    /// Ends the capture; all that tcpdump has to say about it, wrong checksums among it.
    pub(crate) fn stop_in_detail(self) -> String {
        succeed(
            Command::new("tcpdump").args(["-nn", "-t", "-vv", "-r"]).arg(self.end()).stderr(Stdio::null()),
        )
    }

    /// Ends the capture; its file.
    fn end(mut self) -> PathBuf {
        // What was last on the wire is still on its way to tcpdump.
        thread::sleep(Duration::from_millis(200));
        kill_process(Pid::from_child(&self.tcpdump), Signal::TERM).unwrap();
        self.tcpdump.wait().unwrap();
        self.file
    }
}

/// The IPv4 packets of a pcap file.
pub(crate) fn packets(file: &Path) -> Vec<Packet> {
    let lines =
        succeed(Command::new("tcpdump").args(["-nn", "-t", "-r"]).arg(file).arg("ip").stderr(Stdio::null()));
    lines.lines().map(packet).collect()
}

/// Reads a line such as `IP 10.77.1.2.40000 > 198.18.0.2.80: Flags [S], ...`.
fn packet(line: &str) -> Packet {
    let mut words = line.split_whitespace().skip(1);
    let src = address(words.next().expect("a source"));
    let dst = address(words.nth(1).expect("a destination"));
    Packet { src, dst, line: line.to_owned() }
}

/// The address in `a.b.c.d` or `a.b.c.d.port`, whatever punctuation follows.
fn address(word: &str) -> Ipv4Addr {
    let octets: Vec<_> = word.trim_end_matches(':').split('.').take(4).collect();
    octets.join(".").parse().unwrap_or_else(|_| panic!("no address: {word}"))
}
