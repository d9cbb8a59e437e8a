//! Resolution, ageing and strangers, by a clock that the test moves.

use super::*;

const PORT: u8 = 1;
const ADDR: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
const MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);
const OTHER: Mac = Mac([2, 0, 0, 0, 0, 66]);

fn message(operation: arp::Operation, sender_mac: Mac) -> arp::Message {
    let target = Ipv4Addr::new(198, 18, 0, 1);
    arp::Message { operation, sender_mac, sender: ADDR, target_mac: Mac::default(), target }
}

/// A table of packets that are numbers, and a clock.
struct Bench {
    neighbors: Neighbors<u32>,
    now: Instant,
    failed: Vec<(u8, u32)>,
    asks: Vec<Ask>,
}

impl Bench {
    fn new() -> Self {
        let now = Instant::from_secs(100);
        Self { neighbors: Neighbors::new(now), now, failed: Vec::new(), asks: Vec::new() }
    }

    fn resolve(&mut self) -> Hop {
        let hop = self.neighbors.resolve(PORT, ADDR, 0, self.now);
        self.asks.extend(self.neighbors.asks());
        hop
    }

    fn reply(&mut self, mac: Mac) -> (Lesson, Vec<u32>) {
        self.hear(arp::Operation::Reply, mac)
    }

    fn hear(&mut self, operation: arp::Operation, mac: Mac) -> (Lesson, Vec<u32>) {
        let mut released = Vec::new();
        let learnt = self.neighbors.learn(PORT, &message(operation, mac), self.now, &mut released);
        self.asks.extend(self.neighbors.asks());
        (learnt, released)
    }

    fn pass(&mut self, millis: u64) {
        for _ in 0..millis / 100 {
            self.now += Duration::from_millis(100);
            self.neighbors.on_timer(self.now, &mut self.failed);
            self.asks.extend(self.neighbors.asks());
        }
    }

    fn mac(&mut self) -> Option<Mac> {
        match self.resolve() {
            Hop::Known { mac, .. } => Some(mac),
            _ => None,
        }
    }
}

#[test]
fn packets_wait_in_order_and_go_when_the_answer_comes() {
    let mut bench = Bench::new();
    let Hop::Asked { slot } = bench.resolve() else { panic!("not asked") };
    for packet in 0..3 {
        assert_eq!(bench.neighbors.wait(slot, packet), Ok(()));
    }
    assert_eq!(bench.asks, [Ask { port: PORT, target: ADDR, to: Mac::BROADCAST }]);
    assert_eq!(bench.reply(MAC), (Lesson::Believed, vec![0, 1, 2]));
    assert_eq!(bench.neighbors.waiting(), 0);
    assert_eq!(bench.mac(), Some(MAC));
    assert_eq!(bench.asks.len(), 1);
}

#[test]
fn the_newest_packet_is_dropped_where_too_many_wait() {
    let mut bench = Bench::new();
    let Hop::Asked { slot } = bench.resolve() else { panic!("not asked") };
    let refused: Vec<u32> = (0..40).filter_map(|n| bench.neighbors.wait(slot, n).err()).collect();
    assert_eq!(refused, (32..40).collect::<Vec<u32>>());
}

#[test]
fn who_does_not_answer_three_questions_is_unreachable_for_a_while() {
    let mut bench = Bench::new();
    let Hop::Asked { slot } = bench.resolve() else { panic!("not asked") };
    bench.neighbors.wait(slot, 7).unwrap();
    bench.pass(3_500);
    assert_eq!(bench.asks.len(), 3);
    assert_eq!(bench.failed, [(PORT, 7)]);
    assert_eq!(bench.resolve(), Hop::Failed);
    bench.pass(3_500);
    assert!(matches!(bench.resolve(), Hop::Asked { .. }), "asked again after the pause");
}

#[test]
fn a_neighbor_is_probed_by_unicast_when_used_after_thirty_seconds() {
    let mut bench = Bench::new();
    bench.resolve();
    bench.reply(MAC);
    bench.asks.clear();
    bench.pass(31_000);
    assert!(bench.asks.is_empty(), "an idle neighbor is left in peace");
    assert_eq!(bench.mac(), Some(MAC), "packets still go there");
    assert_eq!(bench.asks, [Ask { port: PORT, target: ADDR, to: MAC }]);
    bench.reply(MAC);
    bench.pass(5_000);
    assert_eq!(bench.asks.len(), 1, "the answer ends the probe");
}

#[test]
fn a_probe_without_answer_ends_in_a_question_to_all() {
    let mut bench = Bench::new();
    bench.resolve();
    bench.reply(MAC);
    bench.pass(31_000);
    bench.asks.clear();
    bench.resolve();
    bench.pass(3_500);
    assert_eq!(bench.asks.iter().filter(|ask| ask.to == MAC).count(), 3);
    assert_eq!(bench.asks.last().map(|ask| ask.to), Some(Mac::BROADCAST));
    assert_eq!(bench.reply(OTHER), (Lesson::Believed, vec![]));
    assert_eq!(bench.mac(), Some(OTHER), "the station has moved");
}

#[test]
fn an_answer_nobody_asked_for_is_a_strangers() {
    let mut bench = Bench::new();
    assert_eq!(bench.reply(MAC).0, Lesson::Unasked);
    assert!(matches!(bench.resolve(), Hop::Asked { .. }), "nothing was learnt");
}

#[test]
fn a_known_station_is_not_displaced_by_a_claim() {
    let mut bench = Bench::new();
    bench.resolve();
    bench.reply(MAC);
    for operation in [arp::Operation::Reply, arp::Operation::Request] {
        assert_eq!(bench.hear(operation, OTHER).0, Lesson::Refused);
        assert_eq!(bench.mac(), Some(MAC));
    }
    assert_eq!(bench.asks.last().map(|ask| ask.to), Some(MAC), "but the old one is asked");
}

#[test]
fn who_asks_for_us_is_known_and_probed_when_used() {
    let mut bench = Bench::new();
    bench.hear(arp::Operation::Request, MAC);
    assert!(bench.asks.is_empty());
    assert_eq!(bench.mac(), Some(MAC));
    assert_eq!(bench.asks, [Ask { port: PORT, target: ADDR, to: MAC }]);
}

#[test]
fn a_neighbor_without_use_is_forgotten() {
    let mut bench = Bench::new();
    bench.resolve();
    bench.reply(MAC);
    bench.pass(601_000);
    assert!(matches!(bench.resolve(), Hop::Asked { .. }));
}

#[test]
fn a_scan_of_a_large_prefix_is_bounded() {
    let mut bench = Bench::new();
    let asked = (0..20_000u32)
        .filter(|n| {
            let addr = Ipv4Addr::from_bits(0x0a00_0000 + n);
            matches!(bench.neighbors.resolve(PORT, addr, 0, bench.now), Hop::Asked { .. })
        })
        .count();
    assert_eq!(asked, MAX_ASKED);
    bench.pass(8_000);
    assert!(matches!(bench.resolve(), Hop::Asked { .. }), "and is over soon");
}

#[test]
fn a_full_table_forgets_who_is_not_in_use() {
    let mut bench = Bench::new();
    for n in 0..CAPACITY as u32 + 10 {
        let sender = Ipv4Addr::from_bits(0x0a00_0000 + n);
        let asks = arp::Message { sender, ..message(arp::Operation::Request, MAC) };
        bench.neighbors.learn(PORT, &asks, bench.now, &mut Vec::new());
        bench.now += Duration::from_millis(10);
    }
    assert!(bench.neighbors.slots.len() <= CAPACITY);
    let newest = Ipv4Addr::from_bits(0x0a00_0000 + CAPACITY as u32 + 9);
    assert!(matches!(bench.neighbors.resolve(PORT, newest, 0, bench.now), Hop::Known { .. }));
}

#[test]
fn strangers_that_introduce_themselves_at_once_take_no_room_from_neighbors_in_use() {
    let mut bench = Bench::new();
    bench.now = Instant::from_secs(1);
    bench.resolve();
    bench.reply(MAC);
    for n in 0..2 * CAPACITY as u32 {
        let sender = Ipv4Addr::from_bits(0x0a00_0000 + n);
        let asks = arp::Message { sender, ..message(arp::Operation::Request, OTHER) };
        bench.neighbors.learn(PORT, &asks, bench.now, &mut Vec::new());
    }
    assert_eq!(bench.mac(), Some(MAC));
    let unknown = Ipv4Addr::new(198, 18, 0, 77);
    assert!(matches!(bench.neighbors.resolve(PORT, unknown, 0, bench.now), Hop::Asked { .. }));
}
