//! From policy to chains: which filters there are, and how a rule's filters become a flow's chain.

use std::sync::Arc;

use pnat_shared::config::{Filter, Policy};
use pnat_shared::frame::Frame;

use super::{DatagramChain, Factory, StreamChain};

/// The filter kinds. A new filter adds its line here.
const fn factory(_filter: &Filter) -> Option<Arc<dyn Factory>> {
    None
}

/// The chains of one policy snapshot, compiled once and shared by all proxy cores.
#[derive(Debug)]
pub struct Chains {
    /// Per rule: its filters with their names, in chain order.
    rules: Vec<Vec<(Arc<str>, Arc<dyn Factory>)>>,
    window: u32,
}

impl Chains {
    /// Compiles what the filters need (search automata, name lists). `window` is the largest receive window of a pair's
    /// socket, in bytes.
    pub fn compile(policy: &Policy, window: u32) -> Self {
        let named = |filter: &Filter| Some((Arc::from(filter.name.as_str()), factory(filter)?));
        let filters: Vec<Option<(Arc<str>, Arc<dyn Factory>)>> = policy.filters.iter().map(named).collect();
        let rules = policy
            .rules
            .iter()
            .map(|rule| {
                rule.filters.iter().filter_map(|&index| filters.get(index).cloned().flatten()).collect()
            })
            .collect();
        Self::new(rules, window)
    }

    /// Chains of these filters, per rule, with their names and in chain order.
    pub const fn new(rules: Vec<Vec<(Arc<str>, Arc<dyn Factory>)>>, window: u32) -> Self {
        Self { rules, window }
    }

    /// A chain for a TCP flow; without filters where no rule, or none of this snapshot, chose the flow.
    pub fn stream(&self, rule: Option<u16>) -> StreamChain {
        let filters = self.filters(rule).iter().map(|(name, factory)| (name.clone(), factory.stream()));
        StreamChain::new(filters, self.window)
    }

    /// A chain for a UDP flow.
    pub fn datagram<F: Frame>(&self, rule: Option<u16>) -> DatagramChain<F> {
        DatagramChain::new(
            self.filters(rule).iter().map(|(name, factory)| (name.clone(), factory.datagram())),
        )
    }

    fn filters(&self, rule: Option<u16>) -> &[(Arc<str>, Arc<dyn Factory>)] {
        rule.and_then(|rule| self.rules.get(usize::from(rule))).map_or(&[], Vec::as_slice)
    }
}
