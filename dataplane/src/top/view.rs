//! The screen: what a model looks like in a space of a given size.

use pnat_shared::time::Duration;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};

use super::model::{ClientRow, Drops, Model, Occurred, Percentiles, Rate};
use super::section::{Cell, Column, Section, Tone, share};
use crate::control::{nanos, short};

/// From this width on there are two columns of tables.
const WIDE: u16 = 120;
/// Width of the left one: what its tables need.
const LEFT: u16 = 73;
/// Between the two.
const GUTTER: u16 = 2;
/// How full a ring or a pool is when somebody should look at it.
const NEARLY_FULL: f64 = 0.8;

const KEYS: &str = "q quit  p pause  clients by: r rate  b bytes  f flows  h help";

const HELP: [&str; 17] = [
    "q, Esc, Ctrl-C  quit            p, Space  stop the numbers, and let them go on",
    "r, b, f         order clients by bits per second, bytes of live flows, flows",
    "h, ?            this page",
    "",
    "Rates are those between two looks at the gateway, an interval apart.",
    "",
    "port     as workers received and sent; a frame that the device cuts counts once",
    "core     idle: what all loops of its CPU leave; busy: this loop's share of it;",
    "         ns/pkt: busy time by packets taken from ports and rings (pkt/s);",
    "         flows: of a proxy core its pairs",
    "latency  of a stage in the last interval, then since the start (ever)",
    "buffer   frames in use, ring places taken, as last seen",
    "drop     packets dropped, by reason; pnat stats says by whom",
    "end      flows that ended, by reason; pnat explain tells of single ones",
    "client   up from the client, down to it; of live flows only: what has",
    "         ended is not counted any more",
    "",
];

/// What clients are ordered by, the largest first.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    #[default]
    Rate,
    Bytes,
    Flows,
}

/// All that decides what is on the screen.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown {
    /// The latest known; `None` before the first answer.
    pub(super) model: Option<Model>,
    /// Why there is no answer now.
    pub(super) away: Option<String>,
    pub(super) sort: Sort,
    pub(super) paused: bool,
    pub(super) help: bool,
}

/// Draws everything into all of `area`.
pub(super) fn draw(shown: &Shown, area: Rect, buffer: &mut Buffer) {
    if area.height == 0 || area.width == 0 {
        return;
    }
    let (_, body) = split(area, head(shown, area, buffer));
    let (body, foot) = split(body, body.height.saturating_sub(1));
    if foot.height > 0 {
        buffer.set_stringn(foot.x, foot.y, KEYS, usize::from(foot.width), Tone::Faint.style());
    }
    if shown.help {
        for (line, y) in HELP.iter().zip(body.y..body.bottom()) {
            buffer.set_stringn(body.x, y, line, usize::from(body.width), Style::new());
        }
    } else if let Some(model) = &shown.model {
        tables(model, shown.sort, body, buffer);
        if shown.away.is_some() {
            buffer.set_style(body, Tone::Faint.style());
        }
    }
}

/// The same as text, as high as it needs to be.
pub(super) fn plain(shown: &Shown, width: u16) -> String {
    let sections = shown.model.as_ref().map_or_else(Vec::new, |model| sections(model, shown.sort).concat());
    let lines: u16 = sections.iter().map(|section| section.lines() + 1).sum();
    let area = Rect::new(0, 0, width, 3 + lines);
    let mut buffer = Buffer::empty(area);
    let (_, body) = split(area, head(shown, area, &mut buffer));
    column(&sections, body, &mut buffer);
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    let text = (0..area.height).map(line).fold(String::new(), |text, line| text + line.trim_end() + "\n");
    text.trim_end().to_owned() + "\n"
}

/// The upper `height` lines, and the rest.
fn split(area: Rect, height: u16) -> (Rect, Rect) {
    let height = height.min(area.height);
    let upper = Rect { height, ..area };
    (upper, Rect { y: area.y + height, height: area.height - height, ..area })
}

/// Who it is, how it is, and how much it carries. Answers the lines used.
fn head(shown: &Shown, area: Rect, buffer: &mut Buffer) -> u16 {
    let mut lines = Vec::with_capacity(3);
    let (state, color) = match &shown.model {
        _ if shown.away.is_some() => ("NO ANSWER", Color::Yellow),
        None => ("ASKING", Color::Yellow),
        Some(_) if shown.paused => ("PAUSED", Color::Yellow),
        Some(model) if model.unready.is_empty() => ("READY", Color::Green),
        Some(_) => ("NOT READY", Color::Red),
    };
    let bar = Style::new().add_modifier(Modifier::REVERSED);
    let title = shown.model.as_ref().map_or_else(|| "pnat".to_owned(), title);
    lines.push((title, bar));
    if let Some(model) = &shown.model {
        lines.push((totals(model), Style::new()));
        if shown.away.is_none() && !model.unready.is_empty() {
            lines.push((format!("not ready: {}", model.unready.join("; ")), Tone::Bad.style()));
        }
    }
    if let Some(away) = &shown.away {
        lines.push((away.clone(), Style::new().fg(Color::Yellow)));
    }
    for ((text, style), y) in lines.iter().zip(area.y..area.bottom()) {
        buffer.set_stringn(area.x, y, text, usize::from(area.width), *style);
    }
    buffer.set_style(Rect { height: 1, ..area }, bar);
    let at = area.right().saturating_sub(state.len() as u16 + 2).max(area.x);
    let width = usize::from(area.right() - at);
    buffer.set_stringn(at, area.y, format!(" {state} "), width, bar.bg(color));
    u16::try_from(lines.len()).unwrap_or(u16::MAX)
}

fn title(model: &Model) -> String {
    let up = humantime::format_duration(Duration::from_secs(model.uptime_seconds));
    let Model { version, generation, config_file, .. } = model;
    format!("pnat {version}  up {up}  policy {generation}  {config_file}")
}

fn totals(model: &Model) -> String {
    let flows = &model.flows;
    format!(
        "flows {} (+{}/s, {} half-open)  pairs {} TCP, {} UDP (+{}/s)",
        whole(flows.active),
        per_second(flows.opened),
        whole(flows.half_open),
        whole(flows.pairs_tcp),
        whole(flows.pairs_udp),
        per_second(flows.pairs_opened)
    )
}

fn tables(model: &Model, sort: Sort, area: Rect, buffer: &mut Buffer) {
    let [left, right] = sections(model, sort);
    if area.width < WIDE {
        return column(&[left, right].concat(), area, buffer);
    }
    let x = area.x + LEFT + GUTTER;
    column(&left, Rect { width: LEFT, ..area }, buffer);
    column(&right, Rect { x, width: area.right() - x, ..area }, buffer);
}

/// One below the other, with a line between them if there are enough.
fn column(sections: &[Section], area: Rect, buffer: &mut Buffer) {
    let mut given = share(area.height, sections);
    let used: u16 = given.iter().sum();
    let gaps = u16::try_from(given.iter().filter(|lines| **lines > 0).count()).unwrap_or(0).saturating_sub(1);
    // Better a table whole than tables apart.
    let gap = u16::from(area.height - used >= gaps);
    let mut rest = area;
    for (section, lines) in sections.iter().zip(&mut given) {
        let (mine, below) = split(rest, *lines);
        section.draw(mine, buffer);
        (_, rest) = split(below, if *lines > 0 { gap } else { 0 });
    }
}

/// The tables, those of the left column and those of the right; in one column the one after the other.
fn sections(model: &Model, sort: Sort) -> [Vec<Section>; 2] {
    let left = vec![ports(model), cores(model), stages(model)];
    let right = vec![
        clients(model, sort),
        reasons("drop", &model.drops, 2),
        buffers(model),
        reasons("end", &model.closes, 0),
    ];
    [left, right]
}

fn ports(model: &Model) -> Section {
    let columns = [
        Column::Left("port", 10),
        Column::Left("link", 4),
        Column::Right("rx pkt/s", 8),
        Column::Right("rx bit/s", 8),
        Column::Right("tx pkt/s", 8),
        Column::Right("tx bit/s", 8),
        Column::Right("drop/s", 6),
        Column::Right("dropped", 7),
    ];
    let rows = model.ports.iter().map(|port| {
        let [rate, total] = dropped(port.drops);
        vec![
            port.name.clone().into(),
            Cell::from(if port.is_up { "up" } else { "down" }.to_owned()).bad_if(!port.is_up),
            per_second(port.rx.packets).into(),
            per_second(port.rx.bits).into(),
            per_second(port.tx.packets).into(),
            per_second(port.tx.bits).into(),
            rate,
            total,
        ]
    });
    Section::new(columns, 3, rows)
}

fn cores(model: &Model) -> Section {
    let columns = [
        Column::Left("core", 10),
        Column::Right("cpu", 3),
        Column::Right("idle", 4),
        Column::Right("busy", 4),
        Column::Right("ns/pkt", 6),
        Column::Right("pkt/s", 7),
        Column::Right("flows", 6),
        Column::Right("new/s", 6),
        Column::Right("drop/s", 6),
    ];
    let percent =
        |share: Option<f64>| share.map_or_else(none, |share| format!("{:.0}%", share * 100.0).into());
    let rows = model.cores.iter().map(|core| {
        let [drops, _] = dropped(core.drops);
        vec![
            core.name.clone().into(),
            core.cpu.map_or_else(String::new, |cpu| cpu.to_string()).into(),
            percent(core.idle),
            percent(core.busy),
            core.each.map_or_else(none, |each| short(each).into()),
            per_second(core.packets).into(),
            whole(core.flows).into(),
            per_second(core.opened).into(),
            drops,
        ]
    });
    Section::new(columns, 3, rows)
}

fn stages(model: &Model) -> Section {
    let columns = [
        Column::Left("latency", 9),
        Column::Right("per s", 6),
        Column::Right("p50", 7),
        Column::Right("p99", 7),
        Column::Right("max", 7),
        Column::Right("ever p50", 8),
        Column::Right("p99", 7),
        Column::Right("max", 7),
    ];
    let times = |percentiles: Option<Percentiles>| match percentiles {
        Some(Percentiles { p50, p99, max }) => [p50, p99, max].map(|value| nanos(value).into()),
        None => [(); 3].map(|()| none()),
    };
    let rows = model.stages.iter().map(|stage| {
        let mut row = vec![stage.name.clone().into(), per_second(stage.rate).into()];
        row.extend(times(stage.lately));
        row.extend(times(stage.ever));
        row
    });
    Section::new(columns, 8, rows)
}

fn buffers(model: &Model) -> Section {
    let columns = [
        Column::Left("buffer", 14),
        Column::Right("used", 6),
        Column::Right("of", 6),
        Column::Right("full", 4),
        Column::Right("ever", 4),
    ];
    let rows = model.buffers.iter().map(|buffer| {
        let share = |used: u64| used as f64 / buffer.room as f64;
        let percent = |used| format!("{:.0}%", share(used) * 100.0);
        vec![
            buffer.name.clone().into(),
            whole(buffer.used).into(),
            whole(buffer.room).into(),
            Cell::from(percent(buffer.used)).bad_if(share(buffer.used) >= NEARLY_FULL),
            buffer.most.map_or_else(none, |most| percent(most).into()),
        ]
    });
    Section::new(columns, 2, rows)
}

fn reasons(title: &'static str, reasons: &[Occurred], least: u16) -> Section {
    let columns = [
        Column::Left(title, 16),
        Column::Right("per s", 6),
        Column::Right("total", 6),
        Column::Text("meaning"),
    ];
    let rows = reasons.iter().map(|reason| {
        vec![
            reason.reason.clone().into(),
            per_second(reason.rate).into(),
            whole(reason.total).into(),
            reason.sentence.clone().into(),
        ]
    });
    Section::new(columns, least, rows)
}

fn clients(model: &Model, sort: Sort) -> Section {
    let columns = [
        Column::Left("client", 15),
        Column::Right("flows", 6),
        Column::Right("up bit/s", 8),
        Column::Right("down bit/s", 10),
        Column::Right("up bytes", 8),
        Column::Right("down bytes", 10),
    ];
    let size = |row: &ClientRow| match sort {
        Sort::Rate => row.bits.iter().flatten().sum(),
        Sort::Bytes => (row.client.first.bytes + row.client.second.bytes) as f64,
        Sort::Flows => row.client.flows as f64,
    };
    let mut clients = model.clients.clone();
    // A stable order: among equals, as many have no rate, the one with the most bytes stays first.
    clients.sort_by(|one, other| size(other).total_cmp(&size(one)));
    let rows = clients.iter().map(|ClientRow { client, bits: [up, down] }| {
        vec![
            client.address.to_string().into(),
            whole(client.flows).into(),
            per_second(*up).into(),
            per_second(*down).into(),
            whole(client.first.bytes).into(),
            whole(client.second.bytes).into(),
        ]
    });
    Section::new(columns, 3, rows).of(model.clients_known)
}

/// Drops per second and in all; it is those of now that somebody should look at.
fn dropped(drops: Drops) -> [Cell; 2] {
    let is_dropping = drops.rate.is_some_and(|rate| rate > 0.0);
    [Cell::from(per_second(drops.rate)).bad_if(is_dropping), whole(drops.total).into()]
}

fn per_second(rate: Rate) -> String {
    rate.map_or_else(|| "-".to_owned(), short)
}

/// Exact as long as five digits do.
fn whole(number: u64) -> String {
    if number < 100_000 { number.to_string() } else { short(number as f64) }
}

fn none() -> Cell {
    Cell { text: "-".to_owned(), tone: Tone::Faint }
}
