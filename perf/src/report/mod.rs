//! Reports: what runs left in their directories, read back and told on one page.
//!
//! A run's directory holds whichever of these its commands have written: `result.json` with `latency.hlog` or `tcp.json`
//! with `tcp.hlog` (`load`), `ndr.json` (`ndr`), `trials.json` (methods of several trials), `gateway.json` (what the gateway
//! says of itself, by `pnat report --json`). Each kind of result has a module here that makes its sections, and the
//! [`Figure`]s that two runs are compared by.

use std::path::{Path, PathBuf};

use anyhow::Result;
use pnat_dataplane::page::{Block, Page, Section};

use crate::load::result::{Provenance, write_all};

mod columns;
mod compare;
mod load;
mod ndr;
mod run;
mod tcp;
mod trials;
#[cfg(test)]
mod tests;

pub use compare::{Comparison, Figure, Judgement, compare};
pub use run::{LoadRun, Run, TcpRun, TrialsRun, read};

/// Makes one page of all runs. Two are compared; of more, those of the same load, with the first of them.
pub fn page(runs: &[Run]) -> Result<Page> {
    let mut sections = vec![what_ran(runs)];
    sections.extend(compare::section(runs));
    sections.extend(load::sections(runs));
    sections.extend(tcp::section(runs));
    sections.extend(ndr::section(runs));
    sections.extend(trials::sections(runs));
    for run in runs {
        let Some(gateway) = &run.gateway else { continue };
        let of = if runs.len() > 1 { format!(" of {}", run.name) } else { String::new() };
        let told = gateway.sections()?.into_iter();
        sections.extend(told.map(|section| Section { title: format!("{}{of}", section.title), ..section }));
    }
    sections.extend(scenarios(runs));
    Ok(Page { title: title(runs), lead: lead(runs), sections })
}

fn title(runs: &[Run]) -> String {
    let names: Vec<&str> = runs.iter().map(|run| run.name.as_str()).collect();
    match names[..] {
        [first, _, _, _, ..] => format!("PNAT: {first} and {} other runs", names.len() - 1),
        _ => format!("PNAT: {}", names.join(", ")),
    }
}

/// Writes `report.html` and `report.md` into `dir`; answers the files written.
pub fn write(page: &Page, dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let files = vec![
        (dir.join("report.html"), page.html().into_bytes()),
        (dir.join("report.md"), page.markdown().into_bytes()),
    ];
    write_all(dir, files)
}

fn lead(runs: &[Run]) -> String {
    let is_debug = |run: &Run| run.provenances().iter().any(|provenance| provenance.build != "release");
    let debug: Vec<&str> = runs.iter().filter(|run| is_debug(run)).map(|run| run.name.as_str()).collect();
    let warning = match debug.as_slice() {
        [] => String::new(),
        debug => format!(
            " Rates and times mean nothing where the build is no release build: {}.",
            debug.join(", ")
        ),
    };
    let runs = if runs.len() == 1 { "One run".to_owned() } else { format!("{} runs", runs.len()) };
    format!("{runs}. Frames and bits count frame check sequences, and nothing between frames.{warning}")
}

/// Everything that is needed to do it again.
fn what_ran(runs: &[Run]) -> Section {
    let mut blocks = Vec::new();
    for run in runs {
        blocks.push(Block::Heading(run.name.clone()));
        for provenance in run.provenances() {
            let Provenance { version, build, machine, scenario, scenario_file, .. } = provenance;
            blocks.push(Block::Text(format!(
                "{scenario} ({}), started {} by pnat-perf {version}, {build} build, on {} with {} CPUs, kernel {}.",
                scenario_file.display(),
                humantime::format_rfc3339_seconds(provenance.started()),
                machine.cpu,
                machine.cpus,
                machine.kernel,
            )));
            blocks.push(Block::Verbatim(provenance.command.join(" ")));
        }
        if let Some(gateway) = run.gateway.as_ref().filter(|_| run.provenances().is_empty()) {
            blocks.push(Block::Text(format!("A gateway by itself, pnat {}.", gateway.version)));
        }
    }
    Section::new("What ran", blocks)
}

/// Each scenario's text once.
fn scenarios(runs: &[Run]) -> Option<Section> {
    let mut told: Vec<&Provenance> = Vec::new();
    for provenance in runs.iter().flat_map(Run::provenances) {
        if !told.iter().any(|earlier| earlier.scenario_text == provenance.scenario_text) {
            told.push(provenance);
        }
    }
    let blocks = told.into_iter().flat_map(|provenance| {
        [Block::Heading(provenance.scenario.clone()), Block::Verbatim(provenance.scenario_text.clone())]
    });
    let blocks: Vec<Block> = blocks.collect();
    (!blocks.is_empty()).then(|| Section::new("Scenarios, word for word", blocks))
}

/// The runs that have such a result, each with its name.
fn with<'a, T>(runs: &'a [Run], of: impl Fn(&'a Run) -> Option<&'a T>) -> Vec<(&'a str, &'a T)> {
    runs.iter().filter_map(|run| Some((run.name.as_str(), of(run)?))).collect()
}

/// Results of the same load, in the order of their first runs.
fn by_scenario<'a, T>(
    results: &[(&'a str, &'a T)],
    provenance: impl Fn(&'a T) -> &'a Provenance,
) -> Vec<(&'a str, Vec<(&'a str, &'a T)>)> {
    let mut groups: Vec<(&Provenance, Vec<(&str, &T)>)> = Vec::new();
    for (name, result) in results {
        let load = provenance(result);
        match groups.iter_mut().find(|(other, _)| is_same_load(load, other)) {
            Some((_, group)) => group.push((name, result)),
            None => groups.push((load, vec![(name, result)])),
        }
    }
    groups.into_iter().map(|(load, group)| (load.scenario.as_str(), group)).collect()
}

fn is_same_load(one: &Provenance, other: &Provenance) -> bool {
    (&one.scenario, &one.scenario_text) == (&other.scenario, &other.scenario_text)
}
