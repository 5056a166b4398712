//! Workers that do what they must not, and how each ends.

use forerun_specialize::{
    FailureKind, MalformedOutput, OutOfMemoryEvidence, Supervisor, WorkerFailure, WorkerSettings,
};

use crate::{Test, job, settings, supervisor};

pub(crate) const TESTS: &[Test] = &[
    ("misbehaviour::an_error_is_told_by_its_name", an_error_is_told_by_its_name),
    ("misbehaviour::panics_are_told_with_their_message", panics_are_told_with_their_message),
    ("misbehaviour::memory_is_bounded", memory_is_bounded),
    ("misbehaviour::processor_time_is_bounded", processor_time_is_bounded),
    ("misbehaviour::time_is_bounded", time_is_bounded),
    ("misbehaviour::output_is_bounded", output_is_bounded),
    ("misbehaviour::the_log_is_bounded", the_log_is_bounded),
    ("misbehaviour::threads_are_bounded", threads_are_bounded),
    ("misbehaviour::output_that_is_no_frame_is_refused", output_that_is_no_frame_is_refused),
    ("misbehaviour::files_cannot_be_reached", files_cannot_be_reached),
    ("misbehaviour::attacks_end_the_process", attacks_end_the_process),
    ("misbehaviour::other_ends_have_names", other_ends_have_names),
];

fn failure(what: &str) -> WorkerFailure {
    supervisor().run(job(what)).expect_err(what)
}

fn failure_with(settings: WorkerSettings, what: &str) -> WorkerFailure {
    Supervisor::new(settings).run(job(what)).expect_err(what)
}

fn an_error_is_told_by_its_name() {
    let WorkerFailure::JobFailed(error) = failure("error") else { panic!("not the job's error") };
    assert_eq!((error.name.as_str(), error.detail.as_str()), ("unsupported_gc", "the component uses GC types"));
    // Each character takes six bytes on the way; even the longest error fits beside the smallest limit.
    let tight = WorkerSettings { output_bytes_max: 1, ..settings() };
    let WorkerFailure::JobFailed(error) = failure_with(tight, "long error") else { panic!("not the job's error") };
    assert_eq!(error.detail.len(), 4096);
    let WorkerFailure::JobFailed(error) = failure("no such work") else { panic!("not the job's error") };
    assert_eq!(error.name, "unknown");
}

fn panics_are_told_with_their_message() {
    let WorkerFailure::Panicked { message } = failure("panic") else { panic!("not a panic") };
    assert!(message.contains("the work is too hard") && message.contains("jobs.rs"), "{message}");
    let WorkerFailure::Panicked { message } = failure("panic on a thread") else { panic!("not a panic") };
    assert!(message.contains("number "), "{message}");
}

fn memory_is_bounded() {
    let failure = failure("eat memory");
    // Either limit may be the first to notice.
    let known = [OutOfMemoryEvidence::AllocationFailed, OutOfMemoryEvidence::Resident];
    assert!(matches!(failure, WorkerFailure::OutOfMemory { evidence } if known.contains(&evidence)), "{failure:?}");
}

fn processor_time_is_bounded() {
    let tight = WorkerSettings { cpu_ms_max: 500, ..settings() };
    assert_eq!(failure_with(tight, "spin"), WorkerFailure::CpuLimit { cpu_ms_max: 500 });
}

fn time_is_bounded() {
    let tight = WorkerSettings { wall_ms_max: 300, ..settings() };
    assert_eq!(failure_with(tight, "hang"), WorkerFailure::Deadline { wall_ms_max: 300 });
}

fn output_is_bounded() {
    for what in ["too much", "flood stdout"] {
        assert_eq!(failure(what), WorkerFailure::OutputTooLarge { bytes_max: 1 << 20 }, "{what}");
    }
}

fn the_log_is_bounded() {
    let supervisor = supervisor();
    let finished = supervisor.start(job("flood stderr"), |_| {}).wait();
    assert!(finished.outcome.is_ok(), "{:?}", finished.outcome);
    assert_eq!(finished.log.len(), 16 << 10);
    assert!(finished.log.ends_with("line 199999\n"));
    assert!(finished.log_bytes_dropped > 1 << 20);
    assert_eq!(supervisor.counters().log_bytes_dropped, finished.log_bytes_dropped);
}

fn threads_are_bounded() {
    let failure = failure("threads");
    // Memory may run out first where the machine makes threads faster than they are counted.
    assert!(matches!(failure, WorkerFailure::TooManyThreads { threads: 17.., threads_max: 16 }), "{failure:?}");
}

fn output_that_is_no_frame_is_refused() {
    for what in ["garbage", "garbage and exit"] {
        assert_eq!(failure(what), WorkerFailure::Malformed(MalformedOutput::Magic), "{what}");
    }
    for what in ["half a frame", "nothing at all"] {
        assert_eq!(failure(what).kind(), FailureKind::Torn, "{what}");
    }
}

fn files_cannot_be_reached() {
    for what in ["open a file", "make a file", "list processes"] {
        let WorkerFailure::JobFailed(error) = failure(what) else { panic!("{what} was not denied") };
        assert_eq!(error.name, "PermissionDenied", "{what}: {error}");
    }
}

fn attacks_end_the_process() {
    let supervisor = supervisor();
    let attacks = [
        "connect",
        "connect locally",
        "make sockets",
        "exec",
        "fork",
        "ptrace the parent",
        "signal the parent",
        "look into the parent",
        "raise its limits",
        "read stdout",
    ];
    for what in attacks {
        let failure = supervisor.run(job(what)).expect_err(what);
        assert_eq!(failure.kind(), FailureKind::Refused, "{what}: {failure:?}");
    }
    assert_eq!(supervisor.counters().failed_by(FailureKind::Refused), attacks.len() as u64);
}

fn other_ends_have_names() {
    assert!(matches!(failure("exit 3"), WorkerFailure::Exited { code: 3, .. }));
    let overflow = failure("overflow the stack");
    assert!(
        matches!(&overflow, WorkerFailure::Killed { signal: 6, last_words } if last_words.contains("stack")),
        "{overflow:?}"
    );
    let nowhere = WorkerSettings { executable: "/nowhere/at/all".into(), ..settings() };
    assert_eq!(failure_with(nowhere, "echo").kind(), FailureKind::Spawn);
    let no_worker = WorkerSettings { executable: "/bin/true".into(), ..settings() };
    assert_eq!(failure_with(no_worker, "echo").kind(), FailureKind::Torn);
}
