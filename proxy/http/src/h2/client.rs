//! The client's side of a connection of HTTP/2, to which PNAT is the server.
//!
//! Runs on: proxy cores. Allocates: by `h2`. Blocks: never.

use std::future::Future;
use std::pin::Pin;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use h2::server::{Builder, Connection, Handshake, SendResponse};
use h2::{Reason, RecvStream};
use tokio::io::DuplexStream;

use super::content::MOST_WAITING;
use super::transport::{Transport, unwoken};
use super::{STREAM_WINDOW, WINDOW, upgrade};
use crate::codec::Fault;
use crate::connection::Why;

/// Streams that a client may have open at once.
const MOST_STREAMS: u32 = 100;

pub(super) struct ClientSide {
    role: Role,
    wire: Transport,
    upgrade: Upgrade,
    /// What the client's settings were before its first frame.
    settings: Box<[u8]>,
}

enum Role {
    /// The client's preface is awaited.
    Beginning(Box<Handshake<DuplexStream, Bytes>>),
    Open(Box<Connection<DuplexStream, Bytes>>),
    Over,
}

/// What stands for the request of an upgrade.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Upgrade {
    /// There was none.
    No,
    /// A request is made up behind the client's first frame.
    Awaited,
    /// It is the next one that comes up.
    MadeUp,
}

/// A request and the way back to its client.
pub(super) type Accepted = (http::Request<RecvStream>, SendResponse<Bytes>);

impl ClientSide {
    pub(super) fn new(largest_head: u32) -> Self {
        let (wire, near) = Transport::pair();
        let handshake = Builder::new()
            .max_concurrent_streams(MOST_STREAMS)
            .max_header_list_size(largest_head)
            .max_send_buffer_size(MOST_WAITING)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(WINDOW)
            .handshake(near);
        Self {
            role: Role::Beginning(Box::new(handshake)),
            wire,
            upgrade: Upgrade::No,
            settings: Box::default(),
        }
    }

    /// The first stream is that of an upgrade's request, which came with these settings.
    pub(super) fn await_upgraded(&mut self, settings: Box<[u8]>) {
        self.upgrade = Upgrade::Awaited;
        self.settings = settings;
    }

    /// Whether the stream that was accepted just now is the one of an upgrade's request.
    pub(super) fn was_upgraded(&mut self) -> bool {
        let was = self.upgrade == Upgrade::MadeUp;
        if was {
            self.upgrade = Upgrade::No;
        }
        was
    }

    pub(super) const fn is_open(&self) -> bool {
        !matches!(self.role, Role::Over)
    }

    /// Answers how many of the client's bytes there was room for.
    pub(super) fn put(&mut self, bytes: &[u8]) -> usize {
        if self.upgrade != Upgrade::Awaited {
            return self.wire.put(bytes);
        }
        let Some(length) = upgrade::beginning(bytes) else { return 0 };
        self.upgrade = Upgrade::MadeUp;
        self.wire.put(&upgrade::with_settings(&bytes[..length], &self.settings));
        self.wire.put(&upgrade::REQUEST);
        length
    }

    /// The next request. An error ends the connection: the client is told, and so does its end.
    pub(super) fn accept(&mut self) -> Result<Option<Accepted>, Why> {
        if let Role::Beginning(handshake) = &mut self.role {
            match Pin::new(&mut **handshake).poll(&mut unwoken()) {
                Poll::Ready(Ok(connection)) => self.role = Role::Open(Box::new(connection)),
                Poll::Ready(Err(_)) => return Err(self.broken()),
                Poll::Pending => return Ok(None),
            }
        }
        let Role::Open(connection) = &mut self.role else { return Ok(None) };
        match connection.poll_accept(&mut unwoken()) {
            Poll::Ready(Some(Ok(accepted))) => Ok(Some(accepted)),
            Poll::Ready(Some(Err(_))) => Err(self.broken()),
            Poll::Ready(None) => {
                self.role = Role::Over;
                Err(Why::Finished)
            }
            Poll::Pending => Ok(None),
        }
    }

    fn broken(&mut self) -> Why {
        self.role = Role::Over;
        Why::Request(Fault::BadRequest("HTTP/2 that breaks its rules"))
    }

    /// Appends what is for the client, so many bytes at most; answers whether there was some.
    pub(super) fn take(&mut self, most: usize, out: &mut BytesMut) -> bool {
        self.wire.take(most, out) > 0
    }

    /// Asks the client for no more streams (RFC 9113 section 6.8).
    pub(super) fn part(&mut self) {
        if let Role::Open(connection) = &mut self.role {
            connection.graceful_shutdown();
        }
    }

    /// Appends the last word to the client.
    pub(super) fn leave(&mut self, out: &mut BytesMut) {
        if let Role::Open(connection) = &mut self.role {
            connection.abrupt_shutdown(Reason::NO_ERROR);
            // Whether it is through with that, nobody waits for.
            let _ = connection.poll_closed(&mut unwoken());
            self.wire.take(usize::MAX, out);
        }
        self.role = Role::Over;
    }
}
