//! The hand-off between a worker and a proxy core: on one thread, and there and back between two.

use std::process::ExitCode;
use std::thread;

use pnat_perf::frames::PoolFrame;
use pnat_perf::measure::{Allocations, Bench, Burst, Scene, time};
use pnat_shared::loopback::{FromProxy, ToProxy};
use pnat_shared::ring::{Consumer, Producer, ring};
use pnat_shared::time::Instant;

const SLOTS: usize = 1024;
/// Frames on their way between the two threads.
const CIRCLING: usize = 512;
/// Packets per measurement: the clock costs as much as several hand-offs.
const PACKETS: usize = 4096;
const BURST: usize = 32;
/// Looks at an empty ring before the thread gives its core away.
const PATIENCE: u32 = 10_000;

fn main() -> ExitCode {
    let mut bench = Bench::from_args();
    for burst in [1, 8, 32] {
        bench.run(&format!("loopback/one_thread/{burst}"), Allocations::None, || OneThread::new(burst));
    }
    bench.run("loopback/two_threads_both_ways/32", Allocations::None, TwoThreads::new);
    bench.finish()
}

/// Bursts into a ring and out of it again.
struct OneThread {
    producer: Producer<ToProxy<PoolFrame>>,
    consumer: Consumer<ToProxy<PoolFrame>>,
    waiting: Vec<ToProxy<PoolFrame>>,
}

impl OneThread {
    fn new(burst: usize) -> Self {
        let (producer, consumer) = ring(SLOTS);
        let packet = || ToProxy::Packet { frame: PoolFrame::take(), at: Instant::ZERO };
        Self { producer, consumer, waiting: std::iter::repeat_with(packet).take(burst).collect() }
    }
}

impl Scene for OneThread {
    fn burst(&mut self) -> Burst {
        let Self { producer, consumer, waiting } = self;
        let rounds = PACKETS / waiting.len();
        let took = time(|| {
            for _ in 0..rounds {
                producer.push_burst(waiting);
                consumer.pop_burst(BURST, waiting);
            }
        });
        Burst { packets: (rounds * waiting.len()) as u64, took }
    }
}

/// This thread plays the worker, the other one the proxy core, which sends each frame back as it came.
struct TwoThreads {
    forth: Producer<ToProxy<PoolFrame>>,
    back: Consumer<FromProxy<PoolFrame>>,
    sending: Vec<ToProxy<PoolFrame>>,
    received: Vec<FromProxy<PoolFrame>>,
}

impl TwoThreads {
    fn new() -> Self {
        let (forth, mut taken) = ring(SLOTS);
        let (mut returned, back) = ring(SLOTS);
        // Ends when the other end of its ring is gone.
        thread::spawn(move || {
            let mut idle = 0;
            let (mut burst, mut answers) = (Vec::new(), Vec::new());
            while !returned.is_abandoned() {
                wait(taken.pop_burst(BURST, &mut burst), &mut idle);
                answers.extend(burst.drain(..).filter_map(|message| match message {
                    ToProxy::Packet { frame, at } => Some(FromProxy::Packet { frame, at }),
                    ToProxy::Open { .. } | ToProxy::Gone { .. } | ToProxy::Moved { .. } => None,
                }));
                returned.push_burst(&mut answers);
            }
        });
        let packet = || ToProxy::Packet { frame: PoolFrame::take(), at: Instant::ZERO };
        let sending = std::iter::repeat_with(packet).take(CIRCLING).collect();
        Self { forth, back, sending, received: Vec::new() }
    }
}

impl Scene for TwoThreads {
    fn burst(&mut self) -> Burst {
        let Self { forth, back, sending, received } = self;
        let (mut packets, mut idle) = (0, 0);
        let took = time(|| {
            while packets < PACKETS {
                let came = back.pop_burst(BURST, received);
                packets += came;
                sending.extend(received.drain(..).filter_map(|message| match message {
                    FromProxy::Packet { frame, at } => Some(ToProxy::Packet { frame, at }),
                    FromProxy::Closed { .. } | FromProxy::Again { .. } | FromProxy::Retarget { .. } => None,
                }));
                wait(came + forth.push_burst(sending), &mut idle);
            }
        });
        Burst { packets: packets as u64, took }
    }
}

/// Waits a little where nothing was done.
fn wait(done: usize, idle: &mut u32) {
    if done > 0 {
        *idle = 0;
        return;
    }
    *idle += 1;
    if *idle > PATIENCE {
        thread::yield_now();
    } else {
        std::hint::spin_loop();
    }
}
