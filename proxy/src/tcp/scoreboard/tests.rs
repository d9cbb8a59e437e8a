//! The scoreboard against an array of bytes, and what an ACK costs.

use proptest::prelude::*;

use super::super::spans::LOOKS;
use super::*;

const BASE: Seq = Seq(u32::MAX - 2000);
const MSS: u32 = 100;
const RTT: Duration = Duration::from_millis(10);

/// What the oracle knows of a byte.
#[derive(Copy, Clone, Debug, PartialEq)]
struct Byte {
    first_sent: Instant,
    state: State,
    /// It was sent more than once.
    again: bool,
}

#[derive(Copy, Clone, Debug, PartialEq)]
enum State {
    Flying,
    Sacked,
    Lost,
    /// When, and up to where at once.
    Resent(Instant, Seq),
}

/// The board, its records, and beside them one entry for each byte from SND.UNA on.
struct Bench {
    board: Scoreboard,
    records: Records,
    bytes: Vec<Byte>,
    una: Seq,
    now: Instant,
}

/// Bytes that arrive, when the newest of them was sent, whether they were overtaken, the first that was sent only once.
type Expected = (u32, Option<Instant>, bool, Option<Seq>);

fn tx(sent: Instant) -> Transmission {
    Transmission {
        sent,
        delivered: 0,
        lost: 0,
        in_flight: 0,
        send_elapsed: 0,
        ack_age: 0,
        is_app_limited: false,
    }
}

impl Bench {
    fn new() -> Self {
        let mut records = Records::default();
        records.restart(BASE);
        Self {
            board: Scoreboard::default(),
            records,
            bytes: Vec::new(),
            una: BASE,
            now: Instant::from_secs(1),
        }
    }

    fn at(&self, index: usize) -> Seq {
        self.una + index as u32
    }

    fn index(&self, seq: Seq) -> usize {
        seq.distance(self.una) as usize
    }

    fn send(&mut self, len: u32) {
        self.records.push(self.records.end() + len, tx(self.now));
        let byte = Byte { first_sent: self.now, state: State::Flying, again: false };
        self.bytes.extend((0..len).map(|_| byte));
    }

    /// Sends the first lost bytes again.
    fn resend(&mut self) {
        let lost = self.bytes.iter().position(|byte| byte.state == State::Lost);
        let hole = self.board.next_lost(MSS);
        assert_eq!(hole.map(|(left, _)| self.index(left)), lost);
        let Some((left, right)) = hole else { return };
        let right = right.min(left + MSS);
        self.board.on_resent(self.una, left, right, tx(self.now));
        let (from, to) = (self.index(left), self.index(right));
        for byte in &mut self.bytes[from..to] {
            assert_eq!(byte.state, State::Lost);
            *byte = Byte { state: State::Resent(self.now, right), again: true, ..*byte };
        }
    }

    fn news(&self, acked: u32) -> News {
        News::new(self.now, self.una, acked, self.bytes.len() as u32, 0, None)
    }

    /// What the bytes `[from, to)` arriving says, by the book.
    fn expected(&self, from: usize, to: usize, answerable: Instant) -> Expected {
        let highest = self.bytes.iter().rposition(|byte| byte.state == State::Sacked).map_or(0, |n| n + 1);
        let fresh = || (from..to).map(|n| (n, self.bytes[n])).filter(|(_, byte)| byte.state != State::Sacked);
        let sent = |byte: Byte| match byte.state {
            State::Resent(at, _) => Some(at).filter(|at| *at <= answerable),
            _ if byte.again => None,
            _ => Some(byte.first_sent),
        };
        let newest = fresh().filter_map(|(_, byte)| sent(byte)).max();
        let reordered = fresh().any(|(n, byte)| !byte.again && n + 1 < highest);
        let original = fresh().find(|(_, byte)| !byte.again).map(|(n, _)| self.at(n));
        (fresh().count() as u32, newest, reordered, original)
    }

    fn check_news(&self, news: &News, (bytes, newest, reordered, original): Expected) {
        assert_eq!(news.bytes, bytes);
        assert_eq!(news.newest.map(|arrival| arrival.tx.sent), newest);
        assert_eq!(news.reordered, reordered);
        assert_eq!(news.original, original);
    }

    fn ack(&mut self, len: usize) {
        let answerable = self.now.back(RTT);
        let expected = self.expected(0, len, answerable);
        let mut news = self.news(len as u32);
        let ack = self.at(len);
        if self.board.is_clean() {
            news.take(&mut self.records, ack);
            // Nobody asks while all is well.
            news.original = expected.3;
        } else {
            self.board.advance(&mut self.records, ack, answerable, &mut news);
        }
        self.check_news(&news, expected);
        self.bytes.drain(..len);
        self.una = ack;
    }

    fn sack(&mut self, from: usize, to: usize) {
        let answerable = self.now.back(RTT);
        let expected = self.expected(from, to, answerable);
        let mut news = self.news(0);
        let block = (self.at(from), self.at(to));
        self.board.sack(&self.records, block, MSS, answerable, &mut news);
        self.check_news(&news, expected);
        for byte in &mut self.bytes[from..to] {
            byte.state = State::Sacked;
        }
    }

    /// RFC 8985 section 6.2 byte by byte: what left before `newest` and is overdue.
    fn detect(&mut self, newest: &Newest, wait: Duration) {
        let Newest { sent, end, again } = *newest;
        let (lost, deadline) = self.board.detect(&self.records, newest, wait, self.now);
        let (mut count, mut late) = (0, false);
        for (n, byte) in self.bytes.iter_mut().enumerate() {
            let (at, right) = match byte.state {
                State::Flying => (byte.first_sent, self.una + n as u32),
                State::Resent(at, right) => (at, right),
                State::Sacked | State::Lost => continue,
            };
            let first = again || byte.state == State::Flying;
            if at < sent || (at == sent && first && right.before(end)) {
                if at + wait <= self.now {
                    byte.state = State::Lost;
                    count += 1;
                } else {
                    late = true;
                }
            }
        }
        assert_eq!((lost, deadline), (count, late.then(|| sent + wait)));
    }

    fn time_out(&mut self, until: Instant) {
        self.board.lose_until(&self.records, until, MSS);
        for (n, byte) in self.bytes.iter_mut().enumerate() {
            let at = match byte.state {
                State::Flying => byte.first_sent,
                State::Resent(at, _) => at,
                State::Sacked | State::Lost => continue,
            };
            if at <= until || n < MSS as usize {
                byte.state = State::Lost;
            }
        }
    }

    fn check(&self) {
        let count =
            |wanted: fn(&State) -> bool| self.bytes.iter().filter(|byte| wanted(&byte.state)).count() as u32;
        assert_eq!(self.board.absent(), count(|state| matches!(state, State::Sacked | State::Lost)));
        assert_eq!(self.board.resent_bytes(), count(|state| matches!(state, State::Resent(..))));
        assert_eq!(self.board.has_lost(), count(|state| *state == State::Lost) > 0);
    }
}

proptest! {
    #[test]
    fn agrees_with_an_array_of_bytes(steps in prop::collection::vec((0u8..10, 0usize..600, 1usize..250, 0u64..12), 1..120)) {
        let mut bench = Bench::new();
        for (kind, start, len, millis) in steps {
            let flight = bench.bytes.len();
            let (from, to) = (start.min(flight), (start + len).min(flight));
            match kind {
                0..=2 => {
                    bench.now += Duration::from_millis(millis);
                    bench.send(len as u32);
                }
                3 if to > 0 => bench.ack(to.div_ceil(3)),
                4 | 5 if 0 < from && from < to => bench.sack(from, to),
                6 | 7 => {
                    bench.now += Duration::from_millis(millis);
                    bench.resend();
                }
                8 if flight > 0 => {
                    let sent = bench.now.back(Duration::from_millis(start as u64 % 40));
                    let newest = Newest { sent, end: bench.at(to), again: len % 2 == 0 };
                    bench.detect(&newest, Duration::from_millis(millis));
                }
                9 if flight > 0 && start < 50 => bench.time_out(bench.now.back(Duration::from_millis(millis))),
                _ => {}
            }
            bench.check();
        }
    }
}

fn sacked(board: &mut Scoreboard, records: &Records, left: u32, right: u32) -> u32 {
    let mut news = News::new(Instant::ZERO, records.base(), 0, records.flight(), 0, None);
    board.sack(records, (Seq(left), Seq(right)), MSS, Instant::ZERO, &mut news);
    news.bytes
}

#[test]
fn rfc6675_4_three_separate_ranges_or_more_than_two_segments_are_enough() {
    let mut records = Records::default();
    records.restart(Seq(1000));
    records.push(Seq(2000), tx(Instant::ZERO));
    for blocks in [&[(1100, 1150), (1200, 1250), (1300, 1350)][..], &[(1100, 1300), (1300, 1301)]] {
        let mut board = Scoreboard::default();
        for (left, right) in blocks {
            assert!(!board.is_sacked_enough(3, MSS));
            sacked(&mut board, &records, *left, *right);
        }
        assert!(board.is_sacked_enough(3, MSS));
    }
}

#[test]
fn a_peer_that_sacks_every_other_byte_is_believed_no_more_ranges_than_there_are_segments() {
    let mut records = Records::default();
    records.restart(Seq(0));
    records.push(Seq(100_000), tx(Instant::ZERO));
    let mut board = Scoreboard::default();
    let believed: u32 = (1..50_000).map(|n| sacked(&mut board, &records, 2 * n, 2 * n + 1)).sum();
    assert_eq!(believed as usize, MIN_RANGES + 1000);
    // What touches a range is still heard.
    assert_eq!(sacked(&mut board, &records, 2, 4), 1);
}

/// A window of ten megabytes, every ACK with three blocks, something sent again after each: the searches that all this takes,
/// for one ACK.
/// The stale entry of the first segment ends where another begins that was sent at its time.
#[test]
fn what_was_sent_a_third_time_is_not_sought_among_its_neighbours() {
    let mut records = Records::default();
    records.restart(BASE);
    let [first, second, third] = [1, 2, 3].map(Instant::from_secs);
    records.push(BASE + 2 * MSS, tx(first));
    let mut board = Scoreboard::default();
    board.lose_all(&records);
    board.on_resent(BASE, BASE, BASE + MSS, tx(second));
    board.on_resent(BASE, BASE + MSS, BASE + 2 * MSS, tx(second));
    board.on_resent(BASE, BASE, BASE + MSS, tx(third));
    board.lose_again_until(second);
    assert_eq!((board.resent_bytes(), board.absent()), (MSS, MSS));
    assert_eq!(board.next_lost(2 * MSS), Some((BASE + MSS, BASE + 2 * MSS)));
}

fn looks_per_ack(block: impl Fn(u32) -> (u32, u32)) -> usize {
    const SEGMENT: u32 = 1448;
    const SEGMENTS: u32 = 7000;
    let mut records = Records::default();
    records.restart(BASE);
    for n in 1..=SEGMENTS {
        records.push(BASE + n * SEGMENT, tx(Instant::from_micros(n.into())));
    }
    let mut board = Scoreboard::default();
    let newest = Newest { sent: Instant::from_secs(1), end: BASE, again: false };
    let before = LOOKS.get();
    let acks = 3 * SEGMENTS;
    for n in 0..acks {
        let now = Instant::from_micros(u64::from(n) + 20_000);
        for k in 0..3 {
            let (left, right) = block(n + k);
            let (left, right) = (left % SEGMENTS, right % SEGMENTS);
            if 0 < left && left < right {
                let mut news = News::new(now, BASE, 0, records.flight(), 0, None);
                let block = (BASE + left * SEGMENT, BASE + right * SEGMENT);
                board.sack(&records, block, SEGMENT, now, &mut news);
            }
        }
        board.detect(&records, &newest, Duration::from_micros(20_000), now);
        if let Some((left, right)) = board.next_lost(SEGMENT) {
            board.on_resent(BASE, left, right.min(left + SEGMENT), tx(now));
        }
    }
    (LOOKS.get() - before) / acks as usize
}

/// Which segments the nth block names.
type Pattern<'a> = &'a dyn Fn(u32) -> (u32, u32);

#[test]
fn an_ack_costs_a_few_searches_whatever_it_says() {
    let patterns: [(&str, Pattern<'_>); 5] = [
        ("every other segment, upwards", &|n| (2 * n + 1, 2 * n + 2)),
        ("every other segment, downwards", &|n| (6999 - 2 * (n % 3499), 7000 - 2 * (n % 3499))),
        ("here and there", &|n| (n * 4999, n * 4999 + 1)),
        ("nearly everything, again and again", &|n| (1 + n % 2, 6999)),
        ("ever longer, with gaps", &|n| (n * 31 % 6000 + 1, n * 31 % 6000 + 1 + n % 50)),
    ];
    for (name, block) in patterns {
        // A step that walked over all segments would take thousands.
        let looks = looks_per_ack(block);
        assert!(looks < 60, "{name}: {looks}");
    }
}
