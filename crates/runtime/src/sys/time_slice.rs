//! How long a thread may go on while another has just woken, and whether it interrupts another when it wakes: the kernel's
//! time slice and its class of threads that do not.
//!
//! Niceness is not here: it says how much of a processor a thread gets, not who is interrupted.

use std::io;

/// Longer than the kernel's own (about 3 ms at most), which is all that counts: a thread that wakes and has a shorter slice
/// interrupts one with a longer one. Not longer than need be: kernels before 6.17 let a thread use up its slice while
/// others merely wait.
const SLICE_NS: u64 = 10_000_000;

/// `sched_runtime` is the slice of an ordinary thread since Linux 6.12, which sees it as a wish; before that it is ignored.
#[repr(C)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime_ns: u64,
    deadline_ns: u64,
    period_ns: u64,
}

/// From now on, threads with a slice of the usual length interrupt the calling one as soon as they have something to do.
/// Else they may have to wait until it sleeps, though they are entitled to more of the processor: Linux lets a thread go on
/// for a while once it has begun. And a thread that wakes the calling one goes on itself, also where both are on one
/// processor (class `SCHED_BATCH`): a request that tells what has come would otherwise often wait until that is learnt, 0.15 ms
/// of a chain of calls of 1.7 ms. Its niceness stays as it is, and so does its share of the processor.
///
/// # Errors
/// What the kernel says where it knows no such thing or does not allow it; the thread goes on as before.
pub fn let_others_go_first() -> io::Result<()> {
    let mut attributes = Attributes {
        size: size_of::<Attributes>() as u32,
        policy: 0,
        flags: 0,
        nice: 0,
        priority: 0,
        runtime_ns: 0,
        deadline_ns: 0,
        period_ns: 0,
    };
    let size = attributes.size;
    // SAFETY: the kernel writes at most `size` bytes, those of the struct, which is exclusively borrowed and of plain
    // integers; 0 is the calling thread.
    let read = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) };
    if read != 0 {
        return Err(io::Error::last_os_error());
    }
    attributes.runtime_ns = SLICE_NS;
    if attributes.policy == libc::SCHED_OTHER as u32 {
        attributes.policy = libc::SCHED_BATCH as u32;
    }
    // SAFETY: the kernel reads `attributes.size` bytes, those of the struct; 0 is the calling thread. Nothing of the
    // process's memory depends on when its threads run.
    let written = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    if written == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A figure of the calling thread, where the kernel tells.
    fn figure(name: &str) -> Option<u64> {
        let text = std::fs::read_to_string("/proc/thread-self/sched").ok()?;
        text.lines().find(|line| line.starts_with(name))?.rsplit(' ').next()?.parse().ok()
    }

    /// In nanoseconds.
    fn slice_ns() -> Option<u64> {
        figure("se.slice")
    }

    #[test]
    fn the_calling_thread_has_a_long_slice_and_others_keep_theirs() {
        let before = slice_ns();
        let of_thread = std::thread::spawn(|| {
            let niceness = || rustix::process::getpriority_process(None).unwrap();
            let as_made = niceness();
            let_others_go_first().unwrap();
            assert_eq!(niceness(), as_made);
            assert!(figure("policy").is_none_or(|policy| policy == libc::SCHED_BATCH as u64));
            slice_ns()
        });
        let of_thread = of_thread.join().unwrap();
        assert_eq!(slice_ns(), before);
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let version: Vec<u32> = release.split(['.', '-']).map_while(|part| part.parse().ok()).take(2).collect();
        if version.as_slice() >= [6, 12].as_slice() && before.is_some() {
            assert_eq!(of_thread, Some(SLICE_NS));
        }
    }
}
