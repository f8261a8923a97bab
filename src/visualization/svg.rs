//! The one place that knows about SVG: the theme, a canvas over plotters, and the clean-up of what plotters writes.
//!
//! plotters writes explicit colours. We hand it colours that stand for a role ([`Paint`]) and then put the CSS
//! variable of that role in their place.

use std::cell::RefCell;
use std::fmt::Write as _;

use plotters::backend::SVGBackend;
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::element::{
    Circle, Drawable, PathElement, PointCollection, Polygon, Rectangle, Text,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{
    Color, FontStyle, FontTransform, IntoFont, RGBAColor, RGBColor, ShapeStyle, TextStyle,
};

use crate::error::{Error, Result};

/// plotters has whole coordinates; a tenth of a unit is fine enough for smooth curves.
const TENTHS: f64 = 10.0;
/// plotters divides font sizes by this before it writes them.
const FONT_SCALE: f64 = 1.24;

/// Size of headings.
const TITLE_SIZE: f64 = 16.0;
/// Size of every other word and number.
pub(super) const TEXT_SIZE: f64 = 14.0;

/// How many series can be told apart by colour and marker.
pub(super) const SERIES: usize = 6;

/// What something is drawn for; the theme says in which colour.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Paint {
    /// Words and numbers that carry the message.
    Ink,
    /// Axes, ticks, and their labels.
    Muted,
    /// Lines that only guide the eye.
    Grid,
    /// The cells of a heatmap, more or less opaque.
    Heat,
    /// The n-th series, from 0.
    Series(usize),
}

/// The name of each paint's CSS variable with its colour on a light and on a dark page.
///
/// The series are Okabe and Ito's colours for all kinds of colour vision (2008), darkened or lightened until each
/// stands out 3 : 1 from the backgrounds of mdBook's five themes; words stand out 4.5 : 1 from them and from a
/// full cell of a heatmap (tested below).
const THEME: [(&str, &str, &str); 4 + SERIES] = [
    ("ink", "#1c1c1c", "#f2f2f4"),
    ("muted", "#595959", "#a3a6ad"),
    ("grid", "#d2d2d0", "#3a3e47"),
    ("heat", "#4a9fe0", "#0072b2"),
    ("series-1", "#0072b2", "#56b4e9"),
    ("series-2", "#c04f00", "#f0883e"),
    ("series-3", "#007a58", "#2bc49a"),
    ("series-4", "#a8487f", "#dd8fbf"),
    ("series-5", "#856000", "#e3c04b"),
    ("series-6", "#555555", "#b8b8b8"),
];

impl Paint {
    /// This paint's row of [`THEME`].
    fn row(self) -> usize {
        match self {
            Self::Ink => 0,
            Self::Muted => 1,
            Self::Grid => 2,
            Self::Heat => 3,
            Self::Series(n) => 4 + n % SERIES,
        }
    }

    /// The colour that stands for this paint until [`finish`] puts the variable in its place.
    fn sentinel(self, dashed: bool) -> RGBColor {
        RGBColor(0xFE, dashed.into(), self.row() as u8)
    }
}

/// Where a chart goes: its upper left corner and how wide it may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub left: f64,
    pub top: f64,
    pub width: f64,
    /// Whether the chart is a part of a figure rather than the whole; its heading is then of less weight.
    pub is_panel: bool,
}

/// How a line is drawn.
#[derive(Clone, Copy)]
pub(super) struct Stroke {
    pub paint: Paint,
    pub width: f64,
    pub dashed: bool,
}

impl Stroke {
    pub fn thin(paint: Paint) -> Self {
        Self { paint, width: 1.0, dashed: false }
    }
}

/// Which point of a text lies at the given position, left to right; up and down it is always the middle.
#[derive(Clone, Copy)]
pub(super) enum Align {
    Left,
    Centre,
    Right,
    /// Turned a quarter to the left: the text starts at the position and reads upwards.
    Upwards,
}

/// A sheet to draw on, in units of about one CSS pixel from the upper left corner.
pub(super) struct Canvas<'a> {
    area: DrawingArea<SVGBackend<'a>, Shift>,
    title: &'a str,
    /// What plotters has no word for, already as SVG.
    links: RefCell<String>,
}

impl<'a> Canvas<'a> {
    /// Writes text of [`TEXT_SIZE`].
    pub fn text(
        &self,
        text: &str,
        at: (f64, f64),
        align: Align,
        paint: Paint,
    ) -> Result<()> {
        self.write(text, at, align, paint, TEXT_SIZE, FontStyle::Normal)
    }

    /// Writes a chart's heading and gives the place below it.
    pub fn title(&self, title: &str, frame: Frame) -> Result<f64> {
        let font = if frame.is_panel { FontStyle::Normal } else { FontStyle::Bold };
        let mut top = frame.top;
        for line in wrap(title, frame.width) {
            let middle = (frame.left, top + TITLE_LINE / 2.0);
            self.write(&line, middle, Align::Left, Paint::Ink, TITLE_SIZE, font)?;
            top += TITLE_LINE;
        }
        Ok(top + TITLE_GAP)
    }

    fn write(
        &self,
        text: &str,
        at: (f64, f64),
        align: Align,
        paint: Paint,
        size: f64,
        font: FontStyle,
    ) -> Result<()> {
        // A line break would end the figure's HTML block in Markdown.
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if text.is_empty() {
            return Ok(());
        }
        let (horizontal, turn) = match align {
            Align::Left => (HPos::Left, FontTransform::None),
            Align::Centre => (HPos::Center, FontTransform::None),
            Align::Right => (HPos::Right, FontTransform::None),
            Align::Upwards => (HPos::Left, FontTransform::Rotate270),
        };
        let font =
            ("sans-serif", size * TENTHS * FONT_SCALE, font).into_font().transform(turn);
        let colour = paint.sentinel(false);
        let style =
            TextStyle::from(font).color(&colour).pos(Pos::new(horizontal, VPos::Center));
        self.element(&Text::new(text, tenths(at), style))
    }

    /// A line through the points.
    pub fn line(&self, points: &[(f64, f64)], stroke: Stroke) -> Result<()> {
        let style = ShapeStyle {
            color: stroke.paint.sentinel(stroke.dashed).to_rgba(),
            filled: false,
            stroke_width: (stroke.width * TENTHS).round() as u32,
        };
        self.element(&PathElement::new(
            points.iter().copied().map(tenths).collect::<Vec<_>>(),
            style,
        ))
    }

    /// A filled rectangle between two corners.
    pub fn rectangle(
        &self,
        from: (f64, f64),
        to: (f64, f64),
        paint: Paint,
        opacity: f64,
    ) -> Result<()> {
        self.element(&Rectangle::new([tenths(from), tenths(to)], fill(paint, opacity)))
    }

    /// A filled polygon.
    pub fn polygon(
        &self,
        corners: &[(f64, f64)],
        paint: Paint,
        opacity: f64,
    ) -> Result<()> {
        let corners: Vec<_> = corners.iter().copied().map(tenths).collect();
        self.element(&Polygon::new(corners, fill(paint, opacity)))
    }

    /// A filled circle.
    pub fn circle(&self, centre: (f64, f64), radius: f64, paint: Paint) -> Result<()> {
        self.element(&Circle::new(
            tenths(centre),
            (radius * TENTHS).round(),
            fill(paint, 1.0),
        ))
    }

    /// Makes the rectangle between two corners a link, named by `words`.
    pub fn link(&self, target: &str, words: &str, from: (f64, f64), to: (f64, f64)) {
        let ((left, top), (right, bottom)) = (tenths(from), tenths(to));
        let _ = writeln!(
            self.links.borrow_mut(),
            "<a href=\"{}\" aria-label=\"{}\"><rect x=\"{left}\" y=\"{top}\" width=\"{}\" height=\"{}\" \
             fill-opacity=\"0\"/></a>",
            escape(target),
            escape(words),
            right - left,
            bottom - top,
        );
    }

    fn element<E>(&self, element: &E) -> Result<()>
    where
        for<'b> &'b E: PointCollection<'b, (i32, i32)>,
        E: Drawable<SVGBackend<'a>>,
    {
        self.area.draw(element).map_err(|error| figure_error(self.title, error))
    }
}

fn tenths((x, y): (f64, f64)) -> (i32, i32) {
    ((x * TENTHS).round() as i32, (y * TENTHS).round() as i32)
}

fn fill(paint: Paint, opacity: f64) -> ShapeStyle {
    let RGBColor(red, green, blue) = paint.sentinel(false);
    // Two decimals keep the file small; the eye tells no more apart.
    RGBAColor(red, green, blue, (opacity * 100.0).round() / 100.0).filled()
}

fn figure_error(title: &str, error: impl std::fmt::Display) -> Error {
    Error::Figure { title: title.into(), reason: error.to_string() }
}

const TITLE_LINE: f64 = 22.0;
const TITLE_GAP: f64 = 10.0;

/// The height of a heading with the space below it.
pub(super) fn title_height(title: &str, width: f64) -> f64 {
    wrap(title, width).len() as f64 * TITLE_LINE + TITLE_GAP
}

/// A heading in lines of at most `width`.
fn wrap(title: &str, width: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in title.split_whitespace() {
        match lines.last_mut() {
            // Bold letters are a little wider than the estimate.
            Some(line)
                if text_width(&format!("{line} {word}")) * 1.08 * TITLE_SIZE
                    / TEXT_SIZE
                    <= width =>
            {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.into()),
        }
    }
    lines
}

/// About how wide a text of [`TEXT_SIZE`] is, without asking any font: common sans-serif widths, rounded up.
pub(super) fn text_width(text: &str) -> f64 {
    let ems: f64 = text
        .chars()
        .map(|letter| match letter {
            'i' | 'j' | 'l' | 'I' | '.' | ',' | ':' | ';' | '\'' | '|' | '!' => 0.3,
            ' '
            | 'f'
            | 't'
            | 'r'
            | '('
            | ')'
            | '['
            | ']'
            | '-'
            | '/'
            | '⁰'..='⁹'
            | '²'
            | '³'
            | '¹'
            | '⁻' => 0.4,
            'm' | 'w' | 'M' | 'W' | '—' | '→' | '↓' => 0.95,
            'A'..='Z' | '<' | '>' | '=' | '+' | '−' | '×' => 0.68,
            _ => 0.6,
        })
        .sum();
    ems * TEXT_SIZE
}

/// Draws a figure: `paint` fills a canvas of the given size, the rest of the SVG is put around it.
pub(super) fn draw(
    title: &str,
    description: &str,
    width: f64,
    height: f64,
    paint: impl FnOnce(&Canvas) -> Result<()>,
) -> Result<String> {
    let (width, height) = (width.ceil(), height.ceil());
    let mut drawn = String::new();
    let size = ((width * TENTHS) as u32, (height * TENTHS) as u32);
    let canvas = Canvas {
        area: SVGBackend::with_string(&mut drawn, size).into_drawing_area(),
        title,
        links: RefCell::default(),
    };
    paint(&canvas)?;
    canvas.area.present().map_err(|error| figure_error(title, error))?;
    let links = canvas.links.take();
    drop(canvas);
    Ok(finish(title, description, width, height, &drawn, &links))
}

/// Gives what plotters drew a head, the theme, and words for screen readers.
fn finish(
    title: &str,
    description: &str,
    width: f64,
    height: f64,
    drawn: &str,
    links: &str,
) -> String {
    let id = slug(title);
    let role = if links.is_empty() { "img" } else { "group" }; // an image's links would be out of reach
    let class = if width > super::NARROW_WIDTH { "figure wide" } else { "figure" };
    let mut variables = String::new();
    for (name, light, dark) in THEME {
        let _ = write!(variables, "--{name}:light-dark({light},{dark});");
    }
    // `:where` weighs nothing, so whatever a page says about its figures wins. Only a figure that is a document of
    // its own chooses between light and dark; in a page it follows the page.
    let font_size = TEXT_SIZE * TENTHS;
    let style = format!(
        ":where(svg.figure){{{variables}max-width:100%;height:auto;\
         font-size:{font_size}px;font-family:\"Open Sans\",\"Segoe UI\",Helvetica,Arial,sans-serif}}\
         :where(svg.figure:root){{color-scheme:light dark}}\
         :where(svg.figure rect){{shape-rendering:crispEdges}}\
         :where(svg.figure polyline){{stroke-linejoin:round}}"
    );
    let (title, description) = (escape(title), escape(description));
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"{class}\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" role=\"{role}\" aria-labelledby=\"{id}-title {id}-desc\">\n\
         <title id=\"{id}-title\">{title}</title>\n<desc id=\"{id}-desc\">{description}</desc>\n\
         <style>{style}</style>\n<g transform=\"scale(.1)\" fill=\"var(--ink)\">\n"
    );
    // plotters gives text its own line; joined, the words stand next to their tags.
    let body = drawn
        .split_once('\n')
        .map_or("", |(_, body)| body)
        .replace("\n</text>", "</text>");
    let mut lines = body.lines().filter(|line| *line != "</svg>").peekable();
    while let Some(line) = lines.next() {
        svg.push_str(&themed(line));
        if line.starts_with("<text") {
            svg.push_str(lines.next().unwrap_or_default());
        }
        svg.push('\n');
    }
    svg.push_str(links);
    svg.push_str("</g>\n</svg>\n");
    svg
}

/// One line of plotters' SVG with variables for colours, and without what the style or SVG itself says already.
fn themed(line: &str) -> String {
    let usual_size = format!(" font-size=\"{}\"", TEXT_SIZE * TENTHS);
    let usual_fill = " fill=\"var(--ink)\"";
    let mut line = line.to_owned();
    for (row, (name, ..)) in THEME.iter().enumerate() {
        let dashed = format!("\"var(--{name})\" stroke-dasharray=\"70 50\"");
        line =
            line.replace(&format!("\"#FE00{row:02X}\""), &format!("\"var(--{name})\""));
        line = line.replace(&format!("\"#FE01{row:02X}\""), &dashed);
    }
    let usual = [
        " opacity=\"1\"",
        " stroke=\"none\"",
        " text-anchor=\"start\"",
        " font-family=\"sans-serif\"",
    ];
    for attribute in usual.into_iter().chain([usual_size.as_str(), usual_fill]) {
        line = line.replace(attribute, "");
    }
    line
}

fn escape(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// A title as an id that is safe in a page: `Softmax, D = 4` gives `figure-softmax-d-4`.
fn slug(title: &str) -> String {
    let words = title
        .split(|letter: char| !letter.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty());
    words.fold("figure".to_owned(), |slug, word| {
        format!("{slug}-{}", word.to_ascii_lowercase())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// mdBook's backgrounds: light, rust; navy, coal, ayu; and paper.
    const LIGHT: [&str; 2] = ["#ffffff", "#e1e1db"];
    const DARK: [&str; 3] = ["#161923", "#131516", "#0f151a"];

    fn channels(colour: &str) -> [f64; 3] {
        [1, 3, 5].map(|at| {
            f64::from(u8::from_str_radix(&colour[at..at + 2], 16).unwrap()) / 255.0
        })
    }

    /// Contrast ratio as WCAG 2 defines it.
    fn contrast(one: [f64; 3], other: [f64; 3]) -> f64 {
        let luminance = |colour: [f64; 3]| {
            let linear = colour.map(|c| {
                if c <= 0.04045 {
                    c / 12.92
                } else {
                    ((c + 0.055) / 1.055f64).powf(2.4)
                }
            });
            0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
        };
        let (a, b) = (luminance(one) + 0.05, luminance(other) + 0.05);
        a.max(b) / a.min(b)
    }

    #[test]
    fn words_and_lines_stand_out_from_every_theme() {
        let pages = |dark: bool| if dark { &DARK[..] } else { &LIGHT[..] };
        for dark in [false, true] {
            let colour =
                |row: usize| channels(if dark { THEME[row].2 } else { THEME[row].1 });
            for page in pages(dark) {
                for row in [Paint::Ink, Paint::Muted].map(Paint::row) {
                    let ratio = contrast(colour(row), channels(page));
                    assert!(ratio >= 4.5, "{} on {page}: {ratio:.2}", THEME[row].0);
                }
                for row in (0..SERIES).map(|n| Paint::Series(n).row()) {
                    let ratio = contrast(colour(row), channels(page));
                    assert!(ratio >= 3.0, "{} on {page}: {ratio:.2}", THEME[row].0);
                }
                for opacity in (0..=10).map(|tenth| f64::from(tenth) / 10.0) {
                    let (heat, page) = (colour(Paint::Heat.row()), channels(page));
                    let cell =
                        [0, 1, 2].map(|i| opacity * heat[i] + (1.0 - opacity) * page[i]);
                    let ratio = contrast(colour(Paint::Ink.row()), cell);
                    assert!(ratio >= 4.5, "number on a cell of {opacity}: {ratio:.2}");
                }
            }
        }
    }

    #[test]
    fn long_titles_are_wrapped() {
        let lines = wrap(
            "Attention of the four heads of the last block on the letters of tough",
            300.0,
        );
        assert!(lines.len() > 1, "{lines:?}");
    }

    #[test]
    fn slugs_are_plain() {
        assert_eq!(slug("Softmax, D = 4: <sep>"), "figure-softmax-d-4-sep");
    }
}
