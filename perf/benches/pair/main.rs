//! The whole pair in memory: segments into one socket, through a chain, out of the other, and the ACKs both ways. Beside
//! it the whole gateway around it, and the same bytes between two smoltcp sockets.

use std::process::ExitCode;
use std::sync::Arc;

use pnat_perf::gateway::WINDOW;
use pnat_perf::measure::{Allocations, Bench};
use pnat_proxy::filter::Chains;
use pnat_scenes::connection::Connections;
use pnat_scenes::filters::{Pass, Scan, chains};
use pnat_scenes::pair::Pairs;
use pnat_shared::config::{Action, Filter, FilterKind, LogFilter, Policy};
use pnat_shared::testkit::one_rule;

mod peer;
mod whole;

const FLOWS: [(&str, usize); 4] = [("1", 1), ("1k", 1_000), ("10k", 10_000), ("100k", 100_000)];

fn main() -> ExitCode {
    let mut bench = Bench::from_args();
    for (name, flows) in FLOWS {
        let none = || Pairs::new(flows, chains(None));
        let pass = || Pairs::new(flows, chains(Some(Arc::new(Pass))));
        let scan = || Pairs::new(flows, chains(Some(Arc::new(Scan))));
        let mut none = bench.run(&format!("pair/no_filter/{name}"), Allocations::None, none);
        let mut pass = bench.run(&format!("pair/pass/{name}"), Allocations::None, pass);
        let mut scan = bench.run(&format!("pair/scan/{name}"), Allocations::None, scan);
        bench.compare(&mut pass, &mut none);
        bench.compare(&mut scan, &mut none);
        let peer = || peer::Sockets::new(flows);
        let mut peer = bench.run(&format!("smoltcp/{name}"), Allocations::Told, peer);
        bench.compare(&mut pass, &mut peer);
    }
    bench.run("pair/connection", Allocations::Told, Connections::default);
    for (name, flows) in [("1", 1), ("10k", 10_000)] {
        let translated = Policy::without_rules(Action::Nat);
        for (way, policy) in [("no_filter", one_rule("all", Vec::new())), ("nat", translated)] {
            let gateway = |is_on| whole::Whole::new(flows, policy.clone(), chains(None)).measured(is_on);
            let mut on = bench.run(&format!("gateway/{way}/{name}"), Allocations::None, || gateway(true));
            let mut off =
                bench.run(&format!("gateway/{way}_unmeasured/{name}"), Allocations::None, || gateway(false));
            bench.compare(&mut on, &mut off);
        }
    }
    let policy = one_rule("all", vec![log()]);
    let chains = Chains::compile(&policy, WINDOW).expect("log has nothing that fails to compile");
    bench.run("gateway/log/1", Allocations::None, || whole::Whole::new(1, policy, chains));
    bench.finish()
}

fn log() -> Filter {
    let log = LogFilter { path: "/dev/null".into(), content_dir: None, content_cap: 0 };
    Filter { name: "log".to_owned(), kind: FilterKind::Log(log) }
}
