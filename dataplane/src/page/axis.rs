//! Where an axis begins and ends, and where its ticks are.

use super::unit::clock;
use super::{Axis, Scale, Unit};

/// Ticks of a linear axis at most, and decades of a logarithmic one that are told each by itself.
const TICKS: f64 = 6.0;
/// Steps between ticks of wall-clock time, in seconds.
const CLOCK_STEPS: [f64; 12] = [1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 180.0, 300.0, 600.0, 1_800.0];

/// An axis that fits its values. Places along it are the values themselves, or their decimal logarithms.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ruler {
    scale: Scale,
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) ticks: Vec<(f64, String)>,
    /// With the unit that the ticks count in.
    pub(super) title: String,
}

impl Ruler {
    /// For these values; `from_zero`: it shows zero where it is linear. `None`: there is nothing to show.
    pub(super) fn new(axis: &Axis, values: impl Iterator<Item = f64>, from_zero: bool) -> Option<Self> {
        let places = values.filter_map(|value| place(axis.scale, value));
        let (low, high) = places
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), place| (low.min(place), high.max(place)));
        if low > high {
            return None;
        }
        Some(match axis.scale {
            Scale::Linear => Self::linear(axis, if from_zero { low.min(0.0) } else { low }, high, from_zero),
            Scale::Log => Self::log(axis, low, high),
        })
    }

    fn linear(axis: &Axis, low: f64, high: f64, to_tick: bool) -> Self {
        let high = if high > low { high } else { low + 1.0 };
        let (multiple, name) = axis.unit.multiple(high.abs().max(low.abs()));
        let step = if axis.unit == Unit::Clock {
            let most = (high - low) / TICKS;
            CLOCK_STEPS.into_iter().find(|step| *step >= most).unwrap_or(most)
        } else {
            nice((high - low) / multiple / TICKS) * multiple
        };
        // There is no half of a thing.
        let step = if axis.unit == Unit::Count { step.max(1.0) } else { step };
        let high = if to_tick { (high / step).ceil() * step } else { high };
        let decimals = (-(step / multiple).log10().floor()).max(0.0) as usize;
        let numbers = (low / step).ceil() as i64..=(high / step + 1e-9).floor() as i64;
        let ticks = numbers.map(|number| {
            let value = number as f64 * step;
            let label = match axis.unit {
                Unit::Clock => clock(value, step < 60.0),
                _ => format!("{:.decimals$}", value / multiple),
            };
            (value, label)
        });
        let title = if name.is_empty() { axis.title.clone() } else { format!("{}, {name}", axis.title) };
        Self { scale: Scale::Linear, low, high, ticks: ticks.collect(), title }
    }

    fn log(axis: &Axis, low: f64, high: f64) -> Self {
        let is_percentile = axis.unit == Unit::Percentile;
        let low = low.floor();
        // A tail of percentiles ends where it ends: empty space beyond would be half a chart.
        let high = if is_percentile { high.max(low + 1.0) } else { high.ceil().max(low + 1.0) };
        let decades = high.floor() - low;
        // Percentiles of many nines are wide.
        let most = if is_percentile { TICKS - 1.0 } else { TICKS };
        let every = (decades / most).ceil().max(1.0) as usize;
        let within: &[f64] = if decades <= 1.0 && !is_percentile { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let decades = (low as i32..=high.floor() as i32).step_by(every);
        let places =
            decades.flat_map(|decade| within.iter().map(move |part| f64::from(decade) + part.log10()));
        let ticks = places.filter(|place| *place <= high + 1e-9).map(|place| {
            let value = 10_f64.powf(place);
            let told = match axis.unit {
                Unit::Percentile => axis.unit.tell(value),
                _ => round(axis.unit, value),
            };
            (place, told)
        });
        let title = if is_percentile { format!("{}, %", axis.title) } else { axis.title.clone() };
        Self { scale: Scale::Log, low, high, ticks: ticks.collect(), title }
    }

    /// Where a value is; `None`: nowhere.
    pub(super) fn place(&self, value: f64) -> Option<f64> {
        place(self.scale, value)
    }
}

fn place(scale: Scale, value: f64) -> Option<f64> {
    match scale {
        Scale::Linear => value.is_finite().then_some(value),
        Scale::Log => (value.is_finite() && value > 0.0).then(|| value.log10()),
    }
}

/// A round value with its unit, without digits that say nothing.
fn round(unit: Unit, value: f64) -> String {
    let (multiple, name) = unit.multiple(value * 1.000_001);
    format!("{:.0} {name}", value / multiple).trim_end().to_owned()
}

/// The smallest of 1, 2, 5, 10, ... that is not smaller.
fn nice(step: f64) -> f64 {
    let decade = 10_f64.powf(step.log10().floor());
    let fitting = [1.0, 2.0, 5.0].into_iter().find(|part| part * decade >= step * 0.999_999);
    fitting.unwrap_or(10.0) * decade
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis, values: &[f64]) -> (String, Vec<String>) {
        let ruler = Ruler::new(axis, values.iter().copied(), true).expect("values");
        (ruler.title, ruler.ticks.into_iter().map(|(_, label)| label).collect())
    }

    #[test]
    fn a_linear_axis_counts_in_one_multiple_from_zero_to_beyond_the_largest() {
        let (title, ticks) = labels(&Axis::linear("received", Unit::Packets), &[980_000.0, 1_010_000.0]);
        assert_eq!(title, "received, Mpps");
        assert_eq!(ticks, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0", "1.2"]);
    }

    #[test]
    fn a_logarithmic_axis_of_times_has_a_unit_at_each_tick() {
        let (title, ticks) = labels(&Axis::log("latency", Unit::Nanos), &[500.0, 23_000.0]);
        assert_eq!((title.as_str(), ticks.join(" ")), ("latency", "100 ns 1 us 10 us 100 us".to_owned()));
        let (_, ticks) = labels(&Axis::log("latency", Unit::Nanos), &[2_000_000.0, 2_100_000.0]);
        assert_eq!(ticks, ["1 ms", "2 ms", "5 ms", "10 ms"]);
    }

    #[test]
    fn each_nine_has_its_tick() {
        let (title, ticks) = labels(&Axis::percentiles(), &[1.0, 50_000.0]);
        assert_eq!(title, "percentile, %");
        assert_eq!(ticks, ["0", "90", "99", "99.9", "99.99"]);
        let (_, ticks) = labels(&Axis::percentiles(), &[1.0, 5e6]);
        assert_eq!(ticks, ["0", "99", "99.99", "99.9999"]);
    }

    #[test]
    fn a_clock_ticks_at_full_minutes() {
        let axis = Axis::linear("time", Unit::Clock);
        let start = 1_700_000_010.0;
        let ruler = Ruler::new(&axis, [start, start + 900.0].into_iter(), false).expect("values");
        let ticks: Vec<&str> = ruler.ticks.iter().map(|(_, label)| label.as_str()).collect();
        assert_eq!(ruler.title, "time, UTC");
        assert_eq!(ticks, ["22:15", "22:18", "22:21", "22:24", "22:27"]);
    }

    #[test]
    fn values_that_are_all_equal_or_zero_have_an_axis_too() {
        assert_eq!(labels(&Axis::linear("share", Unit::Percent), &[0.0, 0.0]).1.len(), 6);
        assert_eq!(labels(&Axis::linear("trial", Unit::Count), &[0.0, 2.0]).1, ["0", "1", "2"]);
        assert_eq!(Ruler::new(&Axis::log("latency", Unit::Nanos), [0.0, f64::NAN].into_iter(), true), None);
    }
}
