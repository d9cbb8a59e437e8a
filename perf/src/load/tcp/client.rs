//! A client: what it asks for, what it makes of the answers, and when it leaves.
//!
//! Runs on: the generator's core. Allocates: a preamble per connection. Blocks: never.
//!
//! ```text
//!   Connecting --> Asking <--> Thinking          Bulk
//!       |             '-----.-----'               |
//!       |                   v                     v
//!       |                Leaving <----------------'
//!       v                   v
//!     Over <----------------'    and from everywhere, with a failure
//! ```

use pnat_proxy::tcp::{Endpoint, Error, State};
use pnat_shared::frame::Frame;
use pnat_shared::time::Instant;

use super::account::{ClassAccount, Failure, record};
use super::spec::{Class, Closer, Requests, Talk};
use super::talk::{Preamble, Reader, Writer};

/// How many connections are open just now.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Gauge {
    pub(super) now: u64,
    pub(super) most: u64,
}

impl Gauge {
    fn rise(&mut self) {
        self.now += 1;
        self.most = self.most.max(self.now);
    }
}

/// What a client's turn works with.
#[derive(Debug)]
pub(super) struct ClientTurn<'a> {
    pub(super) class: &'a Class,
    pub(super) account: &'a mut ClassAccount,
    pub(super) open: &'a mut Gauge,
    pub(super) now: Instant,
    /// The trial is at its end: what has none of its own comes to one.
    pub(super) is_closing: bool,
}

impl ClientTurn<'_> {
    /// Whether no request follows so many.
    fn is_last(&self, requests: u32) -> bool {
        match self.class.talk {
            Talk::Requests(Requests { count: Some(count), .. }) => requests >= count,
            _ => self.is_closing,
        }
    }
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// The SYN is under way.
    Connecting,
    /// A request is, or its response.
    Asking,
    /// The next request is due at [`Client::asked`].
    Thinking,
    /// Bulk, which ends at [`Client::asked`].
    Bulk,
    /// All was said.
    Leaving,
    /// A half-open client's SYN was answered by RST.
    Refused,
    /// It does not matter any more what comes.
    Over,
}

/// The application at the connecting end.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) class: u16,
    /// Its socket's number.
    pub(super) socket: u32,
    phase: Phase,
    /// When the SYN was meant to be sent.
    intended: Instant,
    /// When the present request was meant to be sent, or the next one is; or when bulk ends.
    asked: Instant,
    /// Until when whatever is waited for must have come.
    deadline: Instant,
    /// Requests that were sent, and bytes of responses up to the end of the present one.
    requests: u32,
    expected: u64,
    writer: Writer,
    reader: Reader,
}

impl Client {
    pub(super) fn new(preamble: Preamble, socket: u32, intended: Instant, deadline: Instant) -> Self {
        let [_, place] = preamble.streams();
        Self {
            class: preamble.class,
            socket,
            phase: Phase::Connecting,
            intended,
            asked: intended,
            deadline,
            requests: 0,
            expected: 0,
            writer: Writer::with_preamble(preamble),
            reader: Reader::new(place),
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// When the SYN was meant to be sent.
    pub(super) const fn intended(&self) -> Instant {
        self.intended
    }

    /// A half-open client's SYN was answered, by SYN-ACK or RST; it says nothing to that.
    pub(super) fn on_answer(&mut self, accepts: bool, turn: &mut ClientTurn<'_>) {
        if self.phase != Phase::Connecting {
            return;
        }
        if accepts {
            self.phase = Phase::Leaving;
            self.establish(turn);
        } else {
            self.phase = Phase::Refused;
        }
    }

    /// A half-open client's visit: it is forgotten at `until`, or where it was refused, or was answered and all come to their
    /// end. Answers when to ask again.
    pub(super) fn forget(&mut self, until: Instant, turn: &mut ClientTurn<'_>) -> Instant {
        match self.phase {
            Phase::Over => {}
            Phase::Refused => self.note(Failure::Refused, turn),
            Phase::Leaving if until <= turn.now || turn.is_closing => {
                turn.account.counts.completed += 1;
                self.end(turn);
            }
            _ if until > turn.now => return until,
            _ => self.note(Failure::TimedOut, turn),
        }
        Instant::FAR
    }

    /// Does what is to be done now; answers when it wants to be asked again.
    pub(super) fn turn<F: Frame>(
        &mut self,
        endpoint: &mut Endpoint<F>,
        turn: &mut ClientTurn<'_>,
    ) -> Instant {
        if self.phase == Phase::Connecting && is_synchronized(endpoint.state()) {
            self.establish(turn);
            self.begin(turn);
        }
        if !matches!(self.phase, Phase::Connecting | Phase::Over) {
            self.read(endpoint, turn);
        }
        let now = turn.now;
        if self.phase == Phase::Thinking && turn.is_last(self.requests) {
            self.leave(endpoint, turn);
        } else if self.phase == Phase::Thinking && self.asked <= now {
            self.ask(self.asked, turn);
        }
        let wake = self.write(endpoint, turn);
        self.finish(endpoint, turn);
        if self.phase == Phase::Over {
            return Instant::FAR;
        }
        if self.deadline <= now {
            self.fail(Failure::TimedOut, endpoint, turn);
            return Instant::FAR;
        }
        let due = if matches!(self.phase, Phase::Thinking | Phase::Bulk) { self.asked } else { Instant::FAR };
        // Bulk that is over is not due any more.
        let due = if due <= now { Instant::FAR } else { due };
        due.min(wake).min(self.deadline).min(self.reader.next(endpoint))
    }

    fn establish(&self, turn: &mut ClientTurn<'_>) {
        turn.account.counts.established += 1;
        record(&mut turn.account.connect, turn.now.since(self.intended));
        turn.open.rise();
    }

    /// The handshake has come to its end.
    fn begin(&mut self, turn: &mut ClientTurn<'_>) {
        match turn.class.talk {
            Talk::Requests(_) => self.ask(turn.now, turn),
            Talk::Bulk(bulk) => {
                self.phase = Phase::Bulk;
                self.asked = turn.now + bulk.lasts;
                self.deadline = self.asked + turn.class.timeout;
                self.writer.until = if bulk.upload { u64::MAX } else { super::talk::PREAMBLE as u64 };
                turn.account.counts.requests += 1;
            }
            Talk::HalfOpen(_) => {}
        }
    }

    /// Sends a request that is meant to be sent at `at`.
    fn ask(&mut self, at: Instant, turn: &mut ClientTurn<'_>) {
        let Talk::Requests(requests) = turn.class.talk else { return };
        self.phase = Phase::Asking;
        self.asked = at;
        self.requests = self.requests.saturating_add(1);
        self.writer.until += requests.request;
        self.expected += requests.response;
        self.deadline = turn.now + turn.class.timeout;
        turn.account.counts.requests += 1;
    }

    fn read<F: Frame>(&mut self, endpoint: &mut Endpoint<F>, turn: &mut ClientTurn<'_>) {
        let is_first = self.reader.offset() == 0;
        let came = self.reader.read(endpoint, turn.class.pace.read, turn.now);
        if came.bytes == 0 {
            return;
        }
        let is_due = self.phase == Phase::Bulk || self.reader.offset() <= self.expected;
        if !came.is_right || !is_due {
            return self.fail(Failure::WrongContent, endpoint, turn);
        }
        turn.account.counts.to_clients += came.bytes;
        if is_first {
            record(&mut turn.account.first_byte, turn.now.since(self.intended));
        }
        let heard = turn.now.max(self.reader.next(endpoint));
        self.deadline = self.deadline.max(heard + turn.class.timeout);
        if self.phase == Phase::Asking && self.reader.offset() == self.expected {
            self.conclude(endpoint, turn);
        }
    }

    /// A response has come whole.
    fn conclude<F: Frame>(&mut self, endpoint: &mut Endpoint<F>, turn: &mut ClientTurn<'_>) {
        let Talk::Requests(requests) = turn.class.talk else { return };
        turn.account.counts.transactions += 1;
        record(&mut turn.account.request, turn.now.since(self.asked));
        if self.requests == 1 {
            record(&mut turn.account.last_byte, turn.now.since(self.intended));
        }
        if turn.is_last(self.requests) {
            self.leave(endpoint, turn);
        } else {
            self.phase = Phase::Thinking;
            self.asked = turn.now + requests.think;
            self.deadline = self.asked + turn.class.timeout;
        }
    }

    /// All was said: whoever is to close does.
    fn leave<F: Frame>(&mut self, endpoint: &mut Endpoint<F>, turn: &mut ClientTurn<'_>) {
        let Talk::Requests(requests) = turn.class.talk else { return };
        self.phase = Phase::Leaving;
        self.deadline = turn.now + turn.class.timeout;
        // A server that is to close does so after the last request, which may not have been sent.
        let is_last = requests.count.is_some_and(|count| self.requests >= count);
        match requests.closer {
            Closer::ClientReset => {
                endpoint.abort();
                self.complete(turn);
            }
            Closer::Server if is_last => {}
            _ => endpoint.shutdown(),
        }
    }

    /// Answers when to go on.
    fn write<F: Frame>(&mut self, endpoint: &mut Endpoint<F>, turn: &ClientTurn<'_>) -> Instant {
        if !matches!(self.phase, Phase::Asking | Phase::Bulk) {
            return Instant::FAR;
        }
        if self.phase == Phase::Bulk && (self.asked <= turn.now || turn.is_closing) {
            self.writer.stop();
            endpoint.shutdown();
        }
        if let Some(every) = turn.class.pace.byte_every {
            let next = self.writer.write_slowly(endpoint, every, turn.now);
            if next != Instant::FAR {
                self.deadline = self.deadline.max(next + turn.class.timeout);
            }
            return next;
        }
        self.writer.write(endpoint);
        Instant::FAR
    }

    /// Sees whether the connection has come to its end, and to which.
    fn finish<F: Frame>(&mut self, endpoint: &mut Endpoint<F>, turn: &mut ClientTurn<'_>) {
        if self.phase == Phase::Over {
            return;
        }
        let has_ended = endpoint.is_receive_finished();
        match (endpoint.state(), endpoint.error()) {
            (State::Closed, Some(error)) => self.lose(error, turn),
            // Slow readers come to the end later.
            _ if endpoint.is_ready() => {}
            (State::TimeWait | State::Closed, _) if self.may_end(turn) => self.complete(turn),
            (State::TimeWait | State::Closed, _) => self.fail(Failure::ClosedEarly, endpoint, turn),
            _ if !has_ended => {}
            // The server's FIN.
            _ if self.may_end(turn) => endpoint.shutdown(),
            _ => self.fail(Failure::ClosedEarly, endpoint, turn),
        }
    }

    /// Whether the server may end its stream.
    fn may_end(&self, turn: &ClientTurn<'_>) -> bool {
        match turn.class.talk {
            Talk::Bulk(bulk) => bulk.download || self.asked <= turn.now || turn.is_closing,
            _ => self.phase == Phase::Leaving,
        }
    }

    fn complete(&mut self, turn: &mut ClientTurn<'_>) {
        if self.phase == Phase::Bulk {
            turn.account.counts.transactions += 1;
        }
        turn.account.counts.completed += 1;
        record(&mut turn.account.duration, turn.now.since(self.intended));
        self.end(turn);
    }

    /// The endpoint has given up, or was made to.
    fn lose(&mut self, error: Error, turn: &mut ClientTurn<'_>) {
        let failure = match error {
            Error::Refused => Failure::Refused,
            Error::Reset => Failure::Reset,
            Error::Timeout | Error::Dead | Error::Stalled | Error::Aborted => Failure::TimedOut,
        };
        let is_wanted =
            matches!(turn.class.talk, Talk::Requests(requests) if requests.closer == Closer::ServerReset);
        if failure == Failure::Reset && is_wanted && self.phase == Phase::Leaving {
            return self.complete(turn);
        }
        self.note(failure, turn);
    }

    fn fail<F: Frame>(&mut self, failure: Failure, endpoint: &mut Endpoint<F>, turn: &mut ClientTurn<'_>) {
        endpoint.abort();
        self.note(failure, turn);
    }

    fn note(&mut self, failure: Failure, turn: &mut ClientTurn<'_>) {
        turn.account.counts.failed.note(failure);
        self.end(turn);
    }

    fn end(&mut self, turn: &mut ClientTurn<'_>) {
        if !matches!(self.phase, Phase::Connecting | Phase::Refused) {
            turn.open.now -= 1;
        }
        self.phase = Phase::Over;
    }
}

const fn is_synchronized(state: State) -> bool {
    !matches!(state, State::SynHeld | State::SynSent | State::SynReceived | State::Closed)
}
