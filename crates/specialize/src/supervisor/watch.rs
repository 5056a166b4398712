//! Watching a worker: reads its log, looks at its threads and memory, ends it when it must end.
//!
//! It returns when the process is dead but not yet reaped.

use std::fs;
use std::os::fd::OwnedFd;
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::Signal;

use crate::guard::SandboxReport;
use crate::limits::RESIDENT_SLACK_BYTES;
use crate::proc_status;
use crate::progress::Progress;
use crate::supervisor::handle::Shared;
use crate::supervisor::log::{Dropped, LogReader};
use crate::supervisor::settings::WorkerSettings;

/// How often a worker is looked at. A thread bomb makes some thousands in that time, and ends.
const TICK: Duration = Duration::from_millis(20);
/// Bytes read from the log in one go; the size of a pipe.
const READ_BYTES: usize = 64 << 10;
/// Bytes read from the log after death: a pipe's content, however large root may have made it.
const LAST_BYTES_MAX: usize = 1 << 20;

/// What a worker used, as far as it could be seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// From start to death.
    pub wall_ms: u64,
    /// Processor time of all threads, in the kernel's ticks of 10 ms.
    pub cpu_ms: u64,
    /// Largest resident memory, as last seen (looked at every 20 ms): a short-lived peak at the end is missed.
    pub memory_bytes_peak: u64,
    /// Most threads seen.
    pub threads_peak: u32,
}

/// Why we killed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    Deadline,
    Cancelled,
    TooMuchMemory,
    TooManyThreads { threads: u32 },
}

/// All that was seen.
pub(super) struct Watched {
    pub(super) stop: Option<Stop>,
    pub(super) usage: Usage,
    pub(super) sandbox: SandboxReport,
    pub(super) log: String,
    pub(super) dropped: Dropped,
}

/// Watches until the process is dead, killing it if need be.
pub(super) fn until_dead(
    child: &Child,
    pidfd: &OwnedFd,
    stderr: OwnedFd,
    settings: &WorkerSettings,
    shared: &Shared,
    on_progress: Box<dyn FnMut(Progress)>,
) -> Watched {
    let started = Instant::now();
    let mut log = LogReader::new(on_progress);
    let mut stderr = Some(stderr);
    let mut usage = Usage::default();
    let mut stop = None;
    while !wait_a_tick(pidfd, stderr.as_ref()) {
        read_log(&mut stderr, &mut log, READ_BYTES);
        look_at(child.id(), &mut usage);
        stop = stop.or_else(|| reason_to_stop(settings, shared, started.elapsed(), usage));
        if stop.is_some() {
            // Every time, and by descriptor: it cannot hit another process, and one signal is enough.
            let _ = rustix::process::pidfd_send_signal(pidfd, Signal::KILL);
        }
    }
    read_log(&mut stderr, &mut log, LAST_BYTES_MAX);
    usage.cpu_ms = cpu_ms(child.id());
    usage.wall_ms = millis(started.elapsed());
    let (sandbox, log, dropped) = log.finish();
    Watched { stop, usage, sandbox, log, dropped }
}

/// How many processes the kernel has killed so far for lack of memory; zero where it does not say.
pub(super) fn kernel_memory_kills() -> u64 {
    let statistics = fs::read_to_string("/proc/vmstat").unwrap_or_default();
    proc_status::number(&statistics, "oom_kill ").unwrap_or(0)
}

/// Waits until something is written, the process dies, or a tick has passed. True when it is dead.
fn wait_a_tick(pidfd: &OwnedFd, stderr: Option<&OwnedFd>) -> bool {
    let mut descriptors = vec![PollFd::new(pidfd, PollFlags::IN)];
    descriptors.extend(stderr.map(|stderr| PollFd::new(stderr, PollFlags::IN)));
    let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(TICK.subsec_nanos()) };
    match poll(&mut descriptors, Some(&timeout)) {
        Ok(_) => descriptors[0].revents().contains(PollFlags::IN),
        Err(Errno::INTR) => false,
        Err(_) => {
            // Out of kernel memory, at worst: try again, but not in a hot loop.
            std::thread::sleep(TICK);
            false
        }
    }
}

/// Reads what is there, up to a bound; forgets the pipe at its end.
fn read_log(stderr: &mut Option<OwnedFd>, log: &mut LogReader, bytes_max: usize) {
    let mut buffer = [0; 4096];
    let mut total = 0;
    while let Some(pipe) = stderr.as_ref()
        && total < bytes_max
    {
        match rustix::io::read(pipe, &mut buffer) {
            Ok(0) => *stderr = None,
            Ok(count) => {
                log.take(&buffer[..count]);
                total += count;
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return,
            Err(_) => *stderr = None,
        }
    }
}

fn reason_to_stop(settings: &WorkerSettings, shared: &Shared, elapsed: Duration, usage: Usage) -> Option<Stop> {
    if shared.is_cancelled() {
        return Some(Stop::Cancelled);
    }
    if usage.threads_peak > settings.threads_max {
        return Some(Stop::TooManyThreads { threads: usage.threads_peak });
    }
    if usage.memory_bytes_peak > settings.memory_bytes_max.saturating_add(RESIDENT_SLACK_BYTES) {
        return Some(Stop::TooMuchMemory);
    }
    (millis(elapsed) >= settings.wall_ms_max).then_some(Stop::Deadline)
}

/// What the kernel shows of a living process.
fn look_at(process_id: u32, usage: &mut Usage) {
    let status = fs::read_to_string(format!("/proc/{process_id}/status")).unwrap_or_default();
    let threads = proc_status::number(&status, "Threads:").unwrap_or(0);
    let peak_kib = proc_status::number(&status, "VmHWM:").unwrap_or(0);
    usage.threads_peak = usage.threads_peak.max(u32::try_from(threads).unwrap_or(u32::MAX));
    usage.memory_bytes_peak = usage.memory_bytes_peak.max(peak_kib.saturating_mul(1024));
}

/// User and system time of a process, also of a dead one that is not yet reaped.
fn cpu_ms(process_id: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{process_id}/stat")).unwrap_or_default();
    cpu_ticks(&stat).saturating_mul(1000) / rustix::param::clock_ticks_per_second().max(1)
}

/// Fields 14 and 15 of proc_pid_stat(5). The second one, a name in brackets, may hold anything.
fn cpu_ticks(stat: &str) -> u64 {
    let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    after_name.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        assert_eq!(cpu_ticks("5 (a) b) Z 1 2 3 4 5 6 7 8 9 10 30 12 0 0"), 42);
        assert_eq!(cpu_ticks(""), 0);
    }
}
