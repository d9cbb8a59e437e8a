//! A proxied flow whose pair asks another server than the client named: its outside key moves.
//!
//! Runs on: worker. Allocates: never. Blocks: never.
//!
//! The public port stays the same, unless another flow of the client's port has it toward that server: then the flow gets a
//! mapping of its own, which its masked address stands for, since the client's stands for the other one.

use core::net::SocketAddrV4;

use pnat_shared::flow::{Protocol, Side, Stream};
use pnat_shared::loopback;
use pnat_shared::time::Instant;
use pnat_shared::verdict::DropReason;

use super::binding::{NOWHERE, Path};
use super::expiry::Track;
use super::tuple::Tuple;
use super::{Mapping, NOBODY, Nat};
use crate::loopback::mask;

impl Nat {
    /// Whether the second socket of a flow's pair may be given another server.
    pub fn may_retarget(&self, slot: u32) -> bool {
        self.flows.entry(slot).is_some_and(|(keys, binding)| {
            keys[0].protocol() == Protocol::Tcp && matches!(binding.path, Path::Proxy(_))
        })
    }

    /// Gives the pair of a flow that [may have one](Nat::may_retarget) another server, reached by the port `egress`, or the same
    /// one anew. `choice` is a hash of the client's address. Answers the public address and port. On failure nothing has
    /// changed.
    pub fn retarget(
        &mut self,
        slot: u32,
        server: SocketAddrV4,
        egress: u8,
        choice: u64,
        now: Instant,
    ) -> Result<SocketAddrV4, DropReason> {
        let Some((keys, _)) = self.flows.entry(slot) else { return Err(DropReason::StaleHandle) };
        let (client, outside) = (keys[0].src(), keys[1]);
        let mut wanted = Tuple::new(outside.protocol(), server, outside.dst());
        let owner = self.flows.find(Stream::Second, self.flows.hash(&wanted), &wanted);
        if owner.is_some_and(|owner| owner != slot) {
            let public = self.take_own_mapping(slot, client.port(), choice, now)?;
            wanted = Tuple::new(outside.protocol(), server, public);
        }
        self.lead(slot, wanted, egress);
        Ok(wanted.dst())
    }

    /// Leaves a flow's pair without a server, for this reason: what its second socket sends leads nowhere.
    pub fn sever(&mut self, slot: u32, reason: DropReason) {
        let Some((keys, _)) = self.flows.entry(slot) else { return };
        let nowhere = SocketAddrV4::new(*self.stand_in(slot).ip(), reason.index() as u16);
        self.lead(slot, Tuple::new(keys[1].protocol(), nowhere, keys[1].dst()), NOWHERE);
    }

    /// Moves a flow's outside key; of the leg to the server nothing is known then.
    fn lead(&mut self, slot: u32, outside: Tuple, egress: u8) {
        self.flows.rekey(slot, Stream::Second, outside);
        let handle = self.handle(slot);
        if let Some((keys, binding)) = self.flows.entry_mut(slot) {
            binding.changes = mask::changes(handle, &keys[0], &keys[1]);
            binding.egress[Stream::First as usize] = egress;
            binding.hops[Stream::First as usize] = 0;
            binding.tracks[Side::Second as usize] = Track::default();
        }
    }

    /// Gives a flow a public port that it shares with no other, in place of its client's.
    fn take_own_mapping(
        &mut self,
        slot: u32,
        port: u16,
        choice: u64,
        now: Instant,
    ) -> Result<SocketAddrV4, DropReason> {
        let protocol = Protocol::Tcp;
        let public = self.ports.take(protocol, choice, port, now).ok_or(DropReason::PortsExhausted)?;
        let keys = [Tuple::new(protocol, self.stand_in(slot), NOBODY), Tuple::new(protocol, NOBODY, public)];
        let Ok(mapping) = self.mappings.insert(keys, Mapping { users: 1, translated: 0 }) else {
            self.ports.put(protocol, public, now);
            return Err(DropReason::TableFull);
        };
        if let Some((_, binding)) = self.flows.entry_mut(slot) {
            let shared = core::mem::replace(&mut binding.mapping, mapping);
            self.release_mapping(shared, now);
        }
        Ok(public)
    }

    /// An address that no host has, and no other flow of this worker.
    fn stand_in(&self, slot: u32) -> SocketAddrV4 {
        loopback::mask(self.handle(slot))
    }
}

/// Why a flow's pair has no server, where this is its outside key.
pub fn severed(outside: &Tuple) -> Option<DropReason> {
    let server = outside.src();
    loopback::unmask(*server.ip(), server.port())?;
    DropReason::ALL.get(usize::from(server.port())).copied()
}
