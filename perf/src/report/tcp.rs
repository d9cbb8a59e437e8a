//! What connections have shown: RFC 9411's indicators, what became of each class, times, and their course.

use pnat_dataplane::control::percentile_curve;
use pnat_dataplane::page::{Axis, Block, Chart, Section, Series, Table, Unit};

use super::columns::Columns;
use super::compare::{Figure, deviation};
use super::load::{distribution, of_run};
use super::{Run, TcpRun, by_scenario, with};
use crate::load::tcp::TcpInterval;
use crate::load::tcp::result::{ClassResult, TcpResult, Times};

/// Distributions by their names in `tcp.hlog`, as people call them.
const TIMES: [(&str, &str); 6] = [
    ("connect", "connect"),
    ("first_byte", "first byte"),
    ("last_byte", "last byte"),
    ("request", "request"),
    ("duration", "whole connection"),
    ("late", "SYN sent late"),
];

pub(super) fn section(runs: &[Run]) -> Option<Section> {
    let runs = with(runs, |run| run.tcp.as_ref());
    if runs.is_empty() {
        return None;
    }
    let mut blocks = vec![Block::Table(indicators(&runs))];
    for (name, run) in runs.iter().filter(|(_, run)| run.result.is_short) {
        let counts = run.result.counts;
        blocks.push(Block::Text(format!(
            "The generator of {name} fell behind: of {} connections it opened {}, and for {} it had no socket or no room.",
            counts.intended, counts.attempted, counts.unstarted
        )));
    }
    blocks.push(Block::Table(classes(&runs)));
    let groups = by_scenario(&runs, |run| &run.result.provenance);
    for (scenario, runs) in &groups {
        if groups.len() > 1 {
            blocks.push(Block::Heading(format!("Course of {scenario}")));
        }
        blocks.extend(course(runs).map(Block::Chart));
    }
    blocks.push(Block::Heading("Times".to_owned()));
    let text = "Times are from when something was meant to begin: a SYN for connect, first byte, last byte and whole \
                connections, a request for its response.";
    blocks.push(Block::Text(text.to_owned()));
    for (scenario, runs) in &groups {
        let of = if groups.len() > 1 { format!(" of {scenario}") } else { String::new() };
        let curves = curves(runs).into_iter();
        blocks.extend(
            curves.map(|chart| Block::Chart(Chart { title: format!("{}{of}", chart.title), ..chart })),
        );
    }
    blocks.push(Block::Table(times(&runs)));
    Some(Section::new("TCP connections", blocks))
}

/// What runs are compared by.
pub(super) fn figures(run: &TcpRun) -> Vec<Figure> {
    let TcpResult { kpis, times, .. } = &run.result;
    let spread = |of: fn(&TcpInterval) -> u64| deviation(&full_seconds(&run.result, of));
    let (connections, transactions) =
        (kpis.tcp_connections_per_second, kpis.application_transactions_per_second);
    let bits = |interval: &TcpInterval| (interval.to_servers + interval.to_clients) * 8;
    let mut figures = vec![
        Figure::new(
            "connections",
            Unit::PerSecond,
            true,
            connections,
            spread(|interval| interval.established),
        ),
        Figure::new(
            "transactions",
            Unit::PerSecond,
            true,
            transactions,
            spread(|interval| interval.transactions),
        ),
        Figure::new("content", Unit::Bits, true, kpis.inspected_throughput, spread(bits)),
        Figure::new("failed connections", Unit::Percent, false, kpis.failed_connections, None),
        Figure::new("failed transactions", Unit::Percent, false, kpis.failed_transactions, None),
    ];
    for (name, times) in [("connect", &times.connect), ("request", &times.request)] {
        if times.count > 0 {
            for (quantile, time) in [("p50", times.p50), ("p99", times.p99)] {
                figures.push(Figure::new(
                    format!("{name} {quantile}"),
                    Unit::Nanos,
                    false,
                    time as f64,
                    None,
                ));
            }
        }
    }
    figures
}

/// Of each whole second in which connections were opened.
fn full_seconds(result: &TcpResult, of: fn(&TcpInterval) -> u64) -> Vec<f64> {
    let mut begin = 0.0;
    let mut values = Vec::new();
    for interval in &result.intervals {
        let lasted = interval.end - begin;
        if lasted > 0.9 && interval.end < result.seconds + 0.5 {
            values.push(of(interval) as f64 / lasted);
        }
        begin = interval.end;
    }
    values
}

fn indicators(runs: &[(&str, &TcpRun)]) -> Table {
    let mut table = Columns::new(runs.iter().map(|(name, run)| (*name, &run.result)));
    let mut row = |name, of: fn(&TcpResult) -> String| table.row(name, of);
    row("lasted", |result| Unit::Seconds.tell(result.seconds));
    row("connections per second", |result| Unit::PerSecond.tell(result.kpis.tcp_connections_per_second));
    row("connections at a time, at most", |result| result.kpis.concurrent_tcp_connections.to_string());
    row("transactions per second", |result| {
        Unit::PerSecond.tell(result.kpis.application_transactions_per_second)
    });
    row("content", |result| Unit::Bits.tell(result.kpis.inspected_throughput));
    row("content to servers", |result| Unit::Bits.tell(result.kpis.goodput[0]));
    row("content to clients", |result| Unit::Bits.tell(result.kpis.goodput[1]));
    row("failed connections", |result| Unit::Percent.tell(result.kpis.failed_connections));
    row("failed transactions", |result| Unit::Percent.tell(result.kpis.failed_transactions));
    table.counts(&[
        ("refused", |result| result.counts.failed.refused),
        ("reset", |result| result.counts.failed.reset),
        ("timed out", |result| result.counts.failed.timed_out),
        ("closed early by the server", |result| result.counts.failed.closed_early),
        ("wrong responses", |result| result.counts.failed.wrong_content),
        ("wrong requests", |result| result.counts.wrong_requests),
        ("frames with a wrong checksum", |result| result.frames.corrupt),
        ("frames that the generator's ports refused", |result| result.frames.refused),
        ("frames lost at full receive queues", |result| result.frames.missed),
    ]);
    table.table()
}

fn classes(runs: &[(&str, &TcpRun)]) -> Table {
    let mut table = Table::of_numbers([
        "class",
        "attempted",
        "established",
        "completed",
        "failed",
        "unfinished",
        "transactions",
        "segments sent again",
    ]);
    for (name, run) in runs {
        for ClassResult { name: class, counts, .. } in &run.result.classes {
            let cells = [
                counts.attempted,
                counts.established,
                counts.completed,
                counts.failed.total(),
                counts.unfinished,
                counts.transactions,
                counts.retransmitted.iter().sum(),
            ];
            let cells = cells.map(|count| count.to_string());
            table.row(std::iter::once(of_run(runs.len(), name, class)).chain(cells));
        }
    }
    table
}

/// Steps of a rate, for what is known is known of a whole interval.
fn rate(result: &TcpResult, of: fn(&TcpInterval) -> u64) -> Vec<(f64, f64)> {
    let begins = std::iter::once(0.0).chain(result.intervals.iter().map(|interval| interval.end));
    let steps = result.intervals.iter().zip(begins).filter(|(interval, begin)| interval.end > *begin);
    let steps = steps.flat_map(|(interval, begin)| {
        let rate = of(interval) as f64 / (interval.end - begin);
        [(begin, rate), (interval.end, rate)]
    });
    steps.collect()
}

fn course(runs: &[(&str, &TcpRun)]) -> impl Iterator<Item = Chart> {
    type Count = fn(&TcpInterval) -> u64;
    let chart = |title: &str, y: Axis, counts: &[(&str, Count)]| {
        let series = runs.iter().flat_map(|(name, run)| {
            let line = |(what, of): &(&str, Count)| {
                Series::line(of_run(runs.len(), name, what), rate(&run.result, *of))
            };
            counts.iter().map(line)
        });
        Chart { title: title.to_owned(), x: Axis::linear("time", Unit::Seconds), y, series: series.collect() }
    };
    let open = runs.iter().map(|(name, run)| {
        let points = run.result.intervals.iter().map(|interval| (interval.end, interval.open as f64));
        Series::line(of_run(runs.len(), name, "open"), std::iter::once((0.0, 0.0)).chain(points).collect())
    });
    let open = Chart {
        title: "Connections open".to_owned(),
        x: Axis::linear("time", Unit::Seconds),
        y: Axis::linear("connections", Unit::Count),
        series: open.collect(),
    };
    let charts = [
        chart(
            "Connections per second",
            Axis::linear("connections", Unit::PerSecond),
            &[("established", |interval| interval.established), ("failed", |interval| interval.failed)],
        ),
        chart(
            "Transactions per second",
            Axis::linear("transactions", Unit::PerSecond),
            &[("transactions", |interval| interval.transactions)],
        ),
        chart(
            "Content per second",
            Axis::linear("content", Unit::Bits),
            &[
                ("to servers", |interval| interval.to_servers * 8),
                ("to clients", |interval| interval.to_clients * 8),
            ],
        ),
        open,
    ];
    charts.into_iter()
}

/// All distributions of one run in one chart; of several, a chart for each distribution.
fn curves(runs: &[(&str, &TcpRun)]) -> Vec<Chart> {
    let chart = |title: String, series| Chart {
        title,
        x: Axis::percentiles(),
        y: Axis::log("time", Unit::Nanos),
        series,
    };
    let curve = |run: &TcpRun, key: &str, name: &str| {
        let (_, histogram) = run.times.iter().find(|(tag, times)| tag == key && !times.is_empty())?;
        Some(Series::line(name, percentile_curve(histogram)))
    };
    if let [(_, run)] = runs {
        let series = TIMES.iter().filter_map(|(key, name)| curve(run, key, name));
        return vec![chart("Times by percentile".to_owned(), series.collect())];
    }
    let charts = TIMES.iter().map(|(key, name)| {
        let series = runs.iter().filter_map(|(run_name, run)| curve(run, key, run_name));
        chart(format!("Times by percentile: {name}"), series.collect())
    });
    charts.filter(|chart| !chart.series.is_empty()).collect()
}

fn times(runs: &[(&str, &TcpRun)]) -> Table {
    let mut table =
        Table::of_numbers(["", "count", "min", "mean", "p50", "p90", "p99", "p99.9", "p99.99", "max"]);
    for (name, run) in runs {
        for class in &run.result.classes {
            let Times { connect, first_byte, last_byte, request, duration, late } = &class.times;
            let all = [connect, first_byte, last_byte, request, duration, late];
            for ((_, what), times) in TIMES.iter().zip(all).filter(|(_, times)| times.count > 0) {
                let row = of_run(runs.len(), name, &format!("{}, {what}", class.name));
                table.row(distribution(row, times));
            }
        }
    }
    table
}
