//! Hosts, links, workers and reactors, and the time that passes between them.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use pnat_dataplane::handoff::{Handoff, Shards};
use pnat_dataplane::nat::policy::Snapshot;
use pnat_dataplane::route::PortInfo;
use pnat_dataplane::worker::{Outputs, Setup, SynCookies, Worker, WorkerStats};
use pnat_proxy::filter::{Chains, Named, Services};
use pnat_proxy::reactor::{self, Reactor};
use pnat_shared::config::{self, Accept, Action, Match, Policy, Rule};
use pnat_shared::flow::{Offloads, WorkerId};
use pnat_shared::frame::{Checksum, Frame, L2_LEN};
use pnat_shared::loopback::{FromProxy, ToProxy};
use pnat_shared::stats::Counter;
use pnat_shared::testkit::{Link, LinkSpec, Random, VecFrame, VecPool, nic};
use pnat_shared::time::{Duration, Instant};
use pnat_shared::wire::ethernet::{self, Mac};
use pnat_shared::wire::tcp::{Flags, Header, Options, Seq};
use pnat_shared::wire::{arp, ip};

use crate::chooser::{Chooser, OTHER, Way};
use crate::host::{Host, read};

pub(crate) const CORES: usize = 2;
pub(crate) const INSIDE: usize = 0;
pub(crate) const OUTSIDE: usize = 1;
pub(crate) const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 18, 5, 10), 80);
const PUBLIC: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
pub(crate) const WINDOW: u32 = 128 * 1024;
/// How long spoofed SYNs go on.
const FLOOD: Duration = Duration::from_millis(250);
/// Longer than any run takes.
const PATIENCE: Duration = Duration::from_secs(600);

/// What is tried.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) flows: u8,
    pub(crate) action: Action,
    pub(crate) accept: Accept,
    /// [`config::Proxy::syn_cookies_above`].
    pub(crate) syn_cookies_above: u32,
    /// Whether a filter chooses each flow's server ([`Way`]); for flows that are accepted early.
    pub(crate) chosen: bool,
    /// SYNs from addresses that are nobody's: a quarter before the first client's, the others within a quarter of a second.
    pub(crate) spoofed: u32,
    /// What the inside and the outside port do; a port that completes checksums verifies them, too.
    pub(crate) offloads: [Offloads; 2],
    /// Each of the four directions between gateway and hosts.
    pub(crate) link: LinkSpec,
}

impl Default for Run {
    fn default() -> Self {
        Self {
            flows: 20,
            action: Action::Proxy,
            accept: Accept::Late,
            syn_cookies_above: u32::MAX,
            chosen: false,
            spoofed: 0,
            offloads: [Offloads::NONE; 2],
            link: LinkSpec::default(),
        }
    }
}

pub(crate) struct World {
    run: Run,
    now: Instant,
    random: Random,
    workers: Vec<Worker<VecFrame, VecPool>>,
    reactors: Vec<Reactor<VecFrame>>,
    /// Clients by their address and port, servers by the gateway's and their own.
    clients: BTreeMap<SocketAddrV4, Host>,
    servers: BTreeMap<(SocketAddrV4, SocketAddrV4), Host>,
    /// By port: to the hosts, and to the gateway.
    outward: [Link<VecFrame>; 2],
    inward: [Link<VecFrame>; 2],
}

impl World {
    pub(crate) fn new(run: &Run, seed: u64) -> Self {
        let now = Instant::from_secs(1);
        let mut random = Random::new(seed);
        let rule = Rule {
            name: "all".to_owned(),
            matching: Match::default(),
            action: run.action,
            accept: run.accept,
            congestion: [None; 2],
            line: 1,
            filters: Vec::new(),
        };
        let policy = Policy { rules: vec![rule], ..Policy::without_rules(Action::Nat) };
        let policy = Arc::new(policy);
        let shards = Shards::new(CORES as u8, CORES as u8, seed);
        let worker = |me: usize| {
            let snapshot = Snapshot { generation: 1, policy: policy.clone() };
            let setup = setup(me as u8, &shards, snapshot, run);
            let stats = Arc::new(WorkerStats::new(2));
            Worker::new(setup, VecPool::endless(), stats, now)
        };
        let reactor = |_| {
            let mut reactor = Reactor::new(&proxy(), CORES, Services::default(), Arc::default(), now);
            let chooser = run.chosen.then(|| -> Named { ("chooser".into(), Arc::new(Chooser)) });
            let chains = Arc::new(Chains::new(vec![chooser.into_iter().collect()], WINDOW));
            let rules = vec!["all".into()];
            reactor.set_policy(reactor::Snapshot { generation: 1, rules, chains }, 1);
            reactor
        };
        let clients = (0..run.flows).map(|n| {
            let local = SocketAddrV4::new(Ipv4Addr::new(10, 77, 1, 10 + n % 7), 4000 + u16::from(n));
            let text = (0..random.below(200_000)).map(|_| random.number() as u8).collect();
            (local, Host::client(local, SERVER, text, random.number() as u32, now))
        });
        let clients = clients.collect();
        let mut link = || Link::new(run.link.clone(), random.number());
        let (outward, mut inward) = ([link(), link()], [link(), link()]);
        for n in 0..run.spoofed {
            let before = run.spoofed / 4;
            let at =
                if n < before { Instant::ZERO } else { now + FLOOD * (n - before) / (run.spoofed - before) };
            inward[INSIDE].send(spoofed_syn(&mut random), at);
        }
        Self {
            run: run.clone(),
            now,
            workers: (0..CORES).map(worker).collect(),
            reactors: (0..CORES).map(reactor).collect(),
            clients,
            servers: BTreeMap::new(),
            outward,
            inward,
            random,
        }
    }

    /// Lets time pass until every conversation has ended and the gateway has forgotten it.
    pub(crate) fn play(mut self) -> Result<(), String> {
        let end = self.now + PATIENCE;
        while !self.is_over() {
            self.run_hosts();
            self.run_gateway();
            let next = self.next_event();
            if next > end {
                return Err(format!("stuck: {}", self.state()));
            }
            self.now = self.now.max(next);
        }
        for (client, host) in &self.clients {
            if host.heard != host.text() {
                return Err(format!(
                    "{client} said {} bytes and heard {}",
                    host.text().len(),
                    host.heard.len()
                ));
            }
        }
        let opened: u64 = self.reactors.iter().map(|reactor| reactor.stats().opened_tcp.value()).sum();
        if (self.run.action == Action::Proxy) != (opened >= self.clients.len() as u64) {
            return Err(format!("{opened} pairs for {} flows by {:?}", self.clients.len(), self.run.action));
        }
        if self.run.chosen {
            self.judge_choice()?;
        }
        self.judge_cookies()
    }

    /// As many connections to servers as were to be, and no more.
    fn judge_choice(&self) -> Result<(), String> {
        let wanted: usize = self.clients.iter().map(|(addr, host)| Way::of(*addr).servers(host.text())).sum();
        let asked: u64 = self.reactors.iter().map(|reactor| reactor.stats().servers_asked.value()).sum();
        let told = format!("{asked} servers asked, {} met, {wanted} needed", self.servers.len());
        if asked == wanted as u64 && self.servers.len() == wanted { Ok(()) } else { Err(told) }
    }

    /// What went by cookies, and what spoofed SYNs cost: a worker opens no more flows for them than it takes to notice.
    fn judge_cookies(&self) -> Result<(), String> {
        let clients = self.clients.len() as u64;
        let sum = |of: fn(&WorkerStats) -> &Counter| -> u64 {
            self.workers.iter().map(|worker| of(worker.stats()).value()).sum()
        };
        let [sent, accepted] = [sum(|stats| &stats.cookies_sent), sum(|stats| &stats.cookies_accepted)];
        let opened = sum(|stats| &stats.opened);
        let most = clients + CORES as u64 * (u64::from(self.run.syn_cookies_above) + 1);
        let told =
            format!("{sent} cookies sent, {accepted} accepted, {opened} flows opened for {clients} clients");
        let is_right = if self.run.accept == Accept::Early {
            accepted >= clients && opened == accepted
        } else if self.run.spoofed > 0 {
            accepted > 0 && sent >= u64::from(self.run.spoofed) * 9 / 10 && opened <= most
        } else {
            sent == 0 && accepted == 0
        };
        if is_right { Ok(()) } else { Err(told) }
    }

    fn is_over(&self) -> bool {
        self.clients.values().all(Host::is_done) && self.reactors.iter().all(Reactor::is_empty)
    }

    fn state(&self) -> String {
        let done = self.clients.values().filter(|host| host.is_done()).count();
        let pairs: usize = self.reactors.iter().map(Reactor::len).sum();
        format!("{done} of {} clients are done, {pairs} pairs are open", self.clients.len())
    }

    fn next_event(&self) -> Instant {
        let hosts = self.clients.values().chain(self.servers.values()).map(Host::deadline);
        let links = self.outward.iter().chain(&self.inward).map(Link::next_arrival);
        let workers = self.workers.iter().filter_map(Worker::deadline);
        let reactors = self.reactors.iter().map(Reactor::deadline);
        // Time moves on even where somebody is never satisfied, so that a loop without end is found out.
        let soonest = hosts.chain(links).chain(workers).chain(reactors).min().unwrap_or(Instant::FAR);
        soonest.max(self.now + Duration::from_micros(1))
    }

    fn run_hosts(&mut self) {
        for port in [INSIDE, OUTSIDE] {
            while let Some(frame) = self.outward[port].receive(self.now) {
                self.deliver(port, frame);
            }
        }
        let clients = self.clients.values_mut().map(|host| (INSIDE, host));
        let servers = self.servers.values_mut().map(|host| (OUTSIDE, host));
        for (port, host) in clients.chain(servers) {
            let mut frames = Vec::new();
            host.run(&mut self.random, self.now, &mut frames);
            for mut frame in frames {
                let (src, dst) = (station(port), mac(port));
                ethernet::Header { dst, src, ether_type: ethernet::TYPE_IPV4 }.write(frame.data_mut());
                self.inward[port].send(frame, self.now);
            }
        }
    }

    /// A frame reaches the hosts on a port's side.
    fn deliver(&mut self, port: usize, frame: VecFrame) {
        let Some((src, dst, header, payload)) = read(frame) else { return };
        if port == INSIDE {
            assert_eq!(src, SERVER, "a client hears from nobody but its server");
            if let Some(host) = self.clients.get_mut(&dst) {
                host.on_segment(&header, payload, self.now);
            }
            return;
        }
        assert_eq!(*src.ip(), PUBLIC, "a server hears from nobody but the public address");
        assert!(dst == SERVER || self.run.chosen && dst == OTHER, "a packet for {dst}");
        if let Some(host) = self.servers.get_mut(&(src, dst)) {
            host.on_segment(&header, payload, self.now);
        } else if let Some(host) = Host::server(dst, src, &header, self.random.number() as u32, self.now) {
            self.servers.insert((src, dst), host);
        }
    }

    /// Frames that arrived, timers, and everything that follows from them at this moment.
    fn run_gateway(&mut self) {
        let mut out = Outputs::new(2, CORES, CORES);
        for port in [INSIDE, OUTSIDE] {
            while let Some(mut frame) = self.inward[port].receive(self.now) {
                if self.run.offloads[port].checksum {
                    nic::verify(&mut frame);
                }
                // A NIC's hash knows nothing of who owns what.
                let worker = self.random.below(CORES as u64) as usize;
                self.workers[worker].on_port_burst(port as u8, &mut vec![frame], self.now, &mut out);
            }
        }
        for worker in &mut self.workers {
            worker.on_timer(self.now, &mut out);
        }
        let mut answers = reactor::Outputs::new(CORES);
        let mut to_reactors: Vec<Vec<ToProxy<VecFrame>>> = (0..CORES).map(|_| Vec::new()).collect();
        loop {
            self.transmit(&mut out);
            for (waiting, made) in to_reactors.iter_mut().zip(&mut out.to_proxy) {
                waiting.append(made);
            }
            let handed: Vec<Vec<Handoff<VecFrame>>> = out.handoff.iter_mut().map(std::mem::take).collect();
            let mut moved = false;
            for (worker, mut burst) in self.workers.iter_mut().zip(handed) {
                moved |= !burst.is_empty();
                worker.on_handoff(&mut burst, self.now, &mut out);
            }
            for (reactor, input) in self.reactors.iter_mut().zip(&mut to_reactors) {
                reactor.on_burst(input, &mut VecPool::endless(), self.now, &mut answers);
                reactor.on_timer(&mut VecPool::endless(), self.now, &mut answers);
            }
            for (index, worker) in self.workers.iter_mut().enumerate() {
                let burst: &mut Vec<FromProxy<VecFrame>> = answers.worker(WorkerId(index as u8));
                moved |= !burst.is_empty();
                worker.on_proxy_burst(burst, self.now, &mut out);
            }
            if !moved && out.transmit.iter().all(Vec::is_empty) {
                return;
            }
        }
    }

    /// Frames leave by the ports. Whoever is asked for by ARP answers at once: every address is one station's.
    fn transmit(&mut self, out: &mut Outputs<VecFrame>) {
        for port in [INSIDE, OUTSIDE] {
            let offloads = self.run.offloads[port];
            for frame in
                std::mem::take(&mut out.transmit[port]).into_iter().flat_map(|frame| wire(offloads, frame))
            {
                let header = ethernet::Header::read(frame.data()).expect("an Ethernet header");
                if header.ether_type != ethernet::TYPE_ARP {
                    self.outward[port].send(frame, self.now);
                    continue;
                }
                let asked = arp::Message::read(&frame.data()[L2_LEN..]).expect("an ARP message");
                if asked.operation == arp::Operation::Request && asked.sender != asked.target {
                    let worker = self.random.below(CORES as u64) as usize;
                    let mut answers = vec![answer(port, &asked)];
                    self.workers[worker].on_port_burst(port as u8, &mut answers, self.now, out);
                }
            }
        }
    }
}

/// What a port makes of a frame.
fn wire(offloads: Offloads, frame: VecFrame) -> Vec<VecFrame> {
    let is_left = frame.checksum() == Checksum::Partial;
    assert!(offloads.checksum || !is_left, "left to a port that does not complete it");
    let (whole, size) = frame.extent();
    let following = whole - frame.data().len();
    let segments = 1 + size.map_or(0, |size| following.div_ceil(size.into()));
    assert!(segments <= offloads.segments.into(), "{segments} segments are left to the port");
    nic::send(frame)
}

/// A SYN to the server from a neighbor that does not exist.
fn spoofed_syn(random: &mut Random) -> VecFrame {
    let src = Ipv4Addr::new(10, 77, 1, 100 + random.below(100) as u8);
    let syn = Header {
        src_port: random.number() as u16,
        dst_port: SERVER.port(),
        seq: Seq(random.number() as u32),
        flags: Flags::SYN,
        window: 64_240,
        options: Options {
            mss: Some(1460),
            window_scale: Some(7),
            sack_permitted: true,
            timestamps: Some((random.number() as u32, 0)),
            ..Options::default()
        },
        ..Header::default()
    };
    let total_len = ip::MIN_LEN + syn.len();
    let mut frame = VecFrame::new(&vec![0; L2_LEN + total_len]);
    let link = ethernet::Header { dst: mac(INSIDE), src: station(INSIDE), ether_type: ethernet::TYPE_IPV4 };
    link.write(frame.data_mut());
    let packet = ip::Header::new(6, src, *SERVER.ip(), total_len);
    packet.write(&mut frame.data_mut()[L2_LEN..]);
    syn.write(&mut frame.data_mut()[L2_LEN + ip::MIN_LEN..], src, *SERVER.ip());
    frame
}

pub(crate) fn answer(port: usize, asked: &arp::Message) -> VecFrame {
    let mut frame = VecFrame::new(&[0; L2_LEN + arp::LEN]);
    let (dst, src) = (mac(port), station(port));
    ethernet::Header { dst, src, ether_type: ethernet::TYPE_ARP }.write(frame.data_mut());
    arp::Message {
        operation: arp::Operation::Reply,
        sender_mac: src,
        sender: asked.target,
        target_mac: asked.sender_mac,
        target: asked.sender,
    }
    .write(&mut frame.data_mut()[L2_LEN..]);
    frame
}

/// The link address of one of the gateway's ports.
pub(crate) const fn mac(port: usize) -> Mac {
    Mac([2, 0, 0, 0, 0, port as u8])
}

/// The link address of all hosts behind a port.
pub(crate) const fn station(port: usize) -> Mac {
    Mac([2, 0, 0, 0, 1, port as u8])
}

pub(crate) fn setup(me: u8, shards: &Shards, policy: Snapshot, run: &Run) -> Setup {
    let port = |port: usize, addr: Ipv4Addr, gateway| PortInfo {
        mac: mac(port),
        mtu: 1500,
        offloads: run.offloads[port],
        outside: port == OUTSIDE,
        addresses: vec![(addr, 24)],
        gateway,
    };
    let router = Ipv4Addr::new(198, 18, 0, 254);
    Setup {
        me: WorkerId(me),
        shards: shards.clone(),
        ports: vec![port(INSIDE, Ipv4Addr::new(10, 77, 1, 1), None), port(OUTSIDE, PUBLIC, Some(router))],
        nat: config::Nat {
            public: vec![PUBLIC],
            ports: 1024..=65535,
            flows: 1024,
            flows_per_client: 1024,
            timeouts: config::Timeouts {
                tcp_established: Duration::from_secs(7440),
                tcp_transitory: Duration::from_secs(240),
                udp: Duration::from_secs(300),
                icmp: Duration::from_secs(60),
            },
        },
        policy,
        proxied_idle: Duration::from_secs(7440),
        cookies: SynCookies { above: run.syn_cookies_above, window: WINDOW, ecn: true, secret: 7 },
        secret: u64::from(me),
    }
}

pub(crate) fn proxy() -> config::Proxy {
    config::Proxy {
        pairs: 1024,
        connect_timeout: Duration::from_secs(60),
        half_open_timeout: Duration::from_secs(60),
        idle_timeout: Duration::from_secs(300),
        keepalive: Duration::ZERO,
        udp_timeout: Duration::from_secs(60),
        window: WINDOW,
        ring: 4096,
        ..config::Proxy::default()
    }
}
