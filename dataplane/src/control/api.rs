//! The API: HTTP/1.1 over the control socket, answers in JSON (`curl --unix-socket SOCKET http://pnat/stats`); the same by
//! TCP with TLS on both sides, where the configuration asks for that (`control.listen`).
//!
//! | Request | Answer |
//! |---|---|
//! | `GET /health` | 200: control answers |
//! | `GET /ready` | 200 while traffic is carried, else 503 with the reasons |
//! | `GET /metrics` | every number, in Prometheus' text format |
//! | `GET /openapi.json` | what is answered, as OpenAPI 3.1 |
//! | `GET /stats` | counters, summed up and one by one |
//! | `GET /flows?` and what [`FlowsQuestion`] holds | live flows |
//! | `GET /clients?limit=&sort=` | clients by what their live flows carry |
//! | `GET /explain?proto=&src=&dst=` | what the policy decides, and what became of such flows |
//! | `GET /report` | latency percentiles with their histograms |
//! | `GET /history` | counters and latency of the last quarter of an hour |
//! | `POST /reload` | the new generation |
//! | `POST /capture?at=&count=&seconds=&snaplen=` | a pcap file, as long as the capture runs |
//!
//! A request that fails gets a [`Failure`] with status 400 (wrong question), 409 (not now), 422 (wrong configuration) or
//! 503 (a core does not answer).
//!
//! The first three are served by plain TCP too, to anybody, where the configuration asks for that (`control.metrics`).

use core::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{MethodRouter, get, post};
use pnat_shared::flow::Protocol;
use pnat_shared::report::{Endpoint, FlowQuery};
use serde::Deserialize;

use super::CoreError;
use super::answer::{Clients, Explanation, Failure, Flows, Health, Ready, Reloaded, Stats};
use super::capture::{self, CaptureError};
use super::clients;
use super::explain::{AddressError, explain, parse_client, parse_server};
use super::flows::{self, FlowsError};
use super::history::History;
use super::metrics;
use super::past;
use super::question::{ClientsQuestion, FlowsQuestion};
use super::ready;
use super::reload::{self, ReloadError};
use super::report::{self, Report};
use super::server::Server;
use super::stats;
use super::web::{self, PurgeQuestion, Purged, WebReport};
use crate::filters::{PurgeError, PurgeFault};

/// Live flows that an explanation tells at most, and flows of the past of each kind.
const EXPLAINED: usize = 8;

/// The same for programs: questions, answers and what they mean, as OpenAPI.
const DESCRIPTION: &str = include_str!("openapi.json");

type Routes = Vec<(&'static str, MethodRouter<Arc<Server>>)>;

/// Everything, for the owner of the socket.
pub(super) fn router(server: Arc<Server>) -> Router {
    serve(watching().into_iter().chain(owning()), server)
}

/// What names no client and changes nothing, for whoever watches the gateway.
pub(super) fn watching_router(server: Arc<Server>) -> Router {
    serve(watching(), server)
}

fn serve(
    routes: impl IntoIterator<Item = (&'static str, MethodRouter<Arc<Server>>)>,
    server: Arc<Server>,
) -> Router {
    routes
        .into_iter()
        .fold(Router::new(), |router, (path, answer)| router.route(path, answer))
        .fallback(async || failure(StatusCode::NOT_FOUND, "no such request".to_owned()))
        .with_state(server)
}

pub(super) fn watching() -> Routes {
    vec![
        ("/health", get(async || Json(Health { alive: true }))),
        ("/ready", get(ready)),
        ("/metrics", get(metrics)),
    ]
}

pub(super) fn owning() -> Routes {
    vec![
        ("/openapi.json", get(async || ([(header::CONTENT_TYPE, "application/json")], DESCRIPTION))),
        ("/stats", get(stats)),
        ("/flows", get(flows)),
        ("/clients", get(clients)),
        ("/explain", get(explained)),
        ("/report", get(report)),
        ("/history", get(history)),
        ("/filters", get(filters)),
        ("/purge", post(purge)),
        ("/reload", post(reload)),
        ("/capture", post(capture)),
    ]
}

type Answer<T> = Result<Json<T>, Refusal>;
type Asked<T> = Result<Query<T>, QueryRejection>;

/// A request that failed.
#[derive(Debug)]
struct Refusal(StatusCode, String);

fn failure(status: StatusCode, error: String) -> Response {
    (status, Json(Failure { error })).into_response()
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        failure(self.0, self.1)
    }
}

impl From<QueryRejection> for Refusal {
    fn from(error: QueryRejection) -> Self {
        Self(StatusCode::BAD_REQUEST, error.body_text())
    }
}

impl From<CoreError> for Refusal {
    fn from(error: CoreError) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

impl From<FlowsError> for Refusal {
    fn from(error: FlowsError) -> Self {
        let status = match &error {
            FlowsError::TwoPorts(..) => StatusCode::BAD_REQUEST,
            FlowsError::Core(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self(status, error.to_string())
    }
}

impl From<ReloadError> for Refusal {
    fn from(error: ReloadError) -> Self {
        let status = match &error {
            ReloadError::Config(_) | ReloadError::Filter(_) => StatusCode::UNPROCESSABLE_ENTITY,
            ReloadError::NeedsRestart(_) => StatusCode::CONFLICT,
            ReloadError::Core(_) | ReloadError::Cancelled => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self(status, error.to_string())
    }
}

impl From<CaptureError> for Refusal {
    fn from(error: CaptureError) -> Self {
        let status = match &error {
            CaptureError::Point(_) | CaptureError::MixedLinks => StatusCode::BAD_REQUEST,
            CaptureError::Busy => StatusCode::CONFLICT,
            CaptureError::Core(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self(status, error.to_string())
    }
}

async fn ready(State(server): State<Arc<Server>>) -> (StatusCode, Json<Ready>) {
    let ready = ready::look(&server).await;
    (if ready.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, Json(ready))
}

async fn metrics(State(server): State<Arc<Server>>) -> Response {
    match metrics::gather(&server).await {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => failure(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

async fn stats(State(server): State<Arc<Server>>) -> Json<Stats> {
    Json(stats::read(&server))
}

async fn flows(State(server): State<Arc<Server>>, asked: Asked<FlowsQuestion>) -> Answer<Flows> {
    let Query(question) = asked?;
    Ok(Json(flows::collect(&server, &question).await?))
}

async fn clients(State(server): State<Arc<Server>>, asked: Asked<ClientsQuestion>) -> Answer<Clients> {
    let Query(question) = asked?;
    Ok(Json(clients::collect(&server, &question).await?))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExplainQuestion {
    proto: Protocol,
    src: String,
    dst: String,
}

async fn explained(State(server): State<Arc<Server>>, asked: Asked<ExplainQuestion>) -> Answer<Explanation> {
    let Query(ExplainQuestion { proto, src, dst }) = asked?;
    let wrong = |error: AddressError| Refusal(StatusCode::BAD_REQUEST, error.to_string());
    let src = parse_client(proto, &src).map_err(wrong)?;
    let dst = parse_server(proto, &dst).map_err(wrong)?;
    let live = server.live.borrow().clone();
    let mut explanation = explain(&live.config.policy, proto, src, dst);
    explanation.generation = Some(live.generation);
    // A port of 0 is one that nobody named. What an echo's identifier is to a table is not said here: any echo between the
    // two hosts will do.
    let endpoint = |address: SocketAddr| Endpoint {
        net: Some(address.ip().into()),
        port: Some(address.port()).filter(|port| *port != 0),
    };
    let (client, named) = (endpoint(src), endpoint(dst));
    let question = FlowsQuestion {
        proto: Some(proto),
        client: Some(client),
        server: Some(named),
        limit: Some(EXPLAINED),
        ..FlowsQuestion::default()
    };
    explanation.flows = flows::collect(&server, &question).await?.flows;
    let flows = FlowQuery { protocol: Some(proto), client, server: named, ..FlowQuery::default() };
    explanation.past = past::collect(&server, &flows, EXPLAINED).await?;
    Ok(Json(explanation))
}

async fn report(State(server): State<Arc<Server>>) -> Json<Report> {
    Json(report::gather(&server).await)
}

async fn history(State(server): State<Arc<Server>>) -> Json<History> {
    Json(server.history.lock().await.tell())
}

async fn filters(State(server): State<Arc<Server>>) -> Answer<WebReport> {
    Ok(Json(web::gather(&server).await?))
}

async fn purge(State(server): State<Arc<Server>>, asked: Asked<PurgeQuestion>) -> Answer<Purged> {
    let Query(asked) = asked?;
    let wrong = |message: String| Refusal(StatusCode::BAD_REQUEST, message);
    let what = asked.purge();
    let what =
        what.ok_or_else(|| wrong("exactly one of all=true, host, prefix and url is to be named".to_owned()))?;
    let removing = move |server: &Server| server.gateway.filters.purge(asked.cache(), &what);
    // The cache's thread answers once it is done.
    let purged = tokio::task::spawn_blocking(move || removing(&server)).await;
    let purged = purged.map_err(|_| wrong("the purge was cut short".to_owned()))?;
    purged.map(|purged| Json(Purged { purged })).map_err(|error| match error {
        PurgeError::NoCache(_) | PurgeError::Fault(PurgeFault::NotUrl(_)) => wrong(error.to_string()),
        PurgeError::Fault(_) => Refusal(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    })
}

async fn reload(State(server): State<Arc<Server>>) -> Answer<Reloaded> {
    Ok(Json(reload::reload(&server).await?))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CaptureQuestion {
    at: String,
    count: Option<u64>,
    seconds: Option<u64>,
    snaplen: Option<u32>,
}

async fn capture(
    State(server): State<Arc<Server>>,
    asked: Asked<CaptureQuestion>,
) -> Result<Response, Refusal> {
    let Query(CaptureQuestion { at, count, seconds, snaplen }) = asked?;
    let limits = capture::Limits { count, seconds, snaplen };
    Ok(capture::start(server, &at, limits)?)
}
