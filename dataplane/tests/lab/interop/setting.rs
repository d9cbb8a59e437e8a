//! What a row changes about a host, and undoes after itself.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::fixture::succeed;
use crate::hosts::{CLIENT, FAR_ADDRESS, Host, PUBLIC_ADDRESS};

/// Tables of nftables so far: rows that run at the same time have one each.
static TABLES: AtomicU32 = AtomicU32::new(0);

/// One change to a host's network.
#[derive(Clone, Debug)]
pub(crate) enum Setting {
    /// A key of `net.ipv4` and its value.
    Sysctl(&'static str, String),
    /// Attributes of the route to the other host, such as `advmss 536`.
    Route(String),
    /// A chain of nftables.
    Rules { family: &'static str, hook: &'static str, at: &'static str, rules: String },
    /// A queueing discipline at the host's wire: arguments of `tc`, one command a line.
    Queue(&'static str),
}

pub(crate) fn sysctl(key: &'static str, value: impl Into<String>) -> Setting {
    Setting::Sysctl(key, value.into())
}

pub(crate) fn route(attributes: impl Into<String>) -> Setting {
    Setting::Route(attributes.into())
}

/// Rules where packets arrive at a host (`ingress`) or leave it (`egress`), before and behind all of its own stack.
pub(crate) fn wire(hook: &'static str, rules: impl Into<String>) -> Setting {
    Setting::Rules { family: "netdev", hook, at: "device \"eth0\"", rules: rules.into() }
}

/// Rules of a host's firewall: `input` or `output`.
pub(crate) fn firewall(hook: &'static str, rules: impl Into<String>) -> Setting {
    Setting::Rules { family: "inet", hook, at: "", rules: rules.into() }
}

impl Setting {
    /// Changes the host; the former state comes back when the answer is dropped.
    pub(crate) fn apply(&self, host: Host) -> Applied {
        let undo = match self {
            Self::Sysctl(key, value) => {
                let file = PathBuf::from("/proc/sys/net/ipv4").join(key);
                let former = set(host, file.clone(), value.clone());
                Undo::File(file, former)
            }
            Self::Route(attributes) => {
                let mut route = route_to_other(host);
                tool(host, &format!("ip route replace {route} {attributes}"));
                route.truncate(route.find(' ').expect("a destination"));
                Undo::Tool(format!("ip route del {route}"))
            }
            Self::Rules { family, hook, at, rules } => {
                let name = format!("row_{}", TABLES.fetch_add(1, Ordering::Relaxed));
                let table = format!(
                    "table {family} {name} {{ chain row {{ type filter hook {hook} {at} priority 0;\n{rules}\n}}\n}}"
                );
                host.within(move || succeed(Command::new("nft").arg(table)));
                Undo::Tool(format!("nft delete table {family} {name}"))
            }
            Self::Queue(commands) => {
                for arguments in commands.lines().map(str::trim).filter(|line| !line.is_empty()) {
                    tool(host, &format!("tc {arguments}"));
                }
                Undo::Tool("tc qdisc del dev eth0 root".to_owned())
            }
        };
        Applied { host, undo: Some(undo) }
    }
}

/// A setting in force.
#[must_use]
#[derive(Debug)]
pub(crate) struct Applied {
    host: Host,
    undo: Option<Undo>,
}

#[derive(Debug)]
enum Undo {
    File(PathBuf, String),
    Tool(String),
}

impl Applied {
    /// Leaves the setting as it is, for as long as the lab is up.
    pub(crate) fn keep(mut self) {
        self.undo = None;
    }
}

impl Drop for Applied {
    fn drop(&mut self) {
        match self.undo.take() {
            None => {}
            Some(Undo::File(file, former)) => drop(set(self.host, file, former)),
            Some(Undo::Tool(command)) => drop(tool(self.host, &command)),
        }
    }
}

/// Runs a tool in the host's namespace; what it printed.
pub(crate) fn tool(host: Host, command: &str) -> String {
    let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
    host.within(move || succeed(Command::new(&words[0]).args(&words[1..])))
}

/// Writes a file below `/proc/sys/net`, which shows the namespace of the thread that asks; what it said before.
fn set(host: Host, file: PathBuf, value: String) -> String {
    host.within(move || {
        let former = fs::read_to_string(&file).unwrap().trim().to_owned();
        fs::write(&file, &value).unwrap_or_else(|error| panic!("{}: {value}: {error}", file.display()));
        former
    })
}

/// The route by which a host reaches the other one.
fn route_to_other(host: Host) -> String {
    if host == CLIENT {
        format!("{FAR_ADDRESS}/32 via 10.77.1.1 dev eth0")
    } else {
        format!("{PUBLIC_ADDRESS}/32 dev eth0")
    }
}
