//! A figure over rounds: its median, and how far the rounds were apart.

use serde::Serialize;

/// Median with the smallest and the largest value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Of at least one value; the median of an even number is the mean of the middle two.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        assert!(!values.is_empty(), "a spread needs a value");
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) };
        Self { median, min: values[0], max: values[values.len() - 1] }
    }

    /// `median (min–max)` with so many digits after the point; one value alone has no spread to show.
    pub(crate) fn show(self, digits: usize) -> String {
        let [median, min, max] = [self.median, self.min, self.max].map(|value| grouped(value, digits));
        if min == max { median } else { format!("{median} ({min}–{max})") }
    }
}

/// The value below which that share of them is; of sorted values, at least one.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> f64 {
    assert!(!sorted.is_empty(), "a quantile needs a value");
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}

/// A number with its thousands apart.
fn grouped(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let (whole, fraction) = text.split_once('.').map_or((text.as_str(), None), |(whole, part)| (whole, Some(part)));
    let mut shown = String::new();
    for (at, character) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(character);
    }
    fraction.map_or_else(|| shown.clone(), |fraction| format!("{shown}.{fraction}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Spread { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(Spread::of([4.0, 1.0]).median, 2.5);
    }

    #[test]
    fn quantiles_are_values() {
        let values: Vec<f64> = (0..=100).map(f64::from).collect();
        assert_eq!((quantile(&values, 0.5), quantile(&values, 0.99), quantile(&[7.0], 0.99)), (50.0, 99.0, 7.0));
    }

    #[test]
    fn figures_are_shown_with_their_spread() {
        assert_eq!(Spread::of([1_234_567.0, 100.0, 12_345.6]).show(0), "12,346 (100–1,234,567)");
        assert_eq!(Spread::of([1.5]).show(2), "1.50");
        assert_eq!(Spread::of([0.31, 0.29, 0.3]).show(1), "0.3");
    }
}
