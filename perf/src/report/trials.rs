//! What the methods of several trials have shown: throughput by size, latency under load, recovery, soak.

use pnat_dataplane::control::percentile_curve;
use pnat_dataplane::page::{Axis, Block, Chart, Section, Series, Table, Unit};

use super::compare::{Figure, deviation};
use super::load::of_run;
use super::{Run, TrialsRun, with};
use crate::load::result::Percentiles;
use crate::method::{AtLoad, LatencyUnderLoad, Method, Recovery, RecoveryTrial, SizeRates, Soak, Throughput};
use crate::ndr::FoundRate;

pub(super) fn sections(runs: &[Run]) -> Vec<Section> {
    let runs = with(runs, |run| run.trials.as_ref());
    let sections = [
        throughput(&such(&runs, |method| match method {
            Method::Throughput(throughput) => Some(throughput),
            _ => None,
        })),
        latency(&runs),
        recovery(&such(&runs, |method| match method {
            Method::Recovery(recovery) => Some(recovery),
            _ => None,
        })),
        soak(&such(&runs, |method| match method {
            Method::Soak(soak) => Some(soak),
            _ => None,
        })),
    ];
    sections.into_iter().flatten().collect()
}

/// The runs by one method.
fn such<'a, T>(
    runs: &[(&'a str, &'a TrialsRun)],
    of: impl Fn(&'a Method) -> Option<&'a T>,
) -> Vec<(&'a str, &'a T)> {
    runs.iter().filter_map(|(name, run)| Some((*name, of(&run.result.method)?))).collect()
}

/// What runs are compared by.
pub(super) fn figures(run: &TrialsRun) -> Vec<Figure> {
    let figure = |name: String, unit, is_better_higher, value, noise| Figure {
        name,
        unit,
        is_better_higher,
        value,
        noise,
    };
    match &run.result.method {
        Method::Throughput(Throughput { sizes }) => {
            let found = sizes.iter().flat_map(|size| size.goals.iter().map(move |goal| (&size.size, goal)));
            let found = found.filter_map(|(size, goal)| Some((size, &goal.name, goal.found.as_ref()?)));
            let figures = found.map(|(size, goal, found)| {
                let step = found.too_high.map(|too_high| (too_high - found.frames) / 2.0);
                figure(format!("{goal} of {size} bytes"), Unit::Packets, true, found.frames, step)
            });
            figures.collect()
        }
        Method::Latency(LatencyUnderLoad { loads, .. }) => {
            let figures = loads.iter().flat_map(|AtLoad { percent, latency, .. }| {
                [("p50", latency.p50), ("p99", latency.p99), ("p99.9", latency.p999)].map(
                    |(quantile, time)| {
                        let name = format!("{quantile} at {percent} % of load");
                        figure(name, Unit::Nanos, false, time as f64, None)
                    },
                )
            });
            figures.collect()
        }
        Method::Recovery(Recovery { trials, seconds, .. }) => {
            let nanos = |seconds: f64| seconds * 1e9;
            let each: Vec<f64> = trials.iter().filter_map(|trial| trial.seconds).map(nanos).collect();
            let noise = deviation(&each).filter(|_| each.len() == trials.len());
            let median = seconds.map(nanos);
            median
                .map(|median| figure("recovery".to_owned(), Unit::Nanos, false, median, noise))
                .into_iter()
                .collect()
        }
        Method::Soak(Soak { loss_ratio, .. }) => {
            vec![figure("lost in soak".to_owned(), Unit::Percent, false, *loss_ratio, None)]
        }
    }
}

fn throughput(runs: &[(&str, &Throughput)]) -> Option<Section> {
    if runs.is_empty() {
        return None;
    }
    let mut table =
        Table::of_numbers(["", "bytes", "goal", "frames", "bits", "too high is", "trials", "remark"]);
    table.head[2].is_number = false;
    table.head[7].is_number = false;
    for (name, throughput) in runs {
        for SizeRates { size, goals, trials, is_complete, .. } in &throughput.sizes {
            for goal in goals {
                let mut row = vec![(*name).to_owned(), size.clone(), goal.name.clone()];
                row.extend(match &goal.found {
                    Some(found) => [
                        Unit::Packets.tell(found.frames),
                        Unit::Bits.tell(found.bits),
                        found
                            .too_high
                            .map_or_else(|| "not known".to_owned(), |rate| Unit::Packets.tell(rate)),
                    ],
                    None => ["none", "-", "-"].map(str::to_owned),
                });
                let remark = match &goal.found {
                    None => "even the lowest rate is too high",
                    Some(found) if found.is_the_generators => "the generator could not send more",
                    Some(_) if !is_complete => "not settled: search.most_trials",
                    Some(_) => "",
                };
                row.extend([trials.to_string(), remark.to_owned()]);
                table.row(row);
            }
        }
    }
    type Rate = fn(&FoundRate) -> f64;
    let chart = |title: &str, y: Axis, of: Rate| {
        let series = runs.iter().flat_map(|(name, throughput)| {
            ["NDR", "PDR"]
                .map(|goal| Series::line(of_run(runs.len(), name, goal), by_size(throughput, goal, of)))
        });
        let x = Axis::linear("bytes of a frame, mean", Unit::Count);
        Block::Chart(Chart { title: title.to_owned(), x, y, series: series.collect() })
    };
    let blocks = vec![
        Block::Table(table),
        chart("Frames by frame size", Axis::linear("frames", Unit::Packets), |found| found.frames),
        chart("Bits by frame size", Axis::linear("bits", Unit::Bits), |found| found.bits),
    ];
    Some(Section::new("Highest rates by frame size", blocks))
}

fn by_size(throughput: &Throughput, goal: &str, of: fn(&FoundRate) -> f64) -> Vec<(f64, f64)> {
    let found = throughput.sizes.iter().filter_map(|size| {
        let found = size.goals.iter().find(|told| told.name == goal)?.found.as_ref()?;
        Some((size.bits / 8.0, of(found)))
    });
    let mut points: Vec<(f64, f64)> = found.collect();
    points.sort_by(|one, other| one.0.total_cmp(&other.0));
    points
}

fn latency(runs: &[(&str, &TrialsRun)]) -> Option<Section> {
    let under_load = |method: &Method| matches!(method, Method::Latency(_));
    let runs: Vec<_> = runs.iter().filter(|(_, run)| under_load(&run.result.method)).copied().collect();
    if runs.is_empty() {
        return None;
    }
    let mut table = Table::of_numbers([
        "",
        "load",
        "frames",
        "lost",
        "min",
        "p50",
        "p99",
        "p99.9",
        "max",
        "sent late, p99",
    ]);
    let mut charts = Vec::new();
    let mut notes = Vec::new();
    for (name, run) in &runs {
        let Method::Latency(LatencyUnderLoad { reference, loads }) = &run.result.method else { continue };
        notes.push(format!(
            "{name}: loads are parts of {} ({}).",
            Unit::Packets.tell(reference.frames),
            reference.of
        ));
        for AtLoad { percent, frames, loss_ratio, is_short, latency, late } in loads {
            let times = [latency.min, latency.p50, latency.p99, latency.p999, latency.max, late.p99];
            let cells = [
                (*name).to_owned(),
                format!("{percent} %"),
                Unit::Packets.tell(*frames),
                Unit::Percent.tell(*loss_ratio),
            ];
            table.row(cells.into_iter().chain(times.map(|time| Unit::Nanos.tell(time as f64))));
            if *is_short {
                notes.push(format!("{name}: the generator fell behind at {percent} %."));
            }
        }
        charts.push(Block::Chart(curves(name, run)));
    }
    charts.push(Block::Chart(by_load(&runs)));
    let notes = notes.into_iter().map(Block::Text);
    let blocks = notes.chain([Block::Table(table)]).chain(charts);
    Some(Section::new("Latency under load", blocks.collect()))
}

/// The distribution at each load, of which the run has kept one.
fn curves(name: &str, run: &TrialsRun) -> Chart {
    let curve =
        |(percent, latency): &(u32, _)| Series::line(format!("at {percent} %"), percentile_curve(latency));
    Chart {
        title: format!("Latency by percentile and load: {name}"),
        x: Axis::percentiles(),
        y: Axis::log("latency", Unit::Nanos),
        series: run.at_loads.iter().map(curve).collect(),
    }
}

fn by_load(runs: &[(&str, &TrialsRun)]) -> Chart {
    type Time = fn(&Percentiles) -> u64;
    let times: [(&str, Time); 3] =
        [("p50", |latency| latency.p50), ("p99", |latency| latency.p99), ("p99.9", |latency| latency.p999)];
    let series = runs.iter().flat_map(|(name, run)| {
        let loads = match &run.result.method {
            Method::Latency(latency) => latency.loads.as_slice(),
            _ => &[],
        };
        times.map(|(quantile, of)| {
            let points = loads.iter().map(|load| (f64::from(load.percent) / 100.0, of(&load.latency) as f64));
            Series::line(of_run(runs.len(), name, quantile), points.collect())
        })
    });
    Chart {
        title: "Latency by load".to_owned(),
        x: Axis::linear("load", Unit::Percent),
        y: Axis::log("latency", Unit::Nanos),
        series: series.collect(),
    }
}

fn recovery(runs: &[(&str, &Recovery)]) -> Option<Section> {
    if runs.is_empty() {
        return None;
    }
    let mut blocks = Vec::new();
    let mut table = Table::of_numbers(["", "trial", "sent", "received", "recovered in", "remark"]);
    table.head[5].is_number = false;
    let told = |seconds: Option<f64>| {
        seconds.map_or_else(|| "not recovered".to_owned(), |seconds| Unit::Nanos.tell(seconds * 1e9))
    };
    for (name, Recovery { reference, overload, trials, seconds }) in runs {
        blocks.push(Block::Text(format!(
            "{name}: {} for {}, then {}: more and less than the {} ({}) that it bears. From the fall of the rate, the last \
             frame that was lost was sent after {} (median).",
            Unit::Packets.tell(overload.frames),
            Unit::Seconds.tell(overload.seconds),
            Unit::Packets.tell(overload.frames_after),
            Unit::Packets.tell(reference.frames),
            reference.of,
            told(*seconds),
        )));
        for (RecoveryTrial { sent, received, seconds, is_short }, number) in trials.iter().zip(1..) {
            let remark = if *is_short { "the generator fell behind" } else { "" };
            let cells = [
                number.to_string(),
                sent.to_string(),
                received.to_string(),
                told(*seconds),
                remark.to_owned(),
            ];
            table.row(std::iter::once((*name).to_owned()).chain(cells));
        }
    }
    blocks.push(Block::Table(table));
    Some(Section::new("Recovery after overload", blocks))
}

fn soak(runs: &[(&str, &Soak)]) -> Option<Section> {
    if runs.is_empty() {
        return None;
    }
    let mut table =
        Table::of_numbers(["", "lasted", "sent", "lost", "of those sent", "most missing in a second", "at"]);
    let mut memory = Table::of_numbers(["", "process", "before", "after", "growth"]);
    memory.head[1].is_number = false;
    for (name, Soak { seconds, sent, lost, loss_ratio, worst, processes }) in runs {
        table.row([
            (*name).to_owned(),
            Unit::Seconds.tell(*seconds),
            sent.to_string(),
            lost.to_string(),
            Unit::Percent.tell(*loss_ratio),
            worst.map_or_else(|| "-".to_owned(), |second| second.missing.to_string()),
            worst.map_or_else(|| "-".to_owned(), |second| Unit::Seconds.tell(second.end)),
        ]);
        for process in processes {
            let (before, after) = (process.before as f64, process.after as f64);
            memory.row([
                (*name).to_owned(),
                format!("{} ({})", process.name, process.pid),
                Unit::Bytes.tell(before),
                Unit::Bytes.tell(after),
                format!("{:+.2} %", (after / before.max(1.0) - 1.0) * 100.0),
            ]);
        }
    }
    let mut blocks = vec![Block::Table(table)];
    if !memory.rows.is_empty() {
        blocks.extend([Block::Heading("Memory, huge pages included".to_owned()), Block::Table(memory)]);
    }
    Some(Section::new("Soak", blocks))
}
