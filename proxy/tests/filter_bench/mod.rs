//! A chain on a bench: streams go in by hand, on a virtual clock.

use std::sync::Arc;

use pnat_proxy::chunk::Chunk;
use pnat_proxy::filter::{Chains, Flow, Output, Services, StreamChain, Turn};
use pnat_shared::config::{
    BlockAnswer, BlockFilter, Filter, FilterKind, LimitBy, LimitFilter, LogFilter, ReplaceFilter,
};
use pnat_shared::flow::{Handle, Protocol, Stream, WorkerId};
use pnat_shared::testkit::{VecFrame, one_rule};
use pnat_shared::time::Instant;

/// The receive window that chains are compiled for, in bytes.
pub(crate) const WINDOW: u32 = 1 << 20;

/// A policy with one rule that has these filters, named by their place: `f0`, `f1` and so on.
pub(crate) fn chains(kinds: impl IntoIterator<Item = FilterKind>) -> Chains {
    let filters = kinds
        .into_iter()
        .enumerate()
        .map(|(place, kind)| Filter { name: format!("f{place}"), kind })
        .collect();
    Chains::compile(&one_rule("rule", filters), WINDOW).expect("the filters can be made")
}

pub(crate) fn flow(protocol: Protocol, client: &str) -> Flow {
    Flow {
        id: 1,
        handle: Handle { worker: WorkerId(0), slot: 0, generation: 0 },
        protocol,
        client: client.parse().expect("an address"),
        server: "198.51.100.1:80".parse().expect("an address"),
        public: "203.0.113.9:5000".parse().expect("an address"),
        rule: Some(Arc::from("rule")),
        opened: Instant::ZERO,
        name: None,
        target: None,
        may_retarget: false,
        room: [u32::MAX; 2],
        wants_room: false,
        leaves_server: false,
        verdict: None,
        decided: None,
    }
}

pub(crate) fn log() -> FilterKind {
    FilterKind::Log(LogFilter { path: "flows.jsonl".into(), content_dir: None, content_cap: 0 })
}

/// A `block` filter that answers with a page.
pub(crate) fn block(patterns: &[&str], hosts: &[&str], sni: &[&str]) -> FilterKind {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    FilterKind::Block(BlockFilter {
        patterns: patterns.iter().map(|pattern| pattern.as_bytes().to_vec()).collect(),
        hosts: owned(hosts),
        sni: owned(sni),
        answer: BlockAnswer::Page(Arc::from("<h1>no</h1>")),
    })
}

pub(crate) fn replace(find: &str, with: &str) -> FilterKind {
    FilterKind::Replace(ReplaceFilter { find: find.into(), with: with.into(), first: true, second: true })
}

pub(crate) fn limit(bytes_per_second: u64, burst: u64, by: LimitBy) -> FilterKind {
    FilterKind::Limit(LimitFilter { bytes_per_second, burst, by })
}

/// One flow's chain, and what has come out of it and was not looked at yet.
pub(crate) struct Bench {
    pub(crate) chain: StreamChain,
    pub(crate) flow: Flow,
    pub(crate) services: Services,
    pub(crate) out: Output<VecFrame>,
    pub(crate) now: Instant,
}

impl Bench {
    pub(crate) fn new(chains: &Chains) -> Self {
        Self {
            chain: chains.stream(Some(0)),
            flow: flow(Protocol::Tcp, "10.0.0.5:4000"),
            services: Services::default(),
            out: Output::default(),
            now: Instant::from_secs(1),
        }
    }

    fn with(&mut self, run: impl FnOnce(&mut StreamChain, &mut Turn<'_, Output<VecFrame>>)) {
        let mut turn =
            Turn { now: self.now, flow: &mut self.flow, services: &mut self.services, out: &mut self.out };
        run(&mut self.chain, &mut turn);
    }

    /// Bytes of a stream arrive, in one frame if they fit.
    pub(crate) fn push(&mut self, stream: Stream, bytes: &[u8]) {
        for piece in bytes.chunks(1448) {
            let chunk = Chunk::from_frame(VecFrame::new(piece), 0, piece.len());
            self.with(|chain, turn| chain.push(turn, stream, chunk));
        }
    }

    pub(crate) fn finish(&mut self, stream: Stream) {
        self.with(|chain, turn| chain.finish(turn, stream));
    }

    /// Time passes; the chain is woken whenever it asks for it.
    pub(crate) fn wait_until(&mut self, until: Instant) {
        while self.chain.deadline() <= until {
            self.tick(self.now.max(self.chain.deadline()));
        }
        self.now = until;
    }

    /// The core looks at its timers once, at this time.
    pub(crate) fn tick(&mut self, now: Instant) {
        self.now = now;
        if self.chain.deadline() <= now {
            self.with(|chain, turn| chain.on_timer(turn));
        }
    }

    /// The bytes of a stream that came out.
    pub(crate) fn take(&mut self, stream: Stream) -> Vec<u8> {
        self.out.stream(stream).drain(..).flat_map(|chunk| chunk.bytes().to_vec()).collect()
    }
}
