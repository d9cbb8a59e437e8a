//! What `ndr` has found, and how it got there.

use pnat_dataplane::page::{Axis, Block, Chart, Section, Series, Table, Unit};

use super::compare::Figure;
use super::{Run, with};
use crate::ndr::trials::Shown;
use crate::ndr::{GoalResult, NdrResult};

pub(super) fn section(runs: &[Run]) -> Option<Section> {
    let searches = with(runs, |run| run.ndr.as_ref());
    if searches.is_empty() {
        return None;
    }
    let mut blocks = vec![Block::Table(found(&searches))];
    for (name, search) in &searches {
        blocks.extend(remarks(name, search).into_iter().map(Block::Text));
    }
    blocks.extend(searches.iter().map(|(name, search)| Block::Chart(course(name, search))));
    Some(Section::new("Highest rates: without loss (NDR), with little loss (PDR)", blocks))
}

/// What runs are compared by.
pub(super) fn figures(search: &NdrResult) -> Vec<Figure> {
    let found = search.goals.iter().filter_map(|goal| Some((goal, goal.found.as_ref()?)));
    let figures = found.map(|(goal, found)| Figure {
        name: goal.name.clone(),
        unit: Unit::Packets,
        is_better_higher: true,
        value: found.frames,
        noise: found.too_high.map(|too_high| (too_high - found.frames) / 2.0),
    });
    figures.collect()
}

fn found(searches: &[(&str, &NdrResult)]) -> Table {
    let mut table = Table::of_numbers([
        "",
        "goal",
        "may be lost",
        "found",
        "bits",
        "too high is",
        "lost, median",
        "judged by trials",
    ]);
    table.head[1].is_number = false;
    for (name, search) in searches {
        for GoalResult { name: goal, allowed_loss, found } in &search.goals {
            let mut row = vec![(*name).to_owned(), goal.clone(), Unit::Percent.tell(*allowed_loss)];
            row.extend(match found {
                Some(found) => [
                    Unit::Packets.tell(found.frames),
                    Unit::Bits.tell(found.bits),
                    found.too_high.map_or_else(|| "not known".to_owned(), |rate| Unit::Packets.tell(rate)),
                    Unit::Percent.tell(found.loss),
                    found.trials.to_string(),
                ],
                None => ["none", "-", "-", "-", "-"].map(str::to_owned),
            });
            table.row(row);
        }
    }
    table
}

/// What must be known before the rates are believed.
fn remarks(name: &str, search: &NdrResult) -> Vec<String> {
    let mut remarks = Vec::new();
    for GoalResult { name: goal, found, .. } in &search.goals {
        match found {
            None => remarks.push(format!("{name}, {goal}: even the lowest rate is too high.")),
            Some(found) if found.is_the_generators => {
                remarks.push(format!(
                    "{name}, {goal}: the generator could not send more, the device may bear it."
                ));
            }
            Some(found) if found.too_high.is_none() => {
                remarks.push(format!("{name}, {goal}: the scenario's highest rate is not too high."));
            }
            Some(_) => {}
        }
    }
    if !search.is_complete {
        remarks.push(format!(
            "{name}: the search ran out of trials (search.most_trials), its rates are not settled."
        ));
    }
    remarks
}

fn course(name: &str, search: &NdrResult) -> Chart {
    let most = search.goals.iter().map(|goal| goal.allowed_loss).fold(0.0, f64::max);
    let trials = |is_such: &dyn Fn(f64) -> bool| {
        let numbered = search.trials.iter().enumerate().filter(|(_, trial)| is_such(trial.loss()));
        numbered.map(|(number, trial)| ((number + 1) as f64, trial.rate)).collect::<Vec<_>>()
    };
    let little = format!("up to {} lost", Unit::Percent.tell(most));
    let mut series = vec![
        Series::dots("nothing lost", trials(&|loss| loss <= 0.0)),
        Series::dots("more lost", trials(&|loss| loss > most)),
        Series::dots(little, trials(&|loss| loss > 0.0 && loss <= most)),
    ];
    for goal in &search.goals {
        if let Some(found) = &goal.found {
            let last = search.trials.len() as f64;
            series.push(Series::line(goal.name.clone(), vec![(1.0, found.frames), (last, found.frames)]));
        }
    }
    let seconds = Unit::Seconds.tell(search.trial_seconds);
    Chart {
        title: format!("The search of {name}: {} trials of {seconds}", search.trials.len()),
        x: Axis::linear("trial", Unit::Count),
        y: Axis::log("frames", Unit::Packets),
        series,
    }
}
