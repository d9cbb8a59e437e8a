//! What an idle pair costs, all in, as a counting allocator sees it: its place in the reactor's tables, both sockets, a
//! chain of usual filters, what its queues still have room for, its timer, its client's account.

mod support;

use std::path::PathBuf;
use std::sync::Arc;

use pnat_proxy::filter::Chains;
use pnat_proxy::reactor::Snapshot;
use pnat_shared::config::{BlockAnswer, BlockFilter, FilterKind, LogFilter, Proxy};
use pnat_shared::flow::{Protocol, Side};
use pnat_shared::time::Duration;
use support::{POLICY, Rig, handle, packet, policy_of, settings};

const PAIRS: u32 = 2000;
/// How long after its last segment a pair gives spare memory back, and a little more.
const SETTLED: Duration = Duration::from_secs(6);
/// Bytes that an idle pair may cost on its proxy core, with usual filters and without: of that some 150 are what tables have
/// room for beyond these few pairs. A worker's binding comes on top (`cargo bench --bench scale` tells its size).
const LIMIT: i64 = 2432;
const LIMIT_BARE: i64 = 1800;

/// Log every flow, block some names: what most rules do.
fn usual_filters() -> Snapshot {
    let log = LogFilter { path: PathBuf::from("/dev/null"), content_dir: None, content_cap: 0 };
    let block = BlockFilter {
        patterns: vec![],
        hosts: vec!["blocked.example".to_owned()],
        sni: vec!["blocked.example".to_owned()],
        answer: BlockAnswer::Reset,
    };
    let policy = policy_of([FilterKind::Log(log), FilterKind::Block(block)]);
    let chains = Chains::compile(&policy, 1 << 20).expect("these filters compile");
    Snapshot { generation: POLICY, rules: vec!["rule".into()], chains: Arc::new(chains) }
}

struct World {
    rig: Rig,
}

impl World {
    fn new(snapshot: Snapshot) -> Self {
        let settings = Proxy { pairs: PAIRS, window: 1 << 20, ..settings() };
        let mut rig = Rig::with(&settings, vec![]);
        rig.reactor.set_policy(snapshot, POLICY);
        Self { rig }
    }

    fn segment(&mut self, slot: u32, side: Side, words: &str) {
        let (header, payload) = packet::parse_segment(&words.split_whitespace().collect::<Vec<_>>());
        self.rig.packet(packet::segment(side, handle(slot), header, &payload));
        self.rig.burst();
        self.rig.take();
    }

    fn connect(&mut self, slot: u32) {
        let options = "mss=1460 ws=7 sack ts=1/0".split_whitespace();
        let words: Vec<_> = ["SYN", "seq=100"].into_iter().chain(options).collect();
        let (syn, _) = packet::parse_segment(&words);
        self.rig.open(handle(slot), Protocol::Tcp, packet::segment(Side::First, handle(slot), syn, &[]));
        self.rig.burst();
        self.rig.take();
        self.segment(slot, Side::Second, "SYN ACK seq=900 ack=101 mss=1460 ws=7 sack ts=1/1");
        self.segment(slot, Side::First, "ACK seq=101 ack=901 ts=1/1");
    }

    /// A request and an answer, both in several segments, of which two change places; all is acknowledged. `turn`: how often
    /// that was done before.
    fn exchange(&mut self, slot: u32, turn: u32) {
        let (first, second) = (101 + turn * 3 * 1400, 901 + turn * 8 * 1400);
        for (side, seq, ack, segments) in
            [(Side::First, first, second, 3), (Side::Second, second, first + 3 * 1400, 8)]
        {
            for n in [1, 0].into_iter().chain(2..segments) {
                self.segment(slot, side, &format!("ACK seq={} ack={ack} ts=2/1 zeros=1400", seq + n * 1400));
            }
            self.segment(slot, !side, &format!("ACK seq={ack} ack={} ts=2/1", seq + segments * 1400));
        }
    }

    fn kept(&self) -> u64 {
        self.rig.reactor.stats().kept.value()
    }
}

/// Bytes per pair that are allocated after `live`, the reactor's own included.
fn cost(snapshot: Snapshot, live: impl FnOnce(&mut World)) -> i64 {
    let mut world = None;
    let counted = allocation_counter::measure(|| {
        let mut new = World::new(snapshot);
        live(&mut new);
        world = Some(new);
    });
    let world = world.expect("it was made");
    assert_eq!((world.rig.reactor.len(), world.kept()), (PAIRS as usize, 0), "all are open and idle");
    counted.bytes_current / i64::from(PAIRS)
}

#[test]
fn an_idle_pair_with_usual_filters_costs_little_before_and_after_data_has_flowed() {
    let opened = cost(usual_filters(), |world| {
        (0..PAIRS).for_each(|slot| world.connect(slot));
        world.rig.pass(SETTLED);
    });
    let used = cost(usual_filters(), |world| {
        for slot in 0..PAIRS {
            world.connect(slot);
            world.exchange(slot, 0);
        }
        world.rig.pass(SETTLED);
    });
    let again = cost(usual_filters(), |world| {
        (0..PAIRS).for_each(|slot| world.connect(slot));
        for turn in 0..2 {
            (0..PAIRS).for_each(|slot| world.exchange(slot, turn));
            world.rig.pass(SETTLED);
        }
    });
    assert!(
        opened.max(used).max(again) <= LIMIT,
        "bytes per pair: {opened} opened, {used} used and idle, {again} used twice"
    );
}

#[test]
fn an_idle_pair_without_filters_costs_less() {
    let bytes = cost(support::policy(vec![]), |world| {
        for slot in 0..PAIRS {
            world.connect(slot);
            world.exchange(slot, 0);
        }
        world.rig.pass(SETTLED);
    });
    assert!(bytes <= LIMIT_BARE, "{bytes} bytes per pair");
}
