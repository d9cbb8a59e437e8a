//! A gateway's report as sections of a page.

use hdrhistogram::Histogram;
use pnat_shared::stats::Stage;

use super::answer::Reason;
use super::report::{Report, ReportError};
use crate::page::{Axis, Bar, Bars, Block, Chart, Section, Series, Table, Unit};

/// Points of a percentile curve for each halving of the distance to 100 %.
const TICKS: u32 = 5;

impl Report {
    /// What the gateway has measured since it started: latency by stage, cores, memory, drops, ends of flows, counters.
    pub fn sections(&self) -> Result<Vec<Section>, ReportError> {
        Ok(vec![self.latency()?, self.load(), self.reasons(), self.counters()])
    }

    fn latency(&self) -> Result<Section, ReportError> {
        let mut blocks: Vec<Block> =
            self.silent.iter().map(|silent| Block::Text(format!("Not in this report: {silent}."))).collect();
        let mut table = Table::of_numbers(["stage", "count", "mean", "p50", "p90", "p99", "p99.9", "max"]);
        let (mut curves, mut bars) = (Vec::new(), Vec::new());
        for stage in &self.stages {
            if stage.count == 0 {
                table.row([stage.stage.as_str(), "0", "-", "-", "-", "-", "-", "-"]);
                continue;
            }
            let histogram = stage.decode()?;
            let times = [stage.p50, stage.p90, stage.p99, stage.p999, stage.max].map(|time| time as f64);
            let times = std::iter::once(stage.mean).chain(times).map(|time| Unit::Nanos.tell(time));
            table.row([stage.stage.clone(), stage.count.to_string()].into_iter().chain(times));
            let known = Stage::ALL.into_iter().find(|known| known.key() == stage.stage);
            let meaning = known.map_or("", Stage::meaning);
            // A connection's time is no packet's, and would leave no room for theirs.
            if known != Some(Stage::Connect) {
                bars.push(Bar { name: stage.stage.clone(), value: stage.mean, meaning: meaning.to_owned() });
            }
            curves.push(Series::line(&stage.stage, percentile_curve(&histogram)));
        }
        blocks.push(Block::Table(table));
        blocks.push(Block::Bars(Bars {
            title: "Mean time of a packet by stage".to_owned(),
            unit: Unit::Nanos,
            bars,
        }));
        blocks.extend(self.proxied_way().map(Block::Text));
        blocks.push(Block::Chart(Chart {
            title: "Latency by percentile and stage".to_owned(),
            x: Axis::percentiles(),
            y: Axis::log("latency", Unit::Nanos),
            series: curves,
        }));
        Ok(Section::new("Latency by stage", blocks))
    }

    /// The means of the stages that a proxied packet goes through one after the other add up to its way.
    fn proxied_way(&self) -> Option<String> {
        let mean = |stage: Stage| {
            let measured = self.stages.iter().find(|told| told.stage == stage.key() && told.count > 0);
            measured.map(|told| told.mean)
        };
        let way: f64 = Stage::PROXIED.into_iter().map(mean).sum::<Option<f64>>()?;
        let names = Stage::PROXIED.map(Stage::key).join(", ");
        Some(format!(
            "A proxied packet takes {} on average, from port to port: {names}.",
            Unit::Nanos.tell(way)
        ))
    }

    fn load(&self) -> Section {
        let mut table = Table::of_numbers([
            "core",
            "CPU",
            "busy",
            "CPU idle",
            "packets",
            "packets per burst",
            "time per packet",
            "cycles per packet",
        ]);
        for core in &self.cores {
            let each = core.nanoseconds_per_packet.map(|each| Unit::Nanos.tell(each));
            let cycles = core.cycles_per_packet.map(|cycles| format!("{cycles:.0}"));
            table.row([
                format!("{} {}", core.kind, core.name),
                core.cpu.to_string(),
                Unit::Percent.tell(core.busy_share),
                Unit::Percent.tell(core.idle_share),
                core.packets.to_string(),
                format!("{:.1}", core.mean_burst),
                each.unwrap_or_else(|| "-".to_owned()),
                cycles.unwrap_or_else(|| "-".to_owned()),
            ]);
        }
        let busy = self.cores.iter().map(|core| Bar {
            name: format!("{} {}", core.kind, core.name),
            value: core.busy_share,
            meaning: format!("CPU {}", core.cpu),
        });
        let mut blocks = vec![
            Block::Table(table),
            Block::Bars(Bars {
                title: "Busy, of the time since the start".to_owned(),
                unit: Unit::Percent,
                bars: busy.collect(),
            }),
        ];
        if let Some(hz) = self.tsc_hz {
            let text = format!("Cycles are ticks of the time stamp counter, {:.3} GHz.", hz / 1e9);
            blocks.push(Block::Text(text));
        }
        if let Some(memory) = self.memory {
            let mut table = Table::of_numbers(["memory", ""]);
            let bytes = |bytes: u64| Unit::Bytes.tell(bytes as f64);
            table.row(["resident".to_owned(), bytes(memory.resident)]);
            table.row(["resident at most so far".to_owned(), bytes(memory.resident_peak)]);
            if let Some(hugepages) = memory.hugepages {
                table.row(["in huge pages, beside that".to_owned(), bytes(hugepages)]);
            }
            blocks.push(Block::Table(table));
        }
        Section::new("Cores and memory", blocks)
    }

    fn reasons(&self) -> Section {
        let bars = |title: &str, none: &str, reasons: &[Reason]| {
            if reasons.is_empty() {
                return Block::Text(none.to_owned());
            }
            let mut reasons: Vec<&Reason> = reasons.iter().collect();
            reasons.sort_by_key(|reason| std::cmp::Reverse(reason.count));
            let bars = reasons.into_iter().map(|reason| Bar {
                name: reason.reason.clone(),
                value: reason.count as f64,
                meaning: reason.sentence.clone(),
            });
            Block::Bars(Bars { title: title.to_owned(), unit: Unit::Count, bars: bars.collect() })
        };
        let blocks = vec![
            bars("Packets dropped", "No packet was dropped.", &self.drops),
            bars("Flows ended", "No flow has ended.", &self.closes),
        ];
        Section::new("Drops and ends by reason", blocks)
    }

    fn counters(&self) -> Section {
        let blocks = self.totals.iter().flat_map(|(role, counters)| {
            let mut table = Table::of_numbers(["counter", "value"]);
            for (name, value) in counters {
                table.row([name.clone(), value.to_string()]);
            }
            let title = match role.as_str() {
                "worker" => "workers",
                "proxy" => "proxy cores",
                other => other,
            };
            [Block::Heading(format!("All {title}")), Block::Table(table)]
        });
        Section::new("Counters since the start", blocks.collect())
    }
}

/// A distribution of nanoseconds as HdrHistogram's plots have it: 1/(1-quantile), and the value there. The largest value
/// stands where one of as many as there are is.
pub fn percentile_curve(histogram: &Histogram<u64>) -> Vec<(f64, f64)> {
    let last = histogram.len().max(1) as f64;
    let steps = histogram.iter_quantiles(TICKS).map(|step| {
        let inverse = 1.0 / (1.0 - step.quantile_iterated_to());
        (inverse.min(last), step.value_iterated_to() as f64)
    });
    steps.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_begins_at_the_smallest_and_ends_with_the_largest_at_one_of_all() {
        let mut histogram = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3).expect("bounds");
        histogram.record_n(100, 999).expect("in range");
        histogram.record(1_000).expect("in range");
        let curve = percentile_curve(&histogram);
        assert_eq!(curve.first(), Some(&(1.0, 100.0)));
        assert_eq!(curve.last(), Some(&(1_000.0, 1_000.0)));
        assert!(curve.windows(2).all(|two| two[0].0 <= two[1].0 && two[0].1 <= two[1].1), "{curve:?}");
    }

    #[test]
    fn nothing_recorded_is_no_curve() {
        let histogram = Histogram::<u64>::new(3).expect("bounds");
        assert!(percentile_curve(&histogram).iter().all(|point| point.1 == 0.0));
    }
}
