//! Live flows as rows: a worker's bindings and a reactor's pairs in control's words.

use pnat_proxy::reactor::Reactor;
use pnat_proxy::tcp::State;
use pnat_shared::flow::{Protocol, ProxyId};
use pnat_shared::frame::{Frame, FramePool};
use pnat_shared::report::{FlowPage, FlowQuery, FlowRow, Traffic};
use pnat_shared::time::Instant;

use crate::nat::binding::Path;
use crate::worker::Worker;

/// The bindings in the slots that `query` names.
pub(super) fn bindings<F: Frame, P: FramePool<F>>(
    worker: &Worker<F, P>,
    query: &FlowQuery,
    now: Instant,
) -> FlowPage {
    page(query, worker.slots(), |slot| {
        let view = worker.binding(slot)?;
        let binding = view.binding;
        let traffic =
            |stream: usize| Traffic { packets: binding.packets[stream], bytes: binding.bytes[stream] };
        Some(FlowRow {
            handle: view.handle,
            protocol: view.protocol,
            client: view.client.into(),
            server: view.server.into(),
            public: view.public.into(),
            policy: binding.policy,
            rule: binding.rule,
            proxy: match binding.path {
                Path::Proxy(core) => Some(core),
                Path::Nat => None,
            },
            state: match (view.protocol, binding.tracks[0]) {
                (Protocol::Tcp, track) if track.is_established() => "established",
                (Protocol::Tcp, track) if track.is_closing() => "closing",
                (Protocol::Tcp, _) => "opening",
                (Protocol::Udp | Protocol::Icmp, _) => "open",
            },
            age: now.since(binding.opened),
            idle: now.since(binding.last_seen),
            first: traffic(0),
            second: traffic(1),
        })
    })
}

/// The pairs under the keys that `query` names.
pub(super) fn pairs<F: Frame>(
    reactor: &Reactor<F>,
    me: ProxyId,
    query: &FlowQuery,
    now: Instant,
) -> FlowPage {
    page(query, reactor.keys(), |key| {
        let view = reactor.pair(key, now)?;
        let traffic = |stream: usize| Traffic { packets: view.packets[stream], bytes: view.bytes[stream] };
        Some(FlowRow {
            handle: view.handle,
            protocol: view.flow.protocol,
            client: view.flow.client.into(),
            server: view.flow.server.into(),
            public: view.flow.public.into(),
            policy: view.policy,
            // Its worker tells the rule.
            rule: None,
            proxy: Some(me),
            state: view.states.map_or("open", state),
            age: view.age,
            idle: view.idle,
            first: traffic(0),
            second: traffic(1),
        })
    })
}

/// One word for both sockets of a pair.
const fn state([first, second]: [State; 2]) -> &'static str {
    match (first, second) {
        (State::SynHeld, _) => "connecting",
        (State::SynReceived, _) => "accepting",
        (State::Established, State::Established) => "established",
        (State::Closed, _) | (_, State::Closed) => "closed",
        _ => "closing",
    }
}

/// Rows of the slots from `query.from` on, below `end`.
fn page(query: &FlowQuery, end: u32, row: impl Fn(u32) -> Option<FlowRow>) -> FlowPage {
    let until = query.from.saturating_add(query.visit).min(end);
    let mut rows = Vec::new();
    for slot in query.from..until {
        if rows.len() >= query.limit {
            return FlowPage { rows, next: Some(slot) };
        }
        let wanted = row(slot).filter(|row| query.admits(row.protocol, row.client, row.server));
        rows.extend(wanted);
    }
    FlowPage { rows, next: (until < end).then_some(until) }
}
