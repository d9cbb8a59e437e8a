//! Answers as text for people: aligned tables, times in fitting units.

use core::fmt::Write as _;
use core::net::SocketAddr;

use super::answer::{Explanation, Flows, Past, PathMtu, Reason, Reloaded, Stats};
use super::columns::{self, FlowColumn};

/// How a column is set.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Left,
    Right,
}

/// Rows as aligned columns, two spaces apart.
pub(super) fn table(columns: &[Column], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let rows: Vec<Vec<String>> = rows.into_iter().collect();
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns.len()).map(|column| width(column).unwrap_or(0)).collect();
    let mut out = String::new();
    for row in &rows {
        let cells = row.iter().zip(columns).zip(&widths).map(|((cell, column), width)| match column {
            Column::Left => format!("{cell:<width$}"),
            Column::Right => format!("{cell:>width$}"),
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// Three digits and a unit: `830 ns`, `1.23 us`, `45.1 ms`.
pub fn nanos(nanos: u64) -> String {
    let units = [(1_000_000_000.0, "s"), (1_000_000.0, "ms"), (1_000.0, "us")];
    let exact = nanos as f64;
    let Some((scale, unit)) = units.into_iter().find(|(scale, _)| exact >= *scale) else {
        return format!("{nanos} ns");
    };
    let value = exact / scale;
    let decimals = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.decimals$} {unit}")
}

/// Up to three digits and the letter of a power of a thousand: `0`, `0.5`, `830`, `1.23k`, `45.1M`.
pub fn short(number: f64) -> String {
    let scales = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    // What would be rounded up to a thousand of one letter is one of the next.
    let Some((scale, letter)) = scales.into_iter().find(|(scale, _)| number >= scale * 0.9995) else {
        let decimals = usize::from(number < 9.95 && number.fract() >= 0.05);
        return format!("{number:.decimals$}");
    };
    let value = number / scale;
    let decimals = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.decimals$}{letter}")
}

pub(super) fn millis(millis: u64) -> String {
    nanos(millis.saturating_mul(1_000_000)).replace("0 ns", "0 s")
}

impl core::fmt::Display for Stats {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let up = humantime::format_duration(std::time::Duration::from_secs(self.uptime_seconds));
        writeln!(
            f,
            "pnat {}, {}, policy generation {}, up {up}",
            self.version, self.config_file, self.generation
        )?;
        for group in &self.groups {
            let cpu = group.cpu.map_or_else(String::new, |cpu| format!(" (CPU {cpu})"));
            let rows =
                group.counters.iter().map(|(name, value)| vec![format!("  {name}"), value.to_string()]);
            write!(
                f,
                "\n{} {}{cpu}\n{}",
                group.kind,
                group.name,
                table(&[Column::Left, Column::Right], rows)
            )?;
        }
        write!(f, "\npackets dropped\n{}", reasons(&self.drops))?;
        write!(f, "\nflows ended\n{}", reasons(&self.closes))
    }
}

fn reasons(reasons: &[Reason]) -> String {
    let occurred = reasons.iter().filter(|reason| reason.count > 0);
    let rows: Vec<_> = occurred
        .map(|reason| vec![format!("  {}", reason.reason), reason.count.to_string(), reason.sentence.clone()])
        .collect();
    if rows.is_empty() {
        return "  none\n".to_owned();
    }
    table(&[Column::Left, Column::Right, Column::Left], rows)
}

impl core::fmt::Display for Flows {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.table(&FlowColumn::USUAL))
    }
}

impl core::fmt::Display for Explanation {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        writeln!(f, "{} {} -> {}", self.protocol, address(self.src), address(self.dst))?;
        let steps = self.steps.iter().enumerate().map(|(index, step)| {
            let answer =
                step.mismatch.as_ref().map_or_else(|| "matches".to_owned(), |key| format!("no: {key}"));
            vec![format!("  rule {index}"), step.rule.clone(), format!("line {}", step.line), answer]
        });
        f.write_str(&table(&[Column::Left; 4], steps))?;
        if self.rule.is_none() {
            writeln!(f, "  no rule matches: default_action decides")?;
        }
        let mut decision = format!("decision: {}", self.action);
        if !self.filters.is_empty() {
            write!(decision, ", filters {}", self.filters.join(", "))?;
        }
        let Some(generation) = self.generation else {
            return writeln!(f, "{decision} (by the file; no gateway runs)");
        };
        writeln!(f, "{decision} (policy generation {generation})")?;
        if self.flows.is_empty() {
            writeln!(f, "no such flow lives")?;
        } else {
            write!(
                f,
                "live, see also pnat flows:\n{}",
                indented(&columns::table_of(&self.flows, &FlowColumn::EXPLAINED))
            )?;
            for flow in &self.flows {
                flow.path_mtus.iter().try_for_each(|leg| writeln!(f, "  {}: {leg} ago", flow.client))?;
            }
        }
        if self.past.is_empty() {
            return writeln!(f, "none is remembered");
        }
        writeln!(f, "past, the latest first:")?;
        self.past.iter().try_for_each(|past| past.fmt(f))
    }
}

/// An address as a question names it: port 0 stands for none.
fn address(address: SocketAddr) -> String {
    if address.port() == 0 { address.ip().to_string() } else { address.to_string() }
}

fn indented(lines: &str) -> String {
    lines.lines().fold(String::new(), |told, line| told + "  " + line + "\n")
}

impl core::fmt::Display for Past {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "  {} ago  {}  {}", millis(self.ago_ms), self.client, self.outcome)?;
        if self.times > 1 {
            write!(f, " {} times in a row", self.times)?;
        }
        if let Some(lived) = self.lived_ms {
            write!(f, " after {}", millis(lived))?;
        }
        write!(f, ": {}, {}\n    ", self.reason, self.sentence)?;
        match (&self.rule, self.line) {
            (Some(rule), Some(line)) => write!(f, "rule {rule}, line {line}")?,
            (Some(rule), None) => write!(f, "{rule}")?,
            (None, _) => f.write_str("default_action")?,
        }
        write!(f, " (policy generation {})", self.generation)?;
        if let Some(verdict) = &self.verdict {
            write!(f, "; filter {verdict}")?;
        }
        if let Some(name) = &self.name {
            write!(f, "; site {name}")?;
        }
        if let Some(leg) = &self.leg {
            write!(f, "; on the {leg}'s leg")?;
        }
        if let Some(target) = self.target {
            write!(f, "; led to {target}")?;
        }
        if let Some(public) = self.public {
            let way = self.proxy.map_or_else(|| "translated".to_owned(), |proxy| format!("by proxy {proxy}"));
            write!(
                f,
                "; {way} as {public}, {} bytes sent, {} received",
                self.first.bytes, self.second.bytes
            )?;
        }
        self.path_mtus.iter().try_for_each(|leg| write!(f, "; {leg} before the end"))?;
        writeln!(f)
    }
}

/// Ends by a time, of which the reader must be told when it was.
impl core::fmt::Display for PathMtu {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let most = self.mtu.map_or_else(|| "not every packet".to_owned(), |mtu| format!("mtu {mtu}"));
        let (packets, were) = if self.packets == 1 { ("packet", "was") } else { ("packets", "were") };
        write!(f, "{most} on the {}'s leg: {}, {}; ", self.leg, self.cause, self.sentence)?;
        write!(f, "{} {packets} {were} too long, found out {}", self.packets, millis(self.age_ms))
    }
}

impl core::fmt::Display for Reloaded {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        writeln!(f, "policy generation {}: {} rules, {} filters", self.generation, self.rules, self.filters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits_and_a_fitting_unit() {
        let rows = [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_234, "1.23 us"),
            (45_100_000, "45.1 ms"),
            (123_000_000, "123 ms"),
            (60_000_000_000, "60.0 s"),
        ];
        for (value, text) in rows {
            assert_eq!(nanos(value), text);
        }
    }

    #[test]
    fn numbers_have_at_most_three_digits_and_the_letter_of_their_size() {
        let rows = [
            (0.0, "0"),
            (0.04, "0"),
            (0.5, "0.5"),
            (7.0, "7"),
            (9.96, "10"),
            (830.0, "830"),
            (999.4, "999"),
            (999.6, "1.00k"),
            (1_234.0, "1.23k"),
            (9_999.0, "10.0k"),
            (45_100_000.0, "45.1M"),
            (999_960_000.0, "1.00G"),
            (123e9, "123G"),
            (5e15, "5000T"),
        ];
        for (number, text) in rows {
            assert_eq!(short(number), text, "{number}");
        }
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["a", "1", "x"], ["bbb", "22", ""]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(table(&[Column::Left, Column::Right, Column::Left], rows), "a     1  x\nbbb  22\n");
    }
}
