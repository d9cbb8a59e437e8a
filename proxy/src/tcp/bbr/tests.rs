//! BBR on a path of its own: a bottleneck with a queue, a delay and losses. What the draft's list of test cases asks for.

mod path;

use path::Path;
use pnat_shared::time::Duration;
use pnat_shared::wire::tcp::Seq;

use super::*;

const MSS: u32 = 1448;
/// 100 Mbit/s, in bytes per second.
const RATE: u64 = 12_500_000;
const DELAY: Duration = Duration::from_millis(20);
/// What fits into it.
const BDP: u32 = 250_000;

fn bbr() -> Bbr {
    Bbr::new(&Start { mss: MSS, sack: true, srtt: Some(DELAY), nxt: Seq(7), now: Instant::from_secs(1) })
}

/// A path of 100 Mbit/s and 20 ms with a queue of one bandwidth-delay product.
fn path() -> Path {
    Path::new(bbr(), RATE, DELAY, BDP)
}

/// Runs until the state machine is in `state`, at most 20 seconds.
fn run_until(path: &mut Path, state: State) {
    let end = path.now + Duration::from_secs(20);
    path.run(end, |bbr| bbr.state == state);
    assert_eq!(path.bbr.state, state, "never came about");
}

fn percent(part: u64, whole: u64) -> u64 {
    part * 100 / whole
}

#[test]
fn startup_doubles_the_rate_every_round_and_ends_on_the_plateau() {
    let mut path = path();
    run_until(&mut path, State::Drain);
    // 10 segments a round to 173 are 4.1 doublings; the plateau takes three more rounds.
    assert!(path.bbr.rounds.count <= 10, "{} rounds", path.bbr.rounds.count);
    assert!((98..=102).contains(&percent(path.bbr.bandwidth.max(), RATE)), "{:?}", path.bbr.bandwidth);
}

#[test]
fn drain_empties_the_queue_that_startup_has_made() {
    let mut path = path();
    run_until(&mut path, State::Drain);
    let began = path.now;
    run_until(&mut path, State::Cruise);
    assert!(path.now - began < DELAY * 6);
    assert!(path.flight < BDP * 11 / 10, "{}", path.flight);
}

#[test]
fn a_clean_path_is_filled_and_its_queue_stays_short() {
    let mut path = path();
    path.run_for(Duration::from_secs(3));
    let (before, lost) = (path.delivered, path.lost);
    path.run_for(Duration::from_secs(10));
    assert!(percent(path.delivered - before, 10 * RATE) >= 95, "{}", path.delivered - before);
    assert_eq!(path.lost, lost);
}

#[test]
fn one_percent_of_random_loss_leaves_the_bandwidth() {
    let mut path = path();
    path.loss = 0.01;
    path.run_for(Duration::from_secs(20));
    assert!(percent(path.delivered, 20 * RATE) >= 75, "{}", percent(path.delivered, 20 * RATE));
}

#[test]
fn a_fifth_lost_does_not() {
    let mut path = path();
    path.loss = 0.2;
    path.run_for(Duration::from_secs(10));
    assert!(percent(path.delivered, 10 * RATE) < 50, "{}", percent(path.delivered, 10 * RATE));
}

#[test]
fn a_shallow_queue_is_found_by_its_losses_and_respected() {
    let mut path = Path::new(bbr(), RATE, DELAY, BDP / 10);
    path.run_for(Duration::from_secs(15));
    assert!(percent(path.delivered, 15 * RATE) >= 80, "{}", percent(path.delivered, 15 * RATE));
    assert!(path.lost * 100 < path.delivered * 3, "{} of {}", path.lost, path.delivered);
    assert!(path.bbr.bounds.inflight_long != ENDLESS);
}

#[test]
fn startup_ends_where_too_much_is_lost() {
    // Far from full, so that no plateau ends it.
    let mut path = Path::new(bbr(), 100 * RATE, DELAY, BDP);
    path.loss = 0.1;
    run_until(&mut path, State::Drain);
    assert!(!path.bbr.full_pipe.now);
    assert!(path.bbr.bounds.inflight_long < 2 * BDP, "{:?}", path.bbr.bounds);
}

#[test]
fn bandwidth_that_grows_tenfold_is_found() {
    let mut path = Path::new(bbr(), RATE / 10, DELAY, BDP);
    path.run_for(Duration::from_secs(5));
    path.rate = RATE;
    let end = path.now + Duration::from_secs(10);
    path.run(end, |bbr| bbr.bw() > RATE * 9 / 10);
    assert!(path.bbr.bw() > RATE * 9 / 10, "{}", path.bbr.bw());
}

#[test]
fn bandwidth_that_shrinks_tenfold_is_believed() {
    let mut path = path();
    path.run_for(Duration::from_secs(5));
    path.rate = RATE / 10;
    path.run_for(Duration::from_secs(15));
    assert!(path.bbr.bw() < RATE * 12 / 100, "{}", path.bbr.bw());
}

#[test]
fn probe_rtt_comes_every_five_seconds_and_lasts_200_milliseconds() {
    let mut path = path();
    path.run_for(Duration::from_secs(1));
    run_until(&mut path, State::ProbeRtt);
    let began = path.now;
    assert!(began > Instant::from_secs(5), "{began:?}");
    run_until(&mut path, State::Cruise);
    let took = path.now - began;
    assert!((200..300).contains(&took.as_millis()), "{took:?}");
    assert_eq!(path.bbr.delay.min_rtt().as_millis(), 20);
}

#[test]
fn idleness_is_as_good_as_probe_rtt() {
    let mut path = path();
    path.run_for(Duration::from_secs(3));
    path.pause(Duration::from_secs(6));
    let end = path.now + Duration::from_millis(50);
    path.run(end, |bbr| bbr.state == State::ProbeRtt);
    assert_ne!(path.bbr.state, State::ProbeRtt);
    assert!(percent(path.bbr.bw(), RATE) >= 95, "the model outlives a pause");
}

#[test]
fn an_application_that_asks_for_less_teaches_nothing() {
    let mut path = path();
    path.run_for(Duration::from_secs(3));
    path.demand = Some(RATE / 20);
    path.run_for(Duration::from_secs(8));
    assert!(percent(path.bbr.bw(), RATE) >= 95, "{}", path.bbr.bw());
}

#[test]
fn startup_goes_on_while_the_application_sets_the_pace() {
    let mut path = path();
    path.demand = Some(RATE / 20);
    path.run_for(Duration::from_secs(4));
    assert_eq!(path.bbr.state, State::Startup);
}

#[test]
fn bunched_acks_get_the_window_that_they_need() {
    let mut path = path();
    path.bunch = Duration::from_millis(15);
    path.run_for(Duration::from_secs(3));
    let before = path.delivered;
    path.run_for(Duration::from_secs(5));
    assert!(percent(path.delivered - before, 5 * RATE) >= 90, "{}", path.delivered - before);
    assert!(path.bbr.aggregation.extra() > BDP / 4, "{:?}", path.bbr.aggregation);
}

#[test]
fn a_path_of_less_than_a_segment_keeps_four_in_flight() {
    let mut path = Path::new(bbr(), 12_500, DELAY, BDP);
    path.run_for(Duration::from_secs(30));
    assert_eq!(path.bbr.window, 4 * MSS);
    assert!(percent(path.delivered, 30 * 12_500) >= 85, "{}", path.delivered);
}

#[test]
fn two_percent_lost_in_a_probe_end_it_and_bound_what_is_in_flight() {
    let mut path = path();
    path.run_for(Duration::from_secs(2));
    run_until(&mut path, State::Up);
    path.loss = 0.1;
    let end = path.now + DELAY * 4;
    path.run(end, |bbr| bbr.state != State::Up);
    assert_eq!(path.bbr.state, State::Down);
    assert!(path.bbr.bounds.inflight_long < 2 * BDP, "{}", path.bbr.bounds.inflight_long);
    assert!(path.bbr.cycle.too_high);
}

#[test]
fn losses_in_cruise_lower_the_bounds_until_the_next_refill() {
    let mut path = path();
    path.run_for(Duration::from_secs(2));
    run_until(&mut path, State::Cruise);
    path.loss = 0.05;
    path.run_for(DELAY * 3);
    assert!(path.bbr.bounds.bw < u64::MAX && path.bbr.bounds.inflight_short < ENDLESS);
    path.loss = 0.0;
    run_until(&mut path, State::Refill);
    assert_eq!((path.bbr.bounds.bw, path.bbr.bounds.inflight_short), (u64::MAX, ENDLESS));
}

#[test]
fn a_loss_that_was_none_resumes_the_probe() {
    let mut path = path();
    path.run_for(Duration::from_secs(2));
    run_until(&mut path, State::Up);
    path.bbr.bounds.inflight_long = ENDLESS;
    path.loss = 0.1;
    run_until(&mut path, State::Down);
    assert_ne!(path.bbr.bounds.inflight_long, ENDLESS);
    path.bbr.on_undo();
    assert_eq!((path.bbr.state, path.bbr.bounds.inflight_long), (State::Refill, ENDLESS));
}

#[test]
fn a_timeout_leaves_one_segment_until_it_is_undone() {
    let mut path = path();
    path.run_for(Duration::from_secs(2));
    let window = path.bbr.window();
    path.bbr.on_timeout(window, true, path.now);
    assert_eq!(path.bbr.window(), MSS);
    path.bbr.on_undo();
    assert_eq!(path.bbr.window(), window);
}

#[test]
fn marked_segments_slow_it_down_as_lost_ones_do() {
    let mut path = path();
    path.run_for(Duration::from_secs(2));
    run_until(&mut path, State::Up);
    path.marks = true;
    path.run_for(DELAY * 2);
    assert_eq!(path.bbr.state, State::Down);
    assert!(path.bbr.bounds.bw < u64::MAX || path.bbr.bounds.inflight_long < ENDLESS);
}
