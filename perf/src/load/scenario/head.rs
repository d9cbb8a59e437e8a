//! What scenarios of both kinds begin with: which kind it is, its name and its times.

use std::path::Path;

use pnat_shared::config::{ConfigError, Fault, Findings};
use pnat_shared::time::Duration;
use toml::Spanned;

use super::LoadKind;
use super::raw::RawKind;

/// Longest trial.
pub(super) const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// The keys as they are written. Either kind's file names them itself: what is flattened loses its place in the file.
#[derive(Debug)]
pub(super) struct RawHead<'a> {
    pub name: Option<&'a Spanned<String>>,
    pub duration: Option<&'a Spanned<String>>,
    pub warm_up: Option<&'a Spanned<String>>,
    pub drain: Option<&'a Spanned<String>>,
}

/// What they mean.
#[derive(Debug)]
pub(super) struct Head {
    pub name: String,
    pub duration: Duration,
    pub warm_up: Duration,
    pub drain: Duration,
}

impl RawHead<'_> {
    /// A scenario without a name has its file's; `drain` is at most the first of `drains`, the second unless it is said.
    pub(super) fn resolve(
        self,
        file: &Path,
        drains: (Duration, Duration),
        findings: &mut Findings<'_>,
    ) -> Head {
        let name = match self.name {
            Some(name) => {
                findings.name(name, "name");
                name.get_ref().clone()
            }
            None => file.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        };
        let shortest = Duration::from_millis(1);
        let (longest_drain, drain) = drains;
        Head {
            name,
            duration: findings.duration_or(
                self.duration,
                "duration",
                shortest..=LONGEST,
                Duration::from_secs(10),
            ),
            warm_up: findings.duration_or_off(self.warm_up, "warm_up", shortest..=LONGEST, Duration::ZERO),
            drain: findings.duration_or(self.drain, "drain", shortest..=longest_drain, drain),
        }
    }
}

/// Which kind of load the file describes; where only one kind will do, the other is a fault.
pub(super) fn kind(file: &Path, text: &str, wanted: Option<LoadKind>) -> Result<LoadKind, ConfigError> {
    let (raw, mut findings): (RawKind, _) = Findings::read(file, text)?;
    let words = [("frames", LoadKind::Frames), ("tcp", LoadKind::Tcp)];
    let kind = findings.choice_or(raw.kind.as_ref(), "kind", &words, LoadKind::Frames);
    let Some(wanted) = wanted.filter(|wanted| *wanted != kind) else { return findings.conclude(kind) };
    match (&raw.kind, wanted) {
        (Some(place), LoadKind::Frames) => {
            findings.fault(place, "kind", Fault::OnlyWith("scenarios of frames can be used here"));
        }
        (Some(place), LoadKind::Tcp) => {
            findings.fault(place, "kind", Fault::OnlyWith("scenarios of connections can be used here"));
        }
        (None, _) => findings.absent("kind", "\"tcp\", for only scenarios of connections can be used here"),
    }
    findings.conclude(kind)
}
