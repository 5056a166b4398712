//! The statement about the next call: a hazard for each time bin since the last one.

use crate::timing::bins::TimeBins;

/// Hazards of the present idle time of one function. Bins beyond the end were not worth stating: either the grid ends
/// or the function has been called by then with near certainty.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Forecast {
    /// Probability of a call in each bin, given none before it.
    pub hazards: Vec<f32>,
}

/// What one expert contributed.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpertShare {
    /// Name of the expert.
    pub expert: &'static str,
    /// Its weight in the mixture, in this context.
    pub weight: f32,
    /// The probability it stated on its own.
    pub stated: f32,
}

impl Forecast {
    /// Forgets the statement, keeps the memory.
    pub fn clear(&mut self) {
        self.hazards.clear();
    }

    /// Probability that the next call comes within `window_s` (start, end) seconds since the last one, given that it
    /// has not come by `elapsed_s`. Within a bin the call is taken to be uniform.
    pub fn probability_within(&self, bins: &TimeBins, elapsed_s: f32, window_s: (f32, f32)) -> f32 {
        let survival = |time_s: f32| self.survival(bins, time_s.max(elapsed_s));
        let now = survival(elapsed_s);
        if now <= 0.0 {
            return 0.0;
        }
        ((survival(window_s.0) - survival(window_s.1)) / now).clamp(0.0, 1.0)
    }

    /// Probability that no call has come `time_s` seconds after the last one.
    pub fn survival(&self, bins: &TimeBins, time_s: f32) -> f32 {
        let mut survival = 1.0;
        for (bin, hazard) in self.hazards.iter().enumerate() {
            let (start_s, end_s) = (bins.start_s(bin), bins.end_s(bin));
            if time_s <= start_s {
                break;
            }
            let share = ((time_s - start_s) / (end_s - start_s)).min(1.0);
            survival *= 1.0 - hazard * share;
        }
        survival
    }

    /// The bin with the largest probability of the next call, of those at or after `first`, and that probability.
    pub fn mode(&self, first: usize) -> Option<(usize, f32)> {
        let mut survival = 1.0;
        let mut best = None;
        for (bin, hazard) in self.hazards.iter().enumerate().skip(first) {
            let mass = survival * hazard;
            if best.is_none_or(|(_, known)| mass > known) {
                best = Some((bin, mass));
            }
            survival *= 1.0 - hazard;
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timing::bins::Resolution;

    #[test]
    fn windows_are_conditional_on_the_time_already_waited() {
        let bins = TimeBins::new(Resolution::Minute);
        let forecast = Forecast { hazards: vec![0.5, 0.0, 1.0] };
        assert_eq!(forecast.probability_within(&bins, 0.0, (0.0, 90.0)), 0.5);
        assert!((forecast.probability_within(&bins, 100.0, (100.0, 210.0)) - 1.0).abs() < 1e-6);
        assert_eq!(forecast.probability_within(&bins, 0.0, (90.0, 150.0)), 0.0);
        assert_eq!(forecast.mode(0), Some((0, 0.5)));
        assert_eq!(forecast.mode(1), Some((2, 1.0)));
    }
}
