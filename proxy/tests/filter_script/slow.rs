//! A filter over HTTP that takes too long: what becomes of its flow, and what is told of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crate::filter_bench::Bench;
use pnat_http::filter::{Call, HttpFactory, HttpFilter, Verdict};
use pnat_http::filters::{Kinds, Lasting};
use pnat_http::message::Request;
use pnat_proxy::filter::{Chains, Needs, Outcome, Services};
use pnat_shared::config::{Filter, FilterKind, Section};
use pnat_shared::flow::{Side, Stream};
use pnat_shared::testkit::one_rule;
use pnat_shared::verdict::CloseReason;

/// What filters are measured by, in nanoseconds. This file has one test.
static CLOCK: AtomicU64 = AtomicU64::new(0);

/// Takes 20 ms for a request.
#[derive(Debug)]
struct Slow;

impl HttpFilter for Slow {
    fn request(&mut self, _: &mut Call<'_>, _: &mut Request) -> Verdict {
        CLOCK.fetch_add(20_000_000, Relaxed);
        Verdict::Pass
    }
}

impl HttpFactory for Slow {
    fn filter(&self) -> Box<dyn HttpFilter> {
        Box::new(Self)
    }
}

fn chains(keys: &str) -> Result<Chains, String> {
    let section = Section {
        kind: "slow".to_owned(),
        keys: toml::from_str(keys).expect("TOML"),
        file: "pnat.toml".into(),
        line: 1,
        lines: BTreeMap::from([("time_budget".to_owned(), 7)]),
    };
    let policy =
        one_rule("rule", vec![Filter { name: "crawler".to_owned(), kind: FilterKind::Http(section) }]);
    let (kinds, lasting) = (Kinds::default().add("slow", |_| Ok(Arc::new(Slow))), Lasting::default());
    let needs = Needs { kinds: &kinds, lasting: &lasting, rehearsal: false };
    Chains::compile_with(&policy, 1 << 20, &needs).map_err(|error| error.to_string())
}

#[test]
fn a_filter_that_takes_longer_than_its_section_allows_ends_the_flow_and_is_told_of() {
    for (keys, overruns) in [("", 0), ("time_budget = '20ms'", 0), ("time_budget = '10ms'", 1)] {
        let mut bench = Bench::new(&chains(keys).expect("the filter can be made"));
        bench.services = Services::default().with_clock(|| CLOCK.load(Relaxed));
        bench.push(Stream::First, b"GET / HTTP/1.1\r\nHost: www.example\r\nConnection: close\r\n\r\n");
        bench.push(Stream::Second, b"HTTP/1.1 204 No Content\r\n\r\n");
        let told = String::from_utf8(bench.take(Stream::Second)).expect("text");
        let ended = Some(Outcome::Answer { to: Side::First, reason: CloseReason::FilterError });
        if overruns == 0 {
            assert_eq!((told.get(..12), bench.out.outcome), (Some("HTTP/1.1 204"), None), "{keys}");
            continue;
        }
        assert_eq!((told.get(..12), bench.out.outcome), (Some("HTTP/1.1 503"), ended), "{keys}");
        let verdict = bench.flow.told_verdict().unwrap_or_default();
        assert!(verdict.ends_with("crawler: took 20.0ms, more than its 10ms"), "{verdict}");
        let [(name, stats)] = &*bench.services.web().filters else { panic!("one filter") };
        assert_eq!((&**name, stats.overruns, stats.nanos), ("crawler", overruns, 20_000_000));
    }
    let problem = chains("time_budget = 10").expect_err("a number has no unit");
    assert!(problem.contains("pnat.toml:7") && problem.contains("time_budget"), "{problem}");
}
