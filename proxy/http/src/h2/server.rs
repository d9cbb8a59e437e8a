//! The server's side of a connection of HTTP/2, to which PNAT is the client.
//!
//! Runs on: proxy cores. Allocates: by `h2`. Blocks: never.

use std::future::Future;
use std::net::SocketAddrV4;
use std::pin::Pin;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use tokio::io::DuplexStream;

use super::content::MOST_WAITING;
use super::transport::{Transport, unwoken};
use super::{STREAM_WINDOW, WINDOW, upgrade};

pub(super) struct ServerSide {
    role: Role,
    wire: Transport,
    /// Where it is; `None`: where the client addressed it.
    facing: Option<SocketAddrV4>,
    /// It takes no more requests (RFC 9113 section 6.8).
    is_leaving: bool,
    /// What is to be said before anything else.
    words: BytesMut,
}

enum Role {
    Beginning(ClientHandshake),
    Open(SendRequest<Bytes>, Box<Connection<DuplexStream, Bytes>>),
    Over,
}

type Roles = (SendRequest<Bytes>, Connection<DuplexStream, Bytes>);
type ClientHandshake = Pin<Box<dyn Future<Output = Result<Roles, h2::Error>> + Send>>;

impl ServerSide {
    pub(super) fn new(facing: Option<SocketAddrV4>, largest_head: u32) -> Self {
        let (wire, near) = Transport::pair();
        let handshake = async move {
            Builder::new()
                .enable_push(false)
                .max_header_list_size(largest_head)
                .max_send_buffer_size(MOST_WAITING)
                .initial_window_size(STREAM_WINDOW)
                .initial_connection_window_size(WINDOW)
                .handshake(near)
                .await
        };
        let role = Role::Beginning(Box::pin(handshake));
        Self { role, wire, facing, is_leaving: false, words: BytesMut::new() }
    }

    /// A server that has taken a request by an upgrade, and the response to that. `None`: `h2` does not begin as expected.
    pub(super) fn upgraded(
        facing: Option<SocketAddrV4>,
        largest_head: u32,
    ) -> Option<(Self, ResponseFuture)> {
        let mut new = Self::new(facing, largest_head);
        new.drive();
        let requests = new.requests()?;
        let Poll::Ready(Ok(())) = requests.poll_ready(&mut unwoken()) else { return None };
        let (awaited, _) = requests.send_request(upgrade::request(), true).ok()?;
        new.drive();
        let mut words = BytesMut::new();
        new.wire.take(usize::MAX, &mut words);
        new.words = upgrade::without_request(words)?;
        Some((new, awaited))
    }

    /// Whether it takes requests for this server.
    pub(super) fn suits(&self, target: Option<SocketAddrV4>) -> bool {
        self.facing == target && !self.is_leaving
    }

    /// Whether it takes no more requests.
    pub(super) const fn is_leaving(&self) -> bool {
        self.is_leaving
    }

    /// Whether a connection to this server may be opened in its place; where it is the same one that is about to end, not before
    /// it has.
    pub(super) fn may_be_left(&self, target: Option<SocketAddrV4>) -> bool {
        self.facing != target
    }

    /// Answers how many of the server's bytes there was room for; what comes behind its end is dropped.
    pub(super) fn put(&mut self, bytes: &[u8]) -> usize {
        if matches!(self.role, Role::Over) { bytes.len() } else { self.wire.put(bytes) }
    }

    /// Does what can be done; answers whether the server has just broken the rules.
    pub(super) fn drive(&mut self) -> bool {
        if let Role::Beginning(handshake) = &mut self.role
            && let Poll::Ready(Ok((requests, connection))) = handshake.as_mut().poll(&mut unwoken())
        {
            self.role = Role::Open(requests, Box::new(connection));
        }
        let Role::Open(requests, connection) = &mut self.role else { return false };
        let ended = Pin::new(connection).poll(&mut unwoken());
        self.is_leaving |= matches!(requests.poll_ready(&mut unwoken()), Poll::Ready(Err(_)));
        let Poll::Ready(ended) = ended else { return false };
        self.is_leaving = true;
        self.role = Role::Over;
        ended.is_err_and(|error| error.is_library())
    }

    /// By what requests are sent.
    pub(super) const fn requests(&mut self) -> Option<&mut SendRequest<Bytes>> {
        match &mut self.role {
            Role::Open(requests, _) => Some(requests),
            _ => None,
        }
    }

    /// Appends what is for the server, so many bytes at most; answers whether there was some.
    pub(super) fn take(&mut self, most: usize, out: &mut BytesMut) -> bool {
        let words = self.words.split_to(self.words.len().min(most));
        out.extend_from_slice(&words);
        self.wire.take(most - words.len(), out) > 0 || !words.is_empty()
    }
}
