//! What the guard counts: some of the benches' scenes, warmed up and then run for a fixed number of packets.
//!
//! A program that valgrind watches runs one row. Its costs are thrown away when [`counted`] is entered, and collected only
//! within [`time`](crate::measure::time): by these two names callgrind is told what to count.

use std::sync::Arc;

use pnat_shared::config::Action;

use crate::connection::Connections;
use crate::filters::{Pass, Scan, chains};
use crate::measure::{Scene, run_for};
use crate::nat::{Hit, Miss};
use crate::pair::Pairs;
use crate::tcp::{In, Out};

/// A scene, and for how long it runs. Valgrind takes some fifty times as long as the machine, so the numbers are small: in
/// memory and in order, packet after packet costs the same.
#[derive(Copy, Clone, Debug)]
pub struct Row {
    /// As its bench is called.
    pub name: &'static str,
    /// What is counted: a packet, as a rule.
    pub unit: &'static str,
    warm_up: u64,
    packets: u64,
    make: fn() -> Box<dyn Scene>,
}

/// Packets, unless a row says otherwise.
const WARM_UP: u64 = 1_024;
const PACKETS: u64 = 4_096;

const ROW: Row =
    Row { name: "", unit: "packet", warm_up: WARM_UP, packets: PACKETS, make: || Box::new(Hit::new(1)) };

/// All rows, in the order of the benches.
pub const ROWS: [Row; 9] = [
    Row { name: "nat_hit/1k", make: || Box::new(Hit::new(1_000)), ..ROW },
    Row { name: "nat_miss/translated", make: || Box::new(Miss::new(Action::Nat)), ..ROW },
    Row { name: "nat_miss/proxied", make: || Box::new(Miss::new(Action::Proxy)), ..ROW },
    Row { name: "tcp/segment_in", unit: "segment", make: || Box::new(In::open()), ..ROW },
    Row { name: "tcp/segment_out", unit: "segment", make: || Box::new(Out::open()), ..ROW },
    Row { name: "pair/pass/1", unit: "segment", make: || pairs(1), ..ROW },
    // Each flow comes once to warm up, and once to be counted.
    Row { name: "pair/pass/10k", unit: "segment", warm_up: 20_000, packets: 20_000, make: || pairs(10_000) },
    Row {
        name: "pair/scan/1k",
        unit: "segment",
        make: || Box::new(Pairs::new(1_000, chains(Some(Arc::new(Scan))))),
        ..ROW
    },
    Row {
        name: "pair/connection",
        unit: "connection",
        warm_up: 256,
        packets: 512,
        make: || Box::new(Connections::default()),
    },
];

fn pairs(flows: usize) -> Box<dyn Scene> {
    Box::new(Pairs::new(flows, chains(Some(Arc::new(Pass)))))
}

impl Row {
    /// The row of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        ROWS.iter().find(|row| row.name == name)
    }

    /// Runs the row; answers how many packets were handled while they counted.
    pub fn run(&self) -> u64 {
        let mut scene = (self.make)();
        run_for(scene.as_mut(), self.warm_up);
        counted(scene.as_mut(), self.packets)
    }
}

#[inline(never)]
fn counted(scene: &mut dyn Scene, packets: u64) -> u64 {
    run_for(scene, packets).packets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_handles_what_it_is_to_count() {
        for row in ROWS.iter().filter(|row| row.packets == PACKETS) {
            let packets = row.run();
            assert!((row.packets..row.packets + 64).contains(&packets), "{}: {packets}", row.name);
        }
    }
}
