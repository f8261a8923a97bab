//! A matrix as cells of one hue: the larger the value, the fuller the colour.

use serde::{Deserialize, Serialize};

use super::svg::{
    text_width, title_height, Align, Canvas, Frame, Paint, Stroke, TEXT_SIZE,
};
use super::Check;
use crate::error::Result;

/// Cells grow to this size where there is room …
const LARGEST_CELL: f64 = 52.0;
/// … and never shrink below this one, or the labels would touch each other.
const SMALLEST_CELL: f64 = 17.0;
/// The height of a line of text.
const LINE: f64 = 22.0;
/// The width of the colour scale.
const SCALE: f64 = 12.0;
/// How many shades the colour scale shows.
const SHADES: usize = 10;

// ANCHOR: heatmap
/// A matrix drawn as shaded cells, such as the attention weights of one head.
///
/// # Shapes
/// `values`: one row for each of `rows`, each with one number for each of `columns`. Attention weights `[T, S]` have
/// the queries as rows and the keys as columns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heatmap {
    /// The heading.
    pub title: String,
    /// What the figure shows, for readers who cannot see it.
    pub description: String,
    /// What the rows are, as in `query`.
    pub row_axis: String,
    /// What the columns are, as in `key`.
    pub column_axis: String,
    /// The name of each row, from the top.
    pub rows: Vec<String>,
    /// The name of each column, from the left.
    pub columns: Vec<String>,
    /// The value of an empty cell; no value lies below.
    pub min: f64,
    /// The value of a full cell; no value lies above.
    pub max: f64,
    /// Whether each cell bears its number. Cells too small for it stay without.
    pub show_values: bool,
    /// The matrix, row by row.
    pub values: Vec<Vec<f64>>,
}
// ANCHOR_END: heatmap

impl Heatmap {
    /// Attention weights: a row for each query, a column for each key, values from 0 to 1, each with its number.
    pub fn attention(
        title: impl Into<String>,
        description: impl Into<String>,
        queries: &[String],
        keys: &[String],
        weights: Vec<Vec<f64>>,
    ) -> Self {
        Self {
            title: title.into(),
            description: description.into(),
            row_axis: "query".into(),
            column_axis: "key".into(),
            rows: queries.to_vec(),
            columns: keys.to_vec(),
            min: 0.0,
            max: 1.0,
            show_values: true,
            values: weights,
        }
    }

    /// Says what is wrong with the data, if anything is.
    pub(super) fn check(&self) -> Check {
        let Self { rows, columns, values, min, max, .. } = self;
        if rows.is_empty() || columns.is_empty() {
            return Err(format!(
                "{} rows and {} columns; give at least one of each",
                rows.len(),
                columns.len()
            ));
        }
        if !(min.is_finite() && max.is_finite() && min < max) {
            return Err(format!(
                "the range {min} to {max} is empty; give a min below the max"
            ));
        }
        if values.len() != rows.len() {
            return Err(format!(
                "{} rows of values for {} row labels",
                values.len(),
                rows.len()
            ));
        }
        for (i, (label, row)) in rows.iter().zip(values).enumerate() {
            if row.len() != columns.len() {
                return Err(format!(
                    "row {i} (`{label}`) has {} values for {} column labels",
                    row.len(),
                    columns.len()
                ));
            }
            for (j, value) in row.iter().enumerate() {
                // A weight may miss the range by a rounding error, which no eye sees.
                let slack = (max - min) * 1e-4;
                if !(min - slack..=max + slack).contains(value) {
                    let place =
                        format!("row {i} (`{label}`), column {j} (`{}`)", columns[j]);
                    return Err(format!(
                        "{place}: {value} is not a number from {min} to {max}"
                    ));
                }
            }
        }
        Ok(())
    }

    /// The same chart with four decimals: what single precision computes alike on every machine.
    pub(super) fn rounded(&self) -> Self {
        let round =
            |value: f64| (value.clamp(self.min, self.max) * 1e4).round() / 1e4 + 0.0;
        let values = self
            .values
            .iter()
            .map(|row| row.iter().copied().map(round).collect())
            .collect();
        Self { values, ..self.clone() }
    }

    fn layout(&self, width: f64) -> Layout {
        let widest = |labels: &[String]| {
            labels.iter().map(|label| text_width(label)).fold(0.0, f64::max)
        };
        let left = widest(&self.rows) + 12.0;
        // Room for at least two digits, so that charts of different ranges have cells of the same size.
        let numbers =
            [&scale_number(self.min), &scale_number(self.max), "−1"].map(text_width);
        let right = 18.0 + SCALE + 6.0 + numbers.into_iter().fold(0.0, f64::max);
        let count = self.columns.len() as f64;
        let cell =
            ((width - left - right) / count).clamp(SMALLEST_CELL, LARGEST_CELL).floor();
        let turned = self
            .columns
            .iter()
            .map(|label| text_width(label))
            .filter(|&width| !fits(width, cell));
        let header = LINE + 2.0 + turned.map(|width| width + 8.0).fold(LINE, f64::max);
        Layout {
            left,
            header,
            cell,
            width: (left + cell * count + right).max(text_width(&self.axes())),
        }
    }

    /// What runs down and what runs across.
    fn axes(&self) -> String {
        format!("{} ↓ · {} →", self.row_axis, self.column_axis)
    }

    /// Width and height if the chart may be `width` wide.
    pub(super) fn size(&self, width: f64) -> (f64, f64) {
        let layout = self.layout(width);
        // A title that is longer than the matrix is wide is not broken for that, if there is room.
        let title = text_width(&self.title) * 1.3;
        let full = layout.width.max(title.min(width));
        (
            full,
            title_height(&self.title, full)
                + layout.header
                + layout.cell * self.rows.len() as f64
                + 2.0,
        )
    }

    pub(super) fn draw(&self, canvas: &Canvas, frame: Frame) -> Result<()> {
        let Layout { left, header, cell, .. } = self.layout(frame.width);
        let top = canvas.title(&self.title, frame)? + header;
        let left = frame.left + left;
        let (bottom, right) = (
            top + cell * self.rows.len() as f64,
            left + cell * self.columns.len() as f64,
        );

        canvas.text(
            &self.axes(),
            (frame.left, top - header + LINE / 2.0),
            Align::Left,
            Paint::Muted,
        )?;
        for (j, label) in self.columns.iter().enumerate() {
            let centre = left + cell * (j as f64 + 0.5);
            if fits(text_width(label), cell) {
                canvas.text(
                    label,
                    (centre, top - LINE / 2.0),
                    Align::Centre,
                    Paint::Ink,
                )?;
            } else {
                canvas.text(label, (centre, top - 6.0), Align::Upwards, Paint::Ink)?;
            }
        }

        for (i, (label, row)) in self.rows.iter().zip(&self.values).enumerate() {
            let upper = top + cell * i as f64;
            canvas.text(
                label,
                (left - 10.0, upper + cell / 2.0),
                Align::Right,
                Paint::Ink,
            )?;
            for (j, &value) in row.iter().enumerate() {
                let corner = (left + cell * j as f64, upper);
                self.draw_cell(canvas, corner, cell, value)?;
            }
        }
        // One line goes to and fro between all rows, another up and down between all columns: their turns lie on
        // the outline.
        let ends = |i: usize, from: f64, to: f64| {
            if i.is_multiple_of(2) {
                [from, to]
            } else {
                [to, from]
            }
        };
        let y = |i: usize| top + cell * i as f64;
        let between_rows =
            (0..=self.rows.len()).flat_map(|i| ends(i, left, right).map(|x| (x, y(i))));
        canvas.line(&between_rows.collect::<Vec<_>>(), Stroke::thin(Paint::Grid))?;
        let x = |j: usize| left + cell * j as f64;
        let between_columns = (0..=self.columns.len())
            .flat_map(|j| ends(j, top, bottom).map(|y| (x(j), y)));
        canvas.line(&between_columns.collect::<Vec<_>>(), Stroke::thin(Paint::Grid))?;
        self.draw_scale(
            canvas,
            (right + 18.0, top),
            (bottom - top).min(4.0 * LARGEST_CELL),
        )
    }

    fn draw_cell(
        &self,
        canvas: &Canvas,
        (x, y): (f64, f64),
        cell: f64,
        value: f64,
    ) -> Result<()> {
        let opacity = (value - self.min) / (self.max - self.min);
        canvas.rectangle((x, y), (x + cell, y + cell), Paint::Heat, opacity)?;
        let number = format!("{value:.2}").replace('-', "−");
        if self.show_values && text_width(&number) + 2.0 <= cell {
            canvas.text(
                &number,
                (x + cell / 2.0, y + cell / 2.0),
                Align::Centre,
                Paint::Ink,
            )?;
        }
        Ok(())
    }

    /// The colour scale: which shade is which value.
    fn draw_scale(
        &self,
        canvas: &Canvas,
        (x, top): (f64, f64),
        height: f64,
    ) -> Result<()> {
        let shade = height / SHADES as f64;
        for n in 0..SHADES {
            let y = top + shade * n as f64;
            let opacity = 1.0 - n as f64 / (SHADES - 1) as f64;
            canvas.rectangle((x, y), (x + SCALE, y + shade), Paint::Heat, opacity)?;
        }
        let (right, bottom) = (x + SCALE, top + height);
        let outline = [(x, top), (right, top), (right, bottom), (x, bottom), (x, top)];
        canvas.line(&outline, Stroke::thin(Paint::Grid))?;
        let half = TEXT_SIZE / 2.0;
        canvas.text(
            &scale_number(self.max),
            (right + 6.0, top + half),
            Align::Left,
            Paint::Muted,
        )?;
        canvas.text(
            &scale_number(self.min),
            (right + 6.0, bottom - half),
            Align::Left,
            Paint::Muted,
        )
    }
}

/// Whether a column's label fits above its cell without being turned.
fn fits(label: f64, cell: f64) -> bool {
    label + 4.0 <= cell
}

fn scale_number(value: f64) -> String {
    format!("{}", (value * 100.0).round() / 100.0).replace('-', "−")
}

/// Where the parts of a heatmap stand.
struct Layout {
    /// The width of the row labels.
    left: f64,
    /// The height of the column labels and the name above them.
    header: f64,
    cell: f64,
    width: f64,
}
