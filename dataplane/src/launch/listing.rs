//! Live flows as rows: a worker's bindings and a reactor's pairs in control's words.

use core::net::SocketAddr;

use pnat_proxy::reactor::Reactor;
use pnat_proxy::tcp::State;
use pnat_shared::flow::{Handle, Protocol};
use pnat_shared::frame::{Frame, FramePool};
use pnat_shared::report::{
    Fate, FlowPage, FlowQuery, FlowRow, NarrowLeg, PairRow, PastKind, PastPage, PastQuery, PastRow, Traffic,
};
use pnat_shared::time::Instant;

use crate::nat::binding::Path;
use crate::nat::tuple::Tuple;
use crate::worker::{BindingView, Ending, Past, Worker};

/// The bindings in the slots that `query` names, or the only one that it can mean.
pub(super) fn bindings<F: Frame, P: FramePool<F>>(
    worker: &Worker<F, P>,
    query: &FlowQuery,
    now: Instant,
) -> FlowPage {
    // An echo's identifier stands where others have ports, in one place only.
    if let Some((protocol, SocketAddr::V4(client), SocketAddr::V4(server))) = query.one()
        && protocol != Protocol::Icmp
    {
        let found = worker.find(protocol, client, server).map(|view| row(&view, now));
        return FlowPage {
            rows: found.filter(|row| query.admits_row(row)).into_iter().collect(),
            next: None,
        };
    }
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
        target: view.target.map(Into::into),
        public: view.public.into(),
        policy: binding.policy,
        rule: binding.rule,
        proxy: match binding.path {
            Path::Proxy(core) => Some(core),
            Path::Nat | Path::Own => None,
        },
        state: match (view.protocol, binding.tracks[0]) {
            (Protocol::Tcp, track) if track.is_established() => "established",
            (Protocol::Tcp, track) if track.is_closing() => "closing",
            (Protocol::Tcp, _) => "opening",
            (Protocol::Udp | Protocol::Icmp, _) => "open",
        },
        mtus: view.mtus,
        path_mtus: view.path_mtus.map_or([None; 2], |found| NarrowLeg::all(found, now)),
        age: now.since(binding.opened),
        idle: now.since(binding.last_seen),
        first: traffic(0),
        second: traffic(1),
    }
}

/// What a worker remembers of the flows that `query` names.
pub(super) fn past<F: Frame, P: FramePool<F>>(
    worker: &Worker<F, P>,
    query: &PastQuery,
    now: Instant,
) -> PastPage {
    let history = worker.history();
    match query.kind {
        PastKind::Refusals => past_page(
            &history.refusals,
            query,
            |refusal| {
                let fate = Fate::Refused { reason: refusal.reason, times: refusal.times };
                (refusal.tuple, refusal.policy, refusal.rule, refusal.at, fate)
            },
            now,
        ),
        PastKind::Failures => past_page(&history.failures, query, tell_ending, now),
        PastKind::Endings => past_page(&history.endings, query, tell_ending, now),
    }
}

fn tell_ending(ending: &Ending) -> (Tuple, u32, Option<u16>, Instant, Fate) {
    (ending.tuple, ending.policy, ending.rule, ending.at, ended(ending))
}

fn past_page<T>(
    past: &Past<T>,
    query: &PastQuery,
    tell: impl Fn(&T) -> (Tuple, u32, Option<u16>, Instant, Fate),
    now: Instant,
) -> PastPage {
    let top = query.before.unwrap_or(u64::MAX).min(past.count());
    let bottom = top.saturating_sub(u64::from(query.visit));
    let entries = (bottom..top).rev().map_while(|number| past.get(number));
    let rows = entries.filter_map(|entry| {
        let (tuple, policy, rule, at, fate) = tell(entry);
        let (protocol, client, server) = (tuple.protocol(), tuple.src().into(), tuple.dst().into());
        let row = PastRow { protocol, client, server, policy, rule, ago: now.since(at), fate };
        query.flows.admits(protocol, client, server).then_some(row)
    });
    PastPage {
        rows: rows.collect(),
        next: bottom.checked_sub(1).and_then(|last| past.get(last)).map(|_| bottom),
    }
}

fn ended(ending: &Ending) -> Fate {
    let traffic = |stream: usize| Traffic { packets: ending.packets[stream], bytes: ending.bytes[stream] };
    let words = ending.last_words.as_deref();
    Fate::Ended {
        reason: ending.reason,
        target: ending.target.map(Into::into),
        public: ending.public.into(),
        proxy: match ending.path {
            Path::Proxy(core) => Some(core),
            Path::Nat | Path::Own => None,
        },
        lived: ending.at.since(ending.opened),
        first: traffic(0),
        second: traffic(1),
        verdict: words.and_then(|words| words.verdict.clone()),
        name: words.and_then(|words| words.name.clone()),
        path_mtus: narrow_legs(ending),
    }
}

/// What was found out about the legs' length by the pair, and else by the worker.
fn narrow_legs(ending: &Ending) -> [Option<NarrowLeg>; 2] {
    let by_worker = NarrowLeg::all(&ending.path_mtus, ending.at);
    let words = ending.last_words.as_deref();
    let by_pair = words.map_or([None; 2], |words| NarrowLeg::all(&words.path_mtus, ending.at));
    NarrowLeg::prefer(by_pair, by_worker)
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
            name: view.flow.name.as_deref().map(str::to_owned),
            held: view.held as u64,
            mtus: view.mtus,
            path_mtus: NarrowLeg::all(&view.path_mtus, now),
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
        (State::Established, State::SynUnsent) => "waiting",
        (State::Closed, _) | (_, State::Closed) => "closed",
        _ => "closing",
    }
}

/// A socket's state in RFC 9293's words, or one of our own.
const fn leg(state: State) -> &'static str {
    match state {
        State::SynHeld => "syn_held",
        State::SynUnsent => "syn_unsent",
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

#[cfg(test)]
mod tests {
    use super::*;
    use pnat_shared::verdict::DropReason;

    #[test]
    fn the_past_is_told_backwards_page_by_page_until_nothing_is_remembered() {
        let address = |port| std::net::SocketAddrV4::new([10, 0, 0, 5].into(), port);
        let mut past = Past::new(100);
        for port in 1..=250 {
            past.push(port);
        }
        let kind = PastKind::Refusals;
        let fate = Fate::Refused { reason: DropReason::Denied, times: 1 };
        let tell = |port: &u16| {
            (Tuple::new(Protocol::Tcp, address(*port), address(80)), 1, None, Instant::ZERO, fate.clone())
        };
        let (mut told, mut before, mut pages) = (Vec::new(), None, 0);
        loop {
            let query = PastQuery { kind, flows: FlowQuery::default(), before, visit: 32 };
            let page = past_page(&past, &query, tell, Instant::ZERO);
            assert!(page.rows.len() <= 32);
            told.extend(page.rows.iter().map(|row| row.client.port()));
            pages += 1;
            match page.next {
                Some(next) => before = Some(next),
                None => break,
            }
        }
        assert_eq!((told, pages), ((151..=250).rev().collect(), 4));
    }
}
