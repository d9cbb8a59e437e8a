//! Compares runs figure by figure, and judges which differences are more than noise.

use pnat_dataplane::control::report::Report;
use pnat_dataplane::page::{Block, Section, Table, Unit};

use super::{Run, is_same_load, load, ndr, tcp, trials};

/// One number that a run is judged by.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    pub name: String,
    pub unit: Unit,
    pub is_better_higher: bool,
    pub value: f64,
    /// Its standard deviation as far as the run itself shows it, in the figure's unit; `None`: it does not.
    pub noise: Option<f64>,
}

impl Figure {
    pub fn new(
        name: impl Into<String>,
        unit: Unit,
        is_better_higher: bool,
        value: f64,
        noise: Option<f64>,
    ) -> Self {
        Self { name: name.into(), unit, is_better_higher, value, noise }
    }
}

/// One figure of two runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    pub base: Figure,
    pub value: f64,
    /// Of the base's value; `None` where that is zero.
    pub difference: Option<f64>,
    /// What a difference must exceed, in the figure's unit; `None`: nothing is known of its noise.
    pub threshold: Option<f64>,
    pub judgement: Judgement,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    Better,
    Worse,
    WithinNoise,
    NotJudged,
}

/// Beyond noise is what exceeds so many standard deviations of both runs together.
const DEVIATIONS: f64 = 2.0;

const METHOD: &str = "A difference is beyond noise where it exceeds twice the standard deviation of both runs together. \
    Deviations are those of a run's one-second intervals: of rates and losses by their own, of mean, p50 and p90 by the \
    intervals' mean latencies, of p99 and beyond by their longest, each in proportion. For the rate that a search has found \
    it is half the step to the next higher rate.";

/// Compares figures of the same name.
pub fn compare(base: &[Figure], other: &[Figure]) -> Vec<Comparison> {
    let pairs =
        base.iter().filter_map(|base| Some((base, other.iter().find(|other| other.name == base.name)?)));
    pairs.map(|(base, other)| Comparison::new(base.clone(), other)).collect()
}

impl Comparison {
    fn new(base: Figure, other: &Figure) -> Self {
        let by = other.value - base.value;
        let threshold = base.noise.zip(other.noise).map(|(one, two)| DEVIATIONS * one.hypot(two));
        let judgement = match threshold {
            None => Judgement::NotJudged,
            Some(threshold) if by.abs() <= threshold => Judgement::WithinNoise,
            Some(_) if (by > 0.0) == base.is_better_higher => Judgement::Better,
            Some(_) => Judgement::Worse,
        };
        let difference = (base.value != 0.0).then(|| by / base.value);
        Self { value: other.value, difference, threshold, judgement, base }
    }
}

impl Judgement {
    const fn told(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::WithinNoise => "within noise",
            Self::NotJudged => "not judged",
        }
    }
}

/// Two runs, one against the other; of more, those of the same load, each against the first of them.
pub(super) fn section(runs: &[Run]) -> Option<Section> {
    let mut blocks = Vec::new();
    for (number, other) in runs.iter().enumerate() {
        let is_base = |base: &&Run| runs.len() == 2 || has_load_of(base, other);
        let Some(base) = runs[..number].iter().find(is_base) else { continue };
        let comparisons = compare(&figures(base), &figures(other));
        if !comparisons.is_empty() {
            blocks.push(Block::Heading(format!("{} against {}", other.name, base.name)));
            blocks.push(Block::Table(table(&base.name, &other.name, &comparisons)));
        } else if runs.len() == 2 {
            blocks.push(Block::Text("They have no figure in common.".to_owned()));
        }
    }
    if blocks.is_empty() {
        return None;
    }
    blocks.push(Block::Text(METHOD.to_owned()));
    Some(Section::new("Comparison", blocks))
}

fn has_load_of(one: &Run, other: &Run) -> bool {
    one.provenances().iter().any(|load| other.provenances().iter().any(|other| is_same_load(load, other)))
}

fn figures(run: &Run) -> Vec<Figure> {
    let load = run.load.iter().flat_map(load::figures);
    let trials = run.trials.iter().flat_map(trials::figures);
    let connections = run.tcp.iter().flat_map(tcp::figures);
    let found = run.ndr.iter().flat_map(ndr::figures);
    load.chain(connections).chain(found).chain(trials).chain(run.gateway.iter().flat_map(gateway)).collect()
}

/// What a gateway measures in itself says nothing of its own noise.
fn gateway(report: &Report) -> Vec<Figure> {
    let figure =
        |name: String, unit, value| Figure { name, unit, is_better_higher: false, value, noise: None };
    let stages = report.stages.iter().filter(|stage| stage.count > 0);
    let means = stages.map(|stage| figure(format!("{} mean", stage.stage), Unit::Nanos, stage.mean));
    let cycles = report.cores.iter().filter_map(|core| {
        let name = format!("{} {} per packet", core.kind, core.name);
        Some(figure(name, Unit::Cycles, core.cycles_per_packet?))
    });
    let memory = report
        .memory
        .map(|memory| figure("memory at most".to_owned(), Unit::Bytes, memory.resident_peak as f64));
    means.chain(cycles).chain(memory).collect()
}

fn table(base: &str, other: &str, comparisons: &[Comparison]) -> Table {
    let mut table = Table::of_numbers(["figure", "difference", "judged", base, other, "noise"]);
    for Comparison { base, value, difference, threshold, judgement } in comparisons {
        let signed = |difference: &f64| format!("{:+.2} %", difference * 100.0);
        let threshold = threshold.map(|threshold| format!("± {}", base.unit.tell(threshold)));
        table.row([
            base.name.clone(),
            difference.as_ref().map_or_else(|| "-".to_owned(), signed),
            judgement.told().to_owned(),
            base.unit.tell(base.value),
            base.unit.tell(*value),
            threshold.unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    table
}

pub(super) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// The standard deviation of a sample; `None`: too few values.
pub(super) fn deviation(values: &[f64]) -> Option<f64> {
    const LEAST: usize = 3;
    if values.len() < LEAST {
        return None;
    }
    let mean = mean(values);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    Some((squares / (values.len() - 1) as f64).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(name: &str, is_better_higher: bool, value: f64, noise: Option<f64>) -> Figure {
        Figure { name: name.to_owned(), unit: Unit::Packets, is_better_higher, value, noise }
    }

    #[test]
    fn a_difference_is_judged_by_the_noise_of_both_runs_and_by_what_is_better() {
        // The deviations 3 and 4 make 5 together: 10 is within.
        let judged = |is_better_higher, value, noise| {
            let base = figure("rate", is_better_higher, 100.0, Some(3.0));
            let comparison = compare(&[base], &[figure("rate", is_better_higher, value, noise)]).remove(0);
            (comparison.difference, comparison.threshold, comparison.judgement)
        };
        assert_eq!(judged(true, 110.0, Some(4.0)), (Some(0.1), Some(10.0), Judgement::WithinNoise));
        assert_eq!(judged(true, 111.0, Some(4.0)).2, Judgement::Better);
        assert_eq!(judged(true, 89.0, Some(4.0)).2, Judgement::Worse);
        assert_eq!(judged(false, 89.0, Some(4.0)).2, Judgement::Better);
        assert_eq!(judged(true, 200.0, None), (Some(1.0), None, Judgement::NotJudged));
    }

    #[test]
    fn a_difference_from_nothing_has_no_percentage_but_is_judged() {
        let comparison =
            compare(&[figure("lost", false, 0.0, Some(0.0))], &[figure("lost", false, 0.01, Some(0.0))]);
        assert_eq!((comparison[0].difference, comparison[0].judgement), (None, Judgement::Worse));
    }

    #[test]
    fn figures_that_only_one_run_has_are_not_compared() {
        let (one, two) = (figure("a", true, 1.0, None), figure("b", true, 1.0, None));
        let compared = compare(&[one.clone(), two.clone()], std::slice::from_ref(&two));
        assert_eq!(compared.iter().map(|compared| &compared.base).collect::<Vec<_>>(), [&two]);
        assert_eq!(compare(&[one], &[two]), []);
    }

    #[test]
    fn the_deviation_is_a_samples() {
        assert_eq!(deviation(&[2.0, 4.0, 6.0]), Some(2.0));
        assert_eq!(deviation(&[2.0, 4.0]), None);
    }
}
