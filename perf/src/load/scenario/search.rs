//! How rates are searched.

use core::ops::RangeInclusive;

use pnat_shared::config::Findings;
use pnat_shared::time::Duration;
use toml::Spanned;

use super::head::LONGEST;
use super::raw::RawSearch;
use super::units::parse_share;
use crate::ndr::Goals;

/// How rates are searched, up to `rate` unless the file says otherwise; its rates are written as `parse` reads them.
pub(super) fn search(
    raw: &RawSearch,
    rate: f64,
    (rates, parse): (&str, impl Fn(&str) -> Option<f64>),
    findings: &mut Findings<'_>,
) -> Goals {
    let mut limit =
        |place: Option<&Spanned<String>>, key| findings.parsed(place?, key, rates, |text| parse(text));
    let highest = limit(raw.highest.as_ref(), "search.highest").unwrap_or(rate);
    let lowest = limit(raw.lowest.as_ref(), "search.lowest");
    if let (Some(place), true) = (&raw.lowest, lowest.is_some_and(|lowest| lowest >= highest)) {
        let allowed = "a rate below search.highest, which is the load's rate unless given";
        findings.not_allowed(place, "search.lowest", place.get_ref(), allowed);
    }
    let mut share = |place: Option<&Spanned<String>>, key, allowed, limits: RangeInclusive<f64>, default| {
        let parse = |text: &str| parse_share(text).filter(|share| limits.contains(share));
        place.and_then(|place| findings.parsed(place, key, allowed, parse)).unwrap_or(default)
    };
    let partial_loss = share(
        raw.partial_loss.as_ref(),
        "search.partial_loss",
        "a share as in \"0.5 %\", from 0 to 50 %",
        0.0..=0.5,
        0.005,
    );
    let width = share(
        raw.width.as_ref(),
        "search.width",
        "a share as in \"0.5 %\", from 0.1 to 50 %",
        0.001..=0.5,
        0.005,
    );
    let second = Duration::from_secs(1);
    let limits = Duration::from_millis(1)..=LONGEST;
    Goals {
        highest,
        lowest: lowest.unwrap_or(highest / 1000.0),
        partial_loss,
        width,
        trial: findings.duration_or(raw.trial.as_ref(), "search.trial", limits, second),
        trials: findings.integer_or(raw.trials.as_ref(), "search.trials", 1..=1_001, 21),
        most_trials: findings.integer_or(raw.most_trials.as_ref(), "search.most_trials", 1..=100_000, 600),
    }
}
