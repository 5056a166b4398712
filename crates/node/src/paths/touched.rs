//! How much of a VM's memory its requests touch: means over recent samples, and the most that was seen.
//!
//! It is that of instrumented VMs, new for each sample: what making them touches is part of it, and their marks are not.

use forerun_driver::TouchedMemory;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Samples after which an earlier one counts a third.
const WINDOW: f64 = 100.0;

/// Of one class of requests, or of all of a function.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Touched {
    samples: u64,
    resident: Figure,
    dirty: Figure,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Figure {
    mean: f64,
    max: u64,
}

impl Touched {
    pub(super) fn note(&mut self, memory: TouchedMemory) {
        self.samples = self.samples.saturating_add(1);
        // The mean of all until there are as many as the window has.
        let share = 1.0 / WINDOW.min(self.samples as f64);
        self.resident.note(memory.resident_bytes, share);
        self.dirty.note(memory.dirty_bytes, share);
    }

    /// The mean of what one request wrote, in bytes.
    pub(super) fn dirty_bytes(&self) -> u64 {
        self.dirty.mean.round() as u64
    }

    pub(super) fn is_sound(&self) -> bool {
        [&self.resident, &self.dirty].iter().all(|figure| figure.mean.is_finite() && figure.mean >= 0.0)
    }

    /// For display; nothing where the kernel did not tell.
    pub(super) fn view(&self) -> Value {
        if self.samples == 0 {
            return Value::Null;
        }
        json!({
            "samples": self.samples,
            "resident_bytes_mean": self.resident.mean.round(),
            "resident_bytes_max": self.resident.max,
            "dirty_bytes_mean": self.dirty.mean.round(),
            "dirty_bytes_max": self.dirty.max,
        })
    }
}

impl Figure {
    fn note(&mut self, bytes: u64, share: f64) {
        self.mean += (bytes as f64 - self.mean) * share;
        self.max = self.max.max(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_follow_what_requests_touch_and_the_most_stays() {
        let mut touched = Touched::default();
        assert_eq!(touched.view(), Value::Null);
        for dirty_bytes in [0, 4_096, 8_192] {
            touched.note(TouchedMemory { resident_bytes: 3 * 4_096, dirty_bytes });
        }
        let view = touched.view();
        assert_eq!(touched.dirty_bytes(), 4_096);
        assert_eq!((&view["resident_bytes_mean"], &view["dirty_bytes_mean"]), (&json!(12_288.0), &json!(4_096.0)));
        for _ in 0..1_000 {
            touched.note(TouchedMemory::default());
        }
        assert!(touched.view()["dirty_bytes_mean"].as_f64().unwrap() < 1.0 && touched.is_sound());
        assert_eq!(touched.view()["dirty_bytes_max"], 8_192);
        touched.dirty.mean = f64::NAN;
        assert!(!touched.is_sound());
    }
}
