//! A live gateway's page: the course of its last minutes, and what it has measured since it started.

use super::history::{History, StageMoment};
use super::report::{Report, ReportError};
use crate::page::{Axis, Block, Chart, Page, Section, Series, Unit};

/// Reasons for drops that are drawn, the most frequent first.
const REASONS: usize = 8;
/// Lines of one chart: of ports, workers or cores beyond it the first are drawn.
const LINES: usize = 16;

/// The page that `pnat report` makes.
pub fn page(report: &Report, history: &History) -> Result<Page, ReportError> {
    let up = humantime::format_duration(pnat_shared::time::Duration::from_secs(report.uptime_seconds));
    let mut sections = vec![Section::new("The last minutes", charts(history))];
    sections.extend(report.sections()?);
    Ok(Page {
        title: "PNAT: a gateway's report".to_owned(),
        lead: format!(
            "pnat {}, policy generation {}, up {up}. Times of day are UTC. Frames are counted from the Ethernet header on, \
             without their check sequence.",
            report.version, report.generation
        ),
        sections,
    })
}

fn charts(history: &History) -> Vec<Block> {
    let per_second = |title: &str, what: &str, unit, series| chart(title, Axis::linear(what, unit), series);
    let port = |counter| rates(history, "port", counter);
    let mut charts = vec![
        per_second("Packets by port", "packets", Unit::Packets, both(port("rx_packets"), port("tx_packets"))),
        per_second(
            "Bits by port",
            "bits",
            Unit::Bits,
            both(eightfold(port("rx_bytes")), eightfold(port("tx_bytes"))),
        ),
        per_second(
            "Packets received by worker",
            "packets",
            Unit::Packets,
            named("worker", rates(history, "worker", "rx_packets")),
        ),
        per_second(
            "Flows opened by worker",
            "flows",
            Unit::PerSecond,
            named("worker", rates(history, "worker", "flows_opened")),
        ),
        chart("Active flows", Axis::linear("flows", Unit::Count), {
            let pairs = |(name, counter)| named(name, levels(history, "proxy", counter));
            let pairs = [("TCP pairs of proxy", "pairs_tcp"), ("UDP pairs of proxy", "pairs_udp")].map(pairs);
            let flows = named("flows of worker", levels(history, "worker", "flows_active"));
            std::iter::once(flows).chain(pairs).flatten().collect()
        }),
        per_second("Packets dropped by reason", "packets", Unit::Packets, drops(history)),
        chart("Busy cores", Axis::linear("of the time", Unit::Percent), {
            let busy = |kind| named(kind, shares(rates(history, kind, "busy_nanoseconds")));
            busy("worker").into_iter().chain(busy("proxy")).collect()
        }),
        chart("Rings and pools in use", Axis::linear("of their room", Unit::Percent), fill(history)),
    ];
    charts.extend(latency(history));
    charts.into_iter().map(Block::Chart).collect()
}

/// What an owner counted, at times.
type Line = (String, Vec<(f64, f64)>);

fn chart(title: &str, y: Axis, mut series: Vec<Series>) -> Chart {
    series.truncate(LINES);
    Chart { title: title.to_owned(), x: Axis::linear("time", Unit::Clock), y, series }
}

fn named(kind: &str, lines: Vec<Line>) -> Vec<Series> {
    lines.into_iter().map(|(name, points)| Series::line(format!("{kind} {name}"), points)).collect()
}

fn both(received: Vec<Line>, sent: Vec<Line>) -> Vec<Series> {
    let ways = received.into_iter().zip(sent);
    let series = ways.flat_map(|((name, received), (_, sent))| {
        [Series::line(format!("{name} received"), received), Series::line(format!("{name} sent"), sent)]
    });
    series.collect()
}

fn eightfold(lines: Vec<Line>) -> Vec<Line> {
    scaled(lines, 8.0)
}

/// Nanoseconds per second as shares of the time.
fn shares(lines: Vec<Line>) -> Vec<Line> {
    scaled(lines, 1e-9)
}

fn scaled(lines: Vec<Line>, by: f64) -> Vec<Line> {
    let scaled = |points: Vec<(f64, f64)>| points.into_iter().map(|(at, value)| (at, value * by)).collect();
    lines.into_iter().map(|(name, points)| (name, scaled(points))).collect()
}

fn seconds(millis: u64) -> f64 {
    millis as f64 / 1_000.0
}

/// How a counter of each owner grew per second, from look to look.
fn rates(history: &History, kind: &str, counter: &str) -> Vec<Line> {
    of(history, kind, counter).map(|(name, values)| (name.to_owned(), growth(history, values))).collect()
}

fn levels(history: &History, kind: &str, counter: &str) -> Vec<Line> {
    let points = |values: &[u64]| {
        let times = history.times_ms.iter().map(|at| seconds(*at));
        times.zip(values.iter().map(|value| *value as f64)).collect()
    };
    of(history, kind, counter).map(|(name, values)| (name.to_owned(), points(values))).collect()
}

fn of<'a>(history: &'a History, kind: &str, counter: &str) -> impl Iterator<Item = (&'a str, &'a [u64])> {
    let lines = history.counters.iter().filter(move |line| line.kind == kind && line.counter == counter);
    lines.map(|line| (line.name.as_str(), line.values.as_slice()))
}

fn growth(history: &History, values: &[u64]) -> Vec<(f64, f64)> {
    let looks = history.times_ms.windows(2).zip(values.windows(2));
    let rate = |(times, values): (&[u64], &[u64])| {
        let lasted = seconds(times[1].saturating_sub(times[0]));
        // A counter of a device that was started anew begins anew.
        let grown = values[1].saturating_sub(values[0]) as f64;
        (lasted > 0.0).then(|| (seconds(times[1]), grown / lasted))
    };
    looks.filter_map(rate).collect()
}

fn drops(history: &History) -> Vec<Series> {
    let grown = |values: &[u64]| values.last().unwrap_or(&0).saturating_sub(*values.first().unwrap_or(&0));
    let mut reasons: Vec<_> = history.drops.iter().filter(|drops| grown(&drops.values) > 0).collect();
    reasons.sort_by_key(|drops| std::cmp::Reverse(grown(&drops.values)));
    reasons.truncate(REASONS);
    reasons.into_iter().map(|drops| Series::line(&drops.reason, growth(history, &drops.values))).collect()
}

fn fill(history: &History) -> Vec<Series> {
    let times = || history.times_ms.iter().map(|at| seconds(*at));
    let rings = times().zip(history.fullest_ring.iter().map(|millionths| *millionths as f64 / 1e6));
    let mut series = vec![Series::line("the fullest ring", rings.collect())];
    for ((name, all), (_, free)) in
        levels(history, "pool", "frames").into_iter().zip(levels(history, "pool", "frames_available"))
    {
        let used = all.iter().zip(&free).filter(|((_, all), _)| *all > 0.0);
        let used = used.map(|((at, all), (_, free))| (*at, 1.0 - free / all));
        series.push(Series::line(format!("pool of {name}"), used.collect()));
    }
    series
}

/// A chart for each stage that has measured anything.
fn latency(history: &History) -> Vec<Chart> {
    let mut stages: Vec<&str> = Vec::new();
    for stage in history.latency.iter().flat_map(|moment| &moment.stages) {
        if !stages.contains(&stage.stage.as_str()) {
            stages.push(&stage.stage);
        }
    }
    type Figure = fn(&StageMoment) -> u64;
    let figures: [(&str, Figure); 3] =
        [("p50", |stage| stage.p50), ("p99", |stage| stage.p99), ("longest", |stage| stage.max)];
    let charts = stages.into_iter().map(|name| {
        let series = figures.map(|(figure, of)| {
            let points = history.latency.iter().filter_map(|moment| {
                let stage = moment.stages.iter().find(|stage| stage.stage == name)?;
                Some((seconds(moment.at_ms), of(stage) as f64))
            });
            Series::line(figure, points.collect())
        });
        chart(&format!("Latency of stage {name}"), Axis::log("latency", Unit::Nanos), series.into())
    });
    charts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::history::tests::full;

    fn chart<'a>(charts: &'a [Block], title: &str) -> &'a Chart {
        let named = |block: &'a Block| match block {
            Block::Chart(chart) if chart.title == title => Some(chart),
            _ => None,
        };
        charts.iter().find_map(named).expect(title)
    }

    #[test]
    fn a_counters_course_is_its_growth_per_second_at_the_end_of_each_look() {
        let charts = charts(&full());
        let packets = chart(&charts, "Packets by port");
        assert_eq!(packets.series[0].name, "inside received");
        assert_eq!(packets.series[0].points, [(1_001.0, 1e6), (1_002.0, 1e6), (1_003.0, 1e6)]);
        assert_eq!(packets.series[1].points, [(1_001.0, 0.0), (1_002.0, 0.0), (1_003.0, 0.0)]);
    }

    #[test]
    fn looks_that_came_late_make_no_peaks_and_a_counter_that_begins_anew_no_abyss() {
        let history = History { times_ms: vec![0, 1_000, 5_000, 6_000], ..History::default() };
        let grown = growth(&history, &[0, 100, 500, 50]);
        assert_eq!(grown, [(1.0, 100.0), (5.0, 100.0), (6.0, 0.0)]);
    }

    #[test]
    fn the_fullest_ring_is_told_in_shares_and_latency_in_a_chart_for_each_stage() {
        let charts = charts(&full());
        assert_eq!(chart(&charts, "Rings and pools in use").series[0].points[0], (1_000.0, 0.25));
        let latency = chart(&charts, "Latency of stage nat");
        assert_eq!(latency.series.len(), 3);
        assert_eq!(latency.series[0].points.len(), 1);
    }

    #[test]
    fn drops_of_long_ago_are_no_course() {
        let mut history = full();
        assert!(chart(&charts(&history), "Packets dropped by reason").series.is_empty());
        history.drops[0].values = vec![0, 0, 5, 5];
        let charts = charts(&history);
        let dropped = &chart(&charts, "Packets dropped by reason").series[0];
        assert_eq!((dropped.name.as_str(), dropped.points[1]), ("martian", (1_002.0, 5.0)));
    }
}
