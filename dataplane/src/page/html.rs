//! A page as HTML: one file with its style and its drawings in it, so that it can be sent and kept.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{Bars, Block, Chart, Mark, Page, Section, Table, Unit, plot};

const STYLE: &str = include_str!("page.css");

pub(super) fn write(page: &Page) -> String {
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                // Otherwise browsers ask for one.
                link rel="icon" href="data:,";
                title { (page.title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { (page.title) }
                p.lead { (page.lead) }
                nav {
                    @for (number, section) in page.sections.iter().enumerate() {
                        a href={ "#" (anchor(number)) } { (section.title) }
                        " "
                    }
                }
                @for (number, section) in page.sections.iter().enumerate() {
                    (self::section(number, section))
                }
            }
        }
    };
    markup.into_string()
}

fn anchor(number: usize) -> String {
    format!("section-{number}")
}

fn section(number: usize, section: &Section) -> Markup {
    let is_chart = |block: &Block| matches!(block, Block::Chart(_));
    html! {
        section {
            h2 id=(anchor(number)) { (section.title) }
            @for blocks in section.blocks.chunk_by(|one, next| is_chart(one) && is_chart(next)) {
                @if is_chart(&blocks[0]) {
                    div.charts { @for block in blocks { (self::block(block)) } }
                } @else {
                    (block(&blocks[0]))
                }
            }
        }
    }
}

fn block(block: &Block) -> Markup {
    match block {
        Block::Text(text) => html! { p { (text) } },
        Block::Heading(text) => html! { h3 { (text) } },
        Block::Verbatim(text) => html! { pre { (text) } },
        Block::Table(table) => self::table(table),
        Block::Chart(chart) => self::chart(chart),
        Block::Bars(bars) => self::bars(bars),
    }
}

fn table(table: &Table) -> Markup {
    let class = |column: usize| table.head.get(column).filter(|head| head.is_number).map(|_| "number");
    html! {
        div.scroll {
            table {
                thead {
                    tr {
                        @for (column, head) in table.head.iter().enumerate() {
                            th class=[class(column)] { (head.text) }
                        }
                    }
                }
                tbody {
                    @for row in &table.rows {
                        tr {
                            @for (column, cell) in row.iter().enumerate() {
                                td class=[class(column)] { (cell) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn chart(chart: &Chart) -> Markup {
    html! {
        figure {
            figcaption { (chart.title) }
            @match plot::draw(chart) {
                Some(drawing) => {
                    ul.legend {
                        @for (number, series) in chart.series.iter().enumerate() {
                            li {
                                i.dots[series.mark == Mark::Dots] style={ "background:" (plot::color(number)) } {}
                                (series.name)
                            }
                        }
                    }
                    svg role="img" aria-label=(chart.title) viewBox=(drawing.view_box) {
                        (PreEscaped(drawing.elements))
                    }
                }
                None => p { "Nothing was measured." },
            }
        }
    }
}

fn bars(bars: &Bars) -> Markup {
    // Shares are shares of a whole.
    let least = if bars.unit == Unit::Percent { 1.0 } else { 0.0 };
    let most = bars.bars.iter().map(|bar| bar.value).fold(least, f64::max);
    // The value stands behind its bar and needs room.
    let width = |value: f64| if most > 0.0 { (value / most * 70.0).max(0.0) } else { 0.0 };
    html! {
        figure {
            figcaption { (bars.title) }
            div.bars {
                @for bar in &bars.bars {
                    div {
                        (bar.name)
                        @if !bar.meaning.is_empty() { small { (bar.meaning) } }
                    }
                    div.bar {
                        i style=(format!("width:{:.2}%", width(bar.value))) {}
                        (bars.unit.tell(bar.value))
                    }
                }
            }
        }
    }
}
