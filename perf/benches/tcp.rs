//! One TCP endpoint: full segments that come in, and full segments that go out.

use std::process::ExitCode;

use pnat_perf::measure::{Allocations, Bench};
use pnat_scenes::tcp::{In, Out};

fn main() -> ExitCode {
    let mut bench = Bench::from_args();
    bench.run("tcp/segment_in", Allocations::None, In::open);
    bench.run("tcp/segment_out", Allocations::None, Out::open);
    bench.finish()
}
