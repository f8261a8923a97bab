//! Boxes with words, and arrows between them: how the parts of something hang together.

use serde::{Deserialize, Serialize};

use super::svg::{text_width, title_height, Align, Canvas, Frame, Paint, Stroke, SERIES};
use super::Check;
use crate::error::Result;

/// The height of a line of text.
const LINE: f64 = 20.0;
/// The space between a box's edge and its words.
const PADDING: f64 = 9.0;
/// The space between two columns.
const COLUMN_GAP: f64 = 16.0;
/// The space between two rows, which an arrow crosses.
const ROW_GAP: f64 = 30.0;
/// The space between the boxes and the arrows that run beside them, and between two of these.
const LANE: f64 = 16.0;
/// Length and half the width of an arrow's head.
const HEAD: (f64, f64) = (8.0, 4.0);

// ANCHOR: diagram
/// Boxes on a grid and arrows between them.
///
/// An arrow goes straight if it can, then with one bend between the last two rows, and otherwise to the right of all
/// boxes. It never runs through a box.
///
/// # Example: a residual connection
/// ```
/// use self_attention::visualization::{Arrow, Chart, Diagram, Node};
///
/// let chart = Chart::Diagram(Diagram {
///     title: "A residual connection".into(),
///     description: "x goes through attention, and past it, and both are added.".into(),
///     columns: 1,
///     nodes: vec![
///         Node::new("x", ["x"], (0, 0)),
///         Node::new("attention", ["attention", "chapter 5"], (1, 0)).with_series(0),
///         Node::new("sum", ["+"], (2, 0)),
///     ],
///     arrows: vec![
///         Arrow::new("x", "attention").with_label("[B, T, E]"),
///         Arrow::new("attention", "sum"),
///         Arrow::new("x", "sum"), // attention stands in its way: it goes round
///     ],
/// });
/// assert!(chart.to_svg()?.starts_with("<svg"));
/// # Ok::<(), self_attention::error::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Diagram {
    /// The heading.
    pub title: String,
    /// What the figure shows, for readers who cannot see it.
    pub description: String,
    /// How many columns the grid has. It has as many rows as the boxes need.
    pub columns: usize,
    /// The boxes.
    pub nodes: Vec<Node>,
    /// The arrows.
    pub arrows: Vec<Arrow>,
}

/// A box.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// What arrows call it.
    pub name: String,
    /// The words in it. The first line carries the message, the others are muted.
    pub lines: Vec<String>,
    /// Its row, from 0 at the top.
    pub row: usize,
    /// Its leftmost column, from 0.
    pub column: usize,
    /// How many columns it takes.
    pub span: usize,
    /// The colour of its frame, if it belongs with others: the number of a series, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series: Option<usize>,
    /// Where a click on it leads, as in `ch04_attention.html#q07`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}

/// An arrow from one box to another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arrow {
    /// The name of the box it leaves.
    pub from: String,
    /// The name of the box it points to.
    pub to: String,
    /// What is written beside it, as in `[B, T, E]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Whether the line is dashed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dashed: bool,
}
// ANCHOR_END: diagram

impl Node {
    /// A box one column wide at (row, column), which arrows call `name`.
    pub fn new<const N: usize>(
        name: impl Into<String>,
        lines: [&str; N],
        (row, column): (usize, usize),
    ) -> Self {
        let lines = lines.map(String::from).to_vec();
        Self { name: name.into(), lines, row, column, span: 1, series: None, link: None }
    }

    /// Makes the box so many columns wide.
    pub fn with_span(self, span: usize) -> Self {
        Self { span, ..self }
    }

    /// Gives its frame the colour of a series.
    pub fn with_series(self, series: usize) -> Self {
        Self { series: Some(series), ..self }
    }

    /// Makes it a link.
    pub fn with_link(self, link: impl Into<String>) -> Self {
        Self { link: Some(link.into()), ..self }
    }

    /// The width its words need.
    fn words(&self) -> f64 {
        let widest = self.lines.iter().map(|line| text_width(line)).fold(0.0, f64::max);
        widest + 2.0 * PADDING
    }
}

impl Arrow {
    /// A solid arrow without words.
    pub fn new(from: impl Into<String>, to: impl Into<String>) -> Self {
        Self { from: from.into(), to: to.into(), label: None, dashed: false }
    }

    /// Writes something beside it.
    pub fn with_label(self, label: impl Into<String>) -> Self {
        Self { label: Some(label.into()), ..self }
    }

    /// Makes the line dashed.
    pub fn with_dashes(self) -> Self {
        Self { dashed: true, ..self }
    }
}

/// A box's place on the sheet.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Place {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

impl Place {
    fn centre(&self) -> (f64, f64) {
        ((self.left + self.right) / 2.0, (self.top + self.bottom) / 2.0)
    }

    /// Whether a line to the right, left, up or down between two points runs through it. Touching is no crossing.
    fn is_crossed(&self, (a, b): (Point, Point)) -> bool {
        let (left, right) = (a.0.min(b.0), a.0.max(b.0));
        let (top, bottom) = (a.1.min(b.1), a.1.max(b.1));
        left < self.right && right > self.left && top < self.bottom && bottom > self.top
    }
}

type Point = (f64, f64);

/// Where everything stands, from the upper left corner below the title.
struct Layout {
    places: Vec<Place>,
    routes: Vec<Vec<Point>>,
    width: f64,
    height: f64,
}

impl Diagram {
    /// Says what is wrong with the data, if anything is.
    pub(super) fn check(&self) -> Check {
        if self.nodes.is_empty() {
            return Err("0 boxes; give at least one".into());
        }
        for (n, node) in self.nodes.iter().enumerate() {
            let Node { name, row, column, span, .. } = node;
            if node.lines.iter().all(|line| line.trim().is_empty()) {
                return Err(format!("box `{name}` has no words"));
            }
            if *span == 0 || column + span > self.columns {
                return Err(format!(
                    "box `{name}` takes {span} columns from column {column} on; the grid has {}",
                    self.columns
                ));
            }
            if node.series.is_some_and(|series| series >= SERIES) {
                return Err(format!(
                    "box `{name}`: series are numbered 0 to {}",
                    SERIES - 1
                ));
            }
            for other in &self.nodes[..n] {
                if other.name == *name {
                    return Err(format!("two boxes are called `{name}`"));
                }
                let apart =
                    column + span <= other.column || other.column + other.span <= *column;
                if other.row == *row && !apart {
                    return Err(format!("boxes `{}` and `{name}` overlap", other.name));
                }
            }
        }
        for arrow in &self.arrows {
            for end in [&arrow.from, &arrow.to] {
                self.find(end).ok_or_else(|| {
                    format!("arrow {}: no box is called `{end}`", arrow.name())
                })?;
            }
            if arrow.from == arrow.to {
                return Err(format!("arrow {} leads nowhere", arrow.name()));
            }
        }
        self.layout().map(|_| ())
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.nodes.iter().position(|node| node.name == name)
    }

    fn places(&self) -> Vec<Place> {
        let gaps = |span: usize| COLUMN_GAP * (span as f64 - 1.0);
        let share = |node: &Node| (node.words() - gaps(node.span)) / node.span as f64;
        let cell = self.nodes.iter().map(share).fold(0.0, f64::max).ceil();
        let rows = self.nodes.iter().map(|node| node.row + 1).max().unwrap_or(0);
        let mut tops = vec![1.0]; // the frame's line is one wide
        for row in 0..rows {
            let nodes = self.nodes.iter().filter(|node| node.row == row);
            let lines = nodes.map(|node| node.lines.len()).max().unwrap_or(0);
            tops.push(tops[row] + lines as f64 * LINE + 2.0 * PADDING + ROW_GAP);
        }
        let place = |node: &Node| {
            let left = 1.0 + node.column as f64 * (cell + COLUMN_GAP);
            let right = left + node.span as f64 * cell + gaps(node.span);
            let (top, bottom) = (tops[node.row], tops[node.row + 1] - ROW_GAP);
            Place { left, right, top, bottom }
        };
        self.nodes.iter().map(place).collect()
    }

    fn layout(&self) -> std::result::Result<Layout, String> {
        let places = self.places();
        let boxes = places.iter().map(|place| place.right).fold(0.0, f64::max);
        let free = |route: &[Point]| {
            let mut lines = route.windows(2).map(|ends| (ends[0], ends[1]));
            lines.all(|line| !places.iter().any(|place| place.is_crossed(line)))
        };
        let (mut routes, mut width) = (Vec::new(), boxes + 1.0);
        let mut lane = boxes;
        for arrow in &self.arrows {
            let (Some(from), Some(to)) = (self.find(&arrow.from), self.find(&arrow.to))
            else {
                return Err(format!("arrow {} has no ends", arrow.name()));
            };
            let (from, to) = (places[from], places[to]);
            let route = match direct(from, to).filter(|route| free(route)) {
                Some(route) => route,
                None => {
                    lane += LANE;
                    width = width.max(lane + HEAD.1);
                    let route = around(from, to, lane);
                    if !free(&route) {
                        return Err(format!(
                            "arrow {} would run through a box; give it a free column or the outermost boxes",
                            arrow.name()
                        ));
                    }
                    route
                }
            };
            if let Some(label) = &arrow.label {
                let (left, _) = label_place(&route);
                width = width.max(left + text_width(label));
            }
            routes.push(route);
        }
        let height = places.iter().map(|place| place.bottom).fold(0.0, f64::max) + 1.0;
        Ok(Layout { places, routes, width, height })
    }

    /// Width and height if the chart may be `width` wide. The boxes are as wide as their words, whatever that is.
    pub(super) fn size(&self, width: f64) -> (f64, f64) {
        let (own, height) =
            self.layout().map_or((0.0, 0.0), |layout| (layout.width, layout.height));
        // A title that is longer than the boxes are wide is not broken for that, if there is room.
        let full = own.max((text_width(&self.title) * 1.3).min(width));
        (full, title_height(&self.title, full) + height)
    }

    pub(super) fn draw(&self, canvas: &Canvas, frame: Frame) -> Result<()> {
        let (width, _) = self.size(frame.width);
        let top = canvas.title(&self.title, Frame { width, ..frame })?;
        let Ok(layout) = self.layout() else { return Ok(()) }; // checked before
        let at = |(x, y): Point| (frame.left + x, top + y);

        for (arrow, route) in self.arrows.iter().zip(&layout.routes) {
            let route: Vec<Point> = route.iter().copied().map(at).collect();
            arrow.draw(canvas, &route)?;
        }
        for (node, place) in self.nodes.iter().zip(&layout.places) {
            let (from, to) =
                (at((place.left, place.top)), at((place.right, place.bottom)));
            canvas.rectangle(from, to, Paint::Heat, 0.12)?;
            let frame = [from, (to.0, from.1), to, (from.0, to.1), from];
            let stroke = node.series.map_or(Stroke::thin(Paint::Muted), |series| {
                Stroke { width: 2.0, ..Stroke::thin(Paint::Series(series)) }
            });
            canvas.line(&frame, stroke)?;
            let (x, y) = at(place.centre());
            let first = y - (node.lines.len() as f64 - 1.0) / 2.0 * LINE;
            for (n, line) in node.lines.iter().enumerate() {
                let paint = if n == 0 { Paint::Ink } else { Paint::Muted };
                canvas.text(line, (x, first + n as f64 * LINE), Align::Centre, paint)?;
            }
            if let Some(link) = &node.link {
                canvas.link(link, &node.lines.join(", "), from, to);
            }
        }
        Ok(())
    }
}

impl Arrow {
    fn name(&self) -> String {
        format!("`{}` → `{}`", self.from, self.to)
    }

    fn draw(&self, canvas: &Canvas, route: &[Point]) -> Result<()> {
        let [.., before, tip] = *route else { return Ok(()) };
        let step =
            |to: f64, from: f64| if to == from { 0.0 } else { (to - from).signum() };
        let (right, down) = (step(tip.0, before.0), step(tip.1, before.1));
        let neck = (tip.0 - right * HEAD.0, tip.1 - down * HEAD.0);
        let mut line = route.to_vec();
        line.pop();
        line.push(neck);
        let stroke = Stroke { paint: Paint::Muted, width: 1.5, dashed: self.dashed };
        canvas.line(&line, stroke)?;
        let (across, along) = (down * HEAD.1, right * HEAD.1);
        let head =
            [tip, (neck.0 + across, neck.1 + along), (neck.0 - across, neck.1 - along)];
        canvas.polygon(&head, Paint::Muted, 1.0)?;
        match &self.label {
            Some(label) => {
                canvas.text(label, label_place(route), Align::Left, Paint::Muted)
            }
            None => Ok(()),
        }
    }
}

/// Straight, or with one step to the side between the last two rows; nothing if neither is possible.
fn direct(from: Place, to: Place) -> Option<Vec<Point>> {
    let ((from_x, from_y), (to_x, to_y)) = (from.centre(), to.centre());
    if from.top == to.top {
        let (start, end) =
            if from_x < to_x { (from.right, to.left) } else { (from.left, to.right) };
        return Some(vec![(start, from_y), (end, to_y)]);
    }
    let (start, end, turn) = if from.top < to.top {
        (from.bottom, to.top, to.top - ROW_GAP / 2.0)
    } else {
        (from.top, to.bottom, to.bottom + ROW_GAP / 2.0)
    };
    let (left, right) = (from.left.max(to.left), from.right.min(to.right));
    if left < right {
        let x = (left + right) / 2.0;
        return Some(vec![(x, start), (x, end)]);
    }
    Some(vec![(from_x, start), (from_x, turn), (to_x, turn), (to_x, end)])
}

/// Out to the right, along a lane beside all boxes, and back in from the right.
fn around(from: Place, to: Place, lane: f64) -> Vec<Point> {
    let (from_y, to_y) = (from.centre().1, to.centre().1);
    vec![(from.right, from_y), (lane, from_y), (lane, to_y), (to.right, to_y)]
}

/// Where an arrow's words begin: to the right of its longest upright line, near its end.
fn label_place(route: &[Point]) -> Point {
    let upright = route.windows(2).filter(|ends| ends[0].0 == ends[1].0);
    let length = |ends: &[Point]| (ends[1].1 - ends[0].1).abs();
    match upright.max_by(|a, b| length(a).total_cmp(&length(b))) {
        Some(&[(x, start), (_, end)]) => {
            let near = (end - start).clamp(-ROW_GAP, ROW_GAP) / 2.0;
            (x + 7.0, end - near)
        }
        _ => route.first().map_or((0.0, 0.0), |&(x, y)| (x + 3.0, y - LINE / 2.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::visualization::Chart;

    fn diagram(nodes: Vec<Node>, arrows: Vec<Arrow>) -> Diagram {
        Diagram {
            title: "Parts".into(),
            description: "Boxes.".into(),
            columns: 2,
            nodes,
            arrows,
        }
    }

    fn column() -> Vec<Node> {
        ["a", "b", "c"]
            .iter()
            .enumerate()
            .map(|(row, name)| Node::new(*name, [*name], (row, 0)))
            .collect()
    }

    #[test]
    fn arrows_go_straight_and_round_what_stands_in_their_way() {
        let arrows =
            vec![Arrow::new("a", "b"), Arrow::new("a", "c"), Arrow::new("c", "a")];
        let layout = diagram(column(), arrows).layout().unwrap();
        assert_eq!(layout.routes[0].len(), 2);
        let boxes = layout.places[0].right;
        let lanes: Vec<f64> = layout.routes[1..].iter().map(|route| route[1].0).collect();
        assert_eq!(
            lanes,
            [boxes + LANE, boxes + 2.0 * LANE],
            "side by side, outside the boxes"
        );
        assert!(layout.width > lanes[1]);
    }

    #[test]
    fn an_arrow_to_another_column_bends_between_the_last_two_rows() {
        let nodes =
            vec![Node::new("a", ["a"], (0, 0)), Node::new("b", ["b", "two"], (1, 1))];
        let layout = diagram(nodes, vec![Arrow::new("a", "b")]).layout().unwrap();
        let route = &layout.routes[0];
        assert_eq!(route.len(), 4);
        assert_eq!(route[1].1, layout.places[1].top - ROW_GAP / 2.0);
        assert_eq!(
            route[3],
            (
                (layout.places[1].left + layout.places[1].right) / 2.0,
                layout.places[1].top
            )
        );
    }

    #[test]
    fn boxes_are_as_wide_as_their_words() {
        let mut nodes = column();
        nodes[1].lines[0] = "a box with many words in it".into();
        let layout = diagram(nodes.clone(), vec![]).layout().unwrap();
        for (node, place) in nodes.iter().zip(layout.places) {
            assert!(place.right - place.left >= node.words());
        }
    }

    #[test]
    fn bad_diagrams_are_refused_by_name() {
        let reason =
            |diagram: Diagram| Chart::Diagram(diagram).to_svg().unwrap_err().to_string();
        let with = |node: Node| {
            let mut nodes = column();
            nodes.push(node);
            reason(diagram(nodes, vec![]))
        };
        assert!(reason(diagram(vec![], vec![])).contains("0 boxes"));
        assert!(
            with(Node::new("a", ["again"], (5, 0))).contains("two boxes are called `a`")
        );
        assert!(with(Node::new("d", ["d"], (2, 0))).contains("boxes `c` and `d` overlap"));
        assert!(
            with(Node::new("d", ["d"], (3, 1)).with_span(2)).contains("the grid has 2")
        );
        assert!(with(Node::new("d", [" "], (3, 0))).contains("`d` has no words"));
        assert!(with(Node::new("d", ["d"], (3, 0)).with_series(6)).contains("0 to 5"));
        let arrow = |arrow| reason(diagram(column(), vec![arrow]));
        assert!(
            arrow(Arrow::new("a", "z")).contains("arrow `a` → `z`: no box is called `z`")
        );
        assert!(arrow(Arrow::new("a", "a")).contains("leads nowhere"));
        // Round to the right is no way out for a box with another on its right.
        let mut nodes = column();
        nodes.push(Node::new("right of a", ["d"], (0, 1)));
        let message = reason(diagram(nodes, vec![Arrow::new("a", "c")]));
        assert!(message.contains("arrow `a` → `c` would run through a box"), "{message}");
    }
}
