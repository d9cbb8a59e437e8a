//! Flows by arithmetic: a number's addresses and ports, without a table.
//!
//! Runs on: the generator's core. Allocates: never. Blocks: never.

use core::ops::RangeInclusive;
use std::net::{Ipv4Addr, SocketAddrV4};

/// Most flows of a scenario.
pub const MAX: u32 = 10_000_000;

/// What flows there are: from one to the next the source port changes; each time all of them have been used the source
/// address, then the destination port, then the destination address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flows {
    pub count: u32,
    pub src: RangeInclusive<Ipv4Addr>,
    pub src_port: RangeInclusive<u16>,
    pub dst: RangeInclusive<Ipv4Addr>,
    pub dst_port: RangeInclusive<u16>,
}

/// A flow's two ends.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Ends {
    pub src: SocketAddrV4,
    pub dst: SocketAddrV4,
}

impl Flows {
    /// How many different flows these addresses and ports allow.
    pub fn room(&self) -> u128 {
        let ports = |range: &RangeInclusive<u16>| u128::from(range.end().saturating_sub(*range.start())) + 1;
        ports(&self.src_port) * addresses(&self.src) * ports(&self.dst_port) * addresses(&self.dst)
    }

    /// From flow 0 on.
    pub fn walk(&self) -> Walk {
        Walk {
            flow: 0,
            src: *self.src.start(),
            src_port: *self.src_port.start(),
            dst: *self.dst.start(),
            dst_port: *self.dst_port.start(),
        }
    }
}

/// Addresses of a range.
pub fn addresses(range: &RangeInclusive<Ipv4Addr>) -> u128 {
    u128::from(range.end().to_bits().saturating_sub(range.start().to_bits())) + 1
}

/// A place among [`Flows`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walk {
    flow: u32,
    src: Ipv4Addr,
    src_port: u16,
    dst: Ipv4Addr,
    dst_port: u16,
}

impl Walk {
    /// The number of the flow that it stands at.
    #[inline]
    pub const fn flow(&self) -> u32 {
        self.flow
    }

    #[inline]
    pub const fn ends(&self) -> Ends {
        Ends {
            src: SocketAddrV4::new(self.src, self.src_port),
            dst: SocketAddrV4::new(self.dst, self.dst_port),
        }
    }

    /// Goes on to the next flow; answers true where that is flow 0 again.
    #[inline]
    pub fn advance(&mut self, flows: &Flows) -> bool {
        self.flow += 1;
        if self.flow >= flows.count {
            *self = flows.walk();
            return true;
        }
        if next_port(&mut self.src_port, &flows.src_port)
            && next_address(&mut self.src, &flows.src)
            && next_port(&mut self.dst_port, &flows.dst_port)
        {
            next_address(&mut self.dst, &flows.dst);
        }
        false
    }
}

/// Answers true where the range begins anew.
#[inline]
fn next_port(port: &mut u16, range: &RangeInclusive<u16>) -> bool {
    let is_last = *port == *range.end();
    *port = if is_last { *range.start() } else { *port + 1 };
    is_last
}

#[inline]
fn next_address(address: &mut Ipv4Addr, range: &RangeInclusive<Ipv4Addr>) -> bool {
    let is_last = *address == *range.end();
    *address = if is_last { *range.start() } else { Ipv4Addr::from_bits(address.to_bits() + 1) };
    is_last
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn range(start: u32, len: u32) -> RangeInclusive<Ipv4Addr> {
        Ipv4Addr::from_bits(start)..=Ipv4Addr::from_bits(start + len - 1)
    }

    proptest! {
        #[test]
        fn every_flow_is_another_one_and_each_round_repeats_the_first(
            addresses in [1u32..5, 1..5], ports in [1u16..5, 1..5], share in 1u32..=100,
        ) {
            let [src, dst] = addresses.map(|len| range(0xffff_ff00 - len, len));
            let [src_port, dst_port] = ports.map(|len| 65_535 - (len - 1)..=65_535);
            let mut flows = Flows { count: 1, src, src_port, dst, dst_port };
            let room = u32::try_from(flows.room()).expect("small");
            flows.count = (room * share).div_ceil(100);

            let mut walk = flows.walk();
            let mut round = Vec::new();
            loop {
                prop_assert_eq!(walk.flow() as usize, round.len());
                round.push(walk.ends());
                if walk.advance(&flows) {
                    break;
                }
            }
            prop_assert_eq!(round.len(), flows.count as usize);
            let different: HashSet<_> = round.iter().map(|ends| (ends.src, ends.dst)).collect();
            prop_assert_eq!(different.len(), round.len());
            prop_assert_eq!(walk.ends(), round[0]);
        }
    }
}
