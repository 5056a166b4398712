//! Prices of memory and CPU, driven by the pressure that the node measures.
//!
//! A price is a dual variable: it rises while a resource is used beyond its target and falls while it is not,
//! `rho <- clamp(rho * exp(eta * (use - target) / target))`, once a second. Everything is priced in milliseconds of
//! waiting saved, so that a decision compares like with like. When a resource is nearly exhausted no price is asked any
//! more: making ready ahead of time stops.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Share of the memory limit to aim at: what is free beyond it absorbs a burst before the next tick.
const MEMORY_TARGET: f32 = 0.8;
/// Share of the CPU to aim at: serving comes first, and half the cores answer a doubling of load.
const CPU_TARGET: f32 = 0.5;
/// Step of a price per second at twice the target: doubled in fourteen seconds.
const STEP: f32 = 0.05;
/// Use beyond which making ready stops and holdings are given up.
const MEMORY_HALT: f32 = 0.95;
/// Stall share (PSI "some", ten-second average) that counts as full use. At ten percent every tenth moment some task
/// waited: memory is short whatever the counters say.
const STALL_FULL: f32 = 0.1;
/// Range of a price around its start, in powers of ten both ways.
const RANGE: f32 = 1e4;
/// Start of the price of memory: a cold start of 500 ms that is saved pays for holding 64 MB for ten minutes, what
/// fixed keep-alive times pay by habit.
const MEMORY_START_MS_PER_MB_S: f32 = 500.0 / (64.0 * 600.0);
/// Start of the price of CPU: work in advance is worth as much as the same work while someone waits.
const CPU_START_MS_PER_MS: f32 = 1.0;
/// Largest number of standard errors a probability is reduced by.
const CAUTION_MAX: f32 = 2.0;

/// What the node measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pressure {
    /// Memory in use, as a share of the limit (cgroup or machine).
    pub memory_share: f32,
    /// Memory stall share, PSI "some", 0 if the system does not say.
    pub memory_stall_share: f32,
    /// CPU in use, as a share of the cores.
    pub cpu_share: f32,
    /// Runnable tasks per core.
    pub run_queue_per_core: f32,
}

/// Why nothing is made ready ahead of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Halt {
    /// Memory is nearly exhausted.
    Memory,
    /// More tasks want to run than there are cores.
    Cpu,
}

impl fmt::Display for Halt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "memory is nearly exhausted",
            Self::Cpu => "the run queue is longer than the cores",
        })
    }
}

/// The prices.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Prices {
    /// Price of holding a megabyte for a second, in milliseconds of waiting.
    pub memory_ms_per_mb_s: f32,
    /// Price of a millisecond of CPU, in milliseconds of waiting.
    pub cpu_ms_per_ms: f32,
    /// Standard errors by which a probability is reduced: the confidence factor.
    pub caution: f32,
    /// Whether nothing is to be made ready at all.
    pub halt: Option<Halt>,
}

impl Prices {
    /// Those of a node that has been short of nothing for long: whatever is likely to be of any use is held, up to the
    /// budget.
    pub fn least() -> Self {
        Self {
            memory_ms_per_mb_s: MEMORY_START_MS_PER_MB_S / RANGE,
            cpu_ms_per_ms: CPU_START_MS_PER_MS / RANGE,
            ..Self::default()
        }
    }
}

impl Default for Prices {
    fn default() -> Self {
        Self {
            memory_ms_per_mb_s: MEMORY_START_MS_PER_MB_S,
            cpu_ms_per_ms: CPU_START_MS_PER_MS,
            caution: 0.0,
            halt: None,
        }
    }
}

impl Prices {
    /// Adapts to a measurement made `elapsed_s` after the last.
    pub fn update(&mut self, pressure: &Pressure, elapsed_s: f32) {
        let share = |value: f32| if value.is_finite() { value.max(0.0) } else { 1.0 };
        let stall = MEMORY_TARGET + (1.0 - MEMORY_TARGET) * (share(pressure.memory_stall_share) / STALL_FULL).min(2.0);
        let stalled = pressure.memory_stall_share > 0.0;
        let memory = share(pressure.memory_share).max(if stalled { stall } else { 0.0 });
        let cpu = share(pressure.cpu_share).max(share(pressure.run_queue_per_core) * CPU_TARGET);
        // A node that was not measured for long must not jump.
        let steps = if elapsed_s.is_finite() { elapsed_s.clamp(0.0, 10.0) } else { 0.0 };
        step(&mut self.memory_ms_per_mb_s, MEMORY_START_MS_PER_MB_S, memory, MEMORY_TARGET, steps);
        step(&mut self.cpu_ms_per_ms, CPU_START_MS_PER_MS, cpu, CPU_TARGET, steps);
        let over = ((memory - MEMORY_TARGET) / (MEMORY_HALT - MEMORY_TARGET)).max((cpu - CPU_TARGET) / CPU_TARGET);
        self.caution = CAUTION_MAX * over.clamp(0.0, 1.0);
        self.halt = if share(pressure.memory_share) > MEMORY_HALT {
            Some(Halt::Memory)
        } else if share(pressure.run_queue_per_core) > 1.0 {
            Some(Halt::Cpu)
        } else {
            None
        };
    }
}

fn step(price: &mut f32, start: f32, used: f32, target: f32, steps: f32) {
    let error = ((used - target) / target).clamp(-1.0, 1.0);
    *price = (*price * crate::numeric::exp(STEP * steps * error)).clamp(start / RANGE, start * RANGE);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(memory_share: f32) -> Pressure {
        Pressure { memory_share, memory_stall_share: 0.0, cpu_share: 0.2, run_queue_per_core: 0.1 }
    }

    #[test]
    fn memory_gets_dearer_while_it_is_short_and_cheaper_while_it_is_not() {
        let mut prices = Prices::default();
        let start = prices.memory_ms_per_mb_s;
        (0..60).for_each(|_| prices.update(&at(0.9), 1.0));
        let dear = prices.memory_ms_per_mb_s;
        assert!(dear > 1.3 * start && prices.caution > 1.0 && prices.halt.is_none());
        (0..60).for_each(|_| prices.update(&at(0.3), 1.0));
        assert!(prices.memory_ms_per_mb_s < start && prices.caution == 0.0);
        prices.update(&at(0.97), 1.0);
        assert_eq!(prices.halt, Some(Halt::Memory));
    }

    #[test]
    fn a_controlled_pool_settles_at_the_target() {
        // The pool holds what is worth its price: the dearer memory is, the less.
        let mut prices = Prices::default();
        let mut used = 0.0;
        for _ in 0..3_000 {
            used = (0.5 / (prices.memory_ms_per_mb_s / MEMORY_START_MS_PER_MB_S).sqrt()).min(1.0);
            prices.update(&at(used), 1.0);
        }
        assert!((used - MEMORY_TARGET).abs() < 0.02, "{used}");
    }

    proptest! {
        #[test]
        fn no_measurement_breaks_a_price(values in prop::collection::vec(any::<[f32; 5]>(), 0..50)) {
            let mut prices = Prices::default();
            for [memory_share, memory_stall_share, cpu_share, run_queue_per_core, elapsed_s] in values {
                prices.update(&Pressure { memory_share, memory_stall_share, cpu_share, run_queue_per_core }, elapsed_s);
                prop_assert!(prices.memory_ms_per_mb_s.is_normal() && prices.cpu_ms_per_ms.is_normal());
                prop_assert!((0.0..=CAUTION_MAX).contains(&prices.caution));
            }
        }
    }
}
