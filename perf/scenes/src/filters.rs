//! Filters that do nothing but what their cost is to be told of.

use std::sync::Arc;

use crate::gateway::WINDOW;
use pnat_proxy::filter::{Call, Chains, DatagramFilter, DatagramVerdict, Factory, StreamFilter, Verdict};
use pnat_shared::flow::Stream;

/// Looks on, and never says that it has seen enough.
#[derive(Debug)]
pub struct Pass;

/// Looks at every byte, for one that never comes.
#[derive(Debug)]
pub struct Scan;

const NEVER: u8 = 0;

/// Chains for one rule, with this filter and no other.
pub fn chains(filter: Option<Arc<dyn Factory>>) -> Chains {
    let named = filter.into_iter().map(|filter| ("filter".into(), filter));
    Chains::new(vec![named.collect()], WINDOW)
}

impl StreamFilter for Pass {
    fn data(&mut self, _: &mut Call<'_>, _: Stream, bytes: &[u8], _: usize, _: bool) -> Verdict {
        Verdict::Pass(bytes.len())
    }
}

impl StreamFilter for Scan {
    fn data(&mut self, _: &mut Call<'_>, _: Stream, bytes: &[u8], _: usize, _: bool) -> Verdict {
        Verdict::Pass(memchr::memchr(NEVER, bytes).unwrap_or(bytes.len()))
    }
}

/// TCP alone is measured.
#[derive(Debug)]
struct Ignore;

impl DatagramFilter for Ignore {
    fn datagram(&mut self, _: &mut Call<'_>, _: Stream, _: &[u8]) -> DatagramVerdict {
        DatagramVerdict::Release
    }
}

impl Factory for Pass {
    fn stream(&self) -> Box<dyn StreamFilter> {
        Box::new(Self)
    }

    fn datagram(&self) -> Box<dyn DatagramFilter> {
        Box::new(Ignore)
    }
}

impl Factory for Scan {
    fn stream(&self) -> Box<dyn StreamFilter> {
        Box::new(Self)
    }

    fn datagram(&self) -> Box<dyn DatagramFilter> {
        Box::new(Ignore)
    }
}
