//! What kernel and hardware offer: version, instructions, cores, memory, and what helps with pages.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use forerun_specialize::ServerSandbox;

use super::{Check, read, read_number};
use crate::client::text;

/// Oldest kernel this is meant for: the oldest long-term one that is still maintained.
const KERNEL_MIN: (u32, u32) = (5, 10);
/// Memory below which a node with a few functions is tight: machine code, VMs and page cache.
const MEMORY_BYTES_MIN: u64 = 512 << 20;
/// A limit that is "no limit" in the first version of cgroups, which has no word for it.
const CGROUP_UNLIMITED_BYTES: u64 = 1 << 60;
/// 2026-01-01: before this version was made, so no clock that is right shows less.
const CLOCK_UNIX_SECONDS_MIN: u64 = 1_767_225_600;
/// 2100-01-01: a clock beyond is wrong, too.
const CLOCK_UNIX_SECONDS_MAX: u64 = 4_102_444_800;

/// All checks of this file; `root` is where `/proc` and `/sys` are.
pub(super) fn checks(root: &Path) -> Vec<Check> {
    let version = read(root, "proc/sys/kernel/osrelease");
    vec![
        kernel(version.as_deref()),
        page_tracking(),
        sandbox(),
        processor(),
        cores(),
        memory(root),
        swap(root),
        huge_pages(root),
        clock(),
    ]
}

fn kernel(version: Option<&str>) -> Check {
    let name = "kernel";
    match (version, version.and_then(numbers)) {
        (Some(text), Some(found)) if found >= KERNEL_MIN => Check::ok(name, format!("Linux {text}")),
        (Some(text), Some(_)) => {
            let hint = format!("use Linux {}.{} or later", KERNEL_MIN.0, KERNEL_MIN.1);
            Check::warning(name, format!("Linux {text} is older than what this was tested on"), hint)
        }
        (Some(text), None) => Check::warning(name, format!("`{text}` is no Linux version"), "use Linux"),
        (None, _) => Check::unknown(name, "the version"),
    }
}

/// The first two numbers of a version such as `6.18.44-fc`.
fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Tried, not judged by the version: what a filter of system calls forbids is seen only then.
fn page_tracking() -> Check {
    let name = "page tracking";
    match forerun_node::rollback_support() {
        Ok(()) => Check::ok(name, "userfaultfd write protection and PAGEMAP_SCAN work: used VMs can be rolled back"),
        Err(why) => Check::warning(
            name,
            format!("{why}: every request gets a fresh VM"),
            "use Linux 6.7 or later; in a container, allow `userfaultfd` in its seccomp profile",
        ),
    }
}

/// Tried as well, on a thread that ends with it.
fn sandbox() -> Check {
    let name = "sandbox";
    let ServerSandbox { files, calls } = forerun_specialize::server_sandbox_support();
    let missing: Vec<_> = [files.err(), calls.err()].into_iter().flatten().map(|why| why.to_string()).collect();
    if missing.is_empty() {
        return Check::ok(name, "landlock and seccomp work: a server gives up what it does not need");
    }
    Check::warning(
        name,
        missing.join("; "),
        "use Linux 5.19 or later with landlock among `lsm=`; in a container, allow `landlock_*` and `seccomp` in its profile",
    )
}

fn processor() -> Check {
    let name = "processor";
    let missing = missing_instructions();
    if missing.is_empty() {
        return Check::ok(name, format!("{} with all instructions the compiler likes", std::env::consts::ARCH));
    }
    let detail = format!("{} without {}", std::env::consts::ARCH, missing.join(", "));
    Check::warning(
        name,
        detail,
        "functions run, but SIMD and bit operations are slower; in a VM, pass the host's CPU on",
    )
}

/// Instructions that Cranelift uses where they are there.
#[cfg(target_arch = "x86_64")]
fn missing_instructions() -> Vec<&'static str> {
    let known = [
        ("sse4.2", std::arch::is_x86_feature_detected!("sse4.2")),
        ("popcnt", std::arch::is_x86_feature_detected!("popcnt")),
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
        ("fma", std::arch::is_x86_feature_detected!("fma")),
        ("bmi2", std::arch::is_x86_feature_detected!("bmi2")),
        ("lzcnt", std::arch::is_x86_feature_detected!("lzcnt")),
    ];
    known.into_iter().filter(|(_, there)| !there).map(|(name, _)| name).collect()
}

/// Elsewhere the base instructions are enough.
#[cfg(not(target_arch = "x86_64"))]
fn missing_instructions() -> Vec<&'static str> {
    Vec::new()
}

fn cores() -> Check {
    match std::thread::available_parallelism() {
        Ok(cores) => Check::ok("cores", format!("{cores} for this process")),
        Err(error) => {
            Check::warning("cores", format!("their number is unknown: {error}"), "a node then uses one thread")
        }
    }
}

fn memory(root: &Path) -> Check {
    let name = "memory";
    let Some(machine) = meminfo(root, "MemTotal:") else { return Check::unknown(name, "its size") };
    let available = meminfo(root, "MemAvailable:").unwrap_or(machine);
    let limit = cgroup_limit(root).filter(|limit| *limit < machine);
    let usable = limit.unwrap_or(machine);
    let mut detail = format!("{}, {} available", text::bytes(machine), text::bytes(available));
    if let Some(limit) = limit {
        detail.push_str(&format!(", limited to {} by the control group", text::bytes(limit)));
    }
    if usable.min(available) < MEMORY_BYTES_MIN {
        let hint = format!("give the node at least {}", text::bytes(MEMORY_BYTES_MIN));
        return Check::warning(name, detail, hint);
    }
    Check::ok(name, detail)
}

/// A size in `/proc/meminfo`, which has them in kB.
fn meminfo(root: &Path, key: &str) -> Option<u64> {
    let text = read(root, "proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// The least memory limit of the control groups this process is in, of either version.
fn cgroup_limit(root: &Path) -> Option<u64> {
    let text = read(root, "proc/self/cgroup")?;
    let mut least: Option<u64> = None;
    for line in text.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let (base, file) = match controllers {
            "" => ("sys/fs/cgroup", "memory.max"),
            controllers if controllers.split(',').any(|one| one == "memory") => {
                ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        // A container may see its own group as the root: groups above that are not there simply have no file.
        for group in Path::new(path.trim_start_matches('/')).ancestors() {
            let place = Path::new(base).join(group).join(file);
            let limit = place.to_str().and_then(|place| read_number(root, place));
            let limit = limit.filter(|limit| *limit < CGROUP_UNLIMITED_BYTES);
            least = [least, limit].into_iter().flatten().min();
        }
    }
    least
}

fn swap(root: &Path) -> Check {
    let name = "swap";
    let (total, free) = (meminfo(root, "SwapTotal:"), meminfo(root, "SwapFree:"));
    match (total, free) {
        (Some(0), _) => Check::ok(name, "none"),
        (Some(total), Some(free)) if total == free => Check::ok(name, format!("{}, unused", text::bytes(total))),
        (Some(total), Some(free)) => {
            let detail = format!("{} of {} in use", text::bytes(total.saturating_sub(free)), text::bytes(total));
            Check::warning(name, detail, "functions whose pages were swapped out answer late: give the machine memory")
        }
        (_, _) => Check::unknown(name, "its use"),
    }
}

fn huge_pages(root: &Path) -> Check {
    let name = "huge pages";
    let Some(text) = read(root, "sys/kernel/mm/transparent_hugepage/enabled") else {
        return Check::ok(name, "this kernel has no transparent ones");
    };
    let chosen = text.split(['[', ']']).nth(1).unwrap_or(&text);
    Check::ok(name, format!("transparent ones: {chosen}"))
}

fn clock() -> Check {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    clock_at(since)
}

fn clock_at(unix_seconds: u64) -> Check {
    let shown = text::moment(unix_seconds.saturating_mul(1000));
    if (CLOCK_UNIX_SECONDS_MIN..CLOCK_UNIX_SECONDS_MAX).contains(&unix_seconds) {
        return Check::ok("clock", shown);
    }
    Check::failed("clock", format!("it shows {shown}"), "set it: certificates and revisions depend on it")
}

#[cfg(test)]
mod tests {
    use super::super::{State, pretend};
    use super::*;

    #[test]
    fn versions_of_all_kinds() {
        assert_eq!(numbers("6.18.44-fc-v669"), Some((6, 18)));
        assert_eq!(numbers("5.15-microsoft"), Some((5, 15)));
        assert_eq!(numbers("linux"), None);
        assert_eq!(kernel(Some("4.4.0")).state, State::Warning);
    }

    #[test]
    fn page_tracking_is_tried() {
        let found = page_tracking();
        assert_eq!(found.state == State::Ok, forerun_node::rollback_support().is_ok());
        assert_eq!(found.hint.is_empty(), found.state == State::Ok);
    }

    #[test]
    fn memory_is_the_least_of_machine_and_groups() {
        let meminfo = ("proc/meminfo", "MemTotal:  8388608 kB\nMemAvailable: 4194304 kB\n");
        let two = [
            meminfo,
            ("proc/self/cgroup", "0::/a/b\n"),
            ("sys/fs/cgroup/a/memory.max", "268435456\n"),
            ("sys/fs/cgroup/a/b/memory.max", "max\n"),
        ];
        let check = memory(pretend(&two).path());
        assert!(check.state == State::Warning && check.detail.contains("limited to 256.0 MiB"), "{check:?}");
        let one = [
            meminfo,
            ("proc/self/cgroup", "4:memory:/\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ];
        assert_eq!(memory(pretend(&one).path()), Check::ok("memory", "8.0 GiB, 4.0 GiB available"));
    }

    #[test]
    fn swap_in_use_is_a_warning() {
        let state = |text| swap(pretend(&[("proc/meminfo", text)]).path()).state;
        assert_eq!(state("SwapTotal: 0 kB\nSwapFree: 0 kB"), State::Ok);
        assert_eq!(state("SwapTotal: 9 kB\nSwapFree: 9 kB"), State::Ok);
        assert_eq!(state("SwapTotal: 9 kB\nSwapFree: 3 kB"), State::Warning);
    }

    #[test]
    fn a_clock_of_1970_has_failed() {
        assert_eq!(clock_at(0).state, State::Failed);
        assert_eq!(clock_at(u64::MAX).state, State::Failed);
        assert_eq!(clock_at(CLOCK_UNIX_SECONDS_MIN).state, State::Ok);
    }
}
