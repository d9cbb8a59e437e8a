//! Linux's TCP on both ends of the gateway, in all its moods: a matrix of rows, each run by `proxy` and by `nat`.
//!
//! A row sets up both hosts (`setting`), lets them exchange something over new connections (`talk`), and says what each
//! must see. In every row the kernel is the client of one leg and the server of the other, and bytes go up and down, so
//! the gateway plays both roles in both directions. Rows of one test share a gateway, whose counters tell by which way
//! a row went. To add a case is to add a row.

mod congestion;
mod ending;
mod forged;
mod harm;
mod jumbo;

mod opening;
mod options;
pub(crate) mod path;
mod patience;
mod setting;
mod size;
mod talk;
mod tap;
mod urgent;
mod volume;

use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::thread;
use std::time::Duration;

use crate::fixture::{Lab, wait_until};
use crate::hosts::{CLIENT, SERVER};
use crate::policy;
use setting::Setting;

/// A way through the gateway, chosen by the server's port. Rows that run at the same time have a lane each.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    kind: Kind,
    lane: u16,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Kind {
    Proxy,
    Nat,
}

impl Way {
    pub(crate) const PROXY: Self = Self { kind: Kind::Proxy, lane: 0 };
    pub(crate) const NAT: Self = Self { kind: Kind::Nat, lane: 0 };
    pub(crate) const BOTH: [Self; 2] = [Self::PROXY, Self::NAT];

    pub(crate) const fn port(self) -> u16 {
        let first = match self.kind {
            Kind::Proxy => 7000,
            Kind::Nat => 7100,
        };
        first + self.lane
    }

    const fn is_proxied(self) -> bool {
        matches!(self.kind, Kind::Proxy)
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_proxied() { "proxy" } else { "nat" })
    }
}

/// One case: how the hosts are set up, and what they do then. What they must see, `exchange` asserts.
pub(crate) struct Row {
    name: String,
    client: Vec<Setting>,
    server: Vec<Setting>,
    exchange: Box<dyn Fn(Way) + Send>,
}

impl Row {
    pub(crate) fn new(name: impl Into<String>, exchange: impl Fn(Way) + Send + 'static) -> Self {
        Self { name: name.into(), client: Vec::new(), server: Vec::new(), exchange: Box::new(exchange) }
    }

    pub(crate) fn client(mut self, settings: impl IntoIterator<Item = Setting>) -> Self {
        self.client.extend(settings);
        self
    }

    pub(crate) fn server(mut self, settings: impl IntoIterator<Item = Setting>) -> Self {
        self.server.extend(settings);
        self
    }

    /// The same settings on both hosts.
    pub(crate) fn both(self, settings: impl IntoIterator<Item = Setting> + Clone) -> Self {
        self.client(settings.clone()).server(settings)
    }
}

/// A lab whose gateway sends the ports from 7100 to 7199 through the packet path, and all others by the proxy
/// and a passing chain.
pub(crate) fn lab() -> Lab {
    ready(Lab::start(&policy()))
}

pub(crate) fn policy() -> String {
    let nat = Way::NAT.port();
    format!(
        r#"
        [[rule]]
        name = "translated"
        match = {{ proto = "tcp", dst_port = ["{nat}-{}"] }}
        action = "nat"
        {}
        "#,
        nat + 99,
        policy::proxied()
    )
}

/// Hosts learn nothing from one row for the next.
pub(crate) fn ready(lab: Lab) -> Lab {
    for host in [CLIENT, SERVER] {
        setting::sysctl("tcp_no_metrics_save", "1").apply(host).keep();
    }
    lab
}

/// Runs every row by both ways, goes on where one fails, and says in the end which did.
pub(crate) fn run(lab: &Lab, rows: impl IntoIterator<Item = Row>) {
    run_by(&Way::BOTH, lab, rows);
}

/// The same by these ways only.
pub(crate) fn run_by(ways: &[Way], lab: &Lab, rows: impl IntoIterator<Item = Row>) {
    let mut failed = Vec::new();
    for row in rows {
        let client: Vec<_> = row.client.iter().map(|setting| setting.apply(CLIENT)).collect();
        let server: Vec<_> = row.server.iter().map(|setting| setting.apply(SERVER)).collect();
        for &way in ways {
            let before = pairs_opened(lab);
            let outcome = panic::catch_unwind(AssertUnwindSafe(|| (row.exchange)(way)));
            let opened = pairs_opened(lab) - before;
            if let Err(cause) = outcome {
                failed.push(format!("{} by {way}: {}", row.name, words(cause.as_ref())));
            } else if (opened > 0) != way.is_proxied() {
                failed.push(format!("{} by {way}: {opened} pairs were opened", row.name));
            }
        }
        drop((client, server));
    }
    assert!(failed.is_empty(), "{} rows failed:\n{}", failed.len(), failed.join("\n"));
    settles(lab);
}

/// Runs all rows at the same time, each by both ways: they wait more than they work. They share the hosts, so they have
/// no settings; what they need of the wires is for their own lane's port. Each opens one connection.
pub(crate) fn run_together(lab: &Lab, rows: impl IntoIterator<Item = fn() -> Row>) {
    let lanes = (0..).zip(rows);
    let running = lanes.flat_map(|(lane, row)| Way::BOTH.map(|way| (row(), Way { lane, ..way })));
    let (rows, opened) = run_at_once(lab, running);
    assert_eq!(opened, rows / 2, "pairs were opened");
    settles(lab);
}

/// The same by the proxy only, of rows that open several connections.
pub(crate) fn run_together_proxied(lab: &Lab, rows: impl IntoIterator<Item = Row>) {
    let lanes = (0..).zip(rows);
    let (rows, opened) = run_at_once(lab, lanes.map(|(lane, row)| (row, Way { lane, ..Way::PROXY })));
    assert!(opened >= rows, "{opened} pairs were opened by {rows} rows");
    settles(lab);
}

/// Runs each row on a thread of its own; how many there were, and how many pairs they opened.
fn run_at_once(lab: &Lab, rows: impl IntoIterator<Item = (Row, Way)>) -> (u64, u64) {
    let before = pairs_opened(lab);
    let start = |(row, way): (Row, Way)| {
        assert!(row.client.is_empty() && row.server.is_empty(), "{} is not alone", row.name);
        (format!("{} by {way}", row.name), thread::spawn(move || (row.exchange)(way)))
    };
    let running: Vec<_> = rows.into_iter().map(start).collect();
    let count = running.len() as u64;
    let failed: Vec<_> = running
        .into_iter()
        .filter_map(|(name, row)| row.join().err().map(|cause| format!("{name}: {}", words(cause.as_ref()))))
        .collect();
    assert!(failed.is_empty(), "{} rows failed:\n{}", failed.len(), failed.join("\n"));
    (count, pairs_opened(lab) - before)
}

/// When all is said, nothing is left of it: no pair, no panic, and no packet that the hosts or the gateway got wrong.
fn settles(lab: &Lab) {
    wait_until(Duration::from_secs(20), "every pair has ended", || {
        lab.total("proxy", "pairs_tcp") == 0 && lab.total("proxy", "kept") == 0
    });
    assert_eq!(lab.total("proxy", "panics"), 0);
}

pub(crate) fn pairs_opened(lab: &Lab) -> u64 {
    lab.total("proxy", "pairs_tcp_opened")
}

/// What a panic said.
fn words(cause: &(dyn std::any::Any + Send)) -> &str {
    let owned = cause.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| cause.downcast_ref::<&str>().copied()).unwrap_or("a panic without words")
}
