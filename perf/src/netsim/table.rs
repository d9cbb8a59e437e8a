//! The table: figures by congestion control and cell, as text that is kept in the repository and read back.
//!
//! Each cell has a line for us, one for Linux, and one for how the two compare; then follow the goals.

use core::fmt::{self, Write};
use core::time::Duration;
use std::collections::BTreeMap;

use super::cell::{Algorithm, BULK, Cell, Queue, RATE, SIZES};
use super::split::Gain;

/// What is measured of one cell.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// Payload of one bulk flow, in Mbit/s, from the SYN on.
    pub goodput: f64,
    /// From the SYN to the last byte's arrival, by [`super::cell::SIZES`].
    pub completion: [Percentiles; 3],
}

/// Completion times of flows of one size.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub struct Percentiles {
    pub p50: Duration,
    pub p90: Duration,
    pub p99: Duration,
}

/// Whose TCP it is, at both ends.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whose {
    Ours,
    Linux,
}

/// All there is to say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    rows: BTreeMap<(Algorithm, Cell, Whose), Figures>,
    /// What the split gains, by the congestion control of the gateway's lossy leg.
    gains: Vec<(Algorithm, Gain)>,
    /// Date and kernel of Linux's rows.
    pub measured: String,
}

/// Goodput and nine times: what a row holds behind its cell.
const VALUES: usize = 1 + 3 * SIZES.len();
/// What begins the line about Linux's rows.
const MEASURED: &str = "Linux rows: ";

/// A promise about the table.
#[derive(Clone, Debug)]
pub struct Goal {
    pub text: String,
    /// What was reached, where both sides were measured.
    pub reached: Option<f64>,
    pub met: bool,
}

impl Percentiles {
    /// Of `times` in seconds, in any order; zeros where there is none.
    pub fn of(mut times: Vec<f64>) -> Self {
        times.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let rank = (times.len() as f64 * share).ceil() as usize;
            Duration::from_secs_f64(times.get(rank.saturating_sub(1)).copied().unwrap_or(0.0))
        };
        Self { p50: at(0.5), p90: at(0.9), p99: at(0.99) }
    }
}

impl Figures {
    /// Mbit/s, then milliseconds.
    pub fn values(&self) -> [f64; VALUES] {
        let mut values = [self.goodput; VALUES];
        let times = self.completion.iter().flat_map(|size| [size.p50, size.p90, size.p99]);
        for (value, time) in values[1..].iter_mut().zip(times) {
            *value = time.as_secs_f64() * 1000.0;
        }
        values
    }

    fn from_values(values: [f64; VALUES]) -> Self {
        let time = |at: usize| Duration::from_secs_f64(values[at] / 1000.0);
        let size =
            |n: usize| Percentiles { p50: time(3 * n + 1), p90: time(3 * n + 2), p99: time(3 * n + 3) };
        Self { goodput: values[0], completion: [size(0), size(1), size(2)] }
    }
}

impl Table {
    /// Reads what `Display` writes; lines that are no rows are passed over.
    pub fn read(text: &str) -> Self {
        let mut table = Self::default();
        for line in text.lines() {
            if let Some(measured) = line.strip_prefix(MEASURED) {
                table.measured = measured.into();
            } else if let Some((key, figures)) = read_row(line) {
                table.rows.insert(key, figures);
            }
        }
        table
    }

    pub fn put(&mut self, algorithm: Algorithm, cell: Cell, whose: Whose, figures: Figures) {
        self.rows.insert((algorithm, cell, whose), figures);
    }

    pub fn row(&self, algorithm: Algorithm, cell: Cell, whose: Whose) -> Option<&Figures> {
        self.rows.get(&(algorithm, cell, whose))
    }

    /// Forgets all rows of one side.
    pub fn clear(&mut self, whose: Whose) {
        self.rows.retain(|(_, _, row), _| *row != whose);
    }

    pub fn put_gain(&mut self, algorithm: Algorithm, gain: Gain) {
        self.gains.push((algorithm, gain));
    }

    /// Our figures by Linux's, value by value.
    fn ratios(&self, algorithm: Algorithm, cell: Cell) -> Option<[f64; VALUES]> {
        let [ours, linux] =
            [Whose::Ours, Whose::Linux].map(|whose| self.row(algorithm, cell, whose).map(Figures::values));
        let (ours, linux) = (ours?, linux?);
        Some(core::array::from_fn(|n| ours[n] / linux[n]))
    }

    /// What was promised, and what came of it.
    pub fn goals(&self) -> Vec<Goal> {
        let mut goals = Vec::new();
        let at_least = |text: String, reached: Option<f64>, bound: f64| Goal {
            text: format!("{text}, at least {bound}"),
            reached,
            met: reached.is_some_and(|reached| reached >= bound),
        };
        let at_most = |text: String, reached: Option<f64>, bound: f64| Goal {
            text: format!("{text}, at most {bound}"),
            reached,
            met: reached.is_some_and(|reached| reached <= bound),
        };
        for cell in Cell::all() {
            let reached = self.ratios(Algorithm::Cubic, cell).map(|ratios| ratios[0]);
            goals.push(at_least(format!("{cell}  CUBIC's goodput by Linux CUBIC's"), reached, 0.95));
        }
        for queue in [Queue::Shallow, Queue::Deep] {
            let cell = Cell { loss: 10, rtt: 20, reordered: false, queue };
            let bbr = self.ratios(Algorithm::Bbr, cell).map(|ratios| ratios[0]);
            goals.push(at_least(format!("{cell}  BBR's goodput by Linux BBR's"), bbr, 0.5));
            let cubic = self.ratios(Algorithm::Cubic, cell);
            goals.push(at_most(
                format!("{cell}  100 KB with CUBIC, p50 by Linux's"),
                cubic.map(|r| r[4]),
                1.1,
            ));
            goals.push(at_most(
                format!("{cell}  100 KB with CUBIC, p90 by Linux's"),
                cubic.map(|r| r[5]),
                1.3,
            ));
        }
        for algorithm in Algorithm::ALL {
            let gain = self.gains.iter().find(|(a, _)| *a == algorithm).map(|(_, gain)| gain.factor());
            let bound = if algorithm == Algorithm::Cubic { 1.8 } else { 5.0 };
            let text = format!("split gain with {} on the lossy leg", algorithm.name());
            goals.push(at_least(text, gain, bound));
        }
        goals
    }
}

/// One row of ours or Linux's.
fn read_row(line: &str) -> Option<((Algorithm, Cell, Whose), Figures)> {
    let words: Vec<_> = line.split_whitespace().collect();
    let [algorithm, loss, rtt, order, queue, whose, values @ ..] = words.as_slice() else { return None };
    let algorithm = Algorithm::ALL.into_iter().find(|known| known.name() == *algorithm)?;
    let cell = [*loss, *rtt, *order, *queue].join(" ").parse().ok()?;
    let whose = match *whose {
        "ours" => Whose::Ours,
        "linux" => Whose::Linux,
        _ => return None,
    };
    let values: Vec<f64> = values.iter().filter_map(|value| value.parse().ok()).collect();
    Some(((algorithm, cell, whose), Figures::from_values(values.try_into().ok()?)))
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "TCP over bad paths: our engine in virtual time, Linux over the user-space relay, by one model of a link.\n\
             perf/README.md, \"Bad paths\", says what the columns mean and how this file is made.\n\n\
             bottleneck {} Mbit/s; goodput of one flow in its first {} s in Mbit/s; completion in ms, handshake included\n\
             {MEASURED}{}\n",
            RATE / 1_000_000,
            BULK.as_secs(),
            self.measured
        )?;
        for algorithm in Algorithm::ALL {
            f.write_str(
                "        loss  rtt                            good     10 KB                 100 KB                  \
                 1 MB\n          %   ms order     queue            put    p50    p90    p99    p50    p90    p99     \
                 p50     p90     p99\n",
            )?;
            for cell in Cell::all() {
                self.write_cell(f, algorithm, cell)?;
            }
            f.write_char('\n')?;
        }
        for (algorithm, gain) in &self.gains {
            writeln!(f, "split gain, {:<5} on the lossy leg: {gain}", algorithm.name())?;
        }
        f.write_str("\nGoals\n")?;
        for goal in self.goals() {
            let word = match (goal.reached, goal.met) {
                (None, _) => "not measured",
                (_, true) => "met",
                (_, false) => "MISSED",
            };
            let reached = goal.reached.map_or_else(|| "   -".into(), |reached| format!("{reached:>5.2}"));
            writeln!(f, "{word:<12} {reached}  {}", goal.text)?;
        }
        Ok(())
    }
}

impl Table {
    fn write_cell(&self, f: &mut fmt::Formatter<'_>, algorithm: Algorithm, cell: Cell) -> fmt::Result {
        for (whose, word) in [(Whose::Ours, "ours"), (Whose::Linux, "linux")] {
            if let Some(figures) = self.row(algorithm, cell, whose) {
                write!(f, "{:<6} {cell} {word:<6}", algorithm.name())?;
                write_values(f, figures.values(), [2, 1])?;
            }
        }
        if let Some(ratios) = self.ratios(algorithm, cell) {
            write!(f, "{:>34} {:<5}", "", "ratio")?;
            write_values(f, ratios, [2, 2])?;
        }
        Ok(())
    }
}

/// Goodput and times with so many digits behind the point.
fn write_values(f: &mut fmt::Formatter<'_>, values: [f64; VALUES], digits: [usize; 2]) -> fmt::Result {
    for (n, value) in values.into_iter().enumerate() {
        let width = if n == 0 || n > 6 { 8 } else { 7 };
        write!(f, "{value:>width$.*}", digits[usize::from(n > 0)])?;
    }
    f.write_char('\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    const CELL: Cell = Cell { loss: 10, rtt: 20, reordered: false, queue: Queue::Deep };

    fn figures(goodput: f64, p50: u64) -> Figures {
        let times = Percentiles {
            p50: Duration::from_millis(p50),
            p90: Duration::from_millis(2 * p50),
            p99: Duration::from_millis(3 * p50),
        };
        Figures { goodput, completion: [times; 3] }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut table = Table { measured: "today".into(), ..Table::default() };
        table.put(Algorithm::Cubic, CELL, Whose::Ours, figures(6.25, 90));
        table.put(Algorithm::Cubic, CELL, Whose::Linux, figures(6.5, 75));
        table.put(Algorithm::Bbr, Cell { loss: 1, ..CELL }, Whose::Linux, figures(400.0, 100));
        assert_eq!(Table::read(&table.to_string()), table);
    }

    #[test]
    fn a_goal_is_met_missed_or_not_measured() {
        let mut table = Table::default();
        let reached = |table: &Table, text: &str| {
            let goals = table.goals();
            let goal = goals.iter().find(|goal| goal.text.contains(text)).expect("such a goal");
            (goal.reached, goal.met)
        };
        assert_eq!(reached(&table, "100 KB with CUBIC, p50"), (None, false));
        for queue in [Queue::Shallow, Queue::Deep] {
            table.put(Algorithm::Cubic, Cell { queue, ..CELL }, Whose::Ours, figures(6.0, 110));
            table.put(Algorithm::Cubic, Cell { queue, ..CELL }, Whose::Linux, figures(8.0, 100));
        }
        assert_eq!(reached(&table, "100 KB with CUBIC, p50"), (Some(1.1), true));
        assert_eq!(reached(&table, &format!("{CELL}  CUBIC's goodput")), (Some(0.75), false));
    }

    #[test]
    fn percentiles_are_times_that_were_seen() {
        let times = Percentiles::of((1..=100).rev().map(f64::from).collect());
        assert_eq!([times.p50, times.p90, times.p99].map(|time| time.as_secs()), [50, 90, 99]);
        assert_eq!(Percentiles::of(Vec::new()), Percentiles::default());
    }
}
