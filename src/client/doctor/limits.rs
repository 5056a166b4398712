//! Limits of this process that a node started from here would have, too.

use std::path::Path;

use super::{Check, read, read_number};
use crate::client::text;

/// Address space of a node with the usual pool of 1,000 VMs: two memories of 4 GiB with guard pages each. Measured
/// as VmSize of a node: 7.9 TiB.
const ADDRESS_SPACE_BYTES: u64 = 8 << 40;
/// Mappings of a full pool: a node with it idle has 2,150, and each VM under way splits a few more. The kernel's
/// usual limit, 65,530, is enough.
const MAPPINGS_MIN: u64 = 32 << 10;
/// Connections a node is meant to hold, two files each where one goes to another host, and its own files.
const OPEN_FILES_MIN: u64 = 10_240;
/// Below this, a node cannot even hold its pool of connections to itself and its store.
const OPEN_FILES_FAILED: u64 = 256;

/// All checks of this file; `root` is where `/proc` is.
pub(super) fn checks(root: &Path) -> Vec<Check> {
    let limits = read(root, "proc/self/limits").unwrap_or_default();
    vec![address_space(root, &limits), mappings(root), open_files(&limits)]
}

/// A soft limit: a number, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limit {
    Unlimited,
    At(u64),
    Unknown,
}

/// The soft limit in a line such as `Max open files            1024                 524288               files`.
fn soft(limits: &str, name: &str) -> Limit {
    let line = limits.lines().find_map(|line| line.strip_prefix(name));
    match line.and_then(|line| line.split_whitespace().next()) {
        Some("unlimited") => Limit::Unlimited,
        Some(number) => number.parse().map_or(Limit::Unknown, Limit::At),
        None => Limit::Unknown,
    }
}

fn address_space(root: &Path, limits: &str) -> Check {
    let name = "address space";
    let need = text::bytes(ADDRESS_SPACE_BYTES);
    let hint = "run `ulimit -v unlimited` before starting the node (in systemd, LimitAS=infinity)";
    match soft(limits, "Max address space") {
        Limit::At(bytes) if bytes < ADDRESS_SPACE_BYTES => {
            let detail = format!("limited to {}; the pool of VMs reserves {need}", text::bytes(bytes));
            return Check::failed(name, detail, hint);
        }
        Limit::Unknown => return Check::unknown(name, "its limit"),
        Limit::At(_) | Limit::Unlimited => {}
    }
    if read_number(root, "proc/sys/vm/overcommit_memory") == Some(2) {
        let detail = format!("the kernel counts every reservation (vm.overcommit_memory=2); the pool reserves {need}");
        return Check::warning(name, detail, "if the node does not start: sysctl vm.overcommit_memory=0");
    }
    Check::ok(name, format!("enough for the pool of VMs, which reserves {need} and uses little of it"))
}

fn mappings(root: &Path) -> Check {
    let name = "mappings";
    match read_number(root, "proc/sys/vm/max_map_count") {
        Some(count) if count < MAPPINGS_MIN => {
            let detail = format!("at most {count} for a process; a busy node may need {MAPPINGS_MIN}");
            Check::warning(name, detail, "sysctl vm.max_map_count=65530, the kernel's usual value, or more")
        }
        Some(count) => Check::ok(name, format!("at most {count} for a process")),
        None => Check::unknown(name, "vm.max_map_count"),
    }
}

fn open_files(limits: &str) -> Check {
    let name = "open files";
    let hint = "run `ulimit -n 65536` before starting the node (in systemd, LimitNOFILE=65536)";
    match soft(limits, "Max open files") {
        Limit::At(count) if count < OPEN_FILES_FAILED => Check::failed(name, format!("at most {count}"), hint),
        Limit::At(count) if count < OPEN_FILES_MIN => {
            let detail = format!("at most {count}, so fewer than {count} connections at a time");
            Check::warning(name, detail, hint)
        }
        Limit::At(count) => Check::ok(name, format!("at most {count}")),
        Limit::Unlimited => Check::ok(name, "no limit"),
        Limit::Unknown => Check::unknown(name, "their limit"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{State, pretend};
    use super::*;

    const LIMITS: &str = "\
Limit                     Soft Limit           Hard Limit           Units     
Max open files            1024                 524288               files     
Max address space         unlimited            unlimited            bytes     ";

    #[test]
    fn reads_soft_limits() {
        assert_eq!(soft(LIMITS, "Max open files"), Limit::At(1024));
        assert_eq!(soft(LIMITS, "Max address space"), Limit::Unlimited);
        assert_eq!(soft(LIMITS, "Max nonsense"), Limit::Unknown);
    }

    #[test]
    fn the_pool_needs_address_space() {
        let root = pretend(&[("proc/sys/vm/overcommit_memory", "0")]);
        assert_eq!(address_space(root.path(), LIMITS).state, State::Ok);
        let limited = LIMITS.replace("unlimited ", "1073741824");
        let check = address_space(root.path(), &limited);
        assert!(check.state == State::Failed && check.hint.contains("ulimit -v"), "{check:?}");
        let strict = pretend(&[("proc/sys/vm/overcommit_memory", "2")]);
        assert_eq!(address_space(strict.path(), LIMITS).state, State::Warning);
    }

    #[test]
    fn few_files_and_few_mappings_are_named() {
        assert_eq!(open_files(LIMITS).state, State::Warning);
        assert_eq!(open_files(&LIMITS.replace("1024 ", "100 ")).state, State::Failed);
        assert_eq!(mappings(pretend(&[("proc/sys/vm/max_map_count", "1000")]).path()).state, State::Warning);
        assert_eq!(mappings(pretend(&[("proc/sys/vm/max_map_count", "65530")]).path()).state, State::Ok);
    }
}
