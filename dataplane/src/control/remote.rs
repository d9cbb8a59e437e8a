//! The API by TCP, for operators on other machines: all of it, and only for clients with a certificate of the right CA.
//!
//! Any host may connect that reaches the address. Until a peer has proven itself it gets little: one of a bounded number of
//! places, of which one address cannot take all, and a bounded time to complete its handshake. Every peer that is turned
//! away is counted; the log tells of one at a time.
//!
//! ```text
//!   accept -> admitted? --- no ---> refused: closed at once
//!               '-- yes -> handshake, bounded in time --- fails ---> failed
//!                            '-- client known -> requests, as by the Unix socket
//! ```

use core::net::{IpAddr, SocketAddr};
use std::collections::HashMap;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use pnat_shared::stats::{Counter, Counters, Metric};
use pnat_shared::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{error, info, warn};

use super::api;
use super::server::{ControlError, Server};
use super::tls::Credentials;

/// Handshakes at the same time, of all peers and of one address.
const HANDSHAKES: usize = 64;
const HANDSHAKES_OF_ONE: usize = 8;
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Clients at the same time.
const CLIENTS: usize = 64;
/// How long a client may take to send a request, or be quiet between two.
const HEAD: Duration = Duration::from_secs(60);
/// How long to wait before accepting again where that failed, as when file descriptors have run out.
const PAUSE: Duration = Duration::from_secs(1);
/// The log tells of peers that were turned away no more often than that.
const TOLD_EVERY: Duration = Duration::from_secs(5);

/// What becomes of those who connect. Written by the control thread.
#[derive(Debug, Default)]
pub(super) struct RemoteStats {
    /// Clients that completed a handshake.
    admitted: Counter,
    /// Peers that did not.
    failed: Counter,
    /// Peers that found no room.
    refused: Counter,
    /// Handshakes under way.
    handshakes: Counter,
}

impl Counters for RemoteStats {
    fn counters(&self, each: &mut dyn FnMut(Metric, u64)) {
        each(
            Metric::count("clients_admitted", "Connections of clients with a certificate of the right CA."),
            self.admitted.value(),
        );
        each(
            Metric::count(
                "handshakes_failed",
                "Connections whose TLS handshake failed: no certificate, a wrong one, no TLS, too slow.",
            ),
            self.failed.value(),
        );
        each(
            Metric::count("connections_refused", "Connections closed because there were too many."),
            self.refused.value(),
        );
        each(Metric::level("handshakes", "TLS handshakes under way."), self.handshakes.value());
    }
}

pub(super) fn listen(address: SocketAddr) -> Result<TcpListener, ControlError> {
    let failed = |source| ControlError::Listen { address, source };
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    info!(%address, "control answers by TCP, with TLS on both sides");
    Ok(listener)
}

/// Answers requests, for ever; without a listener there are none.
pub(super) async fn serve(listener: Option<TcpListener>, server: Arc<Server>) {
    if let Some((listener, credentials)) = listener.zip(server.credentials.as_ref()) {
        match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => accept(listener, &server, credentials).await,
            Err(error) => error!(%error, "control does not answer by TCP"),
        }
    }
    std::future::pending().await
}

/// How a handshake ended.
struct Ended {
    peer: SocketAddr,
    outcome: Result<(), TurnedAway>,
}

/// Why a peer is not talked to.
#[derive(Debug, PartialEq, Eq)]
enum TurnedAway {
    /// It did not prove itself; the text says how.
    Failed(String),
    NoRoom(&'static str),
}

async fn accept(
    listener: tokio::net::TcpListener,
    server: &Arc<Server>,
    credentials: &watch::Sender<Credentials>,
) {
    let router = api::router(server.clone());
    let clients = Arc::new(Semaphore::new(CLIENTS));
    let mut door = Door::default();
    let mut complaints = Complaints::default();
    let (sender, mut ended) = unbounded_channel();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) if door.admit(peer.ip()) => {
                    let now = credentials.borrow().clone();
                    tokio::spawn(converse(stream, peer, now, router.clone(), clients.clone(), sender.clone()));
                }
                Ok((_, peer)) => {
                    let reason = TurnedAway::NoRoom("there are too many handshakes under way");
                    turn_away(peer, &reason, &server.remote, &mut complaints);
                }
                Err(error) => {
                    warn!(%error, "a connection to control was not accepted");
                    sleep(PAUSE).await;
                }
            },
            Some(Ended { peer, outcome }) = ended.recv() => {
                door.leave(peer.ip());
                match outcome {
                    Ok(()) => server.remote.admitted.add(1),
                    Err(reason) => turn_away(peer, &reason, &server.remote, &mut complaints),
                }
            }
        }
        server.remote.handshakes.set(door.all as u64);
    }
}

fn turn_away(peer: SocketAddr, reason: &TurnedAway, stats: &RemoteStats, complaints: &mut Complaints) {
    let (counter, reason) = match reason {
        TurnedAway::Failed(reason) => (&stats.failed, reason.as_str()),
        TurnedAway::NoRoom(reason) => (&stats.refused, *reason),
    };
    counter.add(1);
    complaints.about(peer, reason);
}

/// A connection, or what stands for one.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

/// One peer, from its first byte to its last. Tells `ended` of the handshake, whatever becomes of it.
async fn converse(
    stream: impl Stream,
    peer: SocketAddr,
    credentials: Credentials,
    router: Router,
    clients: Arc<Semaphore>,
    ended: UnboundedSender<Ended>,
) {
    let shaken = timeout(HANDSHAKE, TlsAcceptor::from(credentials.0).accept(stream)).await;
    let admitted = match shaken {
        Ok(Ok(stream)) => match clients.try_acquire_owned() {
            Ok(place) => Ok((stream, place)),
            Err(_) => Err(TurnedAway::NoRoom("there are too many clients")),
        },
        Ok(Err(error)) => Err(TurnedAway::Failed(told(&error))),
        Err(_) => Err(TurnedAway::Failed("its handshake took too long".to_owned())),
    };
    let (admitted, outcome) = match admitted {
        Ok(admitted) => (Some(admitted), Ok(())),
        Err(reason) => (None, Err(reason)),
    };
    let _ = ended.send(Ended { peer, outcome });
    if let Some((stream, place)) = admitted {
        answer(TokioIo::new(stream), router, place).await;
    }
}

async fn answer(stream: TokioIo<TlsStream<impl Stream>>, router: Router, _place: OwnedSemaphorePermit) {
    // Whether the client went, was too slow or talked nonsense: it is gone.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(stream, TowerToHyperService::new(router))
        .await;
}

fn told(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::UnexpectedEof { "it went away".to_owned() } else { error.to_string() }
}

/// Who may begin a handshake.
#[derive(Debug, Default)]
struct Door {
    all: usize,
    /// Addresses with handshakes under way, so no more than [`HANDSHAKES`].
    by_address: HashMap<IpAddr, usize>,
}

impl Door {
    fn admit(&mut self, address: IpAddr) -> bool {
        let under_way = self.by_address.get(&address).copied().unwrap_or(0);
        let admitted = self.all < HANDSHAKES && under_way < HANDSHAKES_OF_ONE;
        if admitted {
            self.all += 1;
            self.by_address.insert(address, under_way + 1);
        }
        admitted
    }

    fn leave(&mut self, address: IpAddr) {
        self.all -= 1;
        let under_way = self.by_address.remove(&address).unwrap_or(0);
        if under_way > 1 {
            self.by_address.insert(address, under_way - 1);
        }
    }
}

/// Tells the log of peers that were turned away, and of how many it was not told.
#[derive(Debug, Default)]
struct Complaints {
    last: Option<Instant>,
    untold: u64,
}

impl Complaints {
    fn about(&mut self, peer: SocketAddr, reason: &str) {
        if self.last.is_some_and(|last| last.elapsed() < TOLD_EVERY) {
            self.untold += 1;
            return;
        }
        warn!(%peer, reason, untold = self.untold, "control turned a peer away");
        (self.last, self.untold) = (Some(Instant::now()), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::tests::pki::Pki;
    use tokio::io::AsyncWriteExt as _;

    /// What becomes of a peer that sends this and then nothing. Time passes as soon as everybody waits.
    async fn waits_after(pki: &Pki, bytes: &[u8]) -> Result<(), TurnedAway> {
        let (mut peer, stream) = tokio::io::duplex(4_096);
        peer.write_all(bytes).await.expect("sent");
        let address = SocketAddr::from(([192, 0, 2, 1], 4_000));
        let (sender, mut ended) = unbounded_channel();
        let clients = Arc::new(Semaphore::new(1));
        tokio::spawn(converse(stream, address, pki.credentials(), Router::new(), clients, sender));
        ended.recv().await.expect("told").outcome
    }

    #[tokio::test(start_paused = true)]
    async fn a_handshake_that_stops_half_way_ends_when_its_time_is_over() {
        let pki = Pki::new("half-way");
        // The head of a TLS record that never comes.
        for bytes in [&[][..], &[0x16, 3, 1, 1, 0], &[0x16, 3, 1, 1, 0, 1, 0, 0, 252, 3, 3]] {
            let began = Instant::now();
            let outcome = waits_after(&pki, bytes).await;
            assert_eq!(outcome, Err(TurnedAway::Failed("its handshake took too long".to_owned())));
            assert_eq!(began.elapsed().as_secs(), HANDSHAKE.as_secs());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_wrong_peers_is_no_flood_of_the_log() {
        let mut complaints = Complaints::default();
        let peer = SocketAddr::from(([192, 0, 2, 1], 4_000));
        let mut untold = Vec::new();
        for _ in 0..3 {
            for _ in 0..1_000 {
                complaints.about(peer, "it speaks no TLS");
            }
            untold.push(complaints.untold);
            tokio::time::advance(TOLD_EVERY).await;
        }
        assert_eq!(untold, [999; 3], "one in each interval is told");
    }

    #[test]
    fn one_address_cannot_take_all_places_and_all_together_no_more_than_there_are() {
        let mut door = Door::default();
        let address = |number: u32| IpAddr::from(core::net::Ipv4Addr::from(number));
        let mut admitted = |number: u32| (0..100).filter(|_| door.admit(address(number))).count();
        assert_eq!(admitted(1), HANDSHAKES_OF_ONE);
        assert_eq!(admitted(2), HANDSHAKES_OF_ONE, "others find room");
        let rest: usize = (3..100).map(&mut admitted).sum();
        assert_eq!(rest, HANDSHAKES - 2 * HANDSHAKES_OF_ONE);
        for _ in 0..HANDSHAKES_OF_ONE {
            door.leave(address(1));
        }
        assert!(!door.by_address.contains_key(&address(1)), "who has left is forgotten");
        assert!(door.admit(address(200)));
    }
}
