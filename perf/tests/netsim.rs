//! The table of bad paths says what the engine does: a few of its rows, computed anew.

use pnat_perf::netsim::cell::{Algorithm, Cell, Queue};
use pnat_perf::netsim::flow;
use pnat_perf::netsim::table::{Table, Whose};

/// How far a figure may be off. The simulation repeats itself exactly, but a change of the engine that only shifts what a
/// seed loses is no reason to compute the table anew.
const BAND: f64 = 0.1;

/// Goodput, and the median and 90th percentile by size; the 99th hangs on a handful of flows.
const COMPARED: [usize; 7] = [0, 1, 2, 4, 5, 7, 8];

fn table() -> Table {
    Table::read(include_str!("../snapshots/netsim.txt"))
}

#[test]
fn the_table_of_bad_paths_is_up_to_date() {
    for (loss, rtt, reordered) in [(10, 20, false), (10, 100, true), (30, 20, true)] {
        let cell = Cell { loss, rtt, reordered, queue: Queue::Deep };
        let row = table().row(Algorithm::Cubic, cell, Whose::Ours).expect("a row of ours").values();
        let now = flow::measure(Algorithm::Cubic, cell).values();
        for n in COMPARED {
            let off = (now[n] / row[n] - 1.0).abs();
            let command = "cargo run --release -p pnat-perf --bin netsim ours";
            assert!(off <= BAND, "{cell}: value {n} is {:.2}, not {:.2}; {command}", now[n], row[n]);
        }
    }
}

#[test]
fn every_cell_of_the_table_was_measured_with_both() {
    let table = table();
    for algorithm in Algorithm::ALL {
        for cell in Cell::all() {
            for whose in [Whose::Ours, Whose::Linux] {
                assert!(table.row(algorithm, cell, whose).is_some(), "{} {cell} {whose:?}", algorithm.name());
            }
        }
    }
}
