//! What `url-block` adds to a request: lists of a thousand to a million names, and requests to names that look like theirs.

use std::fs;
use std::process::ExitCode;

use pnat_http::filter::{HttpFilter, Verdict};
use pnat_http::filters::{Kinds, Lasting, Section};
use pnat_http::message::Request;
use pnat_http::testkit::{Calls, block_list, request};
use pnat_perf::measure::{Allocations, Bench, Burst, Scene, time};
use pnat_shared::testkit::Random;

const BURST: usize = 64;
/// Names that are asked for: so many that they find little in a processor's caches.
const ASKED: usize = 50_000;

fn main() -> ExitCode {
    let mut bench = Bench::from_args();
    for (name, names) in [("url_block/1k", 1_000), ("url_block/100k", 100_000), ("url_block/1M", 1_000_000)] {
        bench.run(name, Allocations::None, || Lookup::new(names));
    }
    bench.finish()
}

/// Requests that pass. An iteration is a request, from its head to the verdict.
struct Lookup {
    filter: Box<dyn HttpFilter>,
    requests: Vec<Request>,
    calls: Calls,
    random: Random,
}

impl Lookup {
    fn new(names: usize) -> Self {
        let all = block_list(names + ASKED.min(names));
        // Spread over the list, so that each has neighbors there that begin as it does.
        let every = all.lines().count() / ASKED.min(names);
        let is_asked = |(number, _): &(usize, &str)| number % every == 0;
        let (asked, listed): (Vec<_>, Vec<_>) = all.lines().enumerate().partition(is_asked);
        let list: Vec<_> = listed.into_iter().map(|(_, name)| name).collect();
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("list");
        fs::write(&path, list.join("\n")).expect("the disk has room");
        let keys = format!("lists = [{{ path = {path:?} }}]\nanswer = \"reset\"");
        let keys = toml::from_str(&keys).expect("the keys are TOML");
        let section = Section { name: "lists", keys, lasting: &Lasting::default(), rehearsal: true };
        let filter = Kinds::default().configure("url-block", &section).expect("it is one of the kinds");
        let requests = asked.into_iter().map(|(_, name)| request("GET", "/a/page?id=1", &[("Host", name)]));
        Self {
            filter: filter.expect("the list is right").filter(),
            requests: requests.collect(),
            calls: Calls::default(),
            random: Random::new(1),
        }
    }
}

impl Scene for Lookup {
    fn burst(&mut self) -> Burst {
        let Self { filter, requests, calls, random } = self;
        let count = requests.len() as u64;
        let turns = [(); BURST].map(|()| random.below(count) as usize);
        let mut passed = 0;
        let took = time(|| {
            for turn in turns {
                let verdict = filter.request(&mut calls.call(), &mut requests[turn]);
                passed += u64::from(verdict == Verdict::Pass);
            }
        });
        assert_eq!(passed, BURST as u64, "no subdomain of another's");
        Burst { packets: passed, took }
    }
}
