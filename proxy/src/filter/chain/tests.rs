//! The chain's rules, with filters that do as the test says.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use pnat_shared::flow::{Handle, Protocol, WorkerId};
use pnat_shared::testkit::VecFrame;
use pnat_shared::time::Duration;
use proptest::prelude::*;

use super::super::Verdict::{Answer, Edit, Pass, Release, Reset};
use super::super::stage::SOONEST_WAKE;
use super::super::{Call, Verdict};
use super::Stream::{First, Second};
use super::*;

const NOW: Instant = Instant::from_secs(1);
const WINDOW: u32 = 1 << 20;

type Script = VecDeque<(Verdict, &'static str)>;

/// Says what its scripts tell it to, one verdict per call and stream (then passes all), and notes what it was shown.
#[derive(Default)]
struct Scripted {
    verdicts: [Script; 2],
    wake: Option<Instant>,
    budget: Option<usize>,
    only: Option<Stream>,
    calls: Arc<AtomicUsize>,
}

impl Scripted {
    fn on(stream: Stream, verdicts: &[(Verdict, &'static str)]) -> Self {
        let mut scripted = Self::default();
        scripted.verdicts[stream as usize] = verdicts.iter().copied().collect();
        scripted
    }

    fn first(verdicts: &[Verdict]) -> Self {
        Self::on(First, &verdicts.iter().map(|&verdict| (verdict, "")).collect::<Vec<_>>())
    }
}

impl StreamFilter for Scripted {
    fn data(&mut self, call: &mut Call<'_>, stream: Stream, bytes: &[u8], held: usize, end: bool) -> Verdict {
        self.calls.fetch_add(1, Ordering::Relaxed);
        assert!(held <= bytes.len());
        assert!(call.output.is_empty());
        assert!(held < bytes.len() || end || self.wake.is_some(), "called with nothing new");
        *call.wake = self.wake.filter(|&wake| wake > call.now);
        let (verdict, output) = self.verdicts[stream as usize].pop_front().unwrap_or((Pass(usize::MAX), ""));
        call.output.extend_from_slice(output.as_bytes());
        verdict
    }

    fn wants(&self, stream: Stream) -> bool {
        self.only.is_none_or(|only| only == stream)
    }

    fn budget(&self) -> usize {
        self.budget.unwrap_or(64 * 1024)
    }
}

/// A chain, and all that came out of it.
struct Bench {
    chain: StreamChain,
    flow: Flow,
    services: Services,
    out: Output<VecFrame>,
    now: Instant,
}

impl Bench {
    fn new(filters: impl IntoIterator<Item = Scripted>) -> Self {
        let named = filters.into_iter().enumerate().map(|(place, filter)| {
            (Arc::from(format!("f{place}")), Box::new(filter) as Box<dyn StreamFilter>)
        });
        let address = "192.0.2.1:1".parse().unwrap();
        let flow = Flow {
            id: 1,
            handle: Handle { worker: WorkerId(0), slot: 0, generation: 0 },
            protocol: Protocol::Tcp,
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
        Self {
            chain: StreamChain::new(named, WINDOW),
            flow,
            services: Services::default(),
            out: Output::default(),
            now: NOW,
        }
    }

    fn with<R>(&mut self, run: impl FnOnce(&mut StreamChain, &mut Turn<'_, Output<VecFrame>>) -> R) -> R {
        let mut turn =
            Turn { now: self.now, flow: &mut self.flow, services: &mut self.services, out: &mut self.out };
        run(&mut self.chain, &mut turn)
    }

    fn push(&mut self, stream: Stream, bytes: &str) -> String {
        let chunk = Chunk::from_frame(VecFrame::new(bytes.as_bytes()), 0, bytes.len());
        self.with(|chain, turn| chain.push(turn, stream, chunk));
        self.take(stream)
    }

    fn finish(&mut self, stream: Stream) -> String {
        self.with(|chain, turn| chain.finish(turn, stream));
        self.take(stream)
    }

    fn wait_until(&mut self, now: Instant) {
        self.now = now;
        self.with(|chain, turn| chain.on_timer(turn));
    }

    fn take(&mut self, stream: Stream) -> String {
        let bytes: Vec<u8> =
            self.out.stream(stream).drain(..).flat_map(|chunk| chunk.bytes().to_vec()).collect();
        String::from_utf8(bytes).unwrap()
    }
}

#[test]
fn a_chunk_that_passes_every_stage_is_the_chunk_that_came_in() {
    let mut bench = Bench::new([Scripted::default(), Scripted::default()]);
    let frame = VecFrame::new(b"headerpayload");
    let address = frame.data()[6..].as_ptr();
    bench.with(|chain, turn| chain.push(turn, First, Chunk::from_frame(frame, 6, 13)));
    let [chunk] = &bench.out.to_server[..] else { panic!("one chunk in, one chunk out") };
    assert_eq!(chunk.bytes(), b"payload");
    assert_eq!(chunk.bytes().as_ptr(), address);
    assert_eq!(bench.chain.held(First), 0);
}

#[test]
fn a_chunk_whose_tail_is_held_passes_its_front_without_a_copy() {
    let mut bench = Bench::new([Scripted::first(&[Pass(4), Pass(9)])]);
    let frames = [VecFrame::new(b"abcdef"), VecFrame::new(b"ghijkl")];
    let addresses = [frames[0].data().as_ptr(), frames[1].data().as_ptr()];
    for frame in frames {
        bench.with(|chain, turn| chain.push(turn, First, Chunk::from_frame(frame, 0, 6)));
    }
    let chunks = &bench.out.to_server;
    assert_eq!(chunks.iter().map(Chunk::bytes).collect::<Vec<_>>(), [&b"abcd"[..], b"ef", b"ghijkl"]);
    assert_eq!([chunks[0].bytes().as_ptr(), chunks[2].bytes().as_ptr()], addresses);
}

#[test]
fn what_is_held_is_shown_again_before_what_follows() {
    let mut bench = Bench::new([Scripted::first(&[Pass(1), Pass(0), Pass(4)])]);
    assert_eq!(bench.push(First, "abc"), "a");
    assert_eq!(bench.push(First, "d"), "");
    assert_eq!(bench.chain.held(First), 3);
    assert_eq!(bench.push(First, "efg"), "bcde");
    assert_eq!(bench.finish(First), "fg");
    assert!(bench.out.ended[0]);
}

#[test]
fn a_count_beyond_what_was_shown_means_all_of_it() {
    let mut bench = Bench::new([Scripted::on(First, &[(Pass(99), ""), (Edit(99), "X")])]);
    assert_eq!(bench.push(First, "abc"), "abc");
    assert_eq!(bench.push(First, "def"), "X");
    assert_eq!(bench.chain.held(First), 0);
}

#[test]
fn an_edit_goes_out_where_the_bytes_it_replaces_were() {
    let edits = [(Edit(0), "<"), (Edit(2), "B"), (Edit(3), ""), (Edit(1), "E")];
    let mut bench = Bench::new([Scripted::on(First, &edits)]);
    assert_eq!(bench.push(First, "ab"), "<");
    assert_eq!(bench.push(First, "cde"), "B");
    assert_eq!(bench.push(First, "fgh"), "");
    assert_eq!(bench.push(First, "i"), "E");
    assert_eq!(bench.finish(First), "ghi");
}

#[test]
fn the_first_stream_meets_the_stages_first_to_last_and_the_second_last_to_first() {
    let edits = |first, second| {
        let mut scripted = Scripted::on(First, &[first]);
        scripted.verdicts[1] = [second].into();
        scripted
    };
    let mut bench =
        Bench::new([edits((Edit(1), "AB"), (Edit(2), "D")), edits((Edit(2), "C"), (Edit(1), "AB"))]);
    assert_eq!(bench.push(First, "x"), "C");
    assert_eq!(bench.push(Second, "x"), "D");
}

#[test]
fn a_release_lets_the_held_bytes_out_and_calls_no_more() {
    let scripted = Scripted::first(&[Pass(0), Release]);
    let calls = scripted.calls.clone();
    let mut bench = Bench::new([scripted]);
    assert_eq!(bench.push(First, "abc"), "");
    assert!(!bench.chain.is_stream_released(First));
    assert_eq!(bench.push(First, "def"), "abcdef");
    assert!(bench.chain.is_stream_released(First));
    assert!(!bench.chain.is_released(), "the second stream is still watched");
    assert_eq!(bench.push(First, "ghi"), "ghi");
    assert_eq!(bench.finish(First), "");
    assert!(bench.out.ended[0]);
    assert_eq!(calls.load(Ordering::Relaxed), 2);
}

#[test]
fn a_filter_sees_only_the_streams_that_it_wants() {
    let scripted = Scripted { only: Some(Second), ..Scripted::default() };
    let calls = scripted.calls.clone();
    let mut bench = Bench::new([scripted]);
    assert!(bench.chain.is_stream_released(First));
    assert_eq!(bench.push(First, "abc"), "abc");
    assert_eq!(calls.load(Ordering::Relaxed), 0);
    assert_eq!(bench.push(Second, "abc"), "abc");
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

#[test]
fn a_chain_without_filters_is_released_from_the_start() {
    let mut bench = Bench::new([]);
    assert!(bench.chain.is_released());
    assert_eq!(bench.push(First, "abc"), "abc");
    assert_eq!(bench.finish(Second), "");
    assert_eq!(bench.out.ended, [false, true]);
}

#[test]
fn a_filter_that_asks_to_be_woken_may_hold_beyond_the_end() {
    let later = NOW + Duration::from_millis(5);
    let mut scripted = Scripted::first(&[Pass(1), Pass(1), Pass(1)]);
    scripted.wake = Some(later);
    let mut bench = Bench::new([scripted]);
    assert_eq!(bench.push(First, "abcde"), "a");
    assert_eq!(bench.chain.deadline(), later);
    assert_eq!(bench.finish(First), "b");
    assert!(!bench.out.ended[0]);
    bench.wait_until(later);
    assert_eq!(bench.take(First), "cde");
    assert!(bench.out.ended[0]);
    assert_eq!(bench.chain.deadline(), Instant::FAR);
}

#[test]
fn a_filter_that_asks_to_be_woken_may_hold_up_an_end_with_nothing_held() {
    let later = NOW + Duration::from_millis(5);
    let mut scripted = Scripted::on(First, &[(Pass(9), ""), (Pass(9), ""), (Edit(0), "the last word")]);
    scripted.wake = Some(later);
    let mut bench = Bench::new([scripted]);
    assert_eq!(bench.push(First, "abc"), "abc");
    assert_eq!(bench.finish(First), "");
    assert!(!bench.out.ended[0]);
    bench.wait_until(later);
    assert_eq!(bench.take(First), "the last word");
    assert!(bench.out.ended[0]);
}

#[test]
fn a_wake_up_with_nothing_held_may_insert() {
    let later = NOW + Duration::from_millis(5);
    let mut scripted = Scripted::on(First, &[(Pass(9), ""), (Edit(0), "ping")]);
    scripted.wake = Some(later);
    let mut bench = Bench::new([scripted]);
    assert_eq!(bench.push(First, "abc"), "abc");
    bench.wait_until(later);
    assert_eq!(bench.take(First), "ping");
}

#[test]
fn a_wake_up_in_the_past_is_put_off_so_the_reactor_cannot_spin() {
    struct Impatient;
    impl StreamFilter for Impatient {
        fn data(&mut self, call: &mut Call<'_>, _: Stream, _: &[u8], _: usize, _: bool) -> Verdict {
            *call.wake = Some(Instant::ZERO);
            Pass(0)
        }
    }
    let mut bench = Bench::new([]);
    bench.chain = StreamChain::new([(Arc::from("f"), Box::new(Impatient) as Box<dyn StreamFilter>)], WINDOW);
    bench.push(First, "abc");
    assert_eq!(bench.chain.deadline(), NOW + SOONEST_WAKE);
    bench.wait_until(NOW + SOONEST_WAKE);
    assert_eq!(bench.chain.deadline(), NOW + SOONEST_WAKE + SOONEST_WAKE);
}

#[test]
fn holding_more_than_the_budget_ends_the_flow() {
    let scripted = Scripted { budget: Some(4), ..Scripted::first(&[Pass(0), Pass(0)]) };
    let mut bench = Bench::new([Scripted::default(), scripted]);
    bench.push(First, "abcd");
    assert_eq!(bench.out.outcome, None);
    bench.push(First, "e");
    assert_eq!(bench.out.outcome, Some(Outcome::Reset(CloseReason::FilterError)));
    assert_eq!(bench.flow.verdict.as_deref(), Some("f1: holds more than 4 bytes"));
    assert_eq!(bench.chain.held(First), 0);
}

#[test]
fn a_chain_that_holds_the_whole_window_without_a_wake_up_ends_the_flow() {
    let hold = || Scripted { budget: Some(usize::MAX), ..Scripted::first(&[Pass(0); 9]) };
    let mut bench = Bench::new([hold()]);
    bench.chain.limit = 6;
    bench.push(First, "abcdef");
    assert_eq!(bench.out.outcome, None);
    bench.push(First, "g");
    assert_eq!(bench.out.outcome, Some(Outcome::Reset(CloseReason::FilterError)));

    let later = NOW + Duration::from_millis(5);
    let mut bench = Bench::new([Scripted { wake: Some(later), ..hold() }]);
    bench.chain.limit = 6;
    bench.push(First, "abcdefg");
    assert_eq!(bench.out.outcome, None, "it will be woken, and may let go then");
}

#[test]
fn a_reset_drops_what_is_held_and_all_that_follows() {
    let mut bench = Bench::new([
        Scripted::first(&[Pass(1), Pass(1)]),
        Scripted::first(&[Pass(0), Reset(CloseReason::Blocked)]),
    ]);
    bench.push(First, "abc");
    assert_eq!(bench.push(First, "d"), "");
    assert_eq!(bench.out.outcome, Some(Outcome::Reset(CloseReason::Blocked)));
    assert_eq!(bench.flow.verdict.as_deref(), Some("f1"));
    assert_eq!(bench.push(First, "e") + &bench.push(Second, "f") + &bench.finish(First), "");
    assert_eq!(bench.out.ended, [false; 2]);
    assert!(!bench.chain.is_released(), "a flow that was ended is not given back");
}

#[test]
fn an_answer_goes_back_through_the_stages_between_and_ends_there() {
    let mut near = Scripted::on(Second, &[(Edit(2), "OK, ")]);
    near.verdicts[0] = Script::new();
    let far = Scripted::on(Second, &[(Edit(0), "never shown")]);
    let answering = Scripted::on(First, &[(Answer(CloseReason::Blocked), "no way")]);
    let mut bench = Bench::new([near, answering, far]);
    assert_eq!(bench.push(First, "request"), "");
    assert_eq!(bench.take(Second), "OK,  way");
    let expected = Outcome::Answer { to: Side::First, reason: CloseReason::Blocked };
    assert_eq!(bench.out.outcome, Some(expected));
    assert_eq!(bench.out.ended, [false, true]);
    assert_eq!(bench.push(Second, "late") + &bench.push(First, "late"), "");
}

#[test]
fn an_answer_to_the_server_goes_through_the_stages_behind() {
    let answering = Scripted::on(Second, &[(Answer(CloseReason::Blocked), "bye")]);
    let mut bench = Bench::new([answering, Scripted::on(First, &[(Edit(3), "good bye")])]);
    bench.push(Second, "banner");
    assert_eq!(bench.take(First), "good bye");
    let expected = Outcome::Answer { to: Side::Second, reason: CloseReason::Blocked };
    assert_eq!(bench.out.outcome, Some(expected));
    assert_eq!(bench.out.ended, [true, false]);
}

#[test]
fn an_answer_that_a_stage_delays_comes_out_with_its_end_when_it_wakes() {
    let later = NOW + Duration::from_millis(5);
    let mut slow = Scripted::on(Second, &[(Pass(1), ""), (Pass(1), "")]);
    slow.wake = Some(later);
    let answering = Scripted::on(First, &[(Answer(CloseReason::Blocked), "abc")]);
    let mut bench = Bench::new([slow, answering]);
    bench.push(First, "request");
    assert_eq!(bench.take(Second), "ab");
    assert_eq!(bench.out.ended, [false; 2]);
    bench.wait_until(later);
    assert_eq!(bench.take(Second), "c");
    assert_eq!(bench.out.ended, [false, true]);
}

#[test]
fn a_verdict_on_an_answer_is_ignored() {
    let between =
        Scripted::on(Second, &[(Reset(CloseReason::Internal), ""), (Answer(CloseReason::Internal), "")]);
    let answering = Scripted::on(First, &[(Answer(CloseReason::Blocked), "abc")]);
    let mut bench = Bench::new([between, answering]);
    bench.push(First, "request");
    assert_eq!(bench.take(Second), "abc");
    let expected = Outcome::Answer { to: Side::First, reason: CloseReason::Blocked };
    assert_eq!(bench.out.outcome, Some(expected));
}

#[test]
fn an_answer_where_the_stream_back_has_ended_is_a_reset() {
    let mut bench = Bench::new([Scripted::on(First, &[(Answer(CloseReason::Blocked), "abc")])]);
    bench.finish(Second);
    bench.push(First, "request");
    assert_eq!(bench.out.outcome, Some(Outcome::Reset(CloseReason::Blocked)));
    assert_eq!(bench.take(Second), "");
}

proptest! {
    /// Whatever filters pass and hold, no byte is lost, doubled or moved, and the end comes behind the last.
    #[test]
    fn holding_and_passing_keeps_every_byte_in_order(
        script in prop::collection::vec(prop::collection::vec(0_usize..20, 0..40), 0..4),
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..30), 0..40),
        stream in prop::sample::select(vec![First, Second]),
    ) {
        let filters = script.iter().map(|counts| {
            let verdicts: Vec<_> = counts.iter().map(|&count| (Pass(count), "")).collect();
            Scripted::on(stream, &verdicts)
        });
        let mut bench = Bench::new(filters);
        let mut came = Vec::new();
        let mut held = 0;
        for piece in &pieces {
            let chunk = Chunk::from_frame(VecFrame::new(piece), 0, piece.len());
            bench.with(|chain, turn| chain.push(turn, stream, chunk));
            held += piece.len();
            for chunk in bench.out.stream(stream).drain(..) {
                prop_assert!(!chunk.is_empty());
                held -= chunk.len();
                came.extend_from_slice(chunk.bytes());
            }
            prop_assert_eq!(bench.chain.held(stream), held);
        }
        bench.with(|chain, turn| chain.finish(turn, stream));
        prop_assert!(bench.out.ended[stream as usize]);
        came.extend(bench.out.stream(stream).drain(..).flat_map(|chunk| chunk.bytes().to_vec()));
        prop_assert_eq!(came, pieces.concat());
    }
}

#[test]
fn a_chain_with_its_only_stage_fits_into_one_cache_line() {
    assert!(size_of::<StreamChain>() <= 64, "{} bytes", size_of::<StreamChain>());
}
