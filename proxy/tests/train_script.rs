//! Segments of one stream that come in a row are taken in as one: nobody is to notice.

mod support;

use pnat_shared::flow::{Protocol, Side};
use pnat_shared::frame::{Frame, L2_LEN};
use pnat_shared::loopback::{FromProxy, side_of, unmask};
use pnat_shared::testkit::{Random, VecFrame};
use pnat_shared::time::Duration;
use pnat_shared::verdict::DropReason;
use pnat_shared::wire::ip;
use pnat_shared::wire::tcp::{Flags, Header, Options, Seq};
use support::{Rig, handle, packet};

/// Two flows of which the same is heard.
const FLOWS: u32 = 2;

/// How the flows' packets share a burst.
#[derive(Copy, Clone)]
enum Order {
    OneAfterTheOther,
    ByTurns,
}

/// A client or a server, as far as it matters what it says.
struct Peer {
    side: Side,
    /// What it says next, and what it has heard.
    next: Seq,
    heard: Seq,
    stamp: u32,
    window: u16,
}

impl Peer {
    const fn new(side: Side, next: u32, heard: u32) -> Self {
        Self { side, next: Seq(next), heard: Seq(heard), stamp: 5, window: 20_000 }
    }

    fn header(&self, seq: Seq, flags: Flags) -> Header {
        let options = Options { timestamps: Some((self.stamp, 5)), ..Options::default() };
        Header { seq, ack: self.heard, flags, window: self.window, options, ..Header::default() }
    }

    /// The next segment: as a rule what follows the last one, sometimes anything else.
    fn speak(&mut self, random: &mut Random) -> (Header, Vec<u8>, bool) {
        let seldom = |random: &mut Random| random.chance(0.02);
        if seldom(random) {
            self.stamp += 1;
        }
        if seldom(random) {
            self.window = 10_000 + random.below(10_000) as u16;
        }
        if seldom(random) {
            // A segment that was lost on the way.
            self.next += 500;
        }
        if random.chance(0.05) {
            self.next = self.next - random.below(1500) as u32;
        }
        let push = if random.chance(0.3) { Flags::PSH } else { Flags(0) };
        let mut header = self.header(self.next, Flags::ACK.with(push));
        if seldom(random) {
            header.flags = header.flags.with(Flags::URG);
            header.urgent = 7;
        }
        if seldom(random) {
            header.ack = header.ack + 1 - random.below(3) as u32;
        }
        let len = if random.chance(0.1) { 0 } else { 1 + random.below(1000) as usize };
        if random.chance(0.002) {
            header.flags = header.flags.with(Flags::FIN);
        }
        self.next += len as u32;
        (header, vec![b'x'; len], seldom(random))
    }

    fn hear(&mut self, frame: &VecFrame) {
        let packet = &frame.data()[L2_LEN..];
        let head = ip::Header::read(packet).unwrap();
        let (header, len) = Header::read(&packet[ip::MIN_LEN..]).unwrap();
        let text = head.total_len - ip::MIN_LEN - len;
        if side_of(head.src) == Some(self.side) && header.seq == self.heard {
            self.heard += text as u32 + u32::from(header.flags.has(Flags::FIN));
        }
    }
}

/// What came out for each flow, in words, and the first one's frames.
fn heard(rig: &mut Rig) -> (Vec<Vec<String>>, Vec<VecFrame>) {
    let mut words = vec![Vec::new(); FLOWS as usize];
    let mut frames = Vec::new();
    for message in rig.take() {
        let slot = match &message {
            FromProxy::Packet { frame, .. } => {
                let packet = &frame.data()[L2_LEN..];
                let head = ip::Header::read(packet).unwrap();
                unmask(head.dst, u16::from_be_bytes([packet[22], packet[23]])).unwrap().slot
            }
            FromProxy::Closed { handle, .. }
            | FromProxy::Again { handle, .. }
            | FromProxy::Retarget { handle, .. } => handle.slot,
        };
        words[slot as usize].push(packet::describe(&message));
        if let (0, FromProxy::Packet { frame, .. }) = (slot, message) {
            frames.push(frame);
        }
    }
    (words, frames)
}

/// One burst in which each flow hears the same.
fn burst(rig: &mut Rig, order: Order, segments: &[(Side, Header, Vec<u8>, bool)]) {
    let mut put = |slot, (side, header, text, marked): &(Side, Header, Vec<u8>, bool)| {
        let mut frame = packet::segment(*side, handle(slot), *header, text);
        if *marked {
            packet::mark(&mut frame);
        }
        rig.packet(frame);
    };
    match order {
        Order::OneAfterTheOther => {
            (0..FLOWS).for_each(|slot| segments.iter().for_each(|said| put(slot, said)))
        }
        Order::ByTurns => segments.iter().for_each(|said| (0..FLOWS).for_each(|slot| put(slot, said))),
    }
    rig.burst();
}

/// Open flows: the client says 101 next, the server 901.
fn open() -> Rig {
    let mut rig = Rig::new(Vec::new());
    let options =
        Options { mss: Some(1000), sack_permitted: true, timestamps: Some((5, 0)), ..Options::default() };
    let syn = Header { seq: Seq(100), flags: Flags::SYN, window: 20_000, options, ..Header::default() };
    for slot in 0..FLOWS {
        rig.open(handle(slot), Protocol::Tcp, packet::segment(Side::First, handle(slot), syn, &[]));
    }
    rig.burst();
    let answer = Header { seq: Seq(900), ack: Seq(101), flags: Flags::SYN.with(Flags::ACK), ..syn };
    burst(&mut rig, Order::ByTurns, &[(Side::Second, answer, Vec::new(), false)]);
    let ack = Peer::new(Side::First, 101, 901).header(Seq(101), Flags::ACK);
    burst(&mut rig, Order::ByTurns, &[(Side::First, ack, Vec::new(), false)]);
    rig.take();
    rig
}

#[test]
fn segments_in_a_row_are_answered_as_if_others_had_come_between_them() {
    let mut answers = 0;
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let mut peers = [Peer::new(Side::First, 101, 901), Peer::new(Side::Second, 901, 101)];
        let mut rigs = [open(), open()];
        for round in 0..40 {
            let mut segments = Vec::new();
            for _ in 0..random.below(20) {
                let peer = &mut peers[usize::from(random.chance(0.2))];
                // Nearly always some more of the same.
                for _ in 0..=random.below(6) {
                    let (header, text, marked) = peer.speak(&mut random);
                    segments.push((peer.side, header, text, marked));
                }
            }
            burst(&mut rigs[0], Order::OneAfterTheOther, &segments);
            burst(&mut rigs[1], Order::ByTurns, &segments);
            let time = Duration::from_micros(random.below(60_000));
            let [(in_a_row, frames), (by_turns, _)] = rigs.each_mut().map(|rig| {
                let at_once = heard(rig);
                rig.pass(time);
                let (later, frames) = heard(rig);
                (at_once.0.into_iter().zip(later).collect::<Vec<_>>(), [at_once.1, frames].concat())
            });
            assert_eq!(in_a_row, by_turns, "seed {seed}, round {round}");
            assert_eq!(in_a_row[0], in_a_row[1], "seed {seed}, round {round}");
            answers += frames.len();
            for peer in &mut peers {
                frames.iter().for_each(|frame| peer.hear(frame));
            }
        }
        let [in_a_row, by_turns] = rigs.each_ref().map(|rig| {
            let stats = rig.reactor.stats();
            let drops: Vec<_> = DropReason::ALL.iter().map(|reason| stats.drops.value(*reason)).collect();
            let views: Vec<_> = rig.reactor.pairs(rig.now).map(|view| format!("{view:?}")).collect();
            (drops, stats.packets.each_ref().map(|count| count.value()), stats.kept.value(), views)
        });
        assert_eq!(in_a_row, by_turns, "seed {seed}");
    }
    assert!(answers > 5_000, "the flows hardly speak: {answers}");
}

#[test]
fn a_train_that_is_for_nobody_is_counted_by_its_segments() {
    let mut rig = open();
    let segments: Vec<_> = (0..3).map(|n| Peer::new(Side::First, 101 + 10 * n, 901)).collect();
    for peer in segments {
        let header = peer.header(peer.next, Flags::ACK);
        rig.packet(packet::segment(Side::First, handle(FLOWS), header, b"0123456789"));
    }
    rig.burst();
    assert_eq!(rig.reactor.stats().drops.value(DropReason::StaleHandle), 3);
}
