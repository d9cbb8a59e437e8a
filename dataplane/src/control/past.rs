//! Collects what workers remember of flows that they refused or that have ended, a bounded look at a time.

use pnat_shared::report::{Fate, FlowQuery, PastKind, PastQuery, PastRow, Traffic};

use super::answer::Past;
use super::flows::{VISIT, millis, path_mtus};
use super::server::{Live, Server};
use super::{Core, CoreError, CoreMessage, Role};

/// Flows of the past, by protocol, client and server, the latest first: up to `limit` of each kind, so that none hides the
/// others.
pub(super) async fn collect(
    server: &Server,
    flows: &FlowQuery,
    limit: usize,
) -> Result<Vec<Past>, CoreError> {
    let mut rows = Vec::new();
    for kind in PastKind::ALL {
        let mut latest = Vec::new();
        for worker in server.gateway.role(Role::Worker) {
            latest_of(worker, kind, flows, limit, &mut latest).await?;
        }
        latest.sort_by_key(|row| row.ago);
        latest.truncate(limit);
        rows.append(&mut latest);
    }
    rows.sort_by_key(|row| row.ago);
    let live = server.live.borrow().clone();
    Ok(rows.into_iter().map(|row| past(row, &live)).collect())
}

async fn latest_of(
    worker: &Core,
    kind: PastKind,
    flows: &FlowQuery,
    limit: usize,
    rows: &mut Vec<PastRow>,
) -> Result<(), CoreError> {
    let (mut before, most) = (None, rows.len() + limit);
    while rows.len() < most {
        let query = PastQuery { kind, flows: flows.clone(), before, visit: VISIT };
        let page = worker.ask(|reply| CoreMessage::Past { query, reply }).answer().await?;
        rows.extend(page.rows);
        // A core that does not move on would be asked for ever.
        match page.next.filter(|next| before.is_none_or(|before| *next < before)) {
            Some(next) => before = Some(next),
            None => break,
        }
    }
    Ok(())
}

fn past(row: PastRow, live: &Live) -> Past {
    let rule = row.rule.and_then(|rule| live.rule(row.policy, rule));
    let past = Past {
        ago_ms: millis(row.ago),
        client: row.client,
        server: row.server,
        outcome: String::new(),
        reason: String::new(),
        sentence: String::new(),
        leg: None,
        times: 1,
        rule: row.rule.map(|rule| live.rule_name(row.policy, rule)),
        line: rule.map(|rule| rule.line),
        generation: row.policy,
        verdict: None,
        name: None,
        target: None,
        public: None,
        proxy: None,
        lived_ms: None,
        first: Traffic::default(),
        second: Traffic::default(),
        path_mtus: Vec::new(),
    };
    match row.fate {
        Fate::Refused { reason, times } => Past {
            outcome: "refused".to_owned(),
            reason: reason.key().to_owned(),
            sentence: reason.sentence().to_owned(),
            times,
            ..past
        },
        Fate::Ended {
            reason,
            target,
            public,
            proxy,
            lived,
            first,
            second,
            verdict,
            name,
            path_mtus: legs,
        } => Past {
            outcome: "ended".to_owned(),
            reason: reason.key().to_owned(),
            sentence: reason.sentence().to_owned(),
            leg: reason.leg().map(|side| side.host().to_owned()),
            target,
            public: Some(public),
            proxy: proxy.map(|proxy| proxy.0),
            lived_ms: Some(millis(lived)),
            first,
            second,
            verdict,
            name,
            path_mtus: path_mtus(legs),
            ..past
        },
    }
}
