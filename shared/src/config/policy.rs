//! Resolves rules and filters: the part of a configuration that a reload may change.

use std::path::PathBuf;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use toml::Spanned;

use super::error::{Fault, nearest};
use super::raw::{RawFilter, RawFilterHead, RawMatch, RawPolicy, RawRule};
use super::sections::Keys;
use super::value::{CONGESTION_CONTROLS, Findings};
use super::{
    Accept, Action, BlockAnswer, BlockFilter, Denial, Filter, FilterKind, Http, LimitBy, LimitFilter,
    LogFilter, Match, Policy, ReplaceFilter, Rule,
};
use crate::flow::Protocol;

/// Rules that a flow's record can name ([`crate::flow::NewFlow::rule`]).
const RULES: usize = 65_535;
/// Bytes that a `replace` filter may look for: it holds back as many while it cannot tell.
const FIND: usize = 4_096;
/// Bytes of a page that answers a blocked request.
const PAGE: u64 = 65_536;
/// The page where the operator names none.
const DEFAULT_PAGE: &str = "<!DOCTYPE html>\n<title>Blocked</title>\n<h1>Blocked</h1>\n\
    <p>The operator of this network does not allow this address.</p>\n";

const ACTIONS: [(&str, Action); 3] =
    [("proxy", Action::Proxy), ("nat", Action::Nat), ("deny", Action::Deny(Denial::Reset))];
const ACCEPTS: [(&str, Accept); 2] = [("late", Accept::Late), ("early", Accept::Early)];
const DENIALS: [(&str, Denial); 3] =
    [("reset", Denial::Reset), ("icmp", Denial::Icmp), ("silent", Denial::Silent)];
const KINDS: [(&str, Kind); 4] =
    [("log", Kind::Log), ("block", Kind::Block), ("replace", Kind::Replace), ("limit", Kind::Limit)];

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Kind {
    Log,
    Block,
    Replace,
    Limit,
}

impl Kind {
    /// The keys of such a filter, besides `name` and `type`.
    const fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Log => &["path", "content_dir", "content_cap"],
            Self::Block => &["patterns", "hosts", "sni", "answer", "page"],
            Self::Replace => &["find", "with", "stream"],
            Self::Limit => &["bytes_per_second", "burst", "by"],
        }
    }
}

/// The types of filters over streams.
pub(super) fn kinds() -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|(kind, _)| *kind)
}

pub(super) fn resolve(
    raw: &RawPolicy,
    rules: &[Spanned<RawRule>],
    filters: &[Spanned<RawFilterHead>],
    sections: Vec<Keys<'_>>,
    http: Http,
    findings: &mut Findings<'_>,
) -> Policy {
    findings.unique(filters.iter().map(|filter| &filter.get_ref().name), "filter.name");
    findings.unique(rules.iter().map(|rule| &rule.get_ref().name), "rule.name");
    if let Some(too_many) = rules.get(RULES) {
        let fault = Fault::NotAllowed {
            value: format!("{} rules", rules.len()),
            allowed: format!("at most {RULES}"),
        };
        findings.fault(too_many, "rule", fault);
    }
    let names: Vec<&str> = filters.iter().map(|filter| filter.get_ref().name.get_ref().as_str()).collect();
    let rules = rules.iter().map(|raw| rule(raw, &names, findings)).collect();
    let default =
        findings.choice_or(raw.default_action.as_ref(), "policy.default_action", &ACTIONS, Action::Proxy);
    let default_action = denial(default, raw.deny_with.as_ref(), "policy.deny_with", findings);
    let filters = filters.iter().zip(sections);
    let filters = filters.filter_map(|(raw, keys)| filter(raw, keys, findings)).collect();
    Policy { rules, default_action, filters, http }
}

fn rule(place: &Spanned<RawRule>, filters: &[&str], findings: &mut Findings<'_>) -> Rule {
    let (raw, line) = (place.get_ref(), findings.line(place));
    let name = raw.name.get_ref().clone();
    let key = |key: &str| format!("rule \"{name}\": {key}");
    findings.name(&raw.name, "rule.name");
    let matching = matching(&raw.matching, &name, findings);
    let action = findings.choice(&raw.action, &key("action"), &ACTIONS).unwrap_or(Action::Nat);
    let action = denial(action, raw.deny_with.as_ref(), &key("deny_with"), findings);
    if matching.protocol == Some(Protocol::Icmp) && action == Action::Proxy {
        let allowed = "\"nat\" or \"deny\", for ICMP is never proxied".to_owned();
        findings.fault(
            &raw.action,
            &key("action"),
            Fault::NotAllowed { value: "\"proxy\"".to_owned(), allowed },
        );
    }
    let accept = raw.accept.as_ref().map_or_else(Accept::default, |written| {
        if action != Action::Proxy {
            findings.fault(written, &key("accept"), Fault::OnlyWith("with action = \"proxy\""));
        } else if matching.protocol == Some(Protocol::Udp) {
            findings.fault(written, &key("accept"), Fault::OnlyWith("with \"tcp\": UDP has no handshake"));
        }
        findings.choice(written, &key("accept"), &ACCEPTS).unwrap_or_default()
    });
    if let Some(first) = raw.filters.first().filter(|_| action != Action::Proxy) {
        findings.fault(first, &key("filters"), Fault::OnlyWith("with action = \"proxy\""));
    }
    findings.unique(&raw.filters, &key("filters"));
    let mut chain = Vec::with_capacity(raw.filters.len());
    for written in &raw.filters {
        let value = written.get_ref();
        match filters.iter().position(|filter| filter == value) {
            Some(index) => chain.push(index),
            None => {
                let nearest = nearest(value, filters.iter().copied());
                findings.fault(
                    written,
                    &key("filters"),
                    Fault::UnknownFilter { value: value.clone(), nearest },
                );
            }
        }
    }
    let congestion =
        [("congestion_inside", &raw.congestion_inside), ("congestion_outside", &raw.congestion_outside)].map(
            |(name, written)| {
                let written = written.as_ref()?;
                if action != Action::Proxy {
                    findings.fault(written, &key(name), Fault::OnlyWith("with action = \"proxy\""));
                }
                findings.choice(written, &key(name), &CONGESTION_CONTROLS)
            },
        );
    Rule { name, line, matching, action, accept, filters: chain, congestion }
}

/// Fills in how a denied client is told.
fn denial(action: Action, with: Option<&Spanned<String>>, key: &str, findings: &mut Findings<'_>) -> Action {
    let Some(written) = with else { return action };
    let denial = findings.choice(written, key, &DENIALS);
    match (action, denial) {
        (Action::Deny(_), Some(denial)) => Action::Deny(denial),
        (Action::Deny(_), None) => action,
        _ => {
            findings.fault(written, key, Fault::OnlyWith("with the action \"deny\""));
            action
        }
    }
}

fn matching(raw: &RawMatch, rule: &str, findings: &mut Findings<'_>) -> Match {
    let key = |key: &str| format!("rule \"{rule}\": match.{key}");
    let protocols = [("tcp", Protocol::Tcp), ("udp", Protocol::Udp), ("icmp", Protocol::Icmp)];
    let protocol = raw.proto.as_ref().and_then(|proto| findings.choice(proto, &key("proto"), &protocols));
    for (name, ports) in [("src_port", &raw.src_port), ("dst_port", &raw.dst_port)] {
        if let Some(ports) = ports.as_ref().filter(|_| protocol == Some(Protocol::Icmp)) {
            findings.fault(ports, &key(name), Fault::OnlyWith("with \"tcp\" or \"udp\": ICMP has no ports"));
        }
    }
    let nets = "addresses and networks, as in \"10.0.0.7\" or \"10.0.0.0/8\", without host bits";
    Match {
        protocol,
        src: findings.texts(raw.src.as_ref(), &key("src"), nets, parse_net),
        dst: findings.texts(raw.dst.as_ref(), &key("dst"), nets, parse_net),
        src_port: findings.port_ranges(raw.src_port.as_ref(), &key("src_port")),
        dst_port: findings.port_ranges(raw.dst_port.as_ref(), &key("dst_port")),
    }
}

fn parse_net(text: &str) -> Option<IpNet> {
    if let Ok(address) = text.parse() {
        return Some(match address {
            core::net::IpAddr::V4(v4) => IpNet::V4(Ipv4Net::from(v4)),
            core::net::IpAddr::V6(v6) => IpNet::V6(Ipv6Net::from(v6)),
        });
    }
    let net: IpNet = text.parse().ok()?;
    (net.addr() == net.network()).then_some(net)
}

fn filter(place: &Spanned<RawFilterHead>, keys: Keys<'_>, findings: &mut Findings<'_>) -> Option<Filter> {
    let raw = place.get_ref();
    let name = raw.name.get_ref().clone();
    findings.name(&raw.name, "filter.name");
    let typed = raw.kind.get_ref();
    let Some(&(_, kind)) = KINDS.iter().find(|(own, _)| own == typed) else {
        let kind = FilterKind::Http(findings.section(&raw.kind, keys));
        return Some(Filter { name, kind });
    };
    foreign_keys(&keys, kind, &name, findings);
    let raw = &findings.filter::<RawFilter>(keys)?;
    let mut reader = FilterReader { raw, place, name: &name, findings };
    let kind = match kind {
        Kind::Log => FilterKind::Log(reader.log()?),
        Kind::Block => FilterKind::Block(reader.block()),
        Kind::Replace => FilterKind::Replace(reader.replace()?),
        Kind::Limit => FilterKind::Limit(reader.limit()?),
    };
    Some(Filter { name, kind })
}

/// Reports keys that are no keys of this type of filter.
fn foreign_keys(keys: &Keys<'_>, kind: Kind, name: &str, findings: &mut Findings<'_>) {
    let own = kind.keys();
    for (key, place) in keys.places().filter(|(key, _)| !own.contains(key)) {
        let fault = Fault::UnknownKey {
            nearest: nearest(key, own.iter().copied()),
            allowed: ["name", "type"].iter().chain(own).map(|&key| key.to_owned()).collect(),
        };
        findings.fault(&Spanned::new(place, ()), &format!("filter \"{name}\": {key}"), fault);
    }
}

/// One filter's keys.
struct FilterReader<'a, 'f> {
    raw: &'a RawFilter,
    place: &'a Spanned<RawFilterHead>,
    name: &'a str,
    findings: &'a mut Findings<'f>,
}

impl FilterReader<'_, '_> {
    fn key(&self, key: &str) -> String {
        format!("filter \"{}\": {key}", self.name)
    }

    fn missing(&mut self, key: &str, allowed: &'static str) {
        let key = self.key(key);
        self.findings.fault(self.place, &key, Fault::Missing { allowed });
    }

    fn log(&mut self) -> Option<LogFilter> {
        let key = self.key("content_cap");
        let content_cap =
            self.raw.content_cap.as_ref().and_then(|cap| self.findings.bytes(cap, &key, 1..=1 << 40));
        if let Some(cap) = self.raw.content_cap.as_ref().filter(|_| self.raw.content_dir.is_none()) {
            self.findings.fault(cap, &key, Fault::OnlyWith("with content_dir"));
        }
        let Some(path) = self.raw.path.as_ref().filter(|path| !path.get_ref().is_empty()) else {
            self.missing("path", "the file that a JSON line per flow is appended to");
            return None;
        };
        Some(LogFilter {
            path: PathBuf::from(path.get_ref()),
            content_dir: self.raw.content_dir.as_ref().map(|dir| PathBuf::from(dir.get_ref())),
            content_cap: content_cap.unwrap_or(1 << 20),
        })
    }

    fn block(&mut self) -> BlockFilter {
        let raw = self.raw;
        if raw.patterns.is_none() && raw.hosts.is_none() && raw.sni.is_none() {
            self.missing("patterns", "at least one of patterns, hosts and sni");
        }
        let (patterns, hosts, sni) = (self.key("patterns"), self.key("hosts"), self.key("sni"));
        let names = "host names, as in \"www.example.com\" or \"*.example.com\"";
        let bytes = |text: &str| (!text.is_empty()).then(|| text.as_bytes().to_vec());
        BlockFilter {
            patterns: self.findings.texts(
                raw.patterns.as_ref(),
                &patterns,
                "texts that are not empty",
                bytes,
            ),
            hosts: self.findings.texts(raw.hosts.as_ref(), &hosts, names, parse_host_pattern),
            sni: self.findings.texts(raw.sni.as_ref(), &sni, names, parse_host_pattern),
            answer: self.answer(),
        }
    }

    fn answer(&mut self) -> BlockAnswer {
        let (answer, page) = (self.key("answer"), self.key("page"));
        let choices = [("reset", false), ("page", true)];
        let with_page = self.findings.choice_or(self.raw.answer.as_ref(), &answer, &choices, false);
        match (with_page, &self.raw.page) {
            (false, None) => BlockAnswer::Reset,
            (false, Some(file)) => {
                self.findings.fault(file, &page, Fault::OnlyWith("with answer = \"page\""));
                BlockAnswer::Reset
            }
            (true, None) => BlockAnswer::Page(DEFAULT_PAGE.into()),
            (true, Some(file)) => match read_page(file.get_ref()) {
                Ok(html) => BlockAnswer::Page(html),
                Err(reason) => {
                    let fault = Fault::File { file: PathBuf::from(file.get_ref()), reason };
                    self.findings.fault(file, &page, fault);
                    BlockAnswer::Reset
                }
            },
        }
    }

    fn replace(&mut self) -> Option<ReplaceFilter> {
        let (find_key, stream_key) = (self.key("find"), self.key("stream"));
        let choices = [("first", (true, false)), ("second", (false, true)), ("both", (true, true))];
        let stream = self.raw.stream.as_ref();
        let (first, second) = self.findings.choice_or(stream, &stream_key, &choices, (true, true));
        if self.raw.with.is_none() {
            self.missing("with", "the text that takes the place of find, or \"\" to remove it");
        }
        let Some(find) = &self.raw.find else {
            self.missing("find", "the text to be replaced");
            return None;
        };
        let allowed = format!("1 to {FIND} bytes");
        let find = self.findings.parsed(find, &find_key, &allowed, |text| {
            (1..=FIND).contains(&text.len()).then(|| text.as_bytes().to_vec())
        })?;
        let with = self.raw.with.as_ref()?.get_ref().as_bytes().to_vec();
        Some(ReplaceFilter { find, with, first, second })
    }

    fn limit(&mut self) -> Option<LimitFilter> {
        let (rate_key, burst_key, by_key) = (self.key("bytes_per_second"), self.key("burst"), self.key("by"));
        let choices = [("flow", LimitBy::Flow), ("client", LimitBy::Client)];
        let by = self.findings.choice_or(self.raw.by.as_ref(), &by_key, &choices, LimitBy::Flow);
        let burst = self.raw.burst.as_ref().map(|burst| self.findings.bytes(burst, &burst_key, 1..=1 << 40));
        let Some(rate) = &self.raw.bytes_per_second else {
            self.missing("bytes_per_second", "bytes per second, as in 125000 or \"1MB\"");
            return None;
        };
        let bytes_per_second = self.findings.bytes(rate, &rate_key, 1..=1 << 40)?;
        // Left out: what passes in one second.
        let burst = burst.map_or(Some(bytes_per_second), |burst| burst)?;
        Some(LimitFilter { bytes_per_second, burst, by })
    }
}

/// A host name, or `*.` and a suffix; compared without regard to case, so kept in lower case.
fn parse_host_pattern(text: &str) -> Option<String> {
    let name = text.strip_prefix("*.").unwrap_or(text);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    (name.len() <= 253 && name.split('.').all(label)).then(|| text.to_ascii_lowercase())
}

fn read_page(file: &str) -> Result<Arc<str>, String> {
    let size = std::fs::metadata(file).map_err(|error| error.to_string())?.len();
    if size > PAGE {
        return Err(format!("has {size} bytes; at most {PAGE} are allowed"));
    }
    std::fs::read_to_string(file).map(Arc::from).map_err(|error| error.to_string())
}
