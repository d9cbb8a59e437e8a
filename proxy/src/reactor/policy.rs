//! Policy snapshots: a flow keeps the one that decided on its first packet.

use std::sync::Arc;

use crate::filter::Chains;

/// One immutable policy as proxy cores hold it; workers hold the same one under the same number.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// What [`pnat_shared::flow::NewFlow::policy`] names.
    pub generation: u32,
    /// Names of the rules, in order.
    pub rules: Vec<Arc<str>>,
    pub chains: Arc<Chains>,
}

impl Snapshot {
    pub(super) fn rule(&self, rule: Option<u16>) -> Option<Arc<str>> {
        self.rules.get(usize::from(rule?)).cloned()
    }
}

/// The snapshots in use, oldest first. Few: each but the last two has pairs of its own.
#[derive(Debug, Default)]
pub(super) struct Policies {
    snapshots: Vec<(Snapshot, usize)>,
}

impl Policies {
    /// Adds a snapshot, or replaces the one of the same generation. Those that no pair uses go, except the last two: the one
    /// before may still be named by first packets on their way through the rings.
    pub(super) fn set(&mut self, snapshot: Snapshot) {
        match self.snapshots.iter_mut().find(|(known, _)| known.generation == snapshot.generation) {
            Some((known, _)) => *known = snapshot,
            None => self.snapshots.push((snapshot, 0)),
        }
        let mut behind = self.snapshots.len();
        self.snapshots.retain(|(_, users)| {
            behind -= 1;
            *users > 0 || behind < 2
        });
    }

    pub(super) fn find(&self, generation: u32) -> Option<&Snapshot> {
        self.snapshots.iter().find(|(known, _)| known.generation == generation).map(|(known, _)| known)
    }

    /// A pair of this generation has opened.
    pub(super) fn retain(&mut self, generation: u32) {
        if let Some((_, users)) = self.users(generation) {
            *users += 1;
        }
    }

    /// A pair of this generation has ended.
    pub(super) fn release(&mut self, generation: u32) {
        let Some((place, users)) = self.users(generation) else { return };
        *users = users.saturating_sub(1);
        if *users == 0 && place + 2 < self.snapshots.len() {
            self.snapshots.remove(place);
        }
    }

    fn users(&mut self, generation: u32) -> Option<(usize, &mut usize)> {
        let mut snapshots = self.snapshots.iter_mut().enumerate();
        let found = snapshots.find(|(_, (known, _))| known.generation == generation);
        found.map(|(place, (_, users))| (place, users))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(generation: u32) -> Snapshot {
        Snapshot { generation, rules: Vec::new(), chains: Arc::new(Chains::new(Vec::new(), 65_535)) }
    }

    #[test]
    fn a_snapshot_stays_as_long_as_pairs_use_it() {
        let mut policies = Policies::default();
        policies.set(snapshot(1));
        policies.retain(1);
        for generation in 2..6 {
            policies.set(snapshot(generation));
        }
        let known = |policies: &Policies| (0..9).filter(|&g| policies.find(g).is_some()).collect::<Vec<_>>();
        assert_eq!(known(&policies), [1, 4, 5]);
        policies.release(1);
        assert_eq!(known(&policies), [4, 5]);
    }
}
