//! What the reactor does for many flows at once, and when something is wrong.

mod support;

use pnat_proxy::reactor::{Outputs, Snapshot};
use pnat_shared::config::Proxy;
use pnat_shared::flow::{Handle, Protocol, Side, WorkerId};
use pnat_shared::frame::Frame;
use pnat_shared::loopback::{FromProxy, ToProxy};
use pnat_shared::stats::Stage;
use pnat_shared::testkit::VecFrame;
use pnat_shared::time::{Duration, Instant};
use pnat_shared::verdict::{CloseReason, DropReason};
use pnat_shared::wire::tcp::{Flags, Header, Seq};
use support::filters::obedient;
use support::{POLICY, Rig, handle, new_flow, packet, policy, settings};

fn syn(handle: Handle) -> VecFrame {
    let header = Header { seq: Seq(100), flags: Flags::SYN, window: 1000, ..Header::default() };
    packet::segment(Side::First, handle, header, &[])
}

fn query(handle: Handle, payload: &[u8]) -> VecFrame {
    packet::datagram(Side::First, handle, payload)
}

fn open_udp(rig: &mut Rig, slot: u32, payload: &[u8]) {
    rig.open(handle(slot), Protocol::Udp, query(handle(slot), payload));
}

#[test]
fn a_panicking_pair_is_reset_and_the_others_live() {
    let (filter, _ends) = obedient();
    let mut rig = Rig::new(vec![filter]);
    for slot in 0..3 {
        rig.open(handle(slot), Protocol::Tcp, syn(handle(slot)));
    }
    rig.burst();
    for slot in 0..3 {
        let header = Header {
            seq: Seq(900),
            ack: Seq(101),
            flags: Flags::SYN.with(Flags::ACK),
            window: 1000,
            ..Header::default()
        };
        rig.packet(packet::segment(Side::Second, handle(slot), header, &[]));
    }
    rig.burst();
    rig.take();
    for (slot, text) in [(0, &b"fine"[..]), (1, b"panic"), (2, b"fine")] {
        let header =
            Header { seq: Seq(101), ack: Seq(901), flags: Flags::ACK, window: 1000, ..Header::default() };
        rig.packet(packet::segment(Side::First, handle(slot), header, text));
    }
    rig.burst();
    let told = rig.told();
    let count = |start: &str| told.iter().filter(|words| words.starts_with(start)).count();
    assert_eq!(count("server ACK seq=101 ack=901"), 2, "{told:?}");
    assert_eq!((count("server RST"), count("client RST"), count("closed internal")), (1, 1, 1), "{told:?}");
    let stats = rig.reactor.stats();
    assert_eq!((stats.panics.value(), stats.open_tcp.value(), rig.reactor.len()), (1, 2, 2));
    assert_eq!(stats.closes.value(CloseReason::Internal), 1);
}

#[test]
fn a_datagram_that_panics_ends_its_association_only() {
    let (filter, _ends) = obedient();
    let mut rig = Rig::new(vec![filter]);
    open_udp(&mut rig, 0, b"panic");
    open_udp(&mut rig, 1, b"fine");
    rig.burst();
    assert_eq!(rig.told(), ["closed internal", "server UDP len=4 data=fine"]);
}

#[test]
fn what_a_panicking_pair_left_half_done_reaches_no_other_flow() {
    let (filter, _ends) = obedient();
    let mut rig = Rig::new(vec![filter]);
    open_udp(&mut rig, 0, b"delay");
    rig.packet(query(handle(0), b"panic"));
    open_udp(&mut rig, 1, b"fine");
    rig.burst();
    assert_eq!(rig.told(), ["server UDP len=4 data=fine"]);
    rig.pass(Duration::from_millis(110));
    assert_eq!(rig.told(), ["closed internal"]);
    rig.packet(query(handle(1), b"fine"));
    rig.burst();
    assert_eq!(rig.told(), ["server UDP len=4 data=fine"]);
}

#[test]
fn a_packet_of_an_ended_flow_is_stale_although_its_slot_is_used_again() {
    let mut rig = Rig::new(vec![]);
    let old = Handle { generation: 2, ..handle(0) };
    open_udp(&mut rig, 0, b"new");
    rig.burst();
    rig.packet(query(old, b"late"));
    rig.burst();
    assert_eq!(rig.told(), ["server UDP len=3 data=new"]);
    assert_eq!(rig.reactor.stats().drops.value(DropReason::StaleHandle), 1);
}

#[test]
fn a_flow_takes_over_the_slot_of_one_whose_end_was_lost() {
    let mut rig = Rig::new(vec![]);
    open_udp(&mut rig, 0, b"old");
    rig.burst();
    rig.take();
    let next = Handle { generation: 4, ..handle(0) };
    rig.open(next, Protocol::Udp, query(next, b"new"));
    rig.burst();
    assert_eq!(rig.told(), ["closed resources", "server UDP len=3 data=new"]);
    assert_eq!(rig.reactor.len(), 1);
}

#[test]
fn new_flows_beyond_the_limit_are_refused_and_old_ones_live() {
    let mut rig = Rig::with(&Proxy { pairs: 2, ..settings() }, vec![]);
    for slot in 0..3 {
        open_udp(&mut rig, slot, b"query");
    }
    rig.packet(query(handle(0), b"again"));
    rig.burst();
    let told = rig.told();
    assert_eq!(told.iter().filter(|words| words.starts_with("server UDP")).count(), 3, "{told:?}");
    assert!(told.contains(&"closed resources".to_owned()));
    assert_eq!(rig.reactor.stats().drops.value(DropReason::PairLimit), 1);
}

#[test]
fn a_flow_of_an_unknown_policy_is_refused() {
    let mut rig = Rig::new(vec![]);
    let mut out = Outputs::new(1);
    let mut flow = new_flow(handle(0), Protocol::Udp, rig.now);
    flow.policy = POLICY + 1;
    let mut input = vec![ToProxy::Open { frame: query(handle(0), b"x"), at: rig.now, flow }];
    rig.reactor.on_burst(&mut input, &mut rig.pool, rig.now, &mut out);
    assert!(matches!(out.worker(WorkerId(0))[..], [FromProxy::Closed { reason: CloseReason::Reload, .. }]));
    assert_eq!(rig.reactor.stats().unknown_policy.value(), 1);
}

#[test]
fn open_flows_keep_their_chain_when_the_policy_changes() {
    let (filter, _ends) = obedient();
    let mut rig = Rig::new(vec![filter]);
    open_udp(&mut rig, 0, b"double");
    rig.burst();
    for generation in POLICY + 1..POLICY + 5 {
        rig.reactor.set_policy(Snapshot { generation, ..policy(vec![]) }, generation);
    }
    rig.packet(query(handle(0), b"double"));
    rig.burst();
    assert_eq!(rig.told(), ["server UDP len=12 data=doubledouble"; 2]);
    // With the last of its flows the old policy goes.
    rig.gone(handle(0), CloseReason::Operator);
    open_udp(&mut rig, 1, b"double");
    rig.burst();
    assert_eq!(rig.told(), ["closed operator", "closed reload"]);
}

#[test]
fn a_first_packet_that_names_another_flow_is_refused() {
    let mut rig = Rig::new(vec![]);
    rig.open(handle(0), Protocol::Udp, query(handle(1), b"x"));
    rig.open(handle(2), Protocol::Tcp, query(handle(2), b"x"));
    rig.burst();
    assert_eq!(rig.told(), ["closed malformed"; 2]);
}

#[test]
fn what_a_short_frame_was_padded_with_does_not_pass() {
    let mut rig = Rig::new(vec![]);
    let mut frame = query(handle(0), b"x");
    frame.resize(60);
    rig.open(handle(0), Protocol::Udp, frame);
    rig.burst();
    assert_eq!(rig.told(), ["server UDP len=1 data=x"]);
}

/// A frame with one bit turned over.
fn damaged(mut frame: VecFrame, at: usize) -> VecFrame {
    frame.data_mut()[at] ^= 0x40;
    frame
}

#[test]
fn wrong_checksums_are_counted_and_open_nothing() {
    let mut rig = Rig::new(vec![]);
    rig.open(handle(0), Protocol::Udp, damaged(query(handle(0), b"query"), 44));
    rig.open(handle(1), Protocol::Tcp, damaged(syn(handle(1)), 48));
    rig.burst();
    assert_eq!(rig.told(), ["closed malformed"; 2]);
    open_udp(&mut rig, 0, b"query");
    rig.burst();
    rig.take();
    let about = packet::datagram(Side::First, handle(0), b"query");
    rig.packet(damaged(about, 45));
    rig.burst();
    assert!(rig.take().is_empty());
    assert_eq!(rig.reactor.stats().drops.value(DropReason::L4Checksum), 3);
}

#[test]
fn garbage_is_dropped_with_a_reason_whatever_it_is() {
    let mut rig = Rig::new(vec![]);
    open_udp(&mut rig, 0, b"query");
    rig.open(handle(1), Protocol::Tcp, syn(handle(1)));
    rig.burst();
    rig.take();
    let before: u64 = DropReason::ALL.iter().map(|reason| rig.reactor.stats().drops.value(*reason)).sum();
    let whole = syn(handle(1));
    for len in 0..whole.data().len() {
        rig.packet(VecFrame::new(&whole.data()[..len]));
    }
    for byte in 14..whole.data().len() {
        rig.packet(damaged(whole.clone(), byte));
    }
    // A datagram for a TCP pair, and the reverse.
    rig.packet(query(handle(1), b"x"));
    rig.packet(syn(handle(0)));
    rig.burst();
    let stats = rig.reactor.stats();
    let dropped: u64 = DropReason::ALL.iter().map(|reason| stats.drops.value(*reason)).sum::<u64>() - before;
    assert_eq!(dropped, (2 * whole.data().len() - 14 + 2) as u64);
    assert_eq!((rig.reactor.len(), stats.panics.value()), (2, 0));
}

#[test]
fn draining_refuses_new_flows_lets_old_ones_go_on_and_aborts_what_is_left() {
    let (filter, ends) = obedient();
    let mut rig = Rig::new(vec![filter]);
    open_udp(&mut rig, 0, b"query");
    rig.open(handle(1), Protocol::Tcp, syn(handle(1)));
    rig.burst();
    rig.take();
    rig.reactor.drain(rig.now + Duration::from_millis(500));
    open_udp(&mut rig, 2, b"new");
    rig.packet(query(handle(0), b"more"));
    rig.burst();
    assert_eq!(rig.told(), ["closed shutdown", "server UDP len=4 data=more"]);
    assert_eq!(rig.reactor.stats().drops.value(DropReason::Draining), 1);
    rig.pass(Duration::from_millis(400));
    assert_eq!(rig.reactor.len(), 2);
    rig.pass(Duration::from_millis(200));
    assert!(rig.reactor.is_empty());
    let reasons: Vec<_> = ends.try_iter().map(|end| end.summary.reason).collect();
    assert_eq!(reasons, [CloseReason::Shutdown; 2]);
    assert_eq!(rig.told().iter().filter(|words| *words == "closed shutdown").count(), 2);
}

#[test]
fn the_wait_in_the_ring_and_residence_are_measured_per_packet() {
    let mut rig = Rig::new(vec![]);
    let micros = Duration::from_micros;
    let start = rig.now;
    let mut input: Vec<_> = (0..3)
        .map(|slot| ToProxy::Open {
            frame: query(handle(slot), b"x"),
            at: start,
            flow: new_flow(handle(slot), Protocol::Udp, start),
        })
        .collect();
    rig.reactor.on_burst(&mut input, &mut rig.pool, start + micros(100), &mut rig.out);
    rig.out.stamp(start + micros(130));
    rig.reactor.handed_on(start + micros(130));
    let latency = rig.reactor.latency();
    let (wait, stay) = (latency.stage(Stage::RingIn), latency.stage(Stage::Proxy));
    assert_eq!((wait.len(), stay.len()), (3, 3));
    assert!((99_000..101_000).contains(&wait.max()), "{}", wait.max());
    assert!((29_500..30_500).contains(&stay.max()), "{}", stay.max());
    // What was handed on stays so, however long it waits for room in the ring.
    rig.out.stamp(start + micros(200));
    for message in rig.take() {
        assert!(matches!(message, FromProxy::Packet { at, .. } if at == start + micros(130)));
    }
}

#[test]
fn what_a_filter_delayed_is_no_residence_of_the_reactor() {
    let (filter, _ends) = obedient();
    let mut rig = Rig::new(vec![filter]);
    open_udp(&mut rig, 0, b"delay");
    rig.burst();
    rig.pass(Duration::from_millis(110));
    assert_eq!(rig.take().len(), 1);
    assert_eq!(rig.reactor.latency().stage(Stage::Proxy).len(), 0);
}

#[test]
fn a_servers_answer_is_measured_as_connect_time() {
    let mut rig = Rig::new(vec![]);
    rig.open(handle(0), Protocol::Tcp, syn(handle(0)));
    rig.burst();
    rig.pass(Duration::from_millis(20));
    let header = Header {
        seq: Seq(900),
        ack: Seq(101),
        flags: Flags::SYN.with(Flags::ACK),
        window: 1000,
        ..Header::default()
    };
    rig.packet(packet::segment(Side::Second, handle(0), header, &[]));
    rig.burst();
    let connect = rig.reactor.latency().stage(Stage::Connect);
    assert_eq!(connect.len(), 1);
    assert!((19_800_000..20_300_000).contains(&connect.max()), "{}", connect.max());
}

#[test]
fn flows_are_listed_with_their_names_and_counts() {
    let mut rig = Rig::new(vec![]);
    open_udp(&mut rig, 5, b"query");
    rig.burst();
    rig.now += Duration::from_secs(3);
    let now = rig.now;
    let views: Vec<_> = rig.reactor.pairs(now).collect();
    let [view] = views.as_slice() else { panic!("one pair: {views:?}") };
    assert_eq!((view.handle, view.states, view.bytes), (handle(5), None, [5, 0]));
    assert_eq!((view.packets, view.held, view.age), ([1, 0], 0, Duration::from_secs(3)));
    assert_eq!(view.flow.rule.as_deref(), Some("rule"));
    assert_eq!(view.flow.client.ip().to_string(), "10.0.0.6");
}

#[test]
fn one_call_visits_a_bounded_number_of_pairs_and_the_next_calls_the_rest() {
    let mut rig = Rig::new(vec![]);
    let mut out = Outputs::new(1);
    let count = 600;
    for slot in 0..count {
        rig.open(handle(slot), Protocol::Tcp, syn(handle(slot)));
    }
    rig.burst_once(&mut out);
    let first = out.worker(WorkerId(0)).len();
    assert!(first < count as usize, "{first} of {count} in one call");
    assert_eq!(rig.reactor.deadline(), Instant::ZERO);
    for _ in 0..10 {
        rig.burst_once(&mut out);
    }
    assert_eq!(out.worker(WorkerId(0)).len(), count as usize);
    assert!(rig.reactor.deadline() > rig.now);
}

#[test]
fn a_reactor_may_move_to_its_core() {
    fn moves<T: Send>(_: &T) {}
    moves(&Rig::new(vec![]).reactor);
}

#[test]
fn pairs_wait_while_a_worker_takes_nothing() {
    let mut rig = Rig::with(&Proxy { ring: 8, ..settings() }, vec![]);
    let mut out = Outputs::new(1);
    for slot in 0..20 {
        rig.open(handle(slot), Protocol::Tcp, syn(handle(slot)));
    }
    rig.burst_once(&mut out);
    rig.burst_once(&mut out);
    assert_eq!(out.worker(WorkerId(0)).len(), 8);
    assert_eq!(rig.reactor.deadline(), Instant::ZERO);
    out.worker(WorkerId(0)).clear();
    rig.burst_once(&mut out);
    assert_eq!(out.worker(WorkerId(0)).len(), 8);
}

#[test]
fn shedding_drops_packets_but_no_word_of_a_flows_end() {
    let mut rig = Rig::new(vec![]);
    for slot in 0..4 {
        open_udp(&mut rig, slot, b"x");
    }
    rig.gone(handle(3), CloseReason::Operator);
    rig.burst();
    assert_eq!(rig.out.shed(WorkerId(0), 1), 3);
    assert_eq!(rig.told(), ["server UDP len=1 data=x", "closed operator"]);
    assert_eq!(rig.out.shed(WorkerId(0), 1), 0);
}
