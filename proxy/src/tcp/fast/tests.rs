//! What is predicted against what the whole check does.

use pnat_shared::config::CongestionControl;
use pnat_shared::testkit::{Random, VecFrame, VecPool};
use pnat_shared::time::Duration;
use pnat_shared::wire::tcp::Seq;

use super::*;
use crate::tcp::fixture::{self, Opening};

const WINDOW: u16 = 500;

fn transmit(endpoint: &mut Endpoint<VecFrame>, now: Instant) -> Vec<VecFrame> {
    let mut out = Vec::new();
    endpoint.transmit(&mut VecPool::endless(), now, 64, &mut out);
    out
}

/// What a peer may say at this point, most of it expected. The text is that of one segment, or of some that follow each other.
fn train(random: &mut Random, endpoint: &Endpoint<VecFrame>, now: Instant) -> (Header, Vec<Vec<u8>>) {
    let (nxt, una, sent) = (endpoint.recv.nxt.0, endpoint.send.una.0, endpoint.send.nxt.0);
    let mut often = |usual: u32, other: u32| if random.chance(0.9) { usual } else { other };
    let seq = often(nxt, nxt.wrapping_add(700)).wrapping_sub(often(0, 300));
    let ack = often(una, sent).wrapping_add(often(0, 1));
    let flags = Flags(often(u32::from(Flags::ACK.0), u32::from(Flags::ACK.with(Flags::FIN).0)) as u8);
    let mut header = Header { seq: Seq(seq), flags, ..fixture::header(endpoint, Seq(ack), now) };
    let older = often(0, 3);
    if let Some((value, _)) = &mut header.options.timestamps {
        *value -= older;
    }
    header.window = often(u32::from(WINDOW), 0) as u16;
    if random.chance(0.05) {
        header.options.sack.push(Seq(una + 1), Seq(sent));
    }
    if random.chance(0.05) {
        header.options.timestamps = None;
    }
    let more = if random.chance(0.5) { random.below(6) } else { 0 };
    let mut text = || vec![7; 1 + random.below(1000) as usize];
    let texts = (0..=more).map(|_| text()).collect();
    if random.chance(0.8) { (header, texts) } else { (header, vec![Vec::new()]) }
}

/// Hands over the segments as a train where all of them are expected, else one by one; answers what comes of each.
fn take_in(
    endpoint: &mut Endpoint<VecFrame>,
    mut header: Header,
    texts: &[Vec<u8>],
    now: Instant,
) -> Vec<Result<(), DropReason>> {
    let chunk = |text: &Vec<u8>| Chunk::from_vec(text.clone());
    if endpoint.expects(&header, texts.concat().len()) {
        endpoint.on_train(&header, texts.iter().map(chunk), now);
        return vec![Ok(()); texts.len()];
    }
    let mut next = |text| {
        let answer = endpoint.on_segment(&header, chunk(text), now);
        header.seq += text.len() as u32;
        answer
    };
    texts.iter().map(&mut next).collect()
}

#[test]
fn what_is_predicted_is_what_the_whole_check_would_do_to_each_segment() {
    let (mut predicted, mut bare) = ([0; 2], 0);
    for seed in 0..600 {
        let mut random = Random::new(seed);
        let opening = Opening {
            stamps: random.chance(0.5),
            sack: true,
            ecn: false,
            congestion: CongestionControl::default(),
        };
        let mut now = Instant::from_secs(1);
        let [mut ours, mut oracle] = [(); 2].map(|()| fixture::endpoint(opening, now));
        for _ in 0..40 {
            now += Duration::from_micros(random.below(30_000));
            let (first, texts) = train(&mut random, &ours, now);
            let is_predicted = ours.expects(&first, texts.concat().len());
            predicted[usize::from(texts.len() > 1)] += u32::from(is_predicted);
            bare += u32::from(ours.is_bare_ack(&first, texts.concat().len()));
            let mut header = first;
            let mut expected = Vec::new();
            for text in &texts {
                expected.push(match oracle.state() {
                    State::Closed => oracle.on_segment_closed(&header, text.len()),
                    _ => oracle.on_segment_synchronized(&header, Chunk::from_vec(text.clone()), now),
                });
                header.seq += text.len() as u32;
            }
            let answers = take_in(&mut ours, first, &texts, now);
            assert_eq!(answers, expected, "seed {seed}: {first:?}");
            for endpoint in [&mut ours, &mut oracle] {
                if endpoint.deadline() <= now {
                    endpoint.on_timer(now);
                }
            }
            if random.chance(0.3) {
                ours.send(Chunk::from_vec(vec![1; 400]));
                oracle.send(Chunk::from_vec(vec![1; 400]));
            }
            for _ in 0..random.below(6) {
                assert_eq!(
                    ours.receive().map(|chunk| chunk.len()),
                    oracle.receive().map(|chunk| chunk.len())
                );
            }
            if random.chance(0.5) {
                assert_eq!(transmit(&mut ours, now), transmit(&mut oracle, now), "seed {seed}");
            }
            let when = format!("seed {seed}: {first:?}, predicted: {is_predicted}");
            fixture::assert_same(&ours, &oracle, &when);
        }
    }
    assert!(predicted.iter().all(|count| *count > 500), "the prediction is hardly tested: {predicted:?}");
    assert!(bare > 500, "bare ACKs are hardly tested: {bare}");
}
