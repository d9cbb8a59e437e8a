//! What must be seen at the usual sizes of a terminal, and what answers and keys change.

use std::collections::BTreeMap;

use pnat_shared::report::Traffic;
use pnat_shared::stats::{Latency, Stage};
use pnat_shared::time::Duration;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::style::Color;

use super::look::{ClientsLook, Look};
use super::state::{News, State};
use super::view;
use crate::control::answer::{CaptureTotals, Client, Clients, Group, Ready, Reason, Stats};
use crate::control::report::{Report, stage_report};

type Counts<'a> = &'a [(&'a str, u64)];

fn counts(counts: Counts<'_>) -> BTreeMap<String, u64> {
    counts.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
}

fn group(kind: &str, name: &str, counters: Counts<'_>, drops: Counts<'_>) -> Group {
    Group {
        kind: kind.to_owned(),
        name: name.to_owned(),
        cpu: matches!(kind, "worker" | "proxy").then_some(1),
        counters: counts(counters),
        drops: counts(drops),
        closes: BTreeMap::new(),
    }
}

fn reason(reason: &str, count: u64) -> Reason {
    Reason { reason: reason.to_owned(), count, sentence: format!("what {reason} means to people") }
}

/// A gateway that has carried the same in each of so many seconds: 1000 packets of 1250 bytes each way, 10 new flows, 2
/// drops, a latency that was 1 us in the first second and 9 us ever after.
fn after(seconds: u64) -> Look {
    let (packets, bytes) = (1_000 * seconds, 1_250_000 * seconds);
    let port = [
        ("link_up", 1),
        ("rx_packets", packets),
        ("rx_bytes", bytes),
        ("tx_packets", packets),
        ("tx_bytes", bytes),
    ];
    let worker = [
        ("burst_packets", 3 * packets),
        // A tenth of each second.
        ("busy_nanoseconds", 100_000_000 * seconds),
        ("flows_active", 40),
        ("flows_opened", 10 * seconds),
        ("half_open", 3),
    ];
    let proxy = [
        ("burst_packets", 2 * packets),
        ("busy_nanoseconds", 300_000_000 * seconds),
        ("pairs_tcp", 30),
        ("pairs_udp", 5),
        ("pairs_tcp_opened", 8 * seconds),
        ("pairs_udp_opened", 2 * seconds),
    ];
    let groups = vec![
        group("worker", "0", &worker, &[("martian", 2 * seconds)]),
        group("proxy", "0", &proxy, &[]),
        group("pool", "frames", &[("frames", 65_535), ("frames_available", 57_345)], &[]),
        group("port", "inside", &port, &[]),
        group("port", "outside", &port, &[("tx_full", 7)]),
        group("ring", "to_proxy 0-0", &[("slots", 4_096), ("waiting", 4_000), ("most_waiting", 4_096)], &[]),
        group("ring", "from_proxy 0-0", &[("slots", 4_096), ("waiting", 0), ("most_waiting", 1_024)], &[]),
    ];
    let stats = Stats {
        version: "1.2.3".to_owned(),
        config_file: "lab.toml".to_owned(),
        generation: 4,
        uptime_seconds: seconds,
        uptime_ms: 1_000 * seconds,
        totals: BTreeMap::new(),
        drops: vec![reason("tx_full", 7), reason("martian", 2 * seconds), reason("land", 0)],
        closes: vec![reason("finished", 9 * seconds)],
        groups,
        capture: CaptureTotals::default(),
    };
    let mut latency = Latency::of(&Stage::ALL);
    latency.record(Stage::Nat, Duration::from_micros(1), 100);
    latency.record(Stage::Nat, Duration::from_micros(9), 1_000 * (seconds - 1));
    for stage in [Stage::RingIn, Stage::Proxy, Stage::Connect] {
        latency.record(stage, Duration::from_micros(2), 1);
    }
    let report = Report {
        version: stats.version.clone(),
        generation: 4,
        started_ms: 1_700_000_000_000,
        uptime_seconds: seconds,
        silent: Vec::new(),
        cores: Vec::new(),
        tsc_hz: None,
        memory: None,
        stages: Stage::ALL.iter().map(|stage| stage_report(*stage, latency.stage(*stage))).collect(),
        totals: BTreeMap::new(),
        drops: Vec::new(),
        closes: Vec::new(),
    };
    let clients = |seconds: u64| {
        // The first has the most bytes, the second the most flows, the third the highest rate.
        let client = |last: u8, flows, idle: u64, rate: u64| Client {
            address: [10, 77, 1, last].into(),
            flows,
            first: Traffic { packets: 1, bytes: 1_000 },
            second: Traffic { packets: 1, bytes: idle + rate * seconds },
        };
        let clients = vec![client(1, 1, 900_000_000, 0), client(2, 30, 50_000, 10), client(3, 2, 0, 12_500)];
        let answer = Clients { clients, known: 120, partial: false };
        ClientsLook { answer, at: Duration::from_secs(seconds) }
    };
    Look {
        stats,
        report,
        ready: Ready { ready: true, reasons: Vec::new() },
        clients: clients(seconds),
        earlier_clients: (seconds > 1).then(|| clients(seconds - 1)),
    }
}

fn answered(state: &mut State, look: Look) {
    assert!(state.take(News::Look(Ok(Box::new(look)))).is_continue());
}

fn press(state: &mut State, key: char) -> bool {
    state.take(News::Key(KeyEvent::new(KeyCode::Char(key), KeyModifiers::NONE))).is_continue()
}

/// As it stands after 10 and 12 seconds.
fn running() -> State {
    let mut state = State::default();
    answered(&mut state, after(10));
    answered(&mut state, after(12));
    state
}

fn screen(state: &State, width: u16, height: u16) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    let draw = |frame: &mut ratatui::Frame<'_>| view::draw(&state.shown, frame.area(), frame.buffer_mut());
    terminal.draw(draw).expect("drawn");
    terminal
}

fn lines(state: &State, width: u16, height: u16) -> Vec<String> {
    let terminal = screen(state, width, height);
    let buffer = terminal.backend().buffer();
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..height).map(line).collect()
}

#[test]
fn everything_has_its_place_on_a_terminal_of_80_by_24() {
    let expected = "\
pnat 1.2.3  up 12s  policy 4  lab.toml                                    READY
flows 40 (+10/s, 3 half-open)  pairs 30 TCP, 5 UDP (+10/s)
port        link  rx pkt/s  rx bit/s  tx pkt/s  tx bit/s  drop/s  dropped
inside      up       1.00k     10.0M     1.00k     10.0M       0        0
outside     up       1.00k     10.0M     1.00k     10.0M       0        7
core        cpu  idle  busy  ns/pkt    pkt/s   flows   new/s  drop/s
worker 0      1   60%   10%   33.3k    3.00k      40      10       2
proxy 0       1   60%   30%    150k    2.00k      35      10       0
latency     per s      p50      p99      max  ever p50      p99      max
nat         1.00k  9.02 us  9.02 us  9.02 us   9.02 us  9.02 us  9.02 us
ring_in         0        -        -        -   2.01 us  2.01 us  2.01 us
proxy           0        -        -        -   2.01 us  2.01 us  2.01 us
connect         0        -        -        -   2.01 us  2.01 us  2.01 us
client 3/120      flows  up bit/s  down bit/s  up bytes  down bytes
10.77.1.3             2         0        100k      1000        150k
10.77.1.2            30         0          80      1000       50120
10.77.1.1             1         0           0      1000        900M
drop               per s   total  meaning
martian                2      24  what martian means to people
tx_full                0       7  what tx_full means to people
buffer 2/3        used      of  full  ever
frames            8190   65535   12%     -
to_proxy 0-0      4000    4096   98%  100%
q quit  p pause  clients by: r rate  b bytes  f flows  h help";
    assert_eq!(lines(&running(), 80, 24).join("\n"), expected);
}

#[test]
fn a_wide_terminal_shows_two_columns_and_what_80_columns_had_no_room_for() {
    let lines = lines(&running(), 120, 40);
    let text = lines.join("\n");
    for part in [
        "READY",
        "port        link",
        "outside     up",
        "worker 0",
        "proxy 0",
        "nat ",
        "connect",
        "client 3/120",
        "10.77.1.1",
        "martian",
        "tx_full",
        "to_proxy 0-0",
        "from_proxy 0-0",
        "finished",
        "q quit",
    ] {
        assert!(text.contains(part), "{part} is not on the screen:\n{text}");
    }
    let beside = lines.iter().find(|line| line.starts_with("port ")).expect("ports");
    assert!(beside.contains("client 3/120"), "{beside}");
}

#[test]
fn no_size_of_a_terminal_is_too_small_or_too_large() {
    let mut state = running();
    for help in [false, true] {
        assert_eq!(state.shown.help, help);
        for (width, height) in [(1, 1), (3, 2), (20, 5), (79, 23), (121, 7), (500, 200)] {
            assert_eq!(lines(&state, width, height).len(), usize::from(height));
        }
        assert!(press(&mut state, 'h'));
    }
}

#[test]
fn rates_are_those_between_two_answers_and_latency_of_what_came_between() {
    let mut state = State::default();
    answered(&mut state, after(1));
    let first = lines(&state, 80, 24);
    assert!(first[3].starts_with("inside      up           -         -"), "{}", first[3]);
    assert!(first[9].starts_with("nat             -        -        -        -   1.00 us"), "{}", first[9]);
    // What came between took 9 us, whatever was before.
    answered(&mut state, after(2));
    let second = lines(&state, 80, 24);
    assert!(second[9].starts_with("nat         1.00k  9.02 us  9.02 us  9.02 us"), "{}", second[9]);
}

#[test]
fn a_gateway_that_began_anew_has_no_rates_yet() {
    let mut state = State::default();
    answered(&mut state, after(100));
    answered(&mut state, after(2));
    assert!(lines(&state, 80, 24)[3].starts_with("inside      up           -"));
    let mut other = after(3);
    other.report.started_ms += 5;
    answered(&mut state, other);
    assert!(
        lines(&state, 80, 24)[3].starts_with("inside      up           -"),
        "another one of the same age"
    );
}

#[test]
fn a_gateway_that_does_not_answer_is_told_as_such_until_it_does_again() {
    let mut state = running();
    let reason = "no gateway answers at /run/c: Connection refused".to_owned();
    assert!(state.take(News::Look(Err(reason.clone()))).is_continue());
    let away = lines(&state, 80, 24);
    assert!(away[0].ends_with("NO ANSWER"), "{}", away[0]);
    assert_eq!(away[2], reason);
    assert!(away[4].starts_with("inside"), "what was known last stays: {}", away[4]);
    answered(&mut state, after(20));
    answered(&mut state, after(21));
    let back = lines(&state, 80, 24);
    assert!(back[0].ends_with("READY"), "{}", back[0]);
    assert!(back[3].starts_with("inside      up       1.00k"), "{}", back[3]);
}

#[test]
fn before_the_first_answer_the_reason_for_none_is_all_there_is() {
    let mut state = State::default();
    assert!(lines(&state, 80, 24)[0].ends_with("ASKING"));
    assert!(state.take(News::Look(Err("nobody there".to_owned()))).is_continue());
    let lines = lines(&state, 80, 24);
    assert!(lines[0].ends_with("NO ANSWER"), "{}", lines[0]);
    assert_eq!(lines[1], "nobody there");
}

#[test]
fn why_a_gateway_is_not_ready_stands_at_the_top() {
    let mut state = State::default();
    let mut look = after(5);
    let reasons = vec!["port inside: its link is down".to_owned(), "proxy 0 has stopped".to_owned()];
    look.ready = Ready { ready: false, reasons };
    answered(&mut state, look);
    let lines = lines(&state, 80, 24);
    assert!(lines[0].ends_with("NOT READY"), "{}", lines[0]);
    assert_eq!(lines[2], "not ready: port inside: its link is down; proxy 0 has stopped");
}

#[test]
fn what_somebody_should_look_at_is_red() {
    let mut state = State::default();
    let link = |look: &mut Look, up| {
        let port = look.stats.groups.iter_mut().find(|group| group.name == "inside").expect("a port");
        port.counters.insert("link_up".to_owned(), up);
    };
    answered(&mut state, after(10));
    let mut look = after(12);
    link(&mut look, 0);
    answered(&mut state, look);
    let terminal = screen(&state, 80, 24);
    let buffer = terminal.backend().buffer();
    let red: Vec<String> = (0..24)
        .map(|y| {
            (0..80)
                .map(|x| &buffer[(x, y)])
                .filter(|cell| cell.fg == Color::Red)
                .map(|cell| cell.symbol())
                .collect()
        })
        .filter(|text: &String| !text.is_empty())
        .collect();
    // A link that is down, a core that drops now, a ring that is nearly full.
    assert_eq!(red, ["down", "2", "98%"]);
}

#[test]
fn keys_order_the_clients() {
    let mut state = running();
    let order = |state: &State| {
        let lines = lines(state, 80, 24);
        let clients = lines.iter().filter_map(|line| line.strip_prefix("10.77.1."));
        clients.filter_map(|rest| rest.chars().next()).collect::<String>()
    };
    for (key, expected) in [('b', "132"), ('f', "231"), ('r', "321"), ('x', "321")] {
        assert!(press(&mut state, key));
        assert_eq!(order(&state), expected, "{key}");
    }
}

#[test]
fn a_pause_keeps_the_numbers_and_they_go_on_from_where_the_gateway_is() {
    let mut state = running();
    assert!(press(&mut state, 'p'));
    answered(&mut state, after(20));
    let paused = lines(&state, 80, 24);
    assert!(paused[0].contains("up 12s") && paused[0].ends_with("PAUSED"), "{}", paused[0]);
    assert!(press(&mut state, 'p'));
    answered(&mut state, after(21));
    let on = lines(&state, 80, 24);
    assert!(on[0].contains("up 21s"), "{}", on[0]);
    assert!(on[3].starts_with("inside      up       1.00k"), "since the answer before, not since the pause");
}

#[test]
fn help_explains_and_escape_leaves_it_before_it_leaves_the_view() {
    let mut state = running();
    assert!(press(&mut state, '?'));
    assert!(lines(&state, 80, 24).join("\n").contains("what all loops of its CPU leave"));
    let escape = || News::Key(KeyEvent::new(KeyCode::Esc, KeyModifiers::NONE));
    assert!(state.take(escape()).is_continue());
    assert!(lines(&state, 80, 24).join("\n").contains("worker 0"));
    assert!(state.take(escape()).is_break());
}

#[test]
fn q_ctrl_c_and_a_signal_end_it() {
    assert!(!press(&mut State::default(), 'q'));
    let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert!(State::default().take(News::Key(interrupt)).is_break());
    assert!(State::default().take(News::End).is_break());
    assert!(press(&mut State::default(), 'c'));
}

#[test]
fn a_plain_frame_holds_every_row_and_nothing_behind_them() {
    let text = view::plain(&running().shown, 80);
    for part in ["outside", "connect", "from_proxy 0-0", "tx_full", "finished", "10.77.1.1"] {
        assert!(text.contains(part), "{part} is missing:\n{text}");
    }
    assert!(!text.contains("quit"), "no keys: {text}");
    assert!(
        text.lines().all(|line| line == line.trim_end()) && text.ends_with("\n") && !text.ends_with("\n\n")
    );
}
