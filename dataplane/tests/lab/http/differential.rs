//! Requests spoiled at random, through the codec to nginx and Apache: neither sees a request that PNAT did not see.
//!
//! PNAT's view is the log of `http-log`, the servers' is their own. A failure tells the seed; `PNAT_DIFFERENTIAL_SEEDS=100..200`
//! runs others than usual.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::ops::Range;
use std::thread;
use std::time::Duration;

use pnat_shared::testkit::{Random, rows};
use serde_json::Value;

use super::talk::{REQUESTS, in_lanes, talk};
use super::{ACCESS, ACCESS_LOG, chain, start_apache};
use crate::fixture::Lab;

/// Ports and logs of nginx and Apache.
const SERVERS: [(u16, &str); 2] = [(80, "log/nginx-access.log"), (8081, "log/apache-access.log")];
/// Spoiled requests of a seed.
const INPUTS: usize = 120;
/// Longer rows are of limits, which need no spoiling.
const LONGEST_ROW: usize = 2000;
/// What is added: what decides on boundaries.
const PIECES: [&str; 22] = [
    "\r",
    "\n",
    "\r\n",
    "\0",
    " ",
    "\t",
    "\x0b",
    ",",
    ";",
    ":",
    "0",
    "+",
    "\"",
    "chunked",
    "HTTP/1.0",
    "Content-Length: 3\r\n",
    "Content-Length: 0\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Connection: close\r\n",
    "0\r\n\r\n",
    "3\r\nabc\r\n",
    "PATCH /hidden HTTP/1.1\r\nHost: a\r\n\r\n",
];

/// Requests by method.
type Counts = BTreeMap<String, i64>;

#[test]
fn servers_see_no_request_that_pnat_did_not_see() {
    let lab = Lab::start(&chain(&[ACCESS]));
    start_apache(&lab);

    for seed in seeds() {
        let inputs = spoiled(seed);
        for (port, log) in SERVERS {
            let before = (forwarded(&lab), seen(&lab, log));

            in_lanes(&inputs, |input| talk(port, input));

            // What was answered is logged a little later.
            thread::sleep(Duration::from_millis(100));
            let besides = settled(|| {
                let forwarded = less(forwarded(&lab), &before.0);
                less(less(seen(&lab, log), &before.1), &forwarded)
            });
            assert!(
                besides.is_empty(),
                "seed {seed}, port {port}: the server saw these besides: {besides:?}"
            );
        }
    }
}

/// Of chance, for this run.
pub(super) fn seeds() -> Range<u64> {
    let Ok(seeds) = env::var("PNAT_DIFFERENTIAL_SEEDS") else { return 0..1 };
    let (from, to) = seeds.split_once("..").expect("FROM..TO");
    from.parse().unwrap()..to.parse().unwrap()
}

/// Rows of the corpus, each changed in one to three places, or another put behind it.
fn spoiled(seed: u64) -> Vec<Vec<u8>> {
    let mut chance = Random::new(seed);
    let rows: Vec<_> = rows::rows::<4>(REQUESTS).into_iter().map(|row| rows::bytes(row[1]).0).collect();
    let rows: Vec<_> = rows.into_iter().filter(|row| row.len() < LONGEST_ROW).collect();
    let any = |chance: &mut Random| rows[chance.below(rows.len() as u64) as usize].clone();
    (0..INPUTS)
        .map(|_| {
            let mut input = any(&mut chance);
            for _ in 0..=chance.below(3) {
                spoil(&mut input, &mut chance);
            }
            if chance.chance(0.2) {
                input.extend(any(&mut chance));
            }
            input
        })
        .collect()
}

/// Changes it in one place.
pub(super) fn spoil(input: &mut Vec<u8>, chance: &mut Random) {
    let at = chance.below(input.len() as u64 + 1) as usize;
    match chance.below(4) {
        0 if at < input.len() => {
            input.remove(at);
        }
        1 if at < input.len() => input[at] = chance.number().to_le_bytes()[0],
        _ => {
            let piece = PIECES[chance.below(PIECES.len() as u64) as usize];
            input.splice(at..at, piece.bytes());
        }
    }
}

/// What PNAT sent to servers.
fn forwarded(lab: &Lab) -> Counts {
    let log = fs::read_to_string(lab.file(ACCESS_LOG)).unwrap_or_default();
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line of JSON"));
    let asked = lines.filter(|line| !line["upstream"].is_null());
    counted(asked.map(|line| line["method"].as_str().expect("a method").to_owned()))
}

/// What a server understood; what it refused to read names no method, or none of ours.
fn seen(lab: &Lab, log: &str) -> Counts {
    let log = fs::read_to_string(lab.file(log)).unwrap_or_default();
    let understood = log.lines().filter(|line| !line.ends_with(" 400"));
    counted(understood.filter_map(|line| line.split(' ').nth(3)).map(str::to_owned))
}

fn counted(methods: impl Iterator<Item = String>) -> Counts {
    let mut counts = Counts::new();
    for method in methods {
        *counts.entry(method).or_default() += 1;
    }
    counts
}

/// What `counts` has more than `others`.
fn less(mut counts: Counts, others: &Counts) -> Counts {
    for (method, count) in &mut counts {
        *count -= others.get(method).copied().unwrap_or(0);
    }
    counts.retain(|_, count| *count > 0);
    counts
}

/// Empty as soon as it is: logs are written a little later.
fn settled(besides: impl Fn() -> Counts) -> Counts {
    for _ in 0..100 {
        if besides().is_empty() {
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    besides()
}
