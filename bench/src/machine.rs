//! What the figures were measured on. A figure without its machine says nothing.

use std::fs;

use serde::Serialize;

/// Facts of the machine, as far as it tells.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    /// Cores this process may use.
    pub(crate) cores: usize,
    pub(crate) memory_bytes: u64,
    pub(crate) kernel: String,
}

impl Machine {
    /// Looks.
    pub(crate) fn look() -> Self {
        Self {
            processor: value_of("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_bytes: value_of("/proc/meminfo", "MemTotal").and_then(|text| kibibytes(&text)).unwrap_or(0),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
        }
    }

    /// One line for people.
    pub(crate) fn line(&self) -> String {
        let Self { processor, cores, memory_bytes, kernel } = self;
        format!("{processor}, {cores} cores, {} GiB, Linux {kernel}", memory_bytes >> 30)
    }
}

/// Processes that ran or wanted to, as a mean of the last minute. What else the machine does is in every figure.
pub(crate) fn load_average() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()
}

fn value_of(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim().to_owned())
}

fn kibibytes(text: &str) -> Option<u64> {
    text.strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kibibytes| kibibytes * 1024)
}
