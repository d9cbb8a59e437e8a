//! The API over a real socket, with cores that are threads and answer what the test says.

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread::{self, JoinHandle};

use clap::Parser as _;
use crossbeam_channel::{Receiver, bounded, unbounded};
use hyper::StatusCode;
use pnat_shared::capture::TapPoint;
use pnat_shared::flow::{Handle, Protocol, ProxyId, WorkerId};
use pnat_shared::path_mtu::MtuCause;
use pnat_shared::report::{Fate, FlowRow, NarrowLeg, PairRow, PastKind, PastRow, Traffic};
use pnat_shared::stats::{Closes, Counter, Drops, Metric, Stage, Turns};
use pnat_shared::time::Instant;
use pnat_shared::verdict::{CloseReason, DropReason};

use super::answer::{Explanation, Flows, Reloaded, Stats};
use super::client::{Client, ClientError, Place};
use super::columns::FlowColumn;
use super::history::{CounterHistory, History};
use super::report::Report;
use super::*;

mod description;
pub(super) mod pki;
mod remote;
mod watching;

const CONFIG: &str = r#"[[port]]
name = "inside"
device = "net_null0"
addresses = ["10.77.1.1/24"]
[[port]]
name = "outside"
device = "net_null1"
addresses = ["198.18.0.1/24"]
[cores]
workers = [0, 1]
proxies = [0, 1]
[nat]
public = ["198.18.0.1"]
[[rule]]
name = "web"
match = { proto = "tcp", dst_port = 80 }
action = "proxy"
"#;

const MORE_RULES: &str = "[[rule]]\nname = \"mail\"\nmatch = { dst_port = 25 }\naction = \"deny\"\n";

/// Makes chains; nothing is logged.
fn filters() -> Filters {
    Filters::start(65_535).expect("a thread").0
}

/// What a core was told, in order over all cores.
#[derive(Clone, Debug, PartialEq)]
enum Told {
    Policy { core: String, generation: u32, oldest: u32, rules: usize },
    Tap { core: String, set: bool },
}

#[derive(Debug, Default)]
struct FakeCounters {
    turns: Turns,
    packets: Counter,
    drops: Drops,
    closes: Closes,
}

impl Counters for FakeCounters {
    fn counters(&self, each: &mut dyn FnMut(Metric, u64)) {
        each(Metric::count("rx_packets", "Frames received."), self.packets.value());
    }

    fn turns(&self) -> Option<&Turns> {
        Some(&self.turns)
    }

    fn drops(&self) -> Option<&Drops> {
        Some(&self.drops)
    }

    fn closes(&self) -> Option<&Closes> {
        Some(&self.closes)
    }
}

#[derive(Debug)]
struct FakePort(Arc<Counter>);

impl Counters for FakePort {
    fn counters(&self, each: &mut dyn FnMut(Metric, u64)) {
        each(Metric::level("link_up", "1 while the port's link is up."), self.0.value());
    }
}

/// A gateway of fake cores behind a real control thread. Cores end when their channels do.
struct Rig {
    dir: tempdir::Dir,
    control_keys: String,
    control: Option<Control>,
    cores: Vec<Core>,
    threads: Vec<JoinHandle<()>>,
    told: Receiver<Told>,
    counters: Vec<Arc<FakeCounters>>,
    /// Of the port.
    link_up: Arc<Counter>,
}

mod tempdir {
    use std::path::{Path, PathBuf};

    /// A directory of one test, removed at its end.
    pub(super) struct Dir(PathBuf);

    impl Dir {
        pub(super) fn new(test: &str) -> Self {
            let path = std::env::temp_dir().join(format!("pnat-{}-{test}", std::process::id()));
            std::fs::create_dir_all(&path).expect("a directory");
            Self(path)
        }

        pub(super) fn path(&self) -> &Path {
            &self.0
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

impl Rig {
    fn new(test: &str) -> Self {
        Self::with(test, None)
    }

    /// A rig one of whose cores refuses every new policy.
    fn with(test: &str, refuses: Option<(Role, usize)>) -> Self {
        Self::configured(test, "", refuses)
    }

    /// The same, with these keys in `[control]` too.
    fn configured(test: &str, control: &str, refuses: Option<(Role, usize)>) -> Self {
        let dir = tempdir::Dir::new(test);
        let (sender, told) = unbounded();
        let (mut cores, mut threads, mut counters) = (Vec::new(), Vec::new(), Vec::new());
        for (role, index) in [(Role::Worker, 0), (Role::Worker, 1), (Role::Proxy, 0), (Role::Proxy, 1)] {
            let counted = Arc::new(FakeCounters::default());
            let (messages, inbox) = bounded(CORE_QUEUE);
            let core = Core { role, index, cpu: index, messages, counters: counted.clone() };
            let (name, told, refuses) = (core.name(), sender.clone(), refuses == Some((role, index)));
            threads.push(thread::spawn(move || fake_core(role, index, &name, refuses, &inbox, &told)));
            cores.push(core);
            counters.push(counted);
        }
        let link_up = Arc::new(Counter::default());
        link_up.set(1);
        let port =
            Gauge { kind: "port", name: "inside".to_owned(), counters: Arc::new(FakePort(link_up.clone())) };
        let mut rig = Self {
            dir,
            control_keys: control.to_owned(),
            control: None,
            cores: cores.clone(),
            threads,
            told,
            counters,
            link_up,
        };
        rig.write_config(CONFIG);
        let config = Config::load(&rig.config_file(), 2).expect("a good configuration");
        let listen = config.control.listen.as_ref();
        let credentials = listen.map(|l| Credentials::load(&rig.config_file(), &l.tls).expect("good files"));
        let ring = FakeCounters::default();
        ring.packets.set(7);
        let gateway = Gateway {
            config_file: rig.config_file(),
            config,
            cpus: 2,
            started: SystemTime::UNIX_EPOCH,
            cores,
            gauges: vec![
                Gauge { kind: "ring", name: "to_proxy 0-1".to_owned(), counters: Arc::new(ring) },
                port,
            ],
            filters: filters(),
            credentials,
        };
        rig.control = Some(start(gateway).expect("control starts"));
        rig
    }

    fn config_file(&self) -> PathBuf {
        self.dir.path().join("lab.toml")
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("run/control.sock")
    }

    fn write_config(&self, text: &str) {
        let control = format!("[control]\nsocket = \"{}\"\n{}", self.socket().display(), self.control_keys);
        fs::write(self.config_file(), format!("{text}{control}")).expect("written");
    }

    fn client(&self) -> Client {
        Client::new(Place::Socket(self.socket())).expect("a client")
    }

    fn told(&self) -> Vec<Told> {
        self.told.try_iter().collect()
    }

    fn decides_mail(&self) -> String {
        let answer = self.client().get("/explain?proto=tcp&src=10.77.1.5:4000&dst=192.0.2.9:25");
        let explanation: Explanation = answer.expect("explained");
        explanation.action
    }
}

fn fake_core(
    role: Role,
    index: usize,
    name: &str,
    refuses: bool,
    inbox: &Receiver<CoreMessage>,
    told: &Sender<Told>,
) {
    let mut newest = FIRST_GENERATION;
    for message in inbox {
        match message {
            CoreMessage::Policies(reply) => {
                let _ = reply.send(newest);
            }
            CoreMessage::Policy { generation, oldest, policy, reply, .. } => {
                let rules = policy.rules.len();
                let _ = told.send(Told::Policy { core: name.to_owned(), generation, oldest, rules });
                let refused = refuses && generation > FIRST_GENERATION;
                newest = if refused { newest } else { generation };
                let _ = reply.send(if refused { Err("no room for filters".to_owned()) } else { Ok(()) });
            }
            CoreMessage::Latency(reply) => {
                let mut latency = Box::new(Latency::of(&[Stage::Nat]));
                latency.record(Stage::Nat, Duration::from_nanos(100), 5);
                let _ = reply.send(latency);
            }
            CoreMessage::Flows { query, reply } => {
                let _ = reply.send(one_slot(index, &query));
            }
            CoreMessage::Past { query, reply } => {
                let _ = reply.send(one_past(index, &query));
            }
            CoreMessage::Pairs { handles, reply } => {
                let _ =
                    reply.send(handles.into_iter().filter_map(|handle| pair(role, index, handle)).collect());
            }
            CoreMessage::Capture(tap) => {
                let _ = told.send(Told::Tap { core: name.to_owned(), set: tap.is_some() });
                for nanos in 0..10 {
                    if let Some(tap) = &tap {
                        tap.copy(TapPoint::Inside, Instant::from_nanos(nanos), &[index as u8; 60]);
                    }
                }
            }
            CoreMessage::Drain(_) => return,
        }
    }
}

/// What a router has said.
const ROUTER: NarrowLeg =
    NarrowLeg { mtu: 1400, cause: MtuCause::Router, age: Duration::from_secs(2), packets: 3 };

/// Three slots of a worker, told one at a time; the higher, the older and the more was carried. That of slot 1 is proxied.
fn one_slot(index: usize, query: &FlowQuery) -> FlowPage {
    let slot = query.from;
    let row = FlowRow {
        handle: Handle { worker: WorkerId(index as u8), slot, generation: 7 },
        protocol: Protocol::Tcp,
        client: SocketAddr::from(([10, 77, 1, 5], 4000 + slot as u16)),
        server: SocketAddr::from(([192, 0, 2, 9], 80)),
        public: SocketAddr::from(([198, 18, 0, 1], 2000 + slot as u16)),
        policy: FIRST_GENERATION,
        rule: (slot == 1).then_some(0),
        proxy: (slot == 1).then_some(ProxyId(1)),
        state: "established",
        mtus: [9000, 1500],
        path_mtus: [None, (slot < 2).then_some(ROUTER)],
        age: Duration::from_secs(3 + u64::from(slot)),
        idle: Duration::from_millis(20),
        first: Traffic { packets: 1, bytes: 100 },
        second: Traffic { packets: 2, bytes: 3_000 + 100 * u64::from(slot) },
    };
    let rows = if query.admits_row(&row) { vec![row] } else { Vec::new() };
    FlowPage { rows, next: (slot < 2).then_some(slot + 1) }
}

/// Worker 0 remembers two refusals and one ending, told one at a time.
fn one_past(index: usize, query: &PastQuery) -> PastPage {
    let count = match query.kind {
        _ if index > 0 => 0,
        PastKind::Refusals => 2,
        PastKind::Failures => 1,
        PastKind::Endings => 0,
    };
    let Some(number) = query.before.unwrap_or(count).checked_sub(1) else { return PastPage::default() };
    let fate = match query.kind {
        PastKind::Refusals => Fate::Refused { reason: DropReason::PortsExhausted, times: 3 },
        PastKind::Failures | PastKind::Endings => Fate::Ended {
            reason: CloseReason::Blocked,
            public: SocketAddr::from(([198, 18, 0, 1], 2000)),
            proxy: Some(ProxyId(1)),
            lived: Duration::from_millis(1_500),
            first: Traffic { packets: 3, bytes: 300 },
            second: Traffic { packets: 2, bytes: 200 },
            verdict: Some("sites: host www.example".to_owned()),
            name: Some("www.example".to_owned()),
            path_mtus: [Some(NarrowLeg { mtu: 0, packets: 1, ..ROUTER }), None],
        },
    };
    let row = PastRow {
        protocol: Protocol::Tcp,
        client: SocketAddr::from(([10, 77, 1, 5], 5000 + number as u16)),
        server: SocketAddr::from(([192, 0, 2, 9], 80)),
        policy: FIRST_GENERATION,
        rule: (query.kind == PastKind::Failures).then_some(0),
        ago: Duration::from_secs(10 - number * 5),
        fate,
    };
    let is_asked = query.flows.admits(row.protocol, row.client, row.server);
    PastPage { rows: if is_asked { vec![row] } else { Vec::new() }, next: (number > 0).then_some(number) }
}

/// Proxy core 1 has the pair of worker 0's slot 1.
fn pair(role: Role, index: usize, handle: Handle) -> Option<PairRow> {
    let is_there = (role, index) == (Role::Proxy, 1) && handle.worker == WorkerId(0) && handle.slot == 1;
    is_there.then(|| PairRow {
        handle,
        state: "connecting",
        legs: Some(["syn_held", "syn_sent"]),
        name: Some("www.example".to_owned()),
        held: 5,
        mtus: [9000, 1064],
        path_mtus: [None, Some(NarrowLeg { mtu: 1064, cause: MtuCause::BlackHole, ..ROUTER })],
        idle: Duration::from_millis(20),
        first: Traffic { packets: 1, bytes: 10 },
        second: Traffic::default(),
    })
}

#[track_caller]
fn refused<T: core::fmt::Debug>(answer: Result<T, ClientError>) -> (StatusCode, String) {
    match answer.expect_err("refused") {
        ClientError::Refused { status, error } => (status, error),
        other => panic!("not a refusal: {other}"),
    }
}

#[test]
fn stats_sum_up_cores_and_show_each() {
    let rig = Rig::new("stats");
    for counters in &rig.counters {
        counters.packets.set(10);
        counters.drops.add(DropReason::Martian, 2);
    }
    rig.counters[2].closes.add(CloseReason::Finished, 1);
    let stats: Stats = rig.client().get("/stats").expect("stats");
    assert_eq!(stats.generation, 1);
    assert_eq!((stats.totals["worker"]["rx_packets"], stats.totals["proxy"]["rx_packets"]), (20, 20));
    let count = |reasons: &[answer::Reason], key| reasons.iter().find(|r| r.reason == key).map(|r| r.count);
    assert_eq!(count(&stats.drops, "martian"), Some(8));
    assert_eq!(count(&stats.drops, "land"), Some(0), "reasons that did not occur are told too");
    assert_eq!(count(&stats.closes, "finished"), Some(1));
    assert_eq!(stats.groups.len(), 6);
    assert_eq!((stats.groups[4].kind.as_str(), stats.groups[4].counters["rx_packets"]), ("ring", 7));
    let text = stats.to_string();
    assert!(text.contains("worker 1 (CPU 1)\n  rx_packets  10\n"), "{text}");
    assert!(text.contains("martian  8  the source or destination address cannot be real"), "{text}");
}

#[test]
fn flows_are_collected_page_by_page_and_joined_with_their_pairs() {
    let rig = Rig::new("flows");
    let flows: Flows = rig.client().get("/flows?proto=tcp&client=10.77.1.5").expect("flows");
    assert_eq!((flows.flows.len(), flows.more), (6, false));
    let proxied = &flows.flows[1];
    assert_eq!((proxied.rule.as_deref(), proxied.proxy), (Some("web"), Some(1)));
    assert_eq!(proxied.pair.as_ref().map(|pair| pair.state.as_str()), Some("connecting"));
    assert!(flows.flows[0].pair.is_none());
    assert!(flows.flows[4].pair.is_none(), "the same slot of another worker is another flow");

    let some: Flows = rig.client().get("/flows?limit=2").expect("flows");
    assert_eq!((some.flows.len(), some.more), (2, true));
    let none: Flows = rig.client().get("/flows?proto=udp").expect("flows");
    assert_eq!((none.flows.len(), none.more), (0, false));
    let text = some.to_string();
    assert!(text.contains("10.77.1.5:4001  192.0.2.9:80  198.18.0.1:2001  web"), "{text}");
}

#[test]
fn flows_are_chosen_by_whatever_is_told_of_them() {
    let rig = Rig::new("chosen");
    let slots = |question: &str| {
        let flows: Flows = rig.client().get(&format!("/flows?{question}")).expect(question);
        flows.flows.iter().map(|flow| (flow.worker, flow.slot)).collect::<Vec<_>>()
    };
    let rows: [(&str, &[(u8, u32)]); 12] = [
        ("client=10.77.1.5:4002", &[(0, 2), (1, 2)]),
        ("client=10.77.0.0/16&limit=1", &[(0, 0)]),
        ("client=10.78.0.0/16", &[]),
        ("server=192.0.2.9&port=80&client=10.77.1.5:4000", &[(0, 0), (1, 0)]),
        ("port=443", &[]),
        ("rule=web", &[(0, 1), (1, 1)]),
        ("rule=(default)&client=10.77.1.5:4000", &[(0, 0), (1, 0)]),
        ("state=connecting", &[(0, 1)]),
        ("state=established&rule=web", &[(1, 1)]),
        ("min_age_ms=5000", &[(0, 2), (1, 2)]),
        ("max_bytes=3100", &[(0, 0), (1, 0)]),
        ("sort=bytes&limit=3", &[(0, 2), (1, 2), (0, 1)]),
    ];
    for (question, expected) in rows {
        assert_eq!(slots(question), expected, "{question}");
    }
    let (status, error) = refused(rig.client().get::<Flows>("/flows?server=192.0.2.9:80&port=443"));
    assert_eq!((status, error.as_str()), (StatusCode::BAD_REQUEST, "server names port 80, and port is 443"));
    let sorted: Flows = rig.client().get("/flows?sort=age&limit=1").expect("flows");
    assert!(sorted.more, "those that did not fit are not forgotten");
}

#[test]
fn explain_names_the_rule_and_the_live_flow() {
    let rig = Rig::new("explain");
    let ask = |path| rig.client().get::<Explanation>(path).expect("explained");
    let web = ask("/explain?proto=tcp&src=10.77.1.5:4001&dst=192.0.2.9:80");
    assert_eq!((web.rule, web.action.as_str(), web.generation), (Some(0), "proxy", Some(1)));
    assert_eq!(web.flows.iter().map(|flow| flow.slot).collect::<Vec<_>>(), [1, 1], "of either worker");
    let dns = ask("/explain?proto=udp&src=10.77.1.5:4001&dst=192.0.2.9:53");
    assert_eq!((dns.rule, dns.steps[0].mismatch.as_deref()), (None, Some("proto")));
    assert!(dns.flows.is_empty());
    let ping = ask("/explain?proto=icmp&src=10.77.1.5&dst=192.0.2.9");
    let expected = "icmp 10.77.1.5 -> 192.0.2.9
  rule 0  web  line 14  no: proto
  no rule matches: default_action decides
decision: nat (policy generation 1)
no such flow lives
none is remembered
";
    assert_eq!(ping.to_string(), expected);
}

#[test]
fn explain_tells_the_past_of_a_client_whose_port_nobody_knows() {
    let rig = Rig::new("past");
    let ask = |path| rig.client().get::<Explanation>(path).expect("explained");
    let told = ask("/explain?proto=tcp&src=10.77.1.5&dst=192.0.2.9:80").to_string();
    let (_, told) = told.split_once("past, the latest first:\n").expect("a past");
    let expected = "  5.00 s ago  10.77.1.5:5001  refused 3 times in a row: ports_exhausted, no public port is free for a new flow
    default_action (policy generation 1)
  10.0 s ago  10.77.1.5:5000  refused 3 times in a row: ports_exhausted, no public port is free for a new flow
    default_action (policy generation 1)
  10.0 s ago  10.77.1.5:5000  ended after 1.50 s: blocked, a filter blocked the flow
    rule web, line 14 (policy generation 1); filter sites: host www.example; site www.example; by proxy 1 as \
198.18.0.1:2000, 300 bytes sent, 200 received; not every packet on the client's leg: router, a router said that it carries \
no longer packets; 1 packet was too long, found out 2.00 s before the end
";
    assert_eq!(told, expected);
    let one = ask("/explain?proto=tcp&src=10.77.1.5:5001&dst=192.0.2.9:80");
    assert_eq!((one.flows.len(), one.past.len()), (0, 1));
    assert!(ask("/explain?proto=udp&src=10.77.1.5&dst=192.0.2.9:80").past.is_empty());
}

#[test]
fn what_a_leg_does_not_carry_is_told_with_its_cause_by_the_pair_or_else_the_worker() {
    let rig = Rig::new("mtu");
    let flows: Flows = rig.client().get("/flows?client=10.77.1.5&sort=age").expect("flows");
    let mut mtus: Vec<_> = flows.flows.iter().map(|flow| (flow.slot, flow.worker, flow.mtus)).collect();
    mtus.sort_unstable();
    let translated = [9000, 1400];
    let proxied = [9000, 1064];
    let expected = [(0, 0, translated), (0, 1, translated), (1, 0, proxied), (1, 1, translated)];
    assert_eq!((&mtus[..4], mtus[4].2), (&expected[..], [9000, 1500]));
    let table = flows.table(&[FlowColumn::Client, FlowColumn::Mtu]);
    assert!(table.contains("10.77.1.5:4000  9000/1400\n"), "{table}");
    let told: Explanation =
        rig.client().get("/explain?proto=tcp&src=10.77.1.5:4001&dst=192.0.2.9:80").expect("explained");
    let told = told.to_string();
    for line in [
        "  10.77.1.5:4001: mtu 1064 on the server's leg: black_hole, longer packets vanished without a word; \
         3 packets were too long, found out 2.00 s ago\n",
        "  10.77.1.5:4001: mtu 1400 on the server's leg: router, a router said that it carries no longer packets; \
         3 packets were too long, found out 2.00 s ago\n",
    ] {
        assert!(told.contains(line), "{told}");
    }
}

#[test]
fn a_wrong_question_is_answered_with_what_is_allowed() {
    let rig = Rig::new("questions");
    let rows = [
        ("/flows?clinet=10.0.0.1", "unknown field `clinet`"),
        ("/flows?proto=sctp", "unknown variant `sctp`"),
        (
            "/explain?proto=tcp&src=10.0.0.1&dst=10.0.0.2",
            "\"10.0.0.2\" is not an address; allowed: an IP address and a port",
        ),
    ];
    for (path, reason) in rows {
        let (status, error) = refused(rig.client().get::<Flows>(path));
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(error.contains(reason), "{path}: {error}");
    }
    assert_eq!(refused(rig.client().get::<Flows>("/nothing")).0, StatusCode::NOT_FOUND);
    for (points, reason) in [("loop", "not a tap point"), ("inside,to_proxy", "packets of one kind")] {
        let (status, error) = refused(rig.client().stream(&format!("/capture?at={points}"), |_| Ok(())));
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(error.contains(reason), "{points}: {error}");
    }
}

#[test]
fn the_report_merges_all_cores_and_names_one_that_has_stopped() {
    let rig = Rig::new("report");
    let report: Report = rig.client().get("/report").expect("report");
    assert_eq!((report.stages[0].count, report.silent.len()), (20, 0));
    let control = rig.control.as_ref().expect("runs");
    assert_eq!(control.report().stages[0].count, 20, "the gateway's own way to the same report");
    assert!(rig.client().get::<Stats>("/stats").is_ok(), "control still answers");

    let files = report.write(&rig.dir.path().join("out")).expect("written");
    let names: Vec<&Path> = files.iter().filter_map(|file| file.file_name().map(Path::new)).collect();
    assert_eq!(names, ["report.txt", "latency.hlog", "nat.hgrm"].map(Path::new));
    assert!(files.iter().all(|file| fs::metadata(file).is_ok_and(|file| file.len() > 0)));
}

#[test]
fn a_core_that_has_stopped_is_named_and_the_others_still_reported() {
    let mut rig = Rig::new("stopped");
    rig.cores[3].tell(CoreMessage::Drain(Duration::ZERO)).expect("told");
    rig.threads.pop().expect("proxy 1").join().expect("stops");
    let report: Report = rig.client().get("/report").expect("report");
    assert_eq!((report.silent, report.stages[0].count), (vec!["proxy 1 has stopped".to_owned()], 15));
}

#[test]
fn launch_can_have_all_cores_stop() {
    let mut rig = Rig::new("stop");
    rig.control.as_ref().expect("runs").drain(Duration::ZERO);
    for thread in rig.threads.drain(..) {
        thread.join().expect("stops");
    }
}

#[test]
fn a_reload_reaches_all_proxy_cores_before_any_worker() {
    let rig = Rig::new("reload");
    assert_eq!(rig.decides_mail(), "proxy");
    rig.write_config(&format!("{CONFIG}{MORE_RULES}"));
    let reloaded: Reloaded = rig.client().post("/reload").expect("reloaded");
    assert_eq!(reloaded, Reloaded { generation: 2, rules: 2, filters: 0 });
    let told = rig.told();
    let cores: Vec<&str> = told
        .iter()
        .map(|told| match told {
            Told::Policy { core, generation: 2, oldest: 1, rules: 2 } => &core[..5],
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(cores, ["proxy", "proxy", "worke", "worke"]);
    assert_eq!(rig.decides_mail(), "deny with reset");
    let flows: Flows = rig.client().get("/flows").expect("flows");
    assert_eq!(flows.flows[1].rule.as_deref(), Some("web"), "an earlier policy's rule keeps its name");
}

#[test]
fn a_proxy_core_that_refuses_leaves_everything_as_it_was() {
    let rig = Rig::with("refusing-proxy", Some((Role::Proxy, 1)));
    rig.write_config(&format!("{CONFIG}{MORE_RULES}"));
    let (status, error) = refused(rig.client().post::<Reloaded>("/reload"));
    assert_eq!((status, error.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "proxy 1: no room for filters"));
    let worker_was_told =
        rig.told().iter().any(|told| matches!(told, Told::Policy { core, .. } if core.starts_with('w')));
    assert!(!worker_was_told);
    assert_eq!(rig.decides_mail(), "proxy");
    assert_eq!(rig.client().get::<Stats>("/stats").expect("stats").generation, 1);

    // The number of the attempt is spent: a proxy core may have kept it.
    let _ = refused(rig.client().post::<Reloaded>("/reload"));
    let attempts = rig.told();
    assert!(
        attempts.iter().all(|told| matches!(told, Told::Policy { generation: 3, oldest: 1, .. })),
        "{attempts:?}"
    );
}

#[test]
fn a_worker_that_refuses_makes_all_workers_get_the_old_policy_back() {
    let rig = Rig::with("refusing-worker", Some((Role::Worker, 0)));
    rig.write_config(&format!("{CONFIG}{MORE_RULES}"));
    let (_, error) = refused(rig.client().post::<Reloaded>("/reload"));
    assert_eq!(error, "worker 0: no room for filters");
    assert_eq!(rig.decides_mail(), "proxy");
    // Flows are asked after the old policy in the same channel, so both workers have read it by now.
    let _: Flows = rig.client().get("/flows").expect("flows");
    let told = rig.told();
    for worker in ["worker 0", "worker 1"] {
        let generations: Vec<(u32, usize)> = told
            .iter()
            .filter_map(|told| match told {
                Told::Policy { core, generation, rules, .. } if core == worker => Some((*generation, *rules)),
                _ => None,
            })
            .collect();
        assert_eq!(generations, [(2, 2), (1, 1)], "{worker}");
    }
}

#[test]
fn keys_that_need_a_restart_are_named_and_nothing_changes() {
    let rig = Rig::new("restart");
    let changed = CONFIG.replace("workers = [0, 1]", "workers = [0]").replace("public", "flows = 9\npublic");
    rig.write_config(&format!("{changed}{MORE_RULES}"));
    let (status, error) = refused(rig.client().post::<Reloaded>("/reload"));
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(error.starts_with("these keys changed and need a restart: cores, nat.flows"), "{error}");
    assert!(rig.told().is_empty());
    assert_eq!(rig.decides_mail(), "proxy");
}

#[test]
fn a_faulty_file_is_refused_with_its_line_and_nothing_changes() {
    let rig = Rig::new("faulty");
    rig.write_config(&CONFIG.replace("action = \"proxy\"", "action = \"prxy\""));
    let (status, error) = refused(rig.client().post::<Reloaded>("/reload"));
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(error.contains("lab.toml:17: rule \"web\": action: \"prxy\" is not one of"), "{error}");
    assert!(rig.told().is_empty());
}

#[test]
fn a_capture_ends_at_its_count_and_leaves_no_tap_behind() {
    let rig = Rig::new("capture");
    let mut file = Vec::new();
    let path = "/capture?at=inside,outside&count=25&snaplen=20";
    rig.client()
        .stream(path, |chunk| {
            file.extend_from_slice(chunk);
            Ok(())
        })
        .expect("captured");
    // A file header, then per packet a record header and what was kept.
    assert_eq!(file.len(), 24 + 25 * (16 + 20));
    let stats: Stats = rig.client().get("/stats").expect("stats");
    assert_eq!((stats.capture.packets, stats.capture.lost), (25, 0));
    let _: Report = rig.client().get("/report").expect("asked behind the last message");
    let told = rig.told();
    let taps =
        |wanted| told.iter().filter(|told| matches!(told, Told::Tap { set, .. } if *set == wanted)).count();
    assert_eq!((taps(true), taps(false)), (4, 4));
}

#[test]
fn one_capture_runs_at_a_time_and_ends_when_its_reader_goes() {
    let rig = Rig::new("captures");
    let mut reader = UnixStream::connect(rig.socket()).expect("connected");
    reader.write_all(b"POST /capture?at=to_proxy HTTP/1.1\r\nHost: pnat\r\n\r\n").expect("sent");
    let mut head = [0; 12];
    reader.read_exact(&mut head).expect("answered");
    assert_eq!(&head, b"HTTP/1.1 200");
    let second = || rig.client().stream("/capture?at=to_proxy&seconds=0", |_| Ok(()));
    assert_eq!(refused(second()).0, StatusCode::CONFLICT);
    drop(reader);
    // The server notices at its own pace; until then it says that it is busy.
    assert!((0..500).any(|_| second().is_ok()), "the first capture never ended");
}

#[test]
fn every_command_of_the_cli_is_answered_by_a_running_gateway() {
    let rig = Rig::new("commands");
    let (dir, config) = (rig.dir.path().display(), rig.config_file());
    let rows = [
        ("stats".to_owned(), "worker 0 (CPU 0)"),
        ("stats --json".to_owned(), "\"generation\": 1"),
        ("flows --client 10.77.1.5 --proto tcp --limit 1".to_owned(), "1 flows, and more (--limit)"),
        ("flows --sort bytes --json".to_owned(), "\"flows\": ["),
        (
            "flows --state connecting --rule web --min-age 2s --max-age 1h --min-bytes 1KB --columns client,legs,name"
                .to_owned(),
            "client          legs               name\n10.77.1.5:4001  syn_held/syn_sent  www.example\n1 flows\n",
        ),
        ("explain tcp 10.77.1.5:4001 192.0.2.9:80".to_owned(), "decision: proxy (policy generation 1)"),
        (format!("report --out {dir}/out"), "nat.hgrm"),
        (format!("report --html {dir}/page.html"), "page.html"),
        ("report --markdown".to_owned(), "## The last minutes"),
        (format!("capture --write {dir}/inside.pcap --at inside --count 3"), "3 packets in "),
        ("reload".to_owned(), "policy generation 2: 1 rules, 0 filters"),
    ];
    for (line, expected) in rows {
        let words = ["pnat", "--config", config.to_str().expect("plain")].into_iter().chain(line.split(' '));
        let mut out = Vec::new();
        crate::cli::Cli::try_parse_from(words).expect("a command").run(&mut out).expect(&line);
        let out = String::from_utf8(out).expect("text");
        assert!(out.contains(expected), "{line}: {out}");
    }
    assert_eq!(fs::metadata(rig.dir.path().join("inside.pcap")).expect("written").len(), 24 + 3 * (16 + 60));
    let page = fs::read_to_string(rig.dir.path().join("page.html")).expect("written");
    assert!(page.contains("Packets by port") && page.contains("Latency by percentile and stage"), "{page}");
}

#[test]
fn what_counters_were_is_remembered_from_the_start_on() {
    let rig = Rig::new("history");
    let history: History = rig.client().get("/history").expect("told");
    assert!(!history.times_ms.is_empty());
    let received = |kind: &str, name: &str| {
        let is_it = |line: &&CounterHistory| (line.kind.as_str(), line.name.as_str()) == (kind, name);
        history
            .counters
            .iter()
            .filter(is_it)
            .find(|line| line.counter == "rx_packets")
            .map(|line| &line.values)
    };
    assert_eq!(received("worker", "1").map(Vec::len), Some(history.times_ms.len()));
    assert!(received("port", "inside").is_some());
    assert_eq!(received("ring", "to_proxy 0-1"), None, "of rings only the fullest is told");
}

#[test]
fn the_socket_is_for_its_owner_and_goes_with_the_gateway() {
    let mut rig = Rig::new("socket");
    let mode = fs::metadata(rig.socket()).expect("exists").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    drop(rig.control.take());
    assert!(!rig.socket().exists());
    let told = rig.client().get::<Stats>("/stats").expect_err("nobody there").to_string();
    assert!(told.starts_with("no gateway answers at "), "{told}");
}

/// A gateway with this configuration and nothing behind it.
fn without_cores(dir: &tempdir::Dir, text: &str) -> Gateway {
    Gateway {
        config_file: dir.path().join("lab.toml"),
        config: Config::parse(Path::new("lab.toml"), text, 2).expect("good"),
        cpus: 2,
        started: SystemTime::UNIX_EPOCH,
        cores: Vec::new(),
        gauges: Vec::new(),
        filters: filters(),
        credentials: None,
    }
}

#[test]
fn the_socket_is_for_the_members_of_a_group_where_one_is_named() {
    use std::os::unix::fs::MetadataExt;

    let own = rustix::process::getgid().as_raw();
    let rig = Rig::configured("socket-group", &format!("group = \"{own}\"\n"), None);
    let socket = fs::metadata(rig.socket()).expect("exists");
    assert_eq!((socket.permissions().mode() & 0o777, socket.gid()), (0o660, own));
    let dir = tempdir::Dir::new("socket-no-group");
    let socket = dir.path().join("c");
    let text = format!("{CONFIG}[control]\nsocket = \"{}\"\ngroup = \"no-such-group\"\n", socket.display());
    let told = start(without_cores(&dir, &text)).expect_err("no such group").to_string();
    assert_eq!(told, "control.group no-such-group: /etc/group knows no group of that name");
    assert!(!socket.exists(), "nobody is let in by mistake");
}

#[test]
fn a_client_finds_a_gateway_that_began_anew() {
    let dir = tempdir::Dir::new("anew");
    let text = format!("{CONFIG}[control]\nsocket = \"{}/c\"\n", dir.path().display());
    let client = Client::new(Place::Socket(dir.path().join("c"))).expect("a client");
    for _ in 0..2 {
        let control = start(without_cores(&dir, &text)).expect("starts");
        for _ in 0..3 {
            client.get::<Stats>("/stats").expect("answered");
        }
        drop(control);
        let error = client.get::<Stats>("/stats").expect_err("nobody there");
        assert!(matches!(error, ClientError::NoGateway { .. }), "{error}");
    }
}

#[test]
fn a_socket_left_behind_is_replaced_but_nothing_else_is() {
    let dir = tempdir::Dir::new("left-behind");
    let path = dir.path().join("control.sock");
    let gateway = |path: &Path| {
        let text = format!("{CONFIG}[control]\nsocket = \"{}\"\n", path.display());
        without_cores(&dir, &text)
    };
    drop(UnixListener::bind(&path).expect("bound"));
    let first = start(gateway(&path)).expect("replaces the dead socket");
    let second = start(gateway(&path)).expect_err("the first one lives").to_string();
    assert!(second.ends_with("another gateway answers there"), "{second}");
    drop(first);
    fs::write(&path, "precious").expect("written");
    let third = start(gateway(&path)).expect_err("not a socket").to_string();
    assert!(third.ends_with("this file exists and is no socket"), "{third}");
    assert_eq!(fs::read_to_string(&path).expect("still there"), "precious");
}
