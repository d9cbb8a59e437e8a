//! What hosts can make the reactor keep: frames come from the pool on which every port's reception lives.

#[path = "relay/frames.rs"]
mod frames;
mod support;

use std::sync::Arc;

use frames::{CountedFrame, CountingPool};
use pnat_proxy::filter::{Chains, Services};
use pnat_proxy::reactor::{Outputs, Reactor, Snapshot};
use pnat_shared::config::{FilterKind, LimitBy, LimitFilter};
use pnat_shared::flow::{Protocol, Side, WorkerId};
use pnat_shared::frame::{Frame, FramePool};
use pnat_shared::loopback::ToProxy;
use pnat_shared::testkit::VecFrame;
use pnat_shared::time::{Duration, Instant};
use pnat_shared::verdict::DropReason;
use support::{POLICY, WINDOW, handle, new_flow, packet, policy, policy_of, settings};

const FLOWS: u32 = 20;
/// Frames that the reactor may keep.
const KEEP: usize = 100;

/// A reactor that hosts burden, and what it keeps.
struct Burden {
    reactor: Reactor<CountedFrame>,
    pool: CountingPool,
    out: Outputs<CountedFrame>,
    now: Instant,
}

impl Burden {
    fn new(snapshot: Snapshot) -> Self {
        let now = Instant::from_secs(1);
        let mut reactor = Reactor::new(&settings(), 1, Services::default(), Arc::default(), now);
        reactor.keep_frames(KEEP);
        reactor.set_policy(snapshot, 1);
        Self { reactor, pool: CountingPool::new(usize::MAX), out: Outputs::new(1), now }
    }

    fn frame(&mut self, content: &VecFrame) -> CountedFrame {
        let mut frame = self.pool.alloc().expect("the pool is endless");
        frame.resize(content.data().len());
        frame.data_mut().copy_from_slice(content.data());
        frame
    }

    fn take(&mut self, message: ToProxy<CountedFrame>) {
        self.now += Duration::from_micros(10);
        self.reactor.on_burst(&mut vec![message], &mut self.pool, self.now, &mut self.out);
        self.out.worker(WorkerId(0)).clear();
    }

    fn open(&mut self, slot: u32, protocol: Protocol, first: &VecFrame) {
        let (frame, flow) = (self.frame(first), new_flow(handle(slot), protocol, self.now));
        self.take(ToProxy::Open { frame, at: self.now, flow });
    }

    fn arrive(&mut self, content: &VecFrame) {
        let frame = self.frame(content);
        self.take(ToProxy::Packet { frame, at: self.now });
    }

    fn segment(&mut self, slot: u32, side: Side, words: &str) {
        let (header, payload) = packet::parse_segment(&words.split_whitespace().collect::<Vec<_>>());
        self.arrive(&packet::segment(side, handle(slot), header, &payload));
    }

    /// A client and a server complete the handshake.
    fn connect(&mut self, slot: u32) {
        let (syn, _) = packet::parse_segment(&["SYN", "seq=100", "mss=1460"]);
        self.open(slot, Protocol::Tcp, &packet::segment(Side::First, handle(slot), syn, &[]));
        self.segment(slot, Side::Second, "SYN ACK seq=900 ack=101 mss=1460");
        self.segment(slot, Side::First, "ACK seq=101 ack=901");
    }
}

#[test]
fn segments_behind_gaps_that_are_never_filled_cannot_keep_the_frames_of_all() {
    let mut burden = Burden::new(policy(vec![]));
    for slot in 0..FLOWS {
        burden.connect(slot);
        for n in 1..=40 {
            burden.segment(slot, Side::First, &format!("ACK seq={} ack=901 fill=1400", 101 + n * 1400));
        }
    }
    assert!(burden.pool.living() <= KEEP, "{} frames", burden.pool.living());
    assert!(burden.reactor.stats().kept.value() >= 4 * KEEP as u64, "bytes are kept all the same");
}

#[test]
fn what_was_promised_and_does_not_fit_is_dropped_and_those_who_keep_little_are_still_served() {
    let mut burden = Burden::new(policy(vec![]));
    let (most, greedy) = (8 * KEEP as u64, 2 * FLOWS);
    // All of them are promised a window while there is memory for it, and use it at once.
    for slot in 0..greedy {
        burden.connect(slot);
    }
    for slot in 0..greedy {
        for n in 0..40 {
            burden.segment(slot, Side::First, &format!("ACK seq={} ack=901 fill=1400", 101 + n * 1400));
        }
    }
    let kept = burden.reactor.stats().kept.value();
    assert!((most..=most + most / 8).contains(&kept), "{kept} chunks");
    assert!(burden.reactor.stats().drops.value(DropReason::NoBuffer) > 0);
    assert_eq!(burden.reactor.len(), greedy as usize, "nobody is killed for it");

    burden.segment(0, Side::Second, "ACK seq=901 ack=7101");
    assert!(burden.reactor.stats().kept.value() < kept, "what the server takes is free again");

    let before = burden.reactor.stats().bytes[0].value();
    burden.connect(greedy);
    burden.segment(greedy, Side::First, "ACK seq=101 ack=901 fill=1400");
    assert_eq!(burden.reactor.stats().bytes[0].value(), before + 1400, "a modest flow goes on");
}

#[test]
fn servers_that_never_read_cannot_keep_the_frames_of_all_however_short_the_segments() {
    for len in [520, 1400] {
        let mut burden = Burden::new(policy(vec![]));
        for slot in 0..FLOWS {
            burden.connect(slot);
            for n in 0..40 {
                burden.segment(slot, Side::First, &format!("ACK seq={} ack=901 fill={len}", 101 + n * len));
            }
        }
        assert!(burden.pool.living() <= KEEP, "{} frames of {len} bytes", burden.pool.living());
    }
}

#[test]
fn datagrams_that_a_filter_delays_keep_no_frames() {
    let limit = LimitFilter { bytes_per_second: 1000, burst: 1000, by: LimitBy::Flow };
    let chains = Chains::compile(&policy_of([FilterKind::Limit(limit)]), WINDOW).unwrap();
    let rules = vec!["rule".into()];
    let mut burden = Burden::new(Snapshot { generation: POLICY, rules, chains: Arc::new(chains) });
    for slot in 0..FLOWS {
        let datagram = packet::datagram(Side::First, handle(slot), &[7; 900]);
        burden.open(slot, Protocol::Udp, &datagram);
        for _ in 0..20 {
            burden.arrive(&datagram);
        }
    }
    assert_eq!(burden.pool.living(), 0);
}
