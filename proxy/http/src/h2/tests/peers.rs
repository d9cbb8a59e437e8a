//! A client and a server of HTTP/2, played by hand, with a [`Multiplex`] between them.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use h2::client::{self, ResponseFuture};
use h2::server::{self, SendResponse};
use h2::{RecvStream, SendStream};
use http::HeaderMap;
use pnat_shared::flow;
use pnat_shared::time::{Duration, Instant};
use tokio::io::DuplexStream;

use super::super::Multiplex;
use super::super::transport::{Transport, unwoken};
use crate::cascade::Cascade;
use crate::connection::{Connection, End, Look, Outcome, Settings};
use crate::filter::HttpFilter;
use crate::testkit::{TestGateway, exchange};

/// Makes the filters of a stream.
pub(super) type Filters = fn() -> Vec<Box<dyn HttpFilter>>;

/// A connection for the stream of a number, with these filters.
pub(super) fn maker(filters: Filters) -> Box<dyn Fn(u64) -> Connection + Send> {
    Box::new(move |number| {
        let mut exchange = exchange();
        (exchange.number, exchange.may_redirect) = (number, true);
        Connection::of_stream(Arc::new(Settings::default()), cascade(filters), exchange)
    })
}

pub(super) fn cascade(filters: Filters) -> Cascade {
    Cascade::new(filters().into_iter().map(|filter| (Arc::from("test"), filter)))
}

/// What a message comes to at its receiver.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) content: Vec<u8>,
    pub(super) trailers: Option<HeaderMap>,
    pub(super) is_whole: bool,
    pub(super) error: Option<h2::Error>,
}

impl Told {
    fn read(&mut self, frames: &mut RecvStream) {
        while self.error.is_none() && !self.is_whole {
            match frames.poll_data(&mut unwoken()) {
                Poll::Ready(Some(Ok(data))) => {
                    self.content.extend_from_slice(&data);
                    frames.flow_control().release_capacity(data.len()).expect("it was received");
                }
                Poll::Ready(Some(Err(error))) => self.error = Some(error),
                Poll::Ready(None) => match frames.poll_trailers(&mut unwoken()) {
                    Poll::Ready(trailers) => {
                        self.trailers = trailers.expect("trailers or none");
                        self.is_whole = true;
                    }
                    Poll::Pending => return,
                },
                Poll::Pending => return,
            }
        }
    }
}

/// A message's content on its way.
#[derive(Debug)]
struct Sending {
    frames: SendStream<Bytes>,
    content: BytesMut,
    trailers: Option<HeaderMap>,
    is_over: bool,
}

impl Sending {
    fn new(frames: SendStream<Bytes>, content: &[u8], trailers: Option<HeaderMap>) -> Self {
        Self { frames, content: BytesMut::from(content), trailers, is_over: false }
    }

    fn push(&mut self) {
        if self.is_over {
            return;
        }
        self.frames.reserve_capacity(self.content.len());
        let count = self.frames.capacity().min(self.content.len());
        let data = self.content.split_to(count).freeze();
        self.is_over = self.content.is_empty();
        let ends = self.is_over && self.trailers.is_none();
        // The receiver may have lost interest.
        let sent = if count > 0 || ends { self.frames.send_data(data, ends) } else { Ok(()) };
        if let Some(trailers) = self.trailers.take_if(|_| self.is_over && sent.is_ok()) {
            self.frames.send_trailers(trailers).expect("trailers");
        }
    }
}

/// A request as the client has it.
#[derive(Debug)]
pub(super) struct Asked {
    awaited: Option<ResponseFuture>,
    sending: Option<Sending>,
    frames: Option<RecvStream>,
    pub(super) interim: Vec<u16>,
    pub(super) head: Option<http::Response<()>>,
    pub(super) told: Told,
}

impl Asked {
    pub(super) fn status(&self) -> Option<u16> {
        self.head.as_ref().map(|head| head.status().as_u16())
    }

    /// Why it was reset.
    pub(super) fn reason(&self) -> Option<h2::Reason> {
        self.told.error.as_ref()?.reason()
    }

    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.head.as_ref()?.headers().get(name)?.to_str().ok()
    }

    /// The client loses interest.
    pub(super) fn drop_it(&mut self) {
        (self.awaited, self.sending, self.frames) = (None, None, None);
    }
}

/// A request as the server has it.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) head: http::request::Parts,
    pub(super) told: Told,
    frames: RecvStream,
    pub(super) respond: Option<SendResponse<Bytes>>,
    sending: Option<Sending>,
}

impl Heard {
    pub(super) fn respond(&mut self, head: http::Response<()>, content: &[u8], trailers: Option<HeaderMap>) {
        let respond = self.respond.as_mut().expect("not yet answered");
        let is_end = content.is_empty() && trailers.is_none();
        let frames = respond.send_response(head, is_end).expect("a response");
        self.sending = (!is_end).then(|| Sending::new(frames, content, trailers));
    }
}

type Opens<C> = Pin<Box<dyn Future<Output = Result<C, h2::Error>>>>;
type Client = (client::SendRequest<Bytes>, client::Connection<DuplexStream, Bytes>);

/// The server as long as one connection of it lasts.
pub(super) struct Server {
    wire: Transport,
    opens: Option<Opens<server::Connection<DuplexStream, Bytes>>>,
    pub(super) connection: Option<server::Connection<DuplexStream, Bytes>>,
    pub(super) heard: Vec<Heard>,
}

impl Server {
    fn new() -> Self {
        let (wire, near) = Transport::pair();
        let opens: Opens<_> = Box::pin(async move { server::handshake(near).await });
        Self { wire, opens: Some(opens), connection: None, heard: Vec::new() }
    }

    fn run(&mut self, is_deaf: bool) {
        if let Some(opens) = &mut self.opens
            && let Poll::Ready(connection) = opens.as_mut().poll(&mut unwoken())
        {
            self.opens = None;
            self.connection = Some(connection.expect("a client of HTTP/2"));
        }
        let Some(connection) = &mut self.connection else { return };
        while let Poll::Ready(Some(Ok(accepted))) = connection.poll_accept(&mut unwoken()) {
            let (request, respond) = accepted;
            let (head, frames) = request.into_parts();
            let (told, respond) = (Told::default(), Some(respond));
            self.heard.push(Heard { head, told, frames, respond, sending: None });
        }
        for heard in &mut self.heard {
            if !is_deaf {
                heard.told.read(&mut heard.frames);
            }
            heard.sending.iter_mut().for_each(Sending::push);
        }
    }
}

pub(super) struct World {
    pub(super) multiplex: Multiplex,
    pub(super) gateway: TestGateway,
    pub(super) now: Instant,
    pub(super) room: usize,
    pub(super) end: End,
    /// A server was dropped.
    pub(super) has_left: bool,
    /// Bytes that pass in one look.
    pub(super) cut: usize,
    wire: Transport,
    opens: Option<Opens<Client>>,
    pub(super) client: Option<Client>,
    pub(super) asked: Vec<Asked>,
    /// The connections to servers, one after the other.
    pub(super) servers: Vec<Server>,
    /// They take no content.
    pub(super) servers_are_deaf: bool,
    pub(super) clients_are_deaf: bool,
    has_client: bool,
    /// All that was sent to servers.
    pub(super) to_server: Vec<u8>,
    /// The client's bytes, and the server's, that were not taken.
    held: [Vec<u8>; 2],
    pub(super) to_client: Vec<u8>,
}

impl World {
    pub(super) fn new(filters: Filters) -> Self {
        Self::with(Multiplex::new(&Settings::default(), maker(filters)))
    }

    /// What the client says is for the test to say.
    pub(super) fn without_client(filters: Filters) -> Self {
        Self { has_client: false, ..Self::new(filters) }
    }

    pub(super) fn with(multiplex: Multiplex) -> Self {
        let (wire, near) = Transport::pair();
        Self {
            multiplex,
            gateway: TestGateway::default(),
            now: Instant::from_secs(1000),
            room: usize::MAX,
            end: End::Open,
            has_left: false,
            cut: usize::MAX,
            wire,
            opens: Some(Box::pin(client::Builder::new().handshake(near))),
            client: None,
            asked: Vec::new(),
            servers: Vec::new(),
            servers_are_deaf: false,
            clients_are_deaf: false,
            has_client: true,
            to_server: Vec::new(),
            held: [Vec::new(), Vec::new()],
            to_client: Vec::new(),
        }
    }

    /// The client sends a request; answers its place in `asked`.
    pub(super) fn ask(
        &mut self,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
        content: Option<&[u8]>,
    ) -> usize {
        self.ask_with(method, target, fields, content, None)
    }

    pub(super) fn ask_with(
        &mut self,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
        content: Option<&[u8]>,
        trailers: Option<HeaderMap>,
    ) -> usize {
        self.run();
        let (requests, _) = self.client.as_mut().expect("it is open");
        let mut request = http::Request::builder().method(method).uri(format!("http://www.example{target}"));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(()).expect("a request");
        let (awaited, frames) = requests.send_request(request, content.is_none()).expect("it is sent");
        let sending = content.map(|content| Sending::new(frames, content, trailers));
        self.asked.push(Asked {
            awaited: Some(awaited),
            sending,
            frames: None,
            interim: Vec::new(),
            head: None,
            told: Told::default(),
        });
        self.run();
        self.asked.len() - 1
    }

    /// Lets everybody do what there is to do, until nothing happens any more.
    pub(super) fn run(&mut self) {
        for _ in 0..100_000 {
            self.run_client();
            self.servers.iter_mut().for_each(|server| server.run(self.servers_are_deaf));
            let mut bytes = BytesMut::new();
            self.wire.take(self.cut, &mut bytes);
            self.held[0].extend_from_slice(&bytes);
            let mut progress = self.look(flow::Stream::First, !bytes.is_empty(), false);
            bytes.clear();
            if let Some(server) = self.servers.last_mut() {
                server.wire.take(self.cut, &mut bytes);
            }
            self.held[1].extend_from_slice(&bytes);
            progress |= self.look(flow::Stream::Second, !bytes.is_empty(), false);
            if !progress && bytes.is_empty() {
                return;
            }
        }
        panic!("it goes on for ever");
    }

    /// The server ends its stream of the flow, as far as it is heard.
    pub(super) fn server_ends(&mut self) {
        self.look(flow::Stream::Second, true, true);
        self.run_client();
    }

    /// Time passes, and what waits is looked at again.
    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.look(flow::Stream::First, true, false);
        self.run();
    }

    /// One side says this, whatever it is.
    pub(super) fn inject(&mut self, stream: flow::Stream, bytes: &[u8]) {
        self.held[stream as usize].extend_from_slice(bytes);
        self.look(stream, true, false);
    }

    /// The client is told this.
    pub(super) fn hear(&mut self, bytes: &[u8]) {
        self.give(&[], bytes);
        self.run_client();
    }

    /// Answers whether something came of it.
    fn look(&mut self, stream: flow::Stream, has_more: bool, end: bool) -> bool {
        if self.end != End::Open || (!has_more && self.held[stream as usize].is_empty()) {
            return false;
        }
        let bytes = std::mem::take(&mut self.held[stream as usize]);
        let look = &mut Look {
            now: self.now,
            gateway: &mut self.gateway,
            bytes: &bytes,
            end,
            room: [usize::MAX, self.room],
        };
        let outcome = match stream {
            flow::Stream::First => self.multiplex.on_request(look),
            flow::Stream::Second => self.multiplex.on_response(look),
        };
        self.end = outcome.end;
        self.has_left |= outcome.leaves;
        let (taken, out, back) = played(&outcome, &bytes);
        self.held[stream as usize] = bytes[taken..].to_vec();
        let (to_server, to_client) = match stream {
            flow::Stream::First => (out, back),
            flow::Stream::Second => (back, out),
        };
        let progress = taken > 0 || !to_server.is_empty() || !to_client.is_empty();
        self.give(&to_server, &to_client);
        progress
    }

    fn give(&mut self, to_server: &[u8], to_client: &[u8]) {
        self.to_client.extend_from_slice(to_client);
        assert_eq!(self.wire.put(to_client), to_client.len(), "the client has room");
        if to_server.is_empty() {
            return;
        }
        self.to_server.extend_from_slice(to_server);
        // A preface begins another connection.
        if self.servers.is_empty() || to_server.starts_with(b"PRI * HTTP/2.0") {
            self.servers.push(Server::new());
        }
        let server = self.servers.last_mut().expect("there is one");
        assert_eq!(server.wire.put(to_server), to_server.len(), "the server has room");
    }

    fn run_client(&mut self) {
        if !self.has_client {
            return;
        }
        if let Some(opens) = &mut self.opens
            && let Poll::Ready(client) = opens.as_mut().poll(&mut unwoken())
        {
            self.opens = None;
            self.client = Some(client.expect("a server of HTTP/2"));
        }
        let Some((_, connection)) = &mut self.client else { return };
        let _ = Pin::new(connection).poll(&mut unwoken());
        for asked in &mut self.asked {
            asked.sending.iter_mut().for_each(Sending::push);
            if let Some(awaited) = &mut asked.awaited {
                while let Poll::Ready(Some(Ok(interim))) = awaited.poll_informational(&mut unwoken()) {
                    asked.interim.push(interim.status().as_u16());
                }
                match Pin::new(awaited).poll(&mut unwoken()) {
                    Poll::Ready(Ok(response)) => {
                        let (head, frames) = response.into_parts();
                        asked.head = Some(http::Response::from_parts(head, ()));
                        (asked.awaited, asked.frames) = (None, Some(frames));
                    }
                    Poll::Ready(Err(error)) => {
                        asked.told.error = Some(error);
                        asked.awaited = None;
                    }
                    Poll::Pending => {}
                }
            }
            if let Some(frames) = &mut asked.frames
                && !self.clients_are_deaf
            {
                asked.told.read(frames);
            }
        }
        if let Some((_, connection)) = &mut self.client {
            let _ = Pin::new(connection).poll(&mut unwoken());
        }
    }
}

/// How many bytes were taken, what went on in their place, and what went back.
pub(super) fn played(outcome: &Outcome, bytes: &[u8]) -> (usize, Vec<u8>, Vec<u8>) {
    let (mut at, mut out) = (0, Vec::new());
    for piece in &outcome.pieces {
        match piece {
            crate::piece::Piece::Pass(count) => out.extend_from_slice(&bytes[at..at + count]),
            crate::piece::Piece::Skip(_) => {}
            crate::piece::Piece::Insert(bytes) => out.extend_from_slice(bytes),
        }
        at += piece.taken();
    }
    (at, out, outcome.back.concat())
}
