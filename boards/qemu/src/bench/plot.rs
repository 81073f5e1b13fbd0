//! The rows as a picture: what a pass costs against the table's order and against its occupancy.
//!
//! Of one machine: the passes cost the same on the others. The same rows give the same bytes, so that a picture that
//! is kept changes only when a figure does.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use plotters::backend::{DrawingBackend, SVGBackend};
use plotters::chart::ChartBuilder;
use plotters::coord::Shift;
use plotters::coord::combinators::{BindKeyPoints as _, IntoLogRange as _};
use plotters::drawing::{DrawingArea, IntoDrawingArea as _};
use plotters::element::{
    Circle, ComposedElement, DashedPathElement, EmptyElement, PathElement, Rectangle, Text,
};
use plotters::series::{DashedLineSeries, LineSeries};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{BLACK, Color as _, IntoFont as _, RGBColor, TextStyle, WHITE};

use super::figures::{CLEAN_PASS, FIRST_PASS, Row, clean_pass_unsettled};
use super::linux::Linux;
use super::report::shown;

/// Pixels of the picture, of its panels, and of where the words of the legend begin.
const SIZE: (u32, u32) = (960, 464);
const PANELS: u32 = 390;
const COLUMNS: [i32; 4] = [24, 190, 420, 690];
const LINE: i32 = 22;
/// Pixels from a marker's middle to its edge.
const MARKER: i32 = 4;
const DASH: i32 = 6;
/// What is left free beside the first place and the last, as a factor.
const MARGIN: f64 = 1.3;

const GREY: RGBColor = RGBColor(110, 110, 110);
const LIGHT_GREY: RGBColor = RGBColor(225, 225, 225);
// Of the palette of Okabe and Ito, which the colour-blind can tell apart too.
const BLUE: RGBColor = RGBColor(0, 114, 178);
const VERMILLION: RGBColor = RGBColor(213, 94, 0);
const GREEN: RGBColor = RGBColor(0, 158, 115);

/// What is to be known about Linux's figures.
const NOTE: &str = "Open squares were not measured: the measured figure of order 24 for each slot; at 100 %, of a \
                    full table of order 20 for each entry.";

/// The occupancy at which cost is drawn against the order.
const PERMILLE: u32 = 125;

/// The area that everything is drawn on.
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A rectangle in pixels from where it is put.
type Corners = Rectangle<(i32, i32)>;

/// A kind of pass.
struct Work {
    row: String,
    label: String,
    colour: RGBColor,
    /// Linux's figure is drawn too. It is one for a clean pass, whatever is settled.
    with_linux: bool,
}

fn works() -> [Work; 3] {
    let unsettled = clean_pass_unsettled();
    [
        Work {
            row: FIRST_PASS.to_owned(),
            label: "first pass".to_owned(),
            colour: BLUE,
            with_linux: true,
        },
        Work {
            row: unsettled.clone(),
            label: unsettled,
            colour: VERMILLION,
            with_linux: true,
        },
        Work {
            row: CLEAN_PASS.to_owned(),
            label: CLEAN_PASS.to_owned(),
            colour: GREEN,
            with_linux: false,
        },
    ]
}

/// What cost is drawn against.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Across {
    Order,
    /// Of tables of this order.
    Occupancy(u32),
}

impl Across {
    /// Where a row stands, if it belongs here: the table's bytes, or its valid slots in percent.
    fn place(self, row: &Row) -> Option<f64> {
        let permille = row.permille?;
        match self {
            Self::Order => (permille == PERMILLE).then(|| f64::from(row.order).exp2()),
            Self::Occupancy(order) => (row.order == order).then(|| f64::from(permille) / 10.0),
        }
    }

    /// What a place is called.
    fn name(self, place: f64) -> String {
        match self {
            Self::Order => format!("{}", place.log2()),
            Self::Occupancy(_) => format!("{place} %"),
        }
    }

    fn caption(self, machine: &str) -> String {
        match self {
            Self::Order => format!("{machine}, {} % valid", f64::from(PERMILLE) / 10.0),
            Self::Occupancy(order) => format!("{machine}, order {order}"),
        }
    }

    const fn axis(self) -> &'static str {
        match self {
            Self::Order => "order: log2 of the table's bytes",
            Self::Occupancy(_) => "valid slots",
        }
    }
}

/// One figure.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Point {
    place: f64,
    insns: f64,
    /// It was measured, else computed from one that was.
    measured: bool,
}

/// The figures of ours for a kind of pass, or Linux's.
fn points(rows: &[Row], work: &Work, across: Across, linux: bool) -> Vec<Point> {
    let mut points: Vec<Point> = rows
        .iter()
        .filter(|row| row.row == work.row)
        .filter_map(|row| {
            let measured = row
                .permille
                .is_some_and(|permille| Linux::is_measured(row.order, permille));
            Some(Point {
                place: across.place(row)?,
                insns: if linux { row.linux? } else { row.per_unit },
                measured: !linux || measured,
            })
        })
        .collect();
    points.sort_by(|left, right| left.place.total_cmp(&right.place));
    points
}

/// Draws the rows of the first machine there is, as SVG.
///
/// # Errors
/// If there is none, or the picture cannot be drawn.
pub fn draw(rows: &[Row]) -> Result<String> {
    let machine = rows.first().context("nothing was measured")?.machine;
    let rows: Vec<Row> = rows
        .iter()
        .filter(|row| row.machine == machine)
        .cloned()
        .collect();
    let orders: Vec<u32> = rows.iter().map(|row| row.order).collect();
    let order = shown(&orders).context("nothing was measured")?;
    let mut picture = String::new();
    {
        let root = SVGBackend::with_string(&mut picture, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let (panels, below) = root.split_vertically(PANELS);
        let across = [Across::Order, Across::Occupancy(order)];
        for (panel, across) in panels.split_evenly((1, across.len())).iter().zip(across) {
            draw_panel(panel, machine, across, &rows)?;
        }
        draw_legend(&below, rows.iter().any(|row| row.linux.is_some()))?;
        root.present()?;
    }
    Ok(picture)
}

/// Draws into a file.
///
/// # Errors
/// If there is nothing to draw, or the file cannot be written.
pub fn save(path: &Path, rows: &[Row]) -> Result<()> {
    fs::write(path, draw(rows)?).with_context(|| format!("cannot write to {}", path.display()))
}

fn draw_panel(area: &Area<'_>, machine: &str, across: Across, rows: &[Row]) -> Result<()> {
    let works = works();
    let series: Vec<(&Work, bool, Vec<Point>)> = works
        .iter()
        .flat_map(|work| {
            // Linux's below ours, where they meet.
            let linux = work.with_linux.then_some(true);
            linux
                .into_iter()
                .chain([false])
                .map(move |linux| (work, linux))
        })
        .map(|(work, linux)| (work, linux, points(rows, work, across, linux)))
        .collect();
    let all = || series.iter().flat_map(|(.., points)| points);
    let mut places: Vec<f64> = all().map(|point| point.place).collect();
    places.sort_by(f64::total_cmp);
    places.dedup();
    let (&first, &last) = places
        .first()
        .zip(places.last())
        .context("nothing to draw")?;
    let least = all().map(|point| point.insns).fold(f64::INFINITY, f64::min);
    let most = all().map(|point| point.insns).fold(0.0, f64::max);
    let (low, high) = (least.log10().floor(), most.log10().ceil());
    let mut decades = Vec::new();
    let mut decade = low;
    while decade <= high {
        decades.push(10_f64.powf(decade));
        decade += 1.0;
    }

    let mut chart = ChartBuilder::on(area)
        .caption(across.caption(machine), words(19, BLACK))
        .margin(12)
        .x_label_area_size(48)
        .y_label_area_size(72)
        .build_cartesian_2d(
            (first / MARGIN..last * MARGIN)
                .log_scale()
                .with_key_points(places),
            (10_f64.powf(low)..10_f64.powf(high))
                .log_scale()
                .with_key_points(decades),
        )?;
    chart
        .configure_mesh()
        .bold_line_style(LIGHT_GREY)
        .light_line_style(WHITE.mix(0.0))
        .axis_style(GREY)
        .label_style(words(15, GREY))
        .axis_desc_style(words(16, GREY))
        .x_desc(across.axis())
        .y_desc("guest instructions for a pass")
        .x_label_formatter(&|place| across.name(*place))
        .y_label_formatter(&|insns| short(*insns))
        .draw()?;
    for (work, linux, points) in series {
        let line = points.iter().map(|point| (point.place, point.insns));
        let style = work.colour.stroke_width(2);
        if linux {
            let dashed = line.collect::<Vec<_>>().into_iter();
            chart.draw_series(DashedLineSeries::new(dashed, DASH, DASH, style))?;
        } else {
            chart.draw_series(LineSeries::new(line, style))?;
        }
        chart.draw_series(
            points
                .iter()
                .filter(|_| linux)
                .map(|point| square((point.place, point.insns), work.colour, point.measured)),
        )?;
        chart.draw_series(
            points
                .iter()
                .filter(|_| !linux)
                .map(|point| Circle::new((point.place, point.insns), MARKER, work.colour.filled())),
        )?;
    }
    Ok(())
}

/// The legend: a line of ours, one of Linux's, and what of Linux's was not measured.
fn draw_legend(area: &Area<'_>, with_linux: bool) -> Result<()> {
    let works = works();
    let [title, columns @ ..] = COLUMNS;
    let plain = words(15, BLACK);
    let mut lines = vec![("realhpt", false)];
    if with_linux {
        lines.push(("Linux KVM-HV 6.1", true));
    }
    for (y, (who, linux)) in (LINE / 2..).step_by(LINE as usize).zip(lines) {
        area.draw(&text(who, (title, y), &plain))?;
        for (work, x) in works.iter().zip(columns) {
            if linux && !work.with_linux {
                continue;
            }
            let line = [(x, y), (x + 6 * DASH, y)];
            let style = work.colour.stroke_width(2);
            let middle = (x + 3 * DASH, y);
            if linux {
                area.draw(&DashedPathElement::new(line, DASH, DASH, style))?;
                area.draw(&square(middle, work.colour, true))?;
            } else {
                area.draw(&PathElement::new(line, style))?;
                area.draw(&Circle::new(middle, MARKER, work.colour.filled()))?;
            }
            area.draw(&text(work.label.as_str(), (x + 8 * DASH, y), &plain))?;
        }
    }
    if with_linux {
        let y = 2 * LINE + LINE / 2;
        area.draw(&text(NOTE, (title, y), &words(14, GREY)))?;
    }
    Ok(())
}

/// Words of a size.
fn words(size: u32, colour: RGBColor) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&colour)
}

/// A text that begins at a place, in the middle of its line.
fn text<'a>(
    text: &'a str,
    place: (i32, i32),
    style: &TextStyle<'a>,
) -> Text<'a, (i32, i32), &'a str> {
    Text::new(text, place, style.pos(Pos::new(HPos::Left, VPos::Center)))
}

/// A square around a place: filled, or open.
fn square<At, DB: DrawingBackend>(
    at: At,
    colour: RGBColor,
    filled: bool,
) -> ComposedElement<At, DB, Corners, Corners> {
    let inside = if filled { colour } else { WHITE };
    let corners = [(-MARKER, -MARKER), (MARKER, MARKER)];
    EmptyElement::at(at)
        + Rectangle::new(corners, inside.filled())
        + Rectangle::new(corners, colour.stroke_width(2))
}

/// A number in few letters.
fn short(insns: f64) -> String {
    let (unit, name) = match insns {
        1e9.. => (1e9, " G"),
        1e6.. => (1e6, " M"),
        1e3.. => (1e3, " k"),
        _ => (1.0, ""),
    };
    format!("{:.0}{name}", insns / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(machine: &'static str) -> Vec<Row> {
        let mut rows = Vec::new();
        for order in [18, 20, 24] {
            for permille in [10, 125, 500, 1000] {
                for (work, insns) in works().into_iter().zip([90.0, 20.0, 0.1]) {
                    // Linux has no clean pass over a full table, and ours is settled.
                    let linux = permille != 1000 || work.row == FIRST_PASS;
                    rows.push(Row {
                        machine,
                        row: work.row,
                        order,
                        permille: Some(permille),
                        insns: Some(insns),
                        unit: "pass",
                        per_unit: insns * f64::from(permille) * f64::from(order).exp2() / 1e6,
                        linux: linux.then(|| 9e3 * f64::from(order).exp2() / 1e6),
                        ratio: None,
                        budget: None,
                        grows: true,
                    });
                }
            }
        }
        rows
    }

    #[test]
    fn the_picture_has_every_series_in_both_panels() {
        let picture = draw(&rows("powernv9")).expect("a picture");
        for word in [
            "realhpt",
            "Linux KVM-HV 6.1",
            "powernv9, order 24",
            "12.5 %",
            "100 %",
        ] {
            assert!(picture.contains(word), "{word}");
        }
        for work in works() {
            assert!(picture.contains(&work.label), "{}", work.label);
            // A line in each panel and one in the legend.
            let RGBColor(red, green, blue) = work.colour;
            let colour = format!("stroke=\"#{red:02X}{green:02X}{blue:02X}\"");
            let lines = picture
                .lines()
                .filter(|line| line.starts_with("<polyline") && line.contains(&colour));
            assert!(lines.count() >= 3, "{}", work.label);
        }
        // Three orders and four occupancies, and the legend's.
        assert_eq!(picture.matches("<circle").count(), 3 * (3 + 4 + 1));
    }

    #[test]
    fn what_linux_was_not_measured_with_is_open() {
        let [first, ..] = works();
        let rows = rows("powernv9");
        let measured = |across| -> Vec<bool> {
            let points = points(&rows, &first, across, true);
            points.iter().map(|point| point.measured).collect()
        };
        assert_eq!(measured(Across::Order), [false, false, true]);
        assert_eq!(measured(Across::Occupancy(24)), [true, true, true, false]);
        assert_eq!(measured(Across::Occupancy(20)), [false; 4]);
        assert!(
            points(&rows, &first, Across::Order, false)
                .iter()
                .all(|point| point.measured)
        );
    }

    #[test]
    fn the_same_rows_are_the_same_picture_and_of_the_first_machine() {
        let both = [rows("powernv9"), rows("powernv8")].concat();
        let picture = draw(&both).expect("a picture");
        assert_eq!(picture, draw(&rows("powernv9")).expect("a picture"));
        assert!(draw(&[]).is_err());
    }

    #[test]
    fn one_order_and_no_figures_of_linux_are_drawn_too() {
        let mut rows = rows("powernv10");
        rows.retain(|row| row.order == 20);
        for row in &mut rows {
            row.linux = None;
        }
        let picture = draw(&rows).expect("a picture");
        assert!(picture.contains("powernv10, order 20") && !picture.contains("Linux"));
    }

    #[test]
    fn numbers_are_short() {
        for (insns, text) in [(100.0, "100"), (1e4, "10 k"), (1e8, "100 M"), (1e9, "1 G")] {
            assert_eq!(short(insns), text);
        }
    }
}
