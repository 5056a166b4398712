//! What the supervisor promises: the result, the sandbox around it, an end to everything it started.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use forerun_specialize::{
    FailureKind, Guard, Job, JobHandle, JobKind, Progress, SandboxNeed, SandboxReport, Scheduling, Supervisor,
    WorkerFailure, WorkerSettings,
};

use crate::{Test, job, settings, supervisor};

pub(crate) const TESTS: &[Test] = &[
    ("supervision::a_job_comes_back", a_job_comes_back),
    ("supervision::the_same_job_gives_the_same_bytes", the_same_job_gives_the_same_bytes),
    ("supervision::a_worker_learns_nothing_from_its_environment", a_worker_learns_nothing_from_its_environment),
    ("supervision::the_sandbox_is_up_before_the_work", the_sandbox_is_up_before_the_work),
    ("supervision::the_lowest_class_is_really_set", the_lowest_class_is_really_set),
    ("supervision::an_incomplete_sandbox_is_refused_when_asked", an_incomplete_sandbox_is_refused_when_asked),
    ("supervision::progress_and_log_are_told_apart", progress_and_log_are_told_apart),
    ("supervision::a_dropped_handle_kills_the_worker", a_dropped_handle_kills_the_worker),
    ("supervision::a_cancelled_job_ends_by_name", a_cancelled_job_ends_by_name),
    ("supervision::jobs_wait_for_their_turn_up_to_a_bound", jobs_wait_for_their_turn_up_to_a_bound),
    ("supervision::a_kill_at_any_moment_is_told_as_one", a_kill_at_any_moment_is_told_as_one),
    ("supervision::a_panic_in_the_callback_leaves_no_worker", a_panic_in_the_callback_leaves_no_worker),
    ("supervision::a_worker_dies_with_its_supervisor", a_worker_dies_with_its_supervisor),
    ("supervision::too_large_a_job_is_refused", too_large_a_job_is_refused),
    ("supervision::by_hand_the_role_does_nothing", by_hand_the_role_does_nothing),
];

/// Long enough for the busiest machine; only a bug waits that long.
const PATIENCE: Duration = Duration::from_secs(60);

fn a_job_comes_back() {
    let supervisor = supervisor();
    let large = Bytes::from((0..5_000_000u32).map(|n| n as u8).collect::<Vec<_>>());
    let settings = WorkerSettings { output_bytes_max: 8 << 20, ..settings() };
    let job = Job { component: large.clone(), ..job("echo") };
    let artifact = Supervisor::new(settings).run(job).unwrap();
    assert_eq!(artifact.bytes, [&7u32.to_le_bytes()[..], &large].concat());
    assert_eq!(artifact.checksum, *blake3::hash(&artifact.bytes).as_bytes());
    assert_eq!(supervisor.run(crate::job("empty")).unwrap().bytes, b"");
    let counters = supervisor.counters();
    assert_eq!((counters.started, counters.succeeded), (1, 1));
}

fn the_same_job_gives_the_same_bytes() {
    let supervisor = supervisor();
    let first = supervisor.run(job("rayon")).unwrap();
    let second = supervisor.run(job("rayon")).unwrap();
    assert_eq!(first.bytes, second.bytes);
    assert!(first.bytes.starts_with(b"2 "), "two threads were asked for");
}

fn a_worker_learns_nothing_from_its_environment() {
    let artifact = supervisor().run(job("environment")).unwrap();
    let expected = r#"[("MIMALLOC_ARENA_EAGER_COMMIT", "0"), ("RAYON_NUM_THREADS", "2")]"#;
    assert_eq!(String::from_utf8(artifact.bytes).unwrap(), expected);
}

/// A worker that hangs in its work, seen from outside.
fn hanging(settings: WorkerSettings) -> (JobHandle, u32, Progress) {
    let (sender, receiver) = mpsc::channel();
    let handle = Supervisor::new(settings).start(job("hang"), move |progress| drop(sender.send(progress)));
    let first = receiver.recv_timeout(PATIENCE).unwrap();
    let id = handle.process_id().unwrap();
    (handle, id, first)
}

fn the_sandbox_is_up_before_the_work() {
    let (handle, id, first) = hanging(settings());
    assert!(first.what.starts_with("sandbox "), "{first:?}");
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    assert_eq!((field("NoNewPrivs:"), field("Seccomp:"), field("CapEff:")), ("1".into(), "2".into(), "0".repeat(16)));
    let limits = std::fs::read_to_string(format!("/proc/{id}/limits")).unwrap();
    for (name, soft) in [("Max open files", "3"), ("Max core file size", "0"), ("Max locked memory", "0")] {
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        assert_eq!(line.split_whitespace().next(), Some(soft), "{name}");
    }
    let data_line = limits.lines().find_map(|line| line.strip_prefix("Max data size")).unwrap();
    let data_bytes: u64 = data_line.split_whitespace().next().unwrap().parse().unwrap();
    let beyond_limit = data_bytes.checked_sub(settings().memory_bytes_max).unwrap();
    assert!(beyond_limit < 64 << 20, "{beyond_limit} bytes were there at the start");
    // Its three descriptors; and those that were given to this process to be passed on, which seccomp makes useless.
    let mut expected: BTreeSet<_> = ["0", "1", "2"].map(String::from).into();
    expected.extend(descriptors("self").into_iter().filter(|descriptor| is_passed_on(descriptor)));
    assert_eq!(descriptors(&id.to_string()), expected);
    handle.cancel();
    let finished = handle.wait();
    println!("     this kernel: {:?}, used: {:?}", finished.sandbox, finished.usage);
    assert_ne!(finished.sandbox, SandboxReport::Unknown);
    for guard in finished.sandbox.missing() {
        // Only what depends on the kernel's version or configuration may be missing.
        assert!([Guard::FileSystem, Guard::Isolation].contains(guard), "{guard}");
    }
}

fn descriptors(process: &str) -> BTreeSet<String> {
    let directory = std::fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    directory.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Open without `O_CLOEXEC`.
fn is_passed_on(descriptor: &str) -> bool {
    let Ok(info) = std::fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}")) else { return false };
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim().to_owned();
    i32::from_str_radix(&flags, 8).unwrap() & libc::O_CLOEXEC == 0
}

fn the_lowest_class_is_really_set() {
    let (handle, id, _) = hanging(WorkerSettings { scheduling: Scheduling::Idle, ..settings() });
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    // Fields 19 (nice) and 41 (policy) of proc_pid_stat(5), counted from the third.
    assert_eq!((fields[16], fields[38]), ("19", libc::SCHED_IDLE.to_string().as_str()));
    drop(handle);
}

fn an_incomplete_sandbox_is_refused_when_asked() {
    let strict = Supervisor::new(WorkerSettings { sandbox: SandboxNeed::Complete, ..settings() });
    let finished = strict.start(job("echo"), |_| {}).wait();
    match &finished.sandbox {
        SandboxReport::Complete => assert!(finished.outcome.is_ok()),
        SandboxReport::Missing(missing) => {
            assert_eq!(finished.outcome.unwrap_err(), WorkerFailure::SandboxIncomplete { missing: missing.clone() });
            let counted = strict.counters().sandbox_missing.into_iter().filter(|(_, count)| *count == 1);
            assert_eq!(counted.map(|(guard, _)| guard).collect::<Vec<_>>(), *missing);
        }
        SandboxReport::Unknown => panic!("the worker did not say"),
    }
}

fn progress_and_log_are_told_apart() {
    let (sender, receiver) = mpsc::channel();
    let finished = supervisor().start(job("progress"), move |progress| drop(sender.send(progress))).wait();
    let seen: Vec<_> = receiver.iter().skip(1).map(|progress| (progress.permille, progress.what)).collect();
    assert_eq!(seen, [(500, "half of it".to_owned()), (1000, "done".to_owned())]);
    assert_eq!(finished.log, "a word for the log\n");
}

fn a_dropped_handle_kills_the_worker() {
    let (handle, id, _) = hanging(settings());
    assert!(Path::new(&format!("/proc/{id}")).exists());
    drop(handle);
    assert!(!Path::new(&format!("/proc/{id}")).exists());
}

fn a_cancelled_job_ends_by_name() {
    let (handle, _, _) = hanging(settings());
    handle.cancel();
    assert_eq!(handle.wait().outcome.unwrap_err(), WorkerFailure::Cancelled);
}

fn jobs_wait_for_their_turn_up_to_a_bound() {
    let supervisor = Supervisor::new(WorkerSettings { at_once_max: 1, waiting_max: 1, ..settings() });
    let (sender, receiver) = mpsc::channel();
    let running = supervisor.start(job("hang"), move |_| sender.send(()).unwrap_or_default());
    receiver.recv_timeout(PATIENCE).unwrap();
    let waiting = supervisor.start(job("echo"), |_| {});
    let refused = supervisor.start(job("echo"), |_| {});
    assert_eq!(refused.wait().outcome.unwrap_err(), WorkerFailure::QueueFull { waiting_max: 1 });
    assert_eq!(waiting.process_id(), None);
    drop(running);
    assert!(waiting.wait().outcome.is_ok());
}

fn a_kill_at_any_moment_is_told_as_one() {
    let supervisor = supervisor();
    let mut kills = 0;
    for round in 0..25u64 {
        let handle = supervisor.start(job("rayon"), |_| {});
        let id = loop {
            match handle.process_id() {
                Some(id) => break id,
                None if handle.is_finished() => break 0,
                None => std::hint::spin_loop(),
            }
        };
        std::thread::sleep(Duration::from_micros(round * 613 % 15_000));
        let pid = i32::try_from(id).ok().and_then(rustix::process::Pid::from_raw);
        if let (Some(pid), Some(_)) = (pid, handle.process_id()) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        match handle.wait().outcome {
            Ok(artifact) => assert!(artifact.bytes.starts_with(b"2 ")),
            Err(WorkerFailure::Killed { signal: 9, .. }) => kills += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(kills > 0, "no kill came in time");
    assert_eq!(supervisor.counters().failed_by(FailureKind::Killed), kills);
}

fn a_panic_in_the_callback_leaves_no_worker() {
    // The panic is meant; its backtrace would only frighten the reader of a test's output.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let handle = supervisor().start(job("hang"), |_| panic!("the caller's own fault"));
    let outcome = handle.wait().outcome;
    std::panic::set_hook(hook);
    assert_eq!(outcome.unwrap_err(), WorkerFailure::SupervisorPanicked);
}

/// The role of this binary in the next test.
pub(crate) fn start_a_job_and_die() -> ExitCode {
    let (handle, id, _) = hanging(settings());
    println!("{id}");
    std::mem::forget(handle);
    // Without unwinding and without any clean-up, as after `kill -9`.
    std::process::abort()
}

fn a_worker_dies_with_its_supervisor() {
    let own = std::env::current_exe().unwrap();
    let output = Command::new(own).arg("supervisor-that-dies").stderr(Stdio::null()).output().unwrap();
    let id: u32 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
    let process = format!("/proc/{id}/stat");
    for _ in 0..6000 {
        // Whoever adopted it may take a while to reap it: a zombie is dead.
        let stat = std::fs::read_to_string(&process).unwrap_or_default();
        if stat.is_empty() || stat.contains(") Z ") {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("worker {id} lives on");
}

fn too_large_a_job_is_refused() {
    let job = Job { kind: JobKind(0), parameters: vec![b' '; (16 << 20) + 1], component: Bytes::new() };
    let failure = supervisor().run(job).unwrap_err();
    let expected = WorkerFailure::InputTooLarge { part: "parameters", bytes: (16 << 20) + 1, bytes_max: 16 << 20 };
    assert_eq!(failure, expected);
}

fn by_hand_the_role_does_nothing() {
    let own = std::env::current_exe().unwrap();
    let output = Command::new(own).arg("worker").stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8(output.stderr).unwrap().contains("not by hand"));
}
