//! Units: how values of a kind are told, and by which multiple an axis counts them.

use crate::control::nanos;

/// What a number counts.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Plain things.
    Count,
    PerSecond,
    /// Packets, or frames, per second.
    Packets,
    /// Bits per second.
    Bits,
    Bytes,
    /// Time, in nanoseconds.
    Nanos,
    /// Time, in seconds.
    Seconds,
    /// Wall-clock time, in seconds since 1970, told in UTC.
    Clock,
    /// From 0 to 1, told in hundredths.
    Percent,
    /// 1/(1-quantile), told as the quantile in hundredths.
    Percentile,
    Cycles,
}

impl Unit {
    /// A value with its unit: `1.234 Mpps`, `830 ns`.
    pub fn tell(self, value: f64) -> String {
        match self {
            Self::Nanos => nanos(value.round().max(0.0) as u64),
            Self::Clock => clock(value, false),
            Self::Percent => format!("{} %", digits(value * 100.0)),
            Self::Percentile => percentile(value),
            Self::Count if value == value.trunc() => format!("{value:.0}"),
            _ => {
                let (multiple, name) = self.multiple(value.abs());
                format!("{} {name}", digits(value / multiple)).trim_end().to_owned()
            }
        }
    }

    /// By what an axis that reaches to `most` divides its values, and how that is called.
    pub(super) fn multiple(self, most: f64) -> (f64, &'static str) {
        let steps: &[(f64, &str)] = match self {
            // Thousands are read as they are.
            Self::Count => &[(1e9, "billion"), (1e6, "million"), (1.0, "")],
            Self::PerSecond => &[(1e6, "million/s"), (1e3, "thousand/s"), (1.0, "/s")],
            Self::Packets => &[(1e6, "Mpps"), (1e3, "kpps"), (1.0, "pps")],
            Self::Bits => &[(1e9, "Gbit/s"), (1e6, "Mbit/s"), (1e3, "kbit/s"), (1.0, "bit/s")],
            Self::Bytes => &[(1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "bytes")],
            Self::Nanos => &[(1e9, "s"), (1e6, "ms"), (1e3, "us"), (1.0, "ns")],
            Self::Seconds => &[(1.0, "s")],
            Self::Clock => &[(1.0, "UTC")],
            Self::Percent => &[(0.01, "%")],
            Self::Percentile => &[(1.0, "%")],
            Self::Cycles => &[(1.0, "cycles")],
        };
        let fitting = steps.iter().find(|(multiple, _)| most >= *multiple);
        *fitting.unwrap_or(&steps[steps.len() - 1])
    }
}

/// Hours and minutes of the day, and seconds where they matter.
pub(super) fn clock(since_1970: f64, with_seconds: bool) -> String {
    let seconds = since_1970.max(0.0) as u64 % (24 * 60 * 60);
    let minutes = format!("{:02}:{:02}", seconds / 3600, seconds / 60 % 60);
    if with_seconds { format!("{minutes}:{:02}", seconds % 60) } else { minutes }
}

/// `99.9` for 1000; as many nines as it has.
fn percentile(inverse: f64) -> String {
    let nines = inverse.log10().round().max(0.0) as usize;
    format!("{:.*}", nines.saturating_sub(2), 100.0 * (1.0 - 1.0 / inverse))
}

/// Four digits, without zeros behind that say nothing.
fn digits(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let before_point = value.abs().log10().floor() as i32 + 1;
    let decimals = usize::try_from(4 - before_point).unwrap_or(0).min(6);
    let told = format!("{value:.decimals$}");
    if told.contains('.') { told.trim_end_matches('0').trim_end_matches('.').to_owned() } else { told }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_told_with_four_digits_and_a_fitting_unit() {
        let told = [
            (Unit::Packets, 1_000_000.0, "1 Mpps"),
            (Unit::Packets, 5_338_721.0, "5.339 Mpps"),
            (Unit::Bits, 512_000_000.0, "512 Mbit/s"),
            (Unit::Bits, 0.0, "0 bit/s"),
            (Unit::Nanos, 23_200.0, "23.2 us"),
            (Unit::Percent, 0.000_05, "0.005 %"),
            (Unit::Percent, 1.0, "100 %"),
            (Unit::Count, 123_456.0, "123456"),
            (Unit::Percentile, 1.0, "0"),
            (Unit::Percentile, 10.0, "90"),
            (Unit::Percentile, 100_000.0, "99.999"),
            (Unit::Clock, 1_700_000_000.0, "22:13"),
            (Unit::Bytes, 2.5e9, "2.5 GB"),
        ];
        for (unit, value, expected) in told {
            assert_eq!(unit.tell(value), expected);
        }
    }
}
