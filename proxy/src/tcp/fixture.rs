//! Open connections for tests of single parts.

use std::net::{Ipv4Addr, SocketAddrV4};

use pnat_shared::config::CongestionControl;
use pnat_shared::testkit::{VecFrame, VecPool};
use pnat_shared::time::{Duration, Instant};
use pnat_shared::wire::tcp::{Flags, Header, Options, Seq};

use super::{Endpoint, Offer, Settings, State};
use crate::chunk::Chunk;

const LOCAL: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 1), 1);
const PEER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(240, 0, 0, 1), 7);
const STAMP: u32 = 5;

/// What was agreed.
#[derive(Copy, Clone, Debug)]
pub(super) struct Opening {
    pub(super) stamps: bool,
    pub(super) sack: bool,
    pub(super) ecn: bool,
    pub(super) congestion: CongestionControl,
}

/// An open connection with an MSS of 1000.
pub(super) fn endpoint(opening: Opening, now: Instant) -> Endpoint<VecFrame> {
    let settings = Settings {
        window: 8192,
        open_timeout: Duration::from_secs(60),
        user_timeout: Duration::from_secs(60),
        time_wait: Duration::from_secs(2),
        patience: Duration::from_secs(3600),
        congestion: opening.congestion,
        quick_acks: 2,
        ..Settings::default()
    };
    let stamp = opening.stamps.then_some(STAMP);
    let flags = Flags(if opening.ecn { Flags::ECE.0 | Flags::CWR.0 } else { 0 });
    let syn = Header {
        src_port: PEER.port(),
        dst_port: LOCAL.port(),
        seq: Seq(100),
        flags: Flags::SYN.with(flags),
        window: 60_000,
        options: Options {
            mss: Some(1000),
            sack_permitted: opening.sack,
            timestamps: stamp.map(|value| (value, 0)),
            ..Options::default()
        },
        ..Header::default()
    };
    let mut endpoint = Endpoint::accept(settings, LOCAL, PEER, &syn, now);
    let offer =
        Offer { mss: 1000, window_scale: None, sack: opening.sack, timestamp: stamp, ecn: opening.ecn };
    endpoint.answer(Seq(900), offer, now);
    endpoint.transmit(&mut VecPool::endless(), now, 64, &mut Vec::new());
    let ack = header(&endpoint, Seq(901), now);
    endpoint.on_segment(&ack, Chunk::from_vec(Vec::new()), now).expect("it completes the handshake");
    assert_eq!(endpoint.state(), State::Established);
    endpoint
}

/// What the peer says where it has nothing to say but that it has everything before `ack`: by a clock that stands still,
/// and in answer to what left five milliseconds ago.
pub(super) fn header(endpoint: &Endpoint<VecFrame>, ack: Seq, now: Instant) -> Header {
    let echo = endpoint.clock.value(now.back(Duration::from_millis(5)));
    Header {
        src_port: PEER.port(),
        dst_port: LOCAL.port(),
        seq: endpoint.recv.nxt,
        ack,
        flags: Flags::ACK,
        window: 60_000,
        options: Options { timestamps: endpoint.clock.on.then_some((STAMP, echo)), ..Options::default() },
        ..Header::default()
    }
}

/// Two endpoints know, want and wait for the same.
pub(super) fn assert_same(ours: &Endpoint<VecFrame>, oracle: &Endpoint<VecFrame>, when: &str) {
    let (ours, oracle) = (format!("{ours:?}"), format!("{oracle:?}"));
    let differs = ours.split(", ").zip(oracle.split(", ")).find(|(ours, oracle)| ours != oracle);
    assert_eq!(differs, None, "{when}");
}
