//! Pages for people: what a report says, apart from how it looks. One model, two forms: a self-contained HTML page with
//! charts, and Markdown with the same tables.
//!
//! ```text
//!   Page -- Section -- Block: text, verbatim text, table, chart, bars
//!     |-> html::write      unit, axis, plot: what is drawn, as inline SVG
//!     '-> markdown::write
//! ```
//!
//! Texts may come from anywhere (scenario names, device names): both forms escape them.

mod axis;
mod html;
mod markdown;
mod plot;
#[cfg(test)]
mod tests;
mod unit;

pub use unit::Unit;

/// A report.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    pub title: String,
    /// A sentence or two under the title.
    pub lead: String,
    pub sections: Vec<Section>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Section {
    pub title: String,
    pub blocks: Vec<Block>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Block {
    /// A paragraph.
    Text(String),
    /// A smaller title inside a section.
    Heading(String),
    /// Word for word, as a command line or a file.
    Verbatim(String),
    Table(Table),
    /// Only drawn: what must also be read in Markdown stands in a table.
    Chart(Chart),
    Bars(Bars),
}

/// Rows of cells; the first column is text, the others are as their heads say.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Table {
    pub head: Vec<Head>,
    pub rows: Vec<Vec<String>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub text: String,
    /// Numbers stand at the right.
    pub is_number: bool,
}

/// Curves over two axes.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    pub title: String,
    pub x: Axis,
    pub y: Axis,
    pub series: Vec<Series>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    pub title: String,
    pub unit: Unit,
    pub scale: Scale,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Scale {
    /// An upright one shows zero.
    Linear,
    /// In decades; what is not above zero is left out.
    Log,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    pub name: String,
    pub mark: Mark,
    /// What is not finite is left out.
    pub points: Vec<(f64, f64)>,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    Line,
    Dots,
}

/// Quantities of one unit, each a bar from zero; shares are drawn as such of a whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Bars {
    pub title: String,
    pub unit: Unit,
    pub bars: Vec<Bar>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Bar {
    pub name: String,
    pub value: f64,
    /// What it means, where its name does not say so.
    pub meaning: String,
}

impl Page {
    /// The page as one HTML file that asks for nothing else.
    pub fn html(&self) -> String {
        html::write(self)
    }

    /// Its texts and tables.
    pub fn markdown(&self) -> String {
        markdown::write(self)
    }
}

impl Section {
    pub fn new(title: impl Into<String>, blocks: Vec<Block>) -> Self {
        Self { title: title.into(), blocks }
    }
}

impl Table {
    /// A table without rows; the first column is text and the others are numbers.
    pub fn of_numbers<S: Into<String>>(head: impl IntoIterator<Item = S>) -> Self {
        let head = head.into_iter().enumerate();
        let head = head.map(|(column, text)| Head { text: text.into(), is_number: column > 0 });
        Self { head: head.collect(), rows: Vec::new() }
    }

    /// A table without rows; all columns are text.
    pub fn of_text<S: Into<String>>(head: impl IntoIterator<Item = S>) -> Self {
        let head = head.into_iter().map(|text| Head { text: text.into(), is_number: false });
        Self { head: head.collect(), rows: Vec::new() }
    }

    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }
}

impl Axis {
    pub fn linear(title: impl Into<String>, unit: Unit) -> Self {
        Self { title: title.into(), unit, scale: Scale::Linear }
    }

    pub fn log(title: impl Into<String>, unit: Unit) -> Self {
        Self { title: title.into(), unit, scale: Scale::Log }
    }

    /// The axis that HdrHistogram's plots have: each nine more is as far as the one before. Points are at 1/(1-quantile).
    pub fn percentiles() -> Self {
        Self::log("percentile", Unit::Percentile)
    }
}

impl Series {
    pub fn line(name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.into(), mark: Mark::Line, points }
    }

    pub fn dots(name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.into(), mark: Mark::Dots, points }
    }
}
