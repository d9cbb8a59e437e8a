//! Who gets memory where there is not enough for all, and how little a stream takes whose reader is slow.

mod relay;

use pnat_shared::testkit::{LinkSpec, Random};
use pnat_shared::time::Duration;
use pnat_shared::verdict::CloseReason;
use relay::{Run, Task};

const MODEST: usize = 100;
const GREEDY: usize = 40;
/// Frames that the reactor may keep, and the chunks at which it must have stopped taking more, come what may.
const FRAMES: usize = 200;
const CHUNKS: u64 = 10 * FRAMES as u64;

fn text(seed: u64, len: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    (0..len).map(|_| random.number() as u8).collect()
}

fn link() -> LinkSpec {
    LinkSpec { latency: Duration::from_millis(5), ..LinkSpec::default() }
}

/// Uploads of one client to servers that take their time, and short exchanges of many others beside them.
fn crowd(greedy: usize) -> Run {
    let upload = || {
        let client = Task { text: text(7, 150_000), ..Task::default() };
        [client, Task { reads: 1, window: 8_000, ..Task::default() }]
    };
    let exchange = |n| {
        let task = || Task { text: text(n as u64, 8_000), ..Task::default() };
        [task(), task()]
    };
    let mut run = Run::new((0..greedy).map(|_| upload()).chain((0..MODEST).map(exchange)).collect());
    run.link = link();
    run.keep_frames = FRAMES;
    run.greedy = greedy as u32;
    run
}

/// When the last of the modest flows was done, after it began.
fn slowest_modest(run: &Run) -> (Duration, u64) {
    let report = run.simulate(1);
    for (outcome, task) in report.outcomes.iter().zip(&run.tasks) {
        assert!(outcome.read[1] == task[0].text && outcome.read[0] == task[1].text, "a stream differs");
        assert_eq!(outcome.closed.first(), Some(&CloseReason::Finished), "nobody is killed");
    }
    let begin = |flow: usize| run.stagger * flow as u32;
    let modest = report.outcomes.iter().enumerate().skip(run.greedy as usize);
    let slowest = modest.map(|(flow, outcome)| outcome.ended - begin(flow)).max();
    (slowest.expect("there are some"), report.most_kept)
}

#[test]
fn a_greedy_client_cannot_take_from_a_hundred_modest_ones() {
    let (undisturbed, _) = slowest_modest(&crowd(0));
    let (beside, kept) = slowest_modest(&crowd(GREEDY));
    assert!(kept <= CHUNKS, "{kept} chunks were kept");
    assert!(kept >= CHUNKS * 2 / 5, "{kept} chunks: memory was never short");
    assert!(beside <= undisturbed * 5 / 4, "{beside:?} beside the greedy client, {undisturbed:?} without it");
}

#[test]
fn many_clients_that_want_much_share_what_there_is_and_all_come_through() {
    let mut run = crowd(60);
    run.greedy = 0;
    run.tasks.truncate(60);
    let report = run.simulate(2);
    for (outcome, task) in report.outcomes.iter().zip(&run.tasks) {
        assert!(outcome.read[1] == task[0].text && outcome.read[0] == task[1].text, "a stream differs");
    }
    assert!(report.most_kept <= CHUNKS, "{} chunks were kept", report.most_kept);
}

#[test]
fn a_reader_of_a_megabyte_per_second_keeps_memory_flat_however_much_is_to_come() {
    const MEGABYTE: usize = 1_000_000;
    let server = Task { text: text(3, 100 * 1024), repeats: 100_000, ..Task::default() };
    let client = Task { reads: MEGABYTE / 100, ..Task::default() };
    let mut run = Run::new(vec![[client, server]]);
    run.link = link();
    run.window = 8 << 20;
    let (mut early, mut late, mut carried) = (0, 0, 0);
    run.watch(1, Duration::from_secs(40), |at, reactor| {
        for view in reactor.pairs(pnat_shared::time::Instant::ZERO) {
            let most = if at < Duration::from_secs(4) { &mut early } else { &mut late };
            *most = view.held.max(*most);
            carried = view.bytes[1];
        }
    });
    assert!(carried as usize > 30 * MEGABYTE, "{carried} bytes went through");
    assert!(late <= early, "{early} bytes inside at first, {late} later");
    assert!(early <= 512 * 1024, "{early} bytes inside, of a window of 8 MB");
}
