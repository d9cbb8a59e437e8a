//! The worker's step, from parsing to the output queue: packets of known flows, and packets that open flows.

use std::process::ExitCode;

use pnat_perf::measure::{Allocations, Bench};
use pnat_scenes::nat::{Hit, Miss};
use pnat_shared::config::Action;

fn main() -> ExitCode {
    let mut bench = Bench::from_args();
    for (name, flows) in [("nat_hit/1k", 1_000), ("nat_hit/64k", 64_000), ("nat_hit/1M", 1_000_000)] {
        bench.run(name, Allocations::None, || Hit::new(flows));
    }
    // Each time all flows have expired the router is asked for anew, which allocates its queue.
    bench.run("nat_miss/translated", Allocations::Told, || Miss::new(Action::Nat));
    bench.run("nat_miss/proxied", Allocations::Told, || Miss::new(Action::Proxy));
    bench.finish()
}
