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
use crate::method::{Method, TrialsResult};
use crate::ndr::NdrResult;

/// Files that a report is made of.
const FILES: [&str; 5] = ["result.json", "tcp.json", "ndr.json", "trials.json", "gateway.json"];

/// What one directory holds.
#[derive(Clone, Debug)]
pub struct Run {
    /// The directory's name, with those above it where others have the same.
    pub name: String,
    pub load: Option<LoadRun>,
    pub tcp: Option<TcpRun>,
    pub ndr: Option<NdrResult>,
    pub trials: Option<TrialsRun>,
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

/// `trials.json`, and where it tells latency under load, the distributions below it, in nanoseconds by percent of the load.
#[derive(Clone, Debug)]
pub struct TrialsRun {
    pub result: TrialsResult,
    pub at_loads: Vec<(u32, Histogram<u64>)>,
}

/// Reads runs from their directories. Whatever is missing or damaged is an error that names the file.
pub fn read(dirs: &[PathBuf]) -> Result<Vec<Run>> {
    // `.` and `..` have names too.
    let named = |dir: &PathBuf| dir.canonicalize().with_context(|| dir.display().to_string());
    let paths = dirs.iter().map(named).collect::<Result<Vec<_>>>()?;
    let names = names(&paths);
    paths.iter().zip(names).map(|(path, name)| Run::read(path, name)).collect()
}

/// Each directory's name, with as many of those above it as tell it from the others.
fn names(paths: &[PathBuf]) -> Vec<String> {
    let end = |path: &Path, len: usize| {
        let parts: Vec<_> = path.iter().collect();
        parts[parts.len().saturating_sub(len)..].iter().collect::<PathBuf>()
    };
    let depth = |path: &PathBuf| path.iter().count().max(1);
    let shortest = |path: &PathBuf| {
        let is_alone =
            |len: &usize| paths.iter().filter(|other| end(other, *len) == end(path, *len)).count() == 1;
        end(path, (1..=depth(path)).find(is_alone).unwrap_or(1))
    };
    paths.iter().map(|path| shortest(path).display().to_string()).collect()
}

impl Run {
    fn read(dir: &Path, name: String) -> Result<Self> {
        let result = json::<LoadResult>(&dir.join("result.json"))?;
        let connections = json::<TcpResult>(&dir.join("tcp.json"))?;
        let trials = json::<TrialsResult>(&dir.join("trials.json"))?;
        let run = Self {
            name,
            load: result.map(|result| LoadRun::read(result, dir)).transpose()?,
            tcp: connections.map(|result| TcpRun::read(result, dir)).transpose()?,
            ndr: json(&dir.join("ndr.json"))?,
            trials: trials.map(|result| TrialsRun::read(result, dir)).transpose()?,
            gateway: json(&dir.join("gateway.json"))?,
        };
        if run.provenances().is_empty() && run.gateway.is_none() {
            bail!("{}: nothing to report, there is none of {}", dir.display(), FILES.join(", "));
        }
        Ok(run)
    }

    /// Of its results, each once.
    pub fn provenances(&self) -> Vec<&Provenance> {
        let results = [
            self.load.as_ref().map(|load| &load.result.provenance),
            self.tcp.as_ref().map(|tcp| &tcp.result.provenance),
            self.ndr.as_ref().map(|ndr| &ndr.provenance),
            self.trials.as_ref().map(|trials| &trials.result.provenance),
        ];
        let mut provenances: Vec<_> = results.into_iter().flatten().collect();
        provenances.dedup();
        provenances
    }
}

impl LoadRun {
    fn read(result: LoadResult, dir: &Path) -> Result<Self> {
        let file = dir.join("latency.hlog");
        let tagged = histograms(&file)?;
        let latency = take(tagged.clone(), "latency", &file)?;
        Ok(Self { result, latency, late: take(tagged, "late", &file)? })
    }
}

impl TrialsRun {
    fn read(result: TrialsResult, dir: &Path) -> Result<Self> {
        let loads = match &result.method {
            Method::Latency(latency) => latency.loads.as_slice(),
            _ => &[],
        };
        let at_load = |percent: u32| {
            let file = dir.join(format!("{percent}-percent/latency.hlog"));
            Ok((percent, take(histograms(&file)?, "latency", &file)?))
        };
        let at_loads = loads.iter().map(|load| at_load(load.percent)).collect::<Result<Vec<_>>>()?;
        Ok(Self { result, at_loads })
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

fn take(tagged: Vec<(String, Histogram<u64>)>, tag: &str, file: &Path) -> Result<Histogram<u64>> {
    let found = tagged.into_iter().find(|(told, _)| told == tag);
    let (_, histogram) =
        found.with_context(|| format!("{}: no histogram is tagged {tag}", file.display()))?;
    Ok(histogram)
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
