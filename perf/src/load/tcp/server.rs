//! A server: it learns from the client's first bytes whom it talks to, checks what it is sent, and answers.
//!
//! Runs on: the generator's core. Allocates: never. Blocks: never.

use pnat_proxy::tcp::{Endpoint, State};
use pnat_shared::frame::Frame;
use pnat_shared::time::{Duration, Instant};

use super::account::ClassAccount;
use super::spec::{Bulk, Class, Closer, Requests, Talk};
use super::talk::{PREAMBLE, Preamble, Reader, Writer};

/// What a server's turn works with.
#[derive(Debug)]
pub(super) struct ServerTurn<'a> {
    /// The trial's number.
    pub(super) run: u16,
    pub(super) classes: &'a [Class],
    pub(super) accounts: &'a mut [ClassAccount],
    pub(super) now: Instant,
    /// How long a client may be silent.
    pub(super) patience: Duration,
}

#[derive(Debug)]
enum Phase {
    /// So many bytes of the preamble have come.
    Meeting([u8; PREAMBLE], usize),
    Serving(Conversation),
    /// It does not matter any more what comes.
    Over,
}

/// With a client that is known.
#[derive(Debug)]
struct Conversation {
    class: u16,
    reader: Reader,
    writer: Writer,
    /// Requests that have come whole.
    served: u32,
    /// When bulk ends.
    until: Instant,
}

/// The application at the accepting end.
#[derive(Debug)]
pub(super) struct Server {
    phase: Phase,
    deadline: Instant,
}

impl Server {
    pub(super) const fn new() -> Self {
        Self { phase: Phase::Meeting([0; PREAMBLE], 0), deadline: Instant::ZERO }
    }

    pub(super) const fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    /// The client's, once that is known.
    pub(super) const fn class(&self) -> Option<u16> {
        match &self.phase {
            Phase::Serving(conversation) => Some(conversation.class),
            _ => None,
        }
    }

    /// Does what is to be done now; answers when it wants to be asked again.
    pub(super) fn turn<F: Frame>(
        &mut self,
        endpoint: &mut Endpoint<F>,
        turn: &mut ServerTurn<'_>,
    ) -> Instant {
        if self.deadline == Instant::ZERO {
            self.deadline = turn.now + turn.patience;
        }
        while let Some(chunk) = endpoint.receive() {
            self.deadline = turn.now + turn.patience;
            if !self.take(chunk.bytes(), turn) {
                return self.end(endpoint);
            }
        }
        if endpoint.state() == State::Closed || self.deadline <= turn.now {
            return self.end(endpoint);
        }
        let Phase::Serving(conversation) = &mut self.phase else {
            // A client that leaves without a word.
            if endpoint.is_receive_finished() {
                endpoint.shutdown();
            }
            return self.deadline;
        };
        match turn.classes[usize::from(conversation.class)].talk {
            Talk::Requests(requests) => conversation.answer(requests, endpoint).min(self.deadline),
            Talk::Bulk(bulk) => conversation.carry(bulk, endpoint, turn.now).min(self.deadline),
            Talk::HalfOpen(_) => self.deadline,
        }
    }

    fn end<F: Frame>(&mut self, endpoint: &mut Endpoint<F>) -> Instant {
        endpoint.abort();
        self.phase = Phase::Over;
        Instant::FAR
    }

    /// Answers false where the bytes are not what the client sends.
    fn take(&mut self, bytes: &[u8], turn: &mut ServerTurn<'_>) -> bool {
        let Phase::Meeting(preamble, known) = &mut self.phase else { return self.listen(bytes, turn) };
        let count = bytes.len().min(PREAMBLE - *known);
        preamble[*known..*known + count].copy_from_slice(&bytes[..count]);
        *known += count;
        if *known < PREAMBLE {
            return true;
        }
        let preamble = Preamble::read(*preamble);
        if preamble.run != turn.run || usize::from(preamble.class) >= turn.classes.len() {
            // Whose request it is nobody can tell; the first class stands for all.
            turn.accounts[0].counts.wrong_requests += 1;
            return false;
        }
        self.phase = Phase::Serving(Conversation::new(preamble, turn));
        turn.accounts[usize::from(preamble.class)].counts.to_servers += PREAMBLE as u64;
        self.listen(&bytes[count..], turn)
    }

    fn listen(&mut self, bytes: &[u8], turn: &mut ServerTurn<'_>) -> bool {
        let Phase::Serving(conversation) = &mut self.phase else { return true };
        let counts = &mut turn.accounts[usize::from(conversation.class)].counts;
        let is_right = conversation.reader.check(bytes);
        if is_right {
            counts.to_servers += bytes.len() as u64;
        } else {
            counts.wrong_requests += 1;
        }
        is_right
    }
}

impl Conversation {
    fn new(preamble: Preamble, turn: &ServerTurn<'_>) -> Self {
        let [client, server] = preamble.streams();
        let mut reader = Reader::new(client);
        reader.skip_preamble();
        let until = match turn.classes[usize::from(preamble.class)].talk {
            Talk::Bulk(bulk) => turn.now + bulk.lasts,
            _ => Instant::FAR,
        };
        Self { class: preamble.class, reader, writer: Writer::new(server), served: 0, until }
    }

    /// Answers the requests that have come whole, and closes behind the last where that is its part.
    fn answer<F: Frame>(&mut self, requests: Requests, endpoint: &mut Endpoint<F>) -> Instant {
        while self.reader.offset() >= (u64::from(self.served) + 1) * requests.request {
            self.served += 1;
            self.writer.until += requests.response;
        }
        self.writer.write(endpoint);
        let is_last = requests.count.is_some_and(|count| self.served >= count);
        if self.writer.is_done() && is_last && requests.closer == Closer::Server {
            endpoint.shutdown();
        }
        match (endpoint.is_receive_finished(), requests.closer) {
            (true, Closer::ServerReset) => endpoint.abort(),
            (true, _) => endpoint.shutdown(),
            (false, _) => {}
        }
        Instant::FAR
    }

    fn carry<F: Frame>(&mut self, bulk: Bulk, endpoint: &mut Endpoint<F>, now: Instant) -> Instant {
        let has_ended = endpoint.is_receive_finished();
        if bulk.download && now < self.until && (bulk.upload || !has_ended) {
            self.writer.until = u64::MAX;
            self.writer.write(endpoint);
            return self.until;
        }
        self.writer.stop();
        if bulk.download || has_ended {
            endpoint.shutdown();
        }
        Instant::FAR
    }
}
