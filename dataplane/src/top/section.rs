//! A table on the screen: a head, and as many rows as there is room for.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};

/// Between two columns.
const GAP: u16 = 2;
/// A column that takes what is left is worth showing from this width on.
const LEAST_TEXT: u16 = 12;

/// How a cell is meant.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Tone {
    #[default]
    Plain,
    /// Nothing to look at.
    Faint,
    /// Somebody should look at it.
    Bad,
}

impl Tone {
    pub(super) fn style(self) -> Style {
        match self {
            Self::Plain => Style::new(),
            Self::Faint => Style::new().add_modifier(Modifier::DIM),
            Self::Bad => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
        }
    }
}

/// A text and how it is meant.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) tone: Tone,
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self { text, tone: Tone::Plain }
    }
}

impl Cell {
    pub(super) fn bad_if(self, bad: bool) -> Self {
        Self { tone: if bad { Tone::Bad } else { self.tone }, ..self }
    }
}

/// How a column is set.
#[derive(Copy, Clone, Debug)]
pub(super) enum Column {
    /// At least this wide, so that it stays where it is while its numbers change.
    Left(&'static str, u16),
    Right(&'static str, u16),
    /// Takes what is left of the line, and is cut at its end. For the last column only.
    Text(&'static str),
}

impl Column {
    const fn head(self) -> &'static str {
        match self {
            Self::Left(head, _) | Self::Right(head, _) | Self::Text(head) => head,
        }
    }

    const fn least(self) -> u16 {
        match self {
            Self::Left(_, least) | Self::Right(_, least) => least,
            Self::Text(_) => LEAST_TEXT,
        }
    }
}

/// A table. Columns that do not fit are left out from the right.
#[derive(Clone, Debug)]
pub(super) struct Section {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
    /// How many there are, more than were told or as many.
    total: usize,
    /// Lines that it is worth showing in, where it has as many.
    least: u16,
}

impl Section {
    pub(super) fn new(
        columns: impl Into<Vec<Column>>,
        least: u16,
        rows: impl IntoIterator<Item = Vec<Cell>>,
    ) -> Self {
        let rows: Vec<_> = rows.into_iter().collect();
        Self { columns: columns.into(), total: rows.len(), rows, least }
    }

    /// The same, whose rows are some of `total`.
    pub(super) fn of(self, total: usize) -> Self {
        Self { total: total.max(self.rows.len()), ..self }
    }

    /// Lines that show all of it; an empty table says so.
    pub(super) fn lines(&self) -> u16 {
        1 + u16::try_from(self.rows.len().max(1)).unwrap_or(u16::MAX - 1)
    }

    pub(super) fn least_lines(&self) -> u16 {
        self.least.min(self.lines())
    }

    /// Draws it into all of `area`. Where rows are left out, the head says how many of how many there are.
    pub(super) fn draw(&self, area: Rect, buffer: &mut Buffer) {
        let Some(room) = usize::from(area.height).checked_sub(1).filter(|room| *room > 0) else { return };
        let shown = &self.rows[..room.min(self.rows.len())];
        let mut heads: Vec<String> = self.columns.iter().map(|column| column.head().to_owned()).collect();
        if shown.len() < self.total {
            heads[0] = format!("{} {}/{}", heads[0], shown.len(), self.total);
        }
        let widths = self.widths(&heads, shown, area.width);
        let head = Style::new().fg(Color::Cyan).add_modifier(Modifier::BOLD);
        let cells = heads.iter().map(|text| (text.as_str(), head));
        self.line(cells, &widths, area.x, area.y, buffer);
        if shown.is_empty() {
            buffer.set_stringn(area.x, area.y + 1, "none", usize::from(area.width), Tone::Faint.style());
        }
        for (row, y) in shown.iter().zip(area.y + 1..) {
            let cells = row.iter().map(|cell| (cell.text.as_str(), cell.tone.style()));
            self.line(cells, &widths, area.x, y, buffer);
        }
    }

    /// Of the columns that fit.
    fn widths(&self, heads: &[String], shown: &[Vec<Cell>], width: u16) -> Vec<u16> {
        let mut left = width;
        let mut widths = Vec::with_capacity(self.columns.len());
        for (index, column) in self.columns.iter().enumerate() {
            let cells = shown.iter().filter_map(|row| row.get(index)).map(|cell| length(&cell.text));
            let widest = cells.chain([length(&heads[index]), column.least()]).max().unwrap_or(0);
            let gap = if index == 0 { 0 } else { GAP };
            let fits = left >= gap + if matches!(column, Column::Text(_)) { LEAST_TEXT } else { widest };
            if !fits {
                break;
            }
            let taken = widest.min(left - gap);
            left -= gap + taken;
            widths.push(taken);
        }
        widths
    }

    fn line<'a>(
        &self,
        cells: impl Iterator<Item = (&'a str, Style)>,
        widths: &[u16],
        x: u16,
        y: u16,
        buffer: &mut Buffer,
    ) {
        let mut x = x;
        for (((text, style), column), width) in cells.zip(&self.columns).zip(widths) {
            let indent =
                if matches!(column, Column::Right(..)) { width.saturating_sub(length(text)) } else { 0 };
            buffer.set_stringn(x + indent, y, text, usize::from(*width), style);
            x += width + GAP;
        }
    }
}

fn length(text: &str) -> u16 {
    u16::try_from(text.chars().count()).unwrap_or(u16::MAX)
}

/// Shares lines out among sections: to each what it must have, in order, then one by one to those that want more.
pub(super) fn share(lines: u16, sections: &[Section]) -> Vec<u16> {
    let mut left = lines;
    let mut given: Vec<u16> = Vec::with_capacity(sections.len());
    for section in sections {
        let least = section.least_lines();
        given.push(if least <= left { least } else { 0 });
        left -= given[given.len() - 1];
    }
    loop {
        let before = left;
        for (given, section) in given.iter_mut().zip(sections) {
            // A head by itself says nothing.
            let step = if *given == 0 { 2 } else { 1 };
            if *given < section.lines() && left >= step {
                *given += step;
                left -= step;
            }
        }
        if left == before {
            return given;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(rows: usize, least: u16) -> Section {
        let columns = [Column::Left("name", 4), Column::Right("count", 5), Column::Text("meaning")];
        let row = |number: usize| {
            [format!("row {number}"), number.to_string(), "what it means to people".to_owned()]
                .map(Cell::from)
                .to_vec()
        };
        Section::new(columns, least, (0..rows).map(row))
    }

    fn drawn(section: &Section, width: u16, height: u16) -> Vec<String> {
        let area = Rect::new(0, 0, width, height);
        let mut buffer = Buffer::empty(area);
        section.draw(area, &mut buffer);
        let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        (0..height).map(line).collect()
    }

    #[test]
    fn a_table_cuts_its_text_and_leaves_out_columns_that_do_not_fit() {
        let section = section(1, 2);
        assert_eq!(drawn(&section, 28, 2), ["name   count  meaning", "row 0      0  what it means"]);
        assert_eq!(drawn(&section, 20, 2), ["name   count", "row 0      0"]);
        assert_eq!(drawn(&section, 3, 2), ["", ""]);
    }

    #[test]
    fn a_table_says_how_many_of_its_rows_are_shown_and_that_it_is_empty() {
        assert_eq!(drawn(&section(3, 2), 10, 3), ["name 2/3", "row 0", "row 1"]);
        assert_eq!(drawn(&section(0, 2), 14, 2), ["name  count", "none"]);
    }

    #[test]
    fn lines_are_shared_by_need_then_by_wish_and_none_is_given_for_a_head_alone() {
        let sections = [section(2, 3), section(9, 3), section(5, 0)];
        assert_eq!(share(20, &sections), [3, 10, 6]);
        assert_eq!(share(12, &sections), [3, 6, 3]);
        assert_eq!(share(6, &sections), [3, 3, 0]);
        assert_eq!(share(7, &sections), [3, 4, 0]);
        assert_eq!(share(4, &sections), [3, 0, 0]);
    }
}
