//! Messages between HTTP/2's frames and HTTP/1's bytes, in each direction.
//!
//! Runs on: proxy cores. Allocates: for what waits, within bounds. Blocks: never.

use std::collections::VecDeque;
use std::task::Poll;

use bytes::{Buf, Bytes, BytesMut};
use h2::{Reason, RecvStream, SendStream};
use http::HeaderMap;

use super::stream::Broken;
use super::translate;
use super::transport::unwoken;
use crate::codec::write;
use crate::message::Framing;

/// Bytes of a message that may wait at each place; no more is taken from its sender, whose window stays shut then.
pub(super) const MOST_WAITING: usize = 16 * 1024;

/// Bytes of HTTP/1 that a connection has let out. What answers are made of is shared, not copied, until it is needed.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    text: BytesMut,
    /// Behind it.
    more: VecDeque<Bytes>,
    len: usize,
}

impl Backlog {
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn push(&mut self, bytes: Bytes) {
        self.len += bytes.len();
        if !bytes.is_empty() {
            self.more.push_back(bytes);
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// What comes next: so many bytes, or fewer where there are no more; and whether there are.
    pub(super) fn next(&mut self, most: usize) -> (&[u8], bool) {
        while self.text.len() < most {
            let Some(front) = self.more.front_mut() else { break };
            let taken = front.split_to(front.len().min(most - self.text.len()));
            self.text.extend_from_slice(&taken);
            if front.is_empty() {
                self.more.pop_front();
            }
        }
        let next = &self.text[..self.text.len().min(most)];
        (next, next.len() < self.len)
    }

    /// So many of those bytes are done with.
    pub(super) fn advance(&mut self, count: usize) {
        self.len -= count;
        self.text.advance(count);
    }
}

/// A message that comes in frames, as HTTP/1 has it.
pub(super) struct Inlet {
    frames: RecvStream,
    framing: Framing,
    /// What was not taken yet, from the head on.
    pub(super) text: BytesMut,
    has_ended: bool,
    /// Bytes of content still to come, where that was said.
    left: Option<u64>,
}

impl Inlet {
    /// A message whose `head` is written already.
    pub(super) fn new(frames: RecvStream, framing: Framing, head: &[u8]) -> Self {
        let has_ended = frames.is_end_stream();
        let left = match framing {
            Framing::Length(length) => Some(length),
            Framing::None => Some(0),
            _ => None,
        };
        Self { frames, framing, text: BytesMut::from(head), has_ended, left }
    }

    /// Takes in what has come, as far as there is room; answers whether something has changed.
    pub(super) fn pull(&mut self) -> Result<bool, Broken> {
        let mut has_pulled = false;
        while !self.has_ended && self.text.len() < MOST_WAITING {
            match self.frames.poll_data(&mut unwoken()) {
                Poll::Pending => break,
                Poll::Ready(Some(data)) => {
                    let data = data?;
                    self.put(&data);
                    self.frames.flow_control().release_capacity(data.len())?;
                }
                Poll::Ready(None) => match self.frames.poll_trailers(&mut unwoken()) {
                    Poll::Pending => break,
                    Poll::Ready(trailers) => self.end(trailers?.as_ref()),
                },
            }
            has_pulled = true;
        }
        Ok(has_pulled)
    }

    pub(super) const fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Whether all content has come that was announced; there may be an end to come.
    pub(super) fn is_complete(&self) -> bool {
        self.has_ended || self.left == Some(0)
    }

    /// Forgets what has come, and so what comes.
    pub(super) fn discard(&mut self) -> Result<bool, Broken> {
        self.text.clear();
        self.pull()
    }

    fn put(&mut self, data: &[u8]) {
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(data.len() as u64);
        }
        if self.framing == Framing::None {
            // It can have no content, and its receiver expects none.
        } else if self.framing == Framing::Chunked {
            let mut chunk = Vec::with_capacity(data.len() + 16);
            write::write_chunk(data, &mut chunk);
            self.text.extend_from_slice(&chunk);
        } else {
            self.text.extend_from_slice(data);
        }
    }

    /// Trailers have a place behind chunks only: with a message whose length was said they are dropped (RFC 9110 section 6.5.1).
    fn end(&mut self, trailers: Option<&HeaderMap>) {
        self.has_ended = true;
        if self.framing == Framing::Chunked {
            let mut end = Vec::new();
            write::write_last_chunk(&trailers.map(translate::trailers_of).unwrap_or_default(), &mut end);
            self.text.extend_from_slice(&end);
        }
    }
}

/// A message's content that goes on in frames, as the receiver's window allows.
pub(super) struct Outlet {
    frames: SendStream<Bytes>,
    waiting: BytesMut,
    /// What comes last: nothing or trailers. `None`: it is not known yet.
    end: Option<Option<HeaderMap>>,
    /// The end has been sent.
    is_over: bool,
}

impl Outlet {
    /// For a message whose head was sent; `is_over`: that was all of it.
    pub(super) const fn new(frames: SendStream<Bytes>, waiting: BytesMut, is_over: bool) -> Self {
        Self { frames, waiting, end: None, is_over }
    }

    /// Bytes that it takes.
    pub(super) fn room(&self) -> usize {
        MOST_WAITING.saturating_sub(self.waiting.len())
    }

    pub(super) const fn is_over(&self) -> bool {
        self.is_over
    }

    /// Whether all of it is known, or was sent.
    pub(super) const fn has_end(&self) -> bool {
        self.is_over || self.end.is_some()
    }

    pub(super) fn put(&mut self, content: &[u8]) {
        self.waiting.extend_from_slice(content);
    }

    /// Nothing comes behind what was put, but for trailers.
    pub(super) fn end(&mut self, trailers: &[u8]) -> Result<(), Broken> {
        let trailers = match trailers {
            [] => None,
            lines => Some(translate::to_trailers(lines).ok_or(Broken::UNSAYABLE)?),
        };
        self.end = Some(trailers);
        Ok(())
    }

    /// Sends what may be sent; answers whether something was.
    pub(super) fn push(&mut self) -> Result<bool, Broken> {
        let mut has_pushed = false;
        while !self.is_over {
            self.frames.reserve_capacity(self.waiting.len());
            let count = self.frames.capacity().min(self.waiting.len());
            let is_end = self.end.is_some() && count == self.waiting.len();
            if count == 0 && !is_end {
                break;
            }
            let trailers = self.end.as_mut().filter(|_| is_end).and_then(Option::take);
            let data = self.waiting.split_to(count).freeze();
            if data.has_remaining() || trailers.is_none() {
                self.frames.send_data(data, is_end && trailers.is_none())?;
            }
            if let Some(trailers) = trailers {
                self.frames.send_trailers(trailers)?;
            }
            self.is_over = is_end;
            has_pushed = true;
        }
        Ok(has_pushed)
    }

    /// Why the receiver wants no more of it, if it said so.
    pub(super) fn reset(&mut self) -> Option<Reason> {
        match self.frames.poll_reset(&mut unwoken()) {
            Poll::Ready(reason) => Some(reason.unwrap_or(Reason::CANCEL)),
            Poll::Pending => None,
        }
    }
}
