//! Measuring: nanoseconds per packet by criterion, allocations per packet by a counting allocator, ratios by turns.

use std::process::ExitCode;
use std::time::Duration;

use criterion::Criterion;
pub use pnat_scenes::measure::{Burst, Scene, run_for, time};

/// Packets that warm a scene up before its allocations are counted, and packets that are counted.
const WARM_UP: u64 = 100_000;
const COUNTED: u64 = 100_000;
/// How a ratio is measured: each side by turns, for so long, and the median counts.
const TURNS: usize = 15;
const TURN: Duration = Duration::from_millis(20);

/// What is said about a scene's allocations.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Allocations {
    /// There are none: one is a failure of the bench.
    None,
    /// They are only told.
    Told,
}

/// A bench program.
#[expect(missing_debug_implementations, reason = "criterion's own has none")]
pub struct Bench {
    criterion: Criterion,
    failed: bool,
}

impl Bench {
    /// Reads criterion's arguments.
    pub fn from_args() -> Self {
        let criterion = Criterion::default()
            .sample_size(10)
            .warm_up_time(Duration::from_millis(300))
            .measurement_time(Duration::from_secs(1))
            .configure_from_args();
        Self { criterion, failed: false }
    }

    /// Measures a scene, where the arguments ask for it; answers it, warm, for a comparison. An iteration is a packet.
    pub fn run<S: Scene>(
        &mut self,
        name: &str,
        promise: Allocations,
        make: impl FnOnce() -> S,
    ) -> Option<(String, S)> {
        let (mut make, mut made) = (Some(make), None);
        self.criterion.bench_function(name, |bencher| {
            if let Some(make) = make.take() {
                made = Some(make());
            }
            if let Some(scene) = &mut made {
                bencher.iter_custom(|packets| {
                    let burst = run_for(scene, packets);
                    burst.took.mul_f64(packets as f64 / burst.packets as f64)
                });
            }
        });
        let mut scene = made?;
        run_for(&mut scene, WARM_UP);
        let mut packets = 0;
        let counted = allocation_counter::measure(|| packets = run_for(&mut scene, COUNTED).packets);
        let each = counted.count_total as f64 / packets as f64;
        let broken = promise == Allocations::None && counted.count_total > 0;
        self.failed |= broken;
        tell(&format!(
            "{name}: {each:.3} allocations per packet{}",
            if broken { ", but none were promised" } else { "" }
        ));
        Some((name.to_owned(), scene))
    }

    /// Says how much time one scene takes of another's, where both were measured.
    pub fn compare<A: Scene, B: Scene>(
        &self,
        ours: &mut Option<(String, A)>,
        theirs: &mut Option<(String, B)>,
    ) {
        let (Some((ours, our_scene)), Some((theirs, their_scene))) = (ours, theirs) else { return };
        let mut turns: [Vec<f64>; 2] = Default::default();
        for _ in 0..TURNS {
            turns[0].push(turn(our_scene));
            turns[1].push(turn(their_scene));
        }
        let [our_time, their_time] = turns.map(median);
        tell(&format!(
            "{ours} takes {:.2} of {theirs}: {our_time:.0} to {their_time:.0} ns, medians of {TURNS} by turns",
            our_time / their_time
        ));
    }

    /// Ends the program: a failure where a promise was broken.
    pub fn finish(self) -> ExitCode {
        self.criterion.final_summary();
        if self.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}

/// Nanoseconds per packet over one turn.
fn turn(scene: &mut impl Scene) -> f64 {
    let mut sum = Burst { packets: 0, took: Duration::ZERO };
    while sum.took < TURN {
        let burst = scene.burst();
        sum.packets += burst.packets;
        sum.took += burst.took;
    }
    sum.took.as_nanos() as f64 / sum.packets as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Prints what a bench found out.
#[expect(clippy::print_stdout, reason = "beside criterion's own lines")]
pub fn tell(line: &str) {
    println!("{line}\n");
}
