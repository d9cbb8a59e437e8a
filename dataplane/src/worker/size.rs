//! What a worker knows of packets that were too long for a leg of their flow.
//!
//! Runs on: worker. Allocates: at creation, and a flow's first finding. Blocks: never.
//!
//! So few flows meet such a leg that bindings have no room for it: the findings stand in a table of their own, each in the one
//! place that its slot leads to. A later flow's takes the place of an earlier one's there.

use pnat_shared::flow::{Handle, Side};
use pnat_shared::path_mtu::{MtuCause, PathMtus};
use pnat_shared::time::Instant;

/// Flows whose findings can be known at the same time.
const PLACES: usize = 4_096;

/// The findings of a worker's flows.
#[derive(Debug)]
pub(super) struct Sizes {
    places: Vec<Option<(Handle, PathMtus)>>,
    /// How many places are taken.
    taken: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { places: vec![None; PLACES], taken: 0 }
    }
}

impl Sizes {
    /// A flow's packet was longer than the leg of `side` carries.
    pub(super) fn note(&mut self, flow: Handle, side: Side, mtu: u16, cause: MtuCause, now: Instant) {
        let place = &mut self.places[place(flow)];
        self.taken += usize::from(place.is_none());
        match place {
            Some((known, found)) if *known == flow => found.note(side, mtu, cause, now),
            _ => place.insert((flow, PathMtus::default())).1.note(side, mtu, cause, now),
        }
    }

    /// What is known of a flow.
    pub(super) fn of(&self, flow: Handle) -> Option<&PathMtus> {
        self.places[place(flow)].as_ref().filter(|(known, _)| *known == flow).map(|(_, found)| found)
    }

    /// The same, of a flow that has ended: it is forgotten here.
    pub(super) fn take(&mut self, flow: Handle) -> PathMtus {
        if self.taken == 0 {
            return PathMtus::default();
        }
        let taken = self.places[place(flow)].take_if(|(known, _)| *known == flow);
        self.taken -= usize::from(taken.is_some());
        taken.map_or_else(PathMtus::default, |(_, found)| found)
    }
}

const fn place(flow: Handle) -> usize {
    flow.slot as usize % PLACES
}

#[cfg(test)]
mod tests {
    use super::*;
    use pnat_shared::flow::WorkerId;

    #[test]
    fn a_slots_next_flow_knows_nothing_of_the_last_ones_packets() {
        let flow = |slot, generation| Handle { worker: WorkerId(0), slot, generation };
        let mut sizes = Sizes::default();
        let mut note = |flow| sizes.note(flow, Side::Second, 1400, MtuCause::Port, Instant::ZERO);
        note(flow(7, 1));
        note(flow(7, 1));
        note(flow(8, 1));
        assert!(sizes.of(flow(7, 2)).is_none() && sizes.take(flow(7, 2)).is_empty());
        assert_eq!(sizes.of(flow(7, 1)).and_then(|found| found.legs()[1]).map(|leg| leg.packets), Some(2));
        sizes.note(flow(7 + PLACES as u32, 1), Side::First, 1400, MtuCause::Port, Instant::ZERO);
        assert!(sizes.of(flow(7, 1)).is_none(), "a later flow has the place");
        assert!(!sizes.take(flow(8, 1)).is_empty() && sizes.take(flow(8, 1)).is_empty());
        assert!(!sizes.take(flow(7 + PLACES as u32, 1)).is_empty());
        assert_eq!(sizes.taken, 0);
    }
}
