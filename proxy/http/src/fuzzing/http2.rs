//! A connection of HTTP/2 through filters, whatever its two ends send.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pnat_shared::flow::Stream;
use pnat_shared::time::{Duration, Instant};

use crate::cascade::Cascade;
use crate::connection::{Connection, End, Look, Outcome, Settings};
use crate::filter::{Call, Content, Exchange, Failure, HttpFilter, Record, Verdict};
use crate::h2::Multiplex;
use crate::message::{Answer, Request, Response};
use crate::piece::Piece;
use crate::testkit::{TestGateway, exchange};

/// Events of a connection of HTTP/2, each a byte that says what happens (below), a length, and bytes: from the client, from the server,
/// or none. What is sent must be frames, no matter what has come, and filters are told the end of each exchange once.
pub fn http2(data: &[u8]) {
    let counts = Arc::new([const { AtomicUsize::new(0) }; 2]);
    let told = Arc::clone(&counts);
    let make = move |number| {
        let exchange = Exchange { number, may_redirect: true, ..exchange() };
        let filter = Box::new(Counts { told: Arc::clone(&told) }) as Box<dyn HttpFilter>;
        let cascade = Cascade::new([(Arc::from("counts"), filter)]);
        Connection::of_stream(Arc::new(Settings::default()), cascade, exchange)
    };
    let mut multiplex = Multiplex::new(&Settings::default(), Box::new(make));
    let mut gateway = TestGateway::default();
    let (mut now, mut held, mut sent) = (Instant::from_secs(1000), [Vec::new(), Vec::new()], Vec::new());
    let mut rest = data;
    while let [what, length, more @ ..] = rest {
        let (bytes, behind) = more.split_at(usize::from(*length).min(more.len()));
        rest = behind;
        let stream = if what & 1 == 0 { Stream::First } else { Stream::Second };
        match what >> 4 {
            13 => now += Duration::from_secs(2),
            14 if multiplex.keeps_client() => multiplex.parted(),
            15 => {
                let told = multiplex.server_failed(now, &mut gateway, Failure::Unreachable);
                told.iter().for_each(|bytes| sent.extend_from_slice(bytes));
                break;
            }
            _ => {}
        }
        let held = &mut held[stream as usize];
        held.extend_from_slice(bytes);
        // Some room is left in any case, so that the connection may go on.
        let room = [usize::MAX, if what & 2 == 0 { usize::MAX } else { 100 }];
        let look = &mut Look { now, gateway: &mut gateway, bytes: held, end: what & 12 == 12, room };
        let outcome = match stream {
            Stream::First => multiplex.on_request(look),
            Stream::Second => multiplex.on_response(look),
        };
        let taken: usize = outcome.pieces.iter().map(Piece::taken).sum();
        held.drain(..taken);
        take_down(&outcome, stream, &mut sent);
        if outcome.end != End::Open {
            break;
        }
    }
    assert_frames(&sent);
    multiplex.close(now, &mut gateway);
    let [begun, done] = [0, 1].map(|at: usize| counts[at].load(Ordering::Relaxed));
    assert_eq!(begun, done, "exchanges that filters were shown, and told the end of");
}

/// Keeps what an outcome sends to the client.
fn take_down(outcome: &Outcome, stream: Stream, sent: &mut Vec<u8>) {
    match stream {
        Stream::First => outcome.back.iter().for_each(|bytes| sent.extend_from_slice(bytes)),
        Stream::Second => {
            for piece in &outcome.pieces {
                if let Piece::Insert(bytes) = piece {
                    sent.extend_from_slice(bytes);
                }
            }
        }
    }
}

/// All of it is frames of known types (RFC 9113 section 6), but for one that is still to be sent whole.
fn assert_frames(mut bytes: &[u8]) {
    while let [a, b, c, kind, _, stream @ .., _, _, _] = bytes.get(..9).unwrap_or_default() {
        assert!(*kind <= 9 && stream[0] < 128, "{}", bytes.escape_ascii());
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        assert!(length <= 16_384, "longer than anybody agreed to");
        bytes = bytes.get(9 + length..).unwrap_or_default();
    }
}

/// Does something else by path, and counts requests and ends.
struct Counts {
    told: Arc<[AtomicUsize; 2]>,
}

impl HttpFilter for Counts {
    fn request(&mut self, _call: &mut Call<'_>, request: &mut Request) -> Verdict {
        self.told[0].fetch_add(1, Ordering::Relaxed);
        match request.path().as_bytes().get(1) {
            Some(b'a') => Verdict::Answer(Box::new(Answer::status(404, "Not Found"))),
            Some(b'e') => Verdict::Edit,
            Some(b'r') => Verdict::Reset,
            _ => Verdict::Pass,
        }
    }

    fn request_body(&mut self, _: &mut Call<'_>, bytes: &[u8], _end: bool, out: &mut Vec<u8>) -> Content {
        out.extend(bytes.iter().rev());
        Content::Go
    }

    fn response(&mut self, _call: &mut Call<'_>, _request: &Request, response: &mut Response) -> Verdict {
        response.fields_mut().push("X-Seen", b"yes");
        Verdict::Watch
    }

    fn done(&mut self, _: &mut Call<'_>, _request: &Request, _response: Option<&Response>, _: &Record) {
        self.told[1].fetch_add(1, Ordering::Relaxed);
    }
}
