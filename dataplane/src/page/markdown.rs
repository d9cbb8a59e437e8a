//! A page as Markdown with the tables that GitHub knows. Charts are left out.

use core::fmt::Write as _;

use super::{Bars, Block, Page, Table};

pub(super) fn write(page: &Page) -> String {
    let mut out = format!("# {}\n\n{}\n", escaped(&page.title), escaped(&page.lead));
    for section in &page.sections {
        // Writing to a string cannot fail.
        let _ = write!(out, "\n## {}\n", escaped(&section.title));
        for block in &section.blocks {
            let _ = match block {
                Block::Text(text) => write!(out, "\n{}\n", escaped(text)),
                Block::Heading(text) => write!(out, "\n### {}\n", escaped(text)),
                Block::Verbatim(text) => write!(out, "\n{}", verbatim(text)),
                Block::Table(table) => write!(out, "\n{}", self::table(table)),
                Block::Chart(_) => Ok(()),
                Block::Bars(bars) => write!(out, "\n{}", self::bars(bars)),
            };
        }
    }
    out
}

fn table(table: &Table) -> String {
    let rule = |is_number| if is_number { "---:" } else { "---" }.to_owned();
    let mut out = line(table.head.iter().map(|head| escaped(&head.text)));
    out.push_str(&line(table.head.iter().map(|head| rule(head.is_number))));
    for row in &table.rows {
        out.push_str(&line(row.iter().map(|cell| escaped(cell))));
    }
    out
}

fn bars(bars: &Bars) -> String {
    let has_meanings = bars.bars.iter().any(|bar| !bar.meaning.is_empty());
    let mut table = Table::of_numbers(["", &bars.title]);
    if has_meanings {
        table.head.push(super::Head { text: String::new(), is_number: false });
    }
    for bar in &bars.bars {
        let cells = [bar.name.clone(), bars.unit.tell(bar.value), bar.meaning.clone()];
        table.row(cells.into_iter().take(table.head.len()));
    }
    self::table(&table)
}

fn line(cells: impl Iterator<Item = String>) -> String {
    format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
}

/// Fenced by more backticks than it has in a row.
fn verbatim(text: &str) -> String {
    let longest = text.split(|letter| letter != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}\n{}\n{fence}\n", text.trim_end())
}

/// Text that means itself and stays on its line.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\\' | '|' | '<' | '&' | '*' | '`' | '[' | '#' => out.extend(['\\', letter]),
            letter if letter.is_control() => out.push(' '),
            letter => out.push(letter),
        }
    }
    out
}
