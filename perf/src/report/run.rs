//! Reads what a run has left in its directory.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use pnat_dataplane::control::report::Report;
use serde::de::DeserializeOwned;

use crate::load::result::{LoadResult, Provenance};
use crate::load::tcp::result::TcpResult;
use crate::ndr::NdrResult;

/// Files that a report is made of.
const FILES: [&str; 4] = ["result.json", "tcp.json", "ndr.json", "gateway.json"];

/// What one directory holds.
#[derive(Clone, Debug)]
pub struct Run {
    /// The directory's name, or its path where two have the same name.
    pub name: String,
    pub load: Option<LoadRun>,
    pub tcp: Option<TcpRun>,
    pub ndr: Option<NdrResult>,
    pub gateway: Option<Report>,
}

/// `result.json` and the distributions beside it, in nanoseconds.
#[derive(Clone, Debug)]
pub struct LoadRun {
    pub result: LoadResult,
    pub latency: Histogram<u64>,
    pub late: Histogram<u64>,
}

/// `tcp.json` and the distributions beside it, in nanoseconds, by name.
#[derive(Clone, Debug)]
pub struct TcpRun {
    pub result: TcpResult,
    pub times: Vec<(String, Histogram<u64>)>,
}

/// Reads runs from their directories. Whatever is missing or damaged is an error that names the file.
pub fn read(dirs: &[PathBuf]) -> Result<Vec<Run>> {
    let mut runs = dirs.iter().map(|dir| Run::read(dir)).collect::<Result<Vec<_>>>()?;
    let names: Vec<String> = runs.iter().map(|run| run.name.clone()).collect();
    for (run, dir) in runs.iter_mut().zip(dirs) {
        if names.iter().filter(|name| **name == run.name).count() > 1 {
            run.name = dir.display().to_string();
        }
    }
    Ok(runs)
}

impl Run {
    fn read(dir: &Path) -> Result<Self> {
        // `.` and `..` have a name too.
        let path = dir.canonicalize().with_context(|| dir.display().to_string())?;
        let result = json::<LoadResult>(&path.join("result.json"))?;
        let connections = json::<TcpResult>(&path.join("tcp.json"))?;
        let run = Self {
            name: path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned(),
            load: result.map(|result| LoadRun::read(result, &path)).transpose()?,
            tcp: connections.map(|result| TcpRun::read(result, &path)).transpose()?,
            ndr: json(&path.join("ndr.json"))?,
            gateway: json(&path.join("gateway.json"))?,
        };
        if run.load.is_none() && run.tcp.is_none() && run.ndr.is_none() && run.gateway.is_none() {
            bail!("{}: nothing to report, there is none of {}", dir.display(), FILES.join(", "));
        }
        Ok(run)
    }

    /// Of each result that tells it.
    pub fn provenances(&self) -> impl Iterator<Item = &Provenance> {
        let load = self.load.as_ref().map(|load| &load.result.provenance);
        let tcp = self.tcp.as_ref().map(|tcp| &tcp.result.provenance);
        load.into_iter().chain(tcp).chain(self.ndr.as_ref().map(|ndr| &ndr.provenance))
    }
}

impl LoadRun {
    fn read(result: LoadResult, dir: &Path) -> Result<Self> {
        let file = dir.join("latency.hlog");
        let mut tagged = histograms(&file)?;
        let mut take = |tag: &str| {
            let place = tagged.iter().position(|(told, _)| told == tag);
            let place = place.with_context(|| format!("{}: no histogram is tagged {tag}", file.display()))?;
            Ok::<_, anyhow::Error>(tagged.swap_remove(place).1)
        };
        Ok(Self { result, latency: take("latency")?, late: take("late")? })
    }
}

impl TcpRun {
    fn read(result: TcpResult, dir: &Path) -> Result<Self> {
        Ok(Self { result, times: histograms(&dir.join("tcp.hlog"))? })
    }
}

/// What a file says; `None`: there is no such file.
fn json<T: DeserializeOwned>(file: &Path) -> Result<Option<T>> {
    match fs::read(file) {
        Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| file.display().to_string()).map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| file.display().to_string()),
    }
}

/// The tagged histograms of an interval log.
fn histograms(file: &Path) -> Result<Vec<(String, Histogram<u64>)>> {
    let read = || {
        let log = fs::read(file)?;
        let mut histograms = Vec::new();
        for entry in IntervalLogIterator::new(&log) {
            let entry = entry.map_err(|error| anyhow!("no interval log: {error:?}"))?;
            let LogEntry::Interval(interval) = entry else { continue };
            if let Some(tag) = interval.tag() {
                let encoded = BASE64.decode(interval.encoded_histogram()).context("no base64")?;
                let histogram = Deserializer::new().deserialize(&mut encoded.as_slice());
                let histogram = histogram.map_err(|error| anyhow!("no histogram: {error:?}"))?;
                histograms.push((tag.as_str().to_owned(), histogram));
            }
        }
        Ok::<_, anyhow::Error>(histograms)
    };
    read().with_context(|| file.display().to_string())
}
