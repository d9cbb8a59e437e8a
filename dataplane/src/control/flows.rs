//! Collects live flows from workers and proxy cores, a bounded look at a time.

use std::cmp::Reverse;
use std::collections::HashMap;

use pnat_shared::flow::{Handle, ProxyId, Side, WorkerId};
use pnat_shared::report::{Bounds, Endpoint, FlowPage, FlowQuery, FlowRow, NarrowLeg, PairRow};
use pnat_shared::time::Duration;
use thiserror::Error;

use super::answer::{Flow, Flows, Pair, PathMtu};
use super::question::{DEFAULT_ACTION, FlowsQuestion, Sort};
use super::server::{Live, Server};
use super::{Core, CoreError, CoreMessage, Role};

/// Slots that a worker looks at between two bursts: some tens of microseconds.
pub(super) const VISIT: u32 = 1_024;
/// Pairs that a proxy core tells between two bursts.
const PAIRS: usize = 256;
/// Flows told where the question names no limit.
const USUAL: usize = 100;
/// Flows told at most.
const MOST: usize = 100_000;

/// Why no flows are told.
#[derive(Debug, Error)]
pub(super) enum FlowsError {
    #[error("server names port {0}, and port is {1}")]
    TwoPorts(u16, u16),
    #[error(transparent)]
    Core(#[from] CoreError),
}

/// The flows asked for. Unordered, the first ones found are told; ordered, every flow is looked at, and no more are kept
/// than twice those to be told.
pub(super) async fn collect(server: &Server, question: &FlowsQuestion) -> Result<Flows, FlowsError> {
    let query = query(question)?;
    let limit = question.limit.unwrap_or(USUAL).min(MOST);
    let live = server.live.borrow().clone();
    let (mut flows, mut more): (Vec<Flow>, bool) = (Vec::new(), false);
    'workers: for worker in server.gateway.role(Role::Worker) {
        let mut from = Some(0);
        while let Some(start) = from {
            let page = page(worker, &query, start).await?;
            from = page.next;
            let mut found: Vec<Flow> = page.rows.iter().map(|row| flow(row, &live)).collect();
            if let Some(rule) = &question.rule {
                found.retain(|flow| flow.rule.as_deref().unwrap_or(DEFAULT_ACTION) == rule);
            }
            if let Some(state) = &question.state {
                // A proxied flow's state is its pair's to tell.
                join(server, &mut found).await?;
                found.retain(|flow| flow.told_state() == state);
            }
            flows.append(&mut found);
            match question.sort {
                None if flows.len() > limit => break 'workers,
                Some(sort) if flows.len() > limit.saturating_mul(2) => more |= cut(&mut flows, sort, limit),
                _ => {}
            }
        }
    }
    match question.sort {
        Some(sort) => more |= cut(&mut flows, sort, limit),
        None => {
            more = flows.len() > limit;
            flows.truncate(limit);
        }
    }
    if question.state.is_none() {
        join(server, &mut flows).await?;
    }
    Ok(Flows { flows, more })
}

/// What a worker answers from this slot on.
pub(super) async fn page(worker: &Core, query: &FlowQuery, start: u32) -> Result<FlowPage, CoreError> {
    let query = FlowQuery { from: start, visit: VISIT, ..query.clone() };
    let mut page = worker.ask(|reply| CoreMessage::Flows { query, reply }).answer().await?;
    // A core that does not move on would be asked for ever.
    page.next = page.next.filter(|next| *next > start);
    Ok(page)
}

fn query(question: &FlowsQuestion) -> Result<FlowQuery, FlowsError> {
    let client = question.client.unwrap_or_default();
    let named = question.server.unwrap_or_default();
    let port = match (named.port, question.port) {
        (Some(one), Some(other)) if one != other => return Err(FlowsError::TwoPorts(one, other)),
        (one, other) => one.or(other),
    };
    Ok(FlowQuery {
        protocol: question.proto,
        client,
        server: Endpoint { port, ..named },
        age: Bounds {
            least: question.min_age_ms.map(Duration::from_millis),
            most: question.max_age_ms.map(Duration::from_millis),
        },
        bytes: Bounds { least: question.min_bytes, most: question.max_bytes },
        ..FlowQuery::default()
    })
}

/// Orders flows and keeps the first ones. Answers whether any had to go.
fn cut(flows: &mut Vec<Flow>, sort: Sort, limit: usize) -> bool {
    flows.sort_by_key(|flow| Reverse(size(flow, sort)));
    let any = flows.len() > limit;
    flows.truncate(limit);
    any
}

const fn size(flow: &Flow, sort: Sort) -> u64 {
    match sort {
        Sort::Age => flow.age_ms,
        Sort::Idle => flow.idle_ms,
        Sort::Bytes => flow.first.bytes.saturating_add(flow.second.bytes),
        Sort::Sent => flow.first.bytes,
        Sort::Received => flow.second.bytes,
        Sort::Packets => flow.first.packets.saturating_add(flow.second.packets),
    }
}

/// Adds what proxy cores know of the flows. Each is asked for its own pairs only, by their handles.
async fn join(server: &Server, flows: &mut [Flow]) -> Result<(), CoreError> {
    let mut pairs: HashMap<Handle, PairRow> = HashMap::new();
    for core in server.gateway.role(Role::Proxy) {
        let of_core =
            flows.iter().filter(|flow| flow.proxy.is_some_and(|proxy| usize::from(proxy) == core.index));
        let handles: Vec<Handle> = of_core.map(handle).collect();
        for some in handles.chunks(PAIRS) {
            let handles = some.to_vec();
            let told = core.ask(|reply| CoreMessage::Pairs { handles, reply }).answer().await?;
            pairs.extend(told.into_iter().map(|pair| (pair.handle, pair)));
        }
    }
    for flow in flows {
        if let Some(row) = pairs.remove(&handle(flow)) {
            flow.mtus = row.mtus;
            prefer(path_mtus(row.path_mtus), &mut flow.path_mtus);
            flow.pair = Some(pair(row));
        }
    }
    Ok(())
}

const fn handle(flow: &Flow) -> Handle {
    Handle { worker: WorkerId(flow.worker), slot: flow.slot, generation: flow.use_of_slot }
}

fn flow(row: &FlowRow, live: &Live) -> Flow {
    Flow {
        protocol: row.protocol,
        client: row.client,
        server: row.server,
        target: row.target,
        public: row.public,
        rule: row.rule.map(|rule| live.rule_name(row.policy, rule)),
        generation: row.policy,
        worker: row.handle.worker.0,
        slot: row.handle.slot,
        use_of_slot: row.handle.generation,
        proxy: row.proxy.map(|ProxyId(proxy)| proxy),
        state: row.state.to_owned(),
        age_ms: millis(row.age),
        idle_ms: millis(row.idle),
        first: row.first,
        second: row.second,
        mtus: passing(row),
        path_mtus: path_mtus(row.path_mtus),
        pair: None,
    }
}

/// What a worker believes to pass.
fn passing(row: &FlowRow) -> [u16; 2] {
    let [client, server] = row.path_mtus.map(|leg| leg.map(|leg| leg.mtu).filter(|mtu| *mtu > 0));
    let [to_client, to_server] = row.mtus;
    [client.map_or(to_client, |mtu| mtu.min(to_client)), server.map_or(to_server, |mtu| mtu.min(to_server))]
}

/// Legs that do not carry every packet, in words.
pub(super) fn path_mtus(legs: [Option<NarrowLeg>; 2]) -> Vec<PathMtu> {
    let told = [Side::First, Side::Second].into_iter().zip(legs).filter_map(|(side, leg)| {
        let NarrowLeg { mtu, cause, age, packets } = leg?;
        Some(PathMtu {
            leg: side.host().to_owned(),
            mtu: (mtu > 0).then_some(mtu),
            cause: cause.key().to_owned(),
            sentence: cause.sentence().to_owned(),
            age_ms: millis(age),
            packets,
        })
    });
    told.collect()
}

/// Where a pair knows something of a leg, it knows better than the worker.
fn prefer(by_pair: Vec<PathMtu>, known: &mut Vec<PathMtu>) {
    known.retain(|by_worker| by_pair.iter().all(|by_pair| by_pair.leg != by_worker.leg));
    known.extend(by_pair);
}

fn pair(row: PairRow) -> Pair {
    Pair {
        state: row.state.to_owned(),
        legs: row.legs.map(|legs| legs.map(str::to_owned)),
        name: row.name,
        held: row.held,
        idle_ms: millis(row.idle),
        first: row.first,
        second: row.second,
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
