//! Figures: what a chart shows as JSON, how it looks as SVG (chapter 10).
//!
//! A [`Chart`] holds numbers and words, never pixels or colours. It is saved twice: as JSON, which a test can
//! compare with a fresh run, and as the SVG drawn from that JSON. Drawing depends on nothing but the chart: no
//! installed font, no clock, no random number, so the same chart gives the same bytes on every machine.
//!
//! The SVG takes its colours from CSS variables with a light and a dark value each. Inlined in a page, it follows
//! the page's `color-scheme`; opened on its own, it follows the reader's.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::files::write_whole;

pub mod ablation;
pub mod capture;
mod curves;
mod diagram;
mod grid;
pub mod head_record;
pub mod heads;
mod heatmap;
pub mod inside;
mod losses;
pub mod maps;
mod scale;
mod svg;
pub mod table;

pub use curves::{Axis, Curves, Reference, Series};
pub use diagram::{Arrow, Diagram, Node};
pub use grid::Grid;
pub use heatmap::Heatmap;
pub use losses::loss_curves;

use curves::{Legend, Setting};
use svg::{Canvas, Frame};

/// The width of a figure that fills the page, in SVG units; about one CSS pixel each at full size.
const PAGE_WIDTH: f64 = 720.0;
/// The width of a single chart of lines: it still fits a phone with its words readable.
const NARROW_WIDTH: f64 = 520.0;
/// The space between two panels.
const GUTTER: f64 = 28.0;

/// What is wrong with a chart's data, if anything is; the chart's title is added to it later.
type Check = std::result::Result<(), String>;

// ANCHOR: chart
/// A figure of the book: data, labels, and what it says in words.
///
/// # Example: from numbers to a picture
/// ```
/// use self_attention::visualization::{Chart, Heatmap};
///
/// let tokens = ["t", "o"].map(String::from).to_vec();
/// let weights = vec![vec![0.9, 0.1], vec![0.4, 0.6]];
/// let chart = Chart::Heatmap(Heatmap::attention(
///     "Who looks at whom",
///     "Two letters: t looks at itself, o looks at both.",
///     &tokens,
///     &tokens,
///     weights,
/// ));
/// assert!(chart.to_svg()?.starts_with("<svg"));
/// assert_eq!(Chart::from_json(&chart.to_json()?)?, chart);
/// # Ok::<(), self_attention::error::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Chart {
    /// A matrix as shaded cells.
    Heatmap(Heatmap),
    /// Lines over a common horizontal axis.
    Curves(Curves),
    /// Boxes with words, and arrows between them.
    Diagram(Diagram),
    /// Many small matrices of the same rows and columns.
    Grid(Grid),
    /// Several charts in one figure.
    Panels(Panels),
}
// ANCHOR_END: chart

/// Several charts side by side, filled row by row.
///
/// If all of them are [`Curves`] with the same series, one legend above serves them all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Panels {
    /// The heading above all panels.
    pub title: String,
    /// What the figure shows, for readers who cannot see it.
    pub description: String,
    /// How many panels stand side by side. Two at the most keep the words readable on a phone.
    pub columns: usize,
    /// The charts; none of them `Panels` itself.
    pub panels: Vec<Chart>,
}

impl Chart {
    /// Reads a chart from the text of its JSON file.
    ///
    /// # Errors
    /// [`Error::Figure`] if the text is not the JSON of a chart, or if the chart cannot be drawn (see
    /// [`Chart::to_svg`]).
    pub fn from_json(text: &str) -> Result<Self> {
        let chart: Self = serde_json::from_str(text).map_err(|error| Error::Figure {
            title: "(from JSON)".into(),
            reason: format!("this is not the JSON of a chart: {error}"),
        })?;
        chart.check()?;
        Ok(chart)
    }

    /// Reads a chart from its JSON file.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read, [`Error::File`] if it does not hold a chart that can be drawn.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = fs::read_to_string(path).map_err(Error::io(path))?;
        Self::from_json(&text).map_err(|error| Error::file(path, error.to_string()))
    }

    /// The chart as JSON, indented, its numbers rounded to what the eye can tell apart.
    ///
    /// # Errors
    /// [`Error::Figure`] if the chart cannot be drawn (see [`Chart::to_svg`]).
    pub fn to_json(&self) -> Result<String> {
        self.check()?;
        let text = serde_json::to_string_pretty(&self.rounded())
            .map_err(|error| self.error(error.to_string()))?;
        Ok(join_short_lists(&text))
    }

    // ANCHOR: to_svg
    /// Draws the chart.
    ///
    /// The text has no prolog, no blank line and no fixed colour, so it can stand in a file of its own as well as
    /// inside a `<figure>` of a Markdown page. It carries the title and description for screen readers.
    ///
    /// # Errors
    /// [`Error::Figure`], naming the row or series, if the data is ragged, empty, not finite, or outside its range.
    pub fn to_svg(&self) -> Result<String> {
        self.check()?;
        let chart = self.rounded();
        let (width, height) = chart.size(chart.width(), Setting::ALONE);
        svg::draw(chart.title(), chart.description(), width, height, |canvas| {
            chart.draw(
                canvas,
                Frame { left: 0.0, top: 0.0, width, is_panel: false },
                Setting::ALONE,
            )
        })
    }
    // ANCHOR_END: to_svg

    /// Writes `NAME.json` and `NAME.svg` into a folder, which is made if need be. Each file appears whole or not at
    /// all, also when the program is stopped half-way.
    ///
    /// # Errors
    /// [`Error::Figure`] if the chart cannot be drawn, [`Error::Io`] if a file cannot be written.
    pub fn save(&self, folder: impl AsRef<Path>, name: &str) -> Result<()> {
        let (json, svg) = (self.to_json()?, self.to_svg()?);
        for (ending, text) in [("json", json), ("svg", svg)] {
            let path = folder.as_ref().join(format!("{name}.{ending}"));
            write_whole(&path, text.as_bytes())?;
        }
        Ok(())
    }

    /// The heading of the figure.
    pub fn title(&self) -> &str {
        match self {
            Self::Heatmap(chart) => &chart.title,
            Self::Curves(chart) => &chart.title,
            Self::Diagram(chart) => &chart.title,
            Self::Grid(chart) => &chart.title,
            Self::Panels(chart) => &chart.title,
        }
    }

    /// What the figure shows, in words.
    pub fn description(&self) -> &str {
        match self {
            Self::Heatmap(chart) => &chart.description,
            Self::Curves(chart) => &chart.description,
            Self::Diagram(chart) => &chart.description,
            Self::Grid(chart) => &chart.description,
            Self::Panels(chart) => &chart.description,
        }
    }

    fn check(&self) -> Result<()> {
        let checked: Check = match self {
            _ if self.title().trim().is_empty() => Err("a figure needs a title".into()),
            _ if self.description().trim().is_empty() => {
                Err("a figure needs a description for readers who cannot see it".into())
            }
            Self::Heatmap(chart) => chart.check(),
            Self::Curves(chart) => chart.check(),
            Self::Diagram(chart) => chart.check(),
            Self::Grid(chart) => chart.check(),
            Self::Panels(chart) => return chart.check(),
        };
        checked.map_err(|reason| self.error(reason))
    }

    fn error(&self, reason: String) -> Error {
        Error::Figure { title: self.title().into(), reason }
    }

    /// The chart as it reads back from its own JSON, so that both files of a figure show the same numbers.
    fn rounded(&self) -> Self {
        match self {
            Self::Heatmap(chart) => Self::Heatmap(chart.rounded()),
            Self::Curves(chart) => Self::Curves(chart.rounded()),
            Self::Diagram(chart) => Self::Diagram(chart.clone()), // no numbers to round
            Self::Grid(chart) => Self::Grid(chart.rounded()),
            Self::Panels(chart) => {
                let panels = chart.panels.iter().map(Self::rounded).collect();
                Self::Panels(Panels { panels, ..chart.clone() })
            }
        }
    }

    /// The width a chart takes when the whole page is its own.
    fn width(&self) -> f64 {
        match self {
            Self::Heatmap(_) | Self::Diagram(_) | Self::Grid(_) | Self::Panels(_) => {
                PAGE_WIDTH
            }
            Self::Curves(_) => NARROW_WIDTH,
        }
    }

    /// Width and height of the chart if it may be `width` wide.
    fn size(&self, width: f64, setting: Setting) -> (f64, f64) {
        match self {
            Self::Heatmap(chart) => chart.size(width),
            Self::Curves(chart) => chart.size(width, setting),
            Self::Diagram(chart) => chart.size(width),
            Self::Grid(chart) => chart.size(width),
            Self::Panels(chart) => {
                let places = chart.places(width);
                (places.width, places.height)
            }
        }
    }

    fn draw(&self, canvas: &Canvas, frame: Frame, setting: Setting) -> Result<()> {
        match self {
            Self::Heatmap(chart) => chart.draw(canvas, frame),
            Self::Curves(chart) => chart.draw(canvas, frame, setting),
            Self::Diagram(chart) => chart.draw(canvas, frame),
            Self::Grid(chart) => chart.draw(canvas, frame),
            Self::Panels(chart) => chart.draw(canvas, frame),
        }
    }
}

/// Where the panels stand.
struct Places {
    setting: Setting,
    frames: Vec<Frame>,
    width: f64,
    height: f64,
}

impl Panels {
    fn check(&self) -> Result<()> {
        let error = |reason: String| Error::Figure { title: self.title.clone(), reason };
        if self.columns == 0 || self.panels.is_empty() {
            return Err(error("needs at least one column and one panel".into()));
        }
        if self.panels.iter().any(|panel| matches!(panel, Chart::Panels(_))) {
            return Err(error(
                "panels cannot hold panels; put the inner ones into the outer list"
                    .into(),
            ));
        }
        self.panels.iter().try_for_each(Chart::check)
    }

    /// The chart whose legend serves all panels, if their series bear the same names.
    fn shared_legend(&self) -> Option<&Curves> {
        let curves = self.panels.iter().map(|panel| match panel {
            Chart::Curves(curves) => Some(curves),
            _ => None,
        });
        let curves = curves.collect::<Option<Vec<_>>>()?;
        let (first, rest) = curves.split_first()?;
        (!rest.is_empty() && rest.iter().all(|chart| chart.same_legend(first)))
            .then_some(first)
    }

    /// What the panels have in common: who names their lines, and where their plots begin.
    fn setting(&self) -> Setting {
        let legend =
            if self.shared_legend().is_some() { Legend::Shared } else { Legend::Above };
        let margins = self.panels.iter().map(|panel| match panel {
            Chart::Curves(chart) => chart.left_margin(legend),
            Chart::Heatmap(_) | Chart::Diagram(_) | Chart::Grid(_) | Chart::Panels(_) => {
                0.0
            }
        });
        Setting { legend, left: margins.fold(0.0, f64::max) }
    }

    fn places(&self, width: f64) -> Places {
        let columns = self.columns.min(self.panels.len());
        let share = (width - GUTTER * (columns - 1) as f64) / columns as f64;
        let setting = self.setting();
        let sizes: Vec<_> =
            self.panels.iter().map(|panel| panel.size(share, setting)).collect();
        // Heatmaps may be narrower than their share, or wider if they have many columns.
        let share = sizes.iter().map(|&(width, _)| width).fold(0.0, f64::max);
        let width = share * columns as f64 + GUTTER * (columns - 1) as f64;
        let mut top = svg::title_height(&self.title, width)
            + self.shared_legend().map_or(0.0, |chart| chart.legend_height(width));
        let mut frames = Vec::new();
        for row in sizes.chunks(columns) {
            let lefts = (0..row.len()).map(|i| i as f64 * (share + GUTTER));
            frames.extend(lefts.map(|left| Frame {
                left,
                top,
                width: share,
                is_panel: true,
            }));
            top += row.iter().map(|&(_, height)| height).fold(0.0, f64::max) + GUTTER;
        }
        Places { setting, frames, width, height: top - GUTTER }
    }

    fn draw(&self, canvas: &Canvas, frame: Frame) -> Result<()> {
        let top = canvas.title(&self.title, frame)?;
        if let Some(chart) = self.shared_legend() {
            chart.draw_legend(canvas, Frame { top, ..frame })?;
        }
        let places = self.places(frame.width);
        self.panels
            .iter()
            .zip(places.frames)
            .try_for_each(|(panel, frame)| panel.draw(canvas, frame, places.setting))
    }
}

/// Puts lists of plain values on one line. Only the layout changes: in indented JSON a line ends with a bracket,
/// or a bracket and a comma, exactly where a list or object opens or closes.
fn join_short_lists(json: &str) -> String {
    let lines: Vec<&str> = json.lines().collect();
    let is_plain =
        |line: &&&str| !line.trim_end_matches(',').ends_with(['[', '{', ']', '}']);
    let mut joined = String::with_capacity(json.len());
    let mut next = 0;
    while let Some(line) = lines.get(next) {
        joined.push_str(line);
        next += 1;
        if line.ends_with('[') {
            let items = lines[next..].iter().take_while(is_plain).count();
            let close = lines.get(next + items).map_or("", |line| line.trim_start());
            if close.starts_with(']') {
                let values: Vec<&str> =
                    lines[next..next + items].iter().map(|item| item.trim()).collect();
                joined.push_str(&values.join(" "));
                joined.push_str(close);
                next += items + 1;
            }
        }
        joined.push('\n');
    }
    joined
}

#[cfg(test)]
mod tests;
