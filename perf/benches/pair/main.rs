//! The whole pair in memory: from the client's port through worker, ring, reactor and chain to the server's port, and
//! the ACKs back. Beside it, the same bytes between two smoltcp sockets.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::ExitCode;
use std::sync::Arc;

use pnat_perf::frames::PoolFrame;
use pnat_perf::gateway::{Gateway, INSIDE, OUTSIDE, WINDOW, answer_arp, link_to};
use pnat_perf::host::{self, Host};
use pnat_perf::measure::{Allocations, Bench, Burst, Scene, time};
use pnat_proxy::filter::{Call, Chains, DatagramFilter, DatagramVerdict, Factory, StreamFilter, Verdict};
use pnat_shared::config::{Action, Filter, FilterKind, LogFilter, Match, Policy, Rule};
use pnat_shared::flow::Stream;
use pnat_shared::testkit::Random;

mod peer;

/// Segments per burst; more than one flow send [`VISIT`] each.
const BURST: usize = 32;
const VISIT: usize = 2;

fn main() -> ExitCode {
    let mut bench = Bench::from_args();
    let mut ours = Vec::new();
    for (name, flows) in [("1", 1), ("1k", 1_000), ("10k", 10_000)] {
        let make = || Pairs::new(flows, policy(Vec::new()), None);
        ours.push(bench.run(&format!("pair/no_filter/{name}"), Allocations::None, make));
    }
    let make = || Pairs::new(1, policy(Vec::new()), Some(Arc::new(PassThrough)));
    bench.run("pair/pass_through/1", Allocations::None, make);
    bench.run("pair/log/1", Allocations::None, || Pairs::new(1, policy(vec![log()]), None));
    for (ours, (name, flows)) in ours.into_iter().zip([("1", 1), ("1k", 1_000), ("10k", 10_000)]) {
        let theirs = bench.run(&format!("smoltcp/{name}"), Allocations::Told, || peer::Sockets::new(flows));
        bench.compare(ours, theirs);
    }
    bench.finish()
}

/// One rule for everything, with these filters.
fn policy(filters: Vec<Filter>) -> Policy {
    let rule = Rule {
        name: "all".to_owned(),
        matching: Match::default(),
        action: Action::Proxy,
        filters: (0..filters.len()).collect(),
        congestion: [None; 2],
    };
    Policy { rules: vec![rule], default_action: Action::Proxy, filters }
}

fn log() -> Filter {
    let log = LogFilter { path: "/dev/null".into(), content_dir: None, content_cap: 0 };
    Filter { name: "log".to_owned(), kind: FilterKind::Log(log) }
}

/// A filter that looks on, and never says that it has seen enough.
#[derive(Debug)]
struct PassThrough;

impl StreamFilter for PassThrough {
    fn data(&mut self, _: &mut Call<'_>, _: Stream, bytes: &[u8], _: usize, _: bool) -> Verdict {
        Verdict::Pass(bytes.len())
    }
}

impl DatagramFilter for PassThrough {
    fn datagram(&mut self, _: &mut Call<'_>, _: Stream, _: &[u8]) -> DatagramVerdict {
        DatagramVerdict::Pass
    }
}

impl Factory for PassThrough {
    fn stream(&self) -> Box<dyn StreamFilter> {
        Box::new(Self)
    }

    fn datagram(&self) -> Box<dyn DatagramFilter> {
        Box::new(Self)
    }
}

/// Flows one after the other, in an order that no prefetcher guesses: all of them before the first one comes again.
struct Turn {
    order: Vec<usize>,
    at: usize,
}

impl Turn {
    fn new(flows: usize) -> Self {
        let mut order: Vec<_> = (0..flows).collect();
        let mut random = Random::new(1);
        order.sort_by_cached_key(|_| random.number());
        Self { order, at: 0 }
    }

    fn next(&mut self) -> usize {
        self.at = (self.at + 1) % self.order.len();
        self.order[self.at]
    }
}

/// Open flows through a gateway, each with a client that sends and a server that acknowledges.
struct Pairs {
    gateway: Gateway,
    clients: Vec<Host>,
    servers: Vec<Host>,
    /// Data segments that have come to servers.
    delivered: u64,
    turn: Turn,
}

impl Pairs {
    /// `filter` stands alone in the chain, instead of those of the policy.
    fn new(flows: usize, policy: Policy, filter: Option<Arc<dyn Factory>>) -> Self {
        let chains = match filter {
            Some(filter) => Chains::new(vec![vec![("filter".into(), filter)]], WINDOW),
            None => Chains::compile(&policy, WINDOW).expect("log has nothing that fails to compile"),
        };
        let gateway = Gateway::new(policy, chains, flows as u32);
        let mut pairs =
            Self { gateway, clients: Vec::new(), servers: Vec::new(), delivered: 0, turn: Turn::new(flows) };
        for flow in 0..flows {
            let mut client = Host::new(link_to(INSIDE), client(flow), server(flow));
            let syn = client.syn();
            pairs.clients.push(client);
            pairs.gateway.port(INSIDE).incoming.push_back(syn);
            // The SYN, and two ARP questions and answers; the SYN-ACK; the last ACK.
            for _ in 0..6 {
                pairs.gateway.turn();
                pairs.exchange();
            }
            assert_eq!(pairs.servers.len(), flow + 1, "each flow reaches its server");
        }
        pairs
    }

    /// Hosts take what the gateway sent them, and answer.
    fn exchange(&mut self) {
        while let Some(frame) = self.gateway.port(INSIDE).outgoing.pop_front() {
            let answer = answer_arp(&frame).or_else(|| self.client_of(&frame).on_frame(&frame));
            self.gateway.port(INSIDE).incoming.extend(answer);
        }
        while let Some(frame) = self.gateway.port(OUTSIDE).outgoing.pop_front() {
            let answer = answer_arp(&frame).or_else(|| self.serve(&frame));
            self.gateway.port(OUTSIDE).incoming.extend(answer);
        }
    }

    fn client_of(&mut self, frame: &PoolFrame) -> &mut Host {
        let (packet, ..) = host::read(frame).expect("a segment");
        &mut self.clients[flow_of(packet.src)]
    }

    /// Servers come to be as they are asked, in the order of their flows.
    fn serve(&mut self, frame: &PoolFrame) -> Option<PoolFrame> {
        let (packet, ..) = host::read(frame).expect("a segment");
        let flow = flow_of(packet.dst);
        if flow == self.servers.len() {
            self.servers.push(Host::meeting(link_to(OUTSIDE), frame));
        }
        let server = &mut self.servers[flow];
        let before = server.segments;
        let answer = server.on_frame(frame);
        self.delivered += server.segments - before;
        answer
    }
}

impl Scene for Pairs {
    fn burst(&mut self) -> Burst {
        for _ in 0..BURST / VISIT {
            let flow = self.turn.next();
            for _ in 0..VISIT {
                let data = self.clients[flow].data();
                self.gateway.port(INSIDE).incoming.push_back(data);
            }
        }
        // ACKs of the burst before are taken in this turn.
        let took = time(|| self.gateway.turn());
        let before = self.delivered;
        self.exchange();
        Burst { packets: self.delivered - before, took }
    }
}

fn client(flow: usize) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 2000 + flow as u16)
}

/// A server's address names its flow.
fn server(flow: usize) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::from_bits(0xcb00_0000 + flow as u32), 80)
}

fn flow_of(server: Ipv4Addr) -> usize {
    (server.to_bits() - 0xcb00_0000) as usize
}
