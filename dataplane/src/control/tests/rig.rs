//! A gateway of fake cores behind a real control thread.

use std::fs;
use std::path::Path;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, bounded, unbounded};
use pnat_shared::stats::{Closes, Counter, Drops, Metric, Turns};

use super::super::answer::Explanation;
use super::super::client::{Client, Place};
use super::super::*;
use super::fake_core::{Told, fake_core};
use super::{CONFIG, filters, tempdir};

#[derive(Debug, Default)]
pub(super) struct FakeCounters {
    turns: Turns,
    pub(super) packets: Counter,
    pub(super) drops: Drops,
    pub(super) closes: Closes,
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
pub(super) struct Rig {
    pub(super) dir: tempdir::Dir,
    pub(super) control_keys: String,
    pub(super) control: Option<Control>,
    pub(super) cores: Vec<Core>,
    pub(super) threads: Vec<JoinHandle<()>>,
    told: Receiver<Told>,
    pub(super) counters: Vec<Arc<FakeCounters>>,
    /// Of the port.
    pub(super) link_up: Arc<Counter>,
}

impl Rig {
    pub(super) fn new(test: &str) -> Self {
        Self::with(test, None)
    }

    /// A rig one of whose cores refuses every new policy.
    pub(super) fn with(test: &str, refuses: Option<(Role, usize)>) -> Self {
        Self::configured(test, "", refuses)
    }

    /// The same, with these keys in `[control]` too.
    pub(super) fn configured(test: &str, control: &str, refuses: Option<(Role, usize)>) -> Self {
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

    pub(super) fn config_file(&self) -> PathBuf {
        self.dir.path().join("lab.toml")
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.dir.path().join("run/control.sock")
    }

    pub(super) fn write_config(&self, text: &str) {
        let control = format!("[control]\nsocket = \"{}\"\n{}", self.socket().display(), self.control_keys);
        fs::write(self.config_file(), format!("{text}{control}")).expect("written");
    }

    pub(super) fn client(&self) -> Client {
        Client::new(Place::Socket(self.socket())).expect("a client")
    }

    pub(super) fn told(&self) -> Vec<Told> {
        self.told.try_iter().collect()
    }

    pub(super) fn decides_mail(&self) -> String {
        let answer = self.client().get("/explain?proto=tcp&src=10.77.1.5:4000&dst=192.0.2.9:25");
        let explanation: Explanation = answer.expect("explained");
        explanation.action
    }
}

/// A gateway with this configuration and nothing behind it.
pub(super) fn without_cores(dir: &tempdir::Dir, text: &str) -> Gateway {
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
