//! Collects live flows from workers and proxy cores, a bounded look at a time.

use std::collections::HashMap;

use pnat_shared::flow::{Handle, ProxyId};
use pnat_shared::report::{FlowQuery, FlowRow};
use pnat_shared::time::Duration;

use super::answer::{Flow, Flows, Pair};
use super::server::{Live, Server};
use super::{Core, CoreError, CoreMessage, Role};

/// Slots that a core looks at between two bursts: some tens of microseconds.
const VISIT: u32 = 4_096;

/// Up to `limit` flows that `query` admits.
pub(super) async fn collect(server: &Server, query: &FlowQuery, limit: usize) -> Result<Flows, CoreError> {
    let mut rows = Vec::new();
    for worker in server.gateway.role(Role::Worker) {
        // One more than asked for tells whether there are more.
        rows_of_core(worker, query, limit + 1, &mut rows).await?;
    }
    let more = rows.len() > limit;
    rows.truncate(limit);
    let pairs = pairs(server, query, &rows).await?;
    let live = server.live.borrow().clone();
    let flows = rows.iter().map(|row| flow(row, pairs.get(&row.handle), &live)).collect();
    Ok(Flows { flows, more })
}

/// What proxy cores tell about flows that workers told. Proxy cores keep another order, so each is asked for all that
/// the query admits.
async fn pairs(
    server: &Server,
    query: &FlowQuery,
    rows: &[FlowRow],
) -> Result<HashMap<Handle, FlowRow>, CoreError> {
    let proxied: HashMap<Handle, ProxyId> =
        rows.iter().filter_map(|row| Some((row.handle, row.proxy?))).collect();
    let mut pairs = HashMap::new();
    for core in server.gateway.role(Role::Proxy) {
        if !proxied.values().any(|proxy| usize::from(proxy.0) == core.index) {
            continue;
        }
        let mut told = Vec::new();
        rows_of_core(core, query, usize::MAX, &mut told).await?;
        let wanted = told.into_iter().filter(|pair| proxied.contains_key(&pair.handle));
        pairs.extend(wanted.map(|pair| (pair.handle, pair)));
    }
    Ok(pairs)
}

async fn rows_of_core(
    core: &Core,
    query: &FlowQuery,
    limit: usize,
    rows: &mut Vec<FlowRow>,
) -> Result<(), CoreError> {
    let mut from = Some(0);
    while let Some(start) = from.filter(|_| rows.len() < limit) {
        let query = FlowQuery { from: start, visit: VISIT, limit: limit - rows.len(), ..query.clone() };
        let page = core.ask(|reply| CoreMessage::Flows { query, reply }).answer().await?;
        rows.extend(page.rows);
        // A core that does not move on would be asked for ever.
        from = page.next.filter(|next| *next > start);
    }
    Ok(())
}

fn flow(row: &FlowRow, pair: Option<&FlowRow>, live: &Live) -> Flow {
    Flow {
        protocol: row.protocol,
        client: row.client,
        server: row.server,
        public: row.public,
        rule: row.rule.map(|rule| live.rule_name(row.policy, rule)),
        generation: row.policy,
        worker: row.handle.worker.0,
        slot: row.handle.slot,
        use_of_slot: row.handle.generation,
        proxy: row.proxy.map(|proxy| proxy.0),
        state: row.state.to_owned(),
        age_ms: millis(row.age),
        idle_ms: millis(row.idle),
        first: row.first,
        second: row.second,
        pair: pair.map(|pair| Pair {
            state: pair.state.to_owned(),
            idle_ms: millis(pair.idle),
            first: pair.first,
            second: pair.second,
        }),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
