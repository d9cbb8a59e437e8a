//! The filters of one UDP flow, and the datagrams on their way through them.
//!
//! Runs on: proxy cores. Allocates: per flow, and for edited or delayed datagrams. Blocks: never.
//!
//! Datagrams keep their boundaries and their order. While one waits ([`DatagramVerdict::Delay`]), those behind it wait at
//! the same stage, at most [`DELAYED`] of them: what comes then is dropped and counted.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use pnat_shared::flow::Stream;
use pnat_shared::frame::Frame;
use pnat_shared::time::{Duration, Instant};
use pnat_shared::verdict::CloseReason;

use super::{Call, DatagramFilter, DatagramVerdict, Edits, Flow, Services, Summary, Turn, name_verdict};
use crate::chunk::Chunk;

/// Datagrams that may wait at a stage, per stream.
pub(super) const DELAYED: usize = 128;

/// A delayed datagram is shown again no sooner than this.
const SHORTEST_DELAY: Duration = Duration::from_micros(50);

/// What leaves a datagram chain in one turn. A datagram may be empty. One that was edited may be longer than the path
/// carries; whoever sends it drops and counts it then.
#[derive(Debug)]
pub struct Datagrams<F> {
    pub to_server: Vec<Chunk<F>>,
    pub to_client: Vec<Chunk<F>>,
    /// Datagrams that filters dropped (`filtered`).
    pub filtered: u64,
    /// Datagrams for which there was no room to wait (`no_buffer`).
    pub overflowed: u64,
    /// A filter ended the flow: the client is told by ICMP.
    pub closed: Option<CloseReason>,
}

impl<F> Default for Datagrams<F> {
    fn default() -> Self {
        Self { to_server: Vec::new(), to_client: Vec::new(), filtered: 0, overflowed: 0, closed: None }
    }
}

impl<F> Datagrams<F> {
    /// The queue of a stream's datagrams.
    pub const fn stream(&mut self, stream: Stream) -> &mut Vec<Chunk<F>> {
        match stream {
            Stream::First => &mut self.to_server,
            Stream::Second => &mut self.to_client,
        }
    }
}

/// One instance of each filter of a rule.
pub struct DatagramChain<F> {
    stages: Vec<Stage<F>>,
    closed: bool,
    /// What a filter writes to.
    output: Vec<u8>,
}

/// One filter of a chain.
struct Stage<F> {
    name: Arc<str>,
    filter: Box<dyn DatagramFilter>,
    halves: [Half<F>; 2],
}

/// What a stage keeps for one stream.
struct Half<F> {
    /// Whether the filter still sees the stream.
    watching: bool,
    /// Datagrams that wait, in order, out of their frames, which are for those that pass. I.e. empty when released.
    delayed: VecDeque<Chunk<F>>,
    /// When the first of them is shown again.
    until: Instant,
}

impl<F> fmt::Debug for DatagramChain<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatagramChain")
            .field("filters", &self.stages.iter().map(|stage| &stage.name).collect::<Vec<_>>())
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

impl<F: Frame> DatagramChain<F> {
    /// A chain of named filters.
    pub fn new(filters: impl IntoIterator<Item = (Arc<str>, Box<dyn DatagramFilter>)>) -> Self {
        let stage = |(name, filter): (Arc<str>, Box<dyn DatagramFilter>)| {
            let half = |stream| Half {
                watching: filter.wants(stream),
                delayed: VecDeque::new(),
                until: Instant::FAR,
            };
            let halves = [half(Stream::First), half(Stream::Second)];
            Stage { name, filter, halves }
        };
        Self { stages: filters.into_iter().map(stage).collect(), closed: false, output: Vec::new() }
    }

    /// Takes in a datagram of a stream; what is let out is appended to `turn.out`.
    pub fn push(&mut self, turn: &mut Turn<'_, Datagrams<F>>, stream: Stream, datagram: Chunk<F>) {
        let entrance = match stream {
            Stream::First => Some(0),
            Stream::Second => self.stages.len().checked_sub(1),
        };
        self.feed(turn, stream, entrance, datagram);
    }

    /// Shows delayed datagrams whose time has come.
    pub fn on_timer(&mut self, turn: &mut Turn<'_, Datagrams<F>>) {
        for stream in [Stream::First, Stream::Second] {
            for at in 0..self.stages.len() {
                self.resume(turn, stream, at);
            }
        }
    }

    /// When [`DatagramChain::on_timer`] is to be called next; [`Instant::FAR`] for never.
    pub fn deadline(&self) -> Instant {
        let untils = self.stages.iter().flat_map(|stage| stage.halves.iter()).map(|half| half.until);
        untils.min().unwrap_or(Instant::FAR)
    }

    /// Whether all filters have released both streams.
    pub fn is_released(&self) -> bool {
        !self.closed && self.stages.iter().all(|stage| stage.halves.iter().all(|half| !half.watching))
    }

    /// The flow has ended: tells every filter.
    pub fn close(&mut self, flow: &Flow, summary: &Summary, services: &mut Services) {
        for stage in &mut self.stages {
            stage.filter.close(flow, summary, services);
        }
    }

    /// Hands a datagram to stage `at` and those behind it, until one keeps it.
    fn feed(
        &mut self,
        turn: &mut Turn<'_, Datagrams<F>>,
        stream: Stream,
        mut at: Option<usize>,
        mut datagram: Chunk<F>,
    ) {
        while let Some(place) = at.filter(|&place| place < self.stages.len() && !self.closed) {
            let half = &mut self.stages[place].halves[stream as usize];
            if !half.delayed.is_empty() {
                if half.delayed.len() < DELAYED {
                    half.delayed.push_back(datagram.out_of_frame());
                } else {
                    turn.out.overflowed += 1;
                }
                return;
            }
            if half.watching {
                match self.show(turn, stream, place, datagram) {
                    Some(passed) => datagram = passed,
                    None => return,
                }
            }
            at = match stream {
                Stream::First => Some(place + 1),
                Stream::Second => place.checked_sub(1),
            };
        }
        if self.closed {
            turn.out.filtered += 1;
        } else {
            turn.out.stream(stream).push(datagram);
        }
    }

    /// Calls the filter of stage `at`, and answers the datagram if it goes on.
    fn show(
        &mut self,
        turn: &mut Turn<'_, Datagrams<F>>,
        stream: Stream,
        at: usize,
        datagram: Chunk<F>,
    ) -> Option<Chunk<F>> {
        self.output.clear();
        let mut call = Call {
            now: turn.now,
            flow: &mut *turn.flow,
            services: &mut *turn.services,
            output: &mut self.output,
            wake: &mut None,
            edits: &mut Edits::default(),
            // No datagram filter draws tickets.
            place: u16::MAX,
        };
        let Stage { name, filter, halves } = &mut self.stages[at];
        let half = &mut halves[stream as usize];
        match filter.datagram(&mut call, stream, datagram.bytes()) {
            DatagramVerdict::Pass => Some(datagram),
            DatagramVerdict::Edit => Some(Chunk::from_vec(std::mem::take(&mut self.output))),
            DatagramVerdict::Delay(until) => {
                half.until = until.max(turn.now + SHORTEST_DELAY);
                half.delayed.push_front(datagram.out_of_frame());
                None
            }
            DatagramVerdict::Drop => {
                turn.out.filtered += 1;
                None
            }
            DatagramVerdict::Release => {
                half.watching = false;
                Some(datagram)
            }
            DatagramVerdict::Close(reason) => {
                name_verdict(&mut turn.flow.verdict, name);
                turn.out.filtered += 1;
                turn.out.closed = Some(reason);
                self.stop(turn.out);
                None
            }
        }
    }

    /// Drops all that waits; nothing passes from here.
    fn stop(&mut self, out: &mut Datagrams<F>) {
        self.closed = true;
        for half in self.stages.iter_mut().flat_map(|stage| stage.halves.iter_mut()) {
            out.filtered += half.delayed.len() as u64;
            half.delayed.clear();
            half.until = Instant::FAR;
        }
    }

    /// Shows what waits at stage `at`, in order, until one has to wait again. Each round takes one out of the queue or ends.
    fn resume(&mut self, turn: &mut Turn<'_, Datagrams<F>>, stream: Stream, at: usize) {
        while !self.closed {
            let half = &mut self.stages[at].halves[stream as usize];
            if half.until > turn.now {
                return;
            }
            let Some(datagram) = half.delayed.pop_front() else {
                half.until = Instant::FAR;
                return;
            };
            let passed = if half.watching { self.show(turn, stream, at, datagram) } else { Some(datagram) };
            if let Some(passed) = passed {
                let next = match stream {
                    Stream::First => Some(at + 1),
                    Stream::Second => at.checked_sub(1),
                };
                self.feed(turn, stream, next, passed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use pnat_shared::flow::{Handle, Protocol, WorkerId};
    use pnat_shared::testkit::VecFrame;

    use super::*;

    /// Says the same of every datagram.
    struct Always(DatagramVerdict);

    impl DatagramFilter for Always {
        fn datagram(&mut self, _: &mut Call<'_>, _: Stream, _: &[u8]) -> DatagramVerdict {
            self.0
        }
    }

    /// Delays, by a millisecond, as many times as it says, then passes all.
    struct Delays(u32);

    impl DatagramFilter for Delays {
        fn datagram(&mut self, call: &mut Call<'_>, _: Stream, _: &[u8]) -> DatagramVerdict {
            match self.0.checked_sub(1) {
                None => DatagramVerdict::Pass,
                Some(left) => {
                    self.0 = left;
                    DatagramVerdict::Delay(call.now + Duration::from_millis(1))
                }
            }
        }
    }

    const NOW: Instant = Instant::from_secs(1);

    /// Pushes datagrams at [`NOW`], wakes the chain at these times, and answers what came of it.
    fn run(
        filters: impl IntoIterator<Item = Box<dyn DatagramFilter>>,
        datagrams: &[&str],
        wakes: &[Instant],
    ) -> (DatagramChain<VecFrame>, Datagrams<VecFrame>) {
        let mut chain = DatagramChain::new(filters.into_iter().map(|filter| (Arc::from("f"), filter)));
        let address = "192.0.2.1:1".parse().unwrap();
        let mut flow = Flow {
            id: 1,
            handle: Handle { worker: WorkerId(0), slot: 0, generation: 0 },
            protocol: Protocol::Udp,
            client: address,
            server: address,
            public: address,
            rule: None,
            opened: NOW,
            name: None,
            target: None,
            may_retarget: false,
            room: [u32::MAX; 2],
            wants_room: false,
            leaves_server: false,
            verdict: None,
            decided: None,
        };
        let (mut services, mut out) = (Services::default(), Datagrams::default());
        let mut turn = Turn { now: NOW, flow: &mut flow, services: &mut services, out: &mut out };
        for datagram in datagrams {
            chain.push(&mut turn, Stream::First, Chunk::from_vec(datagram.as_bytes().to_vec()));
        }
        for &now in wakes {
            turn.now = now;
            chain.on_timer(&mut turn);
        }
        (chain, out)
    }

    fn always(verdict: DatagramVerdict) -> Box<dyn DatagramFilter> {
        Box::new(Always(verdict))
    }

    fn texts(datagrams: &[Chunk<VecFrame>]) -> Vec<&str> {
        datagrams.iter().map(|datagram| str::from_utf8(datagram.bytes()).unwrap()).collect()
    }

    #[test]
    fn a_datagram_that_is_delayed_again_stays_before_those_behind_it() {
        let wakes = [1, 2, 3].map(|millis| NOW + Duration::from_millis(millis));
        let delays = |times| Box::new(Delays(times)) as Box<dyn DatagramFilter>;
        for filters in [vec![delays(3)], vec![delays(1), delays(2)]] {
            let (chain, out) = run(filters, &["a", "b", "c"], &wakes[..2]);
            assert_eq!(out.to_server.len(), 0);
            assert_eq!(chain.deadline(), wakes[2]);
        }
        for filters in [vec![delays(3)], vec![delays(1), delays(2)]] {
            let (chain, out) = run(filters, &["a", "b", "c"], &wakes);
            assert_eq!(texts(&out.to_server), ["a", "b", "c"]);
            assert_eq!(chain.deadline(), Instant::FAR);
        }
    }

    #[test]
    fn no_more_than_so_many_datagrams_wait_and_the_rest_are_counted() {
        let until = NOW + Duration::from_millis(1);
        let (chain, out) = run([always(DatagramVerdict::Delay(until))], &["x"; DELAYED + 5], &[NOW]);
        assert_eq!((out.to_server.len(), out.overflowed, out.filtered), (0, 5, 0));
        assert_eq!(chain.deadline(), until);
    }

    #[test]
    fn a_delay_until_the_past_is_put_off_so_the_reactor_cannot_spin() {
        let (chain, out) =
            run([always(DatagramVerdict::Delay(Instant::ZERO))], &["x"; 3], &[NOW + SHORTEST_DELAY]);
        assert!(out.to_server.is_empty());
        assert_eq!(chain.deadline(), NOW + SHORTEST_DELAY + SHORTEST_DELAY);
    }

    #[test]
    fn dropped_datagrams_are_counted_and_reach_no_further_stage() {
        let (chain, out) = run(
            [DatagramVerdict::Drop, DatagramVerdict::Close(CloseReason::Blocked)].map(always),
            &["x"; 3],
            &[],
        );
        assert_eq!((out.to_server.len(), out.filtered, out.closed), (0, 3, None));
        assert!(!chain.is_released());
    }

    #[test]
    fn a_released_stream_passes_unseen_and_in_order() {
        let (chain, out) = run([always(DatagramVerdict::Release)], &["a", "b", "c"], &[]);
        assert_eq!(texts(&out.to_server), ["a", "b", "c"]);
        assert!(!chain.stages[0].halves[0].watching && chain.stages[0].halves[1].watching);
    }

    #[test]
    fn closing_drops_and_counts_what_waits() {
        let until = NOW + Duration::from_millis(1);
        let mut chain =
            run([DatagramVerdict::Pass, DatagramVerdict::Delay(until)].map(always), &["x"; 4], &[]).0;
        let mut out = Datagrams::default();
        chain.stop(&mut out);
        assert_eq!(out.filtered, 4);
        assert_eq!(chain.deadline(), Instant::FAR);
    }
}
