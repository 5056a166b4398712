//! A figure over rounds: its median, and how far the rounds were apart.

use serde::Serialize;

/// Median with the smallest and the largest value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    /// Where the median of endless rounds is with 95 % probability, whatever the rounds' distribution; of many values only.
    pub(crate) sure: Option<(f64, f64)>,
}

/// Fewer values leave the interval nearly as wide as from the smallest to the largest.
const SURE_FROM: usize = 20;

impl Spread {
    /// Of at least one value; the median of an even number is the mean of the middle two.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        assert!(!values.is_empty(), "a spread needs a value");
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) };
        Self { median, min: values[0], max: values[values.len() - 1], sure: sure(&values) }
    }

    /// `median [interval]` of many values, and what [`Self::show`] says of few.
    pub(crate) fn show_sure(self, digits: usize) -> String {
        let Some((low, high)) = self.sure else { return self.show(digits) };
        let [median, low, high] = [self.median, low, high].map(|value| grouped(value, digits));
        format!("{median} [{low}–{high}]")
    }

    /// `median (min–max)` with so many digits after the point; one value alone has no spread to show.
    pub(crate) fn show(self, digits: usize) -> String {
        let [median, min, max] = [self.median, self.min, self.max].map(|value| grouped(value, digits));
        if min == max { median } else { format!("{median} ({min}–{max})") }
    }
}

/// The interval of the median: how many of `n` values are below it is binomial, which is as good as normal here, so that
/// the sorted values number `n/2 ± 1.96 √n / 2` enclose it (Conover, Practical Nonparametric Statistics, 3.2).
fn sure(sorted: &[f64]) -> Option<(f64, f64)> {
    let count = sorted.len();
    if count < SURE_FROM {
        return None;
    }
    let half = 1.96 * (count as f64).sqrt() / 2.0;
    let low = (count as f64 / 2.0 - half).floor() as usize;
    let high = (count as f64 / 2.0 + half).ceil() as usize;
    Some((sorted[low.max(1) - 1], sorted[high.min(count - 1)]))
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
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Spread { median: 2.0, min: 1.0, max: 3.0, sure: None });
        assert_eq!(Spread::of([4.0, 1.0]).median, 2.5);
    }

    #[test]
    fn the_interval_of_the_median_narrows_with_the_rounds() {
        let of = |count: u32| Spread::of((0..count).map(f64::from));
        assert_eq!(of(19).sure, None);
        // Of a hundred values, those that 40 and 39 are below and above: 0.95 and a little (binomial).
        assert_eq!(of(100).sure, Some((39.0, 60.0)));
        assert_eq!(of(100).show_sure(0), "50 [39–60]");
        assert_eq!(of(3).show_sure(0), "1 (0–2)");
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
