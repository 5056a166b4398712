//! What the kernel counts for a worker: memory, processor time, file size, descriptors.
//!
//! Not `RLIMIT_NPROC`: it counts all processes and threads of the user, the server's own included, and
//! does not hold for root at all. Processes are refused by seccomp, threads are watched by the supervisor.

use rustix::process::{Resource, Rlimit, setrlimit};

use super::{AtStart, GuardResult, Missing};
use crate::frame::RESULT_HEADER_BYTES;
use crate::limits::{ADDRESS_SPACE_SLACK_BYTES, ERROR_DETAIL_BYTES_MAX, WorkerLimits};

/// stdin, stdout, stderr, and never another.
const DESCRIPTORS: u64 = 3;
/// A second after SIGXCPU comes SIGKILL, for work that ignores the first.
const CPU_GRACE_S: u64 = 1;
/// A result that says why there is no artifact must fit beside any artifact limit. JSON escapes may
/// make a text six times as long.
const ERROR_BYTES: u64 = 8 * ERROR_DETAIL_BYTES_MAX as u64;

pub(super) fn impose(limits: &WorkerLimits, at_start: AtStart) -> GuardResult {
    let memory = limits.memory_bytes_max.saturating_add(at_start.data_bytes);
    let file = limits.output_bytes_max.max(ERROR_BYTES).saturating_add(RESULT_HEADER_BYTES as u64);
    let cpu_s = limits.cpu_ms_max.div_ceil(1000).max(1);
    limit(Resource::Core, 0, 0)?;
    limit(Resource::Fsize, file, file)?;
    limit(Resource::Cpu, cpu_s, cpu_s.saturating_add(CPU_GRACE_S))?;
    limit(Resource::Data, memory, memory)?;
    let beyond_start = limits.memory_bytes_max.saturating_add(ADDRESS_SPACE_SLACK_BYTES);
    let address_space = at_start.address_space_bytes.saturating_add(beyond_start);
    limit(Resource::As, address_space, address_space)?;
    limit(Resource::Memlock, 0, 0)?;
    limit(Resource::Nofile, DESCRIPTORS, DESCRIPTORS)
}

/// Never above what the server itself was given, which an ordinary user could not raise.
fn limit(resource: Resource, current: u64, maximum: u64) -> GuardResult {
    let given = rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let new = Rlimit { current: Some(current.min(given)), maximum: Some(maximum.min(given)) };
    setrlimit(resource, new).map_err(|_| Missing)
}
