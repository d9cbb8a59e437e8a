//! What `load` has shown: counts, rates over time, latency.

use pnat_dataplane::control::percentile_curve;
use pnat_dataplane::page::{Axis, Block, Chart, Section, Series, Table, Unit};

use super::columns::Columns;
use super::compare::{Figure, deviation, mean};
use super::{LoadRun, Run, by_scenario, with};
use crate::load::result::{LoadResult, Percentiles};

pub(super) fn sections(runs: &[Run]) -> Vec<Section> {
    let loads = with(runs, |run| run.load.as_ref());
    if loads.is_empty() { Vec::new() } else { vec![throughput(&loads), latency(&loads)] }
}

/// What runs are compared by.
pub(super) fn figures(run: &LoadRun) -> Vec<Figure> {
    let LoadResult { rates, loss_ratio, latency, .. } = &run.result;
    let full: Vec<Course> = course(&run.result).into_iter().filter(|part| part.is_full).collect();
    let of = |of: fn(&Course) -> f64| full.iter().map(of).collect::<Vec<_>>();
    let spread = |figure| deviation(&of(figure));
    let proportion = |figure| Some(deviation(&of(figure))? / mean(&of(figure)).max(1.0));
    let received = spread(|part| part.received);
    let bits = received.map(|noise| noise * rates.received_bits / rates.received_frames.max(1.0));
    let (usual, longest) = (proportion(|part| part.mean_latency), proportion(|part| part.max_latency));
    let time = |name, value: f64, noise: Option<f64>| {
        Figure::new(name, Unit::Nanos, false, value, noise.map(|noise| noise * value))
    };
    vec![
        Figure::new("received", Unit::Packets, true, rates.received_frames, received),
        Figure::new("received bits", Unit::Bits, true, rates.received_bits, bits),
        Figure::new("lost", Unit::Percent, false, *loss_ratio, spread(|part| part.lost)),
        time("latency mean", latency.mean, usual),
        time("latency p50", latency.p50 as f64, usual),
        time("latency p90", latency.p90 as f64, usual),
        time("latency p99", latency.p99 as f64, longest),
        time("latency p99.9", latency.p999 as f64, longest),
        time("latency p99.99", latency.p9999 as f64, longest),
        time("latency max", latency.max as f64, longest),
    ]
}

/// One interval of a run, in rates per second of the time in which was sent.
#[derive(Copy, Clone, Debug, PartialEq)]
struct Course {
    /// In seconds since the start.
    begin: f64,
    end: f64,
    sent: f64,
    received: f64,
    /// Of the frames sent, from 0 to 1; what is still under way counts.
    lost: f64,
    mean_latency: f64,
    max_latency: f64,
    /// It is about as long as the others: its rates can be compared with theirs.
    is_full: bool,
}

/// Without the time at the end in which only stragglers came.
fn course(result: &LoadResult) -> Vec<Course> {
    let mut begin = 0.0;
    let mut course = Vec::with_capacity(result.intervals.len());
    for interval in &result.intervals {
        let lasted = interval.end.min(result.seconds) - begin;
        if lasted > 0.0 {
            course.push(Course {
                begin,
                end: interval.end,
                sent: interval.sent as f64 / lasted,
                received: interval.received as f64 / lasted,
                lost: 1.0 - interval.received as f64 / interval.sent.max(1) as f64,
                mean_latency: interval.mean_latency,
                max_latency: interval.max_latency as f64,
                is_full: lasted > 0.9,
            });
        }
        begin = interval.end;
    }
    // In what is left of a second, stragglers of the time before weigh too much.
    course.retain(|part| part.is_full || result.seconds < 1.0);
    course
}

/// Steps, for what is known is known of a whole interval.
fn over_time(result: &LoadResult, of: fn(&Course) -> f64) -> Vec<(f64, f64)> {
    course(result).iter().flat_map(|part| [(part.begin, of(part)), (part.end, of(part))]).collect()
}

fn throughput(loads: &[(&str, &LoadRun)]) -> Section {
    let mut blocks = vec![Block::Table(counts(loads))];
    for (name, run) in loads.iter().filter(|(_, run)| run.result.is_short) {
        let asked = Unit::Packets.tell(run.result.rates.intended_frames);
        let fell =
            format!("The generator of {name} fell behind: its machine cannot send the {asked} asked for.");
        blocks.push(Block::Text(fell));
    }
    for (_, loads) in by_load(loads) {
        blocks.push(Block::Chart(rates_over_time(&loads)));
        blocks.push(Block::Chart(latency_over_time(&loads)));
    }
    Section::new("Throughput", blocks)
}

/// Runs of the same load are drawn in the same chart.
fn by_load<'a>(loads: &[(&'a str, &'a LoadRun)]) -> Vec<(&'a str, Vec<(&'a str, &'a LoadRun)>)> {
    by_scenario(loads, |run| &run.result.provenance)
}

/// What a chart shows, with the runs' name where they do not stand in its legend.
fn titled(what: &str, loads: &[(&str, &LoadRun)]) -> String {
    match loads {
        [(name, _)] => format!("{what}: {name}"),
        _ => what.to_owned(),
    }
}

fn rates_over_time(loads: &[(&str, &LoadRun)]) -> Chart {
    let mut series = Vec::new();
    for (name, run) in loads {
        if loads.len() == 1 {
            series.push(Series::line("sent", over_time(&run.result, |part| part.sent)));
        }
        let received = over_time(&run.result, |part| part.received);
        series.push(Series::line(of_run(loads.len(), name, "received"), received));
    }
    Chart {
        title: titled("Throughput over time", loads),
        x: Axis::linear("time", Unit::Seconds),
        y: Axis::linear("frames", Unit::Packets),
        series,
    }
}

fn latency_over_time(loads: &[(&str, &LoadRun)]) -> Chart {
    let series = loads.iter().flat_map(|(name, run)| {
        let of = |what: &str| of_run(loads.len(), name, what);
        [
            Series::line(of("mean"), over_time(&run.result, |part| part.mean_latency)),
            Series::line(of("longest"), over_time(&run.result, |part| part.max_latency)),
        ]
    });
    Chart {
        title: titled("Latency over time", loads),
        x: Axis::linear("time", Unit::Seconds),
        y: Axis::log("latency", Unit::Nanos),
        series: series.collect(),
    }
}

fn counts(loads: &[(&str, &LoadRun)]) -> Table {
    let mut table = Columns::new(loads.iter().map(|(name, run)| (*name, &run.result)));
    let mut row = |name, of: fn(&LoadResult) -> String| table.row(name, of);
    row("lasted", |result| Unit::Seconds.tell(result.seconds));
    row("intended", |result| result.frames.intended.to_string());
    row("intended per second", |result| Unit::Packets.tell(result.rates.intended_frames));
    row("sent", |result| result.frames.sent.to_string());
    row("sent per second", |result| Unit::Packets.tell(result.rates.sent_frames));
    row("sent bits", |result| Unit::Bits.tell(result.rates.sent_bits));
    row("received", |result| result.frames.received.to_string());
    row("received per second", |result| Unit::Packets.tell(result.rates.received_frames));
    row("received bits", |result| Unit::Bits.tell(result.rates.received_bits));
    row("lost", |result| result.frames.lost.to_string());
    row("lost of those sent", |result| Unit::Percent.tell(result.loss_ratio));
    row("duplicated", |result| result.frames.duplicated.to_string());
    row("reordered", |result| result.frames.reordered.to_string());
    table.counts(&[
        ("reordered by up to", |result| result.frames.farthest),
        ("refused by the generator's own port", |result| result.frames.refused),
        ("lost at a full receive queue", |result| result.frames.missed),
        ("corrupt", |result| result.frames.corrupt),
        ("too late to be told from duplicates", |result| result.frames.stale),
        ("none of this trial's", |result| result.frames.foreign),
        ("lost as the scenario says", |result| result.frames.injected_losses),
        ("doubled as the scenario says", |result| result.frames.injected_duplicates),
    ]);
    table.table()
}

fn latency(loads: &[(&str, &LoadRun)]) -> Section {
    let mut table =
        Table::of_numbers(["", "frames", "min", "mean", "p50", "p90", "p99", "p99.9", "p99.99", "max"]);
    for (name, run) in loads {
        for (what, times) in [("latency", &run.result.latency), ("sent late", &run.result.late)] {
            table.row(distribution(of_run(loads.len(), name, what), times));
        }
    }
    let text = "From the intended send time to arrival; \"sent late\" is the generator's own part of it.";
    let mut blocks = vec![Block::Text(text.to_owned())];
    blocks.extend(by_load(loads).iter().map(|(_, loads)| Block::Chart(curves(loads))));
    blocks.push(Block::Table(table));
    Section::new("Latency", blocks)
}

fn curves(loads: &[(&str, &LoadRun)]) -> Chart {
    let mut series = Vec::new();
    for (name, run) in loads {
        series.push(Series::line(of_run(loads.len(), name, "latency"), percentile_curve(&run.latency)));
        // What the generator adds is drawn where there is one.
        if loads.len() == 1 {
            series.push(Series::line("sent late", percentile_curve(&run.late)));
        }
    }
    Chart {
        title: titled("Latency by percentile", loads),
        x: Axis::percentiles(),
        y: Axis::log("latency", Unit::Nanos),
        series,
    }
}

/// What a curve or a row of a run is called: with the run's name, where there are several.
pub(super) fn of_run(runs: usize, run: &str, what: &str) -> String {
    if runs > 1 { format!("{run}, {what}") } else { what.to_owned() }
}

/// A row that says how times are distributed.
pub(super) fn distribution(name: String, times: &Percentiles) -> Vec<String> {
    let Percentiles { count, min, mean, p50, p90, p99, p999, p9999, max } = *times;
    let [min, p50, p90, p99, p999, p9999, max] =
        [min, p50, p90, p99, p999, p9999, max].map(|time| time as f64);
    let cells = [min, mean, p50, p90, p99, p999, p9999, max];
    let time = |time| if count == 0 { "-".to_owned() } else { Unit::Nanos.tell(time) };
    [name, count.to_string()].into_iter().chain(cells.map(time)).collect()
}
