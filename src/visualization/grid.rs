//! Many small heatmaps of the same rows and columns: all heads of all blocks at a glance.

use serde::{Deserialize, Serialize};

use super::svg::{text_width, title_height, Align, Canvas, Frame, Paint, Stroke};
use super::Check;
use crate::error::Result;

/// Cells grow to this size where there is room …
const LARGEST_CELL: f64 = 24.0;
/// … and never shrink below this one, or a cell could not be seen.
const SMALLEST_CELL: f64 = 4.0;
/// Cells of this size have their rows and columns named beside them. Below it the names would run into each other; they
/// are then listed once above the maps.
const NAMED_CELL: f64 = 14.0;
/// The height of a line of text.
const LINE: f64 = 22.0;
/// The space between two maps.
const GAP: f64 = 14.0;
/// Width and height of the colour scale, which lies above the maps.
const SCALE: (f64, f64) = (100.0, 10.0);
/// How many shades it shows.
const SHADES: usize = 10;

// ANCHOR: grid
/// Small heatmaps in rows and columns, such as the attention weights of all heads: a row of maps for each block, a column
/// for each head.
///
/// All maps have the same rows, columns and colour scale. Where cells are large enough, the names of the rows stand left
/// of each row of maps and those of the columns above the first; where they are not, all names are listed once, in order.
///
/// # Shapes
/// `values`: for each of `down` a list that has for each of `across` a matrix, with a row for each of `rows` and a number for
/// each of `columns`. Attention weights of a whole model are `[blocks][heads][T][T]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grid {
    /// The heading.
    pub title: String,
    /// What the figure shows, for readers who cannot see it.
    pub description: String,
    /// The name of each row of maps, from the top.
    pub down: Vec<String>,
    /// The name of each column of maps, from the left.
    pub across: Vec<String>,
    /// What the rows of a map are, as in `query`.
    pub row_axis: String,
    /// What the columns of a map are, as in `key`.
    pub column_axis: String,
    /// The name of each row of a map.
    pub rows: Vec<String>,
    /// The name of each column of a map.
    pub columns: Vec<String>,
    /// In each map a line is drawn after so many rows and after so many columns.
    pub divided_after: Option<usize>,
    /// The value of an empty cell; no value lies below.
    pub min: f64,
    /// The value of a full cell; no value lies above.
    pub max: f64,
    /// The matrices.
    pub values: Vec<Vec<Vec<Vec<f64>>>>,
}
// ANCHOR_END: grid

impl Grid {
    /// Says what is wrong with the data, if anything is.
    pub(super) fn check(&self) -> Check {
        let Self { down, across, rows, columns, values, min, max, .. } = self;
        if [down, across, rows, columns].iter().any(|names| names.is_empty()) {
            return Err("give at least one row and one column of maps, and each map at \
                        least one row and one column"
                .into());
        }
        if !(min.is_finite() && max.is_finite() && min < max) {
            return Err(format!(
                "the range {min} to {max} is empty; give a min below the max"
            ));
        }
        let count = |what: &str, found: usize, expected: usize| {
            let problem =
                || format!("{what} has {found}, and there are {expected} names");
            (found == expected).then_some(()).ok_or_else(problem)
        };
        count("the grid's list of rows of maps", values.len(), down.len())?;
        for (down, maps) in down.iter().zip(values) {
            count(&format!("the row of maps `{down}`"), maps.len(), across.len())?;
            for (across, map) in across.iter().zip(maps) {
                let place = format!("the map `{down}`, `{across}`");
                count(&place, map.len(), rows.len())?;
                for (row, numbers) in rows.iter().zip(map) {
                    count(
                        &format!("{place}, row `{row}`"),
                        numbers.len(),
                        columns.len(),
                    )?;
                    // A weight may miss the range by a rounding error, which no eye sees.
                    let slack = (max - min) * 1e-4;
                    let inside =
                        |value: &&f64| (min - slack..=max + slack).contains(*value);
                    if let Some(value) = numbers.iter().find(|value| !inside(value)) {
                        let problem =
                            format!("{value} is not a number from {min} to {max}");
                        return Err(format!("{place}, row `{row}`: {problem}"));
                    }
                }
            }
        }
        Ok(())
    }

    /// The same chart with three decimals: a shade shows no more.
    pub(super) fn rounded(&self) -> Self {
        let round =
            |value: &f64| (value.clamp(self.min, self.max) * 1e3).round() / 1e3 + 0.0;
        let row = |row: &Vec<f64>| row.iter().map(round).collect();
        let map = |map: &Vec<Vec<f64>>| map.iter().map(row).collect();
        let maps = |maps: &Vec<Vec<Vec<f64>>>| maps.iter().map(map).collect();
        Self { values: self.values.iter().map(maps).collect(), ..self.clone() }
    }

    /// What runs down and what runs across in each map.
    fn axes(&self) -> String {
        format!("{} ↓ · {} →", self.row_axis, self.column_axis)
    }

    fn layout(&self, width: f64) -> Layout {
        let widest = |names: &[String]| {
            names.iter().map(|name| text_width(name)).fold(0.0, f64::max)
        };
        let cell = |left: f64| {
            let maps = self.across.len() as f64;
            let room = (width - left - GAP * (maps - 1.0)) / maps;
            let count = self.columns.len() as f64;
            // A little more, so that what was laid out is laid out alike in exactly the room it takes.
            (room / count + 1e-6).clamp(SMALLEST_CELL, LARGEST_CELL).floor()
        };
        let named = widest(&self.rows) + 10.0;
        let (left, cell, names) = match cell(named) {
            large if large >= NAMED_CELL => (named, large, Vec::new()),
            _ => (0.0, cell(0.0), self.listed(width)),
        };
        let head = if names.is_empty() {
            let turned = self.columns.iter().map(|name| text_width(name));
            let turned = turned.filter(|width| width + 2.0 > cell);
            turned.fold(LINE, f64::max) + 8.0
        } else {
            4.0
        };
        let maps = self.across.len() as f64;
        let map = (cell * self.columns.len() as f64, cell * self.rows.len() as f64);
        let needed = left + map.0 * maps + GAP * (maps - 1.0);
        let header = text_width(&self.axes()) + 24.0 + self.scale_width();
        let width = needed.max(header).max(widest(&names));
        Layout { left, cell, head, map, width, names }
    }

    /// All names in order, in lines of at most `width`.
    fn listed(&self, width: f64) -> Vec<String> {
        let of = |axis: &str, names: &[String]| format!("{axis}: {}", names.join(" "));
        let texts = if self.rows == self.columns {
            vec![of("in order", &self.rows)]
        } else {
            vec![of(&self.row_axis, &self.rows), of(&self.column_axis, &self.columns)]
        };
        let mut lines: Vec<String> = Vec::new();
        for text in texts {
            lines.push(String::new());
            for word in text.split(' ') {
                let line = lines.last().map_or("", String::as_str);
                let longer = format!("{line} {word}");
                if line.is_empty() || text_width(&longer) > width {
                    lines.push(word.to_owned());
                } else if let Some(line) = lines.last_mut() {
                    *line = longer;
                }
            }
        }
        lines.retain(|line| !line.is_empty());
        lines
    }

    /// The numbers at the ends of the colour scale.
    fn ends(&self) -> [String; 2] {
        [self.min, self.max]
            .map(|value| format!("{}", (value * 100.0).round() / 100.0).replace('-', "−"))
    }

    fn scale_width(&self) -> f64 {
        self.ends().map(|end| text_width(&end)).iter().sum::<f64>() + SCALE.0 + 12.0
    }

    /// Width and height if the chart may be `width` wide.
    pub(super) fn size(&self, width: f64) -> (f64, f64) {
        let layout = self.layout(width);
        let full = layout.width.max((text_width(&self.title) * 1.3).min(width));
        (full, title_height(&self.title, full) + self.height(&layout))
    }

    /// What all rows of maps take below the heading.
    fn height(&self, layout: &Layout) -> f64 {
        let above = LINE * (1.0 + layout.names.len() as f64);
        let first = LINE + layout.head; // names of heads, then of columns
        let others = self.down.len() as f64 - 1.0;
        let map = LINE + layout.map.1;
        above + first + map + others * (map + GAP) + 2.0
    }

    pub(super) fn draw(&self, canvas: &Canvas, frame: Frame) -> Result<()> {
        let layout = self.layout(frame.width);
        let mut top = canvas.title(&self.title, frame)? + LINE / 2.0;
        canvas.text(&self.axes(), (frame.left, top), Align::Left, Paint::Muted)?;
        self.draw_scale(canvas, (frame.left + layout.width.min(frame.width), top))?;
        for line in &layout.names {
            top += LINE;
            canvas.text(line, (frame.left, top), Align::Left, Paint::Ink)?;
        }
        top += LINE;
        let left =
            |map: usize| frame.left + layout.left + map as f64 * (layout.map.0 + GAP);
        for (map, name) in self.across.iter().enumerate() {
            let centre = left(map) + layout.map.0 / 2.0;
            canvas.text(name, (centre, top), Align::Centre, Paint::Ink)?;
        }
        top += LINE / 2.0;
        for (row, (name, maps)) in self.down.iter().zip(&self.values).enumerate() {
            // The name of a row of maps stands above it, and so costs no width.
            let middle = top + LINE / 2.0;
            canvas.text(name, (frame.left, middle), Align::Left, Paint::Ink)?;
            top += LINE;
            if row == 0 {
                top += layout.head;
                if layout.names.is_empty() {
                    self.name_columns(canvas, &layout, top, left)?;
                }
            }
            if layout.names.is_empty() {
                for (i, name) in self.rows.iter().enumerate() {
                    let middle = top + layout.cell * (i as f64 + 0.5);
                    let right = frame.left + layout.left - 6.0;
                    canvas.text(name, (right, middle), Align::Right, Paint::Ink)?;
                }
            }
            for (map, values) in maps.iter().enumerate() {
                self.draw_map(canvas, &layout, (left(map), top), values)?;
            }
            top += layout.map.1 + GAP;
        }
        Ok(())
    }

    /// The names of the columns, above each map of the first row.
    fn name_columns(
        &self,
        canvas: &Canvas,
        layout: &Layout,
        top: f64,
        left: impl Fn(usize) -> f64,
    ) -> Result<()> {
        for map in 0..self.across.len() {
            for (j, name) in self.columns.iter().enumerate() {
                let centre = left(map) + layout.cell * (j as f64 + 0.5);
                if text_width(name) + 2.0 > layout.cell {
                    canvas.text(name, (centre, top - 5.0), Align::Upwards, Paint::Ink)?;
                } else {
                    let middle = top - LINE / 2.0;
                    canvas.text(name, (centre, middle), Align::Centre, Paint::Ink)?;
                }
            }
        }
        Ok(())
    }

    fn draw_map(
        &self,
        canvas: &Canvas,
        layout: &Layout,
        (x, y): (f64, f64),
        values: &[Vec<f64>],
    ) -> Result<()> {
        let cell = layout.cell;
        for (i, row) in values.iter().enumerate() {
            for (j, value) in row.iter().enumerate() {
                let opacity = (value - self.min) / (self.max - self.min);
                // There are very many cells, and most are so faint that no eye sees them.
                if opacity >= 0.015 {
                    let corner = (x + cell * j as f64, y + cell * i as f64);
                    let opposite = (corner.0 + cell, corner.1 + cell);
                    canvas.rectangle(corner, opposite, Paint::Heat, opacity)?;
                }
            }
        }
        let (right, bottom) = (x + layout.map.0, y + layout.map.1);
        let outline = [(x, y), (right, y), (right, bottom), (x, bottom), (x, y)];
        canvas.line(&outline, Stroke::thin(Paint::Grid))?;
        if let Some(after) = self.divided_after {
            let (column, row) = (x + cell * after as f64, y + cell * after as f64);
            if after < self.columns.len() {
                canvas
                    .line(&[(column, y), (column, bottom)], Stroke::thin(Paint::Muted))?;
            }
            if after < self.rows.len() {
                canvas.line(&[(x, row), (right, row)], Stroke::thin(Paint::Muted))?;
            }
        }
        Ok(())
    }

    /// The colour scale, lying, its right end at the given point.
    fn draw_scale(&self, canvas: &Canvas, (right, middle): (f64, f64)) -> Result<()> {
        let [min, max] = self.ends();
        let (width, height) = SCALE;
        let left = right - text_width(&max) - 6.0 - width;
        let (top, bottom) = (middle - height / 2.0, middle + height / 2.0);
        let shade = width / SHADES as f64;
        for n in 0..SHADES {
            let x = left + shade * n as f64;
            let opacity = n as f64 / (SHADES - 1) as f64;
            canvas.rectangle((x, top), (x + shade, bottom), Paint::Heat, opacity)?;
        }
        let end = left + width;
        let outline =
            [(left, top), (end, top), (end, bottom), (left, bottom), (left, top)];
        canvas.line(&outline, Stroke::thin(Paint::Grid))?;
        canvas.text(&min, (left - 6.0, middle), Align::Right, Paint::Muted)?;
        canvas.text(&max, (end + 6.0, middle), Align::Left, Paint::Muted)
    }
}

/// Where the parts of a grid stand.
struct Layout {
    /// The width of the names of rows; 0 if they are listed above.
    left: f64,
    cell: f64,
    /// The height of the names of columns.
    head: f64,
    /// Width and height of a map.
    map: (f64, f64),
    width: f64,
    /// The lines in which all names are listed; none if they stand beside the maps.
    names: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::super::Chart;
    use super::*;

    fn names(count: usize, name: &str) -> Vec<String> {
        (1..=count).map(|n| format!("{name} {n}")).collect()
    }

    fn grid(tokens: usize, blocks: usize, heads: usize) -> Grid {
        let tokens: Vec<String> =
            (0..tokens).map(|n| ["t", "o", "<sep>", "AH"][n % 4].to_owned()).collect();
        let row =
            |i: usize| (0..tokens.len()).map(|j| ((i * j) % 7) as f64 / 7.0).collect();
        let map: Vec<Vec<f64>> = (0..tokens.len()).map(row).collect();
        Grid {
            title: "All heads".into(),
            description: "Every head of every block.".into(),
            down: names(blocks, "block"),
            across: names(heads, "head"),
            row_axis: "query".into(),
            column_axis: "key".into(),
            rows: tokens.clone(),
            columns: tokens,
            divided_after: Some(3),
            min: 0.0,
            max: 1.0,
            values: vec![vec![map; heads]; blocks],
        }
    }

    /// The words of a figure and where they stand, and how high they are.
    fn texts(svg: &str) -> Vec<(String, f64, f64, bool)> {
        let document = roxmltree::Document::parse(svg).unwrap();
        let texts = document.descendants().filter(|node| node.has_tag_name("text"));
        let text = |node: roxmltree::Node| {
            let number =
                |name| node.attribute(name).unwrap().parse::<f64>().unwrap() / 10.0;
            let turned = node.attribute("transform").is_some();
            (node.text().unwrap().trim().to_owned(), number("x"), number("y"), turned)
        };
        texts.map(text).collect()
    }

    #[test]
    fn a_short_word_has_its_names_beside_the_maps_and_none_touches_another() {
        let grid = grid(9, 6, 4);
        let layout = grid.layout(720.0);
        assert!(layout.cell >= NAMED_CELL && layout.names.is_empty());
        let svg = Chart::Grid(grid).to_svg().unwrap();
        let texts = texts(&svg);
        let of = |name: &str| texts.iter().filter(|text| text.0 == name).count();
        // Beside each of six rows of maps and above each of the four maps of the first, 3 times each.
        assert_eq!(of("t"), 3 * (6 + 4));
        assert_eq!((of("block 6"), of("head 4"), of("query ↓ · key →")), (1, 1, 1));
        for (i, a) in texts.iter().enumerate() {
            for b in texts[i + 1..].iter().filter(|b| a.3 == b.3) {
                let (along, across) = if a.3 { (2, 1) } else { (1, 2) };
                let place = |text: &(String, f64, f64, bool), side: usize| {
                    [text.1, text.2][side - 1]
                };
                let apart = (place(a, across) - place(b, across)).abs();
                // Whichever text the line begins with: no other begins within a line's height and at the same place.
                let same_start = (place(a, along) - place(b, along)).abs() < 1.0;
                assert!(apart >= 14.0 || !same_start, "{a:?} and {b:?}");
            }
        }
    }

    #[test]
    fn a_long_word_lists_its_names_once() {
        let long = grid(40, 6, 4);
        let layout = long.layout(720.0);
        assert!(layout.cell < NAMED_CELL && layout.left == 0.0);
        assert!(layout.names.iter().all(|line| text_width(line) <= 720.0));
        let listed = layout.names.join(" ");
        assert_eq!(listed, format!("in order: {}", long.rows.join(" ")));
        let svg = Chart::Grid(long).to_svg().unwrap();
        assert!(texts(&svg).iter().any(|text| text.0.starts_with("in order: t o")));
        // The longest the model takes, in a model with many heads: wider than a page, and still to be seen.
        let longest = grid(64, 2, 16);
        assert_eq!(longest.layout(720.0).cell, SMALLEST_CELL);
        assert!(longest.size(720.0).0 > 4000.0);
        let mut two = grid(40, 1, 1);
        two.columns[0] = "x".into();
        assert!(two.listed(720.0).iter().any(|line| line.starts_with("key: x o")));
    }

    #[test]
    fn every_word_has_the_size_of_all_other_figures() {
        let usual = ["198.4"]; // a heading; all other words have the size of the style
        for tokens in [3, 9, 40] {
            let svg = Chart::Grid(grid(tokens, 2, 4)).to_svg().unwrap();
            let document = roxmltree::Document::parse(&svg).unwrap();
            let sizes =
                document.descendants().filter_map(|node| node.attribute("font-size"));
            for size in sizes {
                let size = size.parse::<f64>().unwrap();
                assert!(size >= 140.0, "{size} of {usual:?}");
            }
        }
    }

    #[test]
    fn empty_cells_cost_nothing() {
        let mut grid = grid(9, 6, 4);
        let full = Chart::Grid(grid.clone()).to_svg().unwrap().len();
        for map in grid.values.iter_mut().flatten() {
            map.iter_mut().flatten().for_each(|value| *value = 0.001);
        }
        let empty = Chart::Grid(grid).to_svg().unwrap();
        assert!(empty.len() < full / 3, "{} and {full} bytes", empty.len());
    }

    #[test]
    fn what_cannot_be_drawn_is_named() {
        let reason = |change: fn(&mut Grid)| {
            let mut grid = grid(3, 2, 2);
            change(&mut grid);
            Chart::Grid(grid).to_svg().unwrap_err().to_string()
        };
        assert!(reason(|grid| grid.values[1][0][2][1] = f64::NAN).contains(
            "the map `block 2`, `head 1`, row `<sep>`: NaN is not a number from 0 to 1"
        ));
        assert!(reason(|grid| grid.values[1][1][0].truncate(2)).contains(
            "the map `block 2`, `head 2`, row `t` has 2, and there are 3 names"
        ));
        assert!(reason(|grid| grid.values.truncate(1)).contains("has 1, and there are 2"));
        assert!(reason(|grid| grid.across.clear()).contains("give at least one row"));
        assert!(reason(|grid| grid.max = 0.0).contains("the range 0 to 0 is empty"));
    }

    #[test]
    fn a_grid_comes_back_from_its_json() {
        let chart = Chart::Grid(grid(4, 2, 3));
        let json = chart.to_json().unwrap();
        assert_eq!(
            Chart::from_json(&json).unwrap().to_svg().unwrap(),
            chart.to_svg().unwrap()
        );
        assert!(json.contains("\"kind\": \"grid\""));
        assert!(json.contains("[0.0, 0.143, 0.286, 0.429]"));
    }
}
