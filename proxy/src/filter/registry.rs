//! From policy to chains: which filters there are, and how a rule's filters become a flow's chain.

use std::sync::Arc;

use aho_corasick::BuildError;
use pnat_shared::config::{Filter, FilterKind, Policy};
use pnat_shared::frame::Frame;

use super::block::BlockFactory;
use super::limit::LimitFactory;
use super::log::LogFactory;
use super::replace::ReplaceFactory;
use super::{DatagramChain, Factory, StreamChain};

/// The filter kinds. A new filter adds its line here.
fn factory(filter: &Filter) -> Result<Arc<dyn Factory>, BuildError> {
    Ok(match &filter.kind {
        FilterKind::Log(config) => Arc::new(LogFactory::new(config)),
        FilterKind::Block(config) => Arc::new(BlockFactory::new(config)?),
        FilterKind::Replace(config) => Arc::new(ReplaceFactory::new(config)),
        FilterKind::Limit(config) => Arc::new(LimitFactory::new(&filter.name, config)),
    })
}

/// A filter cannot be made as configured.
#[derive(Debug, thiserror::Error)]
#[error("filter {filter}: the patterns cannot be searched for")]
pub struct CompileError {
    pub filter: String,
    pub source: BuildError,
}

/// The chains of one policy snapshot, compiled once and shared by all proxy cores.
#[derive(Debug)]
pub struct Chains {
    /// The filters of each rule, in chain order.
    rules: Vec<Vec<Named>>,
    window: u32,
}

/// A filter with the name that it was given in the configuration.
pub type Named = (Arc<str>, Arc<dyn Factory>);

impl Chains {
    /// Compiles what the filters need (search automata, name lists): not for a hot core. `window` is the largest receive
    /// window of a pair's socket, in bytes.
    pub fn compile(policy: &Policy, window: u32) -> Result<Self, CompileError> {
        let named = |filter: &Filter| match factory(filter) {
            Ok(factory) => Ok((Arc::from(&*filter.name), factory)),
            Err(source) => Err(CompileError { filter: filter.name.clone(), source }),
        };
        let filters = policy.filters.iter().map(named).collect::<Result<Vec<_>, _>>()?;
        let chain =
            |indices: &[usize]| indices.iter().filter_map(|&index| filters.get(index).cloned()).collect();
        let rules = policy.rules.iter().map(|rule| chain(&rule.filters)).collect();
        Ok(Self::new(rules, window))
    }

    /// Chains of filters that are made already: per rule, in chain order.
    pub const fn new(rules: Vec<Vec<Named>>, window: u32) -> Self {
        Self { rules, window }
    }

    /// A chain for a TCP flow that this rule of the snapshot chose; without filters where the default action did.
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

    fn filters(&self, rule: Option<u16>) -> &[Named] {
        rule.and_then(|rule| self.rules.get(usize::from(rule))).map_or(&[], Vec::as_slice)
    }
}
