//! A connection in memory, for a protocol that wants one to read and write.
//!
//! Runs on: proxy cores. Allocates: what is on its way. Blocks: never.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

/// Bytes on their way, in each direction.
const ROOM: usize = 128 * 1024;

/// The far end, where bytes are put in as they come and taken out to be sent.
#[derive(Debug)]
pub(super) struct Transport(DuplexStream);

impl Transport {
    /// The far end, and the near one for the protocol.
    pub(super) fn pair() -> (Self, DuplexStream) {
        let (far, near) = tokio::io::duplex(ROOM);
        (Self(far), near)
    }

    /// Answers how many bytes there was room for.
    pub(super) fn put(&mut self, bytes: &[u8]) -> usize {
        if bytes.is_empty() {
            return 0;
        }
        match Pin::new(&mut self.0).poll_write(&mut unwoken(), bytes) {
            Poll::Ready(Ok(count)) => count,
            Poll::Ready(Err(_)) | Poll::Pending => 0,
        }
    }

    /// Appends what is to be sent, so many bytes at most; answers how many.
    pub(super) fn take(&mut self, most: usize, out: &mut BytesMut) -> usize {
        let before = out.len();
        let mut bytes = [0; 16 * 1024];
        while out.len() - before < most {
            let room = bytes.len().min(most - (out.len() - before));
            let mut buffer = ReadBuf::new(&mut bytes[..room]);
            match Pin::new(&mut self.0).poll_read(&mut unwoken(), &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => out.extend_from_slice(buffer.filled()),
                _ => break,
            }
        }
        out.len() - before
    }
}

/// Nobody is woken: all that can go on is polled again with the next input.
pub(super) const fn unwoken() -> Context<'static> {
    Context::from_waker(Waker::noop())
}
