//! The lab as a test has it: up with a gateway in it, and down when the test ends, whichever way it ends.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, geteuid, getrlimit, setrlimit};
use rustix::thread::{sched_getaffinity, sched_setaffinity};
use serde_json::Value;

use crate::policy::{self, Arrangement};

/// What the namespaces' names begin with; not the name of a lab that somebody works in.
pub(crate) fn name() -> String {
    env::var("PNAT_LAB_NAME").unwrap_or_else(|_| "pnat-test".to_owned())
}

/// The lab's state directory.
fn dir() -> PathBuf {
    env::var_os("PNAT_LAB_DIR").map_or_else(|| format!("/run/{}-lab", name()).into(), PathBuf::from)
}

/// A lab with a running gateway. Its namespaces, servers, pages and addresses: `scripts/lab`.
#[derive(Debug)]
pub(crate) struct Lab {
    arrangement: Arrangement,
    /// Locked as long as this lab is up: there is one at a time, however tests are run.
    _turn: File,
}

impl Lab {
    /// Up, with a gateway that has this [`policy`].
    pub(crate) fn start(policy: &str) -> Self {
        Self::with_loss(0, policy)
    }

    /// The same, with other ports and cores than usual.
    pub(crate) fn arranged(arrangement: Arrangement, policy: &str) -> Self {
        Self::run(Self::up(0, arrangement), policy)
    }

    /// The same, and both hosts' wires lose so many percent of all packets each way.
    pub(crate) fn with_loss(percent: u32, policy: &str) -> Self {
        Self::run(Self::up(percent, Arrangement::default()), policy)
    }

    fn run(self, policy: &str) -> Self {
        self.configure(policy);
        self.start_again();
        self
    }

    fn up(loss_percent: u32, arrangement: Arrangement) -> Self {
        assert!(geteuid().is_root(), "the lab tests make network namespaces: run them as root");
        let turn = File::open(env::current_exe().unwrap()).unwrap();
        turn.lock().unwrap();
        make_room_for_sockets();
        keep_off_the_gateways_cpu();
        succeed(script().arg("down"));
        let queues = arrangement.workers.len().to_string();
        let loss = loss_percent.to_string();
        let mtu = arrangement.wire_mtu.to_string();
        let environment = [("PNAT_LAB_LOSS", loss), ("PNAT_LAB_QUEUES", queues), ("PNAT_LAB_MTU", mtu)];
        succeed(script().arg("up").envs(environment));
        Self { arrangement, _turn: turn }
    }

    /// Gives the running gateway another policy.
    pub(crate) fn reload(&self, policy: &str) {
        self.configure(policy);
        self.gateway(&["reload"]);
    }

    /// Ends the gateway by SIGTERM, which must succeed; what it printed last.
    pub(crate) fn stop(&self) -> String {
        self.gateway(&["stop"])
    }

    /// Starts the gateway that was stopped, with the policy that it had.
    pub(crate) fn start_again(&self) {
        self.gateway(&["start", "--config", text(&self.config())]);
    }

    /// Sends the gateway a signal, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let pid = fs::read_to_string(self.file("pid/gateway")).unwrap();
        succeed(Command::new("kill").args(["-s", name, pid.trim()]));
    }

    fn configure(&self, policy: &str) {
        fs::write(self.config(), policy::gateway(&dir(), self.arrangement, policy)).unwrap();
    }

    fn gateway(&self, args: &[&str]) -> String {
        succeed(script().arg("gateway").args(args).current_dir(dir()))
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.file("test.toml")
    }

    /// A file in the lab's state directory, which is the gateway's working directory.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        dir().join(name)
    }

    /// Runs a subcommand of `pnat` with this gateway's configuration; what it printed.
    pub(crate) fn pnat(&self, subcommand: &str, args: &[&str]) -> String {
        succeed(pnat(subcommand, &self.config()).args(args))
    }

    /// A sum over all cores of a role out of `pnat stats`.
    pub(crate) fn total(&self, role: &str, counter: &str) -> u64 {
        number(&self.stats()["totals"][role][counter])
    }

    /// Packets dropped for a reason, everywhere.
    pub(crate) fn drops(&self, reason: &str) -> u64 {
        let stats = self.stats();
        let drops = stats["drops"].as_array().expect("drops");
        number(&drops.iter().find(|total| total["reason"] == reason).expect("a reason of that name")["count"])
    }

    /// A counter of a port, pool or ring out of `pnat stats`.
    pub(crate) fn gauge(&self, kind: &str, name: &str, counter: &str) -> u64 {
        let stats = self.stats();
        let groups = stats["groups"].as_array().expect("groups");
        let group = groups.iter().find(|group| group["kind"] == kind && group["name"] == name);
        number(&group.unwrap_or_else(|| panic!("no {kind} {name} in {stats:#}"))["counters"][counter])
    }

    fn stats(&self) -> Value {
        serde_json::from_str(&self.pnat("stats", &["--json"])).unwrap()
    }

    /// What the log filter has written so far.
    pub(crate) fn flow_log(&self) -> Vec<Value> {
        let lines = fs::read_to_string(self.file(policy::FLOW_LOG)).unwrap_or_default();
        lines.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }

    /// The flow log's line that fits, as soon as there is one.
    pub(crate) fn logged(&self, fits: impl Fn(&Value) -> bool) -> Value {
        let mut found = None;
        wait_until(Duration::from_secs(10), "the flow is in the flow log", || {
            found = self.flow_log().into_iter().find(&fits);
            found.is_some()
        });
        found.unwrap()
    }
}

impl Drop for Lab {
    #[allow(clippy::print_stderr)] // a failed test shows what the gateway had to say
    fn drop(&mut self) {
        if thread::panicking() {
            for log in ["log/gateway.out", "log/gateway.log"] {
                eprintln!("--- {log}\n{}", fs::read_to_string(self.file(log)).unwrap_or_default());
            }
        }
        let down = script().arg("down").status();
        assert!(thread::panicking() || down.is_ok_and(|status| status.success()), "the lab went down");
    }
}

/// A subcommand of `pnat`, to be run outside of the lab: it reaches the gateway by its control socket.
pub(crate) fn pnat(subcommand: &str, config: &Path) -> Command {
    let mut command = Command::new(program());
    command.arg(subcommand).arg("--config").arg(config);
    command
}

fn number(value: &Value) -> u64 {
    value.as_u64().expect("a counter of that name")
}

/// `scripts/lab` for this lab.
pub(crate) fn script() -> Command {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/lab"));
    command.env("PNAT_LAB_NAME", name()).env("PNAT_LAB_DIR", dir()).env("PNAT_BIN", program());
    command
}

/// The gateway program: the one built with these tests, unless the environment names another.
fn program() -> PathBuf {
    env::var_os("PNAT_BIN").map_or_else(|| env!("CARGO_BIN_EXE_pnat").into(), PathBuf::from)
}

/// Runs a command that must succeed; what it printed.
pub(crate) fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, printed(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Standard output and standard error.
pub(crate) fn printed(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

pub(crate) fn wait_until(limit: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// Thousands of sockets are open at the same time.
fn make_room_for_sockets() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}

/// The test's threads and programs leave CPU 1 to the gateway's busy core, as `scripts/lab` does.
fn keep_off_the_gateways_cpu() {
    let mut cpus = sched_getaffinity(None).unwrap();
    if cpus.count() > 1 && cpus.is_set(1) {
        cpus.unset(1);
    }
    sched_setaffinity(None, &cpus).unwrap();
}
