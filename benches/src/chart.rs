//! A report as one SVG: a panel for each table that is drawn, and for each unit in it.
//!
//! On white, so that it can be read on a dark page too. Numbers stand at the ends of the bars, which need no
//! axis then.

use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::report::{Better, Chart, Column, Report, Row, Table};
use crate::stats::digits;

const WIDTH: u32 = 860;
const MARGIN: i32 = 20;
/// Names of groups stand left of the bars, numbers right of them.
const NAMES: i32 = 150;
const NUMBERS: i32 = 70;
const BAR: i32 = 15;
const LINE: i32 = 20;
const PLOT: i32 = 300;
/// More than this between the shortest and the longest bar, and the shortest can't be seen.
const FAR: f64 = 200.0;
/// Ours are blue,
const OURS: [RGBColor; 3] = [RGBColor(0, 114, 178), RGBColor(86, 180, 233), RGBColor(0, 60, 110)];
/// others are not. By Okabe and Ito, mostly: told apart by nearly all eyes.
const OTHERS: [RGBColor; 7] = [
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(213, 94, 0),
    RGBColor(120, 120, 120),
    RGBColor(148, 103, 189),
    RGBColor(0, 0, 0),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// A table, and those of its columns that share a unit.
struct Panel<'a> {
    table: &'a Table,
    columns: Vec<usize>,
}

pub fn svg(report: &Report) -> String {
    let panels = panels(report);
    let heights: Vec<i32> = panels.iter().map(Panel::height).collect();
    let foot = format!("{}; {}", report.machine.cpu, versions(report));
    let height = 2 * MARGIN + 2 * LINE + heights.iter().sum::<i32>() + LINE;
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height as u32)).into_drawing_area();
        area.fill(&WHITE).expect("a string takes it");
        text(&area, report.title, (MARGIN, MARGIN), &font(18, &BLACK));
        let mut top = MARGIN + 2 * LINE;
        for (panel, height) in panels.iter().zip(heights) {
            panel.draw(&area, top);
            top += height;
        }
        text(&area, &foot, (MARGIN, top), &font(11, &GREY));
        area.present().expect("a string takes it");
    }
    svg
}

const GREY: RGBColor = RGBColor(90, 90, 90);

fn versions(report: &Report) -> String {
    let all = report.versions.iter().map(|(name, version)| format!("{name} {version}"));
    all.collect::<Vec<_>>().join(", ")
}

fn panels(report: &Report) -> Vec<Panel<'_>> {
    let mut panels: Vec<Panel<'_>> = Vec::new();
    for table in &report.tables {
        match &table.chart {
            Chart::None => {}
            Chart::Lines { .. } => panels.push(Panel { table, columns: (0..table.columns.len()).collect() }),
            Chart::Bars(columns) => {
                let mut before: Option<&Column> = None;
                for &at in columns {
                    let column = &table.columns[at];
                    match panels.last_mut() {
                        Some(panel) if before.is_some_and(|before| before.unit == column.unit) => {
                            panel.columns.push(at)
                        }
                        _ => panels.push(Panel { table, columns: vec![at] }),
                    }
                    before = Some(column);
                }
            }
        }
    }
    panels
}

impl Panel<'_> {
    fn heads(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().map(|at| &self.table.columns[*at])
    }

    fn caption(&self) -> String {
        let Column { unit, better, .. } = &self.table.columns[self.columns[0]];
        let better = match better {
            Better::Lower => "less is better",
            Better::Higher => "more is better",
        };
        let unit = if unit.is_empty() { String::new() } else { format!("{unit}, ") };
        let log = if self.is_log() { ", logarithmic" } else { "" };
        format!("{} ({unit}{better}{log})", self.table.title)
    }

    fn values(&self) -> impl Iterator<Item = f64> {
        let all = self.table.rows.iter().flat_map(|row| self.columns.iter().map(|at| row.cells[*at].value));
        all.filter(|value| value.is_finite() && *value > 0.0)
    }

    fn least(&self) -> f64 {
        self.values().fold(f64::INFINITY, f64::min)
    }

    fn most(&self) -> f64 {
        self.values().fold(0.0, f64::max)
    }

    fn is_log(&self) -> bool {
        self.most() > FAR * self.least()
    }

    fn rows(&self) -> impl Iterator<Item = (&Row, RGBColor)> {
        let (mut ours, mut others) = (OURS.into_iter().cycle(), OTHERS.into_iter().cycle());
        self.table.rows.iter().map(move |row| {
            let colours: &mut dyn Iterator<Item = RGBColor> =
                if row.name.starts_with("#[cache") { &mut ours } else { &mut others };
            (row, colours.next().expect("they go round"))
        })
    }

    fn height(&self) -> i32 {
        let rows = self.table.rows.len() as i32;
        let body = match self.table.chart {
            Chart::Lines { .. } => PLOT,
            _ => self.columns.len() as i32 * (rows * BAR + BAR),
        };
        LINE + self.legend().1 + body + LINE
    }

    /// Where each row's name stands, and how high all are.
    fn legend(&self) -> (Vec<(i32, i32)>, i32) {
        let (mut left, mut top) = (MARGIN, 0);
        let mut places = Vec::new();
        for row in &self.table.rows {
            let width = 30 + row.name.chars().count() as i32 * 7;
            if left > MARGIN && left + width > WIDTH as i32 - MARGIN {
                (left, top) = (MARGIN, top + LINE);
            }
            places.push((left, top));
            left += width;
        }
        (places, top + LINE + 5)
    }

    fn draw(&self, area: &Area<'_>, top: i32) {
        text(area, &self.caption(), (MARGIN, top), &font(14, &BLACK));
        let (places, height) = self.legend();
        for ((row, colour), (x, y)) in self.rows().zip(places) {
            let y = top + LINE + y;
            rectangle(area, (x, y + 1), (x + 11, y + 12), &colour);
            text(area, &row.name, (x + 17, y), &font(12, &BLACK));
        }
        let top = top + LINE + height;
        match &self.table.chart {
            Chart::Lines { axis, at } => self.lines(area, top, axis, at),
            _ => self.bars(area, top),
        }
    }

    fn bars(&self, area: &Area<'_>, mut top: i32) {
        let (least, most, is_log) = (self.least(), self.most(), self.is_log());
        let room = f64::from(WIDTH as i32 - 2 * MARGIN - NAMES - NUMBERS);
        let length = |value: f64| match value {
            _ if !value.is_finite() || value <= 0.0 => 0,
            // The shortest bar is still one.
            _ if is_log => (room * (0.03 + 0.97 * (value / least).ln() / (most / least).ln())) as i32,
            _ => (room * value / most) as i32,
        };
        let left = MARGIN + NAMES;
        for (at, column) in self.columns.iter().zip(self.heads()) {
            let middle = top + self.table.rows.len() as i32 * BAR / 2;
            let style = font(13, &BLACK).pos(Pos::new(HPos::Right, VPos::Center));
            text(area, &column.name, (left - 10, middle), &style);
            for (row, colour) in self.rows() {
                let value = row.cells[*at].value;
                let end = left + length(value);
                rectangle(area, (left, top + 1), (end, top + BAR - 1), &colour);
                let style = font(11, &GREY).pos(Pos::new(HPos::Left, VPos::Center));
                if value.is_finite() {
                    text(area, &digits(value), (end + 5, top + BAR / 2), &style);
                }
                top += BAR;
            }
            top += BAR;
        }
    }

    fn lines(&self, area: &Area<'_>, top: i32, axis: &str, at: &[f64]) {
        let (_, part) = area.split_vertically(top);
        let (part, _) = part.split_vertically(PLOT);
        let x = (at[0]..at[at.len() - 1]).log_scale();
        if self.is_log() {
            self.plot(&part, axis, at, x, (self.least()..self.most() * 1.1).log_scale());
        } else {
            self.plot(&part, axis, at, x, 0.0..self.most() * 1.1);
        }
    }

    fn plot<X, Y>(&self, part: &Area<'_>, axis: &str, at: &[f64], x: X, y: Y)
    where
        X: AsRangedCoord<Value = f64>,
        X::CoordDescType: ValueFormatter<f64>,
        Y: AsRangedCoord<Value = f64>,
        Y::CoordDescType: ValueFormatter<f64>,
    {
        let mut builder = ChartBuilder::on(part);
        builder.margin_left(MARGIN).margin_right(2 * MARGIN).x_label_area_size(40).y_label_area_size(60);
        let mut chart = builder.build_cartesian_2d(x, y).expect("a string takes it");
        let mut mesh = chart.configure_mesh();
        let (x, y) = (|x: &f64| digits(*x), |y: &f64| digits(*y));
        mesh.x_desc(axis).x_label_formatter(&x).y_label_formatter(&y).label_style(font(12, &BLACK));
        mesh.light_line_style(TRANSPARENT).draw().expect("a string takes it");
        for (row, colour) in self.rows() {
            let points = at.iter().zip(&row.cells).map(|(x, cell)| (*x, cell.value));
            let points: Vec<(f64, f64)> = points.filter(|(_, y)| y.is_finite()).collect();
            let dots = points.iter().map(|point| Circle::new(*point, 3, colour.filled()));
            chart.draw_series(dots).expect("a string takes it");
            let line = LineSeries::new(points.iter().copied(), colour.stroke_width(2));
            chart.draw_series(line).expect("a string takes it");
        }
    }
}

fn font(size: i32, colour: &RGBColor) -> TextStyle<'static> {
    // The backend draws it by so much smaller.
    ("sans-serif", f64::from(size) * 1.24).into_font().color(colour)
}

fn text(area: &Area<'_>, text: &str, at: (i32, i32), style: &TextStyle<'_>) {
    area.draw_text(text, style, at).expect("a string takes it");
}

fn rectangle(area: &Area<'_>, from: (i32, i32), to: (i32, i32), colour: &RGBColor) {
    area.draw(&Rectangle::new([from, to], colour.filled())).expect("a string takes it");
}
