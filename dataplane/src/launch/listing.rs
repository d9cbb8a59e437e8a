//! Live flows as rows: a worker's bindings and a reactor's pairs in control's words.

use pnat_proxy::reactor::Reactor;
use pnat_proxy::tcp::State;
use pnat_shared::flow::{Handle, Protocol};
use pnat_shared::frame::{Frame, FramePool};
use pnat_shared::report::{FlowPage, FlowQuery, FlowRow, PairRow, Traffic};
use pnat_shared::time::Instant;

use crate::nat::binding::Path;
use crate::worker::{BindingView, Worker};

/// The bindings in the slots that `query` names.
pub(super) fn bindings<F: Frame, P: FramePool<F>>(
    worker: &Worker<F, P>,
    query: &FlowQuery,
    now: Instant,
) -> FlowPage {
    let end = worker.slots();
    let until = query.from.saturating_add(query.visit).min(end);
    let rows = (query.from..until).filter_map(|slot| {
        let view = worker.binding(slot)?;
        // Most are refused by what never changes, which costs least to look at.
        let row =
            query.admits(view.protocol, view.client.into(), view.server.into()).then(|| row(&view, now))?;
        query.admits_row(&row).then_some(row)
    });
    FlowPage { rows: rows.collect(), next: (until < end).then_some(until) }
}

fn row(view: &BindingView<'_>, now: Instant) -> FlowRow {
    let binding = view.binding;
    let traffic = |stream: usize| Traffic { packets: binding.packets[stream], bytes: binding.bytes[stream] };
    FlowRow {
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
    }
}

/// What the pairs of these flows have come to.
pub(super) fn pairs<F: Frame>(reactor: &Reactor<F>, handles: &[Handle], now: Instant) -> Vec<PairRow> {
    let views = handles.iter().filter_map(|handle| reactor.pair_of(*handle, now));
    let rows = views.map(|view| {
        let traffic = |stream: usize| Traffic { packets: view.packets[stream], bytes: view.bytes[stream] };
        PairRow {
            handle: view.handle,
            state: view.states.map_or("open", state),
            legs: view.states.map(|legs| legs.map(leg)),
            name: view.flow.name.clone(),
            held: view.held as u64,
            idle: view.idle,
            first: traffic(0),
            second: traffic(1),
        }
    });
    rows.collect()
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

/// A socket's state in RFC 9293's words, and one of our own for late accept.
const fn leg(state: State) -> &'static str {
    match state {
        State::SynHeld => "syn_held",
        State::SynSent => "syn_sent",
        State::SynReceived => "syn_received",
        State::Established => "established",
        State::FinWait1 => "fin_wait_1",
        State::FinWait2 => "fin_wait_2",
        State::CloseWait => "close_wait",
        State::Closing => "closing",
        State::LastAck => "last_ack",
        State::TimeWait => "time_wait",
        State::Closed => "closed",
    }
}
