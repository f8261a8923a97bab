//! Axes: from values to places, and which values get a tick.

use super::svg::text_width;

/// About how far apart ticks stand on a plain axis that runs upwards …
const UPWARDS: f64 = 48.0;
/// … and on one that runs across, where the labels stand side by side.
const ACROSS: f64 = 80.0;
/// The least space between two labels of a horizontal axis.
const LABEL_GAP: f64 = 10.0;

/// One axis of a chart.
pub(super) struct Scale {
    log: bool,
    low: f64,
    high: f64,
    /// The marked values with their labels, which may be empty.
    pub ticks: Vec<(f64, String)>,
}

impl Scale {
    /// A horizontal axis: it ends with the data, and only as many ticks are labelled as leave room for each other.
    pub fn across(values: &[f64], log: bool, length: f64) -> Self {
        let mut scale = Self::between_ticks(values, log, length / ACROSS);
        let (low, high) = range(values);
        // On a logarithmic axis nothing is at the edge by nature, so that markers may keep away from it.
        let margin = if log { (high / low).powf(0.03) } else { 1.0 };
        let (low, high) = (low / margin, high * margin);
        let slack = (high - low) * 1e-9;
        let is_inside =
            |tick: &&(f64, String)| (low - slack..=high + slack).contains(&tick.0);
        if scale.ticks.iter().filter(is_inside).count() >= 2 {
            (scale.low, scale.high) = (low, high);
            scale.ticks.retain(|tick| is_inside(&tick));
        }
        scale.leave_room(length);
        scale
    }

    /// The same horizontal axis with ticks at these values, if there are any.
    pub fn with_ticks(mut self, ticks: &[f64], length: f64) -> Self {
        if !ticks.is_empty() {
            let label = |&value: &f64| {
                let text = value.to_string();
                let decimals = text.split_once('.').map_or(0, |(_, digits)| digits.len());
                (value, plain(value, decimals))
            };
            self.ticks = ticks.iter().map(label).collect();
            self.leave_room(length);
        }
        self
    }

    /// Takes labels away until those that stay do not touch.
    fn leave_room(&mut self, length: f64) {
        let widest = self.labels().map(text_width).fold(0.0, f64::max) + LABEL_GAP;
        let room = (length / widest).floor().max(1.0) as usize;
        let every = self.ticks.len().div_ceil(room);
        for (i, (_, label)) in self.ticks.iter_mut().enumerate() {
            if i % every != 0 {
                label.clear();
            }
        }
    }

    /// A vertical axis: it begins and ends with a tick.
    pub fn upwards(values: &[f64], log: bool, length: f64) -> Self {
        Self::between_ticks(values, log, length / UPWARDS)
    }

    /// An axis of about `count` steps that begins and ends with a tick.
    fn between_ticks(values: &[f64], log: bool, count: f64) -> Self {
        let (low, high) = range(values);
        let ticks = if log {
            log_ticks(values, low, high)
        } else {
            // Close to zero, zero belongs to the picture.
            let low = if low > 0.0 && low < 0.6 * high { 0.0 } else { low };
            linear_ticks(low, high, count)
        };
        let (low, high) = range(&ticks.iter().map(|tick| tick.0).collect::<Vec<_>>());
        Self { log, low, high, ticks }
    }

    /// Where a value stands, from 0 at the start of the axis to 1 at its end.
    pub fn fraction(&self, value: f64) -> f64 {
        if self.log {
            (value / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        }
    }

    /// The labels of the ticks.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.ticks.iter().map(|(_, label)| label.as_str())
    }
}

fn range(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &value| {
        (low.min(value), high.max(value))
    })
}

/// Ticks at multiples of 1, 2 or 5 times a power of ten, about `count` steps, from below `low` to above `high`.
fn linear_ticks(low: f64, high: f64, count: f64) -> Vec<(f64, String)> {
    // One value alone gets an axis of its own size around it.
    let (low, high) = if low < high {
        (low, high)
    } else {
        (low - low.abs().max(1.0), high + high.abs().max(1.0))
    };
    let rough = (high - low) / count.max(2.0);
    let power = 10f64.powf(rough.log10().floor());
    let step = power
        * [1.0, 2.0, 5.0]
            .into_iter()
            .find(|factor| factor * power >= rough)
            .unwrap_or(10.0);
    let decimals = (-(step * 1.0001).log10().floor()).max(0.0) as usize;
    // The slack keeps a value that is a tick but for rounding from adding another.
    let (first, last) =
        ((low / step + 1e-9).floor() as i64, (high / step - 1e-9).ceil() as i64);
    (first..=last).map(|n| (n as f64 * step, plain(n as f64 * step, decimals))).collect()
}

/// Ticks of a logarithmic axis from below `low` to above `high`: powers of two if all values are, powers of ten if
/// there are enough of them, and otherwise 1, 2 and 5 times those.
fn log_ticks(values: &[f64], low: f64, high: f64) -> Vec<(f64, String)> {
    if low < high && values.iter().all(|value| value.log2().fract() == 0.0) {
        let (first, last) = (low.log2() as i32, high.log2() as i32);
        let every = ((last - first) as usize).div_ceil(11).max(1);
        return ticks_at_powers(2, first, last, every, 16);
    }
    let (first, last) =
        ((low.log10() + 1e-9).floor() as i32, (high.log10() - 1e-9).ceil() as i32);
    let last = last.max(first + 1);
    if last - first >= 3 {
        let every = ((last - first) as usize).div_ceil(8);
        return ticks_at_powers(10, first, last, every, 4);
    }
    let all = (first..=last).flat_map(|n| [(1.0, n), (2.0, n), (5.0, n)]);
    let all: Vec<(f64, i32)> =
        all.map(|(factor, n)| (factor * 10f64.powi(n), n)).collect();
    let start = all.iter().rposition(|tick| tick.0 <= low * (1.0 + 1e-9)).unwrap_or(0);
    let end = all
        .iter()
        .position(|tick| tick.0 >= high * (1.0 - 1e-9))
        .unwrap_or(all.len() - 1)
        .max(start + 1);
    all[start..=end]
        .iter()
        .map(|&(value, n)| (value, plain(value, (-n).max(0) as usize)))
        .collect()
}

/// Ticks at every so-many-th power of `base`, from the exponent `first` to `last` or just beyond.
fn ticks_at_powers(
    base: i32,
    first: i32,
    last: i32,
    every: usize,
    longest: i32,
) -> Vec<(f64, String)> {
    let count = ((last - first) as usize).div_ceil(every);
    (first..)
        .step_by(every)
        .take(count + 1)
        .map(|n| (f64::from(base).powi(n), power_label(base, n, longest)))
        .collect()
}

/// A power as a plain number where that is short, else with an exponent: 0.001, 1,000, 10⁵, 2¹⁷.
fn power_label(base: i32, exponent: i32, longest: i32) -> String {
    let decimals = if base == 10 { 3 } else { 2 };
    if (-decimals..=longest).contains(&exponent) {
        return plain(f64::from(base).powi(exponent), (-exponent).max(0) as usize);
    }
    let digits = exponent.to_string();
    let raised = digits.chars().map(|digit| match digit {
        '-' => '⁻',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        digit => char::from_u32('⁰' as u32 + digit as u32 - '0' as u32).unwrap_or(digit),
    });
    format!("{base}{}", raised.collect::<String>())
}

/// A number with a comma between thousands: 0.25, −3, 2,048.
fn plain(value: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", value.abs());
    let (whole, fraction) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut grouped = String::new();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let sign = if value < 0.0 { "−" } else { "" };
    format!("{sign}{grouped}{fraction}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(scale: &Scale) -> Vec<&str> {
        scale.labels().collect()
    }

    #[test]
    fn powers_of_two_get_powers_of_two() {
        let scale = Scale::across(&[64.0, 256.0, 2048.0], true, 600.0);
        assert_eq!(labels(&scale), ["64", "128", "256", "512", "1,024", "2,048"]);
        let narrow = Scale::across(&[64.0, 256.0, 2048.0], true, 200.0);
        assert_eq!(labels(&narrow), ["64", "", "256", "", "1,024", ""]);
        let tall = Scale::upwards(&[1.0, 8192.0], true, 260.0);
        assert_eq!(
            labels(&tall),
            ["1", "4", "16", "64", "256", "1,024", "4,096", "16,384"]
        );
        assert_eq!(power_label(2, 17, 16), "2¹⁷");
        assert_eq!(power_label(2, 16, 16), "65,536");
    }

    #[test]
    fn other_logarithmic_axes_get_round_numbers() {
        assert_eq!(
            labels(&Scale::upwards(&[0.013, 180.0], true, 260.0)),
            ["0.01", "0.1", "1", "10", "100", "1,000"]
        );
        assert_eq!(
            labels(&Scale::upwards(&[0.3, 4.0], true, 260.0)),
            ["0.2", "0.5", "1", "2", "5"]
        );
        assert_eq!(
            labels(&Scale::upwards(&[3e-6, 2e-3], true, 260.0)),
            ["10⁻⁶", "10⁻⁵", "10⁻⁴", "0.001", "0.01"]
        );
    }

    #[test]
    fn plain_axes_start_at_zero_when_it_is_near() {
        assert_eq!(
            labels(&Scale::upwards(&[0.2, 0.97], false, 260.0)),
            ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
        );
        assert_eq!(labels(&Scale::upwards(&[-1.0, 1.0], false, 150.0)), ["−1", "0", "1"]);
        assert_eq!(
            labels(&Scale::upwards(&[7.0, 7.0], false, 150.0)),
            ["0", "5", "10", "15"]
        );
    }

    #[test]
    fn ticks_can_be_where_the_measurements_are() {
        let scale = |ticks: &[f64], length| {
            Scale::across(ticks, true, length).with_ticks(ticks, length)
        };
        assert_eq!(
            labels(&scale(&[0.003, 0.01, 0.03], 300.0)),
            ["0.003", "0.01", "0.03"]
        );
        assert_eq!(labels(&scale(&[64.0, 1024.0], 300.0)), ["64", "1,024"]);
        assert_eq!(labels(&scale(&[0.003, 0.01, 0.03], 60.0)), ["0.003", "", ""]);
    }

    #[test]
    fn the_ends_of_the_data_are_the_ends_of_a_horizontal_axis() {
        let scale = Scale::across(&[1.0, 33.0], false, 600.0);
        assert_eq!((scale.fraction(1.0), scale.fraction(33.0)), (0.0, 1.0));
    }
}
