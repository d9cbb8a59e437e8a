//! Health checks: what a worker says to a server, and what it makes of the answers.

use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use pnat_shared::check::{Check, Checked, Finding};
use pnat_shared::frame::{Frame, L2_LEN};
use pnat_shared::time::{Duration, Instant};
use pnat_shared::wire::ip;
use pnat_shared::wire::tcp::{Flags, Header, Seq};
use proptest::prelude::*;

use crate::text;
use crate::world::{Gateway, MACS, OUTSIDE, Out, ROUTER, World};

const REQUEST: &[u8] = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n";
const SYN_ACK: Flags = Flags::SYN.with(Flags::ACK);
/// The server's first number.
const IRS: Seq = Seq(u32::MAX - 3);

#[derive(Debug)]
struct Told(Sender<Finding>);

impl Checked for Told {
    fn checked(&self, server: SocketAddrV4, finding: Finding, _: Instant) {
        assert_eq!(server, address());
        self.0.send(finding).unwrap();
    }
}

fn address() -> SocketAddrV4 {
    "203.0.113.80:80".parse().unwrap()
}

/// A segment that the gateway sent.
#[derive(Debug)]
struct Said {
    header: Header,
    text: Vec<u8>,
    public: SocketAddrV4,
}

/// A gateway that checks one server each five seconds, for two seconds at most.
struct Rig {
    gateway: Gateway,
    told: Receiver<Finding>,
    public: Option<SocketAddrV4>,
}

impl Rig {
    fn new(request: Option<&[u8]>) -> (Self, Said) {
        let (sender, told) = mpsc::channel();
        let mut gateway = Gateway::new(&World::default());
        let check = Check {
            server: address(),
            request: request.map(Into::into),
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            told: Arc::new(Told(sender)),
        };
        gateway.worker.set_checks(vec![check], gateway.now, &mut gateway.outputs);
        let mut rig = Self { gateway, told, public: None };
        let mut said = rig.wait(100);
        assert_eq!(said.len(), 1, "{said:?}");
        let syn = said.remove(0);
        assert_eq!((syn.header.flags, syn.text.len()), (Flags::SYN, 0));
        (rig, syn)
    }

    /// A connection whose server has the request.
    fn asked() -> (Self, Said) {
        let (mut rig, syn) = Self::new(Some(REQUEST));
        let mut said = rig.hear(SYN_ACK, IRS, syn.header.seq + 1, b"");
        let request = said.remove(0);
        assert_eq!((request.header.seq, request.header.ack), (syn.header.seq + 1, IRS + 1));
        assert_eq!(request.text, REQUEST);
        (rig, request)
    }

    fn wait(&mut self, millis: u64) -> Vec<Said> {
        let outs = self.gateway.pass(Duration::from_millis(millis));
        self.read(&outs)
    }

    /// A segment of the server's.
    fn hear(&mut self, flags: Flags, seq: Seq, ack: Seq, words: &[u8]) -> Vec<Said> {
        let public = self.public.expect("a SYN went before");
        let header = Header {
            src_port: address().port(),
            dst_port: public.port(),
            seq,
            ack,
            flags,
            window: 1000,
            ..Header::default()
        };
        let mut frame =
            text::build(&format!("tcp {} > {public} A", address()), text::mac_of(ROUTER), MACS[1]);
        let at = L2_LEN + ip::MIN_LEN;
        frame.truncate(at + header.len());
        frame.extend_from_slice(words);
        let whole = frame.len() - L2_LEN;
        ip::Header::new(6, *address().ip(), *public.ip(), whole).write(&mut frame[L2_LEN..]);
        header.write(&mut frame[at..], *address().ip(), *public.ip());
        let outs = self.gateway.receive(OUTSIDE, &frame);
        self.read(&outs)
    }

    fn read(&mut self, outs: &[Out]) -> Vec<Said> {
        let mut all = Vec::new();
        for out in outs {
            let Out::Port(OUTSIDE, frame) = out else { panic!("{out:?}") };
            let packet = &frame.data()[L2_LEN..];
            let link = ip::Header::read(packet).unwrap();
            let (header, len) = Header::read(&packet[ip::MIN_LEN..]).unwrap();
            assert!(pnat_shared::wire::tcp::is_intact(&packet[ip::MIN_LEN..], link.src, link.dst));
            let public = SocketAddrV4::new(link.src, header.src_port);
            assert_eq!(SocketAddrV4::new(link.dst, header.dst_port), address());
            self.public = Some(public);
            all.push(Said { header, text: packet[ip::MIN_LEN + len..].to_vec(), public });
        }
        all
    }

    fn found(&self) -> Vec<Finding> {
        self.told.try_iter().collect()
    }
}

#[test]
fn a_server_that_answers_is_asked_again_after_the_interval_by_another_connection() {
    let (mut rig, request) = Rig::asked();
    assert!(rig.hear(Flags::ACK, IRS + 1, request.header.seq, b"HTTP/1.1 20").is_empty());
    assert!(rig.hear(Flags::ACK, IRS + 1, request.header.seq, b"HTTP/").is_empty(), "it comes again");
    assert!(rig.hear(Flags::ACK, IRS + 20, request.header.seq, b"x").is_empty(), "it has overtaken");
    assert_eq!(rig.found(), []);
    let last = rig.hear(Flags::ACK, IRS + 9, request.header.seq, b" 200 OK\r\n").remove(0);
    assert!(last.header.flags.has(Flags::RST));
    assert_eq!(last.header.seq, request.header.seq + REQUEST.len() as u32);
    assert_eq!(rig.found(), [Finding::Status(200)]);
    assert_eq!(rig.gateway.worker.bindings().count(), 0);

    assert!(rig.wait(4800).is_empty());
    let again = rig.wait(200);
    assert_eq!(again.len(), 1);
    assert!(again[0].header.flags.has(Flags::SYN));
    assert_ne!(again[0].public, request.public, "the port before rests");
}

#[test]
fn a_connection_is_enough_where_nothing_is_asked_for() {
    let (mut rig, syn) = Rig::new(None);
    let last = rig.hear(SYN_ACK, IRS, syn.header.seq + 1, b"").remove(0);
    assert!(last.header.flags.has(Flags::RST));
    assert_eq!(rig.found(), [Finding::Connected]);
}

#[test]
fn what_was_lost_is_sent_again_until_the_time_is_over() {
    let (mut rig, syn) = Rig::new(Some(REQUEST));
    let again = rig.wait(1000);
    assert_eq!((again.len(), again[0].header.seq), (1, syn.header.seq));
    rig.hear(SYN_ACK, IRS, syn.header.seq + 1, b"");
    let again: Vec<_> = rig.wait(900).into_iter().filter(|said| said.text == REQUEST).collect();
    assert_eq!((again.len(), rig.found()), (0, vec![]), "not before a second is over");
    let last = rig.wait(200);
    assert_eq!(rig.found(), [Finding::Silence]);
    assert!(last[0].header.flags.has(Flags::RST));
}

#[test]
fn a_server_that_cannot_be_had_or_understood_is_told_as_such() {
    let (mut rig, syn) = Rig::new(Some(REQUEST));
    let refusal = Flags::RST.with(Flags::ACK);
    rig.hear(refusal, Seq(0), syn.header.seq, b"");
    rig.hear(SYN_ACK, IRS, syn.header.seq + 2, b"");
    assert_eq!(rig.found(), [], "that answers somebody else (RFC 9293 section 3.10.7.3)");
    assert!(rig.hear(refusal, Seq(0), syn.header.seq + 1, b"").is_empty(), "a reset gets none");
    assert_eq!(rig.found(), [Finding::Reset]);

    let (mut rig, request) = Rig::asked();
    let ack = request.header.seq + REQUEST.len() as u32;
    rig.hear(Flags::RST, IRS + 2, ack, b"");
    assert_eq!(rig.found(), [], "RFC 5961 section 3.2: not at the exact number");
    rig.hear(Flags::RST, IRS + 1, ack, b"");
    assert_eq!(rig.found(), [Finding::Reset]);

    for words in [&b"SSH-2.0-OpenSSH_9.2"[..], b"HTTP/2.0 200 OK", b"HTTP/1.1 2x0 OK"] {
        let (mut rig, request) = Rig::asked();
        rig.hear(Flags::ACK, IRS + 1, request.header.seq, words);
        assert_eq!(rig.found(), [Finding::Garbage]);
    }
    let (mut rig, _) = Rig::asked();
    rig.hear(Flags::FIN.with(Flags::ACK), IRS + 1, ack, b"HTTP");
    assert_eq!(rig.found(), [Finding::Garbage]);

    let (mut rig, syn) = Rig::new(Some(REQUEST));
    let error = |code| {
        let error = format!(
            "icmp 198.18.0.254 > 198.18.0.1 unreachable/{code} about tcp {} > {} S",
            syn.public,
            address()
        );
        text::build(&error, text::mac_of(ROUTER), MACS[1])
    };
    rig.gateway.receive(OUTSIDE, &error("4 mtu=1000"));
    assert_eq!(rig.found(), []);
    rig.gateway.receive(OUTSIDE, &error("1"));
    assert_eq!(rig.found(), [Finding::Unreachable]);
}

#[test]
fn nobody_is_asked_any_more_when_the_policy_says_so_or_the_gateway_ends() {
    let (mut rig, _) = Rig::asked();
    let Gateway { worker, outputs, now, .. } = &mut rig.gateway;
    worker.set_checks(Vec::new(), *now, outputs);
    let last = rig.wait(60_000);
    assert_eq!(last.len(), 1, "the connection is reset: {last:?}");
    assert_eq!((rig.found(), rig.gateway.worker.bindings().count()), (vec![], 0));

    let (mut rig, _) = Rig::new(Some(REQUEST));
    rig.gateway.worker.drain();
    rig.wait(3000);
    rig.found();
    assert!(rig.wait(60_000).is_empty());
}

proptest! {
    #[test]
    fn whatever_servers_say_each_check_comes_to_one_finding_in_its_time(
        segments in proptest::collection::vec(
            (0..64_u8, -20..20_i32, -2..40_i32, proptest::collection::vec(any::<u8>(), 0..20), 0..900_u64),
            0..30,
        ),
        answers: bool,
    ) {
        let (mut rig, mut iss) = (Rig::new(Some(REQUEST)).0, None);
        let began = rig.gateway.now;
        for (flags, seq, ack, words, millis) in segments {
            for said in rig.wait(millis) {
                if said.header.flags.has(Flags::SYN) {
                    iss = Some(said.header.seq);
                }
            }
            if let (true, Some(iss)) = (answers, iss) {
                rig.hear(SYN_ACK, IRS, iss + 1, b"");
            }
            let ack = iss.unwrap_or(Seq(0)) + ack as u32;
            rig.hear(Flags(flags), IRS + seq as u32, ack, &words);
        }
        rig.wait(3000);
        let rounds = rig.gateway.now.since(began).as_secs() / 5 + 1;
        let found = rig.found().len() as u64;
        prop_assert!((rounds.saturating_sub(1)..=rounds).contains(&found), "{found} of {rounds}");
    }
}
