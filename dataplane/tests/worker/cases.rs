//! Runs `tests/cases/*.case`: what goes into a worker, and everything that must come out of it.
//!
//! ```text
//!   == name of the case
//!   policy nat|proxy|deny-reset|deny-icmp|deny-silent [proto]     default nat; with a protocol: a rule before the default
//!   early                                                         a rule before the default: TCP by proxy, accepted early
//!   syn-cookies-above N, ports A-B, flows N, client-flows N, mtu INSIDE OUTSIDE, pool N, no-gateway, dead ADDRESS, show arp
//!   in inside|outside|proxy PACKET [* N]     as crate::text builds it, N times; `in proxy closed MASKED REASON`,
//!                                            `in proxy retarget MASKED SERVER`
//!   out inside|outside|proxy PACKET [* N]    every word must be in what came out; `$x` at a word's end binds or compares,
//!                                            and a word behind `!` begins none; what goes in may say `$x+1`
//!   drop REASON [N]
//!   after SECONDS
//! ```
//!
//! Between an `in` or `after` and the next one stands all that comes out and all that is dropped; nothing else may.

use std::collections::HashMap;

use pnat_shared::config::{Accept, Action, Denial, Match, Rule};
use pnat_shared::flow::Protocol;
use pnat_shared::loopback::{FromProxy, unmask};
use pnat_shared::time::Duration;
use pnat_shared::verdict::{CloseReason, DropReason};

use crate::text;
use crate::world::{Gateway, INSIDE, MACS, OUTSIDE, Out, ROUTER, World};

macro_rules! cases {
    ($($name:ident)+) => {
        $(#[test] fn $name() { run_file(stringify!($name), include_str!(concat!("../cases/", stringify!($name), ".case"))); })+

        #[test]
        fn every_case_file_is_run() {
            let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases");
            for file in std::fs::read_dir(dir).unwrap() {
                let path = file.unwrap().path();
                let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
                assert!([$(stringify!($name)),+].contains(&stem.as_str()), "{stem} is not run");
            }
        }
    };
}

cases! { nat proxy early retarget icmp arp refusals hostile limits }

/// Reasons that rows cannot bring about: rings and transmit queues are the driver's, draining is control's word, the rest
/// are other cores'.
const ELSEWHERE: [DropReason; 10] = [
    DropReason::Draining,
    DropReason::RingFull,
    DropReason::RingFullNew,
    DropReason::TxFull,
    DropReason::PairLimit,
    DropReason::NoBuffer,
    DropReason::OutOfWindow,
    DropReason::Paws,
    DropReason::Unacceptable,
    DropReason::Filtered,
];

#[test]
fn every_reason_that_a_worker_gives_has_a_row() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases");
    let files =
        std::fs::read_dir(dir).unwrap().map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
    let rows: Vec<String> = files.collect();
    for reason in DropReason::ALL.iter().filter(|reason| !ELSEWHERE.contains(reason)) {
        let row = format!("drop {}", reason.key());
        let is_there = rows.iter().any(|rows| rows.lines().any(|line| line.starts_with(&row)));
        assert!(is_there, "no case has \"{row}\"");
    }
}

fn run_file(file: &str, rows: &str) {
    let mut failures = Vec::new();
    let mut count = 0;
    for case in rows.split("\n== ").skip(1) {
        let (name, lines) = case.split_once('\n').unwrap();
        count += 1;
        let ran = std::panic::catch_unwind(|| Case::new(lines).run());
        match ran {
            Ok(Ok(())) => {}
            Ok(Err(what)) => failures.push(format!("{file}: {name}\n{what}")),
            Err(_) => failures.push(format!("{file}: {name}\n  panicked")),
        }
    }
    assert!(count > 0, "{file} has no cases");
    assert!(failures.is_empty(), "{} of {count} failed\n\n{}", failures.len(), failures.join("\n"));
}

struct Case<'a> {
    lines: Vec<&'a str>,
    names: HashMap<String, String>,
}

impl<'a> Case<'a> {
    fn new(text: &'a str) -> Self {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self { lines: lines.collect(), names: HashMap::new() }
    }

    fn run(mut self) -> Result<(), String> {
        let steps = self.lines.iter().position(|line| line.starts_with("in ") || line.starts_with("after "));
        let steps = self.lines.split_off(steps.ok_or("the case does nothing")?);
        let (world, dead, show_arp) = set_up(&self.lines);
        let mut gateway = Gateway::new(&world);
        (gateway.dead, gateway.show_arp) = (dead, show_arp);
        let mut before = gateway.drops();
        let mut at = 0;
        while at < steps.len() {
            let step = steps[at];
            let next =
                steps[at + 1..].iter().position(|line| line.starts_with("in ") || line.starts_with("after "));
            let end = next.map_or(steps.len(), |next| at + 1 + next);
            let outs = self.step(&mut gateway, step);
            let after = gateway.drops();
            let mut told: Vec<String> = outs.iter().map(|out| format!("out {}", out.tell())).collect();
            told.extend(difference(&before, &after));
            before = after;
            self.compare(step, &steps[at + 1..end], told)?;
            at = end;
        }
        Ok(())
    }

    fn step(&self, gateway: &mut Gateway, line: &str) -> Vec<Out> {
        if let Some(seconds) = line.strip_prefix("after ") {
            return gateway.pass(Duration::from_secs_f64(seconds.parse().unwrap()));
        }
        let line = self.fill(line.strip_prefix("in ").unwrap());
        let (line, times) = match line.split_once(" * ") {
            Some((line, times)) => (line.to_owned(), times.parse().unwrap()),
            None => (line, 1),
        };
        let (place, packet) = line.split_once(' ').unwrap();
        let mut outs = Vec::new();
        for _ in 0..times {
            if let Some(packet) = packet.strip_prefix("again ") {
                let (masked, packet) = packet.split_once(' ').unwrap();
                let masked: std::net::SocketAddrV4 = masked.parse().unwrap();
                let handle = unmask(*masked.ip(), masked.port()).unwrap();
                outs.extend(gateway.again_from_proxy(handle, &text::build_ip(packet)));
                continue;
            }
            outs.extend(match (place, packet.strip_prefix("closed ")) {
                ("inside", _) => gateway.receive(INSIDE, &from_inside(packet)),
                ("outside", _) => {
                    gateway.receive(OUTSIDE, &text::build(packet, text::mac_of(ROUTER), MACS[1]))
                }
                (_, Some(closed)) => {
                    let (masked, reason) = closed.split_once(' ').unwrap();
                    let masked: std::net::SocketAddrV4 = masked.parse().unwrap();
                    let handle = unmask(*masked.ip(), masked.port()).unwrap();
                    let reason = *CloseReason::ALL.iter().find(|r| r.key() == reason).unwrap();
                    gateway.receive_from_proxy(FromProxy::Closed { handle, reason, last_words: None })
                }
                _ if packet.starts_with("retarget ") => {
                    let (masked, server) = packet["retarget ".len()..].split_once(' ').unwrap();
                    let masked: std::net::SocketAddrV4 = masked.parse().unwrap();
                    let handle = unmask(*masked.ip(), masked.port()).unwrap();
                    gateway
                        .receive_from_proxy(FromProxy::Retarget { handle, server: server.parse().unwrap() })
                }
                _ => gateway.packet_from_proxy(&text::build_ip(packet)),
            });
        }
        outs
    }

    /// Every expected line must match one that came, and all that came must be expected.
    fn compare(&mut self, step: &str, expected: &[&str], mut told: Vec<String>) -> Result<(), String> {
        let all = told.clone();
        let expected = expected.iter().flat_map(|line| {
            let (line, times) = line.split_once(" * ").unwrap_or((line, "1"));
            core::iter::repeat_n(line, times.parse().unwrap())
        });
        for line in expected {
            let found = told.iter().position(|line_told| self.matches(line, line_told));
            match found {
                Some(at) => drop(told.remove(at)),
                None => {
                    return Err(format!(
                        "  at: {step}\n  expected: {line}\n  came: {all:#?}\n  names: {:?}",
                        self.names
                    ));
                }
            }
        }
        if told.is_empty() { Ok(()) } else { Err(format!("  at: {step}\n  not expected: {told:#?}")) }
    }

    fn matches(&mut self, pattern: &str, told: &str) -> bool {
        let told: Vec<&str> = told.split_whitespace().collect();
        let mut names = self.names.clone();
        // Words up to ">" and one behind it stand where they stand; the rest may be anywhere, in any number.
        let pattern: Vec<&str> = pattern.split_whitespace().collect();
        let fixed =
            pattern.iter().position(|word| *word == ">").map_or_else(|| pattern.len().min(3), |at| at + 2);
        let is_match = pattern.iter().enumerate().all(|(at, word)| {
            if let Some(absent) = word.strip_prefix('!') {
                !told.iter().any(|told| told.starts_with(absent))
            } else if at < fixed {
                told.get(at).is_some_and(|told| word_matches(word, told, &mut names))
            } else {
                told.iter().skip(fixed).any(|told| word_matches(word, told, &mut names))
            }
        });
        // A wrong checksum is never overlooked.
        let is_match = is_match && told.contains(&"badsum") == pattern.contains(&"badsum");
        if is_match {
            self.names = names;
        }
        is_match
    }

    fn fill(&self, line: &str) -> String {
        let words = line.split(' ').map(|word| match word.split_once('$') {
            Some((prefix, sum)) => match sum.split_once('+') {
                Some((name, more)) => {
                    let (number, more): (u32, u32) =
                        (self.names[name].parse().unwrap(), more.parse().unwrap());
                    format!("{prefix}{}", number.wrapping_add(more))
                }
                None => format!("{prefix}{}", self.names[sum]),
            },
            None => word.to_owned(),
        });
        words.collect::<Vec<_>>().join(" ")
    }
}

fn word_matches(pattern: &str, told: &str, names: &mut HashMap<String, String>) -> bool {
    let Some((prefix, name)) = pattern.split_once('$') else { return pattern == told };
    let Some(value) = told.strip_prefix(prefix) else { return false };
    match names.get(name) {
        Some(known) => known == value,
        None => {
            names.insert(name.to_owned(), value.to_owned());
            true
        }
    }
}

/// A frame from the client that the packet names, or from the first of them.
fn from_inside(packet: &str) -> Vec<u8> {
    let words: Vec<&str> = packet.split_whitespace().collect();
    let word = if words[1] == "who-has" { words[4] } else { words[1] };
    let addr = word.split(':').next().unwrap().parse().unwrap_or(std::net::Ipv4Addr::new(10, 77, 1, 2));
    text::build(packet, text::mac_of(addr), MACS[0])
}

fn difference(before: &[(DropReason, u64)], after: &[(DropReason, u64)]) -> Vec<String> {
    let count =
        |list: &[(DropReason, u64)], reason| list.iter().find(|(r, _)| *r == reason).map_or(0, |(_, n)| *n);
    after
        .iter()
        .filter_map(|(reason, n)| match n - count(before, *reason) {
            0 => None,
            1 => Some(format!("drop {reason}")),
            more => Some(format!("drop {reason} {more}")),
        })
        .collect()
}

fn set_up(lines: &[&str]) -> (World, Vec<std::net::Ipv4Addr>, bool) {
    let mut world = World::default();
    let mut dead = Vec::new();
    let mut show_arp = false;
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["policy", action] => world.policy.default_action = parse_action(action),
            ["policy", action, protocol] => world.policy.rules.push(Rule {
                name: protocol.into(),
                matching: Match { protocol: Some(parse_protocol(protocol)), ..Match::default() },
                action: parse_action(action),
                accept: Accept::Late,
                congestion: [None; 2],
                line: 1,
                filters: Vec::new(),
            }),
            ["ports", range] => {
                let (low, high) = range.split_once('-').unwrap();
                world.ports = low.parse().unwrap()..=high.parse().unwrap();
            }
            ["flows", n] => world.flows = n.parse().unwrap(),
            ["client-flows", n] => world.flows_per_client = n.parse().unwrap(),
            ["mtu", inside, outside] => world.mtus = [inside.parse().unwrap(), outside.parse().unwrap()],
            ["syn-cookies-above", n] => world.syn_cookies_above = n.parse().unwrap(),
            ["early"] => world.policy.rules.push(Rule {
                name: "early".into(),
                matching: Match { protocol: Some(Protocol::Tcp), ..Match::default() },
                action: Action::Proxy,
                accept: Accept::Early,
                congestion: [None; 2],
                line: 1,
                filters: Vec::new(),
            }),
            ["pool", n] => world.pool = n.parse().unwrap(),
            ["no-gateway"] => world.gateway = false,
            ["dead", addr] => dead.push(addr.parse().unwrap()),
            ["show", "arp"] => show_arp = true,
            _ => panic!("not understood: {line}"),
        }
    }
    (world, dead, show_arp)
}

fn parse_action(word: &str) -> Action {
    match word {
        "nat" => Action::Nat,
        "proxy" => Action::Proxy,
        "deny-reset" => Action::Deny(Denial::Reset),
        "deny-icmp" => Action::Deny(Denial::Icmp),
        "deny-silent" => Action::Deny(Denial::Silent),
        _ => panic!("no such action: {word}"),
    }
}

fn parse_protocol(word: &str) -> Protocol {
    [Protocol::Tcp, Protocol::Udp, Protocol::Icmp].into_iter().find(|p| p.as_str() == word).unwrap()
}
