//! From what was written of a load of frames to what it means: defaults filled in, ranges and relations checked.

use core::ops::RangeInclusive;
use std::net::Ipv4Addr;
use std::path::Path;

use pnat_shared::config::{Action, ConfigError, Fault, Findings, Scalar, Scalars};
use pnat_shared::time::Duration;
use toml::Spanned;

use super::head::Head;
use super::medium::{BINDINGS, gateway, medium};
use super::raw::{RawFlows, RawScenario};
use super::search::search;
use super::units::{ADDRESSES, RATES, RawRate, parse_addresses, parse_rate};
use super::{Memory, Scenario};
use crate::load::flows::{self, Flows};
use crate::load::sizes::{IMIX, MAX_ROUND, Sizes};
use crate::load::source::Content;
use crate::load::{TcpFlags, Transport};

/// Largest frame: jumbo, frame check sequence included.
const LARGEST: u16 = 9018;
/// Largest frame of the gateway in memory, whose ports have an MTU of 1500 bytes.
const MEMORY_LARGEST: u16 = 1518;

/// Parses and resolves `text`, which stands in `file`.
pub(super) fn resolve(file: &Path, text: &str) -> Result<Scenario, ConfigError> {
    let (raw, mut findings): (RawScenario, _) = Findings::read(file, text)?;
    let second = Duration::from_secs(1);
    let drains = (60 * second, Duration::from_millis(100));
    let Head { name, duration, warm_up, drain } = raw.head().resolve(file, drains, &mut findings);
    let transport = transport(&raw, &mut findings);
    let sizes = sizes(raw.traffic.sizes.as_ref(), transport, &mut findings);
    let rate = findings.parsed(&raw.traffic.rate, "traffic.rate", RATES, parse_rate);
    let rate = rate.unwrap_or(RawRate::Frames(1)).of(&sizes);
    let burst = findings.integer_or(raw.traffic.burst.as_ref(), "traffic.burst", 1..=65_536, 1);
    let flows = flows(&raw.flows, &mut findings);
    let medium = medium(&raw.medium, *flows.src.start(), &mut findings, |findings| {
        memory(&raw, &flows, &sizes, findings)
    });
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

fn memory(file: &RawScenario, flows: &Flows, sizes: &Sizes, findings: &mut Findings<'_>) -> Memory {
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
    Memory { action, filters, bindings: flows.count }
}
