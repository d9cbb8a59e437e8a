//! Policy snapshots: a flow keeps the one that decided on its first packet.

use std::sync::Arc;

use pnat_shared::config::{self, Accept, CongestionControl, Transport};

use crate::filter::Chains;

/// One immutable policy as proxy cores hold it; workers hold the same one under the same number.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// What [`pnat_shared::flow::NewFlow::policy`] names.
    pub generation: u32,
    /// In order.
    pub rules: Vec<Rule>,
    pub chains: Arc<Chains>,
}

/// What a pair needs to know of the rule that let it in.
#[derive(Clone, Debug)]
pub struct Rule {
    pub name: Arc<str>,
    /// When it has clients accepted, unless there are too many: then all are accepted early.
    pub accept: Accept,
    /// Its own choice for the client's leg and for the server's.
    pub congestion: [Option<CongestionControl>; 2],
}

impl From<&config::Rule> for Rule {
    fn from(rule: &config::Rule) -> Self {
        Self { accept: rule.accept, congestion: rule.congestion, ..rule.name.as_str().into() }
    }
}

/// A rule with this name that leaves everything as it is.
impl From<&str> for Rule {
    fn from(name: &str) -> Self {
        Self { name: name.into(), accept: Accept::Late, congestion: [None; 2] }
    }
}

impl Snapshot {
    pub(super) fn rule(&self, rule: Option<u16>) -> Option<&Rule> {
        self.rules.get(usize::from(rule?))
    }

    /// How the sockets of a flow behave that this rule lets in, by default as `transport` says.
    pub(super) fn transport(&self, rule: Option<u16>, transport: Transport) -> Transport {
        self.rule(rule).map_or(transport, |rule| transport.overridden(rule.congestion))
    }
}

/// The snapshots in use and the pairs of each, oldest first. Few: each but the last ones has pairs of its own.
#[derive(Debug, Default)]
pub(super) struct Policies {
    snapshots: Vec<(Snapshot, usize)>,
    /// New flows name this generation or a later one.
    oldest: u32,
}

impl Policies {
    /// Adds a snapshot, or replaces the one of the same generation. Those before `oldest` go as soon as no pair uses them.
    pub(super) fn set(&mut self, snapshot: Snapshot, oldest: u32) {
        self.oldest = oldest;
        match self.snapshots.iter_mut().find(|(known, _)| known.generation == snapshot.generation) {
            Some((known, _)) => *known = snapshot,
            None => self.snapshots.push((snapshot, 0)),
        }
        self.snapshots.retain(|(known, users)| *users > 0 || known.generation >= oldest);
    }

    pub(super) fn find(&self, generation: u32) -> Option<&Snapshot> {
        self.snapshots.iter().find(|(known, _)| known.generation == generation).map(|(known, _)| known)
    }

    pub(super) fn newest(&self) -> u32 {
        self.snapshots.iter().map(|(known, _)| known.generation).max().unwrap_or(0)
    }

    /// A pair of this generation has opened.
    pub(super) fn retain(&mut self, generation: u32) {
        if let Some((_, users)) = self.users(generation) {
            *users += 1;
        }
    }

    /// A pair of this generation has ended.
    pub(super) fn release(&mut self, generation: u32) {
        let oldest = self.oldest;
        let Some((place, users)) = self.users(generation) else { return };
        *users = users.saturating_sub(1);
        if *users == 0 && generation < oldest {
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
        policies.set(snapshot(1), 1);
        policies.retain(1);
        for generation in 2..6 {
            policies.set(snapshot(generation), generation - 1);
        }
        let known = |policies: &Policies| (0..9).filter(|&g| policies.find(g).is_some()).collect::<Vec<_>>();
        assert_eq!(known(&policies), [1, 4, 5]);
        policies.release(1);
        assert_eq!(known(&policies), [4, 5]);
    }
}
