//! From policy to chains: which filters there are, and how a rule's filters become a flow's chain.

use std::sync::Arc;

use aho_corasick::BuildError;
use pnat_http::codec::Limits;
use pnat_http::connection::Settings;
use pnat_http::filters::{Kinds, Lasting, Section};
use pnat_shared::check::Check;
use pnat_shared::config::{Accept, Filter, FilterKind, Http, Policy, Problem};
use pnat_shared::flow::Protocol;
use pnat_shared::frame::Frame;

use super::block::BlockFactory;
use super::limit::LimitFactory;
use super::log::LogFactory;
use super::replace::ReplaceFactory;
use super::web::{Web, WebFactory};
use super::{DatagramChain, Factory, StreamChain};

/// A filter that can be made, over streams or over HTTP.
#[derive(Clone, Debug)]
enum Made {
    Stream(Arc<dyn Factory>),
    Http(Web),
}

/// The filter kinds. A new filter over streams adds its line here; those over HTTP are [`Kinds`].
fn make(filter: &Filter, needs: &Needs<'_>) -> Result<Made, CompileError> {
    let unsearchable = |source| CompileError::Patterns { filter: filter.name.clone(), source };
    Ok(Made::Stream(match &filter.kind {
        FilterKind::Log(config) => Arc::new(LogFactory::new(config)),
        FilterKind::Block(config) => Arc::new(BlockFactory::new(config).map_err(unsearchable)?),
        FilterKind::Replace(config) => Arc::new(ReplaceFactory::new(config)),
        FilterKind::Limit(config) => Arc::new(LimitFactory::new(&filter.name, config)),
        FilterKind::Http(section) => {
            let keys = section.keys.clone();
            let Needs { kinds, lasting, rehearsal } = *needs;
            let mut own = Section { name: &filter.name, keys, lasting, rehearsal };
            let problem = |fault: pnat_http::filter::ConfigFault| {
                section.problem(&filter.name, &fault.key, &fault.message)
            };
            let budget = own.take_time_budget().map_err(problem)?;
            let made = kinds.configure(&section.kind, &own);
            let made = made.ok_or_else(|| section.unknown_kind(&filter.name, kinds.names()))?;
            let factory = made.map_err(problem)?;
            return Ok(Made::Http(Web { name: filter.name.as_str().into(), factory, budget }));
        }
    }))
}

/// What filters over HTTP are made with.
#[derive(Copy, Clone, Debug)]
pub struct Needs<'a> {
    pub kinds: &'a Kinds,
    pub lasting: &'a Lasting,
    /// See [`Section::rehearsal`].
    pub rehearsal: bool,
}

/// A filter cannot be made as configured.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    #[error("filter {filter}: the patterns cannot be searched for")]
    Patterns { filter: String, source: BuildError },
    /// A key of a filter's section, or its type.
    #[error("{0}")]
    Section(Box<Problem>),
}

impl From<Problem> for CompileError {
    fn from(problem: Problem) -> Self {
        Self::Section(Box::new(problem))
    }
}

/// The chains of one policy snapshot, compiled once and shared by all proxy cores.
#[derive(Debug)]
pub struct Chains {
    /// The filters of each rule, in chain order.
    rules: Vec<Vec<Named>>,
    window: u32,
    /// Those that no rule names, too: what filters have, as a cache, lasts as long as the configuration.
    _all: Vec<(Arc<str>, Made)>,
    doubts: Vec<String>,
}

/// A filter with the name that it was given in the configuration.
pub type Named = (Arc<str>, Arc<dyn Factory>);

impl Chains {
    /// As [`Chains::compile_with`], with PNAT's own filters only, of which none lasts longer than the chains.
    pub fn compile(policy: &Policy, window: u32) -> Result<Self, CompileError> {
        let (kinds, lasting) = (&Kinds::default(), &Lasting::default());
        Self::compile_with(policy, window, &Needs { kinds, lasting, rehearsal: false })
    }

    /// Compiles what the filters need (search automata, name lists): not for a hot core. `window` is the largest receive
    /// window of a pair's socket, in bytes.
    pub fn compile_with(policy: &Policy, window: u32, needs: &Needs<'_>) -> Result<Self, CompileError> {
        let named = |filter: &Filter| Ok((Arc::from(&*filter.name), make(filter, needs)?));
        let filters = policy.filters.iter().map(named).collect::<Result<Vec<_>, CompileError>>()?;
        let settings = Arc::new(settings(&policy.http));
        let chain = |indices: &[usize]| {
            join(indices.iter().filter_map(|&index| filters.get(index).cloned()), &settings)
        };
        let rules = policy.rules.iter().map(|rule| chain(&rule.filters)).collect();
        let doubts = doubts(policy, &filters);
        Ok(Self { rules, window, _all: filters, doubts })
    }

    /// What comes to nothing, though all of it can be made: a sentence for each filter that does nothing in a rule.
    pub fn doubts(&self) -> &[String] {
        &self.doubts
    }

    /// Chains of filters that are made already: per rule, in chain order.
    pub const fn new(rules: Vec<Vec<Named>>, window: u32) -> Self {
        Self { rules, window, _all: Vec::new(), doubts: Vec::new() }
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

    /// Servers that are to be asked whether they are well, each once for whoever wants to know.
    pub fn checks(&self) -> Vec<Check> {
        let all = self.rules.iter().flatten().flat_map(|(_, factory)| factory.checks());
        let mut checks: Vec<Check> = Vec::new();
        for check in all {
            let is_there = |own: &Check| own.server == check.server && Arc::ptr_eq(&own.told, &check.told);
            if !checks.iter().any(is_there) {
                checks.push(check);
            }
        }
        checks
    }

    fn filters(&self, rule: Option<u16>) -> &[Named] {
        rule.and_then(|rule| self.rules.get(usize::from(rule))).map_or(&[], Vec::as_slice)
    }
}

/// See [`Chains::doubts`].
fn doubts(policy: &Policy, filters: &[(Arc<str>, Made)]) -> Vec<String> {
    let mut doubts = Vec::new();
    for rule in &policy.rules {
        for (name, made) in rule.filters.iter().filter_map(|&index| filters.get(index)) {
            let Made::Http(web) = made else { continue };
            let why = if rule.matching.protocol == Some(Protocol::Udp) {
                "is over HTTP, and the rule for UDP"
            } else if rule.accept == Accept::Late && web.factory.needs_early() {
                "needs clients that are accepted early (accept = \"early\")"
            } else {
                continue;
            };
            doubts.push(format!(
                "rule \"{}\", line {}: filter \"{name}\" does nothing: it {why}",
                rule.name, rule.line
            ));
        }
    }
    doubts
}

/// By what all connections of a policy go.
const fn settings(http: &Http) -> Settings {
    let limits = Limits {
        head: http.head_limit as usize,
        fields: http.fields_limit as usize,
        line: http.line_limit as usize,
        extra: http.trailer_limit,
    };
    Settings {
        limits,
        head_timeout: http.head_timeout,
        response_timeout: http.response_timeout,
        connect: http.connect,
        http2: http.http2,
    }
}

/// The filters of a chain: those over HTTP that follow each other are one of its filters, whose name is all of theirs.
fn join(filters: impl Iterator<Item = (Arc<str>, Made)>, settings: &Arc<Settings>) -> Vec<Named> {
    let mut chain: Vec<Named> = Vec::new();
    let mut web: Vec<Web> = Vec::new();
    let close = |web: &mut Vec<Web>, chain: &mut Vec<Named>| {
        if !web.is_empty() {
            let names: Vec<&str> = web.iter().map(|filter| &*filter.name).collect();
            let name = names.join("+");
            chain.push((name.into(), Arc::new(WebFactory::new(Arc::clone(settings), std::mem::take(web)))));
        }
    };
    for (name, made) in filters {
        match made {
            Made::Http(filter) => web.push(filter),
            Made::Stream(factory) => {
                close(&mut web, &mut chain);
                chain.push((name, factory));
            }
        }
    }
    close(&mut web, &mut chain);
    chain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_where_the_operator_says_nothing_is_what_the_codec_says() {
        assert_eq!(settings(&Http::default()), Settings::default());
    }
}
