//! Runs against the same data sent segment by segment.

use pnat_shared::config::CongestionControl;
use pnat_shared::flow::Offloads;
use pnat_shared::testkit::{Random, VecFrame, VecPool, nic};
use pnat_shared::wire::checksum::Sum;

use super::*;
use crate::chunk::Chunk;
use crate::tcp::fixture::{self, Opening};

/// What [`Endpoint::transmit`] would do without runs.
fn one_by_one(
    endpoint: &mut Endpoint<VecFrame>,
    pool: &mut VecPool,
    now: Instant,
    budget: usize,
    out: &mut Vec<VecFrame>,
) -> bool {
    let outlet = &mut Outlet { pool, frames: out, now, budget };
    if endpoint.send.is_quiet() {
        return endpoint.send_each(outlet);
    }
    if endpoint.is_open() {
        endpoint.send.check_idle(now);
    }
    let sent_before = endpoint.send.nxt;
    let complete = endpoint.send_each(outlet);
    endpoint.after_sending(sent_before, now);
    complete
}

/// What somebody may do to a connection.
fn disturb(
    random: &mut Random,
    ours: &mut Endpoint<VecFrame>,
    oracle: &mut Endpoint<VecFrame>,
    now: Instant,
) {
    let both = [ours, oracle];
    match random.below(40) {
        0..16 => {
            let (una, nxt) = (both[0].send.una, both[0].send.nxt);
            let flight = u64::from(nxt.0.wrapping_sub(una.0));
            let acked = if random.chance(0.6) { flight } else { random.below(flight + 1) };
            let mut header = fixture::header(both[0], una + acked as u32, now);
            if random.chance(0.1) {
                header.window = random.below(20_000) as u16;
            }
            let left = acked + random.below(2000);
            if random.chance(0.15) && left + 500 <= flight {
                header.options.sack.push(una + left as u32, una + left as u32 + 500);
            }
            if random.chance(0.05) {
                header.flags = header.flags.with(Flags::ECE);
            }
            let text = if random.chance(0.1) { vec![9; 300] } else { Vec::new() };
            if random.chance(0.3) && !text.is_empty() {
                header.seq += 300;
            }
            for endpoint in both {
                let _ = endpoint.on_segment(&header, Chunk::from_vec(text.clone()), now);
            }
        }
        16..36 => {
            let len = if random.chance(0.7) { 988 + 12 * random.below(2) } else { 1 + random.below(9000) };
            let bytes: Vec<u8> = (0..len).map(|_| random.number() as u8).collect();
            let in_frame = len < 1500 && random.chance(0.7);
            for endpoint in both {
                endpoint.send(if in_frame {
                    let sum = Sum::ZERO.bytes(&bytes).folded();
                    Chunk::from_frame(VecFrame::new(&bytes), 0, bytes.len()).with_sum(Some(sum))
                } else {
                    Chunk::from_vec(bytes.clone())
                });
            }
        }
        36 => both.into_iter().for_each(Endpoint::on_mark),
        37 if random.chance(0.3) => both.into_iter().for_each(Endpoint::mark_urgent),
        38 if random.chance(0.1) => both.into_iter().for_each(Endpoint::shutdown),
        39 => both.into_iter().for_each(|endpoint| while endpoint.receive().is_some() {}),
        _ => {}
    }
}

#[test]
fn a_run_is_what_its_segments_would_be_one_by_one_whatever_is_left_to_the_port() {
    let (mut in_runs, mut large) = (0, 0);
    for seed in 0..150 {
        let mut random = Random::new(seed);
        let control = [CongestionControl::Cubic, CongestionControl::NewReno, CongestionControl::Bbr];
        let opening = Opening {
            stamps: random.chance(0.5),
            sack: random.chance(0.8),
            ecn: random.chance(0.3),
            congestion: control[random.below(10).min(2) as usize],
        };
        let mut now = Instant::from_secs(1);
        let [mut ours, mut oracle] = [(); 2].map(|()| fixture::endpoint(opening, now));
        let offloads = [(false, 1), (true, 1), (true, 2), (true, 7)][random.below(4) as usize];
        let offloads = Offloads { checksum: offloads.0, segments: offloads.1 };
        (ours.settings.offloads, oracle.settings.offloads) = (offloads, offloads);
        for _ in 0..80 {
            now += pnat_shared::time::Duration::from_micros(random.below(30_000));
            for endpoint in [&mut ours, &mut oracle] {
                if endpoint.deadline() <= now {
                    endpoint.on_timer(now);
                }
            }
            for _ in 0..random.below(6) {
                disturb(&mut random, &mut ours, &mut oracle, now);
            }
            let budget = if random.chance(0.2) { 1 + random.below(5) as usize } else { 64 };
            // A frame of several segments is made whole or not at all.
            let may_run_dry = offloads.segments == 1 && random.chance(0.1);
            let left = if may_run_dry { random.below(4) as usize } else { usize::MAX };
            let size = u32::from(ours.send.mss - ours.clock.option_len());
            in_runs += u32::from(ours.send.run(size, budget).is_some_and(|run| run.len > size));
            let (mut sent, mut expected) = (Vec::new(), Vec::new());
            let complete = ours.transmit(&mut VecPool { left }, now, budget, &mut sent);
            let was = one_by_one(&mut oracle, &mut VecPool { left }, now, budget, &mut expected);
            large += sent.iter().filter(|frame| frame.extent().1.is_some()).count();
            let [sent, expected] = [sent, expected].map(|frames| frames.into_iter().flat_map(nic::send));
            let (sent, expected): (Vec<_>, Vec<_>) = (sent.collect(), expected.collect());
            assert_eq!((sent, complete), (expected, was), "seed {seed}");
            if random.chance(0.2) {
                fixture::assert_same(&ours, &oracle, &format!("seed {seed}"));
            }
        }
    }
    assert!(in_runs > 500, "runs are hardly tested: {in_runs}");
    assert!(large > 200, "large frames are hardly tested: {large}");
}
