//! From what was written to what it means: defaults filled in, ranges and relations checked.

use core::ops::RangeInclusive;
use std::net::Ipv4Addr;
use std::path::Path;

use pnat_shared::config::{Action, ConfigError, Fault, Findings, Scalar, Scalars};
use pnat_shared::testkit::LinkSpec;
use pnat_shared::time::Duration;
use pnat_shared::wire::ethernet::Mac;
use toml::Spanned;

use super::raw::{RawDevice, RawFlows, RawKind, RawMedium, RawScenario, RawSearch};
use super::{Device, Dpdk, FilterWord, LoadKind, MediumKind, Memory, Scenario, Station, Wire};
use crate::load::flows::{self, Flows};
use crate::load::schedule::Rate;
use crate::load::sizes::{IMIX, MAX_ROUND, Sizes};
use crate::load::source::Content;
use crate::load::{TcpFlags, Transport};
use crate::ndr::Goals;

/// Longest trial.
pub(super) const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// Largest frame: jumbo, frame check sequence included.
const LARGEST: u16 = 9018;
/// Largest frame of the gateway in memory, whose ports have an MTU of 1500 bytes.
const MEMORY_LARGEST: u16 = 1518;
/// Bindings of one worker (a handle has 22 bits for them).
pub(super) const BINDINGS: u32 = (1 << 22) - 1;
const RATES: &str = "a rate as in \"14.88 Mpps\", \"500 kpps\", \"2.5 Gbit/s\" or \"40 Mbit/s\"";
pub(super) const ADDRESSES: &str =
    "IPv4 addresses as in \"10.0.0.2\", \"10.0.0.2-10.0.3.255\" or \"10.1.0.0/16\" (its hosts)";
const FILTERS: &str = "a chain of \"replace\", \"block\", \"limit\" and \"log\", each as often as you like";
const SHARES: &str = "a share as in \"0.5 %\", from 0 to 100 %";

/// What a rate counts.
#[derive(Copy, Clone, Debug, PartialEq)]
enum RawRate {
    Frames(u64),
    Bits(u64),
}

impl RawRate {
    fn of(self, sizes: &Sizes) -> Rate {
        match self {
            Self::Frames(frames) => Rate::frames(frames),
            Self::Bits(bits) => Rate::bits(bits, sizes.bits(), sizes.round()),
        }
    }
}

/// Which kind of load the file describes; where only one kind will do, the other is a fault.
pub(super) fn kind(file: &Path, text: &str, wanted: Option<LoadKind>) -> Result<LoadKind, ConfigError> {
    let (raw, mut findings): (RawKind, _) = Findings::read(file, text)?;
    let words = [("frames", LoadKind::Frames), ("tcp", LoadKind::Tcp)];
    let kind = findings.choice_or(raw.kind.as_ref(), "kind", &words, LoadKind::Frames);
    let Some(wanted) = wanted.filter(|wanted| *wanted != kind) else { return findings.conclude(kind) };
    match (&raw.kind, wanted) {
        (Some(place), LoadKind::Frames) => {
            findings.fault(place, "kind", Fault::OnlyWith("scenarios of frames can be used here"));
        }
        (Some(place), LoadKind::Tcp) => {
            findings.fault(place, "kind", Fault::OnlyWith("scenarios of connections can be used here"));
        }
        (None, _) => findings.absent("kind", "\"tcp\", for only scenarios of connections can be used here"),
    }
    findings.conclude(kind)
}

/// Parses and resolves `text`, which stands in `file`.
pub(super) fn resolve(file: &Path, text: &str) -> Result<Scenario, ConfigError> {
    let (raw, mut findings): (RawScenario, _) = Findings::read(file, text)?;
    let name = match &raw.name {
        Some(name) => {
            findings.name(name, "name");
            name.get_ref().clone()
        }
        None => file.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
    };
    let second = Duration::from_secs(1);
    let duration = findings.duration_or(
        raw.duration.as_ref(),
        "duration",
        Duration::from_millis(1)..=LONGEST,
        10 * second,
    );
    let warm_up = findings.duration_or_off(
        raw.warm_up.as_ref(),
        "warm_up",
        Duration::from_millis(1)..=LONGEST,
        Duration::ZERO,
    );
    let drain = findings.duration_or(
        raw.drain.as_ref(),
        "drain",
        Duration::from_millis(1)..=60 * second,
        Duration::from_millis(100),
    );
    let transport = transport(&raw, &mut findings);
    let sizes = sizes(raw.traffic.sizes.as_ref(), transport, &mut findings);
    let rate = findings.parsed(&raw.traffic.rate, "traffic.rate", RATES, parse_rate);
    let rate = rate.unwrap_or(RawRate::Frames(1)).of(&sizes);
    let burst = findings.integer_or(raw.traffic.burst.as_ref(), "traffic.burst", 1..=65_536, 1);
    let flows = flows(&raw.flows, &mut findings);
    let medium = medium(&raw, &flows, &sizes, &mut findings);
    let frames = |text: &str| Some(parse_rate(text)?.of(&sizes).per_second());
    let search = search(&raw.search, rate.per_second(), (RATES, frames), &mut findings);
    let scenario = Scenario {
        name,
        file: file.to_owned(),
        text: text.to_owned(),
        content: Content { transport, sizes, flows },
        rate,
        burst,
        duration,
        warm_up,
        drain,
        medium,
        search,
    };
    findings.conclude(scenario)
}

fn transport(raw: &RawScenario, findings: &mut Findings<'_>) -> Transport {
    let words = [("udp", Transport::Udp), ("tcp", Transport::Tcp(TcpFlags::Ack))];
    let transport =
        findings.choice_or(raw.traffic.protocol.as_ref(), "traffic.protocol", &words, Transport::Udp);
    let Some(flags) = &raw.traffic.flags else { return transport };
    if transport == Transport::Udp {
        findings.fault(flags, "traffic.flags", Fault::OnlyWith("traffic of protocol = \"tcp\" has flags"));
        return transport;
    }
    let words = [("syn", TcpFlags::Syn), ("ack", TcpFlags::Ack)];
    Transport::Tcp(findings.choice(flags, "traffic.flags", &words).unwrap_or(TcpFlags::Ack))
}

fn sizes(raw: Option<&Spanned<Scalars>>, transport: Transport, findings: &mut Findings<'_>) -> Sizes {
    let smallest = u16::try_from(transport.smallest_frame()).unwrap_or(u16::MAX);
    let limits = smallest..=LARGEST;
    let allowed = format!(
        "sizes from {smallest} to {LARGEST} bytes with the frame check sequence, each alone or with its weight as in \
         \"570:4\", or \"imix\"; all weights together up to {MAX_ROUND}"
    );
    let weights = findings.scalars(raw, "traffic.sizes", &allowed, |scalar| parse_sizes(scalar, &limits));
    let weights = weights.concat();
    let fallback = [(smallest, 1)];
    let sizes = Sizes::new(if weights.is_empty() { &fallback } else { &weights });
    if let (None, Some(place)) = (&sizes, raw) {
        findings.not_allowed(place, "traffic.sizes", "this sum of weights", allowed);
    }
    sizes.or_else(|| Sizes::new(&fallback)).expect("invariant: one size of weight 1 is a mix")
}

/// `64`, `"570:4"` or `"imix"`.
fn parse_sizes(scalar: &Scalar, limits: &RangeInclusive<u16>) -> Option<Vec<(u16, u32)>> {
    let weights = match scalar {
        Scalar::Integer(size) => vec![(u16::try_from(*size).ok()?, 1)],
        Scalar::Text(text) if text == "imix" => {
            // TCP's stamp does not fit into 64 bytes: the smallest frame that it fits into stands for them.
            IMIX.map(|(size, weight)| (size.max(*limits.start()), weight)).to_vec()
        }
        Scalar::Text(text) => {
            let (size, weight) = text.split_once(':').unwrap_or((text, "1"));
            vec![(size.trim().parse().ok()?, weight.trim().parse().ok().filter(|weight| *weight > 0)?)]
        }
    };
    weights.iter().all(|(size, _)| limits.contains(size)).then_some(weights)
}

/// A decimal number and a unit.
fn parse_rate(text: &str) -> Option<RawRate> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim();
    let (scale, is_bits) = match unit {
        "pps" => (1.0, false),
        "kpps" => (1e3, false),
        "Mpps" => (1e6, false),
        "bit/s" | "bps" => (1.0, true),
        "kbit/s" | "kbps" => (1e3, true),
        "Mbit/s" | "Mbps" => (1e6, true),
        "Gbit/s" | "Gbps" => (1e9, true),
        _ => return None,
    };
    let number = number.parse::<f64>().ok()? * scale;
    let is_possible = (1.0..=1e12).contains(&number);
    let number = number.round() as u64;
    is_possible.then_some(if is_bits { RawRate::Bits(number) } else { RawRate::Frames(number) })
}

fn flows(raw: &RawFlows, findings: &mut Findings<'_>) -> Flows {
    let count = findings.integer_or(raw.count.as_ref(), "flows.count", 1..=flows::MAX, 1);
    let mut addresses =
        |place: &Spanned<String>, key| findings.parsed(place, key, ADDRESSES, parse_addresses);
    let (src, dst) = (addresses(&raw.src, "flows.src"), addresses(&raw.dst, "flows.dst"));
    let mut ports = |place: Option<&Spanned<Scalar>>, key, default: RangeInclusive<u16>| match place {
        Some(place) => findings.port_range(place, key),
        None => Some(default),
    };
    let src_port = ports(raw.src_port.as_ref(), "flows.src_port", 1024..=65_535);
    let dst_port = ports(raw.dst_port.as_ref(), "flows.dst_port", 9..=9);
    let (Some(src), Some(src_port), Some(dst), Some(dst_port)) = (src, src_port, dst, dst_port) else {
        // Whatever: a fault has been noted.
        let src = Ipv4Addr::LOCALHOST..=Ipv4Addr::LOCALHOST;
        return Flows { count: 1, dst: src.clone(), src, src_port: 9..=9, dst_port: 9..=9 };
    };
    let flows = Flows { count, src, src_port, dst, dst_port };
    let room = flows.room();
    if let Some(place) = raw.count.as_ref().filter(|_| u128::from(count) > room) {
        let allowed = format!("1 to {room}, for so many flows differ in these addresses and ports");
        findings.not_allowed(place, "flows.count", count, allowed);
    }
    flows
}

/// One address, two with a dash between them, or a network's hosts.
pub(super) fn parse_addresses(text: &str) -> Option<RangeInclusive<Ipv4Addr>> {
    if let Some((low, high)) = text.split_once('-') {
        let (low, high): (Ipv4Addr, Ipv4Addr) = (low.trim().parse().ok()?, high.trim().parse().ok()?);
        return (low <= high).then_some(low..=high);
    }
    if let Ok(address) = text.parse() {
        return Some(address..=address);
    }
    let net: ipnet::Ipv4Net = text.parse().ok()?;
    let (low, high) = (net.network(), net.broadcast());
    let aside = u32::from(net.prefix_len() < 31);
    Some(Ipv4Addr::from_bits(low.to_bits() + aside)..=Ipv4Addr::from_bits(high.to_bits() - aside))
}

/// The types of a medium.
#[derive(Copy, Clone, PartialEq)]
pub(super) enum Kind {
    Memory,
    Wire,
    Dpdk,
}

fn medium(file: &RawScenario, flows: &Flows, sizes: &Sizes, findings: &mut Findings<'_>) -> MediumKind {
    let raw = &file.medium;
    let words = [("memory", Kind::Memory), ("wire", Kind::Wire), ("dpdk", Kind::Dpdk)];
    let kind = findings.choice_or(raw.kind.as_ref(), "medium.type", &words, Kind::Memory);
    refuse_others(raw, kind, findings);
    match kind {
        Kind::Memory => memory(file, flows, sizes, findings),
        Kind::Wire => wire(raw, findings),
        Kind::Dpdk => dpdk(raw, *flows.src.start(), findings),
    }
}

/// Reports keys that another type has.
pub(super) fn refuse_others(raw: &RawMedium, kind: Kind, findings: &mut Findings<'_>) {
    const ONLY: [&str; 3] = [
        "media of type = \"memory\" have this key",
        "media of type = \"wire\" have this key",
        "media of type = \"dpdk\" have this key",
    ];
    let RawMedium { action, latency, loss, duplication, reordering, reorder_by, capacity, .. } = raw;
    let texts = [
        (Kind::Memory, "action", action),
        (Kind::Wire, "latency", latency),
        (Kind::Wire, "loss", loss),
        (Kind::Wire, "duplication", duplication),
        (Kind::Wire, "reordering", reordering),
        (Kind::Wire, "reorder_by", reorder_by),
        (Kind::Wire, "capacity", capacity),
        (Kind::Dpdk, "mac", &raw.mac),
        (Kind::Dpdk, "gateway", &raw.gateway),
    ];
    let numbers = [
        (Kind::Wire, "queue", &raw.queue),
        (Kind::Wire, "seed", &raw.seed),
        (Kind::Dpdk, "core", &raw.core),
        (Kind::Dpdk, "frames", &raw.frames),
    ];
    let spans = |place: &Option<Spanned<String>>| place.as_ref().map(Spanned::span);
    let places = texts.into_iter().map(|(whose, key, place)| (whose, key, spans(place)));
    let numbers =
        numbers.into_iter().map(|(whose, key, place)| (whose, key, place.as_ref().map(Spanned::span)));
    let lists = [
        (Kind::Memory, "filters", raw.filters.as_ref().map(Spanned::span)),
        (Kind::Dpdk, "send", raw.send.as_ref().map(Spanned::span)),
        (Kind::Dpdk, "receive", raw.receive.as_ref().map(Spanned::span)),
        (Kind::Dpdk, "eal", raw.eal.as_ref().map(Spanned::span)),
    ];
    for (whose, key, place) in places.chain(numbers).chain(lists) {
        if let Some(span) = place.filter(|_| whose != kind) {
            let fault = Fault::OnlyWith(ONLY[whose as usize]);
            findings.fault(&Spanned::new(span, ()), &format!("medium.{key}"), fault);
        }
    }
}

fn memory(file: &RawScenario, flows: &Flows, sizes: &Sizes, findings: &mut Findings<'_>) -> MediumKind {
    let (action, filters) = gateway(&file.medium, Action::Nat, findings);
    if let Some(place) = file.flows.count.as_ref().filter(|_| flows.count > BINDINGS) {
        let allowed = format!("1 to {BINDINGS} through the gateway in memory");
        findings.not_allowed(place, "flows.count", flows.count, allowed);
    }
    let (_, largest) = sizes.extremes();
    if let Some(place) = file.traffic.sizes.as_ref().filter(|_| largest > MEMORY_LARGEST) {
        let allowed = format!("up to {MEMORY_LARGEST} bytes through the gateway in memory");
        findings.not_allowed(place, "traffic.sizes", largest, allowed);
    }
    MediumKind::Memory(Memory { action, filters, bindings: flows.count })
}

/// What the gateway in memory does with flows, and their chain.
pub(super) fn gateway(
    raw: &RawMedium,
    default: Action,
    findings: &mut Findings<'_>,
) -> (Action, Vec<FilterWord>) {
    let words = [("nat", Action::Nat), ("proxy", Action::Proxy)];
    let action = findings.choice_or(raw.action.as_ref(), "medium.action", &words, default);
    let filters = findings.texts(raw.filters.as_ref(), "medium.filters", FILTERS, |text| match text {
        "replace" => Some(FilterWord::Replace),
        "block" => Some(FilterWord::Block),
        "limit" => Some(FilterWord::Limit),
        "log" => Some(FilterWord::Log),
        _ => None,
    });
    if let Some(place) = raw.filters.as_ref().filter(|_| action != Action::Proxy) {
        findings.fault(place, "medium.filters", Fault::OnlyWith("with action = \"proxy\""));
    }
    (action, filters)
}

pub(super) fn wire(raw: &RawMedium, findings: &mut Findings<'_>) -> MediumKind {
    let mut share = |place: Option<&Spanned<String>>, key| {
        place.and_then(|place| findings.parsed(place, key, SHARES, parse_share)).unwrap_or(0.0)
    };
    let loss = share(raw.loss.as_ref(), "medium.loss");
    let duplication = share(raw.duplication.as_ref(), "medium.duplication");
    let reordering = share(raw.reordering.as_ref(), "medium.reordering");
    let times = Duration::from_nanos(1)..=Duration::from_secs(10);
    let default = LinkSpec::default();
    let mut time = |place: Option<&Spanned<String>>, key, default| {
        findings.duration_or(place, key, times.clone(), default)
    };
    let latency = time(raw.latency.as_ref(), "medium.latency", Duration::from_millis(1));
    let reorder_by = time(raw.reorder_by.as_ref(), "medium.reorder_by", default.reorder_by);
    let bits = "a rate as in \"1 Gbit/s\"";
    let rate = raw.capacity.as_ref().and_then(|place| {
        findings.parsed(place, "medium.capacity", bits, |text| match parse_rate(text)? {
            RawRate::Bits(bits) => Some(bits),
            RawRate::Frames(_) => None,
        })
    });
    let queue = findings.integer_or(raw.queue.as_ref(), "medium.queue", 1..=1_000_000, 1_000) as usize;
    let seed = findings.integer_or(raw.seed.as_ref(), "medium.seed", 0..=u32::MAX, 1);
    let rate = rate.unwrap_or(0);
    let link = LinkSpec { latency, rate, queue, loss, duplication, reordering, reorder_by, ..default };
    MediumKind::Wire(Wire { link, seed: seed.into() })
}

/// `"0.5 %"` or `"0.5%"`, as a number from 0 to 1.
fn parse_share(text: &str) -> Option<f64> {
    let percent: f64 = text.trim().strip_suffix('%')?.trim().parse().ok()?;
    (0.0..=100.0).contains(&percent).then_some(percent / 100.0)
}

pub(super) fn dpdk(raw: &RawMedium, client: Ipv4Addr, findings: &mut Findings<'_>) -> MediumKind {
    let device = |place: &Spanned<RawDevice>| Device {
        name: place.get_ref().device.get_ref().clone(),
        args: place.get_ref().args.clone(),
    };
    let send = raw.send.as_ref().map(device);
    if send.is_none() {
        findings.absent("medium.send", "a device as in { device = \"net_af_xdp0\", args = \"iface=veth0\" }");
    }
    let receive = raw.receive.as_ref().map(device);
    if let (Some(place), true) = (&raw.receive, receive == send) {
        let value = place.get_ref().device.get_ref().clone();
        findings.fault(place, "medium.receive", Fault::Duplicate { value });
    }
    let mac = raw.mac.as_ref().and_then(|place| {
        findings.parsed(place, "medium.mac", "an Ethernet address as in \"02:00:00:00:00:01\"", parse_mac)
    });
    let gateway = raw.gateway.as_ref().and_then(|place| {
        if raw.mac.is_some() {
            findings.fault(place, "medium.gateway", Fault::OnlyWith("media without a mac have this key"));
        }
        findings
            .parsed(place, "medium.gateway", "an IPv4 address as in \"10.0.0.1\"", |text| text.parse().ok())
    });
    let station = match gateway {
        Some(address) => Station::Gateway { address, asked_by: client },
        None => Station::Mac(mac.unwrap_or(Mac::BROADCAST)),
    };
    MediumKind::Dpdk(Dpdk {
        send: send.unwrap_or(Device { name: String::new(), args: None }),
        receive,
        core: findings.integer_or(raw.core.as_ref(), "medium.core", 0..=1023, 0) as usize,
        frames: findings.integer_or(raw.frames.as_ref(), "medium.frames", 1_024..=4_194_303, 32_767),
        eal: raw.eal.as_ref().map(|place| place.get_ref().clone()).unwrap_or_default(),
        station,
    })
}

fn parse_mac(text: &str) -> Option<Mac> {
    let mut parts = text.split(':').map(|part| u8::from_str_radix(part, 16).ok().filter(|_| part.len() == 2));
    let mut mac = [0; 6];
    for byte in &mut mac {
        *byte = parts.next()??;
    }
    parts.next().is_none().then_some(Mac(mac))
}

/// How rates are searched, up to `rate` unless the file says otherwise; its rates are written as `parse` reads them.
pub(super) fn search(
    raw: &RawSearch,
    rate: f64,
    (rates, parse): (&str, impl Fn(&str) -> Option<f64>),
    findings: &mut Findings<'_>,
) -> Goals {
    let mut limit =
        |place: Option<&Spanned<String>>, key| findings.parsed(place?, key, rates, |text| parse(text));
    let highest = limit(raw.highest.as_ref(), "search.highest").unwrap_or(rate);
    let lowest = limit(raw.lowest.as_ref(), "search.lowest");
    if let (Some(place), true) = (&raw.lowest, lowest.is_some_and(|lowest| lowest >= highest)) {
        let allowed = "a rate below search.highest, which is the load's rate unless given";
        findings.not_allowed(place, "search.lowest", place.get_ref(), allowed);
    }
    let mut share = |place: Option<&Spanned<String>>, key, allowed, limits: RangeInclusive<f64>, default| {
        let parse = |text: &str| parse_share(text).filter(|share| limits.contains(share));
        place.and_then(|place| findings.parsed(place, key, allowed, parse)).unwrap_or(default)
    };
    let partial_loss = share(
        raw.partial_loss.as_ref(),
        "search.partial_loss",
        "a share as in \"0.5 %\", from 0 to 50 %",
        0.0..=0.5,
        0.005,
    );
    let width = share(
        raw.width.as_ref(),
        "search.width",
        "a share as in \"0.5 %\", from 0.1 to 50 %",
        0.001..=0.5,
        0.005,
    );
    let second = Duration::from_secs(1);
    let limits = Duration::from_millis(1)..=LONGEST;
    Goals {
        highest,
        lowest: lowest.unwrap_or(highest / 1000.0),
        partial_loss,
        width,
        trial: findings.duration_or(raw.trial.as_ref(), "search.trial", limits, second),
        trials: findings.integer_or(raw.trials.as_ref(), "search.trials", 1..=1_001, 21),
        most_trials: findings.integer_or(raw.most_trials.as_ref(), "search.most_trials", 1..=100_000, 600),
    }
}
