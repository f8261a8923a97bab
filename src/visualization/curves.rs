//! Lines over a common horizontal axis, plain or logarithmic.

use serde::{Deserialize, Serialize};

use super::scale::Scale;
use super::svg::{text_width, title_height, Align, Canvas, Frame, Paint, Stroke, SERIES};
use super::Check;
use crate::error::Result;

/// The height of a line of text.
const LINE: f64 = 22.0;
/// The width of the sample of a line that stands before its name.
const SAMPLE: f64 = 24.0;
/// The space between a sample and its name.
const SAMPLE_GAP: f64 = 7.0;
/// The space between two names in a row.
const NAME_GAP: f64 = 22.0;
/// The space between the name of the vertical axis and the plot.
const LABEL_GAP: f64 = 13.0;
/// A line bears at most about this many markers.
const MARKERS: usize = 9;
/// Half of the stroke that ends an error bar.
const BAR_END: f64 = 4.0;
/// How far apart the error bars of two lines stand at the same x.
const BAR_GAP: f64 = 7.0;

// ANCHOR: curves
/// Lines over a common horizontal axis, told apart by colour and by marker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Curves {
    /// The heading.
    pub title: String,
    /// What the figure shows, for readers who cannot see it.
    pub description: String,
    /// The horizontal axis.
    pub x_axis: Axis,
    /// The vertical axis.
    pub y_axis: Axis,
    /// The lines, six at the most.
    pub series: Vec<Series>,
    /// Values worth comparing with, drawn as dashed lines across the chart.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<Reference>,
}

/// What an axis counts, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Axis {
    /// The quantity with its unit, as in `time (ms)`.
    pub label: String,
    /// Whether equal steps are equal factors. Powers of two then get powers of two as ticks.
    #[serde(default)]
    pub log: bool,
    /// Values that the axis reaches even if no point does, such as 0 and 1 for a fraction.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<f64>,
    /// The values that are marked, ascending, instead of round ones: for a horizontal axis with few settings on it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ticks: Vec<f64>,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// The points (x, y), x ascending.
    pub points: Vec<(f64, f64)>,
    /// For each point how far it may be off, up and down: drawn as a band, or as error bars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<Vec<f64>>,
    /// Whether the spread is drawn as a bar at each point. A few measured points want bars, a long curve a band.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub error_bars: bool,
    /// Whether the line is dashed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dashed: bool,
}

/// A value worth comparing with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// What it is, as in `ln 5`.
    pub name: String,
    /// Where it stands on the vertical axis.
    pub value: f64,
}
// ANCHOR_END: curves

impl Axis {
    /// An axis on which equal steps are equal differences.
    pub fn linear(label: impl Into<String>) -> Self {
        Self { label: label.into(), log: false, include: Vec::new(), ticks: Vec::new() }
    }

    /// An axis on which equal steps are equal factors.
    pub fn log(label: impl Into<String>) -> Self {
        Self { log: true, ..Self::linear(label) }
    }

    /// Makes the axis reach these values even if no point does.
    pub fn with_include(self, values: impl Into<Vec<f64>>) -> Self {
        Self { include: values.into(), ..self }
    }

    /// Marks these values, ascending, instead of round ones; the axis reaches them.
    pub fn with_ticks(self, ticks: impl Into<Vec<f64>>) -> Self {
        Self { ticks: ticks.into(), ..self }
    }
}

impl Series {
    /// A solid line through the points (x, y), x ascending.
    pub fn new(name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.into(), points, spread: None, error_bars: false, dashed: false }
    }

    /// Adds for each point how far it may be off, as a band.
    pub fn with_spread(self, spread: Vec<f64>) -> Self {
        Self { spread: Some(spread), ..self }
    }

    /// Adds for each point how far it may be off, as a bar.
    pub fn with_error_bars(self, spread: Vec<f64>) -> Self {
        Self { spread: Some(spread), error_bars: true, ..self }
    }

    /// Makes the line dashed.
    pub fn with_dashes(self) -> Self {
        Self { dashed: true, ..self }
    }
}

/// Where the names of the lines go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Legend {
    /// At the ends of the lines if there is room, else above the chart.
    Own,
    /// Above the chart.
    Above,
    /// Another legend serves this chart too.
    Shared,
}

/// What the surroundings of a chart decide for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting {
    pub legend: Legend,
    /// The plot begins at least this far from the left, so that the plots of several panels are alike.
    pub left: f64,
}

impl Setting {
    /// A chart that is a figure of its own.
    pub const ALONE: Self = Self { legend: Legend::Own, left: 0.0 };
}

/// A line's name with what it looks like.
struct Entry<'a> {
    name: &'a str,
    stroke: Stroke,
    /// The number of the series whose marker the line bears.
    marker: Option<usize>,
    /// Where the line ends.
    end: f64,
}

impl Curves {
    /// Says what is wrong with the data, if anything is.
    pub(super) fn check(&self) -> Check {
        if self.series.is_empty() || self.series.len() > SERIES {
            return Err(format!(
                "{} series; give one to {SERIES}, or use several panels",
                self.series.len()
            ));
        }
        for (label, axis) in [("x", &self.x_axis), ("y", &self.y_axis)] {
            axis.include.iter().try_for_each(|&value| {
                axis.check(value, &format!("{label} axis, include"))
            })?;
            axis.ticks.iter().try_for_each(|&value| {
                axis.check(value, &format!("{label} axis, ticks"))
            })?;
        }
        for reference in &self.references {
            self.y_axis
                .check(reference.value, &format!("reference `{}`", reference.name))?;
        }
        self.series.iter().try_for_each(|series| self.check_series(series))
    }

    fn check_series(&self, series: &Series) -> Check {
        let Series { name, points, spread, .. } = series;
        if points.is_empty() {
            return Err(format!("series `{name}` has no points"));
        }
        for (i, &(x, y)) in points.iter().enumerate() {
            self.x_axis.check(x, &format!("series `{name}`, point {i}, x"))?;
            self.y_axis.check(y, &format!("series `{name}`, point {i}, y"))?;
        }
        if let Some(i) = points.windows(2).position(|pair| pair[0].0 >= pair[1].0) {
            return Err(format!(
                "series `{name}`: x does not ascend from point {i} to point {}",
                i + 1
            ));
        }
        let Some(spread) = spread else { return Ok(()) };
        if spread.len() != points.len() {
            return Err(format!(
                "series `{name}` has {} spreads for {} points",
                spread.len(),
                points.len()
            ));
        }
        match spread.iter().position(|spread| !(spread.is_finite() && *spread >= 0.0)) {
            Some(i) => Err(format!(
                "series `{name}`, spread {i}: {} is not a number from 0 up",
                spread[i]
            )),
            None => Ok(()),
        }
    }

    /// The same chart with five significant digits.
    pub(super) fn rounded(&self) -> Self {
        let mut chart = self.clone();
        for series in &mut chart.series {
            series.points.iter_mut().for_each(|(x, y)| (*x, *y) = (round(*x), round(*y)));
            series
                .spread
                .iter_mut()
                .flatten()
                .for_each(|spread| *spread = round(*spread));
        }
        chart
            .references
            .iter_mut()
            .for_each(|reference| reference.value = round(reference.value));
        chart
    }

    /// Whether one legend can serve both charts.
    pub(super) fn same_legend(&self, other: &Self) -> bool {
        let entries = |chart: &Self| -> Vec<_> {
            chart
                .entries()
                .iter()
                .map(|entry| (entry.name.to_owned(), entry.stroke.dashed, entry.marker))
                .collect()
        };
        entries(self) == entries(other)
    }

    fn entries(&self) -> Vec<Entry<'_>> {
        let series = self.series.iter().enumerate().map(|(n, series)| Entry {
            name: &series.name,
            stroke: Stroke { paint: Paint::Series(n), width: 2.0, dashed: series.dashed },
            marker: Some(n),
            end: series.points.last().map_or(0.0, |point| point.1),
        });
        let references = self.references.iter().map(|reference| Entry {
            name: &reference.name,
            stroke: Stroke { paint: Paint::Muted, width: 1.5, dashed: true },
            marker: None,
            end: reference.value,
        });
        series.chain(references).collect()
    }

    /// The width of the labels to the left of the plot.
    pub(super) fn left_margin(&self, legend: Legend) -> f64 {
        self.y_scale(plot_height(legend)).labels().map(text_width).fold(0.0, f64::max)
            + 10.0
    }

    fn layout(&self, width: f64, setting: Setting) -> Layout {
        let legend = setting.legend;
        let height = plot_height(legend);
        let entries = self.entries();
        let widest =
            entries.iter().map(|entry| text_width(entry.name)).fold(0.0, f64::max);
        // One line alone is named by the vertical axis.
        let names = match legend {
            _ if entries.len() == 1 => Names::None,
            Legend::Own
                if widest <= width * 0.28 && entries.len() as f64 * LINE <= height =>
            {
                Names::AtEnds
            }
            Legend::Own | Legend::Above => Names::Above,
            Legend::Shared => Names::None,
        };

        let y = self.y_scale(height);
        let left = self.left_margin(legend).max(setting.left);
        // Half of the last tick's label may stand to the right of the plot.
        let tick = self.x_scale(width).labels().last().map_or(0.0, text_width) / 2.0;
        let right = match names {
            Names::AtEnds => 10.0 + SAMPLE + SAMPLE_GAP + widest,
            Names::Above | Names::None => 8.0f64.max(tick),
        };
        let x = self.x_scale(width - left - right);
        let top =
            if matches!(names, Names::Above) { self.legend_height(width) } else { 0.0 }
                + LINE
                + LABEL_GAP;
        Layout { x, y, names, left, right, top, height }
    }

    fn x_scale(&self, length: f64) -> Scale {
        let values =
            self.series.iter().flat_map(|series| &series.points).map(|point| point.0);
        let Axis { include, ticks, log, .. } = &self.x_axis;
        let values: Vec<f64> =
            values.chain(include.iter().chain(ticks).copied()).collect();
        Scale::across(&values, *log, length).with_ticks(ticks, length)
    }

    fn y_scale(&self, length: f64) -> Scale {
        let mut values = self.y_axis.include.clone();
        values.extend(self.references.iter().map(|reference| reference.value));
        for series in &self.series {
            for (i, &(_, y)) in series.points.iter().enumerate() {
                let spread = series.spread.as_ref().map_or(0.0, |spread| spread[i]);
                // A logarithmic axis cannot show that the band reaches zero or below.
                let low = if self.y_axis.log && spread >= y { y } else { y - spread };
                values.extend([low, y, y + spread]);
            }
        }
        Scale::upwards(&values, self.y_axis.log, length)
    }

    /// Width and height if the chart may be `width` wide.
    pub(super) fn size(&self, width: f64, setting: Setting) -> (f64, f64) {
        let layout = self.layout(width, setting);
        (
            width,
            title_height(&self.title, width)
                + layout.top
                + layout.height
                + 2.0 * LINE
                + 6.0,
        )
    }

    pub(super) fn draw(
        &self,
        canvas: &Canvas,
        frame: Frame,
        setting: Setting,
    ) -> Result<()> {
        let layout = self.layout(frame.width, setting);
        let mut top = canvas.title(&self.title, frame)?;
        if let Names::Above = layout.names {
            top = self.draw_legend(canvas, Frame { top, ..frame })?;
        }
        canvas.text(
            &self.y_axis.label,
            (frame.left, top + LINE / 2.0),
            Align::Left,
            Paint::Muted,
        )?;
        let plot = Plot {
            x: layout.x,
            y: layout.y,
            inset: self.inset(),
            left: frame.left + layout.left,
            right: frame.left + frame.width - layout.right,
            top: top + LINE + LABEL_GAP,
            bottom: top + LINE + LABEL_GAP + layout.height,
        };
        plot.draw_axes(canvas)?;
        let middle = (plot.left + plot.right) / 2.0;
        canvas.text(
            &self.x_axis.label,
            (middle, plot.bottom + 8.0 + 1.5 * LINE),
            Align::Centre,
            Paint::Muted,
        )?;

        for entry in self.entries().iter().filter(|entry| entry.marker.is_none()) {
            let y = plot.y_at(entry.end);
            canvas.line(&[(plot.left, y), (plot.right, y)], entry.stroke)?;
        }
        for (n, series) in self.series.iter().enumerate() {
            match series.error_bars {
                true => plot.draw_error_bars(canvas, series, n, self.aside(n))?,
                false => plot.draw_band(canvas, series, n)?,
            }
        }
        for (n, (series, entry)) in self.series.iter().zip(self.entries()).enumerate() {
            plot.draw_line(canvas, series, &entry, self.aside(n))?;
        }
        match layout.names {
            Names::AtEnds => self.draw_names_at_ends(canvas, &plot),
            Names::Above | Names::None => Ok(()),
        }
    }

    /// How far the points of the n-th line stand aside, so that its error bars do not cover those of another.
    fn aside(&self, n: usize) -> f64 {
        match self.series.iter().any(|series| series.error_bars) {
            true => (n as f64 - (self.series.len() - 1) as f64 / 2.0) * BAR_GAP,
            false => 0.0,
        }
    }

    /// How far the first and the last x stand from the edges, so that there is room for error bars.
    fn inset(&self) -> f64 {
        match self.series.iter().any(|series| series.error_bars) {
            true => self.aside(self.series.len() - 1) + BAR_END + 2.0,
            false => 0.0,
        }
    }

    fn draw_names_at_ends(&self, canvas: &Canvas, plot: &Plot) -> Result<()> {
        let entries = self.entries();
        let ends: Vec<f64> = entries.iter().map(|entry| plot.y_at(entry.end)).collect();
        let left = plot.right + 10.0;
        for (entry, y) in
            entries.iter().zip(spread_out(&ends, LINE, plot.top, plot.bottom))
        {
            entry.draw(canvas, (left, y))?;
        }
        Ok(())
    }

    /// The names in rows of at most `width`: for each its place from the upper left corner.
    fn legend_places(&self, width: f64) -> Vec<(f64, f64)> {
        let (mut x, mut y) = (0.0, LINE / 2.0);
        let mut places = Vec::new();
        for entry in self.entries() {
            let needed = SAMPLE + SAMPLE_GAP + text_width(entry.name);
            if x > 0.0 && x + needed > width {
                (x, y) = (0.0, y + LINE);
            }
            places.push((x, y));
            x += needed + NAME_GAP;
        }
        places
    }

    /// The height of the legend above the chart with the space below it.
    pub(super) fn legend_height(&self, width: f64) -> f64 {
        self.legend_places(width).last().map_or(0.0, |place| place.1 + LINE / 2.0) + 14.0
    }

    /// Draws the legend and gives the place below it.
    pub(super) fn draw_legend(&self, canvas: &Canvas, frame: Frame) -> Result<f64> {
        for (entry, (x, y)) in self.entries().iter().zip(self.legend_places(frame.width))
        {
            entry.draw(canvas, (frame.left + x, frame.top + y))?;
        }
        Ok(frame.top + self.legend_height(frame.width))
    }
}

impl Axis {
    fn check(&self, value: f64, place: &str) -> Check {
        if !value.is_finite() {
            return Err(format!("{place}: {value} is not a finite number"));
        }
        if self.log && value <= 0.0 {
            return Err(format!("{place}: {value} has no place on a logarithmic axis; give numbers above 0"));
        }
        Ok(())
    }
}

impl Entry<'_> {
    /// Draws the sample of the line and its name.
    fn draw(&self, canvas: &Canvas, (x, y): (f64, f64)) -> Result<()> {
        canvas.line(&[(x, y), (x + SAMPLE, y)], self.stroke)?;
        if let Some(n) = self.marker {
            draw_marker(canvas, (x + SAMPLE / 2.0, y), n)?;
        }
        canvas.text(self.name, (x + SAMPLE + SAMPLE_GAP, y), Align::Left, Paint::Ink)
    }
}

/// In a panel the plot is a little lower.
fn plot_height(legend: Legend) -> f64 {
    if legend == Legend::Own {
        260.0
    } else {
        210.0
    }
}

/// Where the names of the lines stand.
enum Names {
    AtEnds,
    Above,
    None,
}

/// Where the parts of a chart stand.
struct Layout {
    x: Scale,
    y: Scale,
    names: Names,
    left: f64,
    right: f64,
    top: f64,
    height: f64,
}

/// The rectangle in which the lines run.
struct Plot {
    x: Scale,
    y: Scale,
    inset: f64,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

impl Plot {
    fn x_at(&self, value: f64) -> f64 {
        let length = self.right - self.left - 2.0 * self.inset;
        self.left + self.inset + self.x.fraction(value) * length
    }

    fn y_at(&self, value: f64) -> f64 {
        self.bottom - self.y.fraction(value) * (self.bottom - self.top)
    }

    fn at(&self, (x, y): (f64, f64)) -> (f64, f64) {
        (self.x_at(x), self.y_at(y))
    }

    fn draw_axes(&self, canvas: &Canvas) -> Result<()> {
        for (value, label) in &self.y.ticks {
            let y = self.y_at(*value);
            canvas.line(&[(self.left, y), (self.right, y)], Stroke::thin(Paint::Grid))?;
            canvas.text(label, (self.left - 8.0, y), Align::Right, Paint::Muted)?;
        }
        canvas.line(
            &[(self.left, self.bottom), (self.right, self.bottom)],
            Stroke::thin(Paint::Muted),
        )?;
        for (value, label) in &self.x.ticks {
            let x = self.x_at(*value);
            canvas.line(
                &[(x, self.bottom), (x, self.bottom + 5.0)],
                Stroke::thin(Paint::Muted),
            )?;
            canvas.text(
                label,
                (x, self.bottom + 6.0 + LINE / 2.0),
                Align::Centre,
                Paint::Muted,
            )?;
        }
        Ok(())
    }

    fn draw_band(&self, canvas: &Canvas, series: &Series, n: usize) -> Result<()> {
        let Some(spread) = &series.spread else { return Ok(()) };
        let edge = |sign: f64| {
            let points = series.points.iter().zip(spread);
            // `min` also holds at the bottom what has no place on a logarithmic axis.
            points.map(move |(&(x, y), spread)| {
                (self.x_at(x), self.y_at(y + sign * spread).min(self.bottom))
            })
        };
        let corners: Vec<_> = edge(1.0).chain(edge(-1.0).rev()).collect();
        canvas.polygon(&corners, Paint::Series(n), 0.2)
    }

    fn draw_error_bars(
        &self,
        canvas: &Canvas,
        series: &Series,
        n: usize,
        aside: f64,
    ) -> Result<()> {
        let stroke = Stroke { paint: Paint::Series(n), width: 1.5, dashed: false };
        for (&(x, y), spread) in series.points.iter().zip(series.spread.iter().flatten())
        {
            let x = self.x_at(x) + aside;
            // `min` also holds at the bottom what has no place on a logarithmic axis.
            let [top, bottom] =
                [y + spread, y - spread].map(|y| self.y_at(y).min(self.bottom));
            let (left, right) = (x - BAR_END, x + BAR_END);
            // One stroke: along the upper end, down the middle, along the lower end.
            let bar = [
                (left, top),
                (right, top),
                (x, top),
                (x, bottom),
                (left, bottom),
                (right, bottom),
            ];
            canvas.line(&bar, stroke)?;
        }
        Ok(())
    }

    fn draw_line(
        &self,
        canvas: &Canvas,
        series: &Series,
        entry: &Entry,
        aside: f64,
    ) -> Result<()> {
        let points = series.points.iter().map(|&point| self.at(point));
        let points: Vec<_> = points.map(|(x, y)| (x + aside, y)).collect();
        canvas.line(&points, entry.stroke)?;
        let every = points.len().div_ceil(MARKERS);
        // Counted from the end, so that the last point always bears one.
        for &point in points.iter().rev().step_by(every) {
            draw_marker(canvas, point, entry.marker.unwrap_or(0))?;
        }
        Ok(())
    }
}

/// The marker of the n-th series, so that lines can be told apart without colour.
fn draw_marker(canvas: &Canvas, (x, y): (f64, f64), n: usize) -> Result<()> {
    let paint = Paint::Series(n);
    let polygon = |corners: &[(f64, f64)]| {
        let corners: Vec<_> = corners.iter().map(|(dx, dy)| (x + dx, y + dy)).collect();
        canvas.polygon(&corners, paint, 1.0)
    };
    match n % SERIES {
        0 => canvas.circle((x, y), 4.0, paint),
        1 => polygon(&[(-3.7, -3.7), (3.7, -3.7), (3.7, 3.7), (-3.7, 3.7)]),
        2 => polygon(&[(0.0, -5.0), (4.8, 3.6), (-4.8, 3.6)]),
        3 => polygon(&[(0.0, -5.4), (5.4, 0.0), (0.0, 5.4), (-5.4, 0.0)]),
        4 => polygon(&[(0.0, 5.0), (4.8, -3.6), (-4.8, -3.6)]),
        _ => polygon(&[(-1.6, -5.0), (1.6, -5.0), (1.6, 5.0), (-1.6, 5.0)]),
    }
}

/// Moves places apart until each is `gap` from the next, in their order and as little as a page needs.
fn spread_out(places: &[f64], gap: f64, top: f64, bottom: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..places.len()).collect();
    order.sort_by(|&a, &b| places[a].total_cmp(&places[b]));
    let mut moved = places.to_vec();
    let mut least = top;
    for &i in &order {
        moved[i] = moved[i].max(least);
        least = moved[i] + gap;
    }
    let mut most = bottom;
    for &i in order.iter().rev() {
        moved[i] = moved[i].min(most);
        most = moved[i] - gap;
    }
    moved
}

/// Five significant digits; whole numbers stay as they are.
fn round(value: f64) -> f64 {
    if value.fract() == 0.0 {
        return value;
    }
    let digits = 4 - value.abs().log10().floor() as i32;
    let factor = 10f64.powi(digits.abs());
    if digits >= 0 {
        (value * factor).round() / factor
    } else {
        (value / factor).round() * factor
    }
}
