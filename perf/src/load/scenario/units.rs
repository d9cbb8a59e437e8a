//! How rates, shares and addresses are written.

use core::ops::RangeInclusive;
use std::net::Ipv4Addr;

use pnat_shared::wire::ethernet::Mac;

use crate::load::schedule::Rate;
use crate::load::sizes::Sizes;

pub(super) const RATES: &str = "a rate as in \"14.88 Mpps\", \"500 kpps\", \"2.5 Gbit/s\" or \"40 Mbit/s\"";
pub(super) const ADDRESSES: &str =
    "IPv4 addresses as in \"10.0.0.2\", \"10.0.0.2-10.0.3.255\" or \"10.1.0.0/16\" (its hosts)";
pub(super) const SHARES: &str = "a share as in \"0.5 %\", from 0 to 100 %";

/// What a rate counts.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(super) enum RawRate {
    Frames(u64),
    Bits(u64),
}

impl RawRate {
    pub(super) fn of(self, sizes: &Sizes) -> Rate {
        match self {
            Self::Frames(frames) => Rate::frames(frames),
            Self::Bits(bits) => Rate::bits(bits, sizes.bits(), sizes.round()),
        }
    }
}

/// `"14.88 Mpps"` or `"2.5 Gbit/s"`.
pub(super) fn parse_rate(text: &str) -> Option<RawRate> {
    let (number, unit) = number_and_unit(text)?;
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
    let number = number * scale;
    let is_possible = (1.0..=1e12).contains(&number);
    let number = number.round() as u64;
    is_possible.then_some(if is_bits { RawRate::Bits(number) } else { RawRate::Frames(number) })
}

/// A decimal number and what it counts.
pub(super) fn number_and_unit(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.trim()))
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

/// `"0.5 %"` or `"0.5%"`, as a number from 0 to 1.
pub(super) fn parse_share(text: &str) -> Option<f64> {
    let percent: f64 = text.trim().strip_suffix('%')?.trim().parse().ok()?;
    (0.0..=100.0).contains(&percent).then_some(percent / 100.0)
}

pub(super) fn parse_mac(text: &str) -> Option<Mac> {
    let mut parts = text.split(':').map(|part| u8::from_str_radix(part, 16).ok().filter(|_| part.len() == 2));
    let mut mac = [0; 6];
    for byte in &mut mac {
        *byte = parts.next()??;
    }
    parts.next().is_none().then_some(Mac(mac))
}
