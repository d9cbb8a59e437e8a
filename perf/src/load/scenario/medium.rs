//! The device under test that a load goes through, as it was written and as it is meant.

use std::net::Ipv4Addr;

use pnat_shared::config::{Action, Fault, Findings};
use pnat_shared::testkit::LinkSpec;
use pnat_shared::time::Duration;
use pnat_shared::wire::ethernet::Mac;
use toml::Spanned;

use super::raw::{RawDevice, RawMedium};
use super::units::{RawRate, SHARES, parse_mac, parse_rate, parse_share};
use super::{Device, Dpdk, FilterWord, MediumKind, Memory, Station, Wire};

/// Bindings of one worker (a handle has 22 bits for them).
pub(super) const BINDINGS: u32 = (1 << 22) - 1;
const FILTERS: &str = "a chain of \"replace\", \"block\", \"limit\" and \"log\", each as often as you like";

/// The types of a medium.
#[derive(Copy, Clone, PartialEq)]
enum Kind {
    Memory,
    Wire,
    Dpdk,
}

/// The load's medium: `client` is in whose name a DPDK medium asks for its gateway; `memory` reads what the kinds of load differ in.
pub(super) fn medium<'f>(
    raw: &RawMedium,
    client: Ipv4Addr,
    findings: &mut Findings<'f>,
    memory: impl FnOnce(&mut Findings<'f>) -> Memory,
) -> MediumKind {
    let words = [("memory", Kind::Memory), ("wire", Kind::Wire), ("dpdk", Kind::Dpdk)];
    let kind = findings.choice_or(raw.kind.as_ref(), "medium.type", &words, Kind::Memory);
    refuse_others(raw, kind, findings);
    match kind {
        Kind::Memory => MediumKind::Memory(memory(findings)),
        Kind::Wire => MediumKind::Wire(wire(raw, findings)),
        Kind::Dpdk => MediumKind::Dpdk(dpdk(raw, client, findings)),
    }
}

/// Reports keys that another type has.
fn refuse_others(raw: &RawMedium, kind: Kind, findings: &mut Findings<'_>) {
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

fn wire(raw: &RawMedium, findings: &mut Findings<'_>) -> Wire {
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
    Wire { link, seed: seed.into() }
}

fn dpdk(raw: &RawMedium, client: Ipv4Addr, findings: &mut Findings<'_>) -> Dpdk {
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
    Dpdk {
        send: send.unwrap_or(Device { name: String::new(), args: None }),
        receive,
        core: findings.integer_or(raw.core.as_ref(), "medium.core", 0..=1023, 0) as usize,
        frames: findings.integer_or(raw.frames.as_ref(), "medium.frames", 1_024..=4_194_303, 32_767),
        eal: raw.eal.as_ref().map(|place| place.get_ref().clone()).unwrap_or_default(),
        station,
    }
}
