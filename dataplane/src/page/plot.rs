//! Draws a chart as SVG, to stand inline in a page that is wide or narrow.

use core::ops::Range;

use plotters::backend::SVGBackend;
use plotters::chart::ChartBuilder;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::drawing::{DrawingAreaErrorKind, IntoDrawingArea as _};
use plotters::element::Circle;
use plotters::series::LineSeries;
use plotters::style::{Color as _, IntoFont as _, RGBColor, ShapeStyle, TextStyle};

use super::axis::Ruler;
use super::{Chart, Mark, Series};

/// Points of the drawing for one of the page, at the width that it is made for: the library draws at whole points only.
const FINE: u32 = 4;
/// Made for this width, so that a phone shows it at three quarters.
const WIDTH: u32 = 480 * FINE;
const HEIGHT: u32 = 300 * FINE;
/// Height of a letter. The library counts it by 1.24.
const LETTER: u32 = 16 * FINE;
const TEXT: f64 = LETTER as f64 * 1.24;
const LINE: u32 = 2 * FINE;
const DOT: u32 = 4 * FINE;

/// What the page's style sheet recolours in the dark.
pub(super) const INK: RGBColor = RGBColor(0x24, 0x29, 0x2f);
pub(super) const GRID: RGBColor = RGBColor(0xd8, 0xde, 0xe4);

/// Told apart by people who see fewer colours too (Okabe and Ito's, without black and yellow), and on dark ground.
const SERIES: [RGBColor; 8] = [
    RGBColor(0x00, 0x7f, 0xc6),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0x8a, 0x63, 0xd2),
    RGBColor(0x8c, 0x7a, 0x5b),
];

/// The colour of a chart's n-th series, as CSS has it.
pub(super) fn color(number: usize) -> String {
    hex(SERIES[number % SERIES.len()])
}

pub(super) fn hex(RGBColor(red, green, blue): RGBColor) -> String {
    format!("#{red:02X}{green:02X}{blue:02X}")
}

/// A drawing without its outermost element, and the size that it is made for.
#[derive(Debug)]
pub(super) struct Drawing {
    pub(super) elements: String,
    pub(super) view_box: String,
}

/// Draws; `None`: no series has a point.
pub(super) fn draw(chart: &Chart) -> Option<Drawing> {
    let points = || chart.series.iter().flat_map(|series| &series.points);
    let is_drawable = |(x, y): &&(f64, f64)| x.is_finite() && y.is_finite();
    let x = Ruler::new(&chart.x, points().filter(is_drawable).map(|point| point.0), false)?;
    let y = Ruler::new(&chart.y, points().filter(is_drawable).map(|point| point.1), true)?;
    let mut svg = String::new();
    paint(&mut svg, &x, &y, &chart.series).expect("invariant: a string takes every element");
    let (_, elements) = svg.split_once('>').expect("invariant: the drawing is an element");
    let elements = elements.rsplit_once("</svg>").map_or(elements, |(elements, _)| elements);
    Some(Drawing { elements: elements.to_owned(), view_box: format!("0 0 {WIDTH} {HEIGHT}") })
}

type Failed = DrawingAreaErrorKind<std::io::Error>;

fn paint(svg: &mut String, x: &Ruler, y: &Ruler, series: &[Series]) -> Result<(), Failed> {
    let area = SVGBackend::with_string(svg, (WIDTH, HEIGHT)).into_drawing_area();
    let widest = y.ticks.iter().map(|(_, label)| label.chars().count()).max().unwrap_or(1) as u32;
    let last = x.ticks.last().map_or(1, |(_, label)| label.chars().count()) as u32;
    let mut chart = ChartBuilder::on(&area)
        .margin_top(LETTER / 2)
        .margin_right(last * LETTER / 3 + LETTER / 4)
        .x_label_area_size(LETTER * 5 / 2)
        .y_label_area_size(LETTER * 2 + widest * LETTER * 6 / 10)
        .build_cartesian_2d(x.clone(), y.clone())?;
    let text = || TextStyle::from(("sans-serif", TEXT).into_font()).color(&INK);
    chart
        .configure_mesh()
        .x_labels(x.ticks.len())
        .y_labels(y.ticks.len())
        .label_style(text())
        .axis_desc_style(text())
        .x_desc(&x.title)
        .y_desc(&y.title)
        .axis_style(ShapeStyle::from(&INK).stroke_width(FINE))
        .bold_line_style(ShapeStyle::from(&GRID).stroke_width(FINE))
        .draw()?;
    for (number, series) in series.iter().enumerate() {
        let color = SERIES[number % SERIES.len()];
        let points: Vec<(f64, f64)> =
            series.points.iter().filter_map(|(px, py)| Some((x.place(*px)?, y.place(*py)?))).collect();
        // A line through one point is not seen.
        if series.mark == Mark::Dots || points.len() == 1 {
            chart.draw_series(points.into_iter().map(|point| Circle::new(point, DOT, color.filled())))?;
        } else {
            chart.draw_series(LineSeries::new(points, color.stroke_width(LINE)))?;
        }
    }
    drop(chart);
    area.present()
}

impl Ranged for Ruler {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, place: &f64, (from, to): (i32, i32)) -> i32 {
        let share = (place - self.low) / (self.high - self.low);
        from + (share * f64::from(to - from)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        // No lines between those of the ticks.
        if hint.weight().allow_light_points() {
            return Vec::new();
        }
        self.ticks.iter().map(|(place, _)| *place).collect()
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

impl ValueFormatter<f64> for Ruler {
    fn format_ext(&self, place: &f64) -> String {
        let tick = self.ticks.iter().find(|(tick, _)| tick == place);
        tick.map_or_else(String::new, |(_, label)| label.clone())
    }
}
