//! A worker locks itself in, before it looks at its job: guard after guard, from outside to inside. What the server, which
//! starts it, gives up of its own is in `server`.
//!
//! The order matters: each guard needs something that a later one takes away. What the kernel does
//! not have is left out and named in the report; whether that is enough, the caller decides.

mod landlocked;
mod resource_limits;
mod seccomp;
mod server;

use std::fs;

use rustix::process::{DumpableBehavior, Pid, Signal};
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::guard::{Guard, SandboxReport};
use crate::limits::{Scheduling, WorkerLimits};
use crate::proc_status;

pub use self::server::{NoGuard, ServerPaths, ServerSandbox, confine_server, server_sandbox_support};

/// The lowest priority there is.
const NICE_LOWEST: i32 = 19;
/// The most attractive victim when memory runs out.
const OOM_SCORE_MAX: &str = "1000";

/// That a guard is not up. The reasons of kernels differ too much to be worth keeping.
pub(crate) struct Missing;

/// What the process has before it does anything. An allocator may have taken a gigabyte of address space
/// already, which is not the job's.
#[derive(Clone, Copy, Default)]
struct AtStart {
    data_bytes: u64,
    address_space_bytes: u64,
}

impl AtStart {
    /// While files can still be read. Zero where the kernel does not say: the limits are the tighter for it.
    fn read() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let bytes = |name| proc_status::number(&status, name).unwrap_or(0).saturating_mul(1024);
        Self { data_bytes: bytes("VmData:"), address_space_bytes: bytes("VmSize:") }
    }
}

type GuardResult = Result<(), Missing>;

/// Puts up every guard that the kernel has, and tells which it has not.
pub(crate) fn impose(limits: &WorkerLimits, supervisor_pid: u32) -> SandboxReport {
    let at_start = AtStart::read();
    let mut missing = Vec::new();
    for guard in Guard::ALL {
        if put_up(guard, limits, at_start, supervisor_pid).is_err() {
            missing.push(guard);
        }
    }
    SandboxReport::of(missing)
}

fn put_up(guard: Guard, limits: &WorkerLimits, at_start: AtStart, supervisor_pid: u32) -> GuardResult {
    match guard {
        Guard::ParentDeath => die_with(supervisor_pid),
        Guard::Scheduling => lower_priority(limits.scheduling),
        Guard::OutOfMemoryScore => fs::write("/proc/self/oom_score_adj", OOM_SCORE_MAX).map_err(|_| Missing),
        Guard::SingleThread => be_alone(),
        Guard::Capabilities => drop_capabilities(),
        Guard::NoNewPrivileges => rustix::thread::set_no_new_privs(true).map_err(|_| Missing),
        Guard::NotDumpable => {
            // A core limit of zero does not stop a core that is piped into a program; this does.
            rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|_| Missing)
        }
        Guard::FileSystem => landlocked::no_file_system(),
        Guard::Isolation => landlocked::no_network_and_signals(),
        Guard::ResourceLimits => resource_limits::impose(limits, at_start),
        Guard::SystemCalls => seccomp::impose(),
    }
}

/// The supervisor may have died before this was asked for; then the parent is already another.
fn die_with(supervisor_pid: u32) -> GuardResult {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(|_| Missing)?;
    let parent = rustix::process::getppid().map_or(0, Pid::as_raw_pid);
    if u32::try_from(parent) == Ok(supervisor_pid) { Ok(()) } else { Err(Missing) }
}

/// The kernel derives the class for disk I/O from this one. Threads inherit it.
fn lower_priority(scheduling: Scheduling) -> GuardResult {
    let policy = match scheduling {
        Scheduling::Normal => return Ok(()),
        Scheduling::Nice => scheduler::Policy::Batch,
        Scheduling::Idle => scheduler::Policy::Idle,
    };
    let nice = rustix::process::setpriority_process(None, NICE_LOWEST).map_err(|_| Missing);
    let class = scheduler::set_self_policy(policy, 0).map_err(|()| Missing);
    nice.and(class)
}

/// Several guards hold for the calling thread and for those it makes later.
fn be_alone() -> GuardResult {
    let threads = fs::read_dir("/proc/self/task").map_err(|_| Missing)?.count();
    if threads == 1 { Ok(()) } else { Err(Missing) }
}

fn drop_capabilities() -> GuardResult {
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::set_capabilities(None, sets).map_err(|_| Missing)
}
