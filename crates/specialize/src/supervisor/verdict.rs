//! What a dead worker means: from its way to die and its output to an artifact or a named failure.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use crate::failure::{MalformedOutput, OutOfMemoryEvidence, WorkerFailure};
use crate::frame::{RESULT_HEADER_BYTES, Status, decode_result};
use crate::guard::SandboxReport;
use crate::job::{Artifact, JobError, cut};
use crate::limits::ERROR_DETAIL_BYTES_MAX;
use crate::supervisor::settings::WorkerSettings;
use crate::supervisor::watch::{Stop, Usage};
use crate::worker::exit_code;

/// What the Rust runtime says before it gives up for lack of memory.
const ALLOCATION_FAILED: &str = "memory allocation of ";
/// The end of a log that goes into a failure.
const LAST_WORDS_BYTES_MAX: usize = 512;
/// Room for the text of an error, where the limit for artifacts is smaller than that.
const ERROR_BYTES_MAX: u64 = 8 * ERROR_DETAIL_BYTES_MAX as u64;

/// How a worker died.
pub(super) struct Death<'a> {
    pub(super) status: io::Result<ExitStatus>,
    /// Why we killed it, if we did.
    pub(super) stop: Option<Stop>,
    pub(super) sandbox: &'a SandboxReport,
    pub(super) log: &'a str,
    /// Whether the kernel killed any process for lack of memory meanwhile.
    pub(super) killed_for_memory: bool,
}

/// The outcome of a job. A worker that was done before our signal reached it has done its job.
pub(super) fn judge(
    settings: &WorkerSettings,
    death: &Death<'_>,
    output: &File,
    usage: Usage,
) -> Result<Artifact, WorkerFailure> {
    let status = match &death.status {
        Ok(status) => *status,
        Err(error) => return Err(WorkerFailure::Spawn { reason: error.to_string() }),
    };
    match (status.signal(), status.code()) {
        (Some(signal), _) => Err(killed(settings, death, signal)),
        (None, Some(code)) => exited(settings, death, code, output, usage),
        (None, None) => Err(WorkerFailure::Spawn { reason: format!("unknown end: {status}") }),
    }
}

fn killed(settings: &WorkerSettings, death: &Death<'_>, signal: i32) -> WorkerFailure {
    let stop = if signal == libc::SIGKILL { death.stop } else { None };
    match stop {
        Some(Stop::Deadline) => return WorkerFailure::Deadline { wall_ms_max: settings.wall_ms_max },
        Some(Stop::Cancelled) => return WorkerFailure::Cancelled,
        Some(Stop::TooMuchMemory) => {
            return WorkerFailure::OutOfMemory { evidence: OutOfMemoryEvidence::Resident };
        }
        Some(Stop::TooManyThreads { threads }) => {
            return WorkerFailure::TooManyThreads { threads, threads_max: settings.threads_max };
        }
        None => {}
    }
    let out_of_memory = |evidence| WorkerFailure::OutOfMemory { evidence };
    match signal {
        libc::SIGXCPU => WorkerFailure::CpuLimit { cpu_ms_max: settings.cpu_ms_max },
        libc::SIGXFSZ => WorkerFailure::OutputTooLarge { bytes_max: settings.output_bytes_max },
        libc::SIGSYS => WorkerFailure::Refused { last_words: last_words(death.log) },
        libc::SIGABRT if death.log.contains(ALLOCATION_FAILED) => out_of_memory(OutOfMemoryEvidence::AllocationFailed),
        libc::SIGKILL if death.killed_for_memory => out_of_memory(OutOfMemoryEvidence::KernelKilled),
        _ => WorkerFailure::Killed { signal, last_words: last_words(death.log) },
    }
}

fn exited(
    settings: &WorkerSettings,
    death: &Death<'_>,
    code: i32,
    output: &File,
    usage: Usage,
) -> Result<Artifact, WorkerFailure> {
    let expected = match u8::try_from(code) {
        Ok(0) => Status::Artifact,
        Ok(exit_code::JOB_FAILED) => Status::Failed,
        Ok(exit_code::PANICKED) => Status::Panicked,
        Ok(exit_code::TOO_LARGE) => Status::TooLarge,
        Ok(exit_code::SANDBOX_INCOMPLETE) => {
            return Err(WorkerFailure::SandboxIncomplete { missing: death.sandbox.missing().to_vec() });
        }
        Ok(_) | Err(_) => return Err(WorkerFailure::Exited { code, last_words: last_words(death.log) }),
    };
    let mut bytes = read_output(settings, output)?;
    let frame = decode_result(&bytes)?;
    if frame.status != expected {
        return Err(WorkerFailure::Malformed(MalformedOutput::ExitCode));
    }
    bytes.drain(..frame.payload_start);
    match frame.status {
        Status::Artifact if bytes.len() as u64 > settings.output_bytes_max => {
            Err(WorkerFailure::OutputTooLarge { bytes_max: settings.output_bytes_max })
        }
        Status::Artifact => Ok(Artifact { bytes, checksum: frame.checksum, sandbox: death.sandbox.clone(), usage }),
        Status::Failed => Err(job_error(&bytes)),
        Status::Panicked => Err(WorkerFailure::Panicked { message: cut(text(&bytes), ERROR_DETAIL_BYTES_MAX) }),
        Status::TooLarge => Err(WorkerFailure::OutputTooLarge { bytes_max: settings.output_bytes_max }),
    }
}

/// The size is checked before anything is read; nobody can change it any more, the worker is dead.
fn read_output(settings: &WorkerSettings, output: &File) -> Result<Vec<u8>, WorkerFailure> {
    let unreadable = |_| WorkerFailure::Malformed(MalformedOutput::Unreadable);
    let length = output.metadata().map_err(unreadable)?.len();
    let length_max = settings.output_bytes_max.max(ERROR_BYTES_MAX).saturating_add(RESULT_HEADER_BYTES as u64);
    if length > length_max {
        return Err(WorkerFailure::OutputTooLarge { bytes_max: settings.output_bytes_max });
    }
    let length = usize::try_from(length).map_err(|_| WorkerFailure::Malformed(MalformedOutput::Unreadable))?;
    let mut bytes = vec![0; length];
    output.read_exact_at(&mut bytes, 0).map_err(unreadable)?;
    Ok(bytes)
}

fn job_error(bytes: &[u8]) -> WorkerFailure {
    match serde_json::from_slice::<JobError>(bytes) {
        Ok(error) => WorkerFailure::JobFailed(error.bounded()),
        Err(_) => WorkerFailure::Malformed(MalformedOutput::Text),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn last_words(log: &str) -> String {
    let start = log.ceil_char_boundary(log.len().saturating_sub(LAST_WORDS_BYTES_MAX));
    log[start..].trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn death(signal: i32, stop: Option<Stop>, log: &str, killed_for_memory: bool) -> WorkerFailure {
        let status = Ok(ExitStatus::from_raw(signal));
        let sandbox = SandboxReport::Complete;
        let death = Death { status, stop, sandbox: &sandbox, log, killed_for_memory };
        killed(&WorkerSettings::default(), &death, signal)
    }

    #[test]
    fn a_signal_has_its_meaning() {
        use crate::FailureKind::{Cancelled, CpuLimit, Killed, OutOfMemory, OutputTooLarge, Refused};
        let cases = [
            (libc::SIGKILL, None, "", false, Killed),
            (libc::SIGKILL, None, "", true, OutOfMemory),
            (libc::SIGKILL, Some(Stop::Cancelled), "", true, Cancelled),
            (libc::SIGKILL, Some(Stop::TooMuchMemory), "", false, OutOfMemory),
            (libc::SIGXCPU, Some(Stop::Cancelled), "", false, CpuLimit),
            (libc::SIGABRT, None, "memory allocation of 5 bytes failed", false, OutOfMemory),
            (libc::SIGABRT, None, "stack overflow", false, Killed),
            (libc::SIGSYS, None, "", false, Refused),
            (libc::SIGXFSZ, None, "", false, OutputTooLarge),
            (libc::SIGSEGV, None, "", true, Killed),
        ];
        for (signal, stop, log, killed_for_memory, expected) in cases {
            assert_eq!(death(signal, stop, log, killed_for_memory).kind(), expected, "signal {signal}");
        }
    }

    #[test]
    fn last_words_are_the_last_ones() {
        assert_eq!(last_words("a\n"), "a");
        let long = format!("{}end", "ä".repeat(1000));
        assert!(last_words(&long).ends_with("end") && last_words(&long).len() <= LAST_WORDS_BYTES_MAX);
    }
}
