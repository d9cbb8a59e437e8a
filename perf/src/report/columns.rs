//! A table with a column for each run, and a row for each thing that is told of them.

use std::iter;

use pnat_dataplane::page::Table;

/// What is counted, and how often.
type Count<'n, R> = (&'n str, fn(&R) -> u64);

/// Such a table of results of one kind.
pub(super) struct Columns<'a, R> {
    results: Vec<&'a R>,
    table: Table,
}

impl<'a, R> Columns<'a, R> {
    /// Without rows, of runs by their names.
    pub(super) fn new(runs: impl Iterator<Item = (&'a str, &'a R)>) -> Self {
        let (names, results): (Vec<&str>, _) = runs.unzip();
        Self { results, table: Table::of_numbers(iter::once("").chain(names)) }
    }

    pub(super) fn row(&mut self, name: &str, of: impl Fn(&R) -> String) {
        let cells = self.results.iter().map(|result| of(result));
        self.table.row(iter::once(name.to_owned()).chain(cells));
    }

    /// Rows of what seldom happens: only where it did.
    pub(super) fn counts(&mut self, rows: &[Count<'_, R>]) {
        for (name, of) in rows {
            if self.results.iter().any(|result| of(result) > 0) {
                self.row(name, |result| of(result).to_string());
            }
        }
    }

    pub(super) fn table(self) -> Table {
        self.table
    }
}
