//! Memory and CPU time of the node's own process, read at each scrape.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use rustix::time::{ClockId, clock_gettime};

use super::declared::{PROCESS_CPU, PROCESS_MEMORY};
use super::live::encode;

#[derive(Debug)]
pub(super) struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let value = |value: f64| [(Vec::new(), value)];
        encode(&mut encoder, &PROCESS_CPU, value(cpu_seconds()))?;
        match resident_bytes() {
            Some(bytes) => encode(&mut encoder, &PROCESS_MEMORY, value(bytes as f64)),
            // Without /proc there is no figure, and none is better than a wrong one.
            None => Ok(()),
        }
    }
}

fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// `VmRSS` of `/proc/self/status`, which is in kibibytes.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}
