//! The worker's side: locks itself in, reads its job, does it, writes the result, ends.
//!
//! Everything that can go wrong here is told through the result's status and the exit code, which the
//! supervisor compares, or through the way the process dies.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use crate::frame::{JOB_HEADER_BYTES, JobHeader, Status, encode_result};
use crate::job::{JobError, JobInput, cut};
use crate::limits::ERROR_DETAIL_BYTES_MAX;
use crate::{ProgressSender, sandbox};

/// Exit codes of a worker; the numbers follow `sysexits.h` where it has one.
pub(crate) mod exit_code {
    pub(crate) const NOT_STARTED_BY_A_SUPERVISOR: u8 = 64;
    pub(crate) const JOB_FAILED: u8 = 65;
    pub(crate) const INPUT_UNREADABLE: u8 = 66;
    pub(crate) const TOO_LARGE: u8 = 73;
    pub(crate) const OUTPUT_UNWRITABLE: u8 = 74;
    pub(crate) const SANDBOX_INCOMPLETE: u8 = 77;
    pub(crate) const PANICKED: u8 = 101;
}

/// The whole life of a worker process: what the hidden role of the binary calls, first thing in `main`
/// and on its only thread.
///
/// Locks the process in, reads the job from stdin, calls `work`, writes its result to stdout. `work` may
/// compute, allocate and start threads within the limits; files, network, programs and processes are out
/// of reach. It must not write to stdout. stderr is its log; [`JobInput::progress`] tells how far it is.
pub fn worker_main(work: impl FnOnce(JobInput) -> Result<Vec<u8>, JobError>) -> ExitCode {
    ExitCode::from(run(work))
}

fn run(work: impl FnOnce(JobInput) -> Result<Vec<u8>, JobError>) -> u8 {
    let header = match read_header() {
        Ok(header) => header,
        Err(reason) => {
            log(&format!("this role is started by the server, not by hand: {reason}"));
            return exit_code::NOT_STARTED_BY_A_SUPERVISOR;
        }
    };
    let first_panic = Arc::new(OnceLock::new());
    keep_first_panic(Arc::clone(&first_panic));

    let progress = ProgressSender::new();
    let report = sandbox::impose(&header.limits, header.supervisor_pid);
    progress.report(0, &report.render());
    if header.limits.sandbox_required && !report.missing().is_empty() {
        return exit_code::SANDBOX_INCOMPLETE;
    }

    let input = match read_job(&header, progress) {
        Ok(input) => input,
        Err(error) => {
            log(&format!("cannot read the job: {error}"));
            return exit_code::INPUT_UNREADABLE;
        }
    };
    // What the work leaves behind in case of a panic is never looked at again.
    let outcome = catch_unwind(AssertUnwindSafe(|| work(input)));
    let result = match outcome {
        Ok(Ok(artifact)) => finish(artifact, header.limits.output_bytes_max),
        Ok(Err(error)) => failed(error),
        Err(_) => panicked(first_panic.get()),
    };
    match write_result(result.status, &result.payload) {
        Ok(()) => result.exit_code,
        Err(error) => {
            log(&format!("cannot write the result: {error}"));
            exit_code::OUTPUT_UNWRITABLE
        }
    }
}

struct WorkResult {
    status: Status,
    payload: Vec<u8>,
    exit_code: u8,
}

fn finish(artifact: Vec<u8>, output_bytes_max: u64) -> WorkResult {
    if artifact.len() as u64 > output_bytes_max {
        return WorkResult { status: Status::TooLarge, payload: Vec::new(), exit_code: exit_code::TOO_LARGE };
    }
    WorkResult { status: Status::Artifact, payload: artifact, exit_code: 0 }
}

fn failed(error: JobError) -> WorkResult {
    let payload = serde_json::to_vec(&error.bounded()).expect("two strings are always JSON");
    WorkResult { status: Status::Failed, payload, exit_code: exit_code::JOB_FAILED }
}

fn panicked(message: Option<&String>) -> WorkResult {
    let message = message.map_or("no message", String::as_str).to_owned();
    let payload = cut(message, ERROR_DETAIL_BYTES_MAX).into_bytes();
    WorkResult { status: Status::Panicked, payload, exit_code: exit_code::PANICKED }
}

/// The first panic is the cause; others on other threads follow from it.
fn keep_first_panic(first: Arc<OnceLock<String>>) {
    std::panic::set_hook(Box::new(move |info| {
        let text = info.to_string();
        log(&text);
        let _ = first.set(text);
    }));
}

/// Reads the head only, straight from the descriptor: a buffer would read parts of the job as well.
fn read_header() -> Result<JobHeader, String> {
    let stdin = io::stdin();
    let stat = rustix::fs::fstat(stdin.as_fd()).map_err(|error| error.to_string())?;
    let file_bytes = u64::try_from(stat.st_size).unwrap_or(0);
    let mut header = [0; JOB_HEADER_BYTES];
    if file_bytes < JOB_HEADER_BYTES as u64 {
        return Err("stdin holds no job".to_owned());
    }
    read_exact(&mut header).map_err(|error| error.to_string())?;
    JobHeader::decode(&header, file_bytes).map_err(|error| error.to_string())
}

fn read_job(header: &JobHeader, progress: ProgressSender) -> io::Result<JobInput> {
    let parameters = read_vec(header.parameters_bytes)?;
    let component = read_vec(header.component_bytes)?;
    Ok(JobInput { kind: header.kind, parameters, component, threads_max: header.limits.threads_max, progress })
}

/// `bytes` were checked against the file's size and the protocol's bounds.
fn read_vec(bytes: u64) -> io::Result<Vec<u8>> {
    let length = usize::try_from(bytes).map_err(io::Error::other)?;
    let mut content = Vec::new();
    content.try_reserve_exact(length)?;
    content.resize(length, 0);
    read_exact(&mut content)?;
    Ok(content)
}

fn read_exact(mut rest: &mut [u8]) -> io::Result<()> {
    let stdin = io::stdin();
    while !rest.is_empty() {
        match rustix::io::read(stdin.as_fd(), &mut *rest) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => rest = &mut rest[count..],
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Not through the standard library's stdout, which would buffer by lines.
fn write_result(status: Status, payload: &[u8]) -> io::Result<()> {
    write_all(&encode_result(status, payload))?;
    write_all(payload)
}

fn write_all(mut rest: &[u8]) -> io::Result<()> {
    let stdout = io::stdout();
    while !rest.is_empty() {
        match rustix::io::write(stdout.as_fd(), rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => rest = &rest[count..],
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// That nobody reads the log is no reason to stop.
fn log(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
