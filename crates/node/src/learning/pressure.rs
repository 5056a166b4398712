//! How loaded the machine is, for the prices of memory and CPU. Reads the kernel's own figures; decides nothing.
//!
//! A figure that cannot be read counts as no pressure: a kernel without PSI or cgroups is no reason to hold nothing
//! ready. The run queue that stops making ready is that of our own requests: other programs of the machine make CPU
//! dear, and they are the scheduler's business.

use std::fs;

use forerun_predict::price::Pressure;

/// Reads the machine; remembers the processors' counters between two looks.
#[derive(Default)]
pub(super) struct Machine {
    busy_ticks: u64,
    all_ticks: u64,
}

impl Machine {
    /// The pressure now, with `waiting` requests of this node in queues.
    pub(super) fn look(&mut self, waiting: usize) -> Pressure {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Pressure {
            memory_share: cgroup_share().unwrap_or(0.0).max(machine_share().unwrap_or(0.0)),
            memory_stall_share: stall_share().unwrap_or(0.0),
            cpu_share: self.cpu_share().unwrap_or(0.0),
            run_queue_per_core: waiting as f32 / cores as f32,
        }
    }

    fn cpu_share(&mut self) -> Option<f32> {
        let (busy, all) = ticks(&fs::read_to_string("/proc/stat").ok()?)?;
        let (busy_since, all_since) = (busy.saturating_sub(self.busy_ticks), all.saturating_sub(self.all_ticks));
        (self.busy_ticks, self.all_ticks) = (busy, all);
        (all_since > 0).then(|| busy_since as f32 / all_since as f32)
    }
}

/// Busy and all ticks since the start, from the first line of `/proc/stat`.
fn ticks(stat: &str) -> Option<(u64, u64)> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
    let ticks: Vec<u64> = fields.map_while(|field| field.parse().ok()).collect();
    let all = ticks.iter().take(8).fold(0, |sum: u64, ticks| sum.saturating_add(*ticks));
    // The fourth and fifth are idle and waiting for a disk.
    let idle = ticks.get(3)?.saturating_add(*ticks.get(4)?);
    Some((all.saturating_sub(idle), all))
}

fn machine_share() -> Option<f32> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let kilobytes = |name: &str| -> Option<f32> {
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    let (available, total) = (kilobytes("MemAvailable:")?, kilobytes("MemTotal:")?);
    Some(1.0 - available / total.max(1.0))
}

fn cgroup_share() -> Option<f32> {
    let read = |name: &str| fs::read_to_string(format!("/sys/fs/cgroup/{name}")).ok()?.trim().parse::<f32>().ok();
    // Without a limit the file says `max`, which is no number.
    Some(read("memory.current")? / read("memory.max")?.max(1.0))
}

fn stall_share() -> Option<f32> {
    let text = fs::read_to_string("/proc/pressure/memory").ok()?;
    let field = text.lines().next()?.split_whitespace().find_map(|field| field.strip_prefix("avg10="))?;
    Some(field.parse::<f32>().ok()? / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_share_is_one() {
        let pressure = Machine::default().look(3);
        for share in [pressure.memory_share, pressure.memory_stall_share, pressure.cpu_share] {
            assert!((0.0..=1.0).contains(&share), "{pressure:?}");
        }
        assert!(pressure.run_queue_per_core > 0.0);
    }

    #[test]
    fn the_kernels_line_is_read_and_nonsense_is_not() {
        assert_eq!(ticks("cpu  10 0 5 80 5 0 0 0 0 0\ncpu0 1"), Some((15, 100)));
        assert_eq!(ticks("cpu  10"), None);
        assert_eq!(ticks(""), None);
    }
}
