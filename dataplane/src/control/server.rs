//! The control thread: its socket, its signals, and what it knows.

use core::net::SocketAddr;
use std::io;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::SystemTime;

use pnat_shared::config::{Config, Policy, Rule};
use pnat_shared::stats::Counter;
use pnat_shared::time::Duration;
use thiserror::Error;
use tokio::runtime::{Builder, Handle};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch::Sender;
use tokio::sync::{Mutex, oneshot};
use tracing::{error, info, warn};

use super::history::{self, Recorder};
use super::remote::{self, RemoteStats};
use super::report::{self, Report};
use super::tls::Credentials;
use super::{CoreMessage, FIRST_GENERATION, Gateway, Gauge, api, reload, socket, watch};

/// Policies whose rules are still known by name, for flows that an earlier policy decided on.
const REMEMBERED: usize = 16;

/// Why control did not start.
#[derive(Debug, Error)]
pub enum ControlError {
    #[error("control.socket {}: {source}", path.display())]
    Socket { path: PathBuf, source: io::Error },
    #[error("control.socket {}: another gateway answers there", .0.display())]
    InUse(PathBuf),
    #[error("control.socket {}: this file exists and is no socket", .0.display())]
    NotASocket(PathBuf),
    #[error("control.group {group}: {source}")]
    Group { group: String, source: io::Error },
    #[error("control.listen {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("control.metrics {address}: {source}")]
    Metrics { address: SocketAddr, source: io::Error },
    #[error("the control thread does not start: {0}")]
    Thread(io::Error),
}

/// What the control thread works with.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) gateway: Gateway,
    pub(super) live: Sender<Arc<Live>>,
    /// Held while a reload runs; the generation that was last given out, whether it was accepted or not.
    pub(super) reloading: Mutex<u32>,
    /// Held while a capture runs.
    pub(super) capturing: Arc<Mutex<()>>,
    pub(super) captured: Counter,
    pub(super) lost: Counter,
    pub(super) history: Mutex<Recorder>,
    stopping: AtomicBool,
    /// For those who connect from now on; `None` where nobody can by TCP.
    pub(super) credentials: Option<Sender<Credentials>>,
    pub(super) remote: Arc<RemoteStats>,
    pub(super) began: tokio::time::Instant,
}

impl Server {
    /// Whether the gateway takes no new flows any more.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

/// The configuration that is in force.
#[derive(Clone, Debug)]
pub(super) struct Live {
    pub(super) generation: u32,
    pub(super) config: Config,
    earlier: Vec<(u32, Arc<Policy>)>,
}

impl Live {
    /// With `config` in force as `generation`.
    pub(super) fn succeed(&self, generation: u32, config: Config) -> Self {
        let mut earlier = self.earlier.clone();
        earlier.push((self.generation, self.config.policy.clone()));
        let forgotten = earlier.len().saturating_sub(REMEMBERED);
        earlier.drain(..forgotten);
        Self { generation, config, earlier }
    }

    /// A rule that decided on a flow, as far as its policy is remembered.
    pub(super) fn rule(&self, generation: u32, rule: u16) -> Option<&Rule> {
        let earlier =
            self.earlier.iter().find(|(earlier, _)| *earlier == generation).map(|(_, policy)| policy);
        let policy = if generation == self.generation { Some(&self.config.policy) } else { earlier };
        policy?.rules.get(usize::from(rule))
    }

    /// The name of a rule that decided on a flow.
    pub(super) fn rule_name(&self, generation: u32, rule: u16) -> String {
        self.rule(generation, rule)
            .map_or_else(|| format!("rule {rule} of generation {generation}"), |rule| rule.name.clone())
    }
}

/// A running control thread. Dropping it stops the thread and removes the socket.
#[derive(Debug)]
pub struct Control {
    server: Arc<Server>,
    runtime: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    socket: PathBuf,
}

/// Opens the socket and starts the control thread, which also reloads on SIGHUP.
pub fn start(mut gateway: Gateway) -> Result<Control, ControlError> {
    let control = gateway.config.control.clone();
    let socket = control.socket;
    let watchers = control.metrics.map(watch::listen).transpose()?;
    let operators = control.listen.filter(|_| gateway.credentials.is_some());
    let operators = operators.map(|listen| remote::listen(listen.address)).transpose()?;
    let listener = socket::open(&socket, control.group.as_deref())?;
    let remote = Arc::new(RemoteStats::default());
    if operators.is_some() {
        gateway.gauges.push(Gauge { kind: "control", name: "tls".to_owned(), counters: remote.clone() });
    }
    let runtime = Builder::new_current_thread().enable_all().build().map_err(ControlError::Thread)?;
    let handle = runtime.handle().clone();
    let live = Live { generation: FIRST_GENERATION, config: gateway.config.clone(), earlier: Vec::new() };
    let (began, hangups) = {
        let _guard = handle.enter();
        // Caught from here on: a SIGHUP that comes early must not end the process.
        (tokio::time::Instant::now(), signal(SignalKind::hangup()).map_err(ControlError::Thread)?)
    };
    let history = Recorder::new(&history::owners(&gateway), gateway.cores.len(), now());
    let credentials = gateway.credentials.clone().map(Sender::new);
    let server = Arc::new(Server {
        gateway,
        live: Sender::new(Arc::new(live)),
        reloading: Mutex::new(FIRST_GENERATION),
        capturing: Arc::new(Mutex::new(())),
        captured: Counter::default(),
        lost: Counter::default(),
        history: Mutex::new(history),
        stopping: AtomicBool::new(false),
        credentials,
        remote,
        began,
    });
    let (stop, stopped) = oneshot::channel();
    let serving = server.clone();
    let work = move || {
        runtime.block_on(async {
            tokio::select! {
                () = serve(listener, serving.clone()) => {}
                () = watch::serve(watchers, serving.clone()) => {}
                () = remote::serve(operators, serving.clone()) => {}
                () = reload_on_hangup(hangups, serving.clone()) => {}
                () = history::keep(serving) => {}
                _ = stopped => {}
            }
        });
        // A file system that hangs must not keep the gateway from stopping.
        runtime.shutdown_background();
    };
    let thread =
        std::thread::Builder::new().name("control".to_owned()).spawn(work).map_err(ControlError::Thread)?;
    info!(socket = %socket.display(), "control answers");
    Ok(Control { server, runtime: handle, stop: Some(stop), thread: Some(thread), socket })
}

impl Control {
    /// Reloads the configuration, as SIGHUP does; the outcome goes to the log.
    pub fn reload(&self) {
        let server = self.server.clone();
        self.runtime.spawn(async move { reload_and_log(&server).await });
    }

    /// Tells all cores to open no new flow, and to end those that still live after `limit`; from now on the gateway is not
    /// ready.
    pub fn drain(&self, limit: Duration) {
        self.server.stopping.store(true, Ordering::Relaxed);
        for core in &self.server.gateway.cores {
            if let Err(error) = core.tell(CoreMessage::Drain(limit)) {
                warn!(%error, "a core was not told");
            }
        }
    }

    /// The report as it stands; waits for the cores, so they must still run. Not to be called from a core.
    pub fn report(&self) -> Report {
        self.runtime.block_on(report::gather(&self.server))
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // The thread may have ended by itself, then nobody listens.
        let _ = self.stop.take().map(|stop| stop.send(()));
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            error!("the control thread panicked");
        }
        if let Err(error) = std::fs::remove_file(&self.socket) {
            error!(%error, socket = %self.socket.display(), "the control socket stays behind");
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "what has been is told by the clock on the wall")]
fn now() -> SystemTime {
    SystemTime::now()
}

/// Answers requests, for ever.
async fn serve(listener: UnixListener, server: Arc<Server>) {
    let served = match tokio::net::UnixListener::from_std(listener) {
        Ok(listener) => axum::serve(listener, api::router(server)).await,
        Err(error) => Err(error),
    };
    if let Err(error) = served {
        error!(%error, "the control socket has failed; the gateway goes on without it");
    }
    std::future::pending().await
}

async fn reload_on_hangup(mut hangups: Signal, server: Arc<Server>) {
    while hangups.recv().await.is_some() {
        reload_and_log(&server).await;
    }
    std::future::pending().await
}

async fn reload_and_log(server: &Server) {
    // What went well is logged where it happens, for the API's reloads too.
    if let Err(error) = reload::reload(server).await {
        error!("not reloaded, everything stays as it was: {error}");
    }
}
