//! Where addresses live: the ports' own addresses and prefixes, which addresses are possible where, and next hops.
//!
//! Runs on: worker. Allocates: at creation. Blocks: never.

use core::net::Ipv4Addr;

use pnat_shared::config;
use pnat_shared::flow::Offloads;
use pnat_shared::verdict::DropReason;
use pnat_shared::wire::ethernet::Mac;

/// What a worker needs to know of a port.
#[derive(Clone, Debug)]
pub struct PortInfo {
    pub mac: Mac,
    /// Largest IP packet, in bytes.
    pub mtu: u16,
    pub offloads: Offloads,
    /// Whether it faces the servers.
    pub outside: bool,
    /// Its own addresses and their prefix lengths.
    pub addresses: Vec<(Ipv4Addr, u8)>,
    pub gateway: Option<Ipv4Addr>,
}

impl PortInfo {
    /// A configured port whose device has this link address, carries packets of `mtu` bytes, and does so much for them.
    pub fn new(port: &config::Port, mac: Mac, mtu: u16, offloads: Offloads) -> Self {
        Self {
            mac,
            mtu: port.mtu.map_or(mtu, |configured| configured.min(mtu)),
            offloads,
            outside: port.outside,
            addresses: port.addresses.clone(),
            gateway: port.gateway,
        }
    }
}

#[derive(Copy, Clone, Debug)]
struct Prefix {
    net: u32,
    mask: u32,
    port: u8,
    outside: bool,
}

impl Prefix {
    fn new(addr: Ipv4Addr, len: u8, port: u8, outside: bool) -> Self {
        let mask = u32::MAX.checked_shl(32 - u32::from(len.min(32))).unwrap_or(0);
        Self { net: addr.to_bits() & mask, mask, port, outside }
    }

    #[inline]
    fn contains(&self, addr: Ipv4Addr) -> bool {
        addr.to_bits() & self.mask == self.net
    }

    /// Whether `addr` is the prefix's network or broadcast address. RFC 3021 links (/31) and single hosts have none.
    fn is_edge(&self, addr: Ipv4Addr) -> bool {
        let host = addr.to_bits() & !self.mask;
        self.contains(addr) && !self.mask > 1 && (host == 0 || host == !self.mask)
    }
}

/// All ports' addresses.
#[derive(Clone, Debug)]
pub struct Routes {
    ports: Vec<PortInfo>,
    /// Longest first.
    prefixes: Vec<Prefix>,
    /// Addresses of the gateway itself, public ones included, in order.
    own: Vec<Ipv4Addr>,
    /// A bit for the hash of each of them: most other addresses need no search.
    own_bits: [u64; 4],
    public: Vec<Ipv4Addr>,
}

impl Routes {
    pub fn new(ports: Vec<PortInfo>, public: &[Ipv4Addr]) -> Self {
        let mut prefixes: Vec<Prefix> = Vec::new();
        let mut own = public.to_vec();
        for (number, port) in ports.iter().enumerate() {
            for (addr, len) in &port.addresses {
                prefixes.push(Prefix::new(*addr, *len, number as u8, port.outside));
                own.push(*addr);
            }
        }
        prefixes.sort_by_key(|prefix| core::cmp::Reverse(prefix.mask));
        own.sort_unstable();
        own.dedup();
        let mut own_bits = [0; 4];
        for addr in &own {
            let (word, bit) = hash_bit(*addr);
            own_bits[word] |= bit;
        }
        let mut public = public.to_vec();
        public.sort_unstable();
        Self { ports, prefixes, own, own_bits, public }
    }

    pub fn ports(&self) -> &[PortInfo] {
        &self.ports
    }

    /// What every outside port does for the packets that it sends.
    pub fn outward_offloads(&self) -> Offloads {
        let each = self.ports.iter().filter(|info| info.outside).map(|info| info.offloads);
        each.reduce(Offloads::shared_with).unwrap_or_default()
    }

    /// The port's facts; `None` for a number that no port has.
    #[inline]
    pub fn port(&self, port: u8) -> Option<&PortInfo> {
        self.ports.get(usize::from(port))
    }

    /// Whether `addr` belongs to the gateway: a port's own or a public one.
    #[inline]
    pub fn is_own(&self, addr: Ipv4Addr) -> bool {
        let (word, bit) = hash_bit(addr);
        self.own_bits[word] & bit != 0 && self.own.binary_search(&addr).is_ok()
    }

    #[inline]
    pub fn is_public(&self, addr: Ipv4Addr) -> bool {
        self.public.binary_search(&addr).is_ok()
    }

    /// Whether the gateway answers ARP for `addr` on this port: its own addresses, and public ones outside.
    pub fn answers_for(&self, port: u8, addr: Ipv4Addr) -> bool {
        self.port(port).is_some_and(|info| {
            info.addresses.iter().any(|(own, _)| *own == addr) || info.outside && self.is_public(addr)
        })
    }

    /// What the gateway announces on a port.
    pub fn announced(&self, port: u8) -> impl Iterator<Item = Ipv4Addr> {
        self.own.iter().copied().filter(move |addr| self.answers_for(port, *addr))
    }

    /// The port's address in `addr`'s prefix, else its first one: what the gateway calls itself there.
    pub fn address_toward(&self, port: u8, addr: Ipv4Addr) -> Option<Ipv4Addr> {
        let info = self.port(port)?;
        let near =
            info.addresses.iter().find(|(own, len)| Prefix::new(*own, *len, port, false).contains(addr));
        near.or_else(|| info.addresses.first()).map(|(own, _)| *own)
    }

    /// Whether `addr` is a neighbor's on this port.
    pub fn is_on_link(&self, port: u8, addr: Ipv4Addr) -> bool {
        self.prefix(addr).is_some_and(|prefix| prefix.port == port)
    }

    /// Whether a packet with these addresses can be real on this port (RFC 1812 section 5.3.7, RFC 2827).
    #[inline]
    pub fn check(&self, port: u8, src: Ipv4Addr, dst: Ipv4Addr) -> Result<(), DropReason> {
        let Some(info) = self.port(port) else { return Err(DropReason::Internal) };
        if is_reserved(src) || is_reserved(dst) || self.is_own(src) {
            return Err(DropReason::Martian);
        }
        let (from, to) = (self.prefix(src), self.prefix(dst));
        let is_elsewhere = from.is_some_and(|prefix| prefix.port != port || prefix.is_edge(src));
        let is_leak = info.outside && to.is_some_and(|prefix| !prefix.outside) && !self.is_own(dst);
        let is_broadcast = to.is_some_and(|prefix| prefix.is_edge(dst));
        // Inside, the configuration says where clients may be: on-link, or behind a router that it names. Outside is the
        // whole Internet.
        let is_stranger = from.is_none() && !info.outside && info.gateway.is_none();
        if is_elsewhere || is_leak || is_broadcast || is_stranger { Err(DropReason::Martian) } else { Ok(()) }
    }

    /// The outside port that leads to `dst`; `None` where none does, or where `dst` is inside.
    pub fn outward(&self, dst: Ipv4Addr) -> Option<u8> {
        if let Some(prefix) = self.prefix(dst) {
            return prefix.outside.then_some(prefix.port);
        }
        let default = self.ports.iter().position(|info| info.outside && info.gateway.is_some())?;
        u8::try_from(default).ok()
    }

    /// The inside port behind which a client lives.
    pub fn inward(&self, client: Ipv4Addr) -> Option<u8> {
        if let Some(prefix) = self.prefix(client) {
            return (!prefix.outside).then_some(prefix.port);
        }
        let default = self.ports.iter().position(|info| !info.outside && info.gateway.is_some())?;
        u8::try_from(default).ok()
    }

    /// Who takes a packet for `dst` on this port: itself where it is on-link, else the port's gateway.
    #[inline]
    pub fn next_hop(&self, port: u8, dst: Ipv4Addr) -> Option<Ipv4Addr> {
        if self.is_on_link(port, dst) { Some(dst) } else { self.port(port)?.gateway }
    }

    /// The longest prefix that holds `addr`.
    #[inline]
    fn prefix(&self, addr: Ipv4Addr) -> Option<&Prefix> {
        self.prefixes.iter().find(|prefix| prefix.contains(addr))
    }
}

/// Where an address stands in a set of 256 bits. Multiplied by the golden ratio, so that neighbors do not share a bit.
#[inline]
const fn hash_bit(addr: Ipv4Addr) -> (usize, u64) {
    let hash = addr.to_bits().wrapping_mul(0x9e37_79b9) >> 24;
    ((hash >> 6) as usize, 1 << (hash & 63))
}

/// Addresses that no packet on a port may have (RFC 6890): "this network", loopback, multicast, and 240/4, where the
/// limited broadcast and the masked addresses of the loopback are.
#[inline]
fn is_reserved(addr: Ipv4Addr) -> bool {
    matches!(addr.octets()[0], 0 | 127 | 224..)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INSIDE: u8 = 0;
    const OUTSIDE: u8 = 1;

    fn routes() -> Routes {
        let port = |last, outside, addr, gateway| PortInfo {
            mac: Mac([2, 0, 0, 0, 0, last]),
            mtu: 1500,
            offloads: Offloads::NONE,
            outside,
            addresses: vec![(addr, 24)],
            gateway,
        };
        let gateway = Some(Ipv4Addr::new(198, 18, 0, 254));
        Routes::new(
            vec![
                port(1, false, Ipv4Addr::new(10, 77, 1, 1), None),
                port(2, true, Ipv4Addr::new(198, 18, 0, 1), gateway),
            ],
            &[Ipv4Addr::new(198, 18, 0, 1), Ipv4Addr::new(192, 0, 2, 9)],
        )
    }

    #[test]
    fn addresses_that_cannot_be_real_are_martians() {
        let (client, server, public) = ([10, 77, 1, 2], [203, 0, 113, 1], [198, 18, 0, 1]);
        let rows: [(u8, [u8; 4], [u8; 4], bool); 17] = [
            (INSIDE, client, server, true),
            (INSIDE, [10, 77, 2, 2], server, false),
            (INSIDE, [10, 77, 1, 255], server, false),
            (INSIDE, [10, 77, 1, 0], server, false),
            (INSIDE, [10, 77, 1, 1], server, false),
            (INSIDE, [0, 0, 0, 0], server, false),
            (INSIDE, [127, 0, 0, 1], server, false),
            (INSIDE, [240, 0, 0, 1], server, false),
            (INSIDE, client, [255, 255, 255, 255], false),
            (INSIDE, client, [224, 0, 0, 251], false),
            (INSIDE, client, [10, 77, 1, 255], false),
            (INSIDE, client, [127, 0, 0, 2], false),
            (OUTSIDE, server, public, true),
            (OUTSIDE, client, public, false),
            (OUTSIDE, server, client, false),
            (OUTSIDE, [192, 0, 2, 9], public, false),
            (OUTSIDE, server, [198, 18, 0, 255], false),
        ];
        for (port, src, dst, is_real) in rows {
            let checked = routes().check(port, src.into(), dst.into());
            assert_eq!(checked.is_ok(), is_real, "port {port} {src:?} > {dst:?}");
        }
    }

    #[test]
    fn what_is_left_to_outside_ports_is_what_each_of_them_does() {
        let Routes { mut ports, .. } = routes();
        let cuts = |segments| Offloads { checksum: true, segments };
        ports[0].offloads = Offloads::NONE;
        ports[1].offloads = cuts(8);
        ports.push(PortInfo { offloads: cuts(4), ..ports[1].clone() });
        assert_eq!(Routes::new(ports.clone(), &[]).outward_offloads(), cuts(4));
        ports.push(PortInfo { offloads: Offloads::NONE, ..ports[1].clone() });
        assert_eq!(Routes::new(ports, &[]).outward_offloads(), Offloads::NONE);
    }

    #[test]
    fn on_link_goes_direct_and_the_rest_by_the_gateway() {
        let routes = routes();
        let near = Ipv4Addr::new(198, 18, 0, 7);
        let far = Ipv4Addr::new(203, 0, 113, 1);
        assert_eq!((routes.outward(near), routes.next_hop(OUTSIDE, near)), (Some(OUTSIDE), Some(near)));
        assert_eq!(routes.next_hop(OUTSIDE, far), Some(Ipv4Addr::new(198, 18, 0, 254)));
        assert_eq!(routes.outward(Ipv4Addr::new(10, 77, 1, 9)), None);
        assert_eq!(routes.next_hop(INSIDE, far), None);
    }

    #[test]
    fn the_longest_prefix_says_where_an_address_is() {
        let Routes { mut ports, .. } = routes();
        ports[0].addresses = vec![(Ipv4Addr::new(198, 0, 0, 1), 8)];
        let routes = Routes::new(ports, &[]);
        let near = Ipv4Addr::new(198, 18, 0, 7);
        assert_eq!(routes.check(OUTSIDE, near, Ipv4Addr::new(198, 18, 0, 1)), Ok(()));
        assert_eq!(routes.check(INSIDE, near, Ipv4Addr::new(9, 9, 9, 9)), Err(DropReason::Martian));
        assert_eq!(
            (routes.outward(near), routes.inward(Ipv4Addr::new(198, 7, 7, 7))),
            (Some(OUTSIDE), Some(INSIDE))
        );
    }

    #[test]
    fn public_addresses_are_answered_for_outside_only() {
        let routes = routes();
        let extra = Ipv4Addr::new(192, 0, 2, 9);
        assert!(routes.answers_for(OUTSIDE, extra) && !routes.answers_for(INSIDE, extra));
        assert_eq!(routes.announced(OUTSIDE).count(), 2);
    }
}
