//! From what was written to what it means: defaults filled in, ranges and relations checked.

use core::ops::RangeInclusive;
use std::net::Ipv4Addr;
use std::path::Path;

use pnat_shared::config::{Action, ConfigError, Fault, Findings, Scalar};
use pnat_shared::time::Duration;
use toml::Spanned;

use super::raw::{RawClass, RawTcpScenario};
use super::{Needs, TcpScenario};
use crate::load::scenario::head::{Head, LONGEST, kind};
use crate::load::scenario::medium::{BINDINGS, gateway, medium};
use crate::load::scenario::raw::RawMedium;
use crate::load::scenario::search::search;
use crate::load::scenario::units::{ADDRESSES, number_and_unit, parse_addresses};
use crate::load::scenario::{LoadKind, Memory};
use crate::load::schedule::Rate;
use crate::load::tcp::{Answer, Arrival, Bulk, Class, Closer, Pace, Requests, Sockets, Talk, TcpLoad};

/// Most classes: each keeps its own distributions.
const CLASSES: usize = 16;
/// Most connections at a time.
const MOST: u32 = 2_000_000;
/// The gateway in memory has room for so many flows at least.
const FEWEST_BINDINGS: u32 = 1 << 16;
/// Most bytes of a request or a response.
const LARGEST: u64 = 1 << 40;
/// A request begins with so many bytes that say whose it is.
const SMALLEST: u64 = 8;
const RATES: &str = "connections per second as in \"500 cps\" or \"20 kcps\"";
const SECOND: Duration = Duration::from_secs(1);
const SHORTEST: Duration = Duration::from_micros(100);

/// Parses and resolves `text`, which stands in `file`, for something that needs more than `load` does.
pub(super) fn resolve(file: &Path, text: &str, needs: Option<Needs>) -> Result<TcpScenario, ConfigError> {
    kind(file, text, Some(LoadKind::Tcp))?;
    let (raw, mut findings): (RawTcpScenario, _) = Findings::read(file, text)?;
    let drains = (600 * SECOND, 10 * SECOND);
    let Head { name, duration, warm_up, drain } = raw.head().resolve(file, drains, &mut findings);
    let time_wait =
        findings.duration_or(raw.time_wait.as_ref(), "time_wait", SECOND..=240 * SECOND, 60 * SECOND);
    let most = findings.integer_or(raw.most.as_ref(), "most", 1..=MOST, 1 << 20);
    let load = TcpLoad { classes: classes(&raw, &mut findings), most, time_wait };
    let (has, allowed) = match needs {
        None => (true, ""),
        Some(Needs::Rate) => (load.rate() > 0.0, "at least one with a rate or a weight"),
        Some(Needs::Concurrent) => (load.concurrent() > 0, "at least one that is concurrent"),
    };
    if !has {
        findings.not_allowed(&raw.class, "class", "none of these classes", allowed);
    }
    let client = load.classes.first().map_or(Ipv4Addr::UNSPECIFIED, |class| *class.clients.addrs.start());
    let medium = medium(&raw.medium, client, &mut findings, |findings| memory(&raw.medium, &load, findings));
    let search = search(&raw.search, load.rate(), (RATES, parse_rate), &mut findings);
    let scenario = TcpScenario {
        name,
        file: file.to_owned(),
        text: text.to_owned(),
        load,
        duration,
        warm_up,
        drain,
        medium,
        search,
    };
    findings.conclude(scenario)
}

fn classes(raw: &RawTcpScenario, findings: &mut Findings<'_>) -> Vec<Class> {
    let written = raw.class.get_ref();
    if written.is_empty() || written.len() > CLASSES {
        findings.not_allowed(&raw.class, "class", written.len(), format!("1 to {CLASSES} classes"));
    }
    let total = raw.rate.as_ref().and_then(|place| findings.parsed(place, "rate", RATES, parse_rate));
    let weights: u64 = written.iter().filter_map(weight).sum();
    if let Some(place) = raw.rate.as_ref().filter(|_| weights == 0) {
        findings.fault(place, "rate", Fault::OnlyWith("with a class that has a weight"));
    }
    let share = |weight: u64| Rate::exactly(total.unwrap_or(1.0) * weight as f64 / weights.max(1) as f64);
    let mut classes: Vec<Class> = Vec::with_capacity(written.len());
    for (number, raw_class) in written.iter().enumerate() {
        let class = Reading { raw: raw_class, number, findings }.class(raw.rate.is_some(), &share);
        refuse_neighbors(&classes, &class, raw_class, findings);
        classes.push(class);
    }
    classes
}

/// A server answers all classes alike, and a client belongs to one.
fn refuse_neighbors(others: &[Class], class: &Class, raw: &RawClass, findings: &mut Findings<'_>) {
    let shared = |other: &&Class| other.servers.overlaps(&class.servers);
    let mut refuse = |place: &Spanned<String>, key: &str, other: &Class, why| {
        let allowed = format!("{key} that \"{}\" does not have, {why}", other.name);
        findings.not_allowed(place, &format!("class \"{}\": {key}", class.name), place.get_ref(), allowed);
    };
    if let Some(other) = others.iter().filter(shared).find(|other| other.answer != class.answer) {
        refuse(&raw.servers, "servers", other, "for they answer otherwise");
    }
    if let Some(other) = others.iter().filter(shared).find(|other| other.clients.overlaps(&class.clients)) {
        refuse(&raw.clients, "clients", other, "for both talk to the same servers; or other client_ports");
    }
}

fn weight(raw: &RawClass) -> Option<u64> {
    u64::try_from(*raw.weight.as_ref()?.get_ref()).ok()
}

/// A class as it is read.
struct Reading<'a, 'f> {
    raw: &'a RawClass,
    number: usize,
    findings: &'a mut Findings<'f>,
}

impl Reading<'_, '_> {
    fn name(&self) -> String {
        let name = self.raw.name.as_ref().map(|name| name.get_ref().clone());
        name.unwrap_or_else(|| format!("class-{}", self.number + 1))
    }

    fn key(&self, key: &str) -> String {
        format!("class \"{}\": {key}", self.name())
    }

    fn class(mut self, has_total: bool, share: &impl Fn(u64) -> Rate) -> Class {
        if let Some(name) = &self.raw.name {
            self.findings.name(name, "class.name");
        }
        let raw = self.raw;
        let clients = self.sockets(&raw.clients, raw.client_ports.as_ref(), "client", 1024..=65_535);
        let servers = self.sockets(&raw.servers, raw.server_ports.as_ref(), "server", 80..=80);
        let arrival = self.arrival(has_total, share);
        let answers = [("accept", Answer::Accept), ("refuse", Answer::Refuse), ("silent", Answer::Silent)];
        let key = self.key("answer");
        let answer = self.findings.choice_or(raw.answer.as_ref(), &key, &answers, Answer::Accept);
        let timeout = self.time(raw.timeout.as_ref(), "timeout", Duration::from_millis(1)..=600 * SECOND);
        let window = self.bytes(raw.window.as_ref(), "window", 2_048..=16 << 20);
        Class {
            name: self.name(),
            clients,
            servers,
            arrival,
            talk: self.talk(),
            pace: self.pace(),
            answer,
            timeout: timeout.unwrap_or(10 * SECOND),
            window: window.unwrap_or(256 << 10) as u32,
        }
    }

    fn sockets(
        &mut self,
        addresses: &Spanned<String>,
        ports: Option<&Spanned<Scalar>>,
        whose: &str,
        default: RangeInclusive<u16>,
    ) -> Sockets {
        let (key, ports_key) = (self.key(&format!("{whose}s")), self.key(&format!("{whose}_ports")));
        let addrs = self.findings.parsed(addresses, &key, ADDRESSES, parse_addresses);
        let ports = ports.map_or(Some(default), |place| self.findings.port_range(place, &ports_key));
        // Whatever: a fault has been noted.
        let nowhere = Ipv4Addr::LOCALHOST;
        Sockets { addrs: addrs.unwrap_or(nowhere..=nowhere), ports: ports.unwrap_or(9..=9) }
    }

    fn arrival(&mut self, has_total: bool, share: &impl Fn(u64) -> Rate) -> Arrival {
        let raw = self.raw;
        let key = |key: &str| self.key(key);
        let (weight_key, rate_key, concurrent_key) = (key("weight"), key("rate"), key("concurrent"));
        let ways = [raw.weight.is_some(), raw.rate.is_some(), raw.concurrent.is_some()];
        if ways.iter().filter(|given| **given).count() != 1 {
            let allowed = "a class has either a rate, or a weight of the scenario's rate, or is concurrent";
            self.findings.not_allowed(&raw.clients, &rate_key, "what is said", allowed);
        }
        if let Some(place) = raw.ramp.as_ref().filter(|_| raw.concurrent.is_none()) {
            let key = self.key("ramp");
            self.findings.fault(place, &key, Fault::OnlyWith("classes that are concurrent have this key"));
        }
        if let Some(place) = &raw.concurrent {
            let count = self.findings.integer(place, &concurrent_key, 1..=MOST).unwrap_or(1);
            let ramp = self.time(raw.ramp.as_ref(), "ramp", Duration::from_millis(1)..=LONGEST);
            return Arrival::Concurrent { count, ramp: ramp.unwrap_or(SECOND) };
        }
        if let Some(place) = &raw.weight {
            if !has_total {
                let fault = Fault::OnlyWith("scenarios with a rate have weights");
                self.findings.fault(place, &weight_key, fault);
            }
            return Arrival::Rate(share(
                self.findings.integer(place, &weight_key, 1..=1_000_000).unwrap_or(1).into(),
            ));
        }
        let rate =
            raw.rate.as_ref().and_then(|place| self.findings.parsed(place, &rate_key, RATES, parse_rate));
        Arrival::Rate(Rate::exactly(rate.unwrap_or(1.0)))
    }

    fn talk(&mut self) -> Talk {
        let raw = self.raw;
        let others = [
            ("requests", raw.requests.as_ref().map(Spanned::span)),
            ("request", raw.request.as_ref().map(Spanned::span)),
            ("response", raw.response.as_ref().map(Spanned::span)),
            ("think", raw.think.as_ref().map(Spanned::span)),
            ("close", raw.close.as_ref().map(Spanned::span)),
        ];
        if raw.bulk.is_some() || raw.half_open.is_some() {
            for (key, span) in others.into_iter().filter_map(|(key, span)| Some((key, span?))) {
                let key = self.key(key);
                let fault = Fault::OnlyWith("classes that are neither bulk nor half_open have this key");
                self.findings.fault(&Spanned::new(span, ()), &key, fault);
            }
        }
        if let Some(place) = raw.lasts.as_ref().filter(|_| raw.bulk.is_none()) {
            let key = self.key("lasts");
            self.findings.fault(place, &key, Fault::OnlyWith("classes that are bulk have this key"));
        }
        let times = Duration::from_millis(1)..=LONGEST;
        if let Some(place) = &raw.half_open {
            if raw.bulk.is_some() {
                let key = self.key("half_open");
                self.findings.fault(place, &key, Fault::OnlyWith("classes that are not bulk have this key"));
            }
            return Talk::HalfOpen(self.time(Some(place), "half_open", times).unwrap_or(SECOND));
        }
        if let Some(place) = &raw.bulk {
            let ways = [("upload", (true, false)), ("download", (false, true)), ("both", (true, true))];
            let key = self.key("bulk");
            let (upload, download) = self.findings.choice(place, &key, &ways).unwrap_or((false, true));
            let lasts = self.time(raw.lasts.as_ref(), "lasts", times).unwrap_or(LONGEST);
            return Talk::Bulk(Bulk { upload, download, lasts });
        }
        self.requests()
    }

    fn requests(&mut self) -> Talk {
        let raw = self.raw;
        let key = self.key("requests");
        let count = match raw.requests.as_ref().map(|place| (place, place.get_ref())) {
            None => Some(1),
            Some((_, Scalar::Text(text))) if text == "endless" => None,
            Some((_, Scalar::Integer(count))) if (1..=i64::from(u32::MAX)).contains(count) => {
                Some(*count as u32)
            }
            Some((place, value)) => {
                self.findings.not_allowed(place, &key, value, "1 to 4294967295, or \"endless\"");
                None
            }
        };
        let closers = [
            ("client", Closer::Client),
            ("server", Closer::Server),
            ("client-reset", Closer::ClientReset),
            ("server-reset", Closer::ServerReset),
        ];
        let key = self.key("close");
        let closer = self.findings.choice_or(raw.close.as_ref(), &key, &closers, Closer::Client);
        let request = self.bytes(raw.request.as_ref(), "request", SMALLEST..=LARGEST).unwrap_or(100);
        let response = self.bytes(raw.response.as_ref(), "response", 1..=LARGEST).unwrap_or(1_000);
        let key = self.key("think");
        let think =
            self.findings.duration_or_off(raw.think.as_ref(), &key, SHORTEST..=LONGEST, Duration::ZERO);
        Talk::Requests(Requests { count, request, response, think, closer })
    }

    fn pace(&mut self) -> Pace {
        Pace {
            read: self.bytes(self.raw.read_rate.as_ref(), "read_rate", 1..=LARGEST),
            byte_every: self.time(self.raw.byte_every.as_ref(), "byte_every", SHORTEST..=LONGEST),
        }
    }

    fn time(
        &mut self,
        place: Option<&Spanned<String>>,
        key: &str,
        allowed: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let key = self.key(key);
        place.map(|place| self.findings.duration_or(Some(place), &key, allowed, SECOND))
    }

    fn bytes(
        &mut self,
        place: Option<&Spanned<Scalar>>,
        key: &str,
        allowed: RangeInclusive<u64>,
    ) -> Option<u64> {
        let key = self.key(key);
        place.and_then(|place| self.findings.bytes(place, &key, allowed))
    }
}

/// `"20 kcps"`, in connections per second.
fn parse_rate(text: &str) -> Option<f64> {
    let (number, unit) = number_and_unit(text)?;
    let scale = match unit {
        "cps" => 1.0,
        "kcps" => 1e3,
        "Mcps" => 1e6,
        _ => return None,
    };
    let number = number * scale;
    (0.001..=1e8).contains(&number).then_some(number)
}

/// The gateway in memory, with room for the bindings of connections that have ended: they stay for a while.
fn memory(raw: &RawMedium, load: &TcpLoad, findings: &mut Findings<'_>) -> Memory {
    let (action, filters) = gateway(raw, Action::Proxy, findings);
    let bindings = load.most.saturating_mul(4).clamp(FEWEST_BINDINGS, BINDINGS);
    Memory { action, filters, bindings }
}
