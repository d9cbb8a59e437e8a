//! Masking: a proxied flow's tuples as the proxy's sockets see them.
//!
//! Runs on: worker. Allocates: never. Blocks: never.

use pnat_shared::flow::{Handle, Protocol, Side};
use pnat_shared::loopback;

use crate::nat::rewrite::Change;
use crate::nat::tuple::Tuple;

/// The tuple of a flow's packets as `side`'s socket receives them; what it sends has the reverse.
#[inline]
pub fn masked(handle: Handle, protocol: Protocol, side: Side) -> Tuple {
    Tuple::new(protocol, loopback::mask(handle), loopback::socket(side))
}

/// What masking does to the checksums of packets from the client (tuple `inside`) and from the server (`outside`).
pub fn changes(handle: Handle, inside: &Tuple, outside: &Tuple) -> [Change; 2] {
    [
        Change::between(inside, &masked(handle, inside.protocol(), Side::First)),
        Change::between(outside, &masked(handle, outside.protocol(), Side::Second)),
    ]
}
