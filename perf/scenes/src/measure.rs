//! What is measured, and the clock around it.

use std::time::{Duration, Instant};

/// What is measured.
pub trait Scene {
    /// Handles one burst. What prepares it and what cleans up after it is not on the clock.
    fn burst(&mut self) -> Burst;
}

/// Packets that were handled, and how long that took.
#[derive(Copy, Clone, Debug)]
pub struct Burst {
    pub packets: u64,
    pub took: Duration,
}

/// How long `work` takes.
#[inline(never)]
#[expect(clippy::disallowed_methods, reason = "a bench is there to read the clock")]
pub fn time(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// Bursts until at least so many packets were handled.
pub fn run_for(scene: &mut (impl Scene + ?Sized), packets: u64) -> Burst {
    let mut sum = Burst { packets: 0, took: Duration::ZERO };
    while sum.packets < packets {
        let burst = scene.burst();
        sum.packets += burst.packets;
        sum.took += burst.took;
    }
    sum
}
