//! Clients and servers with a reactor between them, over seeded, bad links: what one end sends, the other gets, byte for
//! byte, and in the end every pair and every frame is free. A failure names the seed.

mod relay;
mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use pnat_http::coding::Coding;
use pnat_http::coding::encode::{Encoder, Flush, Level};
use pnat_http::message::Framing;
use pnat_proxy::filter::Chains;
use pnat_shared::config::{FilterKind, LimitBy, LimitFilter, ReplaceFilter, Section};
use pnat_shared::testkit::{LinkSpec, Random};
use pnat_shared::time::Duration;
use pnat_shared::verdict::CloseReason;
use proptest::prelude::*;
use relay::{Run, Task, WINDOW};
use support::policy_of;

fn text(random: &mut Random, len: usize) -> Vec<u8> {
    (0..len).map(|_| random.number() as u8).collect()
}

fn task(random: &mut Random, most: u64) -> Task {
    let len = random.below(most) as usize;
    Task { text: text(random, len), closes_last: random.chance(0.5), ..Task::default() }
}

/// Flows of random lengths; at most one end of each waits for the other to close first.
fn tasks(seed: u64, flows: usize, most: u64) -> Vec<[Task; 2]> {
    let mut random = Random::new(seed);
    let mut pair = || {
        let client = task(&mut random, most);
        let mut server = task(&mut random, most);
        server.closes_last &= !client.closes_last;
        [client, server]
    };
    (0..flows).map(|_| pair()).collect()
}

/// Runs, and compares what was read with what was written.
fn check(run: &Run, seed: u64) {
    for (flow, outcome) in run.simulate(seed).outcomes.into_iter().enumerate() {
        let [client, server] = &run.tasks[flow];
        assert!(outcome.read[1] == client.text, "flow {flow}: the first stream differs (seed {seed})");
        assert!(outcome.read[0] == server.text, "flow {flow}: the second stream differs (seed {seed})");
        assert_eq!(outcome.closed.first(), Some(&CloseReason::Finished), "flow {flow} (seed {seed})");
    }
}

#[test]
fn many_flows_at_once_over_a_clean_link_are_byte_exact() {
    let mut run = Run::new(tasks(1, 300, 20_000));
    run.stagger = Duration::from_micros(100);
    check(&run, 1);
}

#[test]
fn lossy_links_lose_no_byte() {
    for seed in 0..6 {
        let mut run = Run::new(tasks(seed, 20, 150_000));
        run.link = LinkSpec {
            latency: Duration::from_millis(5),
            loss: 0.03,
            duplication: 0.02,
            reordering: 0.05,
            ..LinkSpec::default()
        };
        check(&run, seed);
    }
}

#[test]
fn corrupted_packets_change_nothing() {
    let mut run = Run::new(tasks(3, 20, 60_000));
    run.link = LinkSpec { corruption: 0.03, ..LinkSpec::default() };
    check(&run, 3);
}

#[test]
fn a_slow_reader_slows_the_writer_and_the_pair_holds_no_more_than_its_windows() {
    let mut random = Random::new(4);
    let client = Task { text: text(&mut random, 2_000_000), ..Task::default() };
    let server = Task { reads: 20_000, closes_last: true, ..Task::default() };
    check(&Run::new(vec![[client, server]]), 4);
}

#[test]
fn a_pool_that_runs_dry_delays_but_loses_nothing() {
    let mut run = Run::new(tasks(5, 10, 100_000));
    run.frames = 600;
    check(&run, 5);
}

#[test]
fn slow_readers_cannot_keep_the_frames_of_all() {
    let mut random = Random::new(6);
    let mut pair = || {
        let client = Task { text: text(&mut random, 200_000), ..Task::default() };
        [client, Task { reads: 2000, window: 8000, closes_last: true, ..Task::default() }]
    };
    let mut run = Run::new((0..10).map(|_| pair()).collect());
    let freely = run.simulate(6).most_frames;
    run.keep_frames = 40;
    let thriftily = run.simulate(6).most_frames;
    assert!(thriftily * 3 < freely, "{thriftily} frames instead of {freely}");
    check(&run, 6);
}

#[test]
fn the_filters_of_a_rule_work_on_what_passes_under_loss() {
    let kinds = [
        FilterKind::Replace(ReplaceFilter {
            find: b"red".into(),
            with: b"green".into(),
            first: true,
            second: true,
        }),
        FilterKind::Limit(LimitFilter { bytes_per_second: 40_000, burst: 10_000, by: LimitBy::Flow }),
    ];
    let policy = policy_of(kinds);
    let mut random = Random::new(8);
    let mut words = |count: u32| {
        (0..count).map(|_| ["red", "re", "d", "blue "][random.below(4) as usize]).collect::<String>()
    };
    let texts = [words(30_000), words(20_000)];
    let task = |text: &String| Task { text: text.clone().into_bytes(), ..Task::default() };
    let mut run = Run::new(vec![[task(&texts[0]), task(&texts[1])]]);
    run.chains = Arc::new(Chains::compile(&policy, WINDOW).unwrap());
    run.link.loss = 0.01;
    let report = run.simulate(8);
    let [client, server] = &report.outcomes[0].read;
    assert!(*server == texts[0].replace("red", "green").into_bytes(), "the first stream differs");
    assert!(*client == texts[1].replace("red", "green").into_bytes(), "the second stream differs");
    let least = Duration::from_millis(texts[0].len() as u64 / 40 - 500);
    assert!(report.took > least, "{:?} for {} bytes at 40 kB/s", report.took, texts[0].len());
}

#[test]
fn an_aborting_end_is_mirrored_and_leaves_nothing_behind() {
    for seed in 0..10 {
        let mut tasks = tasks(seed, 20, 100_000);
        let mut random = Random::new(seed);
        for pair in &mut tasks {
            let side = random.below(2) as usize;
            let after = pair[1 - side].text.len() / 2;
            pair[side].aborts_after = Some(after.max(1));
            pair[1 - side].text.push(0);
        }
        let mut run = Run::new(tasks);
        run.link.loss = 0.01;
        let outcomes = run.simulate(seed).outcomes;
        for (outcome, pair) in outcomes.iter().zip(&run.tasks) {
            assert!(
                pair[0].text.starts_with(&outcome.read[1]),
                "bytes of the first stream differ (seed {seed})"
            );
            assert!(
                pair[1].text.starts_with(&outcome.read[0]),
                "bytes of the second stream differ (seed {seed})"
            );
            assert!(!outcome.closed.is_empty(), "seed {seed}");
        }
        let resets = outcomes.iter().filter(|outcome| {
            outcome.closed.iter().any(|r| matches!(r, CloseReason::FirstReset | CloseReason::SecondReset))
        });
        assert!(resets.count() > 10, "seed {seed}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_in_any_pieces_and_any_order_of_closing_arrive(
        seed in 0u64..1_000_000,
        first in 0usize..80_000,
        second in 0usize..80_000,
        last in 0u8..3,
        loss in prop_oneof![Just(0.0), Just(0.02), Just(0.1)],
        reads in prop_oneof![Just([0, 0]), Just([5000, 0]), Just([0, 5000])],
        filtered: bool,
    ) {
        let mut random = Random::new(seed);
        let task = |random: &mut Random, len, closes_last, reads| {
            Task { text: text(random, len), closes_last, reads, ..Task::default() }
        };
        let client = task(&mut random, first, last == 1, reads[0]);
        let server = task(&mut random, second, last == 2, reads[1]);
        let mut run = Run::new(vec![[client, server]]);
        run.link.loss = loss;
        if filtered {
            let filter = (Arc::from("obedient"), support::filters::obedient().0);
            run.chains = Arc::new(Chains::new(vec![vec![filter]], WINDOW));
        }
        check(&run, seed);
    }
}

/// A response that becomes so many bytes for a client that reads so much every 10 ms: what came of it.
fn decoded(len: usize, reads: usize) -> relay::Report {
    let mut coded = Vec::new();
    let mut encoder = Encoder::new(Coding::Gzip, Level::default(), Framing::Chunked).expect("an encoder");
    encoder.encode(&vec![b'x'; len], Flush::End, &mut coded).expect("it can be coded");
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        coded.len()
    );
    let client = Task {
        text: b"GET / HTTP/1.1\r\nHost: www.example\r\n\r\n".to_vec(),
        closes_last: true,
        reads,
        ..Task::default()
    };
    let server = Task { text: [head.as_bytes(), &coded].concat(), ..Task::default() };
    let decompress = FilterKind::Http(Section {
        kind: "decompress".to_owned(),
        keys: toml::from_str("max_ratio = 2000").expect("TOML"),
        file: "pnat.toml".into(),
        line: 1,
        lines: BTreeMap::new(),
    });
    let mut run = Run::new(vec![[client, server]]);
    run.chains = Arc::new(Chains::compile(&policy_of([decompress]), WINDOW).expect("the filter compiles"));
    run.simulate(1)
}

#[test]
fn content_that_grows_waits_with_its_filter_for_the_client_and_goes_on_as_soon_as_that_takes_some() {
    const LEN: usize = 8 << 20;
    let next_to_nothing = decoded(1000, 0).outcomes[0].ended;
    for reads in [0, 64 * 1024] {
        let report = decoded(LEN, reads);
        let [outcome] = &*report.outcomes else { panic!("one flow") };
        assert_eq!(outcome.closed, [CloseReason::Finished]);
        let text = outcome.read[0].iter().filter(|&&byte| byte == b'x').count();
        assert!(text == LEN && outcome.read[0].ends_with(b"\r\n0\r\n\r\n"), "{text}");
        assert!(report.most_kept * 1024 < 2 << 20, "{} chunks", report.most_kept);
        // At the client's own pace, not at that of looks by time.
        let least = Duration::from_millis(10) * LEN.checked_div(reads).unwrap_or(0) as u32;
        let most = next_to_nothing + least + Duration::from_millis(900);
        assert!(outcome.ended < most, "{:?} of {most:?}", outcome.ended);
    }
}
