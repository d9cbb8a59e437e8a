//! The listener for those who watch the gateway: Prometheus, and whoever probes it. Off unless the configuration names an
//! address.
//!
//! Any host may connect that reaches the address, so connections are few and short: who holds one open keeps nobody else
//! from the gateway for longer than that.

use core::net::SocketAddr;
use std::net::TcpListener;
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use pnat_shared::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tracing::{error, info, warn};

use super::api;
use super::server::{ControlError, Server};

/// Connections at the same time; later ones wait in the kernel.
const CONNECTIONS: usize = 32;
/// How long a connection may take to send a request.
const HEAD: Duration = Duration::from_secs(5);
/// How long a connection lives, whatever it does.
const LIFETIME: Duration = Duration::from_secs(60);
/// How long to wait before accepting again where that failed, as when file descriptors have run out.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) fn listen(address: SocketAddr) -> Result<TcpListener, ControlError> {
    let failed = |source| ControlError::Metrics { address, source };
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    info!(%address, "metrics are served");
    Ok(listener)
}

/// Answers requests, for ever; without a listener there are none.
pub(super) async fn serve(listener: Option<TcpListener>, server: Arc<Server>) {
    if let Some(listener) = listener {
        match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => accept(listener, server).await,
            Err(error) => error!(%error, "metrics are not served"),
        }
    }
    std::future::pending().await
}

async fn accept(listener: tokio::net::TcpListener, server: Arc<Server>) {
    let router = api::watching_router(server);
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    while let Ok(permit) = room.clone().acquire_owned().await {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "a connection for metrics was not accepted");
                sleep(PAUSE).await;
                continue;
            }
        };
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .serve_connection(TokioIo::new(stream), service);
            // Whether the other side went, was too slow or talked nonsense: it is gone.
            let _ = timeout(LIFETIME, connection).await;
            drop(permit);
        });
    }
}
